/*
 * internal.h
 *		The items of this folder.
 */
#ifndef STRIPE_SYNC_POSTGRES_ITEMS_INTERNAL_H
#define STRIPE_SYNC_POSTGRES_ITEMS_INTERNAL_H

#include "engine/statement.h"
#include "postgres_items/postgres_items.h"

/*
 * Begins a hint that must not be run as printed: ALTER TABLE calls the functions
 * of the table's owner as who runs it.
 */
#define NOT_AS_SUPERUSER                                                       \
	"-- not as a superuser: it calls functions that %s may change, as who runs it\n"

/* ---- in keys.c ---- */

extern void look_at_keys(Finding *finding);
extern void look_at_invalid_indexes(Finding *finding);

/* ---- in indexes.c ---- */

extern void look_at_missing_indexes(Finding *finding);

/* ---- in vacuum.c ---- */

extern void look_at_bloat(Finding *finding);
extern void look_at_vacuum(Finding *finding);
extern void look_at_sequences(Finding *finding);

/* ---- in constraints.c ---- */

extern void look_at_foreign_keys(Finding *finding);
extern void look_at_triggers(Finding *finding);
extern void look_at_not_valid(Finding *finding);
extern void look_at_mirror_owner(Finding *finding);

/* ---- in size.c ---- */

extern void look_at_size(Finding *finding);
extern void look_at_growth(Finding *finding);

#endif /* STRIPE_SYNC_POSTGRES_ITEMS_INTERNAL_H */
