/*
 * part_kind.c
 *		The kinds of parts, as whoever implements them registers them.
 *
 * They are registered once, when the library is loaded, and never change.  Jobs
 * and parts are worked at through the callbacks of PartKind alone.
 */
#include "jobs_internal.h"

#include "executor/spi.h"

static const PartKind *const *kinds = NULL;
static int nkinds = 0;

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

const PartKind *
part_kind_find(const char *name)
{
	for (int i = 0; i < nkinds; i++)
		if (strcmp(kinds[i]->name, name) == 0)
			return kinds[i];
	elog(ERROR, "there is no kind of part \"%s\"", name);
}

/* ---- what is asked of all kinds ---- */

void
part_kinds_cancelled(int64 job)
{
	for (int i = 0; i < nkinds; i++)
		if (kinds[i]->cancelled != NULL)
			kinds[i]->cancelled(job);
}

typedef struct Polling
{
	const PartKind *kind;
	TimestampTz due;
} Polling;

static void
poll_body(void *arg)
{
	Polling *polling = arg;

	SPI_connect();
	polling->due = polling->kind->poll();
	SPI_finish();
}

/* Somebody's open transaction may be in the way: then in a second. */
static TimestampTz
poll_kind(const PartKind *kind)
{
	Polling polling = {kind, GetCurrentTimestamp() + USECS_PER_SEC};
	ErrorData *error;

	if (!subtransaction_run(poll_body, &polling, subtransaction_excuse_all,
							&error) &&
		error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("could not add parts of kind \"%s\" to a job: %s",
						kind->name, error->message)));
	return polling.due;
}

/* Within a transaction; when the first kind must be polled again. */
TimestampTz
part_kinds_poll(void)
{
	TimestampTz first = DT_NOEND;

	for (int i = 0; i < nkinds; i++)
		if (kinds[i]->poll != NULL)
			first = Min(first, poll_kind(kinds[i]));
	return first;
}
