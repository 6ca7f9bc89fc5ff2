/*
 * life_cycle.c
 *		How far an object has come in its life cycle: the convention that decides
 *		between snapshots of one second if nothing better does (newest.c, rule 3).
 *
 * The statuses are those of Stripe's API reference.  Where an object may go from
 * one to another and back, the one that it usually ends in is later.
 */
#include "postgres.h"

#include "base/base.h"
#include "types/types.h"
#include "mirror/internal.h"

#define MAX_STEPS 9

/* Statuses of a type in the order in which an object goes through them. */
static const struct
{
	const char *object;
	const char *statuses[MAX_STEPS];
} life_cycles[] = {
	{"charge", {"pending", "failed", "succeeded"}},
	{"checkout.session", {"open", "expired", "complete"}},
	{"credit_note", {"issued", "void"}},
	{"dispute",
	 {"warning_needs_response", "warning_under_review", "warning_closed",
	  "needs_response", "under_review", "prevented", "lost", "won"}},
	{"identity.verification_session",
	 {"requires_input", "processing", "canceled", "verified"}},
	{"invoice", {"draft", "open", "uncollectible", "void", "paid"}},
	{"issuing.authorization", {"pending", "expired", "reversed", "closed"}},
	{"mandate", {"pending", "active", "inactive"}},
	{"payment_intent",
	 {"requires_payment_method", "requires_confirmation", "requires_action",
	  "processing", "requires_capture", "canceled", "succeeded"}},
	{"payout", {"pending", "in_transit", "paid", "canceled", "failed"}},
	{"quote", {"draft", "open", "canceled", "accepted"}},
	{"refund", {"pending", "requires_action", "succeeded", "canceled", "failed"}},
	{"setup_intent",
	 {"requires_payment_method", "requires_confirmation", "requires_action",
	  "processing", "canceled", "succeeded"}},
	{"source", {"pending", "chargeable", "consumed", "failed", "canceled"}},
	{"subscription",
	 {"incomplete", "trialing", "active", "past_due", "unpaid", "paused",
	  "incomplete_expired", "canceled"}},
	{"subscription_schedule",
	 {"not_started", "active", "completed", "released", "canceled"}},
	{"topup", {"pending", "succeeded", "canceled", "failed", "reversed"}},
	{"treasury.inbound_transfer",
	 {"processing", "succeeded", "canceled", "failed"}},
	{"treasury.outbound_payment",
	 {"processing", "posted", "canceled", "failed", "returned"}},
	{"treasury.outbound_transfer",
	 {"processing", "posted", "canceled", "failed", "returned"}},
};

/* The step of a status, from 1; 0 if it is not known. */
static int
status_step(const char *object_type, const char *status)
{
	for (int i = 0; i < lengthof(life_cycles); i++)
	{
		if (strcmp(life_cycles[i].object, object_type) != 0)
			continue;
		for (int step = 0; step < MAX_STEPS && life_cycles[i].statuses[step];
			 step++)
			if (strcmp(life_cycles[i].statuses[step], status) == 0)
				return step + 1;
	}
	return 0;
}

/*
 * Flags and sums that never decrease distinguish snapshots with the same
 * status.
 */
static int
progress(JsonbContainer *object)
{
	static const char *const flags[] = {"captured", "paid", "refunded"};
	static const char *const sums[] = {"amount_captured", "amount_paid",
									   "amount_refunded"};
	JsonbValue value;
	int64 sum;
	int steps = 0;

	for (int i = 0; i < lengthof(flags); i++)
		if (json_get(object, flags[i], &value) && value.type == jbvBool)
			steps += value.val.boolean;
	for (int i = 0; i < lengthof(sums); i++)
		if (json_get(object, sums[i], &value) && json_to_int64(&value, &sum))
			steps += sum > 0;
	return steps;
}

/*
 * The rank of a snapshot, comparable only among snapshots of one object; 0 if
 * nothing is known.
 */
int
life_cycle_rank(const CatalogType *type, JsonbContainer *object)
{
	char *status = json_get_string(object, "status");

	return (status ? status_step(type->object, status) : 0) * 10 +
		   progress(object);
}
