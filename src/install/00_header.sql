/* stripe_sync: Stripe's events and objects, applied inside PostgreSQL */
\echo Use "CREATE EXTENSION stripe_sync" to load this file. \quit

DO $$
BEGIN
	IF pg_catalog.current_setting('server_encoding') <> 'UTF8' THEN
		RAISE EXCEPTION 'stripe_sync needs a database whose encoding is UTF8, this one is %',
			pg_catalog.current_setting('server_encoding')
			USING ERRCODE = 'feature_not_supported',
				HINT = 'CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0.';
	END IF;
END $$;

-- Functions come to be executable by PUBLIC: 90_grants.sql takes that away
-- again from all but the few that anybody may call.

/* ---- the catalog's level ---- */

CREATE FUNCTION stripe_sync.config_changed() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'stripe_sync_config_changed';
COMMENT ON FUNCTION stripe_sync.config_changed() IS 'Tells every session to read the set-up again';

-- What level.c compares with CATALOG_LEVEL in stripe_sync.h.  An upgrade script
-- that changes the catalog updates it.  The table itself must never change:
-- libraries of any age read it.  It is not dumped: a restore makes the catalog
-- anew, at the level of the script that does.
CREATE TABLE stripe_sync.catalog_level (
	-- a key, for where all tables are published
	level	integer PRIMARY KEY
);
COMMENT ON TABLE stripe_sync.catalog_level IS 'The level of what CREATE EXTENSION and ALTER EXTENSION UPDATE have made, which the library must fit';
INSERT INTO stripe_sync.catalog_level VALUES (1);
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON stripe_sync.catalog_level
	FOR EACH STATEMENT EXECUTE FUNCTION stripe_sync.config_changed();
-- whatever session_replication_role the upgrade script runs under
ALTER TABLE stripe_sync.catalog_level ENABLE ALWAYS TRIGGER config_changed;
