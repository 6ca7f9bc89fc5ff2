/* ---- Privileges ---- */

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA stripe_sync FROM PUBLIC;
REVOKE ALL ON ALL PROCEDURES IN SCHEMA stripe_sync FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA stripe_sync FROM PUBLIC;
GRANT USAGE ON SCHEMA stripe_sync TO PUBLIC;
GRANT EXECUTE ON FUNCTION
	stripe_sync.verify_signature(bytea, text, text, interval, timestamptz),
	stripe_sync.verify_signature(text, text, text, interval, timestamptz),
	stripe_sync.sign(bytea, text, timestamptz),
	stripe_sync.sign(text, text, timestamptz),
	stripe_sync.verify_slack_signature(bytea, text, text, text, timestamptz),
	stripe_sync.verify_slack_signature(text, text, text, text, timestamptz)
	TO PUBLIC;

-- Functions and tables granted to each grade of roles.
CREATE VIEW stripe_sync.grade AS
SELECT g.grade, g.what
  FROM (VALUES
@grades@
  ) AS g (grade, what);
-- grade: read
COMMENT ON VIEW stripe_sync.grade IS 'Privileges granted by grant_ingest(), grant_read(), and grant_admin()';
COMMENT ON COLUMN stripe_sync.grade.grade IS 'ingest, read, or admin; grant_admin() grants read as well';
COMMENT ON COLUMN stripe_sync.grade.what IS 'Function or table that is granted';

-- These functions execute statements that contain names, so only the owner of the
-- extension may call them, through the functions of grant.c, which check first that
-- schema stripe_sync is the extension's.
CREATE FUNCTION stripe_sync.grant_grade(wanted text, grantee text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	entry text;
BEGIN
	FOR entry IN SELECT what FROM stripe_sync.grade WHERE grade = wanted LOOP
		EXECUTE format('GRANT %s ON %s TO %s',
			CASE WHEN entry LIKE 'TABLE %' THEN 'SELECT' ELSE 'EXECUTE' END, entry, grantee);
	END LOOP;
	EXECUTE format('GRANT USAGE ON SCHEMA stripe_sync TO %s', grantee);
END $$;
COMMENT ON FUNCTION stripe_sync.grant_grade(text, text) IS 'Internal: grants the privileges of one grade';

-- Roles that may read the mirror, including tables created later: those with SELECT
-- on the inbox or on mirror_table.table_name.  Unlike a table of role names, a
-- grant follows its role through ALTER ROLE RENAME, pg_dump, and DROP ROLE.
CREATE VIEW stripe_sync.mirror_reader AS
	SELECT a.grantee AS reader
	  FROM pg_catalog.pg_class AS c, pg_catalog.aclexplode(c.relacl) AS a
	 WHERE c.oid OPERATOR(pg_catalog.=) 'stripe_sync.event'::pg_catalog.regclass
	   AND a.privilege_type OPERATOR(pg_catalog.=) 'SELECT'
	   AND a.grantee OPERATOR(pg_catalog.<>) c.relowner AND a.grantee OPERATOR(pg_catalog.<>) 0
	UNION
	SELECT a.grantee
	  FROM pg_catalog.pg_attribute AS t, pg_catalog.aclexplode(t.attacl) AS a
	 WHERE t.attrelid OPERATOR(pg_catalog.=) 'stripe_sync.mirror_table'::pg_catalog.regclass
	   AND t.attname OPERATOR(pg_catalog.=) 'table_name'
	   AND a.privilege_type OPERATOR(pg_catalog.=) 'SELECT'
	   AND a.grantee OPERATOR(pg_catalog.<>) 0;
COMMENT ON VIEW stripe_sync.mirror_reader IS 'Internal: roles that may read the tables of the mirror';

CREATE FUNCTION stripe_sync.mark_mirror_reader(grantee text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	EXECUTE format('GRANT SELECT (table_name) ON stripe_sync.mirror_table TO %s', grantee);
END $$;
COMMENT ON FUNCTION stripe_sync.mark_mirror_reader(text) IS 'Internal: adds a role to mirror_reader';

-- Existing tables of the mirror, and whether we may grant privileges on them: an owner
-- of the extension who is not a superuser may not if another role owns them.  Other
-- tables of the same names, as in another tool's schema "stripe", are left out.
CREATE FUNCTION stripe_sync.mirror_tables(OUT name text, OUT relid oid, OUT ours boolean) RETURNS SETOF record
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT m.table_name, c.oid, pg_has_role(c.relowner, 'USAGE') AND (
			pg_has_role(n.nspowner, 'USAGE') OR has_schema_privilege(n.oid, 'USAGE'))
	  FROM stripe_sync.mirror_table m JOIN pg_class c ON c.relname = m.table_name
	  JOIN pg_namespace n ON n.oid = c.relnamespace
	 WHERE n.nspname = 'stripe' AND c.relkind IN ('r', 'p')
	   AND 6 = (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid
				   AND a.attname IN ('_data', '_account', '_deleted_at', '_event_id', '_as_of', '_synced_at'))
$$;
COMMENT ON FUNCTION stripe_sync.mirror_tables() IS 'Internal: tables of the mirror on which privileges are granted';

-- The owner of each table is the grantor, so that the owner can revoke the privilege.
CREATE FUNCTION stripe_sync.grant_mirror_tables() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	reader oid;
	grantee oid;
	mirror oid := to_regnamespace('stripe');
	what text;
	ours boolean;
	lacking boolean;
BEGIN
	IF mirror IS NULL THEN
		RETURN;
	END IF;
	FOR reader, grantee IN
		-- what the database's owner already has need not be granted to pg_database_owner
		SELECT r.reader, CASE WHEN r.reader = 'pg_database_owner'::regrole THEN d.datdba ELSE r.reader END
		  FROM stripe_sync.mirror_reader r, pg_database d WHERE d.datname = current_database()
	LOOP
		lacking := false;
		FOR what, ours IN
			-- a privilege held through another role can be revoked from that role
			SELECT 'USAGE ON SCHEMA stripe', pg_has_role(n.nspowner, 'USAGE') FROM pg_namespace n
			 WHERE n.oid = mirror AND n.nspowner <> grantee
			   AND NOT EXISTS (SELECT FROM aclexplode(n.nspacl) a WHERE a.grantee = reader AND a.privilege_type = 'USAGE')
			   AND NOT (has_schema_privilege(grantee, mirror, 'USAGE') AND (reader <> grantee OR NOT pg_has_role(n.nspowner, 'USAGE')))
			UNION ALL
			SELECT format('SELECT ON stripe.%I', m.name), m.ours FROM stripe_sync.mirror_tables() m JOIN pg_class c ON c.oid = m.relid
			 WHERE c.relowner <> grantee
			   AND NOT EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee = reader AND a.privilege_type = 'SELECT')
			   AND NOT (has_table_privilege(grantee, c.oid, 'SELECT') AND (reader <> grantee OR NOT m.ours))
		LOOP
			IF ours THEN
				EXECUTE format('GRANT %s TO %s', what, reader::regrole);
			END IF;
			lacking := lacking OR NOT ours;
		END LOOP;
		IF lacking THEN
			RAISE WARNING 'role % may not read all of the mirror, which does not belong to the owner of stripe_sync', reader::regrole
				USING HINT = format('Let the owner of schema stripe and its tables run GRANT USAGE ON SCHEMA stripe TO %s; GRANT SELECT ON ALL TABLES IN SCHEMA stripe TO %1$s;', reader::regrole);
		END IF;
	END LOOP;
END $$;
COMMENT ON FUNCTION stripe_sync.grant_mirror_tables() IS 'Internal: grants SELECT on all tables of the mirror to the roles in mirror_reader';

CREATE FUNCTION stripe_sync.revoke_grades(grantee regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	entry text;
	name text;
	mirror oid := to_regnamespace('stripe');
BEGIN
	FOR entry IN SELECT what FROM stripe_sync.grade LOOP
		EXECUTE format('REVOKE %s ON %s FROM %s',
			CASE WHEN entry LIKE 'TABLE %' THEN 'SELECT' ELSE 'EXECUTE' END, entry, grantee);
	END LOOP;
	EXECUTE format('REVOKE SELECT (table_name) ON stripe_sync.mirror_table FROM %s', grantee);
	EXECUTE format('REVOKE USAGE ON SCHEMA stripe_sync FROM %s', grantee);
	-- privileges on the role's own tables, and those granted by other owners, are kept
	FOR name IN
		SELECT m.name FROM stripe_sync.mirror_tables() m, pg_class c
		 WHERE c.oid = m.relid AND c.relowner <> grantee AND m.ours
	LOOP
		EXECUTE format('REVOKE SELECT ON stripe.%I FROM %s', name, grantee);
	END LOOP;
	IF EXISTS (SELECT FROM pg_namespace n WHERE n.oid = mirror AND n.nspowner <> grantee AND pg_has_role(n.nspowner, 'USAGE'))
		AND NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = mirror AND relowner = grantee)
	THEN
		EXECUTE format('REVOKE USAGE ON SCHEMA stripe FROM %s', grantee);
	END IF;
	IF EXISTS (SELECT FROM stripe_sync.mirror_tables() m WHERE NOT m.ours AND has_table_privilege(grantee, m.relid, 'SELECT')) THEN
		RAISE WARNING 'role % may still read tables of the mirror, which do not belong to the owner of stripe_sync', grantee
			USING HINT = format('Let their owner run REVOKE SELECT ON ALL TABLES IN SCHEMA stripe FROM %s;', grantee);
	END IF;
END $$;
COMMENT ON FUNCTION stripe_sync.revoke_grades(regrole) IS 'Internal: revokes the privileges of all grades from a role';

CREATE FUNCTION stripe_sync.grant_ingest(role regrole) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_grant_ingest';
-- grade: admin
COMMENT ON FUNCTION stripe_sync.grant_ingest(regrole) IS
'Grants a role the functions receive, webhook, and notify. Intended for the application''s web server.';

CREATE FUNCTION stripe_sync.grant_mirror(role regrole) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_grant_mirror';
-- grade: admin
COMMENT ON FUNCTION stripe_sync.grant_mirror(regrole) IS
'Grants a role SELECT on the tables of schema stripe, including those that create_tables() will create, and nothing else. Intended for reports and for the application''s queries.';

CREATE FUNCTION stripe_sync.grant_read(role regrole) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_grant_read';
-- grade: admin
COMMENT ON FUNCTION stripe_sync.grant_read(regrole) IS
'Grants a role read access to the inbox including payloads, the outbox, the configuration, the mirror, and explain_event(). Secrets are not included. For the mirror only, use grant_mirror().';

CREATE FUNCTION stripe_sync.grant_admin(role regrole) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_grant_admin';
-- grade: admin
COMMENT ON FUNCTION stripe_sync.grant_admin(regrole) IS
'Grants a role the functions that configure endpoints, handlers, destinations, and alerts, that replay and simulate, and everything that grant_read() grants.';

CREATE FUNCTION stripe_sync.revoke_all(role regrole) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_revoke_all';
-- grade: admin
COMMENT ON FUNCTION stripe_sync.revoke_all(regrole) IS
'Revokes everything that grant_ingest(), grant_mirror(), grant_read(), and grant_admin() granted to a role, and stops its handlers, naming each in a NOTICE. Their outstanding runs wait until add_handler() registers them again.';

REVOKE ALL ON TABLE stripe_sync.mirror_reader FROM PUBLIC;
REVOKE ALL ON FUNCTION
	stripe_sync.grant_grade(text, text), stripe_sync.mark_mirror_reader(text), stripe_sync.grant_mirror_tables(), stripe_sync.mirror_tables(),
	stripe_sync.revoke_grades(regrole),
	stripe_sync.grant_ingest(regrole), stripe_sync.grant_mirror(regrole), stripe_sync.grant_read(regrole),
	stripe_sync.grant_admin(regrole), stripe_sync.revoke_all(regrole)
	FROM PUBLIC;

-- Default privileges of the installer may have granted more: only the grades grant
-- privileges on the extension's objects.
DO $$
DECLARE
	grantee pg_catalog.text;
BEGIN
	FOR grantee IN
		SELECT DISTINCT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee))
		  FROM (SELECT c.relowner, c.relacl FROM pg_catalog.pg_class AS c
				 WHERE c.relnamespace OPERATOR(pg_catalog.=) 'stripe_sync'::pg_catalog.regnamespace
				UNION ALL
				SELECT p.proowner, p.proacl FROM pg_catalog.pg_proc AS p
				 WHERE p.pronamespace OPERATOR(pg_catalog.=) 'stripe_sync'::pg_catalog.regnamespace) AS o (owner, acl),
			   pg_catalog.aclexplode(o.acl) AS a
		 WHERE a.grantee OPERATOR(pg_catalog.<>) o.owner AND a.grantee OPERATOR(pg_catalog.<>) 0
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON ALL TABLES IN SCHEMA stripe_sync FROM %s CASCADE', grantee);
		EXECUTE pg_catalog.format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA stripe_sync FROM %s CASCADE', grantee);
		EXECUTE pg_catalog.format('REVOKE ALL ON ALL ROUTINES IN SCHEMA stripe_sync FROM %s CASCADE', grantee);
	END LOOP;
END $$;

-- Tables of secrets and of state that is valid on one server only are not dumped.
@dumps@

-- The owner of the database can dump it: an owner who is not a superuser needs SELECT
-- on the dumped tables, and pg_dump fails without a hint otherwise.
DO $$
DECLARE
	dumped pg_catalog.regclass;
BEGIN
	FOR dumped IN SELECT pg_catalog.unnest(e.extconfig) FROM pg_catalog.pg_extension AS e
				   WHERE e.extname OPERATOR(pg_catalog.=) 'stripe_sync'
	LOOP
		EXECUTE pg_catalog.format('GRANT SELECT ON %s TO pg_database_owner', dumped);
	END LOOP;
END $$;
