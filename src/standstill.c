/*
 * standstill.c
 *		What keeps work from being done by itself, for who asks for it or waits.
 *
 * Messages and jobs are the worker's to do.  Where there is none, or it may not
 * call out, they wait; nobody should wait with them and not know.
 */
#include "stripe_sync.h"

#include "slots.h"

static bool
is_slack(const char *what)
{
	return strcmp(what, "slack") == 0;
}

static bool
find_guard(Standstill *standstill)
{
	OutboundState state = outbound_state();

	if (state == OUTBOUND_ON || state == OUTBOUND_UNNOTED)
		return false;
	standstill->reason = psprintf("nothing is sent from this database: %s",
								  outbound_reason(state));
	standstill->hint = outbound_remedy(state);
	standstill->work_helps = false;
	return true;
}

static bool
find_pause(const char *what, Standstill *standstill)
{
	if (!outbound_paused(what))
		return false;
	standstill->reason = is_slack(what) ? "messages to Slack are paused"
										: "requests to Stripe are paused";
	standstill->hint = psprintf("SELECT stripe_sync.resume('%s');", what);
	standstill->work_helps = false;
	return true;
}

static bool
find_no_worker(const char *what, Standstill *standstill)
{
	if (slots_ready())
		return false;
	standstill->reason = psprintf(
		"no worker %s it: stripe_sync is not in \"shared_preload_libraries\"",
		is_slack(what) ? "sends" : "does");
	standstill->hint = is_slack(what)
						   ? "CALL stripe_sync.work() sends what waits."
						   : "CALL stripe_sync.work() does what waits.";
	standstill->work_helps = true;
	return true;
}

/*
 * Why nothing of "slack", or "stripe", happens by itself; false when it does.
 * Needs a transaction.
 */
bool
standstill_find(const char *what, Standstill *standstill)
{
	return find_guard(standstill) || find_pause(what, standstill) ||
		   find_no_worker(what, standstill);
}

/* For a call that has told of a copy, by outbound_note_identity(), already. */
void
standstill_note(const char *what)
{
	Standstill standstill;

	if ((outbound_state() == OUTBOUND_OFF && find_guard(&standstill)) ||
		find_pause(what, &standstill) || find_no_worker(what, &standstill))
		ereport(NOTICE, (errmsg("%s", standstill.reason),
						 errhint("%s", standstill.hint)));
}
