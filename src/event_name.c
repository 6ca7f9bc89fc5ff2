/*
 * event_name.c
 *		Names of event types and object types that nobody sends: what was most
 *		likely meant.
 *
 * Stripe may have newer types than the catalog knows, so an unknown one is
 * remarked on and taken.
 */
#include "stripe_sync.h"

#include "utils/builtins.h"
#include "utils/varlena.h"

#define LONGEST 255 /* as varstr_levenshtein() has it */

/* Events of the system itself, for alerts */
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

/* The nearest of the names that were looked at. */
typedef struct Nearest
{
	const char *wanted;
	char *name; /* NULL: none is near */
	int distance;
} Nearest;

static Nearest
nearest_begin(const char *wanted)
{
	return (Nearest){.wanted = wanted,
					 .distance = Max(3, (int) strlen(wanted) / 3 + 1)};
}

static void
look_at(Nearest *nearest, const char *name, int length)
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

/* "invoice.*" of "invoice.paid": all the patterns that the type's own name makes. */
static void
look_at_patterns(Nearest *nearest, const char *type)
{
	for (const char *dot = strchr(type, '.'); dot != NULL;
		 dot = strchr(dot + 1, '.'))
	{
		char *pattern = psprintf("%.*s.*", (int) (dot - type), type);

		look_at(nearest, pattern, (int) strlen(pattern));
		pfree(pattern);
	}
}

/* Does any known type fit?  If not, which is the nearest? */
static bool
look_at_type(Nearest *nearest, const char *type)
{
	if (event_type_fits(type, nearest->wanted))
		return true;
	if (strchr(nearest->wanted, '*') != NULL)
		look_at_patterns(nearest, type);
	else
		look_at(nearest, type, (int) strlen(type));
	return false;
}

static bool
is_known(Nearest *nearest)
{
	for (int i = 0; i < catalog_ntypes; i++)
		for (int j = 0; j < catalog_types[i].nevent_types; j++)
			if (look_at_type(nearest, catalog_types[i].event_types[j]))
				return true;
	for (int i = 0; i < lengthof(system_types); i++)
		if (look_at_type(nearest, system_types[i]))
			return true;
	return false;
}

/* Of the application's own, or of Stripe's API v2, whose types are not listed. */
static bool
is_of_others(const char *type)
{
	return strncmp(type, "app.", strlen("app.")) == 0 ||
		   strncmp(type, "v2.", strlen("v2.")) == 0;
}

static const char *
hint_for(const Nearest *nearest)
{
	if (strchr(nearest->wanted, ',') != NULL)
		return "Name one type, or a pattern: 'invoice.*'. For several, make several.";
	if (nearest->name != NULL)
		return psprintf("Did you mean \"%s\"?", nearest->name);
	return "SELECT DISTINCT unnest(event_types) FROM stripe_sync.object_type ORDER BY 1 shows those of Stripe's that are known.";
}

/* Alerts alone look at what is in no inbox. */
static bool
remark_alerts_own(const char *type)
{
	if (strncmp(type, "system.", strlen("system.")) != 0 &&
		strncmp(type, "app.", strlen("app.")) != 0)
		return false;
	ereport(NOTICE,
			(errmsg("events of type \"%s\" are never in the inbox", type),
			 errhint("They are for alerts: stripe_sync.add_alert().")));
	return true;
}

/* A NOTICE, when nobody is known to send events that fit. */
void
event_type_remark(const char *type, bool for_alert)
{
	Nearest nearest = nearest_begin(type);

	if (!for_alert && remark_alerts_own(type))
		return;
	if (!is_of_others(type) && !is_known(&nearest))
		ereport(NOTICE, (errmsg("no events of type \"%s\" are known", type),
						 errhint("%s", hint_for(&nearest))));
}

/* What was meant, to who must name a type that is known. */
char *
event_type_hint(const char *type)
{
	Nearest nearest = nearest_begin(type);

	(void) is_known(&nearest);
	return nearest.name ? psprintf("Did you mean \"%s\"? ", nearest.name) : "";
}

/* ---- object types ---- */

/* Its table's name is the plural, as a rule. */
static const char *
nearest_type(const char *name)
{
	const CatalogType *of_table = catalog_find_table(name);
	Nearest nearest = nearest_begin(name);

	if (of_table != NULL)
		return of_table->object;
	if (catalog_find(name, strlen(name)) != NULL)
		return NULL; /* it is there, but no good for this */
	for (int i = 0; i < catalog_ntypes; i++)
		look_at(&nearest, catalog_types[i].object,
				(int) strlen(catalog_types[i].object));
	return nearest.name;
}

/* What to say to who names a type that there isn't. */
char *
object_type_hint(const char *name)
{
	const char *nearest = nearest_type(name);

	return psprintf(
		"%sSELECT object_type FROM stripe_sync.object_type shows all.",
		nearest ? psprintf("Did you mean \"%s\"? ", nearest) : "");
}

/* Does a type fit a pattern in which "*" stands for any run of characters? */
bool
event_type_fits(const char *type, const char *pattern)
{
	const char *star = NULL;
	const char *resume = NULL;

	while (*type != '\0')
	{
		if (*pattern == '*')
		{
			star = pattern++;
			resume = type;
		}
		else if (*pattern == *type)
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
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

/* event_type_fits(type, pattern), for statements of the extension itself */
PG_FUNCTION_INFO_V1(stripe_sync_event_type_fits);
Datum
stripe_sync_event_type_fits(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(event_type_fits(text_to_cstring(PG_GETARG_TEXT_PP(0)),
								   text_to_cstring(PG_GETARG_TEXT_PP(1))));
}
