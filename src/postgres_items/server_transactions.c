/*
 * server_transactions.c
 *		Items: transactions of this database that are idle, long, or block others.
 *
 * stripe_sync.doctor_transaction_age is the age at which an idle one is reported.
 * One that is active may be twelve times that old (a report, a dump), and a
 * session may wait for a lock for a thirtieth of it.  No query text is read.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/base.h"
#include "postgres_items/server_looks.h"

#define IDLE_FAIL_TIMES	   12
#define ACTIVE_TIMES	   12
#define ACTIVE_FAIL_TIMES  288 /* a day at 5 minutes */
#define BLOCKED_SHARE	   30
#define BLOCKED_FAIL_TIMES 6

/* The worst of the sessions that an item looks for */
typedef struct Culprit
{
	int64 sessions;
	char *pid;
	char *who;
	double age; /* seconds */
} Culprit;

static double
reported_age(void)
{
	return guc_doctor_transaction_age / 1000.0;
}

static Culprit
read_culprit(EngineStatement *select, const StatementArg *args, int nargs)
{
	Culprit culprit = {0};
	Rows rows;

	rows_open(&rows, select, args, nargs);
	if (rows_next(&rows))
	{
		culprit.pid = rows_text(&rows);
		culprit.who = rows_text(&rows);
		culprit.age = rows_float8(&rows, 0);
		culprit.sessions = rows_int8(&rows, 0);
	}
	rows_close(&rows);
	return culprit;
}

/* "role app, application \"shop\"" */
#define WHO                                                                    \
	"concat('role ', a.usename, nullif(concat(', application ',"               \
	" a.application_name), ', application '))"

static void
judge(Finding *finding, const Culprit *culprit, double fail, const char *what)
{
	char *words = psprintf("%s %s; the oldest, process %s (%s), for %s",
						   words_count(culprit->sessions, "session", "sessions"),
						   what, culprit->pid, server_name(culprit->who),
						   words_age(culprit->age));

	if (culprit->age < fail)
		finding_warn(finding, "%s", words);
	else
		finding_fail(finding, "%s", words);
	finding_hint(finding, "SELECT pg_terminate_backend(%s);", culprit->pid);
}

/* ---- idle in transaction ---- */

void
look_at_idle_in_transaction(Finding *finding)
{
	static EngineStatement select = {
		"SELECT a.pid, " WHO ","
		" EXTRACT(epoch FROM clock_timestamp() - a.state_change)::float8,"
		" count(*) OVER () FROM pg_stat_activity a"
		" WHERE a.datname = current_database() AND a.state LIKE 'idle in transaction%'"
		"  AND a.state_change <= clock_timestamp() - make_interval(secs => $1)"
		" ORDER BY 3 DESC LIMIT 1"};
	double limit = reported_age();
	Culprit worst = read_culprit(&select, ARGS(arg_float8(limit)));

	finding_figure(finding, worst.age, "s");
	if (worst.pid == NULL)
		finding_ok(finding, "no session has been idle in a transaction for %s",
				   words_age(limit));
	else
		judge(finding, &worst, limit * IDLE_FAIL_TIMES, "idle in a transaction");
}

/* ---- long transactions ---- */

/* The extension's worker has no long ones, and autovacuum's do no harm. */
void
look_at_long_transactions(Finding *finding)
{
	static EngineStatement select = {
		"SELECT a.pid, " WHO ","
		" EXTRACT(epoch FROM clock_timestamp() - a.xact_start)::float8,"
		" count(*) OVER () FROM pg_stat_activity a"
		" WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()"
		"  AND a.leader_pid IS NULL AND a.backend_type NOT IN"
		"   ('autovacuum worker', 'walsender', 'stripe_sync worker')"
		"  AND a.xact_start <= clock_timestamp() - make_interval(secs => $1)"
		"  AND NOT (a.state LIKE 'idle in transaction%'"
		"   AND a.state_change <= clock_timestamp() - make_interval(secs => $2))"
		" ORDER BY 3 DESC LIMIT 1"};
	double limit = reported_age() * ACTIVE_TIMES;
	Culprit worst = read_culprit(
		&select, ARGS(arg_float8(limit), arg_float8(reported_age())));

	finding_figure(finding, worst.age, "s");
	if (worst.pid == NULL)
		finding_ok(finding, "no transaction is older than %s", words_age(limit));
	else
		judge(finding, &worst, reported_age() * ACTIVE_FAIL_TIMES,
			  "in a long transaction");
}

/* ---- locks ---- */

/* The session that has waited for longest */
static Culprit
read_waiter(double limit)
{
	static EngineStatement select = {
		"SELECT a.pid, " WHO ","
		" EXTRACT(epoch FROM clock_timestamp() - l.waitstart)::float8,"
		" count(*) OVER () FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid"
		" WHERE NOT l.granted AND a.datname = current_database()"
		"  AND l.waitstart <= clock_timestamp() - make_interval(secs => $1)"
		" ORDER BY 3 DESC LIMIT 1"};

	return read_culprit(&select, ARGS(arg_float8(limit)));
}

/*
 * At the head of the queue: the process that blocks and waits for none, "0" for a
 * prepared transaction.
 */
static char *
read_blocker(const char *waiter)
{
	static EngineStatement select = {
		"WITH RECURSIVE chain (pid, depth) AS ("
		"  SELECT $1, 0 UNION"
		"  SELECT b, c.depth + 1 FROM chain c,"
		"   unnest(CASE WHEN c.pid <> 0 THEN pg_blocking_pids(c.pid) END) AS b"
		"  WHERE c.depth < 5)"
		" SELECT pid FROM chain WHERE depth > 0 ORDER BY depth DESC LIMIT 1"};

	return statement_text(&select, ARGS(arg_int4(atoi(waiter))));
}

/*
 * The oldest prepared transaction that has a lock for which somebody waits.  Its
 * locks have no pid; the one on its own transaction ID says which it is.
 */
static char *
read_blocking_prepared(void)
{
	static EngineStatement select = {
		"SELECT p.gid FROM pg_locks w JOIN pg_locks h ON h.granted AND h.pid IS NULL"
		"  AND h.locktype = w.locktype AND h.database IS NOT DISTINCT FROM w.database"
		"  AND h.relation IS NOT DISTINCT FROM w.relation"
		"  AND h.transactionid IS NOT DISTINCT FROM w.transactionid"
		" JOIN pg_locks x ON x.locktype = 'transactionid' AND x.granted"
		"  AND x.pid IS NULL AND x.virtualtransaction = h.virtualtransaction"
		" JOIN pg_prepared_xacts p ON p.transaction = x.transactionid"
		" WHERE NOT w.granted ORDER BY p.prepared LIMIT 1"};

	return statement_text(&select, NO_ARGS);
}

static void
hint_blocker(Finding *finding, const char *blocker)
{
	if (strcmp(blocker, "0") != 0)
		finding_hint(finding, "SELECT pg_terminate_backend(%s);", blocker);
	else
	{
		char *gid = read_blocking_prepared();

		if (gid != NULL)
			finding_hint(finding, "ROLLBACK PREPARED %s;", hint_literal(gid));
	}
}

void
look_at_blocked_locks(Finding *finding)
{
	double limit = reported_age() / BLOCKED_SHARE;
	Culprit worst = read_waiter(limit);
	char *blocker = worst.pid != NULL ? read_blocker(worst.pid) : NULL;
	char *words;

	finding_figure(finding, worst.age, "s");
	if (blocker == NULL)
	{
		finding_ok(finding, "no session has waited for a lock for %s",
				   words_age(limit));
		return;
	}
	words = psprintf(
		"%s for a lock; process %s (%s) for %s, because of %s",
		words_count(worst.sessions, "session waits", "sessions wait"),
		worst.pid, server_name(worst.who), words_age(worst.age),
		strcmp(blocker, "0") == 0 ? "a prepared transaction"
								  : psprintf("process %s", blocker));
	if (worst.age < limit * BLOCKED_FAIL_TIMES)
		finding_warn(finding, "%s", words);
	else
		finding_fail(finding, "%s", words);
	hint_blocker(finding, blocker);
}
