# shellcheck shell=bash
#
# place.sh: the directory of the demo's server, one for each user of the machine,
# so that stop finds what run has started; and how wide its output may be.

PLACE=${STRIPE_SYNC_DEMO:-/tmp/stripe_sync_demo_$(id -u)}

# Another user may have created a directory of that name.
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

# Set STRIPE_SYNC_COLUMNS to the columns of the terminal: COLUMNS if it is set, else
# those of our output if it is a terminal, but at least 80.
demo_columns()
{
	local columns=${COLUMNS:-}

	if [ -z "$columns" ] && [ -t 1 ]; then
		# the output of a command substitution is a pipe, so tput can't be asked
		{ columns=$(stty size <&3 2>/dev/null | cut -d ' ' -f 2); } 3>&1
	fi
	case $columns in
		"" | *[!0-9]*) columns=80 ;;
	esac
	[ "$columns" -ge 80 ] || columns=80
	export STRIPE_SYNC_COLUMNS=$columns
}

psql_command()
{
	if command -v psql >/dev/null; then
		say psql
	else
		say "$("$PG_CONFIG" --bindir)/psql"
	fi
}
