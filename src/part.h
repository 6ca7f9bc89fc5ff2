/*
 * part.h
 *		A part of a job, what becomes of it, and how parts of a kind are read.
 */
#ifndef STRIPE_SYNC_PART_H
#define STRIPE_SYNC_PART_H

#include "stripe_api.h"

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
	/*
	 * Or NULL: an object that does not come whole even alone is passed over.
	 * The first notes it, before the cursor moves behind it; the second is
	 * called when something behind it has been read, so that it stays unread.
	 */
	void (*pass_over)(Part *part, const char *id, const ApiCall *call);
	void (*passed_over)(const Part *part, char *id);
	/* or NULL: within the transaction of each outcome but "running" */
	void (*ended)(const Part *part, const Outcome *outcome);
	/* or NULL: a job was cancelled, which may have parts of this kind */
	void (*cancelled)(int64 job);
	/*
	 * Or NULL: adds parts that are asked for in another table; when it must be
	 * called again.  In a subtransaction, with an SPI connection.
	 */
	TimestampTz (*poll)(void);
	/* its cursor is an object, which may be gone */
	CursorRefusal cursor_may_go;
	int takes;	/* verdicts other than API_OK that take() wants, API_BIT()s */
	bool quiet; /* a page of which nothing was missing changes no table */
	/* it reads pages, of fewer objects when one does not come whole */
	bool shrinks;
	/* it reads object_id, or the rest of it: refetch() would do as well */
	bool one_object;
	/* of the same object only one such part is worked at, the others wait */
	bool one_at_a_time;
	const char *again; /* SQL that has the same read again, or NULL */
} PartKind;

#define API_BIT(verdict) (1 << (verdict))

/* The lower goes first; whole lists leave room for all others. */
#define PRIORITY_REFETCH   1
#define PRIORITY_RECONCILE 2
#define PRIORITY_BACKFILL  10

#endif /* STRIPE_SYNC_PART_H */
