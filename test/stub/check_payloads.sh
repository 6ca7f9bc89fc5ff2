#!/usr/bin/env bash
#
# check_payloads.sh FILE: would Slack's own client and types take these?
#
# FILE is the stub's requests.jsonl, or JSON lines of payloads.  Prints TAP;
# exits with 77 where there is no node or no registry.  See check_payloads.mjs.

set -euo pipefail
# shellcheck source=test/front/lib.sh
. "$(dirname "$0")/../front/lib.sh"
# shellcheck source=test/stub/place.sh
. "$(dirname "${BASH_SOURCE[0]}")/place.sh"

main()
{
	local file why

	[ $# -eq 1 ] || die "usage: ${0##*/} FILE"
	file=$(realpath "$1")
	[ -r "$file" ] || die "cannot read $1"
	place_make
	stub_is_possible || { say "# no python3 or no openssl"; exit 77; }
	why=$(node_missing)
	[ -z "$why" ] || { say "# $why"; exit 77; }
	stub_start slack
	node_run check_payloads.mjs "$file"
}

main "$@"
