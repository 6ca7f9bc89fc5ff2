/*
 * refused_watch.c
 *		Which refused deliveries are news, and when that is over.
 *
 * system.deliveries_refused is told when, within an hour, three deliveries or
 * more that look like Stripe's were refused and none was accepted; when an
 * event of live mode was refused by its mode; when an endpoint has no secret
 * that can be used.  Once a day and endpoint at most.  Scanners, and test events
 * at a live endpoint, are no news.
 *
 * It is over (system.deliveries_accepted) when events are accepted again.  One
 * of test mode says nothing of live ones: those are awaited as long as the endpoint
 * takes test events alone, or until none has been refused for a day.  At a name
 * that no endpoint has nothing is ever accepted; there it is over when none has
 * come for an hour and others are accepted.
 *
 * stripe_sync.refusal_watch has what is known, a row an endpoint ("": names that
 * no endpoint has).  What was accepted stands there when it was noticed in
 * memory (refused_count.c); else the inbox tells.
 */
#include "refused.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#define REFUSED	 "system.deliveries_refused"
#define ACCEPTED "system.deliveries_accepted"

typedef struct Trouble
{
	char *endpoint;
	char *what; /* mode, secret, refused */
	TimestampTz since;
	bool accepted; /* so memory says, since then */
} Trouble;

/* ---- looking ---- */

/* Rows of (endpoint, trouble, since, accepted) */
static List *
find(EngineStatement *select)
{
	MemoryContext context = CurrentMemoryContext;
	List *found = NIL;
	MemoryContext old;

	SPI_connect();
	engine_run(select, NULL, NULL, SPI_OK_SELECT);
	old = MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		Trouble *trouble = palloc(sizeof(Trouble));
		bool isnull;

		trouble->endpoint = SPI_getvalue(row, desc, 1);
		trouble->what = SPI_getvalue(row, desc, 2);
		trouble->since = DatumGetTimestampTz(
			SPI_getbinval(row, desc, 3, &isnull));
		trouble->accepted = DatumGetBool(SPI_getbinval(row, desc, 4, &isnull));
		found = lappend(found, trouble);
	}
	MemoryContextSwitchTo(old);
	SPI_finish();
	return found;
}

/* An event that came by webhook to the endpoint ("": to any) since then? */
static bool
inbox_has(const char *endpoint, TimestampTz since)
{
	static EngineStatement of_one = {
		"SELECT FROM stripe_sync.event WHERE received_at > $2"
		" AND endpoint = $1 AND source = 'webhook' LIMIT 1",
		2,
		{TEXTOID, TIMESTAMPTZOID}};
	static EngineStatement of_any = {
		"SELECT FROM stripe_sync.event WHERE received_at > $2"
		" AND $1 IS NOT NULL AND source = 'webhook' LIMIT 1",
		2,
		{TEXTOID, TIMESTAMPTZOID}};
	Datum values[] = {CStringGetTextDatum(endpoint), TimestampTzGetDatum(since)};
	bool has;

	SPI_connect();
	engine_run(endpoint[0] != '\0' ? &of_one : &of_any, values, NULL,
			   SPI_OK_SELECT);
	has = SPI_processed > 0;
	SPI_finish();
	return has;
}

/* ---- telling ---- */

/* The object of a system event. */
static Jsonb *
describe(const Trouble *trouble)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_build_object("
		" 'id', COALESCE(nullif($1, ''), '(unknown)'),"
		" 'endpoint', COALESCE(nullif($1, ''), '(unknown)'), 'trouble', $2,"
		" 'code', r.code, 'refused', r.events, 'detail', pg_catalog.rtrim(r.last_detail, '.'),"
		" 'first_at', EXTRACT(epoch FROM r.first_at)::bigint,"
		" 'last_at', EXTRACT(epoch FROM r.last_at)::bigint,"
		" 'reason', CASE $2"
		"  WHEN 'mode' THEN 'an event of live mode came, and the endpoint takes those of test mode'"
		"  WHEN 'secret' THEN 'there is no signing secret that can be used'"
		"  ELSE 'three or more within an hour, and none was accepted' END,"
		" 'remedy', CASE WHEN $2 = 'mode' THEN 'Set the endpoint''s mode, or make one"
		" for live events, with `stripe_sync.add_endpoint()`. Then `SELECT"
		" stripe_sync.reconcile(''30 days'')` brings in what was refused.'"
		"  ELSE 'Mend it: `SELECT * FROM stripe_sync.refusal` says what. Then `SELECT"
		" stripe_sync.reconcile(''30 days'')` brings in what was refused.' END)"
		" FROM stripe_sync.refusal_watch w"
		" JOIN stripe_sync.refusal_record r ON r.endpoint = w.endpoint AND r.code ="
		"  CASE $2 WHEN 'mode' THEN 'SY006' WHEN 'secret' THEN 'SY007'"
		"   ELSE w.likely_code END"
		" WHERE w.endpoint = $1",
		2,
		{TEXTOID, TEXTOID}};
	Datum values[] = {CStringGetTextDatum(trouble->endpoint),
					  CStringGetTextDatum(trouble->what)};

	return engine_jsonb(&build, values, NULL);
}

static void
tell(const char *type, const Trouble *trouble)
{
	Jsonb *object = describe(trouble);

	if (object != NULL)
		alert_system(type, object);
}

/* What is open, as of now; NULL: nothing is. */
static void
note_open(const char *endpoint, const char *what)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.refusal_watch SET told = $2, told_at = CASE WHEN $2"
		" IS NULL THEN told_at ELSE pg_catalog.clock_timestamp() END"
		" WHERE endpoint = $1",
		2,
		{TEXTOID, TEXTOID}};
	Datum values[] = {CStringGetTextDatum(endpoint),
					  what ? CStringGetTextDatum(what) : (Datum) 0};

	SPI_connect();
	engine_run(&update, values, what ? NULL : " n", SPI_OK_UPDATE);
	SPI_finish();
}

/* ---- what is over ---- */

static void
end_troubles(void)
{
	static EngineStatement select = {
		"SELECT w.endpoint, w.told, w.told_at,"
		" COALESCE(w.accepted_at > w.told_at, false)"
		"  OR w.endpoint <> '' AND e.name IS NULL"
		" FROM stripe_sync.refusal_watch w"
		" LEFT JOIN stripe_sync.endpoint e ON e.name = w.endpoint"
		" WHERE w.told IS NOT NULL"
		"  AND NOT (w.told = 'mode' AND COALESCE(NOT e.livemode, false)"
		"   AND w.live_at > pg_catalog.clock_timestamp() - interval '1 day')"
		"  AND NOT (w.endpoint = '' AND w.likely[1] >"
		"   pg_catalog.clock_timestamp() - interval '1 hour')"
		" ORDER BY w.endpoint"};
	ListCell *cell;

	foreach(cell, find(&select))
	{
		Trouble *trouble = lfirst(cell);

		if (!trouble->accepted && !inbox_has(trouble->endpoint, trouble->since))
			continue;
		note_open(trouble->endpoint, NULL);
		tell(ACCEPTED, trouble);
	}
}

/* ---- what is news ---- */

/* What nobody wants to know will be news, for a day, to who does. */
static void
begin_troubles(void)
{
	static EngineStatement select = {
		"SELECT w.endpoint, CASE"
		"  WHEN w.live_at > n.at - interval '1 day' THEN 'mode'"
		"  WHEN w.no_secret_at > n.at - interval '1 day' THEN 'secret'"
		"  ELSE 'refused' END,"
		" LEAST(w.likely[3], n.at - interval '1 hour'),"
		" COALESCE(w.accepted_at > LEAST(w.likely[3], n.at - interval '1 hour'), false)"
		" FROM stripe_sync.refusal_watch w, (SELECT pg_catalog.clock_timestamp()) AS n (at)"
		" WHERE COALESCE(w.told_at <= n.at - interval '1 day', true)"
		"  AND (w.endpoint = '' OR EXISTS (SELECT FROM stripe_sync.endpoint e"
		"    WHERE e.name = w.endpoint))"
		"  AND (w.live_at > n.at - interval '1 day'"
		"   OR w.no_secret_at > n.at - interval '1 day'"
		"   OR w.likely[1] > n.at - interval '1 day'"
		"    AND w.likely[1] - w.likely[3] <= interval '1 hour')"
		" ORDER BY w.endpoint"};
	ListCell *cell;

	foreach(cell, find(&select))
	{
		Trouble *trouble = lfirst(cell);

		if (strcmp(trouble->what, "refused") == 0 &&
			(trouble->accepted || (trouble->endpoint[0] != '\0' &&
								   inbox_has(trouble->endpoint, trouble->since))))
			continue;
		note_open(trouble->endpoint, trouble->what);
		tell(REFUSED, trouble);
	}
}

/* Rows of endpoints that are gone, when nothing of them is open. */
static void
forget(void)
{
	static EngineStatement drop = {
		"DELETE FROM stripe_sync.refusal_watch w WHERE w.told IS NULL AND w.endpoint <> ''"
		" AND NOT EXISTS (SELECT FROM stripe_sync.endpoint e WHERE e.name = w.endpoint)"};

	SPI_connect();
	engine_run(&drop, NULL, NULL, SPI_OK_DELETE);
	SPI_finish();
}

/* Once a minute, when what was counted is written down, in a transaction of its own. */
void
refusals_judge(void)
{
	if (!outbound_is_original() || !advisory_try_lock(ADVISORY_REFUSALS, 0))
		return;
	end_troubles();
	if (alert_wanted(REFUSED))
		begin_troubles();
	forget();
}
