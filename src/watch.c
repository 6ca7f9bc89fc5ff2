/*
 * watch.c
 *		The webhook endpoints that there are at Stripe are read now and then, and
 *		what is wrong with one's own is told, once.
 *
 * Which are one's own?  Those that create_webhook_endpoint() has made, as long
 * as their names are in stripe_sync.endpoint; what stands at the same URL after
 * they were deleted; where none was made, the only one that there is.  Of
 * several that others made nobody can tell: something is wrong when none of
 * them would do.
 *
 * A reading is a job of one part, page by page into watched_endpoint; with the
 * last page all are judged, under a lock of that table.  What has changed since
 * it was last told is a system event: system.endpoint_changed, and
 * system.endpoint_well for what is over.
 */
#include "sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "loop.h"

#define KIND		"watch_endpoints"
#define SOON		60			 /* seconds, from when a key is set */
#define REFUSED_FOR SECS_PER_DAY /* until it is asked for again */
#define MAX_ID		63			 /* it may have to be an endpoint's name */

/* ---- an endpoint as Stripe shows it ---- */

static bool
is_id(const char *id)
{
	return id != NULL && strncmp(id, "we_", 3) == 0 && strlen(id) <= MAX_ID &&
		   strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					  "0123456789_") == strlen(id);
}

static bool
are_strings(const JsonbValue *value)
{
	JsonbContainer *array = value->val.binary.data;

	if (value->type != jbvBinary || !JsonContainerIsArray(array))
		return false;
	for (int i = 0; i < JsonContainerSize(array); i++)
		if (getIthJsonbValueFromContainer(array, i)->type != jbvString)
			return false;
	return true;
}

/* Does it have what we go by? */
bool
endpoint_is_sound(Jsonb *document)
{
	JsonbContainer *root = document != NULL ? &document->root : NULL;
	JsonbValue value;

	return root != NULL && JB_ROOT_IS_OBJECT(document) &&
		   is_id(json_get_string(root, "id")) &&
		   json_get_string(root, "url") != NULL &&
		   json_get_string(root, "status") != NULL &&
		   json_get(root, "livemode", &value) && value.type == jbvBool &&
		   json_get(root, "enabled_events", &value) && are_strings(&value);
}

/* False when this job has noted it before. */
static bool
note(const Part *part, Jsonb *document)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.watched_endpoint AS w (id, account, url, livemode,"
		"  status, api_version, enabled_events, seen_at, seen_by)"
		" SELECT $1 ->> 'id', $2, $1 ->> 'url', ($1 ->> 'livemode')::boolean,"
		"  $1 ->> 'status', $1 ->> 'api_version',"
		"  ARRAY(SELECT pg_catalog.jsonb_array_elements_text($1 -> 'enabled_events')),"
		"  pg_catalog.clock_timestamp(), $3"
		" ON CONFLICT (id, account) DO UPDATE SET url = excluded.url,"
		"  livemode = excluded.livemode, status = excluded.status,"
		"  api_version = excluded.api_version,"
		"  enabled_events = excluded.enabled_events,"
		"  seen_at = excluded.seen_at, seen_by = excluded.seen_by"
		"  WHERE w.seen_by IS DISTINCT FROM excluded.seen_by",
		3,
		{JSONBOID, TEXTOID, INT8OID}};
	Datum values[] = {JsonbPGetDatum(document),
					  CStringGetTextDatum(part->account),
					  Int64GetDatum(part->job)};
	bool fresh;

	SPI_connect();
	engine_run(&upsert, values, NULL, SPI_OK_INSERT);
	fresh = SPI_processed > 0;
	SPI_finish();
	return fresh;
}

void
endpoint_note(const Part *part, Jsonb *document)
{
	(void) note(part, document);
}

/* The name that its secret is kept under; NULL: it isn't. */
const char *
endpoint_known_as(const char *account, const char *id)
{
	static EngineStatement select = {
		"SELECT endpoint FROM stripe_sync.watched_endpoint"
		" WHERE account = $1 AND id = $2 AND endpoint IS NOT NULL FOR UPDATE",
		2,
		{TEXTOID, TEXTOID}};
	Datum values[] = {CStringGetTextDatum(account), CStringGetTextDatum(id)};
	MemoryContext context = CurrentMemoryContext;
	char *name = NULL;

	SPI_connect();
	engine_run(&select, values, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
		name = MemoryContextStrdup(
			context,
			SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	SPI_finish();
	return name;
}

void
endpoint_is_ours(const Part *part, const char *id, const char *name)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.watched_endpoint SET endpoint = $3, job = $4"
		" WHERE account = $1 AND id = $2",
		4,
		{TEXTOID, TEXTOID, TEXTOID, INT8OID}};
	Datum values[] = {CStringGetTextDatum(part->account),
					  CStringGetTextDatum(id), CStringGetTextDatum(name),
					  Int64GetDatum(part->job)};

	SPI_connect();
	engine_run(&update, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
}

/* ---- when ---- */

/* A new key may see what the old one did not. */
void
watch_soon(void)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.endpoint_watch (next_at)"
		" VALUES (pg_catalog.clock_timestamp() + $1 * interval '1 second')"
		" ON CONFLICT (one) DO UPDATE SET next_at = excluded.next_at",
		1,
		{INT4OID}};
	Datum value = Int32GetDatum(SOON);

	SPI_connect();
	engine_run(&upsert, &value, NULL, SPI_OK_INSERT);
	SPI_finish();
}

static bool
take_turn(void)
{
	static EngineStatement take = {
		"UPDATE stripe_sync.endpoint_watch SET next_at ="
		" pg_catalog.clock_timestamp() + $1 * interval '1 second'"
		" WHERE next_at <= pg_catalog.clock_timestamp() OR next_at >"
		"  pg_catalog.clock_timestamp() + GREATEST($1, $2) * interval '1 second'",
		2,
		{INT4OID, INT4OID}};
	Datum values[] = {Int32GetDatum(guc_reconcile_interval),
					  Int32GetDatum(REFUSED_FOR)};

	engine_run(&take, values, NULL, SPI_OK_UPDATE);
	return SPI_processed > 0;
}

static TimestampTz
next_turn(void)
{
	static EngineStatement select = {
		"SELECT pg_catalog.min(next_at) FROM stripe_sync.endpoint_watch"};

	return engine_first_time(&select);
}

/* One at a time; what an earlier one found is in watched_endpoint. */
static void
add_job(void)
{
	static EngineStatement open = {
		"SELECT FROM stripe_sync.job_record WHERE kind = '" KIND "'"
		" AND state IN ('waiting', 'running')"};
	static EngineStatement clean = {
		"DELETE FROM stripe_sync.job_record WHERE kind = '" KIND "'"};
	/* a connected account has none of ours */
	static EngineStatement parts = {
		"INSERT INTO stripe_sync.job_part (job, part, kind, priority, account)"
		" SELECT $1, pg_catalog.row_number() OVER (ORDER BY k.account), 'endpoints', $2,"
		"  k.account FROM stripe_sync.api_key k WHERE k.account = ''"
		"   OR k.account IN (SELECT e.account FROM stripe_sync.endpoint e)",
		2,
		{INT8OID, INT4OID}};
	Datum values[] = {0, Int32GetDatum(PRIORITY_RECONCILE)};

	engine_run(&open, NULL, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
		return;
	engine_run(&clean, NULL, NULL, SPI_OK_DELETE);
	values[0] = Int64GetDatum(job_create(KIND));
	engine_run(&parts, values, NULL, SPI_OK_INSERT);
	if (SPI_processed == 0) /* a job without parts would never be over */
		engine_run(&clean, NULL, NULL, SPI_OK_DELETE);
}

/* As often as events are reconciled; false when nothing is due before *next. */
bool
watch_schedule(TimestampTz *next)
{
	bool due = false;

	worker_begin();
	*next = DT_NOEND;
	if (guc_reconcile_interval > 0 && outbound_allowed("stripe") &&
		api_key_is_set())
	{
		SPI_connect();
		due = take_turn();
		if (due)
			add_job();
		*next = next_turn();
		SPI_finish();
	}
	worker_commit();
	return due;
}

/* ---- reading ---- */

static char *
endpoints_path(const Part *part)
{
	StringInfoData path;

	initStringInfo(&path);
	appendStringInfoString(&path, "/v1/webhook_endpoints");
	path_append_page(&path, part);
	return path.data;
}

/* A key that may not isn't asked with all day long. */
static void
note_refusal(Part *part, const ApiCall *call)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.endpoint_watch SET error = $1,"
		" next_at = pg_catalog.clock_timestamp() + $2 * interval '1 second'",
		2,
		{TEXTOID, INT4OID}};
	Datum values[] = {CStringGetTextDatum(call->trouble),
					  Int32GetDatum(REFUSED_FOR)};

	SPI_connect();
	engine_run(&update, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
	part_note(part, call->trouble);
	part->finished = true;
}

static void
note_reading(void)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.endpoint_watch"
		" SET read_at = pg_catalog.clock_timestamp(), error = NULL"};

	SPI_connect();
	engine_run(&update, NULL, NULL, SPI_OK_UPDATE);
	SPI_finish();
}

/* The last id of a page, *fresh when the page has brought anything. */
static char *
take_page(Part *part, List *elements, bool *fresh)
{
	char *last = NULL;
	ListCell *cell;

	*fresh = false;
	foreach(cell, elements)
	{
		const PageElement *element = lfirst(cell);
		Jsonb *document = json_parse(element->bytes, element->length);

		if (!endpoint_is_sound(document))
			ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
							errmsg("Stripe lists what is no webhook endpoint"),
							answer_is_useless()));
		last = json_get_string(&document->root, "id");
		if (note(part, document))
			*fresh = true;
		part->objects++;
	}
	return last;
}

static void
endpoints_take(Part *part, const ApiCall *call)
{
	bool has_more;
	bool fresh;
	List *elements;
	char *last;

	if (call->verdict == API_FORBIDDEN)
	{
		note_refusal(part, call);
		return;
	}
	elements = page_read(call->body, call->length, &has_more);
	last = take_page(part, elements, &fresh);
	part->pages++;
	if (!has_more)
	{
		watch_judge(part);
		note_reading();
		part->finished = true;
	}
	else if (!fresh)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
						errmsg("Stripe's list of webhook endpoints does not go "
							   "on: a page has nothing new"),
						answer_is_useless()));
	else
		part_set_cursor(part, last);
}

const PartKind part_endpoints = {.name = "endpoints",
								 .path = endpoints_path,
								 .take = endpoints_take,
								 .ended = unread_over,
								 .takes = API_BIT(API_FORBIDDEN),
								 .shrinks = true};
