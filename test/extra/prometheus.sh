#!/usr/bin/env bash
#
# prometheus.sh: promtool and a real Prometheus read what metrics() returns, by the
# front of doc/metrics.md; the alert rules pass their own test, and one fires.
#
# Prints TAP.  Uses the server that test/run has started.

set -euo pipefail
# shellcheck source=test/front/lib.sh
. "$(dirname "$0")/../front/lib.sh"

for program in promtool prometheus python3; do
	command -v "$program" >/dev/null || skip_all "there is no $program"
done

DOC=$ROOT/doc/metrics
export PGDATABASE=prometheus
pids=()

tidy()
{
	local pid

	for pid in ${pids[@]+"${pids[@]}"}; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	dropdb --if-exists --force "$PGDATABASE" || true
	rm -rf "$WORK"
}

sql() { psql -XAtq -v ON_ERROR_STOP=1 -c "$1"; }

free_port()
{
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Does the URL $1 answer with $2 (a regex), within a minute?
answers()
{
	local until=$((SECONDS + 60))

	while ((SECONDS < until)); do
		if python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())' "$1" 2>/dev/null |
			grep -Eq -- "$2"; then
			return 0
		fi
		sleep 0.2
	done
	return 1
}

WORK=$(mktemp -d)
trap tidy EXIT
dropdb --if-exists "$PGDATABASE" 2>/dev/null
createdb "$PGDATABASE"
sql "SET client_min_messages = warning; CREATE EXTENSION stripe_sync;
	SELECT stripe_sync.add_endpoint('default', 'whsec_test');
	SELECT stripe_sync.add_slack_webhook(E'o\"p\\\\s', 'https://hooks.slack.com/services/T0/B0/x');
	SELECT stripe_sync.disable_destination(E'o\"p\\\\s', 'test')" >/dev/null

status=0; sql "SELECT stripe_sync.metrics()" | promtool check metrics >"$WORK/said" 2>&1 || status=$?
ok $status "promtool check metrics"
sed 's/^/# /' "$WORK/said"
status=0; promtool check rules "$DOC/alerts.yml" >"$WORK/said" 2>&1 || status=$?
ok $status "promtool check rules"
status=0; (cd "$DOC" && promtool test rules alerts_test.yml) >"$WORK/said" 2>&1 || status=$?
ok $status "promtool test rules"

# every metric that rules and dashboard name is one
named=$(cat "$DOC/alerts.yml" "$DOC/grafana.json" | grep -oE 'stripe_sync_[a-z_]+' | sed 's/_bucket$//' | sort -u)
known=$(cat "$ROOT"/src/metrics/*.c | tr '\n\t' '  ' | grep -oE '"[a-z_]+", +"(counter|gauge|histogram)"' | sed -E 's/^"([a-z_]+)".*/stripe_sync_\1/')
is "$(comm -23 <(echo "$named" | sort -u) <(echo "$known" | sort -u))" "" "rules and dashboard name metrics that there are"
status=0; python3 -c 'import json, sys; assert len(json.load(open(sys.argv[1]))["panels"]) > 10' "$DOC/grafana.json" || status=$?
ok $status "the dashboard is JSON"

# the front of the document, on a free port
port=$(free_port)
sed -n '/^```python$/,/^```$/p' "$ROOT/doc/metrics.md" | sed '/^```/d' | sed "s/9188/$port/" >"$WORK/front.py"
python3 "$WORK/front.py" >/dev/null 2>&1 &
pids+=($!)
answers "http://127.0.0.1:$port/metrics" '^stripe_sync_destination_enabled\{destination="o\\"p\\\\s"\} 0' && status=0 || status=1
ok $status "the front of doc/metrics.md answers"

sed 's/for: [0-9]*m$/for: 0s/' "$DOC/alerts.yml" >"$WORK/alerts.yml"
cat >"$WORK/prometheus.yml" <<-END
	global: {scrape_interval: 1s, evaluation_interval: 1s}
	rule_files: [alerts.yml]
	scrape_configs: [{job_name: stripe_sync, static_configs: [{targets: ['127.0.0.1:$port']}]}]
END
web=$(free_port)
prometheus --config.file="$WORK/prometheus.yml" --storage.tsdb.path="$WORK/data" --web.listen-address="127.0.0.1:$web" >"$WORK/prometheus.log" 2>&1 &
pids+=($!)
answers "http://127.0.0.1:$web/api/v1/query?query=stripe_sync_destination_enabled" '"value":\[[0-9.]+,"0"\]' && status=0 || status=1
ok $status "Prometheus has the samples"
answers "http://127.0.0.1:$web/api/v1/alerts" '"alertname":"StripeSyncDestinationDisabled"[^}]*\}.*"state":"firing"' && status=0 || status=1
ok $status "an alert fires"
[ $status -eq 0 ] || tail -n 5 "$WORK/prometheus.log" | sed 's/^/# /'
done_testing
