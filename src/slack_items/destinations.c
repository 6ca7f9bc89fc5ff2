/*
 * destinations.c
 *		Items about destinations: switched off, rejected by Slack, without a
 *		fallback.
 *
 * Whether a token is good is known from deliveries alone: a backend calls nobody.
 * A destination whose token or URL was rejected belongs to slack.tokens, any other
 * that is disabled to slack.destinations.
 */
#include "postgres.h"

#include "engine/statement.h"
#include "slack_items/internal.h"

/* Waiting messages are counted to this number. */
#define MOST_COUNTED "1000"

/*
 * Disabled destinations, those rejected by Slack first.  $1: the token or URL was
 * rejected.
 */
#define DISABLED_DESTINATIONS                                                  \
	"SELECT d.name, d.refused, COALESCE(d.disabled_reason, 'no reason'),"      \
	" EXISTS (SELECT FROM stripe_sync.destination f"                           \
	"   WHERE f.name = d.fallback AND f.enabled),"                             \
	" (SELECT pg_catalog.count(*) FROM (SELECT FROM stripe_sync.message m"     \
	"   WHERE m.destination = d.name AND m.state = 'waiting'"                  \
	"   AND m.blocked_by IS NULL AND m.due_at < 'infinity'"                    \
	"   LIMIT " MOST_COUNTED ") w),"                                           \
	" pg_catalog.count(*) OVER ()"                                             \
	" FROM stripe_sync.destination d"                                          \
	" LEFT JOIN stripe_sync.destination_pace p ON p.destination = d.name"      \
	" WHERE NOT d.enabled AND (d.refused AND p.refused_at IS NOT NULL) = $1"   \
	" ORDER BY d.refused DESC, 4, 5 DESC, d.name LIMIT 1"

typedef struct DisabledDestination
{
	char *name;
	bool refused; /* disabled automatically */
	char *reason;
	bool has_fallback; /* that is enabled */
	int64 waiting;
	int64 count; /* of all such */
} DisabledDestination;

/* The worst one; false if there is none. */
static bool
find_disabled(bool by_token, DisabledDestination *worst)
{
	static EngineStatement select = {DISABLED_DESTINATIONS};
	bool found;
	Rows rows;

	memset(worst, 0, sizeof(*worst));
	rows_open(&rows, &select, ARGS(arg_bool(by_token)));
	found = rows_next(&rows);
	if (found)
	{
		worst->name = rows_text(&rows);
		worst->refused = rows_bool(&rows, false);
		worst->reason = rows_text(&rows);
		worst->has_fallback = rows_bool(&rows, false);
		worst->waiting = rows_int8(&rows, 0);
		worst->count = rows_int8(&rows, 0);
	}
	rows_close(&rows);
	return found;
}

static void
hint_enable(Finding *finding, const char *name)
{
	finding_hint(finding, "SELECT stripe_sync.enable_destination(%s);",
				 hint_literal(name));
}

void
look_at_destinations(Finding *finding)
{
	DisabledDestination worst;
	char *words;

	if (!find_disabled(false, &worst))
	{
		finding_figure(finding, 0, "destinations");
		finding_ok(finding, "no destination is switched off");
		return;
	}
	finding_figure(finding, worst.count, "destinations");
	words = psprintf(
		"%s switched off: %s (%s), for which %s",
		words_count(worst.count, "destination is", "destinations are"),
		worst.name, worst.reason,
		words_count(worst.waiting, "message waits", "messages wait"));
	/* by hand it is meant */
	if (worst.refused)
		finding_fail(finding, "%s", words);
	else
		finding_warn(finding, "%s", words);
	hint_enable(finding, worst.name);
}

void
look_at_tokens(Finding *finding)
{
	DisabledDestination worst;
	bool found = find_disabled(true, &worst);

	finding_figure(finding, worst.count, "destinations");
	if (!found)
	{
		finding_ok(finding, "Slack rejects no token and no webhook URL");
		return;
	}
	finding->critical = !worst.has_fallback;
	finding_fail(finding,
				 "the token or URL of %s was rejected: %s (%s), %s; %s, the "
				 "number of messages that wait is " INT64_FORMAT,
				 words_count(worst.count, "destination", "destinations"),
				 worst.name, worst.reason,
				 worst.has_fallback ? "which has a fallback"
									: "which has no fallback",
				 "give it a new one, or enable it when Slack accepts it again",
				 worst.waiting);
	hint_enable(finding, worst.name);
}

/*
 * Destinations of alerts without a fallback, and another one that could be it: one
 * with another secret is not known to be another place, so any other one will do.
 */
void
look_at_fallback(Finding *finding)
{
	static EngineStatement select = {
		"SELECT d.name, pg_catalog.count(*) OVER (),"
		" (SELECT pg_catalog.min(o.name) FROM stripe_sync.destination o"
		"   WHERE o.enabled AND o.name <> d.name)"
		" FROM stripe_sync.destination d WHERE d.fallback IS NULL AND EXISTS"
		"  (SELECT FROM stripe_sync.alert a WHERE a.destination = d.name)"
		" ORDER BY d.name LIMIT 1"};
	Rows rows;

	finding_figure(finding, 0, "destinations");
	finding_ok(finding, "each destination of alerts has a fallback");
	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		char *name = rows_text(&rows);
		int64 count = rows_int8(&rows, 0);
		char *other = rows_text(&rows);

		finding_figure(finding, count, "destinations");
		finding_warn(
			finding,
			"%s no fallback: when Slack rejects %s, nobody is told there",
			words_count(count, "destination has", "destinations have"), name);
		if (other != NULL)
			finding_hint(finding, "SELECT stripe_sync.set_fallback(%s, %s);",
						 hint_literal(name), hint_literal(other));
	}
	rows_close(&rows);
}
