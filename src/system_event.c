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

void
alert_report(const char *type, const char *id, const Event *about,
			 Jsonb *object, bool wait)
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
		alert_report(type, NULL, NULL, object, false);
}

void
alert_system(const char *type, Jsonb *object)
{
	if (alert_wanted(type))
		alert_report(type, NULL, NULL, object, true);
}
