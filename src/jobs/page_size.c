/*
 * page_size.c
 *		How many objects a page of a list has.
 *
 * A page that arrives incomplete (it times out, is too large, or is cut short)
 * is requested a few times unchanged and then with half the size, down to one
 * object.  An object that can't be read even by itself is noted and skipped, if
 * enough of it has arrived to know its id.  The size is doubled again after some
 * complete pages; each time that was too early, twice as many are required the
 * next time.
 */
#include "postgres.h"

#include "jobs/jobs.h"
#include "jobs/part.h"
#include "stripe/stripe.h"
#include "jobs/internal.h"

#define SAME_SIZE_TRIES	  3	 /* before the page is made smaller */
#define MAX_BEFORE_GROWTH 64 /* pages */

/*
 * How often the client may repeat a request whose answer is incomplete before
 * it returns it.  0: the request is not for a page.
 */
int
page_tries(const Part *part)
{
	if (!part->kind->shrinks)
		return 0;
	return part->pages_before_growth > 0 && part->limit > 1 ? 1
															: SAME_SIZE_TRIES;
}

/* A later object has been read, so the skipped ones stay unread. */
static void
report_skipped(Part *part)
{
	for (int i = 0; i < part->unreadable; i++)
	{
		part->kind->skipped(part, part->unreadable_ids[i]);
		pfree(part->unreadable_ids[i]);
	}
	part->unreadable = 0;
}

/* A complete page has been written; called in its transaction. */
void
page_written(Part *part)
{
	report_skipped(part);
	part->just_grown = false;
	if (part->pages_before_growth == 0)
		return;
	if (part->limit == PAGE_LIMIT)
		part->pages_before_growth = 1;
	else if (++part->good_pages >= part->pages_before_growth)
	{
		part->limit = Min(PAGE_LIMIT, part->limit * 2);
		part->good_pages = 0;
		part->just_grown = true;
	}
}

static void
shrink(Part *part)
{
	if (part->just_grown)
		part->pages_before_growth = Min(MAX_BEFORE_GROWTH,
										part->pages_before_growth * 2);
	part->pages_before_growth = Max(part->pages_before_growth, 1);
	part->limit /= 2;
	part->no_progress = true;
	part->good_pages = 0;
	part->just_grown = false;
}

static void
skip_object(Part *part, const char *id, const ApiCall *call)
{
	part->kind->skip(part, id, call);
	if (part->unreadable == 0)
		part_save_cursor(part);
	part->unreadable_ids[part->unreadable++] = MemoryContextStrdup(part->memory,
																   id);
	part_set_cursor(part, id);
}

/*
 * Handle an incomplete page.  Returns true if the part goes on, with a smaller
 * page or after the unreadable object.  Returns false if too many objects in
 * succession are unreadable: the objects are not the cause then, and the part is
 * back where it was before the first of them.
 */
bool
page_shrink_or_skip(Part *part, const ApiCall *call)
{
	char *id;

	if (!part->kind->shrinks)
		return false;
	if (part->limit > 1)
	{
		shrink(part);
		return true;
	}
	id = part->kind->skip != NULL ? list_page_first_id(call->body, call->length)
								  : NULL;
	if (id != NULL && part->unreadable < MAX_UNREADABLE &&
		(part->cursor == NULL || strcmp(part->cursor, id) != 0))
	{
		skip_object(part, id, call);
		return true;
	}
	if (part->unreadable > 0)
		part_return_to_cursor(part);
	while (part->unreadable > 0)
		pfree(part->unreadable_ids[--part->unreadable]);
	return false;
}
