/*
 * destination.h
 *		What the files of destinations use of each other.
 */
#ifndef STRIPE_SYNC_DESTINATION_H
#define STRIPE_SYNC_DESTINATION_H

#include "stripe_sync.h"

/* ---- in destination_argument.c: arguments of set-up; all raise 22004, 22023 ---- */

#define DESTINATION_MAX_LINE 255 /* bytes of a channel or a customer's id */

extern text *destination_optional_text(FunctionCallInfo fcinfo, int number);
extern text *destination_required_text(FunctionCallInfo fcinfo, int number,
									   const char *name);
extern bool destination_text_begins_with(const text *value, const char *prefix);
extern bool destination_is_plain_line(const text *value, int most);
extern void destination_check_name(const text *name);
extern void destination_check_channel(const text *channel);
extern void destination_check_url(const text *url);
extern void destination_check_token(const text *token);

/* ---- in destination_pace.c: rate limits, and the lock of a destination ---- */
extern void pace_make(text *destination);
extern void pace_lock(text *destination);
extern void pace_unblock(text *destination);
extern void pace_delete(text *destination);
extern ArrayType *pace_lock_available(StatementArg destinations);
extern TimestampTz pace_blocked(TimestampTz blocked_until, TimestampTz now);
extern int pace_allows(TimestampTz next_at, TimestampTz now, int most,
					   TimestampTz *next);
extern void pace_count(StatementArg destinations);
extern void pace_lock_all(StatementArg destinations);
extern void pace_block(const char *destination, const char *reason,
					   TimestampTz until);

/* ---- in destination_setup.c: changes of one destination ---- */
extern void destination_setup_end(const RoleScope *scope);
extern void destination_hold(text *name);
extern void destination_change(text *name, EngineStatement *update,
							   const StatementArg *args, int nargs);

#endif /* STRIPE_SYNC_DESTINATION_H */
