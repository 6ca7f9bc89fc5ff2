/*
 * visible.c
 *		Text from outside without characters that are not shown.
 *
 * Names of roles, tables and the like may hold control characters, which a
 * terminal obeys when they are printed or pasted, and characters that change the
 * direction of writing.  In SQL to be copied they are escaped, so that it means
 * the same.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "base/visible.h"

/*
 * A control character, one that sets the direction of what follows, or one that
 * can't be seen: bidirectional embeddings, overrides and isolates, the byte order
 * mark, tags, interlinear annotations.
 */
bool
text_hides(unsigned int c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x202a && c <= 0x202e) ||
		   (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || c == 0x200b ||
		   (c >= 0xfff9 && c <= 0xfffb) || (c >= 0xe0000 && c <= 0xe007f);
}

/* The character that begins here; databases are in UTF-8. */
static pg_wchar
character(const char *p)
{
	return utf8_to_unicode((const unsigned char *) p);
}

static bool
is_hidden(const char *p)
{
	pg_wchar c = character(p);

	return text_hides(c) || c == 0x2028 || c == 0x2029;
}

static bool
has_hidden(const char *from, const char *end)
{
	for (; from < end; from += pg_mblen(from))
		if (is_hidden(from))
			return true;
	return false;
}

/* The text with "?" for each of them */
char *
text_visible(const char *text)
{
	StringInfoData out;

	initStringInfo(&out);
	for (; *text != '\0'; text += pg_mblen(text))
		if (is_hidden(text))
			appendStringInfoChar(&out, '?');
		else
			appendBinaryStringInfo(&out, text, pg_mblen(text));
	return out.data;
}

/* ---- SQL ---- */

/* Just past a literal, or a quoted name, whose opening quote is here */
static const char *
quoted_end(const char *open, bool escapes)
{
	const char *p = open + 1;

	while (*p != '\0')
	{
		if (escapes && *p == '\\' && p[1] != '\0')
			p++;
		else if (*p == *open && p[1] == *open)
			p++;
		else if (*p == *open)
			return p + 1;
		p += pg_mblen(p);
	}
	return p;
}

/* A character in a literal E'...' or a name U&"..." */
static void
append_escaped(StringInfo out, pg_wchar c, bool is_name)
{
	if (c <= 0xffff)
		appendStringInfo(out, is_name ? "\\%04x" : "\\u%04x", c);
	else
		appendStringInfo(out, is_name ? "\\+%06x" : "\\U%08x", c);
}

/* The literal or name that begins with a quote; returns what follows it. */
static const char *
append_quoted(StringInfo out, const char *open)
{
	bool is_name = *open == '"';
	bool escapes = !is_name && out->len > 0 && out->data[out->len - 1] == 'E';
	const char *end = quoted_end(open, escapes);

	if (!has_hidden(open, end))
	{
		appendBinaryStringInfo(out, open, end - open);
		return end;
	}
	appendStringInfoString(out, is_name ? "U&" : escapes ? "" : "E");
	for (; open < end; open += pg_mblen(open))
		if (is_hidden(open))
			append_escaped(out, character(open), is_name);
		else if (*open == '\\' && !escapes)
			appendStringInfoString(out, "\\\\");
		else
			appendBinaryStringInfo(out, open, pg_mblen(open));
	return end;
}

/* The comment to the end of the line; returns what follows it. */
static const char *
append_comment(StringInfo out, const char *comment)
{
	int length = strcspn(comment, "\n");

	appendStringInfoString(out, text_visible(pnstrdup(comment, length)));
	return comment + length;
}

/*
 * SQL that quote_literal() and quote_ident() have been used for: what is not
 * shown is escaped in its literals and names.  Its own line breaks stay.
 */
char *
sql_visible(const char *sql)
{
	StringInfoData out;

	initStringInfo(&out);
	while (*sql != '\0')
		if (*sql == '\'' || *sql == '"')
			sql = append_quoted(&out, sql);
		else if (sql[0] == '-' && sql[1] == '-')
			sql = append_comment(&out, sql);
		else
		{
			appendBinaryStringInfo(&out, sql, pg_mblen(sql));
			sql += pg_mblen(sql);
		}
	return out.data;
}
