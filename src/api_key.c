/*
 * api_key.c
 *		Stripe's keys, which the worker reads with.
 *
 * A connected account is read with a key of its own, if it has one, else with
 * the platform's and a Stripe-Account header.
 */
#include "stripe_api.h"

#include "access/genam.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include <openssl/crypto.h>

#include "secret.h"

#define MAX_ACCOUNT 255

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

/* It becomes a header of requests: a word, and nothing else. */
static bool
is_account(const char *text)
{
	size_t length = strlen(text);

	return length <= MAX_ACCOUNT && strncmp(text, "acct_", 5) == 0 &&
		   strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
						"0123456789_-") == length;
}

void
api_check_account(const char *account)
{
	if (account[0] != '\0' && !is_account(account))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
				 errmsg("an account is \"acct_\" and letters and digits"),
				 errhint("Leave it out for your own account.")));
}

/* The first run of reconcile comes one interval after the key. */
static void
schedule_reconcile(void)
{
	static EngineStatement schedule = {
		"INSERT INTO stripe_sync.reconcile_schedule (next_at)"
		" VALUES (pg_catalog.clock_timestamp() + $1 * interval '1 second')"
		" ON CONFLICT (one) DO NOTHING",
		1,
		{INT4OID}};
	Datum interval = Int32GetDatum(guc_reconcile_interval);

	SPI_connect();
	engine_run(&schedule, &interval, NULL, SPI_OK_INSERT);
	SPI_finish();
}

/* Who sets an account's key at the same time waits, and replaces it. */
static void
store_key(text *account, text *key)
{
	Datum values[] = {PointerGetDatum(account), PointerGetDatum(key)};
	bool nulls[] = {false, false};

	advisory_lock(ADVISORY_API_KEY,
				  hash_bytes((unsigned char *) VARDATA_ANY(account),
							 VARSIZE_ANY_EXHDR(account)));
	secret_delete("api_key", account);
	if (key == NULL)
		return;
	secret_insert("api_key", lengthof(values), values, nulls);
	schedule_reconcile();
	watch_soon();
}

/* set_api_key(key, account) */
SECRET_FUNCTION(stripe_sync_set_api_key)
{
	text *key = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	text *account = PG_ARGISNULL(1) ? cstring_to_text("") : PG_GETARG_TEXT_PP(1);
	RoleScope scope;

	if (key != NULL)
		check_key(key);
	api_check_account(text_to_cstring(account));
	scope = role_enter_engine();
	store_key(account, key);
	guard_note();
	slots_wake();
	role_leave(&scope);
	if (key != NULL)
		secret_warn_file(key);
	PG_RETURN_VOID();
}

static bool
read_key(const char *account, char *buffer, size_t size, char **trouble)
{
	SecretBuffer secret;
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan("api_key", "api_key_pkey", 1, account,
								   &relation, &snapshot);
	HeapTuple tuple = systable_getnext(scan);
	int length = 0;
	bool isnull;

	if (HeapTupleIsValid(tuple))
		length = secret_read(DatumGetTextPP(heap_getattr(
								 tuple, 2, RelationGetDescr(relation), &isnull)),
							 &secret, trouble);
	engine_scan_end(scan, relation, snapshot);
	if (length > 0 && (length >= size || !secret_is_word(secret.bytes, length)))
	{
		*trouble = "It has a space, or what isn't ASCII, in it.";
		length = 0;
	}
	if (length > 0)
	{
		memcpy(buffer, secret.bytes, length);
		buffer[length] = '\0';
	}
	secret_wipe(&secret);
	return length > 0;
}

/*
 * The key for an account, in the caller's buffer, which the caller wipes; false
 * with *trouble, a sentence.
 */
bool
api_key_load(const char *account, char *buffer, size_t size, char **trouble)
{
	*trouble = "There is no key of Stripe's: call stripe_sync.set_api_key().";
	return (account[0] != '\0' && read_key(account, buffer, size, trouble)) ||
		   read_key("", buffer, size, trouble);
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
	return strlen(key) > strlen("sk_") &&
		   strncmp(key + strlen("sk_"), "live_", strlen("live_")) == 0;
}

/* And one's own? */
bool
api_key_is_live(void)
{
	char buffer[MAX_SECRET + 1] = {0};
	char *trouble;
	bool live = api_key_load("", buffer, sizeof(buffer), &trouble) &&
				api_key_opens_live(buffer);

	OPENSSL_cleanse(buffer, sizeof(buffer));
	return live;
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
 * The accounts whose objects and events there are, one's own ('') first: those
 * with a key, and those that events have come from.  Of the inbox's index the
 * first entry of each account is looked at.
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
		" UNION SELECT account FROM stripe_sync.api_key ORDER BY 1"};
	MemoryContext context = CurrentMemoryContext;
	List *accounts = NIL;

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
	return accounts;
}
