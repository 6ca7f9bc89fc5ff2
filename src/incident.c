/*
 * incident.c
 *		What an alert has opened, and what becomes of it: counted, closed,
 *		rolled up.
 *
 * Whoever calls holds the group's lock (group.c).  Events are counted by rows of
 * their own (stripe_sync.alerted): a flood of them doesn't queue for one row.
 * Who opens holds the destination's lock too, for the count of those that are
 * open already, if it is to be had at once.  Else he goes by what is committed:
 * sessions at once may open one each too many, and none waits for another.
 */
#include "stripe_sync.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "alert.h"

/* ---- looking things up ---- */

static bool
seen_before(const Occurrence *occurrence)
{
	static EngineStatement select = {
		"SELECT 1::bigint FROM stripe_sync.alerted"
		" WHERE event_id = $1 AND account = $2 AND alert = $3",
		3,
		{TEXTOID, TEXTOID, TEXTOID}};
	Datum values[] = {CStringGetTextDatum(occurrence->event->id),
					  CStringGetTextDatum(occurrence->event->account),
					  CStringGetTextDatum(occurrence->alert->name)};

	return incident_first_id(&select, values, NULL) != 0;
}

/* The event counts for this alert, to that incident (0: to none). */
static void
note_event(const Occurrence *occurrence, int64 incident, bool closing)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.alerted"
		" (event_id, account, alert, group_key, created, closes, incident)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
		7,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, BOOLOID, INT8OID}};
	Datum values[] = {CStringGetTextDatum(occurrence->event->id),
					  CStringGetTextDatum(occurrence->event->account),
					  CStringGetTextDatum(occurrence->alert->name),
					  CStringGetTextDatum(occurrence->group),
					  TimestampTzGetDatum(occurrence->created),
					  BoolGetDatum(closing),
					  Int64GetDatum(incident)};
	char nulls[] = "       ";

	nulls[6] = incident == 0 ? 'n' : ' ';
	SPI_connect();
	engine_run(&insert, values, nulls, SPI_OK_INSERT);
	SPI_finish();
}

/*
 * The group's incident that is open.  One that nothing closes ends with its
 * window; that it is over doesn't mean that somebody has taken care of it, so
 * it is still repeated (escalate.c).
 */
static int64
find_open(const Occurrence *occurrence)
{
	static EngineStatement expire = {
		"UPDATE stripe_sync.incident_record SET state = 'closed',"
		" closed_at = window_until"
		" WHERE alert = $1 AND group_key = $2 AND account = $3 AND state = 'open'"
		" AND kind = 'single' AND window_until < pg_catalog.clock_timestamp()",
		3,
		{TEXTOID, TEXTOID, TEXTOID}};
	static EngineStatement select = {
		"SELECT id FROM stripe_sync.incident_record"
		" WHERE alert = $1 AND group_key = $2 AND account = $3 AND state = 'open'"
		" AND kind = 'single'",
		3,
		{TEXTOID, TEXTOID, TEXTOID}};
	Datum values[] = {CStringGetTextDatum(occurrence->alert->name),
					  CStringGetTextDatum(occurrence->group),
					  CStringGetTextDatum(occurrence->event->account)};

	if (occurrence->alert->closed_by == NULL)
	{
		SPI_connect();
		engine_run(&expire, values, NULL, SPI_OK_UPDATE);
		SPI_finish();
	}
	return incident_first_id(&select, values, NULL);
}

/* A roll-up or digest that still counts on; its events keep it alive. */
static int64
find_collecting(const char *kind, const char *alert, const char *group,
				int64 window)
{
	static EngineStatement select = {
		"SELECT i.id FROM stripe_sync.incident_record i"
		" WHERE i.alert = $1 AND i.group_key = $2 AND i.account = ''"
		" AND i.kind = $3 AND i.state = 'open' AND (SELECT a.at"
		"   FROM stripe_sync.alerted a WHERE a.incident = i.id AND NOT a.closes"
		"   ORDER BY a.at DESC LIMIT 1)"
		"  > pg_catalog.clock_timestamp() - $4 * interval '1 microsecond'"
		" ORDER BY i.id LIMIT 1",
		4,
		{TEXTOID, TEXTOID, TEXTOID, INT8OID}};
	Datum values[] = {CStringGetTextDatum(alert), CStringGetTextDatum(group),
					  CStringGetTextDatum(kind), Int64GetDatum(window)};

	return incident_first_id(&select, values, NULL);
}

/* Has what would close it arrived already?  Then it is late, and no news. */
static bool
closed_already(const Occurrence *occurrence)
{
	static EngineStatement by_object = {
		"SELECT 1::bigint FROM stripe_sync.event"
		" WHERE object_id = $1 AND account = $2 AND created >= $3"
		" AND stripe_sync.event_type_fits(type, $4) LIMIT 1",
		4,
		{TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID}};
	static EngineStatement by_group = {
		"SELECT 1::bigint FROM stripe_sync.alerted"
		" WHERE alert = $4 AND group_key = $1 AND account = $2 AND created >= $3"
		" AND closes LIMIT 1",
		4,
		{TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID}};
	const Alert *alert = occurrence->alert;
	Datum values[] = {CStringGetTextDatum(occurrence->group),
					  CStringGetTextDatum(occurrence->event->account),
					  TimestampTzGetDatum(occurrence->created), (Datum) 0};

	/* what the engine reports is never late, and has whole seconds */
	if (alert->closed_by == NULL ||
		strncmp(occurrence->event->type, "system.", 7) == 0)
		return false;
	values[3] = CStringGetTextDatum(alert->name);
	if (incident_first_id(&by_group, values, NULL) != 0)
		return true;
	if (alert->group_by != NULL || occurrence->event->object_id == NULL)
		return false;
	values[0] = CStringGetTextDatum(occurrence->event->object_id);
	values[3] = CStringGetTextDatum(alert->closed_by);
	return incident_first_id(&by_object, values, NULL) != 0;
}

/* ---- opening ---- */

/* What of the incident is written when it opens. */
typedef struct Opening
{
	const char *kind;
	const char *alert;
	const char *group;
	const char *account;
	const char *text;
	const char *footer;
	Jsonb *blocks;
	int64 window;
} Opening;

static int64
insert_incident(const Occurrence *occurrence, const Opening *opening)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.incident_record (kind, alert, group_key, account,"
		" destination, severity, text, footer, blocks, event_id, window_until,"
		" escalate_at, class) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,"
		"  pg_catalog.clock_timestamp() + $11 * interval '1 microsecond',"
		"  CASE WHEN $12 > 0 THEN pg_catalog.clock_timestamp()"
		"    + $12 * interval '1 second' END, $13) RETURNING id",
		13,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
		 JSONBOID, TEXTOID, INT8OID, INT4OID, TEXTOID}};
	bool escalates = strcmp(opening->kind, "single") == 0 &&
					 strcmp(occurrence->alert->severity, "critical") == 0;
	Datum values[] = {
		CStringGetTextDatum(opening->kind),
		CStringGetTextDatum(opening->alert),
		CStringGetTextDatum(opening->group),
		CStringGetTextDatum(opening->account),
		CStringGetTextDatum(occurrence->destination),
		CStringGetTextDatum(occurrence->alert->severity),
		CStringGetTextDatum(opening->text),
		opening->footer ? CStringGetTextDatum(opening->footer) : (Datum) 0,
		opening->blocks ? JsonbPGetDatum(opening->blocks) : (Datum) 0,
		CStringGetTextDatum(occurrence->event->id),
		Int64GetDatum(opening->window),
		Int32GetDatum(escalates ? guc_escalate_after : 0),
		CStringGetTextDatum(occurrence->class)};
	char nulls[] = "             ";
	int64 id;

	nulls[7] = opening->footer ? ' ' : 'n';
	nulls[8] = opening->blocks ? ' ' : 'n';
	SPI_connect();
	engine_run(&insert, values, nulls, SPI_OK_INSERT_RETURNING);
	id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
									 SPI_tuptable->tupdesc, 1, &(bool){false}));
	SPI_finish();
	return id;
}

static void
open_incident(const Occurrence *occurrence, const Opening *opening)
{
	int64 id = insert_incident(occurrence, opening);
	Incident incident;

	note_event(occurrence, id, false);
	CommandCounterIncrement();
	if (!incident_read(id, &incident))
		elog(ERROR, "incident " INT64_FORMAT " is gone", id);
	(void) incident_post(&incident, occurrence->event->account);
}

static void
count_to(const Occurrence *occurrence, int64 id)
{
	Incident incident;

	note_event(occurrence, id, false);
	CommandCounterIncrement();
	if (incident_read(id, &incident))
		incident_tell_repeated(&incident, false, occurrence->event);
}

static void
open_rollup(const Occurrence *occurrence)
{
	const Alert *alert = occurrence->alert;
	Opening opening = {
		.kind = "rollup",
		.alert = alert->name,
		.group = burst_rollup_group(occurrence),
		.account = "",
		.text = template_render(alert->template, occurrence->event),
		.footer = alert->is_for_customer ? "" : NULL,
		.window = alert->window};

	open_incident(occurrence, &opening);
}

/* Past max_alerts_per_hour: one digest for the whole destination. */
static void
open_digest(const Occurrence *occurrence)
{
	Opening opening = {.kind = "digest",
					   .alert = DIGEST_ALERT,
					   .group = occurrence->destination,
					   .account = "",
					   .text = "",
					   .footer = occurrence->alert->is_for_customer ? "" : NULL,
					   .window = USECS_PER_HOUR};

	/* a digest for customers has no names of rules, but an example */
	if (occurrence->alert->is_for_customer)
		opening.text = template_render(occurrence->alert->template,
									   occurrence->event);

	open_incident(occurrence, &opening);
	incident_report_flood(occurrence->destination);
}

/* Where the event is in Stripe's dashboard: nothing for customers to see. */
static char *
footer_of(const Alert *alert, Event *event)
{
	if (alert->is_for_customer)
		return "";
	if (strncmp(event->type, "system.", 7) == 0)
		return NULL;
	return template_render("{{event.id | link}}", event);
}

static void
open_single(const Occurrence *occurrence)
{
	const Alert *alert = occurrence->alert;
	Event *event = occurrence->event;
	Opening opening = {
		.kind = "single",
		.alert = alert->name,
		.group = occurrence->group,
		.account = event->account,
		.text = template_render(alert->template, event),
		.footer = footer_of(alert, event),
		.blocks = alert->blocks ? template_render_blocks(alert->blocks, event)
								: NULL,
		.window = alert->window};

	open_incident(occurrence, &opening);
}

/* The roll-up or, past max_alerts_per_hour, the digest that counts on. */
static int64
find_collector(const Occurrence *occurrence)
{
	const Alert *alert = occurrence->alert;
	int64 id = find_collecting("rollup", alert->name,
							   burst_rollup_group(occurrence), alert->window);

	if (id == 0 && burst_is_flood(occurrence))
		id = find_collecting("digest", DIGEST_ALERT, occurrence->destination,
							 USECS_PER_HOUR);
	return id;
}

/* Nothing of the group is open: one more incident, or one of too many? */
static void
open_for(const Occurrence *occurrence)
{
	int64 collector = find_collector(occurrence);

	if (collector == 0)
	{
		/* who had it before us may have opened one, that we see now */
		if (group_try_destination(occurrence->destination))
			collector = find_collector(occurrence);
	}
	if (collector != 0)
		count_to(occurrence, collector);
	else if (burst_is_flood(occurrence))
		open_digest(occurrence);
	else if (burst_is_over(occurrence))
		open_rollup(occurrence);
	else
		open_single(occurrence);
}

/* ---- what is open ---- */

static void
extend_window(int64 id, int64 window)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record SET window_until ="
		" pg_catalog.clock_timestamp() + $2 * interval '1 microsecond'"
		" WHERE id = $1",
		2,
		{INT8OID, INT8OID}};
	Datum values[] = {Int64GetDatum(id), Int64GetDatum(window)};

	SPI_connect();
	engine_run(&update, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
}

static void
count_again(const Occurrence *occurrence, int64 id)
{
	Incident incident;
	bool again;

	note_event(occurrence, id, false);
	CommandCounterIncrement();
	if (!incident_read(id, &incident))
		return;
	again = incident.window_until <= GetCurrentTimestamp();
	if (again)
	{
		extend_window(id, occurrence->alert->window);
		incident.window_until = GetCurrentTimestamp() +
								occurrence->alert->window;
	}
	/* what is open since long counts against a flood too */
	again = again && !incident_flooded(incident.destination, 0);
	incident_tell_repeated(&incident, again, occurrence->event);
}

static Occurrence
occur(const Alert *alert, Event *event)
{
	Occurrence occurrence = {alert,
							 event,
							 alert->group,
							 alert->destination,
							 burst_class(alert, event),
							 0};

	occurrence.created = event->has_created ? event->created
											: GetCurrentTimestamp();
	return occurrence;
}

/* An event that the rule is for. */
void
incident_opening(const Alert *alert, Event *event)
{
	Occurrence occurrence = occur(alert, event);
	int64 open;

	if (seen_before(&occurrence))
		return;
	open = find_open(&occurrence);
	if (closed_already(&occurrence))
		note_event(&occurrence, 0, false);
	else if (open != 0)
		count_again(&occurrence, open);
	else
		open_for(&occurrence);
}

/* ---- closing ---- */

/* Is there a failure that is newer than what would close it? */
static bool
failed_since(const Occurrence *occurrence, int64 id)
{
	static EngineStatement select = {
		"SELECT 1::bigint FROM stripe_sync.alerted"
		" WHERE incident = $1 AND NOT closes AND created > $2 LIMIT 1",
		2,
		{INT8OID, TIMESTAMPTZOID}};
	Datum values[] = {Int64GetDatum(id),
					  TimestampTzGetDatum(occurrence->created)};

	return incident_first_id(&select, values, NULL) != 0;
}

static void
close_incident(const Occurrence *occurrence, int64 id)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record SET state = 'closed',"
		" closed_at = pg_catalog.clock_timestamp(), closed_by = $2,"
		" escalate_at = NULL WHERE id = $1 AND state = 'open'",
		2,
		{INT8OID, TEXTOID}};
	Datum values[] = {Int64GetDatum(id),
					  CStringGetTextDatum(occurrence->event->id)};
	Incident incident;

	SPI_connect();
	engine_run(&update, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
	CommandCounterIncrement();
	if (incident_read(id, &incident))
		incident_tell_closed(&incident, occurrence->event);
}

/* The roll-up or digest that still counts and has this group's failure. */
static int64
find_collected(const Occurrence *occurrence)
{
	static EngineStatement select = {
		"SELECT i.id FROM stripe_sync.alerted a"
		" JOIN stripe_sync.incident_record i ON i.id = a.incident"
		" WHERE a.alert = $1 AND a.group_key = $2 AND a.account = $3"
		" AND NOT a.closes AND a.created <= $4 AND i.kind <> 'single'"
		" AND i.state = 'open' LIMIT 1",
		4,
		{TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}};
	Datum values[] = {CStringGetTextDatum(occurrence->alert->name),
					  CStringGetTextDatum(occurrence->group),
					  CStringGetTextDatum(occurrence->event->account),
					  TimestampTzGetDatum(occurrence->created)};

	return incident_first_id(&select, values, NULL);
}

/*
 * Of failing events: does one of the group fail again, now that we have the
 * group's lock?  "any": does any of its step?
 */
static bool
fails_again(const Event *event, bool any)
{
	char *step;

	if (strcmp(event->type, EVENT_RECOVERED) != 0 || event->object == NULL)
		return false;
	step = json_get_string(event->object, "step");
	return step != NULL &&
		   record_is_failing(
			   step, any ? NULL : json_get_string(event->object, "sqlstate"),
			   json_get_string(event->object, "event_type"), event->account);
}

/* A roll-up or digest has it; a step's roll-up ends with all that it collects. */
static void
close_collected(const Occurrence *occurrence, int64 id)
{
	Incident incident;

	CommandCounterIncrement();
	if (!incident_read(id, &incident))
		return;
	if (strcmp(incident.kind, "rollup") == 0 && occurrence->class[0] != '\0' &&
		!fails_again(occurrence->event, true))
		close_incident(occurrence, id);
	else
		incident_tell_repeated(&incident, false, occurrence->event);
}

/* An event that closes what the rule has opened; silent where nothing is. */
void
incident_closing(const Alert *alert, Event *event)
{
	Occurrence occurrence = occur(alert, event);
	int64 open;
	int64 collected;

	if (seen_before(&occurrence) || fails_again(event, false))
		return;
	open = find_open(&occurrence);
	collected = open == 0 ? find_collected(&occurrence) : 0;
	if (open != 0 && failed_since(&occurrence, open))
		return; /* it is late: the failure is the news */
	if (open != 0 || collected != 0 || alert->group_by != NULL)
		note_event(&occurrence, open != 0 ? open : collected, true);
	if (open != 0)
		close_incident(&occurrence, open);
	else if (collected != 0)
		close_collected(&occurrence, collected);
}
