/*
 * html.c
 *		trace_html(): stories as a page for a browser, without script and without
 *		anything that is fetched.
 */
#include "postgres.h"

#include "pgtime.h"
#include "utils/builtins.h"

#include "base/html.h"
#include "base/visible.h"
#include "engine/engine.h"
#include "trace/internal.h"

/*
 * Colours have a contrast of at least 4.5 with their background, in light and in
 * dark (WCAG 2.2, AA).
 */
static const char style[] =
	".trace{--text:#1c2330;--soft:#57606e;--line:#dde1e7;--wrong:#a01722;"
	"--wrong-back:#fdf0f0;--stripe:#4b3fc4;--postgres:#22628f;--slack:#7a1f6d;"
	"color:var(--text);line-height:1.45;overflow-wrap:anywhere}\n"
	"@media screen and (prefers-color-scheme:dark){.trace{--text:#e4e7ec;--soft:#a3acba;"
	"--line:#363d49;--wrong:#ff9b9b;--wrong-back:#3a1c20;--stripe:#b1a8ff;"
	"--postgres:#8cc4ee;--slack:#eaa2df}}\n"
	".trace-heading{font-size:1.1rem;margin:.6rem 0;display:flex;flex-wrap:wrap;"
	"gap:.2rem 1.2rem;font-weight:400}\n"
	".trace-heading span:first-child{font-weight:700}\n"
	".trace-verdict{margin:.6rem 0;padding:.5rem .8rem;color:var(--wrong);"
	"background:var(--wrong-back);border-left:4px solid var(--wrong)}\n"
	".trace code{font:.95em ui-monospace,Menlo,Consolas,monospace;"
	"-webkit-user-select:all;user-select:all}\n"
	".trace-lines{list-style:none;margin:0;padding:0}\n"
	".trace-lines li{display:grid;grid-template-columns:11.5em 5.5em 1fr;"
	"column-gap:1em;padding:.3rem 0;border-top:1px solid var(--line)}\n"
	".trace-lines time{color:var(--soft);text-align:right;"
	"font-variant-numeric:tabular-nums}\n"
	".trace-system{font-weight:600}\n"
	".trace-stripe .trace-system{color:var(--stripe)}\n"
	".trace-postgres .trace-system{color:var(--postgres)}\n"
	".trace-slack .trace-system{color:var(--slack)}\n"
	".trace-cut{color:var(--soft)}\n"
	"@media(max-width:40em){.trace-lines li{grid-template-columns:auto 1fr;"
	"column-gap:.7em}.trace-lines time{text-align:left}"
	".trace-what{grid-column:1/-1}}\n";

static const char page_style[] =
	":root{color-scheme:light dark}\n"
	"body{margin:0;background:#fff;font:16px/1.45 system-ui,sans-serif}\n"
	"main{max-width:70rem;margin:0 auto;padding:1rem}\n"
	"h1{font-size:1.3rem;margin:.2rem 0;overflow-wrap:anywhere;color:#1c2330}\n"
	".zone{margin:0 0 1rem;color:#57606e}\n"
	".trace+.trace{margin-top:2.5rem}\n"
	"@media screen and (prefers-color-scheme:dark){body{background:#14181f}"
	"h1{color:#e4e7ec}.zone{color:#a3acba}}\n";

const char *
trace_html_style(void)
{
	return style;
}

/* A text in which statements to copy are marked as code. */
static void
append_text(StringInfo out, const char *text)
{
	while (*text != '\0')
	{
		int statement = words_statement(text);
		int length = statement > 0 ? statement : strcspn(text, " ");
		char *word = pnstrdup(text, length);

		if (statement > 0)
			appendStringInfoString(out, "<code>");
		html_append_escaped(out, word);
		if (statement > 0)
			appendStringInfoString(out, "</code>");
		text += length;
		length = strspn(text, " ");
		appendBinaryStringInfo(out, text, length);
		text += length;
	}
}

/* <h2>: each part of the heading by itself, so that they wrap between them. */
static void
append_heading(StringInfo out, const char *heading, int level)
{
	appendStringInfo(out, "<h%d class=\"trace-heading\">", level);
	while (*heading != '\0')
	{
		const char *end = strstr(heading, HEADING_SPACE);
		int length = end != NULL ? end - heading : strlen(heading);

		appendStringInfoString(out, "<span>");
		html_append_escaped(out, pnstrdup(heading, length));
		appendStringInfoString(out, "</span> ");
		heading += length;
		heading += strspn(heading, " ");
	}
	appendStringInfo(out, "</h%d>\n", level);
}

/* <time>, whose text is the one of trace_text() and whose title the whole time */
static void
append_time(StringInfo out, TimestampTz at, TimestampTz *base)
{
	pg_time_t seconds = timestamptz_to_time_t(at);
	char iso[64];

	if (TIMESTAMP_NOT_FINITE(at))
	{
		appendStringInfoString(out, "<span></span> ");
		return;
	}
	pg_strftime(iso, sizeof(iso), "%Y-%m-%dT%H:%M:%SZ", pg_gmtime(&seconds));
	appendStringInfo(out, "<time datetime=\"%s\" title=\"%s\">%s</time> ", iso,
					 words_time(at, true), trace_time_cell(at, base));
}

static void
append_paragraph(StringInfo out, const char *class, const char *text)
{
	if (text == NULL)
		return;
	appendStringInfo(out, "<p class=\"%s\">", class);
	append_text(out, text);
	appendStringInfoString(out, "</p>\n");
}

void
trace_html_story(StringInfo out, const TraceStory *story, int level)
{
	TimestampTz base = DT_NOBEGIN;
	ListCell *cell;

	appendStringInfoString(out, "<article class=\"trace\">\n");
	append_heading(out, story->heading, level);
	append_paragraph(out, "trace-verdict", story->verdict);
	appendStringInfoString(out, "<ol class=\"trace-lines\">\n");
	foreach(cell, story->lines)
	{
		TraceLine *line = lfirst(cell);

		appendStringInfo(out, "<li class=\"trace-%s\">", line->system);
		append_time(out, line->at, &base);
		appendStringInfo(
			out,
			"<span class=\"trace-system\">%s</span> <span class=\"trace-what\">",
			line->system);
		append_text(out, line->what);
		appendStringInfoString(out, "</span></li>\n");
	}
	appendStringInfoString(out, "</ol>\n");
	append_paragraph(out, "trace-cut", story->cut);
	appendStringInfoString(out, "</article>\n");
}

/* Everything above the stories */
static void
append_head(StringInfo out, const char *ref)
{
	appendStringInfoString(
		out,
		"<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
		"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
		"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
		"style-src 'unsafe-inline'; img-src data:\">\n"
		"<meta name=\"color-scheme\" content=\"light dark\">\n"
		"<link rel=\"icon\" href=\"data:,\">\n<title>Trace of ");
	html_append_escaped(out, text_visible(ref));
	appendStringInfo(
		out,
		"</title>\n<style>\n%s%s</style>\n</head>\n<body>\n<main>\n<h1>Trace of ",
		page_style, style);
	html_append_escaped(out, text_visible(ref));
	appendStringInfoString(out, "</h1>\n<p class=\"zone\">Times are in ");
	html_append_escaped(out, pg_get_timezone_name(session_timezone));
	appendStringInfoString(out, ".</p>\n");
}

/* trace_html(ref, account, span) */
ENGINE_FUNCTION(stripe_sync_trace_html)
{
	List *stories = trace_collect_call(fcinfo);
	StringInfoData out;
	ListCell *cell;

	initStringInfo(&out);
	append_head(&out, words_plain(text_to_cstring(PG_GETARG_TEXT_PP(0)), 200));
	foreach(cell, stories)
		trace_html_story(&out, lfirst(cell), 2);
	appendStringInfoString(&out, "</main>\n</body>\n</html>\n");
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
