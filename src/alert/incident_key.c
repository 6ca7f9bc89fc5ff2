/*
 * incident_key.c
 *		The group of an event, by which events are one incident, and the
 *		advisory locks on groups and destinations.
 *
 * A transaction that opens, counts to or closes an incident of a group holds an
 * advisory lock on the group until it ends, so that a failure and its payment
 * that arrive at the same time see each other.  The lock's key is a hash of 32
 * bits of the rule, the group and the account; two groups with the same hash
 * merely wait for each other.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "base/base.h"
#include "engine/engine.h"
#include "inbox/event.h"
#include "alert/internal.h"

#define LONGEST_GROUP 500 /* bytes: an index row holds about 2,700 */
#define GROUP_PREFIX  400

/* ---- the group ---- */

/* The id of the customer that the event is about, or NULL. */
char *
event_customer(const Event *event)
{
	JsonbContainer *expanded;
	char *customer;

	if (event->object == NULL)
		return NULL;
	if (event->object_type != NULL && strcmp(event->object_type, "customer") == 0)
		return event->object_id;
	customer = json_get_string(event->object, "customer");
	if (customer != NULL)
		return customer;
	expanded = json_get_object(event->object, "customer");
	return expanded ? json_get_string(expanded, "id") : NULL;
}

/*
 * Without group_by: the object's id.  An object without one (the preview of an
 * invoice) is grouped by customer, or is alone; events of the application
 * without one are all of one group.
 */
static char *
default_group(const Event *event)
{
	char *customer;

	if (event->object_id != NULL && event->object_id[0] != '\0')
		return event->object_id;
	customer = event_customer(event);
	if (customer != NULL)
		return customer;
	return strncmp(event->type, "app.", 4) == 0 ? "" : event->id;
}

/* What group_by finds first; "" if it finds nothing. */
static char *
path_group(const Alert *alert, const Event *event)
{
	JsonbValue value;
	Jsonb *found = alert_path_first(alert->group_by, event);

	if (found == NULL)
		return "";
	if (JsonbExtractScalar(&found->root, &value) && value.type == jbvString)
		return pnstrdup(value.val.string.val, value.val.string.len);
	return JsonbToCString(NULL, &found->root, VARSIZE(found));
}

/* A value that is too long for an index: its beginning and a hash of 128 bits. */
static char *
fit_group(char *group)
{
	const unsigned char *bytes = (const unsigned char *) group;
	int length = strlen(group);

	if (length <= LONGEST_GROUP)
		return group;
	return psprintf("%s... %016llx%016llx",
					pnstrdup(group, pg_mbcliplen(group, length, GROUP_PREFIX)),
					(unsigned long long) hash_bytes_extended(bytes, length, 0),
					(unsigned long long) hash_bytes_extended(bytes, length, 1));
}

/*
 * The group of the event: stripe_sync.incident.group_key.  A rule for
 * "@customer" groups by customer as well.  Not by the destination: a customer's
 * route may be gone when the closing event arrives.
 */
char *
alert_group(const Alert *alert, const Event *event)
{
	char *group = alert->group_by ? path_group(alert, event)
								  : default_group(event);
	char *customer = alert->is_for_customer ? event_customer(event) : NULL;

	if (customer != NULL && strcmp(customer, group) != 0)
		group = psprintf("%s %s", customer, group);
	return fit_group(group);
}

/* ---- locks ---- */

static uint32
lock_key(const char *alert, const char *group, const char *account)
{
	StringInfoData key;
	uint32 hash;

	initStringInfo(&key);
	appendStringInfoString(&key, alert);
	appendStringInfoChar(&key, '\0');
	appendStringInfoString(&key, group);
	appendStringInfoChar(&key, '\0');
	appendStringInfoString(&key, account);
	hash = hash_bytes((unsigned char *) key.data, key.len);
	pfree(key.data);
	return hash;
}

/*
 * Lock the group until the transaction ends.  Returns false if "wait" is false
 * and another session holds the lock.
 *
 * Under REPEATABLE READ and SERIALIZABLE raises 40001 if the group has counted
 * an event that our snapshot doesn't show: the lock alone doesn't help there.
 */
bool
alert_group_lock(const Alert *alert, const char *group, const char *account,
				 bool wait)
{
	uint32 key = lock_key(alert->name, group, account);

	if (wait)
		advisory_lock(ADVISORY_GROUP, key);
	else if (!advisory_try_lock(ADVISORY_GROUP, key))
		return false;
	if (IsolationUsesXactSnapshot() &&
		alerted_after_snapshot(alert->name, group, account))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to a concurrent event "
						"of the same incident"),
				 errhint("The transaction might succeed if retried.")));
	return true;
}

/*
 * Lock the destination until the transaction ends; returns false if another
 * session holds the lock.  It comes after the groups' locks, and the holder may
 * be waiting for a group of ours, so waiting here could deadlock.
 */
bool
alert_destination_try_lock(const char *destination)
{
	return advisory_try_lock(
		ADVISORY_DESTINATION,
		hash_bytes((const unsigned char *) destination, strlen(destination)));
}
