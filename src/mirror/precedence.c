/*
 * precedence.c
 *		Which of two known states of an object a row takes: the one that it has,
 *		that of its newest event, or that of a parent's page.
 *
 * Only reads, so that verify_mirror() can ask the same questions as the writers.
 */
#include "postgres.h"

#include "base/base.h"
#include "inbox/event.h"
#include "mirror/mirror.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"
#include "mirror/internal.h"

/* Does the event delete the object, or its snapshot say that it is deleted? */
static bool
is_deletion(const char *event_type, JsonbContainer *object)
{
	JsonbValue value;

	return event_type_deletes(event_type) ||
		   (json_get(object, "deleted", &value) && value.type == jbvBool &&
			value.val.boolean);
}

/* The content of a row that takes the event's snapshot. */
MirrorContent
precedence_content(Event *event)
{
	MirrorContent content = {
		.object = event->object,
		.as_of = event->created,
		.event_id = event->id,
		.deleted = is_deletion(event->type, event->object),
		.deleted_at = event->created,
	};

	return content;
}

/* Does a page in another object's event list this object? */
bool
precedence_listed_by(const char *event_id, const char *account,
					 const CatalogType *type, const char *id)
{
	Event event;

	if (strcmp(event_id, FILLED_BY_FETCHED) == 0 ||
		!event_load(event_id, account, &event) || event.catalog == NULL)
		return false;
	for (int i = 0; i < event.catalog->npages; i++)
	{
		JsonbContainer *page = object_page(event.object,
										   event.catalog->pages[i].field, NULL);

		if (page != NULL &&
			child_is_listed(event.object_id, page, type->object, id))
			return true;
	}
	return false;
}

/*
 * Is the state of the row newer than the newest own event?  It may come from a
 * fetched object, from a parent's page, or from an own event since pruned.
 */
bool
precedence_state_is_newer(const MirrorState *state, const EventHistory *history,
						  const Version *newest)
{
	bool known;

	if (state->event_id == NULL)
		return state->as_of >= newest->created;
	if (strcmp(state->event_id, FILLED_BY_FETCHED) == 0 ||
		event_history_find(history, state->event_id) != NULL)
		return false;
	(void) event_history_is_own(state->event_id, history->account,
								history->type, history->id, &known);
	if (!known)
		return state->as_of >= newest->created;
	/* after the object's own deletion no page of a parent brings it back */
	return (!event_type_deletes(newest->event_type) ||
			event_history_alive_at(history) >= newest->created) &&
		   state->as_of > newest->created &&
		   precedence_listed_by(state->event_id, history->account,
								history->type, history->id);
}

/* Does the object name a parent whose pages list it? */
static bool
has_parents(const CatalogType *type, JsonbContainer *object)
{
	JsonbValue value;

	for (int i = 0; i < catalog_ntypes; i++)
		for (int j = 0; j < catalog_types[i].npages; j++)
		{
			const CatalogPage *page = &catalog_types[i].pages[j];

			if (page->back != NULL && strcmp(page->child, type->object) == 0 &&
				json_get(object, page->back, &value))
				return true;
		}
	return false;
}

/*
 * Decide whether a row with this content has a tombstone, when the newest
 * snapshot is alive.  A later page of the parent that leaves the object out sets
 * one; an earlier deletion of the object no longer counts.
 */
void
precedence_find_tombstone(const MirrorState *state, const EventHistory *history,
						  const char *account, TableUse use,
						  MirrorContent *content)
{
	Version *written = state->event_id
						   ? event_history_find(history, state->event_id)
						   : NULL;

	if (content->deleted)
		return;
	if (has_parents(history->type, content->object))
		content->deleted = left_out_since(history->type, history->id, account,
										  content->object, content->as_of, use,
										  &content->deleted_at);
	else if (state->deleted && state->deleted_at > content->as_of &&
			 !(written != NULL && event_type_deletes(written->event_type)))
	{
		content->deleted = true;
		content->deleted_at = state->deleted_at;
	}
}
