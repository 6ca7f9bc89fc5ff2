/*
 * destination_app.c
 *		Which Slack app posts to a channel, and answers for its buttons.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "engine/statement.h"
#include "outbox/outbox.h"

/*
 * Set destination.app of one destination, or of all if it is NULL: the app that
 * has the same token, as the text that is stored; else the only app, if it has no
 * token.  Called after a change of tokens, under ADVISORY_SLACK_APP, in the
 * engine's scope.
 */
void
destination_assign_app(const text *name)
{
	static EngineStatement assign = {
		"UPDATE stripe_sync.destination d SET app = n.app FROM ("
		"  SELECT o.name, CASE WHEN o.kind = 'channel' THEN COALESCE("
		"    (SELECT pg_catalog.min(a.app) FROM stripe_sync.slack_app_secret a"
		"      JOIN stripe_sync.destination_secret s ON s.secret = a.token"
		"      WHERE s.destination = o.name),"
		"    (SELECT a.app FROM stripe_sync.slack_app_secret a"
		"      WHERE a.token IS NULL AND (SELECT pg_catalog.count(*)"
		"       FROM stripe_sync.slack_app) = 1)) END AS app"
		"   FROM stripe_sync.destination o WHERE $1 IS NULL OR o.name = $1) n"
		" WHERE d.name = n.name AND d.app IS DISTINCT FROM n.app"};

	(void) statement_exec(&assign, ARGS(arg_varlena(TEXTOID, name)));
}
