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
	TimestampTz forgotten;
	bool ids_are_chosen;
	bool decided; /* by a point after that time: */
	bool exists;
	bool known;
} Moment;

/* ---- one object ---- */

/* Ids of these types are chosen by people, who use that of a deleted one again. */
static bool
ids_are_chosen(const CatalogType *type)
{
	return strcmp(type->object, "coupon") == 0 ||
		   strcmp(type->object, "plan") == 0 ||
		   strcmp(type->object, "product") == 0;
}

/* May something that was pruned have followed the former point? */
static bool
may_be_forgotten(const Moment *moment, const Former *former)
{
	if (former->is_none)
		return moment->ids_are_chosen && moment->at <= moment->forgotten;
	return former->at <= moment->forgotten;
}

/* The first point after the time tells whether the former state lasted until it. */
static void
decide(Moment *moment, const Former *former, const Point *point, bool follows)
{
	bool nothing = former->is_none || former->state.object == NULL;

	moment->known = !former->is_none && !former->lost &&
					(follows || point->lost);
	moment->exists = !nothing || former->lost;
	if (moment->known || former->lost || !nothing)
		return;
	moment->known = (former->is_none && point_begins(point)) ||
					point_not_yet(point, moment->at);
	moment->exists = !moment->known;
}

/* PointVisitor */
static bool
pass_moment(const Former *former, const Point *point, bool follows, void *arg)
{
	Moment *moment = arg;

	if (point->at <= moment->at)
		return true;
	moment->decided = true;
	decide(moment, former, point, follows);
	if (may_be_forgotten(moment, former))
	{
		moment->known = false;
		moment->exists = moment->exists || moment->ids_are_chosen ||
						 !point_not_yet(point, moment->at);
	}
	return false;
}

/* Add the object's row to the result, if it existed. */
void
as_of_object(AsOf *as_of, const char *id, const char *account,
			 Timeline *timeline)
{
	/* what is kept also says where it is not complete */
	bool in_kept = as_of->at < timeline_last_kept(timeline);
	Moment moment = {.at = as_of->at,
					 .forgotten = in_kept ? DT_NOBEGIN : as_of->forgotten,
					 .ids_are_chosen = ids_are_chosen(as_of->type)};
	const Former *last = timeline_walk(timeline, as_of->at, pass_moment,
									   &moment);
	JsonbContainer *object = last->state.object;

	if (!moment.decided)
	{
		/* nothing is newer than the mirror's row */
		bool lasts = timeline->has_row || !may_be_forgotten(&moment, last);

		moment.known = lasts && !last->lost && !last->is_none && !last->guessed;
		moment.exists = !lasts || last->lost || last->guessed || object != NULL;
	}
	if (!moment.exists)
		return;
	result_add_row(as_of->result,
				   ARGS(arg_text(id), arg_text(account),
						arg_jsonb(moment.known ? json_standalone(object) : NULL),
						arg_bool(moment.known)));
}

/*
 * All objects.  If events are pruned meanwhile, some of these have been read and
 * others not: all is read again.
 */
static void
as_of_all(AsOf *as_of)
{
	if (as_of->table != NULL)
		table_cache_pin(as_of->table);
	for (;;)
	{
		as_of->forgotten = forgotten_until(as_of->type);
		if (as_of->table != NULL)
			as_of_rows(as_of);
		as_of_others(as_of);
		if (forgotten_until(as_of->type) == as_of->forgotten)
			break;
		tuplestore_clear(as_of->result->setResult);
	}
	if (as_of->table != NULL)
		table_cache_unpin(as_of->table);
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
	as_of_all(&as_of);
	role_leave(&scope);
	PG_RETURN_NULL();
}
