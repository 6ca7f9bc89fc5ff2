/*
 * history.c
 *		history(): every change of one object, field by field, oldest first.
 *
 * Rows have an event_id where a stored or kept event tells of the change.  A row
 * without one is a change that became known at that time: a fetch, or the next
 * event's previous_attributes, showed another state than the former one.  A row
 * without a field is the whole object: created or first known, or deleted.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "history/internal.h"
#include "types/object.h"
#include "types/types.h"

static void
report_row(ReturnSetInfo *result, const Point *point, const char *event_id,
		   const char *field, const Jsonb *old, const Jsonb *new)
{
	result_add_row(result,
				   ARGS(arg_time(point->at), arg_text(event_id),
						arg_text(field), arg_jsonb(old), arg_jsonb(new)));
}

static Jsonb *
whole(JsonbContainer *object)
{
	return object != NULL ? json_standalone(object) : NULL;
}

/* One row for each field, or one for an object that begins or ends. */
static void
report_change(ReturnSetInfo *result, const Point *point, const char *event_id,
			  JsonbContainer *before, JsonbContainer *after)
{
	ListCell *cell;

	if (before == NULL || after == NULL)
	{
		if (before != after)
			report_row(result, point, event_id, NULL, whole(before),
					   whole(after));
		return;
	}
	foreach(cell, difference_between(before, after, false))
	{
		const FieldChange *change = lfirst(cell);

		report_row(result, point, event_id, change->field, change->before,
				   change->after);
	}
}

/* PointVisitor */
static bool
report_point(const Former *former, const Point *point, bool follows, void *arg)
{
	ReturnSetInfo *result = arg;
	JsonbContainer *before = former->state.object;

	if (point->lost)
		return true;
	if (!follows && point->describes)
	{
		before = point_before(point);
		if (former->is_none && point->event_id == NULL)
			before = NULL; /* first known by a fetch */
		else
			report_change(result, point, NULL, former->state.object, before);
	}
	report_change(result, point, point->event_id, before, point->after);
	return true;
}

/* history(object_type, object_id, account) */
ENGINE_FUNCTION(stripe_sync_history)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const CatalogType *type = history_type_named(
		text_to_cstring(PG_GETARG_TEXT_PP(0)));
	char *id = text_to_cstring(PG_GETARG_TEXT_PP(1));
	const char *account = object_account(type,
										 text_to_cstring(PG_GETARG_TEXT_PP(2)));
	Oid reader = GetUserId();
	RoleScope scope;
	RowFound row;

	InitMaterializedSRF(fcinfo, 0);
	scope = role_enter_engine();
	object_row_read(object_row_table(type, reader), id, account, &row);
	(void) timeline_walk(timeline_read(type, id, account, &row), DT_NOBEGIN,
						 report_point, result);
	role_leave(&scope);
	PG_RETURN_NULL();
}
