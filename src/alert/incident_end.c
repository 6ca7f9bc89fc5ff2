/*
 * incident_end.c
 *		Incidents that are closed without an event: their destination is
 *		dropped or enabled again, or their rule groups events otherwise.
 *
 * Called by set-up, in the caller's transaction, and without the
 * locks of the groups.  Nothing is posted.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "engine/rights.h"
#include "engine/statement.h"
#include "alert/internal.h"

/*
 * For drop_destination(): updates could not be sent there any more.  The next
 * event opens a new incident.
 */
void
incident_end_all(text *destination)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record SET state = 'closed',"
		" closed_at = pg_catalog.clock_timestamp(), escalate_at = NULL,"
		" snoozed_until = NULL"
		" WHERE destination = $1 AND state = 'open' RETURNING alert"};

	incident_close_counted(&update, ARGS(arg_varlena(TEXTOID, destination)));
}

/*
 * For add_alert(), which replaces a rule by one with another group_by: events
 * have other groups from then on, so no event could close what is open.
 */
void
incident_end_group_changed(const char *alert)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record SET state = 'closed',"
		" closed_at = pg_catalog.clock_timestamp(), escalate_at = NULL,"
		" snoozed_until = NULL"
		" WHERE alert = $1 AND state = 'open' AND kind = 'single' RETURNING alert"};

	incident_close_counted(&update, ARGS(arg_text(alert)));
}

/*
 * For enable_destination(): close the incidents that system.destination_disabled
 * has opened for it, and don't repeat those that are closed already.  The
 * event's object has the destination's name as its id, so that is the group.
 */
void
incident_end_disabled(text *destination)
{
#define OF_DESTINATION                                                         \
	" WHERE group_key = $1 AND kind = 'single' AND event_id LIKE 'sys\\_%'"    \
	" AND alert IN (SELECT name FROM stripe_sync.alert WHERE"                  \
	"  stripe_sync.event_type_fits('system.destination_disabled', event_type))"
	static EngineStatement close = {
		"UPDATE stripe_sync.incident_record SET state = 'closed',"
		" closed_at = pg_catalog.clock_timestamp(), escalate_at = NULL,"
		" snoozed_until = NULL" OF_DESTINATION
		" AND state = 'open' RETURNING alert"};
	static EngineStatement calm = {
		"UPDATE stripe_sync.incident_record SET escalate_at = NULL" OF_DESTINATION
		" AND escalate_at IS NOT NULL"};
	RoleScope scope = role_enter_engine();

	incident_close_counted(&close, ARGS(arg_varlena(TEXTOID, destination)));
	statement_exec(&calm, ARGS(arg_varlena(TEXTOID, destination)));
	role_leave(&scope);
}
