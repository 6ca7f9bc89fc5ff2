/*
 * secret_kind.c
 *		Checks that a secret is of the expected kind, by its prefix.
 *
 * Catches pasting mistakes when an endpoint or destination is set up.  No
 * message shows any part of the secret.
 */
#include "postgres.h"

#include "inbox/secret.h"

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

/* Why it can't be a signing secret, to follow "cannot"; NULL if it can be. */
static const char *
other_than_signing(const text *secret)
{
	static const char *const others[][2] = {
		{"sk_", "be a secret key for Stripe's API"},
		{"rk_", "be a restricted key for Stripe's API"},
		{"pk_", "be a publishable key for Stripe's API"},
		{"we_", "be the id of a webhook endpoint"},
		{"xox", "be a Slack token"},
		{"https:", "be a URL"},
		{"http:", "be a URL"},
	};

	for (int i = 0; i < lengthof(others); i++)
		if (begins_with(secret, others[i][0]))
			return others[i][1];
	if (has_white_space(secret))
		return "contain white space or a newline";
	if (begins_with(secret, SIGNING) &&
		(VARSIZE_ANY_EXHDR(secret) == strlen(SIGNING) || holds(secret, "...") ||
		 holds(secret, "\xe2\x80\xa6")))
		return "be abbreviated";
	return NULL;
}

/* Raises 22023 for what can't be an endpoint's secret. */
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
				 "Copy the \"Signing secret\" (whsec_ and what follows) from the webhook endpoint's page in Stripe's dashboard, or from the output of stripe listen; or use file:/absolute/path.")));
}

/*
 * A NOTICE for a new secret without Stripe's prefix.  It is no error: a gateway
 * in front of the database may sign with a secret of its own.
 */
void
signing_secret_remark(const text *secret)
{
	if (!begins_with(secret, SIGNING) && !begins_with(secret, "file:"))
		ereport(NOTICE,
				(errhidestmt(true),
				 errmsg("the signing secret does not begin with \"" SIGNING
						"\", as Stripe's do"),
				 errhint("This is correct only if something other than Stripe "
						 "signs the deliveries.")));
}

/* ---- signing secrets of Slack's apps ---- */

#define SLACK_SECRET_DIGITS 32

/* Has it 32 hex digits in lower case, as Slack's have? */
bool
slack_signing_secret_form(const text *secret)
{
	for (int i = 0; i < VARSIZE_ANY_EXHDR(secret); i++)
		if (strchr("0123456789abcdef", VARDATA_ANY(secret)[i]) == NULL)
			return false;
	return VARSIZE_ANY_EXHDR(secret) == SLACK_SECRET_DIGITS;
}

/* Why it can't be one, to follow "cannot"; NULL if it can be. */
static const char *
other_than_slack_signing(const text *secret)
{
	static const char *const others[][2] = {
		{SIGNING, "be a signing secret of Stripe's"},
		{"sk_", "be a secret key for Stripe's API"},
		{"rk_", "be a restricted key for Stripe's API"},
		{"xox", "be a token"},
		{"xapp-", "be a token"},
		{"https:", "be a URL"},
		{"http:", "be a URL"},
	};

	if (VARSIZE_ANY_EXHDR(secret) == 0 || VARSIZE_ANY_EXHDR(secret) > MAX_SECRET)
		return "be empty, or longer than 1024 bytes";
	for (int i = 0; i < lengthof(others); i++)
		if (begins_with(secret, others[i][0]))
			return others[i][1];
	return has_white_space(secret) ? "contain white space or a newline" : NULL;
}

/* Raises 22023 for what can't be the signing secret of a Slack app. */
void
slack_signing_secret_check(const text *secret)
{
	const char *other = secret_check_file(secret)
							? NULL
							: other_than_slack_signing(secret);

	if (other != NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg("the signing secret of a Slack app cannot %s", other),
			 errhint(
				 "Copy the \"Signing Secret\" from the Slack app's page \"Basic Information\", or use file:/absolute/path.")));
}

/* A NOTICE for a new one of another form: the secret may be wrong. */
void
slack_signing_secret_remark(const text *secret)
{
	if (!slack_signing_secret_form(secret) && !begins_with(secret, "file:"))
		ereport(
			NOTICE,
			(errhidestmt(true),
			 errmsg(
				 "the signing secret does not have 32 hexadecimal digits, as Slack's do"),
			 errhint("Copy the \"Signing Secret\" from the Slack app's page "
					 "\"Basic Information\".")));
}

/* ---- Slack's tokens ---- */

/* Raises 22023 for a URL. */
void
slack_token_check(const text *token)
{
	if (begins_with(token, "https:") || begins_with(token, "http:"))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg("a bot token cannot be a URL"),
			 errhint(
				 "The URL of an incoming webhook is for stripe_sync.add_slack_webhook(destination, url).")));
}

/* A NOTICE for a token without the prefix of bot tokens. */
void
slack_token_remark(const text *token)
{
	if (!begins_with(token, "xoxb-") && !begins_with(token, "xoxe.xoxb-") &&
		!begins_with(token, "file:"))
		ereport(
			NOTICE,
			(errhidestmt(true),
			 errmsg("the token does not begin with \"xoxb-\", as bot tokens do"),
			 errhint("Copy the \"Bot User OAuth Token\" from the Slack app's "
					 "page \"OAuth & Permissions\".")));
}

/* ---- files ---- */

/*
 * A WARNING if the secret's file can't be read yet: it may be created later.
 * The caller has checked the right to name it, with secret_check_file().
 */
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
			(errhidestmt(true), errmsg("could not use the secret's file yet"),
			 errdetail_internal("%s", trouble ? trouble : ""),
			 errhint(
				 "The server's operating system user must be able to read it. It is read at every use.")));
}
