/*
 * quiet_digest.c
 *		The digest at the end of quiet hours: what fired, what is over, and what
 *		is still open.
 *
 * Texts are of incidents, and so mrkdwn that is escaped already.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "base/compat.h"
#include "message/message.h"
#include "quiet/internal.h"

#define MOST_ROWS 20
#define ROW_TEXT  150 /* characters, like the next one */

#define STILL_OPEN_TEXT 200

/* ---- one incident ---- */

/* Messages to customers name neither the rule, nor what closed it, nor us. */
static bool
is_for_customer(const HeldIncident *incident)
{
	return incident->footer != NULL && incident->footer[0] == '\0';
}

/* The first line of its text; of a roll-up or flood, what it counts. */
static char *
first_line(const HeldIncident *incident, int characters)
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
		return first_line(
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

/* "event · rule", of the incident's message */
static char *
what_of(const HeldIncident *incident)
{
	return psprintf("%s%s%s%s", incident->is_test ? "[TEST] " : "",
					first_line(incident, ROW_TEXT),
					incident->footer && incident->footer[0] ? " · " : "",
					incident->footer ? incident->footer : "");
}

/* When and how it ended; "" if it has not. */
static char *
end_of(const HeldIncident *incident)
{
	const char *how;

	if (incident->open || incident->closed_by == NULL)
		return "";
	how = is_for_customer(incident) && incident->closing_text == NULL
			  ? ""
			  : ending(incident);
	return psprintf("%s%s%s%s",
					incident->closed_badly ? "" : ":white_check_mark: ",
					mrkdwn_date(incident->closed_at), how[0] ? " · " : "", how);
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

/* ---- the table ---- */

enum
{
	COLUMN_STATE,
	COLUMN_WHAT,
	COLUMN_TIMES,
	COLUMN_SINCE,
	COLUMN_ENDED,
	COLUMNS
};

static char **
make_row(char *state, char *what, char *times, char *since, char *ended)
{
	char **row = palloc(COLUMNS * sizeof(char *));

	row[COLUMN_STATE] = state;
	row[COLUMN_WHAT] = what;
	row[COLUMN_TIMES] = times;
	row[COLUMN_SINCE] = since;
	row[COLUMN_ENDED] = ended;
	return row;
}

static char **
digest_row(const HeldIncident *incident, Fate fate)
{
	static char *const states[] = {
		[STILL_OPEN] = "*Still open*", [OVER] = "Over", [FOR_INFORMATION] = "For information"};

	return make_row(states[fate], what_of(incident),
					psprintf("%lld", (long long) incident->count),
					mrkdwn_date(incident->opened_at), end_of(incident));
}

/* The first MOST_ROWS, by what has become of them */
static List *
digest_rows(const List *incidents)
{
	List *rows = list_make1(make_row("", "Alert", "Times", "Since", "Ended"));
	ListCell *cell;

	for (Fate fate = STILL_OPEN; fate < FATES; fate++)
		foreach(cell, incidents)
			if (fate_of(lfirst(cell)) == fate && list_length(rows) <= MOST_ROWS)
				rows = lappend(rows, digest_row(lfirst(cell), fate));
	return rows;
}

/* Where Slack doesn't take a table, the outbox sends its rows as lines. */
static Jsonb *
digest_blocks(const char *head, const List *incidents)
{
	int more = list_length(incidents) - MOST_ROWS;
	JsonbInState state = {0};

	compat_push_jsonb(&state, WJB_BEGIN_ARRAY, NULL);
	blocks_push_section(&state, head);
	blocks_push_table(&state, COLUMNS, digest_rows(incidents));
	if (more > 0)
		blocks_push_section(&state, psprintf("and %d more", more));
	compat_push_jsonb(&state, WJB_END_ARRAY, NULL);
	return JsonbValueToJsonb(state.result);
}

/* Which database speaks, unless only customers read it; NULL if it has no name. */
static char *
speaker(const List *incidents)
{
	ListCell *cell;

	foreach(cell, incidents)
		if (guc_instance_name[0] != '\0' && !is_for_customer(lfirst(cell)))
			return mrkdwn_escape(guc_instance_name);
	return NULL;
}

/* The payload of the digest; "incidents" are HeldIncident, in order. */
Jsonb *
quiet_digest(const List *incidents, TimestampTz since)
{
	MessageParts parts = {.text = digest_head(incidents, since),
						  .status = speaker(incidents)};

	parts.blocks = digest_blocks(parts.text, incidents);
	return blocks_message(&parts);
}

/* The payload of an answer that says that the incident is still open */
Jsonb *
quiet_still_open(const HeldIncident *incident)
{
	char *times = incident->count > 1
					  ? psprintf(", %lld times now", (long long) incident->count)
					  : "";
	MessageParts parts = {
		.text = psprintf(":hourglass: Still open%s: %s", times,
						 first_line(incident, STILL_OPEN_TEXT)),
		.status = speaker(list_make1(unconstify(HeldIncident *, incident))),
		.is_test = incident->is_test};

	return blocks_message(&parts);
}
