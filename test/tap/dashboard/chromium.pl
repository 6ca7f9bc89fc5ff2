# chromium.pl
#		dashboard() in a real browser: an empty database, a story, hostile names, a
#		paused database, a standby.  dashboard_text() of each fits its screen.
#
# The browser's part is skipped where there is no chromium.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Encode qw(decode_utf8 encode_utf8);
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('dashboard', allows_streaming => 1, conf => "hot_standby = on\n");
my $pages = PostgreSQL::Test::Utils::tempdir;
my $hostile = q{'"><script>window.pwned=1;console.log('pwned')</script><img src=x onerror=window.pwned=1></style></title></bdi></pre><!-- " onload="window.pwned=1};

# ---- words ----

# The page of a database, kept for the browser
sub page
{
	my ($from, $database, $name, @role) = @_;
	my $html = $from->safe_psql($database, 'SELECT stripe_sync.dashboard()', extra_params => [ map { ('-U', $_) } @role ]);

	open my $out, '>:raw', "$pages/$name.html" or die $!;
	print $out $html;
	close $out;
	like($html, qr{\A<!DOCTYPE html>.*</html>\s*\z}s, "$name: a whole page");
	cmp_ok(length $html, '<', 500_000, "$name: its size is bounded");
	unlike($html, qr/SECRET/, "$name: no secret");
	return $html;
}

# Columns that a terminal uses: the wide ones of these tests are Chinese.
sub columns
{
	my ($line) = @_;
	my $marks = () = $line =~ /\p{Mn}/g;
	my $wide = () = $line =~ /[\x{1100}-\x{115f}\x{2e80}-\x{a4cf}\x{ac00}-\x{d7a3}\x{f900}-\x{faff}\x{ff00}-\x{ff60}\x{1f300}-\x{1f64f}]/g;

	return length($line) - $marks + $wide;
}

sub screen
{
	my ($from, $database, $name) = @_;
	my $text = decode_utf8($from->safe_psql($database, 'SELECT stripe_sync.dashboard_text()'));
	my @lines = split /\n/, $text, -1;

	cmp_ok(scalar @lines, '<=', 24, "$name: 24 lines");
	is(join('|', grep { columns($_) > 80 } @lines), '', "$name: 80 columns");
	unlike($text, qr/[\x00-\x09\x0b-\x1f\x7f-\x9f\x{200b}-\x{200f}\x{2028}-\x{202e}\x{2066}-\x{2069}\x{feff}]/, "$name: no control characters");
	return $text;
}

sub run_sql { return $node->safe_psql($_[0], "SET client_min_messages = warning; $_[1]"); }

# ---- databases ----

# Nothing but the extension: no endpoint, no table of the mirror
$node->safe_psql('postgres', 'CREATE DATABASE empty');
run_sql('empty', 'CREATE EXTENSION stripe_sync');
page($node, 'empty', 'empty');
like(screen($node, 'empty', 'empty'), qr/no event received yet/, 'the screen says that there is nothing');

# Events, incidents, deliveries, failures
make_database($node, 'story');
run_sql('story', q{
	SELECT stripe_sync.add_slack_channel('billing', '#billing', 'xoxb-SECRET');
	SELECT stripe_sync.add_default_alerts('billing');
	CREATE FUNCTION test.broken(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'it is broken'; END $$;
	SELECT stripe_sync.add_handler('broken', 'customer.deleted', 'test.broken');
	SELECT stripe_sync.simulate_story('subscription', steps => '{checkout,paid,renewed,failed}');
	SELECT stripe_sync.simulate('customer.deleted', '{"id": "cus_9", "object": "customer", "deleted": true}');
	INSERT INTO stripe_sync.delivery (message_id, attempt, started_at, finished_at, http_status, code, verdict)
		SELECT id, a, now(), now(), 429, 'ratelimited', v FROM stripe_sync.message, unnest('{retry,sent,message_bad}'::text[]) WITH ORDINALITY AS t (v, a);
	INSERT INTO stripe_sync.event_error (event_id, account, event_type, step, sqlstate, message, first_at)
		SELECT 'evt_' || n, '', 'customer.created', 'mirror', '22P02', 'wrong', now() - n * interval '7 minutes' FROM generate_series(1, 40) n;
});
my $story = page($node, 'story', 'story');
like($story, qr/<rect [^>]*><title>\d\d:\d\d: \d+ deliveries to Slack failed/, 'failed deliveries are bars');
like($story, qr/<b>\d+<\/b> accepted.*<b>\d+<\/b> to be tried again.*<b>\d+<\/b> rejected/s, 'deliveries are told by verdict');
like(screen($node, 'story', 'story'), qr/^failures .*to retry/m, 'the screen has the failures');

# Names that are markup, that turn the direction of writing, that are long
make_database($node, 'hostile');
my $name = literal($hostile);
my $long = literal(encode_utf8("\x{202e}\x{4e2d}\x{6587}\x{4e2d}\x{6587}" . "e\x{0301}\x{0301}\x{0301}\x{0301}" x 40 . "\x07\x1b[2J\x{9b}31m" . "wwww" x 600));
run_sql('hostile', qq{
	SELECT stripe_sync.add_slack_webhook('billing', 'https://hooks.slack.com/services/T0/B0/SECRET');
	SELECT stripe_sync.add_alert('failed', 'invoice.payment_failed', 'billing', 'Payment of {{customer_name}} failed');
	SELECT stripe_sync.add_alert('failed2', 'invoice.payment_failed', 'billing', 'Payment of {{customer_name}} failed');
	SELECT stripe_sync.simulate('invoice.payment_failed', jsonb_build_object('id', 'in_1', 'object', 'invoice', 'customer_name', $name, 'status', 'open'));
	SELECT stripe_sync.simulate('invoice.payment_failed', jsonb_build_object('id', 'in_2', 'object', 'invoice', 'customer_name', $long, 'status', 'open'));
	SELECT stripe_sync.simulate('customer.updated', jsonb_build_object('id', 'cus_1', 'object', 'customer', 'name', $name, 'email', $long));
	INSERT INTO stripe_sync.event (id, account, type, endpoint, object_id, received_at, source, status, todo, attempts, error, payload)
		SELECT n, n, n, n, n, now(), n, n, '{}', 1, n, '{}' FROM unnest(ARRAY[$name, $long]) AS n;
	UPDATE stripe_sync.incident_record SET severity = text, destination = text, alert = text WHERE alert = 'failed2';
	INSERT INTO stripe_sync.destination (name, kind, enabled, disabled_reason) SELECT n, 'webhook', false, n FROM unnest(ARRAY[$name, $long]) AS n;
	INSERT INTO stripe_sync.refusal_record SELECT n, n, 7, now(), now(), n FROM unnest(ARRAY[$name, $long]) AS n;
	INSERT INTO stripe_sync.job_record (kind, state, error) SELECT n, n, n FROM unnest(ARRAY[$name, $long]) AS n;
});
page($node, 'hostile', 'hostile');
screen($node, 'hostile', 'hostile');

# Paused, with a role that may only read
$node->safe_psql('postgres', 'CREATE DATABASE paused; CREATE ROLE reader LOGIN; CREATE ROLE nobody1 LOGIN');
run_sql('paused', q{CREATE EXTENSION stripe_sync; SELECT stripe_sync.grant_read('reader'); SELECT stripe_sync.pause(); GRANT USAGE ON SCHEMA stripe_sync TO nobody1});
like(page($node, 'paused', 'paused', 'reader'), qr/messages to Slack are paused\. SELECT stripe_sync\.resume/, 'a reader is told that it is paused');
my ($status, undef, $error) = $node->psql('paused', 'SELECT stripe_sync.dashboard()', extra_params => [ '-U', 'nobody1' ]);
isnt($status, 0, 'nobody else has a page');
like($error, qr/permission denied for function dashboard/, 'who may not read is refused');

# A standby
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('dashboard_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
like(page($standby, 'story', 'standby'), qr/<b>Standby\.<\/b>/, 'a standby says that it is one');
like(screen($standby, 'story', 'standby'), qr/standby/, 'so does the screen');
$standby->stop('immediate');

# ---- the browser ----

SKIP:
{
	my $chromium = (grep { -x } map { my $d = $_; map { "$d/$_" } qw(chromium chromium-browser google-chrome) } split /:/, $ENV{PATH})[0];

	skip('there is no chromium', 1) unless defined $chromium;
	skip('there is no python3', 1) if system('python3 -c 1 >/dev/null 2>&1');
	my $lines = decode_utf8(`python3 $FindBin::RealBin/browser.py $pages @{[quotemeta $hostile]} 2>&1`);

	is($?, 0, 'the browser has looked') or diag($lines);
	while ($lines =~ /^(ok|not ok) - (.*)\n((?:#.*\n)*)/mg)
	{
		ok($1 eq 'ok', $2) or diag($3);
	}
}

done_testing();
