/*
 * alert_mute.c
 *		mute_alert(): the incidents of a muted rule are recorded, and no message
 *		is sent (incident_queue.c).
 *
 * The rules in the memory of sessions don't have the time: a mute changes no
 * other column, so the trigger config_changed isn't fired and no session reads
 * its rules again.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/error_codes.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "server/server.h"
#include "alert/alert.h"
#include "alert/internal.h"

/*
 * Mute the rule until then; DT_NOBEGIN, or a time that has passed, ends it.
 * Returns false if there is no such rule.  Runs in the engine's scope.
 */
bool
alert_mute(const char *name, TimestampTz until)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.alert SET muted_until = $2 WHERE name = $1"};
	bool ends = until <= GetCurrentTimestamp();

	if (statement_exec(
			&update, ARGS(arg_text(name), arg_if(!ends, arg_time(until)))) == 0)
		return false;
	if (ends)
		journal_note("alert.unmuted", name, NULL);
	else
		journal_note("alert.muted", name,
					 psprintf("until %s", timestamptz_to_str(until)));
	return true;
}

/* mute_alert(name, until): NULL ends it.  Raises SY005. */
ENGINE_FUNCTION(stripe_sync_mute_alert)
{
	const char *name = alert_required_text(fcinfo, 0, "name");
	TimestampTz until = PG_ARGISNULL(1) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(1);
	RoleScope scope = role_enter_engine();

	if (!alert_mute(name, until))
		ereport(ERROR,
				(errcode(ERRCODE_NO_SUCH_NAME),
				 errmsg("there is no alert \"%s\"", name),
				 errhint("SELECT name FROM stripe_sync.alert shows all.")));
	role_leave(&scope);
	PG_RETURN_VOID();
}
