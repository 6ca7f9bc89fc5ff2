/*
 * api_key.c
 *		Stripe's keys, which the worker reads with.
 *
 * An endpoint's account is read with its own key or not at all.  A connected
 * account is read with a key of its own, if it has one, else with that of the
 * account above it, and a Stripe-Account or Stripe-Context header.
 */
#include "stripe_api.h"

#include "access/genam.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include <openssl/crypto.h>

#include "account.h"
#include "secret.h"

/* ---- the mode of a key ---- */

/* Is it plain to see, and which is it?  sk_live_..., rk_test_..., sk_org_live_... */
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
 * Why a key must not read the account's objects, or NULL.  Of the key its first
 * API_KEY_MODE bytes are enough.
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
		"the key is a %s key, and the endpoint of %s takes %s events",
		key_live ? "live" : "test", account_words(account_owner(account)),
		live ? "live" : "test");
}

/* ---- as it is stored ---- */

/*
 * NULL: the account has none any more.  Who sets an account's key at the same
 * time waits, and replaces it.
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

/* False when the account has none. */
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

/* False, with *trouble, when it can't be used; *found says whether there is one. */
static bool
read_key(const char *account, char *buffer, size_t size, bool *found,
		 char **trouble)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan("api_key", "api_key_pkey", 1, account,
								   &relation, &snapshot);
	HeapTuple tuple = systable_getnext(scan);
	bool usable = false;
	bool isnull;

	*found = HeapTupleIsValid(tuple);
	if (*found)
		usable = secret_read_word(
			DatumGetTextPP(
				heap_getattr(tuple, 2, RelationGetDescr(relation), &isnull)),
			buffer, size, trouble);
	engine_scan_end(scan, relation, snapshot);
	return usable;
}

static bool
has_key(const char *account)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan("api_key", "api_key_pkey", 1, account,
								   &relation, &snapshot);
	bool found = HeapTupleIsValid(systable_getnext(scan));

	engine_scan_end(scan, relation, snapshot);
	return found;
}

/* The account whose key reads this one; NULL when there is no key for it. */
static char *
key_holder(const char *account)
{
	char *owner = account_owner(account);
	char *holder = pstrdup(account);

	while (!has_key(holder))
	{
		if (strcmp(holder, owner) == 0)
			return NULL;
		holder = account_above(holder);
	}
	return holder;
}

bool
api_key_reaches(const char *account)
{
	return key_holder(account) != NULL;
}

bool
api_key_is_own(const char *account)
{
	return has_key(account);
}

/* Do its events name the account as their context?  One of them tells. */
static bool
is_named_by_context(const char *account)
{
	static EngineStatement select = {
		"SELECT e.id FROM stripe_sync.event e WHERE e.account = $1"
		" AND e.account <> '' LIMIT 1",
		1,
		{TEXTOID}};
	Datum value = CStringGetTextDatum(account);
	MemoryContext context = CurrentMemoryContext;
	char *id = NULL;
	Event event;

	SPI_connect();
	engine_run(&select, &value, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
		id = MemoryContextStrdup(
			context,
			SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	SPI_finish();
	return id != NULL && event_load(id, account, &event) && event.by_context;
}

/* What the header says; with an organisation's key it is always a context. */
static void
aim(const char *account, const char *holder, const char *key, ApiTarget *target)
{
	const char *below = account_below(account, holder);

	strlcpy(target->below, below, sizeof(target->below));
	target->by_context = below[0] != '\0' &&
						 (strchr(below, '/') != NULL ||
						  strncmp(key + strlen("sk_"), "org_", 4) == 0 ||
						  is_named_by_context(account));
}

static char *
no_key(const char *account)
{
	char *owner = account_owner(account);

	if (owner[0] == '\0')
		return "There is no key of Stripe's: call stripe_sync.set_api_key().";
	return psprintf(
		"There is no key of Stripe's for account \"%s\": call stripe_sync.set_api_key('rk_...', %s).",
		owner, quote_literal_cstr(owner));
}

/*
 * The key for an account, in the caller's buffer, which the caller wipes, and
 * what is to be said with it; false with *trouble, a sentence.
 */
bool
api_key_load(const char *account, char *buffer, size_t size, ApiTarget *target,
			 char **trouble)
{
	char *holder = key_holder(account);
	char *wrong;
	bool found;

	*target = (ApiTarget){0};
	*trouble = no_key(account);
	if (holder == NULL || !read_key(holder, buffer, size, &found, trouble))
		return false;
	wrong = api_key_wrong_mode(buffer, account);
	if (wrong != NULL)
	{
		*trouble = psprintf("Nothing is read: %s.", wrong);
		return false;
	}
	aim(account, holder, buffer, target);
	return true;
}

/* Is there any?  Whether it is good, Stripe says. */
bool
api_key_is_set(void)
{
	static EngineStatement select = {"SELECT 1 FROM stripe_sync.api_key LIMIT 1"};
	bool is;

	SPI_connect();
	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	is = SPI_processed > 0;
	SPI_finish();
	return is;
}

/* Of which mode is a key, sk_live_... or rk_live_...? */
bool
api_key_opens_live(const char *key)
{
	bool live;

	return key_mode(key, &live) && live;
}

/* And one's own? */
bool
api_key_is_live(void)
{
	char buffer[MAX_SECRET + 1] = {0};
	ApiTarget ignored;
	char *trouble;
	bool live = api_key_load("", buffer, sizeof(buffer), &ignored, &trouble) &&
				api_key_opens_live(buffer);

	OPENSSL_cleanse(buffer, sizeof(buffer));
	return live;
}

/* For an account that somebody names. */
void
refuse_account_without_key(const char *account)
{
	if (!api_key_reaches(account))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("there is no key of Stripe's to read %s with",
							   account_words(account)),
						errhint("%s", no_key(account))));
}

void
refuse_without_key(void)
{
	if (!api_key_is_set())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there is no key of Stripe's to read with"),
				 errhint("SELECT stripe_sync.set_api_key('rk_live_...')")));
}

/*
 * The accounts whose objects and events there are, one's own ('') first, as far
 * as there is a key to read them with: those of endpoints, those with a key, and
 * those that events have come from.  Of the inbox's index the first entry of
 * each account is looked at.
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
	MemoryContext context = CurrentMemoryContext;
	List *accounts = NIL;
	List *readable = NIL;
	ListCell *cell;

	SPI_connect();
	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char *account = SPI_getvalue(SPI_tuptable->vals[i],
									 SPI_tuptable->tupdesc, 1);
		MemoryContext old = MemoryContextSwitchTo(context);

		accounts = lappend(accounts, pstrdup(account));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	foreach(cell, accounts)
		if (api_key_reaches(lfirst(cell)))
			readable = lappend(readable, lfirst(cell));
	return readable;
}
