/*
 * alert.h
 *		What the rooms of alerts show each other.
 */
#ifndef STRIPE_SYNC_ALERT_H
#define STRIPE_SYNC_ALERT_H

#include "stripe_sync.h"

#include "utils/jsonpath.h"

#define CUSTOMER_DESTINATION "@customer"
#define DIGEST_ALERT		 "@digest" /* no rule's name begins with @ */

/* A rule, as stripe_sync.alert has it. */
typedef struct Alert
{
	char *name;
	char *event_type;
	char *destination; /* or "@customer"; resolved while it is applied */
	char *template;
	JsonPath *condition; /* or NULL, like group_by */
	JsonPath *group_by;
	int64 window;	 /* microseconds */
	char *closed_by; /* an event type, or NULL */
	char *severity;
	Jsonb *blocks; /* or NULL */
	bool is_for_customer;
	char *group; /* of the event that it is applied to, like the next two */
	bool opens;
	bool closes;
} Alert;

/* ---- in alert_rule.c ---- */
extern bool alert_closes(const Alert *alert, const char *event_type);
extern List *alert_rules_for(const Event *event);
extern bool alert_condition_holds(const Alert *alert, const Event *event);
extern Jsonb *alert_path_first(JsonPath *path, const Event *event);

/* ---- in group.c: what is one incident, and its lock ---- */
extern char *event_customer(const Event *event);
extern char *alert_group(const Alert *alert, const Event *event);
extern bool group_lock(const Alert *alert, const char *group,
					   const char *account, bool wait);
extern bool group_try_destination(const char *destination);

/* ---- in burst.c: how much is too much ---- */

/* An event as an alert sees it. */
typedef struct Occurrence
{
	const Alert *alert;
	Event *event;
	const char *group;
	const char *destination; /* as resolved, or NULL: nobody is to be told */
	const char *class;		 /* what a burst is counted for, within the rule */
	TimestampTz created;
} Occurrence;

extern int64 incident_first_id(EngineStatement *statement, Datum *values,
							   const char *nulls);
extern const char *burst_class(const Alert *alert, const Event *event);
extern bool burst_is_over(const Occurrence *occurrence);
extern bool burst_is_flood(const Occurrence *occurrence);
extern const char *burst_rollup_group(const Occurrence *occurrence);
extern bool incident_flooded(const char *destination, int reserve);

/* ---- in incident.c: opened, counted, closed ---- */
extern void incident_opening(const Alert *alert, Event *event);
extern void incident_closing(const Alert *alert, Event *event);
extern void incident_end_group_changed(const char *alert);

/* ---- in incident_message.c: what Slack is told of it ---- */
typedef struct Incident
{
	int64 id;
	char *kind; /* single, rollup, digest */
	char *alert;
	char *destination;
	char *severity;
	char *state; /* open, closed */
	char *text;
	char *footer; /* where the event is, or NULL; "": nothing of ours */
	Jsonb *blocks;
	TimestampTz opened_at;
	TimestampTz window_until;
	TimestampTz closed_at;
	char *closed_by;
	char *event_id;
	int64 message; /* its own, 0: not yet */
	bool escalated;
} Incident;

extern bool incident_read(int64 id, Incident *incident);
extern char *incident_thread(int64 id);
extern char *incident_thread_elsewhere(int64 id);
extern void incident_report_flood(const char *destination);
extern int64 incident_post(const Incident *incident, const char *account);
extern void incident_tell_repeated(const Incident *incident, bool again,
								   const Event *event);
extern void incident_tell_closed(const Incident *incident, const Event *event);

#endif /* STRIPE_SYNC_ALERT_H */
