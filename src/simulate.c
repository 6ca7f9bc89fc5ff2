/*
 * simulate.c
 *		Builds an event, signs it with the endpoint's secret and receives it: for
 *		trying out what a delivery does.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

static char *
simulated_payload(const char *type, Jsonb *object, bool livemode, int64 now)
{
	static EngineStatement build = {
		"SELECT pg_catalog.json_build_object("
		" 'id', 'evt_sim_' OPERATOR(pg_catalog.||)"
		"   pg_catalog.replace(pg_catalog.gen_random_uuid()::pg_catalog.text, '-', ''),"
		" 'object', 'event', 'api_version', $3, 'created', $4,"
		" 'data', pg_catalog.json_build_object('object', $2),"
		" 'livemode', $5, 'pending_webhooks', 0, 'request', NULL, 'type', $1)::pg_catalog.text",
		5,
		{TEXTOID, JSONBOID, TEXTOID, INT8OID, BOOLOID}};
	Datum values[] = {CStringGetTextDatum(type), JsonbPGetDatum(object),
					  CStringGetTextDatum(catalog_api_version),
					  Int64GetDatum(now), BoolGetDatum(livemode)};
	MemoryContext context = CurrentMemoryContext;
	char *payload;

	SPI_connect();
	engine_run(&build, values, NULL, SPI_OK_SELECT);
	payload = MemoryContextStrdup(
		context, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	SPI_finish();
	return payload;
}

/* simulate(event_type, object, endpoint) */
ENGINE_FUNCTION(stripe_sync_simulate)
{
	char *type = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Jsonb *object = PG_GETARG_JSONB_P(1);
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(2));
	RoleScope scope;
	int64 now = (int64) timestamptz_to_time_t(GetCurrentTimestamp());
	Endpoint endpoint;
	Receipt receipt;
	Refusal refusal;
	char *payload;

	scope = role_enter_engine();
	if (!endpoint_find(name, &endpoint, &refusal))
		refusal_raise(&refusal);
	if (endpoint.has_livemode && endpoint.livemode)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("endpoint \"%s\" takes live events, it cannot simulate",
					name),
			 errhint(
				 "Make a test endpoint: SELECT stripe_sync.add_endpoint('test', 'whsec_...', livemode => false).")));
	if (!JB_ROOT_IS_OBJECT(object))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the object of an event must be a JSON object"),
			 errhint(
				 "For example '{\"id\": \"cus_1\", \"object\": \"customer\"}'.")));
	event_type_remark(type);
	payload = simulated_payload(type, object, false, now);
	if (!inbox_receive(payload, strlen(payload),
					   cstring_to_text(endpoint_sign(&endpoint, payload,
													 strlen(payload), now)),
					   name, "simulate", &receipt, &refusal))
		refusal_raise(&refusal);
	role_leave(&scope);
	PG_RETURN_DATUM(inbox_receipt_datum(fcinfo, &receipt));
}
