/*
 * incident_message.c
 *		What Slack is told of an incident.
 *
 * Its own message is rendered when it is sent, so that it says how things
 * stand then: however many events there were, one change waits at a time
 * (message_change_idx).  A bot's message is updated, and news that people
 * should see goes below it, into its thread; a webhook can do neither, and
 * has one summary when the window ends.
 */
#include "stripe_sync.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "alert.h"

/* Between two updates of one message: people can't read faster */
#define UPDATE_EVERY (10 * USECS_PER_SEC)
#define FIRST_LINE	 200 /* characters of it in a reply */

/* The column of stripe_sync.alerted, as src/install/70_alert.sql makes it */
#define ALERTED_INCIDENT 7

/* ---- reading ---- */

static TimestampTz
time_of(HeapTuple row, TupleDesc desc, int column)
{
	bool isnull;
	Datum value = SPI_getbinval(row, desc, column, &isnull);

	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

static void
read_row(HeapTuple row, TupleDesc desc, Incident *incident)
{
	bool isnull;
	Datum value;

	incident->kind = SPI_getvalue(row, desc, 1);
	incident->alert = SPI_getvalue(row, desc, 2);
	incident->destination = SPI_getvalue(row, desc, 3);
	incident->severity = SPI_getvalue(row, desc, 4);
	incident->state = SPI_getvalue(row, desc, 5);
	incident->text = SPI_getvalue(row, desc, 6);
	incident->footer = SPI_getvalue(row, desc, 7);
	value = SPI_getbinval(row, desc, 8, &isnull);
	incident->blocks = isnull ? NULL : DatumGetJsonbPCopy(value);
	incident->opened_at = time_of(row, desc, 9);
	incident->window_until = time_of(row, desc, 10);
	incident->closed_at = time_of(row, desc, 11);
	incident->closed_by = SPI_getvalue(row, desc, 12);
	incident->event_id = SPI_getvalue(row, desc, 13);
	value = SPI_getbinval(row, desc, 14, &isnull);
	incident->message = isnull ? 0 : DatumGetInt64(value);
	incident->escalated = DatumGetBool(SPI_getbinval(row, desc, 15, &isnull));
}

bool
incident_read(int64 id, Incident *incident)
{
	static EngineStatement select = {
		"SELECT kind, alert, destination, severity, state, text, footer, blocks,"
		" opened_at, window_until, closed_at, closed_by, event_id, message_id,"
		" escalated_at IS NOT NULL"
		" FROM stripe_sync.incident_record WHERE id = $1",
		1,
		{INT8OID}};
	Datum value = Int64GetDatum(id);
	MemoryContext context = CurrentMemoryContext;
	bool found;

	memset(incident, 0, sizeof(*incident));
	incident->id = id;
	SPI_connect();
	engine_run(&select, &value, NULL, SPI_OK_SELECT);
	found = SPI_processed > 0;
	if (found)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		read_row(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, incident);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return found;
}

/* How often it happened, how many of that are resolved, and when last. */
typedef struct Tally
{
	int64 count;
	int64 resolved;
	TimestampTz last_at;
} Tally;

static Tally
read_tally(int64 id)
{
	static EngineStatement select = {
		"SELECT pg_catalog.count(*) FILTER (WHERE NOT closes),"
		" pg_catalog.count(*) FILTER (WHERE closes),"
		" pg_catalog.max(created) FILTER (WHERE NOT closes)"
		" FROM stripe_sync.alerted WHERE incident = $1",
		1,
		{INT8OID}};
	Datum value = Int64GetDatum(id);
	Tally tally;

	SPI_connect();
	engine_run(&select, &value, NULL, SPI_OK_SELECT);
	tally.count = DatumGetInt64(engine_value());
	tally.resolved = DatumGetInt64(SPI_getbinval(
		SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &(bool){false}));
	tally.last_at = time_of(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3);
	SPI_finish();
	return tally;
}

/* "invoice_failed 12, dispute_opened 3" */
static char *
read_digest(int64 id)
{
	static EngineStatement select = {
		"SELECT pg_catalog.string_agg(c.alert || ' ' || c.n, ', ' ORDER BY c.n DESC)"
		" FROM (SELECT alert, pg_catalog.count(*) AS n FROM stripe_sync.alerted"
		"  WHERE incident = $1 AND NOT closes GROUP BY alert"
		"  ORDER BY 2 DESC LIMIT 20) c",
		1,
		{INT8OID}};
	Datum value = Int64GetDatum(id);
	MemoryContext context = CurrentMemoryContext;
	char *text;

	SPI_connect();
	engine_run(&select, &value, NULL, SPI_OK_SELECT);
	text = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	text = MemoryContextStrdup(context, text ? text : "");
	SPI_finish();
	return text;
}

/* ---- words ---- */

/* A moment in the reader's own time zone, and in UTC where Slack can't tell. */
static char *
slack_date(TimestampTz at)
{
	pg_time_t seconds = timestamptz_to_time_t(at);
	char text[64];

	pg_strftime(text, sizeof(text), "%Y-%m-%d %H:%M UTC", pg_gmtime(&seconds));
	return psprintf("<!date^%lld^{date_short_pretty} {time}|%s>",
					(long long) seconds, text);
}

static char *
first_line(const char *text)
{
	return blocks_cut(pnstrdup(text, strcspn(text, "\n")), FIRST_LINE);
}

static void
add_part(StringInfo status, const char *part)
{
	if (part == NULL || part[0] == '\0')
		return;
	if (status->len > 0)
		appendStringInfoString(status, " · ");
	appendStringInfoString(status, part);
}

static bool
is_resolved(const Incident *incident)
{
	return strcmp(incident->state, "closed") == 0 && incident->closed_by != NULL;
}

static bool
is_single(const Incident *incident)
{
	return strcmp(incident->kind, "single") == 0;
}

/* An empty footer: who reads it knows nothing of our rules. */
static bool
is_for_customer(const Incident *incident)
{
	return incident->footer != NULL && incident->footer[0] == '\0';
}

/* The line below the message: how it stands, and where its event is. */
static char *
status_line(const Incident *incident, const Tally *tally)
{
	StringInfoData status;

	initStringInfo(&status);
	if (is_single(incident) && tally->count > 1)
		add_part(&status,
				 psprintf("%lld times, last %s", (long long) tally->count,
						  slack_date(tally->last_at)));
	if (is_resolved(incident))
		add_part(&status,
				 psprintf("Resolved %s", slack_date(incident->closed_at)));
	if (!is_single(incident) && tally->resolved > 0)
		add_part(&status, psprintf("%lld of them resolved since",
								   (long long) tally->resolved));
	if (!is_for_customer(incident))
		add_part(&status, blocks_escape(
							  incident->alert[0] == '@' ? "" : incident->alert));
	add_part(&status, incident->footer);
	return status.len > 0 ? status.data : NULL;
}

static char *
headline(const Incident *incident, const Tally *tally)
{
	if (!is_single(incident) && is_for_customer(incident))
		return psprintf(
			"*%lld more* since %s, for example:\n%s", (long long) tally->count,
			slack_date(incident->opened_at), first_line(incident->text));
	if (strcmp(incident->kind, "rollup") == 0)
		return psprintf("*%lld more* of `%s` since %s, for example:\n%s",
						(long long) tally->count, blocks_escape(incident->alert),
						slack_date(incident->opened_at),
						first_line(incident->text));
	if (strcmp(incident->kind, "digest") == 0)
		return psprintf("*More than %d alerts in an hour:* %lld more since %s, "
						"counted here instead of sent: %s",
						guc_max_alerts_per_hour, (long long) tally->count,
						slack_date(incident->opened_at),
						blocks_escape(read_digest(incident->id)));
	return incident->text;
}

static Jsonb *
render(const Incident *incident, const char *method)
{
	Tally tally = read_tally(incident->id);
	MessageParts parts = {.text = headline(incident, &tally),
						  .blocks = incident->blocks,
						  .severity = incident->severity,
						  .status = status_line(incident, &tally),
						  .resolved = is_resolved(incident),
						  .is_update = strcmp(method, "update") == 0};

	return blocks_message(&parts);
}

/* ---- messages ---- */

char *
incident_thread(int64 id)
{
	return psprintf("incident/" INT64_FORMAT, id);
}

/* Where it was repeated. */
char *
incident_thread_elsewhere(int64 id)
{
	return psprintf("incident/" INT64_FORMAT "/escalated", id);
}

static bool
is_webhook(const char *name)
{
	Destination destination;

	return destination_find(name, &destination) && destination.is_webhook;
}

static int64
enqueue(const Incident *incident, const char *method, Jsonb *payload,
		TimestampTz due, const Event *event)
{
	NewMessage message = {.destination = incident->destination,
						  .method = method,
						  .payload = payload,
						  .thread = incident_thread(incident->id),
						  .due_at = due,
						  .event_id = event ? event->id : incident->event_id,
						  .account = event ? event->account : NULL,
						  .incident = incident->id};

	if (strcmp(method, "summary") == 0 ||
		(strcmp(method, "post") == 0 && is_webhook(incident->destination)))
		message.alert = incident->alert; /* one more line in the channel */
	return outbox_enqueue(&message);
}

/* The incident's own message. */
int64
incident_post(const Incident *incident, const char *account)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record SET message_id = $2 WHERE id = $1",
		2,
		{INT8OID, INT8OID}};
	NewMessage message = {.destination = incident->destination,
						  .method = "post",
						  .payload = render(incident, "post"),
						  .thread = incident_thread(incident->id),
						  .due_at = GetCurrentTimestamp(),
						  .event_id = incident->event_id,
						  .account = account,
						  .alert = incident->alert,
						  .incident = incident->id};
	int64 id = outbox_enqueue(&message);
	Datum values[] = {Int64GetDatum(incident->id), Int64GetDatum(id)};

	SPI_connect();
	engine_run(&update, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
	return id;
}

/* Not before some seconds after the change that was asked for last. */
static TimestampTz
next_update(int64 id)
{
	static EngineStatement select = {
		"SELECT due_at FROM stripe_sync.message"
		" WHERE incident = $1 AND method = 'update' ORDER BY id DESC LIMIT 1",
		1,
		{INT8OID}};
	Datum value = Int64GetDatum(id);
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz last = DT_NOBEGIN;

	SPI_connect();
	engine_run(&select, &value, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
		last = time_of(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	SPI_finish();
	return last == DT_NOBEGIN ? now : Max(now, last + UPDATE_EVERY);
}

/* A text of a reply's own, below the incident's message. */
static void
reply(const Incident *incident, const char *text, const Event *event)
{
	MessageParts parts = {.text = text};

	(void) enqueue(incident, "post", blocks_message(&parts),
				   GetCurrentTimestamp(), event);
}

static Jsonb *
no_payload_yet(const Incident *incident)
{
	MessageParts parts = {.text = first_line(incident->text)};

	return blocks_message(&parts);
}

/* When a webhook, which can't update, is told how often it was. */
static TimestampTz
summary_due(const Incident *incident, bool again)
{
	TimestampTz now = GetCurrentTimestamp();

	if (again)
		return now;
	return incident->window_until > now ? incident->window_until
										: now + USECS_PER_HOUR;
}

/* ---- said when it is sent ---- */

/* Does somebody count an event to it who hasn't committed yet? */
static bool
is_being_counted(int64 id)
{
	Relation relation = table_open(engine_relation("alerted"), AccessShareLock);
	SnapshotData dirty;
	SysScanDesc scan;
	ScanKeyData key;
	bool found = false;

	InitDirtySnapshot(dirty);
	ScanKeyInit(&key, ALERTED_INCIDENT, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(id));
	scan = systable_beginscan(relation, engine_relation("alerted_incident_idx"),
							  true, &dirty, 1, &key);
	while (!found && HeapTupleIsValid(systable_getnext(scan)))
		found = TransactionIdIsValid(dirty.xmin);
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return found;
}

/*
 * Who counted while this change waited has queued none of its own, and its
 * count may not be committed yet: then another change follows this one.
 */
static void
follow_up(const Incident *incident, const char *method)
{
	TimestampTz due = strcmp(method, "update") == 0
						  ? next_update(incident->id)
						  : summary_due(incident, false);

	(void) enqueue(incident, method, no_payload_yet(incident), due, NULL);
}

/*
 * What a message of an incident says now, when it is about to be sent; NULL:
 * what it was queued with.  Its row has been taken out of message_change_idx
 * before: who counts from here on waits for our commit and queues another.
 */
Jsonb *
incident_render(int64 id, int64 message, const char *method)
{
	bool changes = strcmp(method, "post") != 0;
	bool more = changes && is_being_counted(id);
	Incident incident;

	if (!incident_read(id, &incident))
		return NULL;
	if (!changes && incident.message != message)
		return NULL; /* a reply: it says what it said */
	if (more)
		follow_up(&incident, method);
	return render(&incident, method);
}

/* ---- what happens to it ---- */

/*
 * It has happened once more: within the window it is only counted, "again"
 * after it people are told.
 */
void
incident_tell_repeated(const Incident *incident, bool again, const Event *event)
{
	if (is_webhook(incident->destination))
	{
		(void) enqueue(incident, "summary", no_payload_yet(incident),
					   summary_due(incident, again), event);
		return;
	}
	(void) enqueue(incident, "update", no_payload_yet(incident),
				   next_update(incident->id), event);
	if (again)
		reply(incident,
			  psprintf(":repeat: Again, %lld times now: %s",
					   (long long) read_tally(incident->id).count,
					   first_line(incident->text)),
			  event);
}

/* What waits to say how it stands says it now, or not at all. */
static void
hasten_changes(const Incident *incident, bool webhook)
{
	static EngineStatement hasten = {
		"UPDATE stripe_sync.message SET due_at = pg_catalog.clock_timestamp()"
		" WHERE incident = $1 AND method = 'update' AND state = 'waiting'"
		" AND attempts = 0",
		1,
		{INT8OID}};
	static EngineStatement call_off = {
		"UPDATE stripe_sync.message SET state = 'cancelled', blocked_by = NULL,"
		" settled_at = pg_catalog.clock_timestamp()"
		" WHERE incident = $1 AND method = 'summary' AND state = 'waiting'",
		1,
		{INT8OID}};
	Datum value = Int64GetDatum(incident->id);

	SPI_connect();
	engine_run(webhook ? &call_off : &hasten, &value, NULL, SPI_OK_UPDATE);
	SPI_finish();
}

/* Where it was repeated, it is resolved too. */
static void
reply_elsewhere(const Incident *incident, const char *text, const Event *event)
{
	static EngineStatement select = {
		"SELECT destination FROM stripe_sync.message WHERE incident = $1"
		" AND destination <> $2 AND thread = $3 LIMIT 1",
		3,
		{INT8OID, TEXTOID, TEXTOID}};
	char *thread = incident_thread_elsewhere(incident->id);
	Datum values[] = {Int64GetDatum(incident->id),
					  CStringGetTextDatum(incident->destination),
					  CStringGetTextDatum(thread)};
	MemoryContext context = CurrentMemoryContext;
	MessageParts parts = {.text = text};
	NewMessage message = {.method = "post",
						  .payload = blocks_message(&parts),
						  .thread = thread,
						  .due_at = GetCurrentTimestamp(),
						  .event_id = event->id,
						  .account = event->account,
						  .incident = incident->id};

	SPI_connect();
	engine_run(&select, values, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
		message.destination = MemoryContextStrdup(
			context,
			SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	SPI_finish();
	if (message.destination != NULL)
		(void) outbox_enqueue(&message);
}

void
incident_tell_closed(const Incident *incident, const Event *event)
{
	char *text;
	bool webhook = is_webhook(incident->destination);
	int64 count = read_tally(incident->id).count;
	char *times = count > 1 ? psprintf(" after %lld times", (long long) count)
							: "";

	hasten_changes(incident, webhook);
	if (!webhook)
		(void) enqueue(incident, "update", no_payload_yet(incident),
					   GetCurrentTimestamp(), event);
	text = psprintf(":white_check_mark: Resolved by `%s`%s: %s",
					blocks_escape(event->type), times,
					first_line(incident->text));
	/* to a webhook it is one more line in the channel */
	if (!webhook || !incident_flooded(incident->destination, 0))
		reply(incident, text, event);
	if (incident->escalated)
		reply_elsewhere(incident, text, event);
}

/* The flood itself is an event of the system. */
void
incident_report_flood(const char *destination)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_build_object('id', $1, 'destination', $1,"
		" 'per_hour', $2)",
		2,
		{TEXTOID, INT4OID}};
	Datum values[] = {CStringGetTextDatum(destination),
					  Int32GetDatum(guc_max_alerts_per_hour)};

	if (!alert_wanted("system.flood"))
		return;
	alert_system_within("system.flood", engine_jsonb(&build, values, NULL));
}
