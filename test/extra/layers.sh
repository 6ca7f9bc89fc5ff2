#!/usr/bin/env bash
#
# layers.sh
#
# A folder of src uses only folders before it in src/layers, by symbols and by
# #includes; headers are true to the files, and short (test/lib/layers.pl).  Then
# the check itself: it fails where it must.  Builds a copy of the tree.  Prints TAP.

set -u

top=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
count=0
failed=0

report()						# status name
{
	count=$((count + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $count - $2"
	else
		failed=$((failed + 1))
		echo "not ok $count - $2"
	fi
}

check() { perl "$top/test/lib/layers.pl" "$work/tree" "$@"; }

# A change to the copy, that the check must find.
finds()							# name pattern file sed-script
{
	local file=$work/tree/src/$3 object

	cp "$file" "$work/saved"
	sed -i "$4" "$file"
	object=${file%.c}.o
	[ "$object" = "$file" ] || build >/dev/null
	check >"$work/changed"
	grep -qE -- "$2" "$work/changed"
	report $? "found: $1"
	cp "$work/saved" "$file"
	[ "$object" = "$file" ] || build >/dev/null
}

build() { make -C "$work/tree" -j2 >"$work/log" 2>&1; }

mkdir "$work/tree"
(cd "$top" && tar -cf - --exclude=.git --exclude='*.o' --exclude='*.so' --exclude=node_modules .) | tar -xf - -C "$work/tree"
if ! build; then
	tail -n 20 "$work/log" | sed 's/^/# /'
	report 1 "the tree can be built"
else
	check >"$work/found"
	while read -r line; do
		case $line in
			'not ok '*) report 1 "${line#not ok * - }" ;;
			'ok '*) report 0 "${line#ok * - }" ;;
			'#'*) echo "$line" ;;
		esac
	done <"$work/found"

	finds "a symbol of a later folder" '^# base/backoff\.c uses worker_wake_at_commit' base/backoff.c \
		'$a extern void worker_wake_at_commit(void); void f(void); void f(void) { worker_wake_at_commit(); }'
	finds "an #include of a later folder" '^# base includes outbox/outbox\.h' base/text.h \
		'/^#define STRIPE_SYNC/a #include "outbox/outbox.h"'
	finds "an #include of another folder's own header" 'includes mirror/internal\.h, which only' worker/worker.c \
		'$a #if 0\n#include "mirror/internal.h"\n#endif'
	finds "a folder that is not in the list" '^# folder alert is not in the list' layers '/^alert:/d'
	finds "a use that the list doesn't allow" '^# alert/[a-z_]*\.c uses [a-z_]* of outbox' layers \
		'/^alert:/s/ outbox//'
fi
echo "1..$count"
[ $failed -eq 0 ]
