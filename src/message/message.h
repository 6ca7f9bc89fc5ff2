/*
 * message.h
 *		The text of messages: templates, amounts, Block Kit.
 */
#ifndef STRIPE_SYNC_MESSAGE_H
#define STRIPE_SYNC_MESSAGE_H

#include "base/base.h"
#include "base/compat.h"
#include "inbox/event.h"

/* ---- template.c ---- */

/* "for_customer": the message is for the customer that it is about. */
extern char *template_render(const char *text, Event *event, bool for_customer);

/* ---- template_blocks.c ---- */

extern Jsonb *template_render_blocks(Jsonb *blocks, Event *event,
									 bool for_customer);

/* ---- template_parse.c ---- */

extern void template_check(const char *text);	  /* raises 22023 */
extern void template_check_blocks(Jsonb *blocks); /* raises 22023 */

/* ---- dashboard_link.c ---- */

extern char *dashboard_link(Event *event, const char *id);

/* ---- mrkdwn.c ---- */

extern char *mrkdwn_escape(const char *text);
extern char *mrkdwn_cut(const char *mrkdwn, int characters);
extern bool mrkdwn_is_blank(const char *text);
extern char *mrkdwn_date(TimestampTz at);
extern bool mrkdwn_begins_with_emoji(const char *text);

/* ---- block_buttons.c ---- */

/* The buttons of an incident */
typedef struct MessageButtons
{
	int64 incident;
	bool acknowledges; /* with a button for that */
	Jsonb *refs;	   /* what the other buttons are about, or NULL */
} MessageButtons;

/* ---- block_kit.c ---- */

/* An alert's message */
typedef struct MessageParts
{
	const char *text;	  /* mrkdwn, escaped */
	Jsonb *blocks;		  /* the user's, instead of a section, or NULL */
	const char *severity; /* info, warning, critical; NULL: none */
	const char *mention;  /* U... or S..., who is mentioned, or NULL */
	const char *status;	  /* mrkdwn of a context block below, or NULL */
	const char *ending;	  /* mrkdwn that says how it ended, or NULL */
	bool resolved;
	bool ended_badly; /* resolved, without a check mark */
	bool is_test;	  /* of test mode */
	bool is_update;	  /* for chat.update, not for a message of its own */
	const MessageButtons *buttons; /* or NULL */
} MessageParts;

extern Jsonb *blocks_message(const MessageParts *parts);
extern Jsonb *blocks_plain(const char *text, Jsonb *blocks);

/* ---- block_json.c ---- */

extern void blocks_push_section(JsonbInState *state, const char *text);

/* ---- block_table.c ---- */

extern void blocks_push_table(JsonbInState *state, int columns, List *rows);

/* ---- block_fitting.c ---- */

extern Jsonb *blocks_fit(Jsonb *blocks); /* raises 22023: no array */
extern bool blocks_are_newer(Jsonb *payload);
extern Jsonb *blocks_make_plain(Jsonb *payload);

#endif /* STRIPE_SYNC_MESSAGE_H */
