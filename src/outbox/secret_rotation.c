/*
 * secret_rotation.c
 *		Enables a destination again when its file contains another token or URL.
 *
 * When Slack rejects a token or URL, its digest is noted in destination_pace, and
 * the destination is disabled (destination_refused.c).  Once a minute the worker
 * compares the digest with the secret as it is now.  The digest is noted, and not
 * the file's time, because the file may have changed between the request and Slack's
 * answer.  A destination that a user disables stays disabled: set-up deletes the
 * note.
 *
 * The row of destination_pace is locked before that of destination, as everywhere.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "engine/statement.h"
#include "outbox/outbox.h"
#include "server/server.h"
#include "outbox/internal.h"

#define DIGEST_SIZE 32 /* bytes of SHA-256 */

/*
 * A digest from which the secret can't be recovered, as it has enough random bits.
 * NULL if there is no secret, or if OpenSSL fails.
 */
static bytea *
secret_digest(const char *secret)
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
 * Note that Slack has rejected this token or URL; NULL: none could be read.  To be
 * called before the destination is disabled, in the same transaction: it has no
 * effect on one that is disabled already.
 */
void
secret_rotation_note(const char *name, const char *secret)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination_pace SET refused = $2,"
		" refused_at = pg_catalog.clock_timestamp() WHERE destination = $1"
		" AND EXISTS (SELECT FROM stripe_sync.destination d"
		"  WHERE d.name = $1 AND d.enabled)"};

	statement_exec(&update, ARGS(arg_text(name),
								 arg_varlena(BYTEAOID, secret_digest(secret))));
}

/* Delete the note: a user has set up, enabled or disabled the destination. */
void
secret_rotation_forget(text *name)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination_pace SET refused_at = NULL, refused = NULL"
		" WHERE destination = $1 AND refused_at IS NOT NULL"};

	statement_exec(&update, ARGS(arg_varlena(TEXTOID, name)));
}

/* ---- once a minute ---- */

typedef struct RefusedSecret
{
	char *destination;
	bytea *digest; /* NULL: none could be read */
} RefusedSecret;

static List *
read_refused_secrets(void)
{
	static EngineStatement select = {
		"SELECT p.destination, p.refused FROM stripe_sync.destination_pace p"
		" JOIN stripe_sync.destination d ON d.name = p.destination"
		" WHERE p.refused_at IS NOT NULL AND NOT d.enabled ORDER BY 1"};
	List *list = NIL;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	while (rows_next(&rows))
	{
		RefusedSecret *refused = palloc(sizeof(RefusedSecret));

		refused->destination = rows_text(&rows);
		refused->digest = rows_varlena(&rows, BYTEAOID);
		list = lappend(list, refused);
	}
	rows_close(&rows);
	return list;
}

/* Is there a token or URL now, and another than the one that was rejected? */
static bool
has_changed(const RefusedSecret *refused)
{
	char secret[DELIVERY_SECRET_SIZE];
	char *trouble;
	bytea *digest = NULL;

	if (destination_secret(refused->destination, secret, sizeof(secret),
						   &trouble))
		digest = secret_digest(secret);
	OPENSSL_cleanse(secret, sizeof(secret));
	if (digest == NULL)
		return false;
	return refused->digest == NULL ||
		   VARSIZE_ANY_EXHDR(refused->digest) != DIGEST_SIZE ||
		   memcmp(VARDATA_ANY(refused->digest), VARDATA(digest), DIGEST_SIZE) !=
			   0;
}

/*
 * Returns false, and changes nothing, if a session is changing the destination, or
 * has changed it since the note was read.
 */
static bool
enable_again(const char *name)
{
	static EngineStatement update_pace = {
		"UPDATE stripe_sync.destination_pace SET refused_at = NULL, refused = NULL,"
		" blocked_until = NULL, blocked_reason = NULL WHERE destination ="
		" (SELECT p.destination FROM stripe_sync.destination_pace p"
		"   WHERE p.destination = $1 AND p.refused_at IS NOT NULL"
		"   FOR UPDATE SKIP LOCKED)"};
	static EngineStatement enable = {
		"UPDATE stripe_sync.destination SET enabled = true, refused = false,"
		" disabled_reason = NULL, disabled_at = NULL"
		" WHERE name = $1 AND NOT enabled"};

	return statement_exec(&update_pace, ARGS(arg_text(name))) > 0 &&
		   statement_exec(&enable, ARGS(arg_text(name))) > 0;
}

/*
 * Enable destinations whose file contains another token or URL.  Called by the
 * worker, in a transaction and in the engine's scope.
 */
void
secret_rotation_check(void)
{
	ListCell *cell;

	foreach(cell, read_refused_secrets())
	{
		RefusedSecret *refused = lfirst(cell);
		char *name = refused->destination;

		if (!has_changed(refused) || !enable_again(name))
			continue;
		outbox_hooks->destination_enabled(cstring_to_text(name));
		journal_note("destination.on", name,
					 "its file contains another token or URL");
		ereport(
			LOG,
			(errmsg(
				"destination \"%s\" was enabled: its file contains another token or URL",
				name)));
	}
}
