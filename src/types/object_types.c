/*
 * object_types.c
 *		The compiled-in catalog as rows, for the view stripe_sync.object_type.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "base/compat.h"
#include "base/json_push.h"
#include "engine/engine.h"
#include "engine/statement.h"
#include "types/types.h"

PG_FUNCTION_INFO_V1(stripe_sync_object_types);
PG_FUNCTION_INFO_V1(stripe_sync_api_version);

static void
set_text(Datum *values, bool *nulls, int i, const char *text)
{
	nulls[i] = text == NULL;
	values[i] = text ? CStringGetTextDatum(text) : (Datum) 0;
}

static Datum
event_types_array(const CatalogType *type)
{
	Datum *names = palloc(sizeof(Datum) * Max(type->nevent_types, 1));

	for (int i = 0; i < type->nevent_types; i++)
		names[i] = CStringGetTextDatum(type->event_types[i]);
	return PointerGetDatum(construct_array(names, type->nevent_types, TEXTOID,
										   -1, false, TYPALIGN_INT));
}

/* {"amount": "integer", ...} */
static Datum
fields_json(const CatalogType *type)
{
	JsonbInState state = {0};

	compat_push_jsonb(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < type->nfields; i++)
	{
		json_push_string(&state, WJB_KEY, type->fields[i].name);
		json_push_string(&state, WJB_VALUE,
						 catalog_kind_name(type->fields[i].kind));
	}
	compat_push_jsonb(&state, WJB_END_OBJECT, NULL);
	return JsonbPGetDatum(JsonbValueToJsonb(state.result));
}

/* object_types(): the rows of the view; works at any catalog level */
Datum
stripe_sync_object_types(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	level_check_columns(result->setDesc, 10);
	for (int i = 0; i < catalog_ntypes; i++)
	{
		const CatalogType *type = &catalog_types[i];
		Datum values[10];
		bool nulls[10] = {false};

		set_text(values, nulls, 0, type->object);
		set_text(values, nulls, 1, type->table);
		set_text(values, nulls, 2, type->key);
		set_text(values, nulls, 3, type->api);
		set_text(values, nulls, 4, type->list_path);
		set_text(values, nulls, 5, type->retrieve_path);
		set_text(values, nulls, 6, type->id_prefix);
		values[7] = BoolGetDatum(type->deletable);
		values[8] = event_types_array(type);
		values[9] = fields_json(type);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	PG_RETURN_NULL();
}

/* catalog_api_version(): the version of Stripe's API that the catalog describes */
Datum
stripe_sync_api_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(catalog_api_version));
}
