/*
 * verify_report.c
 *		Rows of verify_mirror()'s result.
 */
#include "postgres.h"

#include "engine/statement.h"
#include "inspect/internal.h"

/*
 * Report that a field of an object's row is not what it must be, in the order
 * of the columns in src/tables/tables.sql.  "field" is a column, or in
 * parentheses what concerns the row or the table as a whole.  NULL: no value.
 */
void
verify_report(ReturnSetInfo *result, const char *object_type,
			  const ObjectKey *key, const char *field, const Jsonb *stored,
			  const Jsonb *expected)
{
	result_add_row(result, ARGS(arg_text(object_type), arg_text(key->id),
								arg_text(key->account), arg_text(field),
								arg_jsonb(stored), arg_jsonb(expected)));
}
