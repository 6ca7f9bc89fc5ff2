/*
 * panels.c
 *		The page's figures and lists: tiles, destinations, incidents, jobs,
 *		rejected deliveries.
 */
#include "postgres.h"

#include "dashboard/internal.h"

/* ---- tiles ---- */

/* A figure, what it is, more about it, and how old it is */
static void
append_tile(StringInfo out, const char *label, const char *value,
			const char *more, TimestampTz at, TimestampTz now)
{
	appendStringInfo(
		out, "<div class=\"tile\"><dt>%s</dt><dd><b>%s</b> <span>%s</span> ",
		label, value, more);
	html_as_of(out, at, now);
	appendStringInfoString(out, "</dd></div>\n");
}

static void
append_event_tiles(StringInfo out, const Figures *figures, TimestampTz newest)
{
	const Totals *totals = &figures->totals;
	TimestampTz now = figures->now;
	bool delayed = totals->p95 >= 0 && totals->last != 0;

	append_tile(out, "Events, last hour",
				psprintf("%s%s", figures->events_cut ? "≥ " : "",
						 count_words(totals->last_hour)),
				psprintf("%s a minute now, %s in %s",
						 number_words(figures_rate(figures, BINS - 1)),
						 count_words(totals->events),
						 figures->first_bin == 0 ? "6 h" : "the time counted"),
				newest, now);
	append_tile(out, "Delivery delay, p50",
				delayed ? seconds_words(totals->p50) : "–",
				delayed ? psprintf("p95 %s", seconds_words(totals->p95))
						: "no event by webhook in 6 h",
				delayed ? totals->last : now, now);
	append_tile(
		out, "Events not done", count_words(totals->failed + totals->dead),
		totals->failed + totals->dead == 0
			? psprintf("%s pending", count_words(totals->pending))
			: psprintf("%s to retry, %s dead, oldest %s",
					   count_words(totals->failed), count_words(totals->dead),
					   age_words(totals->oldest_failed, now)),
		now, now);
}

/* Of all destinations together */
static void
append_delivery_tile(StringInfo out, const Figures *figures)
{
	int64 sent = 0;
	int64 others = 0;
	TimestampTz last = 0;
	ListCell *cell;

	foreach(cell, figures->destinations)
	{
		const DestinationFigures *destination = lfirst(cell);

		sent += destination->sent;
		others += destination->repeated + destination->failed;
		last = Max(last, destination->last);
	}
	append_tile(out, "Slack deliveries, 24 h", count_words(sent),
				psprintf("accepted, %s not accepted", count_words(others)),
				last != 0 ? last : figures->now, figures->now);
}

void
tiles_append(StringInfo out, const Figures *figures, const State *state)
{
	const Totals *totals = &figures->totals;
	TimestampTz now = figures->now;
	const LastEvent *last = state->events != NIL ? linitial(state->events)
												 : NULL;

	html_section(out, "figures", "Figures", NULL);
	appendStringInfoString(out, "<dl class=\"tiles\">\n");
	append_event_tiles(out, figures, last != NULL ? last->received_at : 0);
	append_tile(
		out, "Messages waiting",
		psprintf("%s%s", totals->waiting_cut ? "≥ " : "",
				 count_words(totals->waiting)),
		totals->waiting > 0
			? psprintf("oldest %s", age_words(totals->oldest_waiting, now))
			: psprintf("%s for later, %s held", count_words(totals->scheduled),
					   count_words(totals->held)),
		now, now);
	append_delivery_tile(out, figures);
	append_tile(out, "Open incidents", count_words(state->open_incidents),
				state->open_incidents > 0 ? "listed below" : "none", now, now);
	appendStringInfoString(out, "</dl>\n");
	html_section_end(out);
}

/* ---- destinations ---- */

/* A part of the bar, in percent of the busiest destination's deliveries */
static double
append_part(StringInfo out, const char *class, double from, int64 count,
			int64 most)
{
	double width = most > 0 ? count * 100.0 / most : 0;

	if (count > 0)
		appendStringInfo(
			out,
			"<g class=\"%s\"><rect x=\"%.2f%%\" width=\"%.2f%%\" height=\"12\"/></g>",
			class, from, Max(width, 0.6));
	return from + width;
}

static void
append_destination(StringInfo out, const DestinationFigures *destination,
				   int64 most, TimestampTz now)
{
	double x = 0;

	appendStringInfoString(out, "<li><h3>");
	html_name(out, destination->name);
	if (destination->disabled != NULL)
	{
		appendStringInfoString(
			out,
			" <span class=\"status fail\"><span aria-hidden=\"true\">✕</span> disabled</span> <small>");
		html_name(out, slack_plain(destination->disabled));
		appendStringInfoString(out, "</small>");
	}
	else if (!destination->known)
		appendStringInfoString(out, " <small>dropped</small>");
	appendStringInfo(
		out,
		"</h3><svg width=\"100%%\" height=\"12\" role=\"img\"><title>%s accepted, %s to be tried again, %s rejected</title>",
		count_words(destination->sent), count_words(destination->repeated),
		count_words(destination->failed));
	x = append_part(out, "bars", x, destination->sent, most);
	x = append_part(out, "refused", x, destination->repeated, most);
	(void) append_part(out, "failed", x, destination->failed, most);
	appendStringInfo(
		out,
		"<line class=\"base\" x1=\"0\" x2=\"100%%\" y1=\"11.5\" y2=\"11.5\"/></svg>"
		"<p class=\"facts\"><span><b>%s</b> accepted</span> <span><b>%s</b> to be tried again</span>"
		" <span><b>%s</b> rejected</span> ",
		count_words(destination->sent), count_words(destination->repeated),
		count_words(destination->failed));
	html_as_of(out, destination->last, now);
	appendStringInfoString(out, "</p></li>\n");
}

void
destinations_append(StringInfo out, const Figures *figures)
{
	int64 most = 0;
	ListCell *cell;

	html_section(out, "destinations", "Deliveries to Slack",
				 "the last 10,000 of 24 hours, by destination");
	foreach(cell, figures->destinations)
	{
		const DestinationFigures *one = lfirst(cell);

		most = Max(most, one->sent + one->repeated + one->failed);
	}
	if (figures->destinations == NIL)
		html_nothing(
			out,
			"There is no destination. SELECT stripe_sync.add_slack_channel(…) adds one.");
	else
	{
		appendStringInfoString(out, "<ul class=\"rows\">\n");
		foreach(cell, figures->destinations)
			append_destination(out, lfirst(cell), most, figures->now);
		appendStringInfoString(out, "</ul>\n");
	}
	html_section_end(out);
}

/* ---- incidents ---- */

static void
append_incident(StringInfo out, const OpenIncident *incident, TimestampTz now)
{
	bool critical = strcmp(incident->severity, "critical") == 0;
	const char *quiet = incident_quiet_words(incident, now, false);

	appendStringInfo(
		out,
		"<li><h3><span class=\"status %s\"><span aria-hidden=\"true\">%s</span> ",
		critical ? "fail" : "warn", critical ? "✕" : "▲");
	html_clipped(out, incident->severity, 20);
	appendStringInfoString(out, "</span> ");
	html_name(out, incident->alert);
	appendStringInfo(
		out,
		" <small>incident " INT64_FORMAT ", %s</small></h3><p class=\"said\">",
		incident->id, plural_words(incident->events, "event", "events"));
	html_name(out, incident->text);
	appendStringInfoString(out, "</p><p class=\"facts\"><span>destination ");
	html_name(out, incident->destination);
	appendStringInfoString(out, "</span> <span>opened ");
	html_time(out, incident->opened_at);
	appendStringInfo(out, " · %s</span>", age_words(incident->opened_at, now));
	if (quiet[0] != '\0')
	{
		appendStringInfoString(out, " <span>");
		html_name(out, quiet);
		appendStringInfoString(out, "</span>");
	}
	appendStringInfoString(out, "</p></li>\n");
}

void
incidents_append(StringInfo out, const Figures *figures, const State *state)
{
	ListCell *cell;

	html_section(out, "incidents", "Open incidents",
				 state->open_incidents > list_length(state->incidents)
					 ? psprintf("%d of %s", list_length(state->incidents),
								count_words(state->open_incidents))
					 : NULL);
	if (state->incidents == NIL)
		html_nothing(out, "No incident is open.");
	else
	{
		appendStringInfoString(out, "<ul class=\"rows\">\n");
		foreach(cell, state->incidents)
			append_incident(out, lfirst(cell), figures->now);
		appendStringInfoString(out, "</ul>\n");
	}
	html_section_end(out);
}

/* ---- rejected deliveries and jobs ---- */

void
refusals_append(StringInfo out, const Figures *figures, const State *state)
{
	ListCell *cell;

	html_section(out, "refusals", "Rejected webhooks", NULL);
	if (state->refusals == NIL)
		html_nothing(out, "No delivery was rejected.");
	else
		appendStringInfoString(out, "<ul class=\"rows\">\n");
	foreach(cell, state->refusals)
	{
		const Refused *refused = lfirst(cell);

		appendStringInfo(out, "<li><h3><b>%s</b> × <code>",
						 count_words(refused->events));
		html_clipped(out, refused->code, 20);
		appendStringInfoString(out, "</code> <small>");
		html_name(out, refused->endpoint != NULL ? refused->endpoint
												 : "unknown endpoint");
		appendStringInfoString(out, "</small></h3><p class=\"said\">");
		html_name(out, refused->detail);
		appendStringInfoString(out, "</p><p class=\"facts\">");
		html_as_of(out, refused->last_at, figures->now);
		appendStringInfoString(out, "</p></li>\n");
	}
	if (state->refusals != NIL)
		appendStringInfoString(out, "</ul>\n");
	html_section_end(out);
}

static void
append_job(StringInfo out, const RecentJob *job, TimestampTz now)
{
	appendStringInfo(out, "<li><h3>job " INT64_FORMAT " <small>", job->id);
	html_name(out, job->kind);
	appendStringInfoString(out, "</small> <span class=\"figure\">");
	html_clipped(out, job->state, 20);
	if (strcmp(job->state, "running") == 0)
		appendStringInfo(out, " %.0f %%", job->progress * 100);
	appendStringInfoString(out, "</span></h3>");
	if (job->error != NULL)
	{
		appendStringInfoString(out, "<p class=\"said\">");
		html_name(out, job->error);
		appendStringInfoString(out, "</p>");
	}
	appendStringInfoString(out, "<p class=\"facts\">");
	html_as_of(out, job->at, now);
	appendStringInfoString(out, "</p></li>\n");
}

void
jobs_append(StringInfo out, const Figures *figures, const State *state)
{
	ListCell *cell;

	html_section(out, "jobs", "Jobs", NULL);
	if (state->jobs == NIL)
		html_nothing(out, "No job has run.");
	else
	{
		appendStringInfoString(out, "<ul class=\"rows\">\n");
		foreach(cell, state->jobs)
			append_job(out, lfirst(cell), figures->now);
		appendStringInfoString(out, "</ul>\n");
	}
	html_section_end(out);
}
