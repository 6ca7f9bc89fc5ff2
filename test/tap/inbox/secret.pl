# secret.pl
#		No secret is sent to who replicates tables, nor shown by the log, whatever
#		ends a call that was given one, nor by what logs plans; and where all
#		tables are published everything works.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use StripeStub;
use StripeSync;

use Digest::SHA qw(hmac_sha256_hex);
use JSON::PP qw(encode_json);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $missing = StripeStub->missing;
plan skip_all => $missing if $missing;

# Never to be seen: all secrets here hold this.
use constant HUSH => 'sEcReT';
use constant KEY => 'sk_test_tap_0123456789_sEcReT';

my $stripe = StripeStub->start;
# where there is a package of it (test/setup)
chomp(my $libraries = `pg_config --pkglibdir`);
my $has_pgaudit = -e "$libraries/pgaudit.so";
my $node = start_node('secret', conf => "shared_preload_libraries = 'stripe_sync, auto_explain" . ($has_pgaudit ? ', pgaudit' : '') . "'\n" . $stripe->conf . join("\n",
	"stripe_sync.stripe_rate = 100", "stripe_sync.reconcile_interval = '1h'",
	"wal_level = logical", "max_replication_slots = 4", "max_wal_senders = 4", "log_parameter_max_length_on_error = -1", ''));
make_sender($node, 'shop');

sub shop { return $node->safe_psql('shop', $_[0]); }

# What the log has got since $_[0] bytes.
sub logged { return slurp_file($node->logfile, $_[0]); }

# ---- tables that are replicated ----

sub decoded { return shop(q{SELECT string_agg(data, E'\n') FROM pg_logical_slot_get_changes('decoding', NULL, NULL)}); }

shop(q{SELECT pg_create_logical_replication_slot('decoding', 'test_decoding'); CREATE PUBLICATION everything FOR ALL TABLES});
shop(q{SELECT stripe_sync.add_endpoint('default', 'whsec_1_sEcReT', tolerance => NULL)});
shop(q{SELECT stripe_sync.rotate_endpoint_secret('default', 'whsec_2_sEcReT')});
shop(q{SELECT stripe_sync.rotate_endpoint_secret('default', 'whsec_3_sEcReT', '1 hour')});
is(shop(q{SELECT string_agg(number || ' ' || (lapses_at IS NULL), ', ' ORDER BY number) FROM stripe_sync.endpoint_secret}),
	'1 false, 2 false, 3 true', 'two former secrets are good yet');
is(shop(q{SELECT (SELECT status FROM stripe_sync.receive(p, stripe_sync.sign(p, s))) FROM
	(VALUES ('{"id": "evt_1", "type": "x"}', 'whsec_1_sEcReT'), ('{"id": "evt_2", "type": "x"}', 'whsec_3_sEcReT')) v (p, s)}), "ignored\nignored", 'and all are known');
shop(q{SELECT stripe_sync.rotate_endpoint_secret('default', 'whsec_4_sEcReT', '0')});
shop(q{SELECT stripe_sync.set_api_key('sk_test_1_sEcReT')});
shop(q{SELECT stripe_sync.set_api_key('sk_test_2_sEcReT')});
shop(q{SELECT stripe_sync.set_api_key('sk_test_2_sEcReT', 'acct_1'), stripe_sync.set_api_key(NULL, 'acct_1')});
shop('SELECT stripe_sync.set_api_key(' . literal(KEY) . ')');
is(shop('SELECT count(*), max(key) FROM stripe_sync.api_key'), '1|' . KEY, 'a key is replaced');
for my $n (1, 2)
{
	shop("SELECT stripe_sync.add_slack_webhook('hook', 'https://hooks.slack.com/services/T1/B1/${n}sEcReT')");
	shop("SELECT stripe_sync.add_slack_channel('bot', '#c', 'xoxb-$n-sEcReT')");
	shop("SELECT stripe_sync.add_slack_app('default', '$n-signing-sEcReT', 'xoxb-$n-sEcReT')");
}
is(shop('SELECT signing_secret, token FROM stripe_sync.slack_app_secret'), '2-signing-sEcReT|xoxb-2-sEcReT', 'both of an app are replaced');

# a request from Slack, with what lets its holder answer
sub from_slack
{
	my ($body, $at) = (shift, time);
	my $signature = 'v0=' . hmac_sha256_hex("v0:$at:$body", '2-signing-sEcReT');

	return shop('SELECT http_status FROM stripe_sync.receive_slack(' . literal($body) . "::text, '" .
		encode_json({ 'X-Slack-Request-Timestamp' => "$at", 'X-Slack-Signature' => $signature }) . "')");
}
is(from_slack('command=%2Fx&user_id=U1&response_url=https%3A%2F%2Fhooks.slack.com%2FsEcReT&trigger_id=1.sEcReT&token=sEcReT'), 200, 'a command is received');
is(shop('SELECT count(*) FROM stripe_sync.interaction_secret WHERE response_url IS NOT NULL AND trigger_id IS NOT NULL'), 1, 'and what it may answer with is kept');
shop('DELETE FROM stripe_sync.interaction_secret');
is(shop(q{SELECT string_agg(secret, ' ' ORDER BY destination) FROM stripe_sync.destination_secret}),
	'xoxb-2-sEcReT https://hooks.slack.com/services/T1/B1/2sEcReT', 'URL and token are replaced');
shop(q{SELECT stripe_sync.drop_destination('bot')});
shop(q{SELECT stripe_sync.add_endpoint('second', 'whsec_5_sEcReT'), stripe_sync.drop_endpoint('second')});
is(shop('SELECT string_agg(DISTINCT endpoint, $$ $$) FROM stripe_sync.endpoint_secret'), 'default', 'what was dropped has no secret left');

# the worker's own rows
shop(q{SELECT stripe_sync.drop_endpoint('default')});
my $job = shop(q{SELECT stripe_sync.create_webhook_endpoint('https://shop.example.com/stripe')});
ok($node->poll_query_until('shop', "SELECT state = 'done' FROM stripe_sync.job WHERE id = $job"), 'a webhook endpoint is made at Stripe');
my $kept = shop(q{SELECT secret FROM stripe_sync.endpoint_secret WHERE endpoint = 'default'});
like($kept, qr/^whsec_/, 'its secret is kept');
shop('UPDATE stripe_sync.endpoint_watch SET next_at = now(); UPDATE stripe_sync.reconcile_schedule SET next_at = now(); SELECT stripe_sync.resume()');
ok($node->poll_query_until('shop', "SELECT read_at IS NOT NULL AND next_at > now() FROM stripe_sync.endpoint_watch"), 'the worker watches the endpoints');
ok($node->poll_query_until('shop', "SELECT next_at > now() FROM stripe_sync.reconcile_schedule"), 'and reconciles');
shop('SELECT stripe_sync.note_backup(), stripe_sync.note_backup()');

my $changes = decoded();
like($changes, qr/table stripe_sync\.endpoint: INSERT/, 'changes are decoded');
like($changes, qr/table stripe_sync\.endpoint_secret: DELETE: endpoint\[text\]:'default' number\[integer\]:1$/m, 'of an endpoint\'s secret the key of what goes');
like($changes, qr/table stripe_sync\.api_key: DELETE: account\[text\]:''$/m, 'and of a key\'s');
like($changes, qr/table stripe_sync\.destination_secret: DELETE: destination\[text\]:'hook'$/m, 'and of a destination\'s');
like($changes, qr/table stripe_sync\.slack_app_secret: DELETE: app\[text\]:'default'$/m, 'and of an app\'s');
like($changes, qr/table stripe_sync\.interaction_secret: DELETE: interaction\[bigint\]:[0-9]+$/m, 'and of an interaction\'s');
unlike($changes, qr/stripe_sync\.(?:endpoint_secret|api_key|destination_secret|slack_app_secret|interaction_secret): (?:INSERT|UPDATE)/, 'but nothing that comes');
unlike($changes, qr/${\HUSH}|\Q$kept\E/, 'and no secret');

# ---- errors ----

# Statement, and what it is given as a parameter.
my %refused = (
	set_api_key            => [ 'SELECT stripe_sync.set_api_key(:arg)', 'pk_live_sEcReT' ],
	'set_api_key, account' => [ q{SELECT stripe_sync.set_api_key(:arg, 'nobody')}, 'sk_live_sEcReT' ],
	sign                   => [ q{SELECT stripe_sync.sign('{}'::text, :arg, 'infinity')}, 'whsec_sEcReT' ],
	verify_signature       => [ q{SELECT stripe_sync.verify_signature('{}'::text, 't=1,v1=00', :arg)}, 'whsec_sEcReT' ],
	'verify_signature, tolerance' => [ q{SELECT stripe_sync.verify_signature('{}'::text, 't=1,v1=00', :arg, '-1 s')}, 'whsec_sEcReT' ],
	add_endpoint           => [ q{SELECT stripe_sync.add_endpoint('', :arg)}, 'whsec_sEcReT' ],
	'add_endpoint, file'   => [ q{SELECT stripe_sync.add_endpoint('x', :arg)}, 'file:relative/sEcReT' ],
	rotate_endpoint_secret => [ q{SELECT stripe_sync.rotate_endpoint_secret('nowhere', :arg)}, 'whsec_sEcReT' ],
	add_slack_webhook      => [ q{SELECT stripe_sync.add_slack_webhook('x', :arg)}, 'https://evil.example.com/sEcReT' ],
	'add_slack_webhook, no name' => [ q{SELECT stripe_sync.add_slack_webhook(NULL, :arg)}, 'https://hooks.slack.com/services/T1/B1/sEcReT' ],
	add_slack_channel      => [ q{SELECT stripe_sync.add_slack_channel('x', '', :arg)}, 'xoxb-sEcReT' ],
	'add_slack_channel, order' => [ q{SELECT stripe_sync.add_slack_channel('x', :arg, '#c')}, 'xoxb-sEcReT' ],
	add_slack_app          => [ q{SELECT stripe_sync.add_slack_app('', :arg)}, 'signing-sEcReT' ],
	'add_slack_app, token' => [ q{SELECT stripe_sync.add_slack_app('x', 'signing', :arg)}, 'https://hooks.slack.com/sEcReT' ],
	'add_slack_app, order' => [ q{SELECT stripe_sync.add_slack_app(:arg, 'default')}, 'xoxb-sEcReT' ],
	create_webhook_endpoint => [ 'SELECT stripe_sync.create_webhook_endpoint(:arg)', 'https://user:sEcReT@shop.example.com/' ]);
my $script = PostgreSQL::Test::Utils::tempdir() . '/script';

# As a literal, and as a bound parameter, which psql can't do before 16.
sub says_nothing
{
	my ($what, $sql, $arg, $pattern) = @_;
	my $log = -s $node->logfile;

	my ($ret, $out, $err) = $node->psql('shop', $sql =~ s/:arg/literal($arg)/er);
	isnt($ret, 0, "$what raises");
	like(logged($log), $pattern, "$what: the log says so");
	unlike(logged($log), qr/${\HUSH}/, "$what: and shows no statement");

	$log = -s $node->logfile;
	open my $file, '>', "$script.sql" or die $!;
	print $file "$sql;\n";
	close $file;
	$node->command_checks_all([ 'pgbench', '-n', '-t', '1', '-M', 'extended', '-D', "arg=$arg", '-f', "$script.sql", $node->connstr('shop') ],
		2, [qr/./], [qr/aborted/], "$what with a parameter raises");
	like(logged($log), $pattern, "$what: the log says so");
	unlike(logged($log), qr/${\HUSH}/, "$what: and shows no parameter");
	return;
}

says_nothing($_, @{ $refused{$_} }, qr/ERROR:  /) for sort keys %refused;

# what isn't one of ours shows that the log would
my $log = -s $node->logfile;
$node->psql('shop', q{SELECT 'sEcReT'::int});
like(logged($log), qr/STATEMENT: .*sEcReT/, 'another statement is shown');

# before a call has begun: library and catalog don't fit
shop('UPDATE stripe_sync.catalog_level SET level = level + 1');
says_nothing("$_, at another level", @{ $refused{$_} }, qr/ERROR:  .*catalog level/)
  for qw(set_api_key add_endpoint rotate_endpoint_secret add_slack_webhook add_slack_channel add_slack_app create_webhook_endpoint);
shop('UPDATE stripe_sync.catalog_level SET level = level - 1');

# what comes from elsewhere
my $holder = $node->background_psql('shop');
$holder->query_safe('BEGIN; LOCK TABLE stripe_sync.api_key, stripe_sync.endpoint_secret, stripe_sync.destination_secret, stripe_sync.slack_app_secret, stripe_sync.job_record');
my %waits = (
	set_api_key            => q{SELECT stripe_sync.set_api_key('sk_test_sEcReT')},
	add_endpoint           => q{SELECT stripe_sync.add_endpoint('new', 'whsec_sEcReT')},
	rotate_endpoint_secret => q{SELECT stripe_sync.rotate_endpoint_secret('default', 'whsec_sEcReT')},
	add_slack_webhook      => q{SELECT stripe_sync.add_slack_webhook('new', 'https://hooks.slack.com/services/T1/B1/sEcReT')},
	add_slack_channel      => q{SELECT stripe_sync.add_slack_channel('new', '#c', 'xoxb-sEcReT')},
	add_slack_app         => q{SELECT stripe_sync.add_slack_app('new', 'signing-sEcReT', 'xoxb-sEcReT')},
	create_webhook_endpoint => q{SELECT stripe_sync.create_webhook_endpoint('https://shop.example.com/sEcReT')});
for my $function (sort keys %waits)
{
	for my $limit (qw(lock_timeout statement_timeout))
	{
		my $from = -s $node->logfile;
		my ($ret) = $node->psql('shop', "SET $limit = '300ms'; $waits{$function}");

		isnt($ret, 0, "$function ends by $limit");
		like(logged($from), qr/ERROR:  canceling statement due to/, 'which the log says');
		unlike(logged($from), qr/${\HUSH}/, 'without the secret');
	}
}
$holder->quit;

# ---- plans ----

shop(q{CREATE TABLE given (what text, secret text);
	INSERT INTO given VALUES ('whsec', 'whsec_6_sEcReT'), ('again', 'whsec_7_sEcReT'), ('key', 'sk_test_3_sEcReT'), ('token', 'xoxb-sEcReT'), ('url', 'https://hooks.slack.com/services/T1/B1/3sEcReT')});
$log = -s $node->logfile;
shop(q{
	SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on; SET auto_explain.log_verbose = on; SET auto_explain.log_analyze = on;
	SELECT stripe_sync.add_endpoint('planned', (SELECT secret FROM given WHERE what = 'whsec'));
	SELECT stripe_sync.rotate_endpoint_secret('planned', (SELECT secret FROM given WHERE what = 'again'));
	SELECT stripe_sync.set_api_key((SELECT secret FROM given WHERE what = 'key'), 'acct_2');
	SELECT stripe_sync.add_slack_channel('planned', '#c', (SELECT secret FROM given WHERE what = 'token'));
	SELECT stripe_sync.add_slack_app('planned', 'x' || (SELECT secret FROM given WHERE what = 'token'), (SELECT secret FROM given WHERE what = 'token'));
	SELECT stripe_sync.add_slack_webhook('planned', (SELECT secret FROM given WHERE what = 'url'))});
like(logged($log), qr/Query Text: INSERT INTO stripe_sync\.endpoint /, 'auto_explain logs our statements');
unlike(logged($log), qr/${\HUSH}/, 'without the secrets');

SKIP:
{
	skip 'no pgaudit', 3 unless $has_pgaudit;
	$log = -s $node->logfile;
	shop(q{
		SET pgaudit.log = 'all'; SET pgaudit.log_parameter = on; SET pgaudit.log_relation = on; SET pgaudit.log_rows = on;
		SELECT stripe_sync.add_endpoint('audited', (SELECT secret FROM given WHERE what = 'whsec'));
		SELECT stripe_sync.rotate_endpoint_secret('audited', (SELECT secret FROM given WHERE what = 'again'));
		SELECT stripe_sync.set_api_key((SELECT secret FROM given WHERE what = 'key'), 'acct_3');
		SELECT stripe_sync.add_slack_channel('audited', '#c', (SELECT secret FROM given WHERE what = 'token'));
		SELECT stripe_sync.add_slack_app('audited', 'x' || (SELECT secret FROM given WHERE what = 'token'), (SELECT secret FROM given WHERE what = 'token'));
		SELECT stripe_sync.add_slack_webhook('audited', (SELECT secret FROM given WHERE what = 'url'));
		SELECT status FROM stripe_sync.simulate('plan.created', '{"id": "gold", "object": "plan"}', 'audited')});
	like(logged($log), qr/AUDIT: SESSION,.*INSERT INTO stripe_sync\.endpoint /, 'pgaudit logs our statements');
	like(logged($log), qr/AUDIT: SESSION,.*add_slack_webhook/, 'and the calls');
	unlike(logged($log), qr/${\HUSH}/, 'without the secrets');
}

$node->append_conf('postgresql.conf', "auto_explain.log_min_duration = 0\nauto_explain.log_nested_statements = on\nauto_explain.log_verbose = on\n");
$node->reload;
$node->poll_query_until('shop', q{SELECT current_setting('auto_explain.log_min_duration') = '0'});
shop(q{SELECT stripe_sync.drop_endpoint('default'); DELETE FROM stripe_sync.watched_endpoint});
$job = shop(q{SELECT stripe_sync.create_webhook_endpoint('https://shop.example.com/other')});
ok($node->poll_query_until('shop', "SELECT state = 'done' FROM stripe_sync.job WHERE id = $job"), 'another webhook endpoint is made');
$kept = shop(q{SELECT secret FROM stripe_sync.endpoint_secret WHERE endpoint = 'default'});
like(logged($log), qr/INSERT INTO stripe_sync\.watched_endpoint/, 'the worker\'s statements are logged');
unlike(logged($log), qr/\Q$kept\E/, 'without the secret that it keeps');

$node->stop;
done_testing();
