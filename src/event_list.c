/*
 * event_list.c
 *		Stripe's own list of an account's events is read, and what never arrived
 *		is brought in.
 *
 * The list is read from its newest event down.  All times are Stripe's: what is
 * younger than five minutes by the clock of the first answer may still be in
 * flight, and is left to the next run.  That time is kept in the part, so that
 * a run that was broken off goes on below its cursor.
 *
 * What the inbox lacks is stored as "pending"; when the bottom is reached all of
 * it falls due in the events' own order, and is applied as any other retry.  So
 * nothing that a webhook has meanwhile brought is touched.
 */
#include "sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "account.h"

#define MAX_NOTED 5 /* elements of a page that are no events */

/* ---- the request ---- */

static char *
events_path(const Part *part)
{
	StringInfoData path;

	initStringInfo(&path);
	appendStringInfoString(&path, "/v1/events");
	path_append_page(&path, part);
	if (part->since != DT_NOBEGIN)
		appendStringInfo(&path, "&created[gte]=%lld",
						 (long long) timestamptz_to_time_t(part->since));
	if (part->until != DT_NOBEGIN)
		appendStringInfo(&path, "&created[lte]=%lld",
						 (long long) timestamptz_to_time_t(part->until));
	return path.data;
}

/* ---- how far down ---- */

/* As somebody may have asked for by now; 0: as far as the watermark. */
static int64
seconds_asked(const Part *part)
{
	static EngineStatement select = {
		"SELECT COALESCE((arguments->>'seconds')::bigint, 0)"
		" FROM stripe_sync.job_record WHERE id = $1",
		1,
		{INT8OID}};
	Datum value = Int64GetDatum(part->job);
	int64 seconds = 0;

	SPI_connect();
	engine_run(&select, &value, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
		seconds = DatumGetInt64(engine_value());
	SPI_finish();
	return seconds;
}

/* What has happened before is listed no more: that is said, once. */
static void
warn_of_gap(Part *part)
{
	ereport(WARNING,
			(errmsg("events of more than 30 days ago cannot be reconciled: "
					"Stripe lists them no more"),
			 errhint("SELECT stripe_sync.backfill() reads the objects "
					 "themselves.")));
	part_note(part, "Some events are older than the 30 days that Stripe lists, "
					"and were not compared: stripe_sync.backfill() reads the "
					"objects themselves");
}

/* The range of the run, from what the answer says of Stripe's clock. */
static void
set_range(Part *part, const ApiCall *call)
{
	bool begins = part->until == DT_NOBEGIN;
	int64 seconds = seconds_asked(part);
	TimestampTz start; /* of the run */
	TimestampTz asked;

	if (begins)
		part->until = call->as_of - RECONCILE_YOUNG -
					  (call->as_of - RECONCILE_YOUNG) % USECS_PER_SEC;
	start = part->until + RECONCILE_YOUNG;
	if (part->since == DT_NOBEGIN && seconds == 0)
		part->since = start - RECONCILE_AT_FIRST;
	asked = start - seconds * USECS_PER_SEC;
	if (part->since == DT_NOBEGIN || asked < part->since)
		part->since = asked;
	if (part->since < start - STRIPE_KEEPS)
	{
		if (begins)
			warn_of_gap(part);
		part->since = start - STRIPE_KEEPS;
	}
}

/* ---- what a page holds ---- */

/* An endpoint of that account and mode, when there is just one. */
static char *
endpoint_of(const char *owner, const Event *event)
{
	static EngineStatement select = {
		"SELECT pg_catalog.min(name) FROM stripe_sync.endpoint"
		" WHERE (livemode IS NULL OR $1 IS NULL OR livemode = $1) AND account = $2"
		" HAVING pg_catalog.count(*) = 1",
		2,
		{BOOLOID, TEXTOID}};
	Datum values[] = {BoolGetDatum(event->livemode), CStringGetTextDatum(owner)};
	MemoryContext context = CurrentMemoryContext;
	char *name = NULL;

	SPI_connect();
	engine_run(&select, values, event->has_livemode ? NULL : "n ",
			   SPI_OK_SELECT);
	if (SPI_processed > 0)
	{
		name = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		name = name ? MemoryContextStrdup(context, name) : NULL;
	}
	SPI_finish();
	return name;
}

/* A page of the list, while it is gone through. */
typedef struct EventPage
{
	Part *part;
	char *owner;	/* the endpoint's account that this one belongs to */
	char *endpoint; /* the only one of that account, or NULL */
	EventLookup *look;
	List *types; /* char *, of events that came by webhook */
	char *last;	 /* id */
	TimestampTz oldest;
	int refused;
} EventPage;

static void
note_refused(EventPage *page, const Refusal *refusal)
{
	if (++page->refused <= MAX_NOTED)
		part_note(page->part, psprintf("Stripe lists what is no event: %s",
									   refusal->detail ? refusal->detail
													   : refusal->message));
}

static void
note_time(EventPage *page, bool is_known, TimestampTz created)
{
	if (is_known && created < page->oldest)
		page->oldest = created;
}

static void
note_type(EventPage *page, const StoredEventSummary *gist)
{
	ListCell *cell;

	if (!gist->by_webhook)
		return;
	foreach(cell, page->types)
		if (strcmp(lfirst(cell), gist->type) == 0)
			return;
	page->types = lappend(page->types, gist->type);
}

/* What is too young isn't missing yet; what is too old nobody has asked for. */
static bool
is_in_range(const Part *part, const Event *event)
{
	return !event->has_created ||
		   (event->created <= part->until && event->created >= part->since);
}

/* What a key of the other mode lists is not this account's. */
static bool
is_of_mode(EventPage *page, const Event *event)
{
	bool live;

	if (!event->has_livemode || !account_mode(page->part->account, &live) ||
		live == event->livemode)
		return true;
	if (++page->refused <= MAX_NOTED)
		part_note(
			page->part,
			psprintf("%s is a %s event, and the account's endpoint takes %s ones",
					 event->id, event->livemode ? "live" : "test",
					 live ? "live" : "test"));
	return false;
}

/* True when the inbox did not have it. */
static bool
bring_in(EventPage *page, const PageElement *element)
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
	return is_in_range(page->part, &event) && is_of_mode(page, &event) &&
		   inbox_store_pending(&event, endpoint_of(page->owner, &event),
							   "reconcile");
}

/*
 * It came by webhook, and was held for its mode: if that is right by now it is
 * brought in as what was missing is.
 */
static bool
bring_back(EventPage *page, const char *id, const StoredEventSummary *gist)
{
	StoredEvent *stored = replay_lock(id, gist->account);

	return stored != NULL && held_is(stored) &&
		   held_release(stored, page->part->account, "reconcile") == NULL;
}

/*
 * A connected account's own list leaves out what a webhook says: whose event it
 * is.  Handlers, and all who read the inbox, must find it in both.
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
take_element(EventPage *page, const PageElement *listed)
{
	PageElement delivered = as_delivered(page, listed);
	const PageElement *element = &delivered;
	WebhookDelivery delivery = {element->bytes, element->length, page->endpoint,
								page->owner, page->part->account};
	StoredEventSummary gist;

	page->last = event_peek_id(listed->bytes, listed->length);
	page->part->objects++;
	if (event_lookup_find(page->look, page->last, &delivery, &gist))
	{
		note_time(page, gist.has_created, gist.created);
		note_type(page, &gist);
		if (gist.held && bring_back(page, page->last, &gist))
			page->part->missing++;
	}
	else if (bring_in(page, element))
		page->part->missing++;
}

/* Types of events that come by webhook, for missing ones to be judged by. */
static void
remember_types(const List *types)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.webhook_type (type) VALUES ($1)"
		" ON CONFLICT DO NOTHING",
		1,
		{TEXTOID}};
	ListCell *cell;

	SPI_connect();
	foreach(cell, types)
	{
		Datum value = CStringGetTextDatum(lfirst(cell));

		engine_run(&insert, &value, NULL, SPI_OK_INSERT);
	}
	SPI_finish();
}

/* ---- where it goes on ---- */

static void
set_progress(Part *part, const EventPage *page)
{
	double whole = (double) (part->until - part->since);

	if (whole > 0 && page->oldest < part->until)
		part_set_progress(part, (double) (part->until - page->oldest) / whole);
}

static void
move_cursor(Part *part, const EventPage *page)
{
	if (page->last == NULL ||
		(part->cursor != NULL && strcmp(page->last, part->cursor) == 0) ||
		part_goes_round(part, page->last))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("Stripe's list of events does not go on: its pages end "
						"with the same event"),
				 answer_is_useless()));
	part_set_cursor(part, page->last);
}

static void
events_take(Part *part, const ApiCall *call)
{
	EventPage page = {
		.part = part, .owner = account_owner(part->account), .oldest = DT_NOEND};
	TimestampTz listed_since = part->since;
	bool begins = part->until == DT_NOBEGIN;
	bool has_more;
	List *elements = page_read(call->body, call->length, &has_more);
	ListCell *cell;

	set_range(part, call);
	page.endpoint = endpoint_of(page.owner, &(Event){0});
	page.look = event_lookup_begin();
	foreach(cell, elements)
		take_element(&page, lfirst(cell));
	event_lookup_end(page.look);
	if (page.types != NIL)
		remember_types(page.types);
	set_progress(part, &page);
	part->pages++;
	if (page.oldest < part->since || (!has_more && listed_since <= part->since))
		gap_close(part, call->as_of);
	else if (has_more && !(begins && page.oldest > part->until))
		move_cursor(part, &page);
	/* else again: a list that has been widened, or without what is too young */
	else if (!has_more && page.last != NULL)
		part_set_cursor(part, page.last);
}

/* A run that has failed goes on when Stripe may have forgotten its cursor. */
const PartKind part_events = {.name = "events",
							  .path = events_path,
							  .take = events_take,
							  .pass_over = unread_pass_over,
							  .passed_over = unread_passed_over,
							  .ended = unread_over,
							  .cancelled = gap_release,
							  .cursor_may_go = CURSOR_MISSING,
							  .quiet = true,
							  .shrinks = true,
							  .again = "SELECT stripe_sync.reconcile()"};
