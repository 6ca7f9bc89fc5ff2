/*
 * system_event.c
 *		What the engine itself has to report, as an event that alerts look at.
 *
 * Such events are not stored: an alert that nobody has asked for is nothing.
 * They never fail who reports them.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "alert.h"

/*
 * An event of that id (NULL: a new one), of that object; in the mode and the
 * account of the event that it is about, or NULL.
 */
static char *
build(const char *type, const char *id, const Event *about, Jsonb *object)
{
	static EngineStatement statement = {
		"SELECT (pg_catalog.jsonb_build_object("
		" 'id', COALESCE($2, 'sys_' || pg_catalog.replace("
		"   pg_catalog.gen_random_uuid()::text, '-', '')),"
		" 'object', 'event', 'type', $1, 'created',"
		" pg_catalog.floor(EXTRACT(epoch FROM pg_catalog.clock_timestamp())),"
		" 'data', pg_catalog.jsonb_build_object('object',"
		"   '{\"object\": \"system\"}' || $3)) || pg_catalog.jsonb_strip_nulls("
		" pg_catalog.jsonb_build_object('livemode', $4, 'account', $5)))::text",
		5,
		{TEXTOID, TEXTOID, JSONBOID, BOOLOID, TEXTOID}};
	bool has_mode = about != NULL && about->has_livemode;
	bool has_account = about != NULL && about->account[0] != '\0';
	Datum values[] = {
		CStringGetTextDatum(type), id ? CStringGetTextDatum(id) : (Datum) 0,
		JsonbPGetDatum(object), BoolGetDatum(has_mode && about->livemode),
		has_account ? CStringGetTextDatum(about->account) : (Datum) 0};
	char nulls[] = {
		' ', id ? ' ' : 'n', ' ', has_mode ? ' ' : 'n', has_account ? ' ' : 'n',
		'\0'};
	MemoryContext context = CurrentMemoryContext;
	char *payload;

	SPI_connect();
	engine_run(&statement, values, nulls, SPI_OK_SELECT);
	payload = MemoryContextStrdup(
		context, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	SPI_finish();
	return payload;
}

static void
report(const char *type, const char *id, const Event *about, Jsonb *object,
	   bool wait)
{
	RoleScope scope = role_enter_engine();
	char *payload = build(type, id, about, object);
	ErrorData *error;
	Refusal refusal;
	Event event;

	if (!event_read(payload, strlen(payload), &event, &refusal))
		refusal_raise(&refusal);
	if (!alert_attempt(&event, wait, &error))
		ereport(WARNING, (errmsg("stripe_sync could not report %s: %s", type,
								 error->message)));
	role_leave(&scope);
}

/* In the middle of an alert, which holds its locks: it must not wait. */
void
alert_system_within(const char *type, Jsonb *object)
{
	if (alert_wanted(type))
		report(type, NULL, NULL, object, false);
}

void
alert_system(const char *type, Jsonb *object)
{
	if (alert_wanted(type))
		report(type, NULL, NULL, object, true);
}

/* Which step has failed, for alerts to be grouped by. */
static const char *
failing_step(const StepRun *run)
{
	ListCell *cell;

	foreach(cell, run->todo)
	{
		Step *step = lfirst(cell);

		if (step->tries > 0 || step_hold(step) == HANDLER_ANOTHERS)
			return step->name;
	}
	return STEP_MIRROR;
}

static Jsonb *
describe_failure(const StepRun *run)
{
	static EngineStatement statement = {
		"SELECT pg_catalog.jsonb_build_object('id', $1, 'event', $1,"
		" 'event_type', $2, 'object_type', $3, 'object_id', $4, 'step', $5,"
		" 'error', pg_catalog.split_part($6, E'\\n', 1),"
		" 'remedy', 'They are tried again by themselves.')",
		6,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}};
	const Event *event = run->event;
	const char *texts[] = {event->id,		   event->type,
						   event->object_type, event->object_id,
						   failing_step(run),  run->error ? run->error : ""};
	MemoryContext context = CurrentMemoryContext;
	char nulls[] = "      ";
	Datum values[lengthof(texts)];
	Jsonb *object;
	MemoryContext old;

	for (int i = 0; i < lengthof(texts); i++)
	{
		nulls[i] = texts[i] ? ' ' : 'n';
		values[i] = texts[i] ? CStringGetTextDatum(texts[i]) : (Datum) 0;
	}
	SPI_connect();
	engine_run(&statement, values, nulls, SPI_OK_SELECT);
	old = MemoryContextSwitchTo(context);
	object = DatumGetJsonbPCopy(engine_value());
	MemoryContextSwitchTo(old);
	SPI_finish();
	return object;
}

/*
 * An event has failed, or is dead.  Said once each: the report's id is made of
 * the event's, and alerts count an event once.  Its alerts have their locks, so
 * no other is waited for: what is left out now is said with the next attempt.
 */
void
alert_event_trouble(const StepRun *run, const char *status)
{
	const char *type = strcmp(status, "dead") == 0	   ? "system.event_dead"
					   : strcmp(status, "failed") == 0 ? "system.event_failed"
													   : NULL;
	RoleScope scope;

	if (type == NULL || !alert_wanted(type))
		return;
	scope = role_enter_engine();
	report(type, psprintf("sys_%s_%s", status, run->event->id), run->event,
		   describe_failure(run), false);
	role_leave(&scope);
}
