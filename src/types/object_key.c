/*
 * object_key.c
 *		What identifies a Stripe object: the value of its type's key, and the
 *		account that it belongs to.
 */
#include "postgres.h"

#include "base/base.h"
#include "types/object.h"
#include "types/types.h"

#define ACCT "acct_"

/*
 * The value of a type's key in an object: NULL when it has none.  Types with
 * one object per account have the key "".
 */
char *
object_key(const CatalogType *type, JsonbContainer *object)
{
	JsonbValue value;

	if (type->key == NULL)
		return NULL;
	if (type->key[0] == '\0')
		return pstrdup("");
	if (!json_get(object, type->key, &value))
		return NULL;
	if (json_is_object(&value))
		return json_get_string(value.val.binary.data, "id");
	if (value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/*
 * The account under which objects of type "account" are stored, for an account
 * path of an event.  They belong to no account, whichever endpoint delivers
 * them: only an endpoint's own word at the start of the path is kept, because
 * it separates test mode from live mode.
 */
char *
account_of_accounts(const char *path)
{
	if (strncmp(path, ACCT, strlen(ACCT)) == 0)
		return pstrdup("");
	return pnstrdup(path, strcspn(path, "/"));
}

/* The account of a row of this type that came in an event of "account". */
const char *
object_account(const CatalogType *type, const char *account)
{
	return strcmp(type->object, "account") == 0 ? account_of_accounts(account)
												: account;
}
