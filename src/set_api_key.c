/*
 * set_api_key.c
 *		Sets the key that an account is read with.
 *
 * With the first key reconciliation is scheduled, and with each one the webhook
 * endpoints at Stripe are read soon.
 */
#include "sync.h"

#include "utils/builtins.h"

#include "account.h"
#include "secret.h"

static bool
has_prefix(const text *value, const char *prefix)
{
	return VARSIZE_ANY_EXHDR(value) > strlen(prefix) &&
		   memcmp(VARDATA_ANY(value), prefix, strlen(prefix)) == 0;
}

/* A publishable key or a signing secret is a common mistake. */
static void
check_key(const text *key)
{
	if (secret_check_file(key))
		return;
	if (!secret_is_word(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)) ||
		!(has_prefix(key, "sk_") || has_prefix(key, "rk_")))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg("the key cannot be a secret or restricted key of Stripe's"),
			 errhint(
				 "It begins with \"rk_\" (best: restricted, read-only) or \"sk_\". Copy it from Stripe, or give file:/absolute/path.")));
}

/* That of a file is looked at when it is used. */
static void
check_mode(const text *key, const char *account)
{
	char *trouble;

	if (secret_check_file(key))
		return;
	/* no more of it than says so */
	trouble = api_key_wrong_mode(
		pnstrdup(VARDATA_ANY(key), Min(VARSIZE_ANY_EXHDR(key), API_KEY_MODE)),
		account);
	if (trouble != NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg("%s", trouble),
			 errhint(
				 "Give the key of that mode; or say with add_endpoint(..., livemode => ...) what the endpoint takes, or with set_api_key(..., account) whose key it is.")));
}

/* set_api_key(key, account) */
SECRET_FUNCTION(stripe_sync_set_api_key)
{
	text *key = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	text *account = PG_ARGISNULL(1) ? cstring_to_text("") : PG_GETARG_TEXT_PP(1);
	RoleScope scope;

	if (key != NULL)
		check_key(key);
	scope = role_enter_engine();
	account_check(text_to_cstring(account));
	if (key != NULL)
		check_mode(key, text_to_cstring(account));
	api_key_store(account, key);
	if (key != NULL)
	{
		reconcile_begin();
		watch_soon();
	}
	journal_note_text(key ? "key.set" : "key.removed", account, NULL);
	outbound_note_identity();
	worker_wake_at_commit();
	role_leave(&scope);
	if (key != NULL)
		secret_warn_file(key);
	PG_RETURN_VOID();
}
