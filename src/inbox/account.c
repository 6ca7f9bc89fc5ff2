/*
 * account.c
 *		The account that an event, an object or a key belongs to.
 *
 *	''					your own account, if an endpoint names no other
 *	'acct_1'			a connected account of yours, or an endpoint's account
 *	'test'				an endpoint's account: a name that the user has chosen,
 *						never sent to Stripe
 *	'test/acct_1'		a connected account of that one
 *	'acct_1/acct_2'		a connected account of an account of your organisation
 *
 * A path is owned by the endpoint whose account is its longest prefix (of whole
 * parts), and by '' if there is none.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "engine/engine.h"
#include "inbox/inbox.h"
#include "inbox/internal.h"

#define MAX_ACCOUNT 255
#define ACCT		"acct_"
#define LETTERS                                                                \
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

/* ---- paths ---- */

static bool
is_acct(const char *text)
{
	return strncmp(text, ACCT, strlen(ACCT)) == 0 && strlen(text) > strlen(ACCT);
}

/*
 * Does the path consist of Stripe's account ids only?  Then it may be sent in a
 * Stripe-Account or Stripe-Context header.
 */
bool
account_is_stripes(const char *path)
{
	size_t length;

	if (strlen(path) > MAX_ACCOUNT)
		return false;
	for (;; path += length + 1)
	{
		length = strspn(path, LETTERS);
		if (!is_acct(path) || length <= strlen(ACCT))
			return false;
		if (path[length] == '\0')
			return true;
		if (path[length] != '/')
			return false;
	}
}

/* Is it valid as the account of an endpoint? */
static bool
is_endpoints(const char *account)
{
	return account[0] == '\0' ||
		   (strchr(account, '/') == NULL && account_is_stripes(account)) ||
		   (strlen(account) <= MAX_ACCOUNT &&
			strncmp(account, ACCT, strlen(ACCT)) != 0 &&
			strspn(account, "abcdefghijklmnopqrstuvwxyz0123456789_-") ==
				strlen(account));
}

/* Raises 22023 unless it is valid as the account of an endpoint. */
void
account_check_endpoints(const char *account)
{
	if (!is_endpoints(account))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg(
				 "an endpoint's account must be \"acct_...\", or a word of lower-case letters, digits, \"_\" and \"-\""),
			 errhint(
				 "Omit it for your own account. Use a word like 'test' or 'sandbox_2' to keep another account separate.")));
}

/*
 * The rest of "path" after "own", "" if they are equal; NULL if the path is not
 * at or below "own".
 */
const char *
account_below(const char *path, const char *own)
{
	size_t length = strlen(own);

	if (length == 0)
		return path;
	if (strncmp(path, own, length) != 0)
		return NULL;
	if (path[length] == '\0')
		return path + length;
	return path[length] == '/' ? path + length + 1 : NULL;
}

/*
 * The account of an event: "named" by its payload, received by an endpoint
 * whose account is "own".
 */
char *
account_join(const char *own, const char *named)
{
	if (named[0] == '\0')
		return pstrdup(own);
	if (account_below(named, own) != NULL)
		return pstrdup(named);
	return psprintf("%s/%s", own, named);
}

/* The path without its last part; '' if it has only one. */
char *
account_above(const char *path)
{
	const char *slash = strrchr(path, '/');

	return pnstrdup(path, slash != NULL ? slash - path : 0);
}

/* Stripe's id of the account, "" if it is not known. */
const char *
account_stripe_id(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *last = slash != NULL ? slash + 1 : path;

	return is_acct(last) ? last : "";
}

/* The account as messages name it. */
const char *
account_words(const char *account)
{
	return account[0] == '\0' ? "your own account"
							  : psprintf("account \"%s\"", account);
}

/* ---- endpoints' accounts ---- */

/*
 * The mode of the account's endpoints; *has_mode is false if none has one.  If
 * there are endpoints of both modes, which only an older version allowed, it is
 * live.  Returns false if the account has no endpoint.
 */
bool
account_has_endpoint(const char *account, bool *has_mode, bool *live)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan("endpoint", "endpoint_account_idx",
								   ENDPOINT_ACCOUNT, account, &relation,
								   &snapshot);
	HeapTuple tuple;
	bool found = false;

	*has_mode = *live = false;
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool isnull;
		Datum mode = heap_getattr(tuple, ENDPOINT_LIVEMODE,
								  RelationGetDescr(relation), &isnull);

		found = true;
		*has_mode = *has_mode || !isnull;
		*live = *live || (!isnull && DatumGetBool(mode));
	}
	engine_scan_end(scan, relation, snapshot);
	return found;
}

/* The endpoint's account that owns this path, '' if none does. */
char *
account_owner(const char *account)
{
	char *owner = pstrdup(account);
	bool has_mode;
	bool live;

	while (owner[0] != '\0' && !account_has_endpoint(owner, &has_mode, &live))
		owner = account_above(owner);
	return owner;
}

/* Sets *live to the mode of the account's events.  Returns false if unknown. */
bool
account_mode(const char *account, bool *live)
{
	bool has_mode;

	(void) account_has_endpoint(account_owner(account), &has_mode, live);
	return has_mode;
}

/*
 * Check an account given as an argument: '', Stripe's ids, or an endpoint's
 * account and what is below it.  Raises 22023 for anything else.
 */
void
account_check(const char *account)
{
	const char *below;

	if (account[0] == '\0' || account_is_stripes(account))
		return;
	if (strlen(account) <= MAX_ACCOUNT)
	{
		char *owner = account_owner(account);

		below = account_below(account, owner);
		if (owner[0] != '\0' && (below[0] == '\0' || account_is_stripes(below)))
			return;
	}
	ereport(
		ERROR,
		(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
		 errmsg(
			 "an account must be \"acct_\" and letters and digits, or the account of an endpoint"),
		 errhint(
			 "Omit it for your own account. SELECT name, account FROM stripe_sync.endpoint shows those of endpoints; 'test/acct_...' is a connected account of 'test'.")));
}
