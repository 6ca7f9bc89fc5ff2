/*
 * command_status.c
 *		/stripe status: what the doctor has found.
 */
#include "postgres.h"

#include "doctor/doctor.h"
#include "message/message.h"
#include "wording/wording.h"
#include "bot/internal.h"

#define MOST_TIME	  400 /* milliseconds for looks; the rest is the worker's */
#define MOST_FINDINGS 15
#define MOST_DETAIL	  400 /* columns */
#define MOST_HINT	  400 /* bytes */

static char *
finding_text(const DoctorRow *row)
{
	const Finding *finding = &row->finding;
	char *hint = hint_line(finding->hint, MOST_HINT);
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfo(&out, "%s *%s* (%s): %s",
					 finding->status == FINDING_FAIL ? ":x:" : ":warning:",
					 mrkdwn_escape(row->item), row->area,
					 mrkdwn_escape(words_plain(
						 finding->detail ? finding->detail : "", MOST_DETAIL)));
	if (hint != NULL)
		appendStringInfo(&out, "\n%s", command_code(hint));
	else
		appendStringInfo(&out, "\nSee %s.", mrkdwn_escape(row->page));
	return out.data;
}

/* Counts by status, muted findings apart */
typedef struct Summary
{
	int counts[FINDING_UNKNOWN + 1];
	int muted;
} Summary;

static Summary
count_rows(List *rows)
{
	Summary summary = {0};
	ListCell *cell;

	foreach(cell, rows)
	{
		const DoctorRow *row = lfirst(cell);

		if (row->muted_until != 0 && row->finding.status != FINDING_OK)
			summary.muted++;
		else
			summary.counts[row->finding.status]++;
	}
	return summary;
}

static void
append_count(StringInfo out, int count, const char *what)
{
	if (count > 0)
		appendStringInfo(out, "%s%d %s", out->len > 0 ? ", " : "", count, what);
}

static char *
summary_text(const Summary *summary)
{
	StringInfoData out;

	initStringInfo(&out);
	append_count(&out, summary->counts[FINDING_FAIL], "failing");
	append_count(&out, summary->counts[FINDING_WARN],
				 summary->counts[FINDING_WARN] == 1 ? "warning" : "warnings");
	append_count(&out, summary->counts[FINDING_OK], "ok");
	append_count(&out, summary->counts[FINDING_UNKNOWN], "unknown");
	append_count(&out, summary->muted, "muted");
	return psprintf("%s *%s*%s%s",
					summary->counts[FINDING_FAIL] > 0	? ":x:"
					: summary->counts[FINDING_WARN] > 0 ? ":warning:"
														: ":white_check_mark:",
					out.data, guc_instance_name[0] != '\0' ? " on " : "",
					mrkdwn_escape(guc_instance_name));
}

/* Findings of a status that aren't muted, in mrkdwn */
static void
add_findings(List **texts, List *rows, FindingStatus status)
{
	ListCell *cell;

	foreach(cell, rows)
	{
		const DoctorRow *row = lfirst(cell);

		if (row->finding.status == status && row->muted_until == 0)
			*texts = lappend(*texts, finding_text(row));
	}
}

void
command_status(BotCall *call, const char *argument)
{
	List *rows = doctor_rows_within(MOST_TIME);
	Summary summary = count_rows(rows);
	List *texts = list_make1(summary_text(&summary));
	int left_out;

	add_findings(&texts, rows, FINDING_FAIL);
	add_findings(&texts, rows, FINDING_WARN);
	left_out = list_length(texts) - 1 - MOST_FINDINGS;
	if (left_out > 0)
		texts = lappend(list_truncate(texts, MOST_FINDINGS + 1),
						psprintf("... and %d more.", left_out));
	texts = lappend(
		texts, pstrdup("All of it: `SELECT * FROM stripe_sync.doctor();`"));
	command_tell(call, texts);
}
