/*
 * server_state.c
 *		Samples of the server's state: is the worker there, may it send, how large
 *		are the tables.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"

#include "engine/engine.h"
#include "engine/statement.h"
#include "metrics/internal.h"
#include "server/server.h"

static const Metric info = {
	"info", "gauge", "Version of the library", {"version"}};
static const Metric recovery = {"in_recovery", "gauge",
								"1 if this server is a standby"};
static const Metric worker = {
	"worker_running", "gauge",
	"1 if this database's background worker runs (on a standby there is none)"};
static const Metric allowed = {
	"outbound_allowed",
	"gauge",
	"1 if this database may send messages or call Stripe; 0: paused, inactive (see activate()), or stripe_sync.outbound is off",
	{"to"}};
static const Metric bytes = {
	"table_bytes", "gauge", "Size of a table with its indexes", {"table"}};

static bool
worker_runs(void)
{
	static EngineStatement select = {
		"SELECT EXISTS (SELECT FROM stripe_sync.workers() w"
		" WHERE w.database = $1 AND w.pid IS NOT NULL)"};

	return statement_bool(false, &select, ARGS(arg_oid(MyDatabaseId)));
}

static List *
add_allowed(List *samples, const char *what)
{
	return sample_add(samples, &allowed, outbound_allowed(what), what, NO_LABEL);
}

static List *
add_sizes(List *samples)
{
	static EngineStatement select = {
		"SELECT t.name, pg_catalog.pg_total_relation_size(t.relation) FROM (VALUES"
		" ('event', 'stripe_sync.event'::regclass),"
		" ('message', 'stripe_sync.message'::regclass),"
		" ('delivery', 'stripe_sync.delivery'::regclass)) t (name, relation)"};
	int nest = plan_for_indexes_with_lock_timeout();
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	while (rows_next(&rows))
	{
		char *name = rows_text(&rows);

		samples = sample_add(samples, &bytes, rows_int8(&rows, 0), name,
							 NO_LABEL);
	}
	rows_close(&rows);
	plan_settings_restore(nest);
	return samples;
}

List *
state_samples(List *samples)
{
	samples = sample_add(samples, &info, 1, STRIPE_SYNC_VERSION, NO_LABEL);
	samples = sample_add(samples, &recovery, RecoveryInProgress(), NO_LABEL,
						 NO_LABEL);
	samples = sample_add(samples, &worker, worker_runs(), NO_LABEL, NO_LABEL);
	samples = add_allowed(samples, "slack");
	samples = add_allowed(samples, "stripe");
	return add_sizes(samples);
}
