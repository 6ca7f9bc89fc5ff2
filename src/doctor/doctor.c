/*
 * doctor.c
 *		doctor(): a row for each item, the good ones too.
 *
 * What the caller or this server can't look at is taken from stripe_sync.finding,
 * with its age: items that need pg_read_all_stats for callers without it, and on
 * a standby what only the primary knows.  So are heavy items, once the worker has
 * looked at them.
 *
 * It runs in the caller's transaction, in the engine's scope, and writes nothing.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "doctor/internal.h"

#define CALLER_LIMIT 250 /* milliseconds for an item */
#define RECENT		 600 /* seconds: the worker looks more often than this */

/* Why the item can't be looked at here; NULL if it can */
static const char *
obstacle(const DoctorItem *item)
{
	if ((item->flags & DOCTOR_SERVER) != 0 &&
		!has_privs_of_role(role_caller(), ROLE_PG_READ_ALL_STATS))
		return "it needs the privileges of pg_read_all_stats, and the worker has not looked at it yet";
	if ((item->flags & DOCTOR_SERVER) != 0 &&
		!has_privs_of_role(engine_owner(), ROLE_PG_READ_ALL_STATS))
		return "the owner of the extension lacks the privileges of pg_read_all_stats";
	if ((item->flags & DOCTOR_PRIMARY) != 0 && RecoveryInProgress())
		return "only the primary knows, and its worker has not looked at it yet";
	return NULL;
}

static const RecordedFinding *
find_record(List *records, const char *key)
{
	ListCell *cell;

	foreach(cell, records)
	{
		const RecordedFinding *record = lfirst(cell);

		if (strcmp(record->key, key) == 0)
			return record;
	}
	return NULL;
}

static bool
is_found(const RecordedFinding *record)
{
	return record != NULL && record->seen_at > 0;
}

/* Take the worker's finding, with its age. */
static void
take_record(DoctorRow *row, const RecordedFinding *record, const char *reason)
{
	if (!is_found(record))
	{
		finding_unknown(&row->finding, "%s", reason);
		return;
	}
	row->finding = record->finding;
	row->seen_at = record->seen_at;
	row->finding.detail = psprintf(
		"%s (as of %s ago)", record->finding.detail,
		words_age((GetCurrentTimestamp() - record->seen_at) /
				  (double) USECS_PER_SEC));
}

/* A row of the item, without what is found */
static DoctorRow *
start_row(int number, const RecordedFinding *record)
{
	const DoctorItem *item = doctor_item(number);
	DoctorRow *row = palloc0(sizeof(DoctorRow));

	row->area = doctor_area(number);
	row->key = item->key;
	row->item = item->item;
	row->page = doctor_page(item->key);
	row->seen_at = GetCurrentTimestamp();
	row->muted_until = record != NULL ? record->muted_until : 0;
	return row;
}

/* Look at the item, or take what was found if it can't be looked at. */
static void
fill_row(DoctorRow *row, int number, const RecordedFinding *record, int limit)
{
	const DoctorItem *item = doctor_item(number);
	const char *reason = obstacle(item);
	LookCost cost;

	if (reason != NULL || (item->slice != NULL && is_found(record)))
		take_record(row, record, reason);
	else if (item->slice != NULL)
		look_at_first_slices(item, limit, &row->finding);
	else
		look_at_item(item, limit, &row->finding, &cost);
}

static int
milliseconds_until(TimestampTz until)
{
	return (int) Max((until - GetCurrentTimestamp()) / 1000, 0);
}

/* With DT_NOEND every item is looked at. */
static void
fill_row_until(DoctorRow *row, int number, const RecordedFinding *record,
			   TimestampTz until)
{
	int left = until == DT_NOEND ? CALLER_LIMIT : milliseconds_until(until);

	if (until != DT_NOEND && is_found(record) &&
		GetCurrentTimestamp() - record->seen_at < RECENT * USECS_PER_SEC)
		take_record(row, record, NULL);
	else if (left > 0)
		fill_row(row, number, record, Min(left, CALLER_LIMIT));
	else
		take_record(row, record, "there was no time to look at it");
}

static List *
rows_until(TimestampTz until)
{
	RoleScope scope = role_enter_engine();
	List *records = record_read_all();
	List *rows = NIL;

	for (int i = 0; i < doctor_count(); i++)
	{
		const RecordedFinding *record = find_record(records,
													doctor_item(i)->key);
		DoctorRow *row = start_row(i, record);

		fill_row_until(row, i, record, until);
		rows = lappend(rows, row);
	}
	role_leave(&scope);
	return rows;
}

List *
doctor_rows(void)
{
	return rows_until(DT_NOEND);
}

List *
doctor_rows_within(int milliseconds)
{
	return rows_until(
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), milliseconds));
}

/* ---- SQL ---- */

static StatementArg
figure_argument(const Finding *finding)
{
	Datum figure = DirectFunctionCall1(float8_numeric,
									   Float8GetDatum(finding->figure));

	return arg_if(finding->has_figure, arg_datum(NUMERICOID, figure));
}

/* doctor() */
ENGINE_FUNCTION(stripe_sync_doctor)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell *cell;

	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, doctor_rows())
	{
		const DoctorRow *row = lfirst(cell);
		const Finding *finding = &row->finding;

		result_add_row(
			result,
			ARGS(arg_text(row->area), arg_text(row->item),
				 arg_text(finding_status_name(finding->status)),
				 arg_text(finding->detail), arg_text(finding->hint),
				 arg_text(row->key), figure_argument(finding),
				 arg_text(finding->has_figure ? finding->unit : NULL),
				 arg_text(row->page),
				 arg_if(row->muted_until != 0, arg_time(row->muted_until))));
	}
	return (Datum) 0;
}
