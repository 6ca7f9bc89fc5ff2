/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_SLACK_ITEMS_INTERNAL_H
#define STRIPE_SYNC_SLACK_ITEMS_INTERNAL_H

#include "slack_items/slack_items.h"

/* ---- in destinations.c ---- */

extern void look_at_destinations(Finding *finding);
extern void look_at_tokens(Finding *finding);
extern void look_at_fallback(Finding *finding);

/* ---- in messages.c ---- */

extern void look_at_backlog(Finding *finding);
extern void look_at_dead_messages(Finding *finding);
extern void look_at_failure_rate(Finding *finding);
extern void look_at_rate_limits(Finding *finding);

/* ---- in alerts.c ---- */

extern void look_at_noisy_alerts(Finding *finding);
extern void look_at_unused_alerts(Finding *finding);
extern void look_at_flood(Finding *finding);
extern void look_at_system_alerts(Finding *finding);

/* ---- in incidents.c ---- */

extern void look_at_unacknowledged(Finding *finding);
extern void look_at_open_incidents(Finding *finding);

#endif /* STRIPE_SYNC_SLACK_ITEMS_INTERNAL_H */
