/*
 * changes.c
 *		What one stored event changed of its object.
 *
 * An update has the former values in previous_attributes.  Other events are
 * compared with the version before them, in the order that the mirror uses
 * (newest.c).
 */
#include "postgres.h"

#include "base/base.h"
#include "history/internal.h"

/* The version before this one; NULL if it is the first, or follows a deletion. */
static Version *
version_before(EventHistory *history, const Version *version)
{
	Version *before = NULL;
	ListCell *cell;

	foreach(cell, newest_order_since(history, DT_NOBEGIN))
	{
		Version *other = lfirst(cell);

		if (other == version)
			break;
		/* of a fetched version that was replaced only the time is known */
		if (version_event(other)->object != NULL)
			before = other;
	}
	if (before != NULL && event_type_deletes(before->event_type))
		return NULL;
	return before;
}

List *
history_changes(EventHistory *history, Version *version)
{
	Event *event = version_event(version);
	Version *before;

	if (event->object == NULL || event_type_creates(event->type) ||
		event_type_deletes(event->type))
		return NIL;
	if (event->previous != NULL && JsonContainerSize(event->previous) > 0)
		return difference_described(event->previous, event->object);
	before = version_before(history, version);
	if (before == NULL)
		return NIL;
	return difference_between(version_event(before)->object, event->object,
							  false);
}
