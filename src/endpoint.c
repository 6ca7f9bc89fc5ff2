/*
 * endpoint.c
 *		Named sources of events, their secrets, and the judgement of a
 *		signature.
 *
 * Secrets stand in stripe_sync.endpoint_secret, which nobody is granted and
 * pg_dump doesn't dump.  They are read for one judgement and wiped after it.
 */
#include "stripe_sync.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include <openssl/crypto.h>
#include <sys/stat.h>
#include <time.h>

#include "signature.h"

#define MAX_SECRET			1024
#define MAX_SECRETS			8
#define FILE_PREFIX			"file:"

PG_FUNCTION_INFO_V1(stripe_sync_add_endpoint);
PG_FUNCTION_INFO_V1(stripe_sync_rotate_endpoint_secret);
PG_FUNCTION_INFO_V1(stripe_sync_drop_endpoint);
PG_FUNCTION_INFO_V1(stripe_sync_verify_signature);
PG_FUNCTION_INFO_V1(stripe_sync_sign);

/* Secrets in the clear: for the length of one judgement. */
typedef struct SecretSet
{
	int			count;
	SignatureSecret secrets[MAX_SECRETS];
	char		bytes[MAX_SECRETS][MAX_SECRET];
	char	   *trouble;		/* why one of them can't be used */
} SecretSet;

bool
refuse(Refusal *refusal, Fault fault, int sqlstate, const char *message,
	   const char *detail, const char *hint)
{
	refusal->fault = fault;
	refusal->sqlstate = sqlstate;
	refusal->message = message;
	refusal->detail = detail;
	refusal->hint = hint;
	return false;
}

void
refusal_raise(const Refusal *refusal)
{
	ereport(ERROR,
			(errcode(refusal->sqlstate),
			 errmsg("%s", refusal->message),
			 refusal->detail ? errdetail("%s", refusal->detail) : 0,
			 refusal->hint ? errhint("%s", refusal->hint) : 0));
	pg_unreachable();
}

static void
secrets_wipe(SecretSet *set)
{
	OPENSSL_cleanse(set->bytes, sizeof(set->bytes));
	set->count = 0;
}

static void
secrets_add(SecretSet *set, const char *bytes, int length)
{
	int			i = set->count;

	if (length == 0 || length > MAX_SECRET)
	{
		set->trouble = length == 0 ? "It is empty." : "It is longer than 1024 bytes.";
		return;
	}
	if (i == MAX_SECRETS)
		return;
	memcpy(set->bytes[i], bytes, length);
	set->secrets[i].bytes = set->bytes[i];
	set->secrets[i].length = length;
	set->count++;
}

/* A secret in a file, without the line's end that editors leave behind it. */
static void
secrets_add_file(SecretSet *set, const char *path)
{
	char		buffer[MAX_SECRET + 2];
	FILE	   *file = AllocateFile(path, PG_BINARY_R);
	struct stat status;
	size_t		length;

	if (file == NULL)
	{
		set->trouble = psprintf("Its file \"%s\" could not be opened: %s.", path, strerror(errno));
		return;
	}
	if (fstat(fileno(file), &status) != 0 || !S_ISREG(status.st_mode))
	{
		FreeFile(file);
		set->trouble = psprintf("\"%s\" is not a regular file.", path);
		return;
	}
	setvbuf(file, NULL, _IONBF, 0);		/* no copy of it in stdio's buffer */
	length = fread(buffer, 1, sizeof(buffer), file);
	FreeFile(file);
	while (length > 0 && (buffer[length - 1] == '\n' || buffer[length - 1] == '\r'))
		length--;
	secrets_add(set, buffer, (int) length);
	if (set->trouble != NULL)
		set->trouble = psprintf("Its file \"%s\" is %s.", path,
								length == 0 ? "empty" : "longer than 1024 bytes");
	OPENSSL_cleanse(buffer, sizeof(buffer));
}

static void
secrets_add_row(SecretSet *set, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, 3, desc, &isnull);	/* lapses_at */
	text	   *secret;

	if (!isnull && DatumGetTimestampTz(value) <= GetCurrentTimestamp())
		return;
	value = heap_getattr(tuple, 2, desc, &isnull);	/* secret */
	if (isnull)
		return;
	secret = DatumGetTextPP(value);
	if (VARSIZE_ANY_EXHDR(secret) > strlen(FILE_PREFIX) &&
		memcmp(VARDATA_ANY(secret), FILE_PREFIX, strlen(FILE_PREFIX)) == 0)
		secrets_add_file(set, text_to_cstring(secret) + strlen(FILE_PREFIX));
	else
		secrets_add(set, VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret));
}

/*
 * All rows of one of our tables whose first column is "name", by its index.
 * With the newest snapshot: set-up holds from the moment it is committed.
 */
static SysScanDesc
scan_by_name(const char *table, const char *index, const char *name,
			 Relation *relation, Snapshot *snapshot)
{
	ScanKeyData key;

	*relation = table_open(engine_relation(table), AccessShareLock);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(name));
	key.sk_collation = DEFAULT_COLLATION_OID;
	*snapshot = RegisterSnapshot(GetLatestSnapshot());
	return systable_beginscan(*relation, engine_relation(index), true,
							  *snapshot, 1, &key);
}

static void
scan_end(SysScanDesc scan, Relation relation, Snapshot snapshot)
{
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(relation, AccessShareLock);
}

static bool
secrets_load(const char *endpoint, SecretSet *set, Refusal *refusal)
{
	Relation	relation;
	Snapshot	snapshot;
	SysScanDesc scan;
	HeapTuple	tuple;

	memset(set, 0, offsetof(SecretSet, bytes));
	set->trouble = NULL;
	scan = scan_by_name("endpoint_secret", "endpoint_secret_endpoint_idx",
						endpoint, &relation, &snapshot);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		secrets_add_row(set, tuple, RelationGetDescr(relation));
	scan_end(scan, relation, snapshot);
	if (set->count > 0)
		return true;
	return refuse(refusal, FAULT_OURS, ERRCODE_NO_SECRET,
				  psprintf("endpoint \"%s\" has no secret that can be used", endpoint),
				  set->trouble,
				  psprintf("Give it one: SELECT stripe_sync.add_endpoint(%s, 'whsec_...').",
						   quote_literal_cstr(endpoint)));
}

/* An interval in whole seconds, as tolerances are meant. */
static int64
interval_seconds(const Interval *interval)
{
	int64		days = (int64) interval->month * DAYS_PER_MONTH + interval->day;

	return days * SECS_PER_DAY + interval->time / USECS_PER_SEC;
}

bool
endpoint_find(const char *name, Endpoint *endpoint, Refusal *refusal)
{
	Relation	relation;
	Snapshot	snapshot;
	SysScanDesc scan = scan_by_name("endpoint", "endpoint_pkey", name,
									&relation, &snapshot);
	HeapTuple	tuple = systable_getnext(scan);
	bool		found = HeapTupleIsValid(tuple);
	bool		isnull;
	Datum		value;

	if (found)
	{
		endpoint->name = pstrdup(name);
		value = heap_getattr(tuple, 2, RelationGetDescr(relation), &isnull);
		endpoint->has_livemode = !isnull;
		endpoint->livemode = !isnull && DatumGetBool(value);
		value = heap_getattr(tuple, 3, RelationGetDescr(relation), &isnull);
		endpoint->tolerance = isnull ? SIGNATURE_NO_TOLERANCE :
			interval_seconds(DatumGetIntervalP(value));
	}
	scan_end(scan, relation, snapshot);
	if (found)
		return true;
	return refuse(refusal, FAULT_OURS, ERRCODE_NO_SUCH_NAME,
				  psprintf("there is no endpoint \"%s\"", name), NULL,
				  psprintf("Make it: SELECT stripe_sync.add_endpoint(%s, 'whsec_...').",
						   quote_literal_cstr(name)));
}

static bool
verdict_refuse(SignatureVerdict verdict, Refusal *refusal)
{
	switch (verdict)
	{
		case SIGNATURE_FITS:
			return true;
		case SIGNATURE_UNREADABLE:
			return refuse(refusal, FAULT_CLIENT, ERRCODE_SIGNATURE_UNREADABLE,
						  "the Stripe-Signature header can't be read",
						  "It must hold one t=<seconds> and at least one v1=<hex>.",
						  "Pass the header's value exactly as it came.");
		case SIGNATURE_MISFIT:
			return refuse(refusal, FAULT_CLIENT, ERRCODE_SIGNATURE_MISFIT,
						  "no signature in the Stripe-Signature header fits the payload",
						  NULL,
						  "Pass the raw body, not a parsed and re-written one, and check the endpoint's secret.");
		case SIGNATURE_TOO_OLD:
			return refuse(refusal, FAULT_CLIENT, ERRCODE_SIGNATURE_TOO_OLD,
						  "the signature fits, but it is older than the tolerance",
						  NULL,
						  "Check this server's clock; a replayed request looks the same.");
		case SIGNATURE_BROKEN:
			break;
	}
	ereport(ERROR,
			(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
			 errmsg("OpenSSL could not compute an HMAC-SHA256")));
	return false;
}

static SignatureVerdict
judge(const char *payload, int length, text *signature,
	  const SecretSet *set, int64 now, int64 tolerance)
{
	if (signature == NULL)
		return SIGNATURE_UNREADABLE;
	return signature_verify(payload, length, VARDATA_ANY(signature),
							VARSIZE_ANY_EXHDR(signature),
							set->secrets, set->count, now, tolerance, NULL);
}

/* Is the payload signed with one of the endpoint's secrets, lately enough? */
bool
endpoint_verify(const Endpoint *endpoint, const char *payload, int length,
				text *signature, Refusal *refusal)
{
	SecretSet	set;
	SignatureVerdict verdict;

	if (!secrets_load(endpoint->name, &set, refusal))
		return false;
	verdict = judge(payload, length, signature, &set, (int64) time(NULL),
					endpoint->tolerance);
	secrets_wipe(&set);
	return verdict_refuse(verdict, refusal);
}

/* A header for simulate(): signed with the endpoint's first good secret. */
char *
endpoint_sign(const Endpoint *endpoint, const char *payload, int length,
			  int64 at)
{
	SecretSet	set;
	Refusal		refusal;
	char		header[SIGNATURE_HEADER_SIZE];
	bool		done;

	if (!secrets_load(endpoint->name, &set, &refusal))
		refusal_raise(&refusal);
	done = signature_sign(payload, length, &set.secrets[0], at, header);
	secrets_wipe(&set);
	if (!done)
		elog(ERROR, "could not sign an event");
	return pstrdup(header);
}

/* A secret as it was given to us: refuse what could never be used. */
static void
check_secret(text *secret)
{
	int			length = secret == NULL ? 0 : VARSIZE_ANY_EXHDR(secret);
	char	   *path;

	if (length == 0 || length > MAX_SECRET)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a secret must have 1 to %d bytes", MAX_SECRET),
				 errhint("Copy the endpoint's \"whsec_...\" from Stripe, or give file:/absolute/path.")));
	path = VARDATA_ANY(secret);
	if (length < strlen(FILE_PREFIX) ||
		memcmp(path, FILE_PREFIX, strlen(FILE_PREFIX)) != 0)
		return;
	if (length == strlen(FILE_PREFIX) || path[strlen(FILE_PREFIX)] != '/')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a secret's file must be given by its absolute path"),
				 errhint("For example: file:/etc/stripe_sync/whsec.")));
	if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to name a secret's file"),
				 errdetail("Only roles with privileges of pg_read_server_files may.")));
}

static void
check_name(text *name, const char *what)
{
	if (name == NULL || VARSIZE_ANY_EXHDR(name) == 0 ||
		VARSIZE_ANY_EXHDR(name) > 63)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must have a name of 1 to 63 bytes", what)));
}

/* Does the endpoint have a secret, and is it this one? */
static bool
secret_known(text *name, text *secret, bool *same)
{
	static EngineStatement select = {
		"SELECT secret FROM stripe_sync.endpoint_secret"
		" WHERE endpoint OPERATOR(pg_catalog.=) $1 AND lapses_at IS NULL",
		1, {TEXTOID}
	};
	Datum		values[] = {PointerGetDatum(name)};
	bool		known;

	*same = false;
	SPI_connect();
	engine_run(&select, values, NULL, SPI_OK_SELECT);
	known = SPI_processed > 0;
	if (known)
	{
		bool		isnull;
		text	   *old = DatumGetTextPP(SPI_getbinval(SPI_tuptable->vals[0],
													   SPI_tuptable->tupdesc, 1, &isnull));

		*same = VARSIZE_ANY_EXHDR(old) == VARSIZE_ANY_EXHDR(secret) &&
			CRYPTO_memcmp(VARDATA_ANY(old), VARDATA_ANY(secret),
						  VARSIZE_ANY_EXHDR(old)) == 0;
	}
	SPI_finish();
	return known;
}

static void
secret_insert(text *name, text *secret)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.endpoint_secret (endpoint, secret) VALUES ($1, $2)",
		2, {TEXTOID, TEXTOID}
	};
	Datum		values[] = {PointerGetDatum(name), PointerGetDatum(secret)};

	SPI_connect();
	engine_run(&insert, values, NULL, SPI_OK_INSERT);
	SPI_finish();
}

static void
check_tolerance(const Interval *tolerance)
{
	if (tolerance != NULL && interval_seconds(tolerance) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a tolerance cannot be negative"),
				 errhint("NULL switches the check of the age off.")));
}

/*
 * add_endpoint(name, secret, livemode, tolerance)
 *
 * Serialized by the row of the endpoint: two set-up scripts at once end as one
 * after the other would.
 */
Datum
stripe_sync_add_endpoint(PG_FUNCTION_ARGS)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.endpoint AS e (name, livemode, tolerance)"
		" VALUES ($1, $2, $3)"
		" ON CONFLICT (name) DO UPDATE"
		" SET livemode = excluded.livemode, tolerance = excluded.tolerance",
		3, {TEXTOID, BOOLOID, INTERVALOID}
	};
	text	   *name = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	text	   *secret = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	Datum		values[] = {PointerGetDatum(name), PG_ARGISNULL(2) ? (Datum) 0 : PG_GETARG_DATUM(2),
	PG_ARGISNULL(3) ? (Datum) 0 : PG_GETARG_DATUM(3)};
	char		nulls[] = {' ', PG_ARGISNULL(2) ? 'n' : ' ', PG_ARGISNULL(3) ? 'n' : ' ', '\0'};
	RoleScope	scope;
	bool		same;

	check_name(name, "an endpoint");
	check_secret(secret);
	check_tolerance(PG_ARGISNULL(3) ? NULL : PG_GETARG_INTERVAL_P(3));
	scope = role_enter_engine();
	SPI_connect();
	engine_run(&upsert, values, nulls, SPI_OK_INSERT);
	SPI_finish();
	if (!secret_known(name, secret, &same))
		secret_insert(name, secret);
	else if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("endpoint \"%s\" has another secret", text_to_cstring(name)),
				 errhint("Rotate it: SELECT stripe_sync.rotate_endpoint_secret(%s, 'whsec_...').",
						 quote_literal_cstr(text_to_cstring(name)))));
	role_leave(&scope);
	tables_create_if_none();
	PG_RETURN_VOID();
}

/* rotate_endpoint_secret(name, new_secret, keep_old) */
Datum
stripe_sync_rotate_endpoint_secret(PG_FUNCTION_ARGS)
{
	static EngineStatement lock = {
		"SELECT 1 FROM stripe_sync.endpoint WHERE name OPERATOR(pg_catalog.=) $1 FOR UPDATE",
		1, {TEXTOID}
	};
	static EngineStatement lapse = {
		"UPDATE stripe_sync.endpoint_secret"
		"   SET lapses_at = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $2"
		" WHERE endpoint OPERATOR(pg_catalog.=) $1 AND lapses_at IS NULL",
		2, {TEXTOID, INTERVALOID}
	};
	static EngineStatement clean = {
		"DELETE FROM stripe_sync.endpoint_secret"
		" WHERE endpoint OPERATOR(pg_catalog.=) $1"
		"   AND lapses_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()",
		1, {TEXTOID}
	};
	text	   *name = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	text	   *secret = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	Interval	none = {0};
	Interval   *keep = PG_ARGISNULL(2) ? &none : PG_GETARG_INTERVAL_P(2);
	Datum		values[] = {PointerGetDatum(name), IntervalPGetDatum(keep)};
	Endpoint	endpoint;
	Refusal		refusal;
	RoleScope	scope;
	bool		same;

	check_name(name, "an endpoint");
	check_secret(secret);
	check_tolerance(keep);
	scope = role_enter_engine();
	SPI_connect();
	engine_run(&lock, values, NULL, SPI_OK_SELECT);
	if (!endpoint_find(text_to_cstring(name), &endpoint, &refusal))
		refusal_raise(&refusal);
	if (!secret_known(name, secret, &same) || !same)
	{
		engine_run(&lapse, values, NULL, SPI_OK_UPDATE);
		engine_run(&clean, values, NULL, SPI_OK_DELETE);
		secret_insert(name, secret);
	}
	SPI_finish();
	role_leave(&scope);
	PG_RETURN_VOID();
}

/* drop_endpoint(name): its events stay */
Datum
stripe_sync_drop_endpoint(PG_FUNCTION_ARGS)
{
	static EngineStatement secrets = {
		"DELETE FROM stripe_sync.endpoint_secret WHERE endpoint OPERATOR(pg_catalog.=) $1",
		1, {TEXTOID}
	};
	static EngineStatement drop = {
		"DELETE FROM stripe_sync.endpoint WHERE name OPERATOR(pg_catalog.=) $1",
		1, {TEXTOID}
	};
	text	   *name = PG_GETARG_TEXT_PP(0);
	Datum		values[] = {PointerGetDatum(name)};
	RoleScope	scope = role_enter_engine();

	SPI_connect();
	engine_run(&secrets, values, NULL, SPI_OK_DELETE);
	engine_run(&drop, values, NULL, SPI_OK_DELETE);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NO_SUCH_NAME),
				 errmsg("there is no endpoint \"%s\"", text_to_cstring(name))));
	SPI_finish();
	role_leave(&scope);
	PG_RETURN_VOID();
}

static bool
one_secret(SecretSet *set, text *secret, Refusal *refusal)
{
	memset(set, 0, offsetof(SecretSet, bytes));
	set->trouble = NULL;
	if (secret != NULL)
		secrets_add(set, VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret));
	if (set->count > 0)
		return true;
	return refuse(refusal, FAULT_OURS, ERRCODE_NO_SECRET,
				  "no secret that can be used was given", set->trouble, NULL);
}

/*
 * verify_signature(payload, signature, secret, tolerance, at): true, or raises.
 * Not STRICT: a NULL tolerance means something, and a NULL signature must
 * never be taken for "no answer".
 */
Datum
stripe_sync_verify_signature(PG_FUNCTION_ARGS)
{
	bytea	   *payload = PG_ARGISNULL(0) ? NULL : PG_GETARG_BYTEA_PP(0);
	text	   *signature = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	text	   *secret = PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2);
	int64		tolerance = SIGNATURE_NO_TOLERANCE;
	TimestampTz at = PG_ARGISNULL(4) ? GetCurrentTimestamp() : PG_GETARG_TIMESTAMPTZ(4);
	SecretSet	set;
	SignatureVerdict verdict;
	Refusal		refusal;

	if (!PG_ARGISNULL(3))
	{
		check_tolerance(PG_GETARG_INTERVAL_P(3));
		tolerance = interval_seconds(PG_GETARG_INTERVAL_P(3));
	}
	if (payload == NULL || VARSIZE_ANY_EXHDR(payload) == 0)
	{
		refuse(&refusal, FAULT_CLIENT, ERRCODE_NO_EVENT,
			   "the payload is no Stripe event", "It is empty.", NULL);
		refusal_raise(&refusal);
	}
	if (!one_secret(&set, secret, &refusal))
		refusal_raise(&refusal);
	verdict = judge(VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload), signature,
					&set, (int64) timestamptz_to_time_t(at), tolerance);
	secrets_wipe(&set);
	if (!verdict_refuse(verdict, &refusal))
		refusal_raise(&refusal);
	PG_RETURN_BOOL(true);
}

/* sign(payload, secret, at): a Stripe-Signature header, for tests */
Datum
stripe_sync_sign(PG_FUNCTION_ARGS)
{
	bytea	   *payload = PG_GETARG_BYTEA_PP(0);
	text	   *secret = PG_GETARG_TEXT_PP(1);
	TimestampTz at = PG_GETARG_TIMESTAMPTZ(2);
	char		header[SIGNATURE_HEADER_SIZE];
	SecretSet	set;
	Refusal		refusal;
	bool		done;

	if (!one_secret(&set, secret, &refusal))
		refusal_raise(&refusal);
	done = !TIMESTAMP_NOT_FINITE(at) &&
		signature_sign(VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload),
					   &set.secrets[0], (int64) timestamptz_to_time_t(at), header);
	secrets_wipe(&set);
	if (!done)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cannot sign for that time"),
				 errhint("Give a time after 1970.")));
	PG_RETURN_TEXT_P(cstring_to_text(header));
}
