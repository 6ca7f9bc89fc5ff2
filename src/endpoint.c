/*
 * endpoint.c
 *		Endpoints: named sources of events, each with its secrets.
 */
#include "stripe_sync.h"

#include "access/genam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "account.h"
#include "secret.h"

/* An interval in whole seconds, as tolerances are meant. */
int64
endpoint_seconds(const Interval *interval)
{
	int64 days = (int64) interval->month * DAYS_PER_MONTH + interval->day;

	return days * SECS_PER_DAY + interval->time / USECS_PER_SEC;
}

static void
read_row(HeapTuple tuple, TupleDesc desc, Endpoint *endpoint)
{
	bool isnull;
	Datum value;

	level_check_table(desc, ENDPOINT_MODE_LEARNED, "endpoint");
	value = heap_getattr(tuple, ENDPOINT_LIVEMODE, desc, &isnull);
	endpoint->has_livemode = !isnull;
	endpoint->livemode = !isnull && DatumGetBool(value);
	value = heap_getattr(tuple, ENDPOINT_TOLERANCE, desc, &isnull);
	endpoint->tolerance = isnull ? SIGNATURE_NO_TOLERANCE
								 : endpoint_seconds(DatumGetIntervalP(value));
	value = heap_getattr(tuple, ENDPOINT_ACCOUNT, desc, &isnull);
	endpoint->account = TextDatumGetCString(value);
	value = heap_getattr(tuple, ENDPOINT_MODE_LEARNED, desc, &isnull);
	endpoint->mode_learned = DatumGetBool(value);
}

bool
endpoint_find(const char *name, Endpoint *endpoint, Refusal *refusal)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan("endpoint", "endpoint_pkey", 1, name,
								   &relation, &snapshot);
	HeapTuple tuple = systable_getnext(scan);
	bool found = HeapTupleIsValid(tuple);

	if (found)
	{
		endpoint->name = pstrdup(name);
		read_row(tuple, RelationGetDescr(relation), endpoint);
	}
	engine_scan_end(scan, relation, snapshot);
	if (found)
		return true;
	return refuse(
		refusal, FAULT_OURS, ERRCODE_NO_SUCH_NAME,
		psprintf("there is no endpoint \"%s\"", name), NULL,
		psprintf("Make it: SELECT stripe_sync.add_endpoint(%s, 'whsec_...').",
				 quote_literal_cstr(name)));
}

void
endpoint_check_interval(const Interval *interval, const char *what)
{
	if (interval != NULL && endpoint_seconds(interval) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
				 errmsg("%s cannot be negative", what)));
}
