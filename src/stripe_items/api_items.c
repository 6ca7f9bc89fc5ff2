/*
 * api_items.c
 *		What the worker reads from Stripe's API: its keys, reconcile, jobs.
 *
 * Without a key nothing is read; stripe.api_key alone reports that.
 */
#include "postgres.h"

#include <math.h>

#include <openssl/crypto.h>

#include "lib/stringinfo.h"

#include "base/text.h"
#include "engine/engine.h"
#include "inbox/inbox.h"
#include "inbox/secret.h"
#include "server/server.h"
#include "stripe/stripe.h"
#include "types/types.h"
#include "stripe_items/internal.h"

#define MOST_DETAIL 200 /* bytes of an error */

static double
seconds_since(TimestampTz at)
{
	return (double) (GetCurrentTimestamp() - at) / USECS_PER_SEC;
}

/* ---- stripe.api_key ---- */

static void
hint_to_set_key(Finding *finding, const char *account)
{
	bool live = true;

	(void) account_mode(account, &live);
	finding_hint(finding, "SELECT stripe_sync.set_api_key('rk_%s_...'%s%s)",
				 live ? "live" : "test", account[0] != '\0' ? ", " : "",
				 account[0] != '\0' ? hint_literal(account) : "");
}

/* Why the account's key can't be used, or NULL */
static char *
key_trouble(const char *account)
{
	char buffer[MAX_SECRET + 1] = {0};
	ApiTarget ignored;
	char *error = NULL;
	bool usable = api_key_load(account, buffer, sizeof(buffer), &ignored,
							   &error);

	OPENSSL_cleanse(buffer, sizeof(buffer));
	return usable ? NULL : error;
}

/* Was a key set since then? */
static bool
key_set_since(const char *account, TimestampTz then)
{
	static EngineStatement select = {
		"SELECT true FROM stripe_sync.journal WHERE what = 'key.set' AND ref = $1"
		" AND at > $2 - interval '1 hour' AND last_at > $2 LIMIT 1"};

	return statement_bool(false, &select,
						  ARGS(arg_text(account), arg_time(then)));
}

/*
 * What Stripe's last answers say against the key, or NULL: 401 to anything, 403
 * to the list of events.  Of the newest thousand requests.
 */
static const char *
key_refused(const char *account)
{
	static EngineStatement select = {
		"WITH n AS MATERIALIZED (SELECT * FROM (SELECT * FROM stripe_sync.api_call"
		"   ORDER BY id DESC LIMIT 1000) c WHERE account = $1 AND status IS NOT NULL)"
		" SELECT c.status, c.started_at FROM ("
		" (SELECT status, started_at, 401 AS bad FROM n ORDER BY id DESC LIMIT 1)"
		" UNION ALL (SELECT status, started_at, 403 FROM n"
		"   WHERE pg_catalog.starts_with(path, '/v1/events') ORDER BY id DESC LIMIT 1)) c"
		" WHERE c.status = c.bad"
		" ORDER BY c.status"};
	int nest = plan_for_indexes();
	const char *refused = NULL;
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_text(account)));
	while (refused == NULL && rows_next(&rows))
	{
		int status = rows_int4(&rows, 0);

		if (key_set_since(account, rows_time(&rows, DT_NOBEGIN)))
			continue;
		refused = status == 401
					  ? "Stripe answers 401: the key is not valid"
					  : "Stripe answers 403: the key may not read events";
	}
	rows_close(&rows);
	plan_settings_restore(nest);
	return refused;
}

/* False: the key is not as it must be, and the finding says so. */
static bool
judge_key(Finding *finding, const char *account)
{
	char *of = account[0] != '\0' ? psprintf(" of account \"%s\"", account) : "";
	char *trouble = key_trouble(account);
	const char *refused = trouble == NULL ? key_refused(account) : NULL;

	if (trouble == NULL && refused == NULL)
		return true;
	if (refused != NULL)
		finding_fail(finding, "the key%s is refused: %s", of, refused);
	else if (api_key_is_own(account))
		finding_fail(finding, "the key%s cannot be used: %s", of, trouble);
	else
		finding_warn(
			finding,
			"no key for Stripe's API%s is set, so events that are not delivered stay unknown",
			of);
	hint_to_set_key(finding, account);
	return false;
}

/* A key that is refused before one that is missing */
static void
keep_worse(Finding *worst, const Finding *finding)
{
	if (worst->detail == NULL || finding->status > worst->status)
		*worst = *finding;
}

void
look_at_api_keys(Finding *finding)
{
	static EngineStatement select = {
		"SELECT account FROM stripe_sync.endpoint"
		" UNION SELECT account FROM stripe_sync.api_key ORDER BY 1"};
	Finding initial = *finding;
	Finding worst = {.status = FINDING_OK};
	int64 bad = 0;
	int64 all = 0;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	while (rows_next(&rows))
	{
		*finding = initial;
		all++;
		if (judge_key(finding, rows_text(&rows)))
			continue;
		bad++;
		keep_worse(&worst, finding);
	}
	rows_close(&rows);
	if (bad > 0)
		*finding = worst;
	else
	{
		*finding = initial;
		finding_ok(finding, "%s", words_count(all, "key", "keys"));
	}
	finding_figure(finding, bad, "keys");
}

/* ---- stripe.reconcile ---- */

#define MARGIN	  (15.0 * SECS_PER_MINUTE)
#define VERY_LATE ((double) SECS_PER_DAY)

/* The time up to which all endpoints' accounts with a key have been compared */
static TimestampTz
compared_until(void)
{
	static EngineStatement select = {
		"SELECT pg_catalog.min(w.at) FROM stripe_sync.watermark w"
		" JOIN stripe_sync.api_key k ON k.account = w.account"
		" WHERE w.account IN (SELECT e.account FROM stripe_sync.endpoint e)"};

	return statement_time(DT_NOBEGIN, &select, NO_ARGS);
}

/* When the next run is due; before the first one, one interval after the key */
static TimestampTz
next_run(void)
{
	static EngineStatement select = {
		"SELECT next_at FROM stripe_sync.reconcile_schedule"};

	return statement_time(DT_NOEND, &select, NO_ARGS);
}

static bool
last_run_failed(void)
{
	static EngineStatement select = {
		"SELECT state = 'failed' FROM stripe_sync.job_record"
		" WHERE kind = 'reconcile' ORDER BY id DESC LIMIT 1"};

	return statement_bool(false, &select, NO_ARGS);
}

static void
report_late(Finding *finding, double age)
{
	Standstill standstill = {0};
	bool stands = standstill_find("stripe", &standstill);
	const char *why = stands			  ? standstill.reason
					  : last_run_failed() ? "the last run failed"
										  : NULL;
	char *words = psprintf(
		"Stripe's list of events was last compared %s ago%s%s", words_age(age),
		why != NULL ? ": " : "", why != NULL ? why : "");

	if (age > VERY_LATE)
		finding_fail(finding, "%s", words);
	else
		finding_warn(finding, "%s", words);
	if (stands)
		finding_hint(finding, "%s", standstill.hint);
	else
		finding_hint(finding, "SELECT stripe_sync.reconcile('%d days')",
					 (int) Min(30, ceil(age / SECS_PER_DAY) + 1));
}

void
look_at_reconcile(Finding *finding)
{
	double limit = 2.0 * guc_reconcile_interval + MARGIN;
	TimestampTz until;
	double age;

	if (guc_reconcile_interval == 0)
	{
		finding_warn(
			finding,
			"events that are not delivered stay unknown: stripe_sync.reconcile_interval is 0");
		finding_hint(finding, "stripe_sync.reconcile_interval = '15min'");
		return;
	}
	if (!api_key_is_set())
	{
		finding_ok(finding, "nothing to do: no key is set");
		return;
	}
	until = compared_until();
	age = seconds_since(
		until != DT_NOBEGIN ? until : Min(next_run(), GetCurrentTimestamp()));
	finding_figure(finding, Max(age, 0), "s");
	if (age > limit)
		report_late(finding, age);
	else if (until == DT_NOBEGIN)
		finding_ok(finding, "the first run is due in %s",
				   words_age(-seconds_since(next_run())));
	else
		finding_ok(finding, "compared with Stripe's list of events up to %s ago",
				   words_age(age));
}

/* ---- stripe.reconcile_gap ---- */

#define MOST_PARTS 20000

/* The newest run with missing events among those of the last day; 0: none. */
typedef struct Gap
{
	int64 job;
	int64 missing;
	char *first;
	char *last;
	double age; /* of the last event, s */
	bool is_in_last_run;
} Gap;

static Gap
read_gap(void)
{
	static EngineStatement select = {
		"WITH last AS (SELECT id FROM stripe_sync.job_record"
		"  WHERE kind = 'reconcile' AND state = 'done' ORDER BY id DESC LIMIT 1),"
		" day AS (SELECT pg_catalog.min(id) AS id FROM stripe_sync.job_record"
		"  WHERE finished_at > $2"
		"   AND kind = 'reconcile' AND state = 'done'),"
		" parts AS MATERIALIZED (SELECT * FROM stripe_sync.job_part p"
		"  WHERE p.job >= LEAST((SELECT id FROM day), (SELECT id FROM last))"
		"  ORDER BY p.job DESC LIMIT $1)"
		" SELECT p.job, pg_catalog.sum(p.missing)::bigint,"
		"  (pg_catalog.array_agg(p.gap_first ORDER BY p.gap_first_at))[1],"
		"  (pg_catalog.array_agg(p.gap_last ORDER BY p.gap_last_at DESC))[1],"
		"  EXTRACT(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.max(p.gap_last_at))::float8,"
		"  p.job >= (SELECT id FROM last)"
		" FROM parts p WHERE p.kind = 'events' AND p.gap_first IS NOT NULL"
		" GROUP BY p.job ORDER BY p.job DESC LIMIT 1"};
	int nest = plan_for_indexes();
	Gap gap = {0};
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_int8(MOST_PARTS),
				   arg_time(GetCurrentTimestamp() - USECS_PER_DAY)));
	if (rows_next(&rows))
	{
		gap.job = rows_int8(&rows, 0);
		gap.missing = rows_int8(&rows, 0);
		gap.first = rows_text(&rows);
		gap.last = rows_text(&rows);
		gap.age = rows_float8(&rows, 0);
		gap.is_in_last_run = rows_bool(&rows, false);
	}
	rows_close(&rows);
	plan_settings_restore(nest);
	return gap;
}

void
look_at_reconcile_gap(Finding *finding)
{
	Gap gap = read_gap();
	char *words;

	finding_figure(finding, gap.missing, "events");
	if (gap.job == 0)
	{
		finding_ok(finding, "no event was missing in the last day");
		return;
	}
	words = psprintf(
		"%s, from %s to %s (%s ago), were not delivered; job " INT64_FORMAT
		" has stored them",
		words_count(gap.missing, "event", "events"), gap.first, gap.last,
		words_age(gap.age), gap.job);
	if (!gap.is_in_last_run)
	{
		finding_ok(finding, "none was missing in the last run; before, %s",
				   words);
		return;
	}
	finding_warn(finding, "%s", words);
	finding_hint(finding, "SELECT stripe_sync.reconcile()");
}

/* ---- stripe.jobs ---- */

#define MOST_GIVEN_UP 1000

/* The jobs that failed within a week and were not repeated; the newest one */
typedef struct FailedJobs
{
	int64 count;
	int64 id;
	char *kind;
	char *error;
	char *hint; /* NULL: none */
} FailedJobs;

static FailedJobs
read_failed_jobs(void)
{
	static EngineStatement select = {
		"SELECT j.id, j.kind, v.error, CASE WHEN j.kind = 'backfill' THEN"
		"  'SELECT stripe_sync.backfill(' || pg_catalog.concat_ws(', ',"
		"   'ARRAY[' || (SELECT pg_catalog.string_agg(pg_catalog.quote_literal(t), ', ')"
		"     FROM pg_catalog.jsonb_array_elements_text(pg_catalog.jsonb_path_query_array("
		"      j.arguments, '$.object_types[*]')) t) || ']',"
		"   'created_since => ' || pg_catalog.quote_literal("
		"    (j.arguments ->> 'created_since') || '+00')) || ')' END"
		" FROM (SELECT * FROM stripe_sync.job_record WHERE finished_at > $1"
		"   AND state = 'failed'"
		"   AND kind IN ('backfill', 'create_webhook_endpoint')"
		"  ORDER BY finished_at DESC LIMIT 100) j"
		" JOIN stripe_sync.job v ON v.id = j.id"
		" WHERE NOT EXISTS (SELECT FROM stripe_sync.job_record k"
		"  WHERE k.finished_at > j.finished_at AND k.id > j.id AND k.kind = j.kind"
		"   AND k.state = 'done' AND (k.kind = 'create_webhook_endpoint'"
		"    OR k.arguments = j.arguments))"
		" ORDER BY j.id DESC"};
	int nest = plan_for_indexes();
	FailedJobs jobs = {0};
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_time(GetCurrentTimestamp() - 7 * USECS_PER_DAY)));
	while (rows_next(&rows))
	{
		if (jobs.count++ > 0)
			continue;
		jobs.id = rows_int8(&rows, 0);
		jobs.kind = rows_text(&rows);
		jobs.error = rows_text(&rows);
		jobs.hint = rows_text(&rows);
	}
	rows_close(&rows);
	plan_settings_restore(nest);
	return jobs;
}

/* Objects that the mirror lacks and that are not read again */
typedef struct GivenUp
{
	int64 count;
	char *name; /* of the first */
	char *hint;
} GivenUp;

static GivenUp
read_given_up(void)
{
	static EngineStatement select = {
		"WITH dead AS MATERIALIZED (SELECT object_type, object_id, account"
		"  FROM stripe_sync.reread WHERE state = 'dead' ORDER BY 1, 2, 3 LIMIT $1)"
		" SELECT (SELECT pg_catalog.count(*) FROM dead),"
		"  object_type || ' ' || object_id, pg_catalog.format(CASE"
		"   WHEN (SELECT pg_catalog.count(*) FROM dead) = 1"
		"   THEN 'SELECT stripe_sync.refetch(%L, %L, %L)'"
		"   ELSE 'SELECT stripe_sync.refetch(object_type, object_id, account)"
		" FROM stripe_sync.reread WHERE state = ''dead''' END,"
		"   object_type, object_id, account) FROM dead LIMIT 1"};
	GivenUp given_up = {0};
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_int8(MOST_GIVEN_UP)));
	if (rows_next(&rows))
	{
		given_up.count = rows_int8(&rows, 0);
		given_up.name = rows_text(&rows);
		given_up.hint = rows_text(&rows);
	}
	rows_close(&rows);
	return given_up;
}

static void
report_failed_jobs(Finding *finding, const FailedJobs *jobs)
{
	char *error = jobs->error != NULL ? text_clip(jobs->error, MOST_DETAIL)
									  : pstrdup("");

	error[strcspn(error, "\n")] = '\0';
	finding_warn(finding, "%s; the last is %s, job " INT64_FORMAT ": %s",
				 words_count(jobs->count, "job failed", "jobs failed"),
				 jobs->kind, jobs->id, error);
	if (jobs->hint != NULL)
		finding_hint(finding, "%s", jobs->hint);
}

void
look_at_jobs(Finding *finding)
{
	FailedJobs jobs = read_failed_jobs();
	GivenUp given_up = read_given_up();

	finding_figure(finding, jobs.count + given_up.count, "jobs");
	if (given_up.count > 0)
	{
		finding_warn(finding, "%s from Stripe and could not be; the first is %s",
					 words_count(given_up.count, "object was to be read",
								 "objects were to be read"),
					 given_up.name);
		finding_hint(finding, "%s", given_up.hint);
	}
	else if (jobs.count > 0)
		report_failed_jobs(finding, &jobs);
	else
		finding_ok(finding, "no job has failed in the last 7 days");
}
