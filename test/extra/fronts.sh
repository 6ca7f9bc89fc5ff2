#!/usr/bin/env bash
#
# fronts.sh: what the documents show really runs: the SQL of the README and of
# doc/ from the first block to the last, with the worker and a stub of Slack, and
# the HTTP fronts of doc/fronts.md, each with a web server.
#
# Prints TAP.  A front is skipped where its language, its framework or its driver
# isn't there; nothing is installed.  Those for Node have a test of their own.
# Without python3 and openssl nothing is sent to Slack.

set -euo pipefail
# shellcheck source=test/front/lib.sh
. "$(dirname "$0")/../front/lib.sh"
# shellcheck source=test/stub/place.sh
. "$(dirname "${BASH_SOURCE[0]}")/../stub/place.sh"

# The documents, in the order in which their SQL is run: what an earlier one has
# set up is there for a later one.
DOCUMENTS=(
	README.md
	doc/install.md
	doc/fronts.md
	doc/mirror.md
	doc/history.md
	doc/handlers.md
	doc/slack.md
	doc/slack-bot.md
	doc/testing.md
	doc/idempotent-writes.md
	doc/accounts.md
	doc/backfill.md
	doc/reconcile.md
	doc/webhook-endpoint.md
	doc/security.md
	doc/trace.md
	doc/doctor.md
	doc/running.md
	doc/metrics.md
	doc/production.md
	doc/upgrade.md
	doc/faq.md
	doc/reference.md
)

# ---- deliveries ----

event()							# id name livemode
{
	local customer=${1/evt_/cus_}

	printf '{\n  "id": "%s", "object": "event", "type": "customer.created",\r\n' "$1"
	printf '\t"created": 1760000000, "livemode": %s, "pending_webhooks": 1, "request": null,\n' "${3:-false}"
	printf '  "data": {"object": {"id": "%s", "object": "customer", "name": "%s"}}}\n\n' "$customer" "$2"
}

post() { perl "$HERE/post.pl" "$@"; }

statuses()						# url options of post.pl
{
	local url=$1 file=$2
	shift 2

	post "$@" "$url" "$WORK/$file" | sed -E 's/^([0-9]+) .*"(status|code)": *"([^"]*)".*/\1 \3/'
}

# What Stripe would see of a front, and what Postgres holds afterwards.
check_front()					# name url
{
	local name=$1 url=$2 id=evt_$1 as_it_came

	event "$id" "Zoë €5 😀" >"$WORK/event"
	event "$id.live" Ada true >"$WORK/live"
	event "$id.large" "$(head -c 3000000 /dev/zero | tr '\0' x)" >"$WORK/large"
	: >"$WORK/empty"
	is "$(statuses "$url" event)" "200 applied" "$name: good"
	is "$(statuses "$url" event)" "200 duplicate" "$name: again"
	as_it_came=$(sql "SELECT encode(convert_to(payload::text, 'UTF8'), 'base64')
		FROM stripe_sync.event WHERE id = '$id'")
	is "$(base64 -d <<<"$as_it_came" | cksum)" "$(cksum <"$WORK/event")" "$name: stored byte for byte"
	is "$(statuses "$url" event -s whsec_guessed)" "400 SY002" "$name: forged"
	is "$(statuses "$url" event -t 400)" "400 SY003" "$name: stale"
	is "$(statuses "$url" event -n)" "400 SY001" "$name: not signed"
	is "$(statuses "$url" empty)" "400 SY004" "$name: empty"
	is "$(statuses "$url" large)" "413 SY004" "$name: too large"
	is "$(statuses "$url" live)" "200 ignored" "$name: the other mode"
	sql "ALTER ROLE front NOLOGIN"
	sql "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
		WHERE usename = 'front'" >/dev/null
	is "$(post "$url" "$WORK/event" | sed -n '1s/ .*//p')" 500 "$name: the database is away"
	sql "ALTER ROLE front LOGIN"
	is "$(statuses "$url" event)" "200 duplicate" "$name: it is back"
}

# Run a command as a front and look at it.
run_front()						# name path command
{
	local name=$1 path=$2
	shift 2

	PGUSER=front "$@" >"$WORK/$name.log" 2>&1 </dev/null &
	front_pids+=($!)
	if await_port "$PORT" $!; then
		ok 0 "$name: starts"
		case $name in
			Slack*) check_slack_front "$name" "http://127.0.0.1:$PORT$path" ;;
			*) check_front "$name" "http://127.0.0.1:$PORT$path" ;;
		esac
	else
		ok 1 "$name: starts"
		sed 's/^/# /' "$WORK/$name.log"
	fi
	kill "${front_pids[-1]}" 2>/dev/null || true
	wait "${front_pids[-1]}" 2>/dev/null || true
	unset 'front_pids[-1]'
}

# ---- the fronts ----

# The first python3 that has the modules: it need not be the first in PATH.
find_python()					# modules
{
	local python IFS=,

	for python in python3 /usr/bin/python3; do
		if "$python" -c "import $*" 2>/dev/null; then
			say "$python"
			return
		fi
	done
	return 1
}

# A block of doc/fronts.md as a module, served as WSGI; $5 makes "app" of it.
front_wsgi()					# name path block modules code
{
	local python

	# shellcheck disable=SC2086
	python=$(find_python psycopg $4) || { skip "no python3 with psycopg $4" "$1"; return; }
	extract "$3" >"$WORK/$3"
	run_front "$1" "$2" "$python" -c "
import sys; sys.path.insert(0, '$WORK')
from wsgiref.simple_server import make_server
from wsgiref.validate import validator
$5
make_server('127.0.0.1', $PORT, validator(app)).serve_forever()"
}

front_python() { front_wsgi Python / front.py "" "from front import app"; }

front_flask()
{
	front_wsgi Flask /stripe/webhook flask_front.py flask "from flask_front import app"
}

# With the middleware that a new project has for forged requests
front_django()
{
	front_wsgi Django /stripe/webhook django_front.py django "
from django.conf import settings
settings.configure(ROOT_URLCONF='urls', ALLOWED_HOSTS=['*'], SECRET_KEY='x', MIDDLEWARE=[
    'django.middleware.common.CommonMiddleware', 'django.middleware.csrf.CsrfViewMiddleware'])
import types
from django.core.wsgi import get_wsgi_application
app = get_wsgi_application()
from django.urls import path
from django_front import stripe_webhook
sys.modules['urls'] = types.ModuleType('urls')
sys.modules['urls'].urlpatterns = [path('stripe/webhook', stripe_webhook)]"
}

front_fastapi()
{
	local python

	python=$(find_python psycopg fastapi uvicorn) || { skip "no python3 with psycopg, fastapi and uvicorn" FastAPI; return; }
	extract fastapi_front.py >"$WORK/fastapi_front.py"
	run_front FastAPI /stripe/webhook "$python" -m uvicorn --app-dir "$WORK" --port "$PORT" fastapi_front:app
}

front_slack_python() { front_wsgi SlackPython /slack slack_front.py "" "from slack_front import app"; }

front_slack_flask()
{
	front_wsgi SlackFlask /slack slack_flask.py flask "from slack_flask import app"
}

front_slack_fastapi()
{
	local python

	python=$(find_python psycopg fastapi uvicorn) || { skip "no python3 with psycopg, fastapi and uvicorn" SlackFastAPI; return; }
	extract slack_fastapi.py >"$WORK/slack_fastapi.py"
	run_front SlackFastAPI /slack "$python" -m uvicorn --app-dir "$WORK" --port "$PORT" slack_fastapi:app
}

front_ruby()
{
	if ! ruby -r pg -r rack -r webrick -e 1 2>/dev/null || ! command -v rackup >/dev/null; then
		skip "no ruby with pg, rack and webrick" Ruby
		return
	fi
	extract config.ru >"$WORK/config.ru"
	run_front Ruby / rackup -s webrick -o 127.0.0.1 -p "$PORT" "$WORK/config.ru"
}

# An application of the least that Rails asks for
front_rails()
{
	local site=$WORK/rails

	if ! ruby -r pg -r rails -r webrick -e 1 2>/dev/null || ! command -v rackup >/dev/null; then
		skip "no ruby with pg, rails and webrick" Rails
		return
	fi
	mkdir -p "$site/config/initializers"
	extract config/initializers/stripe_webhook.rb >"$site/config/initializers/stripe_webhook.rb"
	echo '{ production: { adapter: postgresql } }' >"$site/config/database.yml"
	cat >"$site/config.ru" <<-'RAILS'
		require 'rails'
		require 'active_record/railtie'
		require 'action_controller/railtie'
		class Front < Rails::Application
		  config.root = __dir__
		  config.eager_load = false
		  config.secret_key_base = 'x' * 64
		  config.logger = Logger.new($stderr)
		  routes.append { post '/stripe/webhook', to: StripeWebhook }
		end
		run Front.initialize!
	RAILS
	run_front Rails /stripe/webhook env RAILS_ENV=production RACK_ENV=production \
		rackup -s webrick -o 127.0.0.1 -p "$PORT" "$site/config.ru"
}

front_php()
{
	if ! php -r 'exit(extension_loaded("pdo_pgsql") ? 0 : 1);' 2>/dev/null; then
		skip "no php with pdo_pgsql" PHP
		return
	fi
	extract front.php >"$WORK/front.php"
	run_front PHP / php -d display_errors=1 -S "127.0.0.1:$PORT" "$WORK/front.php"
}

# An application of the least that Laravel asks for, with Debian's packages of it
front_laravel()
{
	local site=$WORK/laravel laravel=/usr/share/php/Illuminate/autoload.php

	if ! php -r "exit(extension_loaded('pdo_pgsql') && is_file('$laravel') ? 0 : 1);" 2>/dev/null; then
		skip "no php with pdo_pgsql and Laravel" Laravel
		return
	fi
	mkdir -p "$site/config" "$site/routes" "$site/bootstrap/cache" "$site/storage/framework/views" "$site/storage/logs"
	extract routes/api.php >"$site/routes/api.php"
	cat >"$site/config/app.php" <<-'APP'
		<?php
		return ['env' => 'production', 'debug' => false, 'timezone' => 'UTC', 'locale' => 'en', 'fallback_locale' => 'en',
		    'providers' => [Illuminate\Database\DatabaseServiceProvider::class, Illuminate\Filesystem\FilesystemServiceProvider::class,
		        Illuminate\View\ViewServiceProvider::class, Illuminate\Translation\TranslationServiceProvider::class]];
	APP
	cat >"$site/config/database.php" <<-'DATABASE'
		<?php
		return ['default' => 'pgsql', 'connections' => ['pgsql' => ['driver' => 'pgsql', 'host' => getenv('PGHOST'),
		    'database' => getenv('PGDATABASE'), 'username' => getenv('PGUSER'), 'charset' => 'utf8']]];
	DATABASE
	cat >"$site/config/view.php" <<-'VIEW'
		<?php
		return ['paths' => [], 'compiled' => dirname(__DIR__) . '/storage/framework/views'];
	VIEW
	cat >"$site/index.php" <<-INDEX
		<?php
		require '$laravel';
		\$app = new Illuminate\Foundation\Application(__DIR__);
		\$app->singleton(Illuminate\Contracts\Http\Kernel::class, Illuminate\Foundation\Http\Kernel::class);
		\$app->singleton(Illuminate\Contracts\Debug\ExceptionHandler::class, Illuminate\Foundation\Exceptions\Handler::class);
		\$app->booted(fn () => Illuminate\Support\Facades\Route::prefix('api')->group(__DIR__ . '/routes/api.php'));
		\$app->make(Illuminate\Contracts\Http\Kernel::class)->handle(Illuminate\Http\Request::capture())->send();
	INDEX
	run_front Laravel /api/stripe/webhook php -S "127.0.0.1:$PORT" "$site/index.php"
}

# With the driver of Debian's package, which is of version 4 on Debian 12 and
# differs in a name, or with one from the cache of modules.
go_build()
{
	local debian=/usr/share/gocode pgx cache

	mkdir -p "$WORK/go"
	{ extract main.go; say; extract front.go; } >"$WORK/go/main.go"
	cd "$WORK/go"
	export GOCACHE=$WORK/go-cache GOTOOLCHAIN=local
	pgx=$debian/src/github.com/jackc/pgx
	if [ -d "$pgx/v5" ] || [ -d "$pgx/v4" ]; then
		if [ ! -d "$pgx/v5" ]; then
			sed -i 's,jackc/pgx/v5,jackc/pgx/v4,; s,pgxpool.New(,pgxpool.Connect(,' main.go
		fi
		GO111MODULE=off GOPATH=$debian go build -o front main.go
	else
		cache=$(go env GOMODCACHE)
		export GOPROXY=file://$cache/cache/download GOFLAGS=-mod=mod GONOSUMDB='*'
		go mod init front && go mod tidy && go build -o front main.go
	fi
}

front_go()
{
	if ! command -v go >/dev/null || ! command -v gofmt >/dev/null; then
		skip "no go" Go
		return
	fi
	{ extract main.go; say; extract front.go; } | gofmt -d >"$WORK/gofmt.log" 2>&1 || true
	is "$(cat "$WORK/gofmt.log")" "" "Go: formatted, without a syntax error"
	if (go_build) >"$WORK/go.log" 2>&1; then
		run_front Go / "$WORK/go/front"
	else
		skip "no pgx" "Go: runs"
	fi
}

# PostgREST's part is three settings and a role.
postgrest_call()				# options of post.pl that make the header
{
	local header=$1 body

	body=$(cat "$WORK/event"; printf .)
	psql -X -q -A -t -v ON_ERROR_STOP=1 -v body="${body%.}" -v header="$header" <<-'CALL'
		BEGIN;
		SELECT set_config('request.headers', json_build_object('host', 'localhost',
			'stripe-signature', :'header')::text, true) AS headers \gset
		SET LOCAL ROLE anon;
		SELECT coalesce(answer->>'status', answer->>'code') AS answer
			FROM api.stripe_webhook(:'body') AS answer \gset
		SELECT current_setting('response.status') || ' ' || :'answer';
		COMMIT;
	CALL
}

front_postgrest()
{
	local header

	event evt_postgrest "Zoë €5 😀" >"$WORK/event"
	header=$(sql "SELECT stripe_sync.sign(pg_read_binary_file('$WORK/event'), '$SECRET')")
	is "$(postgrest_call "$header")" "200 applied" "PostgREST: good"
	is "$(postgrest_call "$header")" "200 duplicate" "PostgREST: again"
	is "$(postgrest_call "${header}0")" "400 SY002" "PostgREST: forged"
	is "$(sql "SELECT convert_to(payload::text, 'UTF8') = pg_read_binary_file('$WORK/event')
		FROM stripe_sync.event WHERE id = 'evt_postgrest'")" t "PostgREST: stored byte for byte"
}

# The same for Slack: the body as bytes
postgrest_slack()				# secret
{
	psql -X -q -A -t -v ON_ERROR_STOP=1 -v file="$WORK/command" -v secret="$1" <<-'CALL'
		BEGIN;
		SELECT pg_read_binary_file(:'file') AS body, extract(epoch FROM now())::bigint::text AS at \gset
		SELECT set_config('request.headers', json_build_object('host', 'localhost', 'x-slack-request-timestamp', :'at', 'x-slack-signature',
			'v0=' || encode(sha256_hmac(convert_to('v0:' || :'at' || ':', 'UTF8') || :'body'::bytea, convert_to(:'secret', 'UTF8')), 'hex'))::text, true) AS headers \gset
		SET LOCAL ROLE anon;
		SELECT coalesce(answer->>'response_type', answer->>'code') AS answer FROM api.slack(:'body'::bytea) AS answer \gset
		SELECT current_setting('response.status') || ' ' || :'answer';
		COMMIT;
	CALL
}

front_postgrest_slack()
{
	printf 'team_id=T1&user_id=UPOSTGREST&command=%%2Fstripe&text=help&trigger_id=1.2' >"$WORK/command"
	chmod a+r "$WORK/command"
	# HMAC with a key that is shorter than a block
	sql "CREATE FUNCTION public.sha256_hmac(message bytea, key bytea) RETURNS bytea LANGUAGE plpgsql AS \$\$
		DECLARE i bytea; o bytea;
		BEGIN
			i := decode(repeat('36', 64), 'hex'); o := decode(repeat('5c', 64), 'hex');
			FOR n IN 0 .. length(key) - 1 LOOP
				i := set_byte(i, n, get_byte(i, n) # get_byte(key, n)); o := set_byte(o, n, get_byte(o, n) # get_byte(key, n));
			END LOOP;
			RETURN sha256(o || sha256(i || message));
		END \$\$" >/dev/null
	is "$(postgrest_slack "$SLACK_SECRET")" "200 ephemeral" "PostgREST: a command of Slack's"
	is "$(postgrest_slack "${SLACK_SECRET//a/b}" | cut -c 1-3)" 401 "PostgREST: forged"
}

# ---- all the SQL ----

# The SQL of a file; webhooks are the stub's.
document_sql()					# file
{
	local name=${1//\//_}

	perl "$HERE/extract.pl" "$ROOT/$1" 'sql.*' |
		sed "s,https://hooks\.slack\.com/,$SLACK/,; s/whsec_new\.\.\./whsec_of_another/; s/'whsec_\.\.\.'/'$SECRET'/; s/'8f7\.\.\.'/'$SLACK_SECRET'/" >"$WORK/$name.sql"
	if psql -X -q -v ON_ERROR_STOP=1 -f "$WORK/$name.sql" >"$WORK/$name.log" 2>&1; then
		ok 0 "the SQL of $1 runs from the first block to the last"
	else
		ok 1 "the SQL of $1 runs from the first block to the last"
		tail -n 8 "$WORK/$name.log" | sed 's/^/# /'
	fi
}

# Until nothing waits that is due or was tried; what still does after some minutes.
messages_owed()
{
	local n owed

	for ((n = 0; n < 1800; n++)); do
		owed=$(sql "SELECT id, destination, state, last_code FROM stripe_sync.message
			WHERE state IN ('waiting', 'sending') AND (due_at <= now() OR attempts > 0)")
		[ -n "$owed" ] || return 0
		sleep 0.1
	done
	say "$owed"
}

# What the documents have Slack told arrives there.
check_slack()
{
	is "$(messages_owed)" "" "all that is due is sent"
	is "$(sql "SELECT id, last_code FROM stripe_sync.message WHERE state = 'dead'")" "" "Slack refuses nothing"
	is "$(sql "SELECT name, disabled_reason FROM stripe_sync.destination WHERE NOT enabled")" "" \
		"no destination is switched off"
	is "$(perl -CS -MHTTP::Tiny -MJSON::PP -e '
		my $all = decode_json(HTTP::Tiny->new(no_proxy => ["127.0.0.1"])->get("$ENV{CONTROL}/messages")->{content});
		for my $message (map { @{ $_->{messages} } } values %{ $all->{channels} }) {
			print "$message->{shown}: $_->{shown}\n" for grep { $message->{shown} =~ /^Order 17/ } @{ $message->{replies} };
		}')" "Order 17: a refund of €29.00: The bank has taken it" "a thread is a thread"
}

# The documents that are not there
missing_documents()
{
	local file

	for file in "${DOCUMENTS[@]}"; do
		[ -f "$ROOT/$file" ] || say "$file"
	done
}

documents()
{
	local file

	is "$(cd "$ROOT" && for file in README.md doc/*.md; do
		case " ${DOCUMENTS[*]} " in *" $file "*) ;; *) say "$file" ;; esac
	done)" "" "every document is in the list above"
	for file in "${DOCUMENTS[@]}"; do
		if [ ! -f "$ROOT/$file" ]; then
			skip "there is no $file" "the SQL of $file"
		elif grep -q '^```sql$' "$ROOT/$file"; then
			document_sql "$file"
		fi
	done
	if [ "$SLACK" = https://hooks.slack.com ]; then
		skip "no python3 or no openssl" "the documents' messages"
	else
		check_slack
	fi
}

# What people may call, look at or set is told of somewhere.
check_told_of()
{
	local missing

	missing=$(missing_documents)
	if [ -n "$missing" ]; then
		skip "there is no ${missing//$'\n'/, }" "every function, table and setting is told of"
		return
	fi
	is "$(sql "SELECT DISTINCT regexp_replace(what, '^.* stripe_sync[.]([a-z_]+).*$', '\1')
		FROM stripe_sync.grade" | while read -r name; do
		grep -q "\b$name\b" "$ROOT/README.md" "$ROOT"/doc/*.md || say "$name"
	done)" "" "every function and table that is granted is told of"
	is "$(sql "SELECT name FROM pg_settings WHERE name LIKE 'stripe_sync.%'" | while read -r name; do
		grep -q "\b${name//./[.]}\b" "$ROOT/README.md" "$ROOT"/doc/*.md || say "$name"
	done)" "" "every setting is told of"
}

# A server that speaks to the stub or, without one, to nobody.
server_make()
{
	local settings=("stripe_sync.outbound = off")

	if stub_is_possible; then
		stub_start slack
		readarray -t settings < <(stub_settings)
	else
		SLACK=https://hooks.slack.com
	fi
	own_by_server "$WORK"
	cluster_make "shared_preload_libraries = 'stripe_sync'" "${settings[@]}"
}

main()
{
	local front

	place_make
	server_make
	documents
	check_told_of
	# the README's endpoint is not ours
	sql "SELECT stripe_sync.drop_endpoint(name) FROM stripe_sync.endpoint" >/dev/null
	sql "SELECT stripe_sync.drop_handler(name) FROM stripe_sync.handler" >/dev/null
	sql "SELECT stripe_sync.add_endpoint('default', '$SECRET', livemode => false)" >/dev/null
	sql "SELECT stripe_sync.drop_slack_app(name) FROM stripe_sync.slack_app" >/dev/null
	sql "SELECT stripe_sync.add_slack_app('default', '$SLACK_SECRET')" >/dev/null
	sql "CREATE ROLE front LOGIN; SELECT stripe_sync.grant_ingest('front')" >/dev/null
	chmod a+r "$WORK"/event 2>/dev/null || true
	front_postgrest
	front_postgrest_slack
	for front in front_python front_flask front_django front_fastapi front_ruby front_rails \
		front_php front_laravel front_go front_slack_python front_slack_flask front_slack_fastapi; do
		PORT=$(free_port)
		export PORT
		"$front"
	done
	done_testing
}

main
