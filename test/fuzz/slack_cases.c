/*
 * slack_cases.c
 *		Every code of Slack's that is known, and the edges of an answer: what
 *		slack_judge() makes of each.  Prints TAP; the status is 0 when all pass.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "slack.h"

/* Methods that a case is tried with */
#define HOOK   1
#define POST   2
#define UPDATE 4
#define AUTH   8
#define API	   (POST | UPDATE | AUTH)

typedef struct Case
{
	int methods;
	int status;
	const char *body;
	SlackVerdict verdict;
	const char *code;
} Case;

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

static const Case cases[] = {
	/* webhooks */
	{HOOK, 200, "ok", SLACK_SENT, "ok"},
	{HOOK, 200, "ok\r\n", SLACK_SENT, "ok"},
	{HOOK, 200, " ok", SLACK_RETRY, "unexpected_answer"},
	{HOOK, 200, "OK", SLACK_RETRY, "unexpected_answer"},
	{HOOK, 200, "okay", SLACK_RETRY, "unexpected_answer"},
	{HOOK, 200, "", SLACK_RETRY, "unexpected_answer"},
	{HOOK, 200, "{\"ok\":true}", SLACK_RETRY, "unexpected_answer"},
	{HOOK, 200, "<html>ok</html>", SLACK_RETRY, "unexpected_answer"},
	{HOOK, 200, "no_service", SLACK_CREDENTIAL_DEAD, "no_service"},
	{HOOK, 201, "ok", SLACK_RETRY, "unexpected_answer"},
	{HOOK, 204, "", SLACK_RETRY, "unexpected_answer"},
	{HOOK, 301, "", SLACK_RETRY, "http_301"},
	{HOOK, 302, "no_service", SLACK_RETRY, "http_302"},
	{HOOK, 400, "", SLACK_MESSAGE_BAD, "http_400"},
	{HOOK, 400, "ok", SLACK_MESSAGE_BAD, "ok"},
	{HOOK, 400, "<b>no_text</b>", SLACK_MESSAGE_BAD, "http_400"},
	{HOOK, 401, "", SLACK_RETRY, "http_401"},
	{HOOK, 403, "<html></html>", SLACK_RETRY, "http_403"},
	{HOOK, 403, "Forbidden", SLACK_RETRY, "http_403"},
	{HOOK, 403, "x-cache.miss", SLACK_RETRY, "http_403"},
	{HOOK, 403, "{\"ok\":false}", SLACK_RETRY, "http_403"},
	{HOOK, 404, "404 page not found", SLACK_RETRY, "http_404"},
	{HOOK, 407, "", SLACK_RETRY, "http_407"},
	{HOOK, 413, "<html></html>", SLACK_MESSAGE_BAD, "http_413"},
	{HOOK, 404, "no_service\n", SLACK_CREDENTIAL_DEAD, "no_service"},
	{HOOK, 404, "no_services", SLACK_MESSAGE_BAD, "no_services"},
	{HOOK, 404, "no_serv", SLACK_MESSAGE_BAD, "no_serv"},
	{HOOK, 408, "", SLACK_RETRY, "http_408"},
	{HOOK, 429, "", SLACK_RETRY, "http_429"},
	{HOOK, 429, "rate_limited", SLACK_RETRY, "rate_limited"},
	{HOOK, 429, "invalid_token", SLACK_RETRY, "invalid_token"},
	{HOOK, 500, "oh no!", SLACK_RETRY, "http_500"},
	{HOOK, 503, "action_prohibited", SLACK_RETRY, "action_prohibited"},
	{HOOK, 503, "ok", SLACK_RETRY, "ok"},
	{HOOK, 599, "", SLACK_RETRY, "http_599"},
	{HOOK | API, 0, "", SLACK_RETRY, "http_0"},
	{HOOK | API, 100, "", SLACK_RETRY, "http_100"},

	/* the Web API */
	{API, 200, "{\"ok\":true}", SLACK_SENT, "ok"},
	{API, 200, " {\n\t\"ok\" : true }\r\n", SLACK_SENT, "ok"},
	{API, 200, "{\"\\u006fk\":true}", SLACK_SENT, "ok"},
	{API, 200, "{\"ok\":false,\"ok\":true}", SLACK_SENT, "ok"},
	{API, 200, "{\"a\":{\"ok\":false},\"ok\":true,\"b\":[{\"ok\":false}]}",
	 SLACK_SENT, "ok"},
	{API, 200, "{\"ok\":true,\"error\":\"invalid_auth\"}", SLACK_SENT, "ok"},
	{API, 200, "{\"ok\":false}", SLACK_RETRY, "no_error_given"},
	{API, 200, "{\"ok\":false,\"error\":\"\"}", SLACK_RETRY, "no_error_given"},
	{API, 200, "{\"ok\":false,\"error\":null}", SLACK_RETRY, "no_error_given"},
	{API, 200, "{\"ok\":false,\"error\":{\"error\":\"no_text\"}}", SLACK_RETRY,
	 "no_error_given"},
	{API, 200, "{\"ok\":false,\"error\":\"no_text\",\"error\":7}", SLACK_RETRY,
	 "no_error_given"},
	{API, 200, "{\"ok\":false,\"error\":\"odd code\\u0000<b>\"}",
	 SLACK_MESSAGE_BAD, "odd_code__b_"},
	{API, 200, "{\"ok\":false,\"error\":\"invalid_auth\\u0000\"}",
	 SLACK_MESSAGE_BAD, "invalid_auth_"},
	{API, 200, "{\"ok\":\"true\"}", SLACK_RETRY, "malformed_answer"},
	{API, 200, "{\"ok\":1}", SLACK_RETRY, "malformed_answer"},
	{API, 200, "{\"ok\":true,\"ok\":null}", SLACK_RETRY, "malformed_answer"},
	{API, 200, "{\"error\":\"invalid_auth\"}", SLACK_RETRY, "malformed_answer"},
	{API, 200, "", SLACK_RETRY, "malformed_answer"},
	{API, 200, "ok", SLACK_RETRY, "malformed_answer"},
	{API, 200, "true", SLACK_RETRY, "malformed_answer"},
	{API, 200, "[{\"ok\":true}]", SLACK_RETRY, "malformed_answer"},
	{API, 200, "{\"ok\":true", SLACK_RETRY, "malformed_answer"},
	{API, 200, "{\"ok\":true}}", SLACK_RETRY, "malformed_answer"},
	{API, 200, "{\"ok\":true}{\"ok\":true}", SLACK_RETRY, "malformed_answer"},
	{API, 200, "{\"ok\":true,}", SLACK_RETRY, "malformed_answer"},
	{API, 200, "{,\"ok\":true}", SLACK_RETRY, "malformed_answer"},
	{API, 200, "{\"ok\":true \"a\":1}", SLACK_RETRY, "malformed_answer"},
	{API, 200, "{\"ok\":true,\"a\":[1,]}", SLACK_RETRY, "malformed_answer"},
	{API, 200, "{\"ok\":true,\"a\":[1}}", SLACK_RETRY, "malformed_answer"},
	{API, 200, "{\"ok\":true,\"a\":01}", SLACK_RETRY, "malformed_answer"},
	{API, 200, "{\"ok\":true,\"a\":1.}", SLACK_RETRY, "malformed_answer"},
	{API, 200, "{\"ok\":true,\"a\":\"\\x\"}", SLACK_RETRY, "malformed_answer"},
	{API, 200, "{\"ok\":true,\"a\":\"\n\"}", SLACK_RETRY, "malformed_answer"},
	{API, 200, "{\"ok\":true,\"a\":\"\x1f\"}", SLACK_RETRY, "malformed_answer"},
	{API, 200, "{ok:true}", SLACK_RETRY, "malformed_answer"},
	{API, 200, "<html></html>", SLACK_RETRY, "malformed_answer"},
	{API, 302, "", SLACK_RETRY, "http_302"},
	{API, 400, "<html></html>", SLACK_MESSAGE_BAD, "http_400"},
	{API, 401, "Unauthorized", SLACK_RETRY, "http_401"},
	{API, 403, "<html></html>", SLACK_RETRY, "http_403"},
	{API, 403, "{\"error\":\"blocked\"}", SLACK_RETRY, "http_403"},
	{API, 404, "not_found", SLACK_RETRY, "http_404"},
	{API, 407, "", SLACK_RETRY, "http_407"},
	{API, 413, "", SLACK_MESSAGE_BAD, "http_413"},
	{API, 408, "{\"ok\":true}", SLACK_RETRY, "http_408"},
	{API, 429, "", SLACK_RETRY, "http_429"},
	{API, 500, "<html></html>", SLACK_RETRY, "http_500"},
	{API, 502, "{\"ok\":true}", SLACK_RETRY, "http_502"},
};

static int count = 0;
static int failed = 0;

static void
expect(bool fine, const char *what, SlackMethod method, int status,
	   const char *body)
{
	count++;
	failed += !fine;
	printf("%sok %d - %s (method %d, %d): ", fine ? "" : "not ", count, what,
		   method, status);
	for (int i = 0; i < 60 && body[i] != '\0'; i++)
		putchar(body[i] >= ' ' && body[i] <= '~' ? body[i] : '?');
	putchar('\n');
}

static void
try_one(SlackMethod method, int status, const char *body, SlackVerdict verdict,
		const char *code)
{
	SlackJudgement judgement;
	char what[300];

	slack_judge(method, status, body, strlen(body), &judgement);
	snprintf(what, sizeof(what), "%s %s", slack_verdict_name(judgement.verdict),
			 judgement.code);
	expect(judgement.verdict == verdict && strcmp(judgement.code, code) == 0,
		   what, method, status, body);
}

static void
try_codes(void)
{
	for (size_t i = 0; i < sizeof(webhook_codes) / sizeof(Code); i++)
		try_one(SLACK_WEBHOOK, webhook_codes[i].status, webhook_codes[i].code,
				webhook_codes[i].verdict, webhook_codes[i].code);
	for (size_t i = 0; i < sizeof(api_codes) / sizeof(Code); i++)
		for (SlackMethod method = SLACK_POST_MESSAGE; method <= SLACK_AUTH_TEST;
			 method++)
		{
			char body[300];

			snprintf(body, sizeof(body), "{\"ok\":false,\"error\":\"%s\"}",
					 api_codes[i].code);
			try_one(method, api_codes[i].status, body, api_codes[i].verdict,
					api_codes[i].code);
		}
}

static void
try_cases(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(Case); i++)
		for (SlackMethod method = SLACK_WEBHOOK; method <= SLACK_AUTH_TEST;
			 method++)
			if (cases[i].methods & 1 << method)
				try_one(method, cases[i].status, cases[i].body,
						cases[i].verdict, cases[i].code);
}

/* What is kept of an answer, and what of one that is too much. */
static void
try_values(void)
{
	static const char whole[] =
		"{\"ok\":true,\"channel\":\"C123\",\"ts\":\"1503435956.000247\","
		"\"message\":{\"ts\":\"0\",\"text\":\"{\\\"ts\\\":\\\"1\\\"}\"}}";
	static const char object[] = "{\"ok\":true,\"channel\":{\"id\":\"C1\"}}";
	SlackJudgement judgement;
	char body[2000];

	slack_judge(SLACK_POST_MESSAGE, 200, whole, strlen(whole), &judgement);
	expect(strcmp(judgement.ts, "1503435956.000247") == 0 &&
			   strcmp(judgement.channel, "C123") == 0,
		   "ts and channel", SLACK_POST_MESSAGE, 200, whole);
	slack_judge(SLACK_UPDATE, 200, object, strlen(object), &judgement);
	expect(judgement.verdict == SLACK_SENT && judgement.channel[0] == '\0',
		   "a channel that is no string", SLACK_UPDATE, 200, object);

	for (int length = SLACK_CODE_SIZE - 2; length < 1000; length += length)
		for (int more = 0; more < 4; more++)
		{
			size_t kept = (size_t) (length + more);

			if (kept > SLACK_CODE_SIZE - 1)
				kept = SLACK_CODE_SIZE - 1;
			sprintf(body, "{\"ok\":false,\"error\":\"%0*d\"}", length + more, 0);
			slack_judge(SLACK_POST_MESSAGE, 200, body, strlen(body), &judgement);
			expect(strlen(judgement.code) == kept && judgement.ts[0] == '\0',
				   "a long code is cut", SLACK_POST_MESSAGE, 200, body);
			sprintf(body, "%0*d", length + more, 0);
			slack_judge(SLACK_WEBHOOK, 400, body, strlen(body), &judgement);
			expect(strlen(judgement.code) == kept && judgement.ts[0] == '\0',
				   "and a webhook's", SLACK_WEBHOOK, 400, body);
		}
}

static void
try_depth(void)
{
	for (size_t depth = 255; depth <= 200000; depth = depth * 2 - 252)
	{
		char *body = malloc(2 * depth + 30);
		char *end = body + sprintf(body, "{\"ok\":true,\"a\":");
		bool fits = depth + 1 <= 256;
		SlackJudgement judgement;

		memset(end, '[', depth);
		memset(end + depth, ']', depth);
		strcpy(end + 2 * depth, "}");
		slack_judge(SLACK_POST_MESSAGE, 200, body, strlen(body), &judgement);
		expect(judgement.verdict == (fits ? SLACK_SENT : SLACK_RETRY),
			   "deep nesting", SLACK_POST_MESSAGE, 200, body);
		free(body);
	}
}

int
main(void)
{
	try_codes();
	try_cases();
	try_values();
	try_depth();
	printf("1..%d\n", count);
	return failed > 0;
}
