/*
 * form.c
 *		application/x-www-form-urlencoded bodies.
 *
 * The rules are those of the URL Standard: fields are separated by "&", empty
 * ones are skipped, name and value by the first "="; without one the value is
 * empty.  "+" is a space, %XX a byte.  The URL Standard keeps a "%" that no two
 * hex digits follow; here the whole form is refused, as Slack sends none.
 */
#include <string.h>

#include "base/hex.h"
#include "slack_in/form.h"

/* Decodes in place, and ends the text with a NUL: it never gets longer. */
static bool
decode(char *text, size_t length)
{
	char *to = text;

	for (size_t i = 0; i < length; i++)
	{
		char c = text[i];

		if (c == '+')
			c = ' ';
		else if (c == '%')
		{
			int high = length - i > 2 ? hex_value(text[i + 1]) : -1;
			int low = length - i > 2 ? hex_value(text[i + 2]) : -1;

			if (high < 0 || low < 0)
				return false;
			c = (char) (high << 4 | low);
			i += 2;
		}
		if (c == '\0')
			return false;
		*to++ = c;
	}
	*to = '\0';
	return true;
}

/* One field, which is not empty.  bytes[length] is its separator, or the end. */
static bool
field_read(char *bytes, size_t length, Form *form)
{
	char *equals = memchr(bytes, '=', length);
	size_t name_length = equals != NULL ? (size_t) (equals - bytes) : length;
	char *value = equals != NULL ? equals + 1 : bytes + length;
	size_t value_length = equals != NULL ? length - name_length - 1 : 0;

	if (form->count == FORM_FIELDS_MAX || !decode(value, value_length) ||
		!decode(bytes, name_length) || form_value(form, bytes) != NULL)
		return false;
	form->fields[form->count++] = (FormField){bytes, value};
	return true;
}

/* See form.h. */
bool
form_read(char *bytes, size_t length, Form *form)
{
	char *end = bytes + length;

	form->count = 0;
	while (bytes < end)
	{
		char *separator = memchr(bytes, '&', (size_t) (end - bytes));
		char *stop = separator != NULL ? separator : end;

		if (stop > bytes && !field_read(bytes, (size_t) (stop - bytes), form))
			return false;
		bytes = stop + 1;
	}
	return true;
}

/* See form.h. */
const char *
form_value(const Form *form, const char *name)
{
	for (int i = 0; i < form->count; i++)
		if (strcmp(form->fields[i].name, name) == 0)
			return form->fields[i].value;
	return NULL;
}
