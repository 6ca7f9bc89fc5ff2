/*
 * api_path.c
 *		Paths of requests to Stripe's API.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "base/text.h"
#include "jobs/jobs.h"
#include "jobs/part.h"

/* A full stop is encoded too: ".." would lead to another path. */
static bool
is_literal_in_path(unsigned char c)
{
	return text_is_unreserved(c) && c != '.' && c != '~';
}

/*
 * Append a string, percent-encoded, as one segment of a path or one value of a
 * query.  Ids come from outside and must not change the rest of the path.
 */
void
api_path_append(StringInfo path, const char *text)
{
	text_append_percent_encoded(path, text, is_literal_in_path);
}

/* A path of the catalog with its {id} replaced */
char *
api_path_with_id(const char *pattern, const char *id)
{
	const char *hole = strchr(pattern, '{');
	StringInfoData path;

	initStringInfo(&path);
	if (hole == NULL)
	{
		appendStringInfoString(&path, pattern);
		return path.data;
	}
	appendBinaryStringInfo(&path, pattern, (int) (hole - pattern));
	api_path_append(&path, id);
	appendStringInfoString(&path, strchr(hole, '}') + 1);
	return path.data;
}

/*
 * Append the query for the next page of a part's list: after the cursor, or the
 * first page if there is none.
 */
void
api_path_append_page(StringInfo path, const Part *part)
{
	appendStringInfo(path, "%climit=%d",
					 strchr(path->data, '?') != NULL ? '&' : '?', part->limit);
	if (part->cursor != NULL && part->cursor[0] != '\0')
	{
		appendStringInfoString(path, "&starting_after=");
		api_path_append(path, part->cursor);
	}
}
