/*
 * page.c
 *		A page of one of Stripe's lists, taken apart by the server's lexer into
 *		the bytes of its elements.
 *
 * {"object": "list", "data": [{...}, ...], "has_more": false, "url": ...}
 *
 * The elements keep their exact bytes.  What isn't such a page raises.  An
 * element is not looked into further than for its end: whoever wants what is
 * in it parses it, and most events are known by their id alone.
 */
#include "stripe_api.h"

#include "common/jsonapi.h"

#define MAX_ELEMENTS 1000 /* Stripe lists 100 at most */
#define MAX_ID		 255

compat_noreturn static void
malformed(const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
					errmsg("Stripe's answer is no page of a list: %s", what),
					answer_is_useless()));
}

static void
advance(JsonLexContext *lex)
{
	if (json_lex(lex) != JSON_SUCCESS)
		malformed("it is not JSON, or was cut short");
}

static bool
token_is(const JsonLexContext *lex, const char *text)
{
	size_t length = strlen(text);

	return lex->token_terminator - lex->token_start == length &&
		   memcmp(lex->token_start, text, length) == 0;
}

/* From a value's first token to the one behind it. */
static void
skip_value(JsonLexContext *lex)
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
				malformed("it was cut short");
			default:
				break;
		}
		advance(lex);
	} while (depth > 0);
}

/* From an element's first token to the one behind it. */
static void
skip_element(JsonLexContext *lex)
{
	const char *end = json_skip(lex->token_start,
								lex->input + lex->input_length);

	if (end == NULL)
		malformed("it was cut short");
	lex->token_terminator = unconstify(char *, end);
	advance(lex);
}

static List *
read_data(JsonLexContext *lex)
{
	List *elements = NIL;

	if (lex->token_type != JSON_TOKEN_ARRAY_START)
		malformed("its data is no array");
	advance(lex);
	while (lex->token_type != JSON_TOKEN_ARRAY_END)
	{
		PageElement *element = palloc(sizeof(PageElement));

		if (lex->token_type != JSON_TOKEN_OBJECT_START)
			malformed("an element is no object");
		element->bytes = lex->token_start;
		skip_element(lex);
		element->length = (int) (lex->prev_token_terminator - element->bytes);
		elements = lappend(elements, element);
		if (list_length(elements) > MAX_ELEMENTS)
			malformed("it has too many elements");
		if (lex->token_type == JSON_TOKEN_COMMA)
			advance(lex);
		else if (lex->token_type != JSON_TOKEN_ARRAY_END)
			malformed("its data is malformed");
	}
	advance(lex);
	return elements;
}

/* ---- a page that was cut short ---- */

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

/* An id as Stripe makes them: whatever else came may be broken. */
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

/* The id of the first element, as far as that has come; NULL: it has not. */
char *
page_first_id(const char *bytes, size_t length)
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

/* ---- a whole one ---- */

/* The elements, of PageElement, in the page's order; "bytes" must outlive them. */
List *
page_read(const char *bytes, size_t length, bool *has_more)
{
	JsonLexContext *lex;
	List *elements = NIL;
	bool has_data = false;
	bool says_more = false;

	*has_more = false;
	if (length > INT_MAX)
		malformed("it is too large");
	lex = compat_json_lexer(bytes, (int) length);
	advance(lex);
	if (lex->token_type != JSON_TOKEN_OBJECT_START)
		malformed("it is no object");
	do
	{
		bool is_data;
		bool is_more;

		advance(lex);
		if (lex->token_type != JSON_TOKEN_STRING)
			malformed("it has no data");
		is_data = token_is(lex, "\"data\"");
		is_more = token_is(lex, "\"has_more\"");
		advance(lex);
		if (lex->token_type != JSON_TOKEN_COLON)
			malformed("a name has no value");
		advance(lex);
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
				malformed("its has_more is neither true nor false");
			*has_more = lex->token_type == JSON_TOKEN_TRUE;
			says_more = true;
		}
		skip_value(lex);
	} while (lex->token_type == JSON_TOKEN_COMMA);
	if (lex->token_type != JSON_TOKEN_OBJECT_END || !has_data)
		malformed("it has no data");
	if (!says_more)
		malformed("it has no has_more");
	return elements;
}
