/*
 * slack_fuzz.c
 *		Fuzz target: slack_judge_webhook() and slack_judge_api() against a naive
 *		second opinion.
 *
 * An input is a little program that puts an answer together: a webhook's body
 * out of codes and raw bytes, or what was read of the Web API's JSON.  Reading
 * that JSON is tested in test/tap/outbox/answers.pl.  Each input is checked for
 *
 * - the verdict, code, ts and channel being the oracle's, which knows Slack's
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

#include "outbox/slack.h"

#define MAX_BODY 20000

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
	snprintf(to, size, "%s", from);
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
	else if (status == 200 && plain && strcmp(word, "ok") == 0)
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
oracle_api(int status, const SlackAnswer *answer, SlackJudgement *judgement)
{
	bool readable = answer->readable && answer->has_ok;
	bool has_error = readable && answer->error[0] != '\0';

	if (oracle_later(status) && has_error)
		oracle_says(judgement, SLACK_RETRY, answer->error);
	else if (oracle_later(status) || (!readable && status / 100 != 2))
		oracle_status(status, judgement);
	else if (!readable)
		oracle_says(judgement, SLACK_RETRY, "malformed_answer");
	else if (answer->ok)
	{
		oracle_says(judgement, SLACK_SENT, "ok");
		oracle_copy(judgement->ts, sizeof(judgement->ts), answer->ts);
		oracle_copy(judgement->channel, sizeof(judgement->channel),
					answer->channel);
	}
	else if (has_error)
		oracle_says(judgement, oracle_api_code(answer->error), answer->error);
	else
		oracle_says(judgement, SLACK_RETRY, "no_error_given");
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

/* A string of an answer, in a block of its full size. */
static void
string_make(char string[SLACK_VALUE_SIZE], Input *input)
{
	Body body = {.length = 0};
	uint8_t how = take_byte(input);

	body.bytes[0] = '\0';
	if (how % 4 != 3)
		add_code(&body, input);
	if (how % 4 > 1)
		add_raw(&body, input);
	if (how > 250)
		for (int n = 0; n < 40; n++)
			add_text(&body, "long-long");
	/* it ends at a NUL among the raw bytes */
	snprintf(string, SLACK_VALUE_SIZE, "%.*s", SLACK_VALUE_SIZE - 1, body.bytes);
}

static void
answer_make(SlackAnswer *answer, Input *input)
{
	uint8_t how = take_byte(input);

	memset(answer, 0, sizeof(*answer));
	answer->readable = how % 16 != 0;
	answer->has_ok = how % 16 > 1;
	answer->ok = how % 3 == 0;
	string_make(answer->error, input);
	string_make(answer->ts, input);
	string_make(answer->channel, input);
}

/* A code, or anything; blanks after it. */
static void
body_make(Body *body, Input *input)
{
	uint8_t how = take_byte(input);

	if (how < 200)
		add_code(body, input);
	else
		while (input->left > 0 && how-- > 200)
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

/* Without a NUL after it, where a sanitizer sees every step too far. */
static void
check_exact(int status, const Body *body, const SlackJudgement *expected)
{
	SlackJudgement judgement;
	char *exact = malloc(body->length > 0 ? body->length : 1);

	CHECK(exact != NULL, "out of memory");
	memcpy(exact, body->bytes, body->length);
	memset(&judgement, 'x', sizeof(judgement));
	slack_judge_webhook(status, exact, body->length, &judgement);
	check_same(&judgement, expected, "judged otherwise in another place");
	free(exact);
}

static void
try_webhook(int status, Input *input, SlackJudgement *judgement)
{
	static Body body;
	SlackJudgement expected = {0};

	body.length = 0;
	body.bytes[0] = '\0';
	body_make(&body, input);
	slack_judge_webhook(status, body.bytes, body.length, judgement);
	oracle_webhook(status, &body, &expected);
	check_same(judgement, &expected, "another judgement than the oracle's");
	check_exact(status, &body, judgement);
}

static void
try_api(int status, Input *input, SlackJudgement *judgement)
{
	SlackAnswer answer;
	SlackJudgement expected = {0};

	answer_make(&answer, input);
	slack_judge_api(status, &answer, judgement);
	oracle_api(status, &answer, &expected);
	check_same(judgement, &expected, "another judgement than the oracle's");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool counting = false;
	Input input = {data, size};
	SlackJudgement judgement;
	bool is_webhook;
	int status;

	if (!counting)
		atexit(verdicts_print);
	counting = true;

	is_webhook = take_byte(&input) % 2 == 0;
	status = status_make(&input);
	if (is_webhook)
		try_webhook(status, &input, &judgement);
	else
		try_api(status, &input, &judgement);
	check_harmless(judgement.code, sizeof(judgement.code));
	check_harmless(judgement.ts, sizeof(judgement.ts));
	check_harmless(judgement.channel, sizeof(judgement.channel));
	CHECK(judgement.code[0] != '\0', "no code");
	verdicts[judgement.verdict]++;
	return 0;
}
