/*
 * unsaid.c
 *		Events that no alert has counted: no rule matches them, or why the rules
 *		of their type did nothing.
 *
 * The set-up of alerts is that of now.
 */
#include "postgres.h"

#include "engine/statement.h"
#include "types/object.h"
#include "trace/internal.h"

/* What is known of a rule */
typedef struct Rule
{
	char *name;
	char *event_type;
	char *closed_by; /* or NULL */
	char *destination;
	bool has_condition;
	TimestampTz created_at;
} Rule;

static List *
read_rules(void)
{
	static EngineStatement select = {
		"SELECT name, event_type, closed_by, destination, condition IS NOT NULL,"
		" created_at FROM stripe_sync.alert ORDER BY name"};
	List *rules = NIL;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	while (rows_next(&rows))
	{
		Rule *rule = palloc(sizeof(Rule));

		rule->name = rows_text(&rows);
		rule->event_type = rows_text(&rows);
		rule->closed_by = rows_text(&rows);
		rule->destination = rows_text(&rows);
		rule->has_condition = rows_bool(&rows, false);
		rule->created_at = rows_time(&rows, 0);
		rules = lappend(rules, rule);
	}
	rows_close(&rows);
	return rules;
}

/* Why a rule of the event's type did nothing */
static const char *
reason(const Rule *rule, const TraceEvent *one)
{
	if (rule->created_at > one->received_at)
		return "it was added later";
	if (rule->has_condition)
		return "its condition is not met";
	if (rule->destination[0] == '@')
		return "the customer has no route";
	return "it does not apply to this event";
}

static void
tell_rule(TraceGather *gather, const Rule *rule, const TraceEvent *one)
{
	TraceRecord *record = record_add(gather, TRACE_UNSAID, one->received_at);
	const char *why = reason(rule, one);

	record->main = one->main;
	record->line.ref = one->id;
	record->event_id = one->id;
	record->account = one->account;
	record->event_type = one->type;
	record->alert = rule->name;
	record_say(record, "alert %s: nothing said, because %s", rule->name, why);
	record_fact_text(record, "alert", rule->name);
	record_fact_text(record, "event", one->id);
	record_fact_text(record, "why", why);
}

/* The alerts have not been evaluated, or an event is held for its mode. */
static bool
is_unknown(const TraceEvent *one)
{
	return (one->todo != NULL && strstr(one->todo, STEP_ALERTS) != NULL) ||
		   one->object_id == NULL;
}

/* A rule that only closes had no incident to close: nothing is to be said. */
static void
tell_event(TraceGather *gather, List *rules, TraceEvent *one)
{
	bool matched = false;
	ListCell *cell;

	if (is_unknown(one))
		return;
	foreach(cell, rules)
	{
		Rule *rule = lfirst(cell);

		if (rule->closed_by != NULL &&
			event_type_fits_any(one->type, rule->closed_by))
			matched = true;
		else if (event_type_fits_any(one->type, rule->event_type))
		{
			matched = true;
			tell_rule(gather, rule, one);
		}
	}
	if (!matched && one->received != NULL)
	{
		record_append(one->received, "; no alert matches");
		record_fact_text(one->received, "unsaid", "no alert matches");
	}
}

/* The lines about the story's events that no alert has counted. */
void
unsaid_tell(TraceGather *gather)
{
	List *rules = read_rules();
	ListCell *cell;

	foreach(cell, gather->events)
		if (!((TraceEvent *) lfirst(cell))->alerted)
			tell_event(gather, rules, lfirst(cell));
}
