/*
 * backoff.c
 *		Exponential delays between the tries of one thing.
 */
#include "stripe_sync.h"

#include "common/pg_prng.h"

/*
 * The delay after this many failed tries, in microseconds.  Jitter keeps things
 * that failed together from being tried again together.
 */
int64
backoff_delay(int tries)
{
	int64 delay = BACKOFF_SHORTEST << Min(tries - 1, 20);

	delay = Min(delay, BACKOFF_LONGEST);
	return delay - (int64) (delay * 0.2 * pg_prng_double(&pg_global_prng_state));
}
