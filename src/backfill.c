/*
 * backfill.c
 *		What there was before the first webhook: whole lists, into the mirror.
 *
 * A job has a part for each list of each account.  How old the account is comes
 * first (so far back its lists may go), then the lists, in the order in which
 * people need them; then what a full list no longer had; last the lists that
 * there are for each object of another type, one after the other.  Nothing of
 * this is asked for here: runner.c does that.
 */
#include "sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "account.h"

/* What people join by first; then the rest, by name. */
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

/* A job that is being made. */
typedef struct BackfillPlan
{
	int64 job;
	bool *wanted; /* by the type's place in the catalog */
	bool optional;
	TimestampTz since; /* DT_NOBEGIN: everything */
	char *account;
	bool connected; /* to an endpoint's account */
	int nparts;
	int age;		/* the part that finds out how old the account is */
	int *list_part; /* the part of each type's own list, 0: none */
	List *paths;	/* lists of children that have a part */
} BackfillPlan;

/* ---- which types ---- */

static bool
is_single(const CatalogType *type)
{
	return type->retrieve_path != NULL && type->key != NULL &&
		   type->key[0] == '\0';
}

/* By itself, or with what carries it. */
static bool
is_readable(const CatalogType *type)
{
	if (type->table == NULL || strcmp(type->api, "v1") != 0)
		return false;
	if (type->nlists > 0 || is_single(type))
		return true;
	for (int i = 0; i < catalog_ntypes; i++)
		for (int j = 0; j < catalog_types[i].npages; j++)
			if (strcmp(catalog_types[i].pages[j].child, type->object) == 0 &&
				catalog_types[i].nlists > 0)
				return true;
	return false;
}

static int
place_of(const char *object)
{
	const CatalogType *type = catalog_find(object, strlen(object));

	if (type == NULL || !is_readable(type))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("objects of type \"%s\" are in no list of Stripe's", object),
			 errhint(
				 "Types are named as Stripe does in \"object\": 'customer', 'checkout.session'. %s",
				 object_type_hint(object))));
	if (!OidIsValid(table_lookup(type)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there is no table for objects of type \"%s\"", object),
				 errhint("SELECT stripe_sync.create_tables(ARRAY[%s])",
						 quote_literal_cstr(object))));
	return (int) (type - catalog_types);
}

/* Events are for reconcile: here they would only be kept twice. */
static void
want_all(bool *wanted)
{
	for (int i = 0; i < catalog_ntypes; i++)
		wanted[i] = is_readable(&catalog_types[i]) &&
					strcmp(catalog_types[i].object, "event") != 0 &&
					OidIsValid(table_lookup(&catalog_types[i]));
}

static bool
want(bool *wanted, const CatalogType *type)
{
	int place = (int) (type - catalog_types);

	if (wanted[place] || !is_readable(type) || !OidIsValid(table_lookup(type)))
		return false;
	wanted[place] = true;
	return true;
}

/* What lists a wanted type, or carries it, is wanted too. */
static bool
want_parents(bool *wanted, const CatalogType *type)
{
	bool more = false;

	for (int i = 0; i < type->nlists; i++)
	{
		const char *parent = type->lists[i].parent;

		if (parent != NULL)
			more |= want(wanted, catalog_find(parent, strlen(parent)));
	}
	if (type->nlists > 0)
		return more;
	for (int i = 0; i < catalog_ntypes; i++)
		for (int j = 0; j < catalog_types[i].npages; j++)
			if (strcmp(catalog_types[i].pages[j].child, type->object) == 0)
				more |= want(wanted, &catalog_types[i]);
	return more;
}

static bool *
find_wanted(ArrayType *names)
{
	bool *wanted = palloc0(sizeof(bool) * catalog_ntypes);
	bool more = true;
	Datum *values;
	bool *nulls;
	int count;

	if (names == NULL)
	{
		want_all(wanted);
		return wanted;
	}
	deconstruct_array(names, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls,
					  &count);
	if (count == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("no object types are given"),
						errhint("NULL is all of them.")));
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("an object type cannot be NULL")));
		wanted[place_of(TextDatumGetCString(values[i]))] = true;
	}
	while (more)
	{
		more = false;
		for (int i = 0; i < catalog_ntypes; i++)
			if (wanted[i])
				more |= want_parents(wanted, &catalog_types[i]);
	}
	return wanted;
}

static void
refuse_nothing(const bool *wanted)
{
	for (int i = 0; i < catalog_ntypes; i++)
		if (wanted[i])
			return;
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("there are no tables to read into"),
					errhint("SELECT * FROM stripe_sync.create_tables()")));
}

/* ---- parts ---- */

typedef struct NewPart
{
	const char *kind;
	int priority;
	const char *object_type;
	const char *object_id; /* or NULL */
	const char *list_path; /* no two parts of a kind have the same */
	TimestampTz since;
	int after; /* the part that must be over before, 0: none */
} NewPart;

static int
find_part(BackfillPlan *plan, const NewPart *part)
{
	static EngineStatement select = {
		"SELECT part FROM stripe_sync.job_part WHERE job = $1 AND account = $2"
		" AND kind = $3 AND list_path = $4",
		4,
		{INT8OID, TEXTOID, TEXTOID, TEXTOID}};
	Datum values[] = {
		Int64GetDatum(plan->job), CStringGetTextDatum(plan->account),
		CStringGetTextDatum(part->kind), CStringGetTextDatum(part->list_path)};

	engine_run(&select, values, NULL, SPI_OK_SELECT);
	return DatumGetInt32(engine_value());
}

/* Its number; a job that goes on may have it already. */
static int
add_part(BackfillPlan *plan, const NewPart *part)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.job_part (job, part, kind, priority, object_type,"
		" object_id, account, list_path, since, after_part, optional, state)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, nullif($9, '-infinity'),"
		"  nullif($10, 0), $11, CASE WHEN EXISTS (SELECT FROM stripe_sync.job_part"
		"   WHERE job = $1 AND part = $10 AND state IN ('blocked', 'waiting', 'running'))"
		"   THEN 'blocked' ELSE 'waiting' END)"
		" ON CONFLICT (job, account, kind, list_path) WHERE list_path IS NOT NULL"
		" DO NOTHING",
		11,
		{INT8OID, INT4OID, TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
		 TIMESTAMPTZOID, INT4OID, BOOLOID}};
	Datum values[] = {Int64GetDatum(plan->job),
					  Int32GetDatum(plan->nparts + 1),
					  CStringGetTextDatum(part->kind),
					  Int32GetDatum(part->priority),
					  CStringGetTextDatum(part->object_type),
					  part->object_id ? CStringGetTextDatum(part->object_id)
									  : (Datum) 0,
					  CStringGetTextDatum(plan->account),
					  CStringGetTextDatum(part->list_path),
					  TimestampTzGetDatum(part->since),
					  Int32GetDatum(part->after),
					  BoolGetDatum(plan->optional)};
	char nulls[] = "           ";

	nulls[5] = part->object_id ? ' ' : 'n';
	engine_run(&insert, values, nulls, SPI_OK_INSERT);
	if (SPI_processed == 0)
		return find_part(plan, part);
	return ++plan->nparts;
}

static int
priority_of(const CatalogType *type)
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
					.list_path = is_single(type) ? type->retrieve_path
												 : OWN_ACCOUNT,
					.since = DT_NOBEGIN};

	if (is_single(type) || strcmp(type->object, "account") == 0)
		(void) add_part(plan, &part);
}

static int
add_age(BackfillPlan *plan)
{
	NewPart part = {.kind = part_age.name,
					.priority = PRIORITY_BACKFILL,
					.object_type = "account",
					.list_path = OWN_ACCOUNT,
					.since = DT_NOBEGIN};

	return add_part(plan, &part);
}

static void
add_list(BackfillPlan *plan, int place, const CatalogList *list)
{
	const CatalogType *type = &catalog_types[place];
	NewPart part = {.kind = part_list.name,
					.priority = priority_of(type),
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
		return; /* connected accounts are the platform's to list */
	vanished.after = plan->list_part[place] = add_part(plan, &part);
	if (part.since == DT_NOBEGIN && type->retrieve_path != NULL &&
		strchr(type->retrieve_path, '{') != NULL)
		(void) add_part(plan, &vanished);
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

/* One part reads a list that holds objects of several types. */
static void
add_children(BackfillPlan *plan, const CatalogType *type,
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
		return; /* what a connected account has is in its own lists */
	if (of_account)
		part.object_id = account_stripe_id(plan->account);
	(void) add_part(plan, &part);
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
				add_children(plan, &catalog_types[i], list);
			else if (!nested && list->parent == NULL)
				add_list(plan, i, list);
		}
}

static void
add_account(BackfillPlan *plan, char *account)
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

/* ---- the job ---- */

static Datum
arguments_of(ArrayType *types, TimestampTz since)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_build_object("
		" 'object_types', (SELECT pg_catalog.jsonb_agg(DISTINCT t) FROM pg_catalog.unnest($1) t),"
		" 'created_since', pg_catalog.timezone('UTC', $2))",
		2,
		{TEXTARRAYOID, TIMESTAMPTZOID}};
	Datum values[] = {PointerGetDatum(types), TimestampTzGetDatum(since)};
	char nulls[] = {types == NULL ? 'n' : ' ', since == DT_NOBEGIN ? 'n' : ' ',
					'\0'};

	engine_run(&build, values, nulls, SPI_OK_SELECT);
	return engine_value();
}

/*
 * The same that waits or runs is joined; the same that did not get to its end
 * goes on.  Events tell what has changed since, as long as Stripe lists them.
 */
static int64
find_same(Datum arguments, bool *is_over)
{
	static EngineStatement select = {
		"SELECT id, state FROM stripe_sync.job_record"
		" WHERE kind = 'backfill' AND arguments = $1"
		"  AND (state IN ('waiting', 'running')"
		"   OR created_at > pg_catalog.clock_timestamp() - interval '720 hours')"
		" ORDER BY id DESC LIMIT 1 FOR UPDATE",
		1,
		{JSONBOID}};
	HeapTuple row;
	char *state;

	engine_run(&select, &arguments, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		return 0;
	row = SPI_tuptable->vals[0];
	state = SPI_getvalue(row, SPI_tuptable->tupdesc, 2);
	*is_over = strcmp(state, "failed") == 0 || strcmp(state, "cancelled") == 0;
	return strcmp(state, "done") == 0
			   ? 0
			   : DatumGetInt64(SPI_getbinval(row, SPI_tuptable->tupdesc, 1,
											 &(bool){false}));
}

/*
 * What did not get to its end goes on; what is compared with a list, or goes by
 * the objects of one, begins anew behind it.
 */
static void
resume(int64 job)
{
	static EngineStatement parts = {
		"UPDATE stripe_sync.job_part SET state = 'waiting', attempts = 1, tries = 0,"
		" error = NULL, due_at = pg_catalog.clock_timestamp()"
		" WHERE job = $1 AND state IN ('failed', 'cancelled', 'skipped')",
		1,
		{INT8OID}};
	/* of a table that was dropped and made anew since */
	static EngineStatement anew = {
		"UPDATE stripe_sync.job_part p SET state = 'waiting', attempts = 1, tries = 0,"
		" progress = 0, cursor = NULL, parent_id = NULL, mirror_table = NULL,"
		" due_at = pg_catalog.clock_timestamp()"
		" FROM stripe_sync.object_type t"
		" WHERE p.job = $1 AND p.kind IN ('list', 'children')"
		"  AND t.object_type = p.object_type"
		"  AND p.mirror_table <> pg_catalog.to_regclass(pg_catalog.format('%I.%I', '" MIRROR_SCHEMA
		"', t.table_name))::oid",
		1,
		{INT8OID}};
	static EngineStatement later = {
		"UPDATE stripe_sync.job_part p SET state = 'blocked', progress = 0,"
		" cursor = NULL, parent_id = NULL"
		" FROM stripe_sync.job_part a WHERE p.job = $1 AND a.job = p.job"
		"  AND a.part = p.after_part AND a.state IN ('waiting', 'blocked')"
		"  AND (p.state = 'waiting'"
		"   OR (p.state = 'done' AND p.kind IN ('vanished', 'children')))",
		1,
		{INT8OID}};
	static EngineStatement record = {
		"UPDATE stripe_sync.job_record SET state = 'waiting', finished_at = NULL,"
		" idle = idle + (pg_catalog.clock_timestamp() - finished_at)"
		" WHERE id = $1",
		1,
		{INT8OID}};
	Datum value = Int64GetDatum(job);

	engine_run(&parts, &value, NULL, SPI_OK_UPDATE);
	engine_run(&anew, &value, NULL, SPI_OK_UPDATE);
	engine_run(&later, &value, NULL, SPI_OK_UPDATE);
	engine_run(&record, &value, NULL, SPI_OK_UPDATE);
	worker_wake_at_commit();
}

/* 0 when somebody else has made the same meanwhile. */
static int64
make_job(Datum arguments)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.job_record (kind, arguments)"
		" VALUES ('backfill', $1) ON CONFLICT DO NOTHING RETURNING id",
		1,
		{JSONBOID}};

	int64 job;

	engine_run(&insert, &arguments, NULL, SPI_OK_INSERT_RETURNING);
	worker_wake_at_commit();
	if (SPI_processed == 0)
		return 0;
	job = DatumGetInt64(engine_value());
	job_note_made(job, "backfill");
	return job;
}

static void
add_parts(BackfillPlan *plan)
{
	List *accounts = api_accounts();
	ListCell *cell;

	foreach(cell, accounts)
		add_account(plan, lfirst(cell));
}

static int
count_parts(int64 job)
{
	static EngineStatement select = {
		"SELECT COALESCE(pg_catalog.max(part), 0) FROM stripe_sync.job_part"
		" WHERE job = $1",
		1,
		{INT8OID}};
	Datum value = Int64GetDatum(job);

	engine_run(&select, &value, NULL, SPI_OK_SELECT);
	return DatumGetInt32(engine_value());
}

static int64
find_or_make(BackfillPlan *plan, Datum arguments)
{
	bool is_over = false;

	while ((plan->job = find_same(arguments, &is_over)) == 0 &&
		   (plan->job = make_job(arguments)) == 0)
		CHECK_FOR_INTERRUPTS(); /* that one may be over by now */
	if (is_over)
		resume(plan->job);
	plan->nparts = count_parts(plan->job);
	if (is_over || plan->nparts == 0)
		add_parts(plan); /* there may be more tables and accounts than then */
	return plan->job;
}

/* backfill(object_types, created_since): a job */
ENGINE_FUNCTION(stripe_sync_backfill)
{
	ArrayType *types = PG_ARGISNULL(0) ? NULL : PG_GETARG_ARRAYTYPE_P(0);
	BackfillPlan plan = {.since = PG_ARGISNULL(1) ? DT_NOBEGIN
												  : PG_GETARG_TIMESTAMPTZ(1)};
	int64 job;
	RoleScope scope;

	plan.optional = types == NULL;
	plan.wanted = find_wanted(types);
	refuse_nothing(plan.wanted);
	scope = role_enter_engine();
	refuse_without_key();
	SPI_connect();
	job = find_or_make(&plan, arguments_of(types, plan.since));
	SPI_finish();
	outbound_note_identity();
	role_leave(&scope);
	standstill_note("stripe");
	PG_RETURN_INT64(job);
}
