/*
 * backoff.c
 *		Exponential backoff.
 */
#include "postgres.h"

#include "common/pg_prng.h"

#include "base/backoff.h"

#define JITTER		   0.2
#define MOST_DOUBLINGS 20

int64
backoff_delay(int tries, int64 first, int64 most)
{
	int64 delay = first << Min(Max(tries - 1, 0), MOST_DOUBLINGS);

	delay = Min(delay, most);
	return delay -
		   (int64) (delay * JITTER * pg_prng_double(&pg_global_prng_state));
}
