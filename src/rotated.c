/*
 * rotated.c
 *		Tokens and URLs that change in their files.
 *
 * A destination that was switched off because its token or URL is no good is
 * looked at once a minute: when the file that is named for it holds another
 * one, it is switched on again.  Of what was refused a digest is kept, as the
 * file may have changed before Slack's answer came.  What a person switches off
 * stays off: set-up clears the note (rotated_forget).
 *
 * The row of destination_pace is locked before that of the destination, as by
 * all set-up.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "delivery.h"

#define DIGEST_SIZE 32 /* bytes of SHA-256 */

/* The digest of a secret, which says nothing of it; NULL when there is none. */
static bytea *
digest_of(const char *secret)
{
	bytea *digest;

	if (secret == NULL)
		return NULL;
	digest = palloc(VARHDRSZ + DIGEST_SIZE);
	SET_VARSIZE(digest, VARHDRSZ + DIGEST_SIZE);
	if (EVP_Digest(secret, strlen(secret), (unsigned char *) VARDATA(digest),
				   NULL, EVP_sha256(), NULL) != 1)
		return NULL;
	return digest;
}

/*
 * Slack has refused this token or URL (NULL: there was none to be read) of a
 * destination that is on; before that is switched off.
 */
void
rotated_note(const char *name, const char *secret)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination_pace SET refused = $2,"
		" refused_at = pg_catalog.clock_timestamp() WHERE destination = $1"
		" AND EXISTS (SELECT FROM stripe_sync.destination d"
		"  WHERE d.name = $1 AND d.enabled)",
		2,
		{TEXTOID, BYTEAOID}};
	bytea *digest = digest_of(secret);
	Datum values[] = {CStringGetTextDatum(name), PointerGetDatum(digest)};

	SPI_connect();
	engine_run(&update, values, digest ? NULL : " n", SPI_OK_UPDATE);
	SPI_finish();
}

/* Somebody has set it up or switched it.  Within the caller's SPI connection. */
void
rotated_forget(text *name)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination_pace SET refused_at = NULL, refused = NULL"
		" WHERE destination = $1 AND refused_at IS NOT NULL",
		1,
		{TEXTOID}};
	Datum value = PointerGetDatum(name);

	engine_run(&update, &value, NULL, SPI_OK_UPDATE);
}

/* ---- once a minute ---- */

typedef struct Refused
{
	char *name;
	bytea *digest; /* or NULL */
} Refused;

static List *
read_refused(void)
{
	static EngineStatement select = {
		"SELECT p.destination, p.refused FROM stripe_sync.destination_pace p"
		" JOIN stripe_sync.destination d ON d.name = p.destination"
		" WHERE p.refused_at IS NOT NULL AND NOT d.enabled ORDER BY 1"};
	MemoryContext context = CurrentMemoryContext;
	List *list = NIL;

	SPI_connect();
	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Refused *refused = palloc(sizeof(Refused));
		bool isnull;
		Datum digest = SPI_getbinval(SPI_tuptable->vals[i],
									 SPI_tuptable->tupdesc, 2, &isnull);

		refused->name = SPI_getvalue(SPI_tuptable->vals[i],
									 SPI_tuptable->tupdesc, 1);
		refused->digest = isnull ? NULL : DatumGetByteaPCopy(digest);
		list = lappend(list, refused);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return list;
}

/* Is there another token or URL now than the one that was refused? */
static bool
has_another(const Refused *refused)
{
	char secret[DELIVERY_SECRET_SIZE];
	char *trouble;
	bytea *digest = NULL;

	if (destination_secret(refused->name, secret, sizeof(secret), &trouble))
		digest = digest_of(secret);
	OPENSSL_cleanse(secret, sizeof(secret));
	if (digest == NULL)
		return false;
	return refused->digest == NULL ||
		   VARSIZE_ANY_EXHDR(refused->digest) != DIGEST_SIZE ||
		   memcmp(VARDATA_ANY(refused->digest), VARDATA(digest), DIGEST_SIZE) !=
			   0;
}

/* Unless somebody is just setting it up, or has: then that holds. */
static bool
switch_on(text *name)
{
	static EngineStatement pace = {
		"UPDATE stripe_sync.destination_pace SET refused_at = NULL, refused = NULL,"
		" blocked_until = NULL, blocked_reason = NULL WHERE destination ="
		" (SELECT p.destination FROM stripe_sync.destination_pace p"
		"   WHERE p.destination = $1 AND p.refused_at IS NOT NULL"
		"   FOR UPDATE SKIP LOCKED)",
		1,
		{TEXTOID}};
	static EngineStatement on = {
		"UPDATE stripe_sync.destination SET enabled = true, refused = false,"
		" disabled_reason = NULL, disabled_at = NULL"
		" WHERE name = $1 AND NOT enabled",
		1,
		{TEXTOID}};
	Datum value = PointerGetDatum(name);
	bool done;

	SPI_connect();
	engine_run(&pace, &value, NULL, SPI_OK_UPDATE);
	done = SPI_processed > 0;
	if (done)
	{
		engine_run(&on, &value, NULL, SPI_OK_UPDATE);
		done = SPI_processed > 0;
	}
	SPI_finish();
	return done;
}

/* Within a transaction, in the engine's scope. */
void
rotated_check(void)
{
	List *list = read_refused();
	ListCell *cell;

	foreach(cell, list)
	{
		Refused *refused = lfirst(cell);
		text *name = cstring_to_text(refused->name);

		if (!has_another(refused) || !switch_on(name))
			continue;
		outbox_hooks->destination_enabled(name);
		journal_note("destination.on", refused->name,
					 "its file holds another token or URL");
		ereport(
			LOG,
			(errmsg(
				"destination \"%s\" was switched on: its file holds another token or URL",
				refused->name)));
	}
}
