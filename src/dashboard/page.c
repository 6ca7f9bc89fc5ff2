/*
 * page.c
 *		dashboard(): the page from its head to its foot.
 *
 * It has no scripts and loads nothing, and its Content-Security-Policy forbids
 * both.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/guc.h"

#include "engine/engine.h"
#include "engine/rights.h"
#include "trace/trace.h"

#include "dashboard/dashboard.h"
#include "dashboard/internal.h"

static const char *
overall_class(const Findings *findings)
{
	if (findings->count[FINDING_FAIL] > 0)
		return "fail";
	if (findings->count[FINDING_WARN] > 0)
		return "warn";
	return findings->failure != NULL ? "unknown" : "ok";
}

static void
append_head(StringInfo out, const Findings *findings, const State *state)
{
	appendStringInfoString(
		out,
		"<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
		"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n"
		"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
		"<meta name=\"color-scheme\" content=\"light dark\">\n"
		"<meta name=\"referrer\" content=\"no-referrer\">\n"
		"<meta name=\"robots\" content=\"noindex\">\n<title>");
	html_text(out, findings_summary(findings));
	appendStringInfoString(out, " – stripe_sync ");
	html_clipped(
		out, state->instance != NULL ? state->instance : state->database, 200);
	appendStringInfo(out, "</title>\n<style>%s%s</style>\n</head>\n<body>\n",
					 trace_html_style(), dashboard_style);
}

/* One term of the header's list */
static void
append_term(StringInfo out, const char *term, const char *value)
{
	appendStringInfo(out, "<div><dt>%s</dt><dd>", term);
	html_name(out, value);
	appendStringInfoString(out, "</dd></div>");
}

static void
append_worker(StringInfo out, const Figures *figures, const State *state)
{
	appendStringInfoString(out, "<div><dt>worker</dt><dd>");
	html_name(out, state->worker);
	if (state->worker_since != 0)
		appendStringInfo(out, " since %s, %s", clock_words(state->worker_since),
						 age_words(state->worker_since, figures->now));
	appendStringInfoString(out, "</dd></div>");
}

/* Why nothing is sent, and that this is a standby */
static void
append_notes(StringInfo out, const Figures *figures, const State *state)
{
	ListCell *cell;

	if (state->standby)
	{
		appendStringInfoString(
			out,
			"<p class=\"note\"><b>Standby.</b> What is shown was replicated ");
		if (state->replayed != 0)
			html_as_of(out, state->replayed, figures->now);
		else
			appendStringInfoString(out, "at an unknown time");
		appendStringInfoString(
			out, ". It sends nothing until it is promoted.</p>\n");
	}
	foreach(cell, state->notes)
	{
		appendStringInfoString(out, "<p class=\"note\"><b>Note.</b> ");
		html_text(out, lfirst(cell));
		appendStringInfoString(out, "</p>\n");
	}
}

static void
append_header(StringInfo out, const Figures *figures, const Findings *findings,
			  const State *state)
{
	appendStringInfo(out, "<header class=\"%s\">\n<h1>stripe_sync <bdi>",
					 overall_class(findings));
	html_clipped(
		out, state->instance != NULL ? state->instance : state->database, 200);
	appendStringInfoString(
		out, "</bdi></h1>\n<p class=\"asof\">as of <time datetime=\"");
	appendStringInfo(out, "%s\">", utc_time_words(figures->now));
	html_text(out, full_time_words(figures->now));
	appendStringInfoString(out, "</time></p>\n<dl>");
	append_term(out, "database", state->database);
	append_term(out, "server", psprintf("PostgreSQL %s", state->server_version));
	append_term(out, "extension", STRIPE_SYNC_VERSION);
	append_worker(out, figures, state);
	appendStringInfoString(out, "</dl>\n");
	append_notes(out, figures, state);
	appendStringInfoString(out, "</header>\n");
}

static void
append_page(StringInfo out, const Figures *figures, const Findings *findings,
			const State *state)
{
	append_head(out, findings, state);
	append_header(out, figures, findings, state);
	appendStringInfoString(out, "<main>\n");
	findings_append(out, findings, figures->now);
	tiles_append(out, figures, state);
	charts_append(out, figures);
	appendStringInfoString(out, "<div class=\"columns\">\n");
	incidents_append(out, figures, state);
	destinations_append(out, figures);
	appendStringInfoString(out, "</div>\n");
	events_append(out, figures, state);
	appendStringInfoString(out, "<div class=\"columns\">\n");
	refusals_append(out, figures, state);
	jobs_append(out, figures, state);
	appendStringInfoString(
		out,
		"</div>\n</main>\n<footer><p>Made by <code>SELECT stripe_sync.dashboard()</code> ");
	html_as_of(out, figures->now, figures->now);
	appendStringInfoString(out, "</p></footer>\n</body>\n</html>\n");
}

/* So that what is read of large tables is read by their indexes. */
int
dashboard_plan_settings(void)
{
	static const char *const settings[][2] = {
		{"enable_seqscan", "off"},
		{"jit", "off"},
		{"max_parallel_workers_per_gather", "0"},
		{"work_mem", "8MB"}};
	int nest = NewGUCNestLevel();

	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return nest;
}

/* dashboard() */
ENGINE_FUNCTION(stripe_sync_dashboard)
{
	RoleScope scope = role_enter_engine();
	int nest = dashboard_plan_settings();
	StringInfoData out;
	Figures figures;
	Findings findings;
	State state;

	figures_read(&figures);
	state_read(&state, &figures);
	plan_settings_restore(nest);
	findings_read(&findings, figures.now);
	initStringInfo(&out);
	append_page(&out, &figures, &findings, &state);
	role_leave(&scope);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
