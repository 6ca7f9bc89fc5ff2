/*
 * command.c
 *		The slash command /stripe: which of its words is asked for, and whether the
 *		person may.
 *
 * What a person sees depends on set_slack_user(), not on the role that calls
 * receive_slack().  Each of the words that read answers within a time limit, since
 * Slack waits for 3 seconds.
 */
#include "postgres.h"

#include "base/text.h"
#include "engine/engine.h"
#include "lookup/lookup.h"
#include "message/message.h"
#include "bot/internal.h"

#define MOST_ARGUMENT 500  /* bytes */
#define MOST_TIME	  2000 /* milliseconds */

typedef struct CommandWord
{
	const char *word;
	const char *usage;
	const char *help;
	SlackMay needed;
	bool reads;			   /* and may take long */
	const char *otherwise; /* SQL that does the same */
	void (*run)(BotCall *call, const char *argument);
} CommandWord;

static void command_trace(BotCall *call, const char *argument);
static void command_help(BotCall *call, const char *argument);

static const CommandWord words[] = {
	{"trace", "trace <id>",
	 "what happened to an object, event or customer in Stripe, Postgres and Slack",
	 MAY_SEE, false, NULL, command_trace},
	{"customer", "customer <email or id>",
	 "plan, balance, last payments and open invoices", MAY_SEE, true,
	 "SELECT * FROM stripe.customers", command_customer},
	{"status", "status", "what the doctor has found", MAY_SEE, false, NULL,
	 command_status}, /* it limits its looks itself */
	{"who", "who <incident>",
	 "who did what about an incident, by its number or the name of its alert, which gives the last one",
	 MAY_SEE, true, "SELECT * FROM stripe_sync.incident_step", command_who},
	{"mute", "mute <alert> <time>",
	 "no messages of an alert for a time, such as 30m, 2h or 1d; off ends it",
	 MAY_ADMINISTER, false, NULL, command_mute},
	{"help", "help", "this list", MAY_NOTHING, false, NULL, command_help},
};

/* ---- help ---- */

/* Those that the person may use; "before" is said first, or NULL. */
static void
tell_help(BotCall *call, const char *before)
{
	StringInfoData out;

	initStringInfo(&out);
	if (before != NULL)
		appendStringInfo(&out, "%s\n", before);
	for (int i = 0; i < lengthof(words); i++)
		if (call->may >= words[i].needed)
			appendStringInfo(&out, "`" OWN_COMMAND " %s`  %s\n",
							 mrkdwn_escape(words[i].usage), words[i].help);
	if (call->may == MAY_NOTHING)
		appendStringInfoString(
			&out,
			"You may see nothing here until an administrator of the database permits it.");
	bot_tell(call, out.data, bot_sections(list_make1(out.data)));
}

static void
command_help(BotCall *call, const char *argument)
{
	tell_help(call, NULL);
}

/* ---- trace ---- */

static void
command_trace(BotCall *call, const char *argument)
{
	char *ref = pstrdup(argument);
	char *account = command_take_account(ref);

	bot_tell_trace(call, command_plain(ref), account, NULL);
}

/* ---- a word ---- */

typedef struct CommandRun
{
	BotCall *call;
	const CommandWord *word;
	const char *argument;
} CommandRun;

static void
run_body(void *arg)
{
	CommandRun *run = arg;

	run->word->run(run->call, run->argument);
}

static void
run_reading(void *arg)
{
	visible_rows_read_all(run_body, arg);
}

/* As run_body(), within the time limit. */
static void
run_within(CommandRun *run)
{
	ErrorData *error;

	if (timed_run_within(MOST_TIME, run_reading, run, &error))
		return;
	if (error->sqlerrcode != ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	command_cannot(
		run->call, "it took too long",
		psprintf("This takes too long for Slack. In the database: `%s;`",
				 run->word->otherwise));
}

static void
run_word(BotCall *call, const CommandWord *word, const char *argument)
{
	CommandRun run = {call, word, argument};

	if (call->may < word->needed)
		bot_refuse(call, word->needed);
	else if (word->reads)
		run_within(&run);
	else
		bot_wait_briefly(run_body, &run);
}

/* ---- all ---- */

static void
command_missing(BotCall *call, const CommandWord *word)
{
	command_cannot(call, "an argument is missing",
				   psprintf("`" OWN_COMMAND " %s`: %s.",
							mrkdwn_escape(word->usage), word->help));
}

static const CommandWord *
find_word(const char *text)
{
	for (int i = 0; i < lengthof(words); i++)
		if (pg_strcasecmp(words[i].word, text) == 0)
			return &words[i];
	return NULL;
}

/* False if it is another command than /stripe. */
bool
command_run(BotCall *call)
{
	const char *text = call->request->value;
	const CommandWord *word;
	char *argument;
	int length;
	char *first;

	if (call->request->name == NULL ||
		strcmp(call->request->name, OWN_COMMAND) != 0)
		return false;
	text = text != NULL ? text_clip(text, MOST_ARGUMENT) : "";
	text += strspn(text, " \t\n");
	length = strcspn(text, " \t\n");
	first = pnstrdup(text, length);
	argument = command_plain(text + length);
	word = find_word(first);
	if (word == NULL)
		tell_help(call,
				  length == 0
					  ? NULL
					  : psprintf("There is no %s.",
								 command_code(psprintf(OWN_COMMAND " %s",
													   command_plain(first)))));
	else if (strchr(word->usage, '<') != NULL && argument[0] == '\0')
		command_missing(call, word);
	else
		run_word(call, word, argument);
	return true;
}
