/*
 * destination.c
 *		Named places in Slack: found, opened with their secret, switched off.
 *
 * Set-up is in destination_setup.c.  The worker calls what is here, in
 * transactions of its own.
 */
#include "stripe_sync.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "secret.h"

/* Columns of stripe_sync.destination, as src/install/50_destination.sql makes it */
enum DestinationColumn
{
	DESTINATION_NAME = 1,
	DESTINATION_KIND,
	DESTINATION_CHANNEL,
	DESTINATION_ENABLED,
	DESTINATION_DISABLED_REASON,
	DESTINATION_DISABLED_AT,
	DESTINATION_FALLBACK,
	DESTINATION_ESCALATION
};

static char *
column_text(HeapTuple tuple, TupleDesc desc, int column)
{
	bool isnull;
	Datum value = heap_getattr(tuple, column, desc, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

bool
destination_find(const char *name, Destination *destination)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan("destination", "destination_pkey",
								   DESTINATION_NAME, name, &relation, &snapshot);
	HeapTuple tuple = systable_getnext(scan);
	TupleDesc desc = RelationGetDescr(relation);
	bool found = HeapTupleIsValid(tuple);
	bool isnull;

	if (found)
		*destination = (Destination){
			.name = pstrdup(name),
			.is_webhook = strcmp(column_text(tuple, desc, DESTINATION_KIND),
								 "webhook") == 0,
			.channel = column_text(tuple, desc, DESTINATION_CHANNEL),
			.enabled = DatumGetBool(
				heap_getattr(tuple, DESTINATION_ENABLED, desc, &isnull)),
			.disabled_reason = column_text(tuple, desc,
										   DESTINATION_DISABLED_REASON),
			.fallback = column_text(tuple, desc, DESTINATION_FALLBACK),
			.escalation = column_text(tuple, desc, DESTINATION_ESCALATION)};
	engine_scan_end(scan, relation, snapshot);
	return found;
}

void
destination_missing(const char *name)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_NO_SUCH_NAME), errhidestmt(true),
		 errmsg("there is no destination \"%s\"", name),
		 errhint(
			 "SELECT name FROM stripe_sync.destination shows all; stripe_sync.add_slack_webhook() and add_slack_channel() make one.")));
}

static char *
secret_missing(const char *name)
{
	Destination destination;
	bool is_webhook = destination_find(name, &destination) &&
					  destination.is_webhook;

	return psprintf(
		"Its secret is not there, as after a restore (a dump carries none): call stripe_sync.%s again.",
		is_webhook ? "add_slack_webhook" : "add_slack_channel");
}

/*
 * The URL or the token, as a C string in the caller's buffer, which the caller
 * wipes; false with *trouble, a sentence.
 */
bool
destination_secret(const char *name, char *buffer, size_t size, char **trouble)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan("destination_secret",
								   "destination_secret_pkey", 1, name,
								   &relation, &snapshot);
	HeapTuple tuple = systable_getnext(scan);
	bool usable = false;
	bool isnull;

	if (!HeapTupleIsValid(tuple))
		*trouble = secret_missing(name);
	else
		usable = secret_read_word(
			DatumGetTextPP(
				heap_getattr(tuple, 2, RelationGetDescr(relation), &isnull)),
			buffer, size, trouble);
	engine_scan_end(scan, relation, snapshot);
	return usable;
}

/* Switch it off unless it is already; *fallback is who is to be told. */
static bool
mark_off(const char *name, const char *reason, char **fallback)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination AS d SET enabled = false, refused = true,"
		" disabled_reason = $2, disabled_at = pg_catalog.clock_timestamp()"
		" WHERE name OPERATOR(pg_catalog.=) $1 AND enabled RETURNING"
		" (SELECT f.name FROM stripe_sync.destination f"
		"   WHERE f.name OPERATOR(pg_catalog.=) d.fallback AND f.enabled)",
		2,
		{TEXTOID, TEXTOID}};
	Datum values[] = {CStringGetTextDatum(name), CStringGetTextDatum(reason)};
	MemoryContext context = CurrentMemoryContext;
	bool done;

	SPI_connect();
	engine_run(&update, values, NULL, SPI_OK_UPDATE_RETURNING);
	done = SPI_processed > 0;
	if (done)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		*fallback = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
								 1);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return done;
}

/* Each part has an index that holds little else. */
static int64
count_waiting(const char *name)
{
	static EngineStatement select = {
		"SELECT (SELECT pg_catalog.count(*) FROM stripe_sync.message"
		"   WHERE destination OPERATOR(pg_catalog.=) $1 AND state = 'waiting' AND blocked_by IS NULL)"
		" OPERATOR(pg_catalog.+) (SELECT pg_catalog.count(*) FROM stripe_sync.message"
		"   WHERE destination OPERATOR(pg_catalog.=) $1 AND state = 'waiting' AND blocked_by IS NOT NULL)"
		" OPERATOR(pg_catalog.+) (SELECT pg_catalog.count(*) FROM stripe_sync.message"
		"   WHERE destination OPERATOR(pg_catalog.=) $1 AND state = 'sending')",
		1,
		{TEXTOID}};
	Datum values[] = {CStringGetTextDatum(name)};
	bool isnull;
	int64 count;

	SPI_connect();
	engine_run(&select, values, NULL, SPI_OK_SELECT);
	count = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
										SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	return count;
}

/* What a message to the fallback, and what an alert's event, is made from. */
static void
describe_off(const char *name, const char *reason, int64 waiting,
			 const char *said, Jsonb **object, Jsonb **payload)
{
	static EngineStatement select = {
		"SELECT pg_catalog.jsonb_build_object('id', $1, 'destination', $1, 'reason', $2, 'waiting', $3),"
		" pg_catalog.jsonb_build_object('text', $4)",
		4,
		{TEXTOID, TEXTOID, INT8OID, TEXTOID}};
	Datum values[] = {CStringGetTextDatum(name), CStringGetTextDatum(reason),
					  Int64GetDatum(waiting), CStringGetTextDatum(said)};
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	bool isnull;

	SPI_connect();
	engine_run(&select, values, NULL, SPI_OK_SELECT);
	old = MemoryContextSwitchTo(context);
	*object = DatumGetJsonbPCopy(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	*payload = DatumGetJsonbPCopy(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	MemoryContextSwitchTo(old);
	SPI_finish();
}

static char *
tell_off(const char *name, const char *reason, int64 waiting)
{
	return psprintf(
		"Slack destination *%s* was switched off: %s\n"
		"%lld %s and will be sent when it is on again. To switch it on: `SELECT stripe_sync.enable_destination(%s)`",
		mrkdwn_escape(name), mrkdwn_escape(reason), (long long) waiting,
		waiting == 1 ? "message waits for it" : "messages wait for it",
		mrkdwn_escape(quote_literal_cstr(name)));
}

/*
 * Slack takes nothing more there, or there is nothing to open it with.  Its
 * messages wait; the log, the fallback and the alerts are told, once.
 */
void
destination_switch_off(const char *name, const char *reason)
{
	RoleScope scope = role_enter_engine();
	char *fallback = NULL;

	if (mark_off(name, reason, &fallback))
	{
		int64 waiting = count_waiting(name);
		NewMessage message = {.destination = fallback,
							  .method = "post",
							  .due_at = GetCurrentTimestamp()};
		Jsonb *object;

		ereport(
			WARNING,
			(errmsg("destination \"%s\" was switched off: %s", name, reason),
			 errdetail("Messages that wait for it: %lld.", (long long) waiting),
			 errhint(
				 "When it is mended: SELECT stripe_sync.enable_destination(%s).",
				 quote_literal_cstr(name))));
		describe_off(name, reason, waiting, tell_off(name, reason, waiting),
					 &object, &message.payload);
		if (fallback != NULL)
			(void) outbox_enqueue(&message);
		journal_note("destination.off", name, reason);
		outbox_hooks->destination_disabled(object);
	}
	role_leave(&scope);
}
