/*
 * kinds.c
 *		The kinds of parts that there are.
 *
 * Jobs are worked at without knowing any of them (part_kind.c).
 */
#include "sync.h"

static const PartKind *const kinds[] = {
	&part_object,	 &part_single,		&part_events,	&part_age,
	&part_list,		 &part_rest,		&part_children, &part_vanished,
	&part_endpoints, &part_new_endpoint};

void
kinds_init(void)
{
	part_kinds_register(kinds, lengthof(kinds));
}
