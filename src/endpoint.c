/*
 * endpoint.c
 *		Named sources of events: set up, rotated, dropped, found.
 */
#include "mirror.h"

#include "access/genam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "secret.h"

/* An interval in whole seconds, as tolerances are meant. */
int64
endpoint_seconds(const Interval *interval)
{
	int64 days = (int64) interval->month * DAYS_PER_MONTH + interval->day;

	return days * SECS_PER_DAY + interval->time / USECS_PER_SEC;
}

bool
endpoint_find(const char *name, Endpoint *endpoint, Refusal *refusal)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan("endpoint", "endpoint_pkey", 1, name,
								   &relation, &snapshot);
	HeapTuple tuple = systable_getnext(scan);
	bool found = HeapTupleIsValid(tuple);
	bool isnull;
	Datum value;

	if (found)
	{
		endpoint->name = pstrdup(name);
		value = heap_getattr(tuple, 2, RelationGetDescr(relation), &isnull);
		endpoint->has_livemode = !isnull;
		endpoint->livemode = !isnull && DatumGetBool(value);
		value = heap_getattr(tuple, 3, RelationGetDescr(relation), &isnull);
		endpoint->tolerance = isnull
								  ? SIGNATURE_NO_TOLERANCE
								  : endpoint_seconds(DatumGetIntervalP(value));
	}
	engine_scan_end(scan, relation, snapshot);
	if (found)
		return true;
	return refuse(
		refusal, FAULT_OURS, ERRCODE_NO_SUCH_NAME,
		psprintf("there is no endpoint \"%s\"", name), NULL,
		psprintf("Make it: SELECT stripe_sync.add_endpoint(%s, 'whsec_...').",
				 quote_literal_cstr(name)));
}

static void
check_name(text *name, const char *what)
{
	if (name == NULL || VARSIZE_ANY_EXHDR(name) == 0 ||
		VARSIZE_ANY_EXHDR(name) > 63)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
				 errmsg("%s must have a name of 1 to 63 bytes", what)));
}

void
endpoint_check_interval(const Interval *interval, const char *what)
{
	if (interval != NULL && endpoint_seconds(interval) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
				 errmsg("%s cannot be negative", what)));
}

/*
 * add_endpoint(name, secret, livemode, tolerance)
 *
 * Serialized by the row of the endpoint: two set-up scripts at once end as one
 * after the other would.
 */
SECRET_FUNCTION(stripe_sync_add_endpoint)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.endpoint AS e (name, livemode, tolerance)"
		" VALUES ($1, $2, $3)"
		" ON CONFLICT (name) DO UPDATE"
		" SET livemode = excluded.livemode, tolerance = excluded.tolerance",
		3,
		{TEXTOID, BOOLOID, INTERVALOID}};
	text *name = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	text *secret = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	Datum values[] = {PointerGetDatum(name),
					  PG_ARGISNULL(2) ? (Datum) 0 : PG_GETARG_DATUM(2),
					  PG_ARGISNULL(3) ? (Datum) 0 : PG_GETARG_DATUM(3)};
	char nulls[] = {' ', PG_ARGISNULL(2) ? 'n' : ' ',
					PG_ARGISNULL(3) ? 'n' : ' ', '\0'};
	RoleScope scope;
	bool same;

	check_name(name, "an endpoint");
	secret_check(secret);
	endpoint_check_interval(PG_ARGISNULL(3) ? NULL : PG_GETARG_INTERVAL_P(3),
							"a tolerance");
	scope = role_enter_engine();
	SPI_connect();
	engine_run(&upsert, values, nulls, SPI_OK_INSERT);
	SPI_finish();
	if (!endpoint_secret_known(name, secret, &same))
	{
		signing_secret_remark(secret);
		endpoint_secret_add(name, secret);
	}
	else if (!same)
		ereport(
			ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT), errhidestmt(true),
			 errmsg("endpoint \"%s\" has another secret", text_to_cstring(name)),
			 errhint(
				 "Rotate it: SELECT stripe_sync.rotate_endpoint_secret(%s, 'whsec_...').",
				 quote_literal_cstr(text_to_cstring(name)))));
	guard_note();
	role_leave(&scope);
	secret_warn_file(secret);
	tables_create_if_none();
	PG_RETURN_VOID();
}

/* Under this name, where there is none of another mode or with another secret. */
static bool
keep_as(text *name, bool livemode, text *secret)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.endpoint (name, livemode, tolerance)"
		" VALUES ($1, $2, '5 minutes') ON CONFLICT (name) DO NOTHING",
		2,
		{TEXTOID, BOOLOID}};
	static EngineStatement lock = {
		"SELECT 1 FROM stripe_sync.endpoint WHERE name = $1"
		" AND COALESCE(livemode, $2) = $2 FOR UPDATE",
		2,
		{TEXTOID, BOOLOID}};
	Datum values[] = {PointerGetDatum(name), BoolGetDatum(livemode)};
	bool fits;
	bool same;

	SPI_connect();
	engine_run(&insert, values, NULL, SPI_OK_INSERT);
	engine_run(&lock, values, NULL, SPI_OK_SELECT);
	fits = SPI_processed > 0;
	SPI_finish();
	if (!fits)
		return false;
	if (endpoint_secret_known(name, secret, &same))
		return same;
	endpoint_secret_add(name, secret);
	return true;
}

/*
 * Keep the secret of one that was made at Stripe; its name here.  That is what
 * receive() and webhook() take when none is named, or the id if that is taken.
 */
const char *
endpoint_keep(const char *id, bool livemode, text *secret)
{
	const char *const names[] = {"default", id};

	for (int i = 0; i < lengthof(names); i++)
		if (keep_as(cstring_to_text(names[i]), livemode, secret))
			return names[i];
	elog(ERROR, "endpoint \"%s\" has another secret", id);
}

/* rotate_endpoint_secret(name, new_secret, keep_old) */
SECRET_FUNCTION(stripe_sync_rotate_endpoint_secret)
{
	static EngineStatement lock = {
		"SELECT 1 FROM stripe_sync.endpoint WHERE name OPERATOR(pg_catalog.=) $1 FOR UPDATE",
		1,
		{TEXTOID}};
	text *name = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	text *secret = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	Interval none = {0};
	Interval *keep = PG_ARGISNULL(2) ? &none : PG_GETARG_INTERVAL_P(2);
	Datum values[] = {PointerGetDatum(name)};
	Endpoint endpoint;
	Refusal refusal;
	RoleScope scope;
	bool same;

	check_name(name, "an endpoint");
	secret_check(secret);
	endpoint_check_interval(keep, "keep_old");
	scope = role_enter_engine();
	SPI_connect();
	engine_run(&lock, values, NULL, SPI_OK_SELECT);
	SPI_finish();
	if (!endpoint_find(text_to_cstring(name), &endpoint, &refusal))
		refusal_raise(&refusal);
	if (!endpoint_secret_known(name, secret, &same) || !same)
	{
		signing_secret_remark(secret);
		endpoint_secret_rotate(name, secret, engine_time_after(keep));
	}
	guard_note();
	role_leave(&scope);
	secret_warn_file(secret);
	PG_RETURN_VOID();
}

/* drop_endpoint(name): its events stay */
ENGINE_FUNCTION(stripe_sync_drop_endpoint)
{
	static EngineStatement drop = {
		"DELETE FROM stripe_sync.endpoint WHERE name OPERATOR(pg_catalog.=) $1",
		1,
		{TEXTOID}};
	text *name;
	Datum values[1];
	RoleScope scope;

	argument_required(fcinfo, 0, "the name of an endpoint");
	name = PG_GETARG_TEXT_PP(0);
	values[0] = PointerGetDatum(name);
	scope = role_enter_engine();
	SPI_connect();
	engine_run(&drop, values, NULL, SPI_OK_DELETE);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NO_SUCH_NAME), errhidestmt(true),
				 errmsg("there is no endpoint \"%s\"", text_to_cstring(name))));
	SPI_finish();
	endpoint_secret_drop(name);
	guard_note();
	role_leave(&scope);
	PG_RETURN_VOID();
}
