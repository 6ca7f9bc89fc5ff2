/*
 * record.c
 *		The lines of a story: made, given their facts, and put in order.
 *
 * Texts come from payloads, names and responses.  Each becomes part of one line:
 * what could begin another line or change how the rest is shown is a space.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/datetime.h"
#include "utils/json.h"

#include "base/base.h"
#include "base/text.h"
#include "base/visible.h"
#include "trace/internal.h"

#define MAX_WHAT 1000 /* bytes of a line */
#define MAX_FACT 500  /* bytes of a text in "detail" */

/* ---- text ---- */

/* Control characters, and those that break lines or turn the writing around */
static bool
is_plain(pg_wchar c)
{
	return c != 0x2028 && c != 0x2029 && !text_hides(c);
}

char *
trace_plain(const char *text, int most)
{
	char *plain = text_clip(text, most);
	char *to = plain;

	for (const char *from = plain; *from != '\0';)
	{
		int length = pg_utf_mblen((const unsigned char *) from);

		if (is_plain(utf8_to_unicode((const unsigned char *) from)))
			for (int i = 0; i < length; i++)
				*to++ = from[i];
		else
			*to++ = ' ';
		from += length;
	}
	*to = '\0';
	return plain;
}

/* "213 ms", "4.2 s", "14 min", "2 h 5 min", "3 days" */
char *
trace_duration(int64 microseconds)
{
	int64 seconds = microseconds / USECS_PER_SEC;
	int64 minutes = seconds / 60;
	int64 hours = minutes / 60;

	if (seconds < 1)
		return psprintf("%d ms", (int) (Max(microseconds, 0) / 1000));
	if (seconds < 10)
		return psprintf("%.1f s", microseconds / 1000000.0);
	if (minutes < 2)
		return psprintf("%d s", (int) seconds);
	if (hours < 1)
		return psprintf("%d min", (int) minutes);
	if (hours < 48)
		return minutes % 60 == 0
				   ? psprintf("%d h", (int) hours)
				   : psprintf("%d h %d min", (int) hours, (int) (minutes % 60));
	return psprintf(INT64_FORMAT " days", hours / 24);
}

/* ---- records ---- */

/* Add a record.  Equal times are ordered by kind, then as they were added. */
TraceRecord *
record_add(TraceGather *gather, TraceKind kind, TimestampTz at)
{
	TraceRecord *record = palloc0(sizeof(TraceRecord));

	record->kind = kind;
	record->line.at = at;
	record->line.system = kind == TRACE_HAPPENED ? "stripe"
						  : kind == TRACE_DELIVERY || kind == TRACE_PERSON
							  ? "slack"
							  : "postgres";
	gather->records = lappend(gather->records, record);
	return record;
}

static char *format_text(const char *format, va_list args)
	pg_attribute_printf(1, 0);

static char *
format_text(const char *format, va_list args)
{
	StringInfoData text;
	int missing;

	initStringInfo(&text);
	for (;;)
	{
		va_list copy;

		va_copy(copy, args);
		missing = appendStringInfoVA(&text, format, copy);
		va_end(copy);
		if (missing == 0)
			return text.data;
		enlargeStringInfo(&text, missing);
	}
}

/* Set the text of the line. */
void
record_say(TraceRecord *record, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	record->line.what = trace_plain(format_text(format, args), MAX_WHAT);
	va_end(args);
}

/* Add to the text of the line. */
void
record_append(TraceRecord *record, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	record->line.what = trace_plain(
		psprintf("%s%s", record->line.what, format_text(format, args)),
		MAX_WHAT);
	va_end(args);
}

/* Say what the story leaves out, in a sentence. */
void
record_cut(TraceGather *gather, const char *format, ...)
{
	va_list args;

	if (gather->cut == NULL)
		gather->cut = makeStringInfo();
	if (gather->cut->len > 0)
		appendStringInfoChar(gather->cut, ' ');
	va_start(args, format);
	appendStringInfoString(gather->cut,
						   trace_plain(format_text(format, args), MAX_WHAT));
	va_end(args);
}

static StringInfo
facts_of(TraceRecord *record)
{
	if (record->facts == NULL)
		record->facts = makeStringInfo();
	appendStringInfoChar(record->facts, record->facts->len == 0 ? '{' : ',');
	return record->facts;
}

/* NULL is left out. */
void
record_fact_text(TraceRecord *record, const char *name, const char *value)
{
	StringInfo facts;

	if (value == NULL)
		return;
	facts = facts_of(record);
	appendStringInfo(facts, "\"%s\":", name);
	escape_json(facts, text_clip(value, MAX_FACT));
}

void
record_fact_number(TraceRecord *record, const char *name, int64 value)
{
	appendStringInfo(facts_of(record), "\"%s\":" INT64_FORMAT, name, value);
}

/* A duration in milliseconds */
void
record_fact_ms(TraceRecord *record, const char *name, double value)
{
	appendStringInfo(facts_of(record), "\"%s\":%.3f", name, value);
}

/* 0 is left out. */
void
record_fact_time(TraceRecord *record, const char *name, TimestampTz value)
{
	char text[MAXDATELEN + 1];

	if (value == 0 || TIMESTAMP_NOT_FINITE(value))
		return;
	JsonEncodeDateTime(text, TimestampTzGetDatum(value), TIMESTAMPTZOID, NULL);
	appendStringInfo(facts_of(record), "\"%s\":\"%s\"", name, text);
}

static int
compare_records(const ListCell *a, const ListCell *b)
{
	const TraceRecord *left = lfirst(a);
	const TraceRecord *right = lfirst(b);

	if (left->line.at != right->line.at)
		return left->line.at < right->line.at ? -1 : 1;
	if (left->kind != right->kind)
		return (int) left->kind - (int) right->kind;
	return left->number - right->number;
}

static void
finish_record(TraceRecord *record)
{
	if (record->line.what == NULL)
		record->line.what = pstrdup("");
	if (record->facts != NULL)
	{
		appendStringInfoChar(record->facts, '}');
		record->line.detail = json_parse(record->facts->data,
										 record->facts->len);
	}
}

/* Does a line of this kind leave out which event it is about? */
static bool
is_about_event(const TraceRecord *record)
{
	return record->event_id != NULL && record->kind > TRACE_HAPPENED &&
		   record->kind < TRACE_QUEUED;
}

/* Name the event in lines that do not stand below another of that event. */
static void
name_events(List *records)
{
	const char *above = "";
	ListCell *cell;

	foreach(cell, records)
	{
		TraceRecord *record = lfirst(cell);

		if (is_about_event(record) && strcmp(record->event_id, above) != 0 &&
			strstr(record->line.what, record->event_id) == NULL)
			record->line.what = psprintf("%s: %s",
										 trace_plain(record->event_id, MAX_FACT),
										 record->line.what);
		above = record->event_id != NULL ? record->event_id : "";
	}
}

/* The lines in their order, of TraceLine. */
List *
record_lines(TraceGather *gather)
{
	int number = 0;
	ListCell *cell;

	foreach(cell, gather->records)
	{
		TraceRecord *record = lfirst(cell);

		record->number = number++;
		finish_record(record);
	}
	list_sort(gather->records, compare_records);
	name_events(gather->records);
	return gather->records;
}
