/*
 * statement.h
 *		SQL statements on the extension's own tables.
 *
 * A statement is prepared at its first use and kept for the session.  Types of
 * its parameters are those of the arguments, which must be the same at every
 * call:
 *
 *	static EngineStatement update = {"UPDATE ... SET state = $2 WHERE id = $1"};
 *
 *	changed = statement_exec(&update, ARGS(arg_int8(id), arg_text(state))) > 0;
 *
 *	rows_open(&rows, &select, ARGS(arg_text(name)));
 *	while (rows_next(&rows))
 *	{
 *		char *key = rows_text(&rows);		columns in their order
 *		int64 count = rows_int8(&rows);
 *	}
 *	rows_close(&rows);
 *
 * All of it runs in the engine's scope.  Each function connects to SPI itself.
 */
#ifndef STRIPE_SYNC_STATEMENT_H
#define STRIPE_SYNC_STATEMENT_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "base/base.h"

#define STATEMENT_MAX_ARGS 24

struct ReturnSetInfo;

typedef struct EngineStatement
{
	const char *sql;
	int nargs;
	Oid types[STATEMENT_MAX_ARGS];
	struct _SPI_plan *plan;
} EngineStatement;

typedef struct StatementArg
{
	Oid type;
	bool isnull;
	Datum value;
} StatementArg;

#define ARGS(...)                                                              \
	((const StatementArg[]){__VA_ARGS__}),                                     \
		lengthof(((const StatementArg[]){__VA_ARGS__}))
#define NO_ARGS NULL, 0

/* ---- arguments ---- */

extern StatementArg arg_text(const char *value); /* NULL is null, as below */
extern StatementArg arg_varlena(Oid type, const void *value);
extern StatementArg arg_int4(int32 value);
extern StatementArg arg_int8(int64 value);
extern StatementArg arg_bool(bool value);
extern StatementArg arg_float8(double value);
extern StatementArg arg_oid(Oid value); /* InvalidOid is null */
extern StatementArg arg_time(TimestampTz value);
extern StatementArg arg_interval(const Interval *value);
extern StatementArg arg_jsonb(const Jsonb *value);
extern StatementArg arg_datum(Oid type, Datum value);
extern StatementArg arg_null(Oid type);

/* "arg" if "given", else null of the same type */
extern StatementArg arg_if(bool given, StatementArg arg);

/* An argument of a SQL function, null or not */
extern StatementArg arg_of_call(FunctionCallInfo fcinfo, int number, Oid type);

/* ---- statements without a result, or with one value ---- */

/* Returns the number of rows. */
extern uint64 statement_exec(EngineStatement *statement,
							 const StatementArg *args, int nargs);

/* The same, planned for these arguments and not kept */
extern uint64 statement_exec_once(const char *sql, const StatementArg *args,
								  int nargs);

/*
 * The first column of the first row, in the caller's memory.  NULL, or
 * "otherwise", if there is no row or the value is null.
 */
extern char *statement_text(EngineStatement *statement,
							const StatementArg *args, int nargs);
extern Jsonb *statement_jsonb(EngineStatement *statement,
							  const StatementArg *args, int nargs);
extern int64 statement_int8(int64 otherwise, EngineStatement *statement,
							const StatementArg *args, int nargs);
extern bool statement_bool(bool otherwise, EngineStatement *statement,
						   const StatementArg *args, int nargs);
extern TimestampTz statement_time(TimestampTz otherwise,
								  EngineStatement *statement,
								  const StatementArg *args, int nargs);

/* ---- rows ---- */

typedef struct Rows
{
	struct SPITupleTable *table;
	uint64 count;
	uint64 next;
	HeapTuple tuple;
	TupleDesc desc;
	int column; /* the one that was read last, 0: none */
} Rows;

extern void rows_open(Rows *rows, EngineStatement *statement,
					  const StatementArg *args, int nargs);
extern bool rows_next(Rows *rows);
extern void rows_close(Rows *rows);

/* One row that something else has read; neither opened nor closed */
extern Rows rows_of_tuple(HeapTuple tuple, TupleDesc desc);

/*
 * The next column of the row, in the current memory context.  Raises an error
 * if it has another type.  Those without "otherwise" return NULL for null.
 */
extern char *rows_text(Rows *rows); /* of any type, as text */
extern void *rows_varlena(Rows *rows, Oid type);
extern Jsonb *rows_jsonb(Rows *rows);
extern Interval *rows_interval(Rows *rows);
extern int32 rows_int4(Rows *rows, int32 otherwise);
extern int64 rows_int8(Rows *rows, int64 otherwise);
extern bool rows_bool(Rows *rows, bool otherwise);
extern double rows_float8(Rows *rows, double otherwise);
extern Oid rows_oid(Rows *rows);
extern TimestampTz rows_time(Rows *rows, TimestampTz otherwise);
extern Datum rows_datum(Rows *rows, Oid type, bool *isnull); /* not copied */
extern void rows_skip(Rows *rows);

/* ---- the result of a set-returning function ---- */

/* Add a row to the result that InitMaterializedSRF() has begun. */
extern void result_add_row(struct ReturnSetInfo *result,
						   const StatementArg *args, int nargs);

#endif /* STRIPE_SYNC_STATEMENT_H */
