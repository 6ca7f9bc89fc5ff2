/*
 * refused_delivery.c
 *		What is noted of a delivery that is refused: why, for people; whether it
 *		looks like Stripe's, for alerts; and what its sender may do about it.
 *
 * Nothing of a payload is kept but an event's id.  What comes from outside is
 * cut to size, and what would break a line of the log is taken out of it.
 */
#include "refused.h"

#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#define LOOKED_THROUGH 65536 /* bytes of a body, for an event's id */

static int
kind_of(int sqlstate)
{
	const char *code = unpack_sql_state(sqlstate);

	for (int kind = 0; kind < REFUSAL_KINDS; kind++)
		if (strcmp(refusal_code(kind), code) == 0)
			return kind;
	return REFUSAL_STATE;
}

/* ---- does it look like Stripe's? ---- */

static bool
holds(const char *bytes, int length, const char *what)
{
	return memmem(bytes, Min(length, LOOKED_THROUGH), what, strlen(what)) !=
		   NULL;
}

/* Scanners and crawlers send neither. */
static bool
looks_like_stripes(const DeliveryParts *delivery)
{
	const text *header = delivery->signature;

	return header != NULL &&
		   holds(VARDATA_ANY(header), VARSIZE_ANY_EXHDR(header), "t=") &&
		   holds(VARDATA_ANY(header), VARSIZE_ANY_EXHDR(header), "v1=") &&
		   holds(delivery->payload, delivery->length, "evt_");
}

/* ---- what people are told ---- */

/* As long as there is room for, on one line. */
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

/* Of a header that has been read, and judged by its age. */
static char *
describe_age(const DeliveryParts *delivery)
{
	char *header = psprintf(",%s", text_to_cstring(delivery->signature));
	char *element = strstr(header, ",t=");
	int64 now = (int64) timestamptz_to_time_t(GetCurrentTimestamp());

	if (element == NULL)
		return "It is older than the endpoint's tolerance.";
	return psprintf("By this server's clock it is " INT64_FORMAT
					" seconds old, which is more than the endpoint's tolerance.",
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
					   : "The Stripe-Signature header has no single t=<seconds>, or no v1=<hex>.";
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

#define RAW                                                                    \
	"Pass the request's body as it came: in Express, use express.raw() for this route, before any express.json()."

static bool
was_rewritten(const DeliveryParts *delivery)
{
	return delivery->length > 0 &&
		   memchr(delivery->payload, '\n', delivery->length) == NULL;
}

/*
 * Why does it not fit?  "hint" is for the delivery's sender, who learns neither
 * another endpoint's name nor that a secret has lapsed.  Where no other secret
 * has been tried not much is known.
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
			"The signature fits another endpoint of this database, which the view stripe_sync.refusal names: pass that one's name to webhook().";
	if (misfit != MISFIT_NONE)
		return detail;
	if (!was_rewritten(delivery))
		return "It fits no secret of this endpoint.";
	*hint =
		"The body has no newline, and Stripe's are pretty-printed: it was parsed and written again. " RAW;
	return "It fits no secret of this endpoint, and the body has no newline: it was parsed and written again.";
}

/* ---- the log ---- */

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
				   "%s Others like it are not logged for an hour; the view stripe_sync.refusal counts them.",
				   hint)
			 : 0));
}

/*
 * Without the preload it is written here, unless it would be undone: the error is
 * logged then.  At the level before the library's the catalog may have no place
 * for it.
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

/* ---- what the front doors call ---- */

/* Causes of one code that are logged apart */
static uint32
reason_of(const Refusal *refusal, int kind)
{
	if (kind != REFUSAL_STATE)
		return 0;
	return hash_bytes((const unsigned char *) refusal->message,
					  strlen(refusal->message));
}

#define LIVE_REFUSED                                                           \
	"It is not stored. Set the endpoint's mode, or make one for live events, with stripe_sync.add_endpoint(); then stripe_sync.reconcile('30 days') brings in what was refused."

#define TEST_REFUSED                                                           \
	"It is not stored. A live Connect endpoint gets test events as well; if this one is for test events, set its mode with stripe_sync.add_endpoint()."

/*
 * A delivery was refused, by "refusal".  In the engine's RoleScope; writes nothing
 * where the library is preloaded.
 */
const char *
delivery_refused(const DeliveryParts *delivery, const Refusal *refusal)
{
	RefusalNote note = {.kind = kind_of(refusal->sqlstate)};
	const char *hint = refusal->hint;
	const char *detail;

	note.likely = note.kind != REFUSAL_MODE && looks_like_stripes(delivery);
	if (note.kind == REFUSAL_MISFIT)
		detail = describe_misfit(delivery, &note, &hint);
	else
		detail = describe_plain(delivery, refusal, note.kind);
	note.endpoint = note.kind == REFUSAL_NO_NAME ? "" : delivery->endpoint;
	note.detail = one_line(detail != NULL ? detail : refusal->message);
	note.live = note.kind == REFUSAL_MODE && refusal->live;
	note.vague |= note.kind == REFUSAL_MODE && !note.live;
	note.reason = reason_of(refusal, note.kind);
	if (note.kind == REFUSAL_MODE)
		hint = note.live ? LIVE_REFUSED : TEST_REFUSED;
	if (note.kind == REFUSAL_NO_NAME)
		hint = "SELECT name FROM stripe_sync.endpoint shows all; stripe_sync.add_endpoint() makes one.";
	note_refusal(&note, refusal, hint, delivery->raises);
	return hint;
}

/* The library doesn't fit the catalog: not even the endpoint was looked for. */
void
delivery_refused_unfit(const Refusal *refusal)
{
	RefusalNote note = {.endpoint = "", .kind = REFUSAL_STATE};

	note.detail = one_line(refusal->message);
	note.reason = reason_of(refusal, note.kind);
	if (refusal_count(&note))
		log_refusal(&note, refusal, refusal->hint);
}

void
delivery_of_other_mode(const char *endpoint, bool live, const char *detail)
{
	RefusalNote note = {
		.endpoint = endpoint, .kind = REFUSAL_MODE, .live = live, .vague = !live};
	Refusal refusal = {.message = detail};

	note.detail = one_line(detail);
	note_refusal(&note, &refusal, NULL, false);
}

void
delivery_accepted(const DeliveryParts *delivery)
{
	refusal_note_accepted(delivery->endpoint);
}
