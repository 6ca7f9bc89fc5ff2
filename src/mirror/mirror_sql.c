/*
 * mirror_sql.c
 *		One row of a mirror table that is not plain, by SQL.
 *
 * The table is locked and its definition is read (table_cache.c).  Triggers,
 * defaults, checks and policies run with the rights of the table's owner and
 * under the search_path that is noted of the table; deferred triggers fire
 * before the scope ends.  Schemas of that path may contain operators of users,
 * so those of the key are qualified.  Plans are kept with the definition.
 *
 * Forced row security applies to the owner, and so to the mirror.  A row that it
 * hides could not be kept up to date and would seem to be missing: that is an
 * error.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "mirror/mirror.h"
#include "tables/tables.h"
#include "mirror/internal.h"

static const char *
column_name(const MirrorTable *table, AttrNumber attnum)
{
	return quote_identifier(get_attname(table->relid, attnum, false));
}

static int
sql_column_count(const MirrorTable *table)
{
	return table->ncolumns + META_KEY;
}

/* The attributes that we write, in the order of the statements' parameters. */
static AttrNumber
sql_column(const MirrorTable *table, int i)
{
	return i < table->ncolumns ? table->columns[i].attnum
							   : table->meta[i - table->ncolumns];
}

static bool
is_key(const MirrorTable *table, AttrNumber attnum)
{
	return attnum == table->meta[META_KEY] ||
		   attnum == table->meta[META_ACCOUNT];
}

/* The condition on the key, with the numbers of its parameters. */
static void
append_where(StringInfo sql, const MirrorTable *table, int key_param,
			 int account_param)
{
	appendStringInfoString(sql, " WHERE ");
	if (table->meta[META_KEY] != InvalidAttrNumber)
		appendStringInfo(sql, "%s OPERATOR(pg_catalog.=) $%d AND ",
						 column_name(table, table->meta[META_KEY]), key_param);
	appendStringInfo(sql, "%s OPERATOR(pg_catalog.=) $%d",
					 column_name(table, table->meta[META_ACCOUNT]),
					 account_param);
}

/*
 * The same for the values of mirror_row_key(), the first of which is
 * "$first_param".
 */
static void
append_where_key(StringInfo sql, const MirrorTable *table, int first_param)
{
	bool single = table->meta[META_KEY] == InvalidAttrNumber;

	append_where(sql, table, first_param, first_param + (single ? 0 : 1));
}

static void
append_table(StringInfo sql, const MirrorTable *table)
{
	appendStringInfo(sql, "%s.%s", MIRROR_SCHEMA,
					 quote_identifier(table->type->table));
}

/*
 * A conflict with a concurrent insert of the same key must not be an error: the
 * caller locks that row and decides again.
 */
static char *
insert_sql(const MirrorTable *table)
{
	StringInfoData sql;
	int n = sql_column_count(table);

	initStringInfo(&sql);
	appendStringInfoString(&sql, "INSERT INTO ");
	append_table(&sql, table);
	for (int i = 0; i < n; i++)
		appendStringInfo(&sql, "%s%s", i == 0 ? " (" : ", ",
						 column_name(table, sql_column(table, i)));
	for (int i = 0; i < n; i++)
		appendStringInfo(&sql, "%s$%d", i == 0 ? ") VALUES (" : ", ", i + 1);
	appendStringInfoString(&sql, ") ON CONFLICT (");
	if (table->meta[META_KEY] != InvalidAttrNumber)
		appendStringInfo(&sql, "%s, ",
						 column_name(table, table->meta[META_KEY]));
	appendStringInfo(&sql, "%s) DO NOTHING",
					 column_name(table, table->meta[META_ACCOUNT]));
	return sql.data;
}

/*
 * The columns of the key never change.  They are not set, because a distributed
 * table refuses an UPDATE that sets them.
 */
static char *
update_sql(const MirrorTable *table)
{
	StringInfoData sql;
	int n = sql_column_count(table);
	int key_param = 0;
	int account_param = 0;
	const char *separator = " SET ";

	initStringInfo(&sql);
	appendStringInfoString(&sql, "UPDATE ");
	append_table(&sql, table);
	for (int i = 0; i < n; i++)
	{
		AttrNumber attnum = sql_column(table, i);

		if (attnum == table->meta[META_KEY])
			key_param = i + 1;
		if (attnum == table->meta[META_ACCOUNT])
			account_param = i + 1;
		if (is_key(table, attnum))
			continue;
		appendStringInfo(&sql, "%s%s = $%d", separator,
						 column_name(table, attnum), i + 1);
		separator = ", ";
	}
	append_where(&sql, table, key_param, account_param);
	return sql.data;
}

/* The columns are those of mirror_state_columns, in that order. */
static char *
peek_sql(const MirrorTable *table)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(
		&sql, "SELECT _as_of, _event_id, _deleted_at, _data FROM ");
	append_table(&sql, table);
	append_where_key(&sql, table, 1);
	return sql.data;
}

/* FOR NO KEY UPDATE: foreign keys that point to the row are not blocked. */
static char *
lock_sql(const MirrorTable *table)
{
	return psprintf("%s FOR NO KEY UPDATE", peek_sql(table));
}

static char *
delete_sql(const MirrorTable *table)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "UPDATE ");
	append_table(&sql, table);
	appendStringInfoString(&sql, " SET _deleted_at = $1, _synced_at = $2");
	append_where_key(&sql, table, 3);
	return sql.data;
}

static Oid
sql_column_type(const MirrorTable *table, int i)
{
	return i < table->ncolumns ? column_value_type(table->columns[i].kind)
							   : table_meta_type(i - table->ncolumns);
}

/*
 * The types of a statement's parameters: first the columns that it writes, then
 * the key.  They are the types of the values that we pass, not of the columns.
 */
static Oid *
param_types(const MirrorTable *table, MirrorSql sql, int nargs)
{
	Oid *types = palloc(nargs * sizeof(Oid));
	int n = 0;

	if (sql == SQL_INSERT || sql == SQL_UPDATE)
		for (; n < sql_column_count(table); n++)
			types[n] = sql_column_type(table, n);
	else if (sql == SQL_DELETE)
		for (; n < 2; n++)
			types[n] = TIMESTAMPTZOID;
	while (n < nargs)
		types[n++] = TEXTOID;
	return types;
}

/* ---- forced row security ---- */

/* An error context callback: adds a hint to errors that a policy may cause. */
static void
add_policy_hint(void *arg)
{
	if (geterrcode() == ERRCODE_INSUFFICIENT_PRIVILEGE)
		errhint("%s", (const char *) arg);
}

static int
execute_policed(const MirrorTable *table, SPIPlanPtr plan, Datum *values,
				const char *nulls)
{
	ErrorContextCallback callback = {
		.callback = add_policy_hint,
		.arg = table_policy_hint(table->type, table->owner),
		.previous = error_context_stack};
	int code;

	error_context_stack = &callback;
	code = SPI_execute_plan(plan, values, nulls, false, 0);
	error_context_stack = callback.previous;
	return code;
}

compat_noreturn static void
refuse_hidden(const MirrorTable *table, const char *id)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		 errmsg("row security of %s.%s hides row \"%s\" from the table's owner",
				MIRROR_SCHEMA, table->type->table, id),
		 errhint("%s", table_policy_hint(table->type, table->owner))));
}

/*
 * Run a statement on the table, in its owner's scope, in which its plan is made
 * and kept as well.  Returns the number of rows; SPI stays connected.
 */
static uint64
sql_run(MirrorTable *table, MirrorSql sql, int nargs, Datum *values,
		const char *nulls)
{
	static char *(*const build[])(const MirrorTable *) = {
		[SQL_INSERT] = insert_sql, [SQL_UPDATE] = update_sql,
		[SQL_PEEK] = peek_sql,	   [SQL_LOCK] = lock_sql,
		[SQL_DELETE] = delete_sql,
	};
	int code;

	if (table->plans[sql] == NULL)
	{
		SPIPlanPtr plan = SPI_prepare(build[sql](table), nargs,
									  param_types(table, sql, nargs));

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare a statement on %s.%s: %s",
				 MIRROR_SCHEMA, table->type->table,
				 SPI_result_code_string(SPI_result));
		table->plans[sql] = plan;
	}
	if (table_has_forced_policy(table))
		code = execute_policed(table, table->plans[sql], values, nulls);
	else
		code = SPI_execute_plan(table->plans[sql], values, nulls, false, 0);
	if (code < 0)
		elog(ERROR, "a statement on %s.%s ended with %s", MIRROR_SCHEMA,
			 table->type->table, SPI_result_code_string(code));
	return SPI_processed;
}

/* Decode the row that peek_sql() selects. */
static void
read_selected(Rows *row, MirrorState *state, Jsonb **data)
{
	MetaValues meta;

	for (int i = 0; i < NSTATE_COLUMNS; i++)
	{
		MetaColumn column = mirror_state_columns[i];

		meta.values[column] = rows_datum(row, table_meta_type(column),
										 &meta.nulls[column]);
	}
	mirror_state_decode(&meta, state, data);
}

/*
 * Read a row, and lock it if the statement is SQL_LOCK.  *state stays as it is if
 * the row is not found.  "data" may be NULL; *data is allocated in the current
 * memory context.
 */
void
mirror_sql_read(MirrorTable *table, MirrorSql sql, const char *id,
				const char *account, MirrorState *state, Jsonb **data)
{
	MemoryContext context = CurrentMemoryContext;
	AttrNumber attnums[2];
	Datum keys[2];
	int n = mirror_row_key(table, id, account, attnums, keys);
	RoleScope scope = role_enter_reading(table->owner, table->search_path);

	SPI_connect();
	if (sql_run(table, sql, n, keys, NULL) > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Rows row = rows_of_tuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc);

		read_selected(&row, state, data);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	role_leave(&scope);
}

/*
 * Lock a row.  One that is not found may be hidden by a policy, or may have
 * just been inserted by another session.
 */
void
mirror_sql_lock(MirrorRow *row, bool with_data)
{
	MirrorTable *table = row->table;

	for (int look = 0; look < 2 && !row->state.found; look++)
	{
		mirror_sql_read(table, SQL_LOCK, row->id, row->account, &row->state,
						with_data ? &row->data : NULL);
		if (row->state.found || IsolationUsesXactSnapshot() ||
			!mirror_hides(table, row->id, row->account))
			return;
	}
	if (!row->state.found)
		refuse_hidden(table, row->id);
}

/*
 * Enter the scope in which a row is written.  A writing scope fires the deferred
 * triggers of the caller before and its own after; where no user's code runs,
 * neither is necessary.
 */
static RoleScope
sql_enter(const MirrorTable *table)
{
	if (table->runs_code)
		return role_enter_writing(table->owner, table->search_path);
	return role_enter_reading(table->owner, table->search_path);
}

/*
 * Insert or update the row with values by attribute number.  Returns false if
 * nothing was inserted: the key exists, or a trigger has returned NULL.
 */
bool
mirror_sql_write(MirrorRow *row, const Datum *values, const bool *nulls)
{
	MirrorTable *table = row->table;
	int n = sql_column_count(table);
	Datum *params = palloc(n * sizeof(Datum));
	char *param_nulls = palloc0(n + 1);
	RoleScope scope;
	uint64 written;

	for (int i = 0; i < n; i++)
	{
		AttrNumber attnum = sql_column(table, i);

		params[i] = values[attnum - 1];
		param_nulls[i] = nulls[attnum - 1] ? 'n' : ' ';
	}
	scope = sql_enter(table);
	SPI_connect();
	written = sql_run(table, row->state.found ? SQL_UPDATE : SQL_INSERT, n,
					  params, param_nulls);
	SPI_finish();
	role_leave(&scope);
	return row->state.found || written > 0;
}

/* Update only the tombstone and _synced_at of the locked row. */
void
mirror_sql_set_deleted(MirrorRow *row, bool deleted, TimestampTz deleted_at)
{
	MirrorTable *table = row->table;
	AttrNumber attnums[2];
	Datum params[4] = {TimestampTzGetDatum(deleted_at),
					   TimestampTzGetDatum(GetCurrentTimestamp())};
	int n = 2 +
			mirror_row_key(table, row->id, row->account, attnums, params + 2);
	RoleScope scope;

	scope = sql_enter(table);
	SPI_connect();
	sql_run(table, SQL_DELETE, n, params, deleted ? "    " : "n   ");
	SPI_finish();
	role_leave(&scope);
}

/* ---- whole accounts ---- */

/* The accounts that have rows in the table, of char *, in no order. */
List *
mirror_sql_accounts(MirrorTable *table)
{
	char *sql = psprintf("SELECT DISTINCT _account FROM %s.%s", MIRROR_SCHEMA,
						 quote_identifier(table->type->table));
	MemoryContext context = CurrentMemoryContext;
	RoleScope scope = role_enter_reading(table->owner, table->search_path);
	List *accounts = NIL;

	SPI_connect();
	if (SPI_execute(sql, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "\"%s\" failed", sql);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Rows row = rows_of_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc);

		accounts = lappend(accounts, rows_text(&row));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	role_leave(&scope);
	return accounts;
}

/*
 * Move rows from accounts to others, "from" and "to" being text[] of one length;
 * with "id" only the row of that id.  Returns the number of rows.  Raises 42501 if
 * row security may hide rows, which would keep their account.
 */
uint64
mirror_sql_move(MirrorTable *table, Datum from, Datum to, const char *id)
{
	Oid types[] = {TEXTARRAYOID, TEXTARRAYOID, TEXTOID};
	Datum values[] = {from, to, id ? CStringGetTextDatum(id) : (Datum) 0};
	char *sql = psprintf(
		"UPDATE %s.%s t SET _account = m.b"
		" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) m (a, b)"
		" WHERE t._account OPERATOR(pg_catalog.=) m.a%s",
		MIRROR_SCHEMA, quote_identifier(table->type->table),
		id ? " AND t.id OPERATOR(pg_catalog.=) $3" : "");
	RoleScope scope;
	uint64 moved;

	table_cache_check(table);
	if (table_has_forced_policy(table))
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg(
				 "row security of %s.%s may hide rows from the table's owner, which would not be moved",
				 MIRROR_SCHEMA, table->type->table),
			 errhint("%s", table_policy_hint(table->type, table->owner))));
	scope = sql_enter(table);
	SPI_connect();
	if (SPI_execute_with_args(sql, id ? 3 : 2, types, values, NULL, false, 0) !=
		SPI_OK_UPDATE)
		elog(ERROR, "\"%s\" failed", sql);
	moved = SPI_processed;
	SPI_finish();
	role_leave(&scope);
	return moved;
}
