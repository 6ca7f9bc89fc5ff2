/*
 * app.c
 *		Slack apps: looked up by name, and their secrets read.
 *
 * Rows are read by an index scan with the newest snapshot, so that an app is
 * usable from the moment its set-up commits, also in a transaction that began
 * before.  Set-up is in app_setup.c.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "base/error_codes.h"
#include "engine/engine.h"
#include "slack_in/internal.h"

bool
slack_app_exists(const char *name)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan("slack_app", "slack_app_pkey", 1, name,
								   &relation, &snapshot);
	bool found = HeapTupleIsValid(systable_getnext(scan));

	engine_scan_end(scan, relation, snapshot);
	return found;
}

/* Raises SY005.  The statement may contain a secret and is not logged. */
void
slack_app_missing(const char *name)
{
	Refusal refusal;

	slack_app_refuse(name, &refusal);
	refusal_raise(&refusal);
}

/* Returns false with the refusal (SY005). */
bool
slack_app_refuse(const char *name, Refusal *refusal)
{
	return refuse(
		refusal, FAULT_OURS, ERRCODE_NO_SUCH_NAME,
		psprintf("there is no Slack app \"%s\"", name), NULL,
		psprintf(
			"SELECT name FROM stripe_sync.slack_app shows all. To add it: SELECT stripe_sync.add_slack_app(%s, '<Signing Secret>').",
			quote_literal_cstr(name)));
}

/*
 * Read one of the app's secrets, as stored: the rest of the row and its memory
 * are the scan's.  "use" returns false if there is none in the row.
 */
static bool
with_secret(const char *app, AttrNumber column,
			bool (*use)(const text *stored, void *arg), void *arg)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan("slack_app_secret", "slack_app_secret_pkey",
								   1, app, &relation, &snapshot);
	HeapTuple tuple = systable_getnext(scan);
	bool isnull = true;
	Datum value = (Datum) 0;
	bool done;

	if (HeapTupleIsValid(tuple))
		value = heap_getattr(tuple, column, RelationGetDescr(relation), &isnull);
	/* not by rows_text(), which would leave a copy of the secret */
	done = !isnull && use(DatumGetTextPP(value), arg);
	engine_scan_end(scan, relation, snapshot);
	return done;
}

/* ---- the signing secret ---- */

typedef struct SigningRead
{
	SecretBuffer *buffer;
	int length;
	char *trouble; /* NULL: there is no row */
} SigningRead;

static bool
read_signing(const text *stored, void *arg)
{
	SigningRead *reading = arg;

	reading->length = secret_read(stored, reading->buffer, &reading->trouble);
	return reading->length > 0;
}

/* See internal.h. */
int
slack_app_signing_secret(const char *app, SecretBuffer *buffer, Refusal *refusal)
{
	SigningRead reading = {.buffer = buffer};

	if (with_secret(app, APP_SECRET_SIGNING, read_signing, &reading))
		return reading.length;
	if (!slack_app_exists(app))
		(void) slack_app_refuse(app, refusal);
	else
		(void) refuse(
			refusal, FAULT_OURS, ERRCODE_NO_SECRET,
			psprintf("app \"%s\" has no signing secret that can be used", app),
			reading.trouble,
			reading.trouble != NULL
				? "It must be a regular file that the server's operating system user can read. It is read at every use."
				: psprintf(
					  "Dumps do not contain secrets. Add it again: SELECT stripe_sync.add_slack_app(%s, '<Signing Secret>').",
					  quote_literal_cstr(app)));
	return 0;
}

/* ---- the bot token ---- */

typedef struct TokenRead
{
	char *buffer;
	size_t size;
	char *trouble; /* NULL: there is no token */
} TokenRead;

static bool
read_token(const text *stored, void *arg)
{
	TokenRead *reading = arg;

	return secret_read_word(stored, reading->buffer, reading->size,
							&reading->trouble);
}

/* See slack_in.h. */
bool
slack_app_token(const char *app, char *buffer, size_t size, char **trouble)
{
	TokenRead reading = {buffer, size, NULL};

	if (with_secret(app, APP_SECRET_TOKEN, read_token, &reading))
		return true;
	*trouble =
		reading.trouble != NULL
			? reading.trouble
			: psprintf(
				  "App \"%s\" has no bot token: call stripe_sync.add_slack_app(name, signing_secret, token).",
				  app);
	return false;
}
