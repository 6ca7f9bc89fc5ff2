/*
 * html.c
 *		Text in HTML.
 */
#include "postgres.h"

#include "base/html.h"

/*
 * Append text so that it is text in an element's content and in an attribute
 * between quotation marks.  Control characters, which HTML doesn't allow, become
 * U+FFFD; tab and line breaks stay.
 */
void
html_append_escaped(StringInfo out, const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
		switch (*p)
		{
			case '&':
				appendStringInfoString(out, "&amp;");
				break;
			case '<':
				appendStringInfoString(out, "&lt;");
				break;
			case '>':
				appendStringInfoString(out, "&gt;");
				break;
			case '"':
				appendStringInfoString(out, "&quot;");
				break;
			case '\'':
				appendStringInfoString(out, "&#39;");
				break;
			default:
				if (((unsigned char) *p < 0x20 && strchr("\t\n\r", *p) == NULL) ||
					*p == 0x7f)
					appendStringInfoString(out, "\xEF\xBF\xBD");
				else
					appendStringInfoChar(out, *p);
		}
}
