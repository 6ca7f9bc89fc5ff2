/*
 * tell_trace.c
 *		The story that trace_text() tells, as a message for one person.
 *
 * The caller of receive_slack() may only receive: what a person sees depends on
 * set_slack_user(), not on that role.  So all tables of the mirror are read, as the
 * messages of alerts are made: with the rights of each table's owner, without
 * running anybody's code (lookup/README.md).
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/error_codes.h"
#include "engine/engine.h"
#include "lookup/lookup.h"
#include "message/message.h"
#include "trace/trace.h"
#include "bot/internal.h"

#define CHUNK	   2900 /* characters of a section, of Slack's 3,000 */
#define MOST_HEAD  2500 /* characters of the first lines: what is wrong */
#define MOST_TAIL  8000 /* of the last ones, which are the newest */
#define MOST_TIME  2000 /* milliseconds: Slack waits for 3 seconds */
#define CODE_BEGIN "```\n"
#define CODE_END   "\n```"

/* ---- lines ---- */

/* The lines, as mrkdwn that can't end a code block */
static List *
mrkdwn_lines(char *text)
{
	List *lines = NIL;
	char *next;

	for (char *line = text; line != NULL; line = next)
	{
		next = strchr(line, '\n');
		if (next != NULL)
			*next++ = '\0';
		for (char *p = line; *p != '\0'; p++)
			if (*p == '`')
				*p = '\'';
		lines = lappend(lines, mrkdwn_escape(line));
	}
	return lines;
}

static int
line_size(const char *line)
{
	return strlen(line) + 1;
}

/*
 * Leave out lines in the middle: the first ones say what is wrong, the last ones
 * are the newest.
 */
static List *
cut_lines(List *lines)
{
	List *head = NIL;
	List *tail = NIL;
	int first = 0;
	int last = list_length(lines);
	int size = 0;

	while (first < last &&
		   (size += line_size(list_nth(lines, first))) <= MOST_HEAD)
		head = lappend(head, list_nth(lines, first++));
	size = 0;
	while (last > first &&
		   (size += line_size(list_nth(lines, last - 1))) <= MOST_TAIL)
		tail = lcons(list_nth(lines, --last), tail);
	if (last > first)
		head = lappend(head,
					   psprintf("... %d lines are left out ...", last - first));
	return list_concat(head, tail);
}

/* Code blocks of so many lines as fit into a section each */
static List *
code_blocks(List *lines)
{
	List *blocks = NIL;
	StringInfoData block;
	ListCell *cell;

	initStringInfo(&block);
	foreach(cell, lines)
	{
		if (block.len > 0 && block.len + line_size(lfirst(cell)) > CHUNK)
		{
			blocks = lappend(blocks,
							 psprintf(CODE_BEGIN "%s" CODE_END, block.data));
			resetStringInfo(&block);
		}
		if (block.len > 0)
			appendStringInfoChar(&block, '\n');
		appendStringInfoString(&block, lfirst(cell));
	}
	return lappend(blocks, psprintf(CODE_BEGIN "%s" CODE_END, block.data));
}

/* ---- the story ---- */

typedef struct Story
{
	const char *ref;
	const char *account;
	char *text;
} Story;

static void
read_story(void *arg)
{
	Story *story = arg;

	story->text = trace_text(story->ref, story->account, NULL);
}

static void
read_all_tables(void *arg)
{
	visible_rows_read_all(read_story, arg);
}

/* An error that isn't about the reference, or the time, is raised again. */
static void
tell_error(BotCall *call, const char *ref, ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		bot_tell(
			call,
			psprintf(
				"This story takes too long to gather for Slack. In the database: `SELECT stripe_sync.trace_text(%s);`",
				mrkdwn_escape(quote_literal_cstr(ref))),
			NULL);
	else if (error->sqlerrcode == ERRCODE_NO_SUCH_NAME ||
			 error->sqlerrcode == ERRCODE_INVALID_PARAMETER_VALUE)
		bot_tell(call, mrkdwn_escape(error->message), NULL);
	else
		ReThrowError(error);
	call->status = "ignored";
	call->error = error->message;
}

void
bot_tell_trace(BotCall *call, const char *ref, const char *account,
			   const char *link)
{
	Story story = {ref, account, NULL};
	List *texts;
	ErrorData *error;

	if (!timed_run_within(MOST_TIME, read_all_tables, &story, &error))
	{
		tell_error(call, ref, error);
		return;
	}
	texts = code_blocks(cut_lines(mrkdwn_lines(story.text)));
	if (link != NULL)
		texts = lappend(texts, unconstify(char *, link));
	bot_tell(call, psprintf("Trace of %s", mrkdwn_escape(ref)),
			 bot_sections(texts));
}
