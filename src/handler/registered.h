/*
 * registered.h
 *		Functions that users register: handlers of events, actions and commands of
 *		Slack.
 */
#ifndef STRIPE_SYNC_HANDLER_REGISTERED_H
#define STRIPE_SYNC_HANDLER_REGISTERED_H

#include "base/base.h"
#include "engine/rights.h"
#include "engine/statement.h"

typedef struct RegisteredKind
{
	const char *noun;	  /* "handler" */
	const char *a_noun;	  /* "a handler" */
	const char *suffix;	  /* of stripe_sync.add_..., drop_... */
	const char *contract; /* what it takes and returns, a sentence */
	Oid returns;		  /* VOIDOID or JSONBOID */
} RegisteredKind;

typedef struct Registered
{
	const RegisteredKind *kind;
	char *name;
	char *function; /* schema.name, quoted where needed */
	char *owner;	/* of the function, when it was registered */
	char *role;
	NotedPath *search_path;
	bool stopped; /* by revoke_all() */
} Registered;

/* Columns and arguments of what is stored; the arguments in the same order */
#define REGISTERED_COLUMNS                                                     \
	"function, function_owner, role, search_path, path_owners"
#define REGISTERED_ARGS(registered)                                            \
	arg_text((registered)->function), arg_text((registered)->owner),           \
		arg_text((registered)->role),                                          \
		arg_text((registered)->search_path->names),                            \
		arg_datum(TEXTARRAYOID, path_owners((registered)->search_path))
#define REGISTERED_REPLACE                                                     \
	"function = excluded.function, function_owner = excluded.function_owner,"  \
	" role = excluded.role, search_path = excluded.search_path,"               \
	" path_owners = excluded.path_owners, stopped_at = NULL"

extern Registered *registered_note(const RegisteredKind *kind, const char *name,
								   Oid function);
extern void registered_read(Registered *registered, const RegisteredKind *kind,
							const char *name, Rows *row);
extern void registered_copy(Registered *to, const Registered *from);
extern bool registered_is_anothers(const Registered *registered);
extern Jsonb *registered_call(const Registered *registered, Jsonb *document);

#endif /* STRIPE_SYNC_HANDLER_REGISTERED_H */
