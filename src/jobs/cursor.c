/*
 * cursor.c
 *		The position of a part in its list.
 *
 * A list that never ends is found by Brent's algorithm: one cursor is saved and
 * compared with those that follow, for twice as many pages each time.  It needs
 * constant memory however long the list is.  Without it, a proxy or a mock of
 * the API that ignores starting_after would have the same page read for ever.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "jobs/jobs.h"
#include "jobs/part.h"
#include "jobs/internal.h"

void
part_set_cursor(Part *part, const char *cursor)
{
	part_set_string(part, &part->cursor, cursor);
}

/* Remember the cursor before the first of several unreadable objects. */
void
part_save_cursor(Part *part)
{
	part_set_string(part, &part->cursor_before_unreadable, part->cursor);
}

/* Go back to the cursor that part_save_cursor() remembered. */
void
part_return_to_cursor(Part *part)
{
	part_set_string(part, &part->cursor, part->cursor_before_unreadable);
}

static void
begin_lap(Part *part)
{
	part_set_string(part, &part->saved_cursor, NULL);
	part->steps = 0;
	part->lap = 1;
}

/*
 * Begin the list again from the top.  The same ids follow then, so the search
 * for a cycle begins again too.
 */
void
part_restart(Part *part)
{
	part_set_cursor(part, NULL);
	begin_lap(part);
}

/*
 * Has the list had the cursor "next" before?  To be called once for each new
 * cursor.
 */
bool
part_cursor_repeats(Part *part, const char *next)
{
	if (part->lap == 0)
		begin_lap(part);
	if (part->saved_cursor != NULL && strcmp(part->saved_cursor, next) == 0)
		return true;
	if (++part->steps >= part->lap)
	{
		part_set_string(part, &part->saved_cursor, next);
		part->steps = 0;
		part->lap *= 2;
	}
	return false;
}

/* ---- rollback ---- */

/* The part's position, in the current memory context, for part_restore() */
PartMark
part_mark(const Part *part)
{
	return (PartMark){part->cursor ? pstrdup(part->cursor) : NULL,
					  part->parent_id ? pstrdup(part->parent_id) : NULL,
					  part->until, part->progress};
}

/* Go back to a mark, after the subtransaction that wrote a page was aborted. */
void
part_restore(Part *part, const PartMark *mark)
{
	part_set_cursor(part, mark->cursor);
	part_set_parent(part, mark->parent_id);
	part->until = mark->until;
	part->progress = mark->progress;
	part_reset_results(part);
}
