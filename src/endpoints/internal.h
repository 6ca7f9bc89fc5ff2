/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_ENDPOINTS_INTERNAL_H
#define STRIPE_SYNC_ENDPOINTS_INTERNAL_H

#include "base/base.h"
#include "endpoints/endpoints.h"
#include "jobs/part.h"

/* ---- subscribed_types.c ---- */

extern bool event_type_is_known(const char *type);
extern List *event_types_to_subscribe(void);
extern List *event_types_needed(void);

/* ---- endpoint_watch.c ---- */

extern bool webhook_endpoint_is_valid(Jsonb *document);
extern bool webhook_endpoint_note(const Part *part, Jsonb *document);
extern const char *webhook_endpoint_name(const char *account, const char *id);
extern void webhook_endpoint_set_name(const Part *part, const char *id,
									  const char *name);

/* ---- endpoint_judge.c ---- */

extern void endpoint_watch_judge(const Part *part);

#endif /* STRIPE_SYNC_ENDPOINTS_INTERNAL_H */
