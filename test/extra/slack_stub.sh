#!/usr/bin/env bash
#
# slack_stub.sh: the stub of Slack, itself checked: by its own documentation,
# by Slack's official clients, and every fault by what a client sees of it.
#
# Prints TAP.  Skipped without python3 and openssl; the official clients' part
# where there is no node, or no registry to get their packages from.

set -euo pipefail
# shellcheck source=test/front/lib.sh
. "$(dirname "$0")/../front/lib.sh"
# shellcheck source=test/stub/place.sh
. "$(dirname "${BASH_SOURCE[0]}")/../stub/place.sh"

# The certificates that are not to be trusted are not.
check_certificates()
{
	local name
	local -a verify=(openssl verify -CAfile "$STUB_CA" -verify_ip 127.0.0.1)

	ok "$("${verify[@]}" "$WORK/slack/tls/server.pem" >/dev/null 2>&1; echo $?)" "certificate: server is good"
	for name in expired wrong_host other; do
		if "${verify[@]}" "$WORK/slack/tls/$name.pem" >/dev/null 2>&1; then
			ok 1 "certificate: $name is refused"
		else
			ok 0 "certificate: $name is refused"
		fi
	done
}

# Does check_payloads.mjs tell good payloads from bad ones?
check_payload_checker()
{
	local section='{"type":"section","text":{"type":"mrkdwn","text":"*x*"}}'

	say '{"text":"good","blocks":['"$section"']}' >"$WORK/good"
	say '{"text":"reply","thread_ts":"1500000000.000100"}' >>"$WORK/good"
	say '{"text":"update","ts":"1500000000.000100","blocks":['"$section"']}' >>"$WORK/good"
	say '{"text":"bad","blocks":[{"type":"header","text":{"type":"mrkdwn","text":"x"}}]}' >"$WORK/bad"
	is "$(payload_verdicts good)" "$(printf 'ok\n%.0s' 1 2 3 4 5 6)" "payloads: good ones pass client and types"
	is "$(payload_verdicts bad)" "$(printf 'not ok\n%.0s' 1 2)" "payloads: a bad one fails with both"
}

payload_verdicts()
{
	node_run check_payloads.mjs "$WORK/$1" 2>/dev/null |
		sed -nE 's/^((not )?ok) [0-9]+ .*/\1/p' || true
}

main()
{
	local why

	place_make
	stub_is_possible || skip_all "no python3 or no openssl"
	stub_start slack
	check_certificates
	count_points "rules" python3 "$STUB/check_rules.py"
	count_points "plain checks" python3 "$STUB/check_stub.py" "$WORK/slack"
	why=$(node_missing)
	if [ -n "$why" ]; then
		skip "$why" "Slack's own clients"
	else
		count_points "client checks" node_run check_client.mjs
		check_payload_checker
	fi
	done_testing
}

main
