# reconcile.pl
#		What never arrived by webhook is found in Stripe's own list of events,
#		and brought in once; what goes wrong on the way is said, and the run goes
#		on where it was.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use Delivery;
use StripeStub;
use StripeSync;

use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $missing = StripeStub->missing;
plan skip_all => $missing if $missing;
seed();

use constant KEY => 'rk_test_tap_0123456789_sEcReT';
use constant PAGE => 100;

my $stripe = StripeStub->start;
my $node = start_node('reconcile', conf => PRELOAD . $stripe->conf . "stripe_sync.stripe_rate = 100\nstripe_sync.reconcile_interval = 0\n");
make_database($node, 'shop');

sub shop { return $node->safe_psql('shop', $_[0]); }

sub deliver
{
	return join '', map {
		my $payload = ref $_ ? json_text($_) : $_;
		'SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload)) . ");\n";
	} @_;
}

# Runs it to its end; answers its row.
sub reconciled
{
	my ($what, $since, %expect) = @_;
	my $job = shop(defined $since ? "SELECT stripe_sync.reconcile('$since')" : 'SELECT stripe_sync.reconcile()');

	ok($node->poll_query_until('shop', "SELECT state NOT IN ('waiting', 'running') FROM stripe_sync.job WHERE id = $job"), "$what: it ends");
	my $row = json_value(shop("SELECT row_to_json(j) FROM stripe_sync.job j WHERE id = $job"));
	is($row->{$_}, $expect{$_}, "$what: $_") for sort keys %expect;
	return $row;
}

# All steps of all events have been run.
sub applied { return $node->poll_query_until('shop', q{SELECT count(*) = 0 FROM stripe_sync.event WHERE status IN ('pending', 'failed') OR todo <> '{}'}); }

# ---- without a key ----

my ($ret, $out, $err) = $node->psql('shop', '\set VERBOSITY verbose' . "\nSELECT stripe_sync.reconcile()");
like($err, qr/55000.*no key.*HINT: .*set_api_key/s, 'without a key it says what to do');
for my $wrong ('pk_test_123', 'whsec_123', '', "rk_test_\n123", 'file:relative')
{
	($ret, $out, $err) = $node->psql('shop', '\set VERBOSITY verbose' . "\nSELECT stripe_sync.set_api_key(" . literal($wrong) . ')');
	like($err, qr/22023.*HINT/s, 'no key: ' . ($wrong =~ s/\n/\\n/r));
}
shop('SELECT stripe_sync.set_api_key(' . literal(KEY) . ')');

# ---- two thousand events, of which a third came ----

shop(q{
	CREATE TABLE test.handled (id text, at timestamptz DEFAULT clock_timestamp());
	CREATE FUNCTION test.note(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO test.handled VALUES (event->>'id') $$;
	SELECT stripe_sync.add_handler('note', '*', 'test.note');
});
my $now = int time;
my @customers = @{ $stripe->control('fill', { type => 'customer', count => 200, seed => 1, since => $now - 80_000, until => $now - 70_000, events => TRUE })->{ids} };
my @changes = map { { id => $customers[ rand @customers ], set => { name => "Name $_", balance => $_ }, at => $now - 60_000 + $_ * 20 } } 1 .. 1800;
$stripe->control('change', [ splice @changes, 0, 100 ]) while @changes;
my @events = @{ $stripe->control('pending?limit=5000') };
is(scalar @events, 2000, 'two thousand events have happened');
my @came = grep { rand() < 0.3 } shuffle @events;
my $third = int(@came / 3);

shop(deliver(@came[ 0 .. $third - 1 ]));
my $job = shop(q{SELECT stripe_sync.reconcile()});
shop(deliver(@came[ $third .. 2 * $third - 1 ]));
ok($node->poll_query_until('shop', "SELECT state = 'done' FROM stripe_sync.job WHERE id = $job"), 'a run reads them all');
shop(deliver(@came[ 2 * $third .. $#came ]));
ok(applied(), 'and all are applied');
is(shop('SELECT count(*), count(DISTINCT id) FROM stripe_sync.event'), '2000|2000', 'the inbox has every event once');
is(shop('SELECT count(*), count(DISTINCT id) FROM test.handled'), '2000|2000', 'handlers ran once each');
my $state = $stripe->control('state?type=customer')->{customer};
is(scalar(keys %$state), 200, 'Stripe has two hundred customers');
my $differ = 0;
my %mirror = map { my ($id, $data) = split /\|/, $_, 2; $id => json_value($data) } split /\n/, shop('SELECT id, _data FROM stripe.customers');
$differ++ for grep { json_text($mirror{$_} // {}) ne json_text($state->{$_}) } keys %$state;
is($differ, 0, 'the mirror equals them');
my $row = json_value(shop("SELECT row_to_json(j) FROM stripe_sync.job j WHERE id = $job"));
is($row->{objects}, 2000, 'the job has seen all');
is($row->{progress}, 1, 'to its end');
my $from_list = shop(q{SELECT count(*) FROM stripe_sync.event WHERE source = 'reconcile'});
is("$row->{missing} $row->{repaired}", "$from_list $from_list", 'and says how many were missing, and repaired');
is(shop(q{SELECT string_agg(DISTINCT coalesce(endpoint, '-'), ',') FROM stripe_sync.event WHERE source = 'reconcile'}), 'default', 'the only endpoint is theirs');
is(shop(q{SELECT bool_and(at >= before) FROM (SELECT h.at, lag(h.at) OVER (ORDER BY e.created, e.id COLLATE "C") AS before
	FROM test.handled h JOIN stripe_sync.event e USING (id) WHERE e.source = 'reconcile') o}), 't', 'what was missing was handled from the oldest up');

# ---- again ----

reconciled('nothing is missing', undef, state => 'done', missing => 0, repaired => 0, error => undef);
is(shop('SELECT count(*) FROM test.handled'), '2000', 'and nothing is done twice');
is(shop(q{SELECT at BETWEEN now() - interval '6 minutes' AND now() - interval '4 minutes' FROM stripe_sync.watermark}), 't', 'the watermark is five minutes old');
$stripe->control('change', { id => $customers[0], set => { name => 'Too young' }, at => int(time) - 60 });
reconciled('an event of a minute ago', undef, missing => 0);
$stripe->control('change', { id => $customers[0], set => { name => 'Old enough' }, at => int(time) - 400 });
reconciled('and one that is old enough', undef, missing => 1);
applied();

# ---- who reads ----

my @requests = grep { $_->{path} =~ m{^/v1/events} } @{ $stripe->requests };
is(scalar(grep { ($_->{headers}{'stripe-version'} // '') ne shop('SELECT stripe_sync.catalog_api_version()') } @requests), 0, 'every request pins the version');
is(shop(q{SELECT count(*) > 0 AND bool_and(request_id LIKE 'req%' AND status = 200 AND path LIKE '/v1/events?%') FROM stripe_sync.api_call}), 't', 'and is logged with its id');
no_secret_in($node, 'shop', 'the key');

# ---- what goes wrong ----

sub fails
{
	my ($what, $fault, $pattern, %rest) = @_;

	$stripe->fault($fault, path => '^/v1/events', %rest);
	my $row = reconciled($what, '1 day', state => 'failed');
	like($row->{error}, $pattern, "$what: the job says why");
	$stripe->clear_faults;
	return;
}

sub survives
{
	my ($what, $fault, %rest) = @_;

	$stripe->fault($fault, path => '^/v1/events', times => 2, %rest);
	reconciled($what, '1 day', state => 'done', missing => 0);
	$stripe->clear_faults;
	return;
}

survives('a 500', { status => 500 });
survives('a 429', { status => 429, headers => { 'Retry-After' => '1' } });
survives('a 409', { status => 409 });
survives('a reset', { reset_before => TRUE });
survives('a reset in the middle', { reset_mid_answer => TRUE });
fails('a malformed page', { malformed_json => TRUE }, qr/no page of a list/);
fails('a list that does not end', { endless => TRUE }, qr/does not go on/);
$stripe->control('keys', { KEY() => 'revoked' });
like(reconciled('a revoked key', '1 day', state => 'failed')->{error}, qr/401/, 'a revoked key: the job says why');
$stripe->control('keys', { KEY() => { deny => ['^/v1/events'] } });
like(reconciled('a key that may not', '1 day', state => 'failed')->{error}, qr/403/, 'a key that may not: the job says why');
$stripe->control('keys', { KEY() => undef });
reconciled('and with a good one', '1 day', state => 'done', error => undef);

# ---- a crash ----

$stripe->control('change', [ map { { id => $customers[$_], set => { name => "Crash $_" }, at => $now - 5000 + $_ } } 0 .. 199 ]);
$stripe->fault({ delay => 0.3 }, path => '^/v1/events');
$job = shop(q{SELECT stripe_sync.reconcile('1 day')});
ok($node->poll_query_until('shop', "SELECT pages >= 2 FROM stripe_sync.job WHERE id = $job"), 'in the middle of a run');
$node->stop('immediate');
$stripe->clear_faults;
$node->start;
ok($node->poll_query_until('shop', "SELECT state = 'done' FROM stripe_sync.job WHERE id = $job"), 'the server dies: the run goes on');
ok(applied(), 'and brings in what is missing');
is(shop(q{SELECT count(*) FROM stripe.customers WHERE name LIKE 'Crash %'}), '200', 'all of it');

# ---- called off, waited for ----

$stripe->fault({ delay => 1 }, path => '^/v1/events');
$job = shop(q{SELECT stripe_sync.reconcile('1 day')});
is(shop(q{SELECT stripe_sync.reconcile('2 days')}), $job, 'one that waits or runs is joined');
shop("SELECT stripe_sync.cancel_job($job)");
is(shop("SELECT state FROM stripe_sync.job WHERE id = $job"), 'cancelled', 'a job is called off');
$stripe->clear_faults;
($ret, $out, $err) = $node->psql('shop', '\set VERBOSITY verbose' . "\nSELECT stripe_sync.cancel_job($job)");
like($err, qr/55000/, 'once');
($ret, $out, $err) = $node->psql('shop', '\set VERBOSITY verbose' . "\nSELECT stripe_sync.cancel_job(0)");
like($err, qr/SY005/, 'and only one that there is');
$job = shop(q{SELECT stripe_sync.reconcile('1 day')});
($ret, $out, $err) = $node->psql('shop', "CALL stripe_sync.wait_job($job)");
is($ret, 0, 'wait_job waits for its end');
like($err, qr/NOTICE: .*\[#{30}\] 100 %/, 'with a progress bar');
$stripe->control('keys', { KEY() => 'revoked' });
$job = shop(q{SELECT stripe_sync.reconcile('1 day')});
($ret, $out, $err) = $node->psql('shop', "CALL stripe_sync.wait_job($job)");
like($err, qr/ERROR: .*is failed\n.*401/s, 'and raises what it failed with');
$stripe->control('keys', { KEY() => undef });

# ---- by itself ----

$stripe->control('change', { id => $customers[1], set => { name => 'By itself' }, at => int(time) - 400 });
$node->append_conf('postgresql.conf', "stripe_sync.reconcile_interval = '2s'");
$node->reload;
ok($node->poll_query_until('shop', q{SELECT name = 'By itself' FROM stripe.customers WHERE id = } . literal($customers[1])), 'it runs by itself');

$node->stop;
done_testing();
