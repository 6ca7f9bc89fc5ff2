/*
 * stripe_items.c
 *		The items of the area "stripe".
 */
#include "postgres.h"

#include "engine/statement.h"
#include "stripe_items/stripe_items.h"

/* Is there an endpoint at all? */
static void
look_at_endpoints(Finding *finding)
{
	static EngineStatement select = {
		"SELECT pg_catalog.count(*) FROM stripe_sync.endpoint"};
	int64 count = statement_int8(0, &select, NO_ARGS);

	finding_figure(finding, count, "endpoints");
	if (count > 0)
		finding_ok(finding, "%s", words_count(count, "endpoint", "endpoints"));
	else
		finding_fail(finding, "there is no endpoint: nothing is received");
}

static const DoctorItem items[] = {
	{.key = "stripe.endpoints", .item = "endpoints", .look = look_at_endpoints},
};

const DoctorArea doctor_stripe = {"stripe", items, lengthof(items)};
