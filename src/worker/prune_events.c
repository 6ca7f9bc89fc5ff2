/*
 * prune_events.c
 *		Deletes settled events, with their errors and handler runs.
 *
 * What events say of the types in stripe_sync.history_types is kept before
 * (history/prune_kept.c), in the same transaction.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "engine/array_argument.h"
#include "engine/statement.h"
#include "history/history.h"
#include "inbox/inbox.h"
#include "worker/internal.h"

#define OBJECTS 200 /* of kept types in one batch */

#define OF_OLD_EVENTS                                                          \
	" errors AS (DELETE FROM stripe_sync.event_error r USING old"              \
	"   WHERE r.event_id = old.id AND r.account = old.account),"               \
	" runs AS (DELETE FROM stripe_sync.handler_run r USING old"                \
	"   WHERE r.event_id = old.id AND r.account = old.account)"

/*
 * An applied event may still have a deferred handler to run (todo).  An event
 * that is not applied yet is compared with the stored events of its object, so
 * these are kept as long as it is.  ONLY, because a ctid is unique only within
 * one table.  If changes of the object, or of a child of it, were kept once, it
 * is noted that they are no longer complete.
 */
static const char *const event_batch =
	"WITH old AS (DELETE FROM ONLY stripe_sync.event WHERE ctid = ANY (ARRAY("
	"  SELECT e.ctid FROM ONLY stripe_sync.event e"
	"   WHERE e.received_at < $1"
	"     AND e.status = ANY ('{applied,stale,ignored}')"
	"     AND e.todo = '{}' AND e.next_attempt_at IS NULL"
	"     AND (e.object_type IS NULL OR e.object_type <> ALL ($3)"
	"       OR e.object_id IS NULL OR e.created IS NULL)"
	"     AND NOT EXISTS (SELECT FROM stripe_sync.event u"
	"       WHERE u.object_id = e.object_id"
	"         AND u.status = ANY ('{pending,failed,dead}'))"
	"   LIMIT $2 FOR UPDATE SKIP LOCKED))"
	"  RETURNING id, account, object_type, object_id, created),"
	" lost AS (INSERT INTO stripe_sync.change"
	"   (object_type, object_id, account, n, at, described, kind)"
	"  SELECT l.object_type, l.object_id, l.account, c.n + 1,"
	"    GREATEST(c.at, l.at), false, 'lost'"
	"   FROM (SELECT k.object_type, k.object_id, k.account,"
	"     pg_catalog.min(old.created) AS at FROM old CROSS JOIN LATERAL"
	"     (SELECT c.object_type, c.object_id, c.account FROM stripe_sync.change c"
	"       WHERE c.object_id = old.object_id AND c.object_type = old.object_type"
	"         AND c.account = old.account"
	"      UNION SELECT c.object_type, c.object_id, c.account"
	"       FROM stripe_sync.change c"
	"       WHERE c.parent = old.object_id AND c.account = old.account) k"
	"     WHERE old.created IS NOT NULL"
	"       AND (SELECT EXISTS (SELECT FROM stripe_sync.change))"
	"     GROUP BY k.object_type, k.object_id, k.account) l"
	"   CROSS JOIN LATERAL (SELECT c.n, c.at, c.kind FROM stripe_sync.change c"
	"     WHERE c.object_id = l.object_id AND c.object_type = l.object_type"
	"       AND c.account = l.account ORDER BY c.n DESC LIMIT 1) c"
	"   WHERE c.kind <> 'lost')," OF_OLD_EVENTS " SELECT 1 FROM old";

static const char *const reading_batch =
	"DELETE FROM stripe_sync.former_reading WHERE ctid = ANY (ARRAY("
	"  SELECT r.ctid FROM stripe_sync.former_reading r"
	"   WHERE r.as_of < $1 AND r.object_type <> ALL ($3)"
	"   LIMIT $2 FOR UPDATE SKIP LOCKED))";

/* Planned with the values, as delete_batch() of prune.c. */
static int64
delete_others(const char *sql, TimestampTz before, int64 most, Datum kept)
{
	return (int64) statement_exec_once(
		sql,
		ARGS(arg_time(before), arg_int8(most), arg_datum(TEXTARRAYOID, kept)));
}

/* EventDeleter */
static int64
delete_kept(const ArgColumns *events)
{
	static EngineStatement drop = {
		"WITH old AS (DELETE FROM ONLY stripe_sync.event e"
		"  USING unnest($1, $2) k (id, account)"
		"  WHERE e.id = k.id AND e.account = k.account"
		"  RETURNING e.id, e.account)," OF_OLD_EVENTS " SELECT 1 FROM old"};

	return (int64) statement_exec(&drop, COLUMN_ARGS(events));
}

/*
 * Delete at most "most" events that carry no kept types, and those of some objects
 * that do: of all if "most" is PG_INT64_MAX.
 */
int64
prune_events(TimestampTz before, int64 most)
{
	bool all = most == PG_INT64_MAX;

	(void) delete_others(reading_batch, before, most, history_kept());
	return history_prune(before, all ? most : OBJECTS, all, delete_kept) +
		   delete_others(event_batch, before, most, history_carriers());
}
