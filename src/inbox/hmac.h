/*
 * hmac.h
 *		HMAC-SHA256, computed by OpenSSL.
 *
 * Pure C, like signature.h: no server header, no error raised.
 */
#ifndef STRIPE_SYNC_HMAC_H
#define STRIPE_SYNC_HMAC_H

#include <stdbool.h>
#include <stddef.h>

#define HMAC_LENGTH 32 /* of SHA-256's digest, in bytes */

/* A piece of the text.  The pieces are authenticated in order, as one text. */
typedef struct HmacPart
{
	const void *bytes;
	size_t length;
} HmacPart;

/*
 * False when the key is empty or OpenSSL fails.  The caller wipes its key and
 * the digest.
 */
extern bool hmac_sha256(const void *key, size_t key_length,
						const HmacPart *parts, int nparts,
						unsigned char digest[HMAC_LENGTH]);

#endif /* STRIPE_SYNC_HMAC_H */
