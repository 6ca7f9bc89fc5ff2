/*
 * finding.c
 *		What an item found: its status, its words and its figure.
 *
 * A second call replaces what the first one said.
 */
#include "postgres.h"

#include <math.h>

#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "base/visible.h"
#include "finding/finding.h"

static const char *const status_names[] = {[FINDING_OK] = "ok",
										   [FINDING_WARN] = "warn",
										   [FINDING_FAIL] = "fail",
										   [FINDING_UNKNOWN] = "unknown"};

const char *
finding_status_name(FindingStatus status)
{
	return status_names[status];
}

/* Any other name is unknown. */
FindingStatus
finding_status_of(const char *name)
{
	for (int i = 0; i < lengthof(status_names); i++)
		if (strcmp(name, status_names[i]) == 0)
			return i;
	return FINDING_UNKNOWN;
}

void
finding_figure(Finding *finding, double figure, const char *unit)
{
	finding->has_figure = isfinite(figure);
	finding->figure = figure;
	finding->unit = unit;
}

static char *print_words(const char *format, va_list args)
	pg_attribute_printf(1, 0);

static char *
print_words(const char *format, va_list args)
{
	StringInfoData text;
	int needed;

	initStringInfo(&text);
	for (;;)
	{
		va_list copy;

		va_copy(copy, args);
		needed = appendStringInfoVA(&text, format, copy);
		va_end(copy);
		if (needed == 0)
			return text.data;
		enlargeStringInfo(&text, needed);
	}
}

#define DEFINE_FINDING(name, value)                                            \
	void name(Finding *finding, const char *format, ...)                       \
	{                                                                          \
		va_list args;                                                          \
                                                                               \
		va_start(args, format);                                                \
		finding->status = (value);                                             \
		finding->detail = text_visible(print_words(format, args));             \
		va_end(args);                                                          \
	}

DEFINE_FINDING(finding_ok, FINDING_OK)
DEFINE_FINDING(finding_warn, FINDING_WARN)
DEFINE_FINDING(finding_fail, FINDING_FAIL)
DEFINE_FINDING(finding_unknown, FINDING_UNKNOWN)

void
finding_hint(Finding *finding, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	finding->hint = sql_visible(print_words(format, args));
	va_end(args);
}

/* ---- words ---- */

char *
words_count(int64 count, const char *one, const char *many)
{
	return psprintf(INT64_FORMAT " %s", count, count == 1 ? one : many);
}

char *
words_age(double seconds)
{
	double s = Max(seconds, 0);

	if (s < 2 * SECS_PER_MINUTE)
		return psprintf("%.0f s", s);
	if (s < 2 * SECS_PER_HOUR)
		return psprintf("%.0f min", floor(s / SECS_PER_MINUTE));
	if (s < 2 * SECS_PER_DAY)
		return psprintf("%.0f h", floor(s / SECS_PER_HOUR));
	return psprintf("%.0f days", floor(s / SECS_PER_DAY));
}

char *
words_bytes(double bytes)
{
	static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB"};
	int unit = 0;

	while (bytes >= 1024 && unit < lengthof(units) - 1)
	{
		bytes /= 1024;
		unit++;
	}
	return psprintf(bytes < 10 && unit > 0 ? "%.1f %s" : "%.0f %s", bytes,
					units[unit]);
}

char *
hint_literal(const char *text)
{
	return quote_literal_cstr(text);
}

/* Append a line's text, a comment up to its end as one that ends itself. */
static void
append_hint_line(StringInfo out, const char *line, int length)
{
	bool comment = length >= 3 && strncmp(line, "-- ", 3) == 0;

	if (out->len > 0)
		appendStringInfoChar(out, ' ');
	if (comment)
		appendStringInfo(out, "/* %.*s */", length - 3, line + 3);
	else
		appendBinaryStringInfo(out, line, length);
}

char *
hint_line(const char *hint, int bytes)
{
	StringInfoData out;

	/* a name in a comment must not end it */
	if (hint == NULL || strstr(hint, "*/") != NULL || strstr(hint, "/*") != NULL)
		return NULL;
	initStringInfo(&out);
	for (const char *line = hint; *line != '\0';)
	{
		int length = strcspn(line, "\n");
		int indent = strspn(line, " ");

		append_hint_line(&out, line + Min(indent, length),
						 length - Min(indent, length));
		line += length + (line[length] == '\n');
	}
	return out.len <= bytes ? out.data : NULL;
}
