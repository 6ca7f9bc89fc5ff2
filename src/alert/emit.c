/*
 * emit.c
 *		emit(): events of the application's own.
 */
#include "postgres.h"

#include "engine/engine.h"
#include "alert/alert.h"


ENGINE_FUNCTION(stripe_sync_emit)
{
	elog(ERROR, "not yet");
	PG_RETURN_VOID();
}
