/*
 * worker_transaction.h
 *		Transactions of the worker's work, in the worker and in CALL work().
 */
#ifndef STRIPE_SYNC_WORKER_TRANSACTION_H
#define STRIPE_SYNC_WORKER_TRANSACTION_H

#include "base/base.h"

/* How the process that does the work begins and ends a transaction */
typedef struct TransactionOwner
{
	void (*begin)(void);
	void (*commit)(void);
	bool own_session; /* the session does nothing else */
} TransactionOwner;

extern void worker_transaction_setup(const TransactionOwner *owner);

/*
 * Begin a transaction in the engine's scope.  Raises an error if the library
 * doesn't match the extension's catalog version.
 */
extern void worker_begin(void);
extern void worker_commit(void);

/* Commit without waiting for the disk: a crash may lose what was written. */
extern void worker_commit_unflushed(void);

/* Pop the snapshot of the transaction that an error has interrupted. */
extern void worker_abort(void);

/* Does the library match the catalog?  Runs in a transaction of its own. */
extern bool worker_catalog_fits(void);

#endif /* STRIPE_SYNC_WORKER_TRANSACTION_H */
