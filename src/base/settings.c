/*
 * settings.c
 *		Settings.  All are superuser-only, so that a role that may only receive
 *		events can't change how they are processed.
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"

#include "base/base.h"

#define RETENTION_DEFAULT (90 * 24 * 60) /* minutes */
#define RETENTION_LEAST	  (35 * 24 * 60)

int guc_max_payload = 1024 * 1024;
int guc_max_attempts = 12;
int guc_handler_timeout = 5000;
int guc_message_attempts = 20;
int guc_max_connections = 32;
int guc_http_timeout = 10000;
double guc_slack_rate = 1.0;
int guc_slack_burst = 3;
int guc_max_alerts_per_hour = 60;
int guc_escalate_after = 30 * 60;
int guc_doctor_interval = 5 * 60;
int guc_doctor_transaction_age = 5 * 60 * 1000;
int guc_retention = RETENTION_DEFAULT;
int guc_coalesce_burst = 5;
double guc_stripe_rate = 20.0;
int guc_stripe_timeout = 0;
int guc_reconcile_interval = 15 * 60;
char *guc_api_version;
char *guc_stripe_api_base;
char *guc_slack_api_base;
char *guc_slack_hosts;
char *guc_ca_file;
bool guc_outbound = true;
bool guc_allow_plain_http = false;
char *guc_history_types;
char *guc_instance_name;
bool guc_slack_personal = false;
bool (*guc_history_types_fit)(const char *types);

/*
 * Stripe lists events for 30 days.  If one were deleted earlier, reconcile would
 * store it again as missing.
 */
static bool
check_retention(int *minutes, void **extra, GucSource source)
{
	if (*minutes == 0 || *minutes >= RETENTION_LEAST)
		return true;
	GUC_check_errdetail(
		"Events are kept for 35 days at least; 0 keeps them for ever.");
	return false;
}

/* Only the catalog knows the types: it stands above this folder. */
static bool
check_history_types(char **types, void **extra, GucSource source)
{
	return guc_history_types_fit == NULL || guc_history_types_fit(*types);
}

/* A short line: it is shown in every message. */
static bool
check_instance_name(char **name, void **extra, GucSource source)
{
	for (const char *c = *name; *c != '\0'; c++)
		if ((unsigned char) *c < ' ' || *c == 0x7f)
		{
			GUC_check_errdetail("It cannot contain control characters.");
			return false;
		}
	if (strlen(*name) <= 64)
		return true;
	GUC_check_errdetail("It cannot be longer than 64 bytes.");
	return false;
}

/* The value of a request header, so it must not contain a line break. */
static bool
check_api_version(char **version, void **extra, GucSource source)
{
	if (strlen(*version) <= 64 &&
		strspn(*version, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
						 "0123456789.-_; =") == strlen(*version))
		return true;
	GUC_check_errdetail("A version is like 2026-10-28.endive.");
	return false;
}

static void
define_inbox(void)
{
	DefineCustomIntVariable(
		"stripe_sync.max_payload", "Largest webhook payload that is accepted.",
		"A larger one raises SY004; webhook() answers 413.", &guc_max_payload,
		1024 * 1024, 1024, 64 * 1024 * 1024, PGC_SUSET, GUC_UNIT_BYTE, NULL,
		NULL, NULL);

	DefineCustomIntVariable(
		"stripe_sync.max_attempts",
		"Tries of a step of an event, then the step is dead and so is the event.",
		"A dead event is run again by stripe_sync.replay() alone.",
		&guc_max_attempts, 12, 1, 1000, PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomIntVariable(
		"stripe_sync.handler_timeout",
		"Longest time that one handler may take on one event; 0 is off.",
		"A handler that runs longer has failed; the rest of the event stands.",
		&guc_handler_timeout, 5000, 0, INT_MAX, PGC_SUSET, GUC_UNIT_MS, NULL,
		NULL, NULL);
}

static void
define_outbox(void)
{
	DefineCustomIntVariable(
		"stripe_sync.message_attempts",
		"Tries of a message to Slack, then it is dead.",
		"The first again after 1 s, doubling to 6 h at most. A dead message is sent again by stripe_sync.retry_message() alone.",
		&guc_message_attempts, 20, 1, 1000, PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomRealVariable(
		"stripe_sync.slack_rate",
		"Messages a second and destination; 0 switches pacing off.",
		"Slack allows about one a second for each webhook and channel.",
		&guc_slack_rate, 1.0, 0.0, 1000.0, PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomIntVariable(
		"stripe_sync.slack_burst",
		"Messages that a destination may have at once after a pause.",
		"After that stripe_sync.slack_rate holds.", &guc_slack_burst, 3, 1,
		1000, PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomIntVariable(
		"stripe_sync.retention",
		"How long settled events and messages are kept; 0 is for ever.",
		"35 days at least: Stripe lists events for 30.", &guc_retention,
		RETENTION_DEFAULT, 0, INT_MAX, PGC_SUSET, GUC_UNIT_MIN, check_retention,
		NULL, NULL);

	DefineCustomStringVariable(
		"stripe_sync.history_types",
		"Object types whose changes are kept when their events are pruned.",
		"Names as in stripe_sync.object_type, separated by commas; empty keeps none.",
		&guc_history_types, "subscription,subscription_item", PGC_SUSET, 0,
		check_history_types, NULL, NULL);
}

static void
define_alerts(void)
{
	DefineCustomIntVariable(
		"stripe_sync.max_alerts_per_hour",
		"Messages of alerts for a destination within an hour, then one digest.",
		"The digest counts on; what the application itself sends is not counted.",
		&guc_max_alerts_per_hour, 60, 1, 100000, PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomIntVariable(
		"stripe_sync.escalate_after",
		"How long a critical incident may stay open before it is repeated; 0 is off.",
		"It is repeated to the destination that set_escalation() named: up to three times where people have pressed buttons, else once.",
		&guc_escalate_after, 30 * 60, 0, INT_MAX, PGC_SUSET, GUC_UNIT_S, NULL,
		NULL, NULL);

	DefineCustomIntVariable(
		"stripe_sync.coalesce_burst",
		"Incidents that one alert may open within its window.",
		"Past that they are one roll-up that counts on.", &guc_coalesce_burst,
		5, 1, 1000, PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomStringVariable(
		"stripe_sync.instance_name",
		"Name of this database in messages to Slack; empty shows none.",
		"It tells apart the messages of several databases in one channel.",
		&guc_instance_name, "", PGC_SUSET, 0, check_instance_name, NULL, NULL);

	DefineCustomBoolVariable(
		"stripe_sync.slack_personal",
		"Whether default alerts show e-mail addresses of customers in Slack.",
		"They are never shown in messages to customers' own channels.",
		&guc_slack_personal, false, PGC_SUSET, 0, NULL, NULL, NULL);
}

static void
define_http(void)
{
	DefineCustomIntVariable("stripe_sync.max_connections",
							"HTTP connections of a worker at once.",
							"Each is a file descriptor.", &guc_max_connections,
							32, 1, 1000, PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomIntVariable(
		"stripe_sync.http_timeout",
		"How long a whole HTTP request may take, from its dispatch.",
		"A request that takes longer is tried again.", &guc_http_timeout, 10000,
		100, 10 * 60 * 1000, PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);

	DefineCustomStringVariable(
		"stripe_sync.slack_api_base", "Where Slack's Web API is.",
		"An https URL without a trailing slash.", &guc_slack_api_base,
		"https://slack.com/api", PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomStringVariable(
		"stripe_sync.stripe_api_base", "Where the Stripe API is.",
		"An https URL without a trailing slash.", &guc_stripe_api_base,
		"https://api.stripe.com", PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomStringVariable(
		"stripe_sync.slack_hosts",
		"Hosts that the URL of an incoming webhook may name.",
		"Separated by commas; with a port when it is not 443.", &guc_slack_hosts,
		"hooks.slack.com,hooks.slack-gov.com", PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomStringVariable(
		"stripe_sync.ca_file",
		"File of the certificates to trust; empty is the system's.",
		"PEM, readable by the server's user.", &guc_ca_file, "", PGC_SUSET, 0,
		NULL, NULL, NULL);

	DefineCustomBoolVariable(
		"stripe_sync.outbound", "Lets this server send messages and call out.",
		"Switch it off in copies made of disk snapshots, which cannot be told from the original.",
		&guc_outbound, true, PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomBoolVariable(
		"stripe_sync.allow_plain_http",
		"Allow http instead of https, to loopback addresses alone; for tests.",
		"Tokens and webhook URLs then cross the loopback in the clear.",
		&guc_allow_plain_http, false, PGC_SUSET, 0, NULL, NULL, NULL);
}

static void
define_stripe(void)
{
	DefineCustomRealVariable(
		"stripe_sync.stripe_rate", "Requests a second to Stripe's API.",
		"Stripe allows 100 a second, 25 in a sandbox. It is halved whenever Stripe refuses, and grows back.",
		&guc_stripe_rate, 20.0, 0.1, 100.0, PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomIntVariable(
		"stripe_sync.stripe_timeout",
		"How long a request to Stripe's API may take; 0 is stripe_sync.http_timeout.",
		"A page of a list that takes longer is asked for again, smaller. Stripe's own libraries wait 80 s.",
		&guc_stripe_timeout, 0, 0, 10 * 60 * 1000, PGC_SUSET, GUC_UNIT_MS, NULL,
		NULL, NULL);

	DefineCustomIntVariable(
		"stripe_sync.reconcile_interval",
		"How often Stripe's list of events is compared with the inbox; 0 is off.",
		"It needs a key: see stripe_sync.set_api_key().",
		&guc_reconcile_interval, 15 * 60, 0, 7 * 24 * 3600, PGC_SUSET,
		GUC_UNIT_S, NULL, NULL, NULL);

	DefineCustomStringVariable(
		"stripe_sync.api_version",
		"Stripe-Version of the worker's requests; empty is the catalog's.",
		"For example 2026-10-28.endive.", &guc_api_version, "", PGC_SUSET, 0,
		check_api_version, NULL, NULL);
}

static void
define_doctor(void)
{
	DefineCustomIntVariable(
		"stripe_sync.doctor_interval",
		"How often the worker looks at the items of doctor(); 0 is off.",
		"What fails in two runs in a row is reported as system.doctor.",
		&guc_doctor_interval, 5 * 60, 0, 24 * 3600, PGC_SUSET, GUC_UNIT_S, NULL,
		NULL, NULL);

	DefineCustomIntVariable(
		"stripe_sync.doctor_transaction_age",
		"How long a session may be idle in a transaction before doctor() warns.",
		"A transaction that is active may be twelve times that old; a session may wait for a lock for a thirtieth of it.",
		&guc_doctor_transaction_age, 5 * 60 * 1000, 100, INT_MAX, PGC_SUSET,
		GUC_UNIT_MS, NULL, NULL, NULL);
}

void
guc_define(void)
{
	define_inbox();
	define_outbox();
	define_alerts();
	define_http();
	define_stripe();
	define_doctor();
	MarkGUCPrefixReserved("stripe_sync");
}
