/*
 * mirror.h
 *		The rows of the mirror: applying events and fetched objects, reading a
 *		row, and which snapshot of an object is the newest.
 */
#ifndef STRIPE_SYNC_MIRROR_H
#define STRIPE_SYNC_MIRROR_H

#include "inbox/event.h"
#include "mirror/versions.h"
#include "tables/tables.h"

/* ---- in apply_event.c: an event's snapshot is applied to the mirror ---- */
extern const char *mirror_apply(Event *event, char **detail);
extern bool mirror_enters_scope(Event *event);

/* ---- in fetched.c: objects fetched from Stripe's API are applied ---- */
typedef struct FetchedObject
{
	const CatalogType *type;
	const char *id;
	const char *account;
	JsonbContainer *object; /* NULL: it does not exist, or no longer */
	TimestampTz as_of;		/* it contains all that happened until then */
	bool asks_rest; /* of embedded pages that are cut short, by refetch_request_add() */
	const char *status; /* "applied", "stale", "ignored", "failed" */
	char *detail;		/* why it is not applied */
} FetchedObject;

extern void fetched_apply(FetchedObject *fetched);
extern void fetched_apply_page(List *objects);

/* ---- in refetch_request.c: objects to be fetched from Stripe again ---- */
extern void refetch_request_add(const CatalogType *type, const char *id,
								const char *account, const char *reason,
								TimestampTz after, TimestampTz due);
extern void refetch_request_retry(const CatalogType *type, const char *id,
								  const char *account, TimestampTz as_of,
								  const char *error);

/* An object that could not be fetched or written */
typedef struct RefetchFailure
{
	char *object_type;
	char *object_id;
	char *account;
	Jsonb *known; /* the reason, the error, the number of tries, what to run */
} RefetchFailure;

extern List *refetch_request_failed(Datum types);

/* ---- in mirror_state.c, mirror_row.c, _direct.c, _sql.c: one row ---- */
typedef struct MirrorState
{
	bool found;
	TimestampTz as_of;
	char *event_id; /* NULL: fetched from Stripe's API; or FILLED_BY_FETCHED */
	bool deleted;
	TimestampTz deleted_at;
} MirrorState;

/* The new content of a row */
typedef struct MirrorContent
{
	JsonbContainer *object;
	TimestampTz as_of;
	const char *event_id;
	bool deleted;
	TimestampTz deleted_at;
} MirrorContent;

extern MirrorState mirror_state_of(const MirrorTable *table,
								   const Datum *values, const bool *nulls);
extern bool mirror_peek(MirrorTable *table, const char *id, const char *account,
						MirrorState *state, Jsonb **data);
extern bool mirror_hides(MirrorTable *table, const char *id,
						 const char *account);
extern List *mirror_sql_accounts(MirrorTable *table);
extern uint64 mirror_sql_move(MirrorTable *table, Datum from, Datum to,
							  const char *id);

/* ---- in snapshot.c: the rows of a snapshot, in lock order ---- */
typedef enum RowPart
{
	PART_OWN,	/* the object itself */
	PART_CHILD, /* listed by one of its pages */
	PART_SWEEP, /* no longer listed */
	PART_LATE,	/* listed or not by the versions since one that comes late */
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

/* ---- in event_history.c, precedence.c, left_out.c: what a row must hold ---- */
extern void event_history_add_row(EventHistory *history,
								  const MirrorState *state, const Jsonb *data);
extern MirrorContent precedence_content(Event *event);
extern bool precedence_state_is_newer(const MirrorState *state,
									  const EventHistory *history,
									  const Version *newest);
extern void precedence_find_tombstone(const MirrorState *state,
									  const EventHistory *history,
									  const char *account, TableUse use,
									  MirrorContent *content);
extern bool left_out_after(Event *listing, const SnapshotRow *child,
						   MirrorContent *content);

#endif /* STRIPE_SYNC_MIRROR_H */
