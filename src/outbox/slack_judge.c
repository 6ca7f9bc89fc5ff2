/*
 * slack_judge.c
 *		What Slack's answers mean for a message and its destination.
 *
 * Pure C without the server's headers, so that it can be fuzzed.
 *
 * An incoming webhook answers in plain text: "ok", or one error code.  The Web
 * API answers 200 with a JSON object whose "ok" decides; slack_answer.c reads
 * it.  Statuses 408, 429 and 5xx mean "try again later" whatever the body.
 *
 * Invariants:
 *
 * - An answer that is unclear is tried again.  An error code that isn't in the
 *	 tables below is permanent for the message, and is shown to the user: it was
 *	 added by Slack since.
 * - An answer without an error code may come from a proxy or a gateway, whose
 *	 refusals and redirects are temporary.  Only 400 and 413 refer to the message
 *	 whatever sent them.
 * - What is passed on (code, ts, channel) consists of letters, digits and "_.-".
 *
 * The codes are those that Slack documents for incoming webhooks, chat.postMessage,
 * chat.update and auth.test.
 */
#include <stdio.h>
#include <string.h>

#include "outbox/slack.h"

typedef struct KnownCode
{
	const char *code;
	SlackVerdict verdict;
	bool is_prefix; /* also codes that begin with it */
} KnownCode;

/* Each table ends with the verdict for all other codes. */
static const KnownCode webhook_codes[] = {
	{"rollup_error", SLACK_RETRY, false},
	/* temporary: a migration or a limit ends after hours */
	{"team_added_to_org", SLACK_RETRY, false},
	{"org_login_required", SLACK_RETRY, false},
	{"external_channel_migrating", SLACK_RETRY, false},
	{"message_limit_exceeded", SLACK_RETRY, false},
	{"ratelimited", SLACK_RETRY, false},
	{"rate_limited", SLACK_RETRY, false},
	{"service_unavailable", SLACK_RETRY, false},
	{"request_timeout", SLACK_RETRY, false},
	{"internal_error", SLACK_RETRY, false},
	{"fatal_error", SLACK_RETRY, false},
	{"invalid_payload", SLACK_MESSAGE_BAD, false},
	{"no_text", SLACK_MESSAGE_BAD, false},
	{"too_many_attachments", SLACK_MESSAGE_BAD, false},
	{"user_not_found", SLACK_DESTINATION_DEAD, false},
	{"channel_not_found", SLACK_DESTINATION_DEAD, false},
	{"channel_is_archived", SLACK_DESTINATION_DEAD, false},
	{"posting_to_general_channel_denied", SLACK_DESTINATION_DEAD, false},
	{"action_prohibited", SLACK_DESTINATION_DEAD, false},
	{"invalid_token", SLACK_CREDENTIAL_DEAD, false},
	{"no_service", SLACK_CREDENTIAL_DEAD, false},
	{"no_active_hooks", SLACK_CREDENTIAL_DEAD, false},
	{"team_disabled", SLACK_CREDENTIAL_DEAD, false},
	{"no_team", SLACK_CREDENTIAL_DEAD, false},
	{NULL, SLACK_MESSAGE_BAD, false},
};

static const KnownCode api_codes[] = {
	{"ratelimited", SLACK_RETRY, false},
	{"rate_limited", SLACK_RETRY, false},
	{"service_unavailable", SLACK_RETRY, false},
	{"request_timeout", SLACK_RETRY, false},
	/* Slack may have posted the message: a duplicate is preferred to a lost message */
	{"internal_error", SLACK_RETRY, false},
	{"fatal_error", SLACK_RETRY, false},
	/* temporary: a migration or a limit ends after hours */
	{"team_added_to_org", SLACK_RETRY, false},
	{"org_login_required", SLACK_RETRY, false},
	{"external_channel_migrating", SLACK_RETRY, false},
	{"message_limit_exceeded", SLACK_RETRY, false},
	/* of chat.update */
	{"update_failed", SLACK_RETRY, false},
	{"streaming_state_conflict", SLACK_RETRY, false},
	{"token_revoked", SLACK_CREDENTIAL_DEAD, false},
	{"token_expired", SLACK_CREDENTIAL_DEAD, false},
	{"account_inactive", SLACK_CREDENTIAL_DEAD, false},
	{"invalid_auth", SLACK_CREDENTIAL_DEAD, false},
	{"not_authed", SLACK_CREDENTIAL_DEAD, false},
	{"missing_scope", SLACK_CREDENTIAL_DEAD, false},
	{"no_permission", SLACK_CREDENTIAL_DEAD, false},
	{"not_allowed_token_type", SLACK_CREDENTIAL_DEAD, false},
	{"app_access_restricted", SLACK_CREDENTIAL_DEAD, false},
	{"access_denied", SLACK_CREDENTIAL_DEAD, false},
	{"ekm_access_denied", SLACK_CREDENTIAL_DEAD, false},
	{"accesslimited", SLACK_CREDENTIAL_DEAD, false},
	{"team_access_not_granted", SLACK_CREDENTIAL_DEAD, false},
	{"two_factor_setup_required", SLACK_CREDENTIAL_DEAD, false},
	{"enterprise_is_restricted", SLACK_CREDENTIAL_DEAD, false},
	{"channel_not_found", SLACK_DESTINATION_DEAD, false},
	{"is_archived", SLACK_DESTINATION_DEAD, false},
	{"not_in_channel", SLACK_DESTINATION_DEAD, false},
	{"restricted_action", SLACK_DESTINATION_DEAD, true},
	{"team_not_found", SLACK_DESTINATION_DEAD, false},
	{"messages_tab_disabled", SLACK_DESTINATION_DEAD, false},
	{"invalid_blocks", SLACK_MESSAGE_BAD, true},
	{"msg_too_long", SLACK_MESSAGE_BAD, false},
	{"msg_blocks_too_long", SLACK_MESSAGE_BAD, false},
	{"no_text", SLACK_MESSAGE_BAD, false},
	{"too_many_attachments", SLACK_MESSAGE_BAD, false},
	{"invalid_metadata", SLACK_MESSAGE_BAD, true},
	{"metadata_too_large", SLACK_MESSAGE_BAD, false},
	{"cannot_reply_to_message", SLACK_MESSAGE_BAD, false},
	{"message_not_found", SLACK_MESSAGE_BAD, false}, /* of chat.update */
	{"cant_update_message", SLACK_MESSAGE_BAD, false},
	{"edit_window_closed", SLACK_MESSAGE_BAD, false},
	{NULL, SLACK_MESSAGE_BAD, false},
};

static void judge_status(int status, SlackJudgement *judgement);
static bool status_means_later(int status);
static SlackVerdict code_verdict(const KnownCode *known, const char *code,
								 bool *found);
static void set_judgement(SlackJudgement *judgement, SlackVerdict verdict,
						  const char *code);
static void copy_plain(char *to, size_t size, const char *from, size_t length);
static bool read_webhook_code(char code[SLACK_CODE_SIZE], const char *body,
							  size_t length);
static bool could_be_code_of_slack(const char *code);
static bool is_code_character(char c);
static bool is_space(char c);

/* The verdict's name in column "verdict" of stripe_sync.delivery */
const char *
slack_verdict_name(SlackVerdict verdict)
{
	switch (verdict)
	{
		case SLACK_SENT:
			return "sent";
		case SLACK_RETRY:
			return "retry";
		case SLACK_MESSAGE_BAD:
			return "message_bad";
		case SLACK_DESTINATION_DEAD:
			return "destination_dead";
		case SLACK_CREDENTIAL_DEAD:
			return "credential_dead";
	}
	return "unknown";
}

/*
 * A webhook's answer.  A known code decides whatever status it comes with, except
 * 408, 429 and 5xx: Slack has changed the statuses of codes before.
 */
void
slack_judge_webhook(int status, const char *body, size_t length,
					SlackJudgement *judgement)
{
	char code[SLACK_CODE_SIZE];
	bool has_code = read_webhook_code(code, body, length);
	bool known = false;
	SlackVerdict verdict = SLACK_MESSAGE_BAD;

	memset(judgement, 0, sizeof(*judgement));
	if (has_code)
		verdict = code_verdict(webhook_codes, code, &known);

	if (status == 200 && has_code && strcmp(code, "ok") == 0)
		set_judgement(judgement, SLACK_SENT, code);
	else if (status_means_later(status) && has_code)
		set_judgement(judgement, SLACK_RETRY, code);
	else if (known && status >= 200 && (status < 300 || status >= 400))
		set_judgement(judgement, verdict, code);
	else if (status >= 200 && status < 300)
		set_judgement(judgement, SLACK_RETRY, "unexpected_answer");
	else if (status >= 400 && status < 500 && has_code &&
			 could_be_code_of_slack(code))
		set_judgement(judgement, verdict, code);
	else
		judge_status(status, judgement);
}

/*
 * An answer of the Web API.  "ratelimited" is a retry with status 429 as well as
 * with 200; the caller applies a Retry-After header to the whole destination.
 */
void
slack_judge_api(int status, const SlackAnswer *answer, SlackJudgement *judgement)
{
	bool readable = answer->readable && answer->has_ok;
	bool known;

	memset(judgement, 0, sizeof(*judgement));
	if (status_means_later(status) && readable && answer->error[0] != '\0')
		set_judgement(judgement, SLACK_RETRY, answer->error);
	else if (status_means_later(status) || (!readable && status / 100 != 2))
		judge_status(status, judgement);
	else if (!readable)
		set_judgement(judgement, SLACK_RETRY, "malformed_answer");
	else if (answer->ok)
	{
		set_judgement(judgement, SLACK_SENT, "ok");
		copy_plain(judgement->ts, sizeof(judgement->ts), answer->ts,
				   strlen(answer->ts));
		copy_plain(judgement->channel, sizeof(judgement->channel),
				   answer->channel, strlen(answer->channel));
	}
	else if (answer->error[0] == '\0')
		set_judgement(judgement, SLACK_RETRY, "no_error_given");
	else
		set_judgement(judgement, code_verdict(api_codes, answer->error, &known),
					  answer->error);
}

/* Without a code the answer may not be Slack's.  Passes http_<status> as the code. */
static void
judge_status(int status, SlackJudgement *judgement)
{
	char code[SLACK_CODE_SIZE];
	bool permanent = status == 400 || status == 413;

	snprintf(code, sizeof(code), "http_%d", status);
	set_judgement(judgement, permanent ? SLACK_MESSAGE_BAD : SLACK_RETRY, code);
}

static bool
status_means_later(int status)
{
	return status == 408 || status == 429 || status >= 500;
}

/* Sets *found to false for a code that isn't in the table. */
static SlackVerdict
code_verdict(const KnownCode *known, const char *code, bool *found)
{
	for (; known->code != NULL; known++)
		if (known->is_prefix
				? strncmp(code, known->code, strlen(known->code)) == 0
				: strcmp(code, known->code) == 0)
			break;
	*found = known->code != NULL;
	return known->verdict;
}

static void
set_judgement(SlackJudgement *judgement, SlackVerdict verdict, const char *code)
{
	judgement->verdict = verdict;
	copy_plain(judgement->code, sizeof(judgement->code), code, strlen(code));
}

/*
 * Copy at most size - 1 bytes.  Other characters become "_": the text goes into
 * the log, into messages and, as "ts", into requests.
 */
static void
copy_plain(char *to, size_t size, const char *from, size_t length)
{
	if (length > size - 1)
		length = size - 1;
	for (size_t i = 0; i < length; i++)
		to[i] = is_code_character(from[i]) ? from[i] : '_';
	to[length] = '\0';
}

/* A webhook's code is its whole body.  False for a sentence or a page. */
static bool
read_webhook_code(char code[SLACK_CODE_SIZE], const char *body, size_t length)
{
	while (length > 0 && is_space(body[length - 1]))
		length--;
	for (size_t i = 0; i < length; i++)
		if (!is_code_character(body[i]))
			return false;
	copy_plain(code, SLACK_CODE_SIZE, body, length);
	return length > 0;
}

/* Slack's codes are in lower case; a word like "Forbidden" comes from a proxy. */
static bool
could_be_code_of_slack(const char *code)
{
	for (; *code != '\0'; code++)
		if (!(*code >= 'a' && *code <= 'z') &&
			!(*code >= '0' && *code <= '9') && *code != '_')
			return false;
	return true;
}

static bool
is_code_character(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		   (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}
