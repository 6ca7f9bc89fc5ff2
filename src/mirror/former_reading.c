/*
 * former_reading.c
 *		stripe_sync.former_reading: what earlier fetches of an object found, after
 *		newer data has replaced it in the mirror.
 *
 * An event says what it changed; a fetched object shows a state only, and would
 * be lost when the next event replaces it.  Of several fetches in succession that
 * found the same, the first and the last are enough: the last is in the mirror,
 * or is noted when it is replaced by something else.
 */
#include "postgres.h"

#include "engine/statement.h"
#include "mirror/mirror.h"
#include "mirror/internal.h"

/*
 * Note what a fetch found; NULL: the object did not exist.  "again": the next
 * fetch finds the same, so that only the first of them is noted.
 */
void
former_reading_note(const CatalogType *type, const char *id, const char *account,
					TimestampTz as_of, JsonbContainer *object, bool again)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.former_reading"
		" (object_id, object_type, account, as_of, object)"
		" SELECT $1, $2, $3, $4, $5 WHERE NOT $6 OR $5 IS DISTINCT FROM"
		"  (SELECT f.object FROM stripe_sync.former_reading f"
		"    WHERE f.object_id = $1 AND f.object_type = $2 AND f.account = $3"
		"    ORDER BY f.as_of DESC LIMIT 1)"
		" ON CONFLICT DO NOTHING"};
	Jsonb *found = object != NULL ? json_standalone(object) : NULL;

	(void) statement_exec(&insert, ARGS(arg_text(id), arg_text(type->object),
										arg_text(account), arg_time(as_of),
										arg_jsonb(found), arg_bool(again)));
}

/* What is noted of an object, of FormerReading, oldest first. */
List *
former_reading_list(const CatalogType *type, const char *id, const char *account)
{
	static EngineStatement select = {
		"SELECT as_of, object FROM stripe_sync.former_reading"
		" WHERE object_id = $1 AND object_type = $2 AND account = $3"
		" ORDER BY as_of"};
	List *readings = NIL;
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_text(id), arg_text(type->object), arg_text(account)));
	while (rows_next(&rows))
	{
		FormerReading *reading = palloc(sizeof(FormerReading));

		reading->as_of = rows_time(&rows, 0);
		reading->object = rows_jsonb(&rows);
		readings = lappend(readings, reading);
	}
	rows_close(&rows);
	return readings;
}
