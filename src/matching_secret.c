/*
 * matching_secret.c
 *		A signature doesn't fit its endpoint: would it have fit another secret
 *		that this database knows?
 *
 * For whoever has mixed up two endpoints, or rotated too soon.  Every secret
 * that is tried costs an HMAC of the body, so the caller sees to it that this
 * isn't done for every forged request.  Only who had the secret can have signed:
 * the answer helps no forger.
 */
#include "refused.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "secret.h"

#define MOST_SECRETS 1000

static bool
fits(const DeliveryParts *delivery, HeapTuple tuple, TupleDesc desc)
{
	SecretBuffer buffer;
	SignatureSecret secret;
	SignatureVerdict verdict;
	char *trouble;
	bool isnull;
	Datum value = heap_getattr(tuple, SECRET_SECRET, desc, &isnull);

	secret.bytes = buffer.bytes;
	secret.length = secret_read(DatumGetTextPP(value), &buffer, &trouble);
	verdict = signature_verify(delivery->payload, delivery->length,
							   VARDATA_ANY(delivery->signature),
							   VARSIZE_ANY_EXHDR(delivery->signature), &secret,
							   1, 0, SIGNATURE_NO_TOLERANCE, NULL);
	secret_wipe(&buffer);
	return verdict == SIGNATURE_FITS;
}

/* Whose secret it is that fits, and what people are told of it. */
static Misfit
describe(const DeliveryParts *delivery, HeapTuple tuple, TupleDesc desc,
		 char **detail)
{
	bool isnull;
	char *name = TextDatumGetCString(
		heap_getattr(tuple, SECRET_ENDPOINT, desc, &isnull));
	Datum lapses_at = heap_getattr(tuple, SECRET_LAPSES_AT, desc, &isnull);
	bool own = strcmp(name, delivery->endpoint) == 0;
	bool lapsed = !isnull &&
				  DatumGetTimestampTz(lapses_at) <= GetCurrentTimestamp();

	if (own)
		*detail = psprintf("It fits a secret of this endpoint that lapsed at %s.",
						   timestamptz_to_str(DatumGetTimestampTz(lapses_at)));
	else
		*detail = psprintf("It fits a secret of endpoint \"%s\"%s.", name,
						   lapsed ? ", which has lapsed" : "");
	return own ? MISFIT_LAPSED : MISFIT_ANOTHERS;
}

/*
 * The delivery's header holds a signature that fits none of the endpoint's good
 * secrets.  Sets *detail unless the answer is MISFIT_NONE.
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
			misfit = describe(delivery, tuple, RelationGetDescr(relation),
							  detail);
	engine_scan_end(scan, relation, snapshot);
	return misfit;
}
