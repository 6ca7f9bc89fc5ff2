/*
 * standstill.c
 *		Why the worker doesn't send messages or run jobs at present.
 *
 * Functions that queue a message or a job report it as a NOTICE, so that the
 * caller doesn't wait in vain.
 */
#include "postgres.h"

#include "server/server.h"
#include "server/worker_slots.h"
#include "server/internal.h"

static bool
is_slack(const char *what)
{
	return strcmp(what, "slack") == 0;
}

/* The database may not send: it is a copy, or stripe_sync.outbound is off. */
static bool
find_outbound(Standstill *standstill)
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
		is_slack(what) ? "sends" : "runs");
	standstill->hint = is_slack(what)
						   ? "CALL stripe_sync.work() sends waiting messages."
						   : "CALL stripe_sync.work() runs waiting jobs.";
	standstill->work_helps = true;
	return true;
}

/*
 * Fill in why nothing is sent to "slack", or requested of "stripe".  Returns
 * false if nothing is in the way.  Needs a transaction.
 */
bool
standstill_find(const char *what, Standstill *standstill)
{
	return find_outbound(standstill) || find_pause(what, standstill) ||
		   find_no_worker(what, standstill);
}

/*
 * Report it as a NOTICE.  For functions that have called
 * outbound_note_identity(), which warns of a copy itself.
 */
void
standstill_note(const char *what)
{
	Standstill standstill;

	if ((outbound_state() == OUTBOUND_OFF && find_outbound(&standstill)) ||
		find_pause(what, &standstill) || find_no_worker(what, &standstill))
		ereport(NOTICE, (errmsg("%s", standstill.reason),
						 errhint("%s", standstill.hint)));
}
