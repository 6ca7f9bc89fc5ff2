/*
 * json.c
 *		Parses JSON from outside into jsonb, and reads values of it.
 *
 * Valid JSON that jsonb can't represent is replaced: \u0000 and lone surrogates by
 * U+FFFD, numbers beyond the range of numeric by null.  The inbox also stores the
 * unchanged bytes.
 */
#include "postgres.h"

#include <limits.h>

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include <ctype.h>

#include "base/base.h"
#include "base/json_push.h"

/* numeric's limits: digits before the point, and after it */
#define NUMERIC_DIGITS_BEFORE 131072
#define NUMERIC_DIGITS_AFTER  16383

/*
 * Are arrays and objects nested deeper than "limit"?  Brackets in strings don't
 * count.  The bytes need not be valid JSON.
 */
bool
json_too_deep(const char *bytes, int length, int limit)
{
	int depth = 0;
	int brackets = 0;
	bool in_string = false;

	/* usually there are not enough brackets for that */
	for (int i = 0; i < length; i++)
		brackets += (bytes[i] == '{') | (bytes[i] == '[');
	if (brackets <= limit)
		return false;
	for (int i = 0; i < length; i++)
	{
		char c = bytes[i];

		if (in_string)
		{
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		}
		else if (c == '"')
			in_string = true;
		else if (c == '{' || c == '[')
		{
			if (++depth > limit)
				return true;
		}
		else if (c == '}' || c == ']')
			depth--;
	}
	return false;
}

/* The position after the string that begins at p; NULL: it has no end */
static const char *
string_end(const char *p, const char *end)
{
	const char *quote = p;

	while (++quote < end && (quote = memchr(quote, '"', end - quote)) != NULL)
	{
		const char *escape = quote;

		while (escape[-1] == '\\')
			escape--;
		if ((quote - escape) % 2 == 0)
			return quote + 1;
	}
	return NULL;
}

/*
 * The position after the object or array that begins at p; NULL: it has no end.
 * Only brackets and quotes are examined, which is seven times as fast as a lexer.
 */
const char *
json_skip(const char *p, const char *end)
{
	static const bool counts[256] = {
		['"'] = true, ['{'] = true, ['}'] = true, ['['] = true, [']'] = true};
	int depth = 0;

	for (;;)
	{
		while (p < end && !counts[(unsigned char) *p])
			p++;
		if (p == end)
			return NULL;
		if (*p == '"')
		{
			p = string_end(p, end);
			if (p == NULL)
				return NULL;
			continue;
		}
		depth += *p == '{' || *p == '[' ? 1 : -1;
		p++;
		if (depth == 0)
			return p;
	}
}

static int
hex4(const char *p, const char *end)
{
	int value = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		int digit;

		if (p[i] >= '0' && p[i] <= '9')
			digit = p[i] - '0';
		else if ((p[i] | 0x20) >= 'a' && (p[i] | 0x20) <= 'f')
			digit = (p[i] | 0x20) - 'a' + 10;
		else
			return -1;
		value = value * 16 + digit;
	}
	return value;
}

static inline bool
is_high_surrogate(int code)
{
	return code >= 0xD800 && code <= 0xDBFF;
}

static inline bool
is_low_surrogate(int code)
{
	return code >= 0xDC00 && code <= 0xDFFF;
}

/*
 * Replace the \u escape whose four digits begin at p, if jsonb can't represent
 * it.  Returns the number of bytes to skip.
 */
static int
repair_escape(char *p, char *end)
{
	int code = hex4(p, end);

	if (is_high_surrogate(code) && end - p >= 10 && p[4] == '\\' &&
		p[5] == 'u' && is_low_surrogate(hex4(p + 6, end)))
		return 10;
	if (code == 0 || is_high_surrogate(code) || is_low_surrogate(code))
		memcpy(p, "fffd", 4);
	return 4;
}

/* Is the number beyond the range of numeric? */
static bool
number_overflows(const char *p, int length)
{
	int64 before = 0, after = 0, exponent = 0;
	int i = 0;

	if (i < length && p[i] == '-')
		i++;
	for (; i < length && isdigit((unsigned char) p[i]); i++)
		before++;
	if (i < length && p[i] == '.')
		for (i++; i < length && isdigit((unsigned char) p[i]); i++)
			after++;
	if (i < length && (p[i] | 0x20) == 'e')
	{
		bool negative;

		i++;
		negative = i < length && p[i] == '-';
		if (i < length && (p[i] == '-' || p[i] == '+'))
			i++;
		for (; i < length && isdigit((unsigned char) p[i]); i++)
			exponent = Min(exponent * 10 + (p[i] - '0'), INT_MAX);
		if (negative)
			exponent = -exponent;
	}
	return before + exponent > NUMERIC_DIGITS_BEFORE ||
		   after - exponent > NUMERIC_DIGITS_AFTER;
}

static int
repair_number(char *p, char *end)
{
	int length = 0;

	while (p + length < end && strchr("+-.eE0123456789", p[length]) != NULL)
		length++;
	if (length >= 4 && number_overflows(p, length))
	{
		memset(p, ' ', length);
		memcpy(p, "null", 4);
	}
	return Max(length, 1);
}

/* Replace what jsonb can't represent, in place; the length stays the same. */
static void
repair(char *bytes, int length)
{
	char *p = bytes;
	char *end = bytes + length;
	bool in_string = false;

	while (p < end)
	{
		if (in_string && *p == '\\')
			p += (end - p > 1 && p[1] == 'u') ? 2 + repair_escape(p + 2, end)
											  : 2;
		else if (*p == '"')
		{
			in_string = !in_string;
			p++;
		}
		else if (!in_string && (*p == '-' || isdigit((unsigned char) *p)))
			p += repair_number(p, end);
		else
			p++;
	}
}

/*
 * The input function of jsonb, with NULL instead of an error for invalid input.
 *
 * No subtransaction is needed, because the function takes no lock and no other
 * resource.  Errors that are not about the input are raised again.
 */
static Jsonb *
jsonb_or_null(char *text)
{
	MemoryContext context = CurrentMemoryContext;
	Jsonb *volatile result = NULL;

	PG_TRY();
	{
		result = DatumGetJsonbP(
			DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	}
	PG_CATCH();
	{
		int category = ERRCODE_TO_CATEGORY(geterrcode());

		if (category != ERRCODE_DATA_EXCEPTION &&
			category != ERRCODE_PROGRAM_LIMIT_EXCEEDED)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
	return result;
}

/* Returns NULL if the bytes are not valid JSON. */
Jsonb *
json_parse(const char *bytes, int length)
{
	char *copy = pnstrdup(bytes, length);
	Jsonb *result = jsonb_or_null(copy);

	if (result == NULL)
	{
		repair(copy, length);
		result = jsonb_or_null(copy);
	}
	pfree(copy);
	return result;
}

bool
json_get(JsonbContainer *object, const char *key, JsonbValue *value)
{
	if (object == NULL || !JsonContainerIsObject(object))
		return false;
	return getKeyJsonValueFromContainer(object, key, strlen(key), value) != NULL;
}

char *
json_get_string(JsonbContainer *object, const char *key)
{
	JsonbValue value;

	if (!json_get(object, key, &value) || value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

bool
json_is_object(const JsonbValue *value)
{
	return value->type == jbvBinary &&
		   JsonContainerIsObject(value->val.binary.data);
}

JsonbContainer *
json_get_object(JsonbContainer *object, const char *key)
{
	JsonbValue value;

	if (!json_get(object, key, &value) || !json_is_object(&value))
		return NULL;
	return value.val.binary.data;
}

/* False if the value isn't a number, has a fraction, or is out of range. */
bool
json_to_int64(const JsonbValue *value, int64 *result)
{
	char *text;
	char *end;
	long long number;

	if (value->type != jbvNumeric)
		return false;
	text = DatumGetCString(
		DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
	errno = 0;
	number = strtoll(text, &end, 10);
	if (errno != 0 || end == text)
		return false;
	if (*end == '.')
		end += 1 + strspn(end + 1, "0");
	if (*end != '\0')
		return false;
	pfree(text);
	*result = number;
	return true;
}

static int
container_size(JsonbContainer *container)
{
	int entries = JsonContainerSize(container);

	if (JsonContainerIsObject(container))
		entries *= 2;
	return offsetof(JsonbContainer, children) + entries * sizeof(JEntry) +
		   getJsonbOffset(container, entries);
}

/* Copy a container of a document into a document of its own. */
Jsonb *
json_standalone(JsonbContainer *container)
{
	JsonbValue value;

	value.type = jbvBinary;
	value.val.binary.data = container;
	value.val.binary.len = container_size(container);
	return JsonbValueToJsonb(&value);
}

/* ---- build ---- */

void
json_push_string(JsonbInState *state, JsonbIteratorToken token, const char *text)
{
	JsonbValue value = {.type = jbvString};

	value.val.string.val = unconstify(char *, text);
	value.val.string.len = strlen(text);
	compat_push_jsonb(state, token, &value);
}
