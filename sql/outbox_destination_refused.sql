-- Who is told when Slack refuses a destination?  Where nobody is, whoever sets it up is told that.
\set tables '{customer}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
SELECT stripe_sync.pause('slack');
SET client_min_messages = notice;
-- the only place there is
SELECT stripe_sync.add_slack_channel('billing', '#billing', 'xoxb-1');
SELECT count(*) > 10 AS made FROM stripe_sync.add_default_alerts('billing');
-- nothing has changed: nothing is said
SELECT stripe_sync.add_slack_channel('billing', '#billing', 'xoxb-1');
SELECT count(*) > 10 AS made FROM stripe_sync.add_default_alerts('billing');
-- a second one: billing has the alert that tells of it
SELECT stripe_sync.add_slack_webhook('o''ps', 'https://hooks.slack.com/services/T0/B0/x');
-- of billing nobody is told yet
SELECT stripe_sync.add_slack_channel('billing', '#billing-2', 'xoxb-1');
SELECT stripe_sync.set_fallback('billing', 'o''ps');
SELECT stripe_sync.add_slack_channel('billing', '#billing-3', 'xoxb-1');
-- a fallback that is off is none
SELECT stripe_sync.disable_destination('o''ps', NULL);
SELECT stripe_sync.add_slack_channel('billing', '#billing-4', 'xoxb-1');
-- neither the web server nor the worker is told
SELECT stripe_sync.notify('billing', 'x') IS NOT NULL AS queued;
SELECT t.send('evt_1', 'customer.created', 1, '{"id":"cus_1","object":"customer"}');
