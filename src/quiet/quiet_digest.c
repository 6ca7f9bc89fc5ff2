/*
 * quiet_digest.c
 *		The digest at the end of quiet hours: what fired, what is over, and what
 *		is still open.
 *
 * Texts are of incidents, and so mrkdwn that is escaped already.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "engine/array_argument.h"
#include "engine/statement.h"
#include "message/message.h"
#include "quiet/internal.h"

#define MOST_ROWS 20
#define ROW_TEXT  150 /* characters */
#define SECTION_MAX                                                            \
	2900 /* bytes of rows in one section; Slack has 3,000 characters */

/* ---- one incident ---- */

/* Messages to customers don't name the rule. */
static bool
is_for_customer(const HeldIncident *incident)
{
	return incident->footer != NULL && incident->footer[0] == '\0';
}

/* The first line of its text; of a roll-up or flood, what it counts. */
char *
quiet_line(const HeldIncident *incident, int characters)
{
	const char *text = incident->text;
	char *line = mrkdwn_cut(pnstrdup(text, strcspn(text, "\n")), characters);

	if (strcmp(incident->kind, "single") == 0)
		return line;
	if (strcmp(incident->kind, "digest") == 0 && !is_for_customer(incident))
		return psprintf("*%lld more alerts* than are sent in an hour",
						(long long) incident->count);
	if (is_for_customer(incident))
		return psprintf("*%lld more*, for example: %s",
						(long long) incident->count, line);
	return psprintf("*%lld more* of `%s`, for example: %s",
					(long long) incident->count, mrkdwn_escape(incident->alert),
					line);
}

/* What has closed it: "`invoice.paid`", a person, or how it ended */
static char *
ending(const HeldIncident *incident)
{
	const char *person = strrchr(incident->closed_by, '/');

	if (incident->closing_text != NULL)
		return quiet_line(
			&(HeldIncident){.kind = "single", .text = incident->closing_text},
			ROW_TEXT);
	if (incident->closing_type != NULL)
		return psprintf("`%s`", mrkdwn_escape(incident->closing_type));
	if (strncmp(incident->closed_by, "slack:", 6) != 0)
		return pstrdup("");
	/* of another workspace: slack:T.../U... */
	person = person != NULL ? person + 1 : incident->closed_by + 6;
	return psprintf("<@%s>", mrkdwn_escape(person));
}

static void
append_part(StringInfo row, const char *part)
{
	if (part != NULL && part[0] != '\0')
		appendStringInfo(row, " · %s", part);
}

static char *
digest_row(const HeldIncident *incident)
{
	StringInfoData row;

	initStringInfo(&row);
	appendStringInfo(&row, "• %s%s", incident->is_test ? "[TEST] " : "",
					 quiet_line(incident, ROW_TEXT));
	if (incident->count > 1 && strcmp(incident->kind, "single") == 0)
		append_part(&row, psprintf("%lld times", (long long) incident->count));
	append_part(&row, mrkdwn_date(incident->opened_at));
	if (!incident->open && incident->closed_by != NULL)
	{
		append_part(
			&row, psprintf("%s%s",
						   incident->closed_badly ? "" : ":white_check_mark: ",
						   mrkdwn_date(incident->closed_at)));
		append_part(&row, ending(incident));
	}
	append_part(&row, incident->footer);
	return row.data;
}

/* ---- all of them ---- */

typedef enum Fate
{
	STILL_OPEN,
	OVER,
	FOR_INFORMATION, /* no event closes it */
	FATES
} Fate;

static Fate
fate_of(const HeldIncident *incident)
{
	if (incident->open)
		return STILL_OPEN;
	return incident->closed_by != NULL ? OVER : FOR_INFORMATION;
}

static int
count_fate(const List *incidents, Fate fate)
{
	int count = 0;
	ListCell *cell;

	foreach(cell, incidents)
		count += fate_of(lfirst(cell)) == fate;
	return count;
}

static int
count_new(const List *incidents)
{
	int count = 0;
	ListCell *cell;

	foreach(cell, incidents)
		count += ((HeldIncident *) lfirst(cell))->is_new;
	return count;
}

/* ", 2 are over" */
static void
append_count(StringInfo text, int count, const char *what)
{
	if (count > 0)
		appendStringInfo(text, ", %d %s %s", count, count == 1 ? "is" : "are",
						 what);
}

/* "3 alerts fired, 2 are over, 1 is still open" */
static char *
digest_head(const List *incidents, TimestampTz since)
{
	int fired = count_new(incidents);
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, ":sunrise: *Quiet hours are over.* Since %s, ",
					 mrkdwn_date(since));
	if (fired == 0)
		appendStringInfoString(&text, "no new alert fired");
	else
		appendStringInfo(&text, "%d %s fired", fired,
						 fired == 1 ? "alert" : "alerts");
	append_count(&text, count_fate(incidents, OVER), "over");
	append_count(&text, count_fate(incidents, STILL_OPEN), "still open");
	append_count(&text, count_fate(incidents, FOR_INFORMATION),
				 "for information");
	appendStringInfoChar(&text, '.');
	return text.data;
}

/* Add a line to the last text, or begin the next one. */
static void
add_line(ArgColumns *sections, StringInfo text, const char *line)
{
	if (text->len > 0 && text->len + strlen(line) > SECTION_MAX)
	{
		columns_add(sections, ARGS(arg_text(text->data)));
		resetStringInfo(text);
	}
	appendStringInfo(text, "%s%s", text->len > 0 ? "\n" : "", line);
}

static void
add_fate(ArgColumns *sections, const List *incidents, Fate fate, int *left)
{
	static const char *const titles[] = {
		[STILL_OPEN] = "*Still open*", [OVER] = "*Over*", [FOR_INFORMATION] = "*For information*"};
	StringInfoData text;
	ListCell *cell;

	if (count_fate(incidents, fate) == 0 || *left == 0)
		return;
	initStringInfo(&text);
	add_line(sections, &text, titles[fate]);
	foreach(cell, incidents)
		if (fate_of(lfirst(cell)) == fate && (*left)-- > 0)
			add_line(sections, &text, digest_row(lfirst(cell)));
	*left = Max(*left, 0);
	columns_add(sections, ARGS(arg_text(text.data)));
}

static Jsonb *
blocks_of(ArgColumns *sections)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object("
		" 'type', 'section', 'text', pg_catalog.jsonb_build_object("
		"  'type', 'mrkdwn', 'text', s.text, 'verbatim', true)) ORDER BY s.n)"
		" FROM unnest($1) WITH ORDINALITY s (text, n)"};

	return statement_jsonb(&build, COLUMN_ARGS(sections));
}

/* The rows: the first MOST_ROWS, by what has become of them */
static Jsonb *
digest_blocks(const char *head, const List *incidents)
{
	int more = list_length(incidents) - MOST_ROWS;
	int left = MOST_ROWS;
	ArgColumns sections = {0};

	columns_add(&sections, ARGS(arg_text(head)));
	for (Fate fate = STILL_OPEN; fate < FATES; fate++)
		add_fate(&sections, incidents, fate, &left);
	if (more > 0)
		columns_add(&sections, ARGS(arg_text(psprintf("and %d more", more))));
	return blocks_of(&sections);
}

/* The payload of the digest; "incidents" are HeldIncident, in order. */
Jsonb *
quiet_digest(const List *incidents, TimestampTz since)
{
	MessageParts parts = {.text = digest_head(incidents, since)};

	parts.blocks = digest_blocks(parts.text, incidents);
	return blocks_message(&parts);
}
