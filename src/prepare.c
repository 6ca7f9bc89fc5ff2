/*
 * prepare.c
 *		What is sent of a claimed message: its destination and secret, its place
 *		in a thread, and the current text of an incident.
 *
 * Runs in the claim's transaction and within its SPI connection.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include <openssl/crypto.h>

#include "delivery.h"
#include "subtransaction.h"

/* Where in Slack the thread is: its first message that has a name there. */
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
		" ORDER BY t.id LIMIT 1",
		3,
		{TEXTOID, TEXTOID, INT8OID}};
	Datum values[] = {CStringGetTextDatum(delivery->destination),
					  CStringGetTextDatum(delivery->thread),
					  Int64GetDatum(delivery->id)};

	engine_run(&select, values, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		return;
	delivery->thread_ts = MemoryContextStrdup(
		delivery->memory,
		SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	if (strcmp(delivery->method, "update") == 0)
	{
		char *channel = SPI_getvalue(SPI_tuptable->vals[0],
									 SPI_tuptable->tupdesc, 2);

		delivery->update_ts = delivery->thread_ts;
		delivery->thread_ts = NULL;
		if (channel != NULL)
			delivery->channel = MemoryContextStrdup(delivery->memory, channel);
	}
}

/* An incident's own message says how it stands when it is sent, not before. */
static void
render_payload(Delivery *delivery)
{
	static EngineStatement keep = {
		"UPDATE stripe_sync.message SET payload = $2 WHERE id = $1",
		2,
		{INT8OID, JSONBOID}};
	Jsonb *payload = outbox_hooks->render(delivery->incident, delivery->id,
										  delivery->method);
	Datum values[] = {Int64GetDatum(delivery->id), (Datum) 0};

	if (payload == NULL)
		return;
	values[1] = JsonbPGetDatum(payload);
	engine_run(&keep, values, NULL, SPI_OK_UPDATE);
	delivery->payload = MemoryContextStrdup(
		delivery->memory,
		JsonbToCString(NULL, &payload->root, VARSIZE(payload)));
}

static void
render_body(void *arg)
{
	render_payload(arg);
}

/* A message that can't be rendered must not delay those claimed with it. */
static void
render_or_warn(Delivery *delivery)
{
	ErrorData *error;

	if (!subtransaction_run(render_body, delivery, subtransaction_excuse_all,
							&error))
		ereport(WARNING,
				(errmsg("message " INT64_FORMAT " is sent as it was queued: %s",
						delivery->id, error->message)));
}

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
}

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
 * Sorts the deliveries: each destination is looked up, and its secret read,
 * once for all of its own.
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
			if (!destination_find(name, &destination))
				elog(ERROR, "destination \"%s\" is gone", name);
			if (!destination_secret(name, secret, sizeof(secret), &trouble))
				secret[0] = '\0';
		}
		complete(delivery, &destination, secret, trouble);
	}
	OPENSSL_cleanse(secret, sizeof(secret));
}
