/*
 * destination_argument.c
 *		Arguments of the functions that set up destinations.
 *
 * A URL or token may stand in any of them, if their order was mistaken: no error
 * shows the value or the statement, and none is stored as a name or a channel,
 * which more roles can read.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include <openssl/crypto.h>

#include "http/http.h"
#include "inbox/secret.h"
#include "outbox/internal.h"

#define MAX_NAME 63 /* bytes, as of other names */

/* NULL if the argument is NULL, or the function has fewer arguments */
text *
destination_optional_text(FunctionCallInfo fcinfo, int number)
{
	return number >= PG_NARGS() || PG_ARGISNULL(number)
			   ? NULL
			   : PG_GETARG_TEXT_PP(number);
}

/* Raises 22004 if the argument is NULL; "name" is its name. */
text *
destination_required_text(FunctionCallInfo fcinfo, int number, const char *name)
{
	text *value = destination_optional_text(fcinfo, number);

	if (value == NULL)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errhidestmt(true), errmsg("%s cannot be NULL", name)));
	return value;
}

/* Does it begin with the prefix, in upper or lower case? */
bool
destination_text_begins_with(const text *value, const char *prefix)
{
	return VARSIZE_ANY_EXHDR(value) >= strlen(prefix) &&
		   pg_strncasecmp(VARDATA_ANY(value), prefix, strlen(prefix)) == 0;
}

/* Does it begin as a URL or one of Slack's tokens does? */
bool
destination_could_be_secret(const text *value)
{
	static const char *const prefixes[] = {"https:", "http:", "xoxb-",
										   "xoxp-",	 "xoxe",  "xapp-"};

	for (int i = 0; i < lengthof(prefixes); i++)
		if (destination_text_begins_with(value, prefixes[i]))
			return true;
	return false;
}

/* Has it 1 to "most" bytes and no control characters? */
bool
destination_is_plain_line(const text *value, int most)
{
	const char *bytes = VARDATA_ANY(value);
	int length = VARSIZE_ANY_EXHDR(value);

	for (int i = 0; i < length; i++)
		if ((unsigned char) bytes[i] < ' ' || bytes[i] == 0x7f)
			return false;
	return length > 0 && length <= most;
}

/* Raises 22023.  Alerts give names that begin with "@" a meaning: '@customer'. */
void
destination_check_name(const text *name)
{
	if (!destination_is_plain_line(name, MAX_NAME) || *VARDATA_ANY(name) == '@')
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg(
				 "a destination must have a name of 1 to %d bytes that does not begin with \"@\"",
				 MAX_NAME),
			 errhint("The name is yours to choose: 'billing', for example.")));
	if (destination_could_be_secret(name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
				 errmsg("a destination's name cannot be a URL or a token"),
				 errhint("The destination's name is the first argument.")));
}

/*
 * Raises 22023.  Slack checks the channel when a message is sent: whether the bot
 * can see it can't be known here.
 */
void
destination_check_channel(const text *channel)
{
	static const char hint[] =
		"Give its id (C0123456789), or its name (#billing).";

	if (!destination_is_plain_line(channel, DESTINATION_MAX_LINE))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg("a channel must have 1 to %d bytes and no control characters",
					DESTINATION_MAX_LINE),
			 errhint("%s", hint)));
	if (memchr(VARDATA_ANY(channel), ' ', VARSIZE_ANY_EXHDR(channel)) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
				 errmsg("a channel cannot have spaces in its name"),
				 errhint("%s", hint)));
	if (destination_could_be_secret(channel))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg("a channel cannot be a URL or a token"),
			 errhint(
				 "The order is: add_slack_channel(destination, channel, token).")));
}

/*
 * A webhook's URL, or file:/path.  Raises 22023.  The URL in a file is checked when
 * a message is sent, as the file may change.
 */
void
destination_check_url(const text *url)
{
	char *address;
	char *refusal = "It is empty, too long, or has spaces in it.";

	if (secret_check_file(url))
		return;
	address = text_to_cstring(url);
	if (secret_is_word(VARDATA_ANY(url), VARSIZE_ANY_EXHDR(url)))
		refusal = http_refusal(address, HTTP_SLACK_WEBHOOK);
	OPENSSL_cleanse(address, strlen(address));
	if (refusal != NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg("invalid URL of a Slack webhook"),
			 errdetail_internal("%s", refusal),
			 errhint(
				 "Copy it from Slack (https://hooks.slack.com/services/...), or give file:/absolute/path. Hosts other than Slack's own are allowed by the setting stripe_sync.slack_hosts.")));
}

/* A bot's token, or file:/path.  Raises 22023, also for a token of another kind. */
void
destination_check_token(const text *token)
{
	if (!secret_check_file(token) &&
		!secret_is_word(VARDATA_ANY(token), VARSIZE_ANY_EXHDR(token)))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg(
				 "a token must have 1 to %d bytes, all of them printable ASCII and no spaces",
				 MAX_SECRET),
			 errhint(
				 "Copy the bot's \"xoxb-...\" from Slack, or give file:/absolute/path.")));
	slack_token_check(token);
}
