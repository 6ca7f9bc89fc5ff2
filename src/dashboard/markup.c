/*
 * markup.c
 *		The page's recurring elements.  Text is escaped here and nowhere else.
 */
#include "postgres.h"

#include "base/html.h"
#include "base/text.h"
#include "base/visible.h"

#include "dashboard/internal.h"

void
html_text(StringInfo out, const char *text)
{
	html_append_escaped(out, text);
}

/* At most so many bytes of a text from outside, without hidden characters */
void
html_clipped(StringInfo out, const char *text, int most)
{
	html_append_escaped(out, text_visible(text_clip(text, most)));
}

/*
 * A name or text from outside.  Its direction of writing does not change that of
 * the text beside it.
 */
void
html_name(StringInfo out, const char *text)
{
	appendStringInfoString(out, "<bdi>");
	html_clipped(out, text, 300);
	appendStringInfoString(out, "</bdi>");
}

void
html_section(StringInfo out, const char *id, const char *title,
			 const char *aside)
{
	appendStringInfo(out,
					 "<section id=\"%s\" aria-labelledby=\"%s-title\">\n"
					 "<h2 id=\"%s-title\">%s",
					 id, id, id, title);
	if (aside != NULL)
	{
		appendStringInfoString(out, " <small>");
		html_text(out, aside);
		appendStringInfoString(out, "</small>");
	}
	appendStringInfoString(out, "</h2>\n");
}

void
html_section_end(StringInfo out)
{
	appendStringInfoString(out, "</section>\n");
}

/* The hour of the day; the date is in the attributes. */
void
html_time(StringInfo out, TimestampTz at)
{
	appendStringInfo(out, "<time datetime=\"%s\" title=\"", utc_time_words(at));
	html_text(out, full_time_words(at));
	appendStringInfo(out, "\">%s</time>", clock_words(at));
}

/* as of 09:00:05, 3 min ago */
void
html_as_of(StringInfo out, TimestampTz at, TimestampTz now)
{
	appendStringInfoString(out, "<span class=\"asof\">");
	if (at == 0)
		appendStringInfoString(out, "no data yet");
	else
	{
		appendStringInfoString(out, "as of ");
		html_time(out, at);
		appendStringInfo(out, " · %s", age_words(at, now));
	}
	appendStringInfoString(out, "</span>");
}

void
html_nothing(StringInfo out, const char *what)
{
	appendStringInfo(out, "<p class=\"nothing\">%s</p>\n", what);
}
