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
extern char *permission_key(const SlackRequest *request);

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

/* It failed: logs the error, tells so, and sets status and error. */
extern void bot_failed(BotCall *call, const ErrorData *error);

/* ---- tell.c ---- */

/*
 * Tell the person, privately: the answer of a command, or through response_url.
 * "blocks" may be NULL; "text" is mrkdwn, escaped.
 */
extern void bot_tell(BotCall *call, const char *text, Jsonb *blocks);

/* Refuse: the person may not do this.  Tells so, and sets status and error. */
extern void bot_refuse(BotCall *call, SlackMay needed);

extern const char *bot_may_name(SlackMay may); /* as set_slack_user() has it */

/* Who: "slack:U..." for what is stored; and in mrkdwn, of what was stored */
extern char *bot_person(const BotCall *call);
extern char *bot_who(const char *by);

extern Jsonb *bot_sections(List *texts); /* NULL: no texts */

/* ---- tell_trace.c ---- */

/*
 * Tell the story of "ref", or why there is none.  "account" may be NULL: any;
 * "link", mrkdwn, is shown below it, or NULL.
 */
extern void bot_tell_trace(BotCall *call, const char *ref, const char *account,
						   const char *link);

/* ---- press.c: false if the action_id is none of ours ---- */

#define OWN_ACTION "stripe_sync." /* prefix of our action_ids */

/* The incident whose button was pressed */
typedef struct PressedIncident
{
	int64 id;
	char *alert;
	char *destination;
	char *account;
	char *closed_by;	   /* or NULL */
	TimestampTz closed_at; /* 0: it is open */
	JsonbContainer *refs;  /* what its buttons are about, or NULL */
	const char *option;	   /* of the button: "1h", or NULL */
} PressedIncident;

extern bool press_run(BotCall *call);

/* Run the body with a lock_timeout that is less than Slack waits. */
extern void bot_wait_briefly(void (*body)(void *), void *arg);

/* The account of what the incident is about, as events have it */
extern const char *press_account(const PressedIncident *incident);

/* ---- press_incident.c ---- */

extern void press_acknowledge(BotCall *call, const PressedIncident *incident);
extern void press_snooze(BotCall *call, const PressedIncident *incident);
extern void press_resolve(BotCall *call, const PressedIncident *incident);
extern void press_trace(BotCall *call, const PressedIncident *incident);
extern void press_tell_closed(BotCall *call, const char *by, TimestampTz at);
extern void press_tell_missing(BotCall *call);

/* ---- press_system.c ---- */

extern void press_retry_event(BotCall *call, const PressedIncident *incident);
extern void press_retry_message(BotCall *call, const PressedIncident *incident);
extern void press_enable(BotCall *call, const PressedIncident *incident);
extern void press_reconcile(BotCall *call, const PressedIncident *incident);
extern void press_mute_finding(BotCall *call, const PressedIncident *incident);

/* ---- action_setup.c ---- */

extern const RegisteredKind action_kind;
extern const RegisteredKind command_kind;

/* ---- command.c: false if it is not our command ---- */

#define OWN_COMMAND "/stripe"

extern bool command_run(BotCall *call);

/* ---- command_status.c, command_incident.c, command_customer.c ---- */

extern void command_status(BotCall *call, const char *argument);
extern void command_who(BotCall *call, const char *argument);
extern void command_mute(BotCall *call, const char *argument);
extern void command_customer(BotCall *call, const char *argument);

/* A customer of the mirror */
typedef struct CustomerCard
{
	const char *id;
	const char *account;
	Jsonb *data;
	bool deleted;
	bool is_test; /* of test mode */
} CustomerCard;

/* ---- command_text.c ---- */

extern void command_cannot(BotCall *call, const char *why, const char *told);
extern void command_tell(BotCall *call, List *texts);
extern char *command_plain(const char *argument);
extern char *command_code(const char *text); /* as code, in mrkdwn */
extern char *command_take_account(char *argument);

/* A link to an object of the customer's in the dashboard; "label" is plain text */
extern char *customer_link(const CustomerCard *card, const char *id,
						   const char *label);

/* ---- command_billing.c: each is mrkdwn ---- */

extern char *billing_plans(const CustomerCard *card);
extern char *billing_payments(const CustomerCard *card);
extern char *billing_invoices(const CustomerCard *card);

/* ---- user_function.c: false if none is registered ---- */

extern bool user_function_run(BotCall *call);

/* ---- user_function_answer.c ---- */

extern void user_answer(BotCall *call, Jsonb *answer, bool *too_late);

#endif /* STRIPE_SYNC_BOT_INTERNAL_H */
