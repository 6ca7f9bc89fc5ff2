/*
 * slack_signature.c
 *		Slack's request signatures (v0).
 *
 * The protocol is Slack's "Verifying requests from Slack": X-Slack-Signature is
 * "v0=" and HMAC-SHA256 in hex, keyed with the app's signing secret, over "v0:",
 * the value of X-Slack-Request-Timestamp, ":" and the body's bytes as they were
 * sent.  Where Slack's own libraries differ, the stricter one is followed:
 *
 * - The timestamp is a plain number of at most 12 digits, without a leading
 *	 zero, and at most 5 minutes from the clock, either way.
 * - The signature is "v0=" and 64 hex digits in lower case, and nothing else.
 * - An empty secret fits nothing.
 *
 * 32 bytes are compared, in constant time.  The signature is checked before the
 * age: a forged request reveals nothing about the clock.  The digest does not
 * outlive the call.
 */
#include <string.h>

#include <openssl/crypto.h>

#include "inbox/hmac.h"
#include "slack_in/slack_signature.h"

#define VERSION			"v0"
#define PREFIX			"v0="
#define PREFIX_LENGTH	3
#define TIME_DIGITS_MAX 12

/* Not isdigit() and such: those depend on the locale. */
static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

static bool
signature_read(const SlackSigned *request, unsigned char digest[HMAC_LENGTH])
{
	const char *hex = request->signature + PREFIX_LENGTH;

	if (request->signature_length != PREFIX_LENGTH + 2 * HMAC_LENGTH ||
		memcmp(request->signature, PREFIX, PREFIX_LENGTH) != 0)
		return false;
	for (int i = 0; i < HMAC_LENGTH; i++)
	{
		int high = hex_value(hex[2 * i]);
		int low = hex_value(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		digest[i] = (unsigned char) (high << 4 | low);
	}
	return true;
}

/* (0|[1-9][0-9]{0,11}) */
static bool
timestamp_read(const SlackSigned *request, int64_t *seconds)
{
	const char *digits = request->timestamp;
	size_t length = request->timestamp_length;

	if (length == 0 || length > TIME_DIGITS_MAX ||
		(digits[0] == '0' && length > 1))
		return false;
	*seconds = 0;
	for (size_t i = 0; i < length; i++)
	{
		if (digits[i] < '0' || digits[i] > '9')
			return false;
		*seconds = *seconds * 10 + (digits[i] - '0');
	}
	return true;
}

/* If now - signed_at overflows, they are far apart. */
static bool
out_of_time(int64_t signed_at, int64_t now)
{
	int64_t age;

	return __builtin_sub_overflow(now, signed_at, &age) ||
		   age > SLACK_SIGNATURE_TOLERANCE || age < -SLACK_SIGNATURE_TOLERANCE;
}

/* See slack_signature.h. */
SlackSignatureVerdict
slack_signature_verify(const SlackSigned *request, const char *secret,
					   size_t secret_length, int64_t now, int64_t *signed_at)
{
	const HmacPart parts[] = {{VERSION ":", sizeof(VERSION)},
							  {request->timestamp, request->timestamp_length},
							  {":", 1},
							  {request->body, request->body_length}};
	unsigned char theirs[HMAC_LENGTH];
	unsigned char ours[HMAC_LENGTH];
	int64_t seconds;
	bool fits;

	if (!timestamp_read(request, &seconds) || !signature_read(request, theirs))
		return SLACK_SIGNATURE_UNREADABLE;
	if (secret_length == 0)
		return SLACK_SIGNATURE_MISFIT;
	if (!hmac_sha256(secret, secret_length, parts, 4, ours))
		return SLACK_SIGNATURE_BROKEN;
	fits = CRYPTO_memcmp(ours, theirs, HMAC_LENGTH) == 0;
	OPENSSL_cleanse(ours, sizeof(ours));
	if (!fits)
		return SLACK_SIGNATURE_MISFIT;
	if (out_of_time(seconds, now))
		return SLACK_SIGNATURE_OUT_OF_TIME;
	*signed_at = seconds;
	return SLACK_SIGNATURE_FITS;
}
