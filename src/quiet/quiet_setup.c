/*
 * quiet_setup.c
 *		set_quiet_hours(), drop_quiet_hours(), in the caller's transaction.
 *
 * Both wake the worker at commit: what is held may be let go.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/timestamp.h"

#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "outbox/outbox.h"
#include "server/server.h"
#include "quiet/internal.h"

#define MAX_TEXT 100 /* bytes of days, or of a zone */

/* ---- arguments ---- */

/* Raises 22004, 22023. */
static char *
required_text(FunctionCallInfo fcinfo, int number, const char *name)
{
	char *value;

	argument_required(fcinfo, number, name);
	value = text_to_cstring(PG_GETARG_TEXT_PP(number));
	if (strlen(value) > MAX_TEXT)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s is longer than %d bytes", name, MAX_TEXT)));
	return value;
}

/* In their usual form, so that the same days are the same window */
static char *
days_argument(FunctionCallInfo fcinfo, int number)
{
	char *text = required_text(fcinfo, number, "days");
	int days = quiet_days_parse(text);

	if (days == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not a list of weekdays", text),
				 errhint("Give days and ranges of days, such as 'mon-fri', "
						 "'sat,sun' or 'mon-sun'.")));
	return quiet_days_text(days);
}

/* Both times or none.  24:00 is a time of day, but no beginning. */
static void
check_times(FunctionCallInfo fcinfo, int from, int to)
{
	if (PG_ARGISNULL(from) != PG_ARGISNULL(to))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("from_time and to_time must both be given, or both be NULL"),
			 errhint("NULL and NULL is the whole day; for a window until "
					 "midnight give '24:00' as to_time.")));
	if (!PG_ARGISNULL(from) && PG_GETARG_TIMEADT(from) >= USECS_PER_DAY)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("from_time cannot be 24:00"),
						errhint("Give '00:00', and the day after.")));
}

/*
 * The zone's name as the server writes it.  Only names have rules for summer
 * time: offsets, and specifications such as CET-1, are refused.
 */
static char *
zone_argument(FunctionCallInfo fcinfo, int number)
{
	static EngineStatement select = {
		"SELECT name FROM pg_catalog.pg_timezone_names"
		" WHERE pg_catalog.lower(name) = pg_catalog.lower($1) LIMIT 1"};
	char *text = required_text(fcinfo, number, "zone");
	char *zone = statement_text(&select, ARGS(arg_text(text)));

	if (zone == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no time zone \"%s\"", text),
				 errhint("Give a name such as 'Europe/Berlin'; SELECT name FROM "
						 "pg_timezone_names shows all.")));
	return zone;
}

static char *
passes_argument(FunctionCallInfo fcinfo, int number)
{
	char *passes = required_text(fcinfo, number, "passes");

	if (strcmp(passes, "warning") != 0 && strcmp(passes, "critical") != 0 &&
		strcmp(passes, "none") != 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("\"%s\" is no severity that can pass quiet hours", passes),
			 errhint("Give 'critical', 'warning' (critical passes too), or "
					 "'none' to hold all.")));
	return passes;
}

/* ---- set, drop ---- */

static void
setup_end(const RoleScope *scope)
{
	outbound_note_identity();
	worker_wake_at_commit();
	role_leave(scope);
}

/* "mon-fri 22:00:00-06:00:00 Europe/Berlin": for the journal */
static char *
describe(const StatementArg *window)
{
	static EngineStatement text = {
		"SELECT pg_catalog.concat($1, ' ' || $2 || '-' || $3, ' ', $4,"
		" ', passes: ', $5)"};

	return statement_text(&text, window, 5);
}

/* set_quiet_hours(destination, days, from_time, to_time, zone, passes) */
ENGINE_FUNCTION(stripe_sync_set_quiet_hours)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.quiet_hours"
		" (days, from_time, to_time, zone, passes, destination)"
		" VALUES ($1, COALESCE($2, '00:00'), COALESCE($3, '24:00'), $4, $5, $6)"
		" ON CONFLICT (destination, days, from_time, to_time) DO UPDATE SET"
		" zone = excluded.zone, passes = excluded.passes,"
		" created_at = excluded.created_at"};
	char *destination = required_text(fcinfo, 0, "destination");
	char *days = days_argument(fcinfo, 1);
	char *passes;
	char *zone;
	StatementArg window[6];
	RoleScope scope;

	check_times(fcinfo, 2, 3);
	passes = passes_argument(fcinfo, 5);
	scope = role_enter_engine();
	zone = zone_argument(fcinfo, 4);
	destination_hold(cstring_to_text(destination));
	window[0] = arg_text(days);
	window[1] = arg_of_call(fcinfo, 2, TIMEOID);
	window[2] = arg_of_call(fcinfo, 3, TIMEOID);
	window[3] = arg_text(zone);
	window[4] = arg_text(passes);
	window[5] = arg_text(destination);
	statement_exec(&upsert, window, lengthof(window));
	journal_note("quiet.set", destination, describe(window));
	setup_end(&scope);
	PG_RETURN_VOID();
}

/* Also for a destination that is dropped */
int64
quiet_forget(text *destination)
{
	static EngineStatement delete = {
		"DELETE FROM stripe_sync.quiet_hours WHERE destination = $1"};

	return statement_exec(&delete, ARGS(arg_varlena(TEXTOID, destination)));
}

/* drop_quiet_hours(destination): no error if there are none */
ENGINE_FUNCTION(stripe_sync_drop_quiet_hours)
{
	text *destination = cstring_to_text(required_text(fcinfo, 0, "destination"));
	RoleScope scope = role_enter_engine();

	destination_hold(destination);
	if (quiet_forget(destination) > 0)
		journal_note_text("quiet.dropped", destination, NULL);
	setup_end(&scope);
	PG_RETURN_VOID();
}
