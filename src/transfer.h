/*
 * transfer.h
 *		What http.c and transfer.c show each other.
 */
#ifndef STRIPE_SYNC_TRANSFER_H
#define STRIPE_SYNC_TRANSFER_H

#include "lib/ilist.h"

#include <curl/curl.h>

#include "http_parts.h"

/* A request and its answer, in libcurl's hands or the caller's. */
typedef struct Transfer
{
	AnswerReader reader; /* first: who has the answer has its transfer */
	dlist_node node;
	CURL *easy;
	char *ca_file; /* that "easy" was made with */
	struct curl_slist *headers;
	int sendings;
	bool once;	/* a POST */
	bool plain; /* http, to loopback alone */
	char error[CURL_ERROR_SIZE];
} Transfer;

extern Transfer *transfer_begin(const HttpRequest *request);
extern void transfer_retire(Transfer *transfer);
extern HttpFault transfer_fault(const Transfer *transfer, CURLcode code,
								const char **trouble);

#endif /* STRIPE_SYNC_TRANSFER_H */
