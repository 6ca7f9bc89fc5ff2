/*
 * part_kind.c
 *		The kinds of parts, as whoever implements them registers them.
 *
 * They are registered once, when the library is loaded, and never change.  Jobs
 * and parts are worked at through the callbacks of PartKind alone.
 */
#include "stripe_api.h"

static const PartKind *const *kinds = NULL;
static int nkinds = 0;

void
part_kinds_register(const PartKind *const *all, int count)
{
	kinds = all;
	nkinds = count;
}

const PartKind *
part_kind_find(const char *name)
{
	for (int i = 0; i < nkinds; i++)
		if (strcmp(kinds[i]->name, name) == 0)
			return kinds[i];
	elog(ERROR, "there is no kind of part \"%s\"", name);
}
