/*
 * form.h
 *		application/x-www-form-urlencoded bodies.
 *
 * Pure C: no server header, no error raised, so that a fuzzer can run it without
 * a server.
 */
#ifndef STRIPE_SYNC_FORM_H
#define STRIPE_SYNC_FORM_H

#include <stdbool.h>
#include <stddef.h>

#define FORM_FIELDS_MAX 64 /* Slack sends about 15 */

/* Decoded, and terminated by a NUL, of which there is none in it */
typedef struct FormField
{
	const char *name;
	const char *value;
} FormField;

typedef struct Form
{
	int count;
	FormField fields[FORM_FIELDS_MAX];
} Form;

/*
 * Read a form.  It is decoded in place, and the fields point into it, so "bytes"
 * are writable, and have room for one more at their end.  False if they are no
 * form: an escape other than % and two hex digits, a NUL, decoded or not, a name
 * that occurs twice (one reader would take the first, another one the last), or
 * more than FORM_FIELDS_MAX fields.  The caller checks the encoding.
 */
extern bool form_read(char *bytes, size_t length, Form *form);

/* A field's value, or NULL */
extern const char *form_value(const Form *form, const char *name);

#endif /* STRIPE_SYNC_FORM_H */
