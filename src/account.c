/*
 * account.c
 *		Whose an event, an object, a key is: accounts, and paths of them.
 *
 *	''					one's own, of an endpoint that says nothing else
 *	'acct_1'			a connected account of one's own, or an endpoint's
 *	'test'				an endpoint's: a word of the user's, never sent to Stripe
 *	'test/acct_1'		a connected account of that one
 *	'acct_1/acct_2'		a connected account of an account of one's organisation
 *
 * An account belongs to the longest beginning of it that an endpoint has as its
 * account, and to '' where there is none.
 */
#include "account.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "utils/builtins.h"
#include "utils/rel.h"

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

/* Stripe's accounts alone, one below the other: what may become a header. */
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

/* What an endpoint may have. */
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

void
account_check_endpoints(const char *account)
{
	if (!is_endpoints(account))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg(
				 "an endpoint's account is \"acct_...\", or a word of small letters, digits, \"_\" and \"-\""),
			 errhint(
				 "Leave it out for your own account; 'test' or 'sandbox_2' keeps another one apart from it.")));
}

/* What comes behind "own" in the path; NULL when it isn't one of its accounts. */
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

/* The account that an event names, of an endpoint with an account of its own. */
char *
account_join(const char *own, const char *named)
{
	if (named[0] == '\0')
		return pstrdup(own);
	if (account_below(named, own) != NULL)
		return pstrdup(named);
	return psprintf("%s/%s", own, named);
}

/* Without its last part; '' when that is all there is. */
char *
account_above(const char *path)
{
	const char *slash = strrchr(path, '/');

	return pnstrdup(path, slash != NULL ? slash - path : 0);
}

/* Stripe's own name of the account, "" when that isn't known. */
const char *
account_stripe_id(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *last = slash != NULL ? slash + 1 : path;

	return is_acct(last) ? last : "";
}

/* For people. */
const char *
account_words(const char *account)
{
	return account[0] == '\0' ? "your own account"
							  : psprintf("account \"%s\"", account);
}

/* ---- endpoints' accounts ---- */

/*
 * What an endpoint of the account takes; of endpoints of both modes, which only
 * an older version has let be made, live.  False when there is no endpoint.
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

/* The endpoint's account that this one belongs to. */
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

/* Is the mode of its events known, and which is it? */
bool
account_mode(const char *account, bool *live)
{
	bool has_mode;

	(void) account_has_endpoint(account_owner(account), &has_mode, live);
	return has_mode;
}

/* One that somebody names: '', Stripe's, or below an endpoint's. */
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
			 "an account is \"acct_\" and letters and digits, or an endpoint's"),
		 errhint(
			 "Leave it out for your own account. SELECT name, account FROM stripe_sync.endpoint shows those of endpoints; 'test/acct_...' is a connected account of 'test'.")));
}
