/*
 * gather.h
 *		How trace_collect() gathers a story: the reference is resolved to seeds,
 *		objects are found that belong to a seed, and each file adds its lines.
 */
#ifndef STRIPE_SYNC_TRACE_GATHER_H
#define STRIPE_SYNC_TRACE_GATHER_H

#include "lib/stringinfo.h"

#include "engine/array_argument.h"
#include "trace/internal.h"

/* A stored event of the story */
typedef struct TraceEvent
{
	char *id;
	char *account;
	char *type;
	bool main; /* its object is */
	bool alerted; /* an alert has counted it */
	struct TraceRecord *received;
	char *endpoint;
	char *object_id;
	char *request_id;
	char *idempotency_key;
	TimestampTz created; /* received_at if Stripe does not say */
	TimestampTz received_at;
	char *source;
	char *status;
	char *mirrored;
	char *todo; /* "mirror, dunning", or NULL */
	int attempts;
	TimestampTz next_attempt_at;
	char *error;
	TimestampTz applied_at;
	Event *event; /* its payload; NULL if it cannot be read */
} TraceEvent;

/* A row of stripe_sync.event_error */
typedef struct TraceError
{
	char *event_id;
	char *account;
	char *event_type;
	char *step;
	int attempts;
	TimestampTz first_at;
	TimestampTz last_at;
	char *sqlstate;
	char *message;
	char *detail;
	char *hint;
	bool failing;
	bool told; /* by its runs */
} TraceError;

/* An incident of the story, and how far it is told */
typedef struct TraceIncident
{
	int64 id;
	char *kind; /* single, rollup, digest */
	char *alert;
	char *group_key;
	char *account;
	char *destination;
	char *state;
	char *event_id; /* that opened it */
	TimestampTz opened_at;
	TimestampTz closed_at;
	char *closed_by;
	int64 message;
	TimestampTz escalated_at;
	bool ours;	   /* it counts events of this story alone */
	bool has_post; /* a line tells that its message was queued */
} TraceIncident;

/* A row of stripe_sync.message, with its destination's state */
typedef struct TraceMessage
{
	int64 id;
	char *destination;
	char *method;
	char *state;
	int attempts;
	TimestampTz due_at;
	char *last_code;
	char *event_id;
	int64 incident;
	bool is_post; /* the incident's own message */
	TimestampTz created_at;
	TimestampTz settled_at;
	char *where; /* "#billing" */
	char *disabled; /* why its destination is disabled, or NULL */
} TraceMessage;

/* What a reference leads to: a story begins with it. */
typedef struct TraceSeed
{
	TraceSubjectKind kind;
	char *object_type; /* TRACE_OF_OBJECT; NULL: all shared types of that id */
	char *id;		   /* of the object or event */
	char *account;
	char *event_id;	   /* the event that was asked for, or NULL */
	int64 number;	   /* of the message, incident or job */
	TimestampTz at;	   /* when what was asked for happened, or 0 */
} TraceSeed;

/* What was asked for, and what was looked at */
typedef struct TraceQuery
{
	const char *ref;
	const char *account; /* NULL: any */
	const Interval *span; /* or NULL */
	List *seeds;		 /* of TraceSeed */
	StringInfo looked;	 /* "events, objects, ..." */
	StringInfo hint;	 /* other meanings of the reference, or NULL */
} TraceQuery;

/* One story while it is gathered */
typedef struct TraceGather
{
	TraceSubject subject;
	const TraceQuery *query;
	const TraceSeed *seed;
	char *customer;	   /* whose story it is; NULL: unknown, or nobody's */
	List *records;	   /* of TraceRecord */
	List *events;	   /* of TraceEvent, of all objects */
	List *errors;	   /* of TraceError */
	List *incidents;   /* of TraceIncident */
	List *messages;	   /* of int64 *: messages to be told in any case */
	List *queue;	   /* of TraceObject, to be looked at */
	StringInfo cut;	   /* sentences: what was left out; NULL: nothing */
	TimestampTz from;  /* events created in this time are told */
	TimestampTz until;
} TraceGather;

#define TRACE_MOST_EVENTS  300 /* of a story */
#define TRACE_MOST_OBJECTS 60
#define TRACE_MOST_RECENT  10	/* objects of each type, for a customer */
#define TRACE_MOST_LINES   2000

/* ---- in record.c: lines and their facts ---- */
extern TraceRecord *record_add(TraceGather *gather, TraceKind kind,
							   TimestampTz at);
extern void record_say(TraceRecord *record, const char *format, ...)
	pg_attribute_printf(2, 3);
extern void record_fact_text(TraceRecord *record, const char *name,
							 const char *value);
extern void record_fact_number(TraceRecord *record, const char *name,
							   int64 value);
extern void record_fact_ms(TraceRecord *record, const char *name, double value);
extern void record_fact_time(TraceRecord *record, const char *name,
							 TimestampTz value);
extern void record_append(TraceRecord *record, const char *format, ...)
	pg_attribute_printf(2, 3);
extern List *record_lines(TraceGather *gather);
extern void record_cut(TraceGather *gather, const char *format, ...)
	pg_attribute_printf(2, 3);

/* ---- in mirror_rows.c: rows of the mirror that the caller may see ---- */

/* A row that was found by one of its columns */
typedef struct MirrorHit
{
	char *id;
	char *account;
	TimestampTz created; /* 0: unknown */
} MirrorHit;

extern bool mirror_rows_read(const CatalogType *type, const char *id,
							 const char *account, Jsonb **data,
							 TimestampTz *as_of, char **event_id,
							 bool *deleted);
extern List *mirror_rows_find(const CatalogType *type, const char *column,
							  const char *value, int most);
extern List *mirror_rows_of_email(const char *email, int most, bool *looked);
extern List *mirror_rows_unseen(void);

/* ---- in links.c: the objects that an object names ---- */
extern const char *const link_names[];
extern const int nlink_names;

extern char *link_get(const CatalogType *type, JsonbContainer *object,
					  const char *name);
extern bool link_is_column(const CatalogType *type, const char *name);

/* ---- in reference.c: what a reference leads to ---- */
extern void reference_resolve(TraceQuery *query);

/* ---- in belong.c: the objects of a story ---- */
extern void belong_gather(TraceGather *gather);

/* ---- in events.c: the events of objects, and their lines ---- */
extern List *events_of_object(const TraceObject *object, TimestampTz from,
							  TimestampTz until, int most);
extern TraceEvent *events_find(const char *id, const char *account);
extern void events_tell(TraceGather *gather);

/* ---- in steps.c: errors and handlers ---- */
extern void steps_tell(TraceGather *gather);

/* ---- in alerts.c: alerts and incidents ---- */
extern void alerts_keys(TraceGather *gather, struct ArgColumns *keys);
extern TraceIncident *incident_find(int64 id);
extern void alerts_tell(TraceGather *gather);

/* ---- in incidents.c: an incident that is not one object's ---- */
extern void incidents_tell(TraceGather *gather, TraceIncident *incident);

/* ---- in unsaid.c: events that no alert counted ---- */
extern void unsaid_tell(TraceGather *gather);

/* ---- in messages.c: messages and deliveries ---- */
extern TraceRecord *messages_record(TraceGather *gather, TraceKind kind,
									TimestampTz at,
									const TraceMessage *message);
extern void messages_tell(TraceGather *gather);

/* ---- in deliveries.c: attempts to send them ---- */
extern void deliveries_tell(TraceGather *gather, List *messages);

/* ---- in fetches.c: what was read from Stripe ---- */
extern void fetches_tell(TraceGather *gather);

/* ---- in jobs.c: a job ---- */
extern void jobs_tell(TraceGather *gather, int64 job);

/* ---- in journal.c: what was done to destinations meanwhile ---- */
extern void journal_tell(TraceGather *gather);

#endif /* STRIPE_SYNC_TRACE_GATHER_H */
