/*
 * mute.c
 *		mute_finding(): a muted finding is shown, and not reported to alerts.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/error_codes.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "server/server.h"
#include "doctor/internal.h"

static void
set_mute(const char *key, TimestampTz until)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.finding_mute (key, until) VALUES ($1, $2)"
		" ON CONFLICT (key) DO UPDATE SET until = excluded.until"};

	statement_exec(&upsert, ARGS(arg_text(key), arg_time(until)));
	journal_note("finding.muted", key,
				 psprintf("until %s", timestamptz_to_str(until)));
}

static void
end_mute(const char *key)
{
	static EngineStatement drop = {
		"DELETE FROM stripe_sync.finding_mute WHERE key = $1"};

	if (statement_exec(&drop, ARGS(arg_text(key))) > 0)
		journal_note("finding.unmuted", key, NULL);
}

/* "until" in the past ends it.  Raises SY005 if there is no such item. */
void
finding_mute(const char *key, TimestampTz until)
{
	RoleScope scope;

	if (doctor_number(key) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_NO_SUCH_NAME),
				 errmsg("the doctor has no item \"%s\"", key),
				 errhint("SELECT key FROM stripe_sync.doctor() lists them.")));
	scope = role_enter_engine();
	if (until <= GetCurrentTimestamp())
		end_mute(key);
	else
		set_mute(key, until);
	role_leave(&scope);
}

/* mute_finding(key, until): until NULL ends it */
ENGINE_FUNCTION(stripe_sync_mute_finding)
{
	argument_required(fcinfo, 0, "key");
	finding_mute(text_to_cstring(PG_GETARG_TEXT_PP(0)),
				 PG_ARGISNULL(1) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(1));
	PG_RETURN_VOID();
}
