#!/usr/bin/env bash
#
# node_front.sh: the fronts for Node in doc/fronts.md and what the README sends to
# one, with everything real: Stripe's own package signs, HTTP carries, Postgres
# receives.
#
# Prints TAP.  Skipped where there is no node, or no registry to get the packages
# of test/front/package.json from.  Next.js has packages of its own: where those
# cannot be installed, that front alone is skipped.

set -euo pipefail
# shellcheck source=test/front/lib.sh
. "$(dirname "$0")/../front/lib.sh"

OLDEST_NODE=20

node_is_usable()
{
	command -v node >/dev/null && command -v npm >/dev/null &&
		[ "$(node -p 'parseInt(process.versions.node)')" -ge "$OLDEST_NODE" ]
}

# The packages of a folder's package.json, or those named
packages_install()				# folder packages
{
	local folder=$1
	shift

	timeout 300 npm install --prefix "$folder" --cache "$WORK/npm" --no-audit --no-fund \
		--ignore-scripts --fetch-retries=1 --fetch-timeout=30000 "$@" \
		>"$WORK/npm.log" 2>&1 </dev/null
}

# A database with the extension, whose user "front" may hand in events
database_make()					# name
{
	DATABASE=$1
	export PGDATABASE=$1
	[ "$1" = front ] || createdb "$1"
	sql "CREATE EXTENSION stripe_sync;
		 SELECT stripe_sync.grant_ingest('front');
		 SELECT stripe_sync.add_endpoint('default', '$SECRET', livemode => false);
		 SELECT stripe_sync.add_slack_app('default', '$SLACK_SECRET')" >/dev/null
}

front_start()					# command
{
	PORT=$(free_port)
	export PORT
	PGUSER=front "$@" >"$WORK/front.log" 2>&1 </dev/null &
	front_pids+=($!)
	await_port "$PORT" $! || { cat "$WORK/front.log" >&2; die "the front did not start"; }
}

front_stop()
{
	kill "${front_pids[-1]}" 2>/dev/null || true
	wait "${front_pids[-1]}" 2>/dev/null || true
	unset 'front_pids[-1]'
}

# What check.mjs finds of the front that runs, with the front's name before it
check()							# name path
{
	local line finished=1

	while IFS= read -r line; do
		case $line in
			"ok - "*) ok 0 "$1: ${line#ok - }" ;;
			"not ok - "*) ok 1 "$1: ${line#not ok - }" ;;
			done) finished=0 ;;
			*) say "$line" ;;
		esac
	done < <(FRONT=http://127.0.0.1:$PORT$2 node "$WORK/node/check.mjs" 2>&1)
	ok "$finished" "$1: looked at to the end"
}

# A front that is one file
front_file()					# name file path
{
	database_make "$1"
	extract "$2" >"$WORK/node/$2"
	front_start node "$WORK/node/$2"
	check "$1" "$3"
	front_stop
}

# A front for Slack that is one file
front_slack()
{
	database_make "$1"
	extract "$2" >"$WORK/node/$2"
	front_start node "$WORK/node/$2"
	check_slack_front "$1" "http://127.0.0.1:$PORT/slack"
	front_stop
}

front_next()
{
	local site=$WORK/site name=next next=$WORK/site/node_modules/next/dist/bin/next

	mkdir -p "$site/app/stripe/webhook"
	if ! packages_install "$site" next@^16 react@^19 react-dom@^19 pg@^8; then
		skip "npm cannot install next" "$name"
		return
	fi
	database_make next
	extract app/stripe/webhook/route.js >"$site/app/stripe/webhook/route.js"
	cat >"$site/app/layout.js" <<-'LAYOUT'
		export default function Layout({ children }) {
		  return <html><body>{children}</body></html>;
		}
	LAYOUT
	echo 'export default function Page() { return null; }' >"$site/app/page.js"
	export NEXT_TELEMETRY_DISABLED=1
	if ! (cd "$site" && timeout 400 node "$next" build) >"$WORK/next.log" 2>&1 </dev/null; then
		ok 1 "$name: builds"
		tail -n 20 "$WORK/next.log" | sed 's/^/# /'
		return
	fi
	ok 0 "$name: builds"
	front_start node "$next" start "$site" -H 127.0.0.1
	check "$name" /stripe/webhook
	front_stop
}

# The README's own way: its front, what it sends, and the question it answers
readme()
{
	local readme=$ROOT/README.md url

	database_make readme
	extract front.mjs "$readme" >"$WORK/node/readme_front.mjs"
	extract send.mjs "$readme" >"$WORK/node/send.mjs"
	is "$(cat "$WORK/node/readme_front.mjs")" "$(extract express.mjs)" "the README's front is that of doc/fronts.md"
	front_start node "$WORK/node/readme_front.mjs"
	url=http://localhost:$PORT/stripe/webhook
	is "$(cd "$WORK/node" && STRIPE_WEBHOOK_SECRET=$SECRET node send.mjs "$url" 2>&1)" \
		'200 {"event":"evt_readme","status":"applied"}' "what the README sends is applied"
	is "$(cd "$WORK/node" && STRIPE_WEBHOOK_SECRET=whsec_another node send.mjs "$url" 2>&1 | cut -c 1-19)" \
		'400 {"code":"SY002"' "with another secret it is refused"
	is "$(sql "SELECT status FROM stripe.subscriptions WHERE customer = 'cus_Ada'")" active \
		"the customer of the README is active"
	front_stop
}

main()
{
	node_is_usable || skip_all "no node $OLDEST_NODE or newer, or no npm"
	place_make
	mkdir "$WORK/node"
	cp "$HERE/package.json" "$HERE/check.mjs" "$WORK/node/"
	packages_install "$WORK/node" || skip_all "npm cannot install the packages"
	cluster_make
	sql "CREATE ROLE front LOGIN" >/dev/null
	export VECTORS=$HERE/../vectors/stripe_signature.json
	front_file front front.mjs /
	unset VECTORS
	front_file express express.mjs /stripe/webhook
	front_file fastify fastify.mjs /stripe/webhook
	front_file hono hono.mjs /stripe/webhook
	front_slack slack slack.mjs
	front_slack slack_express slack_express.mjs
	front_next
	readme
	done_testing
}

main
