/*
 * part_kind.c
 *		The registry of the kinds of parts.
 *
 * The kinds are registered once, when the library is loaded, and don't change
 * afterwards.  The files that process jobs and parts call a kind only through
 * the callbacks of PartKind, so that they depend on none of the kinds.
 */
#include "postgres.h"

#include "base/subtransaction.h"
#include "jobs/jobs.h"
#include "jobs/part.h"
#include "jobs/internal.h"

static const PartKind *const *kinds = NULL;
static int nkinds = 0;

/*
 * Register all kinds.  "all" is not copied and must stay valid for the life of
 * the process.
 */
void
part_kinds_register(const PartKind *const *all, int count)
{
	kinds = all;
	nkinds = count;
}

const PartKind *const *
part_kinds(int *count)
{
	*count = nkinds;
	return kinds;
}

/* The kind of that name.  Raises an internal error if there is none. */
const PartKind *
part_kind_find(const char *name)
{
	for (int i = 0; i < nkinds; i++)
		if (strcmp(kinds[i]->name, name) == 0)
			return kinds[i];
	elog(ERROR, "there is no kind of part \"%s\"", name);
}

/* ---- callbacks that are called for all kinds ---- */

/* Tell every kind that a job has been cancelled, in the caller's transaction. */
void
part_kinds_cancelled(int64 job)
{
	for (int i = 0; i < nkinds; i++)
		if (kinds[i]->cancelled != NULL)
			kinds[i]->cancelled(job);
}

typedef struct PollCall
{
	const PartKind *kind;
	TimestampTz due;
} PollCall;

static void
poll_body(void *arg)
{
	PollCall *call = arg;

	call->due = call->kind->poll();
}

/*
 * Runs in a subtransaction: an error of one kind must not keep parts of the
 * others from being claimed.  After an error, a lock timeout for example, the
 * kind is polled again a second later.
 */
static TimestampTz
poll_kind(const PartKind *kind)
{
	PollCall call = {kind, GetCurrentTimestamp() + USECS_PER_SEC};
	ErrorData *error;

	if (!subtransaction_run(poll_body, &call, subtransaction_excuse_all, &error) &&
		error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("could not add parts of kind \"%s\" to a job: %s",
						kind->name, error->message)));
	return call.due;
}

/*
 * Let each kind add the parts that another table requests.  Runs within the
 * transaction that claims parts.  Returns the time at which the first kind must
 * be polled again, DT_NOEND if none must.
 */
TimestampTz
part_kinds_poll(void)
{
	TimestampTz first = DT_NOEND;

	for (int i = 0; i < nkinds; i++)
		if (kinds[i]->poll != NULL)
			first = Min(first, poll_kind(kinds[i]));
	return first;
}
