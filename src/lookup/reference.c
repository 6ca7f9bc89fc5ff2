/*
 * reference.c
 *		Resolves a reference: "message 12", an event, an object, an e-mail
 *		address, a Slack timestamp, a request, an idempotency key.
 *
 * The kinds are tried in this order, those that cost least first; the first that
 * is known by the reference wins.  All that a kind finds must be of one account,
 * unless one is given.
 */
#include "postgres.h"

#include "engine/engine.h"
#include "engine/statement.h"
#include "base/error_codes.h"
#include "base/text.h"
#include "lookup/internal.h"

#define MOST_SHOWN 200 /* bytes of a reference in a message */

static bool
list_has(List *names, const char *name)
{
	ListCell *cell;

	foreach(cell, names)
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	return false;
}

static void
note_looked(Reference *reference, const char *what)
{
	appendStringInfo(reference->looked, "%s%s",
					 reference->looked->len > 0 ? ", " : "", what);
}

/* ---- numbers ---- */

/* Digits to the end of the text: a number from 1 on */
static bool
read_number(const char *text, int64 *number)
{
	*number = 0;
	if (*text == '\0' || strlen(text) > 18)
		return false;
	for (; *text != '\0'; text++)
	{
		if (*text < '0' || *text > '9')
			return false;
		*number = *number * 10 + (*text - '0');
	}
	return *number > 0;
}

/* "message 12", "message:12", "message #12" */
static bool
read_numbered(const char *ref, const char *word, int64 *number)
{
	size_t length = strlen(word);

	if (pg_strncasecmp(ref, word, length) != 0 ||
		(ref[length] != ' ' && ref[length] != ':'))
		return false;
	ref += length + 1;
	while (*ref == ' ' || *ref == '#')
		ref++;
	return read_number(ref, number);
}

static bool
resolve_numbered(Reference *reference)
{
	int64 number;

	if (read_numbered(reference->ref, "message", &number))
	{
		note_looked(reference, "messages");
		return find_message(reference, number);
	}
	if (read_numbered(reference->ref, "incident", &number))
	{
		note_looked(reference, "incidents");
		return find_incident(reference, number, 0);
	}
	if (read_numbered(reference->ref, "job", &number))
	{
		note_looked(reference, "jobs");
		return find_job(reference, number);
	}
	return false;
}

/* A bare number; what else has it is said in "others". */
static bool
resolve_bare_number(Reference *reference)
{
	int64 number;
	Reference other = {.ref = reference->ref, .looked = makeStringInfo()};
	StringInfoData others;
	bool found;

	if (!read_number(reference->ref, &number))
		return false;
	note_looked(reference, "messages, incidents, jobs");
	found = find_message(reference, number);
	initStringInfo(&others);
	if (find_incident(found ? &other : reference, number, 0))
		appendStringInfo(&others, found ? ", incident " INT64_FORMAT : "",
						 number);
	found = reference->referents != NIL;
	if (find_job(found ? &other : reference, number) && found)
		appendStringInfo(&others, ", job " INT64_FORMAT, number);
	if (others.len > 0)
		reference->others = psprintf("There is also %s.", others.data + 2);
	return reference->referents != NIL;
}

/* ---- the kinds, in their order ---- */

static bool
is_slack_ts(const char *ref)
{
	size_t whole = strspn(ref, "0123456789");
	size_t part = ref[whole] == '.' ? strspn(ref + whole + 1, "0123456789") : 0;

	return whole > 0 && part > 0 && ref[whole + 1 + part] == '\0';
}

static bool
resolve_email(Reference *reference)
{
	bool looked;
	bool found;

	if (strchr(reference->ref, '@') == NULL)
		return false;
	found = find_email(reference, &looked);
	note_looked(
		reference,
		looked
			? "e-mail addresses of stripe.customers"
			: "no e-mail addresses, because stripe.customers does not exist or you may not see all of its rows");
	return found;
}

/* Kinds that every text is tried as */
static bool
resolve_text(Reference *reference)
{
	note_looked(reference, "events");
	if (find_event(reference))
		return true;
	note_looked(reference, "objects of events and of the mirror");
	if (find_object(reference))
		return true;
	if (resolve_email(reference))
		return true;
	note_looked(reference, "Stripe's request ids");
	if (find_request(reference))
		return true;
	note_looked(reference, "keys of messages");
	if (find_message_key(reference))
		return true;
	note_looked(reference, "idempotency keys");
	return find_idempotency_key(reference);
}

static bool
resolve(Reference *reference)
{
	if (resolve_numbered(reference) || resolve_bare_number(reference))
		return true;
	if (is_slack_ts(reference->ref))
	{
		note_looked(reference, "timestamps of messages in Slack");
		if (find_slack_ts(reference))
			return true;
	}
	return resolve_text(reference);
}

/* ---- errors ---- */

/* Raises 22023 if there are several accounts, naming them. */
static void
check_accounts(const Reference *reference)
{
	StringInfoData names;
	List *seen = NIL;
	ListCell *cell;

	initStringInfo(&names);
	foreach(cell, reference->referents)
	{
		Referent *referent = lfirst(cell);

		if (referent->account == NULL || list_has(seen, referent->account))
			continue;
		seen = lappend(seen, referent->account);
		appendStringInfo(&names, "%s'%s'", names.len > 0 ? ", " : "",
						 referent->account);
	}
	if (list_length(seen) > 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"%s\" is known in several accounts",
							   text_clip(reference->ref, MOST_SHOWN)),
						errdetail("They are %s.", names.data),
						errhint("Name one: trace(ref, account => ...).")));
}

static void
raise_unknown(const Reference *reference)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_NO_SUCH_NAME),
		 errmsg("nothing is known by the reference \"%s\"",
				text_clip(reference->ref, MOST_SHOWN)),
		 errdetail("Looked at: %s%s.", reference->looked->data,
				   reference->account == NULL
					   ? ""
					   : psprintf(", of account '%s'", reference->account)),
		 errhint(
			 "A reference is the id of an event or of any object, an e-mail address, a Stripe request id, an idempotency key, a Slack timestamp, the key of a message, or a number as in 'message 12', 'incident 3', 'job 5'.")));
}

/*
 * Find what the reference refers to, of Referent.  Raises SY005 if nothing is
 * known by it, 22023 if several accounts know it.  Runs in the engine's scope.
 */
void
reference_resolve(Reference *reference)
{
	int nest;
	bool found;

	reference->looked = makeStringInfo();
	while (*reference->ref == ' ')
		reference->ref++;
	nest = plan_for_indexes();
	found = reference->ref[0] != '\0' && resolve(reference);
	plan_settings_restore(nest);
	if (!found)
		raise_unknown(reference);
	if (!reference->several)
		check_accounts(reference);
}
