/*
 * versions.h
 *		What is known of one object: its versions, their order, and the newest.
 */
#ifndef STRIPE_SYNC_MIRROR_VERSIONS_H
#define STRIPE_SYNC_MIRROR_VERSIONS_H

#include "inbox/event.h"
#include "types/types.h"

/* ---- in event_history.c, fetched_note.c: what is known of one object ---- */
typedef struct Version
{
	char *event_id;
	char *event_account;
	char *event_type;
	TimestampTz created;
	Event *event; /* read from the inbox when it is needed */
} Version;		  /* event_id is NULL: fetched from the API, as of "created" */

typedef struct EventHistory
{
	const CatalogType *type;
	const char *id;
	const char *account;
	List *versions; /* of Version, by created, then id */
	List *fetched;	/* of Version: when the API returned the object, alive */
} EventHistory;

extern EventHistory *event_history_read(const CatalogType *type, const char *id,
										const char *account);
extern TimestampTz event_history_alive_at(const EventHistory *history);
extern Event *version_event(Version *version);
extern EventHistory *fetched_note_read_history(const CatalogType *type,
											   const char *id,
											   const char *account);

/* ---- in former_reading.c: what earlier fetches found ---- */
typedef struct FormerReading
{
	TimestampTz as_of;
	Jsonb *object; /* NULL: the object did not exist */
} FormerReading;

extern List *former_reading_list(const CatalogType *type, const char *id,
								 const char *account);

/* ---- in newest.c: versions in their order ---- */
typedef struct Verdict
{
	Version *newest;
	const char *rule; /* what decided, as a phrase for a message */
	bool ambiguous;	  /* only rule 3, a convention, decided */
} Verdict;

extern Verdict newest_find(EventHistory *history);
extern List *newest_order_since(EventHistory *history, TimestampTz since);
extern List *newest_order_second(const CatalogType *type, List *versions,
								 JsonbContainer *start, bool *guessed);

#endif /* STRIPE_SYNC_MIRROR_VERSIONS_H */
