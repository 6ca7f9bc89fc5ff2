# shellcheck shell=bash
#
# place.sh: a stub in a place of its own, and the official clients for node.
#
# Sourced by who has sourced test/lib/common.sh and set WORK; stub_start and
# what is for node want test/front/lib.sh and its place_make.

STUB=$ROOT/test/stub
OLDEST_NODE=20

stub_is_possible()
{
	command -v python3 >/dev/null && command -v openssl >/dev/null
}

# Start the stub $1 (slack when there is none) in $WORK/$1: SLACK or STRIPE is
# its URL, CONTROL its plain one, STUB_CA the authority to trust, STUB_PID its
# process.  A second one has the authority of the first.
stub_launch()
{
	local n name=${1:-slack}
	local place=$WORK/$name
	local tls=$place/tls

	mkdir -p "$place"
	if [ -n "${STUB_CA:-}" ]; then
		tls=$(dirname "$STUB_CA")
	else
		"$STUB/tls.sh" "$tls"
	fi
	STUB_CA=$tls/ca.pem
	python3 "$STUB/$name.py" --dir "$place" --cert "$tls/server.pem" \
		--key "$tls/server.key" >"$place/log" 2>&1 </dev/null &
	STUB_PID=$!
	for ((n = 0; n < 1200; n++)); do
		[ ! -f "$place/port" ] || break
		kill -0 "$STUB_PID" 2>/dev/null || break
		sleep 0.05
	done
	[ -f "$place/port" ] || die "the stub did not start: $(cat "$place/log")"
	printf -v "${name^^}" 'https://127.0.0.1:%s' "$(cat "$place/port")"
	CONTROL=http://127.0.0.1:$(cat "$place/control_port")/_control
	export "${name^^}" CONTROL
}

# The same, ended with the test.
stub_start()
{
	stub_launch "$@"
	front_pids+=("$STUB_PID")
}

# Tell the one that was launched last something, or ask it: call [body]; see
# control.py, slack_service.py and stripe_control.py.
stub_control()
{
	python3 - "$CONTROL/$1" "${2:-}" <<-'PY'
		import sys, urllib.request
		url, body = sys.argv[1:]
		opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
		print(opener.open(urllib.request.Request(url, body.encode() or None)).read().decode())
	PY
}

# Lines for postgresql.conf
stub_settings()
{
	if [ -n "${SLACK:-}" ]; then
		say "stripe_sync.slack_hosts = '${SLACK#https://}'"
		say "stripe_sync.slack_api_base = '$SLACK/api'"
	fi
	if [ -n "${STRIPE:-}" ]; then
		say "stripe_sync.stripe_api_base = '$STRIPE'"
	fi
	say "stripe_sync.ca_file = '$STUB_CA'"
}

node_is_usable()
{
	command -v node >/dev/null && command -v npm >/dev/null &&
		[ "$(node -p 'parseInt(process.versions.node)')" -ge "$OLDEST_NODE" ]
}

# Programs find packages beside themselves, so they are copied to them.
node_place()
{
	mkdir -p "$WORK/node"
	cp "$STUB"/package.json "$STUB"/*.mjs "$WORK/node/"
	timeout 300 npm install --prefix "$WORK/node" --cache "$WORK/npm" --no-audit --no-fund \
		--ignore-scripts --fetch-retries=1 --fetch-timeout=30000 \
		>"$WORK/npm.log" 2>&1 </dev/null
}

# Run one of them.  npm must not have this environment: the registry may be
# known by an authority of the machine's own.
node_run()						# program arguments...
{
	local program=$1
	shift

	NODE_EXTRA_CA_CERTS=$STUB_CA node "$WORK/node/$program" "$@"
}

# Why the official clients cannot be run here; nothing when they can.
node_missing()
{
	if ! node_is_usable; then
		say "no node $OLDEST_NODE or newer, or no npm"
	elif ! node_place; then
		say "npm cannot install the clients' packages"
	fi
}

# Count what a program says: "ok - name", "not ok - name".
count_points()					# name command...
{
	local name=$1 line status=0
	shift

	"$@" >"$WORK/points" 2>"$WORK/stderr" || status=$?
	while read -r line; do
		case $line in
			"ok - "*) ok 0 "${line#ok - }" ;;
			"not ok - "*) ok 1 "${line#not ok - }" ;;
			*) say "$line" ;;
		esac
	done <"$WORK/points"
	ok "$status" "$name: to its end"
	[ "$status" -eq 0 ] || sed 's/^/# /' "$WORK/stderr"
}
