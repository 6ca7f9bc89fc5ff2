/*
 * backup_note.c
 *		note_backup(): records that a backup was made.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"

#define MAX_NOTES 100  /* of backups, and as many of restores */
#define MAX_WHAT  1000 /* bytes */

static void
check_note(FunctionCallInfo fcinfo)
{
	TimestampTz at;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("at cannot be NULL")));
	at = PG_GETARG_TIMESTAMPTZ(0);
	/* the clock of the host that made the backup may be somewhat ahead */
	if (TIMESTAMP_NOT_FINITE(at) ||
		at > GetCurrentTimestamp() + SECS_PER_HOUR * USECS_PER_SEC)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("time of a backup cannot be in the future"),
				 errhint("Call note_backup() when the backup has ended.")));
	if (!PG_ARGISNULL(1) && VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(1)) > MAX_WHAT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("what cannot be longer than %d bytes", MAX_WHAT)));
}

/*
 * note_backup(at, what): keeps the last MAX_NOTES notes of backups, and those of
 * restores that were tried, which frequent backups would displace.
 */
ENGINE_FUNCTION(stripe_sync_note_backup)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.backup_note (at, what) VALUES ($1, $2)"
		" ON CONFLICT (at, what) DO UPDATE SET noted_at = excluded.noted_at"};
	static EngineStatement forget = {
		"DELETE FROM stripe_sync.backup_note WHERE (at, what) IN ("
		"  SELECT n.at, n.what FROM (SELECT at, what, pg_catalog.row_number()"
		"    OVER (PARTITION BY pg_catalog.lower(what) LIKE 'restore tested%'"
		"     ORDER BY at DESC, what) AS n FROM stripe_sync.backup_note) n"
		"  WHERE n.n > $1)"};
	StatementArg what;
	RoleScope scope;

	check_note(fcinfo);
	what = PG_ARGISNULL(1) ? arg_text("") : arg_of_call(fcinfo, 1, TEXTOID);
	scope = role_enter_engine();
	(void) statement_exec(&insert,
						  ARGS(arg_of_call(fcinfo, 0, TIMESTAMPTZOID), what));
	(void) statement_exec(&forget, ARGS(arg_int8(MAX_NOTES)));
	role_leave(&scope);
	PG_RETURN_VOID();
}
