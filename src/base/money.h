/*
 * money.h
 *		Amounts of money in text.
 */
#ifndef STRIPE_SYNC_MONEY_H
#define STRIPE_SYNC_MONEY_H

extern char *money_format(int64 amount, const char *currency);

#endif /* STRIPE_SYNC_MONEY_H */
