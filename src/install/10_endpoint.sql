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
COMMENT ON TABLE stripe_sync.endpoint IS 'Named sources of events; their secrets are elsewhere and not to be read';
COMMENT ON COLUMN stripe_sync.endpoint.livemode IS 'Mode of the events it takes; NULL until it has stored one';
COMMENT ON COLUMN stripe_sync.endpoint.account IS 'Whose events they are: empty for one''s own, else Stripe''s acct_... or a word; connected accounts are below it';
COMMENT ON COLUMN stripe_sync.endpoint.mode_learned IS 'livemode is that of the first event, nobody has said it: events of the other mode are stored and ignored';
COMMENT ON COLUMN stripe_sync.endpoint.tolerance IS 'Greatest age of a signature; NULL switches the check off';

-- Neither granted to anybody nor dumped.  As of all tables of secrets its rows are
-- inserted and deleted, never updated, and its key holds no secret: logical
-- decoding shows keys of deleted rows alone.
CREATE TABLE stripe_sync.endpoint_secret (
	endpoint	text,
	number		integer,
	secret		text NOT NULL,
	lapses_at	timestamptz,
	PRIMARY KEY (endpoint, number)
);
COMMENT ON TABLE stripe_sync.endpoint_secret IS 'Signing secrets; one that was rotated away lapses';
COMMENT ON COLUMN stripe_sync.endpoint_secret.number IS 'A new secret has a greater one than those that it replaces';

CREATE FUNCTION stripe_sync.add_endpoint(name text, secret text,
	livemode boolean DEFAULT NULL, tolerance interval DEFAULT '5 minutes',
	account text DEFAULT '') RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_add_endpoint';
COMMENT ON FUNCTION stripe_sync.add_endpoint(text, text, boolean, interval, text) IS
'Names a source of events and its signing secret ("whsec_...", or file:/absolute/path, read when used). livemode NULL takes the mode of the first event; tolerance NULL accepts any age; account keeps another Stripe account, a sandbox, or test beside live apart: "acct_..." or a word. Makes the mirror''s tables when there are none. A known name: livemode NULL and account '''' keep what is there, tolerance is replaced, another secret is 42710, another account 55000 once it has events. 22023 for endpoints of one account and different modes.';

CREATE FUNCTION stripe_sync.move_account(old text, new text) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_move_account';
COMMENT ON FUNCTION stripe_sync.move_account(text, text) IS
'Gives an account another name, with all that there is of it and of accounts below it: endpoints, events, mirror, alerts, jobs, keys. Returns how many rows were moved; 42710, and nothing is moved, where there are some of the new name already.';

CREATE FUNCTION stripe_sync.rotate_endpoint_secret(name text, new_secret text,
	keep_old interval DEFAULT '24 hours') RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_rotate_endpoint_secret';
COMMENT ON FUNCTION stripe_sync.rotate_endpoint_secret(text, text, interval) IS
'Gives an endpoint a new secret; the old one is good for keep_old yet. SY005 when there is no such endpoint.';

CREATE FUNCTION stripe_sync.drop_endpoint(name text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_drop_endpoint';
COMMENT ON FUNCTION stripe_sync.drop_endpoint(text) IS
'Forgets an endpoint and its secrets; its events stay. SY005 when there is no such endpoint.';

CREATE FUNCTION stripe_sync.verify_signature(payload bytea, signature text, secret text,
	tolerance interval DEFAULT '5 minutes', at timestamptz DEFAULT pg_catalog.now()) RETURNS boolean
	LANGUAGE c STABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_verify_signature';
CREATE FUNCTION stripe_sync.verify_signature(payload text, signature text, secret text,
	tolerance interval DEFAULT '5 minutes', at timestamptz DEFAULT pg_catalog.now()) RETURNS boolean
	LANGUAGE c STABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_verify_signature';
COMMENT ON FUNCTION stripe_sync.verify_signature(bytea, text, text, interval, timestamptz) IS
'True when the Stripe-Signature header fits the payload and is not older than tolerance (NULL: any age); raises SY001, SY002, SY003, SY004 or SY007 otherwise.';
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
