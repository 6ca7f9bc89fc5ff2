/*
 * page_size.c
 *		How many objects are asked for at a time.
 *
 * A page that does not come whole (it takes too long, is too large, is cut
 * short) is asked for a few times as it is, then half as large, down to one
 * object.  An object that does not come whole even alone is noted and passed
 * over, when enough has come to tell which it is.  Pages grow again, the later
 * the oftener that was too early.
 */
#include "jobs_internal.h"

#define TRIES		 3	/* of the same, before less is asked for */
#define MAX_PATIENCE 64 /* pages */

/* How often a page may be spoilt before we are told of it. */
int
page_tries(const Part *part)
{
	if (!part->kind->shrinks)
		return 0;
	return part->patience > 0 && part->limit > 1 ? 1 : TRIES;
}

/* What was passed over stays so, now that something behind it has come. */
static void
tell_of_passed(Part *part)
{
	for (int i = 0; i < part->unreadable; i++)
	{
		part->kind->passed_over(part, part->passed[i]);
		pfree(part->passed[i]);
	}
	part->unreadable = 0;
}

/* A page has come, and was written. */
void
page_came(Part *part)
{
	tell_of_passed(part);
	part->grown = false;
	if (part->patience == 0)
		return;
	if (part->limit == PAGE_LIMIT)
		part->patience = 1;
	else if (++part->good >= part->patience)
	{
		part->limit = Min(PAGE_LIMIT, part->limit * 2);
		part->good = 0;
		part->grown = true;
	}
}

static void
shrink(Part *part)
{
	if (part->grown)
		part->patience = Min(MAX_PATIENCE, part->patience * 2);
	part->patience = Max(part->patience, 1);
	part->limit /= 2;
	part->stays = true;
	part->good = 0;
	part->grown = false;
}

static void
pass_over(Part *part, const char *id, const ApiCall *call)
{
	part->kind->pass_over(part, id, call);
	if (part->unreadable == 0)
		part_keep_cursor(part);
	part->passed[part->unreadable++] = MemoryContextStrdup(part->memory, id);
	part_set_cursor(part, id);
}

/*
 * A page has not come whole: true when the part goes on, with less or behind
 * the object.  Where one after the other can't be read they are not to blame,
 * and nothing has been passed over.
 */
bool
page_get_smaller(Part *part, const ApiCall *call)
{
	char *id;

	if (!part->kind->shrinks)
		return false;
	if (part->limit > 1)
	{
		shrink(part);
		return true;
	}
	id = part->kind->pass_over != NULL ? page_first_id(call->body, call->length)
									   : NULL;
	if (id != NULL && part->unreadable < MAX_UNREADABLE &&
		(part->cursor == NULL || strcmp(part->cursor, id) != 0))
	{
		pass_over(part, id, call);
		return true;
	}
	if (part->unreadable > 0)
		part_return_to_cursor(part);
	while (part->unreadable > 0)
		pfree(part->passed[--part->unreadable]);
	return false;
}
