/*
 * template_map.c
 *		The filter map: texts for the values of a field.
 *
 *	map		entry[;entry]...
 *	entry	key=text, the key * stands for any other value
 *
 * Spaces around a key and a text are left out.  Either may be put in double
 * quotes; it can't hold one.  "*" in quotes is a key like others.
 */
#include "postgres.h"

#include "message/internal.h"

#define SPACES " \t\r\n"

typedef struct MapEntry
{
	char *key; /* NULL: any other value */
	char *text;
} MapEntry;

/* ---- parse ---- */

/*
 * A key or text at *at, up to one of the characters "ends".  NULL, with *error, if
 * there is a stray quote.
 */
static char *
parse_item(const char **at, const char *ends, bool *quoted, const char **error)
{
	const char *begin = *at + strspn(*at, SPACES);
	const char *end;

	*quoted = *begin == '"';
	end = *quoted ? strchr(++begin, '"') : begin + strcspn(begin, ends);
	if (end == NULL || (!*quoted && memchr(begin, '"', end - begin) != NULL))
	{
		*error = "a quote is not closed, or not around the whole text";
		return NULL;
	}
	*at = *quoted ? end + 1 + strspn(end + 1, SPACES) : end;
	while (!*quoted && end > begin && strchr(SPACES, end[-1]) != NULL)
		end--;
	return pnstrdup(begin, end - begin);
}

/* An entry at *at; NULL, with *error, for a syntax error */
static MapEntry *
parse_entry(const char **at, const char **error)
{
	MapEntry *entry = palloc(sizeof(MapEntry));
	bool quoted;

	entry->key = parse_item(at, "=;", &quoted, error);
	if (entry->key == NULL)
		return NULL;
	if (**at != '=' || (entry->key[0] == '\0' && !quoted))
	{
		*error = "an entry is not key=text";
		return NULL;
	}
	if (!quoted && strcmp(entry->key, "*") == 0)
		entry->key = NULL;
	(*at)++;
	entry->text = parse_item(at, ";", &quoted, error);
	if (entry->text == NULL)
		return NULL;
	if (**at != ';' && **at != '\0')
	{
		*error = "text follows a quoted text";
		return NULL;
	}
	return entry;
}

/* The entries, as a list; NIL, with *error, if there is a syntax error. */
List *
template_map_parse(const char *text, const char **error)
{
	List *map = NIL;

	for (;;)
	{
		MapEntry *entry = parse_entry(&text, error);

		if (entry == NULL)
			return NIL;
		map = lappend(map, entry);
		if (*text == '\0')
			return map;
		text++;
	}
}

/* ---- apply ---- */

/*
 * The text of the first entry that has the value as its key, else that of "*".
 * Without one the value stays, and a missing one stays missing.
 */
void
template_map_apply(Render *render, const TemplateFilter *filter,
				   TemplateValue *value)
{
	char *text = template_value_text(value);
	char *other = NULL;
	ListCell *cell;

	if (text == NULL)
		return;
	foreach(cell, filter->map)
	{
		const MapEntry *entry = lfirst(cell);

		if (entry->key == NULL)
			other = entry->text;
		else if (strcmp(entry->key, text) == 0)
		{
			template_value_set(value, entry->text);
			return;
		}
	}
	if (other != NULL)
		template_value_set(value, other);
}
