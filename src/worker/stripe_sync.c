/*
 * stripe_sync.c
 *		Start-up: the module's magic, its settings, and the caches' callbacks.
 *
 * src/README.md describes the flow of an event and the folders.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "alert/alert.h"
#include "base/base.h"
#include "base/compat.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "history/history.h"
#include "server/counters.h"
#include "server/server.h"
#include "sync/sync.h"
#include "tables/tables.h"

COMPAT_MODULE_MAGIC("stripe_sync", STRIPE_SYNC_VERSION);

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	history_init(); /* checks a setting */
	guc_define();
	role_init();
	engine_init();
	table_cache_init();
	kinds_init();
	alert_init();
	if (process_shared_preload_libraries_in_progress && !IsBinaryUpgrade)
	{
		slots_init();
		refusals_init();
		counters_init();
		outbound_init();
		launcher_init();
		database_ddl_init();
	}
}
