/*
 * metrics.h
 *		What has happened and what waits, as numbers: one list of samples, shown
 *		by the view stripe_sync.activity and by metrics().
 */
#ifndef STRIPE_SYNC_METRICS_H
#define STRIPE_SYNC_METRICS_H

#include "nodes/pg_list.h"

/* ---- samples.c ---- */

#define METRIC_LABELS 2

typedef struct Metric
{
	const char *name; /* Prometheus' name, without the prefix stripe_sync_ */
	const char *type; /* counter, gauge or histogram */
	const char *help;
	const char *labels[METRIC_LABELS];
} Metric;

typedef struct Sample
{
	const Metric *metric;
	const char *suffix;				   /* of a histogram's sample, else "" */
	const char *values[METRIC_LABELS]; /* of the labels; NULL: none */
	bool is_known;					   /* false: nothing counts it */
	double value;
} Sample;

/* ---- collect.c ---- */

/* All samples, those of a metric together.  Runs in the engine's scope. */
extern List *samples_collect(void);

#endif /* STRIPE_SYNC_METRICS_H */
