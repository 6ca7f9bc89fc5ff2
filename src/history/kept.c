/*
 * kept.c
 *		stripe_sync.change: what pruned events said of an object, as rows.
 *
 * The rows of an object are a chain in the order of "n": each event's rows say
 * how the state after it differs from the state after the one before in the
 * chain.  Rows of one event:
 *
 *	before		the whole state before it, if the chain begins with it
 *	unseen		what had changed before it, that no event told
 *	created		the whole object: it did not exist before
 *	found		the whole object: nothing is known before
 *	changed		a field's old and new value; without a field, nothing
 *	deleted		it does not exist after it
 *	lost		an event of that time was pruned and not kept
 *
 * "field" is NULL where a row is of the whole object.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "engine/array_argument.h"
#include "engine/statement.h"
#include "history/internal.h"

/* ---- reading ---- */

/* Does the row belong to the point that was read last? */
static bool
is_same_point(const KeptPoint *point, TimestampTz at, const char *event_id)
{
	return point != NULL && point->at == at && event_id != NULL &&
		   point->event_id != NULL && strcmp(point->event_id, event_id) == 0;
}

static KeptPoint *
read_point(Rows *rows, KeptPoint *last)
{
	TimestampTz at = rows_time(rows, 0);
	char *event_id = rows_text(rows);
	KeptPoint *point = last;
	KeptRow *row = palloc(sizeof(KeptRow));

	if (!is_same_point(last, at, event_id))
	{
		point = palloc0(sizeof(KeptPoint));
		point->at = at;
		point->event_id = event_id;
	}
	point->parent = rows_text(rows);
	point->api_version = rows_text(rows);
	point->describes = rows_bool(rows, false);
	row->kind = rows_text(rows);
	row->field = rows_text(rows);
	row->new = rows_jsonb(rows);
	point->rows = lappend(point->rows, row);
	return point;
}

/* The chain of an object, of KeptPoint. */
List *
kept_read(const CatalogType *type, const char *id, const char *account)
{
	static EngineStatement select = {
		"SELECT at, event_id, parent, api_version, described, kind, field, new"
		" FROM stripe_sync.change"
		" WHERE object_id = $1 AND object_type = $2 AND account = $3"
		" ORDER BY n"};
	List *points = NIL;
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_text(id), arg_text(type->object), arg_text(account)));
	while (rows_next(&rows))
	{
		KeptPoint *last = points != NIL ? llast(points) : NULL;
		KeptPoint *point = read_point(&rows, last);

		if (point != last)
			points = lappend(points, point);
	}
	rows_close(&rows);
	return points;
}

/* The number of the last row of an object; 0: there is none. */
int
kept_last(const CatalogType *type, const char *id, const char *account)
{
	static EngineStatement select = {
		"SELECT pg_catalog.max(n)::bigint FROM stripe_sync.change"
		" WHERE object_id = $1 AND object_type = $2 AND account = $3"};

	return (int) statement_int8(
		0, &select,
		ARGS(arg_text(id), arg_text(type->object), arg_text(account)));
}

/* Delete the chain of an object, which is written anew. */
void
kept_forget(const CatalogType *type, const char *id, const char *account)
{
	static EngineStatement drop = {
		"DELETE FROM stripe_sync.change"
		" WHERE object_id = $1 AND object_type = $2 AND account = $3"};

	(void) statement_exec(
		&drop, ARGS(arg_text(id), arg_text(type->object), arg_text(account)));
}

static JsonbContainer *
root_of(const Jsonb *value)
{
	return value != NULL ? unconstify(JsonbContainer *, &value->root) : NULL;
}

/* The state after a row. */
static JsonbContainer *
apply_row(const KeptRow *row, JsonbContainer *state)
{
	if (strcmp(row->kind, "lost") == 0 ||
		(row->field == NULL && strcmp(row->kind, "changed") == 0))
		return state;
	if (row->field == NULL)
		return root_of(row->new);
	return state != NULL ? patch_field(state, row->field, row->new) : NULL;
}

/* The next point of a chain; "state" is that of the one before it. */
Point
kept_point(const KeptPoint *kept, StateCopy *state)
{
	JsonbContainer *now = state->object;
	Point point = {.at = kept->at,
				   .event_id = kept->event_id,
				   .api_version = kept->api_version,
				   .parent = kept->parent,
				   .describes = kept->describes,
				   .kept = true};
	ListCell *cell;

	point.before = now;
	foreach(cell, kept->rows)
	{
		const KeptRow *row = lfirst(cell);

		now = apply_row(row, now);
		if (strcmp(row->kind, "unseen") == 0 || strcmp(row->kind, "before") == 0)
			point.before = now;
		else if (strcmp(row->kind, "created") == 0)
			point.before = NULL;
		else if (strcmp(row->kind, "deleted") == 0)
			point.ends_life = kept->parent == NULL;
		else if (strcmp(row->kind, "lost") == 0)
			point.lost = true;
	}
	point.after = now;
	point.shown = now != NULL ? now : point.before;
	return point;
}

/* ---- writing ---- */

/* Rows of one point */
typedef struct RowBatch
{
	KeptWriter *writer;
	const Point *point;
	ArgColumns columns;
} RowBatch;

static void
add_kept_row(RowBatch *batch, const char *kind, const char *field,
			 const Jsonb *old, const Jsonb *new)
{
	columns_add(&batch->columns,
				ARGS(arg_int4(++batch->writer->n), arg_text(kind),
					 arg_text(field), arg_jsonb(old), arg_jsonb(new)));
}

static Jsonb *
whole(JsonbContainer *object)
{
	return object != NULL ? json_standalone(object) : NULL;
}

/* Rows for all fields that differ; true if there are any. */
static bool
add_difference(RowBatch *batch, const char *kind, JsonbContainer *before,
			   JsonbContainer *after)
{
	ListCell *cell;
	bool any = false;

	foreach(cell, difference_between(before, after, true))
	{
		const FieldChange *change = lfirst(cell);

		add_kept_row(batch, kind, change->field, change->before, change->after);
		any = true;
	}
	return any;
}

/* What had changed before the point, unseen; returns the state before it. */
static JsonbContainer *
add_before(RowBatch *batch, JsonbContainer *before)
{
	JsonbContainer *state = batch->writer->state.object;

	if (batch->writer->is_none)
	{
		if (before != NULL)
			add_kept_row(batch, "before", NULL, NULL, whole(before));
	}
	else if (state != NULL && before != NULL)
		(void) add_difference(batch, "unseen", state, before);
	else if (state != before)
		add_kept_row(batch, "unseen", NULL, whole(state), whole(before));
	return before;
}

static void
add_after(RowBatch *batch, JsonbContainer *before, bool describes)
{
	JsonbContainer *after = batch->point->after;

	if (batch->point->lost)
		add_kept_row(batch, "lost", NULL, NULL, NULL);
	else if (after == NULL && before == NULL && !batch->writer->is_none)
		add_kept_row(batch, "changed", NULL, NULL, NULL);
	else if (after == NULL)
		add_kept_row(batch, "deleted", NULL, NULL, NULL);
	else if (before == NULL)
		add_kept_row(batch, describes ? "created" : "found", NULL, NULL,
					 whole(after));
	else if (!add_difference(batch, "changed", before, after))
		add_kept_row(batch, "changed", NULL, NULL, NULL);
}

static void
insert_rows(const RowBatch *batch, bool describes)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.change (object_type, object_id, account, at,"
		" event_id, parent, api_version, described, n, kind, field, old, new)"
		" SELECT $6, $7, $8, $9, $10, $11, $12, $13, r.* FROM"
		" unnest($1, $2, $3, $4, $5) r"};
	const StatementArg *columns = columns_args(&batch->columns);
	const KeptWriter *writer = batch->writer;
	const Point *point = batch->point;

	(void) statement_exec(
		&insert, ARGS(columns[0], columns[1], columns[2], columns[3], columns[4],
					  arg_text(writer->type->object), arg_text(writer->id),
					  arg_text(writer->account), arg_time(point->at),
					  arg_text(point->event_id), arg_text(point->parent),
					  arg_text(point->api_version), arg_bool(describes)));
}

/* Does the point only confirm the state before it? */
static bool
confirms(const KeptWriter *writer, const Former *former, const Point *point,
		 bool follows)
{
	JsonbContainer *state = writer->state.object;

	if (writer->is_none || point->lost || (point->describes && !follows))
		return false;
	if (state == NULL || point->after == NULL)
		return state == point->after && former->state.object == NULL;
	return former->state.object != NULL &&
		   compareJsonbContainers(state, point->after) == 0 &&
		   compareJsonbContainers(state, former->state.object) == 0;
}

/*
 * Of several points in succession that only confirm a state, the last is kept:
 * most events of a parent say nothing new of a child.  False: the chain doesn't
 * end with one.
 */
static bool
replace_confirmation(const KeptWriter *writer, const Point *point)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.change SET at = $5, event_id = $6, parent = $7,"
		" api_version = $8, described = $9"
		" WHERE object_id = $1 AND object_type = $2 AND account = $3"
		"  AND n = $4 AND kind = 'changed' AND field IS NULL"};

	return statement_exec(
			   &update,
			   ARGS(arg_text(writer->id), arg_text(writer->type->object),
					arg_text(writer->account), arg_int4(writer->n),
					arg_time(point->at), arg_text(point->event_id),
					arg_text(point->parent), arg_text(point->api_version),
					arg_bool(point->describes))) > 0;
}

/*
 * Append the rows of a point to the chain.  "follows": its state before is the
 * former point's, which need not be in the chain.
 */
void
kept_write(KeptWriter *writer, const Former *former, const Point *point,
		   bool follows)
{
	RowBatch batch = {.writer = writer, .point = point};
	JsonbContainer *state = writer->state.object;
	bool creates = point->previous == NULL && point->before == NULL;
	bool describes = point->describes &&
					 !(creates && follows && former->state.object != NULL);

	if (confirms(writer, former, point, follows) &&
		replace_confirmation(writer, point))
		return;
	if (describes)
		state = add_before(&batch, follows ? former->state.object
										   : point_before(point));
	add_after(&batch, state, describes);
	insert_rows(&batch, describes);
	writer->is_none = false;
	state_copy_set(&writer->state, point->after);
}
