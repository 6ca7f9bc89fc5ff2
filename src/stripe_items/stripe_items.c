/*
 * stripe_items.c
 *		The items of the area "stripe".
 *
 * Each looks at state that other parts of the extension have stored, and so
 * takes what they have judged: silence.c, refused_watch.c, endpoint_judge.c.
 * What is seen in the inbox is seen in its newest events (recent_events.c), so
 * that the cost doesn't depend on its size.
 */
#include "postgres.h"

#include "stripe_items/stripe_items.h"
#include "stripe_items/internal.h"

static const DoctorItem items[] = {
	{.key = "stripe.endpoint_secret",
	 .item = "signing secrets of endpoints",
	 .look = look_at_endpoint_secrets},
	{.key = "stripe.silence",
	 .item = "endpoints that are silent for longer than usual",
	 .look = look_at_silence,
	 .own_event = "system.silence"},
	{.key = "stripe.last_event",
	 .item = "age of the newest event",
	 .look = look_at_last_event},
	{.key = "stripe.delivery_delay",
	 .item = "time from an event to its delivery",
	 .look = look_at_delivery_delay},
	{.key = "stripe.failed_events",
	 .item = "events that failed",
	 .look = look_at_failed_events,
	 .own_event = "system.event_dead"},
	{.key = "stripe.refused_deliveries",
	 .item = "deliveries that were refused",
	 .look = look_at_refused_deliveries,
	 .own_event = "system.deliveries_refused"},
	{.key = "stripe.mode",
	 .item = "events of a mode that no endpoint takes",
	 .look = look_at_modes},
	{.key = "stripe.api_versions",
	 .item = "API versions",
	 .look = look_at_api_versions},
	{.key = "stripe.unmirrored_types",
	 .item = "types of objects without a table",
	 .look = look_at_unmirrored_types},
	{.key = "stripe.mirror_drift",
	 .item = "mirror compared with the stored events",
	 .slice = look_at_mirror_drift,
	 .flags = DOCTOR_PRIMARY},
	{.key = "stripe.api_key",
	 .item = "keys for Stripe's API",
	 .look = look_at_api_keys},
	{.key = "stripe.reconcile",
	 .item = "comparison with Stripe's list of events",
	 .look = look_at_reconcile},
	{.key = "stripe.reconcile_gap",
	 .item = "events that never arrived",
	 .look = look_at_reconcile_gap},
	{.key = "stripe.webhook_endpoint",
	 .item = "webhook endpoints at Stripe",
	 .look = look_at_webhook_endpoints,
	 .flags = DOCTOR_CRITICAL,
	 .own_event = "system.endpoint_changed"},
	{.key = "stripe.jobs",
	 .item = "jobs and objects that were given up",
	 .look = look_at_jobs},
};

const DoctorArea doctor_stripe = {"stripe", items, lengthof(items)};
