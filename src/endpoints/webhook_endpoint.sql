/* ---- Webhook endpoints at Stripe ---- */

-- Collected by reconcile from the events that came by webhook.
CREATE TABLE stripe_sync.webhook_type (
	type	text PRIMARY KEY
);

-- dump
COMMENT ON TABLE stripe_sync.webhook_type IS 'Types of events that have come by webhook';

-- one job per URL waits or runs at a time
CREATE UNIQUE INDEX job_record_endpoint_idx ON stripe_sync.job_record (pg_catalog.md5(arguments ->> 'url'))
	WHERE kind = 'create_webhook_endpoint' AND state IN ('waiting', 'running');
CREATE INDEX job_record_watch_idx ON stripe_sync.job_record (state) WHERE kind = 'watch_endpoints';

CREATE TABLE stripe_sync.watched_endpoint (
	id				text NOT NULL,
	account			text NOT NULL DEFAULT '',
	url				text,
	livemode		boolean,
	status			text,
	api_version		text,
	enabled_events	text[],
	endpoint		text,
	job				bigint,
	seen_at			timestamptz,
	seen_by			bigint,
	trouble			text[] NOT NULL DEFAULT '{}',
	missing_types	text[] NOT NULL DEFAULT '{}',
	told			text[] NOT NULL DEFAULT '{}',
	told_types		text[] NOT NULL DEFAULT '{}',
	PRIMARY KEY (id, account)
);

-- grade: read
-- dump
COMMENT ON TABLE stripe_sync.watched_endpoint IS 'Webhook endpoints at Stripe, as last read, and problems found with those that belong to this database. A row with an empty id is about all of them.';
COMMENT ON COLUMN stripe_sync.watched_endpoint.id IS 'Stripe''s id of the webhook endpoint (we_...)';
COMMENT ON COLUMN stripe_sync.watched_endpoint.account IS 'Account of the key that read it';
COMMENT ON COLUMN stripe_sync.watched_endpoint.url IS 'URL';
COMMENT ON COLUMN stripe_sync.watched_endpoint.livemode IS 'True for live mode';
COMMENT ON COLUMN stripe_sync.watched_endpoint.status IS 'enabled or disabled';
COMMENT ON COLUMN stripe_sync.watched_endpoint.api_version IS 'API version of the events it sends';
COMMENT ON COLUMN stripe_sync.watched_endpoint.enabled_events IS 'Types of events it sends';
COMMENT ON COLUMN stripe_sync.watched_endpoint.endpoint IS 'Name in stripe_sync.endpoint, if create_webhook_endpoint() created it';
COMMENT ON COLUMN stripe_sync.watched_endpoint.job IS 'Job that created it';
COMMENT ON COLUMN stripe_sync.watched_endpoint.seen_at IS 'Time when it was last read';
COMMENT ON COLUMN stripe_sync.watched_endpoint.seen_by IS 'Job that last read it';
COMMENT ON COLUMN stripe_sync.watched_endpoint.trouble IS 'gone (deleted at Stripe), disabled, version (its API version is not that of the catalog), types (missing_types are not enabled), none (no endpoint is usable)';
COMMENT ON COLUMN stripe_sync.watched_endpoint.missing_types IS 'Types of events that are needed and not enabled';
COMMENT ON COLUMN stripe_sync.watched_endpoint.told IS 'Problems that were reported to alerts';
COMMENT ON COLUMN stripe_sync.watched_endpoint.told_types IS 'Missing types that were reported to alerts';

-- One row, inserted when the first key is set.
CREATE TABLE stripe_sync.endpoint_watch (
	next_at		timestamptz NOT NULL,
	read_at		timestamptz,
	error		text,
	one			boolean PRIMARY KEY DEFAULT true CHECK (one)
);

-- grade: read
-- dump
COMMENT ON TABLE stripe_sync.endpoint_watch IS 'Schedule of reading the webhook endpoints from Stripe';
COMMENT ON COLUMN stripe_sync.endpoint_watch.next_at IS 'Time of the next reading';
COMMENT ON COLUMN stripe_sync.endpoint_watch.read_at IS 'Time of the last reading';
COMMENT ON COLUMN stripe_sync.endpoint_watch.error IS 'Error of the last reading';
COMMENT ON COLUMN stripe_sync.endpoint_watch.one IS 'Always true: the table has at most one row';

CREATE FUNCTION stripe_sync.create_webhook_endpoint(url text, types text[] DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_create_webhook_endpoint';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.create_webhook_endpoint(text, text[]) IS
'Creates a job that creates a webhook endpoint at Stripe and stores its signing secret, as endpoint "default", or under its id (we_...) if "default" has a secret already. Returns the id of the job; its result gives the name of the endpoint. types NULL selects all types that the mirror''s tables, handlers, and alerts need. If an endpoint was created for the same URL, no other is created. The key needs the permission to write webhook endpoints. Raises 22023 if url is not an https URL or types contains an invalid type, 42710 for other types for the same URL, 55000 if no key is set.';

CREATE FUNCTION stripe_sync.comes_by_webhook(type text) RETURNS boolean
	LANGUAGE sql STABLE PARALLEL UNSAFE
	BEGIN ATOMIC
		SELECT EXISTS (SELECT FROM stripe_sync.webhook_type AS w WHERE w.type OPERATOR(pg_catalog.=) comes_by_webhook.type)
			OR EXISTS (SELECT FROM stripe_sync.watched_endpoint AS e
				WHERE e.endpoint IS NOT NULL
				  AND (e.enabled_events OPERATOR(pg_catalog.@>) ARRAY[comes_by_webhook.type]
					OR e.enabled_events OPERATOR(pg_catalog.@>) ARRAY['*']));
	END;
COMMENT ON FUNCTION stripe_sync.comes_by_webhook(text) IS 'Internal: returns whether an event of the type should have come by webhook, so that it is missing if it did not: one of the type has come before, or our own endpoint at Stripe has it enabled';
