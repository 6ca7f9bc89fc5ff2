/*
 * history.h
 *		What an event changed, and objects as they were.
 */
#ifndef STRIPE_SYNC_HISTORY_H
#define STRIPE_SYNC_HISTORY_H

#include "inbox/event.h"
#include "mirror/versions.h"

/* ---- in changes.c: what one stored event changed, field by field ---- */

typedef struct FieldChange
{
	char *field;   /* a path with dots where the field is nested */
	Jsonb *before; /* NULL: absent, or unknown */
	Jsonb *after;  /* NULL: absent */
} FieldChange;

/*
 * What the version changed, of FieldChange, in the order of the fields: by its
 * previous_attributes, else against the version before it in the object's
 * history.  NIL for a creation, a deletion, and where nothing is known before.
 */
extern List *history_changes(EventHistory *history, Version *version);

/* ---- in difference.c: the fields in which two states differ ---- */

/* Of FieldChange.  "exact": null and absent are not the same. */
extern List *difference_between(JsonbContainer *before, JsonbContainer *after,
								bool exact);

/* ---- in prune_kept.c: stripe_sync.change, what outlives the events ---- */

struct ArgColumns;

/* Deletes events whose ids and accounts are given; returns their number. */
typedef int64 (*EventDeleter)(const struct ArgColumns *events);

extern Datum history_carriers(void);
extern Datum history_kept(void);
extern bool history_prune_begin(bool wait);
extern int64 history_prune(TimestampTz before, int64 objects,
						   EventDeleter delete_events);

/* ---- in forgotten.c: what was pruned and not kept ---- */
extern void history_forgotten_types(Datum *carriers, Datum *types);

/* ---- in history_types.c: the setting's check ---- */
extern void history_init(void);

#endif /* STRIPE_SYNC_HISTORY_H */
