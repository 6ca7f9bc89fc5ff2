/*
 * quiet_end.c
 *		The end of quiet hours: posts what was held.
 *
 * One digest says what fired, what is over and what is still open; then each
 * incident that is still open is posted.  All of it is one transaction for a
 * destination, so a crash leaves everything held, or everything queued.
 *
 * A message is held while its due_at is infinity.  It may also be found after the
 * end: of a transaction that commits late.  Then the next turn posts it.
 *
 * Locks: the row of the destination, so that two sessions don't make two digests,
 * then messages.  Both are skipped if another session has them.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "engine/array_argument.h"
#include "engine/engine.h"
#include "engine/statement.h"
#include "outbox/outbox.h"
#include "quiet/internal.h"

#define MOST_POSTS 10 /* incidents that are posted after a digest */

/* Messages of one destination that are held no longer */
typedef struct Held
{
	const char *destination;
	StatementArg ids;  /* bigint[] */
	int64 first;	   /* the first of them */
	TimestampTz since; /* when the first was held */
	List *incidents;   /* of HeldIncident */
	int64 digest;	   /* the digest's message, 0: there is none */
} Held;

/* ---- what is held ---- */

static List *
held_destinations(void)
{
	static EngineStatement select = {
		"WITH RECURSIVE held AS ("
		" (SELECT destination FROM stripe_sync.message"
		"   WHERE state = 'waiting' AND held_at IS NOT NULL AND due_at = 'infinity'"
		"   ORDER BY destination LIMIT 1)"
		" UNION ALL"
		" SELECT (SELECT m.destination FROM stripe_sync.message m"
		"   WHERE m.state = 'waiting' AND m.held_at IS NOT NULL"
		"    AND m.due_at = 'infinity' AND m.destination > h.destination"
		"   ORDER BY m.destination LIMIT 1) FROM held h"
		"  WHERE h.destination IS NOT NULL)"
		" SELECT destination FROM held WHERE destination IS NOT NULL"};
	List *names = NIL;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	while (rows_next(&rows))
		names = lappend(names, rows_text(&rows));
	rows_close(&rows);
	return names;
}

/*
 * Severities of its held messages that are not held any longer, as columns_add()
 * has them.  *next is when the others are.
 */
static ArgColumns
find_free(const char *destination, TimestampTz *next)
{
	static EngineStatement select = {
		"SELECT DISTINCT COALESCE(i.severity, 'info')"
		" FROM stripe_sync.message m"
		" LEFT JOIN stripe_sync.incident_record i ON i.id = m.incident"
		" WHERE m.destination = $1 AND m.state = 'waiting'"
		" AND m.held_at IS NOT NULL AND m.due_at = 'infinity'"};
	TimestampTz now = GetCurrentTimestamp();
	ArgColumns severities = {0};
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_text(destination)));
	while (rows_next(&rows))
	{
		char *severity = rows_text(&rows);
		TimestampTz until = quiet_until(destination, severity, now);

		if (until == DT_NOBEGIN)
			columns_add(&severities, ARGS(arg_text(severity)));
		else
			*next = Min(*next, until);
	}
	rows_close(&rows);
	return severities;
}

/* Returns false if there are none, or another session has locked them. */
static bool
lock_messages(Held *held, const ArgColumns *severities)
{
	static EngineStatement lock_destination = {
		"SELECT FROM stripe_sync.destination WHERE name = $1"
		" FOR NO KEY UPDATE SKIP LOCKED"};
	static EngineStatement lock = {
		"SELECT m.id, m.held_at FROM stripe_sync.message m"
		" LEFT JOIN stripe_sync.incident_record i ON i.id = m.incident"
		" WHERE m.destination = $1 AND m.state = 'waiting'"
		" AND m.held_at IS NOT NULL AND m.due_at = 'infinity'"
		" AND COALESCE(i.severity, 'info') = ANY ($2)"
		" ORDER BY m.id FOR UPDATE OF m SKIP LOCKED"};
	ArgColumns ids = {0};
	Rows rows;

	if (statement_exec(&lock_destination, ARGS(arg_text(held->destination))) == 0)
		return false;
	held->since = DT_NOEND;
	rows_open(&rows, &lock,
			  ARGS(arg_text(held->destination), arg_column(severities, 0)));
	while (rows_next(&rows))
	{
		int64 id = rows_int8(&rows, 0);
		TimestampTz since = rows_time(&rows, DT_NOEND);

		held->first = ids.nrows == 0 ? id : held->first;
		held->since = Min(held->since, since);
		columns_add(&ids, ARGS(arg_int8(id)));
	}
	rows_close(&rows);
	if (ids.nrows > 0)
		held->ids = arg_column(&ids, 0);
	return ids.nrows > 0;
}

/* ---- its incidents ---- */

static HeldIncident *
read_incident(Rows *rows)
{
	HeldIncident *incident = palloc(sizeof(HeldIncident));

	incident->id = rows_int8(rows, 0);
	incident->is_new = rows_bool(rows, false);
	incident->told = rows_bool(rows, false);
	incident->here = rows_bool(rows, false);
	incident->post = rows_int8(rows, 0);
	incident->open = rows_bool(rows, false);
	incident->silent = rows_bool(rows, false);
	incident->kind = rows_text(rows);
	incident->alert = rows_text(rows);
	incident->text = rows_text(rows);
	incident->footer = rows_text(rows);
	incident->event_id = rows_text(rows);
	incident->count = rows_int8(rows, 0);
	incident->is_test = rows_bool(rows, false);
	incident->opened_at = rows_time(rows, 0);
	incident->closed_at = rows_time(rows, 0);
	incident->closed_by = rows_text(rows);
	incident->closing_type = rows_text(rows);
	incident->closing_text = rows_text(rows);
	incident->closed_badly = rows_bool(rows, false);
	return incident;
}

/*
 * The open ones first, of them the worst, then the oldest.  A critical one is open
 * until it is resolved, as it is for repetitions; others end with their window if
 * no event closes them.  Of an incident that is only repeated here, the last
 * repetition tells.
 */
static void
read_incidents(Held *held)
{
	static EngineStatement select = {
		"SELECT i.id, m.own, m.told, i.destination = $2,"
		" CASE WHEN m.own THEN i.message_id"
		"   WHEN i.destination <> $2 THEN m.last END,"
		" i.closed_by IS NULL AND (i.state = 'open' OR i.severity = 'critical'),"
		" i.acknowledged_at IS NOT NULL"
		"  OR COALESCE(i.snoozed_until > pg_catalog.clock_timestamp(), false)"
		"  OR EXISTS (SELECT FROM stripe_sync.alert a WHERE a.name = i.alert"
		"   AND a.muted_until > pg_catalog.clock_timestamp()),"
		" i.kind, i.alert, i.text, i.footer, i.event_id,"
		" (SELECT pg_catalog.count(*) FROM stripe_sync.alerted c"
		"   WHERE c.incident = i.id AND NOT c.closes),"
		" i.livemode IS false, i.opened_at, i.closed_at, i.closed_by,"
		" (SELECT e.type FROM stripe_sync.event e"
		"   WHERE e.id = i.closed_by AND e.account = i.account),"
		" i.closing_text, i.closed_well IS false"
		" FROM (SELECT h.incident, pg_catalog.bool_or(h.id = r.message_id) AS own,"
		"   pg_catalog.bool_or(h.method <> 'update') AS told,"
		"   pg_catalog.max(h.id) FILTER (WHERE h.method <> 'update') AS last"
		"  FROM stripe_sync.message h"
		"  JOIN stripe_sync.incident_record r ON r.id = h.incident"
		"  WHERE h.id = ANY ($1) GROUP BY h.incident) m"
		" JOIN stripe_sync.incident_record i ON i.id = m.incident"
		" ORDER BY 6 DESC, i.severity = 'critical' DESC,"
		"  i.severity = 'warning' DESC, i.opened_at, i.id"};
	Rows rows;

	rows_open(&rows, &select, ARGS(held->ids, arg_text(held->destination)));
	while (rows_next(&rows))
		held->incidents = lappend(held->incidents, read_incident(&rows));
	rows_close(&rows);
}

/* ---- post ---- */

/* Those with nothing but an update are no news. */
static void
post_digest(Held *held)
{
	NewMessage message = {.destination = held->destination,
						  .method = "post",
						  .due_at = GetCurrentTimestamp()};
	List *told = NIL;
	ListCell *cell;

	foreach(cell, held->incidents)
		if (((HeldIncident *) lfirst(cell))->told)
			told = lappend(told, lfirst(cell));
	if (told == NIL)
		return;
	/* the messages after it wait until it is settled, as those of its key do */
	message.key = psprintf("incident/quiet/" INT64_FORMAT, held->first);
	message.payload = quiet_digest(told, held->since);
	held->digest = outbox_enqueue(&message);
}

/* Its message was sent before it was quiet: say in its thread that it is open. */
static void
post_again(const Held *held, const HeldIncident *incident)
{
	NewMessage message = {
		.destination = held->destination,
		.method = "post",
		.payload = quiet_still_open(incident),
		.thread = psprintf("incident/" INT64_FORMAT, incident->id),
		.due_at = GetCurrentTimestamp(),
		.event_id = incident->event_id,
		.incident = incident->id,
		.after = held->digest};

	(void) outbox_enqueue(&message);
}

/* ---- let go ---- */

/* The messages that tell of incidents, and updates of incidents */
static void
let_go(const Held *held, const ArgColumns *posts, const ArgColumns *updated)
{
	static EngineStatement update_posts = {
		"UPDATE stripe_sync.message SET due_at = pg_catalog.clock_timestamp(),"
		" blocked_by = $2 WHERE id = ANY ($1)"};
	static EngineStatement update_updates = {
		"UPDATE stripe_sync.message SET due_at = pg_catalog.clock_timestamp(),"
		" blocked_by = $3 WHERE id = ANY ($1) AND incident = ANY ($2)"
		" AND method = 'update'"};
	StatementArg digest = arg_if(held->digest != 0, arg_int8(held->digest));

	if (posts->nrows > 0)
		statement_exec(&update_posts, ARGS(arg_column(posts, 0), digest));
	if (updated->nrows > 0)
		statement_exec(&update_updates,
					   ARGS(held->ids, arg_column(updated, 0), digest));
}

/* The digest has said it. */
static void
cancel_rest(const Held *held)
{
	static EngineStatement cancel = {
		"UPDATE stripe_sync.message SET state = 'cancelled',"
		" last_code = 'quiet_hours', settled_at = pg_catalog.clock_timestamp()"
		" WHERE id = ANY ($1) AND due_at = 'infinity'"};

	statement_exec(&cancel, ARGS(held->ids));
}

/*
 * Of each incident that is still open one message is posted, at most MOST_POSTS.
 * What changes a message that was sent, or is sent now, is let go as well.
 */
static void
post_open(Held *held)
{
	ArgColumns posts = {0};
	ArgColumns updated = {0};
	int left = MOST_POSTS;
	ListCell *cell;

	foreach(cell, held->incidents)
	{
		const HeldIncident *incident = lfirst(cell);
		bool posted = incident->told && incident->open && !incident->silent &&
					  left > 0;

		left -= posted;
		if (posted && incident->post != 0)
			columns_add(&posts, ARGS(arg_int8(incident->post)));
		else if (posted)
			post_again(held, incident);
		if (posted || incident->post == 0)
			columns_add(&updated, ARGS(arg_int8(incident->id)));
	}
	let_go(held, &posts, &updated);
}

/* Returns false if nothing is held any longer; *next is when something won't be. */
static bool
end_at_destination(const char *destination, TimestampTz *next)
{
	Held held = {.destination = destination};
	ArgColumns severities = find_free(destination, next);

	if (severities.nrows == 0)
		return false;
	/* what another session has locked is looked at again */
	*next = Min(*next, GetCurrentTimestamp() + USECS_PER_SEC);
	if (!lock_messages(&held, &severities))
		return false;
	read_incidents(&held);
	post_digest(&held);
	post_open(&held);
	cancel_rest(&held);
	return true;
}

/* One destination at a time */
bool
quiet_end_turn(TimestampTz *next)
{
	int nest = plan_for_indexes_with_lock_timeout();
	bool ended = false;
	ListCell *cell;

	*next = DT_NOEND;
	foreach(cell, held_destinations())
	{
		ended = end_at_destination(lfirst(cell), next);
		if (ended)
			break;
	}
	plan_settings_restore(nest);
	if (ended)
		*next = DT_NOBEGIN;
	return ended;
}
