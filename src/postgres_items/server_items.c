/*
 * server_items.c
 *		Items of the area "postgres" about the server: worker, sessions, locks,
 *		replication, settings.
 */
#include "postgres.h"

#include "engine/statement.h"
#include "postgres_items/postgres_items.h"

static void
look_at_worker(Finding *finding)
{
	static EngineStatement select = {
		"SELECT state FROM stripe_sync.worker WHERE pid IS NOT NULL"};
	char *state = statement_text(&select, NO_ARGS);

	if (state != NULL)
		finding_ok(finding, "the worker runs (%s)", state);
	else
		finding_fail(finding, "no worker runs in this database");
}

static const DoctorItem items[] = {
	{.key = "postgres.worker",
	 .item = "worker",
	 .flags = DOCTOR_CRITICAL | DOCTOR_PRIMARY,
	 .look = look_at_worker},
};

const DoctorArea doctor_postgres_server = {"postgres", items, lengthof(items)};
