/*
 * outcome.c
 *		What an answer that isn't good, or an error, makes of a part.
 */
#include "jobs_internal.h"

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

/* Stripe did not answer, or the answer was spoilt. */
static Outcome
put_off(const Part *part, const char *error)
{
	int64 delay = Min(AGAIN_MOST, AGAIN_FIRST << Min(part->attempts - 1, 10));
	bool tried_out = part->attempts >= MAX_ATTEMPTS;

	return (Outcome){tried_out ? "failed" : "waiting",
					 GetCurrentTimestamp() + delay, say(part, error),
					 TROUBLE_ANSWER};
}

/* Will the next failure to write be the last? */
bool
part_is_tried_out(const Part *part)
{
	return part->tries + 1 >= guc_max_attempts;
}

/* The answer could not be written: as with an event's step. */
static Outcome
put_off_writing(Part *part, const char *error)
{
	bool tried_out = part_is_tried_out(part);

	part->tries++;
	return (Outcome){tried_out ? "failed" : "waiting",
					 GetCurrentTimestamp() +
						 backoff_delay(part->tries, BACKOFF_FIRST, BACKOFF_MOST),
					 say(part, error), TROUBLE_WRITING};
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
	part_restart(part);
	return part->restarted = true;
}

/* What an answer that isn't good makes of the part. */
Outcome
outcome_of_failure(Part *part, const ApiCall *call)
{
	Outcome on = {"running", GetCurrentTimestamp(), NULL};
	bool skips = part->optional && call->verdict != API_TOO_LARGE;

	if (call->spoilt && page_get_smaller(part, call))
		return on;
	if (strcmp(call->code, CUT_SHORT) == 0)
		return (Outcome){
			"failed", on.due,
			say(part,
				psprintf(
					"%s: Stripe's answer is no page of a list: it was cut short",
					unpack_sql_state(ERRCODE_INVALID_TEXT_REPRESENTATION))),
			TROUBLE_ANSWER};
	if (call->verdict == API_AGAIN || call->verdict == API_LATER)
	{
		Outcome later = put_off(part, call->trouble);

		later.due = Max(later.due, GetCurrentTimestamp() +
									   call->retry_after * USECS_PER_SEC);
		return later;
	}
	if (call->verdict == API_KEY_BAD && key_has_changed(part, call))
		return on;
	if (call->verdict == API_KEY_BAD)
	{
		job_fail_account(part, call->trouble);
		return (Outcome){"failed", GetCurrentTimestamp(), call->trouble,
						 TROUBLE_KEY};
	}
	return (Outcome){skips ? "skipped" : "failed", GetCurrentTimestamp(),
					 say(part, call->trouble), TROUBLE_ANSWER};
}

Outcome
outcome_without_key(const Part *part)
{
	return (Outcome){"failed", GetCurrentTimestamp(), part->trouble,
					 TROUBLE_KEY};
}

/* ---- errors ---- */

/* As subtransaction_run(); afterwards it is known whether the answer was useless. */
bool
outcome_guard(void (*body)(void *), void *arg,
			  bool (*excuse)(const ErrorData *), ErrorData **error)
{
	(void) answer_was_useless(); /* forgets what is set */
	return subtransaction_run(body, arg, excuse, error);
}

/*
 * Of what has been undone.  Whatever our own database has against an answer
 * (a trigger, a constraint, a lock, ...) may be gone the next time; what is
 * wrong with the answer itself is not.
 */
Outcome
outcome_of_error(Part *part, ErrorData *error)
{
	char *said = psprintf("%s: %s", unpack_sql_state(error->sqlerrcode),
						  error->message);

	if (answer_was_useless())
		return (Outcome){"failed", GetCurrentTimestamp(), say(part, said),
						 TROUBLE_ANSWER};
	if (error->sqlerrcode == ERRCODE_PROTOCOL_VIOLATION)
		return put_off(part, error->message);
	return put_off_writing(part, said);
}
