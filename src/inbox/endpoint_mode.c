/*
 * endpoint_mode.c
 *		Does an endpoint accept events of this mode (live or test)?
 *
 * Test and live objects can have the same id (people choose those of coupons,
 * plans and products), and the key of a mirror row does not include the mode.
 * So an account has one mode.
 *
 * An endpoint whose mode was set refuses events of the other one (SY006).  One
 * whose mode was not set keeps the mode of the first event that it stores, or
 * the one of the account's other endpoints.  An event of the other mode is then
 * held: it is stored with status "ignored" and applied by replay() when the
 * endpoint's mode has been set.  Test events are held as well if an older
 * version has allowed endpoints of both modes to have one account.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/error_codes.h"
#include "base/refusal.h"
#include "engine/engine.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "inbox/inbox.h"
#include "inbox/internal.h"

/* ---- the first event ---- */

static bool
find_account_mode(const char *account, bool *live)
{
	bool has_mode;

	(void) account_has_endpoint(account, &has_mode, live);
	return has_mode;
}

/*
 * Store the mode of the endpoint's first event, or the account's if that has
 * one.  ADVISORY_ENDPOINT is held until the transaction's end: the set-up of
 * endpoints and the first event of another endpoint of the account wait for it.
 */
static void
set_mode(Endpoint *endpoint, bool live)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.endpoint SET livemode = $2, mode_learned = true"
		" WHERE name = $1 AND livemode IS NULL"};

	advisory_lock(ADVISORY_ENDPOINT, 0);
	if (!find_account_mode(endpoint->account, &endpoint->livemode))
		endpoint->livemode = live;
	endpoint->has_livemode = endpoint->mode_learned = true;
	statement_exec(
		&update, ARGS(arg_text(endpoint->name), arg_bool(endpoint->livemode)));
}

/* ---- the verdict ---- */

/* Does any account have endpoints of both modes?  Cached until one changes. */
static bool
are_any_mixed(void)
{
	static EngineStatement select = {
		"SELECT true FROM stripe_sync.endpoint GROUP BY account"
		" HAVING pg_catalog.count(DISTINCT livemode) > 1 LIMIT 1"};
	static uint64 known = 0;
	static bool mixed = false;
	uint64 now = engine_generation();

	if (known == now)
		return mixed;
	mixed = statement_bool(false, &select, NO_ARGS);
	known = now;
	return mixed;
}

/* Does the account have live endpoints beside this one for test events? */
static bool
is_beside_live(const Endpoint *endpoint)
{
	bool live;

	return are_any_mixed() && find_account_mode(endpoint->account, &live) &&
		   live;
}

/*
 * May the endpoint take the event?  Stores the endpoint's mode if it has none.
 * Runs in the engine's scope.
 */
ModeVerdict
endpoint_mode_judge(Endpoint *endpoint, const Event *event)
{
	if (!event->has_livemode)
		return MODE_FITS;
	if (!endpoint->has_livemode)
		set_mode(endpoint, event->livemode);
	if (endpoint->livemode != event->livemode)
		return endpoint->mode_learned ? MODE_HELD : MODE_REFUSED;
	return !event->livemode && is_beside_live(endpoint) ? MODE_HELD : MODE_FITS;
}

static const char *
mode_name(bool live)
{
	return live ? "live" : "test";
}

/* Why an event is held, and the statements that release it. */
char *
endpoint_mode_reason(const Endpoint *endpoint, const Event *event)
{
	char *name = quote_literal_cstr(endpoint->name);

	if (endpoint->livemode == event->livemode)
		return psprintf(
			"it is a test event, and %s has live endpoints too; give endpoint \"%s\" an account of its own: SELECT stripe_sync.add_endpoint(%s, 'whsec_...', livemode => false, account => 'test'), then stripe_sync.replay(%s)",
			account_words(endpoint->account), endpoint->name, name,
			quote_literal_cstr(event->id));
	return psprintf(
		"it is a %s event, and endpoint \"%s\" takes %s events, as the first one that it stored was; if that is wrong: SELECT stripe_sync.add_endpoint(%s, 'whsec_...', livemode => %s), then stripe_sync.replay(%s)",
		mode_name(event->livemode), endpoint->name,
		mode_name(endpoint->livemode), name, event->livemode ? "true" : "false",
		quote_literal_cstr(event->id));
}

/*
 * Fill in the refusal (SY006) of an event whose mode is not the one set for the
 * endpoint.  Returns false.
 */
bool
endpoint_mode_refuse(const Endpoint *endpoint, const Event *event,
					 Refusal *refusal)
{
	(void) refuse(
		refusal, FAULT_CLIENT, ERRCODE_WRONG_MODE,
		psprintf(
			"event \"%s\" is a %s event, but endpoint \"%s\" takes %s events",
			event->id, mode_name(event->livemode), endpoint->name,
			mode_name(endpoint->livemode)),
		NULL,
		"Stripe sends test events to live Connect endpoints as well; answer 200 and drop the event, as webhook() does.");
	refusal->live = event->livemode;
	return false;
}

/*
 * Does the event belong to an account that has an endpoint of its own, of the
 * other mode?  Then returns true with the refusal (SY006): its rows would
 * overwrite those of that endpoint.
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
			"event \"%s\" is a %s event of %s, whose own endpoint takes %s events",
			event->id, mode_name(event->livemode), account_words(owner),
			mode_name(live)),
		NULL,
		psprintf(
			"Give endpoint \"%s\" an account of its own, so that its objects have rows of their own: stripe_sync.add_endpoint(..., account => 'test').",
			endpoint->name));
	refusal->live = event->livemode;
	return true;
}

/* ---- set-up ---- */

/*
 * Raises 22023 if endpoints of both modes have this account; "name" is the
 * endpoint that was changed, or NULL for any.  The caller holds
 * ADVISORY_ENDPOINT.
 */
void
endpoint_mode_check(const char *name, const char *account)
{
	static EngineStatement select = {
		"SELECT o.name, e.livemode FROM stripe_sync.endpoint e"
		" JOIN stripe_sync.endpoint o ON o.account = e.account"
		"  AND o.livemode <> e.livemode"
		" WHERE e.account = $2 AND ($1 IS NULL OR e.name = $1)"
		" ORDER BY o.name LIMIT 1"};
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_text(name), arg_text(account)));
	if (rows_next(&rows))
	{
		char *other = rows_text(&rows);
		bool live = rows_bool(&rows, false);

		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg("endpoint \"%s\" takes %s events into the same account",
					other, mode_name(!live)),
			 errdetail(
				 "Test and live objects can have the same id, and would overwrite each other."),
			 errhint(
				 "Give this one an account of its own, add_endpoint(..., livemode => %s, account => '%s'), or use another database.",
				 live ? "true" : "false", live ? "live" : "test")));
	}
	rows_close(&rows);
}
