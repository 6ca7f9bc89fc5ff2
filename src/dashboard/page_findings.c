/*
 * page_findings.c
 *		The findings on the page: those that need attention in full, the others
 *		folded.
 */
#include "postgres.h"

#include "dashboard/internal.h"

typedef struct Appearance
{
	const char *class;
	const char *mark;
	const char *word;
} Appearance;

static const Appearance appearances[] = {
	[FINDING_OK] = {"ok", "✓", "ok"},
	[FINDING_WARN] = {"warn", "▲", "warning"},
	[FINDING_FAIL] = {"fail", "✕", "failing"},
	[FINDING_UNKNOWN] = {"unknown", "?", "unknown"},
};

static void
append_status(StringInfo out, const DoctorRow *row)
{
	const Appearance *appearance = &appearances[row->finding.status];

	appendStringInfo(
		out,
		"<span class=\"status %s\"><span aria-hidden=\"true\">%s</span> %s</span>",
		appearance->class, appearance->mark, appearance->word);
}

/* 42.5 s, 85 %, 1 destination, 2.1 GB */
static char *
figure_words(double figure, const char *unit)
{
	int length = unit != NULL ? strlen(unit) : 0;

	if (length == 0)
		return number_words(figure);
	if (strcmp(unit, "s") == 0)
		return seconds_words(figure);
	if (strcmp(unit, "bytes") == 0)
		return bytes_words(figure);
	if (figure == 1 && length > 2 && unit[length - 1] == 's')
		length--;
	return psprintf("%s %.*s", number_words(figure), length, unit);
}

/* "stripe.delay  42.5 s  see runbook/delay.md  as of ..." */
static void
append_facts(StringInfo out, const DoctorRow *row, TimestampTz now)
{
	appendStringInfoString(out, "<p class=\"facts\"><code>");
	html_text(out, row->key);
	appendStringInfoString(out, "</code>");
	if (row->finding.has_figure)
	{
		appendStringInfoString(out, " <span class=\"figure\">");
		html_text(out, figure_words(row->finding.figure, row->finding.unit));
		appendStringInfoString(out, "</span>");
	}
	if (row->page != NULL)
	{
		appendStringInfoString(out, " <span>see ");
		html_text(out, row->page);
		appendStringInfoString(out, "</span>");
	}
	if (finding_is_muted(row, now))
	{
		appendStringInfoString(out, " <span>muted until ");
		html_text(out, full_time_words(row->muted_until));
		appendStringInfoString(out, "</span>");
	}
	appendStringInfoChar(out, ' ');
	html_as_of(out, row->seen_at != 0 ? row->seen_at : now, now);
	appendStringInfoString(out, "</p>");
}

static void
append_finding(StringInfo out, const DoctorRow *row, TimestampTz now)
{
	appendStringInfo(out, "<li class=\"finding %s\"><h3>",
					 appearances[row->finding.status].class);
	append_status(out, row);
	appendStringInfoChar(out, ' ');
	html_text(out, row->item);
	appendStringInfoString(out, " <small>");
	html_text(out, row->area);
	appendStringInfoString(out, "</small></h3>");
	if (row->finding.detail != NULL)
	{
		appendStringInfoString(out, "<p>");
		html_clipped(out, row->finding.detail, 1000);
		appendStringInfoString(out, "</p>");
	}
	if (row->finding.hint != NULL && row->finding.status != FINDING_OK)
	{
		appendStringInfoString(out, "<pre class=\"hint\"><code>");
		html_clipped(out, row->finding.hint, 1000);
		appendStringInfoString(out, "</code></pre>");
	}
	append_facts(out, row, now);
	appendStringInfoString(out, "</li>\n");
}

/* Those that are fine or muted are folded. */
static bool
is_folded(const DoctorRow *row, TimestampTz now)
{
	return row->finding.status == FINDING_OK || finding_is_muted(row, now);
}

static void
append_list(StringInfo out, const Findings *findings, TimestampTz now,
			bool folded)
{
	ListCell *cell;

	appendStringInfo(out, "<ul class=\"findings%s\">\n",
					 folded ? " folded" : "");
	foreach(cell, findings->rows)
		if (is_folded(lfirst(cell), now) == folded)
			append_finding(out, lfirst(cell), now);
	appendStringInfoString(out, "</ul>\n");
}

/* "30 items are ok", "30 items are ok, 1 is muted" */
static char *
folded_words(const Findings *findings)
{
	int ok = findings->count[FINDING_OK];
	char *words = psprintf("%s %s ok", plural_words(ok, "item", "items"),
						   ok == 1 ? "is" : "are");

	if (findings->muted > 0)
		words = psprintf("%s, %d %s muted", words, findings->muted,
						 findings->muted == 1 ? "is" : "are");
	return words;
}

void
findings_append(StringInfo out, const Findings *findings, TimestampTz now)
{
	int folded = findings->count[FINDING_OK] + findings->muted;

	html_section(out, "findings", "Findings", findings_summary(findings));
	if (findings->failure != NULL)
	{
		appendStringInfoString(
			out, "<p class=\"nothing\">The checks could not be run: ");
		html_clipped(out, findings->failure, 500);
		appendStringInfoString(out, "</p>\n");
	}
	else if (findings->rows == NIL)
		html_nothing(out, "Nothing was looked at.");
	else if (list_length(findings->rows) == folded)
		html_nothing(out, "Nothing needs attention.");
	else
		append_list(out, findings, now, false);
	if (folded > 0)
	{
		appendStringInfo(out, "<details class=\"fold\"><summary>%s</summary>\n",
						 folded_words(findings));
		append_list(out, findings, now, true);
		appendStringInfoString(out, "</details>\n");
	}
	html_section_end(out);
}
