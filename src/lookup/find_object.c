/*
 * find_object.c
 *		References to objects: ids that the inbox or the mirror knows, and e-mail
 *		addresses of customers.
 */
#include "postgres.h"

#include "engine/statement.h"
#include "types/object.h"
#include "types/types.h"
#include "lookup/internal.h"

#define MOST_ACCOUNTS  20
#define MOST_CUSTOMERS 10 /* of one e-mail address */

static Referent *
make_object(const char *type, const char *id, const char *account)
{
	Referent *referent = palloc0(sizeof(Referent));

	referent->kind = REFERENT_OBJECT;
	referent->object_type = pstrdup(type);
	referent->id = pstrdup(id);
	referent->account = pstrdup(account);
	return referent;
}

/* Is the object there already? */
static bool
has_object(const Reference *reference, const Referent *object)
{
	ListCell *cell;

	foreach(cell, reference->referents)
	{
		Referent *other = lfirst(cell);

		if (strcmp(other->object_type, object->object_type) == 0 &&
			strcmp(other->id, object->id) == 0 &&
			strcmp(other->account, object->account) == 0)
			return true;
	}
	return false;
}

static void
add_object(Reference *reference, Referent *object)
{
	if (!has_object(reference, object))
		reference->referents = lappend(reference->referents, object);
}

/* Objects of that id that have events */
static void
add_from_inbox(Reference *reference)
{
	static EngineStatement select = {
		"SELECT DISTINCT object_type, account FROM stripe_sync.event"
		" WHERE object_id = $1 AND account = COALESCE($2, account)"
		" AND object_type IS NOT NULL ORDER BY 1, 2"};
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_text(reference->ref), arg_text(reference->account)));
	while (rows_next(&rows))
	{
		char *name = rows_text(&rows);
		char *account = rows_text(&rows);
		const CatalogType *type = catalog_find(name, strlen(name));

		add_object(reference,
				   make_object(name, reference->ref,
							   type ? object_account(type, account) : account));
	}
	rows_close(&rows);
}

/* Rows of that id in one table.  Accounts of their own are in account ''. */
static void
add_from_table(Reference *reference, const CatalogType *type)
{
	ListCell *cell;

	if (type->table == NULL || type->key[0] == '\0')
		return;
	foreach(cell,
			visible_rows_find(type, type->key, reference->ref, MOST_ACCOUNTS))
	{
		VisibleRow *row = lfirst(cell);

		if (reference->account == NULL ||
			strcmp(reference->account, row->account) == 0)
			add_object(reference,
					   make_object(type->object, row->id, row->account));
	}
}

static bool
has_prefix(const CatalogType *type, const char *id)
{
	return type->id_prefix != NULL &&
		   strncmp(id, type->id_prefix, strlen(type->id_prefix)) == 0;
}

/* An object that has no events may be in any table. */
static void
add_from_mirror(Reference *reference)
{
	for (int i = 0; i < catalog_ntypes; i++)
		if (has_prefix(&catalog_types[i], reference->ref))
			add_from_table(reference, &catalog_types[i]);
	for (int i = 0; i < catalog_ntypes && reference->referents == NIL; i++)
		if (!has_prefix(&catalog_types[i], reference->ref))
			add_from_table(reference, &catalog_types[i]);
}

/*
 * An object that is in no table, but is named in columns of others: a customer
 * that is older than the endpoint, for example.
 */
static void
add_named(Reference *reference)
{
	for (int i = 0; i < catalog_ntypes; i++)
	{
		const CatalogType *type = &catalog_types[i];
		ListCell *cell;

		if (!has_prefix(type, reference->ref) || !link_is_name(type->object) ||
			visible_hides(type))
			continue;
		foreach(cell, referrers_accounts(type, reference->ref, MOST_ACCOUNTS))
			if (reference->account == NULL ||
				strcmp(reference->account, lfirst(cell)) == 0)
				add_object(reference, make_object(type->object, reference->ref,
												  lfirst(cell)));
	}
}

static const CatalogType *
type_of(const Referent *object)
{
	return catalog_find(object->object_type, strlen(object->object_type));
}

/*
 * Types that belong to no customer and have the same id are one: a plan is also
 * a price.
 */
static void
join_shared(Reference *reference)
{
	Referent *shared = NULL;
	List *kept = NIL;
	ListCell *cell;

	foreach(cell, reference->referents)
	{
		Referent *object = lfirst(cell);

		if (link_has_any(type_of(object)))
			kept = lappend(kept, object);
		else if (shared == NULL || strcmp(shared->account, object->account) != 0)
		{
			shared = object;
			kept = lappend(kept, object);
		}
		else
			shared->object_type = NULL;
	}
	reference->referents = kept;
}

bool
find_object(Reference *reference)
{
	add_from_inbox(reference);
	add_from_mirror(reference);
	if (reference->referents == NIL)
		add_named(reference);
	join_shared(reference);
	return reference->referents != NIL;
}

/* Customers with this e-mail address; each has a story. */
bool
find_email(Reference *reference, bool *looked)
{
	List *rows = visible_rows_of_email(reference->ref, MOST_CUSTOMERS, looked);
	ListCell *cell;

	foreach(cell, rows)
	{
		VisibleRow *row = lfirst(cell);

		if (reference->account == NULL ||
			strcmp(reference->account, row->account) == 0)
			add_object(reference,
					   make_object("customer", row->id, row->account));
	}
	if (list_length(reference->referents) > MOST_CUSTOMERS)
	{
		reference->referents = list_truncate(reference->referents,
											 MOST_CUSTOMERS);
		reference->others = psprintf(
			"Only the %d customers with this address that changed last are shown.",
			MOST_CUSTOMERS);
	}
	reference->several = true;
	return reference->referents != NIL;
}
