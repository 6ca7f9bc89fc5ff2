/*
 * raise.c
 *		The system events of findings.
 *
 * system.doctor is reported when an item has failed in two runs in a row, and
 * again if the failure has become critical; system.doctor_well when it has been ok
 * or warn in two runs in a row since.  A muted finding is not reported, nor one
 * whose fault has a system event of its own that a rule matches, nor one of the
 * area "postgres" that is not critical.  What no rule matches is not noted as
 * told: a rule that is added later gets it.
 */
#include "postgres.h"

#include "alert/alert.h"
#include "engine/statement.h"
#include "doctor/internal.h"

#define FAILED "system.doctor"
#define WELL   "system.doctor_well"
#define RUNS   2   /* in a row */
#define HINT   400 /* bytes */

/* data.object of the event; its id groups the incidents */
static Jsonb *
finding_object(int number, const Finding *finding)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_build_object('id', $1, 'key', $1, 'area', $2,"
		" 'item', $3, 'status', $4, 'detail', $5, 'hint', $6, 'figure', $7,"
		" 'unit', $8, 'page', $9, 'critical', $10)"};
	const DoctorItem *item = doctor_item(number);

	return statement_jsonb(
		&build, ARGS(arg_text(item->key), arg_text(doctor_area(number)),
					 arg_text(item->item),
					 arg_text(finding_status_name(finding->status)),
					 arg_text(finding->detail),
					 arg_text(hint_line(finding->hint, HINT)),
					 arg_if(finding->has_figure, arg_float8(finding->figure)),
					 arg_text(finding->unit), arg_text(doctor_page(item->key)),
					 arg_bool(finding->critical)));
}

/* Is it for Slack at all?  Of Postgres only what is critical is. */
static bool
is_for_slack(int number, bool critical)
{
	return critical || strcmp(doctor_area(number), "postgres") != 0;
}

static bool
must_raise(const DoctorItem *item, const RecordedFinding *record)
{
	if (record->finding.status != FINDING_FAIL || record->fails < RUNS ||
		record->muted_until != 0)
		return false;
	if (item->own_event != NULL && alert_wanted(item->own_event))
		return false;
	if (record->told != NULL &&
		(!record->finding.critical || strcmp(record->told, "critical") == 0))
		return false;
	return alert_wanted(FAILED);
}

/*
 * Report what the recorded finding of the item calls for.  Returns whether it
 * reported anything.
 */
bool
raise_finding(int number, bool critical)
{
	const DoctorItem *item = doctor_item(number);
	RecordedFinding record;
	const Finding *finding = &record.finding;

	if (!record_read(item->key, &record))
		return false;
	record.finding.critical = critical;
	if (is_for_slack(number, critical) && must_raise(item, &record))
	{
		record_told(item->key, critical ? "critical" : "fail");
		alert_system(FAILED, finding_object(number, finding));
		return true;
	}
	if (record.told == NULL || record.wells < RUNS)
		return false;
	record_told(item->key, NULL);
	alert_system(WELL, finding_object(number, finding));
	return true;
}
