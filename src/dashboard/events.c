/*
 * events.c
 *		The last events, each with its trace.
 *
 * The page's size and the time that the traces take are bounded: past that,
 * events are listed without them.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/visible.h"
#include "engine/engine.h"
#include "trace/trace.h"

#include "dashboard/internal.h"

#define MAX_PAGE  (380 * 1024) /* bytes after which no trace is added */
#define MAX_TIME  300		   /* milliseconds for all traces */
#define MAX_LINES 40		   /* of one trace */
#define MAX_STORY (48 * 1024)
#define MAX_ERROR 300

/* An event's trace, collected in a subtransaction */
typedef struct Collected
{
	const LastEvent *event;
	List *stories;
} Collected;

static void
collect(void *arg)
{
	Collected *collected = arg;

	collected->stories = trace_collect(collected->event->id,
									   collected->event->account, NULL);
}

/* The first lines of a long story; what is too large is left out. */
static void
append_story(StringInfo out, TraceStory *story)
{
	StringInfoData part;

	if (list_length(story->lines) > MAX_LINES)
	{
		story->lines = list_truncate(story->lines, MAX_LINES);
		story->cut = "There is more.";
	}
	initStringInfo(&part);
	trace_html_story(&part, story, 3);
	if (part.len > MAX_STORY)
		html_nothing(out, "The trace is too long to be shown here.");
	else
		appendBinaryStringInfo(out, part.data, part.len);
}

/* How to see the whole of it */
static void
append_command(StringInfo out, const LastEvent *event)
{
	appendStringInfoString(
		out, "<pre class=\"hint\"><code>SELECT stripe_sync.trace_text(");
	html_clipped(out, sql_visible(quote_literal_cstr(event->id)), 300);
	appendStringInfoString(out, ");</code></pre>\n");
}

/*
 * Within so many milliseconds.  An error, as of a table that was altered, is shown
 * and not raised.
 */
static void
append_trace(StringInfo out, const LastEvent *event, int limit)
{
	Collected collected = {event};
	ErrorData *error;
	ListCell *cell;

	if (timed_run_within(limit, collect, &collected, &error))
	{
		foreach(cell, collected.stories)
			append_story(out, lfirst(cell));
		return;
	}
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
	{
		html_nothing(out, "The trace takes too long to be shown here.");
		return;
	}
	appendStringInfoString(
		out, "<p class=\"nothing\">The trace could not be made: ");
	html_clipped(out, error->message, MAX_ERROR);
	appendStringInfoString(out, "</p>\n");
}

/* applied and what else is fine; what will be retried; what will not */
static const char *
status_class(const char *status)
{
	if (strcmp(status, "dead") == 0 || strcmp(status, "failed") == 0)
		return "fail";
	return strcmp(status, "applied") == 0 ? "ok" : "unknown";
}

static const char *
status_mark(const char *status)
{
	if (strcmp(status, "dead") == 0 || strcmp(status, "failed") == 0)
		return "✕";
	return strcmp(status, "applied") == 0 ? "✓" : "·";
}

static void
append_summary(StringInfo out, const LastEvent *event, TimestampTz now)
{
	appendStringInfoString(out, "<summary><span class=\"when\">");
	html_time(out, event->received_at);
	appendStringInfo(
		out,
		" <small>%s</small></span> <span class=\"status %s\"><span aria-hidden=\"true\">%s</span> ",
		age_words(event->received_at, now), status_class(event->status),
		status_mark(event->status));
	html_clipped(out, event->status, 20);
	appendStringInfoString(out, "</span> <span class=\"type\">");
	html_name(out, event->type);
	appendStringInfoString(out, "</span> <span class=\"object\">");
	html_name(out, event->object_id != NULL ? event->object_id : event->id);
	appendStringInfoString(out, "</span></summary>\n");
}

static void
append_event(StringInfo out, const LastEvent *event, TimestampTz now, int limit)
{
	appendStringInfoString(out, "<li><details>");
	append_summary(out, event, now);
	appendStringInfoString(out, "<p class=\"facts\"><code>");
	html_name(out, event->id);
	appendStringInfoString(out, "</code> <span>by ");
	html_name(out, event->source);
	if (event->endpoint != NULL)
	{
		appendStringInfoString(out, ", endpoint ");
		html_name(out, event->endpoint);
	}
	appendStringInfoString(out, "</span>");
	if (event->account[0] != '\0')
	{
		appendStringInfoString(out, " <span>account ");
		html_name(out, event->account);
		appendStringInfoString(out, "</span>");
	}
	appendStringInfoString(out, "</p>\n");
	if (event->error != NULL)
	{
		appendStringInfoString(out, "<pre class=\"error\">");
		html_clipped(out, event->error, 1200);
		appendStringInfoString(out, "</pre>\n");
	}
	if (limit > 0)
		append_trace(out, event, limit);
	append_command(out, event);
	appendStringInfoString(out, "</details></li>\n");
}

void
events_append(StringInfo out, const Figures *figures, const State *state)
{
	TimestampTz begun = GetCurrentTimestamp();
	ListCell *cell;

	html_section(out, "events", "Last events", "open one for its trace");
	if (state->events == NIL)
		html_nothing(
			out,
			"No event has been received. SELECT stripe_sync.add_endpoint(…) adds an endpoint.");
	else
	{
		appendStringInfoString(out, "<ol class=\"events\">\n");
		foreach(cell, state->events)
		{
			int limit = MAX_TIME - (GetCurrentTimestamp() - begun) / 1000;

			append_event(out, lfirst(cell), figures->now,
						 out->len < MAX_PAGE ? limit : 0);
		}
		appendStringInfoString(out, "</ol>\n");
	}
	html_section_end(out);
}
