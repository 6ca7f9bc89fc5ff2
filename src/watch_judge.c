/*
 * watch_judge.c
 *		What is wrong with the endpoints at Stripe, and what of it is told.
 *
 * See watch.c for which of them are one's own.  A trouble is told when it comes,
 * once; more types that are missing are told anew.  While no alert wants to
 * know nothing counts as told.
 */
#include "sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#define CHANGED "system.endpoint_changed"
#define WELL	"system.endpoint_well"

/* $1 job, $2 account, $3 mode, $4 version, $5 types that are needed */
#define ARGUMENTS 5
#define ARGUMENT_TYPES                                                         \
	{                                                                          \
		INT8OID, TEXTOID, BOOLOID, TEXTOID, TEXTARRAYOID                       \
	}

/* One without a version has the account's own, which nobody tells: it is let be. */
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

	engine_run(&lock, NULL, NULL, SPI_OK_UTILITY);
}

/* Of each endpoint, those that aren't one's own included: they have none. */
static void
find_troubles(Datum *values)
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
		" WHERE x.id = f.id AND x.account = $2",
		ARGUMENTS, ARGUMENT_TYPES};

	engine_run(&update, values, NULL, SPI_OK_UPDATE);
}

/*
 * Of all together: where none was made by us and there isn't just one, does any
 * do?  Only whoever has set up an endpoint of that mode expects one.
 */
static void
find_want(Datum *values)
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
		"  trouble = excluded.trouble",
		ARGUMENTS, ARGUMENT_TYPES};

	engine_run(&upsert, values, NULL, SPI_OK_INSERT);
}

/* Objects of events: of what has come since it was told, or of what is over. */
static List *
find_news(Datum *values, bool changed, MemoryContext context)
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
		"     ') is disabled: nothing comes through it'"
		"   WHEN 'version' THEN pg_catalog.format('%s (%s) sends events of API"
		" version %s, not %s', w.url, w.id, w.api_version, $4)"
		"   WHEN 'types' THEN pg_catalog.format('%s (%s) is not subscribed to %s,"
		" which the mirror, a handler or an alert needs', w.url, w.id,"
		"     pg_catalog.array_to_string(w.missing_types[1:8], ', ') ||"
		"     CASE WHEN pg_catalog.cardinality(w.missing_types) > 8 THEN"
		"      pg_catalog.format(' and %s more',"
		"       pg_catalog.cardinality(w.missing_types) - 8) ELSE '' END)"
		"   ELSE pg_catalog.format('Stripe has %s, and none is enabled, of API"
		" version %s and subscribed to what is needed',"
		"     (SELECT pg_catalog.count(*) FROM stripe_sync.watched_endpoint o"
		"       WHERE o.id <> '' AND o.account = w.account"
		"         AND o.livemode = w.livemode AND o.seen_by = $1), $4) END)"
		" FROM stripe_sync.watched_endpoint w, pg_catalog.unnest("
		"   CASE WHEN $6 THEN w.trouble ELSE w.told END) AS t (trouble)"
		" WHERE w.account = $2 AND w.livemode = $3 AND CASE WHEN $6"
		"  THEN t.trouble <> ALL (w.told)"
		"   OR t.trouble = 'types' AND NOT w.missing_types <@ w.told_types"
		"  ELSE t.trouble <> ALL (w.trouble) END ORDER BY w.id, 1",
		6,
		{INT8OID, TEXTOID, BOOLOID, TEXTOID, TEXTARRAYOID, BOOLOID}};
	Datum all[ARGUMENTS + 1];
	List *objects = NIL;
	MemoryContext old;

	memcpy(all, values, ARGUMENTS * sizeof(Datum));
	all[ARGUMENTS] = BoolGetDatum(changed);
	engine_run(&select, all, NULL, SPI_OK_SELECT);
	old = MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < SPI_processed; i++)
		objects = lappend(
			objects, DatumGetJsonbPCopy(SPI_getbinval(SPI_tuptable->vals[i],
													  SPI_tuptable->tupdesc, 1,
													  &(bool){false})));
	MemoryContextSwitchTo(old);
	return objects;
}

/* What nobody wanted to know will be news to who does. */
static void
note_told(Datum *values)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.watched_endpoint w SET told = CASE WHEN $4 THEN trouble"
		"   ELSE ARRAY(SELECT t FROM pg_catalog.unnest(told) t"
		"     WHERE t = ANY (trouble)) END,"
		"  told_types = CASE WHEN $4 THEN missing_types ELSE told_types END"
		" WHERE w.account = $2 AND w.livemode = $3",
		4,
		{INT8OID, TEXTOID, BOOLOID, BOOLOID}};
	static EngineStatement clean = {
		"DELETE FROM stripe_sync.watched_endpoint w USING stripe_sync.job_record j"
		" WHERE j.id = $1 AND w.account = $2 AND w.livemode = $3 AND w.id <> ''"
		"  AND w.seen_by <> $1 AND w.seen_at < j.started_at AND NOT EXISTS"
		"  (SELECT FROM stripe_sync.endpoint e WHERE e.name = w.endpoint)",
		3,
		{INT8OID, TEXTOID, BOOLOID}};
	Datum told[] = {values[0], values[1], values[2],
					BoolGetDatum(alert_wanted(CHANGED))};

	engine_run(&update, told, NULL, SPI_OK_UPDATE);
	engine_run(&clean, values, NULL, SPI_OK_DELETE);
}

static void
tell(const char *type, List *objects)
{
	ListCell *cell;

	foreach(cell, objects)
		alert_system(type, lfirst(cell));
}

/* With the last page, in its transaction. */
void
watch_judge(const Part *part)
{
	MemoryContext context = CurrentMemoryContext;
	Datum values[ARGUMENTS] = {Int64GetDatum(part->job),
							   CStringGetTextDatum(part->account),
							   BoolGetDatum(api_key_opens_live(part->key)),
							   CStringGetTextDatum(api_version_name()),
							   event_types_array(event_types_needed())};
	List *changed;
	List *well;

	SPI_connect();
	lock_watched();
	find_troubles(values);
	find_want(values);
	changed = find_news(values, true, context);
	well = find_news(values, false, context);
	note_told(values);
	SPI_finish();
	tell(WELL, well);
	tell(CHANGED, changed);
}
