/*
 * state_copy.c
 *		One state of an object, in memory that is reused when the next replaces it.
 *
 * Two memory contexts take turns, so that the next state may be made from the
 * present one.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/base.h"
#include "history/internal.h"

void
state_copy_init(StateCopy *copy)
{
	for (int i = 0; i < lengthof(copy->contexts); i++)
		copy->contexts[i] = AllocSetContextCreate(
			CurrentMemoryContext, "stripe_sync state", ALLOCSET_SMALL_SIZES);
	copy->current = 0;
	copy->object = NULL;
}

void
state_copy_set(StateCopy *copy, JsonbContainer *object)
{
	int next = 1 - copy->current;
	MemoryContext old = MemoryContextSwitchTo(copy->contexts[next]);

	copy->object = object != NULL ? &json_standalone(object)->root : NULL;
	MemoryContextSwitchTo(old);
	MemoryContextReset(copy->contexts[copy->current]);
	copy->current = next;
}
