/* ---- destinations: named places in Slack, and their secrets ---- */

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
	refused			boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE stripe_sync.destination IS 'Named places in Slack; what opens them is elsewhere and not to be read';
COMMENT ON COLUMN stripe_sync.destination.kind IS 'webhook (an incoming webhook) or channel (a bot token posts to it)';
COMMENT ON COLUMN stripe_sync.destination.enabled IS 'Off: its messages wait until enable_destination()';
COMMENT ON COLUMN stripe_sync.destination.refused IS 'It is off because Slack refuses it, or its secret can''t be read: nobody has switched it off';
COMMENT ON COLUMN stripe_sync.destination.fallback IS 'The destination that is told when this one is switched off';
COMMENT ON COLUMN stripe_sync.destination.escalation IS 'The destination that a critical incident nobody has taken care of is repeated to';

-- Webhook URLs and bot tokens: neither granted to anybody nor dumped.
CREATE TABLE stripe_sync.destination_secret (
	destination	text PRIMARY KEY,
	secret		text NOT NULL
);
COMMENT ON TABLE stripe_sync.destination_secret IS 'The URL of a webhook, the token of a bot, or file:/path';

-- How fast a destination may be written to.  A row's lock is the right to
-- claim the destination's messages, and to say which of a thread is next.
CREATE TABLE stripe_sync.destination_pace (
	destination		text PRIMARY KEY,
	next_at			timestamptz NOT NULL DEFAULT '-infinity',
	blocked_until	timestamptz,
	blocked_reason	text,
	refused_at		timestamptz,
	refused			bytea
) WITH (fillfactor = 50);
COMMENT ON TABLE stripe_sync.destination_pace IS 'When a destination may have its next message';
COMMENT ON COLUMN stripe_sync.destination_pace.next_at IS 'When the message after the last one would be due at an even pace';
COMMENT ON COLUMN stripe_sync.destination_pace.blocked_until IS 'Slack has asked us to wait until then';
COMMENT ON COLUMN stripe_sync.destination_pace.refused_at IS 'When it was switched off for a token or URL that is no good; NULL: it is on, or off for another reason';
COMMENT ON COLUMN stripe_sync.destination_pace.refused IS 'A digest of that token or URL; NULL: there was none to be read';

CREATE TABLE stripe_sync.customer_route (
	customer	text PRIMARY KEY,
	destination	text NOT NULL
);
COMMENT ON TABLE stripe_sync.customer_route IS 'Where messages of alerts for "@customer" go';

CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON stripe_sync.destination
	FOR EACH STATEMENT EXECUTE FUNCTION stripe_sync.config_changed();

CREATE FUNCTION stripe_sync.add_slack_webhook(destination text, url text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_add_slack_webhook';
COMMENT ON FUNCTION stripe_sync.add_slack_webhook(text, text) IS
'Names a place in Slack that an incoming webhook posts to: url is "https://hooks.slack.com/services/...", or file:/absolute/path, read when used. A known name is replaced, and switched on when something changed; so it is when Slack had refused the URL and its file holds another. A NOTICE says when nobody would be told that Slack refuses it. 22023 for a URL of another host.';

CREATE FUNCTION stripe_sync.add_slack_channel(destination text, channel text, token text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_add_slack_channel';
COMMENT ON FUNCTION stripe_sync.add_slack_channel(text, text, text) IS
'Names a channel of Slack (C0123456789 or #billing) that a bot posts to: token is "xoxb-...", or file:/absolute/path, read when used. It can thread and update, which webhooks can''t. A known name is replaced, and switched on when something changed; so it is when Slack had refused the token and its file holds another. A NOTICE says when nobody would be told that Slack refuses it.';

CREATE FUNCTION stripe_sync.enable_destination(name text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_enable_destination';
COMMENT ON FUNCTION stripe_sync.enable_destination(text) IS
'Switches a destination on again; the messages that waited are sent. SY005 when there is none of that name.';

CREATE FUNCTION stripe_sync.disable_destination(name text, reason text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_disable_destination';
COMMENT ON FUNCTION stripe_sync.disable_destination(text, text) IS
'Switches a destination off; its messages wait. reason is shown; NULL is "switched off by hand". SY005 when there is none of that name.';

CREATE FUNCTION stripe_sync.drop_destination(name text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_drop_destination';
COMMENT ON FUNCTION stripe_sync.drop_destination(text) IS
'Forgets a destination, its secret and its routes, and cancels its messages that wait (a NOTICE says how many). 2BP01 while alerts name it; SY005 when there is none of that name.';

CREATE FUNCTION stripe_sync.set_fallback(name text, fallback text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_set_fallback';
COMMENT ON FUNCTION stripe_sync.set_fallback(text, text) IS
'Names the destination that is told when this one had to be switched off; NULL is none. SY005 when either isn''t there.';

CREATE FUNCTION stripe_sync.set_escalation(name text, second text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_set_escalation';
COMMENT ON FUNCTION stripe_sync.set_escalation(text, text) IS
'Names the destination that this one''s critical incidents are repeated to when nobody takes care of them; NULL is none. SY005 when either isn''t there.';

CREATE FUNCTION stripe_sync.route_customer(customer text, destination text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_route_customer';
COMMENT ON FUNCTION stripe_sync.route_customer(text, text) IS
'Sends what alerts for ''@customer'' have to say about a customer (cus_...) to a destination. SY005 when there is no such destination.';

CREATE FUNCTION stripe_sync.unroute_customer(customer text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_unroute_customer';
COMMENT ON FUNCTION stripe_sync.unroute_customer(text) IS
'Takes a customer''s route away; alerts for ''@customer'' then say nothing of it.';
