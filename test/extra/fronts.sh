#!/usr/bin/env bash
#
# fronts.sh: what the README shows really runs: its HTTP fronts, each with a
# web server, and its SQL and that of doc/ from the first block to the last,
# with the worker and a stub of Slack.
#
# Prints TAP.  A front is skipped where its language or its driver isn't there;
# nothing is installed.  The one for Node has a test of its own.  Without
# python3 and openssl nothing is sent to Slack.

set -euo pipefail
# shellcheck source=test/front/lib.sh
. "$(dirname "$0")/../front/lib.sh"
# shellcheck source=test/stub/place.sh
. "$(dirname "${BASH_SOURCE[0]}")/../stub/place.sh"

# ---- deliveries ----

event()							# id name livemode
{
	local customer=${1/evt_/cus_}

	printf '{\n  "id": "%s", "object": "event", "type": "customer.created",\r\n' "$1"
	printf '\t"created": 1760000000, "livemode": %s, "pending_webhooks": 1, "request": null,\n' "${3:-false}"
	printf '  "data": {"object": {"id": "%s", "object": "customer", "name": "%s"}}}\n\n' "$customer" "$2"
}

post() { perl "$HERE/post.pl" "$@"; }

statuses()						# url options of post.pl
{
	local url=$1 file=$2
	shift 2

	post "$@" "$url" "$WORK/$file" | sed -E 's/^([0-9]+) .*"(status|code)": *"([^"]*)".*/\1 \3/'
}

# What Stripe would see of a front, and what Postgres holds afterwards.
check_front()					# name url
{
	local name=$1 url=$2 id=evt_$1 as_it_came

	event "$id" "Zoë €5 😀" >"$WORK/event"
	event "$id.live" Ada true >"$WORK/live"
	event "$id.large" "$(head -c 3000000 /dev/zero | tr '\0' x)" >"$WORK/large"
	: >"$WORK/empty"
	is "$(statuses "$url" event)" "200 applied" "$name: good"
	is "$(statuses "$url" event)" "200 duplicate" "$name: again"
	as_it_came=$(sql "SELECT encode(convert_to(payload::text, 'UTF8'), 'base64')
		FROM stripe_sync.event WHERE id = '$id'")
	is "$(base64 -d <<<"$as_it_came" | cksum)" "$(cksum <"$WORK/event")" "$name: stored byte for byte"
	is "$(statuses "$url" event -s whsec_guessed)" "400 SY002" "$name: forged"
	is "$(statuses "$url" event -t 400)" "400 SY003" "$name: stale"
	is "$(statuses "$url" event -n)" "400 SY001" "$name: not signed"
	is "$(statuses "$url" empty)" "400 SY004" "$name: empty"
	is "$(statuses "$url" large)" "413 SY004" "$name: too large"
	is "$(statuses "$url" live)" "200 ignored" "$name: the other mode"
	sql "ALTER ROLE front NOLOGIN"
	sql "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
		WHERE usename = 'front'" >/dev/null
	is "$(post "$url" "$WORK/event" | sed -n '1s/ .*//p')" 500 "$name: the database is away"
	sql "ALTER ROLE front LOGIN"
	is "$(statuses "$url" event)" "200 duplicate" "$name: it is back"
}

# Run a command as a front and look at it; $1 is its name.
run_front()
{
	local name=$1
	shift

	PGUSER=front "$@" >"$WORK/$name.log" 2>&1 </dev/null &
	front_pids+=($!)
	if await_port "$PORT" $!; then
		ok 0 "$name: starts"
		check_front "$name" "http://127.0.0.1:$PORT/"
	else
		ok 1 "$name: starts"
		sed 's/^/# /' "$WORK/$name.log"
	fi
	kill "${front_pids[-1]}" 2>/dev/null || true
	wait "${front_pids[-1]}" 2>/dev/null || true
	unset 'front_pids[-1]'
}

# ---- the fronts ----

# The first python3 that has the driver: it need not be the first in PATH.
find_python()
{
	local python

	for python in python3 /usr/bin/python3; do
		if "$python" -c 'import psycopg' 2>/dev/null; then
			say "$python"
			return
		fi
	done
	return 1
}

front_python()
{
	local python

	python=$(find_python) || { skip "no python3 with psycopg" Python; return; }
	extract front.py >"$WORK/front.py"
	run_front Python "$python" -c "
import sys; sys.path.insert(0, '$WORK')
from wsgiref.simple_server import make_server
from wsgiref.validate import validator
from front import app
make_server('127.0.0.1', $PORT, validator(app)).serve_forever()"
}

front_ruby()
{
	if ! ruby -r pg -r rack -r webrick -e 1 2>/dev/null || ! command -v rackup >/dev/null; then
		skip "no ruby with pg, rack and webrick" Ruby
		return
	fi
	extract config.ru >"$WORK/config.ru"
	run_front Ruby rackup -s webrick -o 127.0.0.1 -p "$PORT" "$WORK/config.ru"
}

front_php()
{
	if ! php -r 'exit(extension_loaded("pdo_pgsql") ? 0 : 1);' 2>/dev/null; then
		skip "no php with pdo_pgsql" PHP
		return
	fi
	extract front.php >"$WORK/front.php"
	run_front PHP php -d display_errors=1 -S "127.0.0.1:$PORT" "$WORK/front.php"
}

# With the driver of Debian's package, which is of version 4 on Debian 12 and
# differs in a name, or with one from the cache of modules.
go_build()
{
	local debian=/usr/share/gocode pgx cache

	mkdir -p "$WORK/go"
	{ extract main.go; say; extract front.go; } >"$WORK/go/main.go"
	cd "$WORK/go"
	export GOCACHE=$WORK/go-cache GOTOOLCHAIN=local
	pgx=$debian/src/github.com/jackc/pgx
	if [ -d "$pgx/v5" ] || [ -d "$pgx/v4" ]; then
		if [ ! -d "$pgx/v5" ]; then
			sed -i 's,jackc/pgx/v5,jackc/pgx/v4,; s,pgxpool.New(,pgxpool.Connect(,' main.go
		fi
		GO111MODULE=off GOPATH=$debian go build -o front main.go
	else
		cache=$(go env GOMODCACHE)
		export GOPROXY=file://$cache/cache/download GOFLAGS=-mod=mod GONOSUMDB='*'
		go mod init front && go mod tidy && go build -o front main.go
	fi
}

front_go()
{
	if ! command -v go >/dev/null || ! command -v gofmt >/dev/null; then
		skip "no go" Go
		return
	fi
	{ extract main.go; say; extract front.go; } | gofmt -d >"$WORK/gofmt.log" 2>&1 || true
	is "$(cat "$WORK/gofmt.log")" "" "Go: formatted, without a syntax error"
	if (go_build) >"$WORK/go.log" 2>&1; then
		run_front Go "$WORK/go/front"
	else
		skip "no pgx" "Go: runs"
	fi
}

# PostgREST's part is three settings and a role.
postgrest_call()				# options of post.pl that make the header
{
	local header=$1 body

	body=$(cat "$WORK/event"; printf .)
	psql -X -q -A -t -v ON_ERROR_STOP=1 -v body="${body%.}" -v header="$header" <<-'CALL'
		BEGIN;
		SELECT set_config('request.headers', json_build_object('host', 'localhost',
			'stripe-signature', :'header')::text, true) AS headers \gset
		SET LOCAL ROLE anon;
		SELECT coalesce(answer->>'status', answer->>'code') AS answer
			FROM api.stripe_webhook(:'body') AS answer \gset
		SELECT current_setting('response.status') || ' ' || :'answer';
		COMMIT;
	CALL
}

front_postgrest()
{
	local header

	event evt_postgrest "Zoë €5 😀" >"$WORK/event"
	header=$(sql "SELECT stripe_sync.sign(pg_read_binary_file('$WORK/event'), '$SECRET')")
	is "$(postgrest_call "$header")" "200 applied" "PostgREST: good"
	is "$(postgrest_call "$header")" "200 duplicate" "PostgREST: again"
	is "$(postgrest_call "${header}0")" "400 SY002" "PostgREST: forged"
	is "$(sql "SELECT convert_to(payload::text, 'UTF8') = pg_read_binary_file('$WORK/event')
		FROM stripe_sync.event WHERE id = 'evt_postgrest'")" t "PostgREST: stored byte for byte"
}

# ---- all the SQL ----

# The SQL of a file; webhooks are the stub's.
document_sql()					# file
{
	local name=${1//\//_}

	perl "$HERE/extract.pl" "$ROOT/$1" 'sql.*' |
		sed "s,https://hooks\.slack\.com/,$SLACK/,; s/whsec_new\.\.\./whsec_of_another/; s/'whsec_\.\.\.'/'$SECRET'/" >"$WORK/$name.sql"
	if psql -X -q -v ON_ERROR_STOP=1 -f "$WORK/$name.sql" >"$WORK/$name.log" 2>&1; then
		ok 0 "the SQL of $1 runs from the first block to the last"
	else
		ok 1 "the SQL of $1 runs from the first block to the last"
		tail -n 8 "$WORK/$name.log" | sed 's/^/# /'
	fi
}

# Until nothing waits that is due or was tried; what still does after some minutes.
messages_owed()
{
	local n owed

	for ((n = 0; n < 1800; n++)); do
		owed=$(sql "SELECT id, destination, state, last_code FROM stripe_sync.message
			WHERE state IN ('waiting', 'sending') AND (due_at <= now() OR attempts > 0)")
		[ -n "$owed" ] || return 0
		sleep 0.1
	done
	say "$owed"
}

# What the documents have Slack told arrives there.
check_slack()
{
	is "$(messages_owed)" "" "all that is due is sent"
	is "$(sql "SELECT id, last_code FROM stripe_sync.message WHERE state = 'dead'")" "" "Slack refuses nothing"
	is "$(sql "SELECT name, disabled_reason FROM stripe_sync.destination WHERE NOT enabled")" "" \
		"no destination is switched off"
	is "$(perl -CS -MHTTP::Tiny -MJSON::PP -e '
		my $all = decode_json(HTTP::Tiny->new(no_proxy => ["127.0.0.1"])->get("$ENV{CONTROL}/messages")->{content});
		for my $message (map { @{ $_->{messages} } } values %{ $all->{channels} }) {
			print "$message->{shown}: $_->{shown}\n" for @{ $message->{replies} };
		}')" "Order 17: a refund of €29.00: The bank has taken it" "a thread is a thread"
}

documents()
{
	local file

	document_sql README.md
	for file in "$ROOT"/doc/*.md; do
		document_sql "doc/$(basename "$file")"
	done
	if [ "$SLACK" = https://hooks.slack.com ]; then
		skip "no python3 or no openssl" "the documents' messages"
	else
		check_slack
	fi
}

# What people may call, look at or set is told of somewhere.
check_told_of()
{
	is "$(sql "SELECT DISTINCT regexp_replace(what, '^.* stripe_sync[.]([a-z_]+).*$', '\1')
		FROM stripe_sync.grade" | while read -r name; do
		grep -q "\b$name\b" "$ROOT/README.md" "$ROOT"/doc/*.md || say "$name"
	done)" "" "every function and table that is granted is told of"
	is "$(sed -nE 's/^\| `(stripe_sync\.[a-z_]+)` \|.*/\1/p' "$README" | sort)" \
		"$(sql "SELECT name FROM pg_settings WHERE name LIKE 'stripe_sync.%'" | sort)" \
		"the README's settings are those there are"
}

# A server that speaks to the stub or, without one, to nobody.
server_make()
{
	local settings=("stripe_sync.outbound = off")

	if stub_is_possible; then
		stub_start slack
		readarray -t settings < <(stub_settings)
	else
		SLACK=https://hooks.slack.com
	fi
	own_by_server "$WORK"
	cluster_make "shared_preload_libraries = 'stripe_sync'" "${settings[@]}"
}

main()
{
	local front

	place_make
	server_make
	documents
	check_told_of
	# the README's endpoint is not ours
	sql "SELECT stripe_sync.drop_endpoint(name) FROM stripe_sync.endpoint" >/dev/null
	sql "SELECT stripe_sync.drop_handler(name) FROM stripe_sync.handler" >/dev/null
	sql "SELECT stripe_sync.add_endpoint('default', '$SECRET', livemode => false)" >/dev/null
	sql "CREATE ROLE front LOGIN; SELECT stripe_sync.grant_ingest('front')" >/dev/null
	chmod a+r "$WORK"/event 2>/dev/null || true
	front_postgrest
	for front in front_python front_ruby front_php front_go; do
		PORT=$(free_port)
		export PORT
		"$front"
	done
	done_testing
}

main
