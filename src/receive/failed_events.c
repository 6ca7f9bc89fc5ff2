/*
 * failed_events.c
 *		The system events of failed steps: system.event_failed and
 *		system.event_dead.
 *
 * Raised once for an event, a step and a SQLSTATE, in the transaction in which
 * the step failed.  Failures of one step, SQLSTATE and event type have the same
 * "group", and are one incident if the alert groups by it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "alert/alert.h"
#include "base/base.h"
#include "base/error_codes.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "handler/handler.h"
#include "inbox/event.h"
#include "receive/receive.h"
#include "receive/internal.h"

/* A failure, as it is reported */
typedef struct FailureReport
{
	const Event *event;
	const StepFailure *failure;
	const char *sqlstate;
	bool is_dead;
	bool is_held; /* until its handler is registered again */
	bool has_next;
	TimestampTz next; /* attempt */
} FailureReport;

/* The group of failures; "sqlstate" may be NULL. */
char *
failure_group(const char *step, const char *sqlstate, const char *event_type)
{
	return sqlstate != NULL ? psprintf("%s %s %s", step, sqlstate, event_type)
							: psprintf("%s %s", step, event_type);
}

/*
 * Can another attempt succeed without a change to data, schema or privileges?
 * Not after a data exception (22), a violated constraint (23), a missing object
 * or privilege (42), or SY005.
 */
static bool
retry_may_help(const FailureReport *report)
{
	int category = ERRCODE_TO_CATEGORY(report->failure->error->sqlerrcode);

	return category != ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION) &&
		   category !=
			   ERRCODE_TO_CATEGORY(ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION) &&
		   category != ERRCODE_TO_CATEGORY(
						   ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION) &&
		   report->failure->error->sqlerrcode != ERRCODE_NO_SUCH_NAME;
}

/* The event's next attempt, which may be one of another step. */
static void
read_next_attempt(FailureReport *report)
{
	static EngineStatement select = {
		"SELECT next_attempt_at FROM stripe_sync.event"
		" WHERE id = $1 AND account = $2"};

	report->next = statement_time(
		DT_NOEND, &select,
		ARGS(arg_text(report->event->id), arg_text(report->event->account)));
	report->has_next = report->next != DT_NOEND;
}

static char *
utc(TimestampTz at)
{
	pg_time_t seconds = timestamptz_to_time_t(at);
	char text[64];

	pg_strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC",
				pg_gmtime(&seconds));
	return pstrdup(text);
}

static int
tries_left(const FailureReport *report)
{
	return Max(guc_max_attempts - report->failure->tries, 0);
}

/* Sentences: what happens without intervention, and what has to be done. */
static char *
remedy_words(const FailureReport *report)
{
	StringInfoData remedy;
	int left = tries_left(report);

	if (report->is_held)
		return "The event waits until the handler is registered again; no "
			   "attempt is counted meanwhile.";
	initStringInfo(&remedy);
	appendStringInfoString(
		&remedy,
		retry_may_help(report)
			? "Another attempt may succeed"
			: "Another attempt cannot succeed before the cause is fixed");
	if (report->is_dead)
		appendStringInfo(
			&remedy,
			"; all %d attempts have been made, and there will be no more",
			report->failure->tries);
	else if (report->has_next)
		appendStringInfo(&remedy, "; next attempt %s, %d %s left",
						 utc(report->next), left, left == 1 ? "is" : "are");
	appendStringInfoChar(&remedy, '.');
	return remedy.data;
}

/* The object as a message names it */
static char *
object_words(const Event *event)
{
	if (event->object_type == NULL)
		return "no object";
	return event->object_id
			   ? psprintf("%s %s", event->object_type, event->object_id)
			   : pstrdup(event->object_type);
}

/* The object of the system event */
static Jsonb *
report_object(const FailureReport *report)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_build_object('id', $1, 'event', $1,"
		" 'event_type', $2, 'object_type', $3, 'object_id', $4, 'object', $5,"
		" 'step', $6, 'sqlstate', $7, 'error', $8, 'group', $9, 'remedy', $10,"
		" 'look', $11, 'retry_helps', $12, 'attempts_left', $13,"
		" 'next_attempt_at', pg_catalog.floor(EXTRACT(epoch FROM $14)), 'run', $15)"};
	const Event *event = report->event;
	const StepFailure *failure = report->failure;

	return statement_jsonb(
		&build, ARGS(arg_text(event->id), arg_text(event->type),
					 arg_text(event->object_type), arg_text(event->object_id),
					 arg_text(object_words(event)), arg_text(failure->step),
					 arg_text(report->sqlstate),
					 arg_text(psprintf("%s: %s", report->sqlstate,
									   failure->error->message)),
					 arg_text(failure_group(failure->step, report->sqlstate,
											event->type)),
					 arg_text(remedy_words(report)),
					 arg_text(psprintf("SELECT stripe_sync.explain_event(%s)",
									   quote_literal_cstr(event->id))),
					 arg_bool(retry_may_help(report)),
					 arg_int4(report->is_dead ? 0 : tries_left(report)),
					 arg_if(report->has_next && !report->is_dead,
							arg_time(report->next)),
					 arg_text(psprintf("SELECT * FROM stripe_sync.replay(%s)",
									   quote_literal_cstr(event->id)))));
}

#define LONGEST_ID 300 /* bytes of a report's id */

/*
 * An id of what is reported, the same for another attempt with the same error:
 * alerts count an id once.
 */
static char *
report_id(const FailureReport *report)
{
	char *id = psprintf("sys_%s_%s_%s_%s", report->is_dead ? "dead" : "failed",
						report->event->id, report->sqlstate,
						report->failure->step);
	int length = strlen(id);

	if (length <= LONGEST_ID)
		return id;
	return psprintf("sys_%s_%016llx", report->is_dead ? "dead" : "failed",
					(unsigned long long) hash_bytes_extended(
						(const unsigned char *) id, length, 0));
}

/*
 * Waits for no group's lock: this transaction may hold those of the event's own
 * alerts, and waiting out of their order could deadlock.  If a lock is not free,
 * the report is left to the next attempt.
 */
static void
report_failure(const StepRun *run, const StepFailure *failure)
{
	Step step = {unconstify(char *, failure->step), failure->tries};
	FailureReport report = {.event = run->event,
							.failure = failure,
							.is_held = step_hold(&step) == HANDLER_ANOTHERS};
	const char *type;

	report.is_dead = !report.is_held && step_is_dead(&step);
	report.sqlstate = pstrdup(unpack_sql_state(failure->error->sqlerrcode));
	type = report.is_dead ? "system.event_dead" : "system.event_failed";
	if (!alert_wanted(type))
		return;
	read_next_attempt(&report);
	alert_report(type, report_id(&report), run->event, report_object(&report),
				 false);
}

/*
 * Raise the system events of the run's failures, if alerts use them.  Called
 * after step_settle(), as it reads when the next attempt is due.
 */
void
failures_report(const StepRun *run)
{
	RoleScope scope;
	ListCell *cell;

	if (run->failures == NIL)
		return;
	scope = role_enter_engine();
	foreach(cell, run->failures)
		report_failure(run, lfirst(cell));
	role_leave(&scope);
}
