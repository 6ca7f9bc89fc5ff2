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
