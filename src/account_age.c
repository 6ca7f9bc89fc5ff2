/*
 * account_age.c
 *		How far back an account's lists can go, for who wants to see progress.
 */
#include "sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

static char *
age_path(const Part *part)
{
	return pstrdup(OWN_ACCOUNT);
}

/* An account is older than all that it has; a key that may not see it is fine. */
static void
age_take(Part *part, const ApiCall *call)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.job_part SET oldest = $3"
		" WHERE job = $1 AND account = $2 AND kind = 'list'",
		3,
		{INT8OID, TEXTOID, TIMESTAMPTZOID}};
	Datum values[] = {Int64GetDatum(part->job),
					  CStringGetTextDatum(part->account), 0};
	FetchedObject account = {0};
	TimestampTz created;

	part->finished = true;
	if (call->verdict != API_OK || !object_from(call, &account))
		return;
	created = list_created(account.object);
	if (created == DT_NOBEGIN)
		return;
	values[2] = TimestampTzGetDatum(created);
	SPI_connect();
	engine_run(&update, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
}

const PartKind part_age = {
	.name = "age",
	.path = age_path,
	.take = age_take,
	.ended = backfill_part_ended,
	.takes = API_BIT(API_REFUSED) | API_BIT(API_GONE) | API_BIT(API_FORBIDDEN),
};
