/*
 * internal.h
 *		What the files of this folder share: the newest events, the items.
 */
#ifndef STRIPE_SYNC_STRIPE_ITEMS_INTERNAL_H
#define STRIPE_SYNC_STRIPE_ITEMS_INTERNAL_H

#include "storage/itemptr.h"

#include "base/base.h"
#include "engine/statement.h"
#include "finding/finding.h"

/* ---- in recent_events.c: the newest events of the inbox ---- */

typedef struct RecentEvents
{
	ItemPointerData from; /* the first row of the table's end */
	bool by_time;		  /* the newest are elsewhere: find them by time */
	TimestampTz since;	  /* a day ago */
	int nest;			  /* settings to restore */
} RecentEvents;

#define RECENT_COLUMNS                                                         \
	"SELECT endpoint, source, livemode, api_version, object_type, status,"     \
	" created, received_at FROM stripe_sync.event"

/*
 * "recent": about two thousand of the newest events; "day": those of the last day.
 * $1 to $3 are RECENT_ARGS().
 */
#define RECENT                                                                 \
	"WITH recent AS MATERIALIZED (" RECENT_COLUMNS " WHERE ctid >= $1"         \
	" UNION ALL (" RECENT_COLUMNS                                              \
	"  WHERE $2 AND received_at > $3 LIMIT 2000)),"                            \
	" day AS (SELECT * FROM recent WHERE received_at > $3) "

#define RECENT_ARGS(recent)                                                    \
	arg_datum(TIDOID, PointerGetDatum(&(recent)->from)),                       \
		arg_bool((recent)->by_time), arg_time((recent)->since)

extern RecentEvents recent_begin(void);
extern void recent_end(const RecentEvents *recent);

/* ---- in event_items.c ---- */

extern void look_at_last_event(Finding *finding);
extern void look_at_delivery_delay(Finding *finding);
extern void look_at_api_versions(Finding *finding);
extern void look_at_unmirrored_types(Finding *finding);

/* ---- in failure_items.c ---- */

extern void look_at_failed_events(Finding *finding);
extern bool look_at_mirror_drift(Finding *finding, char **progress);

/* ---- in endpoint_items.c ---- */

extern void look_at_endpoint_secrets(Finding *finding);
extern void look_at_silence(Finding *finding);
extern void look_at_refused_deliveries(Finding *finding);
extern void look_at_modes(Finding *finding);
extern void look_at_webhook_endpoints(Finding *finding);

/* ---- in api_items.c ---- */

extern void look_at_api_keys(Finding *finding);
extern void look_at_reconcile(Finding *finding);
extern void look_at_reconcile_gap(Finding *finding);
extern void look_at_jobs(Finding *finding);

#endif /* STRIPE_SYNC_STRIPE_ITEMS_INTERNAL_H */
