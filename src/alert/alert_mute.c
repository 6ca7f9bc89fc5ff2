/*
 * alert_mute.c
 *		mute_alert().
 */
#include "postgres.h"

#include "engine/engine.h"
#include "alert/alert.h"


ENGINE_FUNCTION(stripe_sync_mute_alert)
{
	elog(ERROR, "not yet");
	PG_RETURN_VOID();
}

bool
alert_mute(const char *name, TimestampTz until, const char *by)
{
	return false;
}
