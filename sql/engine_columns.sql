-- Columns that the C code reads or writes by their place.  Who changes a table
-- here changes the enum or the reader in the file that is named, too.
\set tables {}
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
\pset format unaligned
SELECT c.relname AS "table", t.file,
	(SELECT string_agg(format('%s %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)
	   FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum BETWEEN 1 AND t.known) AS known
  FROM (VALUES
	('event', 22, 'inbox/event_store.c, inbox/inbox_table.c'),
	('endpoint', 6, 'inbox/endpoint.c'),
	('endpoint_secret', 4, 'inbox/endpoint_secret.c, receive/matching_secret.c'),
	('handler_run', 4, 'inbox/handler_run.c'),
	('handler', 9, 'handler/handler.c'),
	('alert', 13, 'alert/alert_rule.c'),
	('destination', 8, 'outbox/destination.c'),
	('destination_secret', 2, 'outbox/destination.c'),
	('slack_app_secret', 3, 'slack_in/app.c'),
	('interaction_secret', 3, 'slack_in/interaction.c, slack_calls/slack_call_claim.c'),
	('api_key', 2, 'stripe/api_key.c'),
	('mirror_table', 7, 'tables/table_note.c'),
	('refusal_record', 7, 'receive/refused_write.c'),
	('identity', 3, 'server/outbound.c'),
	('pause', 1, 'server/outbound.c'),
	('catalog_level', 1, 'engine/level.c')) AS t (name, known, file)
  JOIN pg_class c ON c.relname = t.name AND c.relnamespace = 'stripe_sync'::regnamespace
 ORDER BY 1;
