/*
 * words.c
 *		Plain text for lines: one line, visible characters, times and durations.
 *
 * Names, error messages and Slack's answers come from outside.  A line break, an
 * escape sequence or a change of direction in them must not change how the rest
 * of a story is read.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/datetime.h"

#include "base/base.h"
#include "base/visible.h"
#include "wording/wording.h"

#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

/* Combining characters have no width: this bounds them, too. */
#define BYTES_PER_COLUMN 8

/* Ends a line, or looks like a space */
static bool
is_space(pg_wchar c)
{
	return c == '\t' || c == '\n' || c == '\v' || c == '\f' || c == '\r' ||
		   c == ' ' || c == 0x85 || c == 0xa0 || c == 0x2028 || c == 0x2029;
}

/* The width of a character in a terminal; 0 for a combining one */
static int
character_width(const char *p)
{
	return Max(pg_dsplen(p), 0);
}

/* The width of a text in a terminal */
int
words_width(const char *text)
{
	int width = 0;

	for (; *text != '\0'; text += pg_mblen(text))
		width += character_width(text);
	return width;
}

/*
 * Append one character, as it may be shown.  Spaces are collapsed, and left out
 * at the beginning.
 */
static void
append_character(StringInfo out, const char *p, int start)
{
	pg_wchar c = utf8_to_unicode((const unsigned char *) p);

	if (is_space(c))
	{
		if (out->len > start && out->data[out->len - 1] != ' ')
			appendStringInfoChar(out, ' ');
	}
	else if (text_hides(c))
		appendStringInfoString(out, REPLACEMENT);
	else
		appendBinaryStringInfo(out, p, pg_mblen(p));
}

static void
trim_end(StringInfo out, int start)
{
	while (out->len > start && out->data[out->len - 1] == ' ')
		out->data[--out->len] = '\0';
}

/*
 * Append a text as part of one line, at most so many columns, with an ellipsis
 * where it is cut off.
 */
static void
words_append(StringInfo out, const char *text, int columns)
{
	int start = out->len;
	int kept = start; /* where it is cut if the rest doesn't fit */
	int width = 0;

	for (; *text != '\0'; text += pg_mblen(text))
	{
		int before = out->len;

		append_character(out, text, start);
		if (out->len > before)
			width += character_width(out->data + before);
		if (width <= columns - 1 && out->len - start < columns * BYTES_PER_COLUMN)
			kept = out->len;
		if (width > columns || out->len - start > columns * BYTES_PER_COLUMN)
		{
			out->data[out->len = kept] = '\0';
			trim_end(out, start);
			appendStringInfoString(out, "…");
			return;
		}
	}
	trim_end(out, start);
}

/* The same, on its own */
char *
words_plain(const char *text, int columns)
{
	StringInfoData out;

	initStringInfo(&out);
	words_append(&out, text, columns);
	return out.data;
}

/* "a.b" and "Ada Lovelace" in quotation marks unless it is a single word */
char *
words_quoted(const char *text, int columns)
{
	char *plain = words_plain(text, columns);

	if (plain[0] != '\0' && strpbrk(plain, " \"'`,;()") == NULL &&
		strstr(plain, "→") == NULL)
		return plain;
	return psprintf("\"%s\"", plain);
}

/*
 * 2026-11-28 09:00:00, or without seconds, in the session's time zone, whatever
 * its DateStyle.
 */
char *
words_time(TimestampTz at, bool seconds)
{
	struct pg_tm tm;
	fsec_t fraction;
	int zone;

	if (TIMESTAMP_NOT_FINITE(at) ||
		timestamp2tm(at, &zone, &tm, &fraction, NULL, NULL) != 0)
		return pstrdup(timestamptz_to_str(at));
	if (seconds)
		return psprintf("%04d-%02d-%02d %02d:%02d:%02d", tm.tm_year, tm.tm_mon,
						tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
	return psprintf("%04d-%02d-%02d %02d:%02d", tm.tm_year, tm.tm_mon,
					tm.tm_mday, tm.tm_hour, tm.tm_min);
}

/*
 * The bytes of a statement to copy, "SELECT f('a', 'b')", at the beginning of a
 * text, with what follows up to the next space; 0 if there is none.
 */
int
words_statement(const char *text)
{
	const char *p = text;
	int depth = 0;
	bool quoted = false;

	if (strncmp(text, "SELECT ", 7) != 0 && strncmp(text, "CALL ", 5) != 0)
		return 0;
	for (; *p != '\0'; p++)
	{
		if (*p == '\'')
			quoted = !quoted;
		else if (!quoted && *p == '(')
			depth++;
		else if (!quoted && *p == ')' && --depth == 0)
			return (int) (p - text) + strcspn(p, " ");
	}
	return 0;
}
