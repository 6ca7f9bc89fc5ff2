/*
 * reread.c
 *		Objects that the mirror wants read again from Stripe: those whose
 *		order within a second nothing told, and pages that were cut short.
 */
#include "mirror.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

/* What Stripe answers then is as of the second that matters, or later. */
#define SETTLED (3 * USECS_PER_SEC)

/*
 * Ask once for an object, however often it is wanted.  The answer must be as of
 * a time of Stripe's clock, "after"; ours may be an hour off, so that no more
 * is made of it than how long there is to wait.
 */
void
reread_ask(const CatalogType *type, const char *id, const char *account,
		   const char *reason, TimestampTz after, TimestampTz due)
{
	static EngineStatement ask = {
		"INSERT INTO stripe_sync.reread AS r (object_type, object_id, account, reason, due_at, after)"
		" VALUES ($1, $2, $3, $4, $5, $6)"
		" ON CONFLICT (object_type, object_id, account) DO UPDATE"
		" SET reason = excluded.reason, due_at = excluded.due_at, after = excluded.after"
		" WHERE r.after OPERATOR(pg_catalog.<) excluded.after",
		6,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}};
	Datum values[] = {
		CStringGetTextDatum(type->object), CStringGetTextDatum(id),
		CStringGetTextDatum(account),	   CStringGetTextDatum(reason),
		TimestampTzGetDatum(due),		   TimestampTzGetDatum(after)};

	SPI_connect();
	engine_run(&ask, values, NULL, SPI_OK_INSERT);
	SPI_finish();
	slots_wake();
}

/* It must be as of what comes after the second of an event. */
void
reread_ask_after(const CatalogType *type, const char *id, const char *account,
				 const char *reason, TimestampTz created)
{
	TimestampTz soon = GetCurrentTimestamp() + SETTLED + USECS_PER_SEC;

	reread_ask(type, id, account, reason, created + USECS_PER_SEC,
			   Min(created + SETTLED, soon));
}
