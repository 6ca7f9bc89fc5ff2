/*
 * silence.h
 *		Endpoints that receive no events.
 */
#ifndef STRIPE_SYNC_SILENCE_H
#define STRIPE_SYNC_SILENCE_H

/* Reports endpoints that have become silent, or are not any more. */
extern void silence_check(void);

#endif /* STRIPE_SYNC_SILENCE_H */
