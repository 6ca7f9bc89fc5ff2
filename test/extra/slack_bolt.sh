#!/usr/bin/env bash
#
# slack_bolt.sh: receive_slack() and a receiver of Slack's own @slack/bolt accept
# the same requests, and read the same in them.
#
# Prints TAP.  Skipped where there is no node, or no registry to get Bolt from.

set -euo pipefail
# shellcheck source=test/front/lib.sh
. "$(dirname "$0")/../front/lib.sh"
# shellcheck source=test/stub/place.sh
. "$(dirname "${BASH_SOURCE[0]}")/../stub/place.sh"

export SIGNING_SECRET=0123456789abcdef0123456789abcdef

bolt_install()
{
	mkdir -p "$WORK/node"
	cp "$HERE/check_bolt.mjs" "$WORK/node/"
	timeout 300 npm install --prefix "$WORK/node" --cache "$WORK/npm" --no-audit --no-fund \
		--ignore-scripts --fetch-retries=1 --fetch-timeout=30000 @slack/bolt@^5 \
		>"$WORK/npm.log" 2>&1 </dev/null
}

compare()
{
	sql "CREATE EXTENSION stripe_sync;
		 SELECT stripe_sync.add_slack_app('default', '$SIGNING_SECRET');
		 CREATE TABLE request (n int, body text, headers jsonb, bolt int, strict boolean, seen jsonb, status int)" >/dev/null
	psql -X -q -d "$DATABASE" -v ON_ERROR_STOP=1 -v file="$WORK/requests" <<-'SQL'
		\set requests `cat :'file'`
		INSERT INTO request SELECT n, r->>'body', r->'headers', (r->>'bolt')::int, (r->>'strict')::boolean, r->'seen'
		  FROM json_array_elements(:'requests') WITH ORDINALITY v (r, n);
		UPDATE request SET status = (SELECT http_status FROM stripe_sync.receive_slack(request.body, request.headers));
	SQL
	is "$(sql "SELECT count(*) FILTER (WHERE bolt = 200) > 100, count(*) FILTER (WHERE bolt <> 200) > 300, count(*) FILTER (WHERE bolt = 200 AND NOT strict) > 50 FROM request")" \
		't|t|t' "Bolt accepts some and refuses others, and is less strict with some"
	is "$(sql "SELECT n, bolt, status, headers FROM request WHERE (status = 200) <> (bolt = 200 AND strict) ORDER BY n LIMIT 3")" \
		'' "what Bolt accepts is accepted, and nothing else"
	is "$(sql "SELECT DISTINCT status FROM request WHERE status <> 200")" 401 "what is refused is refused for its signature"
	is "$(sql "SELECT n, i.body, r.seen FROM request r JOIN stripe_sync.interaction i ON i.key IN ('body:' || encode(sha256(convert_to(r.body, 'UTF8')), 'hex'), 'event:' || (r.seen ->> 'event_id'))
		WHERE r.status = 200 AND i.body IS DISTINCT FROM r.seen - '{token,trigger_id,response_url}'::text[] ORDER BY n LIMIT 3")" \
		'' "what Bolt reads in them is what is stored"
	is "$(sql "SELECT (SELECT count(DISTINCT body) FROM request WHERE status = 200) = (SELECT count(*) FROM stripe_sync.interaction)")" t "each has its row"
}

main()
{
	node_is_usable || skip_all "no node $OLDEST_NODE or newer, or no npm"
	place_make
	bolt_install || skip_all "npm cannot install Bolt"
	cluster_make
	timeout 120 node "$WORK/node/check_bolt.mjs" >"$WORK/requests" 2>"$WORK/stderr" || { sed 's/^/# /' "$WORK/stderr"; die "Bolt's receiver failed"; }
	compare
	done_testing
}

main
