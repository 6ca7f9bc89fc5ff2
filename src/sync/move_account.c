/*
 * move_account.c
 *		move_account(): renames an account in all tables.
 *
 * The accounts that belong to it (account.c) are found in the tables themselves:
 * the extension's tables with a column "account", and the mirror's.  All rows are
 * moved in the caller's transaction; a unique violation rolls everything back.
 *
 * Locks, in this order: open jobs, whose running parts are taken from their
 * holders; the inbox, against sessions that store or change events; the set-up of
 * endpoints.  A session that receives an event reads the endpoint after locking
 * the inbox, so none stores a row with the old name afterwards.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "base/base.h"
#include "base/compat.h"
#include "base/subtransaction.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/inbox.h"
#include "inbox/secret.h"
#include "mirror/mirror.h"
#include "server/server.h"
#include "stripe/stripe.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"

/* The accounts that are renamed, and their new names */
typedef struct Move
{
	const char *old;
	const char *new;
	List *from; /* of char *, old and what belongs to it */
	List *to;	/* of char *, in the same order */
	uint64 rows;
} Move;

static Datum
make_text_array(List *texts)
{
	Datum *values = palloc(sizeof(Datum) * Max(list_length(texts), 1));
	int n = 0;
	ListCell *cell;

	foreach(cell, texts)
		values[n++] = CStringGetTextDatum(lfirst(cell));
	return PointerGetDatum(
		construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* The first column of all rows that a statement returns, as a list of char * */
static List *
select_texts(EngineStatement *select)
{
	List *texts = NIL;
	Rows rows;

	rows_open(&rows, select, NO_ARGS);
	while (rows_next(&rows))
		texts = lappend(texts, rows_text(&rows));
	rows_close(&rows);
	return texts;
}

/* ---- which tables, which accounts ---- */

/*
 * The extension's tables with a column "account", "endpoint" first.  Keys are
 * moved by api_key_move(), as no statement may have them as parameters.
 */
static List *
tables_with_account(void)
{
	static EngineStatement select = {
		"SELECT c.relname::text FROM pg_catalog.pg_class c"
		" JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid"
		" JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass"
		"  AND d.objid = c.oid AND d.deptype = 'e'"
		" JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid"
		"  AND x.extname = 'stripe_sync'"
		" WHERE c.relkind = 'r' AND a.attname = 'account'"
		"  AND c.relname <> 'api_key'"
		" ORDER BY c.relname <> 'endpoint', c.relname"};

	return select_texts(&select);
}

static bool
has_text(List *texts, const char *text)
{
	ListCell *cell;

	foreach(cell, texts)
		if (strcmp(lfirst(cell), text) == 0)
			return true;
	return false;
}

/*
 * Is the account renamed too?  An endpoint's account is renamed together with its
 * connected accounts, but not with those of another endpoint's account.
 */
static bool
belongs(const Move *move, const char *account)
{
	const char *owner = account_owner(move->old);

	if (account_below(account, move->old) == NULL)
		return false;
	return strcmp(owner, move->old) != 0 ||
		   strcmp(account_owner(account), owner) == 0;
}

static void
add_moved_account(Move *move, const char *account)
{
	if (account == NULL || has_text(move->from, account) ||
		!belongs(move, account))
		return;
	move->from = lappend(move->from, pstrdup(account));
	move->to = lappend(
		move->to, account_join(move->new, account_below(account, move->old)));
}

/* Add the accounts in one of the extension's tables. */
static void
find_in_table(Move *move, const char *table)
{
	char *sql = psprintf("SELECT DISTINCT account FROM stripe_sync.%s",
						 quote_identifier(table));
	MemoryContext context = CurrentMemoryContext;

	SPI_connect();
	if (SPI_execute(sql, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "\"%s\" failed", sql);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char *account = SPI_getvalue(SPI_tuptable->vals[i],
									 SPI_tuptable->tupdesc, 1);
		MemoryContext old = MemoryContextSwitchTo(context);

		add_moved_account(move, account);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
}

static void
find_accounts(Move *move, List *tables)
{
	ListCell *cell;

	add_moved_account(move, move->old);
	foreach(cell, tables)
		find_in_table(move, lfirst(cell));
	find_in_table(move, "api_key");
	for (int i = 0; i < catalog_ntypes; i++)
	{
		MirrorTable *table = catalog_types[i].table != NULL
								 ? table_cache_find(&catalog_types[i],
													TABLE_WRITE)
								 : NULL;

		if (table == NULL || strcmp(catalog_types[i].object, "account") == 0)
			continue;
		foreach(cell, mirror_sql_accounts(table))
			add_moved_account(move, lfirst(cell));
	}
}

/* ---- locks ---- */

/*
 * Lock all open jobs and take running parts of the accounts from their holders,
 * who find that out when they write the answer.
 */
static void
release_running_parts(const Move *move)
{
	static EngineStatement lock = {
		"SELECT j.id FROM stripe_sync.job_record j WHERE EXISTS"
		" (SELECT FROM stripe_sync.job_part p WHERE p.job = j.id)"
		" AND j.state IN ('waiting', 'running') ORDER BY j.id FOR NO KEY UPDATE"};
	static EngineStatement release = {
		"UPDATE stripe_sync.job_part SET state = 'waiting', lease_pid = NULL,"
		" lease_backend_start = NULL, lease_server_start = NULL"
		" WHERE state = 'running' AND account = ANY ($1)"};

	(void) statement_exec(&lock, NO_ARGS);
	(void) statement_exec(
		&release, ARGS(arg_datum(TEXTARRAYOID, make_text_array(move->from))));
}

static void
lock_inbox(void)
{
	static EngineStatement lock = {
		"LOCK TABLE stripe_sync.event IN EXCLUSIVE MODE"};

	(void) statement_exec(&lock, NO_ARGS);
}

/* ---- moving ---- */

static void
move_table(Move *move, const char *table)
{
	char *sql = psprintf(
		"UPDATE stripe_sync.%s t SET account = m.b"
		" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) m (a, b)"
		" WHERE t.account = m.a",
		quote_identifier(table));
	Oid types[] = {TEXTARRAYOID, TEXTARRAYOID};
	Datum values[] = {make_text_array(move->from), make_text_array(move->to)};

	SPI_connect();
	if (SPI_execute_with_args(sql, 2, types, values, NULL, false, 0) !=
		SPI_OK_UPDATE)
		elog(ERROR, "\"%s\" failed", sql);
	move->rows += SPI_processed;
	SPI_finish();
}

/*
 * Objects of type "account" are in the mirror under the account that lists them.
 * All of them are moved if that account is renamed, else the account's own.
 */
static void
move_account_objects(Move *move, MirrorTable *table)
{
	List *from = list_make1(account_of_accounts(move->old));
	List *to = list_make1(account_of_accounts(move->new));
	bool all = strcmp(linitial(from), move->old) == 0;

	if (strcmp(linitial(from), linitial(to)) != 0)
		move->rows += mirror_sql_move(table, make_text_array(from),
									  make_text_array(to),
									  all ? NULL : account_stripe_id(move->old));
}

static void
move_mirror(Move *move)
{
	for (int i = 0; i < catalog_ntypes; i++)
	{
		MirrorTable *table = catalog_types[i].table != NULL
								 ? table_cache_find(&catalog_types[i],
													TABLE_WRITE)
								 : NULL;

		if (table == NULL)
			continue;
		if (strcmp(catalog_types[i].object, "account") == 0)
			move_account_objects(move, table);
		else
			move->rows += mirror_sql_move(table, make_text_array(move->from),
										  make_text_array(move->to), NULL);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
move_keys(Move *move)
{
	for (int i = 0; i < list_length(move->from); i++)
		if (api_key_move(list_nth(move->from, i), list_nth(move->to, i)))
			move->rows++;
}

static void
move_body(void *arg)
{
	Move *move = arg;
	List *tables = tables_with_account();
	ListCell *cell;

	find_accounts(move, tables);
	release_running_parts(move);
	lock_inbox();
	advisory_lock(ADVISORY_ENDPOINT, 0);
	move->from = move->to = NIL;
	find_accounts(move, tables); /* the locks keep others from being added */
	foreach(cell, tables)
	{
		move_table(move, lfirst(cell));
		if (strcmp(lfirst(cell), "endpoint") == 0)
			endpoint_mode_check(NULL, move->new);
	}
	move_keys(move);
	move_mirror(move);
}

/* ---- SQL ---- */

static void
check_account_names(const char *old, const char *new)
{
	const char *below;

	if (strcmp(old, new) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the new name is the same as the old one")));
	below = strchr(new, '/');
	account_check_endpoints(below != NULL ? pnstrdup(new, below - new) : new);
	if (below != NULL && !account_is_stripes(below + 1))
		account_check_endpoints(new); /* raises an error */
}

compat_noreturn static void
raise_collision(const Move *move, const ErrorData *error)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_DUPLICATE_OBJECT),
		 errmsg("%s already has some of the rows of %s, nothing was moved",
				account_words(move->new), account_words(move->old)),
		 error->detail ? errdetail("%s", error->detail) : 0,
		 errhint(
			 "Delete the rows that exist twice in %s.%s, or choose another name.",
			 error->schema_name ? error->schema_name : "",
			 error->table_name ? error->table_name : "")));
}

/*
 * move_account(old, new): returns the number of rows.  Raises 22023 for a name
 * that an account cannot have, 42710 if rows of both accounts have the same key.
 */
ENGINE_FUNCTION(stripe_sync_move_account)
{
	Move move = {0};
	RoleScope scope;
	ErrorData *error;

	argument_required(fcinfo, 0, "the account's name");
	argument_required(fcinfo, 1, "the account's new name");
	move.old = text_to_cstring(PG_GETARG_TEXT_PP(0));
	move.new = text_to_cstring(PG_GETARG_TEXT_PP(1));
	check_account_names(move.old, move.new);
	scope = role_enter_engine();
	if (!subtransaction_run(move_body, &move, NULL, &error))
	{
		if (error->sqlerrcode == ERRCODE_UNIQUE_VIOLATION)
			raise_collision(&move, error);
		ReThrowError(error);
	}
	if (move.rows == 0)
		ereport(NOTICE,
				(errmsg("there are no rows of %s", account_words(move.old))));
	journal_note("account.moved", move.new,
				 psprintf("from %s", account_words(move.old)));
	outbound_note_identity();
	worker_wake_at_commit();
	role_leave(&scope);
	PG_RETURN_INT64((int64) move.rows);
}
