/* ---- Object types ---- */

CREATE FUNCTION stripe_sync.object_types(OUT object_type text, OUT table_name text, OUT key text,
	OUT api text, OUT list_path text, OUT retrieve_path text, OUT id_prefix text,
	OUT deletable boolean, OUT event_types text[], OUT fields jsonb) RETURNS SETOF record
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_object_types';

-- grade: read
COMMENT ON FUNCTION stripe_sync.object_types() IS
'Returns the compiled-in catalog of Stripe''s object types. Used by the view stripe_sync.object_type.';

CREATE FUNCTION stripe_sync.catalog_api_version() RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_api_version';

-- grade: read
COMMENT ON FUNCTION stripe_sync.catalog_api_version() IS
'Returns the version of Stripe''s API that the catalog of object types describes';

CREATE VIEW stripe_sync.object_type AS
	SELECT object_type, table_name, key, api, list_path, retrieve_path, id_prefix, deletable,
		   event_types, fields
	  FROM stripe_sync.object_types();

-- grade: read
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
