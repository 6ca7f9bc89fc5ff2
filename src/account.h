/*
 * account.h
 *		The account that an event, an object or a key belongs to, and its mode.
 */
#ifndef STRIPE_SYNC_ACCOUNT_H
#define STRIPE_SYNC_ACCOUNT_H

#include "stripe_sync.h"

/* ---- in account.c: paths of accounts ---- */
extern bool account_is_stripes(const char *path);
extern void account_check_endpoints(const char *account); /* raises 22023 */
extern void account_check(const char *account);			  /* likewise */
extern const char *account_below(const char *path, const char *own);
extern char *account_join(const char *own, const char *named);
extern char *account_above(const char *path);
extern const char *account_stripe_id(const char *path);
extern const char *account_words(const char *account);
extern bool account_has_endpoint(const char *account, bool *has_mode,
								 bool *live);
extern char *account_owner(const char *account);
extern bool account_mode(const char *account, bool *live);

/* ---- in endpoint_mode.c: may an endpoint take events of this mode? ---- */
typedef enum ModeVerdict
{
	MODE_FITS,
	MODE_REFUSED,
	MODE_HELD /* stored as "ignored" until the endpoint's mode is set */
} ModeVerdict;

extern ModeVerdict endpoint_mode_judge(Endpoint *endpoint, const Event *event);
extern char *endpoint_mode_reason(const Endpoint *endpoint, const Event *event);
extern bool endpoint_mode_is_anothers(const Endpoint *endpoint,
									  const Event *event, Refusal *refusal);
extern bool endpoint_mode_refuse(const Endpoint *endpoint, const Event *event,
								 Refusal *refusal);
extern void endpoint_mode_check(const char *name, const char *account);

/* ---- in held.c: events that are held because of their mode ---- */
extern bool held_is(const StoredEvent *stored);
extern char *held_reason(StoredEvent *stored);
extern char *held_release(StoredEvent *stored, const char *listed,
						  const char *source);

#endif /* STRIPE_SYNC_ACCOUNT_H */
