/*
 * inspect.h
 *		Comparing the mirror with the stored events, for the doctor.
 */
#ifndef STRIPE_SYNC_INSPECT_H
#define STRIPE_SYNC_INSPECT_H

#include "base/base.h"

/* ---- in verify_part.c ---- */

/* An object whose row differs */
typedef struct MirrorDifference
{
	char *object_type;
	char *object_id;
	char *account;
	char *field; /* the first that differs */
} MirrorDifference;

extern int verify_part(int part, int parts, int most, List **differences);

#endif /* STRIPE_SYNC_INSPECT_H */
