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

/* An event of that id (NULL: a new one), about that object. */
static char *
build(const char *type, const char *id, Jsonb *object)
{
	static EngineStatement statement = {
		"SELECT pg_catalog.jsonb_build_object("
		" 'id', COALESCE($2, 'sys_' || pg_catalog.replace("
		"   pg_catalog.gen_random_uuid()::text, '-', '')),"
		" 'object', 'event', 'type', $1, 'created',"
		" pg_catalog.floor(EXTRACT(epoch FROM pg_catalog.clock_timestamp())),"
		" 'data', pg_catalog.jsonb_build_object('object',"
		"   '{\"object\": \"system\"}' || $3))::text",
		3,
		{TEXTOID, TEXTOID, JSONBOID}};
	Datum values[] = {CStringGetTextDatum(type),
					  id ? CStringGetTextDatum(id) : (Datum) 0,
					  JsonbPGetDatum(object)};
	char nulls[] = {' ', id ? ' ' : 'n', ' ', '\0'};
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
report(const char *type, const char *id, Jsonb *object)
{
	RoleScope scope = role_enter_engine();
	char *payload = build(type, id, object);
	ErrorData *error;
	Refusal refusal;
	Event event;

	if (!event_read(payload, strlen(payload), &event, &refusal))
		refusal_raise(&refusal);
	if (!alert_attempt(&event, &error))
		ereport(WARNING, (errmsg("stripe_sync could not report %s: %s", type,
								 error->message)));
	role_leave(&scope);
}

void
alert_system(const char *type, Jsonb *object)
{
	if (alert_wanted(type))
		report(type, NULL, object);
}

/* Which step has failed, for alerts to be grouped by. */
static const char *
failing_step(const StepRun *run)
{
	ListCell *cell;

	foreach(cell, run->todo)
		if (((Step *) lfirst(cell))->tries > 0)
			return ((Step *) lfirst(cell))->name;
	return STEP_MIRROR;
}

static Jsonb *
describe_failure(const StepRun *run)
{
	static EngineStatement statement = {
		"SELECT pg_catalog.jsonb_build_object('id', $1, 'event', $1,"
		" 'event_type', $2, 'object_type', $3, 'object_id', $4, 'step', $5,"
		" 'error', pg_catalog.split_part($6, E'\\n', 1))",
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
	object = DatumGetJsonbPCopy(SPI_getbinval(
		SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &(bool){false}));
	MemoryContextSwitchTo(old);
	SPI_finish();
	return object;
}

/*
 * An event has failed, or is dead.  Said once each: the report's id is made of
 * the event's, and alerts count an event once.
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
	report(type, psprintf("sys_%s_%s", status, run->event->id),
		   describe_failure(run));
	role_leave(&scope);
}
