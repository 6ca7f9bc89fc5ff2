/*
 * form_fuzz.c
 *		Fuzz target: form_read() against a naive second opinion.
 *
 * The first byte of an input chooses whether the rest is the form, or picks the
 * form's characters out of those that have a meaning.  The oracle decodes each
 * field into memory of its own and compares it with those before it.  Any
 * difference aborts, and so does a form that is written beyond its end.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "slack_in/form.h"

#define MAX_FORM 4096

typedef struct Text
{
	char bytes[MAX_FORM + 1];
	size_t length;
} Text;

static unsigned long read_forms, refused;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition, what)                                                 \
	do                                                                         \
	{                                                                          \
		if (!(condition))                                                      \
			failed(what, __LINE__);                                            \
	} while (0)

static void
failed(const char *what, int line)
{
	fprintf(stderr, "line %d: %s\n", line, what);
	abort();
}

static void
verdicts_print(void)
{
	printf("verdicts: read %lu, refused %lu\n", read_forms, refused);
}

/* ---- the oracle ---- */

static bool
oracle_decode(const char *from, size_t length, Text *to)
{
	static const char lower[] = "0123456789abcdef", upper[] = "0123456789ABCDEF";

	to->length = 0;
	for (size_t i = 0; i < length; i++)
	{
		int byte = (unsigned char) from[i];

		if (byte == '+')
			byte = ' ';
		if (from[i] == '%')
		{
			byte = 0;
			for (int j = 0; j < 2; j++)
			{
				const char *place = NULL;

				if (++i < length && from[i] != '\0')
				{
					place = strchr(lower, from[i]);
					if (place != NULL)
						byte = byte * 16 + (int) (place - lower);
					else if ((place = strchr(upper, from[i])) != NULL)
						byte = byte * 16 + (int) (place - upper);
				}
				if (place == NULL)
					return false;
			}
		}
		if (byte == 0)
			return false;
		to->bytes[to->length++] = (char) byte;
	}
	to->bytes[to->length] = '\0';
	return true;
}

/* Returns the number of fields, or -1. */
static int
oracle_read(const char *form, size_t length, Text *names, Text *values)
{
	int count = 0;
	size_t start = 0;

	for (size_t i = 0; i <= length; i++)
	{
		size_t equals = start;

		if (i < length && form[i] != '&')
			continue;
		while (equals < i && form[equals] != '=')
			equals++;
		if (i > start)
		{
			if (count == FORM_FIELDS_MAX ||
				!oracle_decode(form + start, equals - start, &names[count]) ||
				!oracle_decode(form + equals + (equals < i),
							   i - equals - (equals < i), &values[count]))
				return -1;
			for (int j = 0; j < count; j++)
				if (strcmp(names[j].bytes, names[count].bytes) == 0)
					return -1;
			count++;
		}
		start = i + 1;
	}
	return count;
}

/* ---- inputs ---- */

static size_t
form_make(char *form, const uint8_t *data, size_t size)
{
	static const char meant[] = "a=&+%20abAF01bcxyzq&&=";
	bool plain = size > 0 && data[0] % 4 == 0;
	size_t length = size > 0 ? size - 1 : 0;

	if (length > MAX_FORM)
		length = MAX_FORM;
	for (size_t i = 0; i < length; i++)
		form[i] = plain ? (char) data[i + 1]
						: meant[data[i + 1] % (sizeof(meant) - 1)];
	return length;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool counting = false;
	static Text names[FORM_FIELDS_MAX], values[FORM_FIELDS_MAX];
	char form[MAX_FORM];
	size_t length = form_make(form, data, size);
	char *copy = malloc(length + 1); /* so that the sanitizer sees its end */
	Form parsed;
	int count;

	if (!counting)
		atexit(verdicts_print);
	counting = true;
	CHECK(copy != NULL, "out of memory");
	if (length > 0)
		memcpy(copy, form, length);
	count = oracle_read(form, length, names, values);
	CHECK(form_read(copy, length, &parsed) == (count >= 0),
		  "another verdict than the oracle's");
	if (count < 0)
		refused++;
	else
	{
		read_forms++;
		CHECK(parsed.count == count, "another number of fields");
		for (int i = 0; i < count; i++)
		{
			CHECK(strcmp(parsed.fields[i].name, names[i].bytes) == 0, "name");
			CHECK(strcmp(parsed.fields[i].value, values[i].bytes) == 0, "value");
			CHECK(form_value(&parsed, names[i].bytes) == parsed.fields[i].value,
				  "form_value()");
		}
	}
	free(copy);
	return 0;
}
