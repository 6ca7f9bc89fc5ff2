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

/* mute_finding(key, until): until NULL, or in the past, ends it */
ENGINE_FUNCTION(stripe_sync_mute_finding)
{
	RoleScope scope;
	char *key;

	argument_required(fcinfo, 0, "key");
	key = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (doctor_number(key) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_NO_SUCH_NAME),
				 errmsg("the doctor has no item \"%s\"", key),
				 errhint("SELECT key FROM stripe_sync.doctor() lists them.")));
	scope = role_enter_engine();
	if (PG_ARGISNULL(1) || PG_GETARG_TIMESTAMPTZ(1) <= GetCurrentTimestamp())
		end_mute(key);
	else
		set_mute(key, PG_GETARG_TIMESTAMPTZ(1));
	role_leave(&scope);
	PG_RETURN_VOID();
}
