/*
 * backup.c
 *		What people say of their backups, for doctor() to know.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#define MAX_NOTES 100
#define MAX_WHAT  1000 /* bytes */

static void
check_note(FunctionCallInfo fcinfo)
{
	TimestampTz at;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("at cannot be NULL")));
	at = PG_GETARG_TIMESTAMPTZ(0);
	/* the clock of who made the backup may be ahead of ours, but not by much */
	if (TIMESTAMP_NOT_FINITE(at) ||
		at > GetCurrentTimestamp() + SECS_PER_HOUR * USECS_PER_SEC)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a backup must have been made in the past"),
						errhint("Note it when it is done; at is when.")));
	if (!PG_ARGISNULL(1) && VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(1)) > MAX_WHAT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("what cannot be longer than %d bytes", MAX_WHAT)));
}

/* note_backup(at, what): the last hundred are kept */
ENGINE_FUNCTION(stripe_sync_note_backup)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.backup_note (at, what) VALUES ($1, $2)"
		" ON CONFLICT (at, what) DO UPDATE SET noted_at = excluded.noted_at",
		2,
		{TIMESTAMPTZOID, TEXTOID}};
	static EngineStatement forget = {
		"DELETE FROM stripe_sync.backup_note WHERE (at, what) IN ("
		"  SELECT n.at, n.what FROM stripe_sync.backup_note n"
		"  ORDER BY n.at DESC, n.what OFFSET $1)",
		1,
		{INT8OID}};
	Datum keep[] = {Int64GetDatum(MAX_NOTES)};
	Datum values[2];
	RoleScope scope;

	check_note(fcinfo);
	values[0] = PG_GETARG_DATUM(0);
	values[1] = PG_ARGISNULL(1) ? CStringGetTextDatum("") : PG_GETARG_DATUM(1);
	scope = role_enter_engine();
	SPI_connect();
	engine_run(&insert, values, NULL, SPI_OK_INSERT);
	engine_run(&forget, keep, NULL, SPI_OK_DELETE);
	SPI_finish();
	role_leave(&scope);
	PG_RETURN_VOID();
}
