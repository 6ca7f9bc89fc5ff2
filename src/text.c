/*
 * text.c
 *		Small operations on text.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "text.h"

/* At most so many bytes, whole characters, with "..." where text is cut off. */
char *
text_clip(const char *text, int most)
{
	int length = strlen(text);

	if (length <= most)
		return pstrdup(text);
	length = pg_mbcliplen(text, length, most - strlen("..."));
	return psprintf("%s...", pnstrdup(text, length));
}

/* As much of a text in UTF-8 as fits, whole characters. */
void
text_clip_into(char *to, size_t size, const char *from)
{
	int length = pg_encoding_mbcliplen(PG_UTF8, from, (int) strlen(from),
									   (int) size - 1);

	memcpy(to, from, length);
	to[length] = '\0';
}

/*
 * As much of any bytes as fits, as valid UTF-8 and whole characters: "?" stands
 * for each byte that is NUL or no part of a valid character.  As long as the
 * original unless it is cut off.
 */
void
text_copy_utf8(char *to, size_t size, const char *from, size_t length)
{
	size_t i = 0;

	while (i < length)
	{
		const unsigned char *at = (const unsigned char *) from + i;
		size_t width = pg_utf_mblen(at);
		bool valid = *at != '\0' && i + width <= length &&
					 pg_utf8_islegal(at, (int) width);

		if (!valid)
			width = 1;
		if (i + width > size - 1)
			break;
		if (valid)
			memcpy(to + i, at, width);
		else
			to[i] = '?';
		i += width;
	}
	to[i] = '\0';
}

/* Unreserved characters (RFC 3986) as they are, any other byte as %XX. */
void
text_append_percent_encoded(StringInfo out, const char *text)
{
	static const char unreserved[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~";

	for (; *text != '\0'; text++)
		if (strchr(unreserved, *text) != NULL)
			appendStringInfoChar(out, *text);
		else
			appendStringInfo(out, "%%%02X", (unsigned char) *text);
}

char *
text_percent_encode(const char *text)
{
	StringInfoData out;

	initStringInfo(&out);
	text_append_percent_encoded(&out, text);
	return out.data;
}
