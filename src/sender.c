/*
 * sender.c
 *		Messages in the air: dispatched, their answers judged, settled.
 *
 * A flight is in one of three lists: claimed and waiting for a connection;
 * flying; landed and not yet settled.  No transaction is open but in the
 * three places that say so, and what failed to be settled stays landed until
 * it is.
 */
#include "stripe_sync.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/hsearch.h"
#include "utils/json.h"

#include <openssl/crypto.h>

#include "flight.h"
#include "pass.h"

#define LEAST_TO_HIDE 8 /* bytes: shorter ones are no secret */
#define AHEAD		  4 /* claims are up to so many times the connections */
#define SHARE		  4 /* of the connections a destination may have a quarter */

static dlist_head fresh = DLIST_STATIC_INIT(fresh); /* not committed yet */
static dlist_head claimed = DLIST_STATIC_INIT(claimed);
static dlist_head flying = DLIST_STATIC_INIT(flying);
static dlist_head landed = DLIST_STATIC_INIT(landed);
static int nclaimed = 0;

/* How many of a destination's are in the lists. */
typedef struct InAir
{
	char destination[NAMEDATALEN];
	int count;
} InAir;

static HTAB *in_air = NULL;

/* ---- what is sent ---- */

static const char *
api_method(const Flight *flight)
{
	if (strcmp(flight->method, "test") == 0 && !flight->token_checked)
		return "auth.test";
	return strcmp(flight->method, "update") == 0 ? "chat.update"
												 : "chat.postMessage";
}

static void
add_member(StringInfo body, const char *name, const char *value)
{
	if (value == NULL)
		return;
	appendStringInfo(body, "%s\"%s\":", body->len > 1 ? "," : "", name);
	escape_json(body, value);
}

/* The payload with what tells Slack where it goes. */
static void
build_body(const Flight *flight, StringInfo body)
{
	if (flight->is_webhook)
	{
		appendStringInfoString(body, flight->payload);
		return;
	}
	appendStringInfoChar(body, '{');
	if (strcmp(api_method(flight), "auth.test") != 0)
	{
		add_member(body, "channel", flight->channel);
		add_member(body, "ts", flight->update_ts);
		add_member(body, "thread_ts", flight->thread_ts);
		/* an object, never empty: it has a text */
		appendStringInfo(body, ",%s", flight->payload + 1);
	}
	else
		appendStringInfoChar(body, '}');
}

/* Why it may not be sent to where it should go; NULL: it may. */
static char *
build_request(const Flight *flight, HttpRequest *request, StringInfo body,
			  StringInfo header)
{
	request->method = "POST";
	request->headers[0] = "Content-Type: application/json; charset=utf-8";
	request->owner = unconstify(Flight *, flight);
	build_body(flight, body);
	request->body = body->data;
	request->body_length = body->len;
	if (flight->is_webhook)
	{
		request->url = flight->secret;
		return http_refusal(request->url, HTTP_SLACK_WEBHOOK);
	}
	request->url = psprintf("%s/%s", guc_slack_api_base, api_method(flight));
	appendStringInfo(header, "Authorization: Bearer %s", flight->secret);
	request->headers[1] = header->data;
	return http_refusal(request->url, HTTP_SLACK_API);
}

/* ---- what came back ---- */

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

/* Blot out a secret that an answer repeats. */
static void
hide(char *response, size_t length, const char *secret)
{
	size_t size = strlen(secret);
	char *end = response + length;
	char *found;

	if (size < LEAST_TO_HIDE)
		return;
	while ((found = memmem(response, end - response, secret, size)) != NULL)
	{
		memset(found, '*', size);
		response = found + size;
	}
}

/* The path of a webhook's URL is what must not be known. */
static const char *
secret_part(const Flight *flight)
{
	const char *path = flight->is_webhook ? strstr(flight->secret, "://") : NULL;

	path = path != NULL ? strchr(path + 3, '/') : NULL;
	return path != NULL ? path : flight->secret;
}

/* The answer's beginning as text: whatever came, it is valid UTF-8. */
static void
keep_response(Flight *flight, HttpAnswer *answer)
{
	size_t length = answer->length;
	int i = 0;

	/* before it is cut, lest half a secret stays */
	hide(answer->body, length, secret_part(flight));
	length = Min(length, MAX_RESPONSE);
	while (i < length)
	{
		const unsigned char *at = (unsigned char *) answer->body + i;
		int size = pg_utf_mblen(at);

		if (i + size > length)
			break;
		if (*at == '\0' || !pg_utf8_islegal(at, size))
		{
			flight->response[i++] = '?';
			continue;
		}
		memcpy(flight->response + i, at, size);
		i += size;
	}
	flight->response[i] = '\0';
}

static SlackMethod
judged_method(const Flight *flight)
{
	const char *method;

	if (flight->is_webhook)
		return SLACK_WEBHOOK;
	method = api_method(flight);
	if (strcmp(method, "auth.test") == 0)
		return SLACK_AUTH_TEST;
	return strcmp(method, "chat.update") == 0 ? SLACK_UPDATE
											  : SLACK_POST_MESSAGE;
}

static void
judge_fault(Flight *flight, HttpFault fault)
{
	static const struct
	{
		SlackVerdict verdict;
		const char *code;
	} faults[] = {[HTTP_CONNECTION] = {SLACK_RETRY, "connection"},
				  [HTTP_TIMEOUT] = {SLACK_RETRY, "timeout"},
				  [HTTP_TLS] = {SLACK_RETRY, "tls"},
				  /* sending it again would only bring as much again */
				  [HTTP_TOO_LARGE] = {SLACK_MESSAGE_BAD, "answer_too_large"},
				  [HTTP_REFUSED] = {SLACK_DESTINATION_DEAD, "url_refused"}};

	flight->judgement.verdict = faults[fault].verdict;
	strlcpy(flight->judgement.code, faults[fault].code,
			sizeof(flight->judgement.code));
}

static void
judge(Flight *flight, HttpAnswer *answer)
{
	if (flight->started == 0)
		flight->started = answer->started;
	flight->finished = answer->finished;
	flight->status = answer->status;
	flight->retry_after = answer->retry_after;
	strlcpy(flight->request_id, answer->request_id, sizeof(flight->request_id));
	if (answer->fault == HTTP_DONE)
		slack_judge(judged_method(flight), answer->status, answer->body,
					answer->length, &flight->judgement);
	else
		judge_fault(flight, answer->fault);
	if (answer->fault == HTTP_DONE || answer->fault == HTTP_TOO_LARGE)
		keep_response(flight, answer);
	else
		strlcpy(flight->response, answer->trouble, sizeof(flight->response));
}

/* ---- the lists ---- */

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
	refusal = build_request(flight, &request, &body, &header);
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
	while (!dlist_is_empty(&claimed) && http_room() > 0)
	{
		Flight *flight = dlist_container(Flight, node,
										 dlist_pop_head_node(&claimed));

		nclaimed--;
		dispatch(flight);
	}
}

/* Somebody has deleted what it would be an answer to. */
static bool
has_lost_its_thread(const Flight *flight)
{
	const char *code = flight->judgement.code;

	return flight->thread_ts != NULL &&
		   flight->judgement.verdict == SLACK_MESSAGE_BAD &&
		   (strcmp(code, "thread_not_found") == 0 ||
			strcmp(code, "cannot_reply_to_message") == 0);
}

/* The token of a test is good, or the news stands by itself: now, once more. */
static bool
goes_on(Flight *flight)
{
	if (judged_method(flight) == SLACK_AUTH_TEST &&
		flight->judgement.verdict == SLACK_SENT)
		flight->token_checked = true;
	else if (has_lost_its_thread(flight))
		flight->thread_ts = NULL;
	else
		return false;
	return true;
}

static void
take_answers(void)
{
	HttpAnswer *answer;

	http_poll(); /* however busy we are, nobody else reads them */
	while ((answer = http_take()) != NULL)
	{
		Flight *flight = answer->owner;

		dlist_delete(&flight->node);
		judge(flight, answer);
		http_free(answer);
		if (goes_on(flight))
		{
			dlist_push_head(&claimed, &flight->node);
			nclaimed++;
		}
		else
			dlist_push_tail(&landed, &flight->node);
	}
}

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

/* ---- what the pass calls ---- */

void
sender_setup(void)
{
	in_air_make();
	http_setup();
}

bool
sender_idle(void)
{
	return dlist_is_empty(&claimed) && dlist_is_empty(&flying) &&
		   dlist_is_empty(&landed);
}

static void
free_all(dlist_head *head)
{
	while (!dlist_is_empty(head))
	{
		Flight *flight = dlist_container(Flight, node,
										 dlist_pop_head_node(head));

		if (head != &fresh)
			in_air_count(flight, -1);
		flight_free(flight);
	}
}

/*
 * Take the answers that have come, and settle them together in a transaction
 * of its own.  False when there was none.
 */
bool
sender_settle(void)
{
	take_answers();
	dispatch_claimed();
	if (dlist_is_empty(&landed))
		return false;
	pass_begin();
	outbox_settle(list_of(&landed));
	pass_commit();
	free_all(&landed);
	return true;
}

/* A copy of a database, or one that is paused, keeps what it owes. */
static bool
may_send(void)
{
	return guard_state() == OUTBOUND_ON && !guard_paused("slack");
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
	List *flights;
	ListCell *cell;

	if (nclaimed > guc_max_connections)
		return false;
	free_all(&fresh);
	pass_begin();
	flights = may_send() ? outbox_claim(room, outlook) : NIL;
	foreach(cell, flights)
		dlist_push_tail(&fresh, &((Flight *) lfirst(cell))->node);
	pass_commit();
	if (dlist_is_empty(&fresh))
		return false;
	while (!dlist_is_empty(&fresh))
	{
		dlist_node *node = dlist_pop_head_node(&fresh);

		in_air_count(dlist_container(Flight, node, node), 1);
		dlist_push_tail(&claimed, node);
		nclaimed++;
	}
	dispatch_claimed();
	return true;
}

/* In a transaction of its own: leases whose holder is dead, or has forgotten. */
void
sender_reclaim(void)
{
	List *mine;

	pass_begin();
	mine = list_concat(list_of(&claimed), list_of(&flying));
	outbox_reclaim(list_concat(mine, list_of(&landed)));
	pass_commit();
}

/*
 * Let go of everything: what was not sent is due at once as if it had not been
 * claimed, what was in the air as well, with its attempt counted.
 */
void
sender_drop(void)
{
	(void) sender_settle();
	if (sender_idle())
		return;
	http_abandon();
	pass_begin();
	outbox_release(leases_of(list_of(&claimed)), false);
	outbox_release(leases_of(list_of(&flying)), true);
	pass_commit();
	free_all(&claimed);
	free_all(&flying);
	nclaimed = 0;
}
