/*
 * counters.h
 *		Counters of what has happened, in shared memory, by database and name.
 *
 * Each counter belongs to a kind, to a name that an administrator has given (an
 * endpoint, a destination, a handler, an alert) or that the code gives (the kind
 * of a job), and to one of the kind's outcomes.  Nothing is counted if the
 * library isn't preloaded.
 *
 * No function here raises an error or waits for anything but a lightweight lock.
 */
#ifndef STRIPE_SYNC_COUNTERS_H
#define STRIPE_SYNC_COUNTERS_H

#include "base/base.h"

typedef enum CounterKind
{
	COUNT_EVENTS,	/* by endpoint: what receive() returned */
	COUNT_RECEIVE,	/* durations of receive(), a histogram */
	COUNT_RETRIES,	/* runs of stored events' steps */
	COUNT_HANDLERS, /* by handler */
	COUNT_ALERTS,	/* by alert: incidents */
	COUNT_MESSAGES, /* by destination: messages queued and deliveries */
	COUNT_API,		/* requests to Stripe */
	COUNT_JOBS,		/* by kind of job */
	COUNT_DOCTOR,	/* runs of the worker's doctor */
	COUNT_RESET,	/* internal: a reset, and when the last one was */
	COUNTER_KINDS
} CounterKind;

#define COUNTER_SLOTS	16
#define COUNTER_OTHERS	"(others)" /* names for which there was no room */
#define RECEIVE_BUCKETS 12
#define RECEIVE_SUM		(RECEIVE_BUCKETS + 1) /* slot: sum, in microseconds */

/* Upper bounds of the buckets in seconds; slot RECEIVE_BUCKETS is above all */
extern const double receive_bounds[RECEIVE_BUCKETS];

/* ---- counters_pending.c ---- */

/* Count one when the transaction commits, and not if it, or its savepoint, rolls
 * back.  "what" is one of the kind's outcomes. */
extern void counter_add(CounterKind kind, const char *name, const char *what);

/* Count one now. */
extern void counter_add_now(CounterKind kind, const char *name,
							const char *what);

/* A call of receive(): an error that ends it is counted, too */
extern void receive_count_begin(void);
extern void receive_count_endpoint(const char *endpoint);
extern void receive_count_end(const char *status); /* NULL: it was refused */

/* Set this database's counters to zero when the transaction commits. */
extern void counters_reset_at_commit(void);

/* PREPARE TRANSACTION, before it; COMMIT or ROLLBACK PREPARED, after it */
extern void counters_preparing(const char *gid);
extern void counters_prepared_over(const char *gid, bool commit);

/* ---- counters.c ---- */

typedef struct CounterRow
{
	CounterKind kind;
	char name[NAMEDATALEN];
	uint64 counts[COUNTER_SLOTS];
} CounterRow;

extern void counters_init(void);
extern bool counters_shared(void);
extern const char *counter_outcome(CounterKind kind, int slot); /* or NULL */
extern CounterRow *counters_read(int *nrows); /* of this database */
extern TimestampTz counters_since(void);
extern uint64 counters_lost(void); /* of all databases: no room */
extern void counters_forget(Oid database);

#endif /* STRIPE_SYNC_COUNTERS_H */
