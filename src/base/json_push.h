/*
 * json_push.h
 *		Appends to a jsonb value that is being built.
 */
#ifndef STRIPE_SYNC_JSON_PUSH_H
#define STRIPE_SYNC_JSON_PUSH_H

#include "base/compat.h"

/*
 * A string: a key, a value or an element ("token").  It is not copied, so it
 * must stay until the value is complete.
 */
extern void json_push_string(JsonbInState *state, JsonbIteratorToken token,
							 const char *text);

#endif /* STRIPE_SYNC_JSON_PUSH_H */
