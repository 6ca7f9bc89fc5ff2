# job.pl
#		Jobs: called off, waited for, in sight while they run.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use StripeBack;
use StripeStub;
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $missing = StripeStub->missing;
plan skip_all => $missing if $missing;
seed();

my $stripe = StripeStub->start;
my $node = make_reader('job', $stripe);
my $now = int time;
$stripe->fill('customer', 500, seed => 1, since => $now - 9000, until => $now - 8000, events => TRUE);

# A job of which one page is written, and the next is held back until go_on().
sub begun
{
	$stripe->fault($stripe->hold, path => '^/v1/events', skip => 1);
	my $job = shop(q{SELECT stripe_sync.reconcile('1 day')});

	ok($node->poll_query_until('shop', "SELECT pages >= 1 FROM stripe_sync.job WHERE id = $job"), 'a job is at it');
	return $job;
}

sub go_on
{
	$stripe->clear_faults;
	$stripe->release;
	return;
}

# The outcome of a call: its status, how long it took, what it said.
sub timed
{
	my ($call) = @_;
	my $start = time;
	my ($ret, $out, $err) = $node->psql('shop', "\\set VERBOSITY verbose\n$call", on_error_die => 0);

	return (time - $start, $err);
}

# ---- in sight ----

my $job = begun();
my $row = job_row($job);
is($row->{state}, 'running', 'it runs');
cmp_ok($row->{progress}, '<', 1, 'it is not through');
cmp_ok($row->{rate}, '>', 0, 'so many a second');
ok(defined $row->{started_at} && !defined $row->{finished_at}, 'it has begun and not ended');
go_on();
over($job, 'it', state => 'done', progress => 1, pages => 5, objects => 500);

# ---- how long it takes ----

# lists of different lengths, spread over the account's life
my ($account) = values %{ $stripe->state(type => 'account')->{account} };
my %long = (product => 2000, coupon => 300, plan => 100);
$stripe->fill($_, $long{$_}, seed => 2, since => $account->{created}, until => $now - 100) for sort keys %long;
$stripe->fault({ delay => 0.4 }, path => '^/v1/(products|coupons|plans)$');
my $lists = 'SELECT stripe_sync.backfill(ARRAY[' . literals(sort keys %long) . '])';
my (@looks, $look);
$job = shop($lists);
do
{
	$look = [ time, split /\|/, shop("SELECT state, progress, coalesce(EXTRACT(epoch FROM remaining), -1), rate FROM stripe_sync.job WHERE id = $job"), -1 ];
	push @looks, $look;
	select undef, undef, undef, 0.2;
} until ($look->[1] !~ /waiting|running/ || @looks > 500);
my $end = time;
my @middle = grep { $_->[2] > 0.2 && $end - $_->[0] > 1.5 } @looks;
cmp_ok(scalar @middle, '>=', 5, 'a job is looked at while it runs');
my @wrong = grep { my $left = $end - $_->[0]; $_->[3] > 2.5 * $left + 1 || $_->[3] < $left / 2.5 - 1 } @middle;
# a machine that does something else for a moment makes some of them wrong
cmp_ok(scalar @wrong, '<=', @middle / 4, 'what remains is about as much as it says') or note explain [ map { [ $end - $_->[0], @$_ ] } @looks ];
is(scalar(grep { $looks[$_][2] < $looks[ $_ - 1 ][2] } 1 .. $#looks), 0, 'progress does not go back');
over($job, 'a backfill', state => 'done', progress => 1);
# one that was taken up again after a day has not run for a day
shop('TRUNCATE stripe.products, stripe.coupons, stripe.plans, stripe_sync.job_record CASCADE');
$stripe->clear_faults;
$stripe->fault({ status => 400 }, path => '^/v1/products$', skip => 4);
$job = shop($lists);
over($job, 'a backfill that fails half-way', state => 'failed');
$stripe->clear_faults;
$stripe->fault($stripe->hold, path => '^/v1/products$', skip => 10);
shop("UPDATE stripe_sync.job_record SET started_at = started_at - interval '1 day', finished_at = finished_at - interval '1 day' WHERE id = $job");
is(shop($lists), $job, 'goes on a day later');
ok($node->poll_query_until('shop', "SELECT objects > 1000 FROM stripe_sync.job WHERE id = $job"), 'it is at it');
is(shop("SELECT rate > 20 AND remaining < interval '1 minute' FROM stripe_sync.job WHERE id = $job"), 't', 'and is no slower for it');
go_on();
over($job, 'it', state => 'done');

# ---- called off ----

refused('SELECT stripe_sync.cancel_job(0)', qr/SY005.*HINT/s, 'only a job that there is is called off');
refused("SELECT stripe_sync.cancel_job($job)", qr/55000.*is done/, 'and that is not over');
is_applied();
shop('TRUNCATE stripe_sync.event, stripe.customers');
$job = begun();
shop("SELECT stripe_sync.cancel_job($job)");
is(job_row($job)->{state}, 'cancelled', 'a job is called off');
refused("SELECT stripe_sync.cancel_job($job)", qr/55000.*is cancelled/, 'once');
go_on();
my $found = job_row($job)->{missing};
cmp_ok($found, '>=', 100, 'it had found something');
is_applied();
is(shop('SELECT count(*) FROM stripe.customers'), $found, 'which is applied');
is(shop(q{SELECT count(*) FROM stripe_sync.event WHERE source = 'reconcile'}), $found, 'and nothing more is brought in');
$job = shop(q{SELECT stripe_sync.reconcile('1 day')});
over($job, 'another', state => 'done', missing => 500 - $found);
is(shop(q{SELECT count(*) FROM stripe_sync.event}), 500, 'brings in the rest');

# in a transaction that rolls back, nothing is
$job = begun();
shop("BEGIN; SELECT stripe_sync.cancel_job($job); ROLLBACK");
go_on();
over($job, 'one whose cancelling is undone', state => 'done');

# ---- waited for ----

$job = shop(q{SELECT stripe_sync.reconcile('1 day')});
my ($took, $err) = timed("CALL stripe_sync.wait_job($job)");
like($err, qr/NOTICE: .*\[#{30}\] 100 %/, 'wait_job shows a progress bar');
unlike($err, qr/ERROR/, 'and ends well');
$stripe->fault({ delay => 1 }, path => '^/v1/events');
$job = shop(q{SELECT stripe_sync.reconcile('1 day')});
($took, $err) = timed("CALL stripe_sync.wait_job($job)");
like($err, qr/NOTICE: .*\[#+ +\] +\d+ %, \d+ objects, \d+\/s/, 'a bar that grows');
cmp_ok(scalar(() = $err =~ /NOTICE/g), '>=', 3, 'with every page');
cmp_ok(scalar(() = $err =~ /NOTICE/g), '<=', 8, 'and no more often');
($took, $err) = timed("CALL stripe_sync.wait_job($job)");
like($err, qr/100 %/, 'one that is over');
cmp_ok($took, '<', 20, 'at once');
$stripe->clear_faults;
$job = begun();
($took, $err) = timed("CALL stripe_sync.wait_job($job, '300 ms')");
like($err, qr/57014.*still running/, 'after its time-out it raises');
cmp_ok($took, '<', 20, 'in time');
is(job_row($job)->{state}, 'running', 'and the job goes on');
($took, $err) = timed("SET statement_timeout = '300ms'; CALL stripe_sync.wait_job($job)");
like($err, qr/57014.*statement timeout/, 'as does a statement_timeout');

# a session that waits holds nothing open between its looks
my $waiting = $node->background_psql('shop', on_error_stop => 0);
$waiting->{stdin} .= "SET application_name = 'waits'; CALL stripe_sync.wait_job($job);\n";
$waiting->{run}->pump_nb;
ok($node->poll_query_until('shop', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waits'
	AND wait_event IN ('StripeSyncWaitJob', 'Extension') AND backend_xmin IS NULL}), 'a session waits without a snapshot');
shop("SELECT stripe_sync.cancel_job($job)");
$waiting->{stdin} .= "\\echo over\n";
ok(eventually('it hears that the job was called off', sub { $waiting->{run}->pump_nb; $waiting->{stdout} =~ /over/ }), 'in time');
like($waiting->{stderr}, qr/ERROR: .*is cancelled/, 'as an error');
unlike($waiting->{stderr}, qr/paused/, 'nothing kept it from going on');
$waiting->{stdin} .= "\\q\n";
$waiting->{run}->finish;
go_on();

key_is('revoked');
$job = shop(q{SELECT stripe_sync.reconcile('1 day')});
($took, $err) = timed("CALL stripe_sync.wait_job($job)");
like($err, qr/ERROR: .*is failed\n.*401/s, 'and what it failed with');
key_is(undef);
refused('CALL stripe_sync.wait_job(0)', qr/SY005/, 'there is no such job');
refused('CALL stripe_sync.wait_job(NULL)', qr/22004/, 'nor one without an id');
refused("BEGIN; CALL stripe_sync.wait_job($job)", qr/2D000.*transaction block.*HINT/s, 'not in a transaction block');

# ---- nothing happens by itself, and that is said ----

# What one call says, and what waiting for its job says.
sub said_of
{
	my ($call) = @_;
	my (undef, $id, $said) = $node->psql('shop', "SELECT stripe_sync.$call");
	my (undef, undef, $waited) = $node->psql('shop', "CALL stripe_sync.wait_job($id, '300 ms')");

	shop("SELECT stripe_sync.cancel_job($id)");
	return ($said, $waited);
}

my %calls = (reconcile => q{reconcile('1 day')}, backfill => q{backfill('customer')}, refetch => q{refetch('customer', 'cus_1')}, create_webhook_endpoint => q{create_webhook_endpoint('https://shop.example/by-itself')});
sub all_say
{
	my ($why, $reason, $hint) = @_;

	for my $call (sort keys %calls)
	{
		my ($said, $waited) = said_of($calls{$call});

		like($said, qr/(?:NOTICE|WARNING): .*$reason.*HINT: .*$hint/s, "$why: $call() says so");
		like($waited, qr/NOTICE: .*$reason.*HINT: .*$hint.*ERROR: .*is still waiting/s, "$why: so does who waits for it");
	}
	return;
}

shop(q{SELECT stripe_sync.pause('stripe')});
all_say('paused', qr/requests to Stripe are paused/, qr/resume\('stripe'\)/);
shop(q{SELECT stripe_sync.resume('stripe'); UPDATE stripe_sync.identity SET system_identifier = system_identifier + 1});
all_say('a copy', qr/it is a copy/, qr/activate\(\)/);
shop(q{SELECT stripe_sync.activate()});
setting('stripe_sync.outbound', 'off');
all_say('outbound off', qr/stripe_sync\.outbound is off/, qr/Set stripe_sync\.outbound to on/);
setting('stripe_sync.outbound', 'on');

# ---- without a worker ----

shop('UPDATE stripe_sync.reconcile_schedule SET next_at = now()');
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
$job = shop(q{SELECT stripe_sync.reconcile('1 day')});
is(job_row($job)->{state}, 'waiting', 'without a worker a job waits');
shop("CALL stripe_sync.work('30 seconds')");
is(job_row($job)->{state}, 'done', 'until work() is called');
all_say('no worker', qr/no worker runs it: stripe_sync is not in "shared_preload_libraries"/, qr/CALL stripe_sync\.work\(\)/);
shop(q{SELECT stripe_sync.add_slack_channel('ops', '#ops', 'xoxb-1')});
my (undef, undef, $tested) = $node->psql('shop', "\\set VERBOSITY verbose\nCALL stripe_sync.check_destination('ops', '300 ms')");
like($tested, qr/NOTICE: .*no worker sends it: stripe_sync is not in "shared_preload_libraries"\n.*HINT: +CALL stripe_sync\.work\(\).*ERROR: +57014: the test of destination "ops" was not sent in time/s, 'nor is a test sent, and that is said');
is(shop('SELECT database, state, pid IS NULL, since IS NULL FROM stripe_sync.worker'), 'shop|none: stripe_sync is not in "shared_preload_libraries"|t|t', 'the view says why there is none');

no_secret_in($node, 'shop', 'jobs');
$node->stop;
done_testing();
