/*
 * words.c
 *		Times, ages and figures in words, and text without Slack's markup.
 */
#include "postgres.h"

#include <math.h>

#include "pgtime.h"

#include "dashboard/internal.h"

/* In the session's time zone */
static struct pg_tm
broken_down(TimestampTz at, const char **zone)
{
	struct pg_tm tm;
	fsec_t fraction;
	int offset;

	if (timestamp2tm(at, &offset, &tm, &fraction, zone, NULL) != 0)
		memset(&tm, 0, sizeof(tm));
	return tm;
}

/* 09:00:05 */
char *
clock_words(TimestampTz at)
{
	struct pg_tm tm = broken_down(at, NULL);

	return psprintf("%02d:%02d:%02d", tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* 09:00 */
char *
clock_minutes(TimestampTz at)
{
	struct pg_tm tm = broken_down(at, NULL);

	return psprintf("%02d:%02d", tm.tm_hour, tm.tm_min);
}

/* 2026-11-28 09:00:05 UTC */
char *
full_time_words(TimestampTz at)
{
	const char *zone = NULL;
	struct pg_tm tm = broken_down(at, &zone);

	return psprintf("%04d-%02d-%02d %02d:%02d:%02d%s%s", tm.tm_year, tm.tm_mon,
					tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
					zone != NULL ? " " : "", zone != NULL ? zone : "");
}

/* 2026-11-28T09:00:05Z */
char *
utc_time_words(TimestampTz at)
{
	struct pg_tm tm;
	fsec_t fraction;

	if (timestamp2tm(at, NULL, &tm, &fraction, NULL, NULL) != 0)
		memset(&tm, 0, sizeof(tm));
	return psprintf("%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year, tm.tm_mon,
					tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* 1.5 s, 3 min, 2 h, 5 d */
char *
seconds_words(double seconds)
{
	if (seconds < 0.9995)
		return psprintf("%.0f ms", seconds * 1000);
	if (seconds < 9.95)
		return psprintf("%.1f s", seconds);
	if (seconds < 90)
		return psprintf("%.0f s", seconds);
	if (seconds < 90 * 60)
		return psprintf("%.0f min", seconds / 60);
	if (seconds < 48 * 3600)
		return psprintf("%.0f h", seconds / 3600);
	return psprintf("%.0f d", seconds / 86400);
}

/* 5 min ago */
char *
age_words(TimestampTz at, TimestampTz now)
{
	double seconds = (now - at) / (double) USECS_PER_SEC;

	if (seconds < 1)
		return pstrdup("now");
	if (seconds < 90)
		return psprintf("%.0f s ago", floor(seconds));
	return psprintf("%s ago", seconds_words(floor(seconds)));
}

/* 1,234 */
char *
count_words(int64 count)
{
	char digits[32];
	StringInfoData out;
	int length = snprintf(digits, sizeof(digits), INT64_FORMAT, count);

	initStringInfo(&out);
	for (int i = 0; i < length; i++)
	{
		if (i > 0 && (length - i) % 3 == 0 && digits[i - 1] != '-')
			appendStringInfoChar(&out, ',');
		appendStringInfoChar(&out, digits[i]);
	}
	return out.data;
}

/* 0.2, 3.5, 12, 1,234 */
char *
number_words(double number)
{
	if (number < 9.95 && number != floor(number))
		return psprintf("%.1f", number);
	return count_words((int64) rint(number));
}

/* 512 bytes, 2.1 MB */
char *
bytes_words(double bytes)
{
	static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB"};
	int i = 0;

	for (; i < lengthof(units) - 1 && bytes >= 1024; i++)
		bytes /= 1024;
	return psprintf("%s %s", number_words(i == 0 ? rint(bytes) : bytes),
					units[i]);
}

/* 1 event, 2 events */
char *
plural_words(int64 count, const char *singular, const char *plural)
{
	return psprintf("%s %s", count_words(count), count == 1 ? singular : plural);
}

/* ---- text without Slack's markup ---- */

/* Of <url|label> the label, of <url> the URL.  Returns the end of the link. */
static const char *
append_link(StringInfo out, const char *open)
{
	const char *close = strchr(open, '>');
	const char *bar = close ? memchr(open, '|', close - open) : NULL;

	if (close == NULL)
	{
		appendStringInfoChar(out, '<');
		return open + 1;
	}
	open = bar != NULL ? bar + 1 : open + 1;
	appendBinaryStringInfo(out, open, close - open);
	return close + 1;
}

/* The text of a message as Slack shows it, without emphasis and links */
char *
slack_plain(const char *text)
{
	static const struct
	{
		const char *entity;
		char character;
	} entities[] = {{"&lt;", '<'}, {"&gt;", '>'}, {"&amp;", '&'}};
	StringInfoData marked;
	StringInfoData out;

	initStringInfo(&marked);
	initStringInfo(&out);
	while (*text != '\0')
		if (*text == '<')
			text = append_link(&marked, text);
		else if (*text == '*' || *text == '`')
			text++;
		else
			appendStringInfoChar(&marked, *text++);
	for (const char *p = marked.data; *p != '\0';)
	{
		int i = 0;

		while (i < lengthof(entities) &&
			   strncmp(p, entities[i].entity, strlen(entities[i].entity)) != 0)
			i++;
		if (i < lengthof(entities))
		{
			appendStringInfoChar(&out, entities[i].character);
			p += strlen(entities[i].entity);
		}
		else
			appendStringInfoChar(&out, *p++);
	}
	return out.data;
}

/* ---- incidents ---- */

static void
append_reason(StringInfo out, const char *what, const char *more)
{
	appendStringInfo(out, "%s%s%s", out->len > 0 ? ", " : "", what, more);
}

/* " until 2026-11-28 09:00:05 UTC" */
static char *
until_words(TimestampTz until, bool brief)
{
	if (brief || TIMESTAMP_NOT_FINITE(until))
		return "";
	return psprintf(" until %s", full_time_words(until));
}

char *
incident_quiet_words(const OpenIncident *incident, TimestampTz now, bool brief)
{
	const char *by = incident->acknowledged_by;
	StringInfoData out;

	initStringInfo(&out);
	if (by != NULL && strncmp(by, "slack:", 6) == 0)
		by += 6;
	if (by != NULL)
		append_reason(&out, "acknowledged", brief ? "" : psprintf(" by %s", by));
	if (incident->snoozed_until > now)
		append_reason(&out, "snoozed",
					  until_words(incident->snoozed_until, brief));
	if (incident->muted_until > now)
		append_reason(&out, brief ? "muted" : "alert muted",
					  until_words(incident->muted_until, brief));
	if (incident->held)
		append_reason(&out, brief ? "held" : "held by quiet hours", "");
	return out.data;
}
