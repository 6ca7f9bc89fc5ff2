/*
 * server_worker.c
 *		Items: does the worker of this database run, may it send, and do library
 *		and extension fit?
 *
 * A worker that is paused, off or inactive runs: that is an item of its own.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port.h"
#include "storage/fd.h"
#include "utils/guc.h"

#include "postgres_items/server_looks.h"
#include "server/server.h"
#include "server/worker_slots.h"

#define BEHIND_AFTER (5 * SECS_PER_MINUTE) /* seconds that something is due */
#define STUCK_AFTER	 SECS_PER_MINUTE	   /* starting or leaving */

#define LAST_FAILURES                                                          \
	"SELECT last_at, ref AS sqlstate, detail, count FROM stripe_sync.journal"  \
	" WHERE what = 'worker.failed' ORDER BY last_at DESC LIMIT 3;"

/* ---- worker ---- */

typedef struct WorkerState
{
	char *pid; /* NULL: no process */
	char *state;
	double since; /* seconds */
	bool failed;  /* within the last seconds */
} WorkerState;

/* Returns false if the database has no slot: no worker has found the extension. */
static bool
read_worker(WorkerState *worker)
{
	static EngineStatement select = {
		"SELECT w.pid, w.state,"
		" EXTRACT(epoch FROM clock_timestamp() - w.since)::float8,"
		" EXISTS (SELECT FROM stripe_sync.journal j"
		"   WHERE j.what = 'worker.failed' AND j.at > now() - interval '2 hours'"
		"   AND j.last_at > clock_timestamp() - interval '3 seconds')"
		" FROM stripe_sync.worker w WHERE w.database = current_database()"};
	bool found;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	found = rows_next(&rows);
	if (found)
	{
		worker->pid = rows_text(&rows);
		worker->state = rows_text(&rows);
		worker->since = rows_float8(&rows, 0);
		worker->failed = rows_bool(&rows, false);
	}
	rows_close(&rows);
	return found;
}

/* For how many seconds an event has been due, 0 if none is */
static double
events_behind(void)
{
	static EngineStatement select = {
		"SELECT EXTRACT(epoch FROM clock_timestamp() - next_attempt_at)::float8"
		" FROM stripe_sync.event WHERE next_attempt_at <= clock_timestamp()"
		" ORDER BY next_attempt_at LIMIT 1"};
	double seconds = 0;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
		seconds = rows_float8(&rows, 0);
	rows_close(&rows);
	return seconds;
}

/* The same of messages that nothing but the worker's absence holds up */
static double
messages_behind(void)
{
	static EngineStatement select = {
		"SELECT coalesce(max(EXTRACT(epoch FROM clock_timestamp() - m.due_at)), 0)::float8"
		" FROM stripe_sync.destination d CROSS JOIN LATERAL"
		" (SELECT due_at FROM stripe_sync.message m"
		"   WHERE m.destination = d.name AND m.state = 'waiting'"
		"     AND m.blocked_by IS NULL AND m.due_at < 'infinity'"
		"   ORDER BY m.due_at LIMIT 1) m"
		" WHERE d.enabled"};
	double seconds = 0;
	Rows rows;

	if (!outbound_allowed("slack"))
		return 0;
	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
		seconds = rows_float8(&rows, 0);
	rows_close(&rows);
	return seconds;
}

/* Without the preload somebody must call work(). */
static void
judge_without_worker(Finding *finding)
{
	double behind = Max(events_behind(), messages_behind());

	finding_figure(finding, behind, "s");
	if (behind < BEHIND_AFTER)
	{
		finding_ok(finding, "there is no worker, and nothing is overdue: "
							"work() is called in its place");
		return;
	}
	finding_fail(finding,
				 "there is no worker, and something has been due for %s",
				 words_age(behind));
	finding_hint(finding, "CALL stripe_sync.work();");
}

static void
judge_missing(Finding *finding, const char *state)
{
	finding_fail(finding, "no worker runs in this database (%s)", state);
	finding_hint(finding,
				 "ALTER SYSTEM SET max_worker_processes = %d;\n"
				 "-- then restart the server",
				 atoi(GetConfigOption("max_worker_processes", false, false)) + 8);
}

static bool
begins(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* The states of src/worker/worker.c and src/server/launcher.c */
static void
judge_state(Finding *finding, const WorkerState *worker)
{
	double behind = events_behind();

	finding_figure(finding, behind, "s");
	if (worker->failed || begins(worker->state, "failing"))
	{
		finding_fail(finding, "the worker fails, and tries again each second");
		finding_hint(finding, LAST_FAILURES);
	}
	else if (begins(worker->state, "idle"))
	{
		finding_fail(finding, "the worker does nothing (%s)", worker->state);
		finding_hint(finding, "ALTER EXTENSION stripe_sync UPDATE;");
	}
	else if ((begins(worker->state, "starting") ||
			  begins(worker->state, "leaving")) &&
			 worker->since > STUCK_AFTER)
		finding_fail(finding, "the worker has been %s for %s", worker->state,
					 words_age(worker->since));
	else if (behind >= BEHIND_AFTER)
	{
		finding_warn(finding,
					 "the worker runs, but an event has been due for %s",
					 words_age(behind));
		finding_hint(finding, LAST_FAILURES);
	}
	else
		finding_ok(finding, "the worker runs, process %s (%s)", worker->pid,
				   worker->state);
}

void
look_at_worker(Finding *finding)
{
	WorkerState worker;

	if (!slots_ready())
		judge_without_worker(finding);
	else if (!read_worker(&worker))
		judge_missing(finding, "none has been started");
	else if (worker.pid == NULL)
		judge_missing(finding, worker.state);
	else
		judge_state(finding, &worker);
}

/* ---- preload ---- */

void
look_at_preload(Finding *finding)
{
	if (slots_ready())
	{
		finding_ok(finding, "stripe_sync is preloaded");
		return;
	}
	finding_warn(finding, "stripe_sync is not in \"shared_preload_libraries\": "
						  "no worker runs, and nothing is counted");
	finding_hint(finding, "%s", server_preload_hint("stripe_sync"));
}

/* ---- outbound ---- */

/* Counted up to 10000 */
static char *
waiting_words(void)
{
	static EngineStatement select = {
		"SELECT count(*) FROM (SELECT FROM stripe_sync.message"
		" WHERE state = 'waiting' AND due_at < 'infinity' LIMIT 10000) AS m"};
	int64 count = statement_int8(0, &select, NO_ARGS);

	return words_count(count, "message waits", "messages wait");
}

static void
judge_pause(Finding *finding)
{
	bool slack = outbound_paused("slack");
	bool stripe = outbound_paused("stripe");

	if (!slack && !stripe)
	{
		finding_ok(finding, "this database sends messages and calls Stripe");
		return;
	}
	finding_warn(finding, "%s%s%s %s paused; %s",
				 slack ? "messages to Slack" : "",
				 slack && stripe ? " and " : "",
				 stripe ? "requests to Stripe" : "", "are", waiting_words());
	finding_hint(finding, "SELECT stripe_sync.resume(%s);",
				 slack && stripe ? ""
				 : slack		 ? "'slack'"
								 : "'stripe'");
}

void
look_at_outbound(Finding *finding)
{
	OutboundState state = outbound_state();

	switch (state)
	{
		case OUTBOUND_UNNOTED:
			finding_ok(finding, "nothing has been set up in this database");
			break;
		case OUTBOUND_ON:
			judge_pause(finding);
			break;
		case OUTBOUND_OFF:
			finding_warn(finding, "stripe_sync.outbound is off; %s",
						 waiting_words());
			finding_hint(finding, "%s",
						 server_setting_hint("stripe_sync.outbound", "on"));
			break;
		case OUTBOUND_COPY:
		case OUTBOUND_RESTORED:
			finding_warn(finding, "nothing is sent from this database: %s; %s",
						 outbound_reason(state), waiting_words());
			finding_hint(finding, "SELECT stripe_sync.activate();");
			break;
	}
}

/* ---- versions ---- */

#define CONTROL_FILE "/extension/stripe_sync.control"

/* The version on disk; NULL if the file isn't in the usual place */
static char *
version_on_disk(void)
{
	char path[MAXPGPATH];
	char line[256];
	char version[64];
	char *found = NULL;
	FILE *file;

	get_share_path(my_exec_path, path);
	strlcat(path, CONTROL_FILE, sizeof(path));
	file = AllocateFile(path, "r");
	if (file == NULL)
		return NULL;
	while (found == NULL && fgets(line, sizeof(line), file) != NULL)
		if (sscanf(line, " default_version = '%63[^']'", version) == 1)
			found = pstrdup(version);
	FreeFile(file);
	return found;
}

/*
 * Three versions: that of the files on disk, that of the library which this
 * session has loaded, and the extension's in this database.
 */
void
look_at_version(Finding *finding)
{
	static EngineStatement select = {
		"SELECT extversion FROM pg_extension WHERE extname = 'stripe_sync'"};
	char *installed = statement_text(&select, NO_ARGS);
	char *on_disk = version_on_disk();

	if (on_disk != NULL && strcmp(on_disk, STRIPE_SYNC_VERSION) != 0)
	{
		finding_warn(finding, "version %s is on disk, the server has loaded %s",
					 on_disk, STRIPE_SYNC_VERSION);
		finding_hint(finding, "-- restart the server, then\n"
							  "ALTER EXTENSION stripe_sync UPDATE;");
	}
	else if (installed == NULL || strcmp(installed, STRIPE_SYNC_VERSION) != 0)
	{
		finding_warn(finding,
					 "the extension is of version %s, its library of %s",
					 installed, STRIPE_SYNC_VERSION);
		finding_hint(finding, "ALTER EXTENSION stripe_sync UPDATE;");
	}
	else
		finding_ok(finding, "extension and library are of version %s",
				   installed);
}
