/*
 * burst.c
 *		Limits: past coalesce_burst incidents of one rule are a roll-up, past
 *		max_alerts_per_hour messages to one destination are a digest.
 *
 * The counts are of committed rows and our own.  The caller tries to take the
 * destination's lock first, so that they are exact in most cases; it never
 * waits for it (incident.c).  All functions run in the engine's scope.
 */
#include "postgres.h"

#include "base/base.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "alert/internal.h"

/* Messages an hour and destination, beyond max_alerts_per_hour */
#define CRITICAL_RESERVE 10

/* ---- incidents of one rule ---- */

/*
 * Does the rule have coalesce_burst incidents already, opened within its
 * window?  They are counted for each destination (one customer's failures are
 * no burst for another customer) and class.  Of failing events those that are
 * still open count too, whenever they were opened.
 */
bool
burst_reached(const Occurrence *occurrence)
{
	static EngineStatement count = {
		"SELECT pg_catalog.count(*) FROM stripe_sync.incident_record"
		" WHERE alert = $1 AND destination = $2 AND class = $4"
		" AND kind = 'single' AND opened_at"
		"  > pg_catalog.clock_timestamp() - $3 * interval '1 microsecond'"};
	static EngineStatement count_open = {
		"SELECT pg_catalog.count(*) FROM stripe_sync.incident_record"
		" WHERE alert = $1 AND destination = $2 AND class = $4"
		" AND kind = 'single' AND (state = 'open' OR opened_at"
		"  > pg_catalog.clock_timestamp() - $3 * interval '1 microsecond')"};
	bool has_class = occurrence->class[0] != '\0';

	return statement_int8(0, has_class ? &count_open : &count,
						  ARGS(arg_text(occurrence->alert->name),
							   arg_text(occurrence->destination),
							   arg_int8(occurrence->alert->window),
							   arg_text(occurrence->class))) >=
		   guc_coalesce_burst;
}

/*
 * The step that fails, for a rule on system.event_* that uses their own group;
 * else "".  Failures of one step are no burst for another step.
 */
const char *
burst_class(const Alert *alert, const Event *event)
{
	char *group = NULL;
	char *step = NULL;

	if (strncmp(event->type, "system.event_", 13) == 0 && event->object != NULL)
	{
		group = json_get_string(event->object, "group");
		step = json_get_string(event->object, "step");
	}
	return group != NULL && step != NULL && strcmp(group, alert->group) == 0
			   ? step
			   : "";
}

/* The group_key of the roll-up: one for each destination and class */
const char *
burst_rollup_group(const Occurrence *occurrence)
{
	return occurrence->class[0] == '\0'
			   ? occurrence->destination
			   : psprintf("%s %s", occurrence->destination, occurrence->class);
}

/* ---- messages to one destination ---- */

/*
 * Has the destination had max_alerts_per_hour messages of alerts, and "reserve"
 * more, within the last hour?
 */
bool
flood_at(const char *destination, int reserve)
{
	static EngineStatement count = {
		"SELECT pg_catalog.count(*) FROM stripe_sync.message"
		" WHERE destination = $1 AND alert IS NOT NULL AND created_at"
		"  > pg_catalog.clock_timestamp() - interval '1 hour'"};

	return statement_int8(0, &count, ARGS(arg_text(destination))) >=
		   (int64) guc_max_alerts_per_hour + reserve;
}

/*
 * The same for one more message of the rule; critical ones have a reserve.  A
 * muted rule sends nothing that could be too much.
 */
bool
flood_reached(const Occurrence *occurrence)
{
	bool critical = strcmp(occurrence->alert->severity, "critical") == 0;

	return flood_at(occurrence->destination, critical ? CRITICAL_RESERVE : 0) &&
		   !alert_is_muted(occurrence->alert->name);
}
