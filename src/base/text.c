/*
 * text.c
 *		Small operations on text.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "base/text.h"

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

/* %XX for each byte that isn't kept. */
void
text_append_percent_encoded(StringInfo out, const char *text, TextKeeps keeps)
{
	for (; *text != '\0'; text++)
		if (keeps((unsigned char) *text))
			appendStringInfoChar(out, *text);
		else
			appendStringInfo(out, "%%%02X", (unsigned char) *text);
}

char *
text_percent_encode(const char *text, TextKeeps keeps)
{
	StringInfoData out;

	initStringInfo(&out);
	text_append_percent_encoded(&out, text, keeps);
	return out.data;
}

/* RFC 3986's unreserved characters; not isalnum(), which depends on the locale */
bool
text_is_unreserved(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		   (c >= '0' && c <= '9') || (c != '\0' && strchr("-_.~", c) != NULL);
}
