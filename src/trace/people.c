/*
 * people.c
 *		What people did about the story's incidents in Slack, and what the clock
 *		did: rows of incident_step and interaction.
 *
 * A press that made a step is told by the step.  The others (a trace was shown,
 * an event retried, somebody may not) are told by the interaction.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "engine/statement.h"
#include "trace/internal.h"

#define MOST_STEPS		  300
#define MOST_INTERACTIONS 300

/* "slack:U1" is shown as U1, like the id that Slack shows. */
static const char *
person(const char *by)
{
	return strncmp(by, "slack:", 6) == 0 ? by + 6 : by;
}

static TraceRecord *
add_record(TraceGather *gather, TraceKind kind, TimestampTz at, int64 incident)
{
	TraceRecord *record = record_add(gather, kind, at);

	record->line.ref = psprintf("incident " INT64_FORMAT, incident);
	record->incident = incident;
	record_fact_number(record, "incident", incident);
	return record;
}

/* ---- steps ---- */

static char *
step_words(const char *step, int64 incident, TimestampTz until)
{
	if (strcmp(step, "snoozed") == 0 && until != 0)
		return psprintf("incident " INT64_FORMAT " snoozed until %s", incident,
						words_time(until, false));
	if (strcmp(step, "woken") == 0)
		return psprintf("incident " INT64_FORMAT
						" is no longer snoozed and still open",
						incident);
	if (strcmp(step, "repeated") == 0)
		return psprintf("incident " INT64_FORMAT " was still open: repeated",
						incident);
	return psprintf("incident " INT64_FORMAT " %s", incident, step);
}

static void
tell_step(TraceGather *gather, Rows *rows)
{
	int64 incident = rows_int8(rows, 0);
	TimestampTz at = rows_time(rows, 0);
	char *step = rows_text(rows);
	char *by = rows_text(rows);
	TimestampTz until = rows_time(rows, 0);
	int64 interaction = rows_int8(rows, 0);
	TraceRecord *record = add_record(
		gather, by != NULL ? TRACE_PERSON : TRACE_INCIDENT, at, incident);

	record_say(record, "%s%s%s", step_words(step, incident, until),
			   by != NULL ? " by " : "", by != NULL ? person(by) : "");
	record_fact_text(record, "step", step);
	record_fact_text(record, "by", by);
	record_fact_time(record, "until", until);
	record_fact_number(record, "interaction", interaction);
}

static void
tell_steps(TraceGather *gather, const ArrayType *incidents)
{
	static EngineStatement select = {
		"SELECT incident, at, step, by, until, interaction"
		" FROM stripe_sync.incident_step WHERE incident = ANY ($1)"
		" ORDER BY id LIMIT $2"};
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_varlena(INT8ARRAYOID, incidents), arg_int4(MOST_STEPS)));
	if (rows.count == MOST_STEPS)
		record_cut(gather, "Only the first %d steps of incidents are shown.",
				   MOST_STEPS);
	while (rows_next(&rows))
		tell_step(gather, &rows);
	rows_close(&rows);
}

/* ---- interactions ---- */

/* What became of it, to follow "U1 pressed acknowledge" */
static char *
outcome_words(const char *status, const char *error)
{
	if (strcmp(status, "done") == 0)
		return "";
	return psprintf(": %s%s%s", status, error != NULL ? ", " : "",
					error != NULL ? error : "");
}

/* "stripe_sync.retry_event" is shown as "retry event". */
static char *
action_words(const char *name)
{
	char *words = pstrdup(strncmp(name, "stripe_sync.", 12) == 0 ? name + 12
																 : name);

	for (char *c = words; *c != '\0'; c++)
		if (*c == '_')
			*c = ' ';
	return words;
}

static void
tell_interaction(TraceGather *gather, Rows *rows)
{
	int64 incident = rows_int8(rows, 0);
	TraceRecord *record = add_record(gather, TRACE_PERSON, rows_time(rows, 0),
									 incident);
	int64 id = rows_int8(rows, 0);
	char *kind = rows_text(rows);
	char *name = rows_text(rows);
	char *argument = rows_text(rows); /* of a command */
	char *user = rows_text(rows);
	char *status = rows_text(rows);
	char *error = rows_text(rows);
	char *unanswered = rows_text(rows);

	record->failed = strcmp(status, "failed") == 0;
	record->status = status;
	record_say(
		record, "%s %s \"%s%s%s\"%s%s%s", user != NULL ? user : "somebody",
		strcmp(kind, "press") == 0 ? "pressed" : "used",
		action_words(name != NULL ? name : kind), argument != NULL ? " " : "",
		argument != NULL ? argument : "", outcome_words(status, error),
		unanswered != NULL ? "; the answer was not delivered: " : "",
		unanswered != NULL ? unanswered : "");
	record_fact_number(record, "interaction", id);
	record_fact_text(record, "by", user);
	record_fact_text(record, "status", status);
	record_fact_text(record, "error", error);
}

static void
tell_interactions(TraceGather *gather, const ArrayType *incidents)
{
	static EngineStatement select = {
		"SELECT i.incident, i.received_at, i.id, i.kind, i.name,"
		" CASE i.kind WHEN 'command' THEN NULLIF(pg_catalog.left(i.value, 200), '') END,"
		" i.slack_user,"
		" i.status, i.error,"
		" (SELECT COALESCE(c.code, c.state) FROM stripe_sync.slack_call c"
		"   WHERE c.interaction = i.id AND c.state = 'dead' ORDER BY c.id LIMIT 1)"
		" FROM stripe_sync.interaction i WHERE i.incident = ANY ($1)"
		" AND NOT (i.status = 'done' AND EXISTS"
		"  (SELECT FROM stripe_sync.incident_step s"
		"    WHERE s.incident = i.incident AND s.interaction = i.id))"
		" ORDER BY i.incident, i.id LIMIT $2"};
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_varlena(INT8ARRAYOID, incidents),
				   arg_int4(MOST_INTERACTIONS)));
	if (rows.count == MOST_INTERACTIONS)
		record_cut(gather, "Only the first %d interactions are shown.",
				   MOST_INTERACTIONS);
	while (rows_next(&rows))
		tell_interaction(gather, &rows);
	rows_close(&rows);
}

/* The lines of what people and the clock did with the story's incidents. */
void
people_tell(TraceGather *gather)
{
	ArrayType *incidents = incident_ids(gather);

	tell_steps(gather, incidents);
	tell_interactions(gather, incidents);
}
