/*
 * app_setup.c
 *		add_slack_app(), drop_slack_app().
 */
#include "postgres.h"

#include "engine/engine.h"
#include "inbox/secret.h"
#include "slack_in/slack_in.h"


SECRET_FUNCTION(stripe_sync_add_slack_app)
{
	elog(ERROR, "not yet");
	PG_RETURN_VOID();
}

ENGINE_FUNCTION(stripe_sync_drop_slack_app)
{
	elog(ERROR, "not yet");
	PG_RETURN_VOID();
}

void
slack_app_missing(const char *name)
{
	elog(ERROR, "not yet");
}

bool
slack_app_token(const char *app, char *buffer, size_t size, char **trouble)
{
	*trouble = "not yet";
	return false;
}

void
slack_app_assign(void)
{
}
