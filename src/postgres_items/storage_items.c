/*
 * storage_items.c
 *		Items of the area "postgres" about what is stored: tables, indexes, vacuum,
 *		sizes, wraparound.
 */
#include "postgres.h"

#include "engine/statement.h"
#include "postgres_items/postgres_items.h"

static void
look_at_invalid_indexes(Finding *finding)
{
	static EngineStatement select = {
		"SELECT pg_catalog.count(*) FROM pg_catalog.pg_index i"
		" JOIN pg_catalog.pg_class c ON c.oid = i.indrelid"
		" WHERE NOT i.indisvalid AND c.relnamespace = ANY"
		"  (ARRAY(SELECT oid FROM pg_catalog.pg_namespace"
		"    WHERE nspname IN ('stripe', 'stripe_sync')))"};
	int64 count = statement_int8(0, &select, NO_ARGS);

	finding_figure(finding, count, "indexes");
	if (count == 0)
		finding_ok(finding, "all indexes are valid");
	else
		finding_warn(finding, "%s invalid",
					 words_count(count, "index is", "indexes are"));
}

static const DoctorItem items[] = {
	{.key = "postgres.invalid_indexes",
	 .item = "invalid indexes",
	 .look = look_at_invalid_indexes},
};

const DoctorArea doctor_postgres_storage = {"postgres", items, lengthof(items)};
