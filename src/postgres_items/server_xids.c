/*
 * server_xids.c
 *		Items: what keeps VACUUM from removing dead rows, and wraparound of
 *		transaction IDs.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/guc.h"

#include "postgres_items/server_looks.h"

/* Shares of autovacuum_freeze_max_age (10 and 100 million by default) */
#define HORIZON_WARN_SHARE	  20
#define HORIZON_FAIL_SHARE	  2
#define PREPARED_WARN_SECONDS SECS_PER_HOUR

#define HALF_OF_ALL 1000000000.0 /* about half of what there is */

/* ---- the horizon ---- */

typedef struct Holder
{
	char *cause; /* session, slot, prepared, standby */
	char *name;	 /* pid, slot, gid, pid of the WAL sender */
	char *who;
	double xids;
	double seconds; /* since it was prepared */
	bool active;	/* a slot that is in use */
} Holder;

/*
 * A slot that a standby uses for feedback shows as a slot.  VACUUM itself and
 * sessions of other databases hold nothing up here.
 */
static bool
read_holder(Holder *holder)
{
	static EngineStatement select = {
		"SELECT h.cause, h.name, h.who, h.xids::float8, h.seconds, h.active FROM ("
		" SELECT 'session', a.pid::text, concat('role ', a.usename),"
		"  greatest(age(a.backend_xmin), age(a.backend_xid)), 0::float8, true"
		"  FROM pg_stat_activity a WHERE a.datname = current_database()"
		"  AND a.pid <> pg_backend_pid()"
		"  AND a.backend_type NOT IN ('autovacuum worker', 'walsender')"
		"  AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid)"
		" UNION ALL SELECT 'slot', s.slot_name::text,"
		"  CASE WHEN s.active THEN 'in use' ELSE 'not in use' END,"
		"  greatest(age(s.xmin), age(s.catalog_xmin)), 0, s.active"
		"  FROM pg_replication_slots s"
		" UNION ALL SELECT 'prepared', p.gid, concat('role ', p.owner),"
		"  age(p.transaction), EXTRACT(epoch FROM clock_timestamp() - p.prepared)::float8, false"
		"  FROM pg_prepared_xacts p WHERE p.database = current_database()"
		" UNION ALL SELECT 'standby', r.pid::text, r.application_name,"
		"  age(r.backend_xmin), 0, true FROM pg_stat_replication r"
		") AS h (cause, name, who, xids, seconds, active) WHERE h.xids IS NOT NULL"
		" ORDER BY h.xids > $2 DESC, h.seconds > $1 DESC, h.xids DESC LIMIT 1"};
	double warn = atof(GetConfigOption("autovacuum_freeze_max_age", false,
									   false)) /
				  HORIZON_WARN_SHARE;
	bool found;
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_float8(PREPARED_WARN_SECONDS), arg_float8(warn)));
	found = rows_next(&rows);
	if (found)
	{
		holder->cause = rows_text(&rows);
		holder->name = rows_text(&rows);
		holder->who = rows_text(&rows);
		holder->xids = rows_float8(&rows, 0);
		holder->seconds = rows_float8(&rows, 0);
		holder->active = rows_bool(&rows, false);
	}
	rows_close(&rows);
	return found;
}

static char *
holder_words(const Holder *holder)
{
	const char *name = server_name(holder->name);
	const char *who = server_name(holder->who);

	if (strcmp(holder->cause, "session") == 0)
		return psprintf("the session of process %s (%s)", name, who);
	if (strcmp(holder->cause, "slot") == 0)
		return psprintf("replication slot \"%s\" (%s)", name, who);
	if (strcmp(holder->cause, "prepared") == 0)
		return psprintf("prepared transaction \"%s\" (%s), %s old", name, who,
						words_age(holder->seconds));
	return psprintf("the feedback of standby \"%s\" (WAL sender %s)", who, name);
}

static void
hint_holder(Finding *finding, const Holder *holder)
{
	if (strcmp(holder->cause, "session") == 0)
		finding_hint(finding, "SELECT pg_terminate_backend(%s);", holder->name);
	else if (strcmp(holder->cause, "prepared") == 0)
		finding_hint(finding, "ROLLBACK PREPARED %s;",
					 hint_literal(holder->name));
	else if (strcmp(holder->cause, "slot") == 0 && !holder->active)
		finding_hint(finding, "SELECT pg_drop_replication_slot(%s);",
					 hint_literal(holder->name));
	else
		finding_hint(finding,
					 "-- on the standby: end its oldest query\n"
					 "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
					 " WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()"
					 " ORDER BY age(backend_xmin) DESC LIMIT 1;");
}

void
look_at_xmin_horizon(Finding *finding)
{
	double most = atof(
		GetConfigOption("autovacuum_freeze_max_age", false, false));
	Holder holder;
	char *words;

	if (!read_holder(&holder))
	{
		finding_figure(finding, 0, "transactions");
		finding_ok(finding, "nothing keeps VACUUM from removing dead rows");
		return;
	}
	words = psprintf("the oldest is %s: %.0f transactions",
					 holder_words(&holder), holder.xids);
	finding_figure(finding, holder.xids, "transactions");
	if (holder.xids > most / HORIZON_FAIL_SHARE)
		finding_fail(finding, "VACUUM cannot remove dead rows; %s", words);
	else if (holder.xids > most / HORIZON_WARN_SHARE ||
			 holder.seconds > PREPARED_WARN_SECONDS)
		finding_warn(finding, "VACUUM cannot remove dead rows; %s", words);
	else
	{
		finding_ok(finding, "%s", words);
		return;
	}
	hint_holder(finding, &holder);
}

/* ---- wraparound ---- */

typedef struct DatabaseAge
{
	char *database;
	bool current;
	const char *what;
	double age;
	double most; /* autovacuum_freeze_max_age */
} DatabaseAge;

static DatabaseAge
read_age(EngineStatement *select, const char *what, const char *setting)
{
	DatabaseAge age = {.what = what};
	Rows rows;

	age.most = atof(GetConfigOption(setting, false, false));
	rows_open(&rows, select, NO_ARGS);
	if (rows_next(&rows))
	{
		age.database = rows_text(&rows);
		age.current = rows_bool(&rows, false);
		age.age = rows_float8(&rows, 0);
	}
	rows_close(&rows);
	return age;
}

static DatabaseAge
read_worst_age(void)
{
	static EngineStatement xids = {
		"SELECT datname, datname = current_database(), age(datfrozenxid)::float8"
		" FROM pg_database ORDER BY 3 DESC LIMIT 1"};
	static EngineStatement multis = {
		"SELECT datname, datname = current_database(), mxid_age(datminmxid)::float8"
		" FROM pg_database ORDER BY 3 DESC LIMIT 1"};
	DatabaseAge xid = read_age(&xids, "transactions",
							   "autovacuum_freeze_max_age");
	DatabaseAge multi = read_age(&multis, "multixacts",
								 "autovacuum_multixact_freeze_max_age");

	return multi.age / multi.most > xid.age / xid.most ? multi : xid;
}

/* VACUUM of the table that is behind most takes the database on. */
static void
hint_vacuum(Finding *finding, const DatabaseAge *worst)
{
	static EngineStatement select = {
		"SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c"
		" JOIN pg_namespace n ON n.oid = c.relnamespace"
		" LEFT JOIN pg_class t ON t.oid = c.reltoastrelid"
		" WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'"
		" ORDER BY CASE WHEN $1 THEN greatest(mxid_age(c.relminmxid), mxid_age(t.relminmxid))"
		"  ELSE greatest(age(c.relfrozenxid), age(t.relfrozenxid)) END DESC LIMIT 1"};
	char *table;

	if (!worst->current)
	{
		finding_hint(finding, "-- in database \"%s\"\nVACUUM (FREEZE);",
					 server_name(worst->database));
		return;
	}
	table = statement_text(
		&select, ARGS(arg_bool(strcmp(worst->what, "multixacts") == 0)));
	finding_hint(finding, "VACUUM (FREEZE) %s;", table);
}

/*
 * Autovacuum begins at "most".  Half of all transaction IDs, or what the setting
 * leaves of them, is late.
 */
void
look_at_wraparound(Finding *finding)
{
	DatabaseAge worst = read_worst_age();
	double fail = Max(HALF_OF_ALL, worst.most * 1.2);
	char *words = psprintf("database \"%s\" has used %.0f million of 2147 "
						   "million %s since it was frozen",
						   server_name(worst.database), worst.age / 1e6,
						   worst.what);

	finding_figure(finding, worst.age, worst.what);
	if (worst.age > Min(fail, 2 * HALF_OF_ALL))
		finding_fail(finding, "%s", words);
	else if (worst.age > Min(worst.most * 1.5, 1.2 * HALF_OF_ALL) &&
			 worst.age > worst.most)
		finding_warn(finding, "%s: autovacuum does not keep up", words);
	else
	{
		finding_ok(finding, "%s", words);
		return;
	}
	hint_vacuum(finding, &worst);
}
