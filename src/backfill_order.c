/*
 * backfill_order.c
 *		Parts of a backfill that wait until another is over (after_part): lists
 *		for the account's age, what a list is to be compared with or gone by for
 *		the list.
 */
#include "sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

/* Parts that waited for this one; what is to be compared with a list needs it. */
static void
unblock(const Part *part, const char *state)
{
	static EngineStatement release = {
		"UPDATE stripe_sync.job_part SET due_at = pg_catalog.clock_timestamp(),"
		" until = CASE WHEN kind = 'vanished' THEN $4 ELSE until END,"
		" state = CASE WHEN kind = 'vanished' AND $3 <> 'done' THEN 'skipped' ELSE 'waiting' END"
		" WHERE job = $1 AND after_part = $2 AND state = 'blocked'",
		4,
		{INT8OID, INT4OID, TEXTOID, TIMESTAMPTZOID}};
	Datum values[] = {Int64GetDatum(part->job), Int32GetDatum(part->number),
					  CStringGetTextDatum(state),
					  TimestampTzGetDatum(part->until)};

	SPI_connect();
	engine_run(&release, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
}

/* As unread_over(), of a kind that others wait for. */
void
backfill_part_ended(const Part *part, const Outcome *outcome)
{
	unread_over(part, outcome);
	if (strcmp(outcome->state, "waiting") != 0)
		unblock(part, outcome->state);
}
