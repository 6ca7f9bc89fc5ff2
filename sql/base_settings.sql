-- Settings: each has a bound, a unit and a sentence; all are the server's to set.
\set tables '{customer}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all

SELECT name, setting, unit, vartype, min_val, max_val, context, short_desc ~ '\.$' AS sentence FROM pg_settings WHERE name LIKE 'stripe\_sync.%' ORDER BY name COLLATE "C";
SELECT t.sqlstate('SET stripe_sync.max_payload = ''1TB''') AS too_much, t.sqlstate('SET stripe_sync.max_attempts = 0') AS too_little, t.sqlstate('SET stripe_sync.handler_timeout = -1') AS negative;
-- a misspelt one is an error
SELECT t.sqlstate('SET stripe_sync.max_payloads = 1') AS misspelt;
SET stripe_sync.handler_timeout = '1min';
SHOW stripe_sync.handler_timeout;
RESET stripe_sync.handler_timeout;
-- from 18 on, the server shows the module's name and version
SELECT current_setting('server_version_num')::int >= 180000 AS shows_modules \gset
\set shown true
\if :shows_modules
\set shown '(SELECT m.version = e.extversion FROM pg_get_loaded_modules() AS m JOIN pg_extension AS e ON e.extname = m.module_name WHERE m.module_name = ''stripe_sync'')'
\endif
SELECT :shown AS shown;
