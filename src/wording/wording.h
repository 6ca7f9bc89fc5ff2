/*
 * wording.h
 *		Fields, changes and objects of Stripe's, in words for people: one line of
 *		plain text, money and times as they are written.
 */
#ifndef STRIPE_SYNC_WORDING_H
#define STRIPE_SYNC_WORDING_H

#include "lib/stringinfo.h"

#include "base/base.h"
#include "inbox/event.h"
#include "types/types.h"

/* ---- in words.c: text of one line ---- */

#define WORDS_ID 80 /* columns of an id or a name of the set-up's */

extern int words_width(const char *text); /* columns in a terminal */
extern char *words_plain(const char *text, int columns);
extern char *words_quoted(const char *text, int columns);
extern char *words_time(TimestampTz at, bool seconds);
extern int words_statement(const char *text); /* bytes of SQL to copy */

/* ---- in value.c: values of fields ---- */

extern bool value_is_secret(const char *name);
extern bool value_is_link(const char *name);
extern bool value_is_money(const char *name);
extern bool value_is_empty(const JsonbValue *value);
extern char *value_time(int64 seconds);
extern char *value_words(const char *name, const CatalogField *field,
						 const char *currency, const JsonbValue *value);

/* ---- in field_rank.c: paths of changed fields ---- */

/* How much a field says; within a rank fields keep their order. */
typedef enum FieldRank
{
	RANK_STATUS,
	RANK_MONEY,
	RANK_HEADLINE, /* what a person would ask for next */
	RANK_OTHER,
	RANK_DETAIL, /* follows from the others, or is for programs */
	RANK_HIDDEN	 /* not shown */
} FieldRank;

extern List *path_parts(const char *field);
extern bool path_is_number(const char *part);
extern char *path_words(List *parts);
extern FieldRank path_rank(List *parts);

/* ---- in changes.c ---- */

extern char *changes_words(List *changes, const CatalogType *type,
						   JsonbContainer *object, bool is_new);

/* ---- in event_changes.c: "status draft → open, attempt_count 0 → 1" ---- */

/*
 * What the event changed; "" if it does not say.  "histories" (of EventHistory) are
 * those that other calls have read; what is read now is added.
 */
extern char *event_change_words(Event *event, List **histories);

/* ---- in object_words.c: an object; its type may be NULL ---- */

extern bool object_field(const CatalogType *type, JsonbContainer *object,
						 const char *name, JsonbValue *value);
extern char *object_text(const CatalogType *type, JsonbContainer *object,
						 const char *name);
extern char *object_reference(const CatalogType *type, JsonbContainer *object,
							  const char *name);
extern char *object_amount(const CatalogType *type, JsonbContainer *object);
extern char *object_refunded(JsonbContainer *object);
extern char *object_status(JsonbContainer *object);
extern char *object_name(const CatalogType *type, JsonbContainer *object);

#endif /* STRIPE_SYNC_WORDING_H */
