/*
 * sender.c
 *		Messages in the air: dispatched, their answers taken, settled.
 *
 * A flight is in one of these lists: fresh, until its claim is committed;
 * claimed, waiting for a connection; flying; landed, until it is settled;
 * recalled, until it is let go of unsent.  No transaction is open but where it
 * says so, and what failed to be settled or let go of stays in its list.
 */
#include "stripe_sync.h"

#include "lib/stringinfo.h"
#include "utils/hsearch.h"

#include <openssl/crypto.h>

#include "flight.h"
#include "loop.h"

#define AHEAD		 4 /* claims are up to so many times the connections */
#define SHARE		 4 /* of the connections a destination may have a quarter */
#define SETTLE_AGAIN USECS_PER_SEC

static dlist_head fresh = DLIST_STATIC_INIT(fresh);
static dlist_head claimed = DLIST_STATIC_INIT(claimed);
static dlist_head flying = DLIST_STATIC_INIT(flying);
static dlist_head landed = DLIST_STATIC_INIT(landed);
static dlist_head recalled = DLIST_STATIC_INIT(recalled);
static int nclaimed = 0;
static bool closed = false;			 /* nothing more is dispatched */
static bool careful = false;		 /* settling all at once has failed */
static TimestampTz settle_again = 0; /* when to try again */

/* How many of a destination's are in the lists. */
typedef struct InAir
{
	char destination[NAMEDATALEN];
	int count;
} InAir;

static HTAB *in_air = NULL;

/* ---- the lists ---- */

/* All of a list, for who wants to look at them. */
static List *
list_of(dlist_head *head)
{
	List *flights = NIL;
	dlist_iter iter;

	dlist_foreach(iter, head)
		flights = lappend(flights, dlist_container(Flight, node, iter.cur));
	return flights;
}

static Flight *
pop(dlist_head *head)
{
	return dlist_container(Flight, node, dlist_pop_head_node(head));
}

/* ---- how many of each destination ---- */

static void
in_air_make(void)
{
	HASHCTL control = {.keysize = NAMEDATALEN, .entrysize = sizeof(InAir)};

	if (in_air == NULL)
		in_air = hash_create("stripe_sync destinations in the air", 64,
							 &control, HASH_ELEM | HASH_STRINGS);
}

static void
in_air_count(const Flight *flight, int change)
{
	bool found;
	InAir *entry = hash_search(in_air, flight->destination, HASH_ENTER, &found);

	entry->count = found ? entry->count + change : change;
	if (entry->count <= 0)
		(void) hash_search(in_air, flight->destination, HASH_REMOVE, NULL);
}

/*
 * How many more of a destination may be claimed.  One that doesn't answer must
 * not take all connections from the others.
 */
int
sender_room_for(const char *destination)
{
	InAir *entry = hash_search(in_air, destination, HASH_FIND, NULL);
	int most = Max(1, guc_max_connections / SHARE);

	return Max(0, most - (entry != NULL ? entry->count : 0));
}

static void
free_all(dlist_head *head)
{
	while (!dlist_is_empty(head))
	{
		Flight *flight = pop(head);

		if (head != &fresh)
			in_air_count(flight, -1);
		flight_free(flight);
	}
}

/* ---- sending ---- */

static void request_completed(HttpAnswer *answer);

/* It comes back without having been sent. */
static void
land(Flight *flight, SlackVerdict verdict, const char *code, const char *why)
{
	flight->judgement.verdict = verdict;
	strlcpy(flight->judgement.code, code, sizeof(flight->judgement.code));
	if (why != NULL)
		strlcpy(flight->response, why, sizeof(flight->response));
	flight->finished = GetCurrentTimestamp();
	if (flight->started == 0)
		flight->started = flight->finished;
	dlist_push_tail(&landed, &flight->node);
}

static void
dispatch(Flight *flight)
{
	HttpRequest request = {0};
	StringInfoData body;
	StringInfoData header;
	char *refusal;
	char *trouble = NULL;

	if (strcmp(flight->method, "update") == 0 && flight->update_ts == NULL)
	{
		flight->moot = true;
		land(flight, SLACK_MESSAGE_BAD, "nothing_to_update", NULL);
		return;
	}
	if (flight->secret == NULL)
	{
		land(flight, SLACK_CREDENTIAL_DEAD, "no_secret", flight->trouble);
		return;
	}
	initStringInfo(&body);
	initStringInfo(&header);
	request.completed = request_completed;
	refusal = flight_request(flight, &request, &body, &header);
	if (refusal != NULL)
	{
		flight->trouble = MemoryContextStrdup(flight->memory, refusal);
		land(flight, SLACK_DESTINATION_DEAD, "url_refused", refusal);
	}
	else if (http_start(&request, &trouble))
		dlist_push_tail(&flying, &flight->node);
	else
		land(flight, SLACK_RETRY, "connection", trouble);
	OPENSSL_cleanse(header.data, header.maxlen);
	pfree(header.data);
	pfree(body.data);
}

/* Send what is claimed, as far as there are connections. */
static void
dispatch_claimed(void)
{
	while (!closed && !dlist_is_empty(&claimed) && http_room() > 0)
	{
		nclaimed--;
		dispatch(pop(&claimed));
	}
}

/* Take back what is claimed and not yet sent, of a destination or (NULL) all. */
static void
recall(const char *destination)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &claimed)
	{
		Flight *flight = dlist_container(Flight, node, iter.cur);

		if (destination != NULL && strcmp(flight->destination, destination) != 0)
			continue;
		dlist_delete(&flight->node);
		dlist_push_tail(&recalled, &flight->node);
		nclaimed--;
	}
}

/* In a transaction of its own: what was not sent is due at once. */
static void
release_recalled(void)
{
	if (dlist_is_empty(&recalled))
		return;
	worker_begin();
	outbox_release(leases_of(list_of(&recalled)), false);
	worker_commit();
	free_all(&recalled);
}

/* ---- answers ---- */

/* Slack wants nothing more of that destination for now. */
static bool
forbids_more(const Flight *flight)
{
	SlackVerdict verdict = flight->judgement.verdict;

	return verdict == SLACK_DESTINATION_DEAD ||
		   verdict == SLACK_CREDENTIAL_DEAD ||
		   (verdict == SLACK_RETRY &&
			(flight->retry_after >= 0 || flight->status == 429));
}

/* Its answer has come, or won't. */
static void
request_completed(HttpAnswer *answer)
{
	Flight *flight = answer->owner;

	dlist_delete(&flight->node);
	flight_judge(flight, answer);
	http_free(answer);
	if (flight_goes_on(flight))
	{
		dlist_push_head(&claimed, &flight->node);
		nclaimed++;
		return;
	}
	if (forbids_more(flight))
		recall(flight->destination);
	dlist_push_tail(&landed, &flight->node);
}

static void
settle_together(void)
{
	worker_begin();
	outbox_settle(list_of(&landed));
	worker_commit();
	free_all(&landed);
}

static void
settle_body(void *flight)
{
	outbox_settle(list_make1(flight));
}

/* One that can't be settled now stays, and is no other's trouble. */
static void
settle_one_by_one(void)
{
	int n = list_length(list_of(&landed));

	while (n-- > 0)
	{
		Flight *flight = dlist_head_element(Flight, node, &landed);
		ErrorData *error;
		bool done;

		worker_begin();
		done = subtransaction_run(settle_body, flight,
								  subtransaction_excuse_all, &error);
		if (!done)
			ereport(WARNING, (errmsg("message " INT64_FORMAT
									 " could not be settled yet: %s",
									 flight->id, error->message)));
		worker_commit();
		dlist_delete(&flight->node);
		if (!done)
			dlist_push_tail(&landed, &flight->node);
		else
		{
			in_air_count(flight, -1);
			flight_free(flight);
		}
	}
}

/* Should it fail, the next time is a careful one. */
static void
settle_landed(void)
{
	bool was_careful = careful;

	careful = true;
	if (was_careful)
		settle_one_by_one();
	else
		settle_together();
	careful = !dlist_is_empty(&landed);
	settle_again = GetCurrentTimestamp() + SETTLE_AGAIN;
}

/* ---- what the pass calls ---- */

void
sender_setup(void)
{
	closed = false;
	in_air_make();
	http_setup();
}

bool
sender_idle(void)
{
	return dlist_is_empty(&claimed) && dlist_is_empty(&flying) &&
		   dlist_is_empty(&landed) && dlist_is_empty(&recalled);
}

/* When is what failed to be settled to be tried again? */
TimestampTz
sender_next(void)
{
	return dlist_is_empty(&landed) ? DT_NOEND : settle_again;
}

/*
 * Take the answers that have come, send what can be sent now, and settle what
 * has landed.  False when there was nothing to settle.
 */
bool
sender_settle(void)
{
	http_deliver(); /* however busy we are, nobody else reads answers */
	dispatch_claimed();
	release_recalled();
	if (dlist_is_empty(&landed) ||
		(careful && GetCurrentTimestamp() < settle_again))
		return false;
	settle_landed();
	return true;
}

/* A copy of a database, or one that is paused, keeps what it owes. */
static bool
may_send(void)
{
	return outbound_allowed("slack");
}

/* What was claimed is ours once that is committed. */
static void
keep_fresh(void)
{
	while (!dlist_is_empty(&fresh))
	{
		Flight *flight = pop(&fresh);

		in_air_count(flight, 1);
		dlist_push_tail(&claimed, &flight->node);
		nclaimed++;
	}
}

/*
 * Claim what may be sent, in a transaction of its own, and send it.  False
 * when there was nothing, or no room for more.  What a commit that failed has
 * left behind was not claimed.
 */
bool
sender_claim(ClaimOutlook *outlook)
{
	int room = AHEAD * guc_max_connections - nclaimed;
	List *flights = NIL;
	bool found;
	bool may;
	ListCell *cell;

	if (nclaimed > guc_max_connections)
		return false;
	free_all(&fresh);
	worker_begin();
	may = may_send();
	if (may)
		flights = outbox_claim(room, outlook);
	foreach(cell, flights)
		dlist_push_tail(&fresh, &((Flight *) lfirst(cell))->node);
	worker_commit();
	found = !dlist_is_empty(&fresh);
	keep_fresh();
	if (!may)
		recall(NULL);
	dispatch_claimed();
	release_recalled();
	return found;
}

/* In a transaction of its own: leases whose holder is dead, or has forgotten. */
void
sender_reclaim(void)
{
	List *mine;

	worker_begin();
	mine = list_concat(list_of(&claimed), list_of(&flying));
	mine = list_concat(mine, list_of(&recalled));
	outbox_reclaim(list_concat(mine, list_of(&landed)));
	worker_commit();
}

/* Nothing more is sent; what is in the air may land. */
void
sender_close(void)
{
	closed = true;
	recall(NULL);
	release_recalled();
}

static void
release_body(void *arg)
{
	outbox_release(leases_of(list_of(&flying)), true);
	outbox_release(leases_of(list_of(&landed)), true);
}

/*
 * Let go of everything: what is still in the air, or could not be settled, is
 * due at once with its attempt counted.
 */
void
sender_drop(void)
{
	ErrorData *error;

	http_deliver();
	sender_close();
	if (!dlist_is_empty(&landed))
		settle_one_by_one();
	if (sender_idle())
		return;
	http_abandon(request_completed);
	worker_begin();
	/* what then stays leased lapses with this process */
	if (!subtransaction_run(release_body, NULL, subtransaction_excuse_all,
							&error))
		ereport(WARNING,
				(errmsg("messages could not be let go of: %s", error->message)));
	worker_commit();
	free_all(&flying);
	free_all(&landed);
}
