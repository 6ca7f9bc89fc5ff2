/*
 * group.c
 *		What events have in common that are one incident, and its lock.
 *
 * Who opens or closes for a group holds an advisory lock on it to the end of
 * the transaction, so that a failure and its payment that arrive at once see
 * each other.
 */
#include "stripe_sync.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "alert.h"

/* Columns of stripe_sync.alerted, as src/install/70_alert.sql makes it */
#define ALERTED_ACCOUNT 2
#define ALERTED_ALERT	3
#define ALERTED_GROUP	4

#define LONGEST_GROUP 500 /* bytes: a row of an index holds 2,700 */
#define GROUP_PREFIX  400

/* ---- which ---- */

/* The customer whom the event is about, or NULL. */
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

/* The object; of what has no id (a preview), the customer, else the event. */
static char *
default_group(const Event *event)
{
	char *customer;

	if (event->object_id != NULL && event->object_id[0] != '\0')
		return event->object_id;
	customer = event_customer(event);
	return customer ? customer : event->id;
}

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

/* What is too long for an index: its beginning, and a hash of all of it. */
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
 * What events have in common that are one incident.  What is one customer's is
 * no other's; the customer rather than the destination, which a closing event
 * may no longer have.
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

/* ---- its lock ---- */

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
 * Has somebody counted for the group whom our transaction's snapshot doesn't
 * show, though we hold the group's lock?
 */
static bool
snapshot_is_old(const char *alert, const char *group, const char *account)
{
	Relation relation = table_open(engine_relation("alerted"), AccessShareLock);
	Snapshot latest = RegisterSnapshot(GetLatestSnapshot());
	Snapshot ours = GetTransactionSnapshot();
	const char *values[] = {alert, group, account};
	/* in the order of the index */
	const AttrNumber columns[] = {ALERTED_ALERT, ALERTED_GROUP, ALERTED_ACCOUNT};
	ScanKeyData keys[lengthof(values)];
	SysScanDesc scan;
	HeapTuple tuple;
	bool old = false;

	for (int i = 0; i < lengthof(values); i++)
	{
		ScanKeyInit(&keys[i], columns[i], BTEqualStrategyNumber, F_TEXTEQ,
					CStringGetTextDatum(values[i]));
		keys[i].sk_collation = DEFAULT_COLLATION_OID;
	}
	scan = systable_beginscan(relation, engine_relation("alerted_group_idx"),
							  true, latest, lengthof(values), keys);
	while (!old && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);

		old = !TransactionIdIsCurrentTransactionId(xmin) &&
			  XidInMVCCSnapshot(xmin, ours);
	}
	systable_endscan(scan);
	UnregisterSnapshot(latest);
	table_close(relation, AccessShareLock);
	return old;
}

/*
 * The group is ours to the end of the transaction.  Who must not wait is told
 * false when it is somebody else's.
 */
bool
group_lock(const Alert *alert, const char *group, const char *account, bool wait)
{
	uint32 key = lock_key(alert->name, group, account);

	if (wait)
		advisory_lock(ADVISORY_GROUP, key);
	else if (!advisory_try_lock(ADVISORY_GROUP, key))
		return false;
	if (IsolationUsesXactSnapshot() &&
		snapshot_is_old(alert->name, group, account))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to a concurrent event "
						"of the same incident"),
				 errhint("The transaction might succeed if retried.")));
	return true;
}

/* Never waited for: whoever holds it may be waiting for a group. */
bool
group_try_destination(const char *destination)
{
	return advisory_try_lock(
		ADVISORY_DESTINATION,
		hash_bytes((const unsigned char *) destination, strlen(destination)));
}
