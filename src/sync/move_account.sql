/* ---- Accounts ---- */

CREATE FUNCTION stripe_sync.move_account(old text, new text) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_move_account';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.move_account(text, text) IS
'Renames an account in all stored data, together with the accounts below it: endpoints, events, mirror, alerts, jobs, and API keys. Returns the number of rows changed. Raises 42710, and changes nothing, if rows of the new name exist.';
