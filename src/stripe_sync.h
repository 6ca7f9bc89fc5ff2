/*
 * stripe_sync.h
 *		What the rooms of the extension show each other, in the order of the
 *		flow: verify, store, apply, handle; then Slack and the worker.  Those of
 *		the mirror have mirror.h.
 *
 * Glossary (doc and DESIGN use the same words):
 *
 *	event		one Stripe event (evt_...), with its exact bytes
 *	endpoint	a named source of events: signing secrets, mode, tolerance
 *	inbox		stripe_sync.event: every event accepted, and what became of it
 *	mirror		schema stripe: a row per Stripe object, newest snapshot known
 *	step		one part of applying an event that can fail by itself: "mirror",
 *				or a handler's name; what is still to run stands in event.todo
 *	own event	an event whose data.object is the object itself
 *	page		a list of children inside an object (a subscription's items)
 *	fill		to write a row from an object embedded in another's event
 *	tombstone	a row with _deleted_at
 *	sweep		to put tombstones on children that the newest page leaves out
 */
#ifndef STRIPE_SYNC_H
#define STRIPE_SYNC_H

#include "postgres.h"

#include "access/genam.h"
#include "access/tupdesc.h"
#include "fmgr.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/elog.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"
#include "utils/timestamp.h"

#include "backoff.h"
#include "catalog.h"
#include "compat.h"
#include "error_codes.h"
#include "refusal.h"
#include "statement.h"
#include "subtransaction.h"
#include "worker_transaction.h"

#define ENGINE_EXTENSION "stripe_sync"
#define ENGINE_SCHEMA	 "stripe_sync"
#define MIRROR_SCHEMA	 "stripe"

/* ---- in guc.c: settings ---- */
extern int guc_max_payload; /* bytes */
extern int guc_max_attempts;
extern int guc_handler_timeout; /* milliseconds, 0 is off */
extern int guc_message_attempts;
extern int guc_max_connections;
extern int guc_http_timeout;  /* milliseconds */
extern double guc_slack_rate; /* messages a second and destination, 0 is off */
extern int guc_slack_burst;
extern int guc_max_alerts_per_hour;
extern int guc_escalate_after; /* seconds, 0 is off */
extern int guc_retention;	   /* minutes, 0 is off */
extern int guc_coalesce_burst;
extern double guc_stripe_rate;	   /* requests a second */
extern int guc_stripe_timeout;	   /* milliseconds, 0 is http_timeout */
extern int guc_reconcile_interval; /* seconds, 0 is off */
extern char *guc_api_version;	   /* "" is the catalog's */
extern char *guc_stripe_api_base;
extern char *guc_slack_api_base;
extern char *guc_slack_hosts;
extern char *guc_ca_file; /* "" is the system's */
extern bool guc_outbound;
extern bool guc_allow_plain_http;

extern void guc_define(void);

/* ---- in noted_path.c: a stored search_path with the owners of its schemas ---- */
typedef struct NotedPath
{
	char *names;   /* in the syntax of search_path */
	List *owners;  /* of char *, one for each name; NULL: unknown */
	char *holder;  /* the object that it belongs to, for messages */
	char *renewal; /* the function that stores it again, for hints */
	int sqlstate;  /* of the error if the owner of a schema isn't trusted */
} NotedPath;

extern bool owner_is_trusted(Oid owner, const char *noted, Oid role);
extern NotedPath *path_make(const char *names);
extern NotedPath *path_read(Datum names, Datum owners);
extern NotedPath *path_copy(const NotedPath *path, MemoryContext memory);
extern NotedPath *path_resolved(void);
extern Datum path_owners(const NotedPath *path);
extern bool path_holds(const NotedPath *path, Oid role);
extern void path_check(const NotedPath *path, Oid role);
extern char *path_in_force(const NotedPath *path, Oid role);

/* ---- in role.c: scopes, which set rights and search_path ---- */
typedef struct RoleScope
{
	int depth; /* its place in the stack */
} RoleScope;

extern RoleScope role_enter_engine(void);
extern RoleScope role_enter_writing(Oid role, const NotedPath *search_path);
extern RoleScope role_enter_reading(Oid role, const NotedPath *search_path);
extern void role_leave(const RoleScope *scope);
extern Oid role_caller(void); /* the role that has called the extension */
extern void role_init(void);

/* ---- in deferred.c: fires deferred triggers as the role that queued them ---- */
extern bool deferred_possible(void);
extern void deferred_fire_callers(void);

/* ---- in engine.c: the extension's own tables ---- */
extern void engine_run(EngineStatement *statement, Datum *values,
					   const char *nulls, int expected);
extern Datum engine_column(HeapTuple tuple, TupleDesc desc, int column,
						   Oid type, bool *isnull);
extern Datum engine_value(void);
extern Jsonb *engine_jsonb(EngineStatement *select, Datum *values,
						   const char *nulls);
extern TimestampTz engine_first_time(EngineStatement *select);
extern TimestampTz engine_time_after(const Interval *interval);
extern int plan_for_indexes(void);
extern int plan_for_indexes_with_lock_timeout(void);
extern void plan_settings_restore(int nest);
extern SysScanDesc engine_scan(const char *table, const char *index,
							   AttrNumber column, const char *value,
							   Relation *relation, Snapshot *snapshot);
extern void engine_scan_end(SysScanDesc scan, Relation relation,
							Snapshot snapshot);
extern void engine_init(void);
extern uint64 engine_generation(void);

/* ---- in own.c: which objects are the extension's own ---- */

extern Oid engine_relation(const char *name); /* a table, or an index of one */
extern Oid engine_extension(void);
extern Oid engine_owner(void);
extern Oid engine_schema(void);
extern Oid own_find(const char *name);
extern bool own_fits(struct Refusal *refusal);
extern void own_forget(Oid relid);
extern Oid own_table_owner(Oid relid);
extern Oid own_schema_owner(Oid schema);
extern Oid own_database_owner(void);

/* ---- in grant.c: grades of rights ---- */
extern void mirror_grant_tables(void);

/* ---- in argument.c ---- */
extern void argument_required(FunctionCallInfo fcinfo, int number,
							  const char *what); /* raises 22004 */

/* ---- in advisory.c: the locks that are on no row ---- */
typedef enum AdvisoryKind
{
	ADVISORY_CHILDREN = 1, /* a parent's name, one of 1,024: children.c */
	ADVISORY_GROUP,		   /* an alert's group: incident_key.c */
	ADVISORY_DESTINATION,  /* messages to it are counted: incident_key.c */
	ADVISORY_CREATE_TABLES,
	ADVISORY_API_KEY,  /* an account's */
	ADVISORY_REFUSALS, /* who writes them down: refused_write.c */
	ADVISORY_ENDPOINT  /* set-up of endpoints, and their first events */
} AdvisoryKind;

extern void advisory_lock(AdvisoryKind kind, uint32 key);
extern bool advisory_try_lock(AdvisoryKind kind, uint32 key);

/* ---- in row.c: writes one row directly into a table ---- */
typedef struct RowTarget RowTarget;

extern RowTarget *row_open(Oid relid, Oid key_index, int natts);
extern bool row_insert(RowTarget *target, const Datum *values,
					   const bool *nulls);
extern bool row_lock(RowTarget *target, int nkeys, const Datum *keys);
extern Datum row_get(RowTarget *target, AttrNumber attnum, bool *isnull);
extern void row_update(RowTarget *target, const Datum *values,
					   const bool *nulls);
extern void row_values(RowTarget *target, Datum *values, bool *nulls);
extern bool row_fires(Relation relation);
extern void row_close(RowTarget *target);

/* ---- in json.c: parses JSON from outside ---- */
extern Jsonb *json_parse(const char *bytes, int length);
extern const char *json_skip(const char *p, const char *end);
extern bool json_too_deep(const char *bytes, int length, int limit);
extern bool json_get(JsonbContainer *object, const char *key, JsonbValue *value);
extern char *json_get_string(JsonbContainer *object, const char *key);
extern JsonbContainer *json_get_object(JsonbContainer *object, const char *key);
extern bool json_to_int64(const JsonbValue *value, int64 *result);
extern bool json_is_object(const JsonbValue *value);
extern bool json_same(JsonbContainer *a, JsonbContainer *b);
extern bool json_value_same(const JsonbValue *a, const JsonbValue *b);
extern bool json_overlay_same(JsonbContainer *after, JsonbContainer *previous,
							  JsonbContainer *before);
extern bool json_describes(JsonbContainer *previous, JsonbContainer *before);
extern Jsonb *json_standalone(JsonbContainer *container);

/* ---- in verify.c: the judgement of a delivery, and how it is told ---- */
typedef struct Endpoint
{
	char *name;
	bool has_livemode;
	bool livemode;
	int64 tolerance; /* seconds, or SIGNATURE_NO_TOLERANCE */
	char *account;	 /* whose events they are; "" for one's own */
	bool mode_learned;
} Endpoint;

extern bool endpoint_verify(const Endpoint *endpoint, const char *payload,
							int length, text *signature, Refusal *refusal);
extern char *endpoint_sign(const Endpoint *endpoint, const char *payload,
						   int length, int64 at);

/* ---- in level.c: does the library match the catalog? ---- */

/* The same as in src/install/00_header.sql; see level.c */
#define CATALOG_LEVEL 1

extern int level_found(void);
extern bool level_fits(int oldest, Refusal *refusal);
extern void level_check(int oldest); /* raises 55000 */
extern void level_check_table(TupleDesc desc, int columns, const char *table);
extern void level_check_columns(TupleDesc desc, int columns);

/*
 * Begins a function that is called from SQL and uses the extension's tables:
 * the catalog level is checked before an argument is read.
 *
 * A function with PG_FUNCTION_INFO_V1() alone works at any level, and receive()
 * also at the previous one.  Their arguments and result columns must never
 * change: a function with others must have another C name.  sql/level.sql lists
 * them.
 */
#define ENGINE_FUNCTION(name) ENGINE_FUNCTION_FROM(name, CATALOG_LEVEL)

#define ENGINE_FUNCTION_FROM(name, oldest)                                     \
	PG_FUNCTION_INFO_V1(name);                                                 \
	static Datum name##_body(PG_FUNCTION_ARGS);                                \
	Datum name(PG_FUNCTION_ARGS)                                               \
	{                                                                          \
		level_check(oldest);                                                   \
		return name##_body(fcinfo);                                            \
	}                                                                          \
	static Datum name##_body(PG_FUNCTION_ARGS)

/* ---- in endpoint.c: named sources of events ---- */
/* Columns of stripe_sync.endpoint, as src/install/10_endpoint.sql makes it */
enum EndpointColumn
{
	ENDPOINT_NAME = 1,
	ENDPOINT_LIVEMODE,
	ENDPOINT_TOLERANCE,
	ENDPOINT_CREATED_AT,
	ENDPOINT_ACCOUNT,
	ENDPOINT_MODE_LEARNED
};

extern bool endpoint_find(const char *name, Endpoint *endpoint,
						  Refusal *refusal);
extern int64 endpoint_seconds(const Interval *interval);
extern const char *endpoint_keep(const char *id, bool livemode, text *secret);
extern void endpoint_check_interval(const Interval *interval, const char *what);

/* ---- in event.c: the envelope of an event ---- */
typedef struct Event
{
	char *id;
	char *account;	 /* "" for one's own; as the inbox has it */
	char *named;	 /* by the payload */
	bool by_context; /* the field "context" names it, and "account" doesn't */
	char *type;
	char *api_version; /* or NULL, like the next four */
	char *object_type;
	char *object_id;
	char *request_id;
	char *idempotency_key;
	bool has_livemode;
	bool livemode;
	bool has_created;
	TimestampTz created;
	const CatalogType *catalog; /* of its object, when it is mirrored */
	const CatalogType *holder;	/* when only what its object embeds is */
	char *unmirrored;			/* why not, when it isn't */
	const char *payload;
	int length;
	Jsonb *document;		  /* the whole event, fit for jsonb */
	JsonbContainer *object;	  /* data.object, or NULL */
	JsonbContainer *previous; /* data.previous_attributes, or NULL */
} Event;

extern char *event_peek_id(const char *bytes, int length);
extern char *event_peek_account(const char *bytes, int length);
extern char *event_account_named(const char *context, const char *account,
								 const char *user_id, bool *by_context);
extern bool event_read(const char *bytes, int length, Event *event,
					   Refusal *refusal);
extern bool event_type_deletes(const char *type);
extern bool event_type_creates(const char *type);

/* ---- in event_store.c: rows of stripe_sync.event ---- */
/* What a lookup returns of a stored event, without its payload */
typedef struct StoredEventSummary
{
	char *type;
	char *account;
	bool by_webhook;
	bool waits; /* stored by a reconcile run that has not ended */
	bool held;	/* for its mode, see endpoint_mode.c */
	bool has_created;
	TimestampTz created;
} StoredEventSummary;

/* A delivery, or an event of a list, that may be stored already. */
typedef struct WebhookDelivery
{
	const char *payload;
	int length;
	const char *endpoint; /* or NULL */
	const char *own;	  /* the endpoint's account */
	const char *account;  /* the event's; NULL: the payload names it */
} WebhookDelivery;

typedef struct EventLookup EventLookup;

extern EventLookup *event_lookup_begin(void);
extern bool event_lookup_find(EventLookup *lookup, const char *id,
							  const WebhookDelivery *delivery,
							  StoredEventSummary *summary);
extern void event_lookup_end(EventLookup *lookup);

/* What is stored of an event beside its envelope */
typedef struct EventOutcome
{
	const char *status;
	const char *mirrored; /* or NULL */
	Datum todo;			  /* text[] */
	Datum tries;		  /* jsonb, or 0: none */
	TimestampTz due;	  /* of the next attempt, or 0: none */
	TimestampTz applied;  /* or 0: not yet */
	int attempts;
	bool unassigned; /* store no object_id: the event is held for its mode */
} EventOutcome;

extern bool event_store(const Event *event, const char *endpoint,
						const char *source, const EventOutcome *outcome);
extern bool event_load(const char *id, const char *account, Event *event);
compat_noreturn extern void event_missing(const char *id);

/* ---- in event_name.c: types that nobody sends, and what was meant ---- */
extern bool event_type_fits(const char *type, const char *pattern);
extern void event_type_remark(const char *type, bool for_alert);
extern char *event_type_hint(const char *type);
extern char *object_type_hint(const char *name);

/* ---- in object_key.c: what identifies an object ---- */
extern char *object_key(const CatalogType *type, JsonbContainer *object);
extern char *account_of_accounts(const char *path);
extern const char *object_account(const CatalogType *type, const char *account);

/* ---- in object_page.c: pages embedded in an object ---- */
extern JsonbContainer *object_page_of(const JsonbValue *value);
extern JsonbContainer *object_page(JsonbContainer *object, const char *field,
								   bool *complete);

/* ---- in receive.c: verify, store once, apply, in one transaction ---- */
/* Columns of stripe_sync.event, as src/install/20_inbox.sql makes it */
enum EventColumn
{
	EVENT_ID = 1,
	EVENT_ACCOUNT,
	EVENT_TYPE,
	EVENT_ENDPOINT,
	EVENT_LIVEMODE,
	EVENT_API_VERSION,
	EVENT_OBJECT_TYPE,
	EVENT_OBJECT_ID,
	EVENT_REQUEST_ID,
	EVENT_IDEMPOTENCY_KEY,
	EVENT_CREATED,
	EVENT_RECEIVED_AT,
	EVENT_SOURCE,
	EVENT_STATUS,
	EVENT_MIRRORED,
	EVENT_TODO,
	EVENT_TRIES,
	EVENT_ATTEMPTS,
	EVENT_NEXT_ATTEMPT_AT,
	EVENT_ERROR,
	EVENT_APPLIED_AT,
	EVENT_PAYLOAD
};

#define EVENT_NATTS EVENT_PAYLOAD

/* ---- in inbox_table.c: is the inbox still as it was made? ---- */
extern Relation inbox_table_open(void);
extern bool inbox_table_fits(Refusal *refusal);

typedef struct Receipt
{
	char *event_id;
	const char *status;
	char *detail;
} Receipt;

extern bool inbox_store_pending(const Event *event, const char *endpoint,
								const char *source);
extern bool inbox_store_held(const Event *event, const char *endpoint,
							 const char *source);

extern bool inbox_receive(const char *payload, int length, text *signature,
						  const char *endpoint, const char *source,
						  Receipt *receipt, Refusal *refusal);

/* ---- in receipt.c: the result row of receive() ---- */
extern Datum inbox_receipt_datum(FunctionCallInfo fcinfo,
								 const Receipt *receipt);

/* ---- in step_list.c: the steps of an event that are still to run ---- */
#define STEP_MIRROR "mirror"

/* Why a handler does not run until it is registered again */
typedef enum HandlerHold
{
	HANDLER_RUNS,
	HANDLER_STOPPED, /* by revoke_all(): it waits */
	HANDLER_ANOTHERS /* its function or a schema is another role's: it fails */
} HandlerHold;

typedef struct Step
{
	char *name; /* STEP_MIRROR, STEP_ALERTS or a handler's name */
	int tries;	/* made so far; 0: it has not run yet */
} Step;

extern Step *step_make(const char *name, int tries);
extern bool step_is_dead(const Step *step);
extern bool step_waits(const Step *step);
extern bool step_blocks(List *todo);
extern HandlerHold step_hold(const Step *step);
extern List *steps_first(const Event *event, List **waiting);
extern List *steps_all(const Event *event);
extern Datum step_names(List *steps);
extern Datum step_tries(List *steps);
extern List *step_list_read(ArrayType *todo, Jsonb *tries);

/* ---- in steps.c: run them ---- */

typedef struct StepRun
{
	Event *event;
	const char *mirrored; /* the mirror's verdict, NULL until it has run */
	char *detail;
	List *todo;				 /* of Step: what is left */
	char *error;			 /* event.error: of this run or an earlier one */
	List *failures;			 /* of StepFailure: what failed in this run */
	int claimed;			 /* tries of the one step that was claimed, or 0 */
	TimestampTz received_at; /* 0: stored in this transaction */
} StepRun;

typedef struct StepFailure
{
	const char *step;
	int tries; /* this one included */
	ErrorData *error;
} StepFailure;

extern void step_run(StepRun *run, List *steps);
extern void step_failed(StepRun *run, const Step *step, ErrorData *error);

/* ---- in step_outcome.c: what has become of the event ---- */
extern const char *step_status(const StepRun *run);
extern void step_settle(const StepRun *run, const char *status, int attempts);

/* ---- in timed.c ---- */
extern bool timed_run(void (*body)(void *), void *arg, const char *what,
					  const char *hint, ErrorData **error);
extern void timed_check(void);

/* ---- in event_error.c: what failed of an event ---- */
extern void record_failure(const Event *event, const char *step,
						   const ErrorData *error);
extern void record_recovery(const Event *event, const char *step);
extern void record_handler_dropped(text *handler);
extern bool record_is_failing(const char *step, const char *sqlstate,
							  const char *event_type, const char *account);

/* ---- in handler_run.c: which handlers ran on an event ---- */
extern void record_run(struct StringInfoData *runs, const char *handler,
					   TimestampTz started, double milliseconds,
					   const ErrorData *error);
extern void record_runs(const Event *event, struct StringInfoData *runs,
						bool is_new);

/* ---- in handler.c, handler_call.c: the user's functions ---- */
typedef struct Handler
{
	char *name;
	char *event_type;
	char *function; /* schema.name, quoted where needed */
	char *owner;	/* of the function, when it was registered */
	char *role;
	NotedPath *search_path;
	bool deferred;
	bool stopped; /* by revoke_all() */
} Handler;

extern List *handler_matching(const char *event_type);
extern Handler *handler_find(const char *name);
extern HandlerHold handler_hold(const char *name);
extern bool handler_attempt(const Handler *handler, Event *event,
							void (*afterwards)(void *), void *arg,
							ErrorData **error);

/* ---- in handler_setup.c ---- */
compat_noreturn extern void handler_missing(const char *name);

/* ---- in replay.c: an event that is stored already ---- */
typedef struct StoredEvent
{
	Event event;
	char *status;
	char *mirrored;
	char *endpoint; /* or NULL */
	List *todo;		/* of Step */
	char *error;
	int claimed; /* as in StepRun, like the next */
	TimestampTz received_at;
} StoredEvent;

extern StoredEvent *replay_lock(const char *id, const char *account);
extern Receipt replay_held(const char *id, const char *account);
extern Receipt replay_run(StoredEvent *stored, List *steps, List *rest,
						  int attempts);

/* ---- in template_parse.c, template.c, template_blocks.c ---- */
extern void template_check(const char *text);	  /* raises 22023 */
extern void template_check_blocks(Jsonb *blocks); /* raises 22023 */
extern char *template_render(const char *text, Event *event);
extern Jsonb *template_render_blocks(Jsonb *blocks, Event *event);

/* ---- in money.c: amounts in minor units, as people write them ---- */
extern char *money_format(int64 amount, const char *currency);

/* ---- in mrkdwn.c: Slack's markup ---- */
extern char *mrkdwn_escape(const char *text);
extern char *mrkdwn_cut(const char *mrkdwn, int characters);

/* ---- in block_limits.c, block_kit.c: payloads within Slack's limits ---- */
extern Jsonb *blocks_fit(Jsonb *blocks); /* raises 22023: no array */

/* An alert's message */
typedef struct MessageParts
{
	const char *text;	  /* mrkdwn, escaped */
	Jsonb *blocks;		  /* the user's, instead of a section, or NULL */
	const char *severity; /* info, warning, critical; NULL: none */
	const char *status;	  /* mrkdwn of a context block below, or NULL */
	bool resolved;
	bool is_update; /* for chat.update, not for a message of its own */
} MessageParts;

extern Jsonb *blocks_message(const MessageParts *parts);
extern Jsonb *blocks_plain(const char *text, Jsonb *blocks);

/* ---- in destination.c: webhooks and channels of Slack, by name ---- */
typedef struct Destination
{
	char *name;
	bool is_webhook;
	char *channel; /* NULL for a webhook */
	bool enabled;
	char *disabled_reason;
	char *fallback;
	char *escalation;
} Destination;

extern bool destination_find(const char *name, Destination *destination);
compat_noreturn extern void destination_missing(const char *name);
extern bool destination_secret(const char *name, char *buffer, size_t size,
							   char **trouble);

/* ---- in destination_refused.c: destinations that Slack rejects ---- */
extern void destination_disable_refused(const char *name, const char *reason);
extern int destination_count_refused(void);
extern void destination_notice_unreported(const char *name);

/* ---- in secret_rotation.c: tokens and URLs that change in their files ---- */
extern void secret_rotation_note(const char *name, const char *secret);
extern void secret_rotation_forget(text *name);
extern void secret_rotation_check(void);

/* ---- in outbox.c: messages are queued ---- */
typedef struct NewMessage
{
	const char *destination;
	const char *method; /* post, update, summary, test */
	Jsonb *payload;		/* {"text": ..., "blocks": [...]} */
	const char *key;	/* or NULL, like those below */
	const char *thread;
	TimestampTz due_at;
	const char *event_id;
	const char *account;
	const char *alert;
	int64 incident; /* 0: none */
} NewMessage;

/*
 * Returns the message's id, or 0 if there is one with its key, or if a change of
 * the incident's message is waiting already.  Runs in the engine's scope.
 */
extern int64 outbox_enqueue(const NewMessage *message);

/* Set by alert_init().  They run in the engine's scope. */
typedef struct OutboxHooks
{
	/* The current payload of an incident's message, NULL: as it was queued */
	Jsonb *(*render)(int64 incident, int64 message, const char *method);
	void (*destination_disabled)(Jsonb *object);
	void (*destination_enabled)(text *destination);
	void (*destination_dropped)(text *destination);
} OutboxHooks;

extern const OutboxHooks *outbox_hooks;

/* ---- in alert_rule.c, alert.c: rules are applied to events ---- */
#define STEP_ALERTS "alerts"

extern bool alert_wanted(const char *event_type);
extern bool alert_attempt(Event *event, bool wait, ErrorData **error);

/* ---- in system_event.c: events of the extension itself ---- */
extern void alert_system(const char *type, Jsonb *object);
extern void alert_system_within(const char *type, Jsonb *object);
extern void alert_report(const char *type, const char *id, const Event *about,
						 Jsonb *object, bool wait);

/* ---- in failed_events.c: system.event_failed, system.event_dead ---- */
extern void failures_report(const StepRun *run);
extern char *failure_group(const char *step, const char *sqlstate,
						   const char *event_type);

/* ---- in recovered_events.c: system.event_recovered ---- */
#define EVENT_RECOVERED "system.event_recovered"

extern bool recoveries_report(void);
extern void recovered_reading(const char *object_type);

/* ---- in outbox_hooks.c ---- */
extern void alert_init(void);

/* ---- in guard.c: may this database send? ---- */
typedef enum OutboundState
{
	OUTBOUND_ON,
	OUTBOUND_OFF,	   /* stripe_sync.outbound is off */
	OUTBOUND_COPY,	   /* the identity is that of another database */
	OUTBOUND_RESTORED, /* the server was restored from a backup */
	OUTBOUND_UNNOTED   /* nothing has been set up */
} OutboundState;

extern void outbound_note_identity(void); /* called by every set-up function */
extern OutboundState outbound_state(void);
extern bool outbound_is_original(void);
extern const char *outbound_reason(OutboundState state);
extern const char *outbound_remedy(OutboundState state);
extern void outbound_warn(OutboundState state);
extern bool outbound_paused(const char *what);
extern bool outbound_allowed(const char *what);
extern void outbound_init(void); /* in the postmaster */

/* ---- in journal.c: records set-up changes and who has made them ---- */
extern void journal_note(const char *what, const char *ref, const char *detail);
extern void journal_note_text(const char *what, text *ref, const char *detail);
/* Entries with different details are one row, with the last detail. */
extern void journal_count(const char *what, const char *ref, const char *detail);

/* ---- in slots.c: shared memory of the workers ---- */
extern void slots_init(void);
extern bool process_is_worker(void);
extern void worker_wake_at_commit(void);	/* when this transaction commits */
extern void worker_wake_from_session(void); /* unless this is the worker */
extern void worker_report_state(const char *state);

/* ---- in standstill.c: why the worker does nothing at present ---- */
typedef struct Standstill
{
	const char *reason;
	const char *hint;
	bool work_helps; /* CALL work() would do it */
} Standstill;

extern bool standstill_find(const char *what, Standstill *standstill);
extern void standstill_note(const char *what);

/* ---- in pass.c: the loop of the worker and of CALL work() ---- */
extern void loop_setup(const TransactionOwner *owner);
extern void loop_woken(void);
extern void loop_settings_changed(void);
extern bool loop_run_once(TimestampTz *next); /* false: nothing was due */
extern bool loop_has_pending(TimestampTz *until);
extern bool loop_is_idle(void);
extern void loop_drain(long milliseconds, void (*interrupts)(void));
extern void loop_release_all(void);

/* ---- in silence.c, prune.c: what falls due by the clock ---- */
extern void silence_check(void);
extern int64 prune_some(const Interval *before);

/* ---- in launcher.c, worker.c, leave.c ---- */
extern void launcher_init(void);
extern void database_ddl_init(void);

#endif /* STRIPE_SYNC_H */
