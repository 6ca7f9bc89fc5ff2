/*
 * prepare.c
 *		Completes claimed messages with what is sent: the destination's channel and
 *		secret, the place in a thread, the current text of an incident.
 *
 * Runs in the claim's transaction, so that a message that is committed as
 * "sending" needs no further statement to be sent.
 */
#include "postgres.h"

#include <openssl/crypto.h>

#include "base/subtransaction.h"
#include "engine/statement.h"
#include "message/message.h"
#include "outbox/outbox.h"
#include "outbox/internal.h"

/*
 * Find the message in Slack that this one replies to, or updates: the thread's
 * first message that Slack has given a timestamp.  A thread is named by the key of
 * its first message, or begins with the first message that names it.
 */
static void
find_thread(Delivery *delivery)
{
	static EngineStatement select = {
		"SELECT t.slack_ts, t.slack_channel FROM"
		" ((SELECT id, slack_ts, slack_channel FROM stripe_sync.message"
		"   WHERE key = $2 AND destination = $1 AND slack_ts IS NOT NULL"
		"     AND id <> $3)"
		"  UNION ALL"
		"  (SELECT id, slack_ts, slack_channel FROM stripe_sync.message"
		"    WHERE destination = $1 AND thread = $2 AND method = 'post'"
		"      AND slack_ts IS NOT NULL AND id <> $3 ORDER BY id LIMIT 1)) t"
		" ORDER BY t.id LIMIT 1"};
	bool updates = strcmp(delivery->method, "update") == 0;
	MemoryContext old;
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_text(delivery->destination), arg_text(delivery->thread),
				   arg_int8(delivery->id)));
	old = MemoryContextSwitchTo(delivery->memory);
	if (rows_next(&rows))
	{
		char *ts = rows_text(&rows);
		char *channel = rows_text(&rows);

		*(updates ? &delivery->update_ts : &delivery->thread_ts) = ts;
		/* chat.update wants the channel's id, which may be configured by name */
		if (updates && channel != NULL)
			delivery->channel = channel;
	}
	MemoryContextSwitchTo(old);
	rows_close(&rows);
}

/*
 * An incident's message is rendered when it is sent, so that it shows the
 * incident's current state however long it waited.  What was sent is stored.
 */
static void
render_payload(void *arg)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.message SET payload = $2 WHERE id = $1"};
	Delivery *delivery = arg;
	Jsonb *payload = outbox_hooks->render(delivery->incident, delivery->id,
										  delivery->method);

	if (payload == NULL)
		return;
	statement_exec(&update, ARGS(arg_int8(delivery->id), arg_jsonb(payload)));
	delivery->payload = MemoryContextStrdup(
		delivery->memory,
		JsonbToCString(NULL, &payload->root, VARSIZE(payload)));
}

/*
 * In a subtransaction: a message that can't be rendered is sent as it was queued,
 * and doesn't delay those claimed with it.
 */
static void
render_or_warn(Delivery *delivery)
{
	ErrorData *error;

	if (!subtransaction_run(render_payload, delivery, subtransaction_excuse_all,
							&error))
		ereport(WARNING, (errmsg("could not render message " INT64_FORMAT
								 ", which is sent as it was queued: %s",
								 delivery->id, error->message)));
}

/* Did Slack reject this message for its blocks before? */
static bool
blocks_were_rejected(const Delivery *delivery)
{
	static EngineStatement select = {
		"SELECT true FROM stripe_sync.delivery"
		" WHERE message_id = $1 AND code = $2 LIMIT 1"};

	return delivery->attempt > 1 &&
		   statement_bool(
			   false, &select,
			   ARGS(arg_int8(delivery->id), arg_text(SLACK_INVALID_BLOCKS)));
}

/*
 * Blocks of newer kinds are sent as sections where Slack rejects them.  The message
 * keeps them: it is sent with them again once the destination accepts them.
 */
static void
choose_blocks(Delivery *delivery, const Destination *destination)
{
	Jsonb *payload = json_parse(delivery->payload, strlen(delivery->payload));

	if (payload == NULL || !JB_ROOT_IS_OBJECT(payload) ||
		!blocks_are_newer(payload))
		return;
	delivery->plain_retry = !destination->plain_blocks &&
							blocks_were_rejected(delivery);
	delivery->newer_blocks = !destination->plain_blocks &&
							 !delivery->plain_retry;
	if (delivery->newer_blocks)
		return;
	payload = blocks_make_plain(payload);
	delivery->payload = MemoryContextStrdup(
		delivery->memory,
		JsonbToCString(NULL, &payload->root, VARSIZE(payload)));
}

/* An empty secret: it could not be read, for the reason in "trouble". */
static void
complete(Delivery *delivery, const Destination *destination, const char *secret,
		 const char *trouble)
{
	if (secret[0] != '\0')
		delivery->secret = MemoryContextStrdup(delivery->memory, secret);
	else
		delivery->trouble = MemoryContextStrdup(delivery->memory, trouble);
	delivery->is_webhook = destination->is_webhook;
	if (destination->channel != NULL)
		delivery->channel = MemoryContextStrdup(delivery->memory,
												destination->channel);
	if (delivery->thread != NULL && !delivery->is_webhook)
		find_thread(delivery);
	if (delivery->incident != 0)
		render_or_warn(delivery);
	choose_blocks(delivery, destination);
}

/* By destination, and within it in the order of the messages */
static int
compare_destinations(const ListCell *a, const ListCell *b)
{
	const Delivery *left = lfirst(a);
	const Delivery *right = lfirst(b);
	int order = strcmp(left->destination, right->destination);

	if (order != 0)
		return order;
	return left->id < right->id ? -1 : left->id > right->id;
}

/*
 * Complete the deliveries, which are sorted: each destination is looked up, and its
 * secret read, once for all of its messages.  Runs in the engine's scope.
 */
void
outbox_prepare(List *deliveries)
{
	Destination destination = {0};
	char secret[DELIVERY_SECRET_SIZE] = "";
	char *trouble = NULL;
	ListCell *cell;

	list_sort(deliveries, compare_destinations);
	foreach(cell, deliveries)
	{
		Delivery *delivery = lfirst(cell);
		const char *name = delivery->destination;

		if (destination.name == NULL || strcmp(destination.name, name) != 0)
		{
			/* can't be dropped now: its row of destination_pace is locked */
			if (!destination_find(name, &destination))
				elog(ERROR, "destination \"%s\" does not exist", name);
			if (!destination_secret(name, secret, sizeof(secret), &trouble))
				secret[0] = '\0';
		}
		complete(delivery, &destination, secret, trouble);
	}
	OPENSSL_cleanse(secret, sizeof(secret));
}
