/*
 * slack_request.c
 *		A request from Slack, with its headers: verified, then read.
 *
 * Nothing of the body is looked at before its signature has been verified, but
 * for Slack's check of the URL, which is not signed, and of which nothing is
 * used.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/error_codes.h"
#include "inbox/inbox.h"
#include "slack_in/internal.h"

const char *
slack_kind_name(SlackKind kind)
{
	switch (kind)
	{
		case SLACK_PRESS:
			return "press";
		case SLACK_COMMAND:
			return "command";
		case SLACK_VIEW_SUBMISSION:
			return "view_submission";
		case SLACK_VIEW_CLOSED:
			return "view_closed";
		case SLACK_SHORTCUT:
			return "shortcut";
		case SLACK_EVENT:
			return "event";
		case SLACK_SSL_CHECK:
		case SLACK_URL_VERIFICATION:
		case SLACK_OTHER:
			break;
	}
	return "other";
}

static bool
refuse_size(int length, Refusal *refusal)
{
	return refuse(
		refusal, FAULT_TOO_LARGE, ERRCODE_NO_EVENT,
		"the body is not a request of Slack's",
		psprintf("It has %d bytes; the most is stripe_sync.max_payload, %d.",
				 length, guc_max_payload),
		NULL);
}

/* See slack_in.h. */
bool
slack_request_read(const char *body, int length, Jsonb *headers,
				   const char *app, SlackRequest *request, Refusal *refusal)
{
	text *signature;

	memset(request, 0, sizeof(*request));
	request->app = app;
	signature = request_header(headers, "x-slack-signature");
	if (length > guc_max_payload)
		return refuse_size(length, refusal);
	if (!slack_app_exists(app))
		return slack_app_refuse(app, refusal);
	if (signature == NULL && slack_payload_is_ssl_check(body, length))
	{
		request->kind = SLACK_SSL_CHECK;
		return true;
	}
	return slack_verify(app, body, length,
						request_header(headers, "x-slack-request-timestamp"),
						signature, &request->sent_at, refusal) &&
		   slack_payload_read(body, length, request, refusal);
}
