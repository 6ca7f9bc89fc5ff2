/*
 * stripe_api.h
 *		Stripe's API, as a client: keys, requests and their answers, pages of lists.
 */
#ifndef STRIPE_SYNC_STRIPE_API_H
#define STRIPE_SYNC_STRIPE_API_H

#include "stripe_sync.h"

#include "lib/ilist.h"
#include "lib/stringinfo.h"

#include "http.h"

/* What an answer means for who asked. */
typedef enum ApiVerdict
{
	API_OK,
	API_AGAIN,	   /* soon, as it is */
	API_LATER,	   /* as it is, but not soon */
	API_REFUSED,   /* never as it is: the request is wrong */
	API_GONE,	   /* no such object, or no more */
	API_KEY_BAD,   /* 401: no request with this key */
	API_FORBIDDEN, /* 403: not this one with this key */
	API_TOO_LARGE  /* ask for less at once */
} ApiVerdict;

/* Which of the accounts that a key opens is asked for. */
typedef struct ApiTarget
{
	char below[256]; /* Stripe-Account's value, or Stripe-Context's; or "" */
	bool by_context;
} ApiTarget;

/* A request from when it is asked for until its answer has been taken. */
typedef struct ApiCall
{
	dlist_node node;
	MemoryContext memory;
	void *owner; /* who asked */

	/* what is asked */
	const char *method;
	char *path;	   /* with its query */
	char *account; /* the mirror's */
	ApiTarget target;
	char *key; /* wiped by call_free */
	int64 job;
	/* of a POST, or NULL */
	char *form;
	char *idempotency_key; /* the same on every attempt */
	/* of a page of a list: how often it may be spoilt; 0: it is none */
	int page_tries;

	/* how often, and when */
	int attempt;
	TimestampTz due;

	/* what came of it */
	ApiVerdict verdict;
	int status;
	bool spoilt;	  /* it did not come whole: less may */
	long retry_after; /* seconds, -1: it does not say */
	char code[64];	  /* Stripe's, or ours: timeout, connection, ... */
	char trouble[512];
	char *body;
	size_t length;
	/*
	 * All that Stripe did up to then is surely in the answer: by Stripe's clock
	 * alone, less the time that the request took, and a second.  Never before
	 * what an answer was as of that had come when this was asked.
	 */
	TimestampTz as_of;
	TimestampTz floor;
} ApiCall;

/* ---- in stripe_api.c: the protocol ---- */
#define API_HEADERS		 4					/* that are made for a call */
#define RESOURCE_MISSING "resource_missing" /* Stripe's code of an error */
#define CUT_SHORT		 "cut_short"		/* ours, of a page */

extern const char *api_version(void);
extern char *api_version_name(void);
extern void api_headers(const ApiCall *call, HttpRequest *request,
						StringInfo buffers, int nbuffers);
extern bool api_is_dated(const HttpAnswer *answer);
extern void api_judge(ApiCall *call, const HttpAnswer *answer);
extern int answer_is_useless(void); /* in an ereport() */
extern bool answer_was_useless(void);

/* ---- in page.c: a page of a list ---- */
typedef struct PageElement
{
	const char *bytes;
	int length;
} PageElement;

extern List *page_read(const char *bytes, size_t length, bool *has_more);
extern char *page_first_id(const char *bytes, size_t length);

/* ---- in caller.c: requests in the air ---- */
extern ApiCall *call_make(const char *method, const char *path,
						  const char *account, const char *key);
extern void call_free(ApiCall *call);
extern void caller_submit(ApiCall *call);
extern bool caller_turn(TimestampTz *next); /* dispatches what may go now */
extern ApiCall *caller_take(void);			/* one whose outcome is known */
extern bool caller_has_news(void);
extern void caller_drop(void);
extern void caller_write_log(void); /* in a transaction */

/* ---- in api_key.c ---- */
#define API_KEY_MODE (sizeof("sk_org_live_") - 1) /* bytes that say the mode */

extern bool api_key_load(const char *account, char *buffer, size_t size,
						 ApiTarget *target, char **trouble);
extern bool api_key_reaches(const char *account);
extern bool api_key_is_own(const char *account);
extern bool api_key_is_set(void);
extern void api_key_store(text *account, text *key);
extern char *api_key_wrong_mode(const char *key, const char *account);
extern bool api_key_opens_live(const char *key);
extern bool api_key_is_live(void);
extern List *api_accounts(void);
extern void refuse_without_key(void); /* raises 55000, as does the next */
extern void refuse_account_without_key(const char *account);

#endif /* STRIPE_SYNC_STRIPE_API_H */
