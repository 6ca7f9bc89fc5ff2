/*
 * blocks.h
 *		The files that build a message's payload.
 */
#ifndef STRIPE_SYNC_BLOCKS_H
#define STRIPE_SYNC_BLOCKS_H

#include "stripe_sync.h"

/* What is left of Slack's limits on a message: blocks, and characters of JSON */
typedef struct BlocksRoom
{
	int blocks;
	int characters;
} BlocksRoom;

#define BLOCKS_CONTEXT_SIZE 120 /* characters of a context block's JSON */

/* ---- in mrkdwn.c ---- */
extern int mrkdwn_length(const char *text);
extern bool mrkdwn_is_blank(const char *text);
extern char *mrkdwn_strip(const char *mrkdwn);

/* ---- in block_json.c ---- */
extern void blocks_push_text(JsonbInState *state, JsonbIteratorToken token,
							 const char *text);
extern void blocks_push_key(JsonbInState *state, const char *key);
extern void blocks_push_string(JsonbInState *state, const char *key,
							   const char *text);
extern void blocks_push_bool(JsonbInState *state, const char *key, bool boolean);
extern void blocks_push_section(JsonbInState *state, const char *text);
extern void blocks_push_context(JsonbInState *state, const char *text);

/* ---- in block_limits.c ---- */
extern const BlocksRoom blocks_room; /* of a whole message */
extern void blocks_push_fitting(JsonbInState *state, Jsonb *blocks,
								BlocksRoom room);
extern bool blocks_are_none(Jsonb *blocks);

#endif /* STRIPE_SYNC_BLOCKS_H */
