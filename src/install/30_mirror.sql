/* ---- the mirror: tables in schema stripe, made by create_tables() ---- */

CREATE TABLE stripe_sync.mirror_table (
	table_name	text PRIMARY KEY,
	search_path	text NOT NULL
);
COMMENT ON TABLE stripe_sync.mirror_table IS
'Tables of schema stripe that create_tables() has made, and the search_path in force then';

CREATE FUNCTION stripe_sync.object_types(OUT object_type text, OUT table_name text, OUT key text,
	OUT api text, OUT list_path text, OUT retrieve_path text, OUT id_prefix text,
	OUT deletable boolean, OUT event_types text[], OUT fields jsonb) RETURNS SETOF record
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_object_types';
COMMENT ON FUNCTION stripe_sync.object_types() IS 'The catalog of Stripe''s object types that is compiled in';

CREATE FUNCTION stripe_sync.catalog_api_version() RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_api_version';
COMMENT ON FUNCTION stripe_sync.catalog_api_version() IS 'The version of Stripe''s API that the catalog describes';

CREATE VIEW stripe_sync.object_type AS
	SELECT object_type, table_name, key, api, list_path, retrieve_path, id_prefix, deletable,
		   event_types, fields
	  FROM stripe_sync.object_types();
COMMENT ON VIEW stripe_sync.object_type IS 'Stripe''s object types: table, key, fields and their kinds';

CREATE FUNCTION stripe_sync.create_tables(object_types text[] DEFAULT NULL)
	RETURNS TABLE (object_type text, table_name text, action text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_create_tables';
COMMENT ON FUNCTION stripe_sync.create_tables(text[]) IS
'Makes or extends the mirror''s tables in schema stripe, all of them by default; new columns are filled from _data, nothing is dropped. They belong to the caller, or to the database''s owner when a superuser calls.';
