/*
 * stripe_items.h
 *		What the doctor looks at in the area "stripe".
 */
#ifndef STRIPE_SYNC_STRIPE_ITEMS_H
#define STRIPE_SYNC_STRIPE_ITEMS_H

#include "finding/finding.h"

/* ---- in stripe_items.c ---- */

extern const DoctorArea doctor_stripe;

#endif /* STRIPE_SYNC_STRIPE_ITEMS_H */
