/*
 * fetched_gone.c
 *		The row of an object that a fetch from Stripe's API did not find.
 *
 * The row keeps its last content and gets a tombstone that is not later than its
 * _as_of; by that it differs from the tombstone of a sweep.  An object that was
 * never in the mirror gets a row as well: an event of it that arrives later must
 * not bring it back.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/json.h"

#include "base/base.h"
#include "inbox/event.h"
#include "mirror/mirror.h"
#include "types/types.h"
#include "mirror/internal.h"

/* The content of a row of an object that the mirror has never had. */
static JsonbContainer *
gone_object(const CatalogType *type, const char *id)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoString(&out, "{\"object\":");
	escape_json(&out, type->object);
	appendStringInfoString(&out, ",\"deleted\":true");
	if (type->key[0] != '\0')
	{
		appendStringInfoChar(&out, ',');
		escape_json(&out, type->key);
		appendStringInfoChar(&out, ':');
		escape_json(&out, id);
	}
	appendStringInfoChar(&out, '}');
	return &json_parse(out.data, out.len)->root;
}

/*
 * The content of an object's row after a fetch as of "gone_at" did not find it:
 * its last known content, and a tombstone.  The tombstone is as of the object's
 * deletion, or of the first fetch that did not find it ("missed_at" is one),
 * unless it was alive after that.  "shown" is the object as the last fetch that
 * found it returned it, if the row does not hold that.
 */
MirrorContent
fetched_gone_content(const MirrorRow *row, const EventHistory *history,
					 Version *newest, JsonbContainer *shown,
					 TimestampTz gone_at, TimestampTz missed_at)
{
	const MirrorState *state = &row->state;
	MirrorContent content = {.as_of = gone_at, .deleted = true};
	TimestampTz alive_at = event_history_alive_at(history);
	TimestampTz deleted_at = gone_at;

	if (newest != NULL && newest->created <= alive_at)
		newest = NULL;
	if (newest != NULL)
		content.object = version_event(newest)->object;
	else if (shown != NULL)
		content.object = shown;
	else
		content.object = row->data != NULL
							 ? &row->data->root
							 : gone_object(history->type, history->id);
	if (newest != NULL)
		alive_at = newest->created;
	if (state->found && state->deleted && state->deleted_at > alive_at)
		deleted_at = Min(deleted_at, state->deleted_at);
	if (missed_at > alive_at)
		deleted_at = Min(deleted_at, missed_at);
	if (newest != NULL && event_type_deletes(newest->event_type))
		deleted_at = newest->created;
	content.deleted_at = deleted_at;
	return content;
}

/*
 * An event or a fetched object arrives after a later fetch has not found the
 * object: the tombstone stays, but its time and the last content may change.
 */
void
fetched_gone_settle_missed(MirrorRow *row, const EventHistory *history,
						   Version *newest, JsonbContainer *shown,
						   TimestampTz missed_at)
{
	MirrorContent content;

	if (!mirror_state_is_fetched_gone(&row->state))
		return;
	content = fetched_gone_content(row, history, newest, shown,
								   row->state.as_of, missed_at);
	if (content.deleted_at != row->state.deleted_at ||
		!mirror_row_has_data(row, content.object))
		(void) mirror_write(row, &content);
}

/* The same when an event arrives; the row's content is read if necessary. */
void
fetched_gone_settle(MirrorRow *row, EventHistory *history, Version *newest)
{
	MirrorState ignored;

	if (!mirror_state_is_fetched_gone(&row->state))
		return;
	if (row->data == NULL)
		(void) mirror_peek(row->table, row->id, row->account, &ignored,
						   &row->data);
	fetched_gone_settle_missed(row, history, newest, NULL, DT_NOEND);
}
