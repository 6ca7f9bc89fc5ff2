/*
 * signature.c
 *		Stripe's webhook signatures: sign and verify.
 *
 * The protocol is Stripe's "Verify webhook signatures manually": the header
 * Stripe-Signature is a list of scheme=value, separated by commas; "t" is the
 * time of signing in Unix seconds, each "v1" is HMAC-SHA256 in hex, keyed with
 * the whole "whsec_..." string, over t's digits, a full stop and the body's
 * bytes as they were sent.  There are several v1 while a secret is being
 * rolled.  Where Stripe's own libraries differ, the stricter one is followed.
 *
 * Invariants:
 *
 * - The header is parsed before anything is computed, and the signature is
 *	 checked before the age: a forged request reveals nothing about the clock.
 * - Every candidate is compared with every secret's digest, in constant time
 *	 and without an early exit: the time taken reveals neither which one
 *	 matches nor how much of it.
 * - 32 bytes are compared, never text: hex in either case, exactly 64 digits.
 *	 A v1 of any other form does not match.
 * - An empty payload and an empty secret match nothing.
 * - Work and memory are bounded by SIGNATURE_HEADER_MAX and
 *	 SIGNATURE_CANDIDATES_MAX, whatever a client sends.
 * - Keys and digests don't outlive the call, neither here nor in OpenSSL,
 *	 which clears what it frees.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>

#include "base/hex.h"
#include "inbox/hmac.h"
#include "inbox/signature.h"

#define TIME_DIGITS_MAX 12
#define TIME_MAX		INT64_C(999999999999)

/* Stripe's headers are well under 1 kB; longer than this is unreadable. */
#define SIGNATURE_HEADER_MAX 16384

/*
 * Stripe sends one v1 for each live secret, two at the most.  Well-formed
 * candidates after that many don't fit.
 */
#define SIGNATURE_CANDIDATES_MAX 32

typedef struct ByteSpan
{
	const char *bytes;
	size_t length;
} ByteSpan;

/*
 * A parsed header.  The digits of "t" point into the header: they are signed as
 * they were sent.
 */
typedef struct ParsedHeader
{
	ByteSpan time_digits; /* bytes NULL: no t yet */
	int64_t time;
	bool has_v1; /* well-formed or not */
	int ncandidates;
	unsigned char candidates[SIGNATURE_CANDIDATES_MAX][HMAC_LENGTH];
} ParsedHeader;

static bool header_read(ParsedHeader *parsed, ByteSpan header);
static bool element_read(ParsedHeader *parsed, ByteSpan element);
static bool time_read(ParsedHeader *parsed, ByteSpan digits);
static void candidate_read(ParsedHeader *parsed, ByteSpan hex);
static bool hex_decode(unsigned char digest[HMAC_LENGTH], ByteSpan hex);
static void hex_encode(char *hex, const unsigned char digest[HMAC_LENGTH]);
static SignatureVerdict candidates_judge(const ParsedHeader *parsed,
										 ByteSpan payload,
										 const SignatureSecret *secrets,
										 int nsecrets, int *which);
static bool candidates_hold(const ParsedHeader *parsed,
							const unsigned char digest[HMAC_LENGTH]);
static bool too_old(int64_t signed_at, int64_t now, int64_t tolerance);
static bool payload_digest(unsigned char digest[HMAC_LENGTH],
						   const SignatureSecret *secret, ByteSpan time_digits,
						   ByteSpan payload);

/* See signature.h. */
SignatureVerdict
signature_verify(const void *payload, size_t payload_length, const char *header,
				 size_t header_length, const SignatureSecret *secrets,
				 int nsecrets, int64_t now, int64_t tolerance, int *which)
{
	ParsedHeader parsed;
	SignatureVerdict verdict;

	if (!header_read(&parsed, (ByteSpan){header, header_length}))
		return SIGNATURE_UNREADABLE;
	if (payload_length == 0 || parsed.ncandidates == 0)
		return SIGNATURE_MISFIT;

	verdict = candidates_judge(&parsed, (ByteSpan){payload, payload_length},
							   secrets, nsecrets, which);
	if (verdict == SIGNATURE_FITS && too_old(parsed.time, now, tolerance))
		return SIGNATURE_TOO_OLD;
	return verdict;
}

/* See signature.h. */
bool
signature_sign(const void *payload, size_t payload_length,
			   const SignatureSecret *secret, int64_t at,
			   char header[SIGNATURE_HEADER_SIZE])
{
	unsigned char digest[HMAC_LENGTH];
	int length;
	bool done;

	if (at < 0 || at > TIME_MAX || secret->length == 0)
		return false;

	length = snprintf(header, SIGNATURE_HEADER_SIZE, "t=%" PRId64 ",v1=", at);
	done = payload_digest(digest, secret,
						  (ByteSpan){header + 2, (size_t) length - 6},
						  (ByteSpan){payload, payload_length});
	if (done)
		hex_encode(header + length, digest);
	OPENSSL_cleanse(digest, sizeof(digest));
	return done;
}

/* Parse a whole header.  Returns false unless it has exactly one plain t, and a v1=. */
static bool
header_read(ParsedHeader *parsed, ByteSpan header)
{
	parsed->time_digits = (ByteSpan){NULL, 0};
	parsed->time = 0;
	parsed->has_v1 = false;
	parsed->ncandidates = 0;

	if (header.length > SIGNATURE_HEADER_MAX)
		return false;

	while (header.length > 0)
	{
		const char *comma = memchr(header.bytes, ',', header.length);
		size_t length = comma ? (size_t) (comma - header.bytes) : header.length;
		size_t step = comma ? length + 1 : length;

		if (!element_read(parsed, (ByteSpan){header.bytes, length}))
			return false;
		header.bytes += step;
		header.length -= step;
	}
	return parsed->time_digits.bytes != NULL && parsed->has_v1;
}

/*
 * Parse one scheme=value.  A "t" without "=" makes the header invalid; a "v1"
 * without "=" is ignored, and so are other schemes (v0 is a fake signature on
 * test events).
 */
static bool
element_read(ParsedHeader *parsed, ByteSpan element)
{
	const char *bytes = element.bytes;
	size_t length = element.length;

	if (length == 1 && bytes[0] == 't')
		return false;
	if (length >= 2 && memcmp(bytes, "t=", 2) == 0)
		return time_read(parsed, (ByteSpan){bytes + 2, length - 2});
	if (length >= 3 && memcmp(bytes, "v1=", 3) == 0)
		candidate_read(parsed, (ByteSpan){bytes + 3, length - 3});
	return true;
}

/*
 * The only time: (0|[1-9][0-9]{0,11}).  With two, a parser that takes the first
 * and one that takes the last would disagree on what was signed.
 */
static bool
time_read(ParsedHeader *parsed, ByteSpan digits)
{
	if (parsed->time_digits.bytes != NULL)
		return false;
	if (digits.length == 0 || digits.length > TIME_DIGITS_MAX)
		return false;
	if (digits.bytes[0] == '0' && digits.length > 1)
		return false;

	for (size_t i = 0; i < digits.length; i++)
	{
		if (digits.bytes[i] < '0' || digits.bytes[i] > '9')
			return false;
		parsed->time = parsed->time * 10 + (digits.bytes[i] - '0');
	}
	parsed->time_digits = digits;
	return true;
}

/* Malformed candidates, and those after SIGNATURE_CANDIDATES_MAX, are dropped. */
static void
candidate_read(ParsedHeader *parsed, ByteSpan hex)
{
	parsed->has_v1 = true;
	if (parsed->ncandidates < SIGNATURE_CANDIDATES_MAX &&
		hex_decode(parsed->candidates[parsed->ncandidates], hex))
		parsed->ncandidates++;
}

static bool
hex_decode(unsigned char digest[HMAC_LENGTH], ByteSpan hex)
{
	if (hex.length != 2 * HMAC_LENGTH)
		return false;

	for (size_t i = 0; i < HMAC_LENGTH; i++)
	{
		int high = hex_value(hex.bytes[2 * i]);
		int low = hex_value(hex.bytes[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		digest[i] = (unsigned char) (high << 4 | low);
	}
	return true;
}

static void
hex_encode(char *hex, const unsigned char digest[HMAC_LENGTH])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < HMAC_LENGTH; i++)
	{
		*hex++ = digits[digest[i] >> 4];
		*hex++ = digits[digest[i] & 0x0f];
	}
	*hex = '\0';
}

/*
 * Does any candidate match any secret?  All pairs are compared, also after a
 * match.  If two secrets match (the same one twice), *which is the first.
 */
static SignatureVerdict
candidates_judge(const ParsedHeader *parsed, ByteSpan payload,
				 const SignatureSecret *secrets, int nsecrets, int *which)
{
	unsigned char digest[HMAC_LENGTH];
	int fitting = -1;
	bool broken = false;

	for (int i = nsecrets - 1; i >= 0; i--)
	{
		if (secrets[i].length == 0)
			continue;
		if (!payload_digest(digest, &secrets[i], parsed->time_digits, payload))
			broken = true;
		else if (candidates_hold(parsed, digest))
			fitting = i;
	}
	OPENSSL_cleanse(digest, sizeof(digest));

	if (broken)
		return SIGNATURE_BROKEN;
	if (fitting < 0)
		return SIGNATURE_MISFIT;
	if (which != NULL)
		*which = fitting;
	return SIGNATURE_FITS;
}

static bool
candidates_hold(const ParsedHeader *parsed,
				const unsigned char digest[HMAC_LENGTH])
{
	int fits = 0;

	for (int i = 0; i < parsed->ncandidates; i++)
		fits |= CRYPTO_memcmp(parsed->candidates[i], digest, HMAC_LENGTH) == 0;
	return fits != 0;
}

/*
 * A time in the future is never too old, as in Stripe's own libraries.  If
 * now - signed_at overflows, "now" is far below zero: also in the future.
 */
static bool
too_old(int64_t signed_at, int64_t now, int64_t tolerance)
{
	int64_t age;

	if (tolerance == SIGNATURE_NO_TOLERANCE)
		return false;
	return !__builtin_sub_overflow(now, signed_at, &age) && age > tolerance;
}

/*
 * HMAC-SHA256 over the time's digits, a full stop and the payload.
 */
static bool
payload_digest(unsigned char digest[HMAC_LENGTH], const SignatureSecret *secret,
			   ByteSpan time_digits, ByteSpan payload)
{
	const HmacPart parts[] = {{time_digits.bytes, time_digits.length},
							  {".", 1},
							  {payload.bytes, payload.length}};

	return hmac_sha256(secret->bytes, secret->length, parts, 3, digest);
}
