/*
 * event_list.c
 *		Parts "events": read Stripe's list of an account's events and store those
 *		that the inbox lacks.
 *
 * The list is read from its newest event back.  All times are by Stripe's clock.
 * An event younger than five minutes at the first answer may still be on its way
 * by webhook, and is left to the next job.  That limit is kept in the part
 * (until), so that a part that is resumed uses the same one.
 *
 * Missing events are stored as "pending" without a due time.  When the end of
 * the range is reached all of them are made due in the events' own order
 * (missing_events.c), and applied like any other retry.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "base/refusal.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "inbox/inbox.h"
#include "jobs/jobs.h"
#include "jobs/part.h"
#include "receive/receive.h"
#include "stripe/stripe.h"
#include "sync/internal.h"

#define MAX_NOTED 5 /* elements of a page that are not stored */

/* ---- the request ---- */

static char *
events_path(const Part *part)
{
	StringInfoData path;

	initStringInfo(&path);
	appendStringInfoString(&path, "/v1/events");
	api_path_append_page(&path, part);
	if (part->since != DT_NOBEGIN)
		appendStringInfo(&path, "&created[gte]=%lld",
						 (long long) timestamptz_to_time_t(part->since));
	if (part->until != DT_NOBEGIN)
		appendStringInfo(&path, "&created[lte]=%lld",
						 (long long) timestamptz_to_time_t(part->until));
	return path.data;
}

/* ---- the range ---- */

/*
 * How many seconds back the job reads; 0: to the watermark.  It may have been
 * extended since the last page.
 */
static int64
seconds_requested(const Part *part)
{
	static EngineStatement select = {
		"SELECT COALESCE((arguments->>'seconds')::bigint, 0)"
		" FROM stripe_sync.job_record WHERE id = $1"};

	return statement_int8(0, &select, ARGS(arg_int8(part->job)));
}

/* Events before the last 30 days are not listed; noted once for a part. */
static void
warn_of_unlisted_events(Part *part)
{
	ereport(WARNING, (errmsg("events older than 30 days cannot be reconciled: "
							 "Stripe does not list them"),
					  errhint("SELECT stripe_sync.backfill() reads the objects "
							  "themselves.")));
	part_note(part, "Some events are older than the 30 days that Stripe lists, "
					"and were not compared: stripe_sync.backfill() reads the "
					"objects themselves");
}

/*
 * Set the range, since to until, from Stripe's time in the answer.  "until" is
 * set once, with the first page.
 */
static void
set_range(Part *part, const ApiCall *call)
{
	bool begins = part->until == DT_NOBEGIN;
	int64 seconds = seconds_requested(part);
	TimestampTz start; /* of the job */
	TimestampTz requested;

	if (begins)
		part->until = call->as_of - RECONCILE_YOUNG -
					  (call->as_of - RECONCILE_YOUNG) % USECS_PER_SEC;
	start = part->until + RECONCILE_YOUNG;
	if (part->since == DT_NOBEGIN && seconds == 0)
		part->since = start - RECONCILE_AT_FIRST;
	requested = start - seconds * USECS_PER_SEC;
	if (part->since == DT_NOBEGIN || requested < part->since)
		part->since = requested;
	if (part->since < start - STRIPE_KEEPS)
	{
		if (begins)
			warn_of_unlisted_events(part);
		part->since = start - STRIPE_KEEPS;
	}
}

/* ---- elements of a page ---- */

/* The endpoint of the account and the event's mode, if there is only one */
static char *
only_endpoint(const char *owner, const Event *event)
{
	static EngineStatement select = {
		"SELECT pg_catalog.min(name) FROM stripe_sync.endpoint"
		" WHERE (livemode IS NULL OR $1 IS NULL OR livemode = $1) AND account = $2"
		" HAVING pg_catalog.count(*) = 1"};

	return statement_text(
		&select, ARGS(arg_if(event->has_livemode, arg_bool(event->livemode)),
					  arg_text(owner)));
}

/* The page that is being processed */
typedef struct EventPage
{
	Part *part;
	char *owner;	/* the account of an endpoint that the part's belongs to */
	char *endpoint; /* the only one of that account, or NULL */
	EventLookup *lookup;
	List *types; /* char *, of events that came by webhook */
	char *last;	 /* id of the last element */
	TimestampTz oldest;
	int refused;
} EventPage;

static void
note_refused(EventPage *page, const Refusal *refusal)
{
	if (++page->refused <= MAX_NOTED)
		part_note(page->part,
				  psprintf("an element of Stripe's list is not an event: %s",
						   refusal->detail ? refusal->detail : refusal->message));
}

static void
note_time(EventPage *page, bool is_known, TimestampTz created)
{
	if (is_known && created < page->oldest)
		page->oldest = created;
}

static void
note_type(EventPage *page, const StoredEventSummary *summary)
{
	ListCell *cell;

	if (!summary->by_webhook)
		return;
	foreach(cell, page->types)
		if (strcmp(lfirst(cell), summary->type) == 0)
			return;
	page->types = lappend(page->types, summary->type);
}

static bool
is_in_range(const Part *part, const Event *event)
{
	return !event->has_created ||
		   (event->created <= part->until && event->created >= part->since);
}

/* A key of the wrong mode lists events that the endpoint would not get. */
static bool
has_right_mode(EventPage *page, const Event *event)
{
	bool live;

	if (!event->has_livemode || !account_mode(page->part->account, &live) ||
		live == event->livemode)
		return true;
	if (++page->refused <= MAX_NOTED)
		part_note(
			page->part,
			psprintf("%s is a %s event, but the account's endpoint takes %s ones",
					 event->id, event->livemode ? "live" : "test",
					 live ? "live" : "test"));
	return false;
}

/* Store a missing event.  Returns false if it isn't stored. */
static bool
store_missing(EventPage *page, const PageElement *element)
{
	Refusal refusal;
	Event event;

	if (!event_read(element->bytes, element->length, &event, &refusal))
	{
		note_refused(page, &refusal);
		return false;
	}
	event.account = page->part->account;
	note_time(page, event.has_created, event.created);
	return is_in_range(page->part, &event) && has_right_mode(page, &event) &&
		   inbox_store_pending(&event, only_endpoint(page->owner, &event),
							   "reconcile");
}

/*
 * The event came by webhook and was held because of its mode.  If the mode is
 * right by now it is released like a missing event.
 */
static bool
release_held(EventPage *page, const char *id, const StoredEventSummary *summary)
{
	StoredEvent *stored = replay_lock(id, summary->account);

	return stored != NULL && held_is(stored) &&
		   held_release(stored, page->part->account, "reconcile") == NULL;
}

/*
 * In a connected account's own list an event lacks the "account" or "context"
 * that a webhook delivery has.  It is added, so that handlers and queries find it
 * in both.
 */
static PageElement
as_delivered(const EventPage *page, const PageElement *element)
{
	const char *below = account_below(page->part->account, page->owner);
	StringInfoData bytes;
	char *named;

	if (below[0] == '\0')
		return *element;
	named = event_peek_account(element->bytes, element->length);
	if (named == NULL || named[0] != '\0')
		return *element;
	initStringInfo(&bytes);
	appendStringInfoString(&bytes, page->part->target.by_context
									   ? "{\"context\":"
									   : "{\"account\":");
	escape_json(&bytes, below);
	appendStringInfoChar(&bytes, ',');
	appendBinaryStringInfo(&bytes, element->bytes + 1, element->length - 1);
	return (PageElement){bytes.data, bytes.len};
}

static void
process_element(EventPage *page, const PageElement *listed)
{
	PageElement delivered = as_delivered(page, listed);
	const PageElement *element = &delivered;
	WebhookDelivery delivery = {element->bytes, element->length, page->endpoint,
								page->owner, page->part->account};
	StoredEventSummary summary;

	page->last = event_peek_id(listed->bytes, listed->length);
	page->part->objects++;
	if (event_lookup_find(page->lookup, page->last, &delivery, &summary))
	{
		note_time(page, summary.has_created, summary.created);
		note_type(page, &summary);
		if (summary.held && release_held(page, page->last, &summary))
			page->part->missing++;
	}
	else if (store_missing(page, element))
		page->part->missing++;
}

/*
 * Record types of events that come by webhook: only missing events of such types
 * are reported.
 */
static void
record_webhook_types(const List *types)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.webhook_type (type) VALUES ($1)"
		" ON CONFLICT DO NOTHING"};
	ListCell *cell;

	foreach(cell, types)
		(void) statement_exec(&insert, ARGS(arg_text(lfirst(cell))));
}

/* ---- cursor and progress ---- */

static void
update_events_progress(Part *part, const EventPage *page)
{
	double whole = (double) (part->until - part->since);

	if (whole > 0 && page->oldest < part->until)
		part_set_progress(part, (double) (part->until - page->oldest) / whole);
}

static void
move_events_cursor(Part *part, const EventPage *page)
{
	if (page->last == NULL ||
		(part->cursor != NULL && strcmp(page->last, part->cursor) == 0) ||
		part_cursor_repeats(part, page->last))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("Stripe's list of events does not end: pages repeat "
						"the same event"),
				 answer_is_invalid()));
	part_set_cursor(part, page->last);
}

/*
 * Process a page.  The part is finished when an event older than the range is
 * listed, or the list ends.  If the job was extended since the request, or the
 * page has only events that are too young, the list is requested again with the
 * new range.
 */
static void
events_process(Part *part, const ApiCall *call)
{
	EventPage page = {
		.part = part, .owner = account_owner(part->account), .oldest = DT_NOEND};
	TimestampTz listed_since = part->since;
	bool begins = part->until == DT_NOBEGIN;
	bool has_more;
	List *elements = list_page_read(call->body, call->length, &has_more);
	ListCell *cell;

	set_range(part, call);
	page.endpoint = only_endpoint(page.owner, &(Event){0});
	page.lookup = event_lookup_begin();
	foreach(cell, elements)
		process_element(&page, lfirst(cell));
	event_lookup_end(page.lookup);
	if (page.types != NIL)
		record_webhook_types(page.types);
	update_events_progress(part, &page);
	part->pages++;
	if (page.oldest < part->since || (!has_more && listed_since <= part->since))
		missing_events_finish(part, call->as_of);
	else if (has_more && !(begins && page.oldest > part->until))
		move_events_cursor(part, &page);
	else if (!has_more && page.last != NULL)
		part_set_cursor(part, page.last);
}

/* When a failed part is resumed, Stripe may no longer have its cursor's event. */
const PartKind part_events = {.name = "events",
							  .path = events_path,
							  .process = events_process,
							  .skip = unread_skip,
							  .skipped = unread_report_skipped,
							  .ended = unread_part_ended,
							  .cancelled = missing_events_release_job,
							  .restart_on = CURSOR_MISSING,
							  .lazy_commit = true,
							  .shrinks = true,
							  .retry_sql = "SELECT stripe_sync.reconcile()"};
