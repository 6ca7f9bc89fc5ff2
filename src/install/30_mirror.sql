/* ---- the mirror: tables in schema stripe, made by create_tables() ---- */

CREATE TABLE stripe_sync.mirror_table (
	table_name	text PRIMARY KEY,
	search_path	text NOT NULL,
	path_owners	text[] NOT NULL,
	relid		oid NOT NULL,
	owner		text NOT NULL,
	columns		text[],
	given_up	text[]
);
COMMENT ON TABLE stripe_sync.mirror_table IS
'Tables of schema stripe that create_tables() has made, and the search_path in force then';
COMMENT ON COLUMN stripe_sync.mirror_table.path_owners IS 'Who owned the schemas of search_path then: its triggers are not run while one is another role''s, which is no superuser and has not the rights of the table''s owner';
COMMENT ON COLUMN stripe_sync.mirror_table.relid IS 'The table that had the name then; another one after a restore';
COMMENT ON COLUMN stripe_sync.mirror_table.owner IS 'Who owned it then: tables that he owns after a restore are the mirror''s, too';
COMMENT ON COLUMN stripe_sync.mirror_table.given_up IS
'Columns that held fields until somebody gave them another type: they are not written, and filled again once they are changed back';
COMMENT ON COLUMN stripe_sync.mirror_table.columns IS
'Columns that hold an object''s fields; others are the user''s own, whatever their names. NULL: all that are named like a field';

-- What the mirror's own row has no room for once something has replaced a
-- reading of the API: the last one that showed the object alive, and the last
-- one that had complete pages.
CREATE TABLE stripe_sync.reading (
	object_type	text NOT NULL,
	object_id	text NOT NULL,
	account		text NOT NULL,
	as_of		timestamptz NOT NULL,
	pages		jsonb,
	pages_as_of	timestamptz,
	PRIMARY KEY (object_id, object_type, account)
);
COMMENT ON TABLE stripe_sync.reading IS
'When an object was last read alive from Stripe''s API, if something has replaced that in the mirror since; of types that can be deleted or have pages of children';
COMMENT ON COLUMN stripe_sync.reading.pages IS 'The complete pages that were read last, with the ids of the children alone';

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
'Makes or extends the mirror''s tables in schema stripe, all of them by default; new columns are filled from _data, nothing is dropped. action is created, extended, unchanged, or conflict: a column of your own has a field''s name, it stays as it is and the mirror does not write it. They belong to the caller, or to the database''s owner when a superuser calls.';

CREATE FUNCTION stripe_sync.apply_reading(object jsonb, account text DEFAULT '',
	as_of timestamptz DEFAULT pg_catalog.now()) RETURNS text
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_apply_reading';
COMMENT ON FUNCTION stripe_sync.apply_reading(jsonb, text, timestamptz) IS
'Internal: brings an object that was read from Stripe''s API into the mirror, as of a time up to which everything is in it. Returns applied, stale (the mirror holds something newer) or ignored (there is no table).';

CREATE FUNCTION stripe_sync.apply_reading_page(objects jsonb, account text DEFAULT '',
	as_of timestamptz DEFAULT pg_catalog.now())
	RETURNS TABLE (object_id text, status text, detail text)
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_apply_reading_page';
COMMENT ON FUNCTION stripe_sync.apply_reading_page(jsonb, text, timestamptz) IS
'Internal: the same of an array of objects, in one subtransaction, or each in its own where that fails; then there is a status failed as well';

CREATE FUNCTION stripe_sync.verify_mirror(object_types text[] DEFAULT NULL, sample int DEFAULT 1000)
	RETURNS TABLE (object_type text, object_id text, account text, field text, mirror jsonb, expected jsonb)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_verify_mirror';
COMMENT ON FUNCTION stripe_sync.verify_mirror(text[], int) IS
'Rebuilds objects from the stored events and shows where the mirror differs, field by field; empty is good. Of each type that has a table at most so many objects, chosen by chance. Field (row) is a row that is missing. Whose newest state came from a parent''s page or from Stripe''s API is compared with its own _data. Repair: stripe_sync.replay(event_id), or stripe_sync.refetch().';
