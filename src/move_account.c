/*
 * move_account.c
 *		An account gets another name, with all that there is of it.
 *
 * What belongs to it (account.c) is found in the tables themselves: the
 * extension's that have a column "account", and the mirror's.  All of it is
 * moved in the caller's transaction; a row that would have another's key ends
 * it.
 *
 * Locks, in this order: open jobs, of which parts in hand are taken from their
 * holders; the inbox, against all who store or change events; set-up of
 * endpoints.  So nothing of the old name comes afterwards: who receives looks at
 * the endpoint behind the inbox's lock.
 */
#include "mirror.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "account.h"
#include "secret.h"

/* Accounts, and what they become. */
typedef struct Move
{
	const char *old;
	const char *new;
	List *from; /* of char * */
	List *to;
	uint64 rows;
} Move;

static Datum
text_array(List *texts)
{
	Datum *values = palloc(sizeof(Datum) * Max(list_length(texts), 1));
	int n = 0;
	ListCell *cell;

	foreach(cell, texts)
		values[n++] = CStringGetTextDatum(lfirst(cell));
	return PointerGetDatum(
		construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* The strings that a statement has returned. */
static List *
returned_texts(MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	List *texts = NIL;

	for (uint64 i = 0; i < SPI_processed; i++)
		texts = lappend(texts, SPI_getvalue(SPI_tuptable->vals[i],
											SPI_tuptable->tupdesc, 1));
	MemoryContextSwitchTo(old);
	return texts;
}

/* ---- which tables, which accounts ---- */

/* Ours that have the column; a key can't be moved by a statement. */
static List *
our_tables(void)
{
	static EngineStatement select = {
		"SELECT c.relname::pg_catalog.text FROM pg_catalog.pg_class c"
		" JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid"
		" JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass"
		"  AND d.objid OPERATOR(pg_catalog.=) c.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'"
		" JOIN pg_catalog.pg_extension x ON x.oid OPERATOR(pg_catalog.=) d.refobjid"
		"  AND x.extname OPERATOR(pg_catalog.=) 'stripe_sync'"
		" WHERE c.relkind OPERATOR(pg_catalog.=) 'r' AND a.attname OPERATOR(pg_catalog.=) 'account'"
		"  AND c.relname OPERATOR(pg_catalog.<>) 'api_key'"
		" ORDER BY c.relname OPERATOR(pg_catalog.<>) 'endpoint', c.relname"};
	MemoryContext context = CurrentMemoryContext;
	List *tables;

	SPI_connect();
	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	tables = returned_texts(context);
	SPI_finish();
	return tables;
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

/* An endpoint's account has its connected ones with it, but for those of others. */
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
add_account(Move *move, const char *account)
{
	if (account == NULL || has_text(move->from, account) ||
		!belongs(move, account))
		return;
	move->from = lappend(move->from, pstrdup(account));
	move->to = lappend(
		move->to, account_join(move->new, account_below(account, move->old)));
}

/* In one of our own tables, or in the keys. */
static void
find_in_ours(Move *move, const char *table)
{
	char *sql = psprintf("SELECT DISTINCT account FROM stripe_sync.%s",
						 quote_identifier(table));
	MemoryContext context = CurrentMemoryContext;
	List *accounts;
	ListCell *cell;

	SPI_connect();
	if (SPI_execute(sql, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "\"%s\" failed", sql);
	accounts = returned_texts(context);
	SPI_finish();
	foreach(cell, accounts)
		add_account(move, lfirst(cell));
}

static void
find_accounts(Move *move, List *tables)
{
	ListCell *cell;

	add_account(move, move->old);
	foreach(cell, tables)
		find_in_ours(move, lfirst(cell));
	find_in_ours(move, "api_key");
	for (int i = 0; i < catalog_ntypes; i++)
	{
		MirrorTable *table = catalog_types[i].table != NULL
								 ? table_cache_find(&catalog_types[i],
													TABLE_WRITE)
								 : NULL;

		if (table == NULL || strcmp(catalog_types[i].object, "account") == 0)
			continue;
		foreach(cell, mirror_sql_accounts(table))
			add_account(move, lfirst(cell));
	}
}

/* ---- locks ---- */

/* What is in hand goes back: its holder finds that it isn't his any more. */
static void
take_jobs(const Move *move)
{
	static EngineStatement lock = {
		"SELECT j.id FROM stripe_sync.job_record j WHERE EXISTS"
		" (SELECT FROM stripe_sync.job_part p WHERE p.job = j.id)"
		" AND j.state IN ('waiting', 'running') ORDER BY j.id FOR NO KEY UPDATE"};
	static EngineStatement release = {
		"UPDATE stripe_sync.job_part SET state = 'waiting', lease_pid = NULL,"
		" lease_backend_start = NULL, lease_server_start = NULL"
		" WHERE state = 'running' AND account = ANY ($1)",
		1,
		{TEXTARRAYOID}};
	Datum accounts = text_array(move->from);

	SPI_connect();
	engine_run(&lock, NULL, NULL, SPI_OK_SELECT);
	engine_run(&release, &accounts, NULL, SPI_OK_UPDATE);
	SPI_finish();
}

static void
lock_inbox(void)
{
	static EngineStatement lock = {
		"LOCK TABLE stripe_sync.event IN EXCLUSIVE MODE"};

	SPI_connect();
	engine_run(&lock, NULL, NULL, SPI_OK_UTILITY);
	SPI_finish();
}

/* ---- moving ---- */

static void
move_ours(Move *move, const char *table)
{
	char *sql = psprintf(
		"UPDATE stripe_sync.%s t SET account = m.b"
		" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) m (a, b)"
		" WHERE t.account OPERATOR(pg_catalog.=) m.a",
		quote_identifier(table));
	Oid types[] = {TEXTARRAYOID, TEXTARRAYOID};
	Datum values[] = {text_array(move->from), text_array(move->to)};

	SPI_connect();
	if (SPI_execute_with_args(sql, 2, types, values, NULL, false, 0) !=
		SPI_OK_UPDATE)
		elog(ERROR, "\"%s\" failed", sql);
	move->rows += SPI_processed;
	SPI_finish();
}

/*
 * Account objects: of one's own, or of an endpoint's with a word, all of them;
 * else the account itself.
 */
static void
move_account_objects(Move *move, MirrorTable *table)
{
	List *from = list_make1(account_of_accounts(move->old));
	List *to = list_make1(account_of_accounts(move->new));
	bool all = strcmp(linitial(from), move->old) == 0;

	if (strcmp(linitial(from), linitial(to)) != 0)
		move->rows += mirror_sql_move(table, text_array(from), text_array(to),
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
			move->rows += mirror_sql_move(table, text_array(move->from),
										  text_array(move->to), NULL);
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
	List *tables = our_tables();
	ListCell *cell;

	find_accounts(move, tables);
	take_jobs(move);
	lock_inbox();
	advisory_lock(ADVISORY_ENDPOINT, 0);
	move->from = move->to = NIL;
	find_accounts(move, tables); /* none can come any more */
	foreach(cell, tables)
	{
		move_ours(move, lfirst(cell));
		if (strcmp(lfirst(cell), "endpoint") == 0)
			endpoint_mode_check(NULL, move->new);
	}
	move_keys(move);
	move_mirror(move);
}

/* ---- SQL ---- */

static void
check_names(const char *old, const char *new)
{
	const char *below;

	if (strcmp(old, new) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("that is the account's name already")));
	below = strchr(new, '/');
	account_check_endpoints(below != NULL ? pnstrdup(new, below - new) : new);
	if (below != NULL && !account_is_stripes(below + 1))
		account_check_endpoints(new); /* which raises */
}

compat_noreturn static void
refuse_collision(const Move *move, const ErrorData *error)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_DUPLICATE_OBJECT),
		 errmsg("%s has something of the same as %s, nothing was moved",
				account_words(move->new), account_words(move->old)),
		 error->detail ? errdetail("%s", error->detail) : 0,
		 errhint("Delete what is there twice (%s.%s), or choose another name.",
				 error->schema_name ? error->schema_name : "",
				 error->table_name ? error->table_name : "")));
}

/* move_account(old, new): how many rows */
ENGINE_FUNCTION(stripe_sync_move_account)
{
	Move move = {0};
	RoleScope scope;
	ErrorData *error;

	argument_required(fcinfo, 0, "the account's name");
	argument_required(fcinfo, 1, "the account's new name");
	move.old = text_to_cstring(PG_GETARG_TEXT_PP(0));
	move.new = text_to_cstring(PG_GETARG_TEXT_PP(1));
	check_names(move.old, move.new);
	scope = role_enter_engine();
	if (!subtransaction_run(move_body, &move, NULL, &error))
	{
		if (error->sqlerrcode == ERRCODE_UNIQUE_VIOLATION)
			refuse_collision(&move, error);
		ReThrowError(error);
	}
	if (move.rows == 0)
		ereport(NOTICE,
				(errmsg("there is nothing of %s", account_words(move.old))));
	journal_note("account.moved", move.new,
				 psprintf("from %s", account_words(move.old)));
	outbound_note_identity();
	worker_wake_at_commit();
	role_leave(&scope);
	PG_RETURN_INT64((int64) move.rows);
}
