/*
 * error_codes.h
 *		SQLSTATEs of the extension's own, class SY.
 *
 * Applications and tests rely on them: see "Errors" in doc/reference.md.
 */
#ifndef STRIPE_SYNC_ERROR_CODES_H
#define STRIPE_SYNC_ERROR_CODES_H

#include "utils/elog.h"

#define ERRCODE_SIGNATURE_UNREADABLE MAKE_SQLSTATE('S', 'Y', '0', '0', '1')
#define ERRCODE_SIGNATURE_MISFIT	 MAKE_SQLSTATE('S', 'Y', '0', '0', '2')
#define ERRCODE_SIGNATURE_TOO_OLD	 MAKE_SQLSTATE('S', 'Y', '0', '0', '3')
#define ERRCODE_NO_EVENT			 MAKE_SQLSTATE('S', 'Y', '0', '0', '4')
#define ERRCODE_NO_SUCH_NAME		 MAKE_SQLSTATE('S', 'Y', '0', '0', '5')
#define ERRCODE_WRONG_MODE			 MAKE_SQLSTATE('S', 'Y', '0', '0', '6')
#define ERRCODE_NO_SECRET			 MAKE_SQLSTATE('S', 'Y', '0', '0', '7')

#endif /* STRIPE_SYNC_ERROR_CODES_H */
