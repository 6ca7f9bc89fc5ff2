/*
 * secret.c
 *		Signing secrets: read for one judgement, and wiped after it.
 *
 * They stand in stripe_sync.endpoint_secret, which nobody is granted and
 * pg_dump doesn't dump, or in a file that is named there and read anew each
 * time.  Nothing here writes one into a message.
 */
#include "stripe_sync.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include "secret.h"

#define FILE_PREFIX "file:"

/* Nothing of a secret outlives its use. */
void
secrets_wipe(SecretSet *set)
{
	for (int i = 0; i < set->count; i++)
		OPENSSL_cleanse(unconstify(char *, set->secrets[i].bytes),
						set->secrets[i].length);
	set->count = 0;
}

static void
secrets_add(SecretSet *set, const char *bytes, int length)
{
	char *copy;

	if (length == 0 || length > MAX_SECRET)
	{
		set->trouble = length == 0 ? "It is empty."
								   : "It is longer than 1024 bytes.";
		return;
	}
	if (set->count == set->room)
	{
		set->room = set->room == 0 ? 4 : 2 * set->room;
		set->secrets = set->secrets == NULL
						   ? palloc(set->room * sizeof(SignatureSecret))
						   : repalloc(set->secrets,
									  set->room * sizeof(SignatureSecret));
	}
	copy = palloc(length);
	memcpy(copy, bytes, length);
	set->secrets[set->count++] = (SignatureSecret){copy, length};
}

/* The file's bytes, without copies on the way; -1 when it can't be read. */
static int
read_secret_file(const char *path, char *buffer, int size, char **trouble)
{
	/* not to wait for a writer, should it be a pipe */
	int fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | PG_BINARY);
	struct stat status;
	int length = -1;

	if (fd < 0)
		*trouble = psprintf("Its file \"%s\" could not be opened: %s.", path,
							strerror(errno));
	else if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
		*trouble = psprintf("\"%s\" is not a regular file.", path);
	else if ((length = (int) read(fd, buffer, size)) < 0)
		*trouble = psprintf("Its file \"%s\" could not be read: %s.", path,
							strerror(errno));
	if (fd >= 0)
		CloseTransientFile(fd);
	return length;
}

/* A secret in a file, without the line's end that editors leave behind it. */
static void
secrets_add_file(SecretSet *set, const char *path)
{
	char buffer[MAX_SECRET + 2];
	int length = read_secret_file(path, buffer, sizeof(buffer), &set->trouble);

	while (length > 0 &&
		   (buffer[length - 1] == '\n' || buffer[length - 1] == '\r'))
		length--;
	if (length == 0 || length > MAX_SECRET)
		set->trouble = psprintf("Its file \"%s\" is %s.", path,
								length == 0 ? "empty"
											: "longer than 1024 bytes");
	else if (length > 0)
		secrets_add(set, buffer, length);
	OPENSSL_cleanse(buffer, sizeof(buffer));
}

static void
secrets_add_row(SecretSet *set, HeapTuple tuple, TupleDesc desc)
{
	bool isnull;
	Datum value = heap_getattr(tuple, 3, desc, &isnull); /* lapses_at */
	text *secret;

	if (!isnull && DatumGetTimestampTz(value) <= GetCurrentTimestamp())
		return;
	value = heap_getattr(tuple, 2, desc, &isnull); /* secret */
	if (isnull)
		return;
	secret = DatumGetTextPP(value);
	if (VARSIZE_ANY_EXHDR(secret) > strlen(FILE_PREFIX) &&
		memcmp(VARDATA_ANY(secret), FILE_PREFIX, strlen(FILE_PREFIX)) == 0)
		secrets_add_file(set, text_to_cstring(secret) + strlen(FILE_PREFIX));
	else
		secrets_add(set, VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret));
}

/* The secrets of an endpoint that are good now. */
bool
secrets_load(const char *endpoint, SecretSet *set, Refusal *refusal)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan;
	HeapTuple tuple;

	memset(set, 0, sizeof(*set));
	scan = engine_scan("endpoint_secret", "endpoint_secret_endpoint_idx", 1,
					   endpoint, &relation, &snapshot);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		secrets_add_row(set, tuple, RelationGetDescr(relation));
	engine_scan_end(scan, relation, snapshot);
	if (set->count > 0)
		return true;
	return refuse(
		refusal, FAULT_OURS, ERRCODE_NO_SECRET,
		psprintf("endpoint \"%s\" has no secret that can be used", endpoint),
		set->trouble,
		set->trouble != NULL
			? "Mend the file: the server's user must be able to read it. It is read anew each time."
			: psprintf(
				  "Give it one: SELECT stripe_sync.add_endpoint(%s, 'whsec_...').",
				  quote_literal_cstr(endpoint)));
}

/* A secret that was given with the call. */
bool
secrets_take(SecretSet *set, text *secret, Refusal *refusal)
{
	memset(set, 0, sizeof(*set));
	if (secret != NULL)
		secrets_add(set, VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret));
	if (set->count > 0)
		return true;
	return refuse(refusal, FAULT_OURS, ERRCODE_NO_SECRET,
				  "no secret that can be used was given", set->trouble, NULL);
}

/* A secret as it was given to us: refuse what could never be used. */
void
secret_check(text *secret)
{
	int length = secret == NULL ? 0 : VARSIZE_ANY_EXHDR(secret);
	char *path;

	if (length == 0 || length > MAX_SECRET)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg("a secret must have 1 to %d bytes", MAX_SECRET),
			 errhint(
				 "Copy the endpoint's \"whsec_...\" from Stripe, or give file:/absolute/path.")));
	path = VARDATA_ANY(secret);
	if (length < strlen(FILE_PREFIX) ||
		memcmp(path, FILE_PREFIX, strlen(FILE_PREFIX)) != 0)
		return;
	if (length == strlen(FILE_PREFIX) || path[strlen(FILE_PREFIX)] != '/')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
				 errmsg("a secret's file must be given by its absolute path"),
				 errhint("For example: file:/etc/stripe_sync/whsec.")));
	if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errhidestmt(true),
				 errmsg("permission denied to name a secret's file"),
				 errdetail(
					 "Only roles with privileges of pg_read_server_files may.")));
}
