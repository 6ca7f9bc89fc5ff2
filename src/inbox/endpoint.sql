/* ---- Endpoints and signatures ---- */

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

-- grade: read
-- dump
COMMENT ON TABLE stripe_sync.endpoint IS 'Named sources of events. Their signing secrets are in another table, on which no function grants privileges.';
COMMENT ON COLUMN stripe_sync.endpoint.name IS 'Name, as passed to receive() and webhook()';
COMMENT ON COLUMN stripe_sync.endpoint.livemode IS 'Mode of the events that the endpoint accepts; NULL until the first event is stored';
COMMENT ON COLUMN stripe_sync.endpoint.tolerance IS 'Maximum age of a signature; NULL disables the check';
COMMENT ON COLUMN stripe_sync.endpoint.created_at IS 'Time of the first add_endpoint() call';
COMMENT ON COLUMN stripe_sync.endpoint.account IS 'Account whose events these are: empty for your own account, else acct_... or a name of your choice. Connected accounts are stored below it.';
COMMENT ON COLUMN stripe_sync.endpoint.mode_learned IS 'True if livemode was taken from the first event instead of add_endpoint(). Events of the other mode are then stored with status ignored.';

-- Neither granted to any role nor dumped.  As in all tables of secrets, rows are
-- inserted and deleted but never updated, and the key contains no secret, because
-- logical decoding outputs the key of a deleted row.
CREATE TABLE stripe_sync.endpoint_secret (
	endpoint	text,
	number		integer,
	secret		text NOT NULL,
	lapses_at	timestamptz,
	PRIMARY KEY (endpoint, number)
);
COMMENT ON TABLE stripe_sync.endpoint_secret IS 'Signing secrets of endpoints; a secret replaced by rotate_endpoint_secret() expires';
COMMENT ON COLUMN stripe_sync.endpoint_secret.number IS 'Newer secrets of an endpoint have greater numbers';

/* ---- Signatures ---- */

CREATE FUNCTION stripe_sync.verify_signature(payload bytea, signature text, secret text,
	tolerance interval DEFAULT '5 minutes', at timestamptz DEFAULT pg_catalog.now()) RETURNS boolean
	LANGUAGE c STABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_verify_signature';

CREATE FUNCTION stripe_sync.verify_signature(payload text, signature text, secret text,
	tolerance interval DEFAULT '5 minutes', at timestamptz DEFAULT pg_catalog.now()) RETURNS boolean
	LANGUAGE c STABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_verify_signature';
COMMENT ON FUNCTION stripe_sync.verify_signature(bytea, text, text, interval, timestamptz) IS
'Returns true if the Stripe-Signature header matches the payload and is not older than tolerance (NULL accepts any age). Otherwise raises SY001, SY002, SY003, SY004, or SY007.';
COMMENT ON FUNCTION stripe_sync.verify_signature(text, text, text, interval, timestamptz) IS
'Same as verify_signature(bytea, ...)';

CREATE FUNCTION stripe_sync.sign(payload bytea, secret text,
	at timestamptz DEFAULT pg_catalog.now()) RETURNS text
	LANGUAGE c STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_sign';

CREATE FUNCTION stripe_sync.sign(payload text, secret text,
	at timestamptz DEFAULT pg_catalog.now()) RETURNS text
	LANGUAGE c STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_sign';
COMMENT ON FUNCTION stripe_sync.sign(bytea, text, timestamptz) IS
'Returns a Stripe-Signature header (t=<seconds>,v1=<hex>) for the payload, for tests';
COMMENT ON FUNCTION stripe_sync.sign(text, text, timestamptz) IS
'Same as sign(bytea, ...)';
