/*
 * slack_cases.c
 *		Every code of Slack's that is known, and the edges of an answer: what
 *		slack_judge_webhook() and slack_judge_api() make of each.  Prints TAP; the status is 0 when all pass.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "outbox/slack.h"

typedef struct WebhookCase
{
	int status;
	const char *body;
	SlackVerdict verdict;
	const char *code;
} WebhookCase;

typedef struct ApiCase
{
	int status;
	SlackAnswer answer;
	SlackVerdict verdict;
	const char *code;
} ApiCase;

#define UNREADABLE                                                             \
	{                                                                          \
		.readable = false                                                      \
	}
#define OK                                                                     \
	{                                                                          \
		.readable = true, .has_ok = true, .ok = true                           \
	}
#define NOT_OK(e)                                                              \
	{                                                                          \
		.readable = true, .has_ok = true, .error = (e)                         \
	}

/* A code, as a webhook and as the Web API answer it. */
typedef struct Code
{
	int status;
	const char *code;
	SlackVerdict verdict;
} Code;

static const Code webhook_codes[] = {
	{400, "invalid_payload", SLACK_MESSAGE_BAD},
	{400, "no_text", SLACK_MESSAGE_BAD},
	{400, "too_many_attachments", SLACK_MESSAGE_BAD},
	{400, "user_not_found", SLACK_DESTINATION_DEAD},
	{404, "channel_not_found", SLACK_DESTINATION_DEAD},
	{410, "channel_is_archived", SLACK_DESTINATION_DEAD},
	{403, "posting_to_general_channel_denied", SLACK_DESTINATION_DEAD},
	{403, "action_prohibited", SLACK_DESTINATION_DEAD},
	{403, "invalid_token", SLACK_CREDENTIAL_DEAD},
	{404, "no_service", SLACK_CREDENTIAL_DEAD},
	{404, "no_active_hooks", SLACK_CREDENTIAL_DEAD},
	{403, "team_disabled", SLACK_CREDENTIAL_DEAD},
	{404, "no_team", SLACK_CREDENTIAL_DEAD},
	{500, "rollup_error", SLACK_RETRY},
	{400, "rollup_error", SLACK_RETRY},
	{403, "team_added_to_org", SLACK_RETRY},
	{403, "org_login_required", SLACK_RETRY},
	{400, "external_channel_migrating", SLACK_RETRY},
	{400, "message_limit_exceeded", SLACK_RETRY},
	{400, "a_code_made_up_since", SLACK_MESSAGE_BAD},
};

static const Code api_codes[] = {
	{200, "ratelimited", SLACK_RETRY},
	{200, "rate_limited", SLACK_RETRY},
	{200, "service_unavailable", SLACK_RETRY},
	{200, "request_timeout", SLACK_RETRY},
	{200, "internal_error", SLACK_RETRY},
	{200, "fatal_error", SLACK_RETRY},
	{200, "team_added_to_org", SLACK_RETRY},
	{200, "org_login_required", SLACK_RETRY},
	{200, "external_channel_migrating", SLACK_RETRY},
	{200, "message_limit_exceeded", SLACK_RETRY},
	{200, "update_failed", SLACK_RETRY},
	{200, "streaming_state_conflict", SLACK_RETRY},
	{200, "accesslimited", SLACK_CREDENTIAL_DEAD},
	{200, "team_access_not_granted", SLACK_CREDENTIAL_DEAD},
	{200, "two_factor_setup_required", SLACK_CREDENTIAL_DEAD},
	{200, "enterprise_is_restricted", SLACK_CREDENTIAL_DEAD},
	{200, "messages_tab_disabled", SLACK_DESTINATION_DEAD},
	{200, "token_revoked", SLACK_CREDENTIAL_DEAD},
	{200, "token_expired", SLACK_CREDENTIAL_DEAD},
	{200, "account_inactive", SLACK_CREDENTIAL_DEAD},
	{200, "invalid_auth", SLACK_CREDENTIAL_DEAD},
	{200, "not_authed", SLACK_CREDENTIAL_DEAD},
	{200, "missing_scope", SLACK_CREDENTIAL_DEAD},
	{200, "no_permission", SLACK_CREDENTIAL_DEAD},
	{200, "not_allowed_token_type", SLACK_CREDENTIAL_DEAD},
	{200, "app_access_restricted", SLACK_CREDENTIAL_DEAD},
	{200, "access_denied", SLACK_CREDENTIAL_DEAD},
	{200, "ekm_access_denied", SLACK_CREDENTIAL_DEAD},
	{200, "channel_not_found", SLACK_DESTINATION_DEAD},
	{200, "is_archived", SLACK_DESTINATION_DEAD},
	{200, "not_in_channel", SLACK_DESTINATION_DEAD},
	{200, "restricted_action", SLACK_DESTINATION_DEAD},
	{200, "restricted_action_read_only_channel", SLACK_DESTINATION_DEAD},
	{200, "restricted_action_thread_only_channel", SLACK_DESTINATION_DEAD},
	{200, "team_not_found", SLACK_DESTINATION_DEAD},
	{200, "invalid_blocks", SLACK_MESSAGE_BAD},
	{200, "invalid_blocks_format", SLACK_MESSAGE_BAD},
	{200, "msg_too_long", SLACK_MESSAGE_BAD},
	{200, "msg_blocks_too_long", SLACK_MESSAGE_BAD},
	{200, "no_text", SLACK_MESSAGE_BAD},
	{200, "too_many_attachments", SLACK_MESSAGE_BAD},
	{200, "invalid_metadata_format", SLACK_MESSAGE_BAD},
	{200, "invalid_metadata_schema", SLACK_MESSAGE_BAD},
	{200, "metadata_too_large", SLACK_MESSAGE_BAD},
	{200, "cannot_reply_to_message", SLACK_MESSAGE_BAD},
	{200, "message_not_found", SLACK_MESSAGE_BAD},
	{200, "cant_update_message", SLACK_MESSAGE_BAD},
	{200, "edit_window_closed", SLACK_MESSAGE_BAD},
	{200, "a_code_made_up_since", SLACK_MESSAGE_BAD},
	{403, "invalid_auth", SLACK_CREDENTIAL_DEAD},
	{429, "ratelimited", SLACK_RETRY},
	{429, "invalid_auth", SLACK_RETRY},
	{500, "fatal_error", SLACK_RETRY},
	{503, "channel_not_found", SLACK_RETRY},
};

static const WebhookCase webhook_cases[] = {
	{200, "ok", SLACK_SENT, "ok"},
	{200, "ok\r\n", SLACK_SENT, "ok"},
	{200, " ok", SLACK_RETRY, "unexpected_answer"},
	{200, "OK", SLACK_RETRY, "unexpected_answer"},
	{200, "okay", SLACK_RETRY, "unexpected_answer"},
	{200, "", SLACK_RETRY, "unexpected_answer"},
	{200, "{\"ok\":true}", SLACK_RETRY, "unexpected_answer"},
	{200, "<html>ok</html>", SLACK_RETRY, "unexpected_answer"},
	{200, "no_service", SLACK_CREDENTIAL_DEAD, "no_service"},
	{201, "ok", SLACK_RETRY, "unexpected_answer"},
	{204, "", SLACK_RETRY, "unexpected_answer"},
	{301, "", SLACK_RETRY, "http_301"},
	{302, "no_service", SLACK_RETRY, "http_302"},
	{400, "", SLACK_MESSAGE_BAD, "http_400"},
	{400, "ok", SLACK_MESSAGE_BAD, "ok"},
	{400, "<b>no_text</b>", SLACK_MESSAGE_BAD, "http_400"},
	{401, "", SLACK_RETRY, "http_401"},
	{403, "<html></html>", SLACK_RETRY, "http_403"},
	{403, "Forbidden", SLACK_RETRY, "http_403"},
	{403, "x-cache.miss", SLACK_RETRY, "http_403"},
	{403, "{\"ok\":false}", SLACK_RETRY, "http_403"},
	{404, "404 page not found", SLACK_RETRY, "http_404"},
	{407, "", SLACK_RETRY, "http_407"},
	{413, "<html></html>", SLACK_MESSAGE_BAD, "http_413"},
	{404, "no_service\n", SLACK_CREDENTIAL_DEAD, "no_service"},
	{404, "no_services", SLACK_MESSAGE_BAD, "no_services"},
	{404, "no_serv", SLACK_MESSAGE_BAD, "no_serv"},
	{408, "", SLACK_RETRY, "http_408"},
	{429, "", SLACK_RETRY, "http_429"},
	{429, "rate_limited", SLACK_RETRY, "rate_limited"},
	{429, "invalid_token", SLACK_RETRY, "invalid_token"},
	{500, "oh no!", SLACK_RETRY, "http_500"},
	{503, "action_prohibited", SLACK_RETRY, "action_prohibited"},
	{503, "ok", SLACK_RETRY, "ok"},
	{599, "", SLACK_RETRY, "http_599"},
	{0, "", SLACK_RETRY, "http_0"},
	{100, "", SLACK_RETRY, "http_100"},
};

static const ApiCase api_cases[] = {
	{200, OK, SLACK_SENT, "ok"},
	{200,
	 {.readable = true, .has_ok = true, .ok = true, .error = "invalid_auth"},
	 SLACK_SENT,
	 "ok"},
	{200, NOT_OK(""), SLACK_RETRY, "no_error_given"},
	{200, NOT_OK("odd code_<b>"), SLACK_MESSAGE_BAD, "odd_code__b_"},
	{200, NOT_OK("invalid_auth_"), SLACK_MESSAGE_BAD, "invalid_auth_"},
	{200,
	 {.readable = true, .error = "invalid_auth"},
	 SLACK_RETRY,
	 "malformed_answer"},
	{200, {.readable = true, .ok = true}, SLACK_RETRY, "malformed_answer"},
	{200, UNREADABLE, SLACK_RETRY, "malformed_answer"},
	{0, UNREADABLE, SLACK_RETRY, "http_0"},
	{100, UNREADABLE, SLACK_RETRY, "http_100"},
	{302, UNREADABLE, SLACK_RETRY, "http_302"},
	{400, UNREADABLE, SLACK_MESSAGE_BAD, "http_400"},
	{401, UNREADABLE, SLACK_RETRY, "http_401"},
	{403, UNREADABLE, SLACK_RETRY, "http_403"},
	{403, {.readable = true, .error = "blocked"}, SLACK_RETRY, "http_403"},
	{404, UNREADABLE, SLACK_RETRY, "http_404"},
	{407, UNREADABLE, SLACK_RETRY, "http_407"},
	{413, UNREADABLE, SLACK_MESSAGE_BAD, "http_413"},
	{408, OK, SLACK_RETRY, "http_408"},
	{429, UNREADABLE, SLACK_RETRY, "http_429"},
	{500, UNREADABLE, SLACK_RETRY, "http_500"},
	{502, OK, SLACK_RETRY, "http_502"},
};

static int count = 0;
static int failed = 0;

static void
expect(bool fine, const char *what, const char *said)
{
	count++;
	failed += !fine;
	printf("%sok %d - %s: ", fine ? "" : "not ", count, what);
	for (int i = 0; i < 60 && said[i] != '\0'; i++)
		putchar(said[i] >= ' ' && said[i] <= '~' ? said[i] : '?');
	putchar('\n');
}

static void
expect_judgement(const SlackJudgement *judgement, SlackVerdict verdict,
				 const char *code, int status, const char *said)
{
	char what[300];

	snprintf(what, sizeof(what), "%s %s (%d)",
			 slack_verdict_name(judgement->verdict), judgement->code, status);
	expect(judgement->verdict == verdict && strcmp(judgement->code, code) == 0,
		   what, said);
}

static void
try_webhook(int status, const char *body, SlackVerdict verdict, const char *code)
{
	SlackJudgement judgement;

	memset(&judgement, 'x', sizeof(judgement));
	slack_judge_webhook(status, body, strlen(body), &judgement);
	expect_judgement(&judgement, verdict, code, status, body);
}

static void
try_api(int status, const SlackAnswer *answer, SlackVerdict verdict,
		const char *code)
{
	SlackJudgement judgement;

	memset(&judgement, 'x', sizeof(judgement));
	slack_judge_api(status, answer, &judgement);
	expect_judgement(&judgement, verdict, code, status, answer->error);
}

static void
try_codes(void)
{
	for (size_t i = 0; i < sizeof(webhook_codes) / sizeof(Code); i++)
		try_webhook(webhook_codes[i].status, webhook_codes[i].code,
					webhook_codes[i].verdict, webhook_codes[i].code);
	for (size_t i = 0; i < sizeof(api_codes) / sizeof(Code); i++)
	{
		SlackAnswer answer = {.readable = true, .has_ok = true};

		strcpy(answer.error, api_codes[i].code);
		try_api(api_codes[i].status, &answer, api_codes[i].verdict,
				api_codes[i].code);
	}
}

static void
try_cases(void)
{
	for (size_t i = 0; i < sizeof(webhook_cases) / sizeof(WebhookCase); i++)
		try_webhook(webhook_cases[i].status, webhook_cases[i].body,
					webhook_cases[i].verdict, webhook_cases[i].code);
	for (size_t i = 0; i < sizeof(api_cases) / sizeof(ApiCase); i++)
		try_api(api_cases[i].status, &api_cases[i].answer, api_cases[i].verdict,
				api_cases[i].code);
}

/* What is kept of an answer, and what of one that is too long. */
static void
try_values(void)
{
	SlackAnswer sent = {.readable = true,
						.has_ok = true,
						.ok = true,
						.channel = "C123",
						.ts = "1503435956.000247"};
	SlackJudgement judgement;
	char body[2000];

	slack_judge_api(200, &sent, &judgement);
	expect(strcmp(judgement.ts, "1503435956.000247") == 0 &&
			   strcmp(judgement.channel, "C123") == 0,
		   "ts and channel", sent.ts);
	memset(sent.ts, '<', sizeof(sent.ts) - 1);
	slack_judge_api(200, &sent, &judgement);
	expect(strlen(judgement.ts) == sizeof(judgement.ts) - 1 &&
			   strspn(judgement.ts, "_") == strlen(judgement.ts),
		   "a long and strange ts", sent.ts);

	for (int length = SLACK_CODE_SIZE - 2; length < 1000; length += length)
		for (int more = 0; more < 4; more++)
		{
			SlackAnswer answer = {.readable = true, .has_ok = true};
			size_t kept = (size_t) (length + more);

			if (kept > SLACK_CODE_SIZE - 1)
				kept = SLACK_CODE_SIZE - 1;
			sprintf(body, "%0*d", length + more, 0);
			snprintf(answer.error, sizeof(answer.error), "%.*s",
					 SLACK_VALUE_SIZE - 1, body);
			slack_judge_api(200, &answer, &judgement);
			expect(strlen(judgement.code) == kept && judgement.ts[0] == '\0',
				   "a long code is cut", answer.error);
			slack_judge_webhook(400, body, strlen(body), &judgement);
			expect(strlen(judgement.code) == kept && judgement.ts[0] == '\0',
				   "and a webhook's", body);
		}
}

int
main(void)
{
	try_codes();
	try_cases();
	try_values();
	printf("1..%d\n", count);
	return failed > 0;
}
