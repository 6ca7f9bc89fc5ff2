/*
 * reread.c
 *		Objects that the mirror wants read again from Stripe: those whose
 *		order within a second nothing told, and pages that were cut short.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

/* Ask once for an object, however often it is wanted. */
void
reread_ask(const CatalogType *type, const char *id, const char *account,
		   const char *reason, TimestampTz not_before)
{
	static EngineStatement ask = {
		"INSERT INTO stripe_sync.reread AS r (object_type, object_id, account, reason, due_at)"
		" VALUES ($1, $2, $3, $4, $5)"
		" ON CONFLICT (object_type, object_id, account) DO UPDATE"
		" SET reason = excluded.reason, due_at = excluded.due_at"
		" WHERE r.due_at OPERATOR(pg_catalog.<) excluded.due_at",
		5,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}};
	Datum values[] = {CStringGetTextDatum(type->object), CStringGetTextDatum(id),
					  CStringGetTextDatum(account), CStringGetTextDatum(reason),
					  TimestampTzGetDatum(not_before)};

	SPI_connect();
	engine_run(&ask, values, NULL, SPI_OK_INSERT);
	SPI_finish();
}
