/*
 * slack_items.h
 *		What the doctor looks at in the area "slack".
 */
#ifndef STRIPE_SYNC_SLACK_ITEMS_H
#define STRIPE_SYNC_SLACK_ITEMS_H

#include "finding/finding.h"

/* ---- in slack_items.c ---- */

extern const DoctorArea doctor_slack;

#endif /* STRIPE_SYNC_SLACK_ITEMS_H */
