/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_METRICS_INTERNAL_H
#define STRIPE_SYNC_METRICS_INTERNAL_H

#include "metrics/metrics.h"

/* ---- samples.c ---- */

#define NO_LABEL ((const char *) NULL)

extern List *sample_add(List *samples, const Metric *metric, double value,
						const char *first, const char *second);

/* ---- counted.c ---- */

extern List *counted_samples(List *samples);

/* ---- waiting.c ---- */

extern List *waiting_samples(List *samples);

/* ---- server_state.c ---- */

extern List *state_samples(List *samples);

#endif /* STRIPE_SYNC_METRICS_INTERNAL_H */
