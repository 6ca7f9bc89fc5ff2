#!/usr/bin/env bash
#
# demo.sh: the demo, from "make demo" to "make demo-stop", in a place of its
# own: it tells what it should, and leaves nothing.
#
# Prints TAP.  Skipped without python3 and openssl.

set -euo pipefail
# shellcheck source=test/front/lib.sh
. "$(dirname "$0")/../front/lib.sh"
# shellcheck source=test/stub/place.sh
. "$(dirname "${BASH_SOURCE[0]}")/../stub/place.sh"

DEMO=$ROOT/test/demo

demo_end()
{
	"$DEMO/stop" --quiet || true
	tidy_up
}

# Lines of the told story from heading $1 to the next heading
chapter() { sed -n "/^$1\. /,/^$(($1 + 1))\. /p" "$WORK/told"; }

# Is there a line in chapter $1 that fits the regex $2?
tells()							# chapter regex name
{
	local found=1

	chapter "$1" >"$WORK/chapter"
	grep -Eq -- "$2" "$WORK/chapter" && found=0
	ok "$found" "$3"
	[ "$found" -eq 0 ] || sed 's/^/# /' "$WORK/chapter"
}

check_story()
{
	tells 3 'evt_04 +│ stale' "a late event is told to be stale"
	tells 5 'evt_09 +│ duplicate' "a second delivery is told to be a duplicate"
	tells 7 '400 │.*SY002' "a forged event is told to be refused"
	tells 10 'evt_12 .* is the newest' "an event that was left out is explained"
	tells 12 '⚠ Payment failed: €29\.00 of Ada Lovelace, invoice ADA-0002$' "an incident opens in Slack"
	tells 13 '\(edited\)$' "its message is updated"
	tells 13 '3 times, last ' "its message counts"
	tells 14 '│ ✅ Resolved: Payment failed' "its message is resolved"
	tells 14 '3 times, last .* 09:00 UTC · Resolved ' "it says when it happened last, not when it was paid"
	tells 14 '│   ↳ reply' "there is a reply in its thread"
	tells 14 '✅ Resolved by invoice\.paid after 3 times' "the reply says what resolved it"
	tells 14 'payment_failed │ in_0002 +│ evt_13 +│ +3 │ closed │ evt_16' "the view of incidents agrees"
	tells 15 '1 │ +429 │ ratelimited │ retry ' "the first attempt is told to wait"
	tells 15 '2 │ +500 │ http_500 +│ retry ' "the second meets a fault of Slack's"
	tells 15 '3 │ +200 │ ok +│ sent ' "the third succeeds"
}

# All that was there before comes into the mirror, then what never arrived.
check_stripe()
{
	# where it is when it is looked at for the first time is the machine's affair
	tells 16 '^    \[#* *\] +[0-9]{1,2} %, [0-9]+ objects' "a backfill begins, with a progress bar"
	tells 16 '^    \[#{30}\] 100 %, 6[0-9]{3} objects' "and ends"
	tells 16 'backfill │ done +│ +1 │ +[0-9]+ │ +6[0-9]{3} │ +[0-9]+ │ · *$' "the job says so"
	tells 16 ' 13 │ +41 │ +1201 │ +901 │ +1801 │ +2402 │ +4802 │ +2100 *$' "the mirror holds all of it"
	tells 17 'cus_Ada .*│ Ada King +│ Ada Lovelace +│ dropped' "a webhook is dropped: the mirror is behind"
	tells 17 'cus_Ada .*│ ada@engine\.example +│ ada@engine\.example +│ arrived' "another one arrives"
	tells 18 'reconcile │ done +│ +1 │ +7 │ +4 │ +4 │ · *$' "reconcile finds four of seven events missing, and repairs them"
	is "$(chapter 18 | grep -c 'applied │ reconcile')" 4 "they are in the inbox, and applied"
	tells 18 'cus_Ada .*│ Ada King +│ Ada King +│ dropped' "the mirror agrees"
	is "$(chapter 18 | awk -F ' *│ *' '/ (dropped|arrived) *$/ && $3 == $4' | wc -l)" 7 "with all that Stripe holds"
}

# What Slack shows at the end: each message once.
check_end()
{
	chapter 19 >"$WORK/end"
	is "$(grep -c '│ stripe_sync  ' "$WORK/end")" 3 "Slack shows three messages"
	is "$(grep -c "seat is open again" "$WORK/end")" 1 "what was sent three times is shown once"
	ok "$(grep -q '⚠ Events were missing: 4 never arrived' "$WORK/end"; echo $?)" "one says how many events were missing"
	is "$("$DEMO/slack" | wc -l)" "$(grep -c '^    [#│]' "$WORK/end")" "make demo-slack shows the same"
}

check_looks()
{
	is "$(sed "s|$STRIPE_SYNC_DEMO|demo|g" "$WORK/told" | perl -CSD -lne 'print if length > 110')" "" \
		"no line is wider than 110, wherever the demo is"
	is "$(grep -E 'ERROR|WARNING|Traceback' "$WORK/told" "$STRIPE_SYNC_DEMO/server.log" || true)" "" \
		"nothing is told or logged as an error"
}

check_stop()
{
	local slack stripe

	slack=$(cat "$STRIPE_SYNC_DEMO/slack/pid")
	stripe=$(cat "$STRIPE_SYNC_DEMO/stripe/pid")
	ok "$("$DEMO/stop" >"$WORK/stopped" 2>&1; echo $?)" "it can be stopped"
	ok "$([ ! -e "$STRIPE_SYNC_DEMO" ]; echo $?)" "its place is gone"
	ok "$(! kill -0 "$slack" 2>/dev/null; echo $?)" "its Slack is gone"
	ok "$(! kill -0 "$stripe" 2>/dev/null; echo $?)" "its Stripe is gone"
	is "$("$DEMO/stop")" "no demo is running" "it can be stopped once more"
}

# Its name is too long for a socket in it, so the server doesn't start.
check_failure()
{
	local place status=0

	place=$WORK/$(printf 'x%.0s' {1..100})
	STRIPE_SYNC_DEMO=$place "$DEMO/run" >"$WORK/failed" 2>&1 || status=$?
	ok "$([ "$status" -ne 0 ] && grep -q 'the demo failed$' "$WORK/failed"; echo $?)" "a demo that fails says so"
	ok "$([ ! -e "$place" ] && ! pgrep -f -- "$place" >/dev/null; echo $?)" "a demo that fails leaves nothing"
}

main()
{
	local told

	place_make
	stub_is_possible || skip_all "no python3 or no openssl"
	trap demo_end EXIT
	export STRIPE_SYNC_DEMO=$WORK/demo
	"$DEMO/run" >"$WORK/told" 2>&1 && told=0 || told=$?
	ok "$told" "the demo is told to its end"
	[ "$told" -eq 0 ] || { sed 's/^/# /' "$WORK/told"; done_testing; return; }
	check_story
	check_stripe
	check_looks
	check_end
	check_stop
	check_failure
	done_testing
}

main
