/*
 * point.c
 *		What is known of an object at one time, and whether it agrees with what is
 *		known before.
 *
 * An event says how the object was after it.  A creation, and an update with
 * previous_attributes, also say how it was before: if that is not the former
 * known state, something else has changed it in between, at an unknown time.  A
 * fetch shows one state, which is that before it, too.
 */
#include "postgres.h"

#include "base/base.h"
#include "history/internal.h"

#define YEAR_9999 INT64CONST(253402300799)

/* Does the snapshot itself say that the object is deleted? */
static bool
says_deleted(JsonbContainer *object)
{
	JsonbValue value;

	return json_get(object, "deleted", &value) && value.type == jbvBool &&
		   value.val.boolean;
}

/* An event of the object itself. */
Point
point_of_event(Event *event)
{
	Point point = {.at = event->created,
				   .event_id = event->id,
				   .api_version = event->api_version,
				   .shown = event->object};

	point.ends_life = event_type_deletes(event->type);
	if (point.ends_life || event->object == NULL || says_deleted(event->object))
		return point;
	point.after = event->object;
	if (event_type_creates(event->type))
		point.describes = true;
	else if (event->previous != NULL && JsonContainerSize(event->previous) > 0)
	{
		point.describes = true;
		point.previous = event->previous;
	}
	return point;
}

/* A fetched object, or what the mirror's row holds; NULL: it does not exist. */
Point
point_of_reading(TimestampTz at, JsonbContainer *object)
{
	Point point = {.at = at,
				   .after = object,
				   .describes = true,
				   .before = object,
				   .shown = object};

	return point;
}

/* Are both of the same API version, as far as it is known? */
static bool
same_version(const Former *former, const Point *point)
{
	return former->api_version == NULL || point->api_version == NULL ||
		   strcmp(former->api_version, point->api_version) == 0;
}

/* Is the former state the one that previous_attributes describe? */
static bool
previous_fit(const Former *former, const Point *point)
{
	if (json_overlay_same(point->after, point->previous, former->state.object))
		return true;
	/* versions render the same object differently */
	return !same_version(former, point) &&
		   json_describes(point->previous, former->state.object);
}

/*
 * Does the point follow the former one, with nothing in between that is unknown?
 * A creation of an object that exists says nothing of before.
 */
bool
point_follows(const Former *former, const Point *point)
{
	JsonbContainer *was = former->state.object;

	if (former->is_none || former->lost || point->lost)
		return false;
	if (!point->describes)
		return !former->guessed;
	if (point->previous == NULL && point->before == NULL)
		return was == NULL || (point->after != NULL && point->parent == NULL);
	if (was == NULL)
		return false;
	/* the same change in two events */
	if (point->event_id != NULL && point->after != NULL &&
		json_same(point->after, was))
		return true;
	return point->previous != NULL ? previous_fit(former, point)
								   : json_same(point->before, was);
}

/* The state that the point describes as the one before; NULL: it did not exist. */
JsonbContainer *
point_before(const Point *point)
{
	return point->previous != NULL
			   ? patch_previous(point->after, point->previous)
			   : point->before;
}

/* As the first point: did the object not exist before it? */
bool
point_begins(const Point *point)
{
	if (point->previous != NULL || point->before != NULL)
		return false;
	return (point->describes && point->after != NULL) || point->parent != NULL;
}

/*
 * Was the object, which the point shows, not created yet at that time?  False if
 * it does not say when it was created.
 */
bool
point_not_yet(const Point *point, TimestampTz at)
{
	JsonbValue value;
	int64 created;

	if (point->shown == NULL || !json_get(point->shown, "created", &value) ||
		!json_to_int64(&value, &created))
		return false;
	return created > 0 && created < YEAR_9999 &&
		   at < time_t_to_timestamptz((pg_time_t) created);
}
