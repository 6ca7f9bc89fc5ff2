/* ---- Mirror tables ---- */

CREATE TABLE stripe_sync.mirror_table (
	table_name	text PRIMARY KEY,
	search_path	text NOT NULL,
	path_owners	text[] NOT NULL,
	relid		oid NOT NULL,
	owner		text NOT NULL,
	columns		text[],
	given_up	text[]
);

-- grade: read
-- dump
COMMENT ON TABLE stripe_sync.mirror_table IS 'Tables of schema stripe created by create_tables(), and the search_path in effect then';
COMMENT ON COLUMN stripe_sync.mirror_table.table_name IS 'Name of the table in schema stripe';
COMMENT ON COLUMN stripe_sync.mirror_table.search_path IS 'search_path in effect when the table was created; its triggers run with it';
COMMENT ON COLUMN stripe_sync.mirror_table.path_owners IS 'Owners of the schemas in search_path at that time. Triggers do not run while a schema has a different owner, unless that owner is a superuser or has the privileges of the table''s owner.';
COMMENT ON COLUMN stripe_sync.mirror_table.relid IS 'OID of the table at that time; differs after a restore';
COMMENT ON COLUMN stripe_sync.mirror_table.owner IS 'Owner of the table at that time. After a restore, a table of the same name and owner belongs to the mirror.';
COMMENT ON COLUMN stripe_sync.mirror_table.columns IS 'Columns that hold fields of the object; other columns are the user''s. NULL means all columns named like a field.';
COMMENT ON COLUMN stripe_sync.mirror_table.given_up IS 'Columns whose type was changed. They are not written, and are filled again when the type is changed back.';

CREATE FUNCTION stripe_sync.create_tables(object_types text[] DEFAULT NULL)
	RETURNS TABLE (object_type text, table_name text, action text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_create_tables';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.create_tables(text[]) IS
'Creates the tables of the mirror in schema stripe, or adds missing columns to them; NULL selects all object types. New columns are filled from _data. Nothing is dropped. action is created, extended, unchanged, or conflict: a column of your own has the name of a field; it is left alone and not written. The tables are owned by the caller, or by the owner of the database if the caller is a superuser.';
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON stripe_sync.mirror_table
	FOR EACH STATEMENT EXECUTE FUNCTION stripe_sync.config_changed();
