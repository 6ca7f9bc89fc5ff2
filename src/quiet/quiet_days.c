/*
 * quiet_days.c
 *		Days of the week: "mon-fri", "sat,sun".
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "quiet/internal.h"

#define DAYS 7

static const char *const names[DAYS] = {"mon", "tue", "wed", "thu",
										"fri", "sat", "sun"};

static const char *
skip_spaces(const char *p)
{
	return p + strspn(p, " \t");
}

/* The day that *p begins with, which is skipped; -1 if there is none. */
static int
read_day(const char **p)
{
	*p = skip_spaces(*p);
	for (int day = 0; day < DAYS; day++)
		if (pg_strncasecmp(*p, names[day], 3) == 0)
		{
			*p = skip_spaces(*p + 3);
			return day;
		}
	return -1;
}

/*
 * Days and ranges of days, separated by commas, in upper or lower case.  A range
 * may run over the end of the week: fri-mon.
 */
int
quiet_days_parse(const char *text)
{
	int days = 0;

	for (;;)
	{
		int day = read_day(&text);
		int last = day;

		if (*text == '-' && day >= 0)
		{
			text++;
			last = read_day(&text);
		}
		if (day < 0 || last < 0)
			return 0;
		for (days |= 1 << day; day != last; days |= 1 << day)
			day = (day + 1) % DAYS;
		if (*text == '\0')
			return days;
		if (*text++ != ',')
			return 0;
	}
}

/*
 * The same days are always the same text: in the order of the week, three or more
 * in a row as a range.
 */
char *
quiet_days_text(int days)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int day = 0; day < DAYS; day++)
	{
		int last = day;

		if ((days & 1 << day) == 0)
			continue;
		while (last + 1 < DAYS && (days & 1 << (last + 1)) != 0)
			last++;
		appendStringInfo(&text, "%s%s", text.len > 0 ? "," : "", names[day]);
		if (last - day < 2)
			continue;
		appendStringInfo(&text, "-%s", names[last]);
		day = last;
	}
	return text.data;
}
