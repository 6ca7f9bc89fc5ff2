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

-- CREATE EXTENSION uses a schema that already exists, and every restore creates it
-- first.  Its owner can rename it and create another one of that name, and any role
-- with CREATE on it can add objects to it.  So its owner must be a role whose
-- privileges the installer has, it must be empty, and privileges on it are revoked
-- from all other roles.
DO $$
DECLARE
	schema pg_catalog.oid;
	owner pg_catalog.oid;
	held pg_catalog.text;
	grantee pg_catalog.text;
BEGIN
	SELECT n.oid, n.nspowner INTO STRICT schema, owner
	  FROM pg_catalog.pg_namespace AS n WHERE n.nspname OPERATOR(pg_catalog.=) 'stripe_sync';
	IF NOT pg_catalog.pg_has_role(owner, CURRENT_USER, 'USAGE') THEN
		RAISE EXCEPTION 'schema "stripe_sync" belongs to role "%"', pg_catalog.pg_get_userbyid(owner)
			USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = 'The owner could put other objects in the place of the extension''s.',
				HINT = 'Run DROP SCHEMA stripe_sync, or ALTER SCHEMA stripe_sync RENAME TO stripe_sync_other, or ALTER SCHEMA stripe_sync OWNER TO CURRENT_USER when it is empty; then CREATE EXTENSION again.';
	END IF;
	FOR grantee IN
		SELECT DISTINCT CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
							ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END
		  FROM pg_catalog.pg_namespace AS n, pg_catalog.aclexplode(n.nspacl) AS a
		 WHERE n.oid OPERATOR(pg_catalog.=) schema AND a.grantee OPERATOR(pg_catalog.<>) owner
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON SCHEMA stripe_sync FROM %s CASCADE', grantee);
	END LOOP;
	-- relations, types, functions, operators, default privileges, ...; all but
	-- the extension itself
	SELECT pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) INTO held
	  FROM pg_catalog.pg_depend AS d
	 WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
	   AND d.refobjid OPERATOR(pg_catalog.=) schema
	   AND NOT EXISTS (SELECT FROM pg_catalog.pg_extension AS e
						WHERE e.extname OPERATOR(pg_catalog.=) 'stripe_sync'
						  AND e.oid OPERATOR(pg_catalog.=) d.objid
						  AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass)
	 LIMIT 1;
	IF held IS NOT NULL THEN
		RAISE EXCEPTION 'schema "stripe_sync" is not empty'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = pg_catalog.format('It belongs to role "%s" and holds %s.', pg_catalog.pg_get_userbyid(owner), held),
				HINT = 'Run ALTER SCHEMA stripe_sync RENAME TO stripe_sync_other, and CREATE EXTENSION again.';
	END IF;
END $$;

-- Functions are executable by PUBLIC when they are created: 90_grants.sql revokes
-- that from all but those that every role may call.

/* ---- Catalog level ---- */

CREATE FUNCTION stripe_sync.config_changed() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'stripe_sync_config_changed';
COMMENT ON FUNCTION stripe_sync.config_changed() IS
'Internal trigger function: invalidates the configuration cached by every session';

-- level.c compares this with CATALOG_LEVEL in stripe_sync.h.  An upgrade script
-- that changes the catalog updates it.  The table itself must never change, since
-- libraries of all versions read it.  It is not dumped: a restore creates the
-- objects of the script that is installed there, with that script's level.
CREATE TABLE stripe_sync.catalog_level (
	-- a primary key, so that the table can be in a publication FOR ALL TABLES
	level	integer PRIMARY KEY
);

-- grade: read
COMMENT ON TABLE stripe_sync.catalog_level IS 'Level of the SQL objects that CREATE EXTENSION and ALTER EXTENSION UPDATE created; the library works only with the level it was built for';
COMMENT ON COLUMN stripe_sync.catalog_level.level IS 'Level of the SQL objects';
INSERT INTO stripe_sync.catalog_level VALUES (1);
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON stripe_sync.catalog_level
	FOR EACH STATEMENT EXECUTE FUNCTION stripe_sync.config_changed();

-- even if the upgrade script runs with session_replication_role = replica
ALTER TABLE stripe_sync.catalog_level ENABLE ALWAYS TRIGGER config_changed;
