/*
 * secret.h
 *		Secrets in memory, for the duration of one use.
 */
#ifndef STRIPE_SYNC_SECRET_H
#define STRIPE_SYNC_SECRET_H

#include "base/base.h"
#include "base/refusal.h"
#include "engine/engine.h"
#include "inbox/signature.h"

#define MAX_SECRET 1024 /* bytes */

typedef struct SecretSet
{
	int count;
	int capacity;
	SignatureSecret *secrets; /* overwritten by secrets_wipe() */
	char *trouble;			  /* why one of them can't be used, or NULL */
} SecretSet;

/* One secret, and the newline that a file may have after it */
typedef struct SecretBuffer
{
	char bytes[MAX_SECRET + 2];
} SecretBuffer;

/* Columns of stripe_sync.endpoint_secret, as src/inbox/endpoint.sql makes it */
enum SecretColumn
{
	SECRET_ENDPOINT = 1,
	SECRET_NUMBER,
	SECRET_SECRET,
	SECRET_LAPSES_AT
};

extern void secret_hide(ErrorContextCallback *hider);
extern void secret_unhide(const ErrorContextCallback *hider);
extern int secret_read(const text *stored, SecretBuffer *buffer, char **trouble);
extern bool secret_read_word(const text *stored, char *buffer, size_t size,
							 char **trouble);
extern void secret_wipe(SecretBuffer *buffer);
extern bool secret_same(const text *a, const text *b);
extern bool secret_is_word(const char *bytes, int length);
extern bool secret_check_file(const text *secret);
extern void secret_check(const text *secret);

extern bool secrets_load(const char *endpoint, SecretSet *set, Refusal *refusal);
extern bool secrets_take(SecretSet *set, text *secret, Refusal *refusal);
extern void secrets_wipe(SecretSet *set);

/* ---- in secret_kind.c: is it of the expected kind? ---- */
extern void signing_secret_check(const text *secret);
extern void signing_secret_remark(const text *secret);
extern bool slack_signing_secret_form(const text *secret);
extern void slack_signing_secret_check(const text *secret);
extern void slack_signing_secret_remark(const text *secret);
extern void slack_token_check(const text *token);
extern void slack_token_remark(const text *token);
extern void secret_warn_file(const text *secret);

/* ---- in secret_row.c: rows written without SQL, hidden from decoding ---- */
extern void secret_insert(const char *table, int count, const Datum *values,
						  const bool *nulls);
extern void secret_delete(const char *table, text *name);

/* ---- in endpoint_secret.c ---- */
extern bool endpoint_secret_known(text *name, text *secret, bool *same);
extern void endpoint_secret_add(text *name, text *secret);
extern void endpoint_secret_rotate(text *name, text *secret, TimestampTz until);
extern void endpoint_secret_drop(text *name);

/*
 * Begins a SQL function that takes a secret.  As ENGINE_FUNCTION(), but until
 * the function returns no message shows the statement or its parameters in the
 * server's log.
 */
#define SECRET_FUNCTION(name)                                                  \
	SECRET_FUNCTION_AFTER(name, level_check(CATALOG_LEVEL))

/* The same, for one that uses no table of the extension: at any level */
#define SECRET_FUNCTION_ANY_LEVEL(name) SECRET_FUNCTION_AFTER(name, (void) 0)

#define SECRET_FUNCTION_AFTER(name, check)                                     \
	PG_FUNCTION_INFO_V1(name);                                                 \
	static Datum name##_body(PG_FUNCTION_ARGS);                                \
	Datum name(PG_FUNCTION_ARGS)                                               \
	{                                                                          \
		ErrorContextCallback hider;                                            \
		Datum result;                                                          \
                                                                               \
		secret_hide(&hider);                                                   \
		check;                                                                 \
		result = name##_body(fcinfo);                                          \
		secret_unhide(&hider);                                                 \
		return result;                                                         \
	}                                                                          \
	static Datum name##_body(PG_FUNCTION_ARGS)

#endif /* STRIPE_SYNC_SECRET_H */
