/* ---- templates: what an alert's text becomes ---- */

CREATE FUNCTION stripe_sync.render_template(template text, event jsonb) RETURNS text
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_render_template';
COMMENT ON FUNCTION stripe_sync.render_template(text, jsonb) IS
'What an alert''s template makes of an event: render_template(''{{customer.name or customer}} owes {{amount_due | money}}'', (SELECT payload::jsonb FROM stripe_sync.event WHERE id = ''evt_1'')). Filters: money, date, day, link, upper, lower, count, default:text. 22023 when the template can''t be read, SY004 when the event can''t.';

CREATE FUNCTION stripe_sync.preview_message(text text, blocks jsonb DEFAULT NULL, event jsonb DEFAULT NULL,
	severity text DEFAULT NULL) RETURNS jsonb
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_preview_message';
COMMENT ON FUNCTION stripe_sync.preview_message(text, jsonb, jsonb, text) IS
'What would be posted to Slack for a text and blocks, cut to Slack''s sizes; nothing is sent. With an event both are templates and are rendered on it first. Severity is info, warning or critical. 22023 when the blocks are no array of Block Kit blocks.';
