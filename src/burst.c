/*
 * burst.c
 *		How much is too much: many incidents of one rule become a roll-up, many
 *		messages to one destination a digest.
 *
 * Who decides holds the destination's lock if it was to be had at once; see
 * incident.c.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "alert.h"

/* Messages an hour and destination, beyond max_alerts_per_hour */
#define CRITICAL_RESERVE 10

/* The first column of the first row, as int8; 0 when there is none. */
int64
incident_first_id(EngineStatement *statement, Datum *values, const char *nulls)
{
	bool isnull = true;
	int64 id = 0;

	SPI_connect();
	engine_run(statement, values, nulls, SPI_OK_SELECT);
	if (SPI_processed > 0)
		id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
										 SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	return isnull ? 0 : id;
}

/* For each destination: one customer's failures are no burst to another. */
bool
burst_is_over(const Occurrence *occurrence)
{
	static EngineStatement count = {
		"SELECT pg_catalog.count(*) FROM stripe_sync.incident_record"
		" WHERE alert = $1 AND destination = $2 AND class = $4"
		" AND kind = 'single' AND opened_at"
		"  > pg_catalog.clock_timestamp() - $3 * interval '1 microsecond'",
		4,
		{TEXTOID, TEXTOID, INT8OID, TEXTOID}};
	/* of failing events, those that are open however long count as well */
	static EngineStatement count_open = {
		"SELECT pg_catalog.count(*) FROM stripe_sync.incident_record"
		" WHERE alert = $1 AND destination = $2 AND class = $4"
		" AND kind = 'single' AND (state = 'open' OR opened_at"
		"  > pg_catalog.clock_timestamp() - $3 * interval '1 microsecond')",
		4,
		{TEXTOID, TEXTOID, INT8OID, TEXTOID}};
	bool has_class = occurrence->class[0] != '\0';
	Datum values[] = {CStringGetTextDatum(occurrence->alert->name),
					  CStringGetTextDatum(occurrence->destination),
					  Int64GetDatum(occurrence->alert->window),
					  CStringGetTextDatum(occurrence->class)};

	return incident_first_id(has_class ? &count_open : &count, values, NULL) >=
		   guc_coalesce_burst;
}

/* What a roll-up collects: the rule's for the destination, of one class. */
const char *
burst_rollup_group(const Occurrence *occurrence)
{
	return occurrence->class[0] == '\0'
			   ? occurrence->destination
			   : psprintf("%s %s", occurrence->destination, occurrence->class);
}

/* Has it had as many messages of alerts this hour as it may, and so many more? */
bool
incident_flooded(const char *destination, int reserve)
{
	static EngineStatement count = {
		"SELECT pg_catalog.count(*) FROM stripe_sync.message"
		" WHERE destination = $1 AND alert IS NOT NULL AND created_at"
		"  > pg_catalog.clock_timestamp() - interval '1 hour'",
		1,
		{TEXTOID}};
	Datum values[] = {CStringGetTextDatum(destination)};

	return incident_first_id(&count, values, NULL) >=
		   (int64) guc_max_alerts_per_hour + reserve;
}

/* What is critical isn't lost among what isn't. */
bool
burst_is_flood(const Occurrence *occurrence)
{
	bool critical = strcmp(occurrence->alert->severity, "critical") == 0;

	return incident_flooded(occurrence->destination,
							critical ? CRITICAL_RESERVE : 0);
}

/*
 * The step of what fails in one, where the rule groups by what they have in
 * common: one step's failures are no burst to another's.
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
