/*
 * form.h
 *		application/x-www-form-urlencoded bodies.  No server headers, for the fuzzer.
 */
#ifndef STRIPE_SYNC_FORM_H
#define STRIPE_SYNC_FORM_H

#endif /* STRIPE_SYNC_FORM_H */
