/*
 * endpoint_judge.c
 *		Judges the webhook endpoints at Stripe, and reports problems.
 *
 * endpoint_watch.c says which endpoints are the installation's own.  A problem is reported
 * once, as system.endpoint_changed, and its end as system.endpoint_well; missing
 * types are reported again when there are more of them.  While no alert rule
 * matches, nothing is recorded as reported, so that a rule that is added later
 * gets the present problems.
 *
 * The table is locked so that two jobs don't judge at the same time.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "alert/alert.h"
#include "endpoints/endpoints.h"
#include "engine/statement.h"
#include "jobs/part.h"
#include "stripe/stripe.h"
#include "endpoints/internal.h"

#define CHANGED "system.endpoint_changed"
#define WELL	"system.endpoint_well"

/* What the statements below are run for: their $1 to $5 */
typedef struct JudgedAccount
{
	int64 job;
	const char *account;
	bool livemode;
	const char *version;
	Datum types; /* text[], that are needed */
} JudgedAccount;

#define JUDGED_ARGS(judged)                                                    \
	arg_int8((judged)->job), arg_text((judged)->account),                      \
		arg_bool((judged)->livemode), arg_text((judged)->version),             \
		arg_datum(TEXTARRAYOID, (judged)->types)

/*
 * w: the endpoints of the account and mode; "made": created here, "there": seen
 * by this job.  ours: the installation's own; missed: the needed types that none
 * of them is subscribed to.  The version of an endpoint without one is that of
 * the account, which is not known, so it is not judged.
 */
#define FOUND                                                                  \
	"WITH w AS MATERIALIZED (SELECT w.id, w.url, w.status, w.enabled_events,"  \
	"   w.api_version, e.name IS NOT NULL AS made,"                            \
	"   COALESCE(w.seen_by = $1 OR w.seen_at >= j.started_at, false) AS there" \
	"  FROM stripe_sync.watched_endpoint w"                                    \
	"  JOIN stripe_sync.job_record j ON j.id = $1"                             \
	"  LEFT JOIN stripe_sync.endpoint e ON e.name = w.endpoint"                \
	"  WHERE w.account = $2 AND w.livemode = $3 AND w.id <> ''),"              \
	" n AS (SELECT pg_catalog.count(*) FILTER (WHERE there) AS there,"         \
	"   pg_catalog.count(*) FILTER (WHERE made) AS made FROM w),"              \
	" ours AS MATERIALIZED (SELECT w.* FROM w, n WHERE w.there AND (w.made"    \
	"   OR n.made = 0 AND n.there = 1 OR EXISTS (SELECT FROM w AS m"           \
	"     WHERE m.made AND NOT m.there AND m.url = w.url))),"                  \
	" missed AS (SELECT ARRAY(SELECT t FROM pg_catalog.unnest($5) t"           \
	"   WHERE NOT EXISTS (SELECT FROM ours o WHERE o.status = 'enabled'"       \
	"     AND (t = ANY (o.enabled_events) OR '*' = ANY (o.enabled_events)))"   \
	"   ORDER BY t) AS types,"                                                 \
	"  (SELECT pg_catalog.min(id) FROM ours WHERE status = 'enabled') AS told_of) "

static void
lock_watched(void)
{
	static EngineStatement lock = {
		"LOCK TABLE stripe_sync.watched_endpoint IN SHARE ROW EXCLUSIVE MODE"};

	(void) statement_exec(&lock, NO_ARGS);
}

/* Set the problems of each endpoint; those that are not our own have none. */
static void
judge_endpoints(const JudgedAccount *judged)
{
	static EngineStatement update = {
		FOUND
		"UPDATE stripe_sync.watched_endpoint x SET trouble = f.trouble,"
		" missing_types = CASE WHEN 'types' = ANY (f.trouble) THEN f.types ELSE '{}' END"
		" FROM (SELECT w.id, missed.types, pg_catalog.array_remove(ARRAY["
		"   CASE WHEN w.made AND NOT w.there AND NOT EXISTS"
		"     (SELECT FROM w AS r WHERE r.there AND r.url = w.url) THEN 'gone' END,"
		"   CASE WHEN o.status <> 'enabled' THEN 'disabled' END,"
		"   CASE WHEN o.api_version <> $4 THEN 'version' END,"
		"   CASE WHEN o.id = missed.told_of AND missed.types <> '{}' THEN 'types' END],"
		"   NULL) AS trouble"
		"  FROM w CROSS JOIN missed LEFT JOIN ours o ON o.id = w.id) f"
		" WHERE x.id = f.id AND x.account = $2"};

	(void) statement_exec(&update, ARGS(JUDGED_ARGS(judged)));
}

/*
 * If it is not known which endpoints are our own: is at least one suitable?  Only
 * judged if stripe_sync.endpoint has an endpoint of that mode.  The result is in
 * the account's row with an empty id.
 */
static void
judge_all_together(const JudgedAccount *judged)
{
	static EngineStatement upsert = {
		FOUND
		"INSERT INTO stripe_sync.watched_endpoint (id, account, livemode, trouble)"
		" SELECT '', $2, $3, CASE WHEN n.made = 0 AND n.there <> 1"
		"   AND EXISTS (SELECT FROM stripe_sync.endpoint e"
		"     WHERE COALESCE(e.livemode, $3) = $3 AND e.account = $2)"
		"   AND NOT EXISTS (SELECT FROM w WHERE w.there AND w.status = 'enabled'"
		"     AND COALESCE(w.api_version, $4) = $4"
		"     AND ('*' = ANY (w.enabled_events) OR w.enabled_events @> $5))"
		"  THEN ARRAY['none'] ELSE '{}' END FROM n"
		" ON CONFLICT (id, account) DO UPDATE SET livemode = excluded.livemode,"
		"  trouble = excluded.trouble"};

	(void) statement_exec(&upsert, ARGS(JUDGED_ARGS(judged)));
}

/*
 * The objects of the system events to raise, as a list of Jsonb: for problems
 * that have not been reported ("changed"), or reported ones that have ended.
 */
static List *
find_unreported(const JudgedAccount *judged, bool changed)
{
	static EngineStatement select = {
		"SELECT pg_catalog.jsonb_build_object("
		"  'id', COALESCE(nullif(w.id, ''), 'none') || '/' || t.trouble,"
		"  'webhook_endpoint', nullif(w.id, ''), 'endpoint', w.endpoint,"
		"  'url', w.url, 'livemode', w.livemode, 'trouble', t.trouble,"
		"  'status', w.status, 'api_version', w.api_version,"
		"  'expected_version', $4, 'missing_types', w.missing_types,"
		"  'reason', CASE t.trouble"
		"   WHEN 'gone' THEN w.url || ' (' || w.id || ') was deleted at Stripe'"
		"   WHEN 'disabled' THEN w.url || ' (' || w.id ||"
		"     ') is disabled: Stripe sends no events to it'"
		"   WHEN 'version' THEN pg_catalog.format('%s (%s) sends events of API"
		" version %s, not %s', w.url, w.id, w.api_version, $4)"
		"   WHEN 'types' THEN pg_catalog.format('%s (%s) is not subscribed to %s,"
		" which the mirror, a handler or an alert needs', w.url, w.id,"
		"     pg_catalog.array_to_string(w.missing_types[1:8], ', ') ||"
		"     CASE WHEN pg_catalog.cardinality(w.missing_types) > 8 THEN"
		"      pg_catalog.format(' and %s more',"
		"       pg_catalog.cardinality(w.missing_types) - 8) ELSE '' END)"
		"   ELSE pg_catalog.format('Stripe has %s, but none is enabled, of API"
		" version %s and subscribed to the needed types',"
		"     (SELECT pg_catalog.count(*) FROM stripe_sync.watched_endpoint o"
		"       WHERE o.id <> '' AND o.account = w.account"
		"         AND o.livemode = w.livemode AND o.seen_by = $1), $4) END)"
		" FROM stripe_sync.watched_endpoint w, pg_catalog.unnest("
		"   CASE WHEN $6 THEN w.trouble ELSE w.told END) AS t (trouble)"
		" WHERE w.account = $2 AND w.livemode = $3 AND CASE WHEN $6"
		"  THEN t.trouble <> ALL (w.told)"
		"   OR t.trouble = 'types' AND NOT w.missing_types <@ w.told_types"
		"  ELSE t.trouble <> ALL (w.trouble) END ORDER BY w.id, 1"};
	List *objects = NIL;
	Rows rows;

	rows_open(&rows, &select, ARGS(JUDGED_ARGS(judged), arg_bool(changed)));
	while (rows_next(&rows))
		objects = lappend(objects, rows_jsonb(&rows));
	rows_close(&rows);
	return objects;
}

/*
 * Record what is reported, and delete endpoints that no longer exist at Stripe
 * unless they were created here.
 */
static void
record_reported(const JudgedAccount *judged)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.watched_endpoint w SET told = CASE WHEN $3 THEN trouble"
		"   ELSE ARRAY(SELECT t FROM pg_catalog.unnest(told) t"
		"     WHERE t = ANY (trouble)) END,"
		"  told_types = CASE WHEN $3 THEN missing_types ELSE told_types END"
		" WHERE w.account = $1 AND w.livemode = $2"};
	static EngineStatement clean = {
		"DELETE FROM stripe_sync.watched_endpoint w USING stripe_sync.job_record j"
		" WHERE j.id = $1 AND w.account = $2 AND w.livemode = $3 AND w.id <> ''"
		"  AND w.seen_by <> $1 AND w.seen_at < j.started_at AND NOT EXISTS"
		"  (SELECT FROM stripe_sync.endpoint e WHERE e.name = w.endpoint)"};

	(void) statement_exec(&update, ARGS(arg_text(judged->account),
										arg_bool(judged->livemode),
										arg_bool(alert_wanted(CHANGED))));
	(void) statement_exec(&clean,
						  ARGS(arg_int8(judged->job), arg_text(judged->account),
							   arg_bool(judged->livemode)));
}

static void
raise_events(const char *type, List *objects)
{
	ListCell *cell;

	foreach(cell, objects)
		alert_system(type, lfirst(cell));
}

/*
 * Judge the endpoints of the part's account, in the transaction of the last page
 * of their list.
 */
void
endpoint_watch_judge(const Part *part)
{
	JudgedAccount judged = {.job = part->job,
							.account = part->account,
							.livemode = api_key_opens_live(part->key),
							.version = api_version_name(),
							.types = event_types_array(event_types_needed())};
	List *changed;
	List *ended;

	lock_watched();
	judge_endpoints(&judged);
	judge_all_together(&judged);
	changed = find_unreported(&judged, true);
	ended = find_unreported(&judged, false);
	record_reported(&judged);
	raise_events(WELL, ended);
	raise_events(CHANGED, changed);
}
