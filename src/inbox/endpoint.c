/*
 * endpoint.c
 *		Endpoints: named sources of events, each with its secrets.
 *
 * Rows of stripe_sync.endpoint are read by an index scan with the newest
 * snapshot and not cached: what is set up is valid from its commit.
 */
#include "postgres.h"

#include "access/genam.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "base/error_codes.h"
#include "base/refusal.h"
#include "engine/engine.h"
#include "engine/statement.h"
#include "inbox/inbox.h"
#include "inbox/signature.h"
#include "inbox/internal.h"

/* An interval in whole seconds, with days of 24 hours and months of 30 days. */
int64
endpoint_seconds(const Interval *interval)
{
	int64 days = (int64) interval->month * DAYS_PER_MONTH + interval->day;

	return days * SECS_PER_DAY + interval->time / USECS_PER_SEC;
}

/* Raises 55000 if the table has fewer columns than this library knows. */
static void
read_endpoint(HeapTuple tuple, TupleDesc desc, Endpoint *endpoint)
{
	Rows row = rows_of_tuple(tuple, desc);
	Interval *tolerance;
	bool isnull;
	Datum livemode;

	level_check_table(desc, ENDPOINT_MODE_LEARNED, "endpoint");
	endpoint->name = rows_text(&row);
	livemode = rows_datum(&row, BOOLOID, &isnull);
	endpoint->has_livemode = !isnull;
	endpoint->livemode = !isnull && DatumGetBool(livemode);
	tolerance = rows_interval(&row);
	endpoint->tolerance = tolerance == NULL ? SIGNATURE_NO_TOLERANCE
											: endpoint_seconds(tolerance);
	rows_skip(&row); /* created_at */
	endpoint->account = rows_text(&row);
	endpoint->mode_learned = rows_bool(&row, false);
}

/* Returns false with the refusal (SY005) if there is no such endpoint. */
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
		read_endpoint(tuple, RelationGetDescr(relation), endpoint);
	engine_scan_end(scan, relation, snapshot);
	if (found)
		return true;
	return refuse(
		refusal, FAULT_OURS, ERRCODE_NO_SUCH_NAME,
		psprintf("there is no endpoint \"%s\"", name), NULL,
		psprintf("Add it: SELECT stripe_sync.add_endpoint(%s, 'whsec_...').",
				 quote_literal_cstr(name)));
}

/* Raises 22023 if negative.  "what" names the argument in the message. */
void
endpoint_check_interval(const Interval *interval, const char *what)
{
	if (interval != NULL && endpoint_seconds(interval) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
				 errmsg("%s cannot be negative", what)));
}
