/*
 * mirror.h
 *		The mirror: its tables, the rows that an object holds, which snapshot of
 *		an object is the newest, how rows are written.
 */
#ifndef STRIPE_SYNC_MIRROR_H
#define STRIPE_SYNC_MIRROR_H

#include "stripe_sync.h"

#include "nodes/execnodes.h"

/* ---- in snapshot.c: the rows that an event's object holds ---- */
typedef enum RowPart
{
	PART_OWN,	/* the event's own object */
	PART_CHILD, /* listed by one of its pages */
	PART_SWEEP, /* no longer listed */
	PART_LATE,	/* listed or not by events since a late one */
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

extern List *snapshot_rows(const CatalogType *type, const char *id,
						   const char *account, JsonbContainer *object);
extern void snapshot_sort(List *rows);
extern int snapshot_compare(const SnapshotRow *a, const SnapshotRow *b);

/* ---- in child_key.c: what tells the children of one page apart ---- */
typedef struct PageChild
{
	const CatalogType *type;
	char *id;				/* the value of its row's key */
	JsonbContainer *object; /* as the page has it */
} PageChild;

/* A page whose elements are being taken, one after the other. */
typedef struct ChildKeys
{
	const char *parent_id; /* "": nobody knows */
	List *taken;		   /* of PageChild */
} ChildKeys;

extern const CatalogType *child_type(JsonbContainer *object);
extern bool child_take(ChildKeys *keys, JsonbContainer *element,
					   PageChild *child);
extern List *child_list(const char *parent_id, JsonbContainer *page);
extern bool child_is_listed(const char *parent_id, JsonbContainer *page,
							const char *type, const char *id);
extern JsonbContainer *child_content(const CatalogType *type,
									 JsonbContainer *line,
									 const char *parent_id);

/* ---- in column_value.c: a column's value, taken from an object ---- */
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
extern bool column_value_take(const DerivedColumn *derived, const char *name,
							  FieldKind kind, JsonbContainer *object,
							  Datum *value);
extern bool column_value_from_json(FieldKind kind, const JsonbValue *json,
								   Datum *value);
extern Oid column_value_type(FieldKind kind);

/* ---- in table_note.c: what create_tables() has noted of a table ---- */
typedef struct TableNote
{
	NotedPath *search_path; /* NULL: there is no note */
	Oid relid;				/* the table that had the name then */
	char *owner;			/* and who owned it, or NULL */
	bool lists_columns;		/* else all that are named like a field are ours */
	List *columns;			/* of char * */
	List *given_up;			/* were ours, until they got another type */
} TableNote;

extern bool table_note_read(const char *table, TableNote *note);
extern bool table_note_has(const TableNote *note, const char *column);
extern bool table_note_gave_up(const TableNote *note, const char *column);
extern void table_note_write(const CatalogType *type,
							 const NotedPath *search_path, List *columns,
							 List *given_up);
extern bool table_note_is(Oid relid);

/* ---- in table_cache.c: a mirror table as it stands in this database ---- */
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
	NotedPath *search_path;
	bool runs_code;		 /* of its owner's, when a row is written */
	bool plain;			 /* as we made it: may be written straight */
	bool can_be_scanned; /* by its key, without code of anybody's */
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

/* What a step does with a table: how strongly it is locked */
typedef enum TableUse
{
	TABLE_READ,
	TABLE_WRITE
} TableUse;

extern MirrorTable *table_cache_find(const CatalogType *type, TableUse use);
extern void table_cache_check(MirrorTable *table);
extern void table_cache_pin(MirrorTable *table);
extern void table_cache_unpin(MirrorTable *table);
extern void table_cache_init(void);

/* ---- in table_bind.c: a table's definition, and the values of its columns ---- */
extern MirrorTable *table_bind(const CatalogType *type, Oid relid);
extern Oid table_meta_type(MetaColumn column);
extern bool table_has_column(const MirrorTable *table, const char *name);
extern void table_values(MirrorTable *table, JsonbContainer *object,
						 Datum *values, bool *nulls);

/* ---- in table_relation.c: the relation that has a mirror table's name ---- */
extern Oid table_lookup(const CatalogType *type);
extern Oid table_lock(const CatalogType *type, LOCKMODE mode);
extern bool table_kind_fits(char relkind);
extern void table_report_kind(int level, const CatalogType *type, char relkind);
extern char *table_lacking(const CatalogType *type);

/* ---- in table_policy.c: row security of a mirror table ---- */
extern bool table_shows_all(const MirrorTable *table, Oid role);
extern bool table_has_forced_policy(const MirrorTable *table);
extern char *table_policy_hint(const CatalogType *type, Oid owner);

/* ---- in mirror_state.c: the state that a row has in its own columns ---- */
#define FILLED_BY_FETCHED "" /* embedded in another object that was fetched */

typedef struct MirrorState
{
	bool found;
	TimestampTz as_of;
	char *event_id; /* NULL: fetched from Stripe's API; or FILLED_BY_FETCHED */
	bool deleted;
	TimestampTz deleted_at;
} MirrorState;

/* Values of the mirror's own columns, as they are stored. */
typedef struct MetaValues
{
	Datum values[NMETA];
	bool nulls[NMETA];
} MetaValues;

#define NSTATE_COLUMNS 4

extern const MetaColumn mirror_state_columns[NSTATE_COLUMNS];

extern int mirror_row_key(const MirrorTable *table, const char *id,
						  const char *account, AttrNumber *attnums,
						  Datum *values);
extern void mirror_state_decode(const MetaValues *meta, MirrorState *state,
								Jsonb **data);
extern bool mirror_state_is_fetched_alive(const MirrorState *state);
extern bool mirror_state_is_fetched_gone(const MirrorState *state);

/* ---- in mirror_row.c: storage of one row: locked, read and written ---- */
typedef struct MirrorRow
{
	MirrorTable *table;
	RowTarget *target; /* NULL: written by SQL */
	const char *id;
	const char *account;
	MirrorState state; /* as locked */
	Jsonb *data;	   /* as locked, if it was asked for */
} MirrorRow;

/* Tables opened for one event. */
typedef struct OpenTables
{
	List *open; /* of OpenTable */
} OpenTables;

/* The new content of a row. */
typedef struct MirrorContent
{
	JsonbContainer *object;
	TimestampTz as_of;
	const char *event_id;
	bool deleted;
	TimestampTz deleted_at;
} MirrorContent;

extern void mirror_close_tables(OpenTables *tables);
extern MirrorRow *mirror_lock(OpenTables *tables, MirrorTable *table,
							  const char *id, const char *account,
							  bool with_data);
extern MirrorRow *mirror_missing(OpenTables *tables, MirrorTable *table,
								 const char *id, const char *account);
extern bool mirror_row_has_data(const MirrorRow *row, JsonbContainer *object);
extern bool mirror_write(MirrorRow *row, const MirrorContent *content);
extern void mirror_set_deleted(MirrorRow *row, bool deleted,
							   TimestampTz deleted_at);
extern bool mirror_peek(MirrorTable *table, const char *id, const char *account,
						MirrorState *state, Jsonb **data);
extern bool retry_race(int *tries);

/* ---- in mirror_direct.c: the same directly in a plain table ---- */
extern void mirror_direct_lock(MirrorRow *row, bool with_data);
extern bool mirror_direct_write(MirrorRow *row, const Datum *values,
								const bool *nulls);
extern void mirror_direct_set_deleted(MirrorRow *row, bool deleted,
									  TimestampTz deleted_at);
extern void mirror_direct_peek(MirrorTable *table, const char *id,
							   const char *account, MirrorState *state,
							   Jsonb **data);
extern bool mirror_hides(MirrorTable *table, const char *id,
						 const char *account);

/* ---- in mirror_sql.c: the same by SQL, where a table is not plain ---- */
extern void mirror_sql_read(MirrorTable *table, MirrorSql sql, const char *id,
							const char *account, MirrorState *state,
							Jsonb **data);
extern void mirror_sql_lock(MirrorRow *row, bool with_data);
extern bool mirror_sql_write(MirrorRow *row, const Datum *values,
							 const bool *nulls);
extern void mirror_sql_set_deleted(MirrorRow *row, bool deleted,
								   TimestampTz deleted_at);
extern List *mirror_sql_accounts(MirrorTable *table);
extern uint64 mirror_sql_move(MirrorTable *table, Datum from, Datum to,
							  const char *id);

/* ---- in life_cycle.c: how far an object is in its life ---- */
extern int life_cycle_rank(const CatalogType *type, JsonbContainer *object);

/* ---- in event_history.c: the stored events of one object ---- */
typedef struct Version
{
	char *event_id;
	char *event_account;
	char *event_type;
	TimestampTz created;
	Event *event; /* read from the inbox when it is needed */
} Version;		  /* event_id is NULL: fetched from the API, as of "created" */

typedef struct EventHistory
{
	const CatalogType *type;
	const char *id;
	const char *account;
	List *versions; /* of Version, by created, then id */
	List *fetched;	/* of Version: what the API has returned alive, and when */
} EventHistory;

extern EventHistory *event_history_read(const CatalogType *type, const char *id,
										const char *account);
extern void event_history_add_fetched(EventHistory *history, TimestampTz as_of,
									  JsonbContainer *object);
extern void event_history_add_row(EventHistory *history,
								  const MirrorState *state, const Jsonb *data);
extern TimestampTz event_history_alive_at(const EventHistory *history);
extern List *event_history_snapshots(const EventHistory *history);
extern Event *version_event(Version *version);
extern Version *event_history_find(const EventHistory *history,
								   const char *event_id);
extern bool event_history_is_own(const char *event_id, const char *account,
								 const CatalogType *type, const char *id,
								 bool *known);
extern bool event_history_has_other(const CatalogType *type, const char *id,
									const char *account, const char *event_id);
extern bool event_history_has_later(const CatalogType *type, const char *id,
									const char *account, TimestampTz than);

/* ---- in newest.c: which snapshot is the newest ---- */
typedef struct Verdict
{
	Version *newest;
	const char *rule; /* what decided, for people */
	bool ambiguous;	  /* nothing but a convention decided */
} Verdict;

extern Verdict newest_find(EventHistory *history);
extern List *newest_order_since(EventHistory *history, TimestampTz since);

/* ---- in fetched_note.c: fetched objects that the mirror has since replaced ---- */
extern bool fetched_note_is_kept(const CatalogType *type);
extern bool fetched_note_knows_more(const CatalogType *type,
									JsonbContainer *object,
									JsonbContainer *other);
extern void fetched_note_write(const CatalogType *type, const char *id,
							   const char *account, TimestampTz as_of,
							   JsonbContainer *object);
extern void fetched_note_replaced(MirrorRow *row, const MirrorContent *content);
extern EventHistory *fetched_note_read_history(const CatalogType *type,
											   const char *id,
											   const char *account);

/* ---- in left_out.c: children that their parent's pages no longer list ---- */
extern bool left_out_first(const EventHistory *history, List *versions,
						   const SnapshotRow *child, int after,
						   TimestampTz as_of, bool own, TimestampTz *when);
extern bool left_out_after(Event *listing, const SnapshotRow *child,
						   MirrorContent *content);
extern bool left_out_since(const CatalogType *type, const char *id,
						   const char *account, JsonbContainer *object,
						   TimestampTz created, TableUse use,
						   TimestampTz *left_out_at);

/* ---- in precedence.c: which of two known states a row takes ---- */
extern MirrorContent precedence_content(Event *event);
extern bool precedence_listed_by(const char *event_id, const char *account,
								 const CatalogType *type, const char *id);
extern bool precedence_state_is_newer(const MirrorState *state,
									  const EventHistory *history,
									  const Version *newest);
extern void precedence_find_tombstone(const MirrorState *state,
									  const EventHistory *history,
									  const char *account, TableUse use,
									  MirrorContent *content);

/* ---- in fetched_gone.c: the row of an object that a fetch did not find ---- */
extern MirrorContent
fetched_gone_content(const MirrorRow *row, const EventHistory *history,
					 Version *newest, JsonbContainer *shown,
					 TimestampTz gone_at, TimestampTz missed_at);
extern void fetched_gone_settle_missed(MirrorRow *row,
									   const EventHistory *history,
									   Version *newest, JsonbContainer *shown,
									   TimestampTz missed_at);
extern void fetched_gone_settle(MirrorRow *row, EventHistory *history,
								Version *newest);

/* ---- in fetched_row.c: a fetched object is applied to its row ---- */
typedef struct FetchedRow
{
	OpenTables *tables;
	const CatalogType *type;
	const char *id;
	const char *account; /* as given: account objects have none */
	MirrorContent content;
	bool gone;
	/* set by fetched_row_apply() */
	bool was_new;
	Jsonb *before;
	EventHistory *history; /* NULL: it was not needed */
	char *detail;		   /* why the object is not applied */
} FetchedRow;

extern bool fetched_row_apply(FetchedRow *fetched);
extern void fetched_row_apply_child(OpenTables *tables, SnapshotRow *child,
									const MirrorContent *content);

/* ---- in children_locks.c: locks on the name of a parent ---- */
extern void children_locks_take(List *events);

/* ---- in children.c: pages of children, and their parents ---- */
extern void children_list(OpenTables *tables, Event *event, SnapshotRow *child,
						  bool parent_is_new);
extern List *children_to_sweep(Event *event, List *rows, bool parent_is_new,
							   Jsonb *before);
extern void children_sweep(OpenTables *tables, Event *event, SnapshotRow *child);
extern const char *children_back(const CatalogPage *page,
								 const MirrorTable *table);
extern void children_write(OpenTables *tables, SnapshotRow *child,
						   const MirrorContent *content);
extern bool children_row_is_own(const MirrorRow *row, const CatalogType *type);
extern bool children_row_is_dead(const MirrorRow *row, const CatalogType *type);
extern List *children_by_back(const CatalogPage *page, const CatalogType *child,
							  const char *parent_id, const char *account,
							  List *found);
extern List *children_listed_before(EventHistory *history,
									const CatalogPage *page,
									const CatalogType *child,
									const char *account, TimestampTz since,
									List *found);

/* ---- in late_children.c: children of a parent whose event arrives late ---- */
typedef struct LateChildren LateChildren;

extern LateChildren *late_children_begin(OpenTables *tables,
										 EventHistory *history,
										 const char *account, TimestampTz since);
extern List *late_children_rows(LateChildren *late, List *rows);
extern void late_children_write(LateChildren *late, const SnapshotRow *key);

/* ---- in refetch_request.c: objects to be fetched from Stripe again ---- */
extern void refetch_request_add(const CatalogType *type, const char *id,
								const char *account, const char *reason,
								TimestampTz after, TimestampTz due);
extern void refetch_request_add_after(const CatalogType *type, const char *id,
									  const char *account, const char *reason,
									  TimestampTz created);
extern void refetch_request_retry(const CatalogType *type, const char *id,
								  const char *account, TimestampTz as_of,
								  const char *error);

/* An object that could not be fetched, or not be written. */
typedef struct RefetchFailure
{
	char *object_type;
	char *object_id;
	char *account;
	Jsonb *known; /* why, how often, and what to run */
} RefetchFailure;

extern List *refetch_request_failed(Datum types);

/* ---- in mirror.c: an event's snapshot is applied to the mirror ---- */
extern const char *mirror_apply(Event *event, char **detail);
extern bool mirror_enters_scope(Event *event);
extern void mirror_fill(OpenTables *tables, Event *event, SnapshotRow *fill);
extern void mirror_ask_for_rest(Event *event);

/* ---- in fetched.c: objects fetched from Stripe's API are applied ---- */
typedef struct FetchedObject
{
	const CatalogType *type;
	const char *id;
	const char *account;
	JsonbContainer *object; /* NULL: it does not exist, or no longer */
	TimestampTz as_of;		/* it contains all that happened until then */
	bool asks_rest; /* of embedded pages that are cut short, by refetch_request_add() */
	/* set by fetched_apply() */
	const char *status; /* "applied", "stale", "ignored", "failed" */
	char *detail;		/* why it isn't applied */
} FetchedObject;

extern void fetched_apply(FetchedObject *fetched);
extern void fetched_apply_page(List *objects);

/* ---- in mirror_columns.c: columns as the catalog has them, and as they are ---- */

/* Of CatalogField, but "lost" */
typedef struct ColumnSet
{
	List *ours;
	List *missing;
	List *conflicts; /* columns of the user's own, of a field's name */
	List *given_up;	 /* of those, the ones that were ours */
	List *returned;	 /* given up before, and as they were again */
	bool lost;		 /* one is given up now */
} ColumnSet;

extern List *columns_of_type(const CatalogType *type);
extern bool columns_look_ours(const CatalogType *type, Oid relid);
extern ColumnSet columns_compare(const CatalogType *type, Oid relid,
								 const TableNote *note);
extern void columns_report_conflicts(const CatalogType *type, List *conflicts);

/* ---- in fill_columns.c ---- */
extern void columns_fill(const CatalogType *type, List *columns);

/* ---- in mirror_schema.c ---- */
extern void mirror_schema_make(Oid role);
extern bool mirror_note_is_old(const TableNote *note, Oid relid);
extern void mirror_schema_check(const CatalogType *type, Oid relid,
								const TableNote *note);
extern void mirror_schema_check_create(Oid role);

/* ---- in grant.c ---- */
extern void mirror_grant_tables(void);

/* ---- in create_tables.c ---- */
extern void tables_create_if_none(void);
extern List *tables_wanted(ArrayType *names); /* NULL: all */

#endif /* STRIPE_SYNC_MIRROR_H */
