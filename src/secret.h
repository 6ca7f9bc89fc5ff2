/*
 * secret.h
 *		Secrets in the clear, for the length of one use.
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

/* Room for one, and for the line's end that a file may have. */
typedef struct SecretBuffer
{
	char bytes[MAX_SECRET + 2];
} SecretBuffer;

extern void secret_hide(ErrorContextCallback *hider);
extern void secret_unhide(const ErrorContextCallback *hider);
extern int secret_read(const text *stored, SecretBuffer *buffer, char **trouble);
extern void secret_wipe(SecretBuffer *buffer);
extern bool secret_same(const text *a, const text *b);
extern bool secret_is_word(const char *bytes, int length);
extern bool secret_check_file(const text *secret);
extern void secret_check(const text *secret);

extern bool secrets_load(const char *endpoint, SecretSet *set, Refusal *refusal);
extern bool secrets_take(SecretSet *set, text *secret, Refusal *refusal);
extern void secrets_wipe(SecretSet *set);

#endif /* STRIPE_SYNC_SECRET_H */
