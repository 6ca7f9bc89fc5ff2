/*
 * verify_slack.c
 *		Signatures of Slack's requests: the verdict of slack_signature.c as a
 *		refusal, and the SQL function verify_slack_signature().
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/error_codes.h"
#include "inbox/secret.h"
#include "slack_in/internal.h"
#include "slack_in/slack_signature.h"

static SlackSigned
signed_request(const char *body, int length, const text *timestamp,
			   const text *signature)
{
	SlackSigned request = {.body = body, .body_length = length};

	if (timestamp != NULL)
	{
		request.timestamp = VARDATA_ANY(timestamp);
		request.timestamp_length = VARSIZE_ANY_EXHDR(timestamp);
	}
	if (signature != NULL)
	{
		request.signature = VARDATA_ANY(signature);
		request.signature_length = VARSIZE_ANY_EXHDR(signature);
	}
	return request;
}

/* Returns true if the signature fits, else false with the refusal filled in. */
static bool
verdict_refuse(SlackSignatureVerdict verdict, Refusal *refusal)
{
	switch (verdict)
	{
		case SLACK_SIGNATURE_FITS:
			return true;
		case SLACK_SIGNATURE_UNREADABLE:
			return refuse(
				refusal, FAULT_CLIENT, ERRCODE_SIGNATURE_UNREADABLE,
				"the request is not signed by Slack",
				"It needs X-Slack-Request-Timestamp, in seconds, and X-Slack-Signature, v0=<hex>.",
				"Pass the request's headers unchanged.");
		case SLACK_SIGNATURE_MISFIT:
			return refuse(
				refusal, FAULT_CLIENT, ERRCODE_SIGNATURE_MISFIT,
				"the signature in X-Slack-Signature does not fit the body", NULL,
				"Pass the raw body, not one that was parsed and serialized again, and check the app's signing secret.");
		case SLACK_SIGNATURE_OUT_OF_TIME:
			return refuse(
				refusal, FAULT_CLIENT, ERRCODE_SIGNATURE_TOO_OLD,
				"the signature fits, but its time is more than 5 minutes from the server's",
				NULL,
				"Check this server's clock. A replayed request gets the same error.");
		case SLACK_SIGNATURE_BROKEN:
			break;
	}
	ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
					errmsg("OpenSSL could not compute an HMAC-SHA256")));
	return false;
}

/*
 * Verify a request with the app's signing secret, which is read for this one use
 * and wiped.  Returns false with the refusal (SY001, SY002, SY003 or SY007), else
 * true with the time of the signature.
 */
bool
slack_verify(const char *app, const char *body, int length,
			 const text *timestamp, const text *signature,
			 TimestampTz *signed_at, Refusal *refusal)
{
	SlackSigned request = signed_request(body, length, timestamp, signature);
	int64 now = (int64) timestamptz_to_time_t(GetCurrentTimestamp());
	int64 at = 0;
	SecretBuffer secret;
	int secret_length = slack_app_signing_secret(app, &secret, refusal);
	SlackSignatureVerdict verdict = SLACK_SIGNATURE_MISFIT;

	if (secret_length > 0)
		verdict = slack_signature_verify(&request, secret.bytes, secret_length,
										 now, &at);
	secret_wipe(&secret);
	if (secret_length <= 0 || !verdict_refuse(verdict, refusal))
		return false;
	*signed_at = time_t_to_timestamptz((pg_time_t) at);
	return true;
}

/*
 * verify_slack_signature(body, request_timestamp, signature, secret, at), body
 * being bytea or text.  Not STRICT: a NULL result could be taken for success.
 */
SECRET_FUNCTION_ANY_LEVEL(stripe_sync_verify_slack_signature)
{
	static const char *const names[] = {
		"the body", "the timestamp", "the signature", "the secret", "the time"};
	struct varlena *body;
	text *secret;
	SlackSigned request;
	SlackSignatureVerdict verdict;
	TimestampTz at;
	int64 signed_at;
	Refusal refusal;

	for (int i = 0; i < lengthof(names); i++)
		argument_required(fcinfo, i, names[i]);
	body = PG_GETARG_VARLENA_PP(0);
	secret = PG_GETARG_TEXT_PP(3);
	at = PG_GETARG_TIMESTAMPTZ(4);
	if (TIMESTAMP_NOT_FINITE(at))
		PG_RETURN_BOOL(false);
	request = signed_request(VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body),
							 PG_GETARG_TEXT_PP(1), PG_GETARG_TEXT_PP(2));
	verdict = slack_signature_verify(
		&request, VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret),
		(int64) timestamptz_to_time_t(at), &signed_at);
	PG_RETURN_BOOL(verdict_refuse(verdict, &refusal));
}
