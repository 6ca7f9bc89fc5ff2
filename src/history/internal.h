/*
 * internal.h
 *		What the files of this folder show each other.
 */
#ifndef STRIPE_SYNC_HISTORY_INTERNAL_H
#define STRIPE_SYNC_HISTORY_INTERNAL_H

#include "base/base.h"
#include "engine/statement.h"
#include "history/history.h"
#include "mirror/mirror.h"
#include "mirror/versions.h"

/* ---- in difference.c: the fields in which two states differ ---- */
extern List *difference_described(JsonbContainer *previous,
								  JsonbContainer *after);

/* ---- in patch.c: a state with other values of some fields ---- */
extern JsonbContainer *patch_field(JsonbContainer *object, const char *field,
								   const Jsonb *value);
extern JsonbContainer *patch_previous(JsonbContainer *object,
									  JsonbContainer *previous);

/* ---- in state_copy.c: one state, in memory that is reused ---- */
typedef struct StateCopy
{
	MemoryContext contexts[2];
	int current;
	JsonbContainer *object; /* NULL: the object does not exist */
} StateCopy;

extern void state_copy_init(StateCopy *copy);
extern void state_copy_set(StateCopy *copy, JsonbContainer *object);

/* ---- in point.c: what is known of an object at one time ---- */
typedef struct Point
{
	TimestampTz at;
	const char *event_id;	  /* NULL: a fetch, or the mirror's row */
	const char *api_version;  /* or NULL */
	const char *parent;		  /* whose page it comes from, or NULL */
	JsonbContainer *after;	  /* NULL: the object does not exist */
	bool describes;			  /* it says what was before: */
	JsonbContainer *before;	  /* NULL: nothing, unless "previous" is set */
	JsonbContainer *previous; /* previous_attributes of an own event */
	JsonbContainer *shown; /* any state of it, that says when it was created */
	bool ends_life;
	bool lost;	  /* an event of that time was pruned and not kept */
	bool kept;	  /* read from stripe_sync.change */
	bool guessed; /* it may not be the last of its second */
} Point;

/* The point before it */
typedef struct Former
{
	bool is_none;
	bool lost;
	bool guessed;
	TimestampTz at;
	char *api_version; /* or NULL */
	StateCopy state;
} Former;

extern Point point_of_event(Event *event);
extern Point point_of_reading(TimestampTz at, JsonbContainer *object);
extern bool point_follows(const Former *former, const Point *point);
extern JsonbContainer *point_before(const Point *point);
extern bool point_begins(const Point *point);
extern bool point_not_yet(const Point *point, TimestampTz at);

/* ---- in child.c: what an event of a parent says of a child ---- */
extern List *child_parent_types(const CatalogType *type);
extern bool child_is_only_listed(const CatalogType *type);
extern bool child_point(const EventHistory *parent, Event *event,
						const CatalogType *type, const char *id, Point *point);
extern bool child_reading(const EventHistory *parent, TimestampTz at,
						  JsonbContainer *snapshot, const CatalogType *type,
						  const char *id, Point *point);
extern List *child_ids(const EventHistory *parent, Event *event,
					   const CatalogType *type, List *ids);

/* ---- in kept.c: stripe_sync.change is read and written ---- */
typedef struct KeptRow
{
	char *kind;
	char *field; /* NULL: the object */
	Jsonb *new;
} KeptRow;

typedef struct KeptPoint
{
	TimestampTz at;
	char *event_id;
	char *parent;
	char *api_version;
	bool describes;
	List *rows; /* of KeptRow */
} KeptPoint;

extern List *kept_read(const CatalogType *type, const char *id,
					   const char *account);
extern Point kept_point(const KeptPoint *kept, StateCopy *state);
extern int kept_last(const CatalogType *type, const char *id,
					 const char *account);
extern void kept_forget(const CatalogType *type, const char *id,
						const char *account);

typedef struct KeptWriter
{
	const CatalogType *type;
	const char *id;
	const char *account;
	int n;			 /* of the last row */
	bool is_none;	 /* nothing is kept so far */
	StateCopy state; /* the last kept one */
} KeptWriter;

extern void kept_write(KeptWriter *writer, const Former *former,
					   const Point *point, bool follows);

/* ---- in sources.c: what is known of one object ---- */
typedef enum SlotKind
{
	SLOT_KEPT,
	SLOT_EVENT,
	SLOT_READING
} SlotKind;

/* One source of a point */
typedef struct Slot
{
	TimestampTz at;
	SlotKind kind;
	int order;			  /* among those of one time and kind */
	KeptPoint *kept;	  /* of SLOT_KEPT */
	Version *version;	  /* of SLOT_EVENT */
	EventHistory *parent; /* of it, not of the object itself; or NULL */
	Jsonb *object;		  /* of SLOT_READING: NULL: it does not exist */
	bool ends_life;
	bool describes; /* of SLOT_READING: what it shows was so before */
} Slot;

typedef struct RowFound
{
	bool found;
	MirrorState state;
	Jsonb *data;
} RowFound;

typedef struct Timeline
{
	const CatalogType *type;
	const char *id;
	const char *account;
	List *slots; /* of Slot, in their order */
	int sources; /* without the mirror's row */
	bool has_row;
	bool dead; /* the present life is over */
	Former former;
	StateCopy kept;		  /* the state of the chain */
	MemoryContext second; /* of one second */
} Timeline;

extern Timeline *timeline_read(const CatalogType *type, const char *id,
							   const char *account, const RowFound *row);
extern bool timeline_has_sources(const Timeline *timeline);
extern TimestampTz timeline_last_kept(const Timeline *timeline);

/* ---- in timeline.c: all points of one object, in their order ---- */

/* "follows": the point's state before is the former point's.  False: stop. */
typedef bool (*PointVisitor)(const Former *former, const Point *point,
							 bool follows, void *arg);

extern const Former *timeline_walk(Timeline *timeline, TimestampTz from,
								   PointVisitor visit, void *arg);

/* ---- in forgotten.c: what was pruned and not kept ---- */
extern TimestampTz forgotten_until(const CatalogType *type);

/* ---- in as_of.c: the objects of a type at a time ---- */
typedef struct AsOf
{
	ReturnSetInfo *result;
	const CatalogType *type;
	TimestampTz at;
	const char *account;   /* NULL: all */
	TimestampTz forgotten; /* until then the past is not complete */
	MirrorTable *table;	   /* or NULL */
	MemoryContext memory;  /* of one object */
} AsOf;

extern void as_of_object(AsOf *as_of, const char *id, const char *account,
						 Timeline *timeline);

/* ---- in objects.c: all objects of a type ---- */
extern void as_of_rows(AsOf *as_of);
extern void as_of_others(AsOf *as_of);

/* ---- in object_row.c: the object's row in the mirror ---- */
extern MirrorTable *object_row_table(const CatalogType *type, Oid reader);
extern void object_row_read(MirrorTable *table, const char *id,
							const char *account, RowFound *row);

/* ---- in keep.c: an object's events are about to be pruned ---- */
typedef struct PrunedEvents
{
	List *ids;		   /* of char * */
	TimestampTz first; /* the time of the oldest */
} PrunedEvents;

extern void keep_object(const CatalogType *type, const char *id,
						const char *account, const PrunedEvents *events);

/* ---- in history_types.c: the types whose changes are kept ---- */
extern bool history_type_is_kept(const CatalogType *type);
extern List *history_kept_types(void);
extern List *history_carrier_types(void);
extern const CatalogType *history_type_named(const char *name);

#endif /* STRIPE_SYNC_HISTORY_INTERNAL_H */
