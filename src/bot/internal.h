/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_BOT_INTERNAL_H
#define STRIPE_SYNC_BOT_INTERNAL_H

#include "base/base.h"
#include "handler/registered.h"
#include "slack_in/slack_in.h"

/* ---- permission.c ---- */

typedef enum SlackMay
{
	MAY_NOTHING,
	MAY_SEE,
	MAY_ACT,
	MAY_ADMINISTER
} SlackMay;

/* What the person of the request may do.  Runs in the engine's scope. */
extern SlackMay permission_of(const SlackRequest *request);

/* ---- receive_slack.c ---- */

/* An interaction on its way; the last fields are what becomes of it */
typedef struct BotCall
{
	const SlackRequest *request;
	int64 interaction;
	SlackMay may;
	const char *status; /* done, refused, failed, ignored */
	const char *error;	/* or NULL */
	int64 incident;		/* that it was about, 0: none */
	SlackReply reply;	/* 200 and no body at first */
} BotCall;

/* "slack:U..." (of another workspace "slack:T.../U..."): who, for what is stored */
extern char *bot_person(const BotCall *call);

/*
 * Tell the person, privately: the answer of a command, or through response_url.
 * "blocks" may be NULL; "text" is mrkdwn, escaped.
 */
extern void bot_tell(BotCall *call, const char *text, Jsonb *blocks);

/* Refuse: the person may not do this.  Tells so, and sets status and error. */
extern void bot_refuse(BotCall *call, SlackMay needed);

/* ---- press.c: false if the action_id is none of ours ---- */

#define OWN_ACTION "stripe_sync." /* prefix of our action_ids */

extern bool press_run(BotCall *call);

/* ---- action_setup.c ---- */

extern const RegisteredKind action_kind;
extern const RegisteredKind command_kind;

/* ---- command.c: false if it is not our command ---- */

#define OWN_COMMAND "/stripe"

extern bool command_run(BotCall *call);

/* ---- user_function.c: false if none is registered ---- */

extern bool user_function_run(BotCall *call);

#endif /* STRIPE_SYNC_BOT_INTERNAL_H */
