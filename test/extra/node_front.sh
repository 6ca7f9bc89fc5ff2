#!/usr/bin/env bash
#
# node_front.sh: the README's front for Node, with everything real: Stripe's
# own package signs, HTTP carries, Postgres receives.
#
# Prints TAP.  Skipped where there is no node, or no registry to get the
# packages "pg" and "stripe" from.

set -euo pipefail
# shellcheck source=test/front/lib.sh
. "$(dirname "$0")/../front/lib.sh"

OLDEST_NODE=20

node_is_usable()
{
	command -v node >/dev/null && command -v npm >/dev/null &&
		[ "$(node -p 'parseInt(process.versions.node)')" -ge "$OLDEST_NODE" ]
}

packages_install()
{
	timeout 180 npm install --prefix "$WORK/node" --cache "$WORK/npm" --no-audit --no-fund \
		--ignore-scripts --fetch-retries=1 --fetch-timeout=30000 \
		>"$WORK/npm.log" 2>&1 </dev/null
}

front_start()
{
	PORT=$(free_port)
	export PORT
	node "$WORK/node/front.mjs" >"$WORK/front.log" 2>&1 </dev/null &
	front_pids+=($!)
	await_port "$PORT" $! || { cat "$WORK/front.log" >&2; die "the front did not start"; }
}

main()
{
	node_is_usable || skip_all "no node $OLDEST_NODE or newer, or no npm"
	place_make
	mkdir "$WORK/node"
	cp "$HERE/package.json" "$HERE/check.mjs" "$WORK/node/"
	extract front.mjs >"$WORK/node/front.mjs"
	packages_install || skip_all "npm cannot install pg and stripe"
	cluster_make
	sql "CREATE EXTENSION stripe_sync; CREATE ROLE front LOGIN;
		 SELECT stripe_sync.grant_ingest('front');
		 SELECT stripe_sync.add_endpoint('default', '$SECRET', livemode => false)" >/dev/null
	PGUSER=front front_start
	FRONT=http://127.0.0.1:$PORT \
		VECTORS=$HERE/../vectors/stripe_signature.json node "$WORK/node/check.mjs"
}

main
