/*
 * verify.c
 *		The judgement of a signature, and how it is told.
 */
#include "stripe_sync.h"

#include "utils/builtins.h"

#include "secret.h"

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
				"the Stripe-Signature header can't be read",
				"It must hold one t=<seconds> and at least one v1=<hex>.",
				"Pass the header's value exactly as it came.");
		case SIGNATURE_MISFIT:
			return refuse(
				refusal, FAULT_CLIENT, ERRCODE_SIGNATURE_MISFIT,
				"no signature in the Stripe-Signature header fits the payload",
				NULL,
				"Pass the raw body, not a parsed and re-written one, and check the endpoint's secret.");
		case SIGNATURE_TOO_OLD:
			return refuse(
				refusal, FAULT_CLIENT, ERRCODE_SIGNATURE_TOO_OLD,
				"the signature fits, but it is older than the tolerance", NULL,
				"Check this server's clock; a replayed request looks the same.");
		case SIGNATURE_BROKEN:
			break;
	}
	ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
					errmsg("OpenSSL could not compute an HMAC-SHA256")));
	return false;
}

static SignatureVerdict
judge(const char *payload, int length, text *signature, const SecretSet *set,
	  int64 now, int64 tolerance)
{
	if (signature == NULL)
		return SIGNATURE_UNREADABLE;
	return signature_verify(payload, length, VARDATA_ANY(signature),
							VARSIZE_ANY_EXHDR(signature), set->secrets,
							set->count, now, tolerance, NULL);
}

/* By the clock of now(): time() may lag behind it into the second before. */
static int64
now_seconds(void)
{
	return (int64) timestamptz_to_time_t(GetCurrentTimestamp());
}

/* Is the payload signed with one of the endpoint's secrets, lately enough? */
bool
endpoint_verify(const Endpoint *endpoint, const char *payload, int length,
				text *signature, Refusal *refusal)
{
	SecretSet set;
	SignatureVerdict verdict;

	if (!secrets_load(endpoint->name, &set, refusal))
		return false;
	verdict = judge(payload, length, signature, &set, now_seconds(),
					endpoint->tolerance);
	secrets_wipe(&set);
	return verdict_refuse(verdict, refusal);
}

/* A header for simulate(): signed with the endpoint's first good secret. */
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
 * verify_signature(payload, signature, secret, tolerance, at): true, or raises.
 * Not STRICT: a NULL tolerance means something, and a NULL signature must
 * never be taken for "no answer".
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
			   "the payload is no Stripe event", "It is empty.", NULL);
		refusal_raise(&refusal);
	}
	if (!secrets_take(&set, secret, &refusal))
		refusal_raise(&refusal);
	verdict = judge(VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload), signature,
					&set, (int64) timestamptz_to_time_t(at), tolerance);
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
						errmsg("cannot sign for that time"),
						errhint("Give a time after 1970.")));
	PG_RETURN_TEXT_P(cstring_to_text(header));
}
