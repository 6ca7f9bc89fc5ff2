#!/usr/bin/env bash
#
# demo.sh: the demo, from "make demo" to "make demo-stop", in a place of its
# own: it tells what it should, fits the terminal, and leaves nothing.
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
	is "$(head -n 1 "$WORK/told" | grep -c '^Building ')" 1 "the first line says that it builds"
	tells 5 'evt_09 +│ duplicate' "a second delivery is told to be a duplicate"
	tells 7 '400 │ SY002 │ ' "a forged event is told to be refused"
	tells 10 'is the newest: the later "created" is newer' "an event that was left out is explained"
	tells 12 '⚠ Payment failed: €29\.00 of Ada Lovelace, invoice ADA-0002$' "an incident opens in Slack"
	tells 12 '^    │ \[Acknowledge\] \[Snooze ▾\] \[Resolve\]' "with buttons"
	tells 13 'by @U0GRACE' "a person acknowledges it"
	tells 13 '\(edited\)$' "its message is updated"
	tells 13 '3 times, last ' "its message counts"
	tells 14 '│ .*✅ Paid' "its message is resolved"
	tells 14 '3 times, last .* 09:00 UTC · Resolved' "it says when it happened last, not when it was paid"
	tells 14 '│   ↳ reply' "there is a reply in its thread"
	tells 14 '_After .*, 3 times:_ Payment failed' "the reply says how it ended"
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
	is "$(chapter 16 | sed -nE 's/^ stripe\.[a-z_]+ +│ +([0-9]+)$/\1/p' | tr '\n' ' ')" \
		"13 41 1201 901 1801 2402 4802 2100 " "the mirror holds all of it"
	tells 17 'cus_Ada .*│ Ada King +│ Ada Lovelace +│ dropped' "a webhook is dropped: the mirror is behind"
	tells 17 'cus_Ada .*│ ada@new\.example +│ ada@new\.example +│ arrived' "another one arrives"
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

# SQL in the demo's database
demo_sql() { psql -XAtq -h "$STRIPE_SYNC_DEMO/socket" -U postgres -d demo -v ON_ERROR_STOP=1 "$@"; }

# The figure that the told summary has beside $1
told_figure() { sed -nE "s/^ $1 +│ +([0-9]+)\$/\\1/p" "$WORK/told"; }

# Each figure of the summary is what the tables say.
check_summary()
{
	is "$(told_figure 'sent by Stripe')" "$(demo_sql -c "SELECT count(*) FROM (SELECT event_id FROM demo.answer
		UNION SELECT event->>'id' FROM demo.change) AS s")" "the summary: events that Stripe has sent"
	is "$(told_figure 'received by webhook')" \
		"$(demo_sql -c "SELECT count(*) FROM stripe_sync.event WHERE source = 'webhook'")" "events received"
	is "$(told_figure 'delivered again, ignored as duplicates')" \
		"$(demo_sql -c "SELECT count(*) - count(DISTINCT event_id) FROM demo.answer")" "duplicates"
	is "$(told_figure 'forged, rejected')" "$(demo_sql -c "SELECT sum(events) FROM stripe_sync.refusal")" "forged events"
	is "$(told_figure 'missing, found in Stripe.s list')" \
		"$(demo_sql -c "SELECT count(*) FROM demo.change WHERE NOT arrived")" "missing events"
	is "$(told_figure 'missing, repaired')" \
		"$(demo_sql -c "SELECT count(*) FROM stripe_sync.event WHERE source = 'reconcile' AND status = 'applied'")" \
		"repaired events"
	is "$(told_figure lost)" 0 "and none is lost"
	demo_sql -c "DELETE FROM stripe_sync.event WHERE id = 'evt_07'"
	is "$(demo_sql -c "SELECT count FROM demo.summary() WHERE events = 'lost'")" 1 "one that is lost is counted"
}

# The queries that the demo recommends return something.
check_queries()
{
	sed -n '/^Three queries/,/^make/s/^    //p' "$WORK/told" >"$WORK/try.sql"
	is "$(grep -c ';$' "$WORK/try.sql")" 3 "there are three queries to try"
	is "$(for n in 1 2 3; do
		demo_sql -c "$(perl -0ne "print +(split /(?<=;)\n/)[$((n - 1))]" "$WORK/try.sql")" | grep -c . || true
	done | grep -vc '^0$')" 3 "each returns rows"
}

# The lines of file $1 that are wider than $2, wherever the demo is
too_wide() { sed "s|$STRIPE_SYNC_DEMO|demo|g" "$1" | perl -CSD -lne "print if length > $2"; }

# What is printed for the width of a terminal of $1 columns, COLUMNS being $2
columns_of()
{
	COLUMNS=$2 script -qec "stty cols $1; bash -c '. $ROOT/test/lib/common.sh; . $DEMO/place.sh
		demo_columns; echo \$STRIPE_SYNC_COLUMNS'" /dev/null </dev/null | tr -d '\r'
}

check_columns()
{
	local script="the width is that of the terminal"

	if ! command -v script >/dev/null; then
		skip "no script" "$script"
		return
	fi
	is "$(columns_of 132 "")" 132 "$script"
	is "$(columns_of 60 "")" 80 "but at least 80"
	is "$(columns_of 132 95)" 95 "COLUMNS is stronger"
}

# The same story for a wide terminal: what is left out at 80 columns is there.
check_wide()
{
	COLUMNS=160 "$DEMO/run" >"$WORK/wide" 2>&1 || { ok 1 "the demo is told in 160 columns"; return; }
	is "$(too_wide "$WORK/wide" 160)" "" "no line is wider than 160 when there are 160 columns"
	is "$(grep -c ' dispute_opened .* charge\.dispute\.closed ' "$WORK/told" "$WORK/wide" | cut -d : -f 2 | tr '\n' ' ')" \
		"0 1 " "a wide terminal has more columns"
	is "$(grep -Ec '^ sub_[A-Za-z0-9]{24} ' "$WORK/told" "$WORK/wide" | cut -d : -f 2 | tr '\n' ' ')" "0 4 " "and whole ids"
}

check_looks()
{
	is "$(too_wide "$WORK/told" 80)" "" "no line is wider than 80 when there are 80 columns"
	is "$("$DEMO/slack" | perl -CSD -lne 'print if length > 80')" "" "nor of what Slack shows"
	is "$(grep -E '│…|…$' "$WORK/told" | grep -v '^─' || true)" "" "no table is torn"
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
	export COLUMNS=80
	"$DEMO/run" >"$WORK/told" 2>&1 && told=0 || told=$?
	ok "$told" "the demo is told to its end"
	[ "$told" -eq 0 ] || { sed 's/^/# /' "$WORK/told"; done_testing; return; }
	check_story
	check_stripe
	check_looks
	check_end
	check_summary
	check_queries
	check_columns
	check_wide
	check_stop
	check_failure
	done_testing
}

main
