/*
 * endpoint_setup.c
 *		SQL functions that add, rotate and drop endpoints.
 *
 * Set-up of endpoints is serialized by an advisory lock, so that two scripts
 * at once end as one after the other would.
 */
#include "mirror.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "account.h"
#include "secret.h"

static void
check_name(text *name, const char *what)
{
	if (name == NULL || VARSIZE_ANY_EXHDR(name) == 0 ||
		VARSIZE_ANY_EXHDR(name) > 63)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
				 errmsg("%s must have a name of 1 to 63 bytes", what)));
}

/* Of all events, which is looked through to its end when there is none. */
static bool
has_events(text *name)
{
	static EngineStatement select = {
		"SELECT 1 FROM stripe_sync.event"
		" WHERE endpoint OPERATOR(pg_catalog.=) $1 LIMIT 1",
		1,
		{TEXTOID}};
	Datum value = PointerGetDatum(name);

	engine_run(&select, &value, NULL, SPI_OK_SELECT);
	return SPI_processed > 0;
}

/* Do endpoints of both modes have this account, from an older version? */
static bool
is_mixed(const char *account)
{
	static EngineStatement select = {
		"SELECT 1 FROM stripe_sync.endpoint"
		" WHERE account OPERATOR(pg_catalog.=) $1 AND livemode IS NOT NULL"
		" HAVING pg_catalog.count(DISTINCT livemode) OPERATOR(pg_catalog.>) 1",
		1,
		{TEXTOID}};
	Datum value = CStringGetTextDatum(account);

	engine_run(&select, &value, NULL, SPI_OK_SELECT);
	return SPI_processed > 0;
}

/*
 * What an endpoint has stored stays in its account: another one is for an
 * endpoint without events, or for one that should never have shared it.
 */
static void
check_other_account(text *name, const Endpoint *known, const char *account)
{
	if (account[0] == '\0' || strcmp(account, known->account) == 0 ||
		!has_events(name))
		return;
	if (!is_mixed(known->account))
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errhidestmt(true),
			 errmsg("endpoint \"%s\" has events of %s", known->name,
					account_words(known->account)),
			 errhint(
				 "Move them first, and all else of that account: SELECT stripe_sync.move_account(%s, %s).",
				 quote_literal_cstr(known->account),
				 quote_literal_cstr(account))));
	ereport(NOTICE, (errmsg("what endpoint \"%s\" has stored so far stays in %s",
							known->name, account_words(known->account))));
}

/* Events of the mode that is right now may have come before. */
static void
tell_other_mode(const Endpoint *known, bool has_livemode, bool livemode)
{
	if (!has_livemode || !known->has_livemode || known->livemode == livemode)
		return;
	ereport(
		NOTICE,
		(errmsg("endpoint \"%s\" takes %s events from now on", known->name,
				livemode ? "live" : "test"),
		 errhint(
			 "Those that came before: SELECT stripe_sync.reconcile('30 days'), with a %s key; those that are stored and ignored also by stripe_sync.replay().",
			 livemode ? "live" : "test")));
}

/* What a known endpoint is now, where that is something else than before. */
static void
journal_change(const Endpoint *before, const Endpoint *now)
{
	if (before->has_livemode == now->has_livemode &&
		before->livemode == now->livemode &&
		before->tolerance == now->tolerance &&
		strcmp(before->account, now->account) == 0)
		return;
	journal_note("endpoint.changed", now->name,
				 psprintf("%s events of %s, tolerance %s",
						  !now->has_livemode ? "all"
						  : now->livemode	 ? "live"
											 : "test",
						  account_words(now->account),
						  now->tolerance == SIGNATURE_NO_TOLERANCE
							  ? "off"
							  : psprintf(INT64_FORMAT " s", now->tolerance)));
}

/* livemode NULL and account '' keep what a known one has. */
static void
upsert(text *name, Datum *values, const char *nulls)
{
	static EngineStatement statement = {
		"INSERT INTO stripe_sync.endpoint AS e (name, livemode, tolerance, account)"
		" VALUES ($1, $2, $3, $4)"
		" ON CONFLICT (name) DO UPDATE"
		" SET livemode = COALESCE(excluded.livemode, e.livemode),"
		"  mode_learned = e.mode_learned AND excluded.livemode IS NULL,"
		"  tolerance = excluded.tolerance,"
		"  account = COALESCE(nullif(excluded.account, ''), e.account)",
		4,
		{TEXTOID, BOOLOID, INTERVALOID, TEXTOID}};
	char *account = TextDatumGetCString(values[3]);
	Endpoint known;
	Endpoint endpoint;
	Refusal ignored;
	bool is_known;

	advisory_lock(ADVISORY_ENDPOINT, 0);
	is_known = endpoint_find(text_to_cstring(name), &known, &ignored);
	SPI_connect();
	if (is_known)
	{
		check_other_account(name, &known, account);
		tell_other_mode(&known, nulls[1] != 'n',
						nulls[1] != 'n' && DatumGetBool(values[1]));
	}
	engine_run(&statement, values, nulls, SPI_OK_INSERT);
	SPI_finish();
	(void) endpoint_find(text_to_cstring(name), &endpoint, &ignored);
	if (is_known)
		journal_change(&known, &endpoint);
	endpoint_mode_check(endpoint.name, endpoint.account);
}

/* add_endpoint(name, secret, livemode, tolerance, account) */
SECRET_FUNCTION(stripe_sync_add_endpoint)
{
	text *name = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	text *secret = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	text *account = PG_ARGISNULL(4) ? cstring_to_text("") : PG_GETARG_TEXT_PP(4);
	Datum values[] = {PointerGetDatum(name),
					  PG_ARGISNULL(2) ? (Datum) 0 : PG_GETARG_DATUM(2),
					  PG_ARGISNULL(3) ? (Datum) 0 : PG_GETARG_DATUM(3),
					  PointerGetDatum(account)};
	char nulls[] = {' ', PG_ARGISNULL(2) ? 'n' : ' ',
					PG_ARGISNULL(3) ? 'n' : ' ', ' ', '\0'};
	RoleScope scope;
	bool same;

	check_name(name, "an endpoint");
	secret_check(secret);
	endpoint_check_interval(PG_ARGISNULL(3) ? NULL : PG_GETARG_INTERVAL_P(3),
							"a tolerance");
	account_check_endpoints(text_to_cstring(account));
	scope = role_enter_engine();
	upsert(name, values, nulls);
	if (!endpoint_secret_known(name, secret, &same))
	{
		signing_secret_remark(secret);
		endpoint_secret_add(name, secret);
		journal_note_text("endpoint.added", name, NULL);
	}
	else if (!same)
		ereport(
			ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT), errhidestmt(true),
			 errmsg("endpoint \"%s\" has another secret", text_to_cstring(name)),
			 errhint(
				 "Rotate it: SELECT stripe_sync.rotate_endpoint_secret(%s, 'whsec_...').",
				 quote_literal_cstr(text_to_cstring(name)))));
	outbound_note_identity();
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
		" AND COALESCE(livemode, $2) = $2 AND account = '' FOR UPDATE",
		2,
		{TEXTOID, BOOLOID}};
	Datum values[] = {PointerGetDatum(name), BoolGetDatum(livemode)};
	bool fits;
	bool same;

	advisory_lock(ADVISORY_ENDPOINT, 0);
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
	journal_note_text("endpoint.added", name, "made at Stripe");
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
		journal_note_text("endpoint.rotated", name, NULL);
	}
	outbound_note_identity();
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
	journal_note_text("endpoint.dropped", name, NULL);
	outbound_note_identity();
	role_leave(&scope);
	PG_RETURN_VOID();
}
