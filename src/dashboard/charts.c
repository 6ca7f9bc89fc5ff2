/*
 * charts.c
 *		The charts: events a minute, delivery delay, failures, backlog.
 */
#include "postgres.h"

#include "dashboard/internal.h"

/* A short piece of a line or bar, beside its name */
#define KEY(class, name)                                                                            \
	"<span class=\"key\"><svg width=\"18\" height=\"10\" aria-hidden=\"true\">" class "</svg>" name \
																					  "</span>"
#define KEY_LINE(class) "<path class=\"" class "\" d=\"M0 5H18\"/>"
#define KEY_BAR(class)                                                         \
	"<g class=\"" class "\"><rect width=\"18\" height=\"10\"/></g>"

static double
highest(const double *values)
{
	double most = 0;

	for (int bin = 0; bin < BINS; bin++)
		most = Max(most, values[bin]);
	return most;
}

static double *
as_doubles(const int64 *counts)
{
	double *values = palloc(BINS * sizeof(double));

	for (int bin = 0; bin < BINS; bin++)
		values[bin] = counts[bin];
	return values;
}

/* "The highest value is 12 at 05:35, the last one 3." */
static char *
describe(const Figures *figures, const double *values, const char *what)
{
	int most = 0;

	for (int bin = 0; bin < BINS; bin++)
		if (values[bin] > values[most])
			most = bin;
	if (values[most] <= 0)
		return psprintf("%s, by five minutes since %s: none.", what,
						clock_minutes(figures->start));
	return psprintf(
		"%s, by five minutes since %s. The highest value is %s at %s, the last one %s.",
		what, clock_minutes(figures->start), number_words(values[most]),
		clock_minutes(figures->start + most * (BIN_SECONDS * USECS_PER_SEC)),
		number_words(Max(values[BINS - 1], 0)));
}

static void
append_events(StringInfo out, const Figures *figures)
{
	Chart chart = {out, figures, "chart-events"};
	double rates[BINS];

	for (int bin = 0; bin < BINS; bin++)
		rates[bin] = figures_rate(figures, bin);
	chart_begin(&chart, "Events a minute", "",
				describe(figures, rates, "Events received a minute"),
				highest(rates), false);
	chart_bars(&chart, "bars", rates, NULL, "events a minute");
	chart_end(&chart);
}

static void
append_delay(StringInfo out, const Figures *figures)
{
	Chart chart = {out, figures, "chart-delay"};
	double p50[BINS];
	double p95[BINS];

	for (int bin = 0; bin < BINS; bin++)
	{
		bool known = bin >= figures->first_bin && figures->delays[bin] > 0;

		p50[bin] = known ? figures->p50[bin] : -1;
		p95[bin] = known ? figures->p95[bin] : -1;
	}
	chart_begin(
		&chart, "Delivery delay, seconds",
		KEY(KEY_LINE("line"), "p50") KEY(KEY_LINE("dashes"), "p95"),
		describe(
			figures, p95,
			"Seconds from an event's creation at Stripe to its reception, 95th percentile"),
		highest(p95), false);
	chart_line(&chart, "dashes", p95, false);
	chart_line(&chart, "line", p50, false);
	chart_end(&chart);
}

static void
append_failures(StringInfo out, const Figures *figures)
{
	Chart chart = {out, figures, "chart-failures"};
	double *steps = as_doubles(figures->step_failures);
	double *deliveries = as_doubles(figures->delivery_failures);
	double both[BINS];

	for (int bin = 0; bin < BINS; bin++)
		both[bin] = steps[bin] + deliveries[bin];
	chart_begin(
		&chart, "Failures in five minutes",
		KEY(KEY_BAR("failed"), "steps of events")
			KEY(KEY_BAR("refused"), "deliveries to Slack"),
		describe(
			figures, both,
			"Steps of events that failed, and deliveries that Slack did not accept"),
		highest(both), true);
	chart_bars(&chart, "failed", steps, NULL, "steps of events failed");
	chart_bars(&chart, "refused", deliveries, steps,
			   "deliveries to Slack failed");
	chart_end(&chart);
}

static void
append_backlog(StringInfo out, const Figures *figures)
{
	Chart chart = {out, figures, "chart-backlog"};
	double *waiting = as_doubles(figures->backlog);

	chart_begin(
		&chart, "Messages waiting", "",
		describe(figures, waiting, "Messages that waited to be sent to Slack"),
		highest(waiting), true);
	chart_line(&chart, "area", waiting, true);
	chart_end(&chart);
}

void
charts_append(StringInfo out, const Figures *figures)
{
	html_section(out, "charts", "The last six hours", NULL);
	/* the hatching of bars that are told apart by more than their colour */
	appendStringInfoString(
		out,
		"<svg width=\"0\" height=\"0\" class=\"defs\" aria-hidden=\"true\"><defs>"
		"<pattern id=\"hatch\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\""
		" patternTransform=\"rotate(45)\"><rect width=\"2.6\" height=\"5\"/></pattern>"
		"</defs></svg>\n");
	if (figures->first_bin > 0)
		html_nothing(
			out,
			figures->events_cut
				? "More than 100,000 events were received in the last ten minutes: rates are at least those shown."
				: "There are too many events to be counted over six hours: earlier ones are left out.");
	appendStringInfoString(out, "<div class=\"charts\">\n");
	append_events(out, figures);
	append_delay(out, figures);
	append_failures(out, figures);
	append_backlog(out, figures);
	appendStringInfoString(out, "</div>\n");
	html_as_of(out, figures->now, figures->now);
	html_section_end(out);
}
