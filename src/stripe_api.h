/*
 * stripe_api.h
 *		Requests to Stripe's API, and the parts of jobs that make them.
 */
#ifndef STRIPE_SYNC_STRIPE_API_H
#define STRIPE_SYNC_STRIPE_API_H

#include "stripe_sync.h"

#include "lib/ilist.h"

#include "http.h"

/* What an answer means for who asked. */
typedef enum ApiVerdict
{
	API_OK,
	API_AGAIN,	   /* later, as it is */
	API_REFUSED,   /* never as it is: the request is wrong */
	API_GONE,	   /* no such object, or no more */
	API_KEY_BAD,   /* 401: no request with this key */
	API_FORBIDDEN, /* 403: not this one with this key */
	API_TOO_LARGE  /* ask for less at once */
} ApiVerdict;

/* A request from when it is asked for until its answer has been taken. */
typedef struct ApiCall
{
	dlist_node node;
	MemoryContext memory;
	void *owner; /* who asked */

	/* what is asked */
	const char *method;
	char *path; /* with its query */
	char *account;
	char *key; /* wiped by call_free */
	int64 job;

	/* how often, and when */
	int attempt;
	TimestampTz due;

	/* what came of it */
	ApiVerdict verdict;
	int status;
	char code[64]; /* Stripe's, or ours: timeout, connection, ... */
	char trouble[512];
	char *body;
	size_t length;
	/*
	 * All that Stripe did up to then is surely in the answer: by Stripe's clock
	 * alone, less the time that the request took, and a second.
	 */
	TimestampTz as_of;
} ApiCall;

/* ---- in stripe_api.c: the protocol ---- */
extern void api_headers(const ApiCall *call, HttpRequest *request,
						StringInfo buffers, int nbuffers);
extern void api_judge(ApiCall *call, const HttpAnswer *answer);

/* ---- in page.c: a page of a list ---- */
typedef struct PageElement
{
	const char *bytes;
	int length;
} PageElement;

extern List *page_read(const char *bytes, size_t length, bool *has_more);

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
extern bool api_key_load(const char *account, char *buffer, size_t size,
						 char **trouble);
extern bool api_key_is_set(void);
extern void refuse_without_key(void); /* raises 55000 */

/* ---- in job.c ---- */

/* A part of a job while it is worked at. */
typedef struct Part
{
	dlist_node node;
	MemoryContext memory;
	const struct PartKind *kind;
	int64 job;
	int number;
	char *object_type;
	char *object_id;
	char *account;
	TimestampTz since; /* DT_NOBEGIN: none */
	TimestampTz until;
	char *cursor;	 /* or NULL */
	char *arguments; /* the job's, as JSON, or NULL */
	int attempts;
	char *key;	   /* wiped by part_free; NULL: none */
	char *trouble; /* why there is none */
	int limit;	   /* of a page */

	/* what the last answer has come to, added by who took it */
	int64 pages;
	int64 objects;
	int64 missing;
	int64 repaired;
	double progress;
	bool finished;
} Part;

/* How parts of a kind are read. */
typedef struct PartKind
{
	const char *name;
	/* the path of the next request, in the current context */
	char *(*path)(const Part *part);
	/* writes what has come, in a transaction and the engine's scope */
	void (*take)(Part *part, const ApiCall *call);
} PartKind;

extern void part_set_cursor(Part *part, const char *cursor);
extern int64 job_create(const char *kind);

/* ---- in runner.c: parts are claimed, asked for, written ---- */
/* ---- in reconcile.c, refetch.c: kinds of parts ---- */
extern const PartKind part_events;
extern const PartKind part_object;
extern void reread_to_parts(void);

#endif /* STRIPE_SYNC_STRIPE_API_H */
