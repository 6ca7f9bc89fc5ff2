/*
 * as_of.c
 *		as_of(): the objects of a type as they were at a time.
 *
 * Objects are taken one after the other (objects.c); each has memory of its own.
 * No row is locked.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/base.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "history/internal.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"

/* The state at one time */
typedef struct Moment
{
	TimestampTz at;
	bool decided; /* by a point after that time: */
	bool exists;
	bool known;
} Moment;

/* ---- one object ---- */

/*
 * PointVisitor: the first point after the time tells whether the former state
 * lasted until it.
 */
static bool
pass_moment(const Former *former, const Point *point, bool follows, void *arg)
{
	Moment *moment = arg;
	bool nothing = former->is_none || former->state.object == NULL;

	if (point->at <= moment->at)
		return true;
	moment->decided = true;
	moment->known = !former->is_none && !former->lost &&
					(follows || point->lost);
	moment->exists = !nothing || former->lost;
	if (moment->known || former->lost || !nothing)
		return false;
	moment->known = (former->is_none && point_begins(point)) ||
					point_not_yet(point, moment->at);
	moment->exists = !moment->known;
	return false;
}

/* Add the object's row to the result, if it existed. */
void
as_of_object(AsOf *as_of, const char *id, const char *account,
			 Timeline *timeline)
{
	Moment moment = {.at = as_of->at};
	const Former *last = timeline_walk(timeline, as_of->at, pass_moment,
									   &moment);
	JsonbContainer *object = last->state.object;

	if (!moment.decided)
	{
		moment.known = !last->lost && !last->is_none && !last->guessed;
		moment.exists = last->lost || last->guessed || object != NULL;
	}
	if (!moment.exists)
		return;
	result_add_row(as_of->result,
				   ARGS(arg_text(id), arg_text(account),
						arg_jsonb(moment.known ? json_standalone(object) : NULL),
						arg_bool(moment.known)));
}

/* as_of(object_type, at, account) */
ENGINE_FUNCTION(stripe_sync_as_of)
{
	AsOf as_of = {.result = (ReturnSetInfo *) fcinfo->resultinfo};
	Oid reader = GetUserId();
	RoleScope scope;

	argument_required(fcinfo, 0, "the object type");
	argument_required(fcinfo, 1, "the time");
	as_of.type = history_type_named(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	as_of.at = PG_GETARG_TIMESTAMPTZ(1);
	if (!PG_ARGISNULL(2))
		as_of.account = object_account(as_of.type,
									   text_to_cstring(PG_GETARG_TEXT_PP(2)));
	InitMaterializedSRF(fcinfo, 0);
	scope = role_enter_engine();
	as_of.table = object_row_table(as_of.type, reader);
	as_of.memory = AllocSetContextCreate(
		CurrentMemoryContext, "stripe_sync object", ALLOCSET_DEFAULT_SIZES);
	if (as_of.table != NULL)
	{
		table_cache_pin(as_of.table);
		as_of_rows(&as_of);
	}
	as_of_others(&as_of);
	if (as_of.table != NULL)
		table_cache_unpin(as_of.table);
	role_leave(&scope);
	PG_RETURN_NULL();
}
