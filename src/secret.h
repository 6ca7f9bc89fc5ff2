/*
 * secret.h
 *		Secrets in the clear, for the length of one judgement.
 */
#ifndef STRIPE_SYNC_SECRET_H
#define STRIPE_SYNC_SECRET_H

#include "stripe_sync.h"

#include "signature.h"

#define MAX_SECRET 1024 /* bytes */

typedef struct SecretSet
{
	int count;
	int room;
	SignatureSecret *secrets; /* their bytes are ours to wipe */
	char *trouble;			  /* why one of them can't be used */
} SecretSet;

extern bool secrets_load(const char *endpoint, SecretSet *set, Refusal *refusal);
extern bool secrets_take(SecretSet *set, text *secret, Refusal *refusal);
extern void secrets_wipe(SecretSet *set);
extern void secret_check(text *secret);

#endif /* STRIPE_SYNC_SECRET_H */
