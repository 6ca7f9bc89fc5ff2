/*
 * object.h
 *		Keys of objects, and names of event types.
 */
#ifndef STRIPE_SYNC_TYPES_OBJECT_H
#define STRIPE_SYNC_TYPES_OBJECT_H

#include "base/base.h"
#include "types/types.h"

/* ---- event_name.c ---- */

extern bool event_type_fits(const char *type, const char *pattern);
extern bool event_type_fits_any(const char *type, const char *patterns);
extern List *event_types_split(const char *patterns);
extern void event_type_remark(const char *type, bool for_alert);
extern char *event_type_hint(const char *type);
extern char *object_type_hint(const char *name);

/* ---- object_key.c ---- */

extern char *object_key(const CatalogType *type, JsonbContainer *object);
extern char *account_of_accounts(const char *path);
extern const char *object_account(const CatalogType *type, const char *account);

/* ---- object_page.c ---- */

extern JsonbContainer *object_page_of(const JsonbValue *value);
extern JsonbContainer *object_page(JsonbContainer *object, const char *field,
								   bool *complete);

#endif /* STRIPE_SYNC_TYPES_OBJECT_H */
