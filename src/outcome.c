/*
 * outcome.c
 *		What an answer that isn't good, or an error, makes of a part.
 */
#include "stripe_api.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

#define MAX_ATTEMPTS 30
#define AGAIN_FIRST	 (15 * USECS_PER_SEC)
#define AGAIN_MOST	 (15 * 60 * USECS_PER_SEC)

/* What is said of a part that isn't a matter of its key. */
static char *
say(const Part *part, const char *text)
{
	StringInfoData said;

	initStringInfo(&said);
	if (part->list_path != NULL)
		appendStringInfoString(&said, part->list_path);
	else if (part->object_type != NULL)
		appendStringInfo(&said, "%s %s", part->object_type,
						 part->object_id   ? part->object_id
						 : part->parent_id ? part->parent_id
										   : "");
	else
		appendStringInfoString(&said, part->kind->name);
	if (part->account[0] != '\0')
		appendStringInfo(&said, " of %s", part->account);
	appendStringInfo(&said, ": %s", text);
	return said.data;
}

static Outcome
put_off(const Part *part, const char *error)
{
	int64 delay = Min(AGAIN_MOST, AGAIN_FIRST << Min(part->attempts - 1, 10));
	bool tried_out = part->attempts >= MAX_ATTEMPTS;

	return (Outcome){tried_out ? "failed" : "waiting",
					 GetCurrentTimestamp() + delay, say(part, error)};
}

/* Somebody has set another key since the request was made. */
static bool
key_has_changed(Part *part, const ApiCall *call)
{
	part_load_key(part);
	return part->key != NULL && strcmp(part->key, call->key) != 0;
}

/*
 * A cursor may be what is refused, an object that is gone: the list is read from
 * its beginning, once.
 */
bool
outcome_is_restart(Part *part, const ApiCall *call)
{
	CursorRefusal refusal = strcmp(call->code, RESOURCE_MISSING) == 0
								? CURSOR_MISSING
								: CURSOR_REFUSED;

	if ((call->verdict != API_REFUSED && call->verdict != API_GONE) ||
		part->kind->cursor_may_go < refusal || part->cursor == NULL ||
		part->restarted)
		return false;
	list_begin_again(part);
	return part->restarted = true;
}

/* What an answer that isn't good makes of the part. */
Outcome
outcome_of_failure(Part *part, const ApiCall *call)
{
	Outcome on = {"running", GetCurrentTimestamp(), NULL};
	bool skips = part->optional && call->verdict != API_TOO_LARGE;

	if (call->verdict == API_AGAIN || call->verdict == API_LATER)
	{
		Outcome later = put_off(part, call->trouble);

		later.due = Max(later.due, GetCurrentTimestamp() +
									   call->retry_after * USECS_PER_SEC);
		return later;
	}
	if (call->verdict == API_TOO_LARGE && part->limit > 1)
	{
		part->limit = Max(1, part->limit / 4);
		return on;
	}
	if (call->verdict == API_KEY_BAD && key_has_changed(part, call))
		return on;
	if (call->verdict == API_KEY_BAD)
	{
		job_fail_account(part, call->trouble);
		return (Outcome){"failed", GetCurrentTimestamp(), call->trouble};
	}
	return (Outcome){skips ? "skipped" : "failed", GetCurrentTimestamp(),
					 say(part, call->trouble)};
}

/* Another try may succeed: what failed wasn't the answer, or it was spoilt. */
static bool
is_passing(const ErrorData *error)
{
	int code = error->sqlerrcode;
	int category = ERRCODE_TO_CATEGORY(code);

	return code == ERRCODE_LOCK_NOT_AVAILABLE || code == ERRCODE_OBJECT_IN_USE ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_T_R_SERIALIZATION_FAILURE) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_PROTOCOL_VIOLATION);
}

/* Of what has been undone. */
Outcome
outcome_of_error(const Part *part, ErrorData *error)
{
	if (is_passing(error))
		return put_off(part, error->message);
	return (Outcome){
		"failed", GetCurrentTimestamp(),
		say(part, psprintf("%s: %s", unpack_sql_state(error->sqlerrcode),
						   error->message))};
}
