/*
 * transfer.h
 *		A request in libcurl, shared by http.c and request.c.
 */
#ifndef STRIPE_SYNC_TRANSFER_H
#define STRIPE_SYNC_TRANSFER_H

#include "lib/ilist.h"

#include <curl/curl.h>

#include "base/base.h"
#include "http/http.h"
#include "http/internal.h"

/* A request and its response */
typedef struct Transfer
{
	AnswerReader reader; /* must be first: an answer is cast to its transfer */
	dlist_node node;
	CURL *easy;
	char *ca_file; /* with which "easy" was set up */
	struct curl_slist *headers;
	int sendings; /* how often it was sent */
	bool once;	  /* a POST */
	bool plain;	  /* http, only to loopback addresses */
	char error[CURL_ERROR_SIZE];
} Transfer;

extern Transfer *transfer_begin(const HttpRequest *request);
extern void transfer_retire(Transfer *transfer);
extern HttpFault transfer_fault(const Transfer *transfer, CURLcode code,
								const char **trouble);

#endif /* STRIPE_SYNC_TRANSFER_H */
