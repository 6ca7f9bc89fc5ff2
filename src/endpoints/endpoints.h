/*
 * endpoints.h
 *		Webhook endpoints at Stripe: made, and compared with what is expected.
 */
#ifndef STRIPE_SYNC_ENDPOINTS_H
#define STRIPE_SYNC_ENDPOINTS_H

#include "base/base.h"
#include "jobs/part.h"

/* ---- subscribed_types.c ---- */

extern Datum event_types_array(List *types);

/* ---- new_endpoint.c ---- */

extern const PartKind part_new_endpoint;

/* ---- endpoint_watch.c ---- */

extern const PartKind part_endpoints;
extern void endpoint_watch_soon(void);
extern bool watch_schedule(TimestampTz *next);

#endif /* STRIPE_SYNC_ENDPOINTS_H */
