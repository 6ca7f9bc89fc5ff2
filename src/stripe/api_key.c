/*
 * api_key.c
 *		The API keys with which the worker reads from Stripe.
 *
 * An endpoint's account is read with its own key or not at all.  A connected
 * account is read with its own key, if one is set, else with that of the
 * account above it and a Stripe-Account or Stripe-Context header.
 *
 * stripe_sync.api_key is read by index scans and written by secret_row.c, never
 * by a statement, so that no key appears in a log, in pg_stat_statements or in
 * logical decoding.  Keys in memory are wiped after use.
 */
#include "postgres.h"

#include "access/genam.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include <openssl/crypto.h>

#include "engine/engine.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "inbox/inbox.h"
#include "inbox/secret.h"
#include "stripe/stripe.h"

/* ---- the mode of a key ---- */

/*
 * Does the key's prefix tell its mode?  sk_live_..., rk_test_..., sk_org_live_...
 * Sets *live to the mode.
 */
static bool
key_mode(const char *key, bool *live)
{
	const char *mode = key;

	*live = false;
	if (strlen(key) <= strlen("sk_"))
		return false;
	mode += strlen("sk_");
	if (strncmp(mode, "org_", strlen("org_")) == 0)
		mode += strlen("org_");
	*live = strncmp(mode, "live_", strlen("live_")) == 0;
	return *live || strncmp(mode, "test_", strlen("test_")) == 0;
}

/*
 * An error text if the key's mode is not the one that the account's endpoint
 * accepts, else NULL.  Only the first API_KEY_MODE bytes of the key are needed.
 */
char *
api_key_wrong_mode(const char *key, const char *account)
{
	bool key_live;
	bool live;

	if (!key_mode(key, &key_live) || !account_mode(account, &live) ||
		key_live == live)
		return NULL;
	return psprintf(
		"the key is a %s key, but the endpoint of %s takes %s events",
		key_live ? "live" : "test", account_words(account_owner(account)),
		live ? "live" : "test");
}

/* ---- in stripe_sync.api_key ---- */

/*
 * Set the account's key; NULL removes it.  An advisory lock, held until the end
 * of the transaction, makes a session that sets the same account's key wait.
 */
void
api_key_store(text *account, text *key)
{
	Datum values[] = {PointerGetDatum(account), PointerGetDatum(key)};
	bool nulls[] = {false, false};

	advisory_lock(ADVISORY_API_KEY,
				  hash_bytes((unsigned char *) VARDATA_ANY(account),
							 VARSIZE_ANY_EXHDR(account)));
	secret_delete("api_key", account);
	if (key != NULL)
		secret_insert("api_key", lengthof(values), values, nulls);
}

/*
 * Make the key of account "old" that of "new".  Returns false if there is none.
 */
bool
api_key_move(const char *old, const char *new)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan("api_key", "api_key_pkey", 1, old, &relation,
								   &snapshot);
	HeapTuple tuple = systable_getnext(scan);
	text *key = NULL;
	bool isnull;

	if (HeapTupleIsValid(tuple))
		key = DatumGetTextPCopy(
			heap_getattr(tuple, 2, RelationGetDescr(relation), &isnull));
	engine_scan_end(scan, relation, snapshot);
	if (key == NULL)
		return false;
	secret_delete("api_key", cstring_to_text(old));
	secret_insert("api_key", 2,
				  (Datum[]){CStringGetTextDatum(new), PointerGetDatum(key)},
				  (bool[]){false, false});
	OPENSSL_cleanse(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key));
	return true;
}

/* ---- the key of an account ---- */

/*
 * The account's own key.  Returns false, with *error a sentence, if it can't be
 * used.
 */
static bool
read_key(const char *account, char *buffer, size_t size, char **error)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan("api_key", "api_key_pkey", 1, account,
								   &relation, &snapshot);
	HeapTuple tuple = systable_getnext(scan);
	bool usable = false;
	bool isnull;

	if (HeapTupleIsValid(tuple))
		usable = secret_read_word(
			DatumGetTextPP(
				heap_getattr(tuple, 2, RelationGetDescr(relation), &isnull)),
			buffer, size, error);
	engine_scan_end(scan, relation, snapshot);
	return usable;
}

static bool
account_has_key(const char *account)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan("api_key", "api_key_pkey", 1, account,
								   &relation, &snapshot);
	bool found = HeapTupleIsValid(systable_getnext(scan));

	engine_scan_end(scan, relation, snapshot);
	return found;
}

/* The account whose key reads this one; NULL if there is no key for it. */
static char *
key_holder(const char *account)
{
	char *owner = account_owner(account);
	char *holder = pstrdup(account);

	while (!account_has_key(holder))
	{
		if (strcmp(holder, owner) == 0)
			return NULL;
		holder = account_above(holder);
	}
	return holder;
}

/* Is there a key with which the account can be read? */
static bool
api_key_reaches(const char *account)
{
	return key_holder(account) != NULL;
}

/* Does the account have a key of its own? */
bool
api_key_is_own(const char *account)
{
	return account_has_key(account);
}

/* Do the account's events name it as "context"?  One event is enough to tell. */
static bool
is_named_by_context(const char *account)
{
	static EngineStatement select = {
		"SELECT e.id FROM stripe_sync.event e WHERE e.account = $1"
		" AND e.account <> '' LIMIT 1"};
	char *id = statement_text(&select, ARGS(arg_text(account)));
	Event event;

	return id != NULL && event_load(id, account, &event) && event.by_context;
}

/*
 * The header that selects the account.  With an organization's key Stripe
 * accepts only Stripe-Context.
 */
static void
set_target(const char *account, const char *holder, const char *key,
		   ApiTarget *target)
{
	const char *below = account_below(account, holder);

	strlcpy(target->below, below, sizeof(target->below));
	target->by_context = below[0] != '\0' &&
						 (strchr(below, '/') != NULL ||
						  strncmp(key + strlen("sk_"), "org_", 4) == 0 ||
						  is_named_by_context(account));
}

static char *
hint_to_set_key(const char *account)
{
	char *owner = account_owner(account);

	if (owner[0] == '\0')
		return "There is no key for Stripe's API: call stripe_sync.set_api_key().";
	return psprintf(
		"There is no key for Stripe's API for account \"%s\": call stripe_sync.set_api_key('rk_...', %s).",
		owner, quote_literal_cstr(owner));
}

/*
 * Load the key that reads an account into the caller's buffer, which the caller
 * wipes, and the header that goes with it into *target.  Returns false, with
 * *error a sentence, if there is no key or it can't be used.
 */
bool
api_key_load(const char *account, char *buffer, size_t size, ApiTarget *target,
			 char **error)
{
	char *holder = key_holder(account);
	char *wrong;

	*target = (ApiTarget){0};
	*error = hint_to_set_key(account);
	if (holder == NULL || !read_key(holder, buffer, size, error))
		return false;
	wrong = api_key_wrong_mode(buffer, account);
	if (wrong != NULL)
	{
		*error = psprintf("Nothing is read: %s.", wrong);
		return false;
	}
	set_target(account, holder, buffer, target);
	return true;
}

/* Is any key set?  Whether it is valid is not known before a request. */
bool
api_key_is_set(void)
{
	static EngineStatement select = {"SELECT FROM stripe_sync.api_key LIMIT 1"};

	return statement_exec(&select, NO_ARGS) > 0;
}

/* Is it a key of live mode: sk_live_... or rk_live_...? */
bool
api_key_opens_live(const char *key)
{
	bool live;

	return key_mode(key, &live) && live;
}

/* Is the key of the account '' one of live mode? */
bool
api_key_is_live(void)
{
	char buffer[MAX_SECRET + 1] = {0};
	ApiTarget ignored;
	char *error;
	bool live = api_key_load("", buffer, sizeof(buffer), &ignored, &error) &&
				api_key_opens_live(buffer);

	OPENSSL_cleanse(buffer, sizeof(buffer));
	return live;
}

/* Raise 55000 if there is no key that reads the account. */
void
api_key_require_for(const char *account)
{
	if (!api_key_reaches(account))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there is no key for Stripe's API to read %s with",
						account_words(account)),
				 errhint("%s", hint_to_set_key(account))));
}

/* Raise 55000 if there is no key at all. */
void
api_key_require(void)
{
	if (!api_key_is_set())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there is no key for Stripe's API"),
				 errhint("SELECT stripe_sync.set_api_key('rk_live_...')")));
}

/*
 * The accounts that can be read, '' first: accounts of endpoints, accounts with
 * a key, and accounts that events have come from, as far as there is a key.
 * The recursive query reads one index entry for each account of the inbox.
 */
List *
api_accounts(void)
{
	static EngineStatement select = {
		"WITH RECURSIVE heard (account) AS ("
		" (SELECT e.account FROM stripe_sync.event e WHERE e.account <> ''"
		"   ORDER BY e.account LIMIT 1)"
		" UNION ALL SELECT (SELECT e.account FROM stripe_sync.event e"
		"   WHERE e.account > h.account AND e.account <> ''"
		"   ORDER BY e.account LIMIT 1)"
		"  FROM heard h WHERE h.account IS NOT NULL)"
		" SELECT '' UNION SELECT account FROM heard WHERE account IS NOT NULL"
		" UNION SELECT account FROM stripe_sync.endpoint"
		" UNION SELECT account FROM stripe_sync.api_key ORDER BY 1"};
	List *readable = NIL;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	while (rows_next(&rows))
	{
		char *account = rows_text(&rows);

		if (api_key_reaches(account))
			readable = lappend(readable, account);
	}
	rows_close(&rows);
	return readable;
}
