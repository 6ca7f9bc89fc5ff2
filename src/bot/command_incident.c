/*
 * command_incident.c
 *		/stripe who and /stripe mute: what was done about an incident, and an alert
 *		of which nothing is sent for a time.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "alert/alert.h"
#include "engine/engine.h"
#include "engine/statement.h"
#include "message/message.h"
#include "server/server.h"
#include "bot/internal.h"

#define MOST_STEPS	20
#define MOST_ALERTS 20	/* named in an answer */
#define MOST_DAYS	366 /* of a mute */

/* ---- who ---- */

/* The alert's last incident; 0 if there is none */
static int64
last_incident(const char *alert)
{
	static EngineStatement select = {
		"SELECT id FROM stripe_sync.incident_record WHERE alert = $1"
		" ORDER BY opened_at DESC LIMIT 1"};

	return statement_int8(0, &select, ARGS(arg_text(alert)));
}

/* "12", "#12", "incident 12"; 0 if it is none */
static int64
incident_number(const char *text)
{
	size_t length;

	if (pg_strncasecmp(text, "incident", 8) == 0)
		text += 8;
	text += strspn(text, " #:");
	length = strspn(text, "0123456789");
	if (length == 0 || length > 18 || text[length] != '\0')
		return 0;
	return strtoll(text, NULL, 10);
}

/* "*payment_failed* in ops: open since ..."; NULL if there is no such incident */
static char *
incident_line(int64 id)
{
	static EngineStatement select = {
		"SELECT alert, destination, opened_at, closed_at, closed_by"
		" FROM stripe_sync.incident_record WHERE id = $1"};
	char *line = NULL;
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_int8(id)));
	if (rows_next(&rows))
	{
		char *alert = mrkdwn_escape(rows_text(&rows));
		char *destination = mrkdwn_escape(rows_text(&rows));
		TimestampTz opened = rows_time(&rows, 0);
		TimestampTz closed = rows_time(&rows, 0);
		char *by = bot_who(rows_text(&rows));

		line = psprintf("*Incident " INT64_FORMAT
						"*: %s in %s, opened %s, %s%s%s%s",
						id, alert, destination, mrkdwn_date(opened),
						closed != 0 ? "closed " : "open",
						closed != 0 ? mrkdwn_date(closed) : "",
						by != NULL ? " by " : "", by != NULL ? by : "");
	}
	rows_close(&rows);
	return line;
}

/*
 * The last steps, oldest first, and what people tried and was refused or failed,
 * in mrkdwn; "" if there are none
 */
static char *
step_lines(int64 id)
{
	static EngineStatement select = {
		"SELECT at, by, what, until FROM ("
		"  SELECT at, by, step AS what, until FROM stripe_sync.incident_step"
		"   WHERE incident = $1"
		"  UNION ALL SELECT received_at, 'slack:' || slack_user,"
		"   status || ': ' || COALESCE(name, kind), NULL"
		"   FROM stripe_sync.interaction"
		"   WHERE incident = $1 AND status IN ('refused', 'failed')"
		"  ORDER BY at DESC LIMIT $2) AS s ORDER BY at"};
	StringInfoData out;
	Rows rows;

	initStringInfo(&out);
	rows_open(&rows, &select, ARGS(arg_int8(id), arg_int8(MOST_STEPS)));
	while (rows_next(&rows))
	{
		TimestampTz at = rows_time(&rows, 0);
		char *by = bot_who(rows_text(&rows));
		char *what = mrkdwn_escape(rows_text(&rows));
		TimestampTz until = rows_time(&rows, 0);

		appendStringInfo(&out, "%s%s  %s%s%s", out.len > 0 ? "\n" : "",
						 mrkdwn_date(at), what, by != NULL ? " by " : "",
						 by != NULL ? by : "");
		if (until != 0 && !TIMESTAMP_NOT_FINITE(until))
			appendStringInfo(&out, " until %s", mrkdwn_date(until));
	}
	rows_close(&rows);
	return out.data;
}

void
command_who(BotCall *call, const char *argument)
{
	int64 id = incident_number(argument);
	char *line;
	char *steps;

	if (id == 0)
		id = last_incident(argument);
	line = id != 0 ? incident_line(id) : NULL;
	if (line == NULL)
	{
		command_cannot(
			call, "there is no such incident",
			psprintf(
				"There is no incident %s, and no alert of that name has had one.",
				command_code(argument)));
		return;
	}
	call->incident = id;
	steps = step_lines(id);
	command_tell(
		call,
		list_make2(line, steps[0] != '\0'
							 ? steps
							 : pstrdup("Nobody has done anything about it.")));
}

/* ---- mute ---- */

/* "30m", "2h", "1d" as microseconds; 0 if it is none of these, or too long */
static int64
duration(const char *text)
{
	size_t length = strspn(text, "0123456789");
	int64 number = length > 0 && length < 8 ? strtoll(text, NULL, 10) : 0;
	int64 unit;

	if (strcmp(text + length, "m") == 0)
		unit = USECS_PER_MINUTE;
	else if (strcmp(text + length, "h") == 0)
		unit = USECS_PER_HOUR;
	else if (strcmp(text + length, "d") == 0)
		unit = USECS_PER_DAY;
	else
		return 0;
	return number * unit <= MOST_DAYS * USECS_PER_DAY ? number * unit : 0;
}

/* "`a`, `b`", the first ones, in mrkdwn */
static char *
alert_names(void)
{
	static EngineStatement select = {
		"SELECT pg_catalog.string_agg('`' || name || '`', ', ' ORDER BY name)"
		" FROM (SELECT name FROM stripe_sync.alert ORDER BY name LIMIT $1) AS a"};
	char *names = statement_text(&select, ARGS(arg_int8(MOST_ALERTS)));

	return names != NULL ? mrkdwn_escape(names) : pstrdup("none");
}

/* A mute on its way through journal_run_as() */
typedef struct Mute
{
	const char *alert;
	TimestampTz until;
	bool found;
} Mute;

static void
mute_body(void *arg)
{
	Mute *mute = arg;

	mute->found = alert_mute(mute->alert, mute->until);
}

static void
mute(BotCall *call, const char *alert, TimestampTz until)
{
	char *name = command_code(alert);
	Mute asked = {alert, until, false};

	journal_run_as(bot_person(call), mute_body, &asked);
	if (!asked.found)
		command_cannot(call, "there is no such alert",
					   psprintf("There is no alert %s. The alerts are: %s.",
								name, alert_names()));
	else if (TIMESTAMP_NOT_FINITE(until))
		bot_tell(call, psprintf("Alert %s is no longer muted.", name), NULL);
	else
		bot_tell(
			call,
			psprintf(
				"Alert %s is muted until %s. Its incidents are recorded all the same. `" OWN_COMMAND
				" mute %s off` ends it.",
				name, mrkdwn_date(until), mrkdwn_escape(alert)),
			NULL);
}

/* The last word is the time, what stands before it the alert's name. */
void
command_mute(BotCall *call, const char *argument)
{
	const char *last = strrchr(argument, ' ');
	int64 length = last != NULL ? duration(last + 1) : 0;
	char *alert;

	if (last == NULL || (length == 0 && strcmp(last + 1, "off") != 0))
	{
		command_cannot(
			call, "the time cannot be read",
			"`" OWN_COMMAND
			" mute &lt;alert&gt; &lt;time&gt;`: the time is a number with m, h or d, such as `30m`, `2h` or `1d`, or `off`.");
		return;
	}
	alert = command_plain(pnstrdup(argument, last - argument));
	mute(call, alert, length != 0 ? GetCurrentTimestamp() + length : DT_NOBEGIN);
}
