/*
 * event_store.c
 *		Rows of stripe_sync.event: insert, find, read.
 *
 * The table is written without SQL, which inbox_table.c allows only while
 * nothing would have to run for it.  The primary key makes a second delivery
 * wait for the first one: if that commits, the second is a duplicate; if it
 * rolls back, the second is inserted.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"

#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/error_codes.h"
#include "base/refusal.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "inbox/inbox.h"
#include "inbox/internal.h"

#define EVENT_KEY_ID 1 /* of event_pkey */

/* A row to be inserted; columns are NULL unless put() */
typedef struct Row
{
	Datum values[EVENT_NATTS];
	bool nulls[EVENT_NATTS];
} Row;

static void
put(Row *row, int column, Datum value)
{
	row->values[column - 1] = value;
	row->nulls[column - 1] = false;
}

static void
put_text(Row *row, int column, const char *text)
{
	if (text != NULL)
		put(row, column, CStringGetTextDatum(text));
}

static void
put_envelope(Row *row, const Event *event)
{
	put_text(row, EVENT_ID, event->id);
	put_text(row, EVENT_ACCOUNT, event->account);
	put_text(row, EVENT_TYPE, event->type);
	put_text(row, EVENT_API_VERSION, event->api_version);
	put_text(row, EVENT_OBJECT_TYPE, event->object_type);
	put_text(row, EVENT_OBJECT_ID, event->object_id);
	put_text(row, EVENT_REQUEST_ID, event->request_id);
	put_text(row, EVENT_IDEMPOTENCY_KEY, event->idempotency_key);
	if (event->has_livemode)
		put(row, EVENT_LIVEMODE, BoolGetDatum(event->livemode));
	if (event->has_created)
		put(row, EVENT_CREATED, TimestampTzGetDatum(event->created));
	put(row, EVENT_PAYLOAD,
		PointerGetDatum(cstring_to_text_with_len(event->payload, event->length)));
}

static void
put_outcome(Row *row, const EventOutcome *outcome)
{
	put_text(row, EVENT_STATUS, outcome->status);
	put_text(row, EVENT_MIRRORED, outcome->mirrored);
	put(row, EVENT_TODO, outcome->todo);
	if (outcome->tries != (Datum) 0)
		put(row, EVENT_TRIES, outcome->tries);
	if (outcome->due != 0)
		put(row, EVENT_NEXT_ATTEMPT_AT, TimestampTzGetDatum(outcome->due));
	if (outcome->applied != 0)
		put(row, EVENT_APPLIED_AT, TimestampTzGetDatum(outcome->applied));
	put(row, EVENT_ATTEMPTS, Int32GetDatum(outcome->attempts));
}

/*
 * Insert an event.  Returns false if it is stored already.  The caller has
 * locked the table with inbox_table_open(), and inbox_table_fits() is true.
 */
bool
event_store(const Event *event, const char *endpoint, const char *source,
			const EventOutcome *outcome)
{
	TimestampTz now = outcome->applied != 0 ? outcome->applied
											: GetCurrentTimestamp();
	Row row;
	RowTarget *target;
	bool inserted;

	memset(row.nulls, true, sizeof(row.nulls));
	put_envelope(&row, event);
	put_text(&row, EVENT_ENDPOINT, endpoint);
	put(&row, EVENT_RECEIVED_AT, TimestampTzGetDatum(now));
	put_text(&row, EVENT_SOURCE, source);
	put_outcome(&row, outcome);
	row.nulls[EVENT_OBJECT_ID - 1] |= outcome->unassigned;
	target = row_open(engine_relation("event"), engine_relation("event_pkey"),
					  EVENT_NATTS);
	inserted = row_insert(target, row.values, row.nulls);
	row_close(target);
	return inserted;
}

/* The table and its key, opened once for many lookups */
struct EventLookup
{
	Relation relation;
	Relation key;
	Snapshot snapshot;
	IndexScanDesc scan;
	TupleTableSlot *slot;
};

/* Begin to look events up, with the newest snapshot. */
EventLookup *
event_lookup_begin(void)
{
	EventLookup *lookup = palloc(sizeof(EventLookup));

	lookup->relation = inbox_table_open();
	lookup->key = index_open(engine_relation("event_pkey"), AccessShareLock);
	lookup->snapshot = RegisterSnapshot(GetLatestSnapshot());
	lookup->scan = compat_index_beginscan(lookup->relation, lookup->key,
										  lookup->snapshot, 1);
	lookup->slot = table_slot_create(lookup->relation, NULL);
	return lookup;
}

void
event_lookup_end(EventLookup *lookup)
{
	ExecDropSingleTupleTableSlot(lookup->slot);
	index_endscan(lookup->scan);
	UnregisterSnapshot(lookup->snapshot);
	index_close(lookup->key, AccessShareLock);
	table_close(lookup->relation, NoLock);
	pfree(lookup);
}

/* Fetch the next visible row with the id. */
static bool
next_row(EventLookup *lookup)
{
	while (index_getnext_tid(lookup->scan, ForwardScanDirection) != NULL)
		if (index_fetch_heap(lookup->scan, lookup->slot))
			return true;
	return false;
}

static char *
slot_text(TupleTableSlot *row, int column)
{
	bool isnull;
	Datum value = slot_getattr(row, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static void
read_summary(TupleTableSlot *row, StoredEventSummary *summary)
{
	char *status = slot_text(row, EVENT_STATUS);
	bool isnull;
	Datum created = slot_getattr(row, EVENT_CREATED, &isnull);

	summary->has_created = !isnull;
	summary->created = isnull ? 0 : DatumGetTimestampTz(created);
	summary->type = slot_text(row, EVENT_TYPE);
	summary->account = slot_text(row, EVENT_ACCOUNT);
	summary->by_webhook = strcmp(slot_text(row, EVENT_SOURCE), "webhook") == 0;
	summary->waits = strcmp(status, "pending") == 0 &&
					 slot_attisnull(row, EVENT_NEXT_ATTEMPT_AT);
	summary->held = strcmp(status, "ignored") == 0 &&
					slot_attisnull(row, EVENT_MIRRORED);
}

/*
 * Was the row stored by the same endpoint, under another account?  The
 * endpoint's account may have changed since.  Then the payloads name the same
 * account.
 */
static bool
is_same_delivery(TupleTableSlot *row, const WebhookDelivery *delivery,
				 const char *named)
{
	char *endpoint = slot_text(row, EVENT_ENDPOINT);
	char *payload;
	char *stored;

	if (delivery->endpoint == NULL || endpoint == NULL ||
		strcmp(endpoint, delivery->endpoint) != 0)
		return false;
	payload = slot_text(row, EVENT_PAYLOAD);
	stored = event_peek_account(payload, strlen(payload));
	return stored != NULL && strcmp(stored, named) == 0;
}

/*
 * Is the delivery stored already, for its account or by its endpoint?  Takes
 * one probe of the key and doesn't parse the payload.  "id" is the result of
 * event_peek_id(); if it is NULL, returns false.  Fills in *summary if found.
 */
bool
event_lookup_find(EventLookup *lookup, const char *id,
				  const WebhookDelivery *delivery, StoredEventSummary *summary)
{
	char *named = NULL; /* by the payload */
	const char *account = delivery->account;
	bool same = false;
	bool found = false;
	ScanKeyData key;

	if (id == NULL)
		return false;
	ScanKeyInit(&key, EVENT_KEY_ID, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(id));
	key.sk_collation = DEFAULT_COLLATION_OID;
	index_rescan(lookup->scan, &key, 1, NULL, 0);
	while (!same && next_row(lookup))
	{
		if (named == NULL && (named = event_peek_account(
								  delivery->payload, delivery->length)) == NULL)
			break;
		if (account == NULL)
			account = account_join(delivery->own, named);
		same = strcmp(slot_text(lookup->slot, EVENT_ACCOUNT), account) == 0;
		if (same || (!found && is_same_delivery(lookup->slot, delivery, named)))
		{
			read_summary(lookup->slot, summary);
			found = true;
		}
	}
	ExecClearTuple(lookup->slot);
	return found;
}

/*
 * Read a stored event.  If several accounts have an event of that id, that of
 * "account" (NULL: '') is preferred.  Returns false if there is none.  Locks no
 * row.  Raises SY004 if the stored payload was damaged.
 */
bool
event_load(const char *id, const char *account, Event *event)
{
	static EngineStatement select = {
		"SELECT payload::text, account FROM stripe_sync.event WHERE id = $1"
		" ORDER BY account = COALESCE($2, '') DESC, account LIMIT 1"};
	Rows rows;
	text *payload = NULL;
	char *stored = NULL;
	Refusal refusal;

	rows_open(&rows, &select, ARGS(arg_text(id), arg_text(account)));
	if (rows_next(&rows))
	{
		payload = rows_varlena(&rows, TEXTOID);
		stored = rows_text(&rows);
	}
	rows_close(&rows);
	if (payload == NULL)
		return false;
	if (!event_read(VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload), event,
					&refusal))
		refusal_raise(&refusal);
	/* includes the endpoint's account, which the payload doesn't name */
	event->account = stored;
	return true;
}

/* Raises SY005. */
void
event_missing(const char *id)
{
	ereport(ERROR, (errcode(ERRCODE_NO_SUCH_NAME),
					errmsg("there is no event \"%s\"", id)));
}

/* ---- the BRIN index ---- */

#define RANGE_PAGES	   128		   /* BRIN's pages_per_range */
#define SUMMARIZE_TIME (10 * 1000) /* microseconds: the rest is for later */

/*
 * Summarize the ranges of event_received_idx that have become full: a search by
 * idempotency key reads all pages of the others.  The last range is left out,
 * because every insert would have to change its summary.
 *
 * The lock that this needs is the one that VACUUM and CREATE INDEX CONCURRENTLY
 * hold.  It is not waited for: a session that waits for it cancels an
 * autovacuum.
 */
void
event_summarize(void)
{
	static EngineStatement summarize = {
		"SELECT pg_catalog.brin_summarize_range($1, $2)::bigint"};
	static EngineStatement count = {
		"SELECT pg_catalog.pg_relation_size($1::regclass)"
		" / pg_catalog.current_setting('block_size')::bigint"};
	RoleScope scope = role_enter_engine();
	Oid table = engine_relation("event");
	Oid index = engine_relation("event_received_idx");
	TimestampTz until = GetCurrentTimestamp() + SUMMARIZE_TIME;
	int64 range;

	if (ConditionalLockRelationOid(table, ShareUpdateExclusiveLock))
	{
		range = statement_int8(0, &count, ARGS(arg_oid(table))) / RANGE_PAGES;
		while (--range >= 0 && GetCurrentTimestamp() < until &&
			   statement_int8(
				   0, &summarize,
				   ARGS(arg_oid(index), arg_int8(range * RANGE_PAGES))) > 0)
			;
	}
	role_leave(&scope);
}
