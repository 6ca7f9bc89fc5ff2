/*
 * journal.c
 *		What was set, switched and stopped, when and by whom, in
 *		stripe_sync.journal: known when it is over.
 *
 * An entry commits or rolls back with what it tells.  Equal entries within an
 * hour are one row with a count; a row that somebody else has locked is left
 * alone and another is made, so that nobody waits for the journal.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "text.h"

#define MAX_DETAIL 1024 /* bytes */

/* Arguments of the statements below. */
enum
{
	ARG_WHAT,
	ARG_REF,
	ARG_BY,
	ARG_DETAIL,
	ARG_ANY_DETAIL,
	NARGS
};

#define ARG_TYPES                                                              \
	{                                                                          \
		TEXTOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID                            \
	}

static bool
count_row(Datum *values, const char *nulls)
{
	static EngineStatement count = {
		"UPDATE stripe_sync.journal SET count = count + 1, detail = $4,"
		" last_at = pg_catalog.clock_timestamp()"
		" WHERE id = (SELECT j.id FROM stripe_sync.journal j"
		"  WHERE j.at > pg_catalog.clock_timestamp() - interval '1 hour'"
		"   AND j.what = $1 AND j.ref IS NOT DISTINCT FROM $2 AND j.by = $3"
		"   AND ($5 OR j.detail IS NOT DISTINCT FROM $4)"
		"  ORDER BY j.at DESC LIMIT 1 FOR UPDATE SKIP LOCKED)",
		NARGS, ARG_TYPES};

	engine_run(&count, values, nulls, SPI_OK_UPDATE);
	return SPI_processed > 0;
}

static void
insert_row(Datum *values, const char *nulls)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.journal (what, ref, by, detail, at, last_at)"
		" SELECT $1, $2, $3, $4, c.now, c.now FROM pg_catalog.clock_timestamp() AS c (now)",
		NARGS - 1,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID}};

	engine_run(&insert, values, nulls, SPI_OK_INSERT);
}

static char *
whose_doing(void)
{
	return slots_is_worker() ? pstrdup("worker")
							 : GetUserNameFromId(role_caller(), false);
}

static void
note(const char *what, const char *ref, const char *detail, bool any_detail)
{
	Datum values[NARGS] = {
		[ARG_WHAT] = CStringGetTextDatum(what),
		[ARG_REF] = ref ? CStringGetTextDatum(ref) : (Datum) 0,
		[ARG_BY] = CStringGetTextDatum(whose_doing()),
		[ARG_DETAIL] = detail
						   ? CStringGetTextDatum(text_clip(detail, MAX_DETAIL))
						   : (Datum) 0,
		[ARG_ANY_DETAIL] = BoolGetDatum(any_detail)};
	char nulls[] = {' ', ref ? ' ' : 'n', ' ', detail ? ' ' : 'n', ' ', '\0'};
	RoleScope scope = role_enter_engine();

	SPI_connect();
	if (!count_row(values, nulls))
		insert_row(values, nulls);
	SPI_finish();
	role_leave(&scope);
}

void
journal_note(const char *what, const char *ref, const char *detail)
{
	note(what, ref, detail, false);
}

void
journal_note_text(const char *what, text *ref, const char *detail)
{
	note(what, text_to_cstring(ref), detail, false);
}

void
journal_count(const char *what, const char *ref, const char *detail)
{
	note(what, ref, detail, true);
}
