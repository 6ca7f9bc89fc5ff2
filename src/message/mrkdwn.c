/*
 * mrkdwn.c
 *		Slack's markup: text escaped for it, measured, cut and stripped.
 *
 * Lengths are in characters (code points), as Slack counts them.  Three things
 * in mrkdwn must not be cut in two: entities (&amp;), links and mentions
 * (<...>).  The text is UTF-8, like the database.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "message/message.h"
#include "message/internal.h"

#define MAX_ENTITY 8	/* bytes, "&" and ";" included */
#define MAX_LINK   4096 /* bytes, "<" and ">" included */
#define ELLIPSIS   "…"

/* ---- escape ---- */

/* Bytes of the character at "text"; not beyond the end if it is cut off there. */
static int
character_length(const char *text)
{
	return Min(pg_utf_mblen((const unsigned char *) text),
			   (int) strnlen(text, 4));
}

/*
 * Control characters, line separators and marks that change the direction of
 * the text that follows: with these a customer's name could look like part of
 * our own text.
 */
static bool
is_control(const char *text, int length)
{
	pg_wchar c;

	if (length != pg_utf_mblen((const unsigned char *) text))
		return true; /* the text was cut inside a character */
	if (length == 1)
		return (unsigned char) *text < 0x20 || *text == 0x7F;
	c = utf8_to_unicode((const unsigned char *) text);
	return (c >= 0x80 && c <= 0x9F) || c == 0x061C || c == 0x200E ||
		   c == 0x200F || (c >= 0x2028 && c <= 0x202E) ||
		   (c >= 0x2066 && c <= 0x2069);
}

/*
 * Text from Stripe or a user as mrkdwn that shows it literally, in one line: &,
 * < and > are escaped, control characters become spaces.
 */
char *
mrkdwn_escape(const char *text)
{
	StringInfoData out;
	int length;

	initStringInfo(&out);
	for (; *text != '\0'; text += length)
	{
		length = character_length(text);
		if (is_control(text, length))
			appendStringInfoChar(&out, ' ');
		else if (*text == '&')
			appendStringInfoString(&out, "&amp;");
		else if (*text == '<')
			appendStringInfoString(&out, "&lt;");
		else if (*text == '>')
			appendStringInfoString(&out, "&gt;");
		else
			appendBinaryStringInfo(&out, text, length);
	}
	return out.data;
}

/* Without the entities that mrkdwn_escape() writes */
char *
mrkdwn_unescape(const char *text)
{
	static const struct
	{
		const char *entity;
		char character;
	} entities[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}};
	StringInfoData out;

	initStringInfo(&out);
	for (; *text != '\0'; text++)
	{
		char character = *text;

		for (int i = 0; i < lengthof(entities); i++)
		{
			size_t length = strlen(entities[i].entity);

			if (strncmp(text, entities[i].entity, length) != 0)
				continue;
			character = entities[i].character;
			text += length - 1;
			break;
		}
		appendStringInfoChar(&out, character);
	}
	return out.data;
}

/*
 * Plain text as mrkdwn that shows it literally.  Slack reads entities in plain text
 * too, and templates write them there, so those that it has are not escaped again.
 */
char *
mrkdwn_escape_once(const char *text)
{
	return mrkdwn_escape(mrkdwn_unescape(text));
}

/* ---- cut ---- */

/* In characters */
int
mrkdwn_length(const char *text)
{
	int n = 0;

	for (; *text != '\0'; text += character_length(text))
		n++;
	return n;
}

/* Bytes of the link, mention or entity at "text"; 0 if there is none. */
static int
markup_length(const char *text)
{
	int limit = strnlen(text, *text == '<' ? MAX_LINK : MAX_ENTITY);
	const char *end = memchr(text, *text == '<' ? '>' : ';', limit);
	int length = end != NULL ? end + 1 - text : 0;

	if (*text == '<')
		return memchr(text, '\n', length) == NULL ? length : 0;
	return strspn(text + 1, "abcdefghijklmnopqrstuvwxyz") == length - 2 ? length
																		: 0;
}

/* Bytes at "text" that must stay together. */
static int
piece_length(const char *text)
{
	int length = *text == '<' || *text == '&' ? markup_length(text) : 0;

	return length > 0 ? length : character_length(text);
}

/* Characters in so many bytes. */
static int
count_characters(const char *text, int bytes)
{
	const char *end = text + bytes;
	int n = 0;

	for (; text < end; text += character_length(text))
		n++;
	return n;
}

/* What a link shows, and its bytes; NULL: the piece is no link with a label. */
static const char *
link_label(const char *piece, int bytes, int *length)
{
	const char *bar = *piece == '<' ? memchr(piece, '|', bytes) : NULL;

	if (bar == NULL)
		return NULL;
	*length = piece + bytes - 1 - (bar + 1);
	return bar + 1;
}

/*
 * Cut to so many characters, of which the last is "…" if anything is cut off.  Of a
 * link that does not fit the label is left.
 */
char *
mrkdwn_cut(const char *mrkdwn, int characters)
{
	const char *at = mrkdwn;
	int left = characters - 1;
	StringInfoData out;

	if (characters <= 0)
		return pstrdup("");
	if (mrkdwn_length(mrkdwn) <= characters)
		return pstrdup(mrkdwn);
	initStringInfo(&out);
	while (*at != '\0')
	{
		int bytes = piece_length(at);
		int size = bytes;
		const char *kept = at;

		if (count_characters(at, bytes) > left)
			kept = link_label(at, bytes, &size);
		if (kept == NULL || count_characters(kept, size) > left)
			break;
		appendBinaryStringInfo(&out, kept, size);
		left -= count_characters(kept, size);
		at += bytes;
	}
	if (*at != '\0')
		appendStringInfoString(&out, ELLIPSIS);
	return out.data;
}

/* A character of the blocks that hold symbols and pictures */
static bool
is_pictograph(pg_wchar c)
{
	return (c >= 0x2190 && c <= 0x2BFF) || (c >= 0x1F000 && c <= 0x1FAFF);
}

/* Does the text begin with ":name:" or a Unicode emoji? */
bool
mrkdwn_begins_with_emoji(const char *text)
{
	size_t length;

	text += strspn(text, " \t\r\n");
	if (*text != ':')
		return *text != '\0' && (unsigned char) *text >= 0x80 &&
			   character_length(text) ==
				   pg_utf_mblen((const unsigned char *) text) &&
			   is_pictograph(utf8_to_unicode((const unsigned char *) text));
	length = strspn(text + 1, "abcdefghijklmnopqrstuvwxyz0123456789_+'-");
	return length > 0 && text[1 + length] == ':';
}

bool
mrkdwn_is_blank(const char *text)
{
	return text[strspn(text, " \t\r\n")] == '\0';
}

/* ---- strip ---- */

/*
 * A link becomes its label, or its address if it has none, and a date its
 * text.  Mentions stay: only Slack can resolve them.
 */
static void
append_stripped(StringInfo out, const char *piece, int bytes)
{
	const char *bar;

	if (*piece != '<' || bytes < 3 || strchr("@#", piece[1]) != NULL ||
		(piece[1] == '!' && strncmp(piece, "<!date^", 7) != 0))
	{
		appendBinaryStringInfo(out, piece, bytes);
		return;
	}
	bar = memchr(piece, '|', bytes);
	if (bar != NULL)
		appendBinaryStringInfo(out, bar + 1, piece + bytes - 1 - (bar + 1));
	else
		appendBinaryStringInfo(out, piece + 1, bytes - 2);
}

/* For notifications, which show mrkdwn as it is. */
char *
mrkdwn_strip(const char *mrkdwn)
{
	StringInfoData out;
	int bytes;

	initStringInfo(&out);
	for (; *mrkdwn != '\0'; mrkdwn += bytes)
	{
		bytes = piece_length(mrkdwn);
		append_stripped(&out, mrkdwn, bytes);
	}
	return out.data;
}

/* ---- times ---- */

/*
 * Slack shows the time in the reader's time zone; a client that can't shows the
 * text in UTC.
 */
char *
mrkdwn_date(TimestampTz at)
{
	pg_time_t seconds = timestamptz_to_time_t(at);
	char text[64];

	pg_strftime(text, sizeof(text), "%Y-%m-%d %H:%M UTC", pg_gmtime(&seconds));
	return psprintf("<!date^%lld^{date_short_pretty} {time}|%s>",
					(long long) seconds, text);
}
