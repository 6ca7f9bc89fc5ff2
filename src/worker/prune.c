/*
 * prune.c
 *		Deletes finished rows that are older than stripe_sync.retention.
 *
 * Rows that are waiting, failed or dead are never deleted, nor any younger than
 * 35 days: Stripe lists events for 30 days, and reconcile would store a deleted
 * one again as missing.  The mirror is not pruned; its rows may name events
 * that no longer exist.
 *
 * The order is: messages, incidents that no message refers to, finished jobs
 * with their parts, counts of refused deliveries, journal, events of the
 * application, what people did in Slack and the answers to it, events with their errors and handler runs, and
 * last stripe_sync.alerted, whose rows are kept while the event can be replayed
 * or the incident exists.  Requests to Stripe's API are deleted after two weeks,
 * response_urls and trigger_ids of Slack after half an hour, whatever the
 * retention.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "base/base.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/inbox.h"
#include "worker/internal.h"

#define BATCH		  1000
#define LEAST_AGE	  (35 * (int64) SECS_PER_DAY)
#define GREATEST_AGE  (1000 * 366 * (int64) SECS_PER_DAY)
#define PULSE_DAYS	  14
#define CALL_DAYS	  14
#define SLACK_MINUTES 31 /* Slack accepts a response_url for 30 */

static const char *const message_batch =
	"WITH old AS (DELETE FROM stripe_sync.message WHERE id = ANY (ARRAY("
	"  SELECT m.id FROM stripe_sync.message m"
	"   WHERE m.settled_at < $1"
	"     AND m.state = ANY ('{sent,dead,cancelled}')"
	"     AND NOT EXISTS (SELECT FROM stripe_sync.incident_record i"
	"       WHERE i.id = m.incident AND i.state = 'open')"
	"   ORDER BY m.settled_at LIMIT $2 FOR UPDATE SKIP LOCKED))"
	" RETURNING id), gone AS (DELETE FROM stripe_sync.delivery d USING old"
	"   WHERE d.message_id = old.id)"
	" SELECT 1 FROM old";

static const char *const incident_batch =
	"WITH old AS (DELETE FROM stripe_sync.incident_record WHERE id = ANY (ARRAY("
	"  SELECT i.id FROM stripe_sync.incident_record i"
	"   WHERE i.closed_at < $1 AND i.state <> 'open'"
	"     AND NOT EXISTS (SELECT FROM stripe_sync.message m"
	"       WHERE m.incident = i.id)"
	"   LIMIT $2 FOR UPDATE SKIP LOCKED))"
	" RETURNING id), gone AS (DELETE FROM stripe_sync.incident_step s USING old"
	"   WHERE s.incident = old.id)"
	" SELECT 1 FROM old";

static const char *const journal_batch =
	"DELETE FROM stripe_sync.journal WHERE id = ANY (ARRAY("
	"  SELECT j.id FROM stripe_sync.journal j"
	"   WHERE j.at < $1 ORDER BY j.at LIMIT $2 FOR UPDATE SKIP LOCKED))";

static const char *const emitted_batch =
	"DELETE FROM stripe_sync.emitted WHERE id = ANY (ARRAY("
	"  SELECT e.id FROM stripe_sync.emitted e"
	"   WHERE e.at < $1 ORDER BY e.at LIMIT $2 FOR UPDATE SKIP LOCKED))";

static const char *const alerted_batch =
	"DELETE FROM ONLY stripe_sync.alerted WHERE ctid = ANY (ARRAY("
	"  SELECT a.ctid FROM ONLY stripe_sync.alerted a"
	"   WHERE a.at < $1"
	"     AND NOT EXISTS (SELECT FROM stripe_sync.event e"
	"       WHERE e.id = a.event_id AND e.account = a.account)"
	"     AND NOT EXISTS (SELECT FROM stripe_sync.incident_record i"
	"       WHERE i.id = a.incident)"
	"   LIMIT $2 FOR UPDATE SKIP LOCKED))";

/* The last reconcile job is kept: if it failed, the next one resumes it. */
static const char *const job_batch =
	"DELETE FROM stripe_sync.job_record WHERE id = ANY (ARRAY("
	"  SELECT j.id FROM stripe_sync.job_record j"
	"   WHERE j.finished_at < $1"
	"     AND j.state = ANY ('{done,failed,cancelled}')"
	"     AND j.id <> ALL (ARRAY(SELECT pg_catalog.max(k.id)"
	"       FROM stripe_sync.job_record k WHERE k.kind = 'reconcile'))"
	"   ORDER BY j.finished_at LIMIT $2 FOR UPDATE SKIP LOCKED))";

static const char *const call_batch =
	"DELETE FROM stripe_sync.api_call WHERE id = ANY (ARRAY("
	"  SELECT c.id FROM stripe_sync.api_call c"
	"   WHERE c.started_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))";

static const char *const interaction_batch =
	"DELETE FROM stripe_sync.interaction WHERE id = ANY (ARRAY("
	"  SELECT i.id FROM stripe_sync.interaction i"
	"   WHERE i.received_at < $1"
	"   ORDER BY i.received_at LIMIT $2 FOR UPDATE SKIP LOCKED))";

static const char *const slack_call_batch =
	"DELETE FROM stripe_sync.slack_call WHERE id = ANY (ARRAY("
	"  SELECT c.id FROM stripe_sync.slack_call c"
	"   WHERE c.settled_at < $1"
	"   ORDER BY c.settled_at LIMIT $2 FOR UPDATE SKIP LOCKED))";

static const char *const interaction_secret_batch =
	"DELETE FROM stripe_sync.interaction_secret WHERE interaction = ANY (ARRAY("
	"  SELECT s.interaction FROM stripe_sync.interaction_secret s"
	"   LEFT JOIN stripe_sync.interaction i ON i.id = s.interaction"
	"   WHERE i.received_at < $1 OR i.id IS NULL"
	"   LIMIT $2 FOR UPDATE OF s SKIP LOCKED))";

static const char *const refusal_batch =
	"DELETE FROM stripe_sync.refusal_record r USING (SELECT o.endpoint, o.code"
	"   FROM stripe_sync.refusal_record o WHERE o.last_at < $1"
	/* the alert's closing message describes an open one again */
	"    AND NOT EXISTS (SELECT FROM stripe_sync.refusal_watch w"
	"     WHERE w.endpoint = o.endpoint AND w.told IS NOT NULL)"
	"   LIMIT $2 FOR UPDATE SKIP LOCKED) AS o"
	" WHERE o.endpoint = r.endpoint AND o.code = r.code";

/*
 * Not an EngineStatement: planned with the values, because a generic plan, which
 * doesn't know how many rows are that old, reads the whole table.
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
delete_pulses(void)
{
	static EngineStatement drop = {
		"DELETE FROM stripe_sync.pulse WHERE last_at <= $1"};

	(void) statement_exec(&drop, ARGS(arg_time(GetCurrentTimestamp() -
											   PULSE_DAYS * USECS_PER_DAY)));
}

/* Rows that were finished before *cutoff are deleted.  False: none are. */
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

/*
 * What stripe_sync.retention doesn't apply to: the log of requests, which grows
 * fast, and what Slack accepts for half an hour only.  The worker deletes the
 * latter earlier (slack_calls), if there is one.
 */
static int64
prune_brief(int64 most)
{
	TimestampTz now = GetCurrentTimestamp();

	return delete_batch(call_batch, now - CALL_DAYS * USECS_PER_DAY, most,
						SPI_OK_DELETE) +
		   delete_batch(interaction_secret_batch,
						now - SLACK_MINUTES * USECS_PER_MINUTE, most,
						SPI_OK_DELETE);
}

/* Delete at most "most" rows of each kind.  Returns all; *events are those. */
static int64
prune_batch(TimestampTz before, int64 most, int64 *events)
{
	int64 others = delete_batch(message_batch, before, most, SPI_OK_SELECT) +
				   delete_batch(incident_batch, before, most, SPI_OK_SELECT) +
				   delete_batch(job_batch, before, most, SPI_OK_DELETE) +
				   delete_batch(refusal_batch, before, most, SPI_OK_DELETE) +
				   delete_batch(journal_batch, before, most, SPI_OK_DELETE) +
				   delete_batch(emitted_batch, before, most, SPI_OK_DELETE) +
				   delete_batch(slack_call_batch, before, most, SPI_OK_DELETE) +
				   delete_batch(interaction_batch, before, most, SPI_OK_DELETE);

	*events = prune_events(before, most);
	return others + *events +
		   delete_batch(alerted_batch, before, most, SPI_OK_DELETE);
}

/*
 * For the worker: delete one batch, so that its transaction is short.  Returns
 * the number of rows; there may be more until it is 0.
 */
int64
prune_some(const Interval *before)
{
	TimestampTz cutoff;
	int64 events;
	int64 all;
	RoleScope scope = role_enter_engine();

	all = prune_brief(BATCH);
	if (find_cutoff(before, &cutoff))
		all += prune_batch(cutoff, BATCH, &events);
	if (all == 0)
		delete_pulses();
	role_leave(&scope);
	return all;
}

/* prune(before): all of it, since the call is one transaction */
ENGINE_FUNCTION(stripe_sync_prune)
{
	Interval *before = PG_ARGISNULL(0) ? NULL : PG_GETARG_INTERVAL_P(0);
	TimestampTz cutoff;
	int64 events = 0;
	RoleScope scope;

	endpoint_check_interval(before, "before");
	scope = role_enter_engine();
	(void) prune_brief(PG_INT64_MAX);
	if (find_cutoff(before, &cutoff))
		(void) prune_batch(cutoff, PG_INT64_MAX, &events);
	delete_pulses();
	role_leave(&scope);
	PG_RETURN_INT64(events);
}
