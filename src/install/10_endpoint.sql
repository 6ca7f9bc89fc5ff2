/* ---- endpoints: named sources of events, and their secrets ---- */

CREATE TABLE stripe_sync.endpoint (
	name		text PRIMARY KEY,
	livemode	boolean,
	tolerance	interval,
	created_at	timestamptz NOT NULL DEFAULT pg_catalog.now(),
	account		text NOT NULL DEFAULT '',
	mode_learned	boolean NOT NULL DEFAULT false
);
CREATE INDEX endpoint_account_idx ON stripe_sync.endpoint (account);
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON stripe_sync.endpoint
	FOR EACH STATEMENT EXECUTE FUNCTION stripe_sync.config_changed();
COMMENT ON TABLE stripe_sync.endpoint IS 'Named sources of events; their secrets are in a table of their own, which no role may read';
COMMENT ON COLUMN stripe_sync.endpoint.livemode IS 'Mode of the events that it takes; NULL until it has stored one';
COMMENT ON COLUMN stripe_sync.endpoint.account IS 'Account of its events: empty for your own, else acct_... or a name; connected accounts are below it';
COMMENT ON COLUMN stripe_sync.endpoint.mode_learned IS 'livemode is that of the first event and was not set by a call: events of the other mode are stored and ignored';
COMMENT ON COLUMN stripe_sync.endpoint.tolerance IS 'Maximum age of a signature; NULL disables the check';

-- Granted to no role, and not dumped.  As in all tables of secrets, rows are
-- inserted and deleted, never updated, and the key holds no secret: logical
-- decoding shows the keys of deleted rows only.
CREATE TABLE stripe_sync.endpoint_secret (
	endpoint	text,
	number		integer,
	secret		text NOT NULL,
	lapses_at	timestamptz,
	PRIMARY KEY (endpoint, number)
);
COMMENT ON TABLE stripe_sync.endpoint_secret IS 'Signing secrets; one that was replaced is valid until lapses_at';
COMMENT ON COLUMN stripe_sync.endpoint_secret.number IS 'A new secret has a greater number than those that it replaces';

CREATE FUNCTION stripe_sync.add_endpoint(name text, secret text,
	livemode boolean DEFAULT NULL, tolerance interval DEFAULT '5 minutes',
	account text DEFAULT '') RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_add_endpoint';
COMMENT ON FUNCTION stripe_sync.add_endpoint(text, text, boolean, interval, text) IS
'Adds a source of events and its signing secret ("whsec_...", or file:/absolute/path, read at every use). livemode NULL takes the mode of the first event; tolerance NULL accepts any age; account separates another Stripe account, a sandbox, or test from live: "acct_..." or a name. Creates the mirror''s tables if there are none. For an existing name livemode NULL and account '''' keep the stored values and tolerance is replaced; another secret raises 42710, another account 55000 if it has events. Endpoints of one account and different modes raise 22023.';

CREATE FUNCTION stripe_sync.move_account(old text, new text) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_move_account';
COMMENT ON FUNCTION stripe_sync.move_account(text, text) IS
'Renames an account in all rows of it and of accounts below it: endpoints, events, mirror, alerts, jobs, keys. Returns the number of rows. Raises 42710 and moves nothing if there are rows of the new name that collide.';

CREATE FUNCTION stripe_sync.rotate_endpoint_secret(name text, new_secret text,
	keep_old interval DEFAULT '24 hours') RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_rotate_endpoint_secret';
COMMENT ON FUNCTION stripe_sync.rotate_endpoint_secret(text, text, interval) IS
'Gives an endpoint a new secret; the old one remains valid for keep_old. Raises SY005 if there is no such endpoint.';

CREATE FUNCTION stripe_sync.drop_endpoint(name text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_drop_endpoint';
COMMENT ON FUNCTION stripe_sync.drop_endpoint(text) IS
'Removes an endpoint and its secrets; its events remain. Raises SY005 if there is no such endpoint.';

CREATE FUNCTION stripe_sync.verify_signature(payload bytea, signature text, secret text,
	tolerance interval DEFAULT '5 minutes', at timestamptz DEFAULT pg_catalog.now()) RETURNS boolean
	LANGUAGE c STABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_verify_signature';
CREATE FUNCTION stripe_sync.verify_signature(payload text, signature text, secret text,
	tolerance interval DEFAULT '5 minutes', at timestamptz DEFAULT pg_catalog.now()) RETURNS boolean
	LANGUAGE c STABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_verify_signature';
COMMENT ON FUNCTION stripe_sync.verify_signature(bytea, text, text, interval, timestamptz) IS
'True if the Stripe-Signature header fits the payload and is not older than tolerance (NULL: any age); raises SY001, SY002, SY003, SY004 or SY007 otherwise.';
COMMENT ON FUNCTION stripe_sync.verify_signature(text, text, text, interval, timestamptz) IS
'As verify_signature(bytea, ...)';

CREATE FUNCTION stripe_sync.sign(payload bytea, secret text,
	at timestamptz DEFAULT pg_catalog.now()) RETURNS text
	LANGUAGE c STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_sign';
CREATE FUNCTION stripe_sync.sign(payload text, secret text,
	at timestamptz DEFAULT pg_catalog.now()) RETURNS text
	LANGUAGE c STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_sign';
COMMENT ON FUNCTION stripe_sync.sign(bytea, text, timestamptz) IS
'A Stripe-Signature header for tests and simulations: t=<seconds>,v1=<hex>';
COMMENT ON FUNCTION stripe_sync.sign(text, text, timestamptz) IS 'As sign(bytea, ...)';
