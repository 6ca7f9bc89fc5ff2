/*
 * keys.c
 *		Items: primary and unique keys that were dropped, and invalid indexes.
 *
 * Without its keys a table takes the same event, message or object twice, or an
 * event fails.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "postgres_items/internal.h"
#include "engine/array_argument.h"
#include "engine/rights.h"
#include "types/types.h"

/* A unique index of the extension's own tables, and what makes it again */
typedef struct OwnKey
{
	const char *index;
	const char *table;
	const char *columns;
	const char *condition; /* NULL: a primary key; "": a unique index without */
} OwnKey;

static const OwnKey own_keys[] = {
	{"alert_pkey", "alert", "name", NULL},
	{"alerted_pkey", "alerted", "event_id, account, alert", NULL},
	{"api_call_pkey", "api_call", "id", NULL},
	{"api_key_pkey", "api_key", "account", NULL},
	{"backup_note_pkey", "backup_note", "at, what", NULL},
	{"catalog_level_pkey", "catalog_level", "level", NULL},
	{"change_pkey", "change", "object_id, object_type, account, n", NULL},
	{"customer_route_pkey", "customer_route", "customer", NULL},
	{"delivery_pkey", "delivery", "id", NULL},
	{"destination_pace_pkey", "destination_pace", "destination", NULL},
	{"destination_pkey", "destination", "name", NULL},
	{"destination_secret_pkey", "destination_secret", "destination", NULL},
	{"emitted_key_idx", "emitted", "key", "key IS NOT NULL"},
	{"emitted_pkey", "emitted", "id", NULL},
	{"endpoint_pkey", "endpoint", "name", NULL},
	{"endpoint_secret_pkey", "endpoint_secret", "endpoint, number", NULL},
	{"endpoint_watch_pkey", "endpoint_watch", "one", NULL},
	{"event_error_key_idx", "event_error",
	 "event_id, account, step, sqlstate, pg_catalog.hashtextextended(message, 0)",
	 ""},
	{"event_error_pkey", "event_error", "id", NULL},
	{"event_pkey", "event", "id, account", NULL},
	{"finding_mute_pkey", "finding_mute", "key", NULL},
	{"finding_pkey", "finding", "key", NULL},
	{"forgotten_pkey", "forgotten", "object_type", NULL},
	{"former_reading_pkey", "former_reading",
	 "object_id, object_type, account, as_of", NULL},
	{"handler_pkey", "handler", "name", NULL},
	{"handler_run_pkey", "handler_run", "event_id, account", NULL},
	{"identity_pkey", "identity", "system_identifier, database", NULL},
	{"incident_open_idx", "incident_record", "alert, group_key, account",
	 "state = 'open' AND kind = 'single'"},
	{"incident_record_pkey", "incident_record", "id", NULL},
	{"incident_step_pkey", "incident_step", "id", NULL},
	{"interaction_key_idx", "interaction", "app, key", ""},
	{"interaction_pkey", "interaction", "id", NULL},
	{"interaction_secret_pkey", "interaction_secret", "interaction", NULL},
	{"job_part_list_idx", "job_part", "job, account, kind, list_path",
	 "list_path IS NOT NULL"},
	{"job_part_object_idx", "job_part", "object_type, object_id, account",
	 "kind = 'object' AND state = 'waiting' AND attempts = 0"},
	{"job_part_pkey", "job_part", "job, part", NULL},
	{"job_record_backfill_idx", "job_record", "pg_catalog.md5(arguments::text)",
	 "kind = 'backfill' AND state IN ('waiting', 'running')"},
	{"job_record_endpoint_idx", "job_record",
	 "pg_catalog.md5(arguments ->> 'url')",
	 "kind = 'create_webhook_endpoint' AND state IN ('waiting', 'running')"},
	{"job_record_pkey", "job_record", "id", NULL},
	{"job_record_reconcile_idx", "job_record", "kind",
	 "kind = 'reconcile' AND state IN ('waiting', 'running')"},
	{"journal_pkey", "journal", "id", NULL},
	{"message_change_idx", "message", "incident, method",
	 "state = 'waiting' AND attempts = 0 AND key IS NULL"
	 " AND method IN ('update', 'summary')"},
	{"message_key_idx", "message", "key", "key IS NOT NULL"},
	{"message_pkey", "message", "id", NULL},
	{"mirror_table_pkey", "mirror_table", "table_name", NULL},
	{"pause_pkey", "pause", "what", NULL},
	{"pulse_pkey", "pulse", "endpoint, day", NULL},
	{"quiet_hours_pkey", "quiet_hours", "destination, days, from_time, to_time",
	 NULL},
	{"reading_pkey", "reading", "object_id, object_type, account", NULL},
	{"reconcile_schedule_pkey", "reconcile_schedule", "one", NULL},
	{"refusal_record_pkey", "refusal_record", "endpoint, code", NULL},
	{"refusal_watch_pkey", "refusal_watch", "endpoint", NULL},
	{"reread_pkey", "reread", "object_type, object_id, account", NULL},
	{"silence_pkey", "silence", "endpoint", NULL},
	{"slack_action_pkey", "slack_action", "action_id", NULL},
	{"slack_app_pkey", "slack_app", "name", NULL},
	{"slack_app_secret_pkey", "slack_app_secret", "app", NULL},
	{"slack_call_pkey", "slack_call", "id", NULL},
	{"slack_command_pkey", "slack_command", "command", NULL},
	{"slack_group_member_pkey", "slack_group_member",
	 "slack_user, slack_group, app", NULL},
	{"slack_group_pkey", "slack_group", "slack_group, app", NULL},
	{"slack_user_pkey", "slack_user", "slack_user", NULL},
	{"watched_endpoint_pkey", "watched_endpoint", "id, account", NULL},
	{"watermark_pkey", "watermark", "account", NULL},
	{"webhook_type_pkey", "webhook_type", "type", NULL},
};

static char *
own_key_ddl(const OwnKey *key)
{
	if (key->condition == NULL)
		return psprintf(
			"ALTER TABLE stripe_sync.%s ADD CONSTRAINT %s PRIMARY KEY (%s)",
			key->table, key->index, key->columns);
	return psprintf("CREATE UNIQUE INDEX %s ON stripe_sync.%s (%s)%s%s",
					key->index, key->table, key->columns,
					key->condition[0] != '\0' ? " WHERE " : "", key->condition);
}

/* The table, and the DDL, of one that is missing.  Returns how many are. */
static int64
find_missing_own(char **table, char **ddl)
{
	static EngineStatement select = {
		"SELECT w.tab, w.ddl, pg_catalog.count(*) OVER ()"
		"  FROM unnest($1, $2, $3) AS w (index, tab, ddl)"
		" WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_index i"
		"   JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid"
		"   JOIN pg_catalog.pg_class t ON t.oid = i.indrelid"
		"   JOIN pg_catalog.pg_extension x ON x.extnamespace = t.relnamespace"
		"  WHERE x.extname = 'stripe_sync' AND t.relname = w.tab"
		"    AND i.indisunique AND i.indisvalid AND (c.relname = w.index"
		"     OR (i.indisprimary AND w.ddl LIKE '%PRIMARY KEY%')))"
		" ORDER BY w.index LIMIT 1"};
	ArgColumns columns = {0};
	int64 found = 0;
	Rows rows;

	for (int i = 0; i < lengthof(own_keys); i++)
		columns_add(&columns, ARGS(arg_text(own_keys[i].index),
								   arg_text(own_keys[i].table),
								   arg_text(own_key_ddl(&own_keys[i]))));
	rows_open(&rows, &select, COLUMN_ARGS(&columns));
	if (rows_next(&rows))
	{
		*table = psprintf("%s.%s", ENGINE_SCHEMA, rows_text(&rows));
		*ddl = rows_text(&rows);
		found = rows_int8(&rows, 0);
	}
	rows_close(&rows);
	return found;
}

/* The same for tables of the mirror, whose key is the catalog's. */
static int64
find_missing_mirror(char **table, char **ddl)
{
	static EngineStatement select = {
		"SELECT m.name, w.key, pg_catalog.count(*) OVER ()"
		"  FROM unnest($1, $2) AS w (tab, key)"
		"  JOIN stripe_sync.mirror_tables() m ON m.name = w.tab"
		" WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_index i"
		"  WHERE i.indrelid = m.relid AND i.indisunique AND i.indisvalid"
		"    AND i.indpred IS NULL AND (SELECT"
		"     pg_catalog.array_agg(a.attname::text ORDER BY a.attname::text)"
		"     FROM pg_catalog.pg_attribute a WHERE a.attrelid = m.relid"
		"     AND a.attnum = ANY (i.indkey)) ="
		"    CASE WHEN w.key = '' THEN ARRAY['_account'] ELSE ARRAY['_account', w.key] END)"
		" ORDER BY m.name LIMIT 1"};
	ArgColumns columns = {0};
	int64 found = 0;
	Rows rows;

	for (int i = 0; i < catalog_ntypes; i++)
		if (catalog_types[i].table != NULL && catalog_types[i].key != NULL)
			columns_add(&columns, ARGS(arg_text(catalog_types[i].table),
									   arg_text(catalog_types[i].key)));
	rows_open(&rows, &select, COLUMN_ARGS(&columns));
	if (rows_next(&rows))
	{
		const char *name = rows_text(&rows);
		const char *key = rows_text(&rows);

		*table = psprintf("%s.%s", MIRROR_SCHEMA, quote_identifier(name));
		*ddl = psprintf("ALTER TABLE %s ADD PRIMARY KEY (%s%s_account)", *table,
						key[0] != '\0' ? quote_identifier(key) : "",
						key[0] != '\0' ? ", " : "");
		found = rows_int8(&rows, 0);
	}
	rows_close(&rows);
	return found;
}

void
look_at_keys(Finding *finding)
{
	char *table = NULL;
	char *ddl = NULL;
	int64 missing = find_missing_own(&table, &ddl);

	if (missing == 0)
		missing = find_missing_mirror(&table, &ddl);
	finding_figure(finding, (double) missing, "keys");
	if (missing == 0)
		finding_ok(finding, "every table has its primary and unique keys");
	else
	{
		finding_fail(
			finding,
			"%s lacks a key, so rows can be stored twice or events fail (" INT64_FORMAT
			" such)",
			table, missing);
		finding_hint(finding, "%s;", ddl);
	}
}

/* One that CREATE INDEX CONCURRENTLY is building now is not invalid yet. */
void
look_at_invalid_indexes(Finding *finding)
{
	static EngineStatement select = {
		"SELECT pg_catalog.format('%I.%I', n.nspname, c.relname),"
		"  c.relname ~ '_cc(new|old)[0-9]*$', pg_catalog.count(*) OVER ()"
		" FROM pg_catalog.pg_index i"
		" JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid"
		" JOIN pg_catalog.pg_class t ON t.oid = i.indrelid"
		" JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
		" WHERE NOT i.indisvalid AND t.relkind = 'r'"
		"  AND (i.indrelid IN (SELECT m.relid FROM stripe_sync.mirror_tables() m)"
		"   OR t.relnamespace = (SELECT x.extnamespace FROM pg_catalog.pg_extension x"
		"     WHERE x.extname = 'stripe_sync'))"
		"  AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p"
		"   WHERE p.index_relid = i.indexrelid OR p.relid = i.indrelid)"
		" ORDER BY 1 LIMIT 1"};
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		const char *name = rows_text(&rows);
		bool leftover = rows_bool(&rows, false);
		int64 count = rows_int8(&rows, 0);

		finding_figure(finding, (double) count, "indexes");
		finding_warn(
			finding,
			"index %s is invalid: it costs time at every write and is not used (" INT64_FORMAT
			" such)",
			name, count);
		finding_hint(finding,
					 leftover ? "DROP INDEX CONCURRENTLY %s;"
							  : "REINDEX INDEX CONCURRENTLY %s;",
					 name);
	}
	else
	{
		finding_figure(finding, 0, "indexes");
		finding_ok(finding, "all indexes are valid");
	}
	rows_close(&rows);
}
