/*
 * cursor.c
 *		Where a part is in its list.
 *
 * A list that does not end is found by Brent's algorithm: a cursor is kept and
 * compared with those that follow, for twice as many each time.  Its memory is
 * constant, however long the list is.
 */
#include "jobs_internal.h"

#include "utils/memutils.h"

void
part_set_cursor(Part *part, const char *cursor)
{
	part_set_string(part, &part->cursor, cursor);
}

/* Where it was before what it may have to come back to. */
void
part_keep_cursor(Part *part)
{
	part_set_string(part, &part->sound_cursor, part->cursor);
}

void
part_return_to_cursor(Part *part)
{
	part_set_string(part, &part->cursor, part->sound_cursor);
}

static void
begin_lap(Part *part)
{
	part_set_string(part, &part->tortoise, NULL);
	part->steps = 0;
	part->lap = 1;
}

/* From the top: the same ids follow again, and that is no circle. */
void
part_restart(Part *part)
{
	part_set_cursor(part, NULL);
	begin_lap(part);
}

/* Has the list been at "next" before?  Asked once for each new cursor. */
bool
part_goes_round(Part *part, const char *next)
{
	if (part->lap == 0)
		begin_lap(part);
	if (part->tortoise != NULL && strcmp(part->tortoise, next) == 0)
		return true;
	if (++part->steps >= part->lap)
	{
		part_set_string(part, &part->tortoise, next);
		part->steps = 0;
		part->lap *= 2;
	}
	return false;
}

/* ---- undone ---- */

/* Where a part is, before what may fail; within the transaction's memory. */
PartMark
part_mark(const Part *part)
{
	return (PartMark){part->cursor ? pstrdup(part->cursor) : NULL,
					  part->parent_id ? pstrdup(part->parent_id) : NULL,
					  part->until, part->progress};
}

void
part_restore(Part *part, const PartMark *mark)
{
	part_set_cursor(part, mark->cursor);
	part_set_parent(part, mark->parent_id);
	part->until = mark->until;
	part->progress = mark->progress;
	part_forget(part);
}
