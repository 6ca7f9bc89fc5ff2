/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_ALERT_INTERNAL_H
#define STRIPE_SYNC_ALERT_INTERNAL_H

#include "utils/jsonpath.h"

#include "alert/alert.h"
#include "base/base.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "outbox/outbox.h"

/* ---- alert.c ---- */

/*
 * A rule: a row of stripe_sync.alert.  The last fields are of the event that a
 * copy of it is applied to.
 */
typedef struct Alert
{
	char *name;
	char *event_type;  /* patterns, separated by commas; so is closed_by */
	char *destination; /* or "@customer"; resolved while it is applied */
	char *template;
	JsonPath *condition; /* or NULL, like group_by */
	JsonPath *group_by;
	int64 window;	 /* microseconds */
	char *closed_by; /* or NULL */
	char *severity;
	Jsonb *blocks; /* or NULL, like the next three */
	JsonPath *closing_condition;
	char *closing_template;
	char *mention; /* U..., W... or S... */
	bool is_for_customer;
	char *group; /* of the event that it is applied to, like the next two */
	bool opens;
	bool closes;
} Alert;

/* ---- alert_rule.c ---- */

extern bool alert_event_is_own(const Event *event);
extern bool alert_opens(const Alert *alert, const char *event_type);
extern bool alert_closes(const Alert *alert, const char *event_type);
extern List *alert_rules_for(const Event *event);
extern bool alert_path_holds(JsonPath *path, const Event *event);
extern Jsonb *alert_path_first(JsonPath *path, const Event *event);

/* ---- alert.c ---- */

#define CUSTOMER_DESTINATION "@customer"
#define DIGEST_ALERT		 "@digest" /* no rule's name begins with @ */

/* An event as a rule sees it. */
typedef struct Occurrence
{
	const Alert *alert;
	Event *event;
	const char *group;
	const char *destination; /* as resolved; NULL: none, only for closing */
	const char *class;		 /* see burst_class() */
	TimestampTz created;
} Occurrence;

/* A row of stripe_sync.incident_record */
typedef struct Incident
{
	int64 id;
	char *kind; /* single, rollup, digest */
	char *alert;
	char *account;
	char *destination;
	char *severity;
	char *state; /* open, closed */
	char *text;
	char *footer; /* link to the event, or NULL; "": for a customer */
	Jsonb *blocks;
	TimestampTz opened_at;
	TimestampTz window_until;
	TimestampTz closed_at;
	char *closed_by;
	char *event_id;
	int64 message; /* its own message, 0: none yet */
	bool escalated;
	int escalations;			 /* how often it was repeated */
	TimestampTz acknowledged_at; /* 0: it is not, like snoozed_until */
	char *acknowledged_by;		 /* "slack:U..." */
	TimestampTz snoozed_until;
	char *snoozed_by;
	char *mention;		/* U... or S..., or NULL */
	bool is_test;		/* of test mode */
	char *closing_text; /* mrkdwn, or NULL */
	bool closed_badly;	/* it ended, but not well: no check mark */
	Jsonb *refs;		/* what its buttons are about, or NULL */
} Incident;

/* One that is to be inserted; the rest is the occurrence's */
typedef struct NewIncident
{
	const char *kind;
	const char *alert;
	const char *group;
	const char *account;
	const char *text;
	const char *footer;
	Jsonb *blocks;
	Jsonb *refs;  /* see README.md, "Buttons" */
	int64 window; /* microseconds */
} NewIncident;

/* Events that an incident counts */
typedef struct IncidentCounts
{
	int64 opening;
	int64 closing;
	TimestampTz last_at; /* of the last opening one */
} IncidentCounts;

/* ---- alert_setup.c ---- */

/* Arguments of add_alert(), and columns of the table in the same order */
enum AlertArgument
{
	ALERT_NAME,
	ALERT_EVENT_TYPE,
	ALERT_DESTINATION,
	ALERT_TEMPLATE,
	ALERT_CONDITION,
	ALERT_GROUP_BY,
	ALERT_COALESCE_FOR,
	ALERT_CLOSED_BY,
	ALERT_SEVERITY,
	ALERT_BLOCKS,
	ALERT_CLOSING_CONDITION,
	ALERT_CLOSING_TEMPLATE,
	ALERT_MENTION,
	ALERT_NARGS
};

extern const char *alert_required_text(FunctionCallInfo fcinfo, int number,
									   const char *name);
extern void alert_upsert(const StatementArg *rule);

/* ---- incident_key.c ---- */

extern char *event_customer(const Event *event);
extern char *alert_group(const Alert *alert, const Event *event);
extern bool alert_group_lock(const Alert *alert, const char *group,
							 const char *account, bool wait);
extern bool alert_destination_try_lock(const char *destination);

/* ---- alerted.c ---- */

extern bool alerted_before(const Occurrence *occurrence);
extern void alerted_insert(const Occurrence *occurrence, int64 incident,
						   bool closes);
extern bool alerted_closed_since(const Occurrence *occurrence);
extern bool alerted_opened_since(const Occurrence *occurrence, int64 incident);
extern int64 alerted_find_collector(const Occurrence *occurrence);
extern IncidentCounts alerted_count(int64 incident);
extern char *alerted_count_by_rule(int64 incident);
extern bool alerted_is_uncommitted(int64 incident);
extern bool alerted_after_snapshot(const char *alert, const char *group,
								   const char *account);

/* ---- burst.c ---- */

extern bool burst_reached(const Occurrence *occurrence);
extern const char *burst_class(const Alert *alert, const Event *event);
extern const char *burst_rollup_group(const Occurrence *occurrence);
extern bool flood_at(const char *destination, int reserve);
extern bool flood_reached(const Occurrence *occurrence);

/* ---- incident_row.c ---- */

extern int64 incident_find_open(const Occurrence *occurrence);
extern int64 incident_find_collecting(const char *kind, const char *alert,
									  const char *group, int64 window);
extern bool incident_read(int64 id, Incident *incident);
extern int64 incident_insert(const Occurrence *occurrence,
							 const NewIncident *incident);
extern void incident_close_expired(const Occurrence *occurrence);
extern void incident_close_counted(EngineStatement *update,
								   const StatementArg *args, int nargs);
extern void incident_extend_window(int64 id, int64 window);
extern bool incident_set_closed(int64 id, const char *by);
extern void incident_set_message(int64 id, int64 message);

/* ---- incident.c ---- */

extern void incident_opening(const Occurrence *occurrence);

/* ---- incident_close.c ---- */

extern void incident_closing(const Occurrence *occurrence);

/* ---- incident_text.c ---- */

extern bool incident_is_resolved(const Incident *incident);
extern char *incident_duration(TimestampTz from, TimestampTz to);
extern char *incident_person(const char *by);
extern char *incident_first_line(const Incident *incident);
extern Jsonb *incident_payload(const Incident *incident,
							   const char *destination, const char *method);
extern Jsonb *incident_repetition(const Incident *incident,
								  const char *destination, const char *text);
extern Jsonb *incident_answer(const Incident *incident, const char *text,
							  bool in_channel);
extern char *incident_end_text(const Incident *incident, Event *event);

/* ---- incident_message.c ---- */

extern Jsonb *incident_render(int64 id, int64 message, const char *method);
extern char *incident_thread(int64 id);
extern bool incident_post_repetition(const Incident *incident, const char *text);
extern void incident_post_answer(const Incident *incident, const char *text,
								 const Event *event);
extern void incident_show(const Incident *incident, const char *change,
						  const Event *event);
extern void incident_queue_repeated(const Incident *incident, bool again,
									const Event *event);
extern void incident_queue_closed(const Incident *incident, Event *event);

/* ---- incident_step.c ---- */

extern int64 incident_step_insert(int64 incident, const char *step,
								  const char *by, TimestampTz until,
								  int64 interaction);

/* ---- incident_queue.c ---- */

extern bool alert_is_muted(const char *name);
extern int64 incident_post(const Incident *incident, const char *account);

/*
 * Queues any other message of an incident, unless its rule is muted; holds it in
 * quiet hours.  Returns the id of a message, or 0 if none was queued.
 */
extern int64 incident_enqueue(NewMessage *message, const Incident *incident);

/* ---- incident_end.c ---- */

extern void incident_end_all(text *destination);
extern void incident_end_disabled(text *destination);
extern void incident_end_group_changed(const char *alert);

/* ---- own_event.c ---- */

extern void alert_system_within(const char *type, Jsonb *object);

#endif /* STRIPE_SYNC_ALERT_INTERNAL_H */
