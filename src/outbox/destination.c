/*
 * destination.c
 *		Destinations: looked up by name, and their secret read.
 *
 * Rows are read by an index scan with the newest snapshot, so that a destination
 * is usable from the moment its set-up commits, also in a transaction that began
 * before.  Set-up is in destination_setup.c.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "utils/rel.h"

#include "base/error_codes.h"
#include "engine/engine.h"
#include "engine/statement.h"
#include "inbox/secret.h"
#include "outbox/outbox.h"
#include "outbox/internal.h"

/*
 * A row of stripe_sync.destination, whose columns are in the order of
 * src/outbox/destination.sql.  Strings are in the current memory context.
 */
static Destination
read_destination(HeapTuple tuple, TupleDesc desc)
{
	Rows row = rows_of_tuple(tuple, desc);
	Destination destination = {0};

	destination.name = rows_text(&row);
	destination.is_webhook = strcmp(rows_text(&row), "webhook") == 0;
	destination.channel = rows_text(&row);
	destination.enabled = rows_bool(&row, false);
	destination.disabled_reason = rows_text(&row);
	rows_skip(&row); /* disabled_at */
	destination.fallback = rows_text(&row);
	destination.escalation = rows_text(&row);
	rows_skip(&row); /* created_at */
	rows_skip(&row); /* refused */
	destination.app = rows_text(&row);
	destination.plain_blocks = rows_time(&row, 0) != 0;
	return destination;
}

/* Returns false if there is no destination of that name. */
bool
destination_find(const char *name, Destination *destination)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan("destination", "destination_pkey", 1, name,
								   &relation, &snapshot);
	HeapTuple tuple = systable_getnext(scan);
	bool found = HeapTupleIsValid(tuple);

	if (found)
		*destination = read_destination(tuple, RelationGetDescr(relation));
	engine_scan_end(scan, relation, snapshot);
	return found;
}

/* Raise SY005.  The statement may contain a secret and is not logged. */
void
destination_missing(const char *name)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_NO_SUCH_NAME), errhidestmt(true),
		 errmsg("there is no destination \"%s\"", name),
		 errhint(
			 "SELECT name FROM stripe_sync.destination shows all; stripe_sync.add_slack_webhook() and add_slack_channel() make one.")));
}

/* Secrets are not dumped, so a restored database has destinations without one. */
static char *
missing_secret(const char *name)
{
	Destination destination;
	bool is_webhook = destination_find(name, &destination) &&
					  destination.is_webhook;

	return psprintf(
		"Its secret is missing, as after a restore (dumps do not contain secrets): call stripe_sync.%s() again.",
		is_webhook ? "add_slack_webhook" : "add_slack_channel");
}

/*
 * Read a webhook's URL or a bot's token into the buffer, as a C string.  The
 * caller wipes the buffer in any case.  If it can't be read, returns false, and in
 * *trouble a sentence that says why, for the user.
 */
bool
destination_secret(const char *name, char *buffer, size_t size, char **trouble)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan("destination_secret",
								   "destination_secret_pkey", 1, name,
								   &relation, &snapshot);
	HeapTuple tuple = systable_getnext(scan);
	bool usable = false;
	bool isnull;

	/* not by rows_text(), which would leave a copy of the secret */
	if (!HeapTupleIsValid(tuple))
		*trouble = missing_secret(name);
	else
		usable = secret_read_word(
			DatumGetTextPP(
				heap_getattr(tuple, 2, RelationGetDescr(relation), &isnull)),
			buffer, size, trouble);
	engine_scan_end(scan, relation, snapshot);
	return usable;
}
