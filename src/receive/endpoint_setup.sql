/* ---- Setup of endpoints ---- */

CREATE FUNCTION stripe_sync.add_endpoint(name text, secret text,
	livemode boolean DEFAULT NULL, tolerance interval DEFAULT '5 minutes',
	account text DEFAULT '') RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_add_endpoint';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.add_endpoint(text, text, boolean, interval, text) IS
'Adds an endpoint, that is a named source of events, and its signing secret: whsec_..., or file:/absolute/path of a file that is read whenever the secret is needed. If livemode is NULL, the endpoint takes the mode of its first event. tolerance is the maximum age of a signature; NULL accepts any age. account separates the data of another Stripe account, of a sandbox, or of test mode: acct_... or a name of your choice. Creates the tables of the mirror if there are none. If the endpoint exists, tolerance is replaced, and livemode NULL and account '''' leave the current values unchanged. Raises 42710 if the endpoint has another secret, 55000 for another account if the endpoint has events, and 22023 if another endpoint of the same account has the other mode.';

CREATE FUNCTION stripe_sync.rotate_endpoint_secret(name text, new_secret text,
	keep_old interval DEFAULT '24 hours') RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_rotate_endpoint_secret';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.rotate_endpoint_secret(text, text, interval) IS
'Sets a new signing secret for an endpoint. The old secret remains valid for keep_old. Raises SY005 if there is no such endpoint.';

CREATE FUNCTION stripe_sync.drop_endpoint(name text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_drop_endpoint';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.drop_endpoint(text) IS
'Removes an endpoint and its secrets. Its events are kept. Raises SY005 if there is no such endpoint.';
