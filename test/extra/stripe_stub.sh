#!/usr/bin/env bash
#
# stripe_stub.sh: the stub of Stripe's API, itself checked: by its own
# documentation, by Stripe's official client, and by what each fault looks like.
#
# Prints TAP.  Skipped without python3 and openssl; the official client's part
# where there is no node, or no registry to get its package from.

set -euo pipefail
# shellcheck source=test/front/lib.sh
. "$(dirname "$0")/../front/lib.sh"
# shellcheck source=test/stub/place.sh
. "$(dirname "${BASH_SOURCE[0]}")/../stub/place.sh"

main()
{
	local why

	place_make
	stub_is_possible || skip_all "no python3 or no openssl"
	stub_start stripe
	count_points "plain checks" python3 "$STUB/check_stripe.py" "$WORK/stripe"
	count_points "plain checks of faults" python3 "$STUB/check_stripe_faults.py" "$WORK/stripe"
	why=$(node_missing)
	if [ -n "$why" ]; then
		skip "$why" "Stripe's own client"
	else
		count_points "client checks" node_run check_stripe_client.mjs
	fi
	done_testing
}

main
