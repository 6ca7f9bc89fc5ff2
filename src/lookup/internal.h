/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_LOOKUP_INTERNAL_H
#define STRIPE_SYNC_LOOKUP_INTERNAL_H

#include "lookup/lookup.h"
#include "tables/tables.h"

/* ---- in visible_rows.c ---- */
extern MirrorTable *visible_table(const CatalogType *type);
extern bool visible_hides(const CatalogType *type);
extern void visible_note_left_out(const CatalogType *type, const char *why);

/*
 * Each of these adds what it finds to the reference, and returns whether there is
 * anything.
 */

/* ---- in find_event.c: what is stored of events ---- */
extern bool find_event(Reference *reference);
extern bool find_request(Reference *reference);
extern bool find_idempotency_key(Reference *reference);
extern Referent *find_event_by_id(const char *id, const char *account);
extern void find_add(Reference *reference, Referent *referent);

/* ---- in find_object.c: objects, in the inbox and in the mirror ---- */
extern bool find_object(Reference *reference);
extern bool find_email(Reference *reference, bool *looked);

/* ---- in find_message.c: messages, incidents, jobs ---- */
extern bool find_message(Reference *reference, int64 number);
extern bool find_slack_ts(Reference *reference);
extern bool find_message_key(Reference *reference);
extern bool find_incident(Reference *reference, int64 number, int64 message);
extern bool find_job(Reference *reference, int64 number);

#endif /* STRIPE_SYNC_LOOKUP_INTERNAL_H */
