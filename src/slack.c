/*
 * slack.c
 *		Slack's answers, judged.
 *
 * An incoming webhook answers in plain text: "ok", or one code.  The Web API
 * answers 200 with a JSON object, whose "ok" is what counts;
 * slack_answer.c reads it.  Whatever the body, 408, 429 and 5xx mean: later.
 *
 * Invariants:
 *
 * - What an answer doesn't say plainly is tried again, but for a code that
 *	 Slack has made up since: that is permanent for the message, and shown.
 * - An answer without a code need not be Slack's: a proxy or a gateway refuses
 *	 and redirects for reasons of its own, which pass.  Only 400 and 413 speak of
 *	 the message whoever says them.
 * - What is passed on (code, ts, channel) has letters, digits and "_.-" alone.
 */
#include <stdio.h>
#include <string.h>

#include "slack.h"

typedef struct KnownCode
{
	const char *code;
	SlackVerdict verdict;
	bool is_family; /* codes that begin with it as well */
} KnownCode;

static const KnownCode webhook_codes[] = {
	{"rollup_error", SLACK_RETRY, false},
	/* they pass by themselves, a migration or a limit after hours */
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
	/* these two may have been delivered; better twice than never */
	{"internal_error", SLACK_RETRY, false},
	{"fatal_error", SLACK_RETRY, false},
	/* they pass by themselves, a migration or a limit after hours */
	{"team_added_to_org", SLACK_RETRY, false},
	{"org_login_required", SLACK_RETRY, false},
	{"external_channel_migrating", SLACK_RETRY, false},
	{"message_limit_exceeded", SLACK_RETRY, false},
	/* chat.update's */
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
	{"message_not_found", SLACK_MESSAGE_BAD, false}, /* chat.update's */
	{"cant_update_message", SLACK_MESSAGE_BAD, false},
	{"edit_window_closed", SLACK_MESSAGE_BAD, false},
	{NULL, SLACK_MESSAGE_BAD, false},
};

static void judge_status(int status, SlackJudgement *judgement);
static bool status_means_later(int status);
static SlackVerdict code_verdict(const KnownCode *known, const char *code,
								 bool *found);
static void settle(SlackJudgement *judgement, SlackVerdict verdict,
				   const char *code);
static void copy_plain(char *to, size_t size, const char *from, size_t length);
static bool code_read(char code[SLACK_CODE_SIZE], const char *body,
					  size_t length);
static bool is_slacks(const char *code);
static bool is_plain(char c);
static bool is_space(char c);

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

/* A code counts with whatever status it comes, as Slack has changed those. */
void
slack_judge_webhook(int status, const char *body, size_t length,
					SlackJudgement *judgement)
{
	char code[SLACK_CODE_SIZE];
	bool has_code = code_read(code, body, length);
	bool known = false;
	SlackVerdict verdict = SLACK_MESSAGE_BAD;

	memset(judgement, 0, sizeof(*judgement));
	if (has_code)
		verdict = code_verdict(webhook_codes, code, &known);

	if (status == 200 && has_code && strcmp(code, "ok") == 0)
		settle(judgement, SLACK_SENT, code);
	else if (status_means_later(status) && has_code)
		settle(judgement, SLACK_RETRY, code);
	else if (known && status >= 200 && (status < 300 || status >= 400))
		settle(judgement, verdict, code);
	else if (status >= 200 && status < 300)
		settle(judgement, SLACK_RETRY, "unexpected_answer");
	else if (status >= 400 && status < 500 && has_code && is_slacks(code))
		settle(judgement, verdict, code);
	else
		judge_status(status, judgement);
}

void
slack_judge_api(int status, const SlackAnswer *answer, SlackJudgement *judgement)
{
	bool readable = answer->readable && answer->has_ok;
	bool known;

	memset(judgement, 0, sizeof(*judgement));
	if (status_means_later(status) && readable && answer->error[0] != '\0')
		settle(judgement, SLACK_RETRY, answer->error);
	else if (status_means_later(status) || (!readable && status / 100 != 2))
		judge_status(status, judgement);
	else if (!readable)
		settle(judgement, SLACK_RETRY, "malformed_answer");
	else if (answer->ok)
	{
		settle(judgement, SLACK_SENT, "ok");
		copy_plain(judgement->ts, sizeof(judgement->ts), answer->ts,
				   strlen(answer->ts));
		copy_plain(judgement->channel, sizeof(judgement->channel),
				   answer->channel, strlen(answer->channel));
	}
	else if (answer->error[0] == '\0')
		settle(judgement, SLACK_RETRY, "no_error_given");
	else
		settle(judgement, code_verdict(api_codes, answer->error, &known),
			   answer->error);
}

/* The status is all there is, and may be anybody's. */
static void
judge_status(int status, SlackJudgement *judgement)
{
	char code[SLACK_CODE_SIZE];
	bool stays = status == 400 || status == 413;

	snprintf(code, sizeof(code), "http_%d", status);
	settle(judgement, stays ? SLACK_MESSAGE_BAD : SLACK_RETRY, code);
}

static bool
status_means_later(int status)
{
	return status == 408 || status == 429 || status >= 500;
}

static SlackVerdict
code_verdict(const KnownCode *known, const char *code, bool *found)
{
	for (; known->code != NULL; known++)
		if (known->is_family
				? strncmp(code, known->code, strlen(known->code)) == 0
				: strcmp(code, known->code) == 0)
			break;
	*found = known->code != NULL;
	return known->verdict;
}

static void
settle(SlackJudgement *judgement, SlackVerdict verdict, const char *code)
{
	judgement->verdict = verdict;
	copy_plain(judgement->code, sizeof(judgement->code), code, strlen(code));
}

/* Cut to the size; any other character is shown as "_". */
static void
copy_plain(char *to, size_t size, const char *from, size_t length)
{
	if (length > size - 1)
		length = size - 1;
	for (size_t i = 0; i < length; i++)
		to[i] = is_plain(from[i]) ? from[i] : '_';
	to[length] = '\0';
}

/* A webhook's code is its whole body; a sentence or a page is none. */
static bool
code_read(char code[SLACK_CODE_SIZE], const char *body, size_t length)
{
	while (length > 0 && is_space(body[length - 1]))
		length--;
	for (size_t i = 0; i < length; i++)
		if (!is_plain(body[i]))
			return false;
	copy_plain(code, SLACK_CODE_SIZE, body, length);
	return length > 0;
}

/* Slack's codes are of lower case; "Forbidden" is a proxy's. */
static bool
is_slacks(const char *code)
{
	for (; *code != '\0'; code++)
		if (!(*code >= 'a' && *code <= 'z') &&
			!(*code >= '0' && *code <= '9') && *code != '_')
			return false;
	return true;
}

static bool
is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		   (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}
