/*
 * text.c
 *		dashboard_text(): the dashboard on a terminal of 24 lines of 80 columns.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "engine/engine.h"
#include "engine/rights.h"

#include "dashboard/internal.h"

#define LINES		  24
#define COLUMNS		  80
#define SPARK_COLUMNS 36 /* of 10 minutes */
#define MAX_FINDINGS  5
#define MAX_INCIDENTS 3

typedef struct Screen
{
	StringInfoData out;
	int lines;
} Screen;

/* Clipped to the width; nothing is added to a full screen. */
static void
add_line(Screen *screen, const char *text)
{
	if (screen->lines == LINES)
		return;
	if (screen->lines++ > 0)
		appendStringInfoChar(&screen->out, '\n');
	appendStringInfoString(&screen->out, screen_clip(text, COLUMNS));
}

/* Both on one line, the second at its right end */
static void
add_split(Screen *screen, const char *left, const char *right)
{
	int width = COLUMNS - strlen(right) - 2;

	add_line(screen, psprintf("%s  %s", screen_padded(left, width), right));
}

static void
add_head(Screen *screen, const Figures *figures, const Findings *findings,
		 const State *state)
{
	const char *name = state->instance != NULL ? state->instance
											   : state->database;

	add_split(screen, psprintf("stripe_sync %s", name),
			  full_time_words(figures->now));
	add_line(screen, psprintf("%s; %s %s", findings_summary(findings),
							  state->standby ? "standby, worker" : "worker",
							  state->worker));
	if (state->notes != NIL)
		add_line(screen, psprintf("NOTE  %s", (char *) linitial(state->notes)));
}

/* ---- findings ---- */

static void
add_findings(Screen *screen, const Findings *findings, TimestampTz now)
{
	static const char *const words[] = {[FINDING_OK] = "ok",
										[FINDING_WARN] = "WARN",
										[FINDING_FAIL] = "FAIL",
										[FINDING_UNKNOWN] = "?"};
	int shown = 0;
	int wanted = 0;
	ListCell *cell;

	foreach(cell, findings->rows)
	{
		const DoctorRow *row = lfirst(cell);

		if (row->finding.status == FINDING_OK || finding_is_muted(row, now))
			continue;
		if (wanted++ < MAX_FINDINGS)
			add_line(screen,
					 psprintf("%s %s %s",
							  screen_padded(words[row->finding.status], 4),
							  screen_padded(row->key, 24),
							  row->finding.detail != NULL ? row->finding.detail
														  : row->item));
		shown = Min(wanted, MAX_FINDINGS);
	}
	if (wanted > shown)
		add_line(
			screen,
			psprintf(
				"     %d more: SELECT * FROM stripe_sync.doctor() WHERE status <> 'ok'",
				wanted - shown));
}

/* ---- figures ---- */

static double
highest(const double *values)
{
	double most = 0;

	for (int bin = 0; bin < BINS; bin++)
		most = Max(most, values[bin]);
	return most;
}

static void
add_sparkline(Screen *screen, const char *label, const double *values,
			  const char *more)
{
	add_line(screen,
			 psprintf("%s %s  %s", screen_padded(label, 14),
					  screen_sparkline(values, BINS, SPARK_COLUMNS), more));
}

static void
add_event_figures(Screen *screen, const Figures *figures)
{
	const Totals *totals = &figures->totals;
	double rates[BINS];
	double delays[BINS];
	double failures[BINS];

	for (int bin = 0; bin < BINS; bin++)
	{
		rates[bin] = figures_rate(figures, bin);
		delays[bin] = figures->delays[bin] > 0 ? figures->p95[bin] : 0;
		failures[bin] = figures->step_failures[bin] +
						figures->delivery_failures[bin];
	}
	add_sparkline(screen, "events/min", rates,
				  psprintf("%s%s now, most %s", figures->events_cut ? "≥ " : "",
						   number_words(rates[BINS - 1]),
						   number_words(highest(rates))));
	add_sparkline(screen, "delay p95", delays,
				  totals->p95 < 0
					  ? "no webhook in 6 h"
					  : psprintf("p50 %s p95 %s", seconds_words(totals->p50),
								 seconds_words(totals->p95)));
	add_sparkline(screen, "failures", failures,
				  psprintf("%s to retry, %s dead", count_words(totals->failed),
						   count_words(totals->dead)));
}

/* What there is room for: 26 columns */
static char *
backlog_words(const Figures *figures)
{
	const Totals *totals = &figures->totals;
	double age = (figures->now - totals->oldest_waiting) /
				 (double) USECS_PER_SEC;

	if (totals->held == 0)
		return totals->waiting == 0
				   ? "0 waiting"
				   : psprintf("%s waiting, oldest %s",
							  count_words(totals->waiting),
							  age_words(totals->oldest_waiting, figures->now));
	return psprintf("%s waiting%s, %s held", count_words(totals->waiting),
					totals->waiting > 0 ? psprintf(" (%s)", seconds_words(age))
										: "",
					count_words(totals->held));
}

static void
add_backlog(Screen *screen, const Figures *figures)
{
	double waiting[BINS];

	for (int bin = 0; bin < BINS; bin++)
		waiting[bin] = figures->backlog[bin];
	add_sparkline(screen, "backlog", waiting, backlog_words(figures));
}

/* Disabled ones first, then those that reject the most */
static int
compare_destinations(const ListCell *a, const ListCell *b)
{
	const DestinationFigures *one = lfirst(a);
	const DestinationFigures *two = lfirst(b);

	if ((one->disabled != NULL) != (two->disabled != NULL))
		return one->disabled != NULL ? -1 : 1;
	if (one->failed != two->failed)
		return one->failed > two->failed ? -1 : 1;
	return strcmp(one->name, two->name);
}

static void
append_destination(StringInfo line, const DestinationFigures *destination)
{
	appendStringInfo(line, "%s %s sent", screen_clip(destination->name, 16),
					 count_words(destination->sent));
	if (destination->repeated > 0)
		appendStringInfo(line, " %s retried",
						 count_words(destination->repeated));
	if (destination->failed > 0)
		appendStringInfo(line, " %s rejected", count_words(destination->failed));
	if (destination->disabled != NULL)
		appendStringInfoString(line, " DISABLED");
}

/* One line */
static void
add_destinations(Screen *screen, const Figures *figures)
{
	List *destinations = list_copy(figures->destinations);
	StringInfoData line;
	ListCell *cell;

	initStringInfo(&line);
	appendStringInfoString(&line, screen_padded("Slack, 24 h", 15));
	list_sort(destinations, compare_destinations);
	foreach(cell, destinations)
	{
		if (cell != list_head(destinations))
			appendStringInfoString(&line, ", ");
		append_destination(&line, lfirst(cell));
	}
	if (destinations == NIL)
		appendStringInfoString(&line, "no destination");
	add_line(screen, line.data);
}

/* ---- incidents and events ---- */

static void
add_incidents(Screen *screen, const Figures *figures, const State *state)
{
	ListCell *cell;
	int shown = 0;

	add_line(screen, state->open_incidents == 0
						 ? "no open incident"
						 : psprintf("%s", plural_words(state->open_incidents,
													   "open incident",
													   "open incidents")));
	foreach(cell, state->incidents)
	{
		const OpenIncident *incident = lfirst(cell);
		const char *quiet = incident_quiet_words(incident, figures->now, true);

		if (shown++ == MAX_INCIDENTS)
			break;
		add_line(
			screen,
			psprintf(
				"%s %s %s %s%s%s%s", screen_padded(incident->severity, 8),
				screen_padded(age_words(incident->opened_at, figures->now), 10),
				screen_padded(incident->alert, 18), quiet[0] != '\0' ? "(" : "",
				quiet, quiet[0] != '\0' ? ") " : "", incident->text));
	}
}

static void
add_events(Screen *screen, const State *state)
{
	ListCell *cell;

	if (state->events == NIL)
		add_line(screen, "no event received yet");
	foreach(cell, state->events)
	{
		const LastEvent *event = lfirst(cell);

		add_line(screen, psprintf("%s %s %s %s", clock_words(event->received_at),
								  screen_padded(event->status, 8),
								  screen_padded(event->type, 32),
								  event->object_id != NULL ? event->object_id
														   : event->id));
	}
}

/* dashboard_text() */
ENGINE_FUNCTION(stripe_sync_dashboard_text)
{
	RoleScope scope = role_enter_engine();
	int nest = dashboard_plan_settings();
	Screen screen = {.lines = 0};
	Figures figures;
	Findings findings;
	State state;

	figures_read(&figures);
	state_read(&state, &figures);
	plan_settings_restore(nest);
	findings_read(&findings, figures.now);
	initStringInfo(&screen.out);
	add_head(&screen, &figures, &findings, &state);
	add_findings(&screen, &findings, figures.now);
	add_line(&screen, "");
	add_event_figures(&screen, &figures);
	add_backlog(&screen, &figures);
	add_destinations(&screen, &figures);
	add_line(&screen, "");
	add_incidents(&screen, &figures, &state);
	add_line(&screen, "");
	add_events(&screen, &state);
	role_leave(&scope);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(screen.out.data, screen.out.len));
}
