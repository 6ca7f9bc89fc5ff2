/*
 * incidents.c
 *		Items about incidents that stay open.
 *
 * An incident belongs to one of them: critical ones that were repeated, and that
 * nobody has acknowledged or snoozed, to slack.unacknowledged_alerts, others to
 * slack.open_incidents.
 */
#include "postgres.h"

#include "engine/statement.h"
#include "slack_items/internal.h"

#define TOO_LONG "14 days"

typedef struct OpenIncident
{
	int64 count;
	int64 id;
	char *alert;
	double seconds; /* since it was opened */
} OpenIncident;

/* The statement selects (count, id, alert, seconds) of the oldest. */
static bool
find_oldest(EngineStatement *select, OpenIncident *oldest)
{
	bool found;
	Rows rows;

	memset(oldest, 0, sizeof(*oldest));
	rows_open(&rows, select, NO_ARGS);
	found = rows_next(&rows);
	if (found)
	{
		oldest->count = rows_int8(&rows, 0);
		oldest->id = rows_int8(&rows, 0);
		oldest->alert = rows_text(&rows);
		oldest->seconds = rows_float8(&rows, 0);
	}
	rows_close(&rows);
	return found;
}

#define OLDEST_OF(condition)                                                   \
	"SELECT pg_catalog.count(*) OVER (), i.id, i.alert,"                       \
	" EXTRACT(epoch FROM pg_catalog.clock_timestamp() - i.opened_at)::float8"  \
	" FROM stripe_sync.incident_record i"                                      \
	" WHERE i.state = 'open' AND i.kind = 'single' AND " condition             \
	" ORDER BY i.opened_at, i.id LIMIT 1"

#define IS_UNACKNOWLEDGED                                                      \
	"(i.escalated_at IS NOT NULL AND i.acknowledged_at IS NULL"                \
	" AND COALESCE(i.snoozed_until <= pg_catalog.clock_timestamp(), true))"

/* Critical incidents that were repeated, and nobody has taken up */
void
look_at_unacknowledged(Finding *finding)
{
	static EngineStatement select = {OLDEST_OF(IS_UNACKNOWLEDGED)};
	OpenIncident oldest;
	bool found = find_oldest(&select, &oldest);

	finding_figure(finding, oldest.count, "incidents");
	if (!found)
		finding_ok(finding,
				   "no critical incident that was repeated waits for somebody");
	else
		finding_warn(
			finding,
			"%s repeated and not acknowledged, the oldest is incident " INT64_FORMAT
			" of %s, open for %s",
			words_count(oldest.count, "critical incident was",
						"critical incidents were"),
			oldest.id, oldest.alert, words_age(oldest.seconds));
}

/* Those of an event that never closed them: it may be missing. */
void
look_at_open_incidents(Finding *finding)
{
	static EngineStatement select = {
		OLDEST_OF("NOT " IS_UNACKNOWLEDGED " AND i.opened_at"
				  " < pg_catalog.clock_timestamp() - interval '" TOO_LONG "'")};
	OpenIncident oldest;
	bool found = find_oldest(&select, &oldest);

	finding_figure(finding, oldest.count, "incidents");
	if (!found)
		finding_ok(finding, "no incident is open for more than " TOO_LONG);
	else
		finding_warn(finding,
					 "%s open for more than " TOO_LONG
					 ", the oldest is incident " INT64_FORMAT " of %s, for %s",
					 words_count(oldest.count, "incident is", "incidents are"),
					 oldest.id, oldest.alert, words_age(oldest.seconds));
}
