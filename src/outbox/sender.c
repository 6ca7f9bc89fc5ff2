/*
 * sender.c
 *		Sends claimed messages and settles them: the deliveries of this process.
 *
 * Each delivery is in one of these lists:
 *
 *	uncommitted		its claim's transaction hasn't committed
 *	claimed			it waits for a connection
 *	in_progress		its request was sent
 *	finished		its result is known, and not settled yet
 *	withdrawn		it will not be sent; its lease is not released yet
 *
 * and moves: uncommitted -> claimed -> in_progress -> finished -> freed, or claimed
 * -> withdrawn -> freed.  A delivery that could not be settled or released stays in
 * its list, and is tried again.
 *
 * Claiming, settling and releasing are transactions of their own; none is open
 * while requests are in progress.  If the process is killed, dead_sender.c releases
 * its messages.
 */
#include "postgres.h"

#include "utils/hsearch.h"

#include <openssl/crypto.h>

#include "base/base.h"
#include "base/subtransaction.h"
#include "engine/worker_transaction.h"
#include "http/http.h"
#include "outbox/outbox.h"
#include "outbox/slack.h"
#include "server/server.h"
#include "outbox/internal.h"

#define CLAIM_AHEAD			4 /* messages claimed, as a multiple of the connections */
#define DESTINATION_DIVISOR 4 /* a destination may use a quarter of them */
#define SETTLE_AGAIN		USECS_PER_SEC

static dlist_head uncommitted = DLIST_STATIC_INIT(uncommitted);
static dlist_head claimed = DLIST_STATIC_INIT(claimed);
static dlist_head in_progress = DLIST_STATIC_INIT(in_progress);
static dlist_head finished = DLIST_STATIC_INIT(finished);
static dlist_head withdrawn = DLIST_STATIC_INIT(withdrawn);
static int nclaimed = 0;			 /* length of the list */
static bool closed = false;			 /* no more requests are sent */
static bool one_by_one = false;		 /* settling all together has failed */
static TimestampTz settle_again = 0; /* when to try again */

/* Number of a destination's deliveries in all lists but uncommitted. */
typedef struct DestinationLoad
{
	char destination[NAMEDATALEN];
	int count;
} DestinationLoad;

static HTAB *loads = NULL;

/* ---- the lists ---- */

/* The deliveries that are in it */
static List *
list_of(dlist_head *head)
{
	List *deliveries = NIL;
	dlist_iter iter;

	dlist_foreach(iter, head)
	{
		Delivery *delivery = dlist_container(Delivery, node, iter.cur);

		deliveries = lappend(deliveries, delivery);
	}
	return deliveries;
}

static Delivery *
pop_delivery(dlist_head *head)
{
	return dlist_container(Delivery, node, dlist_pop_head_node(head));
}

/* ---- how many of each destination ---- */

static void
make_loads(void)
{
	HASHCTL control = {.keysize = NAMEDATALEN,
					   .entrysize = sizeof(DestinationLoad)};

	if (loads == NULL)
		loads = hash_create("stripe_sync destinations with deliveries", 64,
							&control, HASH_ELEM | HASH_STRINGS);
}

static void
count_load(const Delivery *delivery, int change)
{
	bool found;
	DestinationLoad *entry = hash_search(loads, delivery->destination,
										 HASH_ENTER, &found);

	entry->count = found ? entry->count + change : change;
	if (entry->count <= 0)
		(void) hash_search(loads, delivery->destination, HASH_REMOVE, NULL);
}

/*
 * How many more messages of a destination may be claimed.  A destination that
 * doesn't answer must not use all connections.
 */
int
sender_room_for(const char *destination)
{
	DestinationLoad *entry = hash_search(loads, destination, HASH_FIND, NULL);
	int most = Max(1, guc_max_connections / DESTINATION_DIVISOR);

	return Max(0, most - (entry != NULL ? entry->count : 0));
}

/* Empty a list.  Only committed deliveries have been counted. */
static void
free_all(dlist_head *head)
{
	while (!dlist_is_empty(head))
	{
		Delivery *delivery = pop_delivery(head);

		if (head != &uncommitted)
			count_load(delivery, -1);
		delivery_free(delivery);
	}
}

/* ---- sending ---- */

static void request_completed(HttpAnswer *answer);

/* End a delivery without a request.  "why", or NULL, is shown as its response. */
static void
finish_unsent(Delivery *delivery, SlackVerdict verdict, const char *code,
			  const char *why)
{
	delivery->judgement.verdict = verdict;
	strlcpy(delivery->judgement.code, code, sizeof(delivery->judgement.code));
	if (why != NULL)
		strlcpy(delivery->response, why, sizeof(delivery->response));
	delivery->finished = GetCurrentTimestamp();
	if (delivery->started == 0)
		delivery->started = delivery->finished;
	dlist_push_tail(&finished, &delivery->node);
}

/* Start its request, or end it if there can be none. */
static void
start_request(Delivery *delivery)
{
	HttpRequest request = {0};
	StringInfoData body;
	StringInfoData header;
	char *refusal;
	char *trouble = NULL;

	if (strcmp(delivery->method, "update") == 0 && delivery->update_ts == NULL)
	{
		delivery->cancelled = true;
		finish_unsent(delivery, SLACK_MESSAGE_BAD, "nothing_to_update", NULL);
		return;
	}
	if (delivery->secret == NULL)
	{
		finish_unsent(delivery, SLACK_CREDENTIAL_DEAD, "no_secret",
					  delivery->trouble);
		return;
	}
	initStringInfo(&body);
	initStringInfo(&header);
	request.completed = request_completed;
	refusal = delivery_request(delivery, &request, &body, &header);
	if (refusal != NULL)
	{
		delivery->trouble = MemoryContextStrdup(delivery->memory, refusal);
		finish_unsent(delivery, SLACK_DESTINATION_DEAD, "url_refused", refusal);
	}
	else if (http_start(&request, &trouble))
		dlist_push_tail(&in_progress, &delivery->node);
	else
		finish_unsent(delivery, SLACK_RETRY, "connection", trouble);
	OPENSSL_cleanse(header.data, header.maxlen);
	pfree(header.data);
	pfree(body.data);
}

/* Send claimed deliveries while there are free connections. */
static void
send_claimed(void)
{
	while (!closed && !dlist_is_empty(&claimed) && http_room_to_spare() > 0)
	{
		nclaimed--;
		start_request(pop_delivery(&claimed));
	}
}

/* Withdraw claimed deliveries, of a destination or (NULL) of all. */
static void
withdraw(const char *destination)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &claimed)
	{
		Delivery *delivery = dlist_container(Delivery, node, iter.cur);

		if (destination != NULL &&
			strcmp(delivery->destination, destination) != 0)
			continue;
		dlist_delete(&delivery->node);
		dlist_push_tail(&withdrawn, &delivery->node);
		nclaimed--;
	}
}

/* In a transaction of its own.  The messages are due at once. */
static void
release_withdrawn(void)
{
	if (dlist_is_empty(&withdrawn))
		return;
	worker_begin();
	outbox_release(delivery_leases(list_of(&withdrawn)), false);
	worker_commit();
	free_all(&withdrawn);
}

/* ---- answers ---- */

/* Does Slack accept no more messages for this destination for now? */
static bool
forbids_more(const Delivery *delivery)
{
	SlackVerdict verdict = delivery->judgement.verdict;

	return verdict == SLACK_DESTINATION_DEAD ||
		   verdict == SLACK_CREDENTIAL_DEAD ||
		   (verdict == SLACK_RETRY &&
			(delivery->retry_after >= 0 || delivery->status == 429));
}

/*
 * Called by http_deliver() with an answer, or a fault in its place.  What has been
 * claimed for a destination that now accepts no more is withdrawn.
 */
static void
request_completed(HttpAnswer *answer)
{
	Delivery *delivery = answer->owner;

	dlist_delete(&delivery->node);
	delivery_judge(delivery, answer);
	http_free(answer);
	if (delivery_continue(delivery))
	{
		dlist_push_head(&claimed, &delivery->node);
		nclaimed++;
		return;
	}
	if (forbids_more(delivery))
		withdraw(delivery->destination);
	dlist_push_tail(&finished, &delivery->node);
}

static void
settle_together(void)
{
	worker_begin();
	outbox_settle(list_of(&finished));
	worker_commit();
	free_all(&finished);
}

static void
settle_body(void *delivery)
{
	outbox_settle(list_make1(delivery));
}

/*
 * Each in a transaction of its own.  A delivery that fails to settle stays, and
 * doesn't block the others: a row may be locked by a user, for example.
 */
static void
settle_one_by_one(void)
{
	int n = list_length(list_of(&finished));

	while (n-- > 0)
	{
		Delivery *delivery = dlist_head_element(Delivery, node, &finished);
		ErrorData *error;
		bool done;

		worker_begin();
		done = subtransaction_run(settle_body, delivery,
								  subtransaction_excuse_all, &error);
		if (!done)
			ereport(WARNING, (errmsg("message " INT64_FORMAT
									 " could not be settled yet: %s",
									 delivery->id, error->message)));
		worker_commit();
		dlist_delete(&delivery->node);
		if (!done)
			dlist_push_tail(&finished, &delivery->node);
		else
		{
			count_load(delivery, -1);
			delivery_free(delivery);
		}
	}
}

/*
 * Settle all together, which is faster.  If that raises an error, which the caller
 * handles, the next call settles them one by one.
 */
static void
settle_finished(void)
{
	bool had_failed = one_by_one;

	one_by_one = true;
	if (had_failed)
		settle_one_by_one();
	else
		settle_together();
	one_by_one = !dlist_is_empty(&finished);
	settle_again = GetCurrentTimestamp() + SETTLE_AGAIN;
}

/* ---- what the worker's loop calls ---- */

/* Called once by the worker, and by each CALL work(). */
void
sender_setup(void)
{
	closed = false;
	make_loads();
	http_setup();
}

/* Does this process hold no leases? */
bool
sender_idle(void)
{
	return dlist_is_empty(&claimed) && dlist_is_empty(&in_progress) &&
		   dlist_is_empty(&finished) && dlist_is_empty(&withdrawn);
}

/* When to try again to settle what could not be settled. */
TimestampTz
sender_next(void)
{
	return dlist_is_empty(&finished) ? DT_NOEND : settle_again;
}

/*
 * Judge the answers that have arrived, send claimed deliveries, and settle finished
 * ones.  Returns false if there was nothing to settle.
 */
bool
sender_process_answers(void)
{
	http_deliver(); /* always: nothing else reads answers */
	send_claimed();
	release_withdrawn();
	if (dlist_is_empty(&finished) ||
		(one_by_one && GetCurrentTimestamp() < settle_again))
		return false;
	settle_finished();
	return true;
}

/* The claim has committed: the messages are leased to this process. */
static void
accept_claimed(void)
{
	while (!dlist_is_empty(&uncommitted))
	{
		Delivery *delivery = pop_delivery(&uncommitted);

		count_load(delivery, 1);
		dlist_push_tail(&claimed, &delivery->node);
		nclaimed++;
	}
}

/*
 * Claim messages, in a transaction of its own, and send them.  Returns false if
 * there were none, or there is no room for more.  If sending is not allowed, what
 * was claimed before is withdrawn.
 *
 * Deliveries left by a claim whose commit failed are freed: their messages were not
 * claimed.
 */
bool
sender_claim_and_send(ClaimOutlook *outlook)
{
	int room = CLAIM_AHEAD * guc_max_connections - nclaimed;
	List *deliveries = NIL;
	bool found;
	bool may;
	ListCell *cell;

	if (nclaimed > guc_max_connections)
		return false;
	free_all(&uncommitted);
	worker_begin();
	may = outbound_allowed(
		"slack"); /* not in a copy of a database, nor if paused */
	if (may)
		deliveries = outbox_claim(room, outlook);
	foreach(cell, deliveries)
		dlist_push_tail(&uncommitted, &((Delivery *) lfirst(cell))->node);
	worker_commit();
	found = !dlist_is_empty(&uncommitted);
	accept_claimed();
	if (!may)
		withdraw(NULL);
	send_claimed();
	release_withdrawn();
	return found;
}

/* Release the leases of dead holders, in a transaction of its own. */
void
sender_reclaim(void)
{
	List *mine;

	worker_begin();
	mine = list_concat(list_of(&claimed), list_of(&in_progress));
	mine = list_concat(mine, list_of(&withdrawn));
	outbox_reclaim(list_concat(mine, list_of(&finished)));
	worker_commit();
}

/* Send nothing more, and release what is claimed.  Requests in progress continue. */
void
sender_close(void)
{
	closed = true;
	withdraw(NULL);
	release_withdrawn();
}

static void
release_body(void *arg)
{
	outbox_release(delivery_leases(list_of(&in_progress)), true);
	outbox_release(delivery_leases(list_of(&finished)), true);
}

/*
 * Release all leases, when the worker or CALL work() ends.  Messages whose requests
 * are in progress, or that could not be settled, are due at once, with their attempt
 * counted.
 */
void
sender_release_all(void)
{
	ErrorData *error;

	http_deliver();
	sender_close();
	if (!dlist_is_empty(&finished))
		settle_one_by_one();
	if (sender_idle())
		return;
	http_abandon(request_completed);
	worker_begin();
	/* if this fails, the leases are released when this process has ended */
	if (!subtransaction_run(release_body, NULL, subtransaction_excuse_all,
							&error))
		ereport(WARNING,
				(errmsg("could not release messages: %s", error->message)));
	worker_commit();
	free_all(&in_progress);
	free_all(&finished);
}
