/*
 * alert.h
 *		Rules, incidents and what the system reports about itself.
 */
#ifndef STRIPE_SYNC_ALERT_H
#define STRIPE_SYNC_ALERT_H

#include "base/base.h"
#include "inbox/event.h"

/* ---- alert_rule.c ---- */

extern bool alert_wanted(const char *event_type);

/* ---- alert.c ---- */

extern bool alert_attempt(Event *event, bool wait, ErrorData **error);

/* ---- alert_mute.c ---- */

/* False if there is no such alert.  DT_NOBEGIN ends it. */
extern bool alert_mute(const char *name, TimestampTz until);

/* ---- default_alerts.c ---- */

extern bool default_alert_is(const char *name);

/* ---- outbox_hooks.c ---- */

extern void alert_init(void);

/* ---- own_event.c ---- */

extern void alert_system(const char *type, Jsonb *object);
extern void alert_report(const char *type, const char *id, const Event *about,
						 Jsonb *object, bool wait);

#define EVENT_RECOVERED "system.event_recovered"

/* ---- escalation.c ---- */

/* False when nothing is due; *next is when something will be. */
extern bool escalate_due(TimestampTz *next);
extern void escalate_end_windows(void);

#endif /* STRIPE_SYNC_ALERT_H */
