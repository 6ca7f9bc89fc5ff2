/* ---- The bot: who may do what, and what it does ---- */

CREATE TABLE stripe_sync.slack_user (
	slack_user	text PRIMARY KEY,
	may			text NOT NULL,
	created_at	timestamptz NOT NULL DEFAULT pg_catalog.now(),
	set_by		text NOT NULL
);

-- grade: read
-- dump
COMMENT ON TABLE stripe_sync.slack_user IS 'What people may do from Slack';
COMMENT ON COLUMN stripe_sync.slack_user.slack_user IS 'Id of a person (U...), of a person of another workspace (T.../U...), or of a user group (S...)';
COMMENT ON COLUMN stripe_sync.slack_user.may IS 'see, act, administer, or nothing';
COMMENT ON COLUMN stripe_sync.slack_user.created_at IS 'Time when it was set';
COMMENT ON COLUMN stripe_sync.slack_user.set_by IS 'Role that has set it';

CREATE FUNCTION stripe_sync.set_slack_user(slack_user text, may text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_set_slack_user';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.set_slack_user(text, text) IS
'Sets what a person may do from Slack: see (trace, customer, status), act (also acknowledge, snooze, resolve), administer (also retry, enable, reconcile, mute), or nothing. slack_user is the id of a person (U...), of a person of another workspace (T.../U...), or of a user group (S...), whose members the worker reads every ten minutes. A person''s own entry takes precedence over those of groups; of several groups the one that may most counts. Raises 22023 for a bad argument.';

CREATE TABLE stripe_sync.slack_action (
	action_id		text PRIMARY KEY,
	function		text NOT NULL,
	function_owner	text NOT NULL,
	role			text NOT NULL,
	search_path		text NOT NULL,
	path_owners		text[] NOT NULL,
	stopped_at		timestamptz,
	created_at		timestamptz NOT NULL DEFAULT pg_catalog.now()
);

-- grade: read
-- dump
COMMENT ON TABLE stripe_sync.slack_action IS 'Functions that run when a button of the application''s own is pressed';
COMMENT ON COLUMN stripe_sync.slack_action.action_id IS 'action_id of the button, or callback_id of a view or shortcut';
COMMENT ON COLUMN stripe_sync.slack_action.function IS 'The function';
COMMENT ON COLUMN stripe_sync.slack_action.function_owner IS 'Its owner when it was registered';
COMMENT ON COLUMN stripe_sync.slack_action.role IS 'Role that registered it, as which it runs';
COMMENT ON COLUMN stripe_sync.slack_action.search_path IS 'search_path with which it runs';
COMMENT ON COLUMN stripe_sync.slack_action.path_owners IS 'Owners of the schemas in search_path when it was registered';
COMMENT ON COLUMN stripe_sync.slack_action.stopped_at IS 'Time when revoke_all() stopped it';
COMMENT ON COLUMN stripe_sync.slack_action.created_at IS 'Time when it was registered';

CREATE TABLE stripe_sync.slack_command (
	command			text PRIMARY KEY,
	function		text NOT NULL,
	function_owner	text NOT NULL,
	role			text NOT NULL,
	search_path		text NOT NULL,
	path_owners		text[] NOT NULL,
	stopped_at		timestamptz,
	created_at		timestamptz NOT NULL DEFAULT pg_catalog.now()
);

-- grade: read
-- dump
COMMENT ON TABLE stripe_sync.slack_command IS 'Functions that run when a slash command of the application''s own is used';
COMMENT ON COLUMN stripe_sync.slack_command.command IS 'The command, such as /orders';
COMMENT ON COLUMN stripe_sync.slack_command.function IS 'The function';
COMMENT ON COLUMN stripe_sync.slack_command.function_owner IS 'Its owner when it was registered';
COMMENT ON COLUMN stripe_sync.slack_command.role IS 'Role that registered it, as which it runs';
COMMENT ON COLUMN stripe_sync.slack_command.search_path IS 'search_path with which it runs';
COMMENT ON COLUMN stripe_sync.slack_command.path_owners IS 'Owners of the schemas in search_path when it was registered';
COMMENT ON COLUMN stripe_sync.slack_command.stopped_at IS 'Time when revoke_all() stopped it';
COMMENT ON COLUMN stripe_sync.slack_command.created_at IS 'Time when it was registered';

CREATE FUNCTION stripe_sync.add_slack_action(action_id text, handler regproc) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_add_slack_action';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.add_slack_action(text, regproc) IS
'Registers a function for a button of the application''s own, or for a view or shortcut, by its action_id or callback_id. The function takes the interaction (jsonb) and returns the answer (jsonb), or NULL for none: a message, with text or blocks, which only the person sees unless response_type is in_channel; {"view": ...}, which the worker opens; or, for a submitted view, {"response_action": ...}. It runs in the transaction of receive_slack(), as the current role and with the current search_path, within stripe_sync.handler_timeout and 2.5 seconds, as Slack waits for an answer for 3. It decides itself whether the person may do this: may in the interaction is what set_slack_user() permits them. If it raises an error, what it wrote is rolled back, and the person is told that it did not work. An action of the same action_id is replaced. Raises 22023 for an action_id that begins with stripe_sync.';

CREATE FUNCTION stripe_sync.drop_slack_action(action_id text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_drop_slack_action';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.drop_slack_action(text) IS
'Removes an action. Raises SY005 if there is no such action.';

CREATE FUNCTION stripe_sync.add_slack_command(command text, handler regproc) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_add_slack_command';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.add_slack_command(text, regproc) IS
'Registers a function for a slash command of the application''s own, such as /orders. The function takes the interaction (jsonb) and returns the answer (jsonb), as that of add_slack_action() does, and runs in the same way. A command of the same name is replaced. Raises 22023 for /stripe, which stripe_sync answers.';

CREATE FUNCTION stripe_sync.drop_slack_command(command text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_drop_slack_command';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.drop_slack_command(text) IS
'Removes a command. Raises SY005 if there is no such command.';

CREATE FUNCTION stripe_sync.receive_slack(body bytea, headers jsonb, app text DEFAULT 'default',
	OUT http_status int, OUT body jsonb)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_receive_slack';

-- grade: ingest
COMMENT ON FUNCTION stripe_sync.receive_slack(bytea, jsonb, text) IS
'Receives a request from Slack (a button, command, shortcut, view, or event) as its exact bytes with its HTTP headers, does what it asks, and returns what an HTTP server has to answer: the status, and the body or NULL for none. A request that Slack repeats is answered from the stored one. Raises nothing for what a client sends: 401 for a signature that does not fit or is too old, 400 for a body that cannot be read, 413 for one that is too large, 500 if there is no such app or no secret.';

CREATE FUNCTION stripe_sync.receive_slack(body text, headers jsonb, app text DEFAULT 'default',
	OUT http_status int, OUT body jsonb)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_receive_slack';

-- grade: ingest
COMMENT ON FUNCTION stripe_sync.receive_slack(text, jsonb, text) IS
'The same for a body as text.';
