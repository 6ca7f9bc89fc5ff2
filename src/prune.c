/*
 * prune.c
 *		What is settled and old goes.
 *
 * Never what waits, has failed or is dead, and nothing younger than 35 days:
 * Stripe lists events for 30, and one that was forgotten would come back as
 * missing.  The mirror stays; its rows may then name events that are gone.
 *
 * The order is: messages, then incidents that no message names, then events
 * with what failed and ran of them, then the notes of which alert has seen which
 * event.  Those notes stay as long
 * as the event could be replayed, or the incident counts them.  Jobs that are
 * over go with their parts; requests to Stripe after two weeks.  What was counted
 * of refused deliveries goes when the last of them is that old.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#define BATCH		 1000
#define LEAST_AGE	 (35 * (int64) SECS_PER_DAY)
#define GREATEST_AGE (1000 * 366 * (int64) SECS_PER_DAY)
#define PULSE_DAYS	 14
#define CALL_DAYS	 14

static const char *const message_batch =
	"WITH old AS (DELETE FROM stripe_sync.message WHERE id OPERATOR(pg_catalog.=) ANY (ARRAY("
	"  SELECT m.id FROM stripe_sync.message m"
	"   WHERE m.settled_at OPERATOR(pg_catalog.<) $1"
	"     AND m.state OPERATOR(pg_catalog.=) ANY ('{sent,dead,cancelled}')"
	"     AND NOT EXISTS (SELECT FROM stripe_sync.incident_record i"
	"       WHERE i.id OPERATOR(pg_catalog.=) m.incident AND i.state OPERATOR(pg_catalog.=) 'open')"
	"   ORDER BY m.settled_at LIMIT $2 FOR UPDATE SKIP LOCKED))"
	" RETURNING id), gone AS (DELETE FROM stripe_sync.delivery d USING old"
	"   WHERE d.message_id OPERATOR(pg_catalog.=) old.id)"
	" SELECT 1 FROM old";

static const char *const incident_batch =
	"DELETE FROM stripe_sync.incident_record WHERE id OPERATOR(pg_catalog.=) ANY (ARRAY("
	"  SELECT i.id FROM stripe_sync.incident_record i"
	"   WHERE i.closed_at OPERATOR(pg_catalog.<) $1 AND i.state OPERATOR(pg_catalog.<>) 'open'"
	"     AND NOT EXISTS (SELECT FROM stripe_sync.message m"
	"       WHERE m.incident OPERATOR(pg_catalog.=) i.id)"
	"   LIMIT $2 FOR UPDATE SKIP LOCKED))";

/*
 * A deferred handler may wait on an event that is applied otherwise.  And what
 * is decided when an unsettled event is run at last is decided from the events
 * of its object: they stay as long as it does.  A ctid is one row of one table:
 * hence ONLY.
 */
static const char *const event_batch =
	"WITH old AS (DELETE FROM ONLY stripe_sync.event WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY("
	"  SELECT e.ctid FROM ONLY stripe_sync.event e"
	"   WHERE e.received_at OPERATOR(pg_catalog.<) $1"
	"     AND e.status OPERATOR(pg_catalog.=) ANY ('{applied,stale,ignored}')"
	"     AND e.todo OPERATOR(pg_catalog.=) '{}' AND e.next_attempt_at IS NULL"
	"     AND NOT EXISTS (SELECT FROM stripe_sync.event u"
	"       WHERE u.object_id OPERATOR(pg_catalog.=) e.object_id"
	"         AND u.status OPERATOR(pg_catalog.=) ANY ('{pending,failed,dead}'))"
	"   LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING id, account),"
	" errors AS (DELETE FROM stripe_sync.event_error r USING old"
	"   WHERE r.event_id OPERATOR(pg_catalog.=) old.id AND r.account OPERATOR(pg_catalog.=) old.account),"
	" runs AS (DELETE FROM stripe_sync.handler_run r USING old"
	"   WHERE r.event_id OPERATOR(pg_catalog.=) old.id AND r.account OPERATOR(pg_catalog.=) old.account)"
	" SELECT 1 FROM old";

static const char *const journal_batch =
	"DELETE FROM stripe_sync.journal WHERE id OPERATOR(pg_catalog.=) ANY (ARRAY("
	"  SELECT j.id FROM stripe_sync.journal j"
	"   WHERE j.at OPERATOR(pg_catalog.<) $1 ORDER BY j.at LIMIT $2 FOR UPDATE SKIP LOCKED))";

static const char *const alerted_batch =
	"DELETE FROM ONLY stripe_sync.alerted WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY("
	"  SELECT a.ctid FROM ONLY stripe_sync.alerted a"
	"   WHERE a.at OPERATOR(pg_catalog.<) $1"
	"     AND NOT EXISTS (SELECT FROM stripe_sync.event e"
	"       WHERE e.id OPERATOR(pg_catalog.=) a.event_id AND e.account OPERATOR(pg_catalog.=) a.account)"
	"     AND NOT EXISTS (SELECT FROM stripe_sync.incident_record i"
	"       WHERE i.id OPERATOR(pg_catalog.=) a.incident)"
	"   LIMIT $2 FOR UPDATE SKIP LOCKED))";

/* The last run of reconcile stays: should it have failed, it goes on. */
static const char *const job_batch =
	"DELETE FROM stripe_sync.job_record WHERE id OPERATOR(pg_catalog.=) ANY (ARRAY("
	"  SELECT j.id FROM stripe_sync.job_record j"
	"   WHERE j.finished_at OPERATOR(pg_catalog.<) $1"
	"     AND j.state OPERATOR(pg_catalog.=) ANY ('{done,failed,cancelled}')"
	"     AND j.id OPERATOR(pg_catalog.<>) ALL (ARRAY(SELECT pg_catalog.max(k.id)"
	"       FROM stripe_sync.job_record k WHERE k.kind OPERATOR(pg_catalog.=) 'reconcile'))"
	"   ORDER BY j.finished_at LIMIT $2 FOR UPDATE SKIP LOCKED))";

static const char *const call_batch =
	"DELETE FROM stripe_sync.api_call WHERE id OPERATOR(pg_catalog.=) ANY (ARRAY("
	"  SELECT c.id FROM stripe_sync.api_call c"
	"   WHERE c.started_at OPERATOR(pg_catalog.<) $1 LIMIT $2 FOR UPDATE SKIP LOCKED))";

static const char *const refusal_batch =
	"DELETE FROM stripe_sync.refusal_record r USING (SELECT o.endpoint, o.code"
	"   FROM stripe_sync.refusal_record o WHERE o.last_at OPERATOR(pg_catalog.<) $1"
	/* what was told of is described once more when it is over */
	"    AND NOT EXISTS (SELECT FROM stripe_sync.refusal_watch w"
	"     WHERE w.endpoint OPERATOR(pg_catalog.=) o.endpoint AND w.told IS NOT NULL)"
	"   LIMIT $2 FOR UPDATE SKIP LOCKED) AS o"
	" WHERE o.endpoint OPERATOR(pg_catalog.=) r.endpoint AND o.code OPERATOR(pg_catalog.=) r.code";

/*
 * Planned with the values: how many rows are that old is what the plan hangs
 * on, and a plan that doesn't know would read the whole inbox.
 */
static int64
delete_batch(const char *sql, TimestampTz before, int64 most, int expected)
{
	Oid types[] = {TIMESTAMPTZOID, INT8OID};
	Datum values[] = {TimestampTzGetDatum(before), Int64GetDatum(most)};
	int code;

	SPI_connect();
	code = SPI_execute_with_args(sql, 2, types, values, NULL, false, 0);
	if (code != expected)
		elog(ERROR, "\"%s\" ended with %s", sql, SPI_result_code_string(code));
	most = (int64) SPI_processed;
	SPI_finish();
	return most;
}

static void
forget_pulses(void)
{
	static EngineStatement drop = {
		"DELETE FROM stripe_sync.pulse WHERE last_at OPERATOR(pg_catalog.<=) $1",
		1,
		{TIMESTAMPTZOID}};
	Datum values[] = {TimestampTzGetDatum(GetCurrentTimestamp() -
										  PULSE_DAYS * USECS_PER_DAY)};

	SPI_connect();
	engine_run(&drop, values, NULL, SPI_OK_DELETE);
	SPI_finish();
}

/* When what is to go was settled; false when nothing is. */
static bool
find_cutoff(const Interval *before, TimestampTz *cutoff)
{
	int64 age = before != NULL ? endpoint_seconds(before)
							   : (int64) guc_retention * SECS_PER_MINUTE;

	if (before == NULL && age == 0)
		return false;
	age = Min(Max(age, LEAST_AGE), GREATEST_AGE);
	*cutoff = GetCurrentTimestamp() - age * USECS_PER_SEC;
	return true;
}

/* Whatever is set for events: the log of requests is long in no time. */
static int64
prune_calls(int64 most)
{
	return delete_batch(call_batch,
						GetCurrentTimestamp() - CALL_DAYS * USECS_PER_DAY, most,
						SPI_OK_DELETE);
}

/* As many of each as may go at once; returns all, and *events of them. */
static int64
prune_batch(TimestampTz before, int64 most, int64 *events)
{
	int64 others = delete_batch(message_batch, before, most, SPI_OK_SELECT) +
				   delete_batch(incident_batch, before, most, SPI_OK_DELETE) +
				   delete_batch(job_batch, before, most, SPI_OK_DELETE) +
				   delete_batch(refusal_batch, before, most, SPI_OK_DELETE) +
				   delete_batch(journal_batch, before, most, SPI_OK_DELETE);

	*events = delete_batch(event_batch, before, most, SPI_OK_SELECT);
	return others + *events +
		   delete_batch(alerted_batch, before, most, SPI_OK_DELETE);
}

/*
 * For the worker: a batch that a short transaction can take.  Returns how many
 * rows went; there may be more until it is 0.
 */
int64
prune_some(const Interval *before)
{
	TimestampTz cutoff;
	int64 events;
	int64 all;
	RoleScope scope = role_enter_engine();

	all = prune_calls(BATCH);
	if (find_cutoff(before, &cutoff))
		all += prune_batch(cutoff, BATCH, &events);
	if (all == 0)
		forget_pulses();
	role_leave(&scope);
	return all;
}

/* prune(before): all at once, being one transaction anyway */
ENGINE_FUNCTION(stripe_sync_prune)
{
	Interval *before = PG_ARGISNULL(0) ? NULL : PG_GETARG_INTERVAL_P(0);
	TimestampTz cutoff;
	int64 events = 0;
	RoleScope scope;

	endpoint_check_interval(before, "before");
	scope = role_enter_engine();
	(void) prune_calls(PG_INT64_MAX);
	if (find_cutoff(before, &cutoff))
		(void) prune_batch(cutoff, PG_INT64_MAX, &events);
	forget_pulses();
	role_leave(&scope);
	PG_RETURN_INT64(events);
}
