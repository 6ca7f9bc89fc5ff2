# reconcile_faults.pl
#		What goes wrong with a run of reconcile is said, and the run goes on where
#		it was; it runs by itself; it is widened, held up by a pause, and knows
#		what Stripe no longer lists.

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
my $node = make_reader('reconcile_faults', $stripe);
my $now = int time;

# Events of the last hour or so, 600 of them: six pages.
my @customers = @{ $stripe->fill('customer', 300, seed => 1, since => $now - 9000, until => $now - 8000, events => TRUE)->{ids} };
$stripe->change_many([ map { { id => $customers[$_], set => { name => "Name $_" }, at => $now - 7000 + $_ * 10 } } 0 .. 299 ]);

sub reconciled
{
	my ($what, %expect) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return over(shop(q{SELECT stripe_sync.reconcile('1 day')}), $what, %expect);
}

sub asked { return scalar grep { $_->{path} =~ m{^/v1/events} } @{ $stripe->requests }; }
sub interval_is
{
	$node->append_conf('postgresql.conf', "stripe_sync.reconcile_interval = '$_[0]'");
	$node->reload;
	$node->poll_query_until('shop', "SELECT current_setting('stripe_sync.reconcile_interval') = '$_[0]'");
	return;
}

# No run is under way, and the worker begins none.
sub none_is_made
{
	interval_is('0');
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($node->poll_query_until('shop', q{SELECT state = 'sleeping' AND NOT EXISTS (SELECT FROM stripe_sync.job WHERE state IN ('waiting', 'running'))
		FROM stripe_sync.worker WHERE database = 'shop'}), $_[0]);
}

# So many more pages of the list come, and then none until release().
sub held_after { return $stripe->fault($stripe->hold, path => '^/v1/events', skip => $_[0]); }

sub go_on
{
	$stripe->clear_faults;
	$stripe->release;
	return;
}

# ---- answers that pass ----

sub survives
{
	my ($what, $fault, %rest) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$stripe->fault($fault, path => '^/v1/events', times => 2, %rest);
	my $before = asked();
	reconciled($what, state => 'done', error => undef, objects => 600);
	is(asked() - $before, 8, "$what: two requests are made again");
	$stripe->clear_faults;
	return;
}

survives('a 500', { status => 500 }, skip => 2);
is_applied();
is(mirror_differs('customer', 'customers'), 0, 'a 500: all is there');
survives('a 409', { status => 409 });
survives('Stripe-Should-Retry', { status => 400, headers => { 'Stripe-Should-Retry' => 'true' } });
survives('a reset', { reset_before => TRUE });
survives('a reset in the middle', { reset_mid_answer => TRUE });
my $start = time;
survives('a 429', { status => 429, headers => { 'Retry-After' => '2' } });
cmp_ok(time - $start, '>=', 4, 'a 429: Retry-After is obeyed');
is(shop(q{SELECT count(*) FILTER (WHERE status = 429 AND attempt = 1), count(*) FILTER (WHERE status = 429 AND attempt = 2) FROM stripe_sync.api_call}), '1|1', 'and every attempt is logged');
setting('stripe_sync.http_timeout', '5s');
survives('an answer that does not come', { never => TRUE });
is(shop(q{SELECT count(*) FROM stripe_sync.api_call WHERE status IS NULL AND code = 'timeout'}), 2, 'and says so in the log');
setting('stripe_sync.http_timeout', '5min');

# ---- answers that don't ----

sub fails
{
	my ($what, $fault, $pattern, %rest) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$stripe->fault($fault, path => '^/v1/events', %rest);
	my $row = reconciled($what, state => 'failed');
	like($row->{error}, $pattern, "$what: the job says why");
	$stripe->clear_faults;
	return;
}

fails('a malformed page', { malformed_json => TRUE }, qr/could not parse list page/);
fails('a page without data', { page => { data => undef } }, qr/could not parse list page/);
fails('a list that does not end', { endless => 'same' }, qr/does not end/);
fails('empty pages', { endless => 'empty' }, qr/does not end/);
fails('a redirection', { redirect => 'https://example.com/' }, qr/302/);
fails('an error that stays', { status => 400 }, qr/400/);
$stripe->fault({ first_object => { id => undef } }, path => '^/v1/events', times => 1);
like(reconciled('what is no event', state => 'done')->{error}, qr/is not an event/, 'what is no event: is left out, and said');
$stripe->clear_faults;
$stripe->fault({ repeat => 3 }, path => '^/v1/events');
reconciled('pages that overlap', state => 'done', missing => 0);
$stripe->clear_faults;
key_is('revoked');
like(reconciled('a revoked key', state => 'failed')->{error}, qr/401/, 'a revoked key: the job says why');
key_is('invalid');
like(reconciled('a wrong key', state => 'failed')->{error}, qr/401/, 'a wrong key: the job says why');
key_is({ deny => ['^/v1/events'] });
like(reconciled('a key that may not', state => 'failed')->{error}, qr/403/, 'a key that may not: the job says why');
key_is(undef);
reconciled('and with a good one', state => 'done', error => undef);

# ---- pages that don't come whole ----

my @listed = reverse map { $_->{id} } sort { $a->{created} <=> $b->{created} } $stripe->events;
is(shop(q{SELECT string_agg(id, ' ' ORDER BY created DESC) FROM (SELECT id, created FROM stripe_sync.event ORDER BY created DESC LIMIT 110) e}), join(' ', @listed[ 0 .. 109 ]), 'the newest events, in their order');
shop(q{
	SELECT stripe_sync.pause('slack'), stripe_sync.add_slack_webhook('ops', 'https://hooks.slack.com/services/T1/B1/sEcReT'),
		stripe_sync.add_alert('failing', 'system.event_failed', 'ops', '{{object_type}} {{object_id}}: {{error}}. {{remedy}}', coalesce_for => '0');
});
$stripe->fault({ malformed_json => TRUE }, path => '^/v1/events', query => StripeStub::pages_with(105, 99, @listed));
my $lost = $listed[105];
my $broken = reconciled('an event that does not come, even alone', state => 'done', objects => 599);
is($broken->{error}, "event $lost could not be read, even by itself: the answer was cut short", 'is named');
like(shop(q{SELECT payload->>'text' FROM stripe_sync.message}), qr/event $lost: it could not be read, even by itself\. It is not tried again until .*`SELECT stripe_sync\.reconcile\(\)`/, 'and told');
shop(q{SELECT stripe_sync.drop_alert('failing'); SELECT stripe_sync.drop_destination('ops'); SELECT stripe_sync.resume('slack')});
$stripe->clear_faults;
$stripe->fault({ malformed_json => TRUE }, path => '^/v1/events', query => 'limit=(1[3-9]|[2-9]\d|\d{3})\b');
reconciled('pages of more than 12 that break off', state => 'done', objects => 600, error => undef);
$stripe->clear_faults;

# ---- a crash ----

$stripe->change_many([ map { { id => $customers[$_], set => { name => "Crash $_" }, at => $now - 3800 + $_ } } 0 .. 299 ]);
held_after(2);
my $job = shop(q{SELECT stripe_sync.reconcile('1 day')});
ok($node->poll_query_until('shop', "SELECT pages >= 2 FROM stripe_sync.job WHERE id = $job"), 'in the middle of a run');
no_transaction('no transaction is open while an answer is waited for');
$node->stop('immediate');
go_on();
my $before = asked();
$node->start;
over($job, 'the server dies: the run goes on', state => 'done', objects => 900, missing => 300);
cmp_ok(asked() - $before, '<=', 8, 'from the page it was at');
is_applied();
is(mirror_differs('customer', 'customers'), 0, 'and brings in what is missing');

# ---- a run that has failed goes on ----

$stripe->change_many([ map { { id => $customers[$_], set => { name => "Again $_" }, at => $now - 3300 + $_ } } 0 .. 299 ]);
$stripe->fault({ status => 400 }, path => '^/v1/events', skip => 3);
$job = shop(q{SELECT stripe_sync.reconcile('1 day')});
over($job, 'a run fails half-way', state => 'failed', pages => 3, missing => 300, repaired => 0);
is(shop(q{SELECT count(*), count(next_attempt_at) FROM stripe_sync.event WHERE status = 'pending'}), '300|0', 'what it has found waits');
my ($late) = grep { $_->{created} == $now - 3300 + 7 } $stripe->events;
is(deliver($late), 'duplicate', 'a webhook that comes late brings what is there');
ok($node->poll_query_until('shop', 'SELECT status = \'applied\' FROM stripe_sync.event WHERE id = ' . literal($late->{id})), 'which then waits no longer');
$stripe->clear_faults;
$before = asked();
interval_is('2s');
ok($node->poll_query_until('shop', "SELECT state = 'done' FROM stripe_sync.job WHERE id = $job"), 'it goes on by itself');
over($job, 'to its end', objects => 1200, repaired => 299, error => undef);
is_applied();
is(mirror_differs('customer', 'customers'), 0, 'and what it had found is applied');
my ($next) = (grep { $_->{path} =~ m{^/v1/events} } @{ $stripe->requests })[$before];
like($next->{query} // $next->{path}, qr/starting_after/, 'it went on from its cursor');

# Stripe may have forgotten where it was: it lists events for 30 days
interval_is('0');
ok($node->poll_query_until('shop', q{SELECT count(*) = 0 FROM stripe_sync.job WHERE state IN ('waiting', 'running')}), 'no run is under way');
$stripe->fault({ status => 400 }, path => '^/v1/events', skip => 3);
$job = shop(q{SELECT stripe_sync.reconcile('1 day')});
over($job, 'another run fails half-way', state => 'failed', pages => 3);
$stripe->clear_faults;
$stripe->change($customers[2], { name => 'Above' }, at => $now - 3000);
$stripe->fault({ status => 400, body => json_text({ error => { type => 'invalid_request_error', code => 'resource_missing', param => 'starting_after', message => 'No such event' } }) }, path => '^/v1/events', query => 'starting_after=' . shop("SELECT cursor FROM stripe_sync.job_part WHERE job = $job"));
interval_is('2s');
ok($node->poll_query_until('shop', "SELECT state = 'done' FROM stripe_sync.job WHERE id = $job"), 'it goes on from an event that is forgotten');
over($job, 'anew', missing => 1, repaired => 1, error => undef);
$stripe->clear_faults;

# ---- by itself ----

$stripe->change($customers[1], { name => 'By itself' }, at => int(time) - 400);
ok($node->poll_query_until('shop', q{SELECT name = 'By itself' FROM stripe.customers WHERE id = } . literal($customers[1])), 'it runs by itself');
none_is_made('until it is switched off');
interval_is('1s');
shop(q{SELECT stripe_sync.pause('stripe')});
# a run that was at it stays one, between two pages
ok($node->poll_query_until('shop', q{SELECT w.state = 'paused: stripe' AND NOT EXISTS (SELECT FROM stripe_sync.job_part WHERE state = 'running')
	FROM stripe_sync.worker w WHERE w.database = current_database()}), 'paused');
$before = asked();
my $jobs = shop('SELECT count(*) FROM stripe_sync.job');
$stripe->change($customers[1], { name => 'Paused' }, at => int(time) - 400);
$job = shop(q{SELECT stripe_sync.refetch('customer', } . literal($customers[1]) . ')');
select undef, undef, undef, 2.5;
is(asked() - $before, 0, 'nothing is asked');
is(shop('SELECT count(*) FROM stripe_sync.job') - $jobs, 1, 'no run is made');
is(job_row($job)->{state}, 'waiting', 'what is asked for waits');
shop(q{SELECT stripe_sync.resume('stripe')});
over($job, 'until it is resumed', state => 'done');
none_is_made('and off again');

# ---- a pause in the middle ----

held_after(1);
$job = shop(q{SELECT stripe_sync.reconcile('1 day')});
ok($node->poll_query_until('shop', "SELECT pages >= 1 FROM stripe_sync.job WHERE id = $job"), 'a run is at it');
shop(q{SELECT stripe_sync.pause('stripe')});
go_on();
ok($node->poll_query_until('shop', "SELECT count(*) = 1 FROM stripe_sync.job_part WHERE job = $job AND state = 'waiting'"), 'a pause ends it for now');
shop(q{SELECT stripe_sync.resume('stripe')});
over($job, 'then it goes on', state => 'done', error => undef);

# ---- widened ----

$stripe->change_many([ map { { id => $customers[$_], set => { name => "Old $_" }, at => $now - 5 * 86400 + $_, quiet => FALSE } } 0 .. 149 ]);
held_after(1);
$job = shop(q{SELECT stripe_sync.reconcile('1 hour')});
ok($node->poll_query_until('shop', "SELECT pages >= 1 FROM stripe_sync.job WHERE id = $job"), 'a run of an hour is at it');
is(shop(q{SELECT stripe_sync.reconcile('6 days')}), $job, 'who asks for more joins it');
is(shop(q{SELECT stripe_sync.reconcile('1 day')}), $job, 'and who asks for less');
go_on();
over($job, 'it reads as far as was asked', state => 'done', missing => 150);
is_applied();

# ---- how far down ----

sub watermark_is { shop("TRUNCATE stripe_sync.watermark; INSERT INTO stripe_sync.watermark VALUES ('', now() - interval '$_[0]')"); return; }

watermark_is('2 days');
reconciled('a run that does not reach the watermark', state => 'done');
is(shop(q{SELECT at < now() - interval '1 day' FROM stripe_sync.watermark}), 't', 'leaves it where it is');
over(shop(q{SELECT stripe_sync.reconcile('3 days')}), 'one that does', state => 'done');
is(shop(q{SELECT at > now() - interval '1 hour' FROM stripe_sync.watermark}), 't', 'raises it');
watermark_is('40 days');
interval_is('1s');
ok($node->poll_query_until('shop', q{SELECT count(*) > 0 FROM stripe_sync.job WHERE state = 'done' AND error ~ 'older than the 30 days'}), 'what Stripe lists no more is said in the job');
interval_is('0');
like(slurp_file($node->logfile), qr/WARNING: .*older than 30 days.*\n.*HINT: .*backfill/, 'and in the log, with what to do');
is(shop(q{SELECT at > now() - interval '1 hour' FROM stripe_sync.watermark}), 't', 'once');
my ($ret, $out, $err) = $node->psql('shop', q{SELECT stripe_sync.reconcile('31 days')});
like($err, qr/NOTICE: .*30 days.*\nHINT: .*backfill/, 'who asks for more is told');

no_secret_in($node, 'shop', 'keys');
$node->stop;
done_testing();
