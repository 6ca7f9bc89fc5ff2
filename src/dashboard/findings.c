/*
 * findings.c
 *		The doctor's findings, the worst first.
 */
#include "postgres.h"

#include "base/subtransaction.h"

#include "dashboard/internal.h"

bool
finding_is_muted(const DoctorRow *row, TimestampTz now)
{
	return row->muted_until > now;
}

/* fail, warn, unknown, ok; a muted one is after those that are not */
static int
rank_of(const DoctorRow *row, TimestampTz now)
{
	static const int ranks[] = {
		[FINDING_FAIL] = 0, [FINDING_WARN] = 1, [FINDING_UNKNOWN] = 2, [FINDING_OK] = 4};
	int rank = ranks[row->finding.status];

	return rank < 4 && finding_is_muted(row, now) ? 3 : rank;
}

static void
look(void *arg)
{
	*(List **) arg = doctor_rows();
}

/* In the order of the items among those of one rank */
static List *
sorted(List *rows, TimestampTz now)
{
	List *result = NIL;

	for (int rank = 0; rank <= 4; rank++)
	{
		ListCell *cell;

		foreach(cell, rows)
			if (rank_of(lfirst(cell), now) == rank)
				result = lappend(result, lfirst(cell));
	}
	return result;
}

/* An error of the doctor's is shown and not raised. */
void
findings_read(Findings *findings, TimestampTz now)
{
	List *rows = NIL;
	ListCell *cell;
	ErrorData *error;

	memset(findings, 0, sizeof(*findings));
	if (!subtransaction_run(look, &rows, NULL, &error))
	{
		findings->failure = pstrdup(error->message);
		return;
	}
	findings->rows = sorted(rows, now);
	foreach(cell, findings->rows)
	{
		const DoctorRow *row = lfirst(cell);

		if (row->finding.status != FINDING_OK && finding_is_muted(row, now))
			findings->muted++;
		else
			findings->count[row->finding.status]++;
	}
}

/* 1 failing, 2 warnings, 3 unknown, 30 ok */
char *
findings_summary(const Findings *findings)
{
	const int *count = findings->count;
	StringInfoData out;

	if (findings->failure != NULL)
		return pstrdup("not looked at");
	initStringInfo(&out);
	if (count[FINDING_FAIL] > 0)
		appendStringInfo(&out, "%d failing, ", count[FINDING_FAIL]);
	if (count[FINDING_WARN] > 0)
		appendStringInfo(
			&out, "%s, ",
			plural_words(count[FINDING_WARN], "warning", "warnings"));
	if (count[FINDING_UNKNOWN] > 0)
		appendStringInfo(&out, "%d unknown, ", count[FINDING_UNKNOWN]);
	if (findings->muted > 0)
		appendStringInfo(&out, "%d muted, ", findings->muted);
	appendStringInfo(&out, "%d ok", count[FINDING_OK]);
	return out.data;
}
