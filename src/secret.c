/*
 * secret.c
 *		Secrets: read for one use, and wiped after it.
 *
 * They stand in stripe_sync.endpoint_secret, .destination_secret and .api_key,
 * which nobody is granted and pg_dump doesn't dump, or in a file that is named
 * there and read anew each time.  Nothing here writes one into a message.
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

static void
hide_statement(void *arg)
{
	errhidestmt(true);
	errhidecontext(true); /* the statements of functions around it */
}

/*
 * Until secret_unhide(), or an error, the log shows neither the statement nor the
 * parameters that were bound to it, which are in the context: there is a secret
 * among the arguments.  That holds for a time-out, a deadlock or a cancel too,
 * which come from elsewhere and know nothing of it.
 */
void
secret_hide(ErrorContextCallback *hider)
{
	hider->callback = hide_statement;
	hider->arg = NULL;
	hider->previous = error_context_stack;
	error_context_stack = hider;
}

void
secret_unhide(const ErrorContextCallback *hider)
{
	error_context_stack = hider->previous;
}

/* Nothing of a secret outlives its use. */
void
secret_wipe(SecretBuffer *buffer)
{
	OPENSSL_cleanse(buffer->bytes, sizeof(buffer->bytes));
}

void
secrets_wipe(SecretSet *set)
{
	for (int i = 0; i < set->count; i++)
		OPENSSL_cleanse(unconstify(char *, set->secrets[i].bytes),
						set->secrets[i].length);
	set->count = 0;
}

/* Take a secret over from the buffer, which is wiped. */
static void
secrets_add(SecretSet *set, SecretBuffer *buffer, int length)
{
	char *copy;

	if (length > 0 && set->count == set->room)
	{
		set->room = set->room == 0 ? 4 : 2 * set->room;
		set->secrets = set->secrets == NULL
						   ? palloc(set->room * sizeof(SignatureSecret))
						   : repalloc(set->secrets,
									  set->room * sizeof(SignatureSecret));
	}
	if (length > 0)
	{
		copy = palloc(length);
		memcpy(copy, buffer->bytes, length);
		set->secrets[set->count++] = (SignatureSecret){copy, length};
	}
	secret_wipe(buffer);
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
static int
read_file(const char *path, SecretBuffer *buffer, char **trouble)
{
	int length = read_secret_file(path, buffer->bytes, sizeof(buffer->bytes),
								  trouble);

	while (length > 0 && (buffer->bytes[length - 1] == '\n' ||
						  buffer->bytes[length - 1] == '\r'))
		length--;
	if (length < 0)
		return 0;
	if (length > 0 && length <= MAX_SECRET)
		return length;
	*trouble = psprintf("Its file \"%s\" is %s.", path,
						length == 0 ? "empty" : "longer than 1024 bytes");
	return 0;
}

static bool
names_file(const text *secret)
{
	return VARSIZE_ANY_EXHDR(secret) >= strlen(FILE_PREFIX) &&
		   memcmp(VARDATA_ANY(secret), FILE_PREFIX, strlen(FILE_PREFIX)) == 0;
}

/* A secret itself, whatever it looks like. */
static int
read_plain(const text *secret, SecretBuffer *buffer, char **trouble)
{
	int length = VARSIZE_ANY_EXHDR(secret);

	if (length == 0 || length > MAX_SECRET)
	{
		*trouble = length == 0 ? "It is empty."
							   : "It is longer than 1024 bytes.";
		return 0;
	}
	memcpy(buffer->bytes, VARDATA_ANY(secret), length);
	return length;
}

/*
 * What stands in a row of ours, or in the file that is named there: its length,
 * or 0 with *trouble.  The caller wipes the buffer.
 */
int
secret_read(const text *stored, SecretBuffer *buffer, char **trouble)
{
	if (!names_file(stored))
		return read_plain(stored, buffer, trouble);
	return read_file(text_to_cstring(stored) + strlen(FILE_PREFIX), buffer,
					 trouble);
}

/*
 * The same as a string for a URL or an HTTP header, in the caller's buffer,
 * which the caller wipes; false with *trouble, a sentence.
 */
bool
secret_read_word(const text *stored, char *buffer, size_t size, char **trouble)
{
	SecretBuffer secret;
	int length = secret_read(stored, &secret, trouble);
	bool usable = false;

	if (length >= (int) size)
		*trouble = psprintf("It is longer than %zu bytes.", size - 1);
	else if (length > 0 && !secret_is_word(secret.bytes, length))
		*trouble = "It has a space, or what isn't ASCII, in it.";
	else if (length > 0)
	{
		memcpy(buffer, secret.bytes, length);
		buffer[length] = '\0';
		usable = true;
	}
	secret_wipe(&secret);
	return usable;
}

/* Are they the same?  In a time that doesn't tell how far they are. */
bool
secret_same(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		   CRYPTO_memcmp(VARDATA_ANY(a), VARDATA_ANY(b),
						 VARSIZE_ANY_EXHDR(a)) == 0;
}

static void
secrets_add_row(SecretSet *set, HeapTuple tuple, TupleDesc desc)
{
	SecretBuffer buffer;
	bool isnull;
	Datum value = heap_getattr(tuple, SECRET_LAPSES_AT, desc, &isnull);

	if (!isnull && DatumGetTimestampTz(value) <= GetCurrentTimestamp())
		return;
	value = heap_getattr(tuple, SECRET_SECRET, desc, &isnull);
	if (isnull)
		return;
	secrets_add(set, &buffer,
				secret_read(DatumGetTextPP(value), &buffer, &set->trouble));
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
	scan = engine_scan("endpoint_secret", "endpoint_secret_pkey", 1, endpoint,
					   &relation, &snapshot);
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
	SecretBuffer buffer;

	memset(set, 0, sizeof(*set));
	if (secret != NULL)
		secrets_add(set, &buffer, read_plain(secret, &buffer, &set->trouble));
	if (set->count > 0)
		return true;
	return refuse(refusal, FAULT_OURS, ERRCODE_NO_SECRET,
				  "no secret that can be used was given", set->trouble, NULL);
}

/* Bytes that a URL or an HTTP header can hold as they are? */
bool
secret_is_word(const char *bytes, int length)
{
	for (int i = 0; i < length; i++)
		if (bytes[i] <= ' ' || bytes[i] > '~')
			return false;
	return length > 0 && length <= MAX_SECRET;
}

/*
 * Is it the name of a secret's file?  Refuse names that could never be used,
 * and any by who may not read the server's files.
 */
bool
secret_check_file(const text *secret)
{
	if (!names_file(secret))
		return false;
	if (VARSIZE_ANY_EXHDR(secret) == strlen(FILE_PREFIX) ||
		VARDATA_ANY(secret)[strlen(FILE_PREFIX)] != '/')
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
	return true;
}

/* An endpoint's secret as it was given to us: refuse what could never be used. */
void
secret_check(const text *secret)
{
	int length = secret == NULL ? 0 : VARSIZE_ANY_EXHDR(secret);

	if (length == 0 || length > MAX_SECRET)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg("a secret must have 1 to %d bytes", MAX_SECRET),
			 errhint(
				 "Copy the endpoint's \"whsec_...\" from Stripe, or give file:/absolute/path.")));
	if (!secret_check_file(secret))
		signing_secret_check(secret);
}
