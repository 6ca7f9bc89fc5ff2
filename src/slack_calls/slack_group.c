/*
 * slack_group.c
 *		Reads the members of user groups: usergroups.users.list, every ten minutes
 *		for each user group that set_slack_user() names, and each app.
 *
 * One request at a time: Slack allows 20 a minute.  What is read is stored in a
 * transaction of its own (slack_group_members.c); none is open during a request.
 */
#include "postgres.h"

#include <openssl/crypto.h>

#include "utils/memutils.h"

#include "engine/worker_transaction.h"
#include "outbox/outbox.h"
#include "server/server.h"
#include "slack_calls/internal.h"

#define MAX_ANSWER (1024 * 1024) /* bytes: some 70,000 members */

static SlackGroup *current = NULL; /* that is being read, or was */
static bool answered = false;	   /* its result is to be stored */
static TimestampTz not_before = 0; /* because of Slack's Retry-After */

/* ---- the request ---- */

static void
request_completed(HttpAnswer *answer)
{
	SlackGroup *group = answer->owner;

	slack_judge_http(answer, false, &group->judgement);
	group->retry_after = answer->retry_after;
	group->length = answer->length;
	group->body = http_keep_body(answer);
	http_free(answer);
	answered = true;
}

/* An id has letters and digits only: it can be a part of a URL. */
static bool
is_group_id(const char *id)
{
	return id[0] == 'S' && strlen(id) < 64 &&
		   strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == strlen(id);
}

static void
judge_unsent(SlackGroup *group, SlackVerdict verdict, const char *code)
{
	group->judgement.verdict = verdict;
	strlcpy(group->judgement.code, code, sizeof(group->judgement.code));
	answered = true;
}

static void
start_request(SlackGroup *group)
{
	HttpRequest request = {.method = "GET",
						   .max_answer = MAX_ANSWER,
						   .completed = request_completed,
						   .owner = group};
	char *header = psprintf("Authorization: Bearer %s", group->token);
	char *trouble = NULL;

	request.headers[0] = header;
	request.url = psprintf("%s/usergroups.users.list?usergroup=%s",
						   guc_slack_api_base, group->group);
	if (http_refusal(request.url, HTTP_SLACK_API) != NULL)
		judge_unsent(group, SLACK_MESSAGE_BAD, "url_refused");
	else if (!http_start(&request, &trouble))
		judge_unsent(group, SLACK_RETRY, "connection");
	OPENSSL_cleanse(header, strlen(header));
	pfree(header);
}

/* Read a group that is due, or find out when one will be. */
static bool
read_due(TimestampTz *next)
{
	worker_begin();
	groups_refresh();
	if (outbound_allowed("slack") && GetCurrentTimestamp() >= not_before)
	{
		current = group_take_due();
		*next = groups_next();
	}
	else
		*next = Max(not_before, GetCurrentTimestamp() + USECS_PER_MINUTE);
	worker_commit();
	if (current == NULL)
		return false;
	if (!is_group_id(current->group))
		judge_unsent(current, SLACK_MESSAGE_BAD, "invalid_id");
	else if (current->token == NULL)
		judge_unsent(current, SLACK_CREDENTIAL_DEAD, "no_token");
	else
		start_request(current);
	return true;
}

/* ---- its answer ---- */

static void
forget_current(void)
{
	if (current != NULL)
		group_free(current);
	current = NULL;
	answered = false;
}

static void
store_answer(void)
{
	if (current->judgement.verdict == SLACK_RETRY && current->retry_after >= 0)
		not_before = GetCurrentTimestamp() +
					 current->retry_after * USECS_PER_SEC;
	worker_begin();
	group_settle(current);
	worker_commit();
	forget_current();
}

/* ---- what the worker's loop calls ---- */

/* Returns false if there was nothing to do.  Makes no other task due. */
bool
slack_groups_turn(TimestampTz *next)
{
	static bool in_turn = false; /* still set after an error */

	bool busy = answered;

	*next = DT_NOEND;
	if (in_turn)
		slack_groups_abandon(); /* it is read again when it is due */
	in_turn = true;
	if (answered)
		store_answer();
	if (current == NULL)
		busy |= read_due(next);
	in_turn = false;
	return busy;
}

bool
slack_groups_have_news(void)
{
	return answered;
}

bool
slack_groups_idle(void)
{
	return current == NULL;
}

/* Drop the request in progress: when the worker or CALL work() ends. */
void
slack_groups_abandon(void)
{
	http_abandon(request_completed);
	forget_current();
}
