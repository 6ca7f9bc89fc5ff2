/*
 * secret_kind.c
 *		Is it the kind of secret that is wanted?  Signing secrets and tokens have
 *		beginnings that tell them from each other.
 *
 * Nothing here shows what was given.
 */
#include "stripe_sync.h"

#include "secret.h"

#define SIGNING "whsec_"

static bool
begins_with(const text *value, const char *prefix)
{
	return VARSIZE_ANY_EXHDR(value) >= strlen(prefix) &&
		   pg_strncasecmp(VARDATA_ANY(value), prefix, strlen(prefix)) == 0;
}

static bool
holds(const text *value, const char *piece)
{
	int length = (int) strlen(piece);

	for (int i = 0; i + length <= VARSIZE_ANY_EXHDR(value); i++)
		if (memcmp(VARDATA_ANY(value) + i, piece, length) == 0)
			return true;
	return false;
}

static bool
has_white_space(const text *value)
{
	for (int i = 0; i < VARSIZE_ANY_EXHDR(value); i++)
	{
		unsigned char c = VARDATA_ANY(value)[i];

		if (c <= ' ' || c == 0x7f)
			return true;
	}
	return false;
}

/* What a signing secret cannot be, or have, and this does; NULL: nothing. */
static const char *
other_than_signing(const text *secret)
{
	static const char *const others[][2] = {
		{"sk_", "be a secret key of Stripe's API"},
		{"rk_", "be a restricted key of Stripe's API"},
		{"pk_", "be a publishable key of Stripe's API"},
		{"we_", "be the id of a webhook endpoint"},
		{"xox", "be a token of Slack's"},
		{"https:", "be a URL"},
		{"http:", "be a URL"},
	};

	for (int i = 0; i < lengthof(others); i++)
		if (begins_with(secret, others[i][0]))
			return others[i][1];
	if (has_white_space(secret))
		return "have white space or a line's end in it";
	if (begins_with(secret, SIGNING) &&
		(VARSIZE_ANY_EXHDR(secret) == strlen(SIGNING) || holds(secret, "...") ||
		 holds(secret, "\xe2\x80\xa6")))
		return "be cut short";
	return NULL;
}

/* An endpoint's secret that can't be one. */
void
signing_secret_check(const text *secret)
{
	const char *other = other_than_signing(secret);

	if (other != NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg("a signing secret cannot %s", other),
			 errhint(
				 "Copy the \"Signing secret\" (whsec_ and what follows) from the webhook endpoint's page in Stripe's dashboard, or from the output of stripe listen; or give file:/absolute/path.")));
}

/* One that is new here, and unlike Stripe's: gateways sign with their own. */
void
signing_secret_remark(const text *secret)
{
	if (!begins_with(secret, SIGNING) && !begins_with(secret, "file:"))
		ereport(NOTICE,
				(errhidestmt(true),
				 errmsg("the signing secret does not begin with \"" SIGNING
						"\", as Stripe's do"),
				 errhint("That is right only where something else than Stripe "
						 "signs the deliveries.")));
}

/* ---- Slack's tokens ---- */

void
slack_token_check(const text *token)
{
	if (begins_with(token, "https:") || begins_with(token, "http:"))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg("the token of a bot cannot be a URL"),
			 errhint(
				 "The URL of an incoming webhook is for stripe_sync.add_slack_webhook(destination, url).")));
}

void
slack_token_remark(const text *token)
{
	if (!begins_with(token, "xoxb-") && !begins_with(token, "xoxe.xoxb-") &&
		!begins_with(token, "file:"))
		ereport(
			NOTICE,
			(errhidestmt(true),
			 errmsg(
				 "the token does not begin with \"xoxb-\", as a bot's tokens do"),
			 errhint("Copy the \"Bot User OAuth Token\" from the Slack app's "
					 "page \"OAuth & Permissions\".")));
}

/* ---- files ---- */

/* Its file may come later: that is no error.  The caller may name it. */
void
secret_warn_file(const text *secret)
{
	SecretBuffer buffer;
	char *trouble = NULL;
	int length;

	if (!begins_with(secret, "file:"))
		return;
	length = secret_read(secret, &buffer, &trouble);
	secret_wipe(&buffer);
	if (length <= 0)
		ereport(
			WARNING,
			(errhidestmt(true), errmsg("the secret's file can't be used yet"),
			 errdetail_internal("%s", trouble ? trouble : ""),
			 errhint(
				 "The server's user must be able to read it. It is read anew each time it is used.")));
}
