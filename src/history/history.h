/*
 * history.h
 *		What an event changed, and objects as they were.
 */
#ifndef STRIPE_SYNC_HISTORY_H
#define STRIPE_SYNC_HISTORY_H

#include "inbox/event.h"
#include "mirror/mirror.h"

/* ---- in changes.c: the changes of one object, field by field ---- */

typedef struct FieldChange
{
	char *field;   /* a path with dots where the field is nested */
	Jsonb *before; /* NULL: absent, or unknown */
	Jsonb *after;  /* NULL: absent */
} FieldChange;

/* What the version changed, against the one before it in the object's history */
extern List *history_changes(EventHistory *history, Version *version);

/* ---- in change.c: stripe_sync.change, what outlives the events ---- */

/* Called before events older than this are deleted, in the same transaction. */
extern void history_keep(TimestampTz before, int64 most);

#endif /* STRIPE_SYNC_HISTORY_H */
