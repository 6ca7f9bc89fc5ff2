/*
 * http.h
 *		HTTP requests by libcurl's multi interface, many at a time, beside the
 *		latch.
 *
 * Requests outlive transactions and errors, so nothing of them is palloc'd.  A
 * request that was started is reported to its callback exactly once, unless it is
 * abandoned; the callback frees it by http_free().
 */
#ifndef STRIPE_SYNC_HTTP_H
#define STRIPE_SYNC_HTTP_H

#include "base/base.h"

#define HTTP_MAX_HEADERS 8

/* The outcome of a request, beside the HTTP status */
typedef enum HttpFault
{
	HTTP_DONE,		 /* a response, of any status */
	HTTP_CONNECTION, /* refused, reset, not resolved, truncated */
	HTTP_TIMEOUT,
	HTTP_TLS,		/* certificate or handshake */
	HTTP_TOO_LARGE, /* cut off at max_answer; the status is valid */
	HTTP_REFUSED	/* not sent: the URL's scheme or host isn't allowed */
} HttpFault;

struct HttpAnswer;

/* Called by http_deliver() with a request's outcome; must call http_free(). */
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
	char trouble[256]; /* error message, without the URL's path or a header */
	int status;		   /* 0: no response */
	long retry_after;  /* seconds, -1: no such header */
	char request_id[128];
	int64 date;		  /* the Date header, seconds of Unix time; -1: none */
	int should_retry; /* Stripe-Should-Retry: 0, 1; -1: no such header */
	bool replayed; /* Idempotent-Replayed: the answer of an earlier attempt */
	char *body;	   /* zero-terminated; "" if there is none */
	size_t length;
	TimestampTz started;
	TimestampTz finished;
} HttpAnswer;

/* Which hosts a URL may have */
typedef enum HttpAudience
{
	HTTP_SLACK_WEBHOOK, /* one of stripe_sync.slack_hosts */
	HTTP_SLACK_API,		/* that of stripe_sync.slack_api_base */
	HTTP_STRIPE_API,	/* that of stripe_sync.stripe_api_base */
	HTTP_FROM_OUTSIDE	/* any that Stripe can reach: the target of a webhook */
} HttpAudience;

/*
 * NULL if the URL is allowed, else the reason: a sentence, palloc'd, that doesn't
 * quote the URL.
 */
extern char *http_refusal(const char *url, HttpAudience audience);

/* Must be called before the others; may be repeated.  Raises errors. */
extern void http_setup(void);

/* The number of requests that can still be started */
extern int http_room(void);

/* The same, but for one that is left to requests that can't wait */
extern int http_room_to_spare(void);

/* Start a request.  Returns false, and why in *trouble, if it can't be started. */
extern bool http_start(const HttpRequest *request, char **trouble);

/* Call the callbacks of requests that have ended.  Doesn't wait. */
extern void http_deliver(void);

/* Take the body out of a response.  The caller frees it by free(). */
extern char *http_keep_body(HttpAnswer *answer);
extern void http_free(HttpAnswer *answer);

/* Drop all requests that have this callback, without calling it. */
extern void http_abandon(HttpCompleted completed);

/*
 * Wait until the latch is set, a request has ended (returns true), or the time
 * has passed (-1: no limit).  Exits if the postmaster dies.  Resets the latch;
 * the caller processes interrupts.
 */
extern bool http_wait(long timeout_ms, uint32 wait_event);

#endif /* STRIPE_SYNC_HTTP_H */
