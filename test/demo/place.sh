# shellcheck shell=bash
#
# place.sh: where the demo's server lives: one for each user of the machine,
# so that stop finds what run has started.

PLACE=${STRIPE_SYNC_DEMO:-/tmp/stripe_sync_demo_$(id -u)}

# Somebody else may have taken the name.
demo_place_is_ours()
{
	[ -d "$PLACE" ] && [ ! -L "$PLACE" ] &&
		{ [ -O "$PLACE" ] || [ "$(stat -c %U "$PLACE")" = "$(server_user)" ]; }
}

demo_place_make()
{
	mkdir -m 755 "$PLACE" || die "cannot make $PLACE"
}

# The process of the demo's stub $1 (slack, stripe), when it runs
demo_stub()
{
	local pid

	pid=$(cat "$PLACE/$1/pid" 2>/dev/null) || return 1
	# another process may have its number by now
	[ -r "/proc/$pid/cmdline" ] || return 1
	tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF -- "--dir $PLACE/$1 " || return 1
	say "$pid"
}

psql_command()
{
	if command -v psql >/dev/null; then
		say psql
	else
		say "$("$PG_CONFIG" --bindir)/psql"
	fi
}
