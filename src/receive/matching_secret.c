/*
 * matching_secret.c
 *		Which other secret of this database does a signature fit?
 *
 * Tells an administrator that two endpoints were confused, or that a secret was
 * rotated too early.  Each secret costs an HMAC over the body, so the caller
 * limits how often this is done (refusal_may_try()).  A match is no information
 * for a forger: only the holder of the secret can have signed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/secret.h"
#include "inbox/signature.h"
#include "receive/internal.h"

#define MOST_SECRETS 1000

static bool
fits(const DeliveryParts *delivery, HeapTuple tuple, TupleDesc desc)
{
	Rows row = rows_of_tuple(tuple, desc);
	SecretBuffer buffer;
	SignatureSecret secret;
	SignatureVerdict verdict;
	char *trouble;
	bool isnull;
	Datum value;

	rows_skip(&row); /* endpoint */
	rows_skip(&row); /* number */
	value = rows_datum(&row, TEXTOID, &isnull);
	secret.bytes = buffer.bytes;
	secret.length = secret_read(DatumGetTextPP(value), &buffer, &trouble);
	verdict = signature_verify(delivery->payload, delivery->length,
							   VARDATA_ANY(delivery->signature),
							   VARSIZE_ANY_EXHDR(delivery->signature), &secret,
							   1, 0, SIGNATURE_NO_TOLERANCE, NULL);
	secret_wipe(&buffer);
	return verdict == SIGNATURE_FITS;
}

/* Describe the secret that fits. */
static Misfit
describe_match(const DeliveryParts *delivery, HeapTuple tuple, TupleDesc desc,
			   char **detail)
{
	Rows row = rows_of_tuple(tuple, desc);
	char *name = rows_text(&row);
	bool own = strcmp(name, delivery->endpoint) == 0;
	TimestampTz lapses_at;
	bool lapsed;

	rows_skip(&row); /* number */
	rows_skip(&row); /* secret */
	lapses_at = rows_time(&row, DT_NOEND);
	lapsed = lapses_at <= GetCurrentTimestamp();
	if (own)
		*detail = psprintf("It fits a secret of this endpoint that lapsed at %s.",
						   timestamptz_to_str(lapses_at));
	else
		*detail = psprintf("It fits a secret of endpoint \"%s\"%s.", name,
						   lapsed ? ", which has lapsed" : "");
	return own ? MISFIT_LAPSED : MISFIT_ANOTHERS;
}

/*
 * Try every secret, valid or lapsed, on a delivery whose signature fits none of
 * its endpoint's valid secrets.  Sets *detail, a sentence, unless the result is
 * MISFIT_NONE.  At most MOST_SECRETS secrets and MISFIT_MOST bytes.
 */
Misfit
misfit_find(const DeliveryParts *delivery, char **detail)
{
	Relation relation = table_open(engine_relation("endpoint_secret"),
								   AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, snapshot,
										  0, NULL);
	Misfit misfit = MISFIT_NONE;
	int tried = 0;
	HeapTuple tuple;

	while (misfit == MISFIT_NONE && tried++ < MOST_SECRETS &&
		   HeapTupleIsValid(tuple = systable_getnext(scan)))
		if (fits(delivery, tuple, RelationGetDescr(relation)))
			misfit = describe_match(delivery, tuple, RelationGetDescr(relation),
									detail);
	engine_scan_end(scan, relation, snapshot);
	return misfit;
}
