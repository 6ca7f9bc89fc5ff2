/*
 * table_ddl.c
 *		The DDL statements of a mirror table: CREATE TABLE and ADD COLUMN, with
 *		the storage and the indexes of the columns.
 *
 * All of it runs in the scope that create_tables.c has entered: as the role that
 * is to own the table, or owns it, and under the search_path that is noted of
 * the table.  That path may contain schemas of users, so that names and
 * operators in the statements are qualified.  An existing table is locked ACCESS
 * EXCLUSIVE.
 *
 * A user's event triggers run here, with the rights of that role.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "engine/rights.h"
#include "tables/tables.h"
#include "types/types.h"
#include "tables/internal.h"

/*
 * References that are often joined by have an index.  Each index costs some of
 * every event's time, so that others are left to the user.
 */
static const char *const indexed_references[] = {
	"account",		  "charge", "customer", "invoice",
	"payment_intent", "price",	"product",	"subscription"};

/* The columns of the mirror's own state, after _data. */
static const char *const meta_definitions[] = {
	"_account pg_catalog.text NOT NULL",
	"_deleted_at timestamp with time zone",
	"_event_id pg_catalog.text",
	"_as_of timestamp with time zone NOT NULL",
	"_synced_at timestamp with time zone NOT NULL",
};

static void
run_ddl(const char *sql)
{
	SPI_connect();
	if (SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "could not run \"%s\"", sql);
	SPI_finish();
}

/* ---- columns ---- */

static void
append_column(StringInfo sql, const CatalogField *field, bool lz4)
{
	appendStringInfo(sql, "%s %s", quote_identifier(field->name),
					 catalog_kind_sqltype(field->kind));
	if (lz4 && column_value_type(field->kind) == JSONBOID)
		appendStringInfoString(sql, " COMPRESSION lz4");
}

static bool
is_indexed_reference(const CatalogField *field)
{
	for (int i = 0; i < lengthof(indexed_references); i++)
		if (strcmp(indexed_references[i], field->name) == 0)
			return column_value_type(field->kind) == TEXTOID;
	return false;
}

/*
 * The statement that creates the index of a column, or NULL if it has none.
 * "option" is what follows CREATE INDEX.
 */
char *
table_ddl_index(const CatalogType *type, const CatalogField *field,
				const char *option)
{
	const char *table = quote_identifier(type->table);
	const char *column = quote_identifier(field->name);

	if (is_indexed_reference(field) && strcmp(field->name, type->key) != 0)
		return psprintf("CREATE INDEX %sON %s.%s (%s) WHERE %s IS NOT NULL",
						option, MIRROR_SCHEMA, table, column, column);
	if (strcmp(field->name, "created") == 0 && field->kind == KIND_TIMESTAMP)
		return psprintf("CREATE INDEX %sON %s.%s (%s)", option, MIRROR_SCHEMA,
						table, column);
	return NULL;
}

static void
create_index(const CatalogType *type, const CatalogField *field)
{
	const char *sql = table_ddl_index(type, field, "");

	if (address_index_is_for(type, field))
		table_ddl_index_addresses(type);
	if (sql != NULL)
		run_ddl(sql);
}

/* Customers are looked up by their e-mail address, whatever its case. */
void
table_ddl_index_addresses(const CatalogType *type)
{
	run_ddl(psprintf("CREATE INDEX ON %s.%s (pg_catalog.lower(email))"
					 " WHERE email IS NOT NULL",
					 MIRROR_SCHEMA, quote_identifier(type->table)));
}

/*
 * Values are compressed and stay in their row.  To move them out of line, as is
 * the default, would cost another row and index entry for every event.
 */
static void
store_inline(const CatalogType *type, List *columns)
{
	StringInfoData sql;
	ListCell *cell;

	initStringInfo(&sql);
	appendStringInfo(
		&sql,
		"ALTER TABLE %s.%s ALTER _data SET STORAGE MAIN,"
		" ALTER _account SET STORAGE MAIN, ALTER _event_id SET STORAGE MAIN",
		MIRROR_SCHEMA, quote_identifier(type->table));
	foreach(cell, columns)
	{
		CatalogField *field = lfirst(cell);
		Oid type_oid = column_value_type(field->kind);

		if (type_oid == JSONBOID || type_oid == TEXTOID)
			appendStringInfo(&sql, ", ALTER %s SET STORAGE MAIN",
							 quote_identifier(field->name));
	}
	run_ddl(sql.data);
}

/* ---- tables ---- */

/*
 * Create the type's table with these columns (CatalogField) and those of the
 * mirror's own.  "lz4": the server can compress with it.
 */
void
table_ddl_create(const CatalogType *type, List *columns, bool lz4)
{
	const char *comment = psprintf("Stripe's %s, mirrored by stripe_sync",
								   type->object);
	StringInfoData sql;
	ListCell *cell;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s.%s (", MIRROR_SCHEMA,
					 quote_identifier(type->table));
	foreach(cell, columns)
	{
		append_column(&sql, lfirst(cell), lz4);
		appendStringInfoString(&sql, ", ");
	}
	appendStringInfo(&sql, "_data pg_catalog.jsonb%s NOT NULL, ",
					 lz4 ? " COMPRESSION lz4" : "");
	for (int i = 0; i < lengthof(meta_definitions); i++)
		appendStringInfo(&sql, "%s, ", meta_definitions[i]);
	if (type->key[0] != '\0')
		appendStringInfo(&sql, "PRIMARY KEY (%s, _account))",
						 quote_identifier(type->key));
	else
		appendStringInfoString(&sql, "PRIMARY KEY (_account))");
	run_ddl(sql.data);
	store_inline(type, columns);
	foreach(cell, columns)
		create_index(type, lfirst(cell));
	run_ddl(psprintf("COMMENT ON TABLE %s.%s IS %s", MIRROR_SCHEMA,
					 quote_identifier(type->table), quote_literal_cstr(comment)));
}

/*
 * Add columns (CatalogField) to the type's table and fill them from _data.
 * Indexes are created after that, so that they are built once.
 */
void
table_ddl_add_columns(const CatalogType *type, List *missing, bool lz4)
{
	ListCell *cell;
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "ALTER TABLE %s.%s ", MIRROR_SCHEMA,
					 quote_identifier(type->table));
	foreach(cell, missing)
	{
		appendStringInfoString(
			&sql, cell == list_head(missing) ? "ADD COLUMN " : ", ADD COLUMN ");
		append_column(&sql, lfirst(cell), lz4);
	}
	run_ddl(sql.data);
	store_inline(type, missing);
	columns_fill(type, missing);
	foreach(cell, missing)
		create_index(type, lfirst(cell));
}
