/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_SERVER_INTERNAL_H
#define STRIPE_SYNC_SERVER_INTERNAL_H

#include "base/base.h"
#include "server/server.h"

/* ---- outbound.c ---- */

extern const char *outbound_remedy(OutboundState state);

#endif /* STRIPE_SYNC_SERVER_INTERNAL_H */
