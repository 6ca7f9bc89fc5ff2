/*
 * slack_fuzz.c
 *		Fuzz target: slack_judge() against a naive second opinion.
 *
 * An input is a little program that puts an answer together out of members,
 * values, codes and raw bytes (see body_make), so that whole JSON objects are
 * tried as often as broken ones.  Each input is checked for
 *
 * - the verdict, code, ts and channel being the oracle's: it reads JSON by
 *	 recursive descent into strings of their full length, and knows Slack's
 *	 codes as one text for each verdict;
 * - what is passed on being short and harmless;
 * - the same bytes, in a block of their exact size, being judged the same.
 *
 * Any difference aborts.  How often each verdict came is printed at the end.
 */
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "slack.h"

#define MAX_BODY  20000
#define MAX_DEPTH 256 /* deeper is malformed */

typedef struct Input
{
	const uint8_t *bytes;
	size_t left;
} Input;

typedef struct Body
{
	char bytes[MAX_BODY + 1]; /* ended by a NUL, for the oracle alone */
	size_t length;
} Body;

/* The oracle's reading: NULL where there is no such string. */
typedef struct Reading
{
	const char *at;
	const char *end;
	int ok; /* -1: not said */
	char *error;
	char *ts;
	char *channel;
} Reading;

static unsigned long verdicts[SLACK_CREDENTIAL_DEAD + 1];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition, what)                                                 \
	do                                                                         \
	{                                                                          \
		if (!(condition))                                                      \
			fail(what, __LINE__);                                              \
	} while (0)

static void
fail(const char *what, int line)
{
	fprintf(stderr, "line %d: %s\n", line, what);
	abort();
}

static void
verdicts_print(void)
{
	printf("verdicts: sent %lu, retry %lu, message bad %lu, destination dead "
		   "%lu, credential dead %lu\n",
		   verdicts[SLACK_SENT], verdicts[SLACK_RETRY],
		   verdicts[SLACK_MESSAGE_BAD], verdicts[SLACK_DESTINATION_DEAD],
		   verdicts[SLACK_CREDENTIAL_DEAD]);
}

/* ---- the oracle's JSON ---- */

static bool read_value(Reading *reading, int depth, const char *key);

static char
peek(const Reading *reading)
{
	return reading->at < reading->end ? *reading->at : '\0';
}

static void
skip_blanks(Reading *reading)
{
	while (peek(reading) != '\0' && strchr(" \t\r\n", peek(reading)) != NULL)
		reading->at++;
}

static bool
skip(Reading *reading, char c)
{
	skip_blanks(reading);
	if (reading->at == reading->end || *reading->at != c)
		return false;
	reading->at++;
	return true;
}

/* The character that an escape stands for, "_" when it isn't printable. */
static int
read_escape(Reading *reading)
{
	static const char from[] = "\"\\/bfnrt";
	static const char to[] = "\"\\/_____";
	char c = peek(reading);
	char digits[5] = "";
	long code;

	if (reading->at == reading->end || c == '\0')
		return -1;
	reading->at++;
	if (c != 'u')
		return strchr(from, c) == NULL ? -1 : to[strchr(from, c) - from];
	for (int i = 0; i < 4; i++, reading->at++)
	{
		if (!isxdigit((unsigned char) peek(reading)))
			return -1;
		digits[i] = *reading->at;
	}
	code = strtol(digits, NULL, 16);
	return code >= ' ' && code <= '~' ? (int) code : '_';
}

/* The string, to be freed; NULL when it is none. */
static char *
read_string(Reading *reading)
{
	char *string = malloc((size_t) (reading->end - reading->at) + 1);
	size_t length = 0;

	CHECK(string != NULL, "out of memory");
	if (skip(reading, '"'))
		while (reading->at < reading->end)
		{
			int c = (unsigned char) *reading->at++;

			if (c == '"')
			{
				string[length] = '\0';
				return string;
			}
			if (c < ' ' || (c == '\\' && (c = read_escape(reading)) < 0))
				break;
			string[length++] = (char) c;
		}
	free(string);
	return NULL;
}

static bool
read_members(Reading *reading, int depth, char open, char close)
{
	if (!skip(reading, open) || depth > MAX_DEPTH)
		return false;
	if (skip(reading, close))
		return true;
	do
	{
		char *key = NULL;
		bool fine = open == '[' ||
					((key = read_string(reading)) != NULL && skip(reading, ':'));

		fine = fine && read_value(reading, depth, key);
		free(key);
		if (!fine)
			return false;
	} while (skip(reading, ','));
	return skip(reading, close);
}

static bool
read_number(Reading *reading)
{
	size_t digits;

	reading->at += peek(reading) == '-';
	digits = strspn(reading->at, "0123456789");
	if (digits == 0 || (digits > 1 && *reading->at == '0'))
		return false;
	reading->at += digits;
	if (peek(reading) == '.')
	{
		digits = strspn(++reading->at, "0123456789");
		if (digits == 0)
			return false;
		reading->at += digits;
	}
	if (tolower((unsigned char) peek(reading)) != 'e')
		return true;
	reading->at++;
	reading->at += peek(reading) == '-' || peek(reading) == '+';
	digits = strspn(reading->at, "0123456789");
	reading->at += digits;
	return digits > 0;
}

static bool
read_word(Reading *reading, const char *word)
{
	if (strncmp(reading->at, word, strlen(word)) != 0)
		return false;
	reading->at += strlen(word);
	return true;
}

/* At depth 1 the value is that of one of the answer's own members. */
static bool
read_value(Reading *reading, int depth, const char *key)
{
	bool top = depth == 1;
	char **string = !top						  ? NULL
					: strcmp(key, "error") == 0	  ? &reading->error
					: strcmp(key, "ts") == 0	  ? &reading->ts
					: strcmp(key, "channel") == 0 ? &reading->channel
												  : NULL;
	int *ok = top && strcmp(key, "ok") == 0 ? &reading->ok : NULL;
	char *value = NULL;

	if (ok != NULL)
		*ok = -1;
	skip_blanks(reading);
	if (peek(reading) == '"' && (value = read_string(reading)) == NULL)
		return false;
	if (string != NULL)
	{
		free(*string);
		*string = value;
	}
	else
		free(value);
	if (value != NULL)
		return true;
	if (peek(reading) == '{')
		return read_members(reading, depth + 1, '{', '}');
	if (peek(reading) == '[')
		return read_members(reading, depth + 1, '[', ']');
	for (int is = 0; is < 2; is++)
		if (read_word(reading, is ? "true" : "false"))
		{
			if (ok != NULL)
				*ok = is;
			return true;
		}
	return read_word(reading, "null") || read_number(reading);
}

/* ---- the oracle's judgement ---- */

/* Is the code one of those in a text, each between blanks? */
static bool
is_in(const char *codes, const char *code)
{
	size_t length = strlen(code);

	if (length == 0 || strchr(code, ' ') != NULL)
		return false;
	for (const char *found = strstr(codes, code); found != NULL;
		 found = strstr(found + 1, code))
		if (found[-1] == ' ' && found[length] == ' ')
			return true;
	return false;
}

static SlackVerdict
oracle_webhook_code(const char *code)
{
	if (is_in(" rollup_error team_added_to_org org_login_required "
			  "external_channel_migrating message_limit_exceeded ratelimited "
			  "rate_limited service_unavailable request_timeout internal_error "
			  "fatal_error ",
			  code))
		return SLACK_RETRY;
	if (is_in(" user_not_found channel_not_found channel_is_archived "
			  "posting_to_general_channel_denied action_prohibited ",
			  code))
		return SLACK_DESTINATION_DEAD;
	if (is_in(" invalid_token no_service no_active_hooks team_disabled no_team ",
			  code))
		return SLACK_CREDENTIAL_DEAD;
	return SLACK_MESSAGE_BAD;
}

static SlackVerdict
oracle_api_code(const char *code)
{
	if (is_in(" ratelimited rate_limited service_unavailable request_timeout "
			  "internal_error fatal_error team_added_to_org org_login_required "
			  "external_channel_migrating message_limit_exceeded update_failed "
			  "streaming_state_conflict ",
			  code))
		return SLACK_RETRY;
	if (is_in(" token_revoked token_expired account_inactive invalid_auth "
			  "not_authed missing_scope no_permission not_allowed_token_type "
			  "app_access_restricted access_denied ekm_access_denied accesslimited "
			  "team_access_not_granted two_factor_setup_required "
			  "enterprise_is_restricted ",
			  code))
		return SLACK_CREDENTIAL_DEAD;
	if (is_in(" channel_not_found is_archived not_in_channel team_not_found "
			  "messages_tab_disabled ",
			  code) ||
		strstr(code, "restricted_action") == code)
		return SLACK_DESTINATION_DEAD;
	return SLACK_MESSAGE_BAD;
}

static void
oracle_copy(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from == NULL ? "" : from);
	for (; *to != '\0'; to++)
		if (!isalnum((unsigned char) *to) && strchr("_.-", *to) == NULL)
			*to = '_';
}

static void
oracle_says(SlackJudgement *judgement, SlackVerdict verdict, const char *code)
{
	judgement->verdict = verdict;
	oracle_copy(judgement->code, sizeof(judgement->code), code);
}

static void
oracle_status(int status, SlackJudgement *judgement)
{
	char code[32];

	snprintf(code, sizeof(code), "http_%d", status);
	oracle_says(judgement,
				status == 400 || status == 413 ? SLACK_MESSAGE_BAD : SLACK_RETRY,
				code);
}

static bool
oracle_later(int status)
{
	return status >= 500 || status == 429 || status == 408;
}

static void
oracle_webhook(int status, const Body *body, SlackJudgement *judgement)
{
	char *word = malloc(body->length + 1);
	size_t length = body->length;
	bool plain;

	CHECK(word != NULL, "out of memory");
	memcpy(word, body->bytes, length + 1);
	while (length > 0 && word[length - 1] != '\0' &&
		   strchr(" \t\r\n", word[length - 1]) != NULL)
		word[--length] = '\0';
	plain = length > 0 &&
			strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
						 "0123456789_.-") == length;
	/* a longer word is judged by its beginning */
	if (length >= sizeof(judgement->code))
		word[sizeof(judgement->code) - 1] = '\0';
	if (oracle_later(status) && plain)
		oracle_says(judgement, SLACK_RETRY, word);
	else if (oracle_later(status) || status < 200 || status / 100 == 3)
		oracle_status(status, judgement);
	else if (status == 200 && strcmp(word, "ok") == 0)
		oracle_says(judgement, SLACK_SENT, "ok");
	else if (plain &&
			 ((status / 100 == 4 &&
			   strpbrk(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ.-") == NULL) ||
			  oracle_webhook_code(word) != SLACK_MESSAGE_BAD ||
			  is_in(" invalid_payload no_text too_many_attachments ", word)))
		oracle_says(judgement, oracle_webhook_code(word), word);
	else if (status / 100 == 2)
		oracle_says(judgement, SLACK_RETRY, "unexpected_answer");
	else
		oracle_status(status, judgement);
	free(word);
}

static void
oracle_api(int status, const Body *body, SlackJudgement *judgement)
{
	Reading reading = {
		.at = body->bytes, .end = body->bytes + body->length, .ok = -1};
	bool readable = (skip_blanks(&reading),
					 peek(&reading) == '{' &&
						 read_members(&reading, 1, '{', '}'));
	bool has_error;

	skip_blanks(&reading);
	readable = readable && reading.at == reading.end && reading.ok >= 0;
	has_error = readable && reading.error != NULL && reading.error[0] != '\0';
	if (oracle_later(status) && has_error)
		oracle_says(judgement, SLACK_RETRY, reading.error);
	else if (oracle_later(status) || (!readable && status / 100 != 2))
		oracle_status(status, judgement);
	else if (!readable)
		oracle_says(judgement, SLACK_RETRY, "malformed_answer");
	else if (reading.ok == 1)
	{
		oracle_says(judgement, SLACK_SENT, "ok");
		oracle_copy(judgement->ts, sizeof(judgement->ts), reading.ts);
		oracle_copy(judgement->channel, sizeof(judgement->channel),
					reading.channel);
	}
	else if (has_error)
		oracle_says(judgement, oracle_api_code(reading.error), reading.error);
	else
		oracle_says(judgement, SLACK_RETRY, "no_error_given");
	free(reading.error);
	free(reading.ts);
	free(reading.channel);
}

/* ---- making an answer out of bytes ---- */

static uint8_t
take_byte(Input *input)
{
	if (input->left == 0)
		return 0;
	input->left--;
	return *input->bytes++;
}

static void
add(Body *body, const char *bytes, size_t length)
{
	if (length > MAX_BODY - body->length)
		length = MAX_BODY - body->length;
	memcpy(body->bytes + body->length, bytes, length);
	body->length += length;
	body->bytes[body->length] = '\0';
}

static void
add_text(Body *body, const char *text)
{
	add(body, text, strlen(text));
}

static void
add_raw(Body *body, Input *input)
{
	for (int n = take_byte(input) % 16; n > 0 && input->left > 0; n--)
	{
		char c = (char) take_byte(input);

		add(body, &c, 1);
	}
}

static void
add_code(Body *body, Input *input)
{
	static const char *const codes[] = {"ok",
										"no_service",
										"no_text",
										"action_prohibited",
										"rollup_error",
										"invalid_token",
										"channel_not_found",
										"user_not_found",
										"team_disabled",
										"no_team",
										"channel_is_archived",
										"invalid_payload",
										"invalid_auth",
										"ratelimited",
										"token_revoked",
										"not_in_channel",
										"restricted_action",
										"restricted_action_read_only_channel",
										"invalid_blocks_format",
										"fatal_error",
										"missing_scope",
										"msg_too_long",
										"is_archived",
										"new_one",
										"no_active_hooks",
										"access_denied",
										"restricted",
										"internal_error",
										""};

	add_text(body, codes[take_byte(input) % (sizeof(codes) / sizeof(*codes))]);
}

static void
add_string(Body *body, Input *input)
{
	static const char *const pieces[] = {
		"C123", "1503435956.000247", "\\u0041",	 "\\u0000", "\\n",
		"\\\"", "\\ud83d",			 "\xc3\xa9", "\\\\",	"\\/",
		"<b>",	"\\u00zz",			 "\\x",		 "\n"};
	uint8_t how = take_byte(input);

	add_text(body, "\"");
	if (how % 2 == 0)
		add_code(body, input);
	for (int n = how / 2 % 4; n > 0; n--)
	{
		/* the last three are no JSON: seldom */
		uint8_t which = take_byte(input);

		add_text(body, pieces[which % (which > 240 ? 14 : 11)]);
	}
	if (how > 250)
		for (int n = 0; n < 40; n++)
			add_text(body, "long-long");
	if (how != 250)
		add_text(body, "\"");
}

static void
add_brackets(Body *body, uint8_t how)
{
	int depth = how < 128 ? how % 8 : 2 * how - 256 + how % 3 * 40;

	for (int i = 0; i < depth; i++)
		add_text(body, how % 2 ? "[" : "{\"ok\":");
	add_text(body, "true");
	for (int i = 0; i < depth; i++)
		add_text(body, how % 2 ? "]" : "}");
}

static void
add_value(Body *body, Input *input)
{
	static const char *const values[] = {"true",
										 "false",
										 "null",
										 "0",
										 "-1.5e+9",
										 "[]",
										 "{}",
										 "[1,2]",
										 "{\"error\":\"no_text\",\"a\":[{}]}",
										 "[true,{\"ok\":[]}]",
										 "1e5",
										 "01",
										 "tru",
										 "[1,]",
										 "-",
										 "1.",
										 "{\"a\"}",
										 "]",
										 ""};
	uint8_t how = take_byte(input);

	if (how < 100)
		add_string(body, input);
	else if (how < 110)
		add_brackets(body, take_byte(input));
	else if (how < 115)
		add_raw(body, input);
	else
		add_text(body, values[how % (how > 245 ? 19 : 11)]);
}

static void
add_member(Body *body, Input *input)
{
	static const char *const keys[] = {"ok", "error",	 "ts",		"channel",
									   "a",	 "\\u006fk", "message", ""};
	uint8_t how = take_byte(input);

	add_text(body, how % 16 == 9 ? " \"" : "\"");
	add_text(body, keys[how / 32]);
	add_text(body, how % 16 == 10 ? "\" :\n" : "\":");
	if (how / 32 == 0 && how % 8 != 7)
		add_text(body, how % 8 < 3 ? "true" : "false");
	else if (how / 32 == 1 && how % 4 != 0)
	{
		add_text(body, "\"");
		add_code(body, input);
		add_text(body, "\"");
	}
	else
		add_value(body, input);
}

static void
add_object(Body *body, Input *input)
{
	uint8_t how = take_byte(input);

	add_text(body, how % 32 == 31 ? " {" : "{");
	for (int n = how % 4; n >= 0; n--)
	{
		add_member(body, input);
		if (n > 0)
			add_text(body, how == 77 ? " " : ",");
	}
	add_text(body, how == 78 ? ",}" : how == 79 ? "]" : "}");
	if (how == 80)
		add_raw(body, input);
}

/* An object, a code, or anything; blanks after it. */
static void
body_make(Body *body, Input *input)
{
	uint8_t how = take_byte(input);

	if (how < 150)
		add_object(body, input);
	else if (how < 235)
		add_code(body, input);
	else
		while (input->left > 0 && how-- > 235)
			add_raw(body, input);
	if (how % 8 == 7)
		add_text(body, how % 16 == 7 ? " \r\n" : "\n");
}

static int
status_make(Input *input)
{
	static const int statuses[] = {200, 200, 200, 413, 400, 403, 404, 410,
								   429, 500, 503, 302, 408, 201, 0,	  100};
	uint8_t how = take_byte(input);

	if (how > 240)
		return how * 3 - take_byte(input);
	return statuses[how % 16];
}

/* ---- the properties ---- */

static void
check_harmless(const char *text, size_t size)
{
	size_t length = strnlen(text, size);

	CHECK(length < size, "no end");
	for (size_t i = 0; i < length; i++)
		CHECK(isalnum((unsigned char) text[i]) || strchr("_.-", text[i]) != NULL,
			  "passes on what isn't plain");
}

static void
check_same(const SlackJudgement *judgement, const SlackJudgement *expected,
		   const char *what)
{
	CHECK(judgement->verdict == expected->verdict, what);
	CHECK(strcmp(judgement->code, expected->code) == 0, what);
	CHECK(strcmp(judgement->ts, expected->ts) == 0, what);
	CHECK(strcmp(judgement->channel, expected->channel) == 0, what);
}

/* Without a NUL behind it, where a sanitizer sees every step too far. */
static void
check_exact(SlackMethod method, int status, const Body *body,
			const SlackJudgement *expected)
{
	SlackJudgement judgement;
	char *exact = malloc(body->length > 0 ? body->length : 1);

	CHECK(exact != NULL, "out of memory");
	memcpy(exact, body->bytes, body->length);
	memset(&judgement, 'x', sizeof(judgement));
	slack_judge(method, status, exact, body->length, &judgement);
	check_same(&judgement, expected, "judged otherwise in another place");
	free(exact);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool counting = false;
	static Body body;
	Input input = {data, size};
	SlackMethod method;
	SlackJudgement judgement;
	SlackJudgement expected = {0};
	int status;

	if (!counting)
		atexit(verdicts_print);
	counting = true;

	method = (SlackMethod) (take_byte(&input) % 4);
	status = status_make(&input);
	body.length = 0;
	body.bytes[0] = '\0';
	body_make(&body, &input);

	slack_judge(method, status, body.bytes, body.length, &judgement);
	if (method == SLACK_WEBHOOK)
		oracle_webhook(status, &body, &expected);
	else
		oracle_api(status, &body, &expected);
	check_same(&judgement, &expected, "another judgement than the oracle's");
	check_harmless(judgement.code, sizeof(judgement.code));
	check_harmless(judgement.ts, sizeof(judgement.ts));
	check_harmless(judgement.channel, sizeof(judgement.channel));
	CHECK(judgement.code[0] != '\0', "no code");
	check_exact(method, status, &body, &judgement);
	verdicts[judgement.verdict]++;
	return 0;
}
