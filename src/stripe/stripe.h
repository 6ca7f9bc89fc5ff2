/*
 * stripe_api.h
 *		A client of Stripe's API: keys, requests and answers, pages of lists.
 */
#ifndef STRIPE_SYNC_STRIPE_API_H
#define STRIPE_SYNC_STRIPE_API_H

#include "lib/ilist.h"
#include "lib/stringinfo.h"

#include "base/base.h"
#include "http/http.h"

/* What an answer means for the request */
typedef enum ApiVerdict
{
	API_OK,
	API_AGAIN,	   /* retry it soon */
	API_LATER,	   /* retry it, but not soon */
	API_REFUSED,   /* the request is wrong: don't retry it */
	API_GONE,	   /* there is no such object, or it was deleted */
	API_KEY_BAD,   /* 401: the key is invalid */
	API_FORBIDDEN, /* 403: the key has no permission for this request */
	API_TOO_LARGE  /* the answer is too large: request a smaller page */
} ApiVerdict;

/* The account that a request is for, if it is not the key's own */
typedef struct ApiTarget
{
	char below[256]; /* value of Stripe-Account or Stripe-Context, or "" */
	bool by_context; /* it is Stripe-Context */
} ApiTarget;

/* A request, and its answer */
typedef struct ApiCall
{
	dlist_node node;
	MemoryContext memory;
	void *owner; /* the caller's */

	/* the request */
	const char *method;
	char *path;	   /* with its query */
	char *account; /* as in the mirror's _account */
	ApiTarget target;
	char *key; /* wiped by api_call_free */
	int64 job;
	/* of a POST, or NULL */
	char *form;
	char *idempotency_key; /* the same in every attempt */
	/* for a page: how often it may arrive incomplete; 0: it is not a page */
	int page_tries;

	/* attempts */
	int attempt;
	TimestampTz due;

	/* the answer */
	ApiVerdict verdict;
	int status;
	bool incomplete;  /* it timed out, was too large, or was cut short */
	long retry_after; /* seconds, -1: none */
	char code[64];	  /* Stripe's, or ours: timeout, connection, ... */
	char error[512];
	char *body;
	size_t length;
	/*
	 * Everything that happened at Stripe up to as_of is in the answer.  It is by
	 * Stripe's clock, and later than that of all answers that had arrived when
	 * the request was sent (floor).
	 */
	TimestampTz as_of;
	TimestampTz floor;
} ApiCall;

/* ---- in protocol.c: the protocol ---- */
#define API_HEADERS		 4					/* headers of a request, at most */
#define RESOURCE_MISSING "resource_missing" /* Stripe's error code */
#define CUT_SHORT		 "cut_short"		/* ours, for a truncated page */

extern char *api_version_name(void);
extern void api_headers(const ApiCall *call, HttpRequest *request,
						StringInfo buffers, int nbuffers);
extern bool api_is_dated(const HttpAnswer *answer);
extern void api_judge(ApiCall *call, const HttpAnswer *answer);
extern int answer_is_invalid(void); /* in an ereport() */
extern bool answer_was_invalid(void);

/* ---- in list_page.c: a page of a list ---- */
typedef struct PageElement
{
	const char *bytes;
	int length;
} PageElement;

extern List *list_page_read(const char *bytes, size_t length, bool *has_more);
extern char *list_page_first_id(const char *bytes, size_t length);

/* ---- in client.c: the client, in no transaction but for the log ---- */
extern ApiCall *api_call_new(const char *method, const char *path,
							 const char *account, const char *key);
extern void api_call_free(ApiCall *call);
extern void client_submit(ApiCall *call);
extern bool client_send_due(TimestampTz *next);
extern ApiCall *client_take_answer(void);
extern bool client_has_news(void);
extern void client_abandon(void);
extern void client_write_log(void);

/* ---- in api_key.c, in the engine's scope ---- */
extern bool api_key_move(const char *old, const char *new);
#define API_KEY_MODE (sizeof("sk_org_live_") - 1) /* bytes that show the mode */

extern bool api_key_load(const char *account, char *buffer, size_t size,
						 ApiTarget *target, char **error);
extern bool api_key_is_own(const char *account);
extern bool api_key_is_set(void);
extern void api_key_store(text *account, text *key);
extern char *api_key_wrong_mode(const char *key, const char *account);
extern bool api_key_opens_live(const char *key);
extern bool api_key_is_live(void);
extern List *api_accounts(void);
extern void api_key_require(void); /* raises 55000, as does the next */
extern void api_key_require_for(const char *account);

#endif /* STRIPE_SYNC_STRIPE_API_H */
