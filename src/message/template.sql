/* ---- Templates ---- */

CREATE FUNCTION stripe_sync.render_template(template text, event jsonb) RETURNS text
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_render_template';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.render_template(text, jsonb) IS
'Renders an alert''s template on an event. Example: render_template(''{{customer.name or customer}} owes {{amount_due | money}}'', (SELECT payload::jsonb FROM stripe_sync.event WHERE id = ''evt_1'')). Filters: money, date, day, link, upper, lower, count, default:text. Raises 22023 for an invalid template, SY004 for an invalid event.';

CREATE FUNCTION stripe_sync.preview_message(text text, blocks jsonb DEFAULT NULL, event jsonb DEFAULT NULL,
	severity text DEFAULT NULL) RETURNS jsonb
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_preview_message';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.preview_message(text, jsonb, jsonb, text) IS
'Returns the message that would be posted to Slack for a text and blocks, shortened to Slack''s limits; nothing is sent. If event is given, text and blocks are templates and are rendered on it. severity is info, warning, or critical. Raises 22023 if blocks is not an array of Block Kit blocks.';
