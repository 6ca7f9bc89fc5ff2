/*
 * sender.c
 *		Sends claimed messages and settles them.
 *
 * A delivery is in one of these lists: uncommitted, until its claim commits;
 * claimed, waiting for a connection; in_progress, its request sent; finished,
 * until it is settled; withdrawn, until its lease is released unsent.  No
 * transaction is open unless a comment says so.  A delivery that could not be
 * settled or released stays in its list.
 */
#include "stripe_sync.h"

#include "lib/stringinfo.h"
#include "utils/hsearch.h"

#include <openssl/crypto.h>

#include "delivery.h"
#include "loop.h"

#define AHEAD		 4 /* claims are up to so many times the connections */
#define SHARE		 4 /* of the connections a destination may have a quarter */
#define SETTLE_AGAIN USECS_PER_SEC

static dlist_head uncommitted = DLIST_STATIC_INIT(uncommitted);
static dlist_head claimed = DLIST_STATIC_INIT(claimed);
static dlist_head in_progress = DLIST_STATIC_INIT(in_progress);
static dlist_head finished = DLIST_STATIC_INIT(finished);
static dlist_head withdrawn = DLIST_STATIC_INIT(withdrawn);
static int nclaimed = 0;
static bool closed = false;			 /* nothing more is dispatched */
static bool careful = false;		 /* settling all at once has failed */
static TimestampTz settle_again = 0; /* when to try again */

/* Number of a destination's deliveries in all lists but uncommitted. */
typedef struct DestinationLoad
{
	char destination[NAMEDATALEN];
	int count;
} DestinationLoad;

static HTAB *loads = NULL;

/* ---- the lists ---- */

/* The deliveries of a list, which keeps them. */
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
pop(dlist_head *head)
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
 * How many more of a destination may be claimed.  One that doesn't answer must
 * not take all connections from the others.
 */
int
sender_room_for(const char *destination)
{
	DestinationLoad *entry = hash_search(loads, destination, HASH_FIND, NULL);
	int most = Max(1, guc_max_connections / SHARE);

	return Max(0, most - (entry != NULL ? entry->count : 0));
}

static void
free_all(dlist_head *head)
{
	while (!dlist_is_empty(head))
	{
		Delivery *delivery = pop(head);

		if (head != &uncommitted)
			count_load(delivery, -1);
		delivery_free(delivery);
	}
}

/* ---- sending ---- */

static void request_completed(HttpAnswer *answer);

/* End a delivery whose request was not sent. */
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

static void
dispatch(Delivery *delivery)
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
dispatch_claimed(void)
{
	while (!closed && !dlist_is_empty(&claimed) && http_room() > 0)
	{
		nclaimed--;
		dispatch(pop(&claimed));
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

/* In a transaction of its own: the messages are due at once. */
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

/* Called by http_deliver() with an answer, or a fault in its place. */
static void
request_completed(HttpAnswer *answer)
{
	Delivery *delivery = answer->owner;

	dlist_delete(&delivery->node);
	delivery_judge(delivery, answer);
	http_free(answer);
	if (delivery_goes_on(delivery))
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

/* A delivery that fails to settle stays, and doesn't block the others. */
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

/* If it raises an error, the next call settles them one by one. */
static void
settle_finished(void)
{
	bool was_careful = careful;

	careful = true;
	if (was_careful)
		settle_one_by_one();
	else
		settle_together();
	careful = !dlist_is_empty(&finished);
	settle_again = GetCurrentTimestamp() + SETTLE_AGAIN;
}

/* ---- what the pass calls ---- */

void
sender_setup(void)
{
	closed = false;
	make_loads();
	http_setup();
}

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
 * Judge the answers that have come, send claimed deliveries, and settle finished
 * ones.  False if there was nothing to settle.
 */
bool
sender_process_answers(void)
{
	http_deliver(); /* always: nothing else reads answers */
	dispatch_claimed();
	release_withdrawn();
	if (dlist_is_empty(&finished) ||
		(careful && GetCurrentTimestamp() < settle_again))
		return false;
	settle_finished();
	return true;
}

/* Not in a copy of a database, nor while it is paused. */
static bool
may_send(void)
{
	return outbound_allowed("slack");
}

/* The claim has committed: these messages are leased to this process. */
static void
take_committed(void)
{
	while (!dlist_is_empty(&uncommitted))
	{
		Delivery *delivery = pop(&uncommitted);

		count_load(delivery, 1);
		dlist_push_tail(&claimed, &delivery->node);
		nclaimed++;
	}
}

/*
 * Claim messages, in a transaction of its own, and send them.  False if there
 * were none, or no room for more.  Deliveries left by a claim whose commit
 * failed are freed: their messages were not claimed.
 */
bool
sender_claim_and_send(ClaimOutlook *outlook)
{
	int room = AHEAD * guc_max_connections - nclaimed;
	List *deliveries = NIL;
	bool found;
	bool may;
	ListCell *cell;

	if (nclaimed > guc_max_connections)
		return false;
	free_all(&uncommitted);
	worker_begin();
	may = may_send();
	if (may)
		deliveries = outbox_claim(room, outlook);
	foreach(cell, deliveries)
		dlist_push_tail(&uncommitted, &((Delivery *) lfirst(cell))->node);
	worker_commit();
	found = !dlist_is_empty(&uncommitted);
	take_committed();
	if (!may)
		withdraw(NULL);
	dispatch_claimed();
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

/* Send nothing more.  Requests in progress can still finish. */
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
 * Release all leases: messages whose requests are in progress, or could not be
 * settled, are due at once with their attempt counted.
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
	/* leases that remain end with this process */
	if (!subtransaction_run(release_body, NULL, subtransaction_excuse_all,
							&error))
		ereport(WARNING,
				(errmsg("could not release messages: %s", error->message)));
	worker_commit();
	free_all(&in_progress);
	free_all(&finished);
}
