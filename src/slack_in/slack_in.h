/*
 * slack_in.h
 *		Requests from Slack: verified, read, stored, and answered once.
 */
#ifndef STRIPE_SYNC_SLACK_IN_H
#define STRIPE_SYNC_SLACK_IN_H

#include "base/base.h"
#include "base/refusal.h"

/* ---- slack_request.c ---- */

typedef enum SlackKind
{
	SLACK_SSL_CHECK, /* unsigned: answered, not stored */
	SLACK_URL_VERIFICATION,
	SLACK_PRESS, /* block_actions */
	SLACK_COMMAND,
	SLACK_VIEW_SUBMISSION,
	SLACK_VIEW_CLOSED,
	SLACK_SHORTCUT, /* of a message, or global */
	SLACK_EVENT,	/* of the Events API */
	SLACK_OTHER
} SlackKind;

/* A request, as Slack sent it; all strings are UTF-8, and NULL if absent */
typedef struct SlackRequest
{
	SlackKind kind;
	const char *app;
	char *key;	 /* the same for a redelivery */
	char *name;	 /* action_id, command, callback_id, type of the event */
	char *value; /* of the button or selected option; text of a command */
	char *team;	 /* of the person, T... */
	char *user;	 /* U... */
	char *user_name;
	char *channel;
	char *message_ts;
	char *challenge; /* url_verification */
	char *response_url;
	char *trigger_id;
	Jsonb *body;		 /* without token, response_url(s), trigger_id */
	TimestampTz sent_at; /* when Slack signed it */
} SlackRequest;

/* The name of a kind, as in stripe_sync.interaction */
extern const char *slack_kind_name(SlackKind kind);

/*
 * Verifies and reads a request.  False, with the refusal, if it isn't one: SY001,
 * SY002, SY003 (401); SY004 (400, or 413 with FAULT_TOO_LARGE); SY005, SY007 (500).
 * Runs in the engine's scope, as all functions here.
 */
extern bool slack_request_read(const char *body, int length, Jsonb *headers,
							   const char *app, SlackRequest *request,
							   Refusal *refusal);

/* ---- interaction.c ---- */

/* What receive_slack() returns */
typedef struct SlackReply
{
	int http_status;
	Jsonb *body; /* or NULL */
} SlackReply;

/*
 * Stores it and returns its id.  Returns 0 if it is stored already, then with
 * the reply that was given; waits for a transaction that is storing it.
 */
extern int64 interaction_store(const SlackRequest *request, SlackReply *reply);

/* status: done, refused, failed, ignored; error and incident (0) may be absent */
extern void interaction_finish(int64 id, const char *status, const char *error,
							   int64 incident, const SlackReply *reply);

/* ---- app.c ---- */

compat_noreturn extern void slack_app_missing(const char *name); /* SY005 */

/*
 * The bot token of an app, into a buffer that the caller wipes.  False, and why
 * in *trouble, if there is none.
 */
extern bool slack_app_token(const char *app, char *buffer, size_t size,
							char **trouble);

#endif /* STRIPE_SYNC_SLACK_IN_H */
