/*
 * subtransaction.h
 *		Runs a function in a subtransaction and returns its error.
 */
#ifndef STRIPE_SYNC_SUBTRANSACTION_H
#define STRIPE_SYNC_SUBTRANSACTION_H

#include "utils/elog.h"

/*
 * Returns false, and a copy of the error in the caller's memory context, if
 * body() raised one.  Its effects are then rolled back.  Errors of the classes
 * in is_uncatchable() are raised again after the rollback, unless excuse(),
 * which may be NULL, returns true for them.
 */
extern bool subtransaction_run(void (*body)(void *), void *arg,
							   bool (*excuse)(const ErrorData *),
							   ErrorData **error);

/* An excuse for every error but cancellation and shutdown */
extern bool subtransaction_excuse_all(const ErrorData *error);

#endif /* STRIPE_SYNC_SUBTRANSACTION_H */
