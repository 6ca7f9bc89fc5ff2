/*
 * watch.c
 *		The worker's runs: every stripe_sync.doctor_interval all items, one by
 *		one, each in a transaction of its own.
 *
 * An item may take LOOK_LIMIT; one that was cut off is tried again, ATTEMPTS times
 * in a run: the first look of a process has plans and caches to make.  If it was
 * cut off each time, what was found before stands for STANDS_FOR, because a busy
 * machine is no finding; then it is unknown.
 *
 * When an item is due follows from its row in stripe_sync.finding, so that the
 * worker and CALL work() don't do it twice.  Heavy items are due between 2 and 5
 * in the server's time zone, and at once if they have never been looked at or
 * not for two days.
 *
 * Locks: ADVISORY_DOCTOR, never waited for; the row of the finding; those of
 * alert_system().  A crash leaves what the last commit has recorded; an event is
 * reported in the transaction that notes it as told.
 */
#include "postgres.h"

#include "pgtime.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "engine/engine.h"
#include "engine/worker_transaction.h"
#include "server/counters.h"
#include "server/server.h"
#include "doctor/internal.h"

#define ATTEMPTS	  5
#define STANDS_FOR	  USECS_PER_HOUR
#define LATER		  (60 * USECS_PER_SEC) /* the database may not send yet */
#define SOON		  USECS_PER_SEC		   /* another process looks */
#define NIGHT_BEGINS  2					   /* o'clock */
#define NIGHT_ENDS	  5
#define NIGHT_OVERDUE (47 * USECS_PER_HOUR)
#define MAX_ITEMS	  128

static TimestampTz due[MAX_ITEMS]; /* of each item, as far as it is known */
static int attempts;			   /* at the item that was cut off */

/* Look at what is due in the table, whatever this process knows. */
void
doctor_watch_reset(void)
{
	Assert(doctor_count() <= MAX_ITEMS);
	for (int i = 0; i < MAX_ITEMS; i++)
		due[i] = DT_NOBEGIN;
	attempts = 0;
}

/* ---- when an item is due ---- */

static TimestampTz
interval_after(TimestampTz time)
{
	return time + guc_doctor_interval * USECS_PER_SEC;
}

/* The last time at or before "now" when the clock showed that hour */
static TimestampTz
last_hour(TimestampTz now, int hour)
{
	struct pg_tm tm;
	fsec_t fsec;
	int zone;
	TimestampTz at;

	if (timestamp2tm(now, &zone, &tm, &fsec, NULL, session_timezone) != 0)
		return now;
	at = now -
		 ((tm.tm_hour * MINS_PER_HOUR + tm.tm_min) * SECS_PER_MINUTE +
		  tm.tm_sec) *
			 USECS_PER_SEC -
		 fsec + hour * USECS_PER_HOUR;
	return at <= now ? at : at - USECS_PER_DAY;
}

static TimestampTz
heavy_due(TimestampTz seen, TimestampTz now)
{
	TimestampTz night = last_hour(now, NIGHT_BEGINS);
	TimestampTz ends = night + (NIGHT_ENDS - NIGHT_BEGINS) * USECS_PER_HOUR;

	if (seen <= 0 || seen < now - NIGHT_OVERDUE || seen > now)
		return DT_NOBEGIN;
	if (seen < night && now < ends)
		return DT_NOBEGIN;
	return night + USECS_PER_DAY;
}

/* A time in the future was noted before the clock was set back. */
static TimestampTz
when_due(const DoctorItem *item, const RecordedFinding *record)
{
	TimestampTz now = GetCurrentTimestamp();

	if (record->progress != NULL)
		return DT_NOBEGIN;
	if (item->slice != NULL)
		return heavy_due(record->seen_at, now);
	if (record->seen_at <= 0 || record->seen_at > now)
		return DT_NOBEGIN;
	return interval_after(record->seen_at);
}

/* The item that is due first */
static int
first_due(void)
{
	int first = 0;

	for (int i = 1; i < doctor_count(); i++)
		if (due[i] < due[first])
			first = i;
	return first;
}

/* ---- a look ---- */

/* Is the last finding recent enough to stand after a look that was cut off? */
static bool
stands(const RecordedFinding *record)
{
	return record->finding.status != FINDING_UNKNOWN && record->seen_at > 0 &&
		   record->seen_at + STANDS_FOR > GetCurrentTimestamp();
}

/* Returns false if the item is still due. */
static bool
look_and_record(const DoctorItem *item, const RecordedFinding *record,
				Finding *finding)
{
	char *progress = record->progress;
	LookCost cost;
	bool finished = true;

	if (item->slice != NULL)
		finished = look_at_slice(item, LOOK_LIMIT, &progress, finding, &cost);
	else
		look_at_item(item, LOOK_LIMIT, finding, &cost);
	if (cost.timed_out && ++attempts < ATTEMPTS)
		return false;
	attempts = 0;
	if (cost.timed_out && stands(record))
		record_slow(item->key, &cost);
	else if (finished)
		record_write(item->key, finding, &cost);
	else
		record_progress(item->key, progress, &cost);
	return finished;
}

static void
look(int number, bool *raised)
{
	const DoctorItem *item = doctor_item(number);
	RecordedFinding record;
	Finding finding;

	(void) record_read(item->key, &record);
	due[number] = when_due(item, &record);
	if (due[number] > GetCurrentTimestamp())
		return;
	if (!look_and_record(item, &record, &finding))
		return;
	due[number] = interval_after(GetCurrentTimestamp());
	*raised = raise_finding(number, finding.critical);
}

bool
doctor_turn(TimestampTz *next, bool *raised)
{
	int number = first_due();
	bool mine = false;

	*raised = false;
	*next = due[number];
	if (guc_doctor_interval == 0)
		*next = DT_NOEND;
	if (*next > GetCurrentTimestamp())
		return false;
	worker_begin();
	if (!outbound_is_original())
		*next = GetCurrentTimestamp() + LATER;
	else if (!advisory_try_lock(ADVISORY_DOCTOR, 0))
		*next = GetCurrentTimestamp() + SOON;
	else
		mine = true;
	if (mine)
	{
		look(number, raised);
		*next = due[first_due()];
		if (*next > GetCurrentTimestamp())
			counter_add(COUNT_DOCTOR, "", "run"); /* nothing is left to do */
	}
	worker_commit();
	return mine;
}
