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

/* $4 and $5 are those of history_forgotten_types(). */
#define FORGOTTEN                                                                \
	" forgotten AS (INSERT INTO stripe_sync.forgotten AS f (object_type, until)" \
	"  SELECT t.type, pg_catalog.max(old.created) FROM old"                      \
	"   JOIN unnest($4, $5) t (carrier, type) ON t.carrier = old.object_type"    \
	"   WHERE old.created IS NOT NULL GROUP BY t.type"                           \
	"  ON CONFLICT (object_type) DO UPDATE SET until = EXCLUDED.until"           \
	"   WHERE f.until < EXCLUDED.until)"

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
	"   WHERE c.kind <> 'lost')," FORGOTTEN "," OF_OLD_EVENTS
	" SELECT 1 FROM old";

static const char *const reading_batch =
	"WITH old AS (DELETE FROM stripe_sync.former_reading WHERE ctid = ANY (ARRAY("
	"  SELECT r.ctid FROM stripe_sync.former_reading r"
	"   WHERE r.as_of < $1 AND r.object_type <> ALL ($3)"
	"   LIMIT $2 FOR UPDATE SKIP LOCKED))"
	"  RETURNING object_type, as_of AS created)," FORGOTTEN " SELECT 1 FROM old";

/* Planned with the values, as delete_batch() of prune.c. */
static int64
delete_others(const char *sql, TimestampTz before, int64 most, Datum kept)
{
	Datum carriers;
	Datum types;

	history_forgotten_types(&carriers, &types);
	return (int64) statement_exec_once(
		sql,
		ARGS(arg_time(before), arg_int8(most), arg_datum(TEXTARRAYOID, kept),
			 arg_datum(TEXTARRAYOID, carriers), arg_datum(TEXTARRAYOID, types)));
}

/* EventDeleter */
static int64
delete_kept(const ArgColumns *events)
{
	static EngineStatement drop = {
		"WITH old AS (DELETE FROM ONLY stripe_sync.event e"
		"  USING unnest($1, $2) k (id, account)"
		"  WHERE e.id = k.id AND e.account = k.account"
		"  RETURNING e.id, e.account, e.object_type, e.created)," FORGOTTEN
		"," OF_OLD_EVENTS " SELECT 1 FROM old WHERE $3"};
	const StatementArg *columns = columns_args(events);
	Datum carriers;
	Datum types;

	history_forgotten_types(&carriers, &types);
	return (int64) statement_exec(&drop,
								  ARGS(columns[0], columns[1], arg_bool(true),
									   arg_datum(TEXTARRAYOID, carriers),
									   arg_datum(TEXTARRAYOID, types)));
}

/*
 * Delete at most "most" events that carry no kept types, and those of some objects
 * that do: of all if "most" is PG_INT64_MAX.  None if another session prunes, but
 * for all, which waits for it.
 */
int64
prune_events(TimestampTz before, int64 most)
{
	bool all = most == PG_INT64_MAX;

	if (!history_prune_begin(all))
		return 0;
	(void) delete_others(reading_batch, before, most, history_kept());
	return history_prune(before, all ? most : OBJECTS, delete_kept) +
		   delete_others(event_batch, before, most, history_carriers());
}
