/*
 * look.c
 *		Looks at one item: in a subtransaction, with a time limit and a
 *		lock_timeout.
 *
 * An error of the item, a lock that it can't get at once, and running past the
 * limit are an unknown finding.  Cancellation and shutdown are raised.
 */
#include "postgres.h"

#include "portability/instr_time.h"
#include "utils/elog.h"

#include "base/text.h"
#include "engine/engine.h"
#include "doctor/internal.h"

#define MAX_MESSAGE 200 /* bytes of an error's message */

typedef struct Look
{
	const DoctorItem *item;
	Finding *finding;
	char **progress;
	bool finished;
} Look;

static void
call_item(void *arg)
{
	Look *look = arg;
	int nest = plan_for_a_look();

	if (look->item->slice == NULL)
		look->item->look(look->finding);
	else
		look->finished = look->item->slice(look->finding, look->progress);
	plan_settings_restore(nest);
}

/* The message of an error may name objects, but never holds a query. */
static void
note_error(Finding *finding, const ErrorData *error, int limit, LookCost *cost)
{
	cost->timed_out = error->sqlerrcode == ERRCODE_QUERY_CANCELED;
	finding->hint = NULL;
	finding->has_figure = false;
	if (cost->timed_out)
		finding_unknown(finding, "looking at it took more than %d ms", limit);
	else if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		finding_unknown(finding, "another session holds a lock that it needs");
	else
		finding_unknown(finding, "looking at it raised %s: %s",
						unpack_sql_state(error->sqlerrcode),
						text_clip(error->message, MAX_MESSAGE));
}

static void
run_look(Look *look, int limit, LookCost *cost)
{
	ErrorData *error;
	instr_time start;
	instr_time took;

	memset(look->finding, 0, sizeof(*look->finding));
	look->finding->critical = (look->item->flags & DOCTOR_CRITICAL) != 0;
	finding_unknown(look->finding, "not looked at");
	cost->timed_out = false;
	INSTR_TIME_SET_CURRENT(start);
	if (!timed_run_within(limit, call_item, look, &error))
		note_error(look->finding, error, limit, cost);
	INSTR_TIME_SET_CURRENT(took);
	INSTR_TIME_SUBTRACT(took, start);
	cost->milliseconds = INSTR_TIME_GET_MILLISEC(took);
}

/* In the engine's scope; "limit" is in milliseconds. */
void
look_at_item(const DoctorItem *item, int limit, Finding *finding, LookCost *cost)
{
	Look look = {.item = item, .finding = finding};

	run_look(&look, limit, cost);
}

/* A slice that raised an error ends the look. */
bool
look_at_slice(const DoctorItem *item, int limit, char **progress,
			  Finding *finding, LookCost *cost)
{
	Look look = {
		.item = item, .finding = finding, .progress = progress, .finished = true};

	run_look(&look, limit, cost);
	return look.finished;
}

/*
 * As many slices as the limit permits.  One that was cut off leaves what those
 * before it have found.
 */
void
look_at_first_slices(const DoctorItem *item, int limit, Finding *finding)
{
	char *progress = NULL;
	double left = limit;
	bool finished = false;
	LookCost cost;

	finding_unknown(finding, "not looked at");
	while (!finished && left >= 1)
	{
		Finding found;

		finished = look_at_slice(item, (int) left, &progress, &found, &cost);
		if (!cost.timed_out || finding->status == FINDING_UNKNOWN)
			*finding = found;
		left -= cost.milliseconds;
	}
}
