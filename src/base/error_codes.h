/*
 * error_codes.h
 *		SQLSTATEs of the extension's own, class SY.
 *
 * The comments are the table of errors in doc/reference.md: the HTTP status that
 * webhook() returns, or receive_slack(), and the condition.
 */
#ifndef STRIPE_SYNC_ERROR_CODES_H
#define STRIPE_SYNC_ERROR_CODES_H

#include "utils/elog.h"

/*
 * 400, 401: the Stripe-Signature header cannot be parsed; 401 if a request from
 * Slack has no signature or timestamp that can be
 */
#define ERRCODE_SIGNATURE_UNREADABLE MAKE_SQLSTATE('S', 'Y', '0', '0', '1')
/* 400, 401: no signature in the header matches the payload; 401 from Slack */
#define ERRCODE_SIGNATURE_MISFIT MAKE_SQLSTATE('S', 'Y', '0', '0', '2')
/*
 * 400, 401: the signature matches, but its timestamp is older than the tolerance;
 * 401 if that of Slack is more than 5 minutes from the server's time
 */
#define ERRCODE_SIGNATURE_TOO_OLD MAKE_SQLSTATE('S', 'Y', '0', '0', '3')
/*
 * 400, 413: the payload is not an event: it is empty, not UTF-8, not JSON,
 * nested deeper than 256 levels, or has no id or type; or the body is not a
 * request of Slack's; 413 if it is larger than stripe_sync.max_payload
 */
#define ERRCODE_NO_EVENT MAKE_SQLSTATE('S', 'Y', '0', '0', '4')
/*
 * 500: the endpoint, handler, event, destination, alert, message, job, Slack app,
 * action, or command does not exist; or a handler's function or role no longer
 * exists, or the function has another owner
 */
#define ERRCODE_NO_SUCH_NAME MAKE_SQLSTATE('S', 'Y', '0', '0', '5')
/*
 * 200: the event's livemode is not that of the endpoint.  A live Connect
 * endpoint receives test events too, and Stripe disables endpoints that respond
 * with errors.
 */
#define ERRCODE_WRONG_MODE MAKE_SQLSTATE('S', 'Y', '0', '0', '6')
/*
 * 500: the endpoint or Slack app has no usable secret: none, an empty one, or an
 * unreadable file
 */
#define ERRCODE_NO_SECRET MAKE_SQLSTATE('S', 'Y', '0', '0', '7')

#endif /* STRIPE_SYNC_ERROR_CODES_H */
