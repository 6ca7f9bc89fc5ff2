/*
 * blocks.h
 *		What blocks.c and blocks_fit.c show each other.
 */
#ifndef STRIPE_SYNC_BLOCKS_H
#define STRIPE_SYNC_BLOCKS_H

#include "stripe_sync.h"

/* How much of a message is free: Slack counts blocks, and characters in all. */
typedef struct BlocksRoom
{
	int blocks;
	int characters;
} BlocksRoom;

#define BLOCKS_CONTEXT_SIZE 120 /* characters of a context block's JSON */

/* ---- in blocks.c ---- */
extern int blocks_length(const char *text);
extern bool blocks_is_blank(const char *text);
extern void blocks_push_bool(JsonbInState *state, const char *key, bool boolean);
extern void blocks_push_context(JsonbInState *state, const char *text);

/* ---- in blocks_fit.c ---- */
extern const BlocksRoom blocks_room; /* of a whole message */
extern void blocks_push_fitting(JsonbInState *state, Jsonb *blocks,
								BlocksRoom room);
extern bool blocks_are_none(Jsonb *blocks);

#endif /* STRIPE_SYNC_BLOCKS_H */
