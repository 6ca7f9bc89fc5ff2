/*
 * default_alerts.c
 *		add_default_alerts(): the rules that every paid product wants.
 *
 * Only events that a person should act on are among them.  Their
 * names are part of the interface: users replace and drop rules by name.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/tuplestore.h"

#include "alert/alert.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "message/message.h"
#include "outbox/outbox.h"
#include "server/server.h"
#include "alert/internal.h"

/* The customer of an invoice or subscription; of a payment */
#define WHO "{{customer or customer_name | who | default:an unknown customer}}"
#define PAYER                                                                  \
	"{{charge.customer or payment_intent.customer | who | default:an unknown " \
	"customer}}"

/* Why an invoice was not paid, as far as the event or the mirror says it */
#define DECLINED                                                               \
	"{{charge.outcome.seller_message or charge.failure_message or "            \
	"payment_intent.last_payment_error.message or "                            \
	"last_finalization_error.message | default:see the invoice's page}}"

#define INVOICE_CLOSED                                                         \
	"invoice.paid,invoice.voided,invoice.marked_uncollectible"
#define INVOICE_ENDING                                                            \
	"{{event.type | map:invoice.paid=*Paid*;invoice.voided=*Voided:* it is not "  \
	"owed any more;invoice.marked_uncollectible=:x: *Uncollectible:* it was not " \
	"paid}}"

#define DISPUTE_ENDING                                                         \
	"{{status | map:won=*The dispute is won*;lost=:x: *The dispute is lost*;"  \
	"warning_closed=*The warning is closed:* it did not become a dispute;"     \
	"*=*The dispute is closed*}}"

#define PLAN                                                                   \
	"{{items.data.0.price.nickname or items.data.0.price.product.name or "     \
	"items.data.0.price.lookup_key or plan.nickname or plan.product.name or "  \
	"items.data.0.price.id or plan.id | default:no plan}}"

#define MORE(page) "\nMore: doc/runbook/" page ".md"

#define FAILING                                                                   \
	"in `{{step}}`, first {{event_type}} {{id | link}} ({{object}}): {{error}}\n" \
	"{{remedy}} Why: `{{look}}`. "

#define FINDING                                                                \
	"*{{item}}* ({{key}}): {{detail}}\nWhat to do: `{{hint or page}}`"         \
	" More: {{page}}"

static const struct DefaultAlert
{
	const char *name;
	const char *event_type;
	const char *template;
	const char *group_by; /* or NULL */
	const char *coalesce_for;
	const char *closed_by; /* or NULL */
	const char *severity;
	const char *condition; /* or NULL, like the next one */
	const char *closing_template;
} defaults[] = {
	{"payment_failed", "invoice.payment_failed",
	 "*Payment failed:* {{amount_due | money}} of " WHO
	 ", invoice {{id | link:number}}\nAttempt {{attempt_count}}, next attempt: "
	 "{{next_payment_attempt | date | default:none}}. Why: " DECLINED,
	 NULL, "5 minutes", INVOICE_CLOSED, "warning", NULL, INVOICE_ENDING},
	{"action_required", "invoice.payment_action_required",
	 "*A customer must act:* " WHO
	 " has to confirm {{amount_due | money}}, invoice {{id | link:number}}",
	 NULL, "5 minutes", INVOICE_CLOSED, "warning", NULL, INVOICE_ENDING},
	{"dispute_opened", "charge.dispute.created",
	 "*Dispute opened:* {{amount | money}} of " PAYER
	 ", {{reason | words}}, charge {{charge | link}};"
	 " evidence is due {{evidence_details.due_by | date | default:(no date)}},"
	 " {{id | link}}",
	 NULL, "5 minutes", "charge.dispute.closed", "critical", NULL,
	 DISPUTE_ENDING},
	{"fraud_warning", "radar.early_fraud_warning.created",
	 "*Early fraud warning:* {{charge.amount or payment_intent.amount | money |"
	 " default:a payment}} of " PAYER
	 ", {{fraud_type | words}}, charge {{charge | link}}; a refund"
	 " now may avoid a dispute",
	 NULL, "5 minutes", NULL, "critical"},
	{"payout_failed", "payout.failed",
	 "*Payout failed:* {{amount | money}}, arrival was expected"
	 " {{arrival_date | day}}, {{failure_message or failure_code |"
	 " default:no reason is given}}, {{id | link}}",
	 NULL, "5 minutes", NULL, "critical"},
	{"subscription_cancelled", "customer.subscription.deleted",
	 "*Subscription cancelled:* " WHO ", " PLAN
	 ", {{items | monthly | default:an unknown amount}} a month;"
	 " {{cancellation_details.feedback or cancellation_details.reason or "
	 "status | words}}, {{id | link}}",
	 NULL, "5 minutes", NULL, "warning"},
	{"events_failing", "system.event_failed",
	 "*Events are failing* " FAILING
	 "After fixing the cause: `{{run}}`" MORE("stripe-failed-events"),
	 "$.data.object.group", "1 hour", EVENT_RECOVERED, "warning"},
	{"events_dead", "system.event_dead",
	 "*Events are dead* " FAILING "Fix the cause, then `{{run}}`, and for all"
	 " of them `SELECT * FROM stripe_sync.replay(now() - interval '7"
	 " days')`." MORE("stripe-failed-events"),
	 "$.data.object.group", "1 hour", EVENT_RECOVERED, "critical"},
	{"silence", "system.silence",
	 "*No events from Stripe* at endpoint `{{endpoint}}` since {{last_event_at | "
	 "date}}.\nIs the webhook endpoint still enabled at Stripe? Then `SELECT"
	 " stripe_sync.reconcile()` fetches what was missed." MORE("stripe-silence"),
	 NULL, "1 hour", "system.silence_over", "critical"},
	{"deliveries_refused", "system.deliveries_refused",
	 "*Stripe's deliveries are refused* at endpoint `{{endpoint}}`: {{reason}}"
	 " ({{code}}: {{detail}}). {{remedy}}" MORE("stripe-refused-deliveries"),
	 NULL, "1 hour", "system.deliveries_accepted", "critical"},
	{"destination_disabled", "system.destination_disabled",
	 "*Slack destination `{{destination}}` is disabled:* {{reason}}\n"
	 "Messages that wait: {{waiting}}. After fixing the cause: `{{run}}`" MORE(
		 "slack-destinations"),
	 NULL, "1 hour", NULL, "critical"},
	{"events_missing", "system.reconcile_missing",
	 "*Events were missing:* {{missing}} never arrived by webhook and were"
	 " brought in from Stripe's list. See `SELECT * FROM"
	 " stripe_sync.job WHERE id = {{job}}`" MORE("stripe-reconcile-gap"),
	 NULL, "1 hour", NULL, "warning"},
	{"endpoint_changed", "system.endpoint_changed",
	 "*Webhook endpoint at Stripe:* {{reason}}. Fix it in Stripe's"
	 " dashboard." MORE("stripe-webhook-endpoint"),
	 NULL, "1 hour", "system.endpoint_well", "warning",
	 "$.data.object.trouble != \"disabled\" && $.data.object.trouble != \"gone\""},
	{"endpoint_disabled", "system.endpoint_changed",
	 "*Stripe sends no events:* {{reason}}. Enable it in Stripe's dashboard, then"
	 " `SELECT stripe_sync.reconcile()`." MORE("stripe-endpoint-disabled"),
	 NULL, "1 hour", "system.endpoint_well", "critical",
	 "$.data.object.trouble == \"disabled\" || $.data.object.trouble == \"gone\""},
	{"doctor", "system.doctor", FINDING, NULL, "1 hour", "system.doctor_well",
	 "warning", "$.data.object.critical == false"},
	{"doctor_critical", "system.doctor", FINDING, NULL, "1 hour",
	 "system.doctor_well", "critical", "$.data.object.critical == true"},
};

/* Is it the name of a default alert? */
bool
default_alert_is(const char *name)
{
	for (int i = 0; i < lengthof(defaults); i++)
		if (strcmp(defaults[i].name, name) == 0)
			return true;
	return false;
}

static StatementArg
jsonpath_argument(const char *path)
{
	if (path == NULL)
		return arg_null(JSONPATHOID);
	return arg_datum(JSONPATHOID,
					 DirectFunctionCall1(jsonpath_in, CStringGetDatum(path)));
}

static void
add_default(const struct DefaultAlert *alert, text *destination)
{
	Datum window = DirectFunctionCall3(
		interval_in, CStringGetDatum(alert->coalesce_for),
		ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));

	template_check(alert->template);
	if (alert->closing_template != NULL)
		template_check(alert->closing_template);
	alert_upsert((const StatementArg[ALERT_NARGS]){
		[ALERT_NAME] = arg_text(alert->name),
		[ALERT_EVENT_TYPE] = arg_text(alert->event_type),
		[ALERT_DESTINATION] = arg_varlena(TEXTOID, destination),
		[ALERT_TEMPLATE] = arg_text(alert->template),
		[ALERT_CONDITION] = jsonpath_argument(alert->condition),
		[ALERT_GROUP_BY] = jsonpath_argument(alert->group_by),
		[ALERT_COALESCE_FOR] = arg_datum(INTERVALOID, window),
		[ALERT_CLOSED_BY] = arg_text(alert->closed_by),
		[ALERT_SEVERITY] = arg_text(alert->severity),
		[ALERT_BLOCKS] = arg_null(JSONBOID),
		[ALERT_CLOSING_CONDITION] = arg_null(JSONPATHOID),
		[ALERT_CLOSING_TEMPLATE] = arg_text(alert->closing_template),
		[ALERT_MENTION] = arg_null(TEXTOID)});
}

/* Do the default alerts use this destination already? */
static bool
defaults_use(text *destination)
{
	static EngineStatement select = {
		"SELECT FROM stripe_sync.alert WHERE name = 'destination_disabled'"
		" AND destination = $1"};

	return statement_exec(&select, ARGS(arg_varlena(TEXTOID, destination))) > 0;
}

static void
check_default_destination(const char *name)
{
	Destination destination;

	if (!destination_find(name, &destination))
		destination_missing(name);
}

/*
 * add_default_alerts(destination): makes or replaces the rules and returns their
 * names.  If they are new to the destination, a NOTICE says when no other
 * destination would report that this one is disabled.
 */
ENGINE_FUNCTION(stripe_sync_add_default_alerts)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	text *destination;
	RoleScope scope;
	bool changed;

	(void) alert_required_text(fcinfo, 0, "destination");
	destination = PG_GETARG_TEXT_PP(0);
	if (strcmp(text_to_cstring(destination), CUSTOMER_DESTINATION) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the default alerts cannot go to \"%s\"",
							   CUSTOMER_DESTINATION),
						errhint("These messages are not for customers: choose a "
								"destination of your own.")));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	scope = role_enter_engine();
	check_default_destination(text_to_cstring(destination));
	outbound_note_identity();
	changed = !defaults_use(destination);
	for (int i = 0; i < lengthof(defaults); i++)
	{
		Datum value = CStringGetTextDatum(defaults[i].name);
		bool isnull = false;

		add_default(&defaults[i], destination);
		tuplestore_putvalues(result->setResult, result->setDesc, &value,
							 &isnull);
	}
	if (changed)
		destination_notice_unreported(text_to_cstring(destination));
	role_leave(&scope);
	return (Datum) 0;
}
