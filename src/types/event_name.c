/*
 * event_name.c
 *		Unknown names of event types and object types, and similar known ones.
 *
 * Stripe may have newer types than the catalog, so an unknown event type is
 * reported with a NOTICE and accepted.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/varlena.h"

#include "types/object.h"
#include "types/types.h"

#define LONGEST 255 /* bytes, as in varstr_levenshtein() */

/* Events that the extension reports itself, for alerts only */
static const char *const system_types[] = {
	"system.event_failed",
	"system.event_dead",
	"system.event_recovered",
	"system.silence",
	"system.silence_over",
	"system.destination_disabled",
	"system.reconcile_missing",
	"system.endpoint_changed",
	"system.endpoint_well",
	"system.flood",
	"system.deliveries_refused",
	"system.deliveries_accepted",
	"system.doctor",
	"system.doctor_well",
};

/* The known name with the smallest edit distance so far */
typedef struct Nearest
{
	const char *wanted;
	char *name; /* NULL: none is similar */
	int distance;
} Nearest;

static Nearest
nearest_begin(const char *wanted)
{
	return (Nearest){.wanted = wanted,
					 .distance = Max(3, (int) strlen(wanted) / 3 + 1)};
}

static void
compare_name(Nearest *nearest, const char *name, int length)
{
	int wanted_length = (int) strlen(nearest->wanted);
	int distance;

	if (wanted_length > LONGEST || length > LONGEST)
		return;
	distance = varstr_levenshtein_less_equal(nearest->wanted, wanted_length,
											 name, length, 1, 1, 1,
											 nearest->distance, true);
	if (distance >= nearest->distance)
		return;
	nearest->distance = distance;
	nearest->name = pnstrdup(name, length);
}

/* ---- event types ---- */

/* Compare with the patterns that match the type: "invoice.*" for "invoice.paid". */
static void
compare_patterns(Nearest *nearest, const char *type)
{
	for (const char *dot = strchr(type, '.'); dot != NULL;
		 dot = strchr(dot + 1, '.'))
	{
		char *pattern = psprintf("%.*s.*", (int) (dot - type), type);

		compare_name(nearest, pattern, (int) strlen(pattern));
		pfree(pattern);
	}
}

/* Does the type match the wanted name or pattern?  If not, compare them. */
static bool
matches_or_compare(Nearest *nearest, const char *type)
{
	if (event_type_fits(type, nearest->wanted))
		return true;
	if (strchr(nearest->wanted, '*') != NULL)
		compare_patterns(nearest, type);
	else
		compare_name(nearest, type, (int) strlen(type));
	return false;
}

static bool
is_known(Nearest *nearest)
{
	for (int i = 0; i < catalog_ntypes; i++)
		for (int j = 0; j < catalog_types[i].nevent_types; j++)
			if (matches_or_compare(nearest, catalog_types[i].event_types[j]))
				return true;
	for (int i = 0; i < lengthof(system_types); i++)
		if (matches_or_compare(nearest, system_types[i]))
			return true;
	return false;
}

/* The application's own types, and those of Stripe's API v2, are not listed. */
static bool
is_unlisted(const char *type)
{
	return strncmp(type, "app.", strlen("app.")) == 0 ||
		   strncmp(type, "v2.", strlen("v2.")) == 0;
}

static const char *
type_hint(const Nearest *nearest)
{
	if (strchr(nearest->wanted, ',') != NULL)
		return "Specify one type, or a pattern such as 'invoice.*'. Use a separate call for each type.";
	if (nearest->name != NULL)
		return psprintf("Did you mean \"%s\"?", nearest->name);
	return "SELECT DISTINCT unnest(event_types) FROM stripe_sync.object_type ORDER BY 1 lists the known types of Stripe.";
}

/* Report types that are never stored in the inbox, and so only alerts see. */
static bool
remark_alert_only(const char *type)
{
	if (strncmp(type, "system.", strlen("system.")) != 0 &&
		strncmp(type, "app.", strlen("app.")) != 0)
		return false;
	ereport(NOTICE,
			(errmsg("events of type \"%s\" are never in the inbox", type),
			 errhint("Only alerts receive them: see stripe_sync.add_alert().")));
	return true;
}

/*
 * Report with a NOTICE that no known event type matches a name or pattern, or
 * that a handler would never be called for it.
 */
void
event_type_remark(const char *type, bool for_alert)
{
	Nearest nearest = nearest_begin(type);

	if (!for_alert && remark_alert_only(type))
		return;
	if (!is_unlisted(type) && !is_known(&nearest))
		ereport(NOTICE, (errmsg("no events of type \"%s\" are known", type),
						 errhint("%s", type_hint(&nearest))));
}

/* The beginning of a hint for an unknown event type; "" if none is similar */
char *
event_type_hint(const char *type)
{
	Nearest nearest = nearest_begin(type);

	(void) is_known(&nearest);
	return nearest.name ? psprintf("Did you mean \"%s\"? ", nearest.name) : "";
}

/* ---- object types ---- */

/* The object type that was probably meant.  A table's name is often the plural. */
static const char *
nearest_type(const char *name)
{
	const CatalogType *of_table = catalog_find_table(name);
	Nearest nearest = nearest_begin(name);

	if (of_table != NULL)
		return of_table->object;
	if (catalog_find(name, strlen(name)) != NULL)
		return NULL; /* it exists, but can't be used here */
	for (int i = 0; i < catalog_ntypes; i++)
		compare_name(&nearest, catalog_types[i].object,
					 (int) strlen(catalog_types[i].object));
	return nearest.name;
}

/* A hint for an unknown object type */
char *
object_type_hint(const char *name)
{
	const char *nearest = nearest_type(name);

	return psprintf(
		"%sSELECT object_type FROM stripe_sync.object_type shows all.",
		nearest ? psprintf("Did you mean \"%s\"? ", nearest) : "");
}

/* ---- patterns ---- */

/* Does a type match the pattern from "pattern" to "end"? */
static bool
fits_between(const char *type, const char *pattern, const char *end)
{
	const char *star = NULL;
	const char *resume = NULL;

	while (*type != '\0')
	{
		if (pattern < end && *pattern == '*')
		{
			star = pattern++;
			resume = type;
		}
		else if (pattern < end && *pattern == *type)
		{
			pattern++;
			type++;
		}
		else if (star != NULL)
		{
			pattern = star + 1;
			type = ++resume;
		}
		else
			return false;
	}
	while (pattern < end && *pattern == '*')
		pattern++;
	return pattern == end;
}

/* Does a type match a pattern, in which "*" matches any characters? */
bool
event_type_fits(const char *type, const char *pattern)
{
	return fits_between(type, pattern, pattern + strlen(pattern));
}

#define SPACES " \t\r\n"

/*
 * The next of several patterns, which are separated by commas: *begin and *end are
 * set without the spaces around it, and *list to the rest, NULL after the last one.
 */
static void
next_pattern(const char **list, const char **begin, const char **end)
{
	const char *comma = strchr(*list, ',');

	*begin = *list + strspn(*list, SPACES);
	*end = comma ? comma : *list + strlen(*list);
	*begin = Min(*begin, *end);
	while (*end > *begin && strchr(SPACES, (*end)[-1]) != NULL)
		(*end)--;
	*list = comma ? comma + 1 : NULL;
}

/* Does a type match one of several patterns, separated by commas? */
bool
event_type_fits_any(const char *type, const char *patterns)
{
	const char *begin;
	const char *end;

	while (patterns != NULL)
	{
		next_pattern(&patterns, &begin, &end);
		if (fits_between(type, begin, end))
			return true;
	}
	return false;
}

/* Patterns separated by commas as a list of char *, an empty one included. */
List *
event_types_split(const char *patterns)
{
	List *split = NIL;
	const char *begin;
	const char *end;

	while (patterns != NULL)
	{
		next_pattern(&patterns, &begin, &end);
		split = lappend(split, pnstrdup(begin, end - begin));
	}
	return split;
}

/* event_type_fits(type, patterns), for statements of the extension itself */
PG_FUNCTION_INFO_V1(stripe_sync_event_type_fits);
Datum
stripe_sync_event_type_fits(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(event_type_fits_any(text_to_cstring(PG_GETARG_TEXT_PP(0)),
									   text_to_cstring(PG_GETARG_TEXT_PP(1))));
}
