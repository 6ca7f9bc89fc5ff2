/*
 * endpoint_setup.c
 *		SQL functions that add, rotate and drop endpoints.
 *
 * They run in the caller's transaction, in the engine's scope.  add_endpoint()
 * takes ADVISORY_ENDPOINT until the transaction's end, so that concurrent set-up
 * scripts end as they would one after the other; the other two lock the
 * endpoint's row.  All of them note this database as an original (outbound.c).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/base.h"
#include "base/error_codes.h"
#include "base/refusal.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/inbox.h"
#include "inbox/secret.h"
#include "inbox/signature.h"
#include "receive/receive.h"
#include "server/server.h"
#include "tables/tables.h"

/* Raises 22023. */
static void
check_endpoint_name(text *name)
{
	if (name == NULL || VARSIZE_ANY_EXHDR(name) == 0 ||
		VARSIZE_ANY_EXHDR(name) > 63)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
				 errmsg("an endpoint must have a name of 1 to 63 bytes")));
}

/* Scans the whole inbox if the endpoint has no events. */
static bool
has_events(const char *name)
{
	static EngineStatement select = {
		"SELECT true FROM stripe_sync.event WHERE endpoint = $1 LIMIT 1"};

	return statement_bool(false, &select, ARGS(arg_text(name)));
}

/* Do endpoints of both modes have this account?  An older version allowed it. */
static bool
is_mixed(const char *account)
{
	static EngineStatement select = {
		"SELECT pg_catalog.count(DISTINCT livemode) > 1"
		" FROM stripe_sync.endpoint WHERE account = $1"};

	return statement_bool(false, &select, ARGS(arg_text(account)));
}

/*
 * An endpoint's events keep the account that they were stored with.  So an
 * endpoint with events can't be given another account (55000), unless it shares
 * the account with an endpoint of the other mode.
 */
static void
check_other_account(const Endpoint *known, const char *account)
{
	if (account[0] == '\0' || strcmp(account, known->account) == 0 ||
		!has_events(known->name))
		return;
	if (!is_mixed(known->account))
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errhidestmt(true),
			 errmsg("endpoint \"%s\" has events of %s", known->name,
					account_words(known->account)),
			 errhint(
				 "Move the account first, with all its rows: SELECT stripe_sync.move_account(%s, %s).",
				 quote_literal_cstr(known->account),
				 quote_literal_cstr(account))));
	ereport(NOTICE,
			(errmsg("events already stored by endpoint \"%s\" remain in %s",
					known->name, account_words(known->account))));
}

/* Events of the new mode may have been refused or held before. */
static void
remark_other_mode(const Endpoint *known, bool has_livemode, bool livemode)
{
	if (!has_livemode || !known->has_livemode || known->livemode == livemode)
		return;
	ereport(
		NOTICE,
		(errmsg("endpoint \"%s\" takes %s events from now on", known->name,
				livemode ? "live" : "test"),
		 errhint(
			 "Fetch earlier ones with SELECT stripe_sync.reconcile('30 days') and a %s key; apply those that were stored and ignored with stripe_sync.replay().",
			 livemode ? "live" : "test")));
}

/* Write to the journal if the endpoint has changed. */
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

/*
 * Add or change an endpoint.  NULL for livemode and '' for account keep the
 * values of an existing one; a NULL tolerance accepts any age.
 */
static void
upsert_endpoint(const char *name, StatementArg livemode, StatementArg tolerance,
				const char *account)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.endpoint AS e (name, livemode, tolerance, account)"
		" VALUES ($1, $2, $3, $4)"
		" ON CONFLICT (name) DO UPDATE"
		" SET livemode = COALESCE(excluded.livemode, e.livemode),"
		"  mode_learned = e.mode_learned AND excluded.livemode IS NULL,"
		"  tolerance = excluded.tolerance,"
		"  account = COALESCE(nullif(excluded.account, ''), e.account)"};
	Endpoint known;
	Endpoint endpoint;
	Refusal ignored;
	bool is_known;

	advisory_lock(ADVISORY_ENDPOINT, 0);
	is_known = endpoint_find(name, &known, &ignored);
	if (is_known)
	{
		check_other_account(&known, account);
		remark_other_mode(&known, !livemode.isnull,
						  !livemode.isnull && DatumGetBool(livemode.value));
	}
	statement_exec(
		&upsert, ARGS(arg_text(name), livemode, tolerance, arg_text(account)));
	(void) endpoint_find(name, &endpoint, &ignored);
	if (is_known)
		journal_change(&known, &endpoint);
	endpoint_mode_check(endpoint.name, endpoint.account);
}

/*
 * add_endpoint(name, secret, livemode, tolerance, account).  An existing
 * endpoint without a secret (after a restore: secrets are not dumped) gets this
 * one; another secret than the current one raises 42710.
 */
SECRET_FUNCTION(stripe_sync_add_endpoint)
{
	text *name = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	text *secret = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	char *account = PG_ARGISNULL(4) ? pstrdup("")
									: text_to_cstring(PG_GETARG_TEXT_PP(4));
	RoleScope scope;
	bool same;

	check_endpoint_name(name);
	secret_check(secret);
	endpoint_check_interval(PG_ARGISNULL(3) ? NULL : PG_GETARG_INTERVAL_P(3),
							"a tolerance");
	account_check_endpoints(account);
	scope = role_enter_engine();
	upsert_endpoint(text_to_cstring(name), arg_of_call(fcinfo, 2, BOOLOID),
					arg_of_call(fcinfo, 3, INTERVALOID), account);
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
			 errmsg("endpoint \"%s\" has a different secret",
					text_to_cstring(name)),
			 errhint(
				 "Replace it with SELECT stripe_sync.rotate_endpoint_secret(%s, 'whsec_...').",
				 quote_literal_cstr(text_to_cstring(name)))));
	outbound_note_identity();
	role_leave(&scope);
	secret_warn_file(secret);
	tables_create_if_none();
	PG_RETURN_VOID();
}

/*
 * Add an endpoint of this name, or use an existing one that has the same mode
 * and no other secret.  Returns false if the name is taken.
 */
static bool
keep_endpoint_as(text *name, bool livemode, text *secret)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.endpoint (name, livemode, tolerance)"
		" VALUES ($1, $2, '5 minutes') ON CONFLICT (name) DO NOTHING"};
	static EngineStatement lock = {
		"SELECT true FROM stripe_sync.endpoint WHERE name = $1"
		" AND COALESCE(livemode, $2) = $2 AND account = '' FOR UPDATE"};
	bool same;

	advisory_lock(ADVISORY_ENDPOINT, 0);
	statement_exec(&insert,
				   ARGS(arg_varlena(TEXTOID, name), arg_bool(livemode)));
	if (!statement_bool(false, &lock,
						ARGS(arg_varlena(TEXTOID, name), arg_bool(livemode))))
		return false;
	if (endpoint_secret_known(name, secret, &same))
		return same;
	endpoint_secret_add(name, secret);
	journal_note_text("endpoint.added", name, "created at Stripe");
	return true;
}

/*
 * Store the secret of a webhook endpoint that was created at Stripe.  Returns
 * the endpoint's name here: "default", which receive() and webhook() use unless
 * told otherwise, or Stripe's id if that name is taken.
 */
const char *
endpoint_keep(const char *id, bool livemode, text *secret)
{
	const char *const names[] = {"default", id};

	for (int i = 0; i < lengthof(names); i++)
		if (keep_endpoint_as(cstring_to_text(names[i]), livemode, secret))
			return names[i];
	elog(ERROR, "endpoint \"%s\" has a different secret", id);
}

/*
 * rotate_endpoint_secret(name, new_secret, keep_old).  Locks the endpoint's row:
 * concurrent calls wait for each other.  With the current secret it does
 * nothing, so it can be repeated.
 */
SECRET_FUNCTION(stripe_sync_rotate_endpoint_secret)
{
	static EngineStatement lock = {
		"SELECT true FROM stripe_sync.endpoint WHERE name = $1 FOR UPDATE"};
	text *name = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	text *secret = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	Interval none = {0};
	Interval *keep = PG_ARGISNULL(2) ? &none : PG_GETARG_INTERVAL_P(2);
	Endpoint endpoint;
	Refusal refusal;
	RoleScope scope;
	bool same;

	check_endpoint_name(name);
	secret_check(secret);
	endpoint_check_interval(keep, "keep_old");
	scope = role_enter_engine();
	statement_exec(&lock, ARGS(arg_varlena(TEXTOID, name)));
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

/* drop_endpoint(name).  Events that it has stored remain. */
ENGINE_FUNCTION(stripe_sync_drop_endpoint)
{
	static EngineStatement drop = {
		"DELETE FROM stripe_sync.endpoint WHERE name = $1"};
	text *name;
	RoleScope scope;

	argument_required(fcinfo, 0, "the name of an endpoint");
	name = PG_GETARG_TEXT_PP(0);
	scope = role_enter_engine();
	if (statement_exec(&drop, ARGS(arg_varlena(TEXTOID, name))) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NO_SUCH_NAME), errhidestmt(true),
				 errmsg("there is no endpoint \"%s\"", text_to_cstring(name))));
	endpoint_secret_drop(name);
	journal_note_text("endpoint.dropped", name, NULL);
	outbound_note_identity();
	role_leave(&scope);
	PG_RETURN_VOID();
}
