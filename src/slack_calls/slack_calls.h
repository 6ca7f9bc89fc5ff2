/*
 * slack_calls.h
 *		What the worker asks of Slack for an interaction: answers through
 *		response_url, views; and the members of user groups.
 */
#ifndef STRIPE_SYNC_SLACK_CALLS_H
#define STRIPE_SYNC_SLACK_CALLS_H

#include "base/base.h"

/* ---- slack_call.c: queue, in the caller's transaction, the engine's scope ---- */

/*
 * Answer through the interaction's response_url: a message ({"text": ...,
 * "blocks": ..., "response_type": "ephemeral", ...}).  Unless it says otherwise,
 * the message whose button was pressed stays as it is.  False if the interaction
 * has no response_url, or one that is used up or expired.
 */
extern bool slack_call_respond(int64 interaction, Jsonb *message);

/*
 * Open a view for the interaction's trigger_id.  False if it has none, a view was
 * queued for it before, or it is older than 2.5 s.  Raises 0A000 if the database
 * has no worker that may send.
 */
extern bool slack_call_open_view(int64 interaction, Jsonb *view);

/* ---- slack_call_send.c: the worker's; as those of the outbox ---- */

extern void slack_calls_setup(void);
extern bool slack_calls_turn(TimestampTz *next); /* claims and sends */
extern bool slack_calls_settle(void);			 /* answers that have come */
extern TimestampTz slack_calls_next(void);		 /* when to settle again */
extern bool slack_calls_idle(void);
extern void slack_calls_release_all(void);
extern void slack_calls_reclaim(void); /* leases of ended processes */

/* ---- slack_group.c ---- */

extern bool slack_groups_turn(TimestampTz *next);
extern bool slack_groups_have_news(void); /* an answer is to be stored */
extern bool slack_groups_idle(void);
extern void slack_groups_abandon(void);

#endif /* STRIPE_SYNC_SLACK_CALLS_H */
