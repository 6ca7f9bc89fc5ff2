/*
 * untold.c
 *		Is anybody told when Slack refuses a destination?
 *
 * Its fallback is, and so are alerts on system.destination_disabled that go
 * elsewhere.  Where there is neither, whoever sets it up is told that.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

/* Another destination that is on, in *other, or NULL. */
static bool
somebody_is_told(const char *name, char **other)
{
	static EngineStatement select = {
		"SELECT EXISTS (SELECT FROM stripe_sync.destination d"
		"  JOIN stripe_sync.destination f ON f.name = d.fallback AND f.enabled"
		"  WHERE d.name = $1)"
		" OR EXISTS (SELECT FROM stripe_sync.alert a"
		"  JOIN stripe_sync.destination o ON o.name = a.destination"
		"   AND o.enabled AND o.name <> $1"
		"  WHERE stripe_sync.event_type_fits('system.destination_disabled',"
		"   a.event_type)),"
		" (SELECT pg_catalog.min(name) FROM stripe_sync.destination"
		"  WHERE enabled AND name <> $1)",
		1,
		{TEXTOID}};
	Datum value = CStringGetTextDatum(name);
	MemoryContext context = CurrentMemoryContext;
	bool told;

	SPI_connect();
	engine_run(&select, &value, NULL, SPI_OK_SELECT);
	told = DatumGetBool(engine_value());
	*other = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
	if (*other != NULL)
		*other = MemoryContextStrdup(context, *other);
	SPI_finish();
	return told;
}

/* Remark on it, to who sets the destination up. */
void
untold_remark(const char *name)
{
	RoleScope scope = role_enter_engine();
	char *other;

	if (!somebody_is_told(name, &other))
		ereport(
			NOTICE,
			(errhidestmt(true),
			 errmsg("nobody is told when Slack refuses destination \"%s\"", name),
			 other != NULL
				 ? errhint("SELECT stripe_sync.set_fallback(%s, %s);",
						   quote_literal_cstr(name), quote_literal_cstr(other))
				 : errhint(
					   "Add a second destination with a token or webhook of its own, and name it: SELECT stripe_sync.set_fallback(%s, 'the second');",
					   quote_literal_cstr(name))));
	role_leave(&scope);
}

/* How many destinations are off because Slack has refused them? */
int
untold_count(void)
{
	static EngineStatement select = {
		"SELECT pg_catalog.count(*)::int FROM stripe_sync.destination d"
		" WHERE NOT d.enabled AND d.refused"};
	static uint64 as_of = 0;
	static int count = 0;
	RoleScope scope;

	if (as_of == engine_generation())
		return count;
	as_of = engine_generation();
	scope = role_enter_engine();
	SPI_connect();
	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	count = DatumGetInt32(engine_value());
	SPI_finish();
	role_leave(&scope);
	return count;
}
