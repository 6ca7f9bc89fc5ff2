/*
 * event_history.c
 *		The stored events of one object, read from the inbox.
 *
 * The set of these events decides which snapshot is the newest, not their order
 * of arrival.  Only their names and times are read at first; a payload is read
 * when it is needed.  Fetched versions of the object that are known are added
 * by the callers (fetched_note.c).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_collation.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "mirror/mirror.h"
#include "types/object.h"
#include "types/types.h"
#include "mirror/internal.h"

#define HISTORY_COLUMNS                                                        \
	"SELECT id, account, type, created FROM stripe_sync.event"                 \
	" WHERE object_id = $1 AND object_type = $2 AND created IS NOT NULL"

#define HISTORY_ORDER " ORDER BY created, id COLLATE \"C\""

/*
 * Add a fetched version: the object as of a time, when it existed.  Of one that
 * the mirror has since replaced only the time and the complete pages are known.
 */
void
event_history_add_fetched(EventHistory *history, TimestampTz as_of,
						  JsonbContainer *object)
{
	Version *version = palloc0(sizeof(Version));

	version->event_type = "";
	version->created = as_of;
	version->event = palloc0(sizeof(Event));
	version->event->type = "";
	version->event->created = as_of;
	version->event->object = object;
	history->fetched = lappend(history->fetched, version);
}

/* The same for the fetched object that the object's row may hold. */
void
event_history_add_row(EventHistory *history, const MirrorState *state,
					  const Jsonb *data)
{
	if (state->found && mirror_state_is_fetched_alive(state))
		event_history_add_fetched(
			history, state->as_of,
			data != NULL ? unconstify(JsonbContainer *, &data->root) : NULL);
}

/* When was the object last fetched alive?  DT_NOBEGIN if it never was. */
TimestampTz
event_history_alive_at(const EventHistory *history)
{
	TimestampTz latest = DT_NOBEGIN;
	ListCell *cell;

	foreach(cell, history->fetched)
		latest = Max(latest, ((Version *) lfirst(cell))->created);
	return latest;
}

static int
compare_created(const ListCell *a, const ListCell *b)
{
	const Version *left = lfirst(a);
	const Version *right = lfirst(b);

	if (left->created != right->created)
		return left->created < right->created ? -1 : 1;
	return (left->event_id == NULL) - (right->event_id == NULL);
}

/* Events and fetched versions, by time. */
List *
event_history_snapshots(const EventHistory *history)
{
	List *all = list_concat_copy(history->versions, history->fetched);

	if (history->fetched != NIL)
		list_sort(all, compare_created);
	return all;
}

static Version *
read_version(Rows *row)
{
	Version *version = palloc0(sizeof(Version));

	version->event_id = rows_text(row);
	version->event_account = rows_text(row);
	version->event_type = rows_text(row);
	version->created = rows_time(row, 0);
	return version;
}

/*
 * Every stored event whose own object is this one.  The statement's snapshot is
 * taken now, after the caller has locked the row: a transaction that stored an
 * event and has not committed will find the row as this one leaves it.
 */
EventHistory *
event_history_read(const CatalogType *type, const char *id, const char *account)
{
	static EngineStatement of_account = {HISTORY_COLUMNS
										 " AND account = $3" HISTORY_ORDER};
	static EngineStatement of_any = {HISTORY_COLUMNS HISTORY_ORDER};
	/* an account's events are delivered for itself and for its platform */
	bool any = strcmp(type->object, "account") == 0;
	EventHistory *history = palloc0(sizeof(EventHistory));
	Rows rows;

	history->type = type;
	history->id = id;
	history->account = account;
	if (any)
		rows_open(&rows, &of_any, ARGS(arg_text(id), arg_text(type->object)));
	else
		rows_open(&rows, &of_account,
				  ARGS(arg_text(id), arg_text(type->object), arg_text(account)));
	while (rows_next(&rows))
	{
		Version *version = read_version(&rows);

		if (!any ||
			strcmp(object_account(type, version->event_account), account) == 0)
			history->versions = lappend(history->versions, version);
	}
	rows_close(&rows);
	return history;
}

/*
 * The event of a version; its payload is read from the inbox when it is first
 * needed.
 */
Event *
version_event(Version *version)
{
	if (version->event == NULL)
	{
		version->event = palloc(sizeof(Event));
		if (!event_load(version->event_id, version->event_account,
						version->event))
			elog(ERROR, "event \"%s\" is no longer in the inbox",
				 version->event_id);
	}
	return version->event;
}

/* The version of this event, or NULL. */
Version *
event_history_find(const EventHistory *history, const char *event_id)
{
	ListCell *cell;

	foreach(cell, history->versions)
		if (strcmp(((Version *) lfirst(cell))->event_id, event_id) == 0)
			return lfirst(cell);
	return NULL;
}

/*
 * Is this stored event one of the object's own?  An event id may be stored for
 * two accounts: the row's account is preferred.  *known says whether the inbox
 * still has the event.
 */
bool
event_history_is_own(const char *event_id, const char *account,
					 const CatalogType *type, const char *id, bool *known)
{
	static EngineStatement select = {"SELECT object_type = $2 AND object_id = $3"
									 "  FROM stripe_sync.event WHERE id = $1"
									 " ORDER BY account = $4 DESC LIMIT 1"};
	Rows rows;
	bool own;

	rows_open(&rows, &select,
			  ARGS(arg_text(event_id), arg_text(type->object), arg_text(id),
				   arg_text(account)));
	*known = rows_next(&rows);
	own = *known && rows_bool(&rows, false);
	rows_close(&rows);
	return own;
}

/*
 * Is this row of the inbox an event of the object, other than "event_id"?  The
 * index has only the object's id, which objects of other types may share.
 */
static bool
is_another(HeapTuple tuple, TupleDesc desc, const CatalogType *type,
		   const char *account, const char *event_id)
{
	bool isnull;
	Datum object_type = heap_getattr(tuple, EVENT_OBJECT_TYPE, desc, &isnull);

	return !isnull &&
		   strcmp(TextDatumGetCString(object_type), type->object) == 0 &&
		   strcmp(object_account(type, TextDatumGetCString(heap_getattr(
										   tuple, EVENT_ACCOUNT, desc, &isnull))),
				  account) == 0 &&
		   strcmp(
			   TextDatumGetCString(heap_getattr(tuple, EVENT_ID, desc, &isnull)),
			   event_id) != 0;
}

/*
 * Is an event of the object stored that is later than this time?  One index
 * probe.
 */
bool
event_history_has_later(const CatalogType *type, const char *id,
						const char *account, TimestampTz than)
{
	Relation relation = table_open(engine_relation("event"), AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;
	bool found = false;

	ScanKeyInit(&keys[0], EVENT_OBJECT_ID, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(id));
	keys[0].sk_collation = DEFAULT_COLLATION_OID;
	ScanKeyInit(&keys[1], EVENT_CREATED, BTGreaterStrategyNumber,
				F_TIMESTAMPTZ_GT, TimestampTzGetDatum(than));
	scan = systable_beginscan(relation, engine_relation("event_object_idx"),
							  true, snapshot, 2, keys);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
		found = is_another(tuple, RelationGetDescr(relation), type, account, "");
	engine_scan_end(scan, relation, snapshot);
	return found;
}

/* Is another event of the object stored? One index probe. */
bool
event_history_has_other(const CatalogType *type, const char *id,
						const char *account, const char *event_id)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan("event", "event_object_idx", EVENT_OBJECT_ID,
								   id, &relation, &snapshot);
	HeapTuple tuple;
	bool found = false;

	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
		found = is_another(tuple, RelationGetDescr(relation), type, account,
						   event_id);
	engine_scan_end(scan, relation, snapshot);
	return found;
}
