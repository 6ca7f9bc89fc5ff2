/*
 * command_text.c
 *		Arguments and answers of /stripe.
 */
#include "postgres.h"

#include "inbox/event.h"
#include "message/message.h"
#include "bot/internal.h"

#define MOST_SECTION 3000 /* characters */

/* ---- answers ---- */

/* What was asked for is not to be had: "told" is mrkdwn. */
void
command_cannot(BotCall *call, const char *why, const char *told)
{
	call->status = "ignored";
	call->error = why;
	bot_tell(call, told, NULL);
}

/* Tell these texts (mrkdwn), cut to Slack's limits; the first is its summary. */
void
command_tell(BotCall *call, List *texts)
{
	ListCell *cell;

	foreach(cell, texts)
		lfirst(cell) = mrkdwn_cut(lfirst(cell), MOST_SECTION);
	bot_tell(call, linitial(texts), blocks_fit(bot_sections(texts)));
}

/* ---- arguments ---- */

/*
 * The argument without the address that Slack may make of it
 * (<mailto:a@example.com|a@example.com>), or quotes and spaces around it
 */
char *
command_plain(const char *argument)
{
	const char *begin = argument + strspn(argument, " \t`'\"*");
	size_t length = strlen(begin);

	if (strncmp(begin, "<mailto:", 8) == 0)
	{
		begin += 8;
		length = strcspn(begin, "|>");
	}
	while (length > 0 && strchr(" \t`'\"*", begin[length - 1]) != NULL)
		length--;
	return pnstrdup(begin, length);
}

/* As code, which the text cannot end */
char *
command_code(const char *text)
{
	char *code = psprintf("`%s`", mrkdwn_escape(text));

	for (char *p = code + 1; p[1] != '\0'; p++)
		if (*p == '`')
			*p = '\'';
	return code;
}

/*
 * Take "account=..." off the end of an argument; NULL if it isn't there.
 */
char *
command_take_account(char *argument)
{
	char *found = strstr(argument, " account=");
	char *account;

	if (found == NULL)
		return NULL;
	account = pstrdup(found + strlen(" account="));
	*found = '\0';
	return account;
}

/* ---- links ---- */

/* A link to the object in Stripe's dashboard, with this label */
char *
customer_link(const CustomerCard *card, const char *id, const char *label)
{
	Event event = {.account = unconstify(char *, card->account),
				   .has_livemode = true,
				   .livemode = !card->is_test};

	return psprintf("<%s|%s>", dashboard_link(&event, id), mrkdwn_escape(label));
}
