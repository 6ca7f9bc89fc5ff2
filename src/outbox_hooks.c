/*
 * outbox_hooks.c
 *		What the outbox calls when something happens that alerts depend on.
 *
 * The outbox doesn't use the alerts, so that it works without them.  Alerts
 * register these functions when the library is loaded.
 */
#include "alert.h"

/* Disabled: an event that rules may match, with "object" as its object. */
static void
destination_disabled(Jsonb *object)
{
	alert_system("system.destination_disabled", object);
}

static const OutboxHooks hooks = {.render = incident_render,
								  .destination_disabled = destination_disabled,
								  .destination_enabled = incident_end_disabled,
								  .destination_dropped = incident_end_all};

void
alert_init(void)
{
	outbox_hooks = &hooks;
}
