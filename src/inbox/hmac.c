/*
 * hmac.c
 *		HMAC-SHA256, computed by OpenSSL.
 *
 * OpenSSL 3 looks up "HMAC" and its digest by name, which takes longer than the
 * digest of a short text.  Both are looked up once per process, into a context
 * that never has a key; each computation duplicates it.  Freeing the duplicate
 * clears the key and the state of the hash.
 *
 * OpenSSL 1.1 has HMAC_CTX, whose use OpenSSL 3 deprecates.
 */
#include "inbox/hmac.h"

#include <openssl/evp.h>
#include <openssl/opensslv.h>

#if OPENSSL_VERSION_NUMBER >= 0x30000000L

#include <openssl/core_names.h>
#include <openssl/params.h>

/* Not thread-safe, as a server process has one thread. */
static EVP_MAC_CTX *
new_context(void)
{
	static EVP_MAC_CTX *keyless = NULL;

	if (keyless == NULL)
	{
		OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(
								   OSSL_MAC_PARAM_DIGEST, (char *) "SHA256", 0),
							   OSSL_PARAM_construct_end()};
		EVP_MAC *mac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, NULL);
		EVP_MAC_CTX *context = mac != NULL ? EVP_MAC_CTX_new(mac) : NULL;

		EVP_MAC_free(mac); /* the context has a reference of its own */
		if (context == NULL || EVP_MAC_CTX_set_params(context, params) != 1)
		{
			EVP_MAC_CTX_free(context);
			return NULL;
		}
		keyless = context;
	}
	return EVP_MAC_CTX_dup(keyless);
}

static bool
compute(EVP_MAC_CTX *context, const void *key, size_t key_length,
		const HmacPart *parts, int nparts, unsigned char digest[HMAC_LENGTH])
{
	size_t length;

	if (EVP_MAC_init(context, key, key_length, NULL) != 1)
		return false;
	for (int i = 0; i < nparts; i++)
		if (EVP_MAC_update(context, parts[i].bytes, parts[i].length) != 1)
			return false;
	return EVP_MAC_final(context, digest, &length, HMAC_LENGTH) == 1 &&
		   length == HMAC_LENGTH;
}

#define free_context EVP_MAC_CTX_free

#else

#include <limits.h>

#include <openssl/hmac.h>

#define EVP_MAC_CTX	 HMAC_CTX
#define new_context	 HMAC_CTX_new
#define free_context HMAC_CTX_free

static bool
compute(HMAC_CTX *context, const void *key, size_t key_length,
		const HmacPart *parts, int nparts, unsigned char digest[HMAC_LENGTH])
{
	unsigned int length;

	if (key_length > INT_MAX ||
		HMAC_Init_ex(context, key, (int) key_length, EVP_sha256(), NULL) != 1)
		return false;
	for (int i = 0; i < nparts; i++)
		if (HMAC_Update(context, parts[i].bytes, parts[i].length) != 1)
			return false;
	return HMAC_Final(context, digest, &length) == 1 && length == HMAC_LENGTH;
}

#endif

bool
hmac_sha256(const void *key, size_t key_length, const HmacPart *parts,
			int nparts, unsigned char digest[HMAC_LENGTH])
{
	EVP_MAC_CTX *context;
	bool done;

	if (key_length == 0)
		return false;
	context = new_context();
	done = context != NULL &&
		   compute(context, key, key_length, parts, nparts, digest);
	free_context(context);
	return done;
}
