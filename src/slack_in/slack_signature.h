/*
 * slack_signature.h
 *		Slack's request signatures (v0).
 *
 * Pure C over hmac.c: no server header, no error raised, so that a fuzzer can
 * run it without a server.
 */
#ifndef STRIPE_SYNC_SLACK_SIGNATURE_H
#define STRIPE_SYNC_SLACK_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLACK_SIGNATURE_TOLERANCE                                              \
	300 /* seconds, into the past and the future */

typedef enum SlackSignatureVerdict
{
	SLACK_SIGNATURE_FITS,		/* genuine, and of this time */
	SLACK_SIGNATURE_UNREADABLE, /* no plain timestamp, or not v0=<hex> */
	SLACK_SIGNATURE_MISFIT,
	SLACK_SIGNATURE_OUT_OF_TIME, /* fits, but is too old or of the future */
	SLACK_SIGNATURE_BROKEN		 /* OpenSSL refused to work */
} SlackSignatureVerdict;

/* A request as it was received.  A header that is absent has length 0. */
typedef struct SlackSigned
{
	const char *body;
	size_t body_length;
	const char *timestamp; /* X-Slack-Request-Timestamp */
	size_t timestamp_length;
	const char *signature; /* X-Slack-Signature */
	size_t signature_length;
} SlackSigned;

/*
 * Verify a request.  "now" is in seconds since the Unix epoch.  If it fits,
 * *signed_at is set to its timestamp.  An empty secret fits nothing.
 */
extern SlackSignatureVerdict
slack_signature_verify(const SlackSigned *request, const char *secret,
					   size_t secret_length, int64_t now, int64_t *signed_at);

#endif /* STRIPE_SYNC_SLACK_SIGNATURE_H */
