/*
 * list_page.c
 *		Splits a page of one of Stripe's lists into the bytes of its elements.
 *
 * {"object": "list", "data": [{...}, ...], "has_more": false, "url": ...}
 *
 * The server's lexer is used, so that the elements keep their exact bytes, which
 * the inbox stores.  Only the end of an element is searched for; it is parsed by
 * the caller if needed.  Most events of a list are already stored and need no
 * more than their id.
 *
 * The body was verified to be UTF-8 (api_judge).
 */
#include "postgres.h"

#include <limits.h>

#include "common/jsonapi.h"

#include "base/base.h"
#include "base/compat.h"
#include "stripe/stripe.h"

#define MAX_ELEMENTS 1000 /* Stripe lists 100 at most */
#define MAX_ID		 255

compat_noreturn static void
raise_malformed_page(const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
					errmsg("could not parse list page: %s", what),
					answer_is_invalid()));
}

static void
lex_token(JsonLexContext *lex)
{
	if (json_lex(lex) != JSON_SUCCESS)
		raise_malformed_page("it is not JSON, or is truncated");
}

static bool
token_is(const JsonLexContext *lex, const char *text)
{
	size_t length = strlen(text);

	return lex->token_terminator - lex->token_start == length &&
		   memcmp(lex->token_start, text, length) == 0;
}

/* Advance from a value's first token to the token after the value. */
static void
skip_json_value(JsonLexContext *lex)
{
	int depth = 0;

	do
	{
		switch (lex->token_type)
		{
			case JSON_TOKEN_OBJECT_START:
			case JSON_TOKEN_ARRAY_START:
				depth++;
				break;
			case JSON_TOKEN_OBJECT_END:
			case JSON_TOKEN_ARRAY_END:
				depth--;
				break;
			case JSON_TOKEN_END:
				raise_malformed_page("it is truncated");
			default:
				break;
		}
		lex_token(lex);
	} while (depth > 0);
}

/*
 * The same for an element, by json_skip(), which is several times as fast as the
 * lexer.
 */
static void
skip_element(JsonLexContext *lex)
{
	const char *end = json_skip(lex->token_start,
								lex->input + lex->input_length);

	if (end == NULL)
		raise_malformed_page("it is truncated");
	lex->token_terminator = unconstify(char *, end);
	lex_token(lex);
}

static List *
read_data(JsonLexContext *lex)
{
	List *elements = NIL;

	if (lex->token_type != JSON_TOKEN_ARRAY_START)
		raise_malformed_page("\"data\" is not an array");
	lex_token(lex);
	while (lex->token_type != JSON_TOKEN_ARRAY_END)
	{
		PageElement *element = palloc(sizeof(PageElement));

		if (lex->token_type != JSON_TOKEN_OBJECT_START)
			raise_malformed_page("an element is not an object");
		element->bytes = lex->token_start;
		skip_element(lex);
		element->length = (int) (lex->prev_token_terminator - element->bytes);
		elements = lappend(elements, element);
		if (list_length(elements) > MAX_ELEMENTS)
			raise_malformed_page("it has too many elements");
		if (lex->token_type == JSON_TOKEN_COMMA)
			lex_token(lex);
		else if (lex->token_type != JSON_TOKEN_ARRAY_END)
			raise_malformed_page("\"data\" is malformed");
	}
	lex_token(lex);
	return elements;
}

/* ---- a truncated page ---- */

static bool
next_token(JsonLexContext *lex, int *depth)
{
	if (json_lex(lex) != JSON_SUCCESS || lex->token_type == JSON_TOKEN_END)
		return false;
	if (lex->token_type == JSON_TOKEN_OBJECT_START ||
		lex->token_type == JSON_TOKEN_ARRAY_START)
		(*depth)++;
	if (lex->token_type == JSON_TOKEN_OBJECT_END ||
		lex->token_type == JSON_TOKEN_ARRAY_END)
		(*depth)--;
	return true;
}

/*
 * The token, if it is a string that looks like one of Stripe's ids, else NULL.
 * In a truncated page anything else may be damaged.
 */
static char *
plain_id(const JsonLexContext *lex)
{
	int length = (int) (lex->token_terminator - lex->token_start) - 2;
	char *id;

	if (lex->token_type != JSON_TOKEN_STRING || length < 1 || length > MAX_ID)
		return NULL;
	id = pnstrdup(lex->token_start + 1, length);
	return strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					  "0123456789_-") == length
			   ? id
			   : NULL;
}

/*
 * The id of the first element of a page that may be truncated, or NULL if the
 * page ends before it.
 */
char *
list_page_first_id(const char *bytes, size_t length)
{
	JsonLexContext *lex;
	bool in_data = false;
	int depth = 0;

	if (bytes == NULL || length > INT_MAX)
		return NULL;
	lex = compat_json_lexer(bytes, (int) length);
	while (next_token(lex, &depth))
	{
		bool is_data = depth == 1 && token_is(lex, "\"data\"");
		bool is_id = depth == 3 && in_data && token_is(lex, "\"id\"");

		if (!is_data && !is_id)
			continue;
		if (!next_token(lex, &depth))
			return NULL;
		if (lex->token_type != JSON_TOKEN_COLON)
			continue;
		if (is_id)
			return next_token(lex, &depth) ? plain_id(lex) : NULL;
		in_data = true;
	}
	return NULL;
}

/* ---- a complete page ---- */

/*
 * The elements of a page, as a list of PageElement in the page's order.  They
 * point into "bytes".  Raises 22P02, marked as an invalid answer, for anything
 * but a complete page.
 */
List *
list_page_read(const char *bytes, size_t length, bool *has_more)
{
	JsonLexContext *lex;
	List *elements = NIL;
	bool has_data = false;
	bool says_more = false;

	*has_more = false;
	if (length > INT_MAX)
		raise_malformed_page("it is too large");
	lex = compat_json_lexer(bytes, (int) length);
	lex_token(lex);
	if (lex->token_type != JSON_TOKEN_OBJECT_START)
		raise_malformed_page("it is not an object");
	do
	{
		bool is_data;
		bool is_more;

		lex_token(lex);
		if (lex->token_type != JSON_TOKEN_STRING)
			raise_malformed_page("it has no \"data\"");
		is_data = token_is(lex, "\"data\"");
		is_more = token_is(lex, "\"has_more\"");
		lex_token(lex);
		if (lex->token_type != JSON_TOKEN_COLON)
			raise_malformed_page("a key has no value");
		lex_token(lex);
		if (is_data)
		{
			elements = read_data(lex);
			has_data = true;
			continue;
		}
		if (is_more)
		{
			if (says_more || (lex->token_type != JSON_TOKEN_TRUE &&
							  lex->token_type != JSON_TOKEN_FALSE))
				raise_malformed_page("\"has_more\" is not a single boolean");
			*has_more = lex->token_type == JSON_TOKEN_TRUE;
			says_more = true;
		}
		skip_json_value(lex);
	} while (lex->token_type == JSON_TOKEN_COMMA);
	if (lex->token_type != JSON_TOKEN_OBJECT_END || !has_data)
		raise_malformed_page("it has no \"data\"");
	if (!says_more)
		raise_malformed_page("it has no \"has_more\"");
	return elements;
}
