/*
 * money.c
 *		Formats amounts in minor units.
 *
 * Most currencies have hundredths, some thousandths or no minor unit
 * (https://docs.stripe.com/currencies).  ISK and UGX have no minor unit any
 * more, but Stripe still counts them in hundredths.
 */
#include "postgres.h"

#include "base/base.h"
#include "base/money.h"

#define MAX_CODE 12 /* characters shown of an unknown currency */

typedef struct Currency
{
	const char *code;
	int decimals;
	bool whole;			/* hundredths are shown only if they aren't 0 */
	const char *symbol; /* NULL: the code and a space */
} Currency;

static const Currency currencies[] = {
	{"AUD", 2, false, "A$"},  {"BHD", 3, false, NULL},
	{"BIF", 0, false, NULL},  {"BRL", 2, false, "R$"},
	{"CAD", 2, false, "CA$"}, {"CLP", 0, false, NULL},
	{"CNY", 2, false, "CN¥"}, {"DJF", 0, false, NULL},
	{"EUR", 2, false, "€"},	  {"GBP", 2, false, "£"},
	{"GNF", 0, false, NULL},  {"HKD", 2, false, "HK$"},
	{"ILS", 2, false, "₪"},	  {"INR", 2, false, "₹"},
	{"ISK", 2, true, NULL},	  {"JOD", 3, false, NULL},
	{"JPY", 0, false, "¥"},	  {"KMF", 0, false, NULL},
	{"KRW", 0, false, "₩"},	  {"KWD", 3, false, "KD "},
	{"MGA", 0, false, NULL},  {"MXN", 2, false, "MX$"},
	{"NZD", 2, false, "NZ$"}, {"OMR", 3, false, NULL},
	{"PHP", 2, false, "₱"},	  {"PYG", 0, false, NULL},
	{"RWF", 0, false, NULL},  {"TND", 3, false, NULL},
	{"TWD", 2, false, "NT$"}, {"UGX", 2, true, NULL},
	{"USD", 2, false, "$"},	  {"VND", 0, false, "₫"},
	{"VUV", 0, false, NULL},  {"XAF", 0, false, NULL},
	{"XOF", 0, false, NULL},  {"XPF", 0, false, NULL},
};

/* An unknown currency has hundredths and no symbol. */
static Currency
find_currency(const char *code)
{
	Currency unknown = {code, 2, false, NULL};

	for (int i = 0; i < lengthof(currencies); i++)
		if (pg_strcasecmp(currencies[i].code, code) == 0)
			return currencies[i];
	return unknown;
}

static bool
is_code_character(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
		   (c >= 'A' && c <= 'Z');
}

/* The code in upper case and a space; "" if there is no code. */
static char *
code_prefix(const char *code)
{
	char *prefix = palloc(MAX_CODE + 2);
	int n = 0;

	for (; n < MAX_CODE && is_code_character(code[n]); n++)
		prefix[n] = pg_toupper((unsigned char) code[n]);
	if (n > 0)
		prefix[n++] = ' ';
	prefix[n] = '\0';
	return prefix;
}

/* 1234567 as "1,234,567" */
static char *
with_separators(uint64 number)
{
	char digits[32];
	char *result = palloc(48);
	char *to = result;
	int length = snprintf(digits, sizeof(digits), UINT64_FORMAT, number);

	for (int i = 0; i < length; i++)
	{
		if (i > 0 && (length - i) % 3 == 0)
			*to++ = ',';
		*to++ = digits[i];
	}
	*to = '\0';
	return result;
}

/*
 * "€1,234.50" for 123450 and "eur", in any case.  The symbol, or the code if
 * there is none, comes first.
 */
char *
money_format(int64 amount, const char *currency)
{
	Currency found = find_currency(currency);
	const char *sign = amount < 0 ? "-" : "";
	uint64 minor = amount < 0 ? -(uint64) amount : (uint64) amount;
	uint64 unit = 1;
	const char *symbol = found.symbol;

	for (int i = 0; i < found.decimals; i++)
		unit *= 10;
	if (symbol == NULL)
		symbol = code_prefix(found.code);
	if (found.decimals == 0 || (found.whole && minor % unit == 0))
		return psprintf("%s%s%s", sign, symbol, with_separators(minor / unit));
	return psprintf("%s%s%s.%0*d", sign, symbol, with_separators(minor / unit),
					found.decimals, (int) (minor % unit));
}
