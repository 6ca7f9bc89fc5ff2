/*
 * outbox_hooks.c
 *		What alerts do when the outbox renders a message, or when a destination
 *		is disabled, enabled or dropped.
 *
 * The outbox calls these functions through a table of hooks, because it comes
 * before the alerts in the order of folders and works without them.
 */
#include "postgres.h"

#include "alert/alert.h"
#include "outbox/outbox.h"
#include "quiet/quiet.h"
#include "alert/internal.h"

/* Report the event, with "object" as its object. */
static void
destination_disabled(Jsonb *object)
{
	alert_system("system.destination_disabled", object);
}

static void
destination_dropped(text *destination)
{
	incident_end_all(destination);
	(void) quiet_forget(destination);
}

static const OutboxHooks hooks = {.render = incident_render,
								  .destination_disabled = destination_disabled,
								  .destination_enabled = incident_end_disabled,
								  .destination_dropped = destination_dropped};

/* Called when the library is loaded. */
void
alert_init(void)
{
	outbox_hooks = &hooks;
}
