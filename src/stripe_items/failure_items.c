/*
 * failure_items.c
 *		Events that failed, and objects of which the mirror has not what the
 *		stored events say.
 *
 * Messages of errors are not shown: they may hold what a customer entered.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "engine/engine.h"
#include "inspect/inspect.h"
#include "stripe/stripe.h"
#include "types/types.h"
#include "stripe_items/internal.h"

/* ---- stripe.failed_events ---- */

#define MOST_EVENTS 2000 /* that are counted */
#define MOST_ERRORS 300	 /* events of which the error is looked up */

/* The events that failed, and the commonest of their errors */
typedef struct Failures
{
	int64 failed;
	int64 dead;
	char *since; /* of the oldest, for replay() */
	char *id;	 /* of one of the commonest */
	char *step;
	char *sqlstate;
	char *type;
	int64 alike;
} Failures;

static void
read_failures(Failures *failures)
{
	static EngineStatement select = {
		"WITH e AS MATERIALIZED (SELECT id, account, type, status, received_at"
		"  FROM stripe_sync.event WHERE status IN ('failed', 'dead')"
		"   AND status IN ('pending', 'failed', 'dead')"
		"  ORDER BY received_at LIMIT $1),"
		" n AS (SELECT pg_catalog.count(*) FILTER (WHERE status = 'failed') AS failed,"
		"   pg_catalog.count(*) FILTER (WHERE status = 'dead') AS dead,"
		"   pg_catalog.to_char(pg_catalog.timezone('UTC',"
		"    pg_catalog.date_trunc('second', pg_catalog.min(received_at))),"
		"    'YYYY-MM-DD HH24:MI:SS+00') AS since FROM e),"
		" g AS (SELECT r.step, r.sqlstate, e.type, pg_catalog.count(*) AS alike,"
		"   pg_catalog.max(e.id) AS id"
		"  FROM (SELECT * FROM e LIMIT $2) e CROSS JOIN LATERAL"
		"   (SELECT x.step, x.sqlstate FROM stripe_sync.event_error x"
		"     WHERE x.event_id = e.id AND x.account = e.account"
		"      AND COALESCE(x.state, '') = 'failing'"
		"     ORDER BY x.last_at DESC LIMIT 1) r"
		"  GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3 LIMIT 1)"
		" SELECT n.failed, n.dead, n.since,"
		"  COALESCE(g.id, (SELECT pg_catalog.max(id) FROM e)),"
		"  g.step, g.sqlstate, g.type, g.alike FROM n LEFT JOIN g ON true"};
	int nest = plan_for_indexes();
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_int8(MOST_EVENTS), arg_int8(MOST_ERRORS)));
	if (rows_next(&rows))
	{
		failures->failed = rows_int8(&rows, 0);
		failures->dead = rows_int8(&rows, 0);
		failures->since = rows_text(&rows);
		failures->id = rows_text(&rows);
		failures->step = rows_text(&rows);
		failures->sqlstate = rows_text(&rows);
		failures->type = rows_text(&rows);
		failures->alike = rows_int8(&rows, 0);
	}
	rows_close(&rows);
	plan_settings_restore(nest);
}

static char *
describe_failures(const Failures *failures)
{
	StringInfoData words;
	int64 all = failures->failed + failures->dead;

	initStringInfo(&words);
	if (all >= MOST_EVENTS)
		appendStringInfoString(&words, "at least ");
	if (failures->dead > 0)
		appendStringInfo(
			&words, "%s",
			words_count(failures->dead, "event is dead", "events are dead"));
	if (failures->failed > 0)
		appendStringInfo(&words, "%s%s", failures->dead > 0 ? ", " : "",
						 words_count(failures->failed,
									 "event has failed and is tried again",
									 "events have failed and are tried again"));
	if (failures->step != NULL)
		appendStringInfo(
			&words, "; most often step \"%s\" of %s, %s (%s, as %s)",
			failures->step, failures->type, failures->sqlstate,
			words_count(failures->alike, "time", "times"), failures->id);
	return words.data;
}

void
look_at_failed_events(Finding *finding)
{
	Failures failures = {0};
	int64 all;

	read_failures(&failures);
	all = failures.failed + failures.dead;
	finding_figure(finding, all, "events");
	if (all == 0)
	{
		finding_ok(finding, "no event is failed or dead");
		return;
	}
	if (failures.dead > 0)
		finding_fail(finding, "%s", describe_failures(&failures));
	else
		finding_warn(finding, "%s", describe_failures(&failures));
	if (all == 1)
		finding_hint(finding, "SELECT * FROM stripe_sync.replay(%s)",
					 hint_literal(failures.id));
	else
		finding_hint(
			finding,
			"SELECT status, count(*) FROM stripe_sync.replay(timestamptz '%s') GROUP BY status",
			failures.since);
}

/* ---- stripe.mirror_drift ---- */

#define PARTS		 30 /* of the inbox, one in each transaction */
#define MOST_OBJECTS 10 /* of a part */
#define MOST_HINTS	 5

/* What the parts so far have come to; between them it is a text. */
typedef struct Drift
{
	int parts;
	int objects; /* that were compared, some of them twice */
	int differ;
	char *names;  /* of those that differ: "customer cus_1 (email), ..." */
	char *repair; /* rows for the hint */
} Drift;

static Drift
drift_read(const char *progress)
{
	Drift drift = {.names = pstrdup(""), .repair = pstrdup("")};
	const char *names;
	const char *repair;

	if (progress == NULL ||
		sscanf(progress, "%d %d %d", &drift.parts, &drift.objects,
			   &drift.differ) != 3 ||
		(names = strchr(progress, '\n')) == NULL ||
		(repair = strchr(names + 1, '\n')) == NULL)
		return drift;
	drift.names = pnstrdup(names + 1, repair - names - 1);
	drift.repair = pstrdup(repair + 1);
	return drift;
}

static char *
drift_write(const Drift *drift)
{
	return psprintf("%d %d %d\n%s\n%s", drift->parts, drift->objects,
					drift->differ, drift->names, drift->repair);
}

/* A text from outside, as part of a line */
static char *
one_line(const char *text)
{
	char *line = pstrdup(text);

	for (char *p = line; *p != '\0'; p++)
		if ((unsigned char) *p < ' ')
			*p = ' ';
	return line;
}

/* An object can be met in several parts. */
static void
drift_add(Drift *drift, const MirrorDifference *difference)
{
	const char *comma = drift->differ > 0 ? ", " : "";
	char *id = one_line(difference->object_id);
	char *row = psprintf("(%s, %s, %s)", hint_literal(difference->object_type),
						 hint_literal(id),
						 hint_literal(one_line(difference->account)));

	if (strstr(drift->repair, row) != NULL)
		return;
	if (drift->differ < MOST_HINTS)
	{
		drift->names = psprintf("%s%s%s %s (%s)", drift->names, comma,
								difference->object_type, id,
								one_line(difference->field));
		drift->repair = psprintf("%s%s%s", drift->repair, comma, row);
	}
	drift->differ++;
}

/* Without a key the newest stored event of each, or those of its second, are
 * applied again. */
static void
drift_hint(Finding *finding, const Drift *drift)
{
	if (api_key_is_set())
		finding_hint(
			finding,
			"SELECT stripe_sync.refetch(o.type, o.id, o.account) FROM (VALUES %s) o (type, id, account)",
			drift->repair);
	else
		finding_hint(
			finding,
			"SELECT r.* FROM (VALUES %s) o (type, id, account), LATERAL (SELECT e.id FROM stripe_sync.event e WHERE (e.object_type, e.object_id, e.account) = (o.type, o.id, o.account) ORDER BY e.created DESC FETCH FIRST 1 ROW WITH TIES) e, stripe_sync.replay(e.id) r",
			drift->repair);
}

/* Of the parts so far */
static void
judge_drift(Finding *finding, const Drift *drift)
{
	if (drift->objects == 0 && drift->parts < PARTS)
		return;
	finding_figure(finding, drift->differ, "objects");
	if (drift->objects == 0)
	{
		finding_ok(finding, "no stored event has an object to compare");
		return;
	}
	if (drift->differ == 0)
	{
		finding_ok(finding, "%s, and all are as the stored events say",
				   words_count(drift->objects, "object was compared",
							   "objects were compared"));
		return;
	}
	finding_fail(finding, "%s from the stored events, in %s: %s%s",
				 words_count(drift->differ, "object differs", "objects differ"),
				 words_count(drift->objects, "comparison", "comparisons"),
				 drift->names, drift->differ > MOST_HINTS ? ", ..." : "");
	drift_hint(finding, drift);
}

/* A slice: compares a few objects of one part of the inbox. */
bool
look_at_mirror_drift(Finding *finding, char **progress)
{
	Drift drift = drift_read(*progress);
	List *differences = NIL;
	ListCell *cell;

	drift.objects += verify_part(drift.parts, PARTS, MOST_OBJECTS, &differences);
	drift.parts++;
	foreach(cell, differences)
		drift_add(&drift, lfirst(cell));
	judge_drift(finding, &drift);
	*progress = drift_write(&drift);
	return drift.parts >= PARTS;
}
