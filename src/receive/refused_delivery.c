/*
 * refused_delivery.c
 *		Records a refused delivery: why it was refused, whether it probably came
 *		from Stripe (alerts count only those), and a hint for its sender.
 *
 * No part of a payload is kept but the event's id.  Text from outside is
 * truncated, and control characters are replaced: it ends up in a log line.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "base/refusal.h"
#include "engine/engine.h"
#include "server/counters.h"
#include "server/server.h"
#include "receive/internal.h"

#define SEARCHED_BYTES 65536 /* of a body, for an event's id */

/* The RefusalKind of a SQLSTATE */
static int
kind_of(int sqlstate)
{
	const char *code = unpack_sql_state(sqlstate);

	for (int kind = 0; kind < REFUSAL_KINDS; kind++)
		if (strcmp(refusal_code(kind), code) == 0)
			return kind;
	return REFUSAL_STATE;
}

/* ---- did it probably come from Stripe? ---- */

static bool
holds(const char *bytes, int length, const char *what)
{
	return memmem(bytes, Min(length, SEARCHED_BYTES), what, strlen(what)) !=
		   NULL;
}

/*
 * It has a signature header and an event's id; requests of scanners and
 * crawlers have neither.  Forged ones may have both: nothing depends on this but
 * an alert.
 */
static bool
is_likely_from_stripe(const DeliveryParts *delivery)
{
	const text *header = delivery->signature;

	return header != NULL &&
		   holds(VARDATA_ANY(header), VARSIZE_ANY_EXHDR(header), "t=") &&
		   holds(VARDATA_ANY(header), VARSIZE_ANY_EXHDR(header), "v1=") &&
		   holds(delivery->payload, delivery->length, "evt_");
}

/* ---- the detail ---- */

/* The text cut to REFUSAL_DETAIL, on one line. */
static char *
one_line(const char *text)
{
	int length = pg_mbcliplen(text, strlen(text), REFUSAL_DETAIL - 1);
	char *line = pnstrdup(text, length);

	for (char *p = line; *p != '\0'; p++)
		if ((unsigned char) *p < ' ' || *p == '\x7f')
			*p = ' ';
	return line;
}

/* For a header that was parsed and found too old. */
static char *
describe_age(const DeliveryParts *delivery)
{
	char *header = psprintf(",%s", text_to_cstring(delivery->signature));
	char *element = strstr(header, ",t=");
	int64 now = (int64) timestamptz_to_time_t(GetCurrentTimestamp());

	if (element == NULL)
		return "It is older than the endpoint's tolerance.";
	return psprintf("By this server's clock it is " INT64_FORMAT
					" seconds old, more than the endpoint's tolerance.",
					now - (int64) strtoll(element + strlen(",t="), NULL, 10));
}

static const char *
describe_plain(const DeliveryParts *delivery, const Refusal *refusal, int kind)
{
	switch (kind)
	{
		case REFUSAL_UNREADABLE:
			return delivery->signature == NULL
					   ? "There is no Stripe-Signature header."
					   : "The Stripe-Signature header does not have exactly one t=<seconds>, or has no v1=<hex>.";
		case REFUSAL_TOO_OLD:
			return describe_age(delivery);
		case REFUSAL_NO_EVENT:
			return refusal->detail;
		case REFUSAL_NO_SECRET:
			return refusal->detail != NULL ? refusal->detail : refusal->message;
		default:
			return refusal->message;
	}
}

/* ---- a signature that doesn't fit ---- */

#define RAW_BODY                                                               \
	"Pass the request's raw body: in Express, use express.raw() for this route, before any express.json()."

/* Stripe's bodies are pretty-printed; JSON serialized again has no newline. */
static bool
was_reserialized(const DeliveryParts *delivery)
{
	return delivery->length > 0 &&
		   memchr(delivery->payload, '\n', delivery->length) == NULL;
}

/*
 * Why the signature does not fit.  *hint is for the delivery's sender, who must
 * not learn another endpoint's name or that a secret has lapsed.  Sets
 * note->vague if no other secret was tried: such a detail does not replace a
 * better one.
 */
static const char *
describe_misfit(const DeliveryParts *delivery, RefusalNote *note,
				const char **hint)
{
	char *detail;
	Misfit misfit = MISFIT_NONE;

	note->vague = !note->likely || delivery->length > MISFIT_MOST ||
				  !refusal_may_try();
	if (!note->vague)
		misfit = misfit_find(delivery, &detail);
	*hint =
		"Check the endpoint's signing secret: each endpoint at Stripe has its own.";
	if (misfit == MISFIT_ANOTHERS)
		*hint =
			"The signature fits another endpoint of this database: see the view stripe_sync.refusal, and pass that endpoint's name to webhook().";
	if (misfit != MISFIT_NONE)
		return detail;
	if (!was_reserialized(delivery))
		return "It fits no secret of this endpoint.";
	*hint =
		"The body has no newline, and Stripe's are pretty-printed: it was parsed and serialized again. " RAW_BODY;
	return "It fits no secret of this endpoint, and the body has no newline: it was parsed and serialized again.";
}

/* ---- the log ---- */

/* Write it to the server's log, at most once an hour for an endpoint and code. */
static void
log_refusal(const RefusalNote *note, const Refusal *refusal, const char *hint)
{
	const char *message = note->kind == REFUSAL_NO_NAME ||
								  note->kind == REFUSAL_MODE
							  ? note->detail
							  : refusal->message;

	ereport(
		LOG,
		(errhidestmt(true), errhidecontext(true),
		 note->endpoint[0] != '\0'
			 ? errmsg("a delivery to endpoint \"%s\" was refused: %s: %s",
					  note->endpoint, refusal_code(note->kind), message)
			 : errmsg("a delivery was refused: %s: %s",
					  refusal_code(note->kind), message),
		 strcmp(message, note->detail) != 0 ? errdetail("%s", note->detail) : 0,
		 hint != NULL
			 ? errhint(
				   "%s Similar ones are not logged for an hour; the view stripe_sync.refusal counts them.",
				   hint)
			 : 0));
}

/*
 * Count the refusal, and log it if none like it was logged within the hour.  If
 * the library is not preloaded there is no shared memory to count in, so the
 * count is written to the table here, unless the caller raises an error, which
 * would roll it back and which the server logs itself.  With a catalog of the
 * level before, the table may not exist.
 */
static void
note_refusal(const RefusalNote *note, const Refusal *refusal, const char *hint,
			 bool raises)
{
	bool log = refusal_count(note);

	if (!refusals_shared() && raises)
		log = false;
	else if (!refusals_shared() && level_found() == CATALOG_LEVEL)
		log = refusal_write_now(note) && log;
	if (log)
		log_refusal(note, refusal, hint);
}

/* ---- called by receive() and webhook() ---- */

/* Distinguishes causes of one code, so that each of them is logged */
static uint32
reason_of(const Refusal *refusal, int kind)
{
	if (kind != REFUSAL_STATE)
		return 0;
	return hash_bytes((const unsigned char *) refusal->message,
					  strlen(refusal->message));
}

#define LIVE_REFUSED                                                           \
	"It is not stored. Set the endpoint's mode, or add one for live events, with stripe_sync.add_endpoint(); then stripe_sync.reconcile('30 days') fetches the refused events."

#define TEST_REFUSED                                                           \
	"It is not stored. A live Connect endpoint receives test events as well; if this endpoint is for test events, set its mode with stripe_sync.add_endpoint()."

/*
 * Record that a delivery was refused with "refusal".  Returns a hint for its
 * sender, or NULL.  Runs in the engine's scope.  Writes no row if the library is
 * preloaded, so the caller's transaction stays read-only.
 */
const char *
delivery_refused(const DeliveryParts *delivery, const Refusal *refusal)
{
	RefusalNote note = {.kind = kind_of(refusal->sqlstate)};
	const char *hint = refusal->hint;
	const char *detail;

	note.likely = note.kind != REFUSAL_MODE && is_likely_from_stripe(delivery);
	if (note.kind == REFUSAL_MISFIT)
		detail = describe_misfit(delivery, &note, &hint);
	else
		detail = describe_plain(delivery, refusal, note.kind);
	note.endpoint = note.kind == REFUSAL_NO_NAME ? "" : delivery->endpoint;
	counter_add_now(COUNT_EVENTS, note.endpoint, "refused");
	note.detail = one_line(detail != NULL ? detail : refusal->message);
	note.live = note.kind == REFUSAL_MODE && refusal->live;
	note.vague |= note.kind == REFUSAL_MODE && !note.live;
	note.reason = reason_of(refusal, note.kind);
	if (note.kind == REFUSAL_MODE)
		hint = note.live ? LIVE_REFUSED : TEST_REFUSED;
	if (note.kind == REFUSAL_NO_NAME)
		hint = "SELECT name FROM stripe_sync.endpoint lists the endpoints; stripe_sync.add_endpoint() adds one.";
	note_refusal(&note, refusal, hint, delivery->raises);
	return hint;
}

/* The library doesn't fit the catalog, so the endpoint was not looked up. */
void
delivery_refused_unfit(const Refusal *refusal)
{
	RefusalNote note = {.endpoint = "", .kind = REFUSAL_STATE};

	counter_add_now(COUNT_EVENTS, "", "refused");
	note.detail = one_line(refusal->message);
	note.reason = reason_of(refusal, note.kind);
	if (refusal_count(&note))
		log_refusal(&note, refusal, refusal->hint);
}

/* See refused.h. */
void
delivery_of_other_mode(const char *endpoint, bool live, const char *detail)
{
	RefusalNote note = {
		.endpoint = endpoint, .kind = REFUSAL_MODE, .live = live, .vague = !live};
	Refusal refusal = {.message = detail};

	note.detail = one_line(detail);
	note_refusal(&note, &refusal, NULL, false);
}

/* Note the time, which ends what an alert says of refused deliveries. */
void
delivery_accepted(const DeliveryParts *delivery)
{
	refusal_note_accepted(delivery->endpoint);
}
