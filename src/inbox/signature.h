/*
 * signature.h
 *		Stripe's webhook signatures: sign and verify.
 *
 * Pure C over hmac.c: no server header, no error raised, so that a fuzzer can
 * run it without a server.
 */
#ifndef STRIPE_SYNC_SIGNATURE_H
#define STRIPE_SYNC_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "t=" 12 digits ",v1=" 64 hex digits and the terminating NUL */
#define SIGNATURE_HEADER_SIZE 88

typedef enum SignatureVerdict
{
	SIGNATURE_FITS,		  /* genuine, and young enough */
	SIGNATURE_UNREADABLE, /* SY001: no single plain t=, or no v1= */
	SIGNATURE_MISFIT,	  /* SY002: no v1 fits any of the secrets */
	SIGNATURE_TOO_OLD,	  /* SY003: fits, but older than the tolerance */
	SIGNATURE_BROKEN	  /* OpenSSL refused to work */
} SignatureVerdict;

/* A secret as it is to be used: the whole "whsec_..." string. */
typedef struct SignatureSecret
{
	const char *bytes;
	size_t length; /* an empty secret fits nothing */
} SignatureSecret;

#define SIGNATURE_NO_TOLERANCE (-1)

/*
 * Verify a Stripe-Signature header.  "now" is in seconds since the Unix epoch,
 * "tolerance" in seconds (SIGNATURE_NO_TOLERANCE: the age is not checked).
 * Unless "which" is NULL, *which is set to the index of the secret that fits.
 */
extern SignatureVerdict
signature_verify(const void *payload, size_t payload_length, const char *header,
				 size_t header_length, const SignatureSecret *secrets,
				 int nsecrets, int64_t now, int64_t tolerance, int *which);

/*
 * Write "t=<at>,v1=<hex>" into "header".  Returns false if "at" is negative or
 * over 12 digits, the secret is empty, or OpenSSL fails.
 */
extern bool signature_sign(const void *payload, size_t payload_length,
						   const SignatureSecret *secret, int64_t at,
						   char header[SIGNATURE_HEADER_SIZE]);

#endif /* STRIPE_SYNC_SIGNATURE_H */
