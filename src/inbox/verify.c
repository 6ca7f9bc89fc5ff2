/*
 * verify.c
 *		Signatures: the verdict of signature.c as a refusal, and the SQL
 *		functions verify_signature() and sign().
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/error_codes.h"
#include "base/refusal.h"
#include "inbox/inbox.h"
#include "inbox/secret.h"
#include "inbox/signature.h"

/* Returns true if the signature fits, else false with the refusal filled in. */
static bool
verdict_refuse(SignatureVerdict verdict, Refusal *refusal)
{
	switch (verdict)
	{
		case SIGNATURE_FITS:
			return true;
		case SIGNATURE_UNREADABLE:
			return refuse(
				refusal, FAULT_CLIENT, ERRCODE_SIGNATURE_UNREADABLE,
				"could not parse the Stripe-Signature header",
				"It must hold one t=<seconds> and at least one v1=<hex>.",
				"Pass the header's value unchanged.");
		case SIGNATURE_MISFIT:
			return refuse(
				refusal, FAULT_CLIENT, ERRCODE_SIGNATURE_MISFIT,
				"no signature in the Stripe-Signature header fits the payload",
				NULL,
				"Pass the raw body, not one that was parsed and serialized again, and check the endpoint's secret.");
		case SIGNATURE_TOO_OLD:
			return refuse(
				refusal, FAULT_CLIENT, ERRCODE_SIGNATURE_TOO_OLD,
				"the signature fits, but it is older than the tolerance", NULL,
				"Check this server's clock. A replayed request gets the same error.");
		case SIGNATURE_BROKEN:
			break;
	}
	ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
					errmsg("OpenSSL could not compute an HMAC-SHA256")));
	return false;
}

/* "now" and "tolerance" in seconds.  Without a header there is no t=. */
static SignatureVerdict
verify_header(const char *payload, int length, text *signature,
			  const SecretSet *set, int64 now, int64 tolerance)
{
	if (signature == NULL)
		return SIGNATURE_UNREADABLE;
	return signature_verify(payload, length, VARDATA_ANY(signature),
							VARSIZE_ANY_EXHDR(signature), set->secrets,
							set->count, now, tolerance, NULL);
}

/* The clock of now(): time() may lag behind it by a second. */
static int64
now_seconds(void)
{
	return (int64) timestamptz_to_time_t(GetCurrentTimestamp());
}

/*
 * Verify a delivery against the endpoint's secrets and tolerance.  Returns
 * false with the refusal (SY001, SY002, SY003 or SY007).  The secrets are
 * loaded for this one use and wiped.
 */
bool
endpoint_verify(const Endpoint *endpoint, const char *payload, int length,
				text *signature, Refusal *refusal)
{
	SecretSet set;
	SignatureVerdict verdict;

	if (!secrets_load(endpoint->name, &set, refusal))
		return false;
	verdict = verify_header(payload, length, signature, &set, now_seconds(),
							endpoint->tolerance);
	secrets_wipe(&set);
	return verdict_refuse(verdict, refusal);
}

/*
 * A Stripe-Signature header for simulate(), made with the endpoint's first
 * secret that has not lapsed.  "at" is in seconds of Unix time.  Raises SY007
 * if there is none.
 */
char *
endpoint_sign(const Endpoint *endpoint, const char *payload, int length,
			  int64 at)
{
	SecretSet set;
	Refusal refusal;
	char header[SIGNATURE_HEADER_SIZE];
	bool done;

	if (!secrets_load(endpoint->name, &set, &refusal))
		refusal_raise(&refusal);
	done = signature_sign(payload, length, &set.secrets[0], at, header);
	secrets_wipe(&set);
	if (!done)
		elog(ERROR, "could not sign an event");
	return pstrdup(header);
}

/*
 * verify_signature(payload, signature, secret, tolerance, at): returns true or
 * raises.  Not STRICT: a NULL tolerance accepts any age, and for a NULL
 * signature a NULL result could be taken for success.
 */
SECRET_FUNCTION_ANY_LEVEL(stripe_sync_verify_signature)
{
	bytea *payload = PG_ARGISNULL(0) ? NULL : PG_GETARG_BYTEA_PP(0);
	text *signature = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	text *secret = PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2);
	int64 tolerance = SIGNATURE_NO_TOLERANCE;
	TimestampTz at = PG_ARGISNULL(4) ? GetCurrentTimestamp()
									 : PG_GETARG_TIMESTAMPTZ(4);
	SecretSet set;
	SignatureVerdict verdict;
	Refusal refusal;

	if (!PG_ARGISNULL(3))
	{
		endpoint_check_interval(PG_GETARG_INTERVAL_P(3), "a tolerance");
		tolerance = endpoint_seconds(PG_GETARG_INTERVAL_P(3));
	}
	if (payload == NULL || VARSIZE_ANY_EXHDR(payload) == 0)
	{
		refuse(&refusal, FAULT_CLIENT, ERRCODE_NO_EVENT,
			   "the payload is not a Stripe event", "It is empty.", NULL);
		refusal_raise(&refusal);
	}
	if (!secrets_take(&set, secret, &refusal))
		refusal_raise(&refusal);
	verdict = verify_header(VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload),
							signature, &set, (int64) timestamptz_to_time_t(at),
							tolerance);
	secrets_wipe(&set);
	if (!verdict_refuse(verdict, &refusal))
		refusal_raise(&refusal);
	PG_RETURN_BOOL(true);
}

/* sign(payload, secret, at): a Stripe-Signature header, for tests */
SECRET_FUNCTION_ANY_LEVEL(stripe_sync_sign)
{
	bytea *payload = PG_GETARG_BYTEA_PP(0);
	text *secret = PG_GETARG_TEXT_PP(1);
	TimestampTz at = PG_GETARG_TIMESTAMPTZ(2);
	char header[SIGNATURE_HEADER_SIZE];
	SecretSet set;
	Refusal refusal;
	bool done;

	if (!secrets_take(&set, secret, &refusal))
		refusal_raise(&refusal);
	done = !TIMESTAMP_NOT_FINITE(at) &&
		   signature_sign(VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload),
						  &set.secrets[0], (int64) timestamptz_to_time_t(at),
						  header);
	secrets_wipe(&set);
	if (!done)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("cannot sign with a time before 1970"),
						errhint("Use a finite time of 1970 or later.")));
	PG_RETURN_TEXT_P(cstring_to_text(header));
}
