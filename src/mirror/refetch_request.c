/*
 * refetch_request.c
 *		Objects to be fetched from Stripe again: those whose order within a
 *		second is ambiguous, those with pages that are cut short, and fetched
 *		objects that could not be written.
 *
 * A row of stripe_sync.reread is kept until the object has been fetched and
 * written.  Its state is "waiting" until it is due, then "asked": a part of a
 * job fetches it (refetch.c) and records the result (unread.c).  A request
 * commits with the transaction that needs it; the worker is woken then.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/backoff.h"
#include "engine/statement.h"
#include "mirror/mirror.h"
#include "server/server.h"
#include "types/types.h"
#include "mirror/internal.h"

/* After this delay a response of Stripe includes the events of that second. */
#define SETTLED (3 * USECS_PER_SEC)

/*
 * Request an object; several requests for one object become one.  The response
 * must be as of "after" or later, by Stripe's clock.  The local clock may be
 * wrong by an hour, so it is used only for the time to wait.  A request that
 * was given up starts again.
 */
void
refetch_request_add(const CatalogType *type, const char *id, const char *account,
					const char *reason, TimestampTz after, TimestampTz due)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.reread AS r (object_type, object_id, account, reason, due_at, after)"
		" VALUES ($1, $2, $3, $4, $5, $6)"
		" ON CONFLICT (object_type, object_id, account) DO UPDATE"
		" SET reason = excluded.reason, due_at = excluded.due_at, after = excluded.after,"
		"  state = 'waiting',"
		"  tries = CASE WHEN r.state = 'dead' THEN 0 ELSE r.tries END"
		" WHERE r.after < excluded.after OR r.state <> 'waiting'"};

	statement_exec(&insert,
				   ARGS(arg_text(type->object), arg_text(id), arg_text(account),
						arg_text(reason), arg_time(due), arg_time(after)));
	worker_wake_at_commit();
}

/* The same for a state after the second of an event. */
void
refetch_request_add_after(const CatalogType *type, const char *id,
						  const char *account, const char *reason,
						  TimestampTz created)
{
	TimestampTz soon = GetCurrentTimestamp() + SETTLED + USECS_PER_SEC;

	refetch_request_add(type, id, account, reason, created + USECS_PER_SEC,
						Min(created + SETTLED, soon));
}

/*
 * Request an object again that was fetched as of a time and could not be
 * written.  A request that is being processed may have been sent before that
 * time.
 */
void
refetch_request_retry(const CatalogType *type, const char *id,
					  const char *account, TimestampTz as_of, const char *error)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.reread AS r"
		" (object_type, object_id, account, reason, due_at, after, tries, error)"
		" VALUES ($1, $2, $3, 'it could not be written', $4, $5, 1, $6)"
		" ON CONFLICT (object_type, object_id, account) DO UPDATE"
		" SET error = excluded.error,"
		"  after = GREATEST(r.after, excluded.after),"
		"  tries = CASE WHEN r.state = 'dead' THEN 1 ELSE r.tries END,"
		"  due_at = CASE WHEN r.state = 'waiting' THEN r.due_at ELSE excluded.due_at END,"
		"  state = 'waiting'"};
	TimestampTz due = GetCurrentTimestamp() +
					  backoff_delay(1, BACKOFF_FIRST, BACKOFF_MOST);

	statement_exec(&insert,
				   ARGS(arg_text(type->object), arg_text(id), arg_text(account),
						arg_time(due), arg_time(as_of), arg_text(error)));
	worker_wake_at_commit();
}

/*
 * Objects of these types that could not be fetched or written, of
 * RefetchFailure, in the caller's memory context.
 */
List *
refetch_request_failed(Datum types)
{
	static EngineStatement select = {
		"SELECT object_type, object_id, account, pg_catalog.jsonb_build_object("
		" 'wanted', reason, 'error', error, 'tries', tries,"
		" 'state', CASE WHEN state = 'dead' THEN 'given up' ELSE 'is tried again' END,"
		" 'run', pg_catalog.format('SELECT stripe_sync.refetch(%L, %L, %L)', object_type, object_id, account))"
		" FROM stripe_sync.reread"
		" WHERE error IS NOT NULL AND object_type = ANY ($1)"
		" ORDER BY object_type, object_id, account"};
	List *failed = NIL;
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_datum(TEXTARRAYOID, types)));
	while (rows_next(&rows))
	{
		RefetchFailure *failure = palloc(sizeof(RefetchFailure));

		failure->object_type = rows_text(&rows);
		failure->object_id = rows_text(&rows);
		failure->account = rows_text(&rows);
		failure->known = rows_jsonb(&rows);
		failed = lappend(failed, failure);
	}
	rows_close(&rows);
	return failed;
}
