/*
 * internal.h
 *		What the files that decide and write mirror rows show each other.
 */
#ifndef STRIPE_SYNC_MIRROR_INTERNAL_H
#define STRIPE_SYNC_MIRROR_INTERNAL_H

#include "base/base.h"
#include "engine/engine.h"
#include "inbox/event.h"
#include "mirror/mirror.h"
#include "tables/tables.h"
#include "types/types.h"

/* ---- in snapshot.c: lock order ---- */
extern void snapshot_sort(List *rows);
extern int snapshot_compare(const SnapshotRow *a, const SnapshotRow *b);

/* ---- in mirror_state.c: the state that a row has in its own columns ---- */
#define FILLED_BY_FETCHED "" /* embedded in another object that was fetched */

/* Values of the mirror's own columns, as they are stored */
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

/* ---- in mirror_row.c: one row is locked and written ---- */
typedef struct MirrorRow
{
	MirrorTable *table;
	RowTarget *target; /* NULL: written by SQL */
	const char *id;
	const char *account;
	MirrorState state; /* as locked */
	Jsonb *data;	   /* as locked, if it was asked for */
} MirrorRow;

/* Tables opened for one event */
typedef struct OpenTables
{
	List *open; /* of OpenTable */
} OpenTables;

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
extern bool retry_race(int *tries);

/* ---- in mirror_direct.c: the same without the executor, in a plain table ---- */
extern void mirror_direct_lock(MirrorRow *row, bool with_data);
extern bool mirror_direct_write(MirrorRow *row, const Datum *values,
								const bool *nulls);
extern void mirror_direct_set_deleted(MirrorRow *row, bool deleted,
									  TimestampTz deleted_at);
extern void mirror_direct_peek(MirrorTable *table, const char *id,
							   const char *account, MirrorState *state,
							   Jsonb **data);

/* ---- in mirror_sql.c: the same by SQL, where a table is not plain ---- */
extern void mirror_sql_read(MirrorTable *table, MirrorSql sql, const char *id,
							const char *account, MirrorState *state,
							Jsonb **data);
extern void mirror_sql_lock(MirrorRow *row, bool with_data);
extern bool mirror_sql_write(MirrorRow *row, const Datum *values,
							 const bool *nulls);
extern void mirror_sql_set_deleted(MirrorRow *row, bool deleted,
								   TimestampTz deleted_at);

/* ---- in life_cycle.c: how far an object is in its life ---- */
extern int life_cycle_rank(const CatalogType *type, JsonbContainer *object);

/* ---- in event_history.c: the stored events of one object ---- */
extern void event_history_add_fetched(EventHistory *history, TimestampTz as_of,
									  JsonbContainer *object);
extern List *event_history_snapshots(const EventHistory *history);
extern Version *event_history_find(const EventHistory *history,
								   const char *event_id);
extern bool event_history_is_own(const char *event_id, const char *account,
								 const CatalogType *type, const char *id,
								 bool *known);
extern bool event_history_has_other(const CatalogType *type, const char *id,
									const char *account, const char *event_id);
extern bool event_history_has_later(const CatalogType *type, const char *id,
									const char *account, TimestampTz than);

/* ---- in fetched_note.c: fetched objects that the mirror has since replaced ---- */
extern bool fetched_note_is_kept(const CatalogType *type);
extern bool fetched_note_knows_more(const CatalogType *type,
									JsonbContainer *object,
									JsonbContainer *other);
extern void fetched_note_write(const CatalogType *type, const char *id,
							   const char *account, TimestampTz as_of,
							   JsonbContainer *object);
extern void fetched_note_replaced(MirrorRow *row, const MirrorContent *content);

/* ---- in former_reading.c: what earlier fetches found ---- */
extern void former_reading_note(const CatalogType *type, const char *id,
								const char *account, TimestampTz as_of,
								JsonbContainer *object, bool again);

/* ---- in left_out.c: children that their parent's pages no longer list ---- */
extern bool left_out_first(const EventHistory *history, List *versions,
						   const SnapshotRow *child, int after,
						   TimestampTz as_of, bool own, TimestampTz *when);
extern bool left_out_since(const CatalogType *type, const char *id,
						   const char *account, JsonbContainer *object,
						   TimestampTz created, TableUse use,
						   TimestampTz *left_out_at);

/* ---- in precedence.c: which of two known states a row takes ---- */
extern bool precedence_listed_by(const char *event_id, const char *account,
								 const CatalogType *type, const char *id);

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
extern void refetch_request_add_after(const CatalogType *type, const char *id,
									  const char *account, const char *reason,
									  TimestampTz created);

/* ---- in apply_event.c: what fetched objects have in common with events ---- */
extern void mirror_fill(OpenTables *tables, Event *event, SnapshotRow *fill);
extern void mirror_ask_for_rest(Event *event);

#endif /* STRIPE_SYNC_MIRROR_INTERNAL_H */
