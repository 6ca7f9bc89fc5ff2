/*
 * statement.c
 *		SQL statements on the extension's own tables.
 *
 * Callers are in the engine's scope, with a fixed search_path, and have an active
 * snapshot.  Plans are kept for the session; the server plans them again when a
 * table has changed.  A statement that doesn't only select makes a new command
 * id, so that later statements see its changes.
 *
 * Each function connects to SPI and finishes it.  After an error the abort of the
 * (sub)transaction does that, so rows_close() need not be called.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "nodes/execnodes.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/tuplestore.h"

#include "engine/statement.h"

/* ---- arguments ---- */

StatementArg
arg_datum(Oid type, Datum value)
{
	return (StatementArg){type, false, value};
}

StatementArg
arg_null(Oid type)
{
	return (StatementArg){type, true, (Datum) 0};
}

StatementArg
arg_if(bool given, StatementArg arg)
{
	return given ? arg : arg_null(arg.type);
}

StatementArg
arg_varlena(Oid type, const void *value)
{
	return (StatementArg){type, value == NULL, PointerGetDatum(value)};
}

StatementArg
arg_text(const char *value)
{
	return arg_varlena(TEXTOID, value ? cstring_to_text(value) : NULL);
}

StatementArg
arg_jsonb(const Jsonb *value)
{
	return arg_varlena(JSONBOID, value);
}

StatementArg
arg_interval(const Interval *value)
{
	return (StatementArg){INTERVALOID, value == NULL, IntervalPGetDatum(value)};
}

StatementArg
arg_int4(int32 value)
{
	return arg_datum(INT4OID, Int32GetDatum(value));
}

StatementArg
arg_int8(int64 value)
{
	return arg_datum(INT8OID, Int64GetDatum(value));
}

StatementArg
arg_bool(bool value)
{
	return arg_datum(BOOLOID, BoolGetDatum(value));
}

StatementArg
arg_float8(double value)
{
	return arg_datum(FLOAT8OID, Float8GetDatum(value));
}

StatementArg
arg_oid(Oid value)
{
	return arg_if(OidIsValid(value), arg_datum(OIDOID, ObjectIdGetDatum(value)));
}

StatementArg
arg_time(TimestampTz value)
{
	return arg_datum(TIMESTAMPTZOID, TimestampTzGetDatum(value));
}

StatementArg
arg_of_call(FunctionCallInfo fcinfo, int number, Oid type)
{
	return PG_ARGISNULL(number) ? arg_null(type)
								: arg_datum(type, PG_GETARG_DATUM(number));
}

/* ---- run ---- */

/* The types of the arguments of the first run are those of the parameters. */
static void
set_types(EngineStatement *statement, const StatementArg *args, int nargs)
{
	if (nargs > STATEMENT_MAX_ARGS)
		elog(ERROR, "\"%s\" has %d arguments", statement->sql, nargs);
	statement->nargs = nargs;
	for (int i = 0; i < nargs; i++)
		statement->types[i] = args[i].type;
}

/* A Datum of another type would be misread without an error. */
static void
check_types(const EngineStatement *statement, const StatementArg *args,
			int nargs)
{
	bool same = nargs == statement->nargs;

	for (int i = 0; i < nargs && same; i++)
		same = args[i].type == statement->types[i];
	if (!same)
		elog(ERROR, "\"%s\" is run with other types of arguments",
			 statement->sql);
}

static void
prepare(EngineStatement *statement)
{
	SPIPlanPtr plan = SPI_prepare(statement->sql, statement->nargs,
								  statement->types);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", statement->sql,
			 SPI_result_code_string(SPI_result));
	statement->plan = plan;
}

/* Within SPI.  A rule on one of the tables would make it another statement. */
static void
run(EngineStatement *statement, const StatementArg *args, int nargs)
{
	Datum values[STATEMENT_MAX_ARGS];
	char nulls[STATEMENT_MAX_ARGS];
	int code;

	if (statement->plan == NULL)
	{
		set_types(statement, args, nargs);
		prepare(statement);
	}
	check_types(statement, args, nargs);
	for (int i = 0; i < nargs; i++)
	{
		values[i] = args[i].value;
		nulls[i] = args[i].isnull ? 'n' : ' ';
	}
	code = SPI_execute_plan(statement->plan, values, nulls, false, 0);
	if (code < 0 || code == SPI_OK_REWRITTEN)
		elog(ERROR, "\"%s\" ended with %s", statement->sql,
			 SPI_result_code_string(code));
}

uint64
statement_exec(EngineStatement *statement, const StatementArg *args, int nargs)
{
	uint64 processed;

	SPI_connect();
	run(statement, args, nargs);
	processed = SPI_processed;
	SPI_finish();
	return processed;
}

uint64
statement_exec_once(const char *sql, const StatementArg *args, int nargs)
{
	Oid types[STATEMENT_MAX_ARGS];
	Datum values[STATEMENT_MAX_ARGS];
	char nulls[STATEMENT_MAX_ARGS];
	uint64 processed;
	int code;

	if (nargs > STATEMENT_MAX_ARGS)
		elog(ERROR, "\"%s\" has %d arguments", sql, nargs);
	for (int i = 0; i < nargs; i++)
	{
		types[i] = args[i].type;
		values[i] = args[i].value;
		nulls[i] = args[i].isnull ? 'n' : ' ';
	}
	SPI_connect();
	code = SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0);
	if (code < 0 || code == SPI_OK_REWRITTEN)
		elog(ERROR, "\"%s\" ended with %s", sql, SPI_result_code_string(code));
	processed = SPI_processed;
	SPI_finish();
	return processed;
}

/* ---- rows ---- */

/*
 * Leaves the caller's memory context current, so that values that it reads outlive
 * rows_close().  The rows themselves are in SPI's memory until then.
 */
void
rows_open(Rows *rows, EngineStatement *statement, const StatementArg *args,
		  int nargs)
{
	MemoryContext caller = CurrentMemoryContext;

	SPI_connect();
	run(statement, args, nargs);
	*rows = (Rows){.table = SPI_tuptable, .count = SPI_processed};
	MemoryContextSwitchTo(caller);
}

bool
rows_next(Rows *rows)
{
	if (rows->next >= rows->count)
		return false;
	rows->tuple = rows->table->vals[rows->next++];
	rows->desc = rows->table->tupdesc;
	rows->column = 0;
	return true;
}

void
rows_close(Rows *rows)
{
	MemoryContext caller = CurrentMemoryContext;

	SPI_finish();
	MemoryContextSwitchTo(caller);
	rows->table = NULL;
}

Rows
rows_of_tuple(HeapTuple tuple, TupleDesc desc)
{
	return (Rows){.tuple = tuple, .desc = desc};
}

/* ---- columns ---- */

static void
wrong_type(const Rows *rows, Oid type)
{
	Form_pg_attribute attribute = TupleDescAttr(rows->desc, rows->column - 1);

	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("column \"%s\" is of type %s instead of %s",
					NameStr(attribute->attname),
					format_type_be(attribute->atttypid), format_type_be(type)),
			 errhint("Change the column's type back.")));
}

static Datum
next_value(Rows *rows, bool *isnull)
{
	if (++rows->column > rows->desc->natts)
		elog(ERROR, "a row has no column %d", rows->column);
	return heap_getattr(rows->tuple, rows->column, rows->desc, isnull);
}

Datum
rows_datum(Rows *rows, Oid type, bool *isnull)
{
	Datum value = next_value(rows, isnull);

	if (TupleDescAttr(rows->desc, rows->column - 1)->atttypid != type)
		wrong_type(rows, type);
	return value;
}

void
rows_skip(Rows *rows)
{
	rows->column++;
}

char *
rows_text(Rows *rows)
{
	bool isnull;
	Datum value = next_value(rows, &isnull);

	if (isnull)
		return NULL;
	if (TupleDescAttr(rows->desc, rows->column - 1)->atttypid == TEXTOID)
		return TextDatumGetCString(value);
	return SPI_getvalue(rows->tuple, rows->desc, rows->column);
}

void *
rows_varlena(Rows *rows, Oid type)
{
	bool isnull;
	Datum value = rows_datum(rows, type, &isnull);

	return isnull ? NULL : PG_DETOAST_DATUM_COPY(value);
}

Jsonb *
rows_jsonb(Rows *rows)
{
	return rows_varlena(rows, JSONBOID);
}

/* An interval has a fixed size, and is passed by reference. */
Interval *
rows_interval(Rows *rows)
{
	bool isnull;
	Datum value = rows_datum(rows, INTERVALOID, &isnull);
	Interval *copy;

	if (isnull)
		return NULL;
	copy = palloc(sizeof(Interval));
	*copy = *DatumGetIntervalP(value);
	return copy;
}

static Datum
value_or(Rows *rows, Oid type, Datum otherwise)
{
	bool isnull;
	Datum value = rows_datum(rows, type, &isnull);

	return isnull ? otherwise : value;
}

int32
rows_int4(Rows *rows, int32 otherwise)
{
	return DatumGetInt32(value_or(rows, INT4OID, Int32GetDatum(otherwise)));
}

int64
rows_int8(Rows *rows, int64 otherwise)
{
	return DatumGetInt64(value_or(rows, INT8OID, Int64GetDatum(otherwise)));
}

bool
rows_bool(Rows *rows, bool otherwise)
{
	return DatumGetBool(value_or(rows, BOOLOID, BoolGetDatum(otherwise)));
}

double
rows_float8(Rows *rows, double otherwise)
{
	return DatumGetFloat8(value_or(rows, FLOAT8OID, Float8GetDatum(otherwise)));
}

Oid
rows_oid(Rows *rows)
{
	return DatumGetObjectId(value_or(rows, OIDOID, ObjectIdGetDatum(InvalidOid)));
}

TimestampTz
rows_time(Rows *rows, TimestampTz otherwise)
{
	return DatumGetTimestampTz(
		value_or(rows, TIMESTAMPTZOID, TimestampTzGetDatum(otherwise)));
}

/* ---- one value ---- */

char *
statement_text(EngineStatement *statement, const StatementArg *args, int nargs)
{
	Rows rows;
	char *value;

	rows_open(&rows, statement, args, nargs);
	value = rows_next(&rows) ? rows_text(&rows) : NULL;
	rows_close(&rows);
	return value;
}

Jsonb *
statement_jsonb(EngineStatement *statement, const StatementArg *args, int nargs)
{
	Rows rows;
	Jsonb *value;

	rows_open(&rows, statement, args, nargs);
	value = rows_next(&rows) ? rows_jsonb(&rows) : NULL;
	rows_close(&rows);
	return value;
}

/* The first column of the first row, copied: the row goes with the connection. */
static Datum
first_value(EngineStatement *statement, const StatementArg *args, int nargs,
			Oid type, Datum otherwise)
{
	Rows rows;
	Datum value = otherwise;

	rows_open(&rows, statement, args, nargs);
	if (rows_next(&rows))
	{
		Form_pg_attribute attribute = TupleDescAttr(rows.desc, 0);

		value = datumCopy(value_or(&rows, type, otherwise), attribute->attbyval,
						  attribute->attlen);
	}
	rows_close(&rows);
	return value;
}

int64
statement_int8(int64 otherwise, EngineStatement *statement,
			   const StatementArg *args, int nargs)
{
	return DatumGetInt64(
		first_value(statement, args, nargs, INT8OID, Int64GetDatum(otherwise)));
}

bool
statement_bool(bool otherwise, EngineStatement *statement,
			   const StatementArg *args, int nargs)
{
	return DatumGetBool(
		first_value(statement, args, nargs, BOOLOID, BoolGetDatum(otherwise)));
}

TimestampTz
statement_time(TimestampTz otherwise, EngineStatement *statement,
			   const StatementArg *args, int nargs)
{
	return DatumGetTimestampTz(first_value(
		statement, args, nargs, TIMESTAMPTZOID, TimestampTzGetDatum(otherwise)));
}

/* ---- the result of a set-returning function ---- */

/* The tuplestore checks neither the number of columns nor their types. */
void
result_add_row(ReturnSetInfo *result, const StatementArg *args, int nargs)
{
	Datum values[STATEMENT_MAX_ARGS];
	bool nulls[STATEMENT_MAX_ARGS];

	if (nargs > STATEMENT_MAX_ARGS || nargs != result->setDesc->natts)
		elog(ERROR, "a result of %d columns gets a row of %d",
			 result->setDesc->natts, nargs);
	for (int i = 0; i < nargs; i++)
	{
		if (args[i].type != TupleDescAttr(result->setDesc, i)->atttypid)
			elog(ERROR, "column %d of a result is of another type", i + 1);
		values[i] = args[i].value;
		nulls[i] = args[i].isnull;
	}
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}
