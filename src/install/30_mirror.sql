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
'Tables of schema stripe that create_tables() has created, and the search_path then in force';
COMMENT ON COLUMN stripe_sync.mirror_table.path_owners IS 'Owners of the schemas of search_path then. Triggers of the table are not run while one of the schemas belongs to another role, unless that role is a superuser or has the rights of the table''s owner';
COMMENT ON COLUMN stripe_sync.mirror_table.relid IS 'OID of the table then; after a restore the table has another';
COMMENT ON COLUMN stripe_sync.mirror_table.owner IS 'Owner of the table then; after a restore a table of this owner is the mirror''s';
COMMENT ON COLUMN stripe_sync.mirror_table.given_up IS
'Columns that held fields until their type was changed; they are not written until create_tables() has filled them again, after their type was changed back';
COMMENT ON COLUMN stripe_sync.mirror_table.columns IS
'Columns that hold an object''s fields; others are the user''s, whatever their names. NULL: all that are named like a field';

-- Of an object fetched from Stripe's API, after something else has replaced it in
-- the mirror: when it was last fetched alive, and its last complete pages.
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
'When an object was last fetched from Stripe''s API and existed, if something has since replaced it in the mirror; for types that can be deleted or have pages of children';
COMMENT ON COLUMN stripe_sync.reading.pages IS 'The complete pages that were fetched last, with only the ids of the children';

CREATE FUNCTION stripe_sync.object_types(OUT object_type text, OUT table_name text, OUT key text,
	OUT api text, OUT list_path text, OUT retrieve_path text, OUT id_prefix text,
	OUT deletable boolean, OUT event_types text[], OUT fields jsonb) RETURNS SETOF record
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_object_types';
COMMENT ON FUNCTION stripe_sync.object_types() IS 'The compiled-in catalog of Stripe''s object types';

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
'Creates or extends the mirror''s tables in schema stripe, all of them by default; new columns are filled from _data, nothing is dropped. action is created, extended, unchanged, or conflict: a column that create_tables() did not create has a field''s name; it is neither changed nor written. Tables belong to the caller, or to the database''s owner if a superuser calls. Example: SELECT * FROM stripe_sync.create_tables(ARRAY[''customer'', ''invoice''])';

CREATE FUNCTION stripe_sync.apply_reading(object jsonb, account text DEFAULT '',
	as_of timestamptz DEFAULT pg_catalog.now()) RETURNS text
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_apply_reading';
COMMENT ON FUNCTION stripe_sync.apply_reading(jsonb, text, timestamptz) IS
'Internal: applies an object fetched from Stripe''s API to the mirror. It contains everything that happened up to as_of. Returns applied, stale (the mirror holds a newer state) or ignored (there is no table). Errors: 22023 for a value that is no object of a known type.';

CREATE FUNCTION stripe_sync.apply_reading_page(objects jsonb, account text DEFAULT '',
	as_of timestamptz DEFAULT pg_catalog.now())
	RETURNS TABLE (object_id text, status text, detail text)
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_apply_reading_page';
COMMENT ON FUNCTION stripe_sync.apply_reading_page(jsonb, text, timestamptz) IS
'Internal: the same for an array of objects, in one subtransaction, or each in its own if that fails. status can also be failed.';

CREATE FUNCTION stripe_sync.verify_mirror(object_types text[] DEFAULT NULL, sample int DEFAULT 1000)
	RETURNS TABLE (object_type text, object_id text, account text, field text, mirror jsonb, expected jsonb)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_verify_mirror';
COMMENT ON FUNCTION stripe_sync.verify_mirror(text[], int) IS
'Rebuilds objects from the stored events and returns each field in which the mirror differs; no rows means no difference. Verifies at most sample objects of each type that has a table, chosen at random. Field (row) is a missing row, (incomplete) an object that could not be fetched, (table) a table that cannot be used. An object whose newest state came from a parent''s page or from Stripe''s API is compared with its own _data. To repair: stripe_sync.replay(event_id) or stripe_sync.refetch(). Errors: 42P01 if a named type has no table, 42501 if the caller may not see all rows.';
