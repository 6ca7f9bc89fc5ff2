/*
 * backoff.h
 *		Exponential backoff.
 */
#ifndef STRIPE_SYNC_BACKOFF_H
#define STRIPE_SYNC_BACKOFF_H

/* Of work in the database: steps of events, parts of jobs, fetched objects */
#define BACKOFF_FIRST (10 * USECS_PER_SEC)
#define BACKOFF_MOST  (6 * USECS_PER_HOUR)

/*
 * Returns the delay in microseconds after "tries" failures: "first" after the
 * first one, doubled after each further one, at most "most".  Up to a fifth is
 * subtracted at random, so that work that failed together isn't retried
 * together.
 */
extern int64 backoff_delay(int tries, int64 first, int64 most);

#endif /* STRIPE_SYNC_BACKOFF_H */
