/*
 * screen.c
 *		Text in a fixed number of columns.
 */
#include "postgres.h"

#include <math.h>

#include "mb/pg_wchar.h"

#include "base/text.h"

#include "dashboard/internal.h"

#define MARKS 2 /* combining characters that may follow another one */

/*
 * Characters that change what is beside them or show nothing: directions of
 * writing, joiners, line separators, tags, variation selectors.
 */
static bool
is_invisible(pg_wchar c)
{
	static const struct
	{
		pg_wchar first;
		pg_wchar last;
	} ranges[] = {{0x00AD, 0x00AD},	 {0x061C, 0x061C}, {0x115F, 0x1160},
				  {0x180E, 0x180E},	 {0x200B, 0x200F}, {0x2028, 0x202E},
				  {0x2060, 0x206F},	 {0x3164, 0x3164}, {0xFE00, 0xFE0F},
				  {0xFEFF, 0xFEFF},	 {0xFFF0, 0xFFFB}, {0x1D173, 0x1D17A},
				  {0xE0000, 0xE0FFF}};

	for (int i = 0; i < lengthof(ranges); i++)
		if (c >= ranges[i].first && c <= ranges[i].last)
			return true;
	return false;
}

/* One character of the text to be shown, and how wide it is */
typedef struct Cell
{
	const char *bytes;
	int length; /* in bytes */
	int width;
} Cell;

/* "text" is at a character, which is replaced if it can't be shown. */
static Cell
cell_at(const char *text)
{
	Cell cell = {text, pg_encoding_mblen_bounded(PG_UTF8, text),
				 pg_encoding_dsplen(PG_UTF8, text)};
	pg_wchar c = utf8_to_unicode((const unsigned char *) text);

	if (*text == '\t' || *text == '\n' || *text == '\r')
		cell.bytes = " ", cell.width = 1;
	else if (cell.width < 0 || is_invisible(c))
		cell.bytes = "?", cell.width = 1;
	return cell;
}

/*
 * As much of the text as fits, in one line, with "…" where text is cut off.
 * Wide characters take two columns.
 */
char *
screen_clip(const char *text, int width)
{
	StringInfoData out;
	int used = 0;
	int marks = 0;
	int end = 0; /* of what is left if the text is cut off */
	bool fits = true;

	initStringInfo(&out);
	while (*text != '\0' && fits)
	{
		Cell cell = cell_at(text);

		marks = cell.width == 0 ? marks + 1 : 0;
		fits = used + cell.width <= width;
		if (fits && marks <= MARKS)
			appendBinaryStringInfo(&out, cell.bytes,
								   cell.bytes == text ? cell.length : 1);
		if (fits)
			used += cell.width;
		if (used < width)
			end = out.len;
		text += cell.length;
	}
	if (!fits && width > 0)
	{
		out.len = end;
		out.data[end] = '\0';
		appendStringInfoString(&out, "…");
	}
	return out.data;
}

/* How many columns a clipped text takes */
static int
screen_width(const char *text)
{
	int width = 0;

	for (; *text != '\0'; text += pg_encoding_mblen_bounded(PG_UTF8, text))
		width += Max(pg_encoding_dsplen(PG_UTF8, text), 0);
	return width;
}

/* Clipped or filled up to exactly so many columns */
char *
screen_padded(const char *text, int width)
{
	StringInfoData out;
	char *clipped = screen_clip(text, width);

	initStringInfo(&out);
	appendStringInfoString(&out, clipped);
	appendStringInfoSpaces(&out, width - screen_width(clipped));
	return out.data;
}

/*
 * Values as characters, of which each stands for the highest of n / width of
 * them.  0 and less is a low line; what is above it is at least a low block.
 */
char *
screen_sparkline(const double *values, int n, int width)
{
	static const char *const blocks[] = {"▁", "▂", "▃", "▄",
										 "▅", "▆", "▇", "█"};
	double top = 0;
	StringInfoData out;

	initStringInfo(&out);
	for (int i = 0; i < n; i++)
		top = Max(top, values[i]);
	for (int column = 0; column < width; column++)
	{
		double most = 0;

		for (int i = column * n / width; i < (column + 1) * n / width; i++)
			most = Max(most, values[i]);
		if (most <= 0)
			appendStringInfoString(&out, "_");
		else
			appendStringInfoString(
				&out,
				blocks[Max((int) ceil(most / top * lengthof(blocks)), 1) - 1]);
	}
	return out.data;
}
