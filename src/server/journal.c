/*
 * journal.c
 *		Records set-up changes and switches in stripe_sync.journal: what, when
 *		and by whom.
 *
 * An entry commits or rolls back with the change that it records.  Equal
 * entries within an hour are one row with a count.  A row that another
 * transaction has locked is not waited for: a new row is inserted instead.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "base/text.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "server/server.h"

#define MAX_DETAIL 1024 /* bytes */

/* Count the entry in an equal one of the last hour.  False if there is none. */
static bool
count_entry(const char *what, const char *ref, const char *by,
			const char *detail, bool any_detail)
{
	static EngineStatement count = {
		"UPDATE stripe_sync.journal SET count = count + 1, detail = $4,"
		" last_at = pg_catalog.clock_timestamp()"
		" WHERE id = (SELECT j.id FROM stripe_sync.journal j"
		"  WHERE j.at > pg_catalog.clock_timestamp() - interval '1 hour'"
		"   AND j.what = $1 AND j.ref IS NOT DISTINCT FROM $2 AND j.by = $3"
		"   AND ($5 OR j.detail IS NOT DISTINCT FROM $4)"
		"  ORDER BY j.at DESC LIMIT 1 FOR UPDATE SKIP LOCKED)"};

	return statement_exec(&count,
						  ARGS(arg_text(what), arg_text(ref), arg_text(by),
							   arg_text(detail), arg_bool(any_detail))) > 0;
}

static void
insert_entry(const char *what, const char *ref, const char *by,
			 const char *detail)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.journal (what, ref, by, detail, at, last_at)"
		" SELECT $1, $2, $3, $4, c.now, c.now FROM pg_catalog.clock_timestamp() AS c (now)"};

	(void) statement_exec(&insert, ARGS(arg_text(what), arg_text(ref),
										arg_text(by), arg_text(detail)));
}

static const char *author = NULL; /* within journal_run_as() */

/* Run body(arg), whose entries are by that person ("slack:U..."). */
void
journal_run_as(const char *by, void (*body)(void *), void *arg)
{
	const char *former = author;

	author = by;
	PG_TRY();
	{
		body(arg);
	}
	PG_FINALLY();
	{
		author = former;
	}
	PG_END_TRY();
}

/* That person, the role that called the extension, or "worker" */
static char *
entry_author(void)
{
	if (author != NULL)
		return pstrdup(author);
	return process_is_worker() ? pstrdup("worker")
							   : GetUserNameFromId(role_caller(), false);
}

static void
write_entry(const char *what, const char *ref, const char *by,
			const char *detail, bool any_detail)
{
	char *cut = detail != NULL ? text_clip(detail, MAX_DETAIL) : NULL;
	RoleScope scope = role_enter_engine();

	if (!count_entry(what, ref, by, cut, any_detail))
		insert_entry(what, ref, by, cut);
	role_leave(&scope);
}

/*
 * Record "what" (such as "endpoint.added") about "ref".  ref and detail may be
 * NULL.  Entries that differ in their detail are rows of their own.
 */
void
journal_note(const char *what, const char *ref, const char *detail)
{
	write_entry(what, ref, entry_author(), detail, false);
}

void
journal_note_text(const char *what, text *ref, const char *detail)
{
	write_entry(what, text_to_cstring(ref), entry_author(), detail, false);
}

/* The same, but entries with different details are one row with the last one. */
void
journal_count(const char *what, const char *ref, const char *detail)
{
	write_entry(what, ref, entry_author(), detail, true);
}
