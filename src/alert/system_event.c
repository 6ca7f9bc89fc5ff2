/*
 * system_event.c
 *		Events of the extension itself (system.*), which rules may match.
 *
 * They are not stored in the inbox.  An event that no rule matches is dropped.
 * Reporting one never raises an error of its rules: that is a WARNING, and the
 * transaction that reports it goes on.
 */
#include "postgres.h"

#include "alert/alert.h"
#include "base/refusal.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "alert/internal.h"

/*
 * The JSON of an event of that type, with "object" as data.object.  A NULL id
 * gets a new one.  Mode and account are those of the event "about", if any.
 */
static char *
build_event(const char *type, const char *id, const Event *about, Jsonb *object)
{
	static EngineStatement select = {
		"SELECT (pg_catalog.jsonb_build_object("
		" 'id', COALESCE($2, 'sys_' || pg_catalog.replace("
		"   pg_catalog.gen_random_uuid()::text, '-', '')),"
		" 'object', 'event', 'type', $1, 'created',"
		" pg_catalog.floor(EXTRACT(epoch FROM pg_catalog.clock_timestamp())),"
		" 'data', pg_catalog.jsonb_build_object('object',"
		"   '{\"object\": \"system\"}' || $3)) || pg_catalog.jsonb_strip_nulls("
		" pg_catalog.jsonb_build_object('livemode', $4, 'account', $5)))::text"};
	bool has_mode = about != NULL && about->has_livemode;
	bool has_account = about != NULL && about->account[0] != '\0';

	return statement_text(
		&select, ARGS(arg_text(type), arg_text(id), arg_jsonb(object),
					  arg_if(has_mode, arg_bool(has_mode && about->livemode)),
					  arg_text(has_account ? about->account : NULL)));
}

/*
 * Apply all rules that match to an event of that type, see build_event().  The
 * same id is reported once for each rule.  With "wait" false, rules whose group
 * another session has locked are left out.
 */
void
alert_report(const char *type, const char *id, const Event *about,
			 Jsonb *object, bool wait)
{
	RoleScope scope = role_enter_engine();
	char *payload = build_event(type, id, about, object);
	ErrorData *error;
	Refusal refusal;
	Event event;

	if (!event_read(payload, strlen(payload), &event, &refusal))
		refusal_raise(&refusal);
	if (!alert_attempt(&event, wait, &error))
		ereport(WARNING, (errmsg("stripe_sync could not report %s: %s", type,
								 error->message)));
	role_leave(&scope);
}

/* Called while locks of groups are held: waiting for others could deadlock. */
void
alert_system_within(const char *type, Jsonb *object)
{
	if (alert_wanted(type))
		alert_report(type, NULL, NULL, object, false);
}

/* Report an event if any rule matches it. */
void
alert_system(const char *type, Jsonb *object)
{
	if (alert_wanted(type))
		alert_report(type, NULL, NULL, object, true);
}
