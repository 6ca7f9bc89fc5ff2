/*
 * backfill_parts.c
 *		The parts of a backfill.
 *
 * A job has a part for each list of each account.  The order of priority is: the
 * account's age, and objects of which it has only one; lists; the comparison of
 * the mirror with complete lists; lists that exist once for each object of
 * another type.
 */
#include "postgres.h"

#include "engine/statement.h"
#include "inbox/inbox.h"
#include "jobs/part.h"
#include "stripe/stripe.h"
#include "tables/tables.h"
#include "types/types.h"
#include "sync/internal.h"

/* The types that others refer to are read first, all others afterwards. */
static const char *const first_types[] = {"product",
										  "price",
										  "coupon",
										  "promotion_code",
										  "tax_rate",
										  "customer",
										  "payment_method",
										  "subscription",
										  "subscription_schedule",
										  "invoice",
										  "invoiceitem",
										  "payment_intent",
										  "charge",
										  "refund",
										  "dispute",
										  "credit_note",
										  "checkout.session",
										  "payout",
										  "balance_transaction"};

#define LISTS	 (PRIORITY_BACKFILL + 1) /* by the place in first_types */
#define OTHERS	 (PRIORITY_BACKFILL + 40)
#define VANISHED (PRIORITY_BACKFILL + 50)
#define CHILDREN (PRIORITY_BACKFILL + 60)

typedef struct NewPart
{
	const char *kind;
	int priority;
	const char *object_type;
	const char *object_id; /* or NULL */
	const char *list_path; /* unique for an account and kind */
	TimestampTz since;
	int after; /* the part that must end before, 0: none */
} NewPart;

static int
existing_part(const BackfillPlan *plan, const NewPart *part)
{
	static EngineStatement select = {
		"SELECT part FROM stripe_sync.job_part WHERE job = $1 AND account = $2"
		" AND kind = $3 AND list_path = $4"};
	Rows rows;
	int number = 0;

	rows_open(&rows, &select,
			  ARGS(arg_int8(plan->job), arg_text(plan->account),
				   arg_text(part->kind), arg_text(part->list_path)));
	if (rows_next(&rows))
		number = rows_int4(&rows, 0);
	rows_close(&rows);
	return number;
}

/*
 * Add a part, unless a job that is resumed has it already.  Returns its number.
 * It is blocked if the part that it comes after has not ended.
 */
static int
add_backfill_part(BackfillPlan *plan, const NewPart *part)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.job_part (job, part, kind, priority, object_type,"
		" object_id, account, list_path, since, after_part, optional, state)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, nullif($9, '-infinity'),"
		"  nullif($10, 0), $11, CASE WHEN EXISTS (SELECT FROM stripe_sync.job_part"
		"   WHERE job = $1 AND part = $10 AND state IN ('blocked', 'waiting', 'running'))"
		"   THEN 'blocked' ELSE 'waiting' END)"
		" ON CONFLICT (job, account, kind, list_path) WHERE list_path IS NOT NULL"
		" DO NOTHING"};

	if (statement_exec(
			&insert, ARGS(arg_int8(plan->job), arg_int4(plan->nparts + 1),
						  arg_text(part->kind), arg_int4(part->priority),
						  arg_text(part->object_type),
						  arg_text(part->object_id), arg_text(plan->account),
						  arg_text(part->list_path), arg_time(part->since),
						  arg_int4(part->after), arg_bool(plan->optional))) == 0)
		return existing_part(plan, part);
	return ++plan->nparts;
}

static int
list_priority(const CatalogType *type)
{
	for (int i = 0; i < lengthof(first_types); i++)
		if (strcmp(first_types[i], type->object) == 0)
			return LISTS + i;
	return OTHERS;
}

static void
add_single(BackfillPlan *plan, const CatalogType *type)
{
	NewPart part = {.kind = part_single.name,
					.priority = PRIORITY_BACKFILL,
					.object_type = type->object,
					.object_id = "",
					.list_path = backfill_type_is_single(type)
									 ? type->retrieve_path
									 : OWN_ACCOUNT,
					.since = DT_NOBEGIN};

	if (backfill_type_is_single(type) || strcmp(type->object, "account") == 0)
		(void) add_backfill_part(plan, &part);
}

static int
add_age(BackfillPlan *plan)
{
	NewPart part = {.kind = part_age.name,
					.priority = PRIORITY_BACKFILL,
					.object_type = "account",
					.list_path = OWN_ACCOUNT,
					.since = DT_NOBEGIN};

	return add_backfill_part(plan, &part);
}

static void
add_list(BackfillPlan *plan, int place, const CatalogList *list)
{
	const CatalogType *type = &catalog_types[place];
	NewPart part = {.kind = part_list.name,
					.priority = list_priority(type),
					.object_type = type->object,
					.list_path = list->path,
					.since = list->created ? plan->since : DT_NOBEGIN,
					.after = plan->age};
	NewPart vanished = {.kind = part_vanished.name,
						.priority = VANISHED,
						.object_type = type->object,
						.list_path = list->path,
						.since = DT_NOBEGIN};

	if (strcmp(type->object, "account") == 0 && plan->connected)
		return; /* only a platform can list its connected accounts */
	vanished.after = plan->list_part[place] = add_backfill_part(plan, &part);
	if (part.since == DT_NOBEGIN && type->retrieve_path != NULL &&
		strchr(type->retrieve_path, '{') != NULL)
		(void) add_backfill_part(plan, &vanished);
}

static bool
has_path(const BackfillPlan *plan, const char *path)
{
	ListCell *cell;

	foreach(cell, plan->paths)
		if (strcmp(lfirst(cell), path) == 0)
			return true;
	return false;
}

/* A list with objects of several types gets one part. */
static void
add_nested_list(BackfillPlan *plan, const CatalogType *type,
				const CatalogList *list)
{
	const CatalogType *parent = catalog_find(list->parent, strlen(list->parent));
	NewPart part = {.kind = part_children.name,
					.priority = CHILDREN,
					.object_type = type->object,
					.list_path = list->path,
					.since = plan->since,
					.after = plan->list_part[parent - catalog_types]};
	bool of_account = strcmp(parent->object, "account") == 0;

	if (!OidIsValid(table_lookup(parent)) || has_path(plan, list->path))
		return;
	if (of_account && !plan->connected)
		return; /* a connected account's objects are in its own lists */
	if (of_account)
		part.object_id = account_stripe_id(plan->account);
	(void) add_backfill_part(plan, &part);
	plan->paths = lappend(plan->paths, unconstify(char *, list->path));
}

static void
add_lists(BackfillPlan *plan, bool nested)
{
	for (int i = 0; i < catalog_ntypes; i++)
		for (int j = 0; plan->wanted[i] && j < catalog_types[i].nlists; j++)
		{
			const CatalogList *list = &catalog_types[i].lists[j];

			if (nested && list->parent != NULL)
				add_nested_list(plan, &catalog_types[i], list);
			else if (!nested && list->parent == NULL)
				add_list(plan, i, list);
		}
}

static void
add_account_parts(BackfillPlan *plan, char *account)
{
	plan->account = account;
	plan->connected = strcmp(account_owner(account), account) != 0;
	plan->age = add_age(plan);
	plan->list_part = palloc0(sizeof(int) * catalog_ntypes);
	plan->paths = NIL;
	for (int i = 0; i < catalog_ntypes; i++)
		if (plan->wanted[i])
			add_single(plan, &catalog_types[i]);
	add_lists(plan, false);
	add_lists(plan, true);
}

/*
 * Add the parts of all accounts that can be read.  Parts that the job already has
 * are kept.
 */
void
backfill_add_parts(BackfillPlan *plan)
{
	List *accounts = api_accounts();
	ListCell *cell;

	foreach(cell, accounts)
		add_account_parts(plan, lfirst(cell));
}
