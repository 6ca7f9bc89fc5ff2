/*
 * event_changes.c
 *		What an event changed of its object.
 */
#include "postgres.h"

#include "base/base.h"
#include "history/history.h"
#include "mirror/versions.h"
#include "types/object.h"
#include "wording/wording.h"

#define MOST_ELEMENTS 20 /* of an array whose elements are compared */

/* ---- arrays of objects, element by element ---- */

static JsonbContainer *
array_of(Jsonb *jsonb)
{
	return jsonb != NULL && JB_ROOT_IS_ARRAY(jsonb) && !JB_ROOT_IS_SCALAR(jsonb)
			   ? &jsonb->root
			   : NULL;
}

static JsonbContainer *
element_of(JsonbContainer *array, uint32 i)
{
	JsonbValue *element = getIthJsonbValueFromContainer(array, i);

	return json_is_object(element) ? element->val.binary.data : NULL;
}

/* The element with that id, or NULL */
static JsonbContainer *
element_by_id(JsonbContainer *array, const char *id)
{
	for (uint32 i = 0; i < JsonContainerSize(array); i++)
	{
		JsonbContainer *element = element_of(array, i);
		char *own = element != NULL ? json_get_string(element, "id") : NULL;

		if (own != NULL && strcmp(own, id) == 0)
			return element;
	}
	return NULL;
}

/*
 * The changes of each element, by its number in the new array; NIL if the arrays
 * don't have the same elements.
 */
static List *
element_changes(const char *field, JsonbContainer *before, JsonbContainer *after)
{
	List *all = NIL;

	if (JsonContainerSize(after) != JsonContainerSize(before) ||
		JsonContainerSize(after) > MOST_ELEMENTS)
		return NIL;
	for (uint32 i = 0; i < JsonContainerSize(after); i++)
	{
		JsonbContainer *element = element_of(after, i);
		char *id = element != NULL ? json_get_string(element, "id") : NULL;
		JsonbContainer *old = id != NULL ? element_by_id(before, id) : NULL;
		List *changes;
		ListCell *cell;

		if (old == NULL)
			return NIL;
		changes = difference_between(old, element, false);
		foreach(cell, changes)
		{
			FieldChange *change = lfirst(cell);

			change->field = psprintf("%s.%u.%s", field, i, change->field);
		}
		all = list_concat(all, changes);
	}
	return all;
}

/* The changes, those of arrays of objects element by element where possible */
static List *
expanded(List *changes)
{
	List *all = NIL;
	ListCell *cell;

	foreach(cell, changes)
	{
		FieldChange *change = lfirst(cell);
		JsonbContainer *before = array_of(change->before);
		JsonbContainer *after = array_of(change->after);
		List *below = before != NULL && after != NULL
						  ? element_changes(change->field, before, after)
						  : NIL;

		all = below != NIL ? list_concat(all, below) : lappend(all, change);
	}
	return all;
}

/* ---- of an event ---- */

/* The fields of a new object, as changes */
static List *
fields_of(JsonbContainer *object)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbValue key;
	JsonbValue value;
	List *changes = NIL;

	(void) JsonbIteratorNext(&iterator, &key, true);
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		FieldChange *change = palloc0(sizeof(FieldChange));

		(void) JsonbIteratorNext(&iterator, &value, true);
		change->field = pnstrdup(key.val.string.val, key.val.string.len);
		change->after = JsonbValueToJsonb(&value);
		changes = lappend(changes, change);
	}
	return changes;
}

/* The event's version in the history of its object, or NULL */
static Version *
find_version(EventHistory *history, Event *event)
{
	ListCell *cell;

	foreach(cell, history->versions)
	{
		Version *version = lfirst(cell);

		if (strcmp(version->event_id, event->id) == 0 &&
			strcmp(version->event_account, event->account) == 0)
		{
			version->event = event;
			return version;
		}
	}
	return NULL;
}

/* What previous_attributes say, for which no history is read */
static List *
described_changes(Event *event)
{
	EventHistory none = {.type = event->catalog, .id = event->object_id};
	Version version = {.event = event};

	return expanded(history_changes(&none, &version));
}

/* The history of the event's object: one of those read so far, or read now */
static EventHistory *
history_of(Event *event, List **histories)
{
	const char *account = object_account(event->catalog, event->account);
	EventHistory *history;
	ListCell *cell;

	foreach(cell, *histories)
	{
		history = lfirst(cell);
		if (history->type == event->catalog &&
			strcmp(history->id, event->object_id) == 0 &&
			strcmp(history->account, account) == 0)
			return history;
	}
	history = fetched_note_read_history(event->catalog, event->object_id,
										account);
	*histories = lappend(*histories, history);
	return history;
}

/*
 * The changes of an event that isn't a creation.  If nothing is known before it,
 * *is_new is set, and they are the object's fields.
 */
static List *
changes_of(Event *event, List **histories, bool *is_new)
{
	EventHistory *history;
	Version *version;

	if (event->catalog == NULL || event->object_id == NULL)
		return NIL;
	if (event->previous != NULL && JsonContainerSize(event->previous) > 0)
		return described_changes(event);
	history = history_of(event, histories);
	version = find_version(history, event);
	if (version == NULL)
		return NIL;
	*is_new = event->previous == NULL && history->fetched == NIL &&
			  linitial(history->versions) == version;
	return *is_new ? fields_of(event->object)
				   : expanded(history_changes(history, version));
}

/*
 * "status draft → open, attempt_count 0 → 1"; "" if nothing is known.
 * "histories" are those that were read for other events, to which this one adds.
 */
char *
event_change_words(Event *event, List **histories)
{
	bool is_new = event_type_creates(event->type);
	List *changes;

	if (event->object == NULL || event_type_deletes(event->type))
		return pstrdup("");
	changes = is_new ? fields_of(event->object)
					 : changes_of(event, histories, &is_new);
	return changes_words(changes, event->catalog, event->object, is_new);
}
