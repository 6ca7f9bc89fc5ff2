/*
 * quiet_setup.c
 *		set_quiet_hours(), drop_quiet_hours().
 */
#include "postgres.h"

#include "engine/engine.h"
#include "quiet/quiet.h"


ENGINE_FUNCTION(stripe_sync_set_quiet_hours)
{
	elog(ERROR, "not yet");
	PG_RETURN_VOID();
}

ENGINE_FUNCTION(stripe_sync_drop_quiet_hours)
{
	elog(ERROR, "not yet");
	PG_RETURN_VOID();
}
