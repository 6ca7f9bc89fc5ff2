/*
 * prometheus.c
 *		metrics(): the samples in Prometheus' text format, version 0.0.4.
 *
 * Samples without a value are left out.  The same SQL text is the whole answer of
 * an HTTP front, so it ends with a newline.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/float.h"

#include <math.h>

#include "engine/engine.h"
#include "engine/rights.h"
#include "metrics/internal.h"

#define PREFIX "stripe_sync_"

static void
append_label(StringInfo out, const char *name, const char *value)
{
	appendStringInfo(out, "%s=\"", name);
	for (; *value != '\0'; value++)
	{
		if (*value == '\\' || *value == '"')
			appendStringInfoChar(out, '\\');
		if (*value == '\n')
			appendStringInfoString(out, "\\n");
		else
			appendStringInfoChar(out, *value);
	}
	appendStringInfoChar(out, '"');
}

static void
append_labels(StringInfo out, const Sample *sample)
{
	bool any = false;

	for (int i = 0; i < METRIC_LABELS; i++)
	{
		if (sample->values[i] == NULL)
			continue;
		appendStringInfoChar(out, any ? ',' : '{');
		append_label(out, sample->metric->labels[i], sample->values[i]);
		any = true;
	}
	if (any)
		appendStringInfoChar(out, '}');
}

static void
append_sample(StringInfo out, const Sample *sample)
{
	appendStringInfo(out, PREFIX "%s%s", sample->metric->name, sample->suffix);
	append_labels(out, sample);
	if (sample->value == rint(sample->value) && fabs(sample->value) < 1e15)
		appendStringInfo(out, " %.0f\n", sample->value);
	else
		appendStringInfo(out, " %s\n", float8out_internal(sample->value));
}

/* All samples as text, in the current memory context */
static char *
prometheus_text(void)
{
	const Metric *last = NULL;
	StringInfoData out;
	ListCell *cell;

	initStringInfo(&out);
	foreach(cell, samples_collect())
	{
		const Sample *sample = lfirst(cell);

		if (!sample->is_known)
			continue;
		if (sample->metric != last)
			appendStringInfo(&out,
							 "# HELP " PREFIX "%s %s.\n# TYPE " PREFIX "%s %s\n",
							 sample->metric->name, sample->metric->help,
							 sample->metric->name, sample->metric->type);
		last = sample->metric;
		append_sample(&out, sample);
	}
	return out.data;
}

/* metrics() */
ENGINE_FUNCTION(stripe_sync_metrics)
{
	RoleScope scope = role_enter_engine();
	char *out = prometheus_text();

	role_leave(&scope);
	PG_RETURN_TEXT_P(cstring_to_text(out));
}
