/*
 * escalate.c
 *		Incidents by the clock: critical ones that nothing has resolved are
 *		repeated, and those that nothing closes end with their window.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "alert.h"
#include "loop.h"

#define AT_ONCE 100

static List *
take_due(void)
{
	static EngineStatement take = {
		"UPDATE stripe_sync.incident_record i SET escalate_at = NULL,"
		" escalated_at = CASE WHEN $2 THEN pg_catalog.clock_timestamp() END"
		" FROM (SELECT id FROM stripe_sync.incident_record"
		"  WHERE escalate_at <= pg_catalog.clock_timestamp()"
		"  ORDER BY escalate_at LIMIT $1 FOR UPDATE SKIP LOCKED) d"
		" WHERE i.id = d.id RETURNING i.id",
		2,
		{INT4OID, BOOLOID}};
	MemoryContext context = CurrentMemoryContext;
	Datum values[] = {Int32GetDatum(AT_ONCE),
					  BoolGetDatum(guc_escalate_after > 0)};
	List *ids = NIL;

	SPI_connect();
	engine_run(&take, values, NULL, SPI_OK_UPDATE_RETURNING);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		int64 *id = palloc(sizeof(int64));

		*id = DatumGetInt64(SPI_getbinval(
			SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &(bool){false}));
		ids = lappend(ids, id);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return ids;
}

/* How long it has been open. */
static char *
age(int seconds)
{
	if (seconds < 2 * SECS_PER_MINUTE)
		return psprintf("%d seconds", seconds);
	return psprintf("%d minutes", seconds / SECS_PER_MINUTE);
}

/* To the second destination, or into the thread where there is none. */
static void
escalate(int64 id)
{
	Incident incident;
	Destination destination;
	MessageParts parts = {.severity = "critical"};
	Outgoing message = {
		.method = "post", .due_at = GetCurrentTimestamp(), .incident = id};

	if (!incident_read(id, &incident) ||
		!destination_find(incident.destination, &destination))
		return;
	parts.text = psprintf(
		"Not resolved after %s: %s",
		age((GetCurrentTimestamp() - incident.opened_at) / USECS_PER_SEC),
		incident.text);
	message.payload = blocks_message(&parts);
	message.event_id = incident.event_id;
	if (destination.escalation != NULL)
	{
		message.destination = destination.escalation;
		message.thread = incident_thread_elsewhere(id);
	}
	else
	{
		message.destination = incident.destination;
		message.thread = incident_thread(id);
	}
	(void) outbox_enqueue(&message);
}

/*
 * A roll-up or digest counts on as long as something comes within its window.
 * Intervals are compared, so that a window's day has 24 hours in any time zone.
 */
static void
end_collecting(void)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record i SET state = 'closed',"
		" closed_at = pg_catalog.clock_timestamp()"
		" FROM (SELECT o.id FROM stripe_sync.incident_record o"
		"  WHERE o.state = 'open' AND o.kind <> 'single'"
		"   AND pg_catalog.clock_timestamp() - COALESCE("
		"     (SELECT a.at FROM stripe_sync.alerted a WHERE a.incident = o.id"
		"       AND NOT a.closes ORDER BY a.at DESC LIMIT 1), o.opened_at)"
		"   > COALESCE((SELECT r.coalesce_for"
		"     FROM stripe_sync.alert r WHERE r.name = o.alert), interval '1 hour')"
		"  LIMIT 1000 FOR UPDATE OF o SKIP LOCKED) d"
		" WHERE i.id = d.id"};

	SPI_connect();
	engine_run(&update, NULL, NULL, SPI_OK_UPDATE);
	SPI_finish();
}

void
escalate_end_windows(void)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record i SET state = 'closed',"
		" closed_at = i.window_until"
		" FROM (SELECT id FROM stripe_sync.incident_record o"
		"  WHERE o.state = 'open' AND o.kind = 'single'"
		"   AND o.window_until < pg_catalog.clock_timestamp()"
		"   AND NOT EXISTS (SELECT FROM stripe_sync.alert a"
		"     WHERE a.name = o.alert AND a.closed_by IS NOT NULL)"
		"  LIMIT 1000 FOR UPDATE SKIP LOCKED) d"
		" WHERE i.id = d.id"};

	SPI_connect();
	engine_run(&update, NULL, NULL, SPI_OK_UPDATE);
	SPI_finish();
	end_collecting();
}

static TimestampTz
find_next(void)
{
	static EngineStatement select = {
		"SELECT escalate_at FROM stripe_sync.incident_record"
		" WHERE escalate_at IS NOT NULL ORDER BY escalate_at LIMIT 1"};
	TimestampTz next = DT_NOEND;

	SPI_connect();
	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
		next = DatumGetTimestampTz(SPI_getbinval(
			SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &(bool){false}));
	SPI_finish();
	return next;
}

bool
escalate_due(TimestampTz *next)
{
	int nest = plan_for_indexes();
	List *ids = take_due();
	ListCell *cell;

	foreach(cell, guc_escalate_after > 0 ? ids : NIL) /* 0 is off */
		escalate(*(int64 *) lfirst(cell));
	/* what is due and not taken is somebody else's at the moment */
	*next = Max(find_next(), GetCurrentTimestamp() + USECS_PER_SEC);
	plan_settings_restore(nest);
	return ids != NIL;
}
