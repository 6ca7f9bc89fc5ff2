/*
 * endpoint_mode.c
 *		Does an endpoint take events of this mode?
 *
 * Ids of test and live objects may be the same (coupons, plans, products have
 * ids that people choose), and nothing in a row's key says of which mode it is:
 * so an account has one mode.
 *
 * An endpoint that was given a mode refuses events of the other.  One that
 * wasn't keeps the mode of the first event that it stores, or that of the
 * account's other endpoints; an event of the other mode is held: stored, and
 * ignored, until somebody says which is right.  So are test events where an
 * older version has let endpoints of both modes have one account.
 */
#include "account.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

/* ---- the first event ---- */

static bool
find_account_mode(const char *account, bool *live)
{
	bool has_mode;

	(void) account_has_endpoint(account, &has_mode, live);
	return has_mode;
}

/*
 * From now on it takes this mode, or the account's if that has one.  Set-up
 * waits, and so does who stores another first event of the account.
 */
static void
learn(Endpoint *endpoint, bool live)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.endpoint SET livemode = $2, mode_learned = true"
		" WHERE name OPERATOR(pg_catalog.=) $1 AND livemode IS NULL",
		2,
		{TEXTOID, BOOLOID}};
	Datum values[2];

	advisory_lock(ADVISORY_ENDPOINT, 0);
	if (!find_account_mode(endpoint->account, &endpoint->livemode))
		endpoint->livemode = live;
	endpoint->has_livemode = endpoint->mode_learned = true;
	values[0] = CStringGetTextDatum(endpoint->name);
	values[1] = BoolGetDatum(endpoint->livemode);
	SPI_connect();
	engine_run(&update, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
}

/* ---- the verdict ---- */

/* Have any endpoints of both modes one account?  Looked up when one changes. */
static bool
are_any_mixed(void)
{
	static EngineStatement select = {
		"SELECT 1 FROM stripe_sync.endpoint GROUP BY account"
		" HAVING pg_catalog.count(DISTINCT livemode) OPERATOR(pg_catalog.>) 1"};
	static uint64 known = 0;
	static bool mixed = false;
	uint64 now = engine_generation();

	if (known == now)
		return mixed;
	SPI_connect();
	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	mixed = SPI_processed > 0;
	SPI_finish();
	known = now;
	return mixed;
}

/* Does the account have live endpoints beside this one, which takes test events? */
static bool
is_beside_live(const Endpoint *endpoint)
{
	bool live;

	return are_any_mixed() && find_account_mode(endpoint->account, &live) &&
		   live;
}

/* Runs in the engine's RoleScope. */
ModeVerdict
endpoint_mode_judge(Endpoint *endpoint, const Event *event)
{
	if (!event->has_livemode)
		return MODE_FITS;
	if (!endpoint->has_livemode)
		learn(endpoint, event->livemode);
	if (endpoint->livemode != event->livemode)
		return endpoint->mode_learned ? MODE_HELD : MODE_REFUSED;
	return !event->livemode && is_beside_live(endpoint) ? MODE_HELD : MODE_FITS;
}

static const char *
mode_name(bool live)
{
	return live ? "live" : "test";
}

/* Why an event is held, and what to run. */
char *
endpoint_mode_reason(const Endpoint *endpoint, const Event *event)
{
	char *name = quote_literal_cstr(endpoint->name);

	if (endpoint->livemode == event->livemode)
		return psprintf(
			"a test event, and %s has live endpoints too; give endpoint \"%s\" an account of its own: SELECT stripe_sync.add_endpoint(%s, 'whsec_...', livemode => false, account => 'test'), then stripe_sync.replay(%s)",
			account_words(endpoint->account), endpoint->name, name,
			quote_literal_cstr(event->id));
	return psprintf(
		"a %s event, and endpoint \"%s\" takes %s ones, as the first that it stored was; if that is wrong: SELECT stripe_sync.add_endpoint(%s, 'whsec_...', livemode => %s), then stripe_sync.replay(%s)",
		mode_name(event->livemode), endpoint->name,
		mode_name(endpoint->livemode), name, event->livemode ? "true" : "false",
		quote_literal_cstr(event->id));
}

/* An event that the endpoint was told not to take. */
bool
endpoint_mode_refuse(const Endpoint *endpoint, const Event *event,
					 Refusal *refusal)
{
	(void) refuse(
		refusal, FAULT_CLIENT, ERRCODE_WRONG_MODE,
		psprintf("event \"%s\" is a %s event, endpoint \"%s\" takes %s ones",
				 event->id, mode_name(event->livemode), endpoint->name,
				 mode_name(endpoint->livemode)),
		NULL,
		"Stripe sends test events to live Connect endpoints as well; answer 200 and forget it, as webhook() does.");
	refusal->live = event->livemode;
	return false;
}

/*
 * Is the event of an account that has an endpoint of its own, of the other mode?
 * Then it is refused: its rows are that endpoint's.
 */
bool
endpoint_mode_is_anothers(const Endpoint *endpoint, const Event *event,
						  Refusal *refusal)
{
	char *owner;
	bool live;

	if (!event->has_livemode || strcmp(event->account, endpoint->account) == 0)
		return false;
	owner = account_owner(event->account);
	if (strcmp(owner, endpoint->account) == 0 ||
		!find_account_mode(owner, &live) || live == event->livemode)
		return false;
	(void) refuse(
		refusal, FAULT_CLIENT, ERRCODE_WRONG_MODE,
		psprintf(
			"event \"%s\" is a %s event of %s, whose own endpoint takes %s ones",
			event->id, mode_name(event->livemode), account_words(owner),
			mode_name(live)),
		NULL,
		psprintf(
			"Give endpoint \"%s\" an account of its own, so that what it brings has other rows: stripe_sync.add_endpoint(..., account => 'test').",
			endpoint->name));
	refusal->live = event->livemode;
	return true;
}

/* ---- set-up ---- */

/* One account, one mode.  The caller has the lock of set-up. */
void
endpoint_mode_check(const char *name, const char *account)
{
	static EngineStatement select = {
		"SELECT o.name, e.livemode FROM stripe_sync.endpoint e"
		" JOIN stripe_sync.endpoint o ON o.account OPERATOR(pg_catalog.=) e.account"
		"  AND o.livemode OPERATOR(pg_catalog.<>) e.livemode"
		" WHERE e.account OPERATOR(pg_catalog.=) $2"
		"  AND ($1 IS NULL OR e.name OPERATOR(pg_catalog.=) $1)"
		" ORDER BY o.name LIMIT 1",
		2,
		{TEXTOID, TEXTOID}};
	Datum values[] = {name != NULL ? CStringGetTextDatum(name) : (Datum) 0,
					  CStringGetTextDatum(account)};
	char *other;
	bool live;

	SPI_connect();
	engine_run(&select, values, name != NULL ? NULL : "n ", SPI_OK_SELECT);
	if (SPI_processed > 0)
	{
		other = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		live = DatumGetBool(SPI_getbinval(
			SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &(bool){false}));
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg("endpoint \"%s\" takes %s events into the same account",
					other, mode_name(!live)),
			 errdetail(
				 "Objects of test and live can have the same id, and would overwrite each other."),
			 errhint(
				 "Give this one an account of its own, add_endpoint(..., livemode => %s, account => '%s'), or use another database.",
				 live ? "true" : "false", live ? "live" : "test")));
	}
	SPI_finish();
}
