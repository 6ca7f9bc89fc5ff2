/*
 * hex.h
 *		Hexadecimal digits.  No server headers, for the fuzzers.
 */
#ifndef STRIPE_SYNC_HEX_H
#define STRIPE_SYNC_HEX_H

/* -1 if it is none.  Not isxdigit(): that depends on the locale. */
static inline int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

#endif /* STRIPE_SYNC_HEX_H */
