/*
 * signature_fuzz.c
 *		Fuzz target: signature_verify() against a naive second opinion.
 *
 * A fuzzer can't guess an HMAC, so an input is a little program that puts a
 * header together out of true, bent and raw pieces (see header_make).  Each
 * input is checked for
 *
 * - the verdict, and the secret that fits, being the oracle's: it splits the
 *	 header into strings, reads the time with a regular expression and compares
 *	 hex text with OpenSSL's HMAC() over a copy;
 * - what signature_sign() makes fitting, and not fitting with any one bit
 *	 flipped in payload, secret or header.
 *
 * Any difference aborts.  How often each verdict came is printed at the end,
 * so that the runner can tell that none of them was never tried.
 */
#include <ctype.h>
#include <inttypes.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "inbox/signature.h"

#define MAX_SECRETS		3
#define MAX_SECRET		160
#define MAX_PAYLOAD		200
#define MAX_HEADER		20000
#define HEADER_LIMIT	16384 /* longer is unreadable */
#define CANDIDATE_LIMIT 32	  /* further well-formed v1s don't fit */
#define HEX_LENGTH		64

typedef struct Input
{
	const uint8_t *bytes;
	size_t left;
} Input;

typedef struct Case
{
	uint8_t payload[MAX_PAYLOAD];
	size_t payload_length;
	char secret_bytes[MAX_SECRETS][MAX_SECRET];
	SignatureSecret secrets[MAX_SECRETS];
	int nsecrets;
	char header[MAX_HEADER];
	size_t header_length;
	int64_t at;
	int64_t now;
	int64_t tolerance;
} Case;

static unsigned long verdicts[SIGNATURE_BROKEN + 1];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition, what)                                                 \
	do                                                                         \
	{                                                                          \
		if (!(condition))                                                      \
			failed(what, __LINE__);                                            \
	} while (0)

static void
failed(const char *what, int line)
{
	fprintf(stderr, "line %d: %s\n", line, what);
	abort();
}

static void
verdicts_print(void)
{
	printf("verdicts: fits %lu, unreadable %lu, misfit %lu, too old %lu\n",
		   verdicts[SIGNATURE_FITS], verdicts[SIGNATURE_UNREADABLE],
		   verdicts[SIGNATURE_MISFIT], verdicts[SIGNATURE_TOO_OLD]);
}

/* ---- the oracle ---- */

/* A copy with an end; a NUL inside makes it fit no rule, as it must. */
static char *
string_copy(const char *bytes, size_t length)
{
	char *copy = malloc(length + 1);

	CHECK(copy != NULL, "out of memory");
	if (length > 0)
		memcpy(copy, bytes, length);
	copy[length] = '\0';
	return copy;
}

static bool
oracle_is_time(const char *element, size_t length)
{
	static regex_t regex;
	static bool compiled = false;
	char *copy = string_copy(element, length);
	bool matches;

	if (!compiled)
		CHECK(regcomp(&regex, "^t=(0|[1-9][0-9]{0,11})$",
					  REG_EXTENDED | REG_NOSUB) == 0,
			  "regcomp");
	compiled = true;
	matches = strlen(copy) == length && regexec(&regex, copy, 0, NULL, 0) == 0;
	free(copy);
	return matches;
}

static bool
oracle_is_candidate(const char *element, size_t length)
{
	char *copy = string_copy(element, length);
	bool matches;

	matches = strlen(copy) == length && length == 3 + HEX_LENGTH &&
			  strspn(copy + 3, "0123456789abcdefABCDEF") == HEX_LENGTH;
	free(copy);
	return matches;
}

static void
oracle_hex(const SignatureSecret *secret, const char *digits, size_t ndigits,
		   const uint8_t *payload, size_t payload_length,
		   char hex[HEX_LENGTH + 1])
{
	uint8_t *text = malloc(ndigits + 1 + payload_length);
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned int length = 0;

	CHECK(text != NULL, "out of memory");
	memcpy(text, digits, ndigits);
	text[ndigits] = '.';
	memcpy(text + ndigits + 1, payload, payload_length);
	CHECK(HMAC(EVP_sha256(), secret->bytes, (int) secret->length, text,
			   ndigits + 1 + payload_length, digest, &length) != NULL,
		  "HMAC()");
	for (unsigned int i = 0; i < length; i++)
		sprintf(hex + 2 * i, "%02x", digest[i]);
	free(text);
}

/* Does the candidate, hex text, fit the secret? */
static bool
oracle_fits(const Case *c, const SignatureSecret *secret, const char *digits,
			size_t ndigits, const char *candidate)
{
	char hex[HEX_LENGTH + 1];

	if (c->payload_length == 0 || secret->length == 0)
		return false;
	oracle_hex(secret, digits, ndigits, c->payload, c->payload_length, hex);
	for (int i = 0; i < HEX_LENGTH; i++)
		if (tolower((unsigned char) candidate[i]) != hex[i])
			return false;
	return true;
}

static SignatureVerdict
oracle_age(const Case *c, const char *digits, size_t ndigits)
{
	char *copy = string_copy(digits, ndigits);
	__int128 at = strtoll(copy, NULL, 10);

	free(copy);
	if (c->tolerance == SIGNATURE_NO_TOLERANCE)
		return SIGNATURE_FITS;
	return (__int128) c->now - at > c->tolerance ? SIGNATURE_TOO_OLD
												 : SIGNATURE_FITS;
}

static SignatureVerdict
oracle_verify(const Case *c, int *which)
{
	const char *digits = NULL;
	size_t ndigits = 0;
	const char *candidates[CANDIDATE_LIMIT];
	int ncandidates = 0;
	int times = 0;
	int v1s = 0;
	size_t start = 0;

	if (c->header_length > HEADER_LIMIT)
		return SIGNATURE_UNREADABLE;

	for (size_t i = 0; i <= c->header_length; i++)
	{
		const char *element = c->header + start;
		size_t length = i - start;

		if (i < c->header_length && c->header[i] != ',')
			continue;
		start = i + 1;
		if (length >= 3 && strncmp(element, "v1=", 3) == 0)
		{
			v1s++;
			if (oracle_is_candidate(element, length) &&
				ncandidates < CANDIDATE_LIMIT)
				candidates[ncandidates++] = element + 3;
		}
		if ((length == 1 || (length > 1 && element[1] == '=')) &&
			element[0] == 't')
		{
			times++;
			if (oracle_is_time(element, length))
			{
				digits = element + 2;
				ndigits = length - 2;
			}
		}
	}
	if (times != 1 || digits == NULL || v1s == 0)
		return SIGNATURE_UNREADABLE;

	for (int s = 0; s < c->nsecrets; s++)
		for (int i = 0; i < ncandidates; i++)
			if (oracle_fits(c, &c->secrets[s], digits, ndigits, candidates[i]))
			{
				*which = s;
				return oracle_age(c, digits, ndigits);
			}
	return SIGNATURE_MISFIT;
}

/* ---- making a case out of bytes ---- */

static uint8_t
take_byte(Input *input)
{
	if (input->left == 0)
		return 0;
	input->left--;
	return *input->bytes++;
}

static uint64_t
take_number(Input *input, int nbytes)
{
	uint64_t number = 0;

	while (nbytes-- > 0)
		number = number << 8 | take_byte(input);
	return number;
}

static size_t
take_bytes(Input *input, void *to, size_t length)
{
	if (length > input->left)
		length = input->left;
	memcpy(to, input->bytes, length);
	input->bytes += length;
	input->left -= length;
	return length;
}

static void
header_add(Case *c, const char *bytes, size_t length)
{
	if (length > MAX_HEADER - c->header_length)
		length = MAX_HEADER - c->header_length;
	memcpy(c->header + c->header_length, bytes, length);
	c->header_length += length;
}

/* A true v1 of one of the secrets, perhaps bent by "how". */
static void
header_add_v1(Case *c, uint8_t of, uint8_t how, bool bend)
{
	char element[3 + HEX_LENGTH + 1] = "v1=";
	char digits[24];
	SignatureSecret none = {"", 0};
	const SignatureSecret *secret = c->nsecrets > 0
										? &c->secrets[of % c->nsecrets]
										: &none;

	snprintf(digits, sizeof(digits), "%" PRId64, c->at);
	oracle_hex(secret, digits, strlen(digits), c->payload, c->payload_length,
			   element + 3);
	if (bend)
		element[3 + how % HEX_LENGTH] ^= (char) (1 << (how >> 6));
	header_add(c, element, 3 + HEX_LENGTH);
}

static void
header_add_time(Case *c, int64_t at)
{
	char element[32];

	header_add(c, element,
			   (size_t) snprintf(element, sizeof(element), "t=%" PRId64, at));
}

static void
header_add_raw(Case *c, Input *input)
{
	char raw[64];

	header_add(c, raw, take_bytes(input, raw, take_byte(input) % sizeof(raw)));
}

/* Many elements at once, to get to the limits of count and length. */
static void
header_add_many(Case *c, uint8_t count, bool wellformed)
{
	char element[4 + HEX_LENGTH];

	memset(element, wellformed ? 'a' : 'z', sizeof(element));
	memcpy(element, "v1=", 3);
	element[sizeof(element) - 1] = ',';
	for (int i = 0; i < count; i++)
		header_add(c, element, sizeof(element));
}

static void
header_add_bent(Case *c, Input *input, uint8_t what, uint8_t how)
{
	switch (what)
	{
		case 0:
			header_add_time(c, c->at);
			break;
		case 1:
			header_add_time(c, (int64_t) take_number(input, how % 9));
			break;
		case 2:
			header_add_many(c, how % 64, true);
			break;
		case 3:
			header_add_many(c, how, false);
			break;
		case 4:
			header_add(c, "v0=", 3);
			break;
		case 5:
			header_add(c, "v1=", how % 4);
			break;
		case 6:
			header_add(c, "t=0t", how % 5);
			break;
		default:
			header_add_raw(c, input);
	}
}

/* Mostly one time and a few v1, so that more is tried than "unreadable". */
static void
header_make(Case *c, Input *input)
{
	uint8_t start = take_byte(input);

	if (start % 16 != 15)
	{
		header_add_time(c, c->at);
		header_add(c, ",", 1);
	}
	for (int pieces = 1 + start / 16 % 8; pieces > 0; pieces--)
	{
		uint8_t what = take_byte(input);
		uint8_t how = take_byte(input);

		if (what < 192)
			header_add_v1(c, what / 4, how, what % 4 == 3);
		else if (what < 224)
			header_add_many(c, how % 4 == 0 ? 31 : how % 3, what % 2);
		else
			header_add_bent(c, input, what % 8, how);
		if (how != 255)
			header_add(c, ",", 1);
	}
}

/* Around t and the tolerance mostly, where the edges are. */
static void
times_make(Case *c, Input *input)
{
	uint8_t how = take_byte(input);
	int64_t shift = (int64_t) (take_byte(input)) - 128;

	c->at = (int64_t) (take_number(input, 5) % INT64_C(1000000000000));
	c->tolerance = how & 1 ? 300 : take_byte(input);
	if ((how & 6) == 6)
		c->tolerance = SIGNATURE_NO_TOLERANCE;
	c->now = how & 8 ? c->at + shift : c->at + c->tolerance + shift / 32;
	if ((how & 48) == 48)
		c->now = (int64_t) take_number(input, 8);
	if (how == 191)
		c->tolerance = (int64_t) take_number(input, 8);
}

static void
secrets_make(Case *c, Input *input)
{
	c->nsecrets = (take_byte(input) + 1) % (MAX_SECRETS + 1);
	for (int i = 0; i < c->nsecrets; i++)
	{
		uint8_t length = take_byte(input);

		if (length < 200) /* the short ones are the usual ones */
			length %= 40;
		c->secrets[i].bytes = c->secret_bytes[i];
		c->secrets[i].length = take_bytes(input, c->secret_bytes[i],
										  length % MAX_SECRET);
	}
}

/* ---- the properties ---- */

static void
check_verdict(const Case *c)
{
	int which = -1;
	int expected_which = -1;
	SignatureVerdict verdict;
	SignatureVerdict expected = oracle_verify(c, &expected_which);

	verdict = signature_verify(c->payload, c->payload_length, c->header,
							   c->header_length, c->secrets, c->nsecrets,
							   c->now, c->tolerance, &which);
	CHECK(verdict == expected, "another verdict than the oracle's");
	CHECK(which == expected_which, "another secret than the oracle's");
	verdicts[verdict]++;
}

static SignatureVerdict
verify_plainly(const Case *c, const char *header)
{
	return signature_verify(c->payload, c->payload_length, header,
							strlen(header), c->secrets, 1, c->at, 0, NULL);
}

static void
check_flipped_header(const Case *c, const char *header, size_t bit)
{
	char flipped[SIGNATURE_HEADER_SIZE];
	char *place = flipped + bit / 8;
	char before;

	strcpy(flipped, header);
	before = *place;
	*place ^= (char) (1 << bit % 8);
	if (bit % 8 == 5 && isalpha((unsigned char) before) &&
		place > strchr(flipped, ',') + 3)
		CHECK(verify_plainly(c, flipped) == SIGNATURE_FITS,
			  "hex in upper case doesn't fit");
	else
		CHECK(signature_verify(c->payload, c->payload_length, flipped,
							   strlen(header), c->secrets, 1, c->at,
							   SIGNATURE_NO_TOLERANCE, NULL) != SIGNATURE_FITS,
			  "fits with a bit flipped in the header");
}

static void
check_flipped_inputs(Case *c, const char *header, size_t bit)
{
	uint8_t *payload = &c->payload[bit / 8 % c->payload_length];
	char *secret = &c->secret_bytes[0][bit / 8 % c->secrets[0].length];

	*payload ^= (uint8_t) (1 << bit % 8);
	CHECK(verify_plainly(c, header) == SIGNATURE_MISFIT,
		  "fits with a bit flipped in the payload");
	*payload ^= (uint8_t) (1 << bit % 8);

	*secret ^= (char) (1 << bit % 8);
	CHECK(verify_plainly(c, header) == SIGNATURE_MISFIT,
		  "fits with a bit flipped in the secret");
	*secret ^= (char) (1 << bit % 8);
}

static void
check_round_trip(Case *c, size_t bit)
{
	char header[SIGNATURE_HEADER_SIZE];
	bool can_sign = c->nsecrets > 0 && c->secrets[0].length > 0;

	if (c->nsecrets == 0)
		return;
	CHECK(signature_sign(c->payload, c->payload_length, &c->secrets[0], c->at,
						 header) == can_sign,
		  "signing");
	if (!can_sign)
		return;
	if (c->payload_length == 0)
	{
		CHECK(verify_plainly(c, header) == SIGNATURE_MISFIT,
			  "an empty payload fits");
		return;
	}
	CHECK(verify_plainly(c, header) == SIGNATURE_FITS,
		  "what was signed doesn't fit");
	check_flipped_header(c, header, bit % (8 * strlen(header)));
	check_flipped_inputs(c, header, bit);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool counting = false;
	static Case c;
	Input input = {data, size};
	size_t bit;

	if (!counting)
		atexit(verdicts_print);
	counting = true;

	memset(&c, 0, sizeof(c));
	bit = (size_t) take_number(&input, 2);
	times_make(&c, &input);
	secrets_make(&c, &input);
	c.payload_length = take_bytes(&input, c.payload,
								  take_number(&input, 2) % MAX_PAYLOAD);
	header_make(&c, &input);

	check_verdict(&c);
	check_round_trip(&c, bit);
	return 0;
}
