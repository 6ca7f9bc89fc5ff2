#!/usr/bin/env bash
#
# scopes.sh
#
# Nobody switches the user but src/engine/scope.c, and code of a user's is called from
# files that enter a scope for it: what each of these lists allows has a reason.
# Prints TAP.

set -u

top=${1:-$(cd "$(dirname "$0")/../.." && pwd)}
count=0
failed=0

# Only the files named may match; each of them must, or it need not be named.
only()							# name pattern file...
{
	local name=$1 pattern=$2 expected found

	shift 2
	expected=$(printf '%s\n' "$@" | sort)
	found=$(cd "$top/src" && grep -lE -- "$pattern" */*.c | sed 's|.*/||' | sort)
	count=$((count + 1))
	if [ "$found" = "$expected" ]; then
		echo "ok $count - $name"
	else
		failed=$((failed + 1))
		echo "not ok $count - $name"
		diff <(echo "$expected") <(echo "$found") | sed -n 's/^>/# not allowed:/p; s/^</# no longer:/p'
	fi
}

# Every one of these files enters a writing or a reading scope, or calls one that does.
enters()						# file
{
	count=$((count + 1))
	if grep -qE 'role_enter_(writing|reading)\(' "$top"/src/*/"$1"; then
		echo "ok $count - $1 enters a scope"
	else
		failed=$((failed + 1))
		echo "not ok $count - $1 enters a scope"
	fi
}

only "the user is switched in one place" 'SetUserIdAnd(Sec)?Context *\(' scope.c

only "deferred triggers are fired in one place" \
	'AfterTrigger(SetState|FireDeferred) *\(' deferred.c

# registered.c: a function that a user registered, in its scope; scope_leftover.c: pg_cursor(), the server's
only "functions are called by their OID" \
	'\b(FunctionCallInvoke|OidFunctionCall[0-9]|FunctionCall[0-9](Coll)?|(Input|Output|Receive|Send)FunctionCall|OidInputFunctionCall|OidOutputFunctionCall|CallerFInfoFunctionCall[0-9]) *\(' \
	registered.c scope_leftover.c

# Without a scope of a user's, as they read and write our own tables alone:
#	statement.c	statements of EngineStatement, in the engine's scope
#	prune.c			our own tables, with a statement that is put together
#	move_account.c	the same
#	cursor.c		statements with a result that is read in parts
# table_ddl.c and fill_columns.c run in the scope that create_tables.c has entered.
only "statements are run by SPI" \
	'\bSPI_(execute|exec|prepare|cursor_open|cursor_parse|saveplan)[a-z_]* *\(' \
	statement.c cursor.c fill_columns.c nested_list.c mirror_sql.c \
	mirror_schema.c move_account.c objects.c prune.c \
	table_ddl.c vanished.c verify_keys.c verify_mirror.c verify_row.c \
	visible_search.c

# engine_run() on a mirror table
only "statements of the engine's that read a mirror table" \
	'"[^"]*(FROM|INTO|UPDATE) (ONLY )?%s\.%s' \
	children.c fill_columns.c nested_list.c mirror_sql.c objects.c vanished.c verify_keys.c verify_row.c \
	visible_search.c

# One way to write SQL: operators are qualified only under a user's search_path,
# and rows are read by engine/statement.c.  work.c, wait_job.c and
# destination_test.c commit; prune.c plans with its values.
only "operators are qualified where a user's search_path rules" \
	'OPERATOR\(pg_catalog' \
	children.c fill_columns.c mirror_sql.c nested_list.c objects.c vanished.c \
	verify_mirror.c verify_row.c visible_search.c

only "SPI is used by the statement layer, and where a user's tables are read" \
	'\bSPI_(connect|connect_ext|getbinval|getvalue)\b' \
	cursor.c destination_test.c fill_columns.c mirror_schema.c mirror_sql.c \
	move_account.c nested_list.c objects.c prune.c statement.c table_ddl.c vanished.c \
	verify_keys.c verify_mirror.c verify_row.c visible_search.c wait_job.c work.c

for file in children.c create_tables.c nested_list.c mirror_sql.c objects.c registered.c vanished.c verify_keys.c verify_mirror.c verify_row.c visible_search.c; do
	enters $file
done

# ---- the check itself: it sees what it is there for ----

if [ $# -eq 0 ]; then
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	cp -r "$top/src" "$work/src"
	for line in 'SetUserIdAndSecContext(owner, 0);' 'FunctionCallInvoke(fcinfo);' \
		'SPI_execute("SELECT", true, 0);' 'AfterTriggerSetState(stmt);'; do
		cp "$top/src/alert/alert.c" "$work/src/alert/alert.c"
		echo "void f(void) { $line }" >>"$work/src/alert/alert.c"
		count=$((count + 1))
		if "$0" "$work" | grep -q '^# not allowed: alert.c'; then
			echo "ok $count - seen elsewhere: $line"
		else
			failed=$((failed + 1))
			echo "not ok $count - seen elsewhere: $line"
		fi
	done
fi

echo "1..$count"
[ $failed -eq 0 ]
