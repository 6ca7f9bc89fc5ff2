/*
 * http.h
 *		Requests over libcurl's multi interface, many at a time, waited for
 *		together with the latch.
 *
 * Nothing here is of palloc's: a request outlives transactions and errors.
 * Who starts a request owns it until http_free().
 */
#ifndef STRIPE_SYNC_HTTP_H
#define STRIPE_SYNC_HTTP_H

#include "stripe_sync.h"

#define HTTP_MAX_HEADERS 8

/* What came of a request, beside the HTTP status. */
typedef enum HttpFault
{
	HTTP_DONE,		 /* an answer, whatever its status */
	HTTP_CONNECTION, /* refused, reset, not resolved, cut short */
	HTTP_TIMEOUT,
	HTTP_TLS,		/* certificate or handshake */
	HTTP_TOO_LARGE, /* cut off at max_answer; the status is good */
	HTTP_REFUSED	/* by us: the URL's scheme or host isn't allowed */
} HttpFault;

struct HttpAnswer;

/* What a request has come to, for who made it: who is called frees it. */
typedef void (*HttpCompleted)(struct HttpAnswer *answer);

typedef struct HttpRequest
{
	/* in: strings are copied by http_start and wiped by http_free */
	const char *method; /* "POST" or "GET" */
	const char *url;
	const char *headers[HTTP_MAX_HEADERS]; /* "Name: value", NULL-ended */
	const char *body;					   /* or NULL */
	size_t body_length;
	size_t max_answer; /* bytes of a body that are read */
	int timeout;	   /* milliseconds; 0: stripe_sync.http_timeout */
	HttpCompleted completed;
	void *owner; /* the caller's */
} HttpRequest;

typedef struct HttpAnswer
{
	HttpCompleted completed;
	void *owner;
	HttpFault fault;
	char trouble[256]; /* libcurl's words, without the URL's path or a header */
	int status;		   /* 0: none came */
	long retry_after;  /* seconds, -1: none was said */
	char request_id[128];
	int64 date;		  /* the Date header, seconds of Unix time; -1: none */
	int should_retry; /* Stripe-Should-Retry: 0, 1; -1: it wasn't said */
	bool replayed; /* Idempotent-Replayed: the answer of an earlier attempt */
	char *body;	   /* ended by \0; "" when there is none */
	size_t length;
	TimestampTz started;
	TimestampTz finished;
} HttpAnswer;

/* Which hosts a URL may name. */
typedef enum HttpAudience
{
	HTTP_SLACK_WEBHOOK, /* one of stripe_sync.slack_hosts */
	HTTP_SLACK_API,		/* that of stripe_sync.slack_api_base */
	HTTP_STRIPE_API,	/* that of stripe_sync.stripe_api_base */
	HTTP_FROM_OUTSIDE	/* one that Stripe can reach: it isn't we who call it */
} HttpAudience;

/* NULL: may be called; else why not (palloc'd, without the URL itself). */
extern char *http_refusal(const char *url, HttpAudience audience);

extern void http_setup(void); /* once in a process; raises */
extern int http_room(void);	  /* how many more may be started */
extern bool http_start(const HttpRequest *request, char **trouble);
extern void http_deliver(void); /* without waiting; what ended is told */
extern char *http_keep_body(HttpAnswer *answer); /* the caller's to free() */
extern void http_free(HttpAnswer *answer);
extern void http_abandon(HttpCompleted completed); /* drop all of one asker's */

/*
 * Wait until the latch is set, a request has ended (true), or so many
 * milliseconds have passed (-1: for ever).  Exits when the postmaster dies.
 * Resets the latch and processes no interrupts: the caller does.
 */
extern bool http_wait(long timeout_ms, uint32 wait_event);

#endif /* STRIPE_SYNC_HTTP_H */
