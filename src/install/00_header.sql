/* stripe_sync: Stripe's events and objects, applied inside PostgreSQL */
\echo Use "CREATE EXTENSION stripe_sync" to load this file. \quit

DO $$
BEGIN
	IF pg_catalog.current_setting('server_encoding') <> 'UTF8' THEN
		RAISE EXCEPTION 'stripe_sync needs a database whose encoding is UTF8, this one is %',
			pg_catalog.current_setting('server_encoding')
			USING ERRCODE = 'feature_not_supported',
				HINT = 'CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0.';
	END IF;
END $$;

-- Functions come to be executable by PUBLIC: 90_grants.sql takes that away
-- again from all but the few that anybody may call.
