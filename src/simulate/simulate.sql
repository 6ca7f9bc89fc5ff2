/* ---- Simulated events ---- */

/* ---- Simulated events ---- */

CREATE FUNCTION stripe_sync.simulate(event_type text, object jsonb, endpoint text DEFAULT 'default',
	account text DEFAULT '', created timestamptz DEFAULT NULL, previous jsonb DEFAULT NULL,
	OUT event_id text, OUT status text, OUT detail text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_simulate';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.simulate(text, jsonb, text, text, timestamptz, jsonb) IS
'Creates an event (evt_sim_...) about an object, signs it with the endpoint''s secret, and receives it. Example: simulate(''customer.updated'', ''{"id": "cus_1", "name": "Ada"}''). Missing fields are taken from the stored object, or from a fixture if there is none. previous is the event''s previous_attributes; NULL computes it from the stored object. The state of the last call is the newest: if two calls fall into the same second and cannot be ordered, the second call waits for the next second. Raises 55000 for an endpoint that accepts live events, and 22023 if created is in the future.';

CREATE FUNCTION stripe_sync.simulate_story(story text, customer text DEFAULT NULL, steps text[] DEFAULT NULL, endpoint text DEFAULT 'default')
	RETURNS TABLE (step text, event_id text, type text, object_id text, status text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_simulate_story';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.simulate_story(text, text, text[], text) IS
'Simulates a sequence of events as Stripe would send them, the last one as of now, and returns the events sent. Stories and their steps: subscription (checkout, paid, renewed, failed, recovered, cancelled), dispute (paid, opened, answered, lost), refund (paid, partly_refunded, refunded). steps selects the first steps of the story; NULL selects all. The customer is created if it is not stored; NULL creates a new one.';
