/*
 * destination_pace.c
 *		Rate limits: stripe_sync.destination_pace, a row for each destination.
 *
 * The row is also the lock of its destination.  Who claims messages, chooses the
 * next message of a thread, or changes the destination locks it first, before any
 * other row of the destination or its messages.  So pace and the order within a
 * thread hold with any number of senders.
 *
 * "next_at" is when the next message would be due if all had been sent at an even
 * pace of stripe_sync.slack_rate; it lags behind the clock by the burst that is
 * allowed.  "blocked_until" is Slack's Retry-After.
 *
 * All functions run in the caller's transaction and in the engine's scope.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "base/base.h"
#include "engine/statement.h"
#include "outbox/internal.h"

#define LONGEST_BLOCK                                                          \
	(25 * USECS_PER_HOUR) /* http.c limits Retry-After to a day */

/* ---- set-up of one destination ---- */

/* Make the row if it is missing. */
void
pace_make(text *destination)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.destination_pace (destination) VALUES ($1)"
		" ON CONFLICT (destination) DO NOTHING"};

	statement_exec(&insert, ARGS(arg_varlena(TEXTOID, destination)));
}

/* Lock the row, waiting for other sessions.  Nothing is locked if it is missing. */
void
pace_lock(text *destination)
{
	static EngineStatement lock = {
		"SELECT FROM stripe_sync.destination_pace WHERE destination = $1"
		" FOR UPDATE"};

	statement_exec(&lock, ARGS(arg_varlena(TEXTOID, destination)));
}

/*
 * Forget a Retry-After: the URL, token or channel has changed, or a user wants to
 * send now.
 */
void
pace_unblock(text *destination)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination_pace"
		" SET blocked_until = NULL, blocked_reason = NULL"
		" WHERE destination = $1 AND blocked_until IS NOT NULL"};

	statement_exec(&update, ARGS(arg_varlena(TEXTOID, destination)));
}

void
pace_delete(text *destination)
{
	static EngineStatement delete = {
		"DELETE FROM stripe_sync.destination_pace WHERE destination = $1"};

	statement_exec(&delete, ARGS(arg_varlena(TEXTOID, destination)));
}

/* ---- claims ---- */

/*
 * Lock the rows of these destinations, text[], made where they are missing.
 * Returns those that no other session has locked, or NULL if there are none.
 */
ArrayType *
pace_lock_available(StatementArg destinations)
{
	static EngineStatement make = {
		"INSERT INTO stripe_sync.destination_pace (destination)"
		" SELECT w.d FROM pg_catalog.unnest($1) w (d) WHERE NOT EXISTS"
		"   (SELECT FROM stripe_sync.destination_pace p WHERE p.destination = w.d)"
		" ON CONFLICT DO NOTHING"};
	static EngineStatement lock = {
		"SELECT pg_catalog.array_agg(l.destination) FROM"
		" (SELECT p.destination FROM stripe_sync.destination_pace p"
		"   WHERE p.destination = ANY ($1) FOR UPDATE SKIP LOCKED) l"};
	Rows rows;
	ArrayType *locked;

	statement_exec(&make, ARGS(destinations));
	rows_open(&rows, &lock, ARGS(destinations));
	(void) rows_next(&rows);
	locked = rows_varlena(&rows, TEXTARRAYOID);
	rows_close(&rows);
	return locked;
}

/*
 * Slack's Retry-After, or "now" if it has passed.  One that is further ahead than
 * any was noted before the clock was set back: it is ignored.
 */
TimestampTz
pace_blocked(TimestampTz blocked_until, TimestampTz now)
{
	return blocked_until > now + LONGEST_BLOCK ? now : Max(blocked_until, now);
}

/*
 * The number of messages that the rate allows now, at most "most".  If that is 0,
 * *next is when it allows one.
 *
 * A next_at that is further ahead than a burst was noted before the clock was set
 * back, or the rate was raised: it is ignored.
 */
int
pace_allows(TimestampTz next_at, TimestampTz now, int most, TimestampTz *next)
{
	double interval;
	double credit;

	if (guc_slack_rate <= 0)
		return most;
	interval = USECS_PER_SEC / guc_slack_rate;
	if (next_at <= now ||
		next_at >
			now + (TimestampTz) (guc_slack_burst * interval) + USECS_PER_SEC)
		return Min(guc_slack_burst, most);
	credit = guc_slack_burst - (next_at - now) / interval;
	*next = next_at - (TimestampTz) ((guc_slack_burst - 1) * interval);
	return credit >= 1 ? Min((int) credit, most) : 0;
}

/* Count claimed messages; "destinations", text[], has an element for each. */
void
pace_count(StatementArg destinations)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination_pace p"
		" SET next_at = c.n * $2 * interval '1 second'"
		"   + CASE WHEN p.next_at BETWEEN pg_catalog.clock_timestamp()"
		"     AND pg_catalog.clock_timestamp() + ($3 * $2 + 1) * interval '1 second'"
		"     THEN p.next_at ELSE pg_catalog.clock_timestamp() END"
		" FROM (SELECT w.d, pg_catalog.count(*) AS n"
		"   FROM pg_catalog.unnest($1) w (d) GROUP BY w.d) c"
		" WHERE p.destination = c.d"};

	if (guc_slack_rate > 0)
		statement_exec(&update,
					   ARGS(destinations, arg_float8(1.0 / guc_slack_rate),
							arg_int4(guc_slack_burst)));
}

/* ---- settlements ---- */

/* Lock the rows of these destinations, text[], in the order of their names. */
void
pace_lock_all(StatementArg destinations)
{
	static EngineStatement lock = {
		"SELECT FROM stripe_sync.destination_pace WHERE destination = ANY ($1)"
		" ORDER BY destination FOR UPDATE"};

	statement_exec(&lock, ARGS(destinations));
}

/* Slack asks to send nothing to this destination before "until". */
void
pace_block(const char *destination, const char *reason, TimestampTz until)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination_pace SET blocked_reason = $2,"
		" blocked_until = GREATEST(blocked_until, $3) WHERE destination = $1"};

	statement_exec(&update, ARGS(arg_text(destination), arg_text(reason),
								 arg_time(until)));
}
