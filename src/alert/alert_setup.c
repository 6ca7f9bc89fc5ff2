/*
 * alert_setup.c
 *		add_alert(), drop_alert(): rules are made, replaced and dropped, in the
 *		caller's transaction.
 *
 * A change reaches other sessions at its commit: the trigger config_changed on
 * stripe_sync.alert invalidates their copy of the rules (setup_cache.c).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/error_codes.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/inbox.h"
#include "message/message.h"
#include "outbox/outbox.h"
#include "server/server.h"
#include "types/object.h"
#include "alert/internal.h"

#define EXAMPLE                                                                 \
	"For example: SELECT stripe_sync.add_alert('refunded', 'charge.refunded', " \
	"'ops', '{{amount_refunded | money}} of {{id | link}} is refunded');"

/* ---- arguments ---- */

/*
 * Argument "number" as text.  Raises 22004 if it is NULL and 22023 if it is
 * empty, calling it "name".
 */
const char *
alert_required_text(FunctionCallInfo fcinfo, int number, const char *name)
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

/* Names that begin with @ are the extension's own: DIGEST_ALERT */
static void
check_alert_name(const char *name)
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

/* Types separated by commas: none of them is empty. */
static void
check_types(const char *types, const char *name)
{
	ListCell *cell;

	foreach(cell, event_types_split(types))
		if (((char *) lfirst(cell))[0] == '\0')
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("%s \"%s\" of an alert has an empty type",
								   name, types),
							errhint("Separate several types with one comma: "
									"'invoice.paid,invoice.voided'.")));
}

/*
 * An event whose type fits closed_by opens nothing, so a type that fits both is
 * a mistake, unless closing_condition distinguishes.
 */
static void
check_overlap(const char *event_types, const char *closed_by)
{
	ListCell *cell;

	foreach(cell, event_types_split(event_types))
		if (event_type_fits_any(lfirst(cell), closed_by))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("an alert for \"%s\" cannot be closed by \"%s\"",
							(char *) lfirst(cell), closed_by),
					 errhint("An event that closes an incident doesn't open one: "
							 "choose different types, such as "
							 "invoice.payment_failed and invoice.paid, or give "
							 "a closing_condition.")));
}

/* closed_by and what depends on it */
static void
check_closing(FunctionCallInfo fcinfo, const char *event_types)
{
	const char *closed_by;

	if (PG_ARGISNULL(ALERT_CLOSED_BY))
	{
		if (!PG_ARGISNULL(ALERT_CLOSING_CONDITION) ||
			!PG_ARGISNULL(ALERT_CLOSING_TEMPLATE))
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("%s of an alert needs closed_by",
								   PG_ARGISNULL(ALERT_CLOSING_CONDITION)
									   ? "closing_template"
									   : "closing_condition"),
							errhint("closed_by names the events that resolve an "
									"incident, such as 'invoice.paid'.")));
		return;
	}
	closed_by = alert_required_text(fcinfo, ALERT_CLOSED_BY, "closed_by");
	check_types(closed_by, "closed_by");
	if (PG_ARGISNULL(ALERT_CLOSING_CONDITION))
		check_overlap(event_types, closed_by);
	if (!PG_ARGISNULL(ALERT_CLOSING_TEMPLATE))
		template_check(alert_required_text(fcinfo, ALERT_CLOSING_TEMPLATE,
										   "closing_template"));
}

#define LONGEST_MENTION 64 /* bytes */

/* A user (U..., W...) or user group (S...), by its id */
static bool
is_mention(const char *id)
{
	size_t length = strlen(id);

	return length >= 3 && length <= LONGEST_MENTION &&
		   strchr("UWS", id[0]) != NULL &&
		   strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == length;
}

/* @channel, @here, @everyone, also as Slack writes them: <!channel> */
static bool
is_for_everybody(const char *text)
{
	static const char *const names[] = {"channel", "here", "everyone"};

	text += strspn(text, "<!@");
	for (int i = 0; i < lengthof(names); i++)
		if (pg_strncasecmp(text, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

static void
check_mention(const char *mention)
{
	if (!is_mention(mention))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("mention \"%s\" of an alert is no Slack user or user "
					"group",
					mention),
			 is_for_everybody(mention)
				 ? errhint("An alert does not mention a whole channel. Give "
						   "a user (U...) or a user group (S...).")
				 : errhint("Give the id of a user (U...), from Copy member "
						   "ID in the profile, or of a user group (S...).")));
}

/* coalesce_for: not negative, at most a year */
static void
check_window(FunctionCallInfo fcinfo, int number)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("coalesce_for of an alert cannot be NULL"),
						errhint("With '0' every event notifies people.")));
	endpoint_check_interval(PG_GETARG_INTERVAL_P(number), "coalesce_for");
	if (endpoint_seconds(PG_GETARG_INTERVAL_P(number)) > 366 * SECS_PER_DAY)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("coalesce_for cannot be longer than a year")));
}

/* Raises SY005 if there is no such destination. */
static void
check_alert_destination(const char *name)
{
	Destination destination;

	if (strcmp(name, CUSTOMER_DESTINATION) != 0 &&
		!destination_find(name, &destination))
		destination_missing(name);
}

/* ---- add_alert ---- */

/* Close open incidents if the rule replaces one with other groups. */
static void
end_other_groups(const StatementArg *rule)
{
	static EngineStatement select = {
		"SELECT FROM stripe_sync.alert WHERE name = $1 AND (group_by::text"
		" IS DISTINCT FROM $2::text"
		" OR (destination = '@customer') <> ($3 = '@customer'))"};

	if (statement_exec(&select, ARGS(rule[ALERT_NAME], rule[ALERT_GROUP_BY],
									 rule[ALERT_DESTINATION])) > 0)
		incident_end_group_changed(TextDatumGetCString(rule[ALERT_NAME].value));
}

/* Make the rule, or replace the one of its name, and its groups if they change. */
void
alert_upsert(const StatementArg *rule)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.alert (name, event_type, destination, template,"
		" condition, group_by, coalesce_for, closed_by, severity, blocks,"
		" closing_condition, closing_template, mention)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
		" ON CONFLICT (name) DO UPDATE SET event_type = excluded.event_type,"
		" destination = excluded.destination, template = excluded.template,"
		" condition = excluded.condition, group_by = excluded.group_by,"
		" coalesce_for = excluded.coalesce_for, closed_by = excluded.closed_by,"
		" severity = excluded.severity, blocks = excluded.blocks,"
		" closing_condition = excluded.closing_condition,"
		" closing_template = excluded.closing_template,"
		" mention = excluded.mention"};

	end_other_groups(rule);
	statement_exec(&upsert, rule, ALERT_NARGS);
}

static void
remark_each(const StatementArg *types)
{
	ListCell *cell;

	foreach(cell, event_types_split(TextDatumGetCString(types->value)))
		event_type_remark(lfirst(cell), true);
}

/*
 * NOTICEs for event types that Stripe doesn't send.  None if the rule has these
 * types already, so that a set-up script can run again without them.
 */
static void
remark_types(const StatementArg *rule)
{
	static EngineStatement select = {
		"SELECT FROM stripe_sync.alert WHERE name = $1 AND event_type = $2"
		" AND closed_by IS NOT DISTINCT FROM $3"};

	if (statement_exec(&select, ARGS(rule[ALERT_NAME], rule[ALERT_EVENT_TYPE],
									 rule[ALERT_CLOSED_BY])) > 0)
		return;
	remark_each(&rule[ALERT_EVENT_TYPE]);
	if (!rule[ALERT_CLOSED_BY].isnull)
		remark_each(&rule[ALERT_CLOSED_BY]);
}

static void
check_arguments(FunctionCallInfo fcinfo)
{
	const char *event_types;

	check_alert_name(alert_required_text(fcinfo, ALERT_NAME, "name"));
	event_types = alert_required_text(fcinfo, ALERT_EVENT_TYPE, "event_type");
	check_types(event_types, "event_type");
	(void) alert_required_text(fcinfo, ALERT_DESTINATION, "destination");
	template_check(alert_required_text(fcinfo, ALERT_TEMPLATE, "template"));
	check_window(fcinfo, ALERT_COALESCE_FOR);
	check_closing(fcinfo, event_types);
	if (!PG_ARGISNULL(ALERT_MENTION))
		check_mention(alert_required_text(fcinfo, ALERT_MENTION, "mention"));
	check_severity(alert_required_text(fcinfo, ALERT_SEVERITY, "severity"));
	if (PG_ARGISNULL(ALERT_BLOCKS))
		return;
	(void) blocks_fit(PG_GETARG_JSONB_P(ALERT_BLOCKS));
	template_check_blocks(PG_GETARG_JSONB_P(ALERT_BLOCKS));
}

/*
 * add_alert(name, event_type, destination, template, condition, group_by,
 * coalesce_for, closed_by, severity, blocks, closing_condition,
 * closing_template, mention)
 */
ENGINE_FUNCTION(stripe_sync_add_alert)
{
	static const Oid types[ALERT_NARGS] = {
		TEXTOID,	 TEXTOID,	  TEXTOID, TEXTOID, JSONPATHOID,
		JSONPATHOID, INTERVALOID, TEXTOID, TEXTOID, JSONBOID,
		JSONPATHOID, TEXTOID,	  TEXTOID};
	StatementArg rule[ALERT_NARGS];
	RoleScope scope;

	check_arguments(fcinfo);
	for (int i = 0; i < ALERT_NARGS; i++)
		rule[i] = arg_of_call(fcinfo, i, types[i]);
	scope = role_enter_engine();
	check_alert_destination(TextDatumGetCString(rule[ALERT_DESTINATION].value));
	outbound_note_identity();
	remark_types(rule);
	alert_upsert(rule);
	role_leave(&scope);
	PG_RETURN_VOID();
}

/* drop_alert(name): its incidents and messages stay.  Raises SY005. */
ENGINE_FUNCTION(stripe_sync_drop_alert)
{
	static EngineStatement delete = {
		"DELETE FROM stripe_sync.alert WHERE name = $1"};
	const char *name = alert_required_text(fcinfo, 0, "name");
	RoleScope scope = role_enter_engine();

	if (statement_exec(&delete, ARGS(arg_text(name))) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NO_SUCH_NAME),
				 errmsg("there is no alert \"%s\"", name),
				 errhint("SELECT name FROM stripe_sync.alert shows all.")));
	outbound_note_identity();
	role_leave(&scope);
	PG_RETURN_VOID();
}
