/*
 * slack_signature_fuzz.c
 *		Fuzz target: slack_signature_verify() against a naive second opinion.
 *
 * A fuzzer can't guess an HMAC, so an input is a little program: it chooses a
 * timestamp, signs it with the oracle's HMAC, and then bends timestamp, signature,
 * body, secret or clock, or none of them.  The oracle looks at
 * characters and compares hex text.  Any difference aborts.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "slack_in/slack_signature.h"

#define MAX_BODY   200
#define MAX_SECRET 100
#define MAX_HEADER 160

typedef struct Input
{
	const uint8_t *bytes;
	size_t left;
} Input;

typedef struct Case
{
	char body[MAX_BODY];
	size_t body_length;
	char secret[MAX_SECRET];
	size_t secret_length;
	char timestamp[MAX_HEADER + 1];
	char signature[MAX_HEADER + 1];
	SlackSigned request;
	int64_t now;
} Case;

static unsigned long verdicts[SLACK_SIGNATURE_BROKEN + 1];

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
	printf("verdicts: fits %lu, unreadable %lu, misfit %lu, out of time %lu\n",
		   verdicts[SLACK_SIGNATURE_FITS], verdicts[SLACK_SIGNATURE_UNREADABLE],
		   verdicts[SLACK_SIGNATURE_MISFIT],
		   verdicts[SLACK_SIGNATURE_OUT_OF_TIME]);
}

/* ---- the oracle ---- */

/* Has it "least" to "most" characters, all of this set? */
static bool
oracle_all_of(const char *set, const char *bytes, size_t length, size_t least,
			  size_t most)
{
	for (size_t i = 0; i < length; i++)
		if (bytes[i] == '\0' || strchr(set, bytes[i]) == NULL)
			return false;
	return length >= least && length <= most;
}

/* "v0=" and the hex digits, of what the request has as its timestamp */
static void
oracle_sign(const Case *c, char *signature)
{
	size_t length = 3 + c->request.timestamp_length + 1 + c->body_length;
	char *signed_text = malloc(length);
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int size = 0;

	CHECK(signed_text != NULL, "out of memory");
	memcpy(signed_text, "v0:", 3);
	if (c->request.timestamp_length > 0)
		memcpy(signed_text + 3, c->request.timestamp,
			   c->request.timestamp_length);
	signed_text[3 + c->request.timestamp_length] = ':';
	memcpy(signed_text + length - c->body_length, c->body, c->body_length);
	CHECK(HMAC(EVP_sha256(), c->secret, (int) c->secret_length,
			   (unsigned char *) signed_text, length, digest, &size) != NULL,
		  "HMAC()");
	strcpy(signature, "v0=");
	for (unsigned int i = 0; i < size; i++)
		sprintf(signature + 3 + 2 * i, "%02x", digest[i]);
	free(signed_text);
}

static SlackSignatureVerdict
oracle_verify(const Case *c)
{
	char signature[80];
	char digits[16] = "";
	__int128 age;

	const SlackSigned *r = &c->request;

	if (!oracle_all_of("0123456789", r->timestamp, r->timestamp_length, 1, 12) ||
		(r->timestamp_length > 1 && r->timestamp[0] == '0') ||
		r->signature_length < 3 || memcmp(r->signature, "v0=", 3) != 0 ||
		!oracle_all_of("0123456789abcdef", r->signature + 3,
					   r->signature_length - 3, 64, 64))
		return SLACK_SIGNATURE_UNREADABLE;
	oracle_sign(c, signature);
	if (c->secret_length == 0 ||
		memcmp(signature, c->request.signature, 67) != 0)
		return SLACK_SIGNATURE_MISFIT;
	memcpy(digits, c->request.timestamp, c->request.timestamp_length);
	age = (__int128) c->now - strtoll(digits, NULL, 10);
	return age > 300 || age < -300 ? SLACK_SIGNATURE_OUT_OF_TIME
								   : SLACK_SIGNATURE_FITS;
}

/* ---- inputs ---- */

static uint64_t
take_number(Input *input, int bytes)
{
	uint64_t number = 0;

	for (; bytes > 0 && input->left > 0; bytes--, input->left--)
		number = number << 8 | *input->bytes++;
	return number;
}

static size_t
take_bytes(Input *input, char *to, size_t count)
{
	if (count > input->left)
		count = input->left;
	if (count > 0)
		memcpy(to, input->bytes, count);
	input->bytes += count;
	input->left -= count;
	return count;
}

/* Another character at one place, one less, or one more */
static size_t
bend(Input *input, char *text, size_t length)
{
	static const char likely[] = "0123456789abcdefABCDEF=v, +-.x";
	uint64_t place = take_number(input, 1);
	char with = likely[take_number(input, 1) % sizeof(likely)];

	switch (take_number(input, 1) % 4)
	{
		case 0:
			if (length > 0)
				text[place % length] = with;
			return length;
		case 1:
			return length > 0 ? length - 1 : 0;
		case 2:
			text[length] = with;
			return length + 1;
		default:
			memmove(text + 1, text, length);
			text[0] = with;
			return length + 1;
	}
}

static int64_t
take_now(Input *input, int64_t at)
{
	switch (take_number(input, 1) % 4)
	{
		case 0:
			return at;
		case 1:
			return at + (int64_t) (take_number(input, 2) % 604) - 302;
		case 2:
			return at + (take_number(input, 1) % 2 == 0 ? 300 : -300);
		default:
			return (int64_t) take_number(input, 8);
	}
}

static void
case_make(Case *c, Input *input)
{
	uint64_t bends = take_number(input, 1);
	int64_t at = (int64_t) (take_number(input, 5) % UINT64_C(1000000000000));

	c->now = take_now(input, at);
	c->secret_length = take_bytes(input, c->secret,
								  take_number(input, 1) % MAX_SECRET);
	c->body_length = take_bytes(input, c->body,
								take_number(input, 1) % MAX_BODY);
	c->request.body = c->body;
	c->request.body_length = c->body_length;
	c->request.timestamp = c->timestamp;
	c->request.timestamp_length = (size_t) sprintf(c->timestamp, "%" PRId64, at);
	if (bends % 8 == 1) /* and signed so */
		c->request.timestamp_length = bend(input, c->timestamp,
										   c->request.timestamp_length);
	oracle_sign(c, c->signature);
	c->request.signature = c->signature;
	c->request.signature_length = strlen(c->signature);
	if (bends % 8 == 2)
		c->request.signature_length = bend(input, c->signature,
										   c->request.signature_length);
	if (bends % 8 == 3)
		c->request.timestamp_length = bend(input, c->timestamp,
										   c->request.timestamp_length);
	if (bends % 8 == 4 && c->body_length > 0)
		c->body[take_number(input, 1) % c->body_length] ^=
			(char) (1 << take_number(input, 1) % 8);
	if (bends % 8 == 5 && c->secret_length > 0)
		c->secret[take_number(input, 1) % c->secret_length] ^=
			(char) (1 << take_number(input, 1) % 8);
	if (bends % 8 == 6)
		c->request.signature_length = take_bytes(input, c->signature,
												 MAX_HEADER);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool counting = false;
	static Case c;
	Input input = {data, size};
	SlackSignatureVerdict verdict;
	int64_t signed_at = -1;

	if (!counting)
		atexit(verdicts_print);
	counting = true;
	memset(&c, 0, sizeof(c));
	case_make(&c, &input);
	verdict = slack_signature_verify(&c.request, c.secret, c.secret_length,
									 c.now, &signed_at);
	CHECK(verdict == oracle_verify(&c), "another verdict than the oracle's");
	CHECK((verdict == SLACK_SIGNATURE_FITS) == (signed_at >= 0), "signed_at");
	verdicts[verdict]++;
	return 0;
}
