#!/usr/bin/env bash
#
# scale.sh: trace(), doctor(), metrics() and the dashboards over a large inbox.
#
# Run by test/bench/run as the server's user.  Fills EVENTS events (2,000,000)
# of 90 days, twenty to a customer, with the mirror's rows, handler runs,
# incidents, messages and deliveries that belong to them.  Then prints, for each
# kind of reference and each function, the median and the longest of CALLS calls
# (20) with other arguments each, and by how much the session's memory grew.

set -euo pipefail
# shellcheck source=test/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"
# shellcheck source=test/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

EVENTS=${EVENTS:-2000000}
CALLS=${CALLS:-20}
CUSTOMERS=$((EVENTS / 20))

# Event g of 0 .. EVENTS - 1 is the k-th of customer c: created, subscribed, and
# six invoices that are created, finalized and paid.
fill_events()
{
	sql "
CREATE FUNCTION object_of(c bigint, k bigint, OUT type text, OUT object text, OUT id text, OUT data jsonb)
LANGUAGE sql IMMUTABLE AS \$\$
SELECT CASE WHEN k = 0 THEN 'customer.created' WHEN k = 1 THEN 'customer.subscription.created'
            ELSE 'invoice.' || (ARRAY['created', 'finalized', 'paid'])[(k - 2) % 3 + 1] END,
       CASE WHEN k = 0 THEN 'customer' WHEN k = 1 THEN 'subscription' ELSE 'invoice' END, o->>'id', o
  FROM (SELECT CASE
    WHEN k = 0 THEN jsonb_build_object('id', 'cus_' || c, 'object', 'customer', 'email', 'user' || c || '@example.com',
         'name', 'User ' || c, 'created', 1700000000 + c, 'currency', 'eur', 'description', repeat('x', 300))
    WHEN k = 1 THEN jsonb_build_object('id', 'sub_' || c, 'object', 'subscription', 'customer', 'cus_' || c, 'status', 'active',
         'created', 1700000000 + c, 'currency', 'eur', 'description', repeat('x', 300))
    ELSE jsonb_build_object('id', 'in_' || c || '_' || (k - 2) / 3, 'object', 'invoice', 'customer', 'cus_' || c,
         'subscription', 'sub_' || c, 'charge', 'ch_' || c || '_' || (k - 2) / 3, 'payment_intent', 'pi_' || c || '_' || (k - 2) / 3,
         'status', (ARRAY['draft', 'open', 'paid'])[(k - 2) % 3 + 1], 'amount_due', 2900, 'amount_paid', CASE (k - 2) % 3 WHEN 2 THEN 2900 ELSE 0 END,
         'currency', 'eur', 'created', 1700000000 + c, 'description', repeat('x', 300)) END AS o) AS made
\$\$;
INSERT INTO stripe_sync.event (id, account, type, endpoint, livemode, api_version, object_type, object_id, request_id,
       idempotency_key, created, received_at, source, status, mirrored, todo, attempts, applied_at, payload)
SELECT 'evt_' || g, '', o.type, 'default', false, stripe_sync.catalog_api_version(), o.object, o.id, 'req_' || g,
       'key_' || md5(g::text), t.at, t.at + interval '0.4 s', 'webhook', 'applied', 'applied', '{}', 1, t.at + interval '0.4 s',
       json_build_object('id', 'evt_' || g, 'object', 'event', 'type', o.type, 'created', extract(epoch FROM t.at)::bigint,
         'livemode', false, 'api_version', stripe_sync.catalog_api_version(), 'data', json_build_object('object', o.data),
         'request', json_build_object('id', 'req_' || g, 'idempotency_key', 'key_' || md5(g::text)))
  FROM generate_series(0, $EVENTS - 1) g,
       LATERAL (SELECT date_trunc('second', now() - interval '90 days' + g * (interval '90 days' / $EVENTS)) AS at) t,
       LATERAL object_of(g % $CUSTOMERS, g / $CUSTOMERS) o"
}

fill_mirror()
{
	sql "
INSERT INTO stripe.customers (id, email, name, created, _data, _account, _event_id, _as_of, _synced_at)
SELECT o.id, o.data->>'email', o.data->>'name', to_timestamp((o.data->>'created')::bigint), o.data, '', 'evt_' || c, now(), now()
  FROM generate_series(0, $CUSTOMERS - 1) c, LATERAL object_of(c, 0) o;
INSERT INTO stripe.subscriptions (id, customer, status, created, _data, _account, _event_id, _as_of, _synced_at)
SELECT o.id, o.data->>'customer', 'active', to_timestamp((o.data->>'created')::bigint), o.data, '', 'evt_' || c, now(), now()
  FROM generate_series(0, $CUSTOMERS - 1) c, LATERAL object_of(c, 1) o;
INSERT INTO stripe.invoices (id, customer, subscription, charge, payment_intent, status, amount_due, currency, created, _data, _account, _event_id, _as_of, _synced_at)
SELECT o.id, o.data->>'customer', o.data->>'subscription', o.data->>'charge', o.data->>'payment_intent', 'paid', 2900, 'eur',
       to_timestamp((o.data->>'created')::bigint), o.data, '', 'evt_' || c, now(), now()
  FROM generate_series(0, $CUSTOMERS - 1) c, generate_series(4, 19, 3) k, LATERAL object_of(c, k) o;
INSERT INTO stripe.charges (id, customer, invoice, payment_intent, status, amount, currency, created, _data, _account, _event_id, _as_of, _synced_at)
SELECT 'ch_' || c || '_' || j, 'cus_' || c, 'in_' || c || '_' || j, 'pi_' || c || '_' || j, 'succeeded', 2900, 'eur', now(),
       jsonb_build_object('id', 'ch_' || c || '_' || j, 'object', 'charge', 'customer', 'cus_' || c, 'invoice', 'in_' || c || '_' || j,
         'payment_intent', 'pi_' || c || '_' || j, 'amount', 2900, 'currency', 'eur', 'status', 'succeeded', 'description', repeat('x', 300)),
       '', NULL, now(), now()
  FROM generate_series(0, $CUSTOMERS - 1) c, generate_series(0, 5) j;
INSERT INTO stripe.payment_intents (id, customer, status, amount, currency, created, _data, _account, _event_id, _as_of, _synced_at)
SELECT 'pi_' || c || '_' || j, 'cus_' || c, 'succeeded', 2900, 'eur', now(),
       jsonb_build_object('id', 'pi_' || c || '_' || j, 'object', 'payment_intent', 'customer', 'cus_' || c, 'latest_charge', 'ch_' || c || '_' || j,
         'amount', 2900, 'currency', 'eur', 'status', 'succeeded'), '', NULL, now(), now()
  FROM generate_series(0, $CUSTOMERS - 1) c, generate_series(0, 5) j"
}

fill_rest()
{
	sql "
INSERT INTO stripe_sync.handler_run (event_id, account, at, runs)
SELECT id, '', received_at, '[{\"handler\": \"access\", \"ms\": 1.2, \"ok\": true}]' FROM stripe_sync.event WHERE type = 'invoice.paid';
INSERT INTO stripe_sync.incident_record (kind, alert, group_key, account, destination, severity, state, text, event_id, opened_at, window_until, closed_at, closed_by)
SELECT 'single', 'payment_failed', object_id, '', 'billing', 'warning', 'closed', 'Payment failed', id, received_at, received_at, received_at, id
  FROM stripe_sync.event WHERE type = 'invoice.finalized' ORDER BY received_at DESC LIMIT 20000;
INSERT INTO stripe_sync.alerted (event_id, account, alert, group_key, created, closes, incident)
SELECT event_id, '', alert, group_key, opened_at, false, id FROM stripe_sync.incident_record;
INSERT INTO stripe_sync.message (destination, method, payload, thread, state, attempts, due_at, slack_ts, event_id, account, alert, incident, created_at, settled_at)
SELECT destination, 'post', '{\"text\": \"Payment failed\"}', 'incident:' || id, 'sent', 1, opened_at,
       to_char(1700000000 + id, 'FM9999999999') || '.000100', event_id, '', alert, id, opened_at, opened_at
  FROM stripe_sync.incident_record;
UPDATE stripe_sync.incident_record i SET message_id = m.id FROM stripe_sync.message m WHERE m.incident = i.id;
INSERT INTO stripe_sync.delivery (message_id, attempt, started_at, finished_at, http_status, code, verdict, duration)
SELECT id, 1, created_at, created_at, 200, 'ok', 'sent', interval '0.2 s' FROM stripe_sync.message"
	sql "VACUUM ANALYZE"
}

# Milliseconds, median and longest, and kB of memory: of a statement, in which
# {n} is another number in each call.
measure()
{
	psql -X -q -At -v ON_ERROR_STOP=1 -d bench <<-END | awk -v what="$1" '
		{ split($0, v, "|") } END { printf "%-34s median %7.1f ms   longest %7.1f ms   memory %6.1f MB\n", what, v[1], v[2], v[3] / 1024 }'
		CREATE FUNCTION pg_temp.peak() RETURNS bigint LANGUAGE sql AS \$\$
			SELECT substring(pg_read_file('/proc/' || pg_backend_pid() || '/status') FROM 'VmPeak:\s+(\d+)')::bigint \$\$;
		CREATE TEMP TABLE took (ms float8);
		CREATE TEMP TABLE peaks AS SELECT pg_temp.peak() AS kb;
		DO \$\$
		DECLARE started timestamptz;
		BEGIN
			FOR i IN 0..$CALLS LOOP
				started := clock_timestamp();
				EXECUTE replace(\$q\$$2\$q\$, '{n}', ((i::bigint * 7919 + 17) % $CUSTOMERS)::text);
				-- the first call of a session loads caches and plans
				IF i > 0 THEN
					INSERT INTO took VALUES (extract(epoch FROM clock_timestamp() - started) * 1000);
				END IF;
			END LOOP;
		END \$\$;
		SELECT (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FROM took), (SELECT max(ms) FROM took),
			pg_temp.peak() - (SELECT kb FROM peaks);
	END
}

measure_all()
{
	measure "trace, event" "SELECT * FROM stripe_sync.trace('evt_{n}')"
	measure "trace, invoice" "SELECT * FROM stripe_sync.trace('in_{n}_3')"
	measure "trace, charge" "SELECT * FROM stripe_sync.trace('ch_{n}_3')"
	measure "trace, payment intent" "SELECT * FROM stripe_sync.trace('pi_{n}_3')"
	measure "trace, subscription" "SELECT * FROM stripe_sync.trace('sub_{n}')"
	measure "trace, customer" "SELECT * FROM stripe_sync.trace('cus_{n}')"
	measure "trace, message" "SELECT * FROM stripe_sync.trace('message ' || ({n} % 20000 + 1))"
	measure "trace, Slack ts" "SELECT * FROM stripe_sync.trace((1700000001 + {n} % 20000) || '.000100')"
	measure "trace, incident" "SELECT * FROM stripe_sync.trace('incident ' || ({n} % 20000 + 1))"
	measure "trace, request id" "SELECT * FROM stripe_sync.trace('req_{n}')"
	measure "trace, idempotency key" "SELECT * FROM stripe_sync.trace('key_' || md5('{n}'))"
	measure "trace, e-mail" "SELECT * FROM stripe_sync.trace('user{n}@example.com')"
	measure "trace_text, invoice" "SELECT stripe_sync.trace_text('in_{n}_3')"
	measure "trace_html, invoice" "SELECT stripe_sync.trace_html('in_{n}_3')"
	measure "doctor" "SELECT * FROM stripe_sync.doctor()"
	measure "metrics" "SELECT stripe_sync.metrics()"
	measure "activity" "SELECT * FROM stripe_sync.activity"
	measure "dashboard" "SELECT stripe_sync.dashboard()"
	measure "dashboard_text" "SELECT stripe_sync.dashboard_text()"
	measure "history, invoice" "SELECT * FROM stripe_sync.history('invoice', 'in_{n}_3')"
}

main()
{
	cd "$WORK/tree"
	build_extension
	install_privately
	cluster_start "$WORK/cluster" "$WORK/socket" \
		"shared_buffers = 1GB" "checkpoint_timeout = 1h" "max_wal_size = 16GB" \
		"fsync = off" "stripe_sync.outbound = off" \
		"shared_preload_libraries = 'stripe_sync'"
	trap cluster_stop EXIT
	createdb bench
	sql "CREATE EXTENSION stripe_sync"
	sql "SELECT stripe_sync.add_endpoint('default', 'whsec_bench')" >/dev/null
	sql "SELECT stripe_sync.add_slack_webhook('billing', 'https://hooks.slack.com/services/T0/B0/x')" >/dev/null
	fill_events
	fill_mirror
	fill_rest
	printf '%s\n' "$(nproc) processors, load $(cut -d ' ' -f 1 /proc/loadavg), $("$PG_CONFIG" --version), $(sql "SELECT count(*) FROM stripe_sync.event") events, $(sql "SELECT pg_size_pretty(pg_database_size('bench'))")"
	measure_all
}

main
