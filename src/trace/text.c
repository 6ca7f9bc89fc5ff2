/*
 * text.c
 *		trace_text(): stories for a terminal of 80 columns.
 *
 *	2026-11-28 09:00:00  stripe    invoice.payment_failed  evt_09
 *	             +0.4 s  postgres  received by endpoint default; applied: status
 *	                               draft → open
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "engine/engine.h"
#include "trace/internal.h"

#define LINE_COLUMNS   80
#define TIME_COLUMNS   19
#define SYSTEM_COLUMNS 8
#define WHAT_COLUMN	   (TIME_COLUMNS + 2 + SYSTEM_COLUMNS + 2)
#define HANGING		   2 /* of a heading or verdict */

/* Later lines within this time are shown relative to the last full one. */
#define RELATIVE_SECONDS 60

/* ---- wrapping ---- */

static void
new_line(StringInfo out, int indent)
{
	appendStringInfo(out, "\n%*s", indent, "");
}

/* The bytes that stay on one line, if they fit into so many columns */
static int
unit_length(const char *text, int columns)
{
	int length = words_statement(text);

	if (length > 0 && words_width(pnstrdup(text, length)) <= columns)
		return length;
	return strcspn(text, " ");
}

/* Append a word that is longer than a line, broken anywhere. */
static int
append_broken(StringInfo out, const char *text, int length, int column,
			  int indent)
{
	for (int i = 0; i < length;)
	{
		int bytes = pg_mblen(text + i);
		int width = Max(pg_dsplen(text + i), 0);

		if (column + width > LINE_COLUMNS)
		{
			new_line(out, indent);
			column = indent;
		}
		appendBinaryStringInfo(out, text + i, bytes);
		column += width;
		i += bytes;
	}
	return column;
}

/*
 * Append a text that begins in a column; its other lines begin at "indent".
 * Spaces within a line are kept, those around a break are not.  Returns the
 * column where it ends.
 */
static int
append_wrapped(StringInfo out, const char *text, int column, int indent)
{
	int line = column; /* where this line begins */

	while (*text != '\0')
	{
		int spaces = strspn(text, " ");
		int length = unit_length(text + spaces, LINE_COLUMNS - indent);
		int width = words_width(pnstrdup(text + spaces, length));

		if (column > line && column + spaces + width > LINE_COLUMNS)
		{
			new_line(out, indent);
			column = line = indent;
		}
		else if (length > 0 && column > line)
		{
			appendStringInfoSpaces(out, spaces);
			column += spaces;
		}
		column = append_broken(out, text + spaces, length, column, indent);
		text += spaces + length;
	}
	return column;
}

/* A heading: its parts, which three spaces separate, are kept whole. */
static void
append_heading(StringInfo out, const char *heading)
{
	int column = 0;

	while (*heading != '\0')
	{
		const char *end = strstr(heading, HEADING_SPACE);
		int length = end != NULL ? end - heading : strlen(heading);
		char *part = pnstrdup(heading, length);
		int space = strlen(HEADING_SPACE);

		if (column > 0 && column + space + words_width(part) > LINE_COLUMNS)
		{
			new_line(out, HANGING);
			column = HANGING;
		}
		else if (column > 0)
		{
			appendStringInfoString(out, HEADING_SPACE);
			column += space;
		}
		column = append_wrapped(out, part, column, HANGING);
		heading += length;
		heading += strspn(heading, " ");
	}
}

/* ---- lines ---- */

/*
 * "2026-11-28 09:00:00", or "+0.4 s" since the last line with a full time, whose
 * time "base" holds; DT_NOBEGIN at first.
 */
char *
trace_time_cell(TimestampTz at, TimestampTz *base)
{
	if (TIMESTAMP_NOT_FINITE(at))
		return pstrdup("");
	if (!TIMESTAMP_NOT_FINITE(*base) && at >= *base &&
		at - *base < RELATIVE_SECONDS * USECS_PER_SEC)
		return psprintf("+%.1f s", (double) (at - *base) / USECS_PER_SEC);
	*base = at;
	return words_time(at, true);
}

static void
append_line(StringInfo out, const TraceLine *line, TimestampTz *base)
{
	appendStringInfo(out, "%*s  %-*s  ", TIME_COLUMNS,
					 trace_time_cell(line->at, base), SYSTEM_COLUMNS,
					 line->system);
	append_wrapped(out, line->what, WHAT_COLUMN, WHAT_COLUMN);
	appendStringInfoChar(out, '\n');
}

static void
append_story(StringInfo out, const TraceStory *story)
{
	TimestampTz base = DT_NOBEGIN;
	ListCell *cell;

	if (story->verdict != NULL)
	{
		append_wrapped(out, story->verdict, 0, HANGING);
		appendStringInfoString(out, "\n\n");
	}
	append_heading(out, story->heading);
	appendStringInfoChar(out, '\n');
	if (story->lines != NIL)
		appendStringInfoChar(out, '\n');
	foreach(cell, story->lines)
		append_line(out, lfirst(cell), &base);
	if (story->cut != NULL)
	{
		appendStringInfoChar(out, '\n');
		append_wrapped(out, story->cut, 0, HANGING);
		appendStringInfoChar(out, '\n');
	}
}

/* The stories that a call with the arguments (ref, account, span) asks for */
List *
trace_collect_call(FunctionCallInfo fcinfo)
{
	char *account = PG_ARGISNULL(1) ? NULL
									: text_to_cstring(PG_GETARG_TEXT_PP(1));
	Interval *span = PG_ARGISNULL(2) ? NULL : PG_GETARG_INTERVAL_P(2);

	argument_required(fcinfo, 0, "the reference");
	return trace_collect(text_to_cstring(PG_GETARG_TEXT_PP(0)), account, span);
}

static StringInfoData
stories_text(List *stories)
{
	StringInfoData out;
	ListCell *cell;

	initStringInfo(&out);
	foreach(cell, stories)
	{
		if (out.len > 0)
			appendStringInfoString(&out, "\n\n");
		append_story(&out, lfirst(cell));
	}
	while (out.len > 0 && out.data[out.len - 1] == '\n')
		out.data[--out.len] = '\0';
	return out;
}

char *
trace_text(const char *ref, const char *account, const Interval *span)
{
	return stories_text(trace_collect(ref, account, span)).data;
}

/* trace_text(ref, account, span) */
ENGINE_FUNCTION(stripe_sync_trace_text)
{
	StringInfoData out = stories_text(trace_collect_call(fcinfo));

	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
