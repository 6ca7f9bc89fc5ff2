/*
 * counters.c
 *		The table of counters in shared memory.
 *
 * An entry holds the counts of one kind and name in one database.  Counting takes
 * the lightweight lock in shared mode and adds atomically; an entry is made, or
 * freed, with the lock held exclusively.  Nothing raises an error, allocates or
 * waits under it.
 *
 * The table has a fixed size.  A kind has at most 48 names in a database; further
 * ones are counted under "(others)", as are names for which the table has no room.
 * If there is no room for that either, only "lost" is counted.
 *
 * The table survives a clean restart: as cumulative statistics of the server
 * (counters_kind.c) or, before PostgreSQL 18, in a file (counters_file.c).
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "base/base.h"
#include "server/counters.h"
#include "server/internal.h"

#define NAME		  "stripe_sync counters"
#define MAGIC		  0x53434f31 /* changes with the layout of CounterData */
#define MOST_NAMES	  48		 /* of a kind in a database */
#define KEPT_FOR_REST 128		 /* entries that only "(others)" may take */

typedef struct CounterTable
{
	LWLock *lock;
	bool is_checked;
	CounterData *data;
	CounterData own; /* unless the server's statistics hold it */
} CounterTable;

static CounterTable *table = NULL;
static bool is_kind = false; /* the server's statistics hold the data */
static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;

const double receive_bounds[RECEIVE_BUCKETS] = {
	0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5};

/* The outcomes of each kind, by slot */
static const char *const outcomes[COUNTER_KINDS][COUNTER_SLOTS] = {
	[COUNT_EVENTS] = {"applied", "duplicate", "stale", "ignored", "failed",
					  "refused", "error", "reconciled"},
	[COUNT_RETRIES] = {"succeeded", "failed", "dead"},
	[COUNT_HANDLERS] = {"succeeded", "failed"},
	[COUNT_ALERTS] = {"opened", "closed"},
	[COUNT_MESSAGES] = {"queued", "sent", "retry", "message_bad",
						"destination_dead", "credential_dead", "lost"},
	[COUNT_API] = {"ok", "again", "later", "refused", "gone", "key_bad",
				   "forbidden", "too_large"},
	[COUNT_JOBS] = {"created", "done", "failed", "cancelled"},
	[COUNT_DOCTOR] = {"run"},
	[COUNT_RESET] = {"reset"}};

const char *
counter_outcome(CounterKind kind, int slot)
{
	return outcomes[kind][slot];
}

/* The slot of an outcome, -1 if there is none of that name. */
int
counter_slot(CounterKind kind, const char *what)
{
	for (int i = 0; i < COUNTER_SLOTS && outcomes[kind][i] != NULL; i++)
		if (strcmp(outcomes[kind][i], what) == 0)
			return i;
	return -1;
}

bool
counters_shared(void)
{
	return table != NULL;
}

/* ---- the data, and its lock ---- */

static uint32
entry_hash(Oid database, CounterKind kind, const char *name)
{
	return hash_combine(hash_bytes((const unsigned char *) name, strlen(name)),
						hash_bytes_uint32(database) + (uint32) kind);
}

static void
clear_data(CounterData *data, TimestampTz since)
{
	memset(data, 0, sizeof(*data));
	data->magic = MAGIC;
	data->since = since;
	pg_atomic_init_u64(&data->lost, 0);
}

/*
 * Check what was read from a file, and compute the hashes anew.  Returns false
 * if another layout, or no such data, was read.
 */
bool
counters_repair(CounterData *data)
{
	if (data->magic != MAGIC || data->used < 0 || data->used > COUNTER_ENTRIES)
		return false;
	for (int i = 0; i < data->used; i++)
	{
		CounterEntry *entry = &data->entries[i];

		if (entry->kind < 0 || entry->kind >= COUNTER_KINDS ||
			memchr(entry->name, '\0', sizeof(entry->name)) == NULL)
			return false;
		entry->hash = entry_hash(entry->database, entry->kind, entry->name);
	}
	return true;
}

/*
 * Once after the start: what the server has restored may be of another version
 * of the extension, or nothing.
 */
static void
check_data(void)
{
	bool ignored = false;

	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	if (!table->is_checked && !counters_repair(table->data))
	{
		ignored = table->data->magic != 0;
		clear_data(table->data, GetCurrentTimestamp());
	}
	table->is_checked = true;
	LWLockRelease(table->lock);
	if (ignored)
		ereport(
			LOG,
			(errmsg(
				"ignoring the counters of stripe_sync that were restored: they are damaged or of another version")));
}

static void
table_lock(LWLockMode mode)
{
	if (!table->is_checked)
		check_data();
	LWLockAcquire(table->lock, mode);
}

static void
table_unlock(void)
{
	LWLockRelease(table->lock);
}

/* ---- entries, under the lock ---- */

static CounterEntry *
entry_find(CounterKind kind, const char *name, uint64 prepared)
{
	CounterData *data = table->data;
	uint32 hash = entry_hash(MyDatabaseId, kind, name);

	for (int i = 0; i < data->used; i++)
	{
		CounterEntry *entry = &data->entries[i];

		if (entry->hash == hash && entry->database == MyDatabaseId &&
			entry->kind == (int32) kind && entry->prepared == prepared &&
			strcmp(entry->name, name) == 0)
			return entry;
	}
	return NULL;
}

static int
count_names(CounterKind kind)
{
	int count = 0;

	for (int i = 0; i < table->data->used; i++)
		count += table->data->entries[i].database == MyDatabaseId &&
				 table->data->entries[i].kind == (int32) kind &&
				 table->data->entries[i].prepared == 0;
	return count;
}

/* A free entry among the first "limit", or NULL */
static CounterEntry *
entry_free(int limit)
{
	CounterData *data = table->data;

	for (int i = 0; i < data->used && i < limit; i++)
		if (!OidIsValid(data->entries[i].database))
			return &data->entries[i];
	return data->used < limit ? &data->entries[data->used++] : NULL;
}

static CounterEntry *
entry_make(CounterKind kind, const char *name, uint64 prepared)
{
	bool is_rest = strcmp(name, COUNTER_OTHERS) == 0;
	CounterEntry *entry = NULL;

	if (is_rest || name[0] == '\0' || prepared != 0 ||
		count_names(kind) < MOST_NAMES)
		entry = entry_free(is_rest ? COUNTER_ENTRIES
								   : COUNTER_ENTRIES - KEPT_FOR_REST);
	if (entry == NULL)
		return NULL;
	memset(entry, 0, sizeof(*entry));
	entry->database = MyDatabaseId;
	entry->hash = entry_hash(MyDatabaseId, kind, name);
	entry->prepared = prepared;
	entry->kind = kind;
	strlcpy(entry->name, name, sizeof(entry->name));
	for (int i = 0; i < COUNTER_SLOTS; i++)
		pg_atomic_init_u64(&entry->counts[i], 0);
	return entry;
}

static CounterEntry *
entry_find_or_make(CounterKind kind, const char *name, uint64 prepared)
{
	CounterEntry *entry = entry_find(kind, name, prepared);

	if (entry == NULL)
		entry = entry_make(kind, name, prepared);
	if (entry == NULL)
		entry = entry_find(kind, COUNTER_OTHERS, prepared);
	return entry != NULL ? entry : entry_make(kind, COUNTER_OTHERS, prepared);
}

static void
entry_add(CounterEntry *entry, const uint64 *counts)
{
	for (int i = 0; i < COUNTER_SLOTS; i++)
		if (counts[i] != 0)
			(void) pg_atomic_fetch_add_u64(&entry->counts[i], (int64) counts[i]);
}

static void
entry_read(CounterEntry *entry, uint64 *counts)
{
	for (int i = 0; i < COUNTER_SLOTS; i++)
		counts[i] = pg_atomic_read_u64(&entry->counts[i]);
}

/* Free the entries of a database, but not those of prepared transactions. */
static void
free_counts(Oid database, bool also_prepared)
{
	for (int i = 0; i < table->data->used; i++)
	{
		CounterEntry *entry = &table->data->entries[i];

		if (entry->database == database &&
			(also_prepared || entry->prepared == 0))
			entry->database = InvalidOid;
	}
}

/* A reset: nothing is left but when it was. */
static void
reset_counts(void)
{
	CounterEntry *entry;

	free_counts(MyDatabaseId, false);
	entry = entry_find_or_make(COUNT_RESET, "", 0);
	if (entry != NULL)
		pg_atomic_write_u64(&entry->counts[0], (uint64) GetCurrentTimestamp());
}

/* With the lock held exclusively */
static void
apply_locked(CounterKind kind, const char *name, uint64 prepared,
			 const uint64 *counts)
{
	CounterEntry *entry;

	if (kind == COUNT_RESET && prepared == 0)
	{
		reset_counts();
		return;
	}
	entry = entry_find_or_make(kind, name, prepared);
	if (entry != NULL)
		entry_add(entry, counts);
	else
		(void) pg_atomic_fetch_add_u64(&table->data->lost, 1);
}

/* ---- counting ---- */

/*
 * Add to the counts of a kind and name; "prepared" is 0, or names the prepared
 * transaction to which they belong until it is over.
 */
void
counters_apply(CounterKind kind, const char *name, uint64 prepared,
			   const uint64 *counts)
{
	CounterEntry *entry = NULL;

	table_lock(LW_SHARED);
	if (kind != COUNT_RESET)
		entry = entry_find(kind, name, prepared);
	if (entry != NULL)
		entry_add(entry, counts);
	table_unlock();
	if (entry != NULL)
		return;
	table_lock(LW_EXCLUSIVE);
	apply_locked(kind, name, prepared, counts);
	table_unlock();
}

/* The prepared transaction has ended: add its counts, or drop them. */
void
counters_prepared_apply(uint64 prepared, bool commit)
{
	table_lock(LW_EXCLUSIVE);
	for (int i = 0; i < table->data->used; i++)
	{
		CounterEntry *entry = &table->data->entries[i];
		uint64 counts[COUNTER_SLOTS];
		char name[NAMEDATALEN];

		if (entry->database != MyDatabaseId || entry->prepared != prepared)
			continue;
		entry_read(entry, counts);
		strlcpy(name, entry->name, sizeof(name));
		entry->database = InvalidOid; /* may be used for the next */
		if (commit)
			apply_locked(entry->kind, name, 0, counts);
	}
	table_unlock();
}

/* The database, or its extension, has been dropped. */
void
counters_forget(Oid database)
{
	if (table == NULL)
		return;
	table_lock(LW_EXCLUSIVE);
	free_counts(database, true);
	table_unlock();
}

/* ---- reading ---- */

static bool
is_shown(const CounterEntry *entry)
{
	return entry->database == MyDatabaseId && entry->prepared == 0 &&
		   entry->kind != COUNT_RESET;
}

/* The counters of this database, in no order, in the current memory context */
CounterRow *
counters_read(int *nrows)
{
	CounterRow *rows = palloc(COUNTER_ENTRIES * sizeof(CounterRow));
	int n = 0;

	table_lock(LW_SHARED);
	for (int i = 0; i < table->data->used; i++)
	{
		CounterEntry *entry = &table->data->entries[i];

		if (!is_shown(entry))
			continue;
		rows[n].kind = entry->kind;
		strlcpy(rows[n].name, entry->name, sizeof(rows[n].name));
		entry_read(entry, rows[n++].counts);
	}
	table_unlock();
	*nrows = n;
	return rows;
}

/* Since when this database's counters count */
TimestampTz
counters_since(void)
{
	CounterEntry *reset;
	TimestampTz since;

	table_lock(LW_SHARED);
	reset = entry_find(COUNT_RESET, "", 0);
	since = reset != NULL ? (TimestampTz) pg_atomic_read_u64(&reset->counts[0])
						  : table->data->since;
	table_unlock();
	return since;
}

uint64
counters_lost(void)
{
	uint64 lost;

	table_lock(LW_SHARED);
	lost = pg_atomic_read_u64(&table->data->lost);
	table_unlock();
	return lost;
}

/* ---- the whole of it, for a restart ---- */

void
counters_copy_all(CounterData *copy)
{
	table_lock(LW_SHARED);
	memcpy(copy, table->data, sizeof(*copy));
	table_unlock();
}

void
counters_clear_all(TimestampTz since)
{
	table_lock(LW_EXCLUSIVE);
	clear_data(table->data, since);
	table_unlock();
}

/* ---- start-up ---- */

static Size
table_size(void)
{
	return is_kind ? offsetof(CounterTable, own) : sizeof(CounterTable);
}

static void
counters_request(void)
{
	if (previous_request)
		previous_request();
	RequestAddinShmemSpace(table_size());
	RequestNamedLWLockTranche(NAME, 1);
}

/* In the postmaster, at its exit */
static void
counters_save(int code, Datum arg)
{
	if (code == 0)
		counters_file_save();
}

static void
counters_startup(void)
{
	bool found;

	if (previous_startup)
		previous_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	table = ShmemInitStruct(NAME, table_size(), &found);
	if (!found)
	{
		table->lock = &GetNamedLWLockTranche(NAME)->lock;
		table->is_checked = false;
		table->data = is_kind ? counters_kind_data() : &table->own;
	}
	LWLockRelease(AddinShmemInitLock);
	if (found || is_kind)
		return;
	counters_file_load(table->data);
	if (!IsUnderPostmaster)
		on_shmem_exit(counters_save, (Datum) 0);
}

void
counters_init(void)
{
	is_kind = counters_kind_register();
	previous_request = shmem_request_hook;
	shmem_request_hook = counters_request;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = counters_startup;
	counters_pending_init();
}
