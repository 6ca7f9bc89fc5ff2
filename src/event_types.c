/*
 * event_types.c
 *		Which types of events an endpoint at Stripe should be subscribed to.
 *
 * Two questions.  What to subscribe to (generous: every type that there is a
 * table for, that a handler's or an alert's pattern fits); and what is missing
 * if it isn't subscribed to (strict: types whose table has had something in it,
 * and those that a handler or an alert names).
 */
#include "sync.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

typedef struct Wish
{
	const char *type; /* of an event */
	bool has_table;
	bool wanted;
} Wish;

typedef struct WishList
{
	Wish *wishes; /* by type */
	int count;
} WishList;

/* Stripe waits for what an endpoint that gets it says: only for who asks. */
static bool
is_for_who_asks(const char *type)
{
	return strcmp(type, "issuing_authorization.request") == 0;
}

/* customer.source.* can carry an account: that fills no list of accounts. */
static bool
is_of(const char *event_type, const CatalogType *type)
{
	return type->table != NULL && !is_for_who_asks(event_type) &&
		   (strcmp(type->object, "account") != 0 ||
			strncmp(event_type, "account.", strlen("account.")) == 0);
}

/* ---- the list of all ---- */

static int
compare_wishes(const void *a, const void *b)
{
	return strcmp(((const Wish *) a)->type, ((const Wish *) b)->type);
}

static Wish *
find_wish(const WishList *list, const char *type)
{
	Wish key = {.type = type};

	return bsearch(&key, list->wishes, list->count, sizeof(Wish),
				   compare_wishes);
}

static int
count_types(void)
{
	int count = 0;

	for (int i = 0; i < catalog_ntypes; i++)
		count += catalog_types[i].nevent_types;
	return count;
}

/* Each type of event once, none wanted yet. */
static void
list_all(WishList *list)
{
	int room = count_types();
	int count = 0;

	list->wishes = palloc0(room * sizeof(Wish));
	for (int i = 0; i < catalog_ntypes; i++)
		for (int j = 0; j < catalog_types[i].nevent_types; j++)
			list->wishes[count++].type = catalog_types[i].event_types[j];
	qsort(list->wishes, count, sizeof(Wish), compare_wishes);
	list->count = 0;
	for (int i = 0; i < count; i++)
		if (list->count == 0 || compare_wishes(&list->wishes[list->count - 1],
											   &list->wishes[i]) != 0)
			list->wishes[list->count++] = list->wishes[i];
	for (int i = 0; i < catalog_ntypes; i++)
		for (int j = 0; j < catalog_types[i].nevent_types; j++)
			if (is_of(catalog_types[i].event_types[j], &catalog_types[i]))
				find_wish(list, catalog_types[i].event_types[j])->has_table = true;
}

bool
event_type_known(const char *type)
{
	for (int i = 0; i < catalog_ntypes; i++)
		for (int j = 0; j < catalog_types[i].nevent_types; j++)
			if (strcmp(catalog_types[i].event_types[j], type) == 0)
				return true;
	return false;
}

/* ---- what is wanted ---- */

static void
want_type(WishList *list, const CatalogType *type)
{
	for (int i = 0; i < type->nevent_types; i++)
		if (is_of(type->event_types[i], type))
			find_wish(list, type->event_types[i])->wanted = true;
}

/* Has it ever had a row?  No right to read it is needed for that. */
static bool
has_content(Oid relid)
{
	Relation relation = try_relation_open(relid, AccessShareLock);
	bool has;

	if (relation == NULL)
		return false;
	has = relation->rd_rel->relkind != RELKIND_RELATION ||
		  RelationGetNumberOfBlocks(relation) > 0;
	relation_close(relation, AccessShareLock);
	return has;
}

static void
want_tables(WishList *list, bool with_content)
{
	static EngineStatement select = {
		"SELECT table_name FROM stripe_sync.mirror_table"};
	Oid namespace = get_namespace_oid(MIRROR_SCHEMA, true);

	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; OidIsValid(namespace) && i < SPI_processed; i++)
	{
		char *name = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
								  1);
		const CatalogType *type = catalog_find_table(name);
		Oid relid = get_relname_relid(name, namespace);

		if (type != NULL && OidIsValid(relid) &&
			(!with_content || has_content(relid)))
			want_type(list, type);
	}
}

/* A name is asked for; what a pattern fits may be. */
static void
want_pattern(WishList *list, const char *pattern, bool names_only)
{
	Wish *one = find_wish(list, pattern);

	if (one != NULL)
		one->wanted = true;
	for (int i = 0; !names_only && i < list->count; i++)
		if (!is_for_who_asks(list->wishes[i].type) &&
			event_type_fits(list->wishes[i].type, pattern))
			list->wishes[i].wanted = true;
}

static void
want_patterns(WishList *list, bool names_only)
{
	static EngineStatement select = {
		"SELECT event_type FROM stripe_sync.handler"
		" UNION SELECT event_type FROM stripe_sync.alert"
		" UNION SELECT closed_by FROM stripe_sync.alert"
		"  WHERE closed_by IS NOT NULL"};

	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
		want_pattern(
			list, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1),
			names_only);
}

static void
list_wanted(WishList *list, bool strict)
{
	SPI_connect();
	want_tables(list, strict);
	want_patterns(list, strict);
	SPI_finish();
}

/*
 * What to subscribe to, of char *.  The one name "*" where there is a table for
 * everything: types that come to Stripe later are then among them.  Within the
 * engine's scope.
 */
List *
event_types_to_subscribe(void)
{
	bool everything = true;
	List *types = NIL;
	WishList list;

	list_all(&list);
	list_wanted(&list, false);
	for (int i = 0; i < list.count; i++)
	{
		const Wish *wish = &list.wishes[i];

		if (wish->wanted)
			types = lappend(types, pstrdup(wish->type));
		if (is_for_who_asks(wish->type) ? wish->wanted
										: wish->has_table && !wish->wanted)
			everything = false;
	}
	return everything ? list_make1(pstrdup("*")) : types;
}

/* Whose events are missed if they don't come, of char *; likewise. */
List *
event_types_needed(void)
{
	List *types = NIL;
	WishList list;

	list_all(&list);
	list_wanted(&list, true);
	for (int i = 0; i < list.count; i++)
		if (list.wishes[i].wanted)
			types = lappend(types, pstrdup(list.wishes[i].type));
	return types;
}

/* As a text[]. */
Datum
event_types_array(List *types)
{
	Datum *elements = palloc(sizeof(Datum) * Max(list_length(types), 1));
	ListCell *cell;
	int count = 0;

	foreach(cell, types)
		elements[count++] = CStringGetTextDatum(lfirst(cell));
	return PointerGetDatum(
		construct_array(elements, count, TEXTOID, -1, false, TYPALIGN_INT));
}
