/*
 * stripe_sync.h
 *		What the rooms of the extension show each other, in the order of the
 *		flow: verify, store, apply (mirror), handle; then set-up and looking.
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
#include "fmgr.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/elog.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "compat.h"

/* SQLSTATEs of our own: see "Errors" in the documentation */
#define ERRCODE_SIGNATURE_UNREADABLE MAKE_SQLSTATE('S', 'Y', '0', '0', '1')
#define ERRCODE_SIGNATURE_MISFIT	 MAKE_SQLSTATE('S', 'Y', '0', '0', '2')
#define ERRCODE_SIGNATURE_TOO_OLD	 MAKE_SQLSTATE('S', 'Y', '0', '0', '3')
#define ERRCODE_NO_EVENT			 MAKE_SQLSTATE('S', 'Y', '0', '0', '4')
#define ERRCODE_NO_SUCH_NAME		 MAKE_SQLSTATE('S', 'Y', '0', '0', '5')
#define ERRCODE_WRONG_MODE			 MAKE_SQLSTATE('S', 'Y', '0', '0', '6')
#define ERRCODE_NO_SECRET			 MAKE_SQLSTATE('S', 'Y', '0', '0', '7')

#define ENGINE_SCHEMA "stripe_sync"
#define MIRROR_SCHEMA "stripe"

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
extern int guc_reconcile_interval; /* seconds, 0 is off */
extern char *guc_api_version;	   /* "" is the catalog's */
extern char *guc_stripe_api_base;
extern char *guc_slack_api_base;
extern char *guc_slack_hosts;
extern char *guc_ca_file; /* "" is the system's */
extern bool guc_outbound;
extern bool guc_allow_plain_http;

extern void guc_define(void);

/* ---- in role.c: whose rights, under which search_path ---- */
typedef struct ScopeState
{
	Oid user; /* whose code runs: a handler's role, a table's owner */
	const char *caller_path; /* search_path outside the engine's scope */
} ScopeState;

typedef struct RoleScope
{
	Oid user;
	int security;
	int nest; /* of settings, or -1 */
	ScopeState state;
} RoleScope;

extern RoleScope role_enter(Oid role, const char *search_path);
extern RoleScope role_enter_engine(void);
extern void role_leave(const RoleScope *scope);
extern const char *role_current_path(void);
extern ScopeState role_state(void);
extern void role_restore(ScopeState former);
extern void role_fire_deferred(void);
extern void role_fire_callers(void);
extern void role_init(void);

/* ---- in engine.c: the extension's own tables ---- */
typedef struct EngineStatement
{
	const char *sql;
	int nargs;
	Oid types[20];
	struct _SPI_plan *plan;
} EngineStatement;

extern Oid engine_relation(const char *name);
extern void engine_run(EngineStatement *statement, Datum *values,
					   const char *nulls, int expected);
extern Datum engine_value(void);
extern TimestampTz engine_first_time(EngineStatement *select);
extern int engine_plan_for_indexes(void);
extern int engine_plan_in_haste(void);
extern void engine_plan_as_before(int nest);
extern SysScanDesc engine_scan(const char *table, const char *index,
							   AttrNumber column, const char *value,
							   Relation *relation, Snapshot *snapshot);
extern void engine_scan_end(SysScanDesc scan, Relation relation,
							Snapshot snapshot);
extern void engine_init(void);
extern uint64 engine_generation(void);

/* ---- in row.c: one row of one table, written straight or by SQL ---- */
typedef struct RowTarget RowTarget;

extern RowTarget *row_open(Oid relid, Oid key_index);
extern bool row_insert(RowTarget *target, const Datum *values,
					   const bool *nulls);
extern bool row_lock(RowTarget *target, int nkeys, const AttrNumber *attnums,
					 const Datum *keys);
extern Datum row_get(RowTarget *target, AttrNumber attnum, bool *isnull);
extern void row_update(RowTarget *target, const Datum *values,
					   const bool *nulls);
extern void row_values(RowTarget *target, Datum *values, bool *nulls);
extern void row_close(RowTarget *target);

/* ---- in json.c: JSON from outside, made fit for jsonb ---- */
extern Jsonb *json_parse(const char *bytes, int length);
extern const char *json_skip(const char *p, const char *end);
extern bool json_too_deep(const char *bytes, int length, int limit);
extern bool json_get(JsonbContainer *object, const char *key, JsonbValue *value);
extern char *json_get_string(JsonbContainer *object, const char *key);
extern JsonbContainer *json_get_object(JsonbContainer *object, const char *key);
extern bool json_to_int64(const JsonbValue *value, int64 *result);
extern bool json_is_object(const JsonbValue *value);
extern bool json_same(JsonbContainer *a, JsonbContainer *b);
extern bool json_overlay_same(JsonbContainer *after, JsonbContainer *previous,
							  JsonbContainer *before);
extern bool json_describes(JsonbContainer *previous, JsonbContainer *before);
extern Jsonb *json_standalone(JsonbContainer *container);

/* ---- in verify.c: the judgement of a delivery, and how it is told ---- */
typedef enum Fault
{
	FAULT_NONE,
	FAULT_CLIENT,	 /* sqlstate says which: SY001 to SY004, SY006 */
	FAULT_TOO_LARGE, /* SY004 as well, but a 413 to a client */
	FAULT_OURS		 /* SY005, SY007 */
} Fault;

/* What is wrong, told without raising: webhook() answers, receive() raises. */
typedef struct Refusal
{
	Fault fault;
	int sqlstate;
	const char *message;
	const char *detail;
	const char *hint;
} Refusal;

typedef struct Endpoint
{
	char *name;
	bool has_livemode;
	bool livemode;
	int64 tolerance; /* seconds, or SIGNATURE_NO_TOLERANCE */
} Endpoint;

extern bool refuse(Refusal *refusal, Fault fault, int sqlstate,
				   const char *message, const char *detail, const char *hint);
compat_noreturn extern void refusal_raise(const Refusal *refusal);
extern bool endpoint_verify(const Endpoint *endpoint, const char *payload,
							int length, text *signature, Refusal *refusal);
extern char *endpoint_sign(const Endpoint *endpoint, const char *payload,
						   int length, int64 at);

/* ---- in endpoint.c: named sources of events ---- */
extern bool endpoint_find(const char *name, Endpoint *endpoint,
						  Refusal *refusal);
extern int64 endpoint_seconds(const Interval *interval);
extern const char *endpoint_keep(const char *id, bool livemode, text *secret);
extern void endpoint_check_interval(const Interval *interval, const char *what);

/* ---- in event.c: the envelope of an event ---- */
typedef struct Event
{
	char *id;
	char *account; /* "" for one's own */
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
	char *unmirrored;			/* why not, when it isn't */
	const char *payload;
	int length;
	Jsonb *document;		  /* the whole event, fit for jsonb */
	JsonbContainer *object;	  /* data.object, or NULL */
	JsonbContainer *previous; /* data.previous_attributes, or NULL */
} Event;

extern char *event_peek_id(const char *bytes, int length);
extern char *event_peek_account(const char *bytes, int length);
extern bool event_read(const char *bytes, int length, Event *event,
					   Refusal *refusal);
extern bool event_type_deletes(const char *type);
extern bool event_type_creates(const char *type);
extern bool event_type_fits(const char *type, const char *pattern);

/* ---- in inbox.c: verify, store once, apply, in one transaction ---- */
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

typedef struct Receipt
{
	char *event_id;
	const char *status;
	char *detail;
} Receipt;

/* What there is to know of a stored event without reading its payload. */
typedef struct StoredGist
{
	char *type;
	bool by_webhook;
	bool has_created;
	TimestampTz created;
} StoredGist;

typedef struct InboxLook InboxLook;
extern InboxLook *inbox_look(void);
extern bool inbox_knows(InboxLook *look, const char *id, const char *payload,
						int length, StoredGist *gist);
extern void inbox_look_end(InboxLook *look);
extern bool inbox_store_pending(const Event *event, const char *endpoint,
								const char *source);
extern bool inbox_receive(const char *payload, int length, text *signature,
						  const char *endpoint, const char *source,
						  Receipt *receipt, Refusal *refusal);
extern Datum inbox_receipt_datum(FunctionCallInfo fcinfo,
								 const Receipt *receipt);
extern bool inbox_load(const char *id, const char *account, Event *event);

/* ---- in step.c: the parts of applying an event ---- */
#define STEP_MIRROR "mirror"

/* What is still to run of an event, as the inbox keeps it. */
typedef struct Step
{
	char *name; /* STEP_MIRROR or a handler's name */
	int tries;	/* made so far; 0: it merely waits */
} Step;

typedef struct StepRun
{
	Event *event;
	const char *mirrored; /* the mirror's verdict, NULL before it */
	char *detail;
	List *todo;	 /* of Step: what is left */
	char *error; /* what failed in this run, or before it */
	int claimed; /* tries of the one step that work() has claimed */
} StepRun;

extern bool step_guard(void (*body)(void *), void *arg,
					   bool (*excuse)(const ErrorData *), ErrorData **error);
extern bool step_excuse_all(const ErrorData *error);
extern void step_run(StepRun *run, List *steps);
extern bool step_is_dead(const Step *step);
extern bool step_waits(const Step *step);
extern bool step_blocks(List *todo);
extern const char *step_status(const StepRun *run);
extern Step *step_make(const char *name, int tries);
extern void step_settle(const StepRun *run, const char *status, int attempts);
extern Datum step_names(List *steps);
extern Datum step_tries(List *steps);

/* ---- in snapshot.c: the rows that an event's object holds ---- */
typedef enum RowPart
{
	PART_OWN,	/* the event's own object */
	PART_CHILD, /* listed by one of its pages */
	PART_SWEEP, /* no longer listed */
	PART_FOLD,	/* listed or not by events since a late one */
	PART_FILL	/* embedded or expanded, or below a child */
} RowPart;

typedef struct SnapshotRow
{
	const CatalogType *type;
	char *id; /* the value of its key, "" where there is none */
	const char *account;
	RowPart part;
	JsonbContainer *object;
} SnapshotRow;

extern char *snapshot_key(const CatalogType *type, JsonbContainer *object);
extern const char *snapshot_account(const CatalogType *type,
									const char *account);
extern List *snapshot_rows(const CatalogType *type, const char *id,
						   const char *account, JsonbContainer *object);
extern void snapshot_sort(List *rows);
extern int snapshot_compare(const SnapshotRow *a, const SnapshotRow *b);
extern JsonbContainer *snapshot_page(JsonbContainer *object, const char *field,
									 bool *complete);
extern bool snapshot_page_lists(JsonbContainer *page, const char *child_type,
								const char *id);

/* ---- in life.c: how far an object is in its life ---- */
extern int life_step(const CatalogType *type, JsonbContainer *object);

/* ---- in history.c: the stored events of one object ---- */
typedef struct Version
{
	char *event_id;
	char *event_account;
	char *event_type;
	TimestampTz created;
	Event *event; /* read from the inbox when it is needed */
} Version;		  /* event_id is NULL: a reading of the API, as of "created" */

typedef struct History
{
	const CatalogType *type;
	const char *id;
	const char *account;
	List *versions; /* of Version, by created, then id */
	List *readings; /* of Version: what the API has shown alive, and when */
} History;

extern History *history_read(const CatalogType *type, const char *id,
							 const char *account);
extern void history_add_reading(History *history, TimestampTz as_of,
								JsonbContainer *object);
extern TimestampTz history_alive_at(const History *history);
extern List *history_snapshots(const History *history);
extern Event *history_event(Version *version);
extern Version *history_find(const History *history, const char *event_id);
extern bool history_event_is_own(const char *event_id, const char *account,
								 const CatalogType *type, const char *id,
								 bool *known);
extern bool history_has_other(const CatalogType *type, const char *id,
							  const char *account, const char *event_id);
extern bool history_has_later(const CatalogType *type, const char *id,
							  const char *account, TimestampTz than);

/* ---- in order.c: which snapshot is the newest ---- */
typedef struct Verdict
{
	Version *newest;
	const char *rule; /* what decided, for people */
	bool ambiguous;	  /* nothing but a convention decided */
} Verdict;

extern Verdict order_newest(History *history);
extern List *order_since(History *history, TimestampTz since);

/* ---- in value.c: a column's value, taken from an object ---- */
typedef struct DerivedColumn
{
	const char *table;
	const char *name;
	FieldKind kind;
	bool (*take)(JsonbContainer *object, JsonbValue *value);
} DerivedColumn;

extern const DerivedColumn derived_columns[];
extern const int nderived_columns;
extern const DerivedColumn *derived_find(const char *table, const char *name);
extern bool value_take(const DerivedColumn *derived, const char *name,
					   FieldKind kind, JsonbContainer *object, Datum *value);
extern bool value_from_json(FieldKind kind, const JsonbValue *json,
							Datum *value);
extern Oid value_type(FieldKind kind);

/* ---- in table.c: a mirror table as it stands in this database ---- */
typedef enum MetaColumn
{
	META_DATA,
	META_ACCOUNT,
	META_DELETED_AT,
	META_EVENT_ID,
	META_AS_OF,
	META_SYNCED_AT,
	META_KEY,
	NMETA
} MetaColumn;

typedef struct TableColumn
{
	AttrNumber attnum;
	FieldKind kind;
	const char *name;
	const DerivedColumn *derived; /* or NULL: the field of that name */
} TableColumn;

/* Statements on tables that aren't plain */
typedef enum MirrorSql
{
	SQL_INSERT,
	SQL_UPDATE,
	SQL_PEEK,
	SQL_LOCK,
	SQL_DELETE, /* put a tombstone on, or take it away */
	NSQL
} MirrorSql;

typedef struct MirrorTable
{
	Oid relid;
	bool valid;
	const CatalogType *type;
	Oid owner;
	char *search_path;
	bool fires; /* triggers may run, or checks be deferred, under its owner */
	bool plain; /* as we made it: may be written straight */
	Oid key_index;
	char data_compression; /* of _data, as the server notes it */
	int natts;
	int ncolumns;
	int nfields; /* columns[0 .. nfields - 1] are fields, the rest derived */
	TableColumn *columns;
	AttrNumber meta[NMETA]; /* META_KEY: the id; invalid for singletons */
	MemoryContext memory;
	int pins;
	struct _SPI_plan *plans[NSQL];
} MirrorTable;

extern MirrorTable *table_find(const CatalogType *type);
extern void table_values(MirrorTable *table, JsonbContainer *object,
						 Datum *values, bool *nulls);
extern void table_init(void);

extern char *table_noted_path(const char *name);
extern void table_pin(MirrorTable *table);
extern void table_unpin(MirrorTable *table);

/* ---- in mirror_row.c: one row of the mirror, locked, read and written ---- */
#define FILLED_BY_READING "" /* embedded in another object that was read */

typedef struct MirrorState
{
	bool found;
	TimestampTz as_of;
	char *event_id; /* NULL: read from Stripe's API; or FILLED_BY_READING */
	bool deleted;
	TimestampTz deleted_at;
} MirrorState;

typedef struct MirrorRow
{
	MirrorTable *table;
	RowTarget *target; /* NULL: written by SQL */
	const char *id;
	const char *account;
	MirrorState state; /* as locked */
	Jsonb *data;	   /* as locked, when it was asked for */
} MirrorRow;

/* Tables opened for one event. */
typedef struct MirrorPass
{
	List *tables; /* of OpenTable */
} MirrorPass;

/* What a row is to become. */
typedef struct MirrorContent
{
	JsonbContainer *object;
	TimestampTz as_of;
	const char *event_id;
	bool deleted;
	TimestampTz deleted_at;
} MirrorContent;

extern void mirror_pass_end(MirrorPass *pass);
extern MirrorRow *mirror_lock(MirrorPass *pass, MirrorTable *table,
							  const char *id, const char *account,
							  bool with_data);
extern MirrorRow *mirror_missing(MirrorPass *pass, MirrorTable *table,
								 const char *id, const char *account);
extern bool mirror_write(MirrorRow *row, const MirrorContent *content);
extern void mirror_set_deleted(MirrorRow *row, bool deleted,
							   TimestampTz deleted_at);
extern bool mirror_peek(MirrorTable *table, const char *id, const char *account,
						MirrorState *state, Jsonb **data);

/* ---- in mirror.c: an event's snapshot goes into the mirror ---- */
extern const char *mirror_apply(Event *event, char **detail);
extern bool mirror_listed_by(const char *event_id, const char *account,
							 const CatalogType *type, const char *id);
extern MirrorContent mirror_content(Event *event);
extern bool mirror_state_is_newer(const MirrorState *state,
								  const History *history, const Version *newest);
extern void mirror_find_tombstone(const MirrorState *state,
								  const History *history, const char *account,
								  MirrorContent *content);
extern void mirror_fill(MirrorPass *pass, Event *event, SnapshotRow *fill);
extern void mirror_ask_for_rest(Event *event);
extern char *mirror_lacks_table(const CatalogType *type);

/* ---- in reading.c: what was read from Stripe's API goes into the mirror ---- */
typedef struct Reading
{
	const CatalogType *type;
	const char *id;
	const char *account;
	JsonbContainer *object; /* NULL: there is none of that id (any more) */
	TimestampTz as_of;		/* all that happened until then is in it */
	bool asks_rest; /* of embedded pages that are cut short, by reread_ask() */
	/* what became of it */
	const char *status; /* "applied", "stale", "ignored", "failed" */
	char *detail;		/* why it isn't applied */
} Reading;

extern void mirror_read(Reading *reading);
extern const char *mirror_read_gone(const CatalogType *type, const char *id,
									const char *account, TimestampTz as_of);
extern void mirror_read_page(List *readings);

/* ---- in reading_row.c: one row and a reading of it ---- */
typedef struct RowReading
{
	MirrorPass *pass;
	const CatalogType *type;
	const char *id;
	const char *account; /* as given: a row of an account has none */
	MirrorContent content;
	bool gone;
	/* what was found */
	bool was_new;
	Jsonb *before;
	History *history; /* when the set was asked */
	char *detail;	  /* why it isn't applied */
} RowReading;

extern bool reading_is_alive(const MirrorState *state);
extern bool reading_is_gone(const MirrorState *state);
extern bool reading_same_data(const MirrorRow *row, JsonbContainer *object);
extern void reading_keep_stored(const MirrorRow *row, Datum *values,
								const bool *nulls);
extern bool reading_row(RowReading *reading);
extern void reading_child(MirrorPass *pass, SnapshotRow *child,
						  const MirrorContent *content);
extern void reading_settle_gone(MirrorRow *row, History *history,
								Version *newest);
extern bool reading_is_noted(const CatalogType *type);
extern void reading_note(const CatalogType *type, const char *id,
						 const char *account, TimestampTz as_of,
						 JsonbContainer *object);
extern void reading_replaced(MirrorRow *row, const MirrorContent *content);
extern void reading_recall(History *history);

/* ---- in children.c: pages of children, and their parents ---- */
extern void children_lock(List *events);
extern void children_list(MirrorPass *pass, Event *event, SnapshotRow *child,
						  bool parent_is_new);
extern List *children_to_sweep(Event *event, List *rows, bool parent_is_new,
							   Jsonb *before);
extern void children_sweep(MirrorPass *pass, Event *event, SnapshotRow *child);
extern const CatalogType *children_type(const CatalogPage *page);
extern bool children_page_sweeps(const CatalogPage *page);
extern const char *children_back(const CatalogPage *page,
								 const MirrorTable *table);
extern void children_write(MirrorPass *pass, SnapshotRow *child,
						   const MirrorContent *content);
extern bool children_row_is_own(const MirrorRow *row, const CatalogType *type);
extern bool children_row_is_dead(const MirrorRow *row, const CatalogType *type);
extern List *children_by_back(const CatalogPage *page, const CatalogType *child,
							  const char *parent_id, const char *account,
							  List *found);
extern List *children_listed_before(History *history, const CatalogPage *page,
									const CatalogType *child,
									const char *account, TimestampTz since,
									List *found);

/* ---- in fold.c: children of a parent whose event came late ---- */
typedef struct Fold Fold;

extern Fold *fold_begin(MirrorPass *pass, History *history, const char *account,
						TimestampTz since);
extern List *fold_rows(Fold *fold, List *rows);
extern void fold_child(Fold *fold, const SnapshotRow *child);
extern bool fold_swept(const CatalogType *type, const char *id,
					   const char *account, JsonbContainer *object,
					   TimestampTz created, TimestampTz *swept_at);

/* ---- in reread.c: objects that the mirror wants read again ---- */
extern void reread_ask(const CatalogType *type, const char *id,
					   const char *account, const char *reason,
					   TimestampTz after, TimestampTz due);
extern void reread_ask_after(const CatalogType *type, const char *id,
							 const char *account, const char *reason,
							 TimestampTz created);

/* ---- in handler.c: the user's functions ---- */
typedef struct Handler
{
	char *name;
	char *event_type;
	char *function; /* schema.name, quoted where needed */
	char *role;
	char *search_path;
	bool deferred;
} Handler;

extern List *handler_matching(const char *event_type);
extern Handler *handler_find(const char *name);
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
	List *todo; /* of Step */
	char *error;
	int claimed; /* as in StepRun */
} StoredEvent;

compat_noreturn extern void replay_missing(const char *id);
extern StoredEvent *replay_lock(const char *id, const char *account);
extern Receipt replay_run(StoredEvent *stored, List *steps, List *rest,
						  int attempts);

/* ---- in template.c: {{path | filter}} and what stands for it ---- */
extern void template_check(const char *text); /* raises 22023 */
extern char *template_render(const char *text, Event *event);
extern void template_check_blocks(Jsonb *blocks); /* raises 22023 */
extern Jsonb *template_render_blocks(Jsonb *blocks, Event *event);

/* ---- in money.c: minor units, as people write them ---- */
extern char *money_format(int64 amount, const char *currency);

/* ---- in blocks.c: Block Kit, within Slack's sizes ---- */
extern char *blocks_escape(const char *text);
extern char *blocks_cut(const char *mrkdwn, int characters);
extern Jsonb *blocks_fit(Jsonb *blocks); /* raises 22023: no array */

/* An alert's message: what happened, and a line of how it stands. */
typedef struct MessageParts
{
	const char *text;	  /* mrkdwn, escaped */
	Jsonb *blocks;		  /* the author's, instead of a section, or NULL */
	const char *severity; /* info, warning, critical; NULL: none */
	const char *status;	  /* mrkdwn of a context block below, or NULL */
	bool resolved;
	bool is_update; /* for chat.update, not for a message of its own */
} MessageParts;

extern Jsonb *blocks_message(const MessageParts *parts);
extern Jsonb *blocks_plain(const char *text, Jsonb *blocks);

/* ---- in destination.c: named places in Slack ---- */
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
extern void destination_switch_off(const char *name, const char *reason);

/* ---- in outbox.c: what is owed to Slack, stored with what owes it ---- */
typedef struct Outgoing
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
} Outgoing;

/* The message's id; 0 when one with its key, or such a change, waits already. */
extern int64 outbox_enqueue(const Outgoing *outgoing);

/* ---- in alert.c and incident.c: events to messages ---- */
#define STEP_ALERTS "alerts"

extern bool alert_wanted(const char *event_type);
extern bool alert_attempt(Event *event, bool wait, ErrorData **error);
extern void alert_system(const char *type, Jsonb *object);
extern void alert_system_within(const char *type, Jsonb *object);
/* An event that is failed or dead, told once to who asked for it. */
extern void alert_event_trouble(const StepRun *run, const char *status);
extern void incident_end_all(text *destination);
extern void incident_end_disabled(text *destination);
/* What an incident's own message is to say now; NULL: as it was queued. */
extern Jsonb *incident_render(int64 incident, int64 message, const char *method);

/* ---- in guard.c: may this database send? ---- */
typedef enum OutboundState
{
	OUTBOUND_ON,
	OUTBOUND_OFF,	   /* stripe_sync.outbound */
	OUTBOUND_COPY,	   /* the note is another database's */
	OUTBOUND_RESTORED, /* the server began from a backup */
	OUTBOUND_UNNOTED   /* nothing was ever set up */
} OutboundState;

extern void guard_note(void); /* every set-up call */
extern OutboundState guard_state(void);
extern const char *guard_reason(OutboundState state);
extern void guard_warn(OutboundState state);
extern bool guard_paused(const char *what);
extern bool guard_lets(const char *what);
extern void guard_init(void); /* in the postmaster */

/* ---- in slots.c: what the workers share in memory ---- */
extern void slots_init(void);
extern void slots_wake(void);		/* when this transaction commits */
extern void slots_wake_other(void); /* unless this is the worker */
extern void slots_report(const char *state);

/* ---- in pass.c: the worker's work, wherever it runs ---- */
typedef struct PassOwner
{
	void (*begin)(void);
	void (*commit)(void);
} PassOwner;

extern void pass_setup(const PassOwner *owner);
extern void pass_woken(void);			  /* something was committed */
extern void pass_reloaded(void);		  /* settings are others */
extern bool pass_turn(TimestampTz *next); /* false: nothing until next */
extern bool pass_awaits(TimestampTz *until);
extern bool pass_idle(void); /* nothing in flight */
extern void pass_land(long milliseconds, void (*interrupts)(void));
extern void pass_finish(void); /* let go of what is claimed */

/* ---- in silence.c, prune.c: what falls due by the clock ---- */
extern void silence_check(void);
extern int64 prune_some(const Interval *before);

/* ---- in launcher.c, worker.c, leave.c ---- */
extern void launcher_init(void);
extern void leave_init(void);

/* ---- in fill_columns.c ---- */
extern void columns_fill(const CatalogType *type, List *columns);

/* ---- in create_tables.c ---- */
extern void tables_create_if_none(void);
extern List *tables_wanted(ArrayType *names); /* NULL: all */

#endif /* STRIPE_SYNC_H */
