/* ---- Destinations ---- */

CREATE TABLE stripe_sync.destination (
	name			text PRIMARY KEY,
	kind			text NOT NULL,
	channel			text,
	enabled			boolean NOT NULL DEFAULT true,
	disabled_reason	text,
	disabled_at		timestamptz,
	fallback		text,
	escalation		text,
	created_at		timestamptz NOT NULL DEFAULT pg_catalog.now(),
	refused			boolean NOT NULL DEFAULT false,
	app				text,
	plain_blocks_at	timestamptz
);

-- grade: read
-- dump
COMMENT ON TABLE stripe_sync.destination IS 'Named places in Slack. Their webhook URLs and tokens are in another table, on which no function grants privileges.';
COMMENT ON COLUMN stripe_sync.destination.name IS 'Name of the destination';
COMMENT ON COLUMN stripe_sync.destination.kind IS 'webhook (an incoming webhook) or channel (posted to with a bot token)';
COMMENT ON COLUMN stripe_sync.destination.channel IS 'Slack channel, for kind channel';
COMMENT ON COLUMN stripe_sync.destination.enabled IS 'False if it is disabled; its messages wait until enable_destination()';
COMMENT ON COLUMN stripe_sync.destination.disabled_reason IS 'Why it is disabled';
COMMENT ON COLUMN stripe_sync.destination.disabled_at IS 'Time when it was disabled';
COMMENT ON COLUMN stripe_sync.destination.fallback IS 'Destination that is notified when this one is disabled automatically';
COMMENT ON COLUMN stripe_sync.destination.escalation IS 'Destination to which critical incidents are repeated if they stay open';
COMMENT ON COLUMN stripe_sync.destination.created_at IS 'Time when it was added';
COMMENT ON COLUMN stripe_sync.destination.refused IS 'True if it was disabled automatically, because Slack rejected its URL or token or the secret could not be read';
COMMENT ON COLUMN stripe_sync.destination.app IS 'Slack app that posts there and whose buttons work, if one is set up';
COMMENT ON COLUMN stripe_sync.destination.plain_blocks_at IS 'Time when Slack rejected newer kinds of blocks there, which are sent as sections since';

-- Webhook URLs and bot tokens: neither granted to any role nor dumped.
CREATE TABLE stripe_sync.destination_secret (
	destination	text PRIMARY KEY,
	secret		text NOT NULL
);
COMMENT ON TABLE stripe_sync.destination_secret IS 'Webhook URL or bot token of each destination, or file:/path';

-- Rate limits.  Claiming messages of a destination, and choosing the next one of a
-- thread, requires the lock on the destination's row.
CREATE TABLE stripe_sync.destination_pace (
	destination		text PRIMARY KEY,
	next_at			timestamptz NOT NULL DEFAULT '-infinity',
	blocked_until	timestamptz,
	blocked_reason	text,
	refused_at		timestamptz,
	refused			bytea
) WITH (fillfactor = 50);
COMMENT ON TABLE stripe_sync.destination_pace IS 'Rate limiting state of each destination';
COMMENT ON COLUMN stripe_sync.destination_pace.next_at IS 'Time at which the next message would be due at a steady rate';
COMMENT ON COLUMN stripe_sync.destination_pace.blocked_until IS 'Slack asked to send nothing before this time';
COMMENT ON COLUMN stripe_sync.destination_pace.refused_at IS 'Time when it was disabled because of an invalid token or URL; NULL if it is enabled or was disabled for another reason';
COMMENT ON COLUMN stripe_sync.destination_pace.refused IS 'Digest of that token or URL; NULL if none could be read';

CREATE TABLE stripe_sync.customer_route (
	customer	text PRIMARY KEY,
	destination	text NOT NULL
);

-- grade: read
-- dump
COMMENT ON TABLE stripe_sync.customer_route IS 'Destinations of messages from alerts for ''@customer'', by customer';
COMMENT ON COLUMN stripe_sync.customer_route.customer IS 'Id of the customer (cus_...)';
COMMENT ON COLUMN stripe_sync.customer_route.destination IS 'Name of the destination';
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON stripe_sync.destination
	FOR EACH STATEMENT EXECUTE FUNCTION stripe_sync.config_changed();

CREATE FUNCTION stripe_sync.add_slack_webhook(destination text, url text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_add_slack_webhook';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.add_slack_webhook(text, text) IS
'Adds a destination that posts to a Slack incoming webhook. url is https://hooks.slack.com/services/..., or file:/absolute/path of a file that is read whenever the URL is needed. A destination of the same name is replaced. It is enabled again if the URL changed, also if Slack had rejected the URL and the file now contains another one. A NOTICE is raised if no alert would report that Slack rejects it. Raises 22023 for a URL of a host not in stripe_sync.slack_hosts.';

CREATE FUNCTION stripe_sync.add_slack_channel(destination text, channel text, token text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_add_slack_channel';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.add_slack_channel(text, text, text) IS
'Adds a destination that posts to a Slack channel (C0123456789 or #billing) with a bot token. token is xoxb-..., or file:/absolute/path of a file that is read whenever the token is needed. Unlike webhooks, bots can post threads and update messages. A destination of the same name is replaced. It is enabled again if something changed, also if Slack had rejected the token and the file now contains another one. A NOTICE is raised if no alert would report that Slack rejects it.';

CREATE FUNCTION stripe_sync.enable_destination(name text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_enable_destination';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.enable_destination(text) IS
'Enables a destination; its waiting messages are sent. Raises SY005 if there is no such destination.';

CREATE FUNCTION stripe_sync.disable_destination(name text, reason text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_disable_destination';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.disable_destination(text, text) IS
'Disables a destination; its messages wait. reason is stored with it; NULL means "switched off by hand". Raises SY005 if there is no such destination.';

CREATE FUNCTION stripe_sync.drop_destination(name text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_drop_destination';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.drop_destination(text) IS
'Removes a destination, its secret, and its routes, and cancels its waiting messages; a NOTICE gives their number. Raises 2BP01 if alerts use it, SY005 if there is no such destination.';

CREATE FUNCTION stripe_sync.set_fallback(name text, fallback text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_set_fallback';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.set_fallback(text, text) IS
'Sets the destination that is notified when this one is disabled automatically; NULL removes it. Raises SY005 if either does not exist.';

CREATE FUNCTION stripe_sync.set_escalation(name text, second text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_set_escalation';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.set_escalation(text, text) IS
'Sets the destination to which critical incidents of this one are repeated if they stay open for stripe_sync.escalate_after; NULL removes it. Raises SY005 if either does not exist.';

CREATE FUNCTION stripe_sync.route_customer(customer text, destination text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_route_customer';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.route_customer(text, text) IS
'Sets the destination of messages about a customer (cus_...) from alerts for ''@customer''. Raises SY005 if there is no such destination.';

CREATE FUNCTION stripe_sync.unroute_customer(customer text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_unroute_customer';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.unroute_customer(text) IS
'Removes the route of a customer. Alerts for ''@customer'' then send nothing about the customer.';

CREATE FUNCTION stripe_sync.test_destination(destination text) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_test_destination';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.test_destination(text) IS
'Queues a test message and returns its id; a bot token is checked with auth.test first. stripe_sync.delivery shows Slack''s response. Raises 55000 if the destination is disabled.';

CREATE PROCEDURE stripe_sync.check_destination(destination text, timeout interval DEFAULT '10 seconds')
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'stripe_sync_check_destination';

-- grade: admin
COMMENT ON PROCEDURE stripe_sync.check_destination(text, interval) IS
'Sends a test message and waits for Slack''s response. Raises a NOTICE if it was accepted, otherwise an error with Slack''s code and a hint. It commits, so it cannot be called in a transaction block. Raises 57014 after timeout (the message stays queued), 55000 if the destination is disabled or sending is off.';
