/*
 * event.h
 *		Events and their stored rows.
 */
#ifndef STRIPE_SYNC_INBOX_EVENT_H
#define STRIPE_SYNC_INBOX_EVENT_H

#include "base/base.h"
#include "base/compat.h"
#include "base/refusal.h"
#include "types/types.h"

/* ---- event.c ---- */

typedef struct Event
{
	char *id;
	char *account;	 /* "" for one's own; as the inbox has it */
	char *named;	 /* by the payload */
	bool by_context; /* the field "context" names it, and "account" doesn't */
	char *type;
	char *api_version; /* or NULL, like the next four */
	char *object_type;
	char *object_id;
	char *request_id;
	char *idempotency_key;
	bool has_livemode;
	bool livemode;
	bool has_created;
	TimestampTz created;
	const CatalogType *catalog; /* of its object, when it is mirrored */
	const CatalogType *holder;	/* when only what its object embeds is */
	char *unmirrored;			/* why not, when it isn't */
	const char *payload;
	int length;
	Jsonb *document;		  /* the whole event, fit for jsonb */
	JsonbContainer *object;	  /* data.object, or NULL */
	JsonbContainer *previous; /* data.previous_attributes, or NULL */
} Event;

extern char *event_peek_id(const char *bytes, int length);
extern char *event_peek_account(const char *bytes, int length);
extern bool event_read(const char *bytes, int length, Event *event,
					   Refusal *refusal);
extern bool event_type_deletes(const char *type);
extern bool event_type_creates(const char *type);

/* ---- event_store.c ---- */

/* What a lookup returns of a stored event, without its payload */
typedef struct StoredEventSummary
{
	char *type;
	char *account;
	bool by_webhook;
	bool waits; /* stored by a reconcile run that has not ended */
	bool held;	/* for its mode, see endpoint_mode.c */
	bool has_created;
	TimestampTz created;
} StoredEventSummary;

/* A delivery, or an event of a list, that may be stored already. */
typedef struct WebhookDelivery
{
	const char *payload;
	int length;
	const char *endpoint; /* or NULL */
	const char *own;	  /* the endpoint's account */
	const char *account;  /* the event's; NULL: the payload names it */
} WebhookDelivery;

typedef struct EventLookup EventLookup;

extern EventLookup *event_lookup_begin(void);
extern bool event_lookup_find(EventLookup *lookup, const char *id,
							  const WebhookDelivery *delivery,
							  StoredEventSummary *summary);
extern void event_lookup_end(EventLookup *lookup);

/* What is stored of an event beside its envelope */
typedef struct EventOutcome
{
	const char *status;
	const char *mirrored; /* or NULL */
	Datum todo;			  /* text[] */
	Datum tries;		  /* jsonb, or 0: none */
	TimestampTz due;	  /* of the next attempt, or 0: none */
	TimestampTz applied;  /* or 0: not yet */
	int attempts;
	bool unassigned; /* store no object_id: the event is held for its mode */
} EventOutcome;

extern bool event_store(const Event *event, const char *endpoint,
						const char *source, const EventOutcome *outcome);
extern bool event_load(const char *id, const char *account, Event *event);
compat_noreturn extern void event_missing(const char *id);
extern void event_summarize(void);

/* Columns of stripe_sync.event, as src/inbox/event.sql makes it */
enum EventColumn
{
	EVENT_ID = 1,
	EVENT_ACCOUNT,
	EVENT_TYPE,
	EVENT_ENDPOINT,
	EVENT_LIVEMODE,
	EVENT_API_VERSION,
	EVENT_OBJECT_TYPE,
	EVENT_OBJECT_ID,
	EVENT_REQUEST_ID,
	EVENT_IDEMPOTENCY_KEY,
	EVENT_CREATED,
	EVENT_RECEIVED_AT,
	EVENT_SOURCE,
	EVENT_STATUS,
	EVENT_MIRRORED,
	EVENT_TODO,
	EVENT_TRIES,
	EVENT_ATTEMPTS,
	EVENT_NEXT_ATTEMPT_AT,
	EVENT_ERROR,
	EVENT_APPLIED_AT,
	EVENT_PAYLOAD
};

#define STEP_MIRROR "mirror"
#define STEP_ALERTS "alerts"

/* ---- inbox_table.c ---- */

extern Relation inbox_table_open(void);
extern bool inbox_table_fits(Refusal *refusal);

typedef struct Receipt
{
	char *event_id;
	const char *status;
	char *detail;
} Receipt;

#endif /* STRIPE_SYNC_INBOX_EVENT_H */
