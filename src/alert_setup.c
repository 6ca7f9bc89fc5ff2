/*
 * alert_setup.c
 *		Rules are made, replaced and dropped; the rules that every paid product
 *		wants.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/tuplestore.h"

#include "alert.h"

#define NARGUMENTS 10
#define EXAMPLE                                                                 \
	"For example: SELECT stripe_sync.add_alert('refunded', 'charge.refunded', " \
	"'ops', '{{amount_refunded | money}} of {{id | link}} is refunded');"

/* ---- add_alert ---- */

static const char *
required(FunctionCallInfo fcinfo, int number, const char *name)
{
	char *value;

	if (PG_ARGISNULL(number))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("%s of an alert cannot be NULL", name),
						errhint("%s", EXAMPLE)));
	value = text_to_cstring(PG_GETARG_TEXT_PP(number));
	if (value[0] == '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s of an alert cannot be empty", name),
						errhint("%s", EXAMPLE)));
	return value;
}

static void
check_name(const char *name)
{
	if (strlen(name) > 63 || name[0] == '@')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an alert must have a name of 1 to 63 bytes that "
							   "does not begin with @"),
						errhint("%s", EXAMPLE)));
}

static void
check_severity(const char *severity)
{
	if (strcmp(severity, "info") != 0 && strcmp(severity, "warning") != 0 &&
		strcmp(severity, "critical") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("unknown severity \"%s\"", severity),
						errhint("It is one of info, warning, critical.")));
}

/* What closes doesn't open: such a rule would never say anything. */
static void
check_closing(const char *event_type, const char *closed_by)
{
	if (event_type_fits(event_type, closed_by))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an alert for \"%s\" cannot be closed by \"%s\"",
						event_type, closed_by),
				 errhint("An event that closes an incident doesn't open one: "
						 "name another, such as invoice.payment_failed and "
						 "invoice.paid.")));
}

static void
check_window(FunctionCallInfo fcinfo, int number)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("coalesce_for of an alert cannot be NULL"),
						errhint("'0' groups nothing.")));
	endpoint_check_interval(PG_GETARG_INTERVAL_P(number), "coalesce_for");
	if (endpoint_seconds(PG_GETARG_INTERVAL_P(number)) > 366 * SECS_PER_DAY)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("coalesce_for cannot be longer than a year")));
}

static void
check_destination(const char *name)
{
	Destination destination;

	if (strcmp(name, CUSTOMER_DESTINATION) != 0 &&
		!destination_find(name, &destination))
		destination_missing(name);
}

/* Does the rule group otherwise than the one of its name before? */
static void
end_other_groups(Datum *values, const char *nulls)
{
	static EngineStatement select = {
		"SELECT FROM stripe_sync.alert WHERE name = $1 AND (group_by::text"
		" IS DISTINCT FROM $2::text"
		" OR (destination = '@customer') <> ($3 = '@customer'))",
		3,
		{TEXTOID, JSONPATHOID, TEXTOID}};
	Datum those[] = {values[0], values[5], values[2]};
	char those_nulls[] = {' ', nulls[5], ' ', '\0'};

	SPI_connect();
	engine_run(&select, those, those_nulls, SPI_OK_SELECT);
	if (SPI_processed > 0)
		incident_end_group_changed(TextDatumGetCString(values[0]));
	SPI_finish();
}

/* The rows of stripe_sync.alert; arguments are in their order. */
static void
upsert_alert(Datum *values, const char *nulls)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.alert (name, event_type, destination, template,"
		" condition, group_by, coalesce_for, closed_by, severity, blocks)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
		" ON CONFLICT (name) DO UPDATE SET event_type = excluded.event_type,"
		" destination = excluded.destination, template = excluded.template,"
		" condition = excluded.condition, group_by = excluded.group_by,"
		" coalesce_for = excluded.coalesce_for, closed_by = excluded.closed_by,"
		" severity = excluded.severity, blocks = excluded.blocks",
		10,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONPATHOID, JSONPATHOID,
		 INTERVALOID, TEXTOID, TEXTOID, JSONBOID}};

	end_other_groups(values, nulls);
	SPI_connect();
	engine_run(&upsert, values, nulls, SPI_OK_INSERT);
	SPI_finish();
}

/* Types that nobody sends are remarked on where the rule is new or has others. */
static void
remark_types(Datum *values, const char *nulls)
{
	static EngineStatement select = {
		"SELECT FROM stripe_sync.alert WHERE name = $1 AND event_type = $2"
		" AND closed_by IS NOT DISTINCT FROM $3",
		3,
		{TEXTOID, TEXTOID, TEXTOID}};
	Datum those[] = {values[0], values[1], values[7]};
	char those_nulls[] = {' ', ' ', nulls[7], '\0'};
	bool same;

	SPI_connect();
	engine_run(&select, those, those_nulls, SPI_OK_SELECT);
	same = SPI_processed > 0;
	SPI_finish();
	if (same)
		return;
	event_type_remark(TextDatumGetCString(values[1]), true);
	if (nulls[7] == ' ')
		event_type_remark(TextDatumGetCString(values[7]), true);
}

/*
 * add_alert(name, event_type, destination, template, condition, group_by,
 * coalesce_for, closed_by, severity, blocks)
 */
ENGINE_FUNCTION(stripe_sync_add_alert)
{
	const char *name = required(fcinfo, 0, "name");
	const char *event_type;
	const char *destination;
	Datum values[NARGUMENTS];
	char nulls[NARGUMENTS + 1] = {0};
	RoleScope scope;

	check_name(name);
	event_type = required(fcinfo, 1, "event_type");
	destination = required(fcinfo, 2, "destination");
	template_check(required(fcinfo, 3, "template"));
	check_window(fcinfo, 6);
	if (!PG_ARGISNULL(7))
		check_closing(event_type, required(fcinfo, 7, "closed_by"));
	check_severity(required(fcinfo, 8, "severity"));
	if (!PG_ARGISNULL(9))
	{
		(void) blocks_fit(PG_GETARG_JSONB_P(9));
		template_check_blocks(PG_GETARG_JSONB_P(9));
	}
	for (int i = 0; i < NARGUMENTS; i++)
	{
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
		values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
	}
	scope = role_enter_engine();
	check_destination(destination);
	guard_note();
	remark_types(values, nulls);
	upsert_alert(values, nulls);
	role_leave(&scope);
	PG_RETURN_VOID();
}

/* drop_alert(name): its incidents stay */
ENGINE_FUNCTION(stripe_sync_drop_alert)
{
	static EngineStatement drop = {
		"DELETE FROM stripe_sync.alert WHERE name = $1", 1, {TEXTOID}};
	Datum value = CStringGetTextDatum(required(fcinfo, 0, "name"));
	RoleScope scope = role_enter_engine();

	SPI_connect();
	engine_run(&drop, &value, NULL, SPI_OK_DELETE);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NO_SUCH_NAME),
				 errmsg("there is no alert \"%s\"", TextDatumGetCString(value)),
				 errhint("SELECT name FROM stripe_sync.alert shows all.")));
	SPI_finish();
	guard_note();
	role_leave(&scope);
	PG_RETURN_VOID();
}

/* ---- add_default_alerts ---- */

#define WHO                                                                    \
	"{{customer.name or customer_name or customer.email or customer_email or customer}}"

/* Only what somebody should act on. */
static const struct DefaultAlert
{
	const char *name;
	const char *event_type;
	const char *template;
	const char *group_by; /* or NULL */
	const char *coalesce_for;
	const char *closed_by; /* or NULL */
	const char *severity;
} defaults[] = {
	{"payment_failed", "invoice.payment_failed",
	 "*Payment failed:* {{amount_due | money}} of " WHO
	 ", invoice {{id | link:number}}",
	 NULL, "5 minutes", "invoice.paid", "warning"},
	{"action_required", "invoice.payment_action_required",
	 "*A customer must act:* " WHO
	 " has to confirm {{amount_due | money}}, invoice {{id | link:number}}",
	 NULL, "5 minutes", "invoice.paid", "warning"},
	{"dispute_opened", "charge.dispute.created",
	 "*Dispute opened:* {{amount | money}}, {{reason}}, charge {{charge | link}};"
	 " evidence is due {{evidence_details.due_by | date}}, {{id | link}}",
	 NULL, "5 minutes", "charge.dispute.closed", "critical"},
	{"fraud_warning", "radar.early_fraud_warning.created",
	 "*Early fraud warning:* {{fraud_type}} on charge {{charge | link}}; a refund"
	 " now may avoid a dispute",
	 NULL, "5 minutes", NULL, "critical"},
	{"payout_failed", "payout.failed",
	 "*Payout failed:* {{amount | money}}, {{failure_message or failure_code}},"
	 " {{id | link}}",
	 NULL, "5 minutes", NULL, "critical"},
	{"subscription_cancelled", "customer.subscription.deleted",
	 "*Subscription cancelled:* " WHO
	 ", {{cancellation_details.feedback or cancellation_details.reason or "
	 "status}}, {{id | link}}",
	 NULL, "5 minutes", NULL, "warning"},
	{"events_failing", "system.event_failed",
	 "*Events are failing* in `{{step}}`, first {{event_type}} {{id | link}}"
	 " ({{object}}): {{error}}\n{{remedy}} Why: `{{look}}`",
	 "$.data.object.group", "1 hour", EVENT_RECOVERED, "warning"},
	{"events_dead", "system.event_dead",
	 "*Events are dead* in `{{step}}`, first {{event_type}} {{id | link}}"
	 " ({{object}}): {{error}}\n{{remedy}} Why: `{{look}}`. Mend it, then"
	 " `SELECT * FROM stripe_sync.replay(now() - interval '7 days')`.",
	 "$.data.object.group", "1 hour", EVENT_RECOVERED, "critical"},
	{"silence", "system.silence",
	 "*No events from Stripe* at endpoint `{{endpoint}}` since {{last_event_at | "
	 "date}}. Is the webhook endpoint still enabled at Stripe?",
	 NULL, "1 hour", "system.silence_over", "critical"},
	{"deliveries_refused", "system.deliveries_refused",
	 "*Stripe's deliveries are refused* at endpoint `{{endpoint}}`: {{reason}}"
	 " ({{code}}: {{detail}}). {{remedy}}",
	 NULL, "1 hour", "system.deliveries_accepted", "critical"},
	{"destination_disabled", "system.destination_disabled",
	 "*Slack destination `{{destination}}` is switched off:* {{reason}}\n"
	 "Messages that wait for `stripe_sync.enable_destination()`: {{waiting}}",
	 NULL, "1 hour", NULL, "critical"},
	{"events_missing", "system.reconcile_missing",
	 "*Events were missing:* {{missing}} never arrived by webhook and were"
	 " brought in from Stripe's list.",
	 NULL, "1 hour", NULL, "warning"},
	{"endpoint_changed", "system.endpoint_changed",
	 "*Webhook endpoint at Stripe:* {{reason}}. Mend it in Stripe's dashboard.",
	 NULL, "1 hour", "system.endpoint_well", "warning"},
};

static void
add_default(const struct DefaultAlert *alert, text *destination)
{
	Datum values[NARGUMENTS] = {
		CStringGetTextDatum(alert->name),
		CStringGetTextDatum(alert->event_type),
		PointerGetDatum(destination),
		CStringGetTextDatum(alert->template),
		(Datum) 0,
		alert->group_by
			? DirectFunctionCall1(jsonpath_in, CStringGetDatum(alert->group_by))
			: (Datum) 0,
		DirectFunctionCall3(interval_in, CStringGetDatum(alert->coalesce_for),
							ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)),
		alert->closed_by ? CStringGetTextDatum(alert->closed_by) : (Datum) 0,
		CStringGetTextDatum(alert->severity),
		(Datum) 0};
	char nulls[] = {' ', ' ',
					' ', ' ',
					'n', alert->group_by ? ' ' : 'n',
					' ', alert->closed_by ? ' ' : 'n',
					' ', 'n',
					'\0'};

	template_check(alert->template);
	upsert_alert(values, nulls);
}

/* Do the default alerts go there already? */
static bool
defaults_go_to(text *destination)
{
	static EngineStatement select = {
		"SELECT FROM stripe_sync.alert WHERE name = 'destination_disabled'"
		" AND destination = $1",
		1,
		{TEXTOID}};
	Datum value = PointerGetDatum(destination);
	bool found;

	SPI_connect();
	engine_run(&select, &value, NULL, SPI_OK_SELECT);
	found = SPI_processed > 0;
	SPI_finish();
	return found;
}

/* add_default_alerts(destination): the names of the rules */
ENGINE_FUNCTION(stripe_sync_add_default_alerts)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	text *destination;
	RoleScope scope;
	bool changed;

	(void) required(fcinfo, 0, "destination");
	destination = PG_GETARG_TEXT_PP(0);
	if (strcmp(text_to_cstring(destination), CUSTOMER_DESTINATION) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the default alerts cannot go to \"%s\"",
						CUSTOMER_DESTINATION),
				 errhint("They are for you, not for your customers: name one "
						 "of your own destinations.")));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	scope = role_enter_engine();
	check_destination(text_to_cstring(destination));
	guard_note();
	changed = !defaults_go_to(destination);
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
