/*
 * incident_end.c
 *		Incidents that end without an event: with their destination, with
 *		their rule's groups, or because somebody has mended what they tell.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "alert.h"

/*
 * For drop_destination(): updates could not be sent there any more.  The next
 * event opens a new incident.
 */
void
incident_end_all(text *destination)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record SET state = 'closed',"
		" closed_at = pg_catalog.clock_timestamp(), escalate_at = NULL"
		" WHERE destination = $1 AND state = 'open'"};

	statement_exec(&update, ARGS(arg_varlena(TEXTOID, destination)));
}

/*
 * Events have other groups from now on: what is open could never be closed.
 * Within the caller's SPI connection.
 */
void
incident_end_group_changed(const char *alert)
{
	static EngineStatement end = {
		"UPDATE stripe_sync.incident_record SET state = 'closed',"
		" closed_at = pg_catalog.clock_timestamp(), escalate_at = NULL"
		" WHERE alert = $1 AND state = 'open' AND kind = 'single'",
		1,
		{TEXTOID}};
	Datum values[] = {CStringGetTextDatum(alert)};

	engine_run(&end, values, NULL, SPI_OK_UPDATE);
}

/* A destination is on again: that it was off needs nobody any more. */
void
incident_end_disabled(text *destination)
{
	static EngineStatement end = {
		"UPDATE stripe_sync.incident_record SET state = 'closed', closed_at ="
		" COALESCE(closed_at, pg_catalog.clock_timestamp()), escalate_at = NULL"
		" WHERE group_key = $1 AND kind = 'single'"
		" AND (state = 'open' OR escalate_at IS NOT NULL)"
		" AND event_id LIKE 'sys\\_%' AND alert IN (SELECT name FROM stripe_sync.alert"
		"  WHERE stripe_sync.event_type_fits('system.destination_disabled', event_type))",
		1,
		{TEXTOID}};
	Datum values[] = {PointerGetDatum(destination)};
	RoleScope scope = role_enter_engine();

	SPI_connect();
	engine_run(&end, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
	role_leave(&scope);
}
