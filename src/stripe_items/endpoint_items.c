/*
 * endpoint_items.c
 *		Endpoints: their secrets, silence, what they refuse, modes, and the
 *		webhook endpoints at Stripe.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "base/text.h"
#include "inbox/secret.h"
#include "receive/receive.h"
#include "stripe_items/internal.h"

#define MOST_NAMED	3	/* in one sentence */
#define MOST_DETAIL 200 /* bytes of a text from outside */

/* ---- stripe.endpoint_secret ---- */

static bool
has_secret(const char *endpoint, Refusal *refusal)
{
	SecretSet set;
	bool usable = secrets_load(endpoint, &set, refusal);

	secrets_wipe(&set);
	return usable;
}

static List *
endpoint_names(void)
{
	static EngineStatement select = {
		"SELECT name FROM stripe_sync.endpoint ORDER BY name"};
	List *names = NIL;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	while (rows_next(&rows))
		names = lappend(names, rows_text(&rows));
	rows_close(&rows);
	return names;
}

static void
report_no_secret(Finding *finding, int count, const char *first,
				 const char *trouble)
{
	StringInfoData words;

	initStringInfo(&words);
	appendStringInfo(
		&words, "endpoint \"%s\" has no signing secret that can be used", first);
	if (trouble != NULL)
		appendStringInfo(&words, " (%s)", trouble);
	if (count > 1)
		appendStringInfo(&words, ", nor have %d more", count - 1);
	finding_fail(finding, "%s; deliveries are answered 500", words.data);
	finding_hint(finding,
				 "SELECT stripe_sync.rotate_endpoint_secret(%s, 'whsec_...')",
				 hint_literal(first));
}

void
look_at_endpoint_secrets(Finding *finding)
{
	List *names = endpoint_names();
	const char *first = NULL;
	const char *trouble = NULL;
	int count = 0;
	ListCell *cell;

	foreach(cell, names)
	{
		Refusal refusal;

		if (has_secret(lfirst(cell), &refusal))
			continue;
		if (count++ > 0)
			continue;
		first = lfirst(cell);
		trouble = refusal.detail;
	}
	finding_figure(finding, count, "endpoints");
	if (count > 0)
		report_no_secret(finding, count, first, trouble);
	else if (names != NIL)
		finding_ok(finding, "%s with a usable secret",
				   words_count(list_length(names), "endpoint", "endpoints"));
	else
	{
		finding_warn(finding, "there is no endpoint: no event can be received");
		finding_hint(finding,
					 "SELECT stripe_sync.add_endpoint('default', 'whsec_...')");
	}
}

/* ---- stripe.silence ---- */

void
look_at_silence(Finding *finding)
{
	static EngineStatement select = {
		"SELECT endpoint, EXTRACT(epoch FROM pg_catalog.clock_timestamp() - since)::float8,"
		" EXTRACT(epoch FROM usual)::float8 FROM stripe_sync.silence"
		" WHERE since IS NOT NULL ORDER BY since"};
	StringInfoData words;
	double longest = 0;
	int count = 0;
	Rows rows;

	initStringInfo(&words);
	rows_open(&rows, &select, NO_ARGS);
	while (rows_next(&rows))
	{
		char *endpoint = rows_text(&rows);
		double silent = rows_float8(&rows, 0);

		longest = Max(longest, silent);
		if (count++ < MOST_NAMED)
			appendStringInfo(
				&words,
				"%sendpoint \"%s\" has received no event for %s, usually at most %s",
				words.len > 0 ? "; " : "", endpoint, words_age(silent),
				words_age(rows_float8(&rows, 0)));
	}
	rows_close(&rows);
	finding_figure(finding, longest, "s");
	if (count > 0)
		finding_fail(finding, "%s", words.data);
	else
		finding_ok(finding, "no endpoint is silent for longer than usual");
}

/* ---- stripe.refused_deliveries ---- */

static const char *
endpoint_words(const char *endpoint)
{
	return endpoint[0] != '\0'
			   ? psprintf("endpoint \"%s\" refuses deliveries", endpoint)
			   : "deliveries come to a name that no endpoint has";
}

static void
report_refused(Finding *finding, List *refused)
{
	const RefusedDeliveries *first = linitial(refused);
	double age = (double) (GetCurrentTimestamp() - first->last_at) /
				 USECS_PER_SEC;
	char *others = list_length(refused) > 1
					   ? psprintf("; and %d more", list_length(refused) - 1)
					   : "";

	finding_fail(finding,
				 "%s that look like Stripe's, the last %s ago: %s: %s%s",
				 endpoint_words(first->endpoint), words_age(age), first->code,
				 text_clip(first->detail, MOST_DETAIL), others);
	if (strcmp(first->code, "SY002") == 0 && first->endpoint[0] != '\0')
		finding_hint(finding,
					 "SELECT stripe_sync.rotate_endpoint_secret(%s, 'whsec_...')",
					 hint_literal(first->endpoint));
}

/* Those of a day, of any kind: requests of scanners are refused every day. */
static int64
count_refused(void)
{
	static EngineStatement select = {
		"SELECT pg_catalog.count(*) FROM stripe_sync.refusal"
		" WHERE last_at > pg_catalog.clock_timestamp() - interval '1 day'"};

	return statement_int8(0, &select, NO_ARGS);
}

void
look_at_refused_deliveries(Finding *finding)
{
	List *refused = refusals_present();
	int64 kinds = count_refused();

	finding_figure(finding, list_length(refused), "endpoints");
	if (refused != NIL)
		report_refused(finding, refused);
	else if (kinds > 0)
		finding_ok(
			finding,
			"some requests were refused in the last day, and Stripe's are accepted");
	else
		finding_ok(finding, "no delivery was refused in the last day");
}

/* ---- stripe.mode ---- */

/*
 * Of the last day: events that were stored and held, and live events that were
 * refused.  Test events are refused without a report: live Connect endpoints get
 * them as well.
 */
static void
find_modes(bool live, int64 *held, char **refusing)
{
	static EngineStatement stored = {
		RECENT
		"SELECT pg_catalog.count(*) FROM day d"
		" JOIN stripe_sync.endpoint p ON p.name = d.endpoint"
		" WHERE d.status = 'ignored' AND d.livemode = $4 AND p.livemode <> $4"
		" AND NOT EXISTS (SELECT FROM stripe_sync.endpoint o"
		"  WHERE COALESCE(o.livemode, $4) = $4)"};
	static EngineStatement refused = {
		"SELECT w.endpoint FROM stripe_sync.refusal_watch w"
		" JOIN stripe_sync.endpoint p ON p.name = w.endpoint"
		" WHERE w.live_at > pg_catalog.clock_timestamp() - interval '1 day'"
		" AND NOT EXISTS (SELECT FROM stripe_sync.endpoint o"
		"  WHERE COALESCE(o.livemode, true)) ORDER BY w.live_at DESC LIMIT 1"};
	RecentEvents recent = recent_begin();

	*held = statement_int8(0, &stored,
						   ARGS(RECENT_ARGS(&recent), arg_bool(live)));
	recent_end(&recent);
	*refusing = live ? statement_text(&refused, NO_ARGS) : NULL;
}

static void
report_mode(Finding *finding, bool live, int64 held, const char *refusing)
{
	const char *mode = live ? "live" : "test";
	char *what = held == 0
					 ? psprintf("endpoint \"%s\" refuses live events", refusing)
					 : psprintf(
						   "%s of the last day %s stored and not applied",
						   words_count(held, live ? "live event" : "test event",
									   live ? "live events" : "test events"),
						   held == 1 ? "is" : "are");

	if (live)
		finding_fail(finding, "%s, and no endpoint takes live events", what);
	else
		finding_warn(finding, "%s, and no endpoint takes test events", what);
	finding_hint(
		finding,
		"SELECT stripe_sync.add_endpoint('%s', 'whsec_...', livemode => %s, account => '%s')",
		mode, live ? "true" : "false", mode);
}

void
look_at_modes(Finding *finding)
{
	for (int live = 1; live >= 0; live--)
	{
		int64 held;
		char *refusing;

		find_modes(live, &held, &refusing);
		finding_figure(finding, held, "events");
		if (held == 0 && refusing == NULL)
			continue;
		report_mode(finding, live, held, refusing);
		return;
	}
	finding_ok(finding, "an endpoint takes the mode of every event");
}

/* ---- stripe.webhook_endpoint ---- */

static bool
is_a_failure(const char *trouble)
{
	return strcmp(trouble, "disabled") == 0 || strcmp(trouble, "gone") == 0;
}

static char *
trouble_words(const char *trouble, const char *id, const char *url,
			  const char *types)
{
	if (strcmp(trouble, "disabled") == 0)
		return psprintf(
			"%s (%s) is disabled at Stripe, which sends no events to it", url,
			id);
	if (strcmp(trouble, "gone") == 0)
		return psprintf("%s (%s) was deleted at Stripe", url, id);
	if (strcmp(trouble, "types") == 0)
		return psprintf(
			"%s (%s) is not subscribed to %s, which the mirror, a handler or an alert needs",
			url, id, types);
	return pstrdup(
		"no webhook endpoint at Stripe is enabled, of the expected API version and subscribed to all that is needed");
}

/* The worst trouble first; "version" is stripe.api_versions'. */
static int
read_troubles(char **worst, char **words)
{
	static EngineStatement select = {
		"SELECT t.trouble, w.id, w.url, pg_catalog.array_to_string(w.missing_types[1:5], ', ')"
		"  || CASE WHEN pg_catalog.cardinality(w.missing_types) > 5 THEN ', ...' ELSE '' END"
		" FROM stripe_sync.watched_endpoint w, pg_catalog.unnest(w.trouble) t (trouble)"
		" WHERE t.trouble <> 'version' AND w.account IN"
		"  (SELECT k.account FROM stripe_sync.api_key k)"
		" ORDER BY t.trouble NOT IN ('disabled', 'gone'), t.trouble, w.id"};
	int count = 0;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	while (rows_next(&rows))
	{
		char *trouble = rows_text(&rows);
		char *id = rows_text(&rows);
		char *url = rows_text(&rows);

		if (count++ > 0)
			continue;
		*worst = trouble;
		*words = trouble_words(trouble, id, url, rows_text(&rows));
	}
	rows_close(&rows);
	return count;
}

/* Why they could not be read, or NULL */
static char *
reading_error(void)
{
	static EngineStatement select = {
		"SELECT error FROM stripe_sync.endpoint_watch WHERE error IS NOT NULL"
		" AND EXISTS (SELECT FROM stripe_sync.api_key)"};

	return statement_text(&select, NO_ARGS);
}

static TimestampTz
last_reading(void)
{
	static EngineStatement select = {
		"SELECT read_at FROM stripe_sync.endpoint_watch"
		" WHERE EXISTS (SELECT FROM stripe_sync.api_key)"};

	return statement_time(DT_NOBEGIN, &select, NO_ARGS);
}

void
look_at_webhook_endpoints(Finding *finding)
{
	char *worst = NULL;
	char *words = NULL;
	int count = read_troubles(&worst, &words);
	char *error = count == 0 ? reading_error() : NULL;
	TimestampTz read_at = last_reading();

	finding_figure(finding, count, "problems");
	if (count > 0 && is_a_failure(worst))
		finding_fail(finding, "%s", words);
	else if (count > 0)
		finding_warn(finding, "%s", words);
	else if (error != NULL)
		finding_warn(finding,
					 "the webhook endpoints at Stripe cannot be read: %s",
					 text_clip(error, MOST_DETAIL));
	else if (read_at == DT_NOBEGIN)
		finding_ok(finding, "they have not been read from Stripe yet");
	else
		finding_ok(finding, "read %s ago, and all is as it must be",
				   words_age((double) (GetCurrentTimestamp() - read_at) /
							 USECS_PER_SEC));
}
