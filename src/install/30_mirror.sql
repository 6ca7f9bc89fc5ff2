/* ---- Mirror ---- */

CREATE TABLE stripe_sync.mirror_table (
	table_name	text PRIMARY KEY,
	search_path	text NOT NULL,
	path_owners	text[] NOT NULL,
	relid		oid NOT NULL,
	owner		text NOT NULL,
	columns		text[],
	given_up	text[]
);
COMMENT ON TABLE stripe_sync.mirror_table IS 'Tables of schema stripe created by create_tables(), and the search_path in effect then';
COMMENT ON COLUMN stripe_sync.mirror_table.table_name IS 'Name of the table in schema stripe';
COMMENT ON COLUMN stripe_sync.mirror_table.search_path IS 'search_path in effect when the table was created; its triggers run with it';
COMMENT ON COLUMN stripe_sync.mirror_table.path_owners IS 'Owners of the schemas in search_path at that time. Triggers do not run while a schema has a different owner, unless that owner is a superuser or has the privileges of the table''s owner.';
COMMENT ON COLUMN stripe_sync.mirror_table.relid IS 'OID of the table at that time; differs after a restore';
COMMENT ON COLUMN stripe_sync.mirror_table.owner IS 'Owner of the table at that time. After a restore, a table of the same name and owner belongs to the mirror.';
COMMENT ON COLUMN stripe_sync.mirror_table.columns IS 'Columns that hold fields of the object; other columns are the user''s. NULL means all columns named like a field.';
COMMENT ON COLUMN stripe_sync.mirror_table.given_up IS 'Columns whose type was changed. They are not written, and are filled again when the type is changed back.';

-- What the mirror's row no longer shows after newer data has replaced an object
-- retrieved from the API: the time of the last retrieval that showed the object
-- existing, and the last complete lists of children.
CREATE TABLE stripe_sync.reading (
	object_type	text NOT NULL,
	object_id	text NOT NULL,
	account		text NOT NULL,
	as_of		timestamptz NOT NULL,
	pages		jsonb,
	pages_as_of	timestamptz,
	PRIMARY KEY (object_id, object_type, account)
);
COMMENT ON TABLE stripe_sync.reading IS 'For objects that can be deleted or have lists of children: when the object was last retrieved from Stripe''s API, if newer data has replaced that state in the mirror';
COMMENT ON COLUMN stripe_sync.reading.pages IS 'The complete lists of children that were retrieved last, with the ids only';

CREATE FUNCTION stripe_sync.object_types(OUT object_type text, OUT table_name text, OUT key text,
	OUT api text, OUT list_path text, OUT retrieve_path text, OUT id_prefix text,
	OUT deletable boolean, OUT event_types text[], OUT fields jsonb) RETURNS SETOF record
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_object_types';
COMMENT ON FUNCTION stripe_sync.object_types() IS
'Returns the compiled-in catalog of Stripe''s object types. Used by the view stripe_sync.object_type.';

CREATE FUNCTION stripe_sync.catalog_api_version() RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_api_version';
COMMENT ON FUNCTION stripe_sync.catalog_api_version() IS
'Returns the version of Stripe''s API that the catalog of object types describes';

CREATE VIEW stripe_sync.object_type AS
	SELECT object_type, table_name, key, api, list_path, retrieve_path, id_prefix, deletable,
		   event_types, fields
	  FROM stripe_sync.object_types();
COMMENT ON VIEW stripe_sync.object_type IS 'Catalog of Stripe''s object types: tables, keys, fields, and event types';
COMMENT ON COLUMN stripe_sync.object_type.object_type IS 'Name of the type, as in the object field of Stripe''s objects';
COMMENT ON COLUMN stripe_sync.object_type.table_name IS 'Table in schema stripe; NULL if the type is not mirrored';
COMMENT ON COLUMN stripe_sync.object_type.key IS 'Key column of the table, in addition to _account';
COMMENT ON COLUMN stripe_sync.object_type.api IS 'API that has the type: v1 or v2';
COMMENT ON COLUMN stripe_sync.object_type.list_path IS 'Path of the API call that lists objects of the type; NULL if there is none';
COMMENT ON COLUMN stripe_sync.object_type.retrieve_path IS 'Path of the API call that retrieves an object; NULL if there is none';
COMMENT ON COLUMN stripe_sync.object_type.id_prefix IS 'Prefix of the ids';
COMMENT ON COLUMN stripe_sync.object_type.deletable IS 'True if objects can be deleted';
COMMENT ON COLUMN stripe_sync.object_type.event_types IS 'Types of events about objects of the type';
COMMENT ON COLUMN stripe_sync.object_type.fields IS 'Fields of the type and their kinds';

CREATE FUNCTION stripe_sync.create_tables(object_types text[] DEFAULT NULL)
	RETURNS TABLE (object_type text, table_name text, action text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_create_tables';
COMMENT ON FUNCTION stripe_sync.create_tables(text[]) IS
'Creates the tables of the mirror in schema stripe, or adds missing columns to them; NULL selects all object types. New columns are filled from _data. Nothing is dropped. action is created, extended, unchanged, or conflict: a column of your own has the name of a field; it is left alone and not written. The tables are owned by the caller, or by the owner of the database if the caller is a superuser.';

CREATE FUNCTION stripe_sync.apply_reading(object jsonb, account text DEFAULT '',
	as_of timestamptz DEFAULT pg_catalog.now()) RETURNS text
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_apply_reading';
COMMENT ON FUNCTION stripe_sync.apply_reading(jsonb, text, timestamptz) IS 'Internal: writes an object retrieved from Stripe''s API to the mirror; as_of is the time that it is known to reflect. Returns applied, stale (the mirror has a newer state), or ignored (there is no table).';

CREATE FUNCTION stripe_sync.apply_reading_page(objects jsonb, account text DEFAULT '',
	as_of timestamptz DEFAULT pg_catalog.now())
	RETURNS TABLE (object_id text, status text, detail text)
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_apply_reading_page';
COMMENT ON FUNCTION stripe_sync.apply_reading_page(jsonb, text, timestamptz) IS 'Internal: same as apply_reading() for an array of objects, in one subtransaction, or in one per object if that fails; status can also be failed';

CREATE FUNCTION stripe_sync.verify_mirror(object_types text[] DEFAULT NULL, sample int DEFAULT 1000)
	RETURNS TABLE (object_type text, object_id text, account text, field text, mirror jsonb, expected jsonb)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_verify_mirror';
COMMENT ON FUNCTION stripe_sync.verify_mirror(text[], int) IS
'Rebuilds objects from the stored events and returns the fields that differ in the mirror; no rows means no differences. Checks up to sample randomly chosen objects of each type that has a table. Field (row) means that the row is missing. Objects whose newest state came from a parent''s list or from Stripe''s API are compared with their _data column. To repair an object, use replay(event_id) or refetch().';
