/*
 * keep.c
 *		Writes what the events of one object say to stripe_sync.change, before
 *		these are deleted.
 *
 * Usually the events are later than all that is kept of the object, and their rows
 * are appended.  If an event has come late, the rows are written anew.
 */
#include "postgres.h"

#include "base/base.h"
#include "base/subtransaction.h"
#include "history/internal.h"
#include "tables/tables.h"
#include "types/types.h"

/* Argument of keep_point() */
typedef struct Keeping
{
	KeptWriter writer;
	const PrunedEvents *events;
	bool anew; /* kept points are written again */
} Keeping;

static bool
is_pruned(const PrunedEvents *events, const char *event_id)
{
	ListCell *cell;

	if (event_id == NULL)
		return false;
	foreach(cell, events->ids)
		if (strcmp(lfirst(cell), event_id) == 0)
			return true;
	return false;
}

/* PointVisitor */
static bool
keep_point(const Former *former, const Point *point, bool follows, void *arg)
{
	Keeping *keeping = arg;
	KeptWriter *writer = &keeping->writer;

	if (point->kept ? keeping->anew
					: is_pruned(keeping->events, point->event_id))
		kept_write(writer, former, point, follows);
	else if (point->kept)
	{
		writer->is_none = false;
		state_copy_set(&writer->state, point->after);
	}
	return true;
}

/* Arguments and result of read_row_body() */
typedef struct RowRead
{
	const CatalogType *type;
	const char *id;
	const char *account;
	RowFound *row;
	bool has_table;
} RowRead;

static void
read_row_body(void *arg)
{
	RowRead *read = arg;
	MirrorTable *table = table_cache_find(read->type, TABLE_READ);

	read->has_table = table != NULL;
	object_row_read(table, read->id, read->account, read->row);
}

/*
 * The object's row; false if it has none in its table.  A table that cannot be used, because its owner has altered
 * it, must not stop the pruning: there is no row then.
 */
static bool
read_row(const CatalogType *type, const char *id, const char *account,
		 RowFound *row)
{
	RowRead read = {type, id, account, row, false};
	ErrorData *error;

	memset(row, 0, sizeof(RowFound));
	if (subtransaction_run(read_row_body, &read, NULL, &error))
		return row->found || !read.has_table;
	memset(row, 0, sizeof(RowFound));
	return true;
}

/* Keep what these events say of the object, or of a child of their object. */
void
keep_object(const CatalogType *type, const char *id, const char *account,
			const PrunedEvents *events)
{
	Keeping keeping = {.writer = {type, id, account, 0, true}, .events = events};
	Timeline *timeline;
	RowFound row;
	bool is_known = read_row(type, id, account, &row);

	timeline = timeline_read(type, id, account, &row);
	/* no event listed it, one says that it was listed before */
	if (child_is_only_listed(type) && !is_known &&
		timeline_last_kept(timeline) == DT_NOBEGIN)
		return;
	state_copy_init(&keeping.writer.state);
	keeping.anew = timeline_last_kept(timeline) > events->first;
	if (keeping.anew)
		kept_forget(type, id, account);
	else
		keeping.writer.n = kept_last(type, id, account);
	(void) timeline_walk(timeline, DT_NOBEGIN, keep_point, &keeping);
}
