/*
 * guc.c
 *		Settings.  All are PGC_SUSET, so that a role that may only call receive()
 *		cannot change how its events are processed.
 */
#include "stripe_sync.h"

#include "utils/guc.h"

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

/*
 * Stripe lists events for 30 days.  If an event were deleted earlier, reconcile
 * would take it for missing.
 */
static bool
check_retention(int *minutes, void **extra, GucSource source)
{
	if (*minutes == 0 || *minutes >= RETENTION_LEAST)
		return true;
	GUC_check_errdetail(
		"Valid values are 0, which keeps events forever, and 35 days or more.");
	return false;
}

/* The value is sent in an HTTP header. */
static bool
check_api_version(char **version, void **extra, GucSource source)
{
	if (strlen(*version) <= 64 &&
		strspn(*version, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
						 "0123456789.-_; =") == strlen(*version))
		return true;
	GUC_check_errdetail(
		"A valid version is, for example, \"2026-10-28.endive\".");
	return false;
}

static void
define_inbox(void)
{
	DefineCustomIntVariable(
		"stripe_sync.max_payload", "Sets the maximum size of a webhook payload.",
		"A larger payload raises SY004; webhook() returns 413.",
		&guc_max_payload, 1024 * 1024, 1024, 64 * 1024 * 1024, PGC_SUSET,
		GUC_UNIT_BYTE, NULL, NULL, NULL);

	DefineCustomIntVariable(
		"stripe_sync.max_attempts",
		"Sets the maximum number of attempts at a step of an event.",
		"After that the event is dead and is not retried until stripe_sync.replay() is called.",
		&guc_max_attempts, 12, 1, 1000, PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomIntVariable(
		"stripe_sync.handler_timeout",
		"Sets the maximum run time of a handler on an event.",
		"A handler that runs longer fails; the other steps of the event are not affected. 0 disables the timeout.",
		&guc_handler_timeout, 5000, 0, INT_MAX, PGC_SUSET, GUC_UNIT_MS, NULL,
		NULL, NULL);
}

static void
define_outbox(void)
{
	DefineCustomIntVariable(
		"stripe_sync.message_attempts",
		"Sets the maximum number of attempts to send a message to Slack.",
		"The first retry is after 1 s; the delay doubles up to 6 h. After the last attempt the message is dead and is not sent until stripe_sync.retry_message() is called.",
		&guc_message_attempts, 20, 1, 1000, PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomRealVariable(
		"stripe_sync.slack_rate",
		"Sets the maximum number of messages per second to a destination.",
		"Slack allows about one per second for each webhook and channel. 0 disables the limit.",
		&guc_slack_rate, 1.0, 0.0, 1000.0, PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomIntVariable(
		"stripe_sync.slack_burst",
		"Sets the number of messages that can be sent to a destination at once after a pause.",
		"After that, stripe_sync.slack_rate applies.", &guc_slack_burst, 3, 1,
		1000, PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomIntVariable(
		"stripe_sync.retention",
		"Sets how long finished events and messages are kept.",
		"The minimum is 35 days, because Stripe lists events for 30 days. 0 keeps them forever.",
		&guc_retention, RETENTION_DEFAULT, 0, INT_MAX, PGC_SUSET, GUC_UNIT_MIN,
		check_retention, NULL, NULL);
}

static void
define_alerts(void)
{
	DefineCustomIntVariable(
		"stripe_sync.max_alerts_per_hour",
		"Sets the maximum number of messages from alerts to a destination per hour.",
		"Further alerts are counted in one digest message. Messages queued with stripe_sync.notify() are not limited.",
		&guc_max_alerts_per_hour, 60, 1, 100000, PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomIntVariable(
		"stripe_sync.escalate_after",
		"Sets how long a critical incident can stay open before it is repeated.",
		"It is repeated once, to the destination set with stripe_sync.set_escalation(). 0 disables repeating.",
		&guc_escalate_after, 30 * 60, 0, INT_MAX, PGC_SUSET, GUC_UNIT_S, NULL,
		NULL, NULL);

	DefineCustomIntVariable(
		"stripe_sync.coalesce_burst",
		"Sets the maximum number of incidents that an alert can open within its coalescing interval.",
		"Further incidents are counted in one rollup incident.",
		&guc_coalesce_burst, 5, 1, 1000, PGC_SUSET, 0, NULL, NULL, NULL);
}

static void
define_http(void)
{
	DefineCustomIntVariable(
		"stripe_sync.max_connections",
		"Sets the maximum number of concurrent HTTP connections of a worker.",
		"Each connection uses a file descriptor.", &guc_max_connections, 32, 1,
		1000, PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("stripe_sync.http_timeout",
							"Sets the maximum duration of an HTTP request.",
							"A request that takes longer is retried.",
							&guc_http_timeout, 10000, 100, 10 * 60 * 1000,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);

	DefineCustomStringVariable(
		"stripe_sync.slack_api_base", "Sets the base URL of Slack's Web API.",
		"The value must be an https URL without a trailing slash.",
		&guc_slack_api_base, "https://slack.com/api", PGC_SUSET, 0, NULL, NULL,
		NULL);

	DefineCustomStringVariable(
		"stripe_sync.stripe_api_base", "Sets the base URL of Stripe's API.",
		"The value must be an https URL without a trailing slash.",
		&guc_stripe_api_base, "https://api.stripe.com", PGC_SUSET, 0, NULL,
		NULL, NULL);

	DefineCustomStringVariable(
		"stripe_sync.slack_hosts",
		"Sets the permitted hosts of incoming webhook URLs.",
		"A comma-separated list of host names, with the port if it is not 443.",
		&guc_slack_hosts, "hooks.slack.com,hooks.slack-gov.com", PGC_SUSET, 0,
		NULL, NULL, NULL);

	DefineCustomStringVariable(
		"stripe_sync.ca_file",
		"Sets the file of trusted certificate authorities.",
		"A PEM file that the server's operating system user can read. An empty value selects the system's certificates.",
		&guc_ca_file, "", PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomBoolVariable(
		"stripe_sync.outbound",
		"Permits this server to send messages to Slack and requests to Stripe.",
		"Turn it off in copies made from disk snapshots, which cannot be distinguished from the original.",
		&guc_outbound, true, PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomBoolVariable(
		"stripe_sync.allow_plain_http",
		"Permits http instead of https for loopback addresses.",
		"This is intended for tests: tokens and webhook URLs are sent unencrypted.",
		&guc_allow_plain_http, false, PGC_SUSET, 0, NULL, NULL, NULL);
}

static void
define_stripe(void)
{
	DefineCustomRealVariable(
		"stripe_sync.stripe_rate",
		"Sets the maximum number of requests per second to Stripe's API.",
		"Stripe allows 100 per second, 25 in a sandbox. The rate is halved whenever Stripe rejects a request because of the rate, and then rises again.",
		&guc_stripe_rate, 20.0, 0.1, 100.0, PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomIntVariable(
		"stripe_sync.stripe_timeout",
		"Sets the maximum duration of a request to Stripe's API.",
		"A list page that takes longer is requested again with fewer objects. Stripe's libraries use 80 s. 0 selects stripe_sync.http_timeout.",
		&guc_stripe_timeout, 0, 0, 10 * 60 * 1000, PGC_SUSET, GUC_UNIT_MS, NULL,
		NULL, NULL);

	DefineCustomIntVariable(
		"stripe_sync.reconcile_interval",
		"Sets the interval at which Stripe's list of events is compared with the inbox.",
		"This requires a key: see stripe_sync.set_api_key(). 0 disables it.",
		&guc_reconcile_interval, 15 * 60, 0, 7 * 24 * 3600, PGC_SUSET,
		GUC_UNIT_S, NULL, NULL, NULL);

	DefineCustomStringVariable(
		"stripe_sync.api_version",
		"Sets the Stripe-Version of the worker's requests.",
		"For example, 2026-10-28.endive. An empty value selects the version of the catalog of object types.",
		&guc_api_version, "", PGC_SUSET, 0, check_api_version, NULL, NULL);
}

void
guc_define(void)
{
	define_inbox();
	define_outbox();
	define_alerts();
	define_http();
	define_stripe();
	MarkGUCPrefixReserved("stripe_sync");
}
