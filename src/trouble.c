/*
 * trouble.c
 *		Steps of events that have failed, as system.event_failed and
 *		system.event_dead tell them.
 *
 * Each failure is told once: of an event, a step and a SQLSTATE.  Those of one
 * step, SQLSTATE and event type have a group in common, and are one incident
 * where an alert groups by it.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* What an alert is told of a failure. */
typedef struct Trouble
{
	const Event *event;
	const StepFailure *failure;
	const char *sqlstate;
	bool is_dead;
	bool is_held; /* until its handler is registered again */
	bool has_next;
	TimestampTz next; /* try */
} Trouble;

/* What failures have in common that are told together. */
char *
trouble_group(const char *step, const char *sqlstate, const char *event_type)
{
	return sqlstate != NULL ? psprintf("%s %s %s", step, sqlstate, event_type)
							: psprintf("%s %s", step, event_type);
}

/*
 * Will it be otherwise the next time, with nothing changed by anybody?  Data
 * that doesn't fit (22), a constraint that is broken (23), what isn't there or
 * isn't allowed (42): no.
 */
static bool
retry_may_help(const Trouble *trouble)
{
	int category = ERRCODE_TO_CATEGORY(trouble->failure->error->sqlerrcode);

	return category != ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION) &&
		   category !=
			   ERRCODE_TO_CATEGORY(ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION) &&
		   category != ERRCODE_TO_CATEGORY(
						   ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION) &&
		   trouble->failure->error->sqlerrcode != ERRCODE_NO_SUCH_NAME;
}

/* Of the event; another step of it may be due earlier. */
static void
read_next(Trouble *trouble)
{
	static EngineStatement select = {
		"SELECT next_attempt_at FROM stripe_sync.event WHERE id = $1 AND account = $2",
		2,
		{TEXTOID, TEXTOID}};
	Datum values[] = {CStringGetTextDatum(trouble->event->id),
					  CStringGetTextDatum(trouble->event->account)};
	bool isnull = true;

	SPI_connect();
	engine_run(&select, values, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
		trouble->next = DatumGetTimestampTz(SPI_getbinval(
			SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	trouble->has_next = !isnull;
}

static char *
utc(TimestampTz at)
{
	pg_time_t seconds = timestamptz_to_time_t(at);
	char text[64];

	pg_strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC",
				pg_gmtime(&seconds));
	return pstrdup(text);
}

static int
tries_left(const Trouble *trouble)
{
	return Max(guc_max_attempts - trouble->failure->tries, 0);
}

/* Sentences: what becomes of it by itself, and what somebody must do. */
static char *
remedy_of(const Trouble *trouble)
{
	StringInfoData said;
	int left = tries_left(trouble);

	if (trouble->is_held)
		return "It waits, and no try is counted, until the handler is registered "
			   "again.";
	initStringInfo(&said);
	appendStringInfoString(
		&said,
		retry_may_help(trouble)
			? "Trying again may help"
			: "Trying again does not help until somebody changes what is wrong");
	if (trouble->is_dead)
		appendStringInfo(
			&said,
			"; all %d tries are used, and it is not tried again by itself",
			trouble->failure->tries);
	else if (trouble->has_next)
		appendStringInfo(&said, "; next try %s, %d %s left", utc(trouble->next),
						 left, left == 1 ? "is" : "are");
	appendStringInfoChar(&said, '.');
	return said.data;
}

static char *
object_of(const Event *event)
{
	if (event->object_type == NULL)
		return "no object";
	return event->object_id
			   ? psprintf("%s %s", event->object_type, event->object_id)
			   : pstrdup(event->object_type);
}

static Jsonb *
describe(const Trouble *trouble)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_build_object('id', $1, 'event', $1,"
		" 'event_type', $2, 'object_type', $3, 'object_id', $4, 'object', $5,"
		" 'step', $6, 'sqlstate', $7, 'error', $8, 'group', $9, 'remedy', $10,"
		" 'look', $11, 'retry_helps', $12, 'attempts_left', $13,"
		" 'next_attempt_at', pg_catalog.floor(EXTRACT(epoch FROM $14)))",
		14,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
		 TEXTOID, TEXTOID, TEXTOID, BOOLOID, INT4OID, TIMESTAMPTZOID}};
	const Event *event = trouble->event;
	const StepFailure *failure = trouble->failure;
	const char *texts[] = {
		event->id,
		event->type,
		event->object_type,
		event->object_id,
		object_of(event),
		failure->step,
		trouble->sqlstate,
		psprintf("%s: %s", trouble->sqlstate, failure->error->message),
		trouble_group(failure->step, trouble->sqlstate, event->type),
		remedy_of(trouble),
		psprintf("SELECT stripe_sync.explain_event(%s)",
				 quote_literal_cstr(event->id))};
	Datum values[lengthof(texts) + 3];
	char nulls[] = "              ";

	for (int i = 0; i < lengthof(texts); i++)
	{
		nulls[i] = texts[i] ? ' ' : 'n';
		values[i] = texts[i] ? CStringGetTextDatum(texts[i]) : (Datum) 0;
	}
	values[11] = BoolGetDatum(retry_may_help(trouble));
	values[12] = Int32GetDatum(trouble->is_dead ? 0 : tries_left(trouble));
	values[13] = TimestampTzGetDatum(trouble->next);
	nulls[13] = trouble->has_next && !trouble->is_dead ? ' ' : 'n';
	return engine_jsonb(&build, values, nulls);
}

#define LONGEST_ID 300 /* bytes of a report's id */

/* Made of what it tells, for alerts count an event once. */
static char *
report_id(const Trouble *trouble)
{
	char *id = psprintf("sys_%s_%s_%s_%s", trouble->is_dead ? "dead" : "failed",
						trouble->event->id, trouble->sqlstate,
						trouble->failure->step);
	int length = strlen(id);

	if (length <= LONGEST_ID)
		return id;
	return psprintf("sys_%s_%016llx", trouble->is_dead ? "dead" : "failed",
					(unsigned long long) hash_bytes_extended(
						(const unsigned char *) id, length, 0));
}

/*
 * The event's alerts have their locks, so no other is waited for: what is left
 * out now is said with the next attempt.
 */
static void
tell_failure(const StepRun *run, const StepFailure *failure)
{
	Step step = {unconstify(char *, failure->step), failure->tries};
	Trouble trouble = {.event = run->event,
					   .failure = failure,
					   .is_held = step_hold(&step) == HANDLER_ANOTHERS};
	const char *type;

	trouble.is_dead = !trouble.is_held && step_is_dead(&step);
	trouble.sqlstate = pstrdup(unpack_sql_state(failure->error->sqlerrcode));
	type = trouble.is_dead ? "system.event_dead" : "system.event_failed";
	if (!alert_wanted(type))
		return;
	read_next(&trouble);
	alert_report(type, report_id(&trouble), run->event, describe(&trouble),
				 false);
}

/* What of this run has failed; its outcome is written already. */
void
trouble_tell(const StepRun *run)
{
	RoleScope scope;
	ListCell *cell;

	if (run->failures == NIL)
		return;
	scope = role_enter_engine();
	foreach(cell, run->failures)
		tell_failure(run, lfirst(cell));
	role_leave(&scope);
}
