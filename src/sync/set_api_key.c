/*
 * set_api_key.c
 *		set_api_key(): sets the API key with which an account is read.
 *
 * The first key schedules reconciliation.  Each key has the webhook endpoints at
 * Stripe read soon.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "endpoints/endpoints.h"
#include "engine/rights.h"
#include "inbox/inbox.h"
#include "inbox/secret.h"
#include "server/server.h"
#include "stripe/stripe.h"
#include "sync/internal.h"

static bool
key_has_prefix(const text *value, const char *prefix)
{
	return VARSIZE_ANY_EXHDR(value) > strlen(prefix) &&
		   memcmp(VARDATA_ANY(value), prefix, strlen(prefix)) == 0;
}

/* Publishable keys and signing secrets are often passed by mistake. */
static void
check_key_format(const text *key)
{
	if (secret_check_file(key))
		return;
	if (!secret_is_word(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)) ||
		!(key_has_prefix(key, "sk_") || key_has_prefix(key, "rk_")))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg("the key is not a secret or restricted key of Stripe's API"),
			 errhint(
				 "It begins with \"rk_\" (best: restricted, read-only) or \"sk_\". Copy it from Stripe, or give file:/absolute/path.")));
}

/* The key in a file is checked when it is used. */
static void
check_key_mode(const text *key, const char *account)
{
	char *error;

	if (secret_check_file(key))
		return;
	/* only the prefix of the key is copied */
	error = api_key_wrong_mode(
		pnstrdup(VARDATA_ANY(key), Min(VARSIZE_ANY_EXHDR(key), API_KEY_MODE)),
		account);
	if (error != NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg("%s", error),
			 errhint(
				 "Use the key of that mode; or set the endpoint's mode with add_endpoint(..., livemode => ...), or the key's account with set_api_key(..., account).")));
}

/*
 * set_api_key(key, account).  A NULL key removes the account's key.  Raises
 * 22023 if it is not an API key or is of the wrong mode.
 */
SECRET_FUNCTION(stripe_sync_set_api_key)
{
	text *key = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	text *account = PG_ARGISNULL(1) ? cstring_to_text("") : PG_GETARG_TEXT_PP(1);
	RoleScope scope;

	if (key != NULL)
		check_key_format(key);
	scope = role_enter_engine();
	account_check(text_to_cstring(account));
	if (key != NULL)
		check_key_mode(key, text_to_cstring(account));
	api_key_store(account, key);
	if (key != NULL)
	{
		reconcile_schedule_first();
		endpoint_watch_soon();
	}
	journal_note_text(key ? "key.set" : "key.removed", account, NULL);
	outbound_note_identity();
	worker_wake_at_commit();
	role_leave(&scope);
	if (key != NULL)
		secret_warn_file(key);
	PG_RETURN_VOID();
}
