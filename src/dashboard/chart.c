/*
 * chart.c
 *		A chart of the last hours as inline SVG.
 *
 * Positions across are percentages and those down are pixels, so that a chart is
 * as wide as its place and its text keeps its size.  Lines, which cannot be given
 * in percentages, are in an inner <svg> that is stretched.
 */
#include "postgres.h"

#include <math.h>

#include "dashboard/internal.h"

#define HEIGHT 138 /* of the whole */
#define TOP	   20  /* of the plot */
#define DEPTH  94  /* of the plot */

/* A round number, at least the value; its half is a whole number if it must be. */
static double
nice_ceiling(double value, bool whole)
{
	double power;

	if (value <= 0)
		return whole ? 2 : 1;
	power = pow(10, floor(log10(value)));
	for (int i = 0; i < 2; i++, power *= 10)
	{
		static const double steps[] = {1, 2, 3, 4, 5, 6, 8, 10};

		for (int j = 0; j < lengthof(steps); j++)
			if (steps[j] * power >= value * 0.999999 &&
				(!whole || fmod(steps[j] * power, 2) == 0))
				return steps[j] * power;
	}
	return value;
}

/* Pixels above the base line */
static double
height_of(const Chart *chart, double value)
{
	return Max(Min(value / chart->top, 1), 0) * DEPTH;
}

/* A line across the plot with its value at the left */
static void
append_grid_line(const Chart *chart, double value)
{
	double y = TOP + DEPTH - height_of(chart, value);

	appendStringInfo(
		chart->out,
		"<line class=\"grid\" x1=\"0\" x2=\"100%%\" y1=\"%.1f\" y2=\"%.1f\"/>"
		"<text class=\"y\" x=\"0\" y=\"%.1f\">%s</text>\n",
		y, y, y - 4, number_words(value));
}

/* The full hours in the session's time zone */
static void
append_hours(const Chart *chart)
{
	for (int bin = 0; bin < BINS; bin++)
	{
		char *clock = clock_minutes(chart->figures->start +
									bin * (BIN_SECONDS * USECS_PER_SEC));
		double x = bin * 100.0 / BINS;

		if (strcmp(clock + 2, ":00") != 0)
			continue;
		appendStringInfo(
			chart->out,
			"<line class=\"tick\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"%d\" y2=\"%d\"/>",
			x, x, TOP + DEPTH, TOP + DEPTH + 4);
		if (bin > 1 && bin < BINS - 5)
			appendStringInfo(
				chart->out,
				"<text class=\"x\" x=\"%.2f%%\" y=\"%d\">%s</text>\n", x,
				TOP + DEPTH + 17, clock);
	}
}

/* What was not read is shaded. */
static void
append_unread(const Chart *chart)
{
	int first = chart->figures->first_bin;

	if (first > 0)
		appendStringInfo(
			chart->out,
			"<rect class=\"unread\" x=\"0\" y=\"%d\" width=\"%.2f%%\" height=\"%d\">"
			"<title>not counted: too many events</title></rect>\n",
			TOP, first * 100.0 / BINS, DEPTH);
}

/*
 * "legend" is HTML.  "whole" values have no fractions: the axis is at least 2, so
 * that its middle is a whole number.
 */
void
chart_begin(Chart *chart, const char *title, const char *legend,
			const char *description, double highest, bool whole)
{
	StringInfo out = chart->out;
	const char *id = chart->id;

	chart->top = nice_ceiling(highest, whole);
	appendStringInfo(out, "<figure>\n<figcaption><b>%s</b>%s</figcaption>\n",
					 title, legend);
	appendStringInfo(
		out,
		"<svg class=\"chart\" role=\"img\" width=\"100%%\" height=\"%d\""
		" aria-labelledby=\"%s-t %s-d\"><title id=\"%s-t\">%s</title>"
		"<desc id=\"%s-d\">",
		HEIGHT, id, id, id, title, id);
	html_text(out, description);
	appendStringInfoString(out, "</desc>\n");
	append_grid_line(chart, chart->top);
	append_grid_line(chart, chart->top / 2);
}

/* Bars stand on those of "below", if it isn't NULL. */
void
chart_bars(Chart *chart, const char *class, const double *values,
		   const double *below, const char *unit)
{
	appendStringInfo(chart->out, "<g class=\"%s\">", class);
	for (int bin = chart->figures->first_bin; bin < BINS; bin++)
	{
		double base = below != NULL ? height_of(chart, below[bin]) : 0;
		double height = height_of(chart, values[bin]);

		if (values[bin] <= 0)
			continue;
		height = Max(height, 1.5);
		appendStringInfo(
			chart->out,
			"<rect x=\"%.2f%%\" y=\"%.1f\" width=\"%.2f%%\" height=\"%.1f\">"
			"<title>%s: %s %s</title></rect>\n",
			bin * 100.0 / BINS + 0.1, TOP + DEPTH - base - height,
			100.0 / BINS - 0.2, height,
			clock_minutes(chart->figures->start +
						  bin * (BIN_SECONDS * USECS_PER_SEC)),
			number_words(values[bin]), unit);
	}
	appendStringInfoString(chart->out, "</g>\n");
}

/* A step for each bin; values below 0 are not known. */
void
chart_line(Chart *chart, const char *class, const double *values, bool filled)
{
	bool drawn = false;

	appendStringInfo(
		chart->out,
		"<svg x=\"0\" y=\"%d\" width=\"100%%\" height=\"%d\" viewBox=\"0 0 %d %d\""
		" preserveAspectRatio=\"none\" overflow=\"visible\"><path class=\"%s\""
		" vector-effect=\"non-scaling-stroke\" d=\"",
		TOP, DEPTH, BINS, DEPTH, class);
	for (int bin = 0; bin < BINS; bin++)
	{
		if (values[bin] < 0)
		{
			drawn = false;
			continue;
		}
		if (!drawn)
			appendStringInfo(chart->out, "M%d %.1f", bin,
							 DEPTH - height_of(chart, values[bin]));
		appendStringInfo(chart->out, "V%.1fH%d",
						 DEPTH - height_of(chart, values[bin]), bin + 1);
		drawn = true;
	}
	if (filled)
		appendStringInfo(chart->out, "V%dH0Z", DEPTH);
	appendStringInfoString(chart->out, "\"/></svg>\n");
}

void
chart_end(Chart *chart)
{
	append_unread(chart);
	appendStringInfo(
		chart->out,
		"<line class=\"base\" x1=\"0\" x2=\"100%%\" y1=\"%d\" y2=\"%d\"/>\n",
		TOP + DEPTH, TOP + DEPTH);
	append_hours(chart);
	appendStringInfoString(chart->out, "</svg>\n</figure>\n");
}
