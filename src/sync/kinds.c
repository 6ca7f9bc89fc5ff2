/*
 * kinds.c
 *		The list of all kinds of parts.
 *
 * Jobs depend on none of the kinds (part_kind.c).  kinds_init() registers them
 * when the library is loaded.
 */
#include "postgres.h"

#include "endpoints/endpoints.h"
#include "jobs/jobs.h"
#include "jobs/part.h"
#include "sync/sync.h"
#include "sync/internal.h"

static const PartKind *const kinds[] = {
	&part_object,	 &part_single,		&part_events,	&part_age,
	&part_list,		 &part_rest,		&part_children, &part_vanished,
	&part_endpoints, &part_new_endpoint};

void
kinds_init(void)
{
	part_kinds_register(kinds, lengthof(kinds));
}
