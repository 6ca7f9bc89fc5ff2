/* ---- webhook endpoints at Stripe: made, and watched ---- */

-- the same is not made twice at a time
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
COMMENT ON TABLE stripe_sync.watched_endpoint IS 'The webhook endpoints that there are at Stripe, as last read, and what is wrong with one''s own; a row without an id is about all of them';
COMMENT ON COLUMN stripe_sync.watched_endpoint.endpoint IS 'Its name in stripe_sync.endpoint, when create_webhook_endpoint() made it';
COMMENT ON COLUMN stripe_sync.watched_endpoint.job IS 'The job that made it';
COMMENT ON COLUMN stripe_sync.watched_endpoint.seen_by IS 'The job that read it last';
COMMENT ON COLUMN stripe_sync.watched_endpoint.trouble IS 'gone (deleted at Stripe), disabled, version (another API version than stripe_sync''s), types (missing_types are not subscribed to), none (no endpoint would do)';
COMMENT ON COLUMN stripe_sync.watched_endpoint.told IS 'What of the trouble alerts have been told';

-- One row, from when the first key was set.
CREATE TABLE stripe_sync.endpoint_watch (
	next_at		timestamptz NOT NULL,
	read_at		timestamptz,
	error		text,
	one			boolean PRIMARY KEY DEFAULT true CHECK (one)
);
COMMENT ON TABLE stripe_sync.endpoint_watch IS 'When the endpoints at Stripe are read next, when they were, and why they could not be';

CREATE FUNCTION stripe_sync.create_webhook_endpoint(url text, types text[] DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_create_webhook_endpoint';
COMMENT ON FUNCTION stripe_sync.create_webhook_endpoint(text, text[]) IS
'Has the worker make a webhook endpoint at Stripe, once, and keep its signing secret: as endpoint "default", or under its id (we_...) when that has another secret. types NULL: all that the mirror''s tables, handlers and alerts need. Answers the job, whose result names the endpoint; a URL that one was made for is not made again. The key must be allowed to write webhook endpoints. 22023 for what is no https URL or no type of event, 42710 for other types for the same URL, 55000 without a key.';

CREATE FUNCTION stripe_sync.comes_by_webhook(type text) RETURNS boolean
	LANGUAGE sql STABLE PARALLEL UNSAFE
	BEGIN ATOMIC
		SELECT EXISTS (SELECT FROM stripe_sync.webhook_type AS w WHERE w.type OPERATOR(pg_catalog.=) comes_by_webhook.type)
			OR EXISTS (SELECT FROM stripe_sync.watched_endpoint AS e
				WHERE e.endpoint IS NOT NULL
				  AND (e.enabled_events OPERATOR(pg_catalog.@>) ARRAY[comes_by_webhook.type]
					OR e.enabled_events OPERATOR(pg_catalog.@>) ARRAY['*']));
	END;
COMMENT ON FUNCTION stripe_sync.comes_by_webhook(text) IS 'Internal: should an event of that type have come by webhook, so that it is missing when it has not? Those that have come before should, and those that our own endpoint at Stripe subscribes to';
