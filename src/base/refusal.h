/*
 * refusal.h
 *		Why something is refused, described without raising an error.
 */
#ifndef STRIPE_SYNC_REFUSAL_H
#define STRIPE_SYNC_REFUSAL_H

#include "base/compat.h"

typedef enum Fault
{
	FAULT_NONE,
	FAULT_CLIENT,	 /* sqlstate says which: SY001 to SY004, SY006 */
	FAULT_TOO_LARGE, /* SY004 as well, but a 413 to a client */
	FAULT_OURS		 /* SY005, SY007 */
} Fault;

typedef struct Refusal
{
	Fault fault;
	int sqlstate;
	const char *message;
	const char *detail;
	const char *hint;
	bool live; /* SY006: it is an event of live mode */
} Refusal;

/*
 * Fill in *refusal.  Returns false, so that a check can return it.  The strings are
 * not copied; detail and hint may be NULL.
 */
extern bool refuse(Refusal *refusal, Fault fault, int sqlstate,
				   const char *message, const char *detail, const char *hint);
/* Raise it as an error, without the statement in the log. */
compat_noreturn extern void refusal_raise(const Refusal *refusal);

#endif /* STRIPE_SYNC_REFUSAL_H */
