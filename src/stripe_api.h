/*
 * stripe_api.h
 *		Requests to Stripe's API, and the parts of jobs that make them.
 */
#ifndef STRIPE_SYNC_STRIPE_API_H
#define STRIPE_SYNC_STRIPE_API_H

#include "mirror.h"

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
extern bool api_key_load(const char *account, char *buffer, size_t size,
						 ApiTarget *target, char **trouble);
extern bool api_key_reaches(const char *account);
extern bool api_key_is_own(const char *account);
extern bool api_key_is_set(void);
extern bool api_key_opens_live(const char *key);
extern bool api_key_is_live(void);
extern List *api_accounts(void);
extern void refuse_without_key(void); /* raises 55000, as does the next */
extern void refuse_account_without_key(const char *account);

/* ---- parts of jobs ---- */

#define MAX_UNREADABLE 5 /* objects, one after the other: it isn't they */

/* A part of a job while it is worked at. */
typedef struct Part
{
	dlist_node node;
	MemoryContext memory;
	const struct PartKind *kind;
	int64 job;
	int number;
	int priority;
	char *object_type;
	char *object_id;
	char *account;
	char *list_path;   /* or NULL: no list of objects */
	char *parent_id;   /* whose list it is at, or which object; or NULL */
	TimestampTz since; /* DT_NOBEGIN: none */
	TimestampTz until;
	TimestampTz oldest; /* there can be nothing before, if that is known */
	char *cursor;		/* or NULL */
	Oid mirror_table;	/* that its pages went to */
	char *arguments;	/* the job's, as JSON, or NULL */
	bool optional;		/* a list that Stripe refuses is left out */
	int attempts;		/* since it last got on */
	int tries;			/* of writing an answer, that have failed since then */
	char *key;			/* wiped by part_free; NULL: none */
	ApiTarget target;	/* what is said with it */
	char *trouble;		/* why there is none */
	int limit;			/* of a page */
	bool grown;			/* that was smaller, and none has come since */
	int good;			/* pages of that size, one after the other */
	int patience;		/* so many, then it grows; 0: it never was too large */
	int unreadable;		/* objects passed over, one after the other */
	char *passed[MAX_UNREADABLE];
	char *sound_cursor; /* before the first of them */
	bool asked;			/* its request is on its way */
	bool held_up;		/* by somebody's lock on the job */
	bool lost;			/* to a second claim: what comes is dropped */

	/* a list that goes round in a circle */
	char *tortoise;
	int64 steps;
	int64 lap;
	int refusals;	/* one after the other */
	bool restarted; /* from the beginning: the cursor was refused */

	/* what the last answer has come to, added by who took it */
	int64 pages;
	int64 objects;
	int64 missing;
	int64 repaired;
	char *note; /* what went wrong and did not hold it up, or NULL */
	double progress;
	bool ready;	   /* set by next(): there is something to ask for */
	bool finished; /* set by take() or next() */
	bool stays;	   /* where it is: it only asks for less */
} Part;

/* What Stripe may say of a cursor, so that the list is begun again, once. */
typedef enum CursorRefusal
{
	CURSOR_STAYS,
	CURSOR_MISSING, /* there is no such object, in so many words */
	CURSOR_REFUSED	/* whatever it won't answer */
} CursorRefusal;

/* How parts of a kind are read. */
typedef struct PartKind
{
	const char *name;
	/*
	 * Or NULL: what is to be asked for next, in a transaction and the engine's
	 * scope.  When that leaves the part neither ready nor finished it is called
	 * again, in another transaction.
	 */
	void (*next)(Part *part);
	/* the path of the next request, in the current context */
	char *(*path)(const Part *part);
	/* or NULL: it only reads.  Gives the call its form and idempotency key */
	void (*post)(const Part *part, ApiCall *call);
	/* writes what has come, in a transaction and the engine's scope */
	void (*take)(Part *part, const ApiCall *call);
	/* its cursor is an object, which may be gone */
	CursorRefusal cursor_may_go;
	int takes;	/* verdicts other than API_OK that take() wants, API_BIT()s */
	bool quiet; /* a page of which nothing was missing changes no table */
	/* it reads pages, of fewer objects when one does not come whole */
	bool shrinks;
	bool passes_over; /* an object that does not come whole even alone */
} PartKind;

#define API_BIT(verdict) (1 << (verdict))

/* The lower goes first; whole lists leave room for all others. */
#define PRIORITY_REFETCH   1
#define PRIORITY_RECONCILE 2
#define PRIORITY_BACKFILL  10

/* ---- in job.c ---- */
extern int64 job_create(const char *kind);
extern void job_note_made(int64 job, const char *kind);
extern bool job_lock(int64 job);
extern void job_unblock(const Part *part, const char *state);
extern void job_fail_account(const Part *part, const char *error);
extern void job_finish(int64 job);

/* ---- in part.c: a part, as read and written ---- */
extern const char *const part_columns;
extern Part *part_read(HeapTuple row, TupleDesc desc);
extern void part_free(Part *part);
extern const CatalogType *part_type(const Part *part);
extern void part_set_cursor(Part *part, const char *cursor);
extern void part_set_parent(Part *part, const char *id);
extern void part_keep_cursor(Part *part);
extern void part_return_to_cursor(Part *part);
extern void part_set_progress(Part *part, double progress);
extern void part_note(Part *part, const char *note);

/* What was in a part's way. */
typedef enum Trouble
{
	TROUBLE_NONE,
	TROUBLE_ANSWER, /* Stripe's answer, or that there was none */
	TROUBLE_KEY,	/* the key, whatever is asked for with it */
	TROUBLE_WRITING /* our own database */
} Trouble;

/* What becomes of a part. */
typedef struct Outcome
{
	const char *state;
	TimestampTz due;
	const char *error; /* or NULL: none, or no more */
	Trouble trouble;
} Outcome;

/* Where a part was, should what follows fail. */
typedef struct PartMark
{
	char *cursor;
	char *parent_id;
	TimestampTz until;
	double progress;
} PartMark;

extern bool part_write(Part *part, const Outcome *outcome);
extern bool part_is_ours(const Part *part);
extern void part_release_all(TimestampTz due);
extern void part_load_key(Part *part);
extern PartMark part_mark(const Part *part);
extern void part_restore(Part *part, const PartMark *mark);
extern void part_forget(Part *part);

/* ---- in page_size.c: how many objects are asked for at a time ---- */
#define PAGE_LIMIT 100

extern int page_tries(const Part *part);
extern void page_came(Part *part);
extern bool page_get_smaller(Part *part, const ApiCall *call);

/* ---- in runner.c ---- */
extern bool runner_has(int64 job, int number);

/* ---- in outcome.c ---- */
extern bool outcome_is_restart(Part *part, const ApiCall *call);
extern Outcome outcome_of_failure(Part *part, const ApiCall *call);
extern Outcome outcome_of_error(Part *part, ErrorData *error);
extern Outcome outcome_without_key(const Part *part);
extern bool outcome_guard(void (*body)(void *), void *arg,
						  bool (*excuse)(const ErrorData *), ErrorData **error);
/* In an ereport(): Stripe's answer is no use, to ask again would be none. */
extern int answer_is_useless(void);
extern bool answer_was_useless(void); /* of the last error, once */
extern bool part_is_tried_out(const Part *part);

/* ---- in unread.c: what is known not to have been read or written ---- */
extern void unread_over(const Part *part, const Outcome *outcome);
extern void unread_refused(const Part *part, const char *error);
extern void unread_passed_over(const Part *part, char *id, const char *error);
extern void unread_done(const Part *part, TimestampTz as_of);
extern void unread_too_early(const Part *part, TimestampTz as_of,
							 TimestampTz due);
extern void unread_cancelled(int64 job);

/* ---- in list.c, vanished.c, reconcile.c, refetch.c: kinds of parts ---- */
/* The account whose key it is. */
#define OWN_ACCOUNT "/v1/account"

extern const PartKind part_age;
extern const PartKind part_list;
extern const PartKind part_rest;
extern const PartKind part_children;
extern const PartKind part_vanished;
extern const PartKind part_events;
extern const PartKind part_object;
extern const PartKind part_single;
extern const PartKind part_endpoints;
extern const PartKind part_new_endpoint;

extern void path_append(StringInfo path, const char *text);
extern char *path_fill(const char *pattern, const char *id);
extern void path_append_page(StringInfo path, const Part *part);
extern bool list_goes_round(Part *part, const char *last);
extern char *list_path(const Part *part);
extern bool list_take_page(Part *part, const ApiCall *call);
extern void list_begin_again(Part *part);
extern bool list_has_new_table(Part *part);
extern TimestampTz list_created(JsonbContainer *object);
extern void list_add_rests(Part *part, const FetchedObject *fetched);
extern void list_put_off_rows(const Part *part, List *objects);
extern MirrorTable *mirror_table_to_read(const CatalogType *type);
extern bool object_from(const ApiCall *call, FetchedObject *fetched);
/* ---- in reconcile.c, gap.c: runs through lists of events ---- */
#define STRIPE_KEEPS	(30 * USECS_PER_DAY)	 /* events, in its lists */
#define RECONCILE_YOUNG (5 * 60 * USECS_PER_SEC) /* in flight, maybe */
#define RECONCILE_OVERLAP                                                      \
	(10 * 60 * USECS_PER_SEC)				   /* of one run and the next */
#define RECONCILE_AT_FIRST (3 * USECS_PER_DAY) /* without a watermark */

extern void reconcile_hurry(void);
extern void gap_close(Part *part, TimestampTz now);
extern void gap_release(int64 job);

/* ---- in refetch.c ---- */
extern bool type_is_retrievable(const CatalogType *type);
extern TimestampTz reread_to_parts(void); /* when the next is due */

/* ---- in event_types.c: which types of events are asked for ---- */
extern bool event_type_known(const char *type);
extern List *event_types_to_subscribe(void);
extern List *event_types_needed(void);
extern Datum event_types_array(List *types);

/* ---- in watch.c: the endpoints that there are at Stripe ---- */
extern bool endpoint_is_sound(Jsonb *document);
extern void endpoint_note(const Part *part, Jsonb *document);
extern const char *endpoint_known_as(const char *account, const char *id);
extern void endpoint_is_ours(const Part *part, const char *id, const char *name);
extern void watch_soon(void);

/* ---- in watch_judge.c ---- */
extern void watch_judge(const Part *part);

#endif /* STRIPE_SYNC_STRIPE_API_H */
