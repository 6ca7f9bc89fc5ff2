/*
 * internal.h
 *		What the files of this folder show each other.
 */
#ifndef STRIPE_SYNC_HISTORY_INTERNAL_H
#define STRIPE_SYNC_HISTORY_INTERNAL_H

#include "base/base.h"
#include "history/history.h"

/* ---- in difference.c: the fields in which two states differ ---- */
extern List *difference_described(JsonbContainer *previous,
								  JsonbContainer *after);

#endif /* STRIPE_SYNC_HISTORY_INTERNAL_H */
