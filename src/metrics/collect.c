/*
 * collect.c
 *		Collects all samples: the state of the server, counters of shared memory,
 *		and what waits in the tables.
 */
#include "postgres.h"

#include "metrics/internal.h"

List *
samples_collect(void)
{
	return waiting_samples(counted_samples(state_samples(NIL)));
}
