/*
 * activity.c
 *		The rows of the view stripe_sync.activity, and reset_activity().
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/builtins.h"

#include "base/compat.h"
#include "base/json_push.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "metrics/internal.h"
#include "server/counters.h"
#include "server/server.h"

#define UNKNOWN                                                                \
	"Unknown, because stripe_sync is not in shared_preload_libraries: "

static Jsonb *
labels_of(const Sample *sample)
{
	JsonbInState state = {0};

	compat_push_jsonb(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < METRIC_LABELS; i++)
		if (sample->values[i] != NULL)
		{
			json_push_string(&state, WJB_KEY, sample->metric->labels[i]);
			json_push_string(&state, WJB_VALUE, sample->values[i]);
		}
	compat_push_jsonb(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(state.result);
}

/* Counters count since a time; a gauge is as of now */
static bool
has_reset(const Sample *sample)
{
	return sample->is_known && strcmp(sample->metric->type, "gauge") != 0;
}

static void
put_sample(ReturnSetInfo *result, const Sample *sample, TimestampTz since)
{
	const Metric *metric = sample->metric;

	result_add_row(
		result,
		ARGS(arg_text(psprintf("%s%s", metric->name, sample->suffix)),
			 arg_jsonb(labels_of(sample)),
			 arg_if(sample->is_known, arg_float8(sample->value)),
			 arg_text(metric->type), arg_if(has_reset(sample), arg_time(since)),
			 arg_text(sample->is_known ? metric->help
									   : psprintf(UNKNOWN "%s", metric->help))));
}

/* activity_samples(): name, labels, value, type, stats_reset, description */
ENGINE_FUNCTION(stripe_sync_activity_samples)
{
	TimestampTz since = counters_shared() ? counters_since() : 0;
	RoleScope scope;
	List *samples;
	ListCell *cell;

	InitMaterializedSRF(fcinfo, 0);
	level_check_columns(((ReturnSetInfo *) fcinfo->resultinfo)->setDesc, 6);
	scope = role_enter_engine();
	samples = samples_collect();
	role_leave(&scope);
	foreach(cell, samples)
		put_sample((ReturnSetInfo *) fcinfo->resultinfo, lfirst(cell), since);
	return (Datum) 0;
}

/* reset_activity().  Raises 55000 if nothing is counted. */
ENGINE_FUNCTION(stripe_sync_reset_activity)
{
	if (!counters_shared())
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("there are no counters to reset"),
			 errdetail("stripe_sync is not in \"shared_preload_libraries\"."),
			 errhint(
				 "ALTER SYSTEM SET shared_preload_libraries = 'stripe_sync', then restart the server.")));
	journal_note("activity.reset", NULL, NULL);
	counters_reset_at_commit();
	PG_RETURN_VOID();
}
