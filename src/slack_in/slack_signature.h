/*
 * slack_signature.h
 *		Slack's request signatures (v0).  No server headers, for the fuzzer.
 */
#ifndef STRIPE_SYNC_SLACK_SIGNATURE_H
#define STRIPE_SYNC_SLACK_SIGNATURE_H

#endif /* STRIPE_SYNC_SLACK_SIGNATURE_H */
