/*
 * mirror_state.c
 *		The state that a mirror row has in the mirror's own columns: as of when,
 *		from which event, deleted or not.
 *
 * A row is read in three ways (mirror_direct.c, mirror_sql.c, verify_row.c);
 * all decode its state here.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "mirror/mirror.h"
#include "tables/tables.h"
#include "mirror/internal.h"

const MetaColumn mirror_state_columns[NSTATE_COLUMNS] = {
	META_AS_OF, META_EVENT_ID, META_DELETED_AT, META_DATA};

/* The columns of the primary key and the row's values; returns how many. */
int
mirror_row_key(const MirrorTable *table, const char *id, const char *account,
			   AttrNumber *attnums, Datum *values)
{
	int n = 0;

	if (table->meta[META_KEY] != InvalidAttrNumber)
	{
		attnums[n] = table->meta[META_KEY];
		values[n++] = CStringGetTextDatum(id);
	}
	attnums[n] = table->meta[META_ACCOUNT];
	values[n++] = CStringGetTextDatum(account);
	return n;
}

/*
 * Decode the state of a row that was found.  "meta" has the values of
 * mirror_state_columns; _data only when "data" is not NULL.
 */
void
mirror_state_decode(const MetaValues *meta, MirrorState *state, Jsonb **data)
{
	state->found = true;
	state->as_of = meta->nulls[META_AS_OF]
					   ? 0
					   : DatumGetTimestampTz(meta->values[META_AS_OF]);
	state->event_id = meta->nulls[META_EVENT_ID]
						  ? NULL
						  : TextDatumGetCString(meta->values[META_EVENT_ID]);
	state->deleted = !meta->nulls[META_DELETED_AT];
	state->deleted_at = state->deleted
							? DatumGetTimestampTz(meta->values[META_DELETED_AT])
							: 0;
	if (data != NULL)
		*data = meta->nulls[META_DATA]
					? NULL
					: DatumGetJsonbPCopy(meta->values[META_DATA]);
}

/* The state of a row whose columns are given by attribute number. */
MirrorState
mirror_state_of(const MirrorTable *table, const Datum *values, const bool *nulls)
{
	MetaValues meta;
	MirrorState state;

	for (int i = 0; i < NSTATE_COLUMNS; i++)
	{
		MetaColumn column = mirror_state_columns[i];

		meta.values[column] = values[table->meta[column] - 1];
		meta.nulls[column] = nulls[table->meta[column] - 1];
	}
	mirror_state_decode(&meta, &state, NULL);
	return state;
}

/* Was the row written from a fetched object that exists? */
bool
mirror_state_is_fetched_alive(const MirrorState *state)
{
	return state->event_id == NULL && !mirror_state_is_fetched_gone(state);
}

/*
 * Was the row written because a fetch found the object deleted?  The tombstone
 * of a sweep is later than the row's _as_of.
 */
bool
mirror_state_is_fetched_gone(const MirrorState *state)
{
	return state->event_id == NULL && state->deleted &&
		   state->deleted_at <= state->as_of;
}
