/*
 * samples.c
 *		Samples, the elements of the list that samples_collect() returns.
 */
#include "postgres.h"

#include "metrics/internal.h"

/* Append a sample.  Labels are copied by nobody, and live as long as the list. */
List *
sample_add(List *samples, const Metric *metric, double value, const char *first,
		   const char *second)
{
	Sample *sample = palloc0(sizeof(Sample));

	sample->metric = metric;
	sample->suffix = "";
	sample->values[0] = first;
	sample->values[1] = second;
	sample->is_known = true;
	sample->value = value;
	return lappend(samples, sample);
}
