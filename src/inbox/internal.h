/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_INBOX_INTERNAL_H
#define STRIPE_SYNC_INBOX_INTERNAL_H

#include "base/base.h"
#include "inbox/event.h"
#include "inbox/inbox.h"

/* ---- endpoint.c ---- */

/* Columns of stripe_sync.endpoint, as src/inbox/endpoint.sql makes it */
enum EndpointColumn
{
	ENDPOINT_NAME = 1,
	ENDPOINT_LIVEMODE,
	ENDPOINT_TOLERANCE,
	ENDPOINT_CREATED_AT,
	ENDPOINT_ACCOUNT,
	ENDPOINT_MODE_LEARNED
};

/* ---- account.c ---- */

extern bool account_has_endpoint(const char *account, bool *has_mode,
								 bool *live);

/* ---- event.c ---- */

/* ---- event_store.c ---- */

#define EVENT_NATTS EVENT_PAYLOAD

#endif /* STRIPE_SYNC_INBOX_INTERNAL_H */
