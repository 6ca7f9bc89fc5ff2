/*
 * account_age.c
 *		Reads when an account was created, for the progress of a backfill.
 *
 * No object of an account is older than the account, so its age bounds how far
 * back its lists go.
 */
#include "postgres.h"

#include "engine/statement.h"
#include "jobs/part.h"
#include "mirror/mirror.h"
#include "stripe/stripe.h"
#include "sync/internal.h"

static char *
age_path(const Part *part)
{
	return pstrdup(OWN_ACCOUNT);
}

/*
 * Note the account's age in its lists.  Without it, because the key may not read
 * the account for example, there is less progress to show, and nothing fails.
 */
static void
age_process(Part *part, const ApiCall *call)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.job_part SET oldest = $3"
		" WHERE job = $1 AND account = $2 AND kind = 'list'"};
	FetchedObject account = {0};
	TimestampTz created;

	part->finished = true;
	if (call->verdict != API_OK || !object_of_answer(call, &account))
		return;
	created = object_created(account.object);
	if (created != DT_NOBEGIN)
		(void) statement_exec(&update,
							  ARGS(arg_int8(part->job), arg_text(part->account),
								   arg_time(created)));
}

const PartKind part_age = {
	.name = "age",
	.path = age_path,
	.process = age_process,
	.ended = backfill_part_ended,
	.accepts = API_BIT(API_REFUSED) | API_BIT(API_GONE) | API_BIT(API_FORBIDDEN),
};
