/*
 * part.h
 *		A part of a job, its outcome, and the kinds of parts.
 */
#ifndef STRIPE_SYNC_PART_H
#define STRIPE_SYNC_PART_H

#include "base/base.h"
#include "stripe/stripe.h"

/* So many unreadable objects in succession: the objects are not the cause */
#define MAX_UNREADABLE 5

/* A part of a job that this process has claimed */
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
	char *list_path;   /* or NULL: it doesn't read a list of objects */
	char *parent_id;   /* the object to request, or whose list; or NULL */
	TimestampTz since; /* DT_NOBEGIN: no limit */
	TimestampTz until;
	TimestampTz oldest;		 /* no object is older, DT_NOBEGIN: unknown */
	char *cursor;			 /* or NULL */
	Oid mirror_table;		 /* to which the previous pages were written */
	char *arguments;		 /* of the job, as JSON, or NULL */
	bool optional;			 /* skipped if Stripe refuses it */
	int attempts;			 /* claims since the last progress */
	int tries;				 /* failures to write an answer since then */
	char *key;				 /* wiped by part_free; NULL: none */
	ApiTarget target;		 /* the account header that goes with the key */
	char *key_error;		 /* why there is no key */
	int limit;				 /* objects a page */
	bool just_grown;		 /* limit was raised, and no page has come since */
	int good_pages;			 /* in succession, with this limit */
	int pages_before_growth; /* 0: no page has been too large */
	int unreadable;			 /* objects skipped in succession */
	char *unreadable_ids[MAX_UNREADABLE];
	char *cursor_before_unreadable;
	bool request_sent;
	bool job_locked; /* another session holds the job's row */
	bool superseded; /* claimed a second time: the answer is dropped */

	/* detection of a list that never ends (cursor.c) */
	char *saved_cursor;
	int64 steps;
	int64 lap;
	int refusals;	/* in succession */
	bool restarted; /* from the top, because the cursor was refused */

	/* results of the last answer, set by process() */
	int64 pages;
	int64 objects;
	int64 missing;
	int64 repaired;
	char *note; /* an error that did not stop the part, or NULL */
	double progress;
	bool ready;		  /* set by find_next(): the next request is known */
	bool finished;	  /* set by process() or find_next() */
	bool no_progress; /* the same place is requested again, in smaller pages */
} Part;

/* After which refusals a list is read again from the top, once */
typedef enum CursorRefusal
{
	CURSOR_NEVER,
	CURSOR_MISSING, /* Stripe's error code is resource_missing */
	CURSOR_REFUSED	/* any refusal */
} CursorRefusal;

/* What caused a failure */
typedef enum FailureCause
{
	CAUSE_NONE,
	CAUSE_ANSWER,  /* Stripe's answer, or that there was none */
	CAUSE_KEY,	   /* the API key, so every request with it fails */
	CAUSE_DATABASE /* the answer could not be written */
} FailureCause;

/* The state that a part takes */
typedef struct Outcome
{
	const char *state;
	TimestampTz due;
	const char *error; /* or NULL: clears the part's error */
	FailureCause cause;
} Outcome;

/* A kind of part.  Callbacks that access the database run in the engine's scope. */
typedef struct PartKind
{
	const char *name;
	/*
	 * Or NULL.  Determines the next request, in a transaction of its own.  If
	 * the part is then neither ready nor finished, it is called again, in another
	 * transaction.
	 */
	void (*find_next)(Part *part);
	/* the path of the next request, in the current memory context */
	char *(*path)(const Part *part);
	/* or NULL: the request is a GET.  Sets the form and idempotency key */
	void (*post)(const Part *part, ApiCall *call);
	/* writes an answer, in a subtransaction of the answer's transaction */
	void (*process)(Part *part, const ApiCall *call);
	/*
	 * Or NULL: an object that can't be read even by itself is skipped.  The
	 * first notes it, before the cursor moves past it; the second is called when
	 * a later object has been read, since the skipped one stays unread.
	 */
	void (*skip)(Part *part, const char *id, const ApiCall *call);
	void (*skipped)(const Part *part, char *id);
	/* or NULL: in the transaction of each outcome but "running" */
	void (*ended)(const Part *part, const Outcome *outcome);
	/* or NULL: a job was cancelled, which may have parts of this kind */
	void (*cancelled)(int64 job);
	/*
	 * Or NULL: adds the parts that another table requests, in a subtransaction
	 * of the claim.  Returns when it must be called again.
	 */
	TimestampTz (*poll)(void);
	/* its cursor is the id of an object, which may have been deleted */
	CursorRefusal restart_on;
	int accepts; /* API_BIT()s of verdicts besides API_OK for process() */
	/* a page with nothing missing is committed without waiting for the disk */
	bool lazy_commit;
	/* it reads pages, which are made smaller when one is incomplete */
	bool shrinks;
	/* it reads object_id, or a list that belongs to it */
	bool one_object;
	/* no two parts of this kind run for the same object */
	bool one_at_a_time;
	const char *retry_sql; /* a statement that requests it again, or NULL */
} PartKind;

#define API_BIT(verdict) (1 << (verdict))

/* Lower numbers are claimed first.  Backfills are limited in number. */
#define PRIORITY_REFETCH   1
#define PRIORITY_RECONCILE 2
#define PRIORITY_BACKFILL  10

#endif /* STRIPE_SYNC_PART_H */
