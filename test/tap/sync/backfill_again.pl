# backfill_again.pl
#		A job that did not get to its end is taken up again, called off, joined
#		and held up, at any moment: nothing is left out, and nothing is stuck.

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

my $missing = StripeStub->missing;
plan skip_all => $missing if $missing;
seed();

my $stripe = StripeStub->start;
my $node = make_reader('backfill_again', $stripe);
$stripe->fill($_, 450, seed => 3) for qw(customer product);
my @customers = @{ $stripe->ids(type => 'customer')->{customer} };
$stripe->add_objects([ map { { object => 'customer_balance_transaction', amount => $_, customer => $customers[$_], _owner => $customers[$_] } } 0 .. 449 ]);
$stripe->fill('coupon', 20, seed => 4);

sub begin { return shop('SELECT stripe_sync.backfill(ARRAY[' . literals(@_) . '])'); }
sub rows { return shop("SELECT count(*) FROM stripe.$_[0]"); }

sub empty
{
	shop('SET client_min_messages = warning; TRUNCATE stripe.customers, stripe.products, stripe.coupons, stripe.customer_balance_transactions, stripe_sync.job_record CASCADE');
	$stripe->clear_faults;
	return;
}

# So many of a list's pages come, and the next is held back until go_on().
sub held_after
{
	my ($pages, $list) = @_;

	return $stripe->fault($stripe->hold, path => "^/v1/$list\$", skip => $pages);
}

sub go_on
{
	$stripe->clear_faults;
	$stripe->release;
	return;
}

sub is_running_with
{
	my ($job, $pages) = @_;

	return ok($node->poll_query_until('shop', "SELECT pages >= $pages AND state = 'running' FROM stripe_sync.job WHERE id = $job"), 'in the middle of a job');
}

# ---- what came later is not left out ----

$stripe->fault({ page => { data => undef } }, path => '^/v1/customers$', skip => 2, times => 1);
my $job = begin('customer_balance_transaction');
over($job, 'parents whose list breaks off', state => 'failed');
cmp_ok(rows('customer_balance_transactions'), '<', 450, 'have children that are not read');
is(begin('customer_balance_transaction'), $job, 'the job goes on');
over($job, 'then all parents are there', state => 'done', error => undef);
is(rows('customer_balance_transactions'), 450, 'and all children');

empty();
held_after(2, 'customers');
$job = begin('customer');
is_running_with($job, 2);
shop("SELECT stripe_sync.cancel_job($job)");
my $cursor = shop("SELECT cursor FROM stripe_sync.job_part WHERE job = $job AND kind = 'list'");
go_on();
$stripe->fault({ status => 400, body => json_text({ error => { type => 'invalid_request_error', code => 'resource_missing', param => 'starting_after', message => 'No such customer' } }) }, query => "starting_after=$cursor", times => 1);
is(begin('customer'), $job, 'a job whose cursor Stripe does not know any more');
over($job, 'begins that list again', state => 'done', error => undef);
is(rows('customers'), 450, 'and has all of it');

empty();
shop('DROP TABLE stripe.topups');
$stripe->fill('topup', 5, seed => 5);
$stripe->fault({ page => { data => undef } }, path => '^/v1/products$');
$job = shop('SELECT stripe_sync.backfill()');
over($job, 'everything, of which something fails', state => 'failed');
$stripe->clear_faults;
shop(q{SELECT count(*) FROM stripe_sync.create_tables(ARRAY['topup'])});
is(shop('SELECT stripe_sync.backfill()'), $job, 'goes on');
over($job, 'with the tables there are then', state => 'done');
is(rows('topups'), 5, 'which did not exist when it began');

# ---- tables that are dropped and made anew meanwhile ----

sub make_anew
{
	shop('DROP TABLE ' . join(', ', map { "stripe.${_}s" } @_));
	return shop('SELECT count(*) FROM stripe_sync.create_tables(ARRAY[' . literals(@_) . '])');
}

empty();
$stripe->fault({ page => { data => undef } }, path => '^/v1/products$', skip => 2, times => 1);
$job = begin(qw(customer product));
over($job, 'a job that fails', state => 'failed');
is(rows('customers'), 450, 'with one list whole');
is(rows('products'), 200, 'and one not');
make_anew(qw(customer product));
is(begin(qw(customer product)), $job, 'goes on with new tables');
over($job, 'and reads both lists from the beginning', state => 'done', error => undef);
is(rows($_), 450, "all of $_") for qw(customers products);
is(shop('SELECT count(DISTINCT xmin::text) FROM stripe.customers'), 5, 'a page at a time');

empty();
held_after(2, 'customers');
$job = begin('customer');
is_running_with($job, 2);
make_anew('customer');
go_on();
over($job, 'a table made anew under a list', state => 'done', error => undef);
is(rows('customers'), 450, 'gets all of it');

empty();
$stripe->fault($stripe->hold, path => '^/v1/customers/[^/]+/balance_transactions', skip => 20);
$job = begin('customer_balance_transaction');
is_running_with($job, 25);
make_anew('customer_balance_transaction');
go_on();
over($job, 'or under lists by parent', state => 'done', error => undef);
is(rows('customer_balance_transactions'), 450, 'all of them');

# ---- the same, however it is asked for ----

empty();
shop(q{SELECT stripe_sync.pause('stripe')});
$job = shop(q{SET TimeZone = 'UTC'; SELECT stripe_sync.backfill(ARRAY['customer', 'coupon'], '2020-01-01 00:00+00')});
is(shop(q{SET TimeZone = 'Europe/Berlin'; SELECT stripe_sync.backfill(ARRAY['coupon', 'customer'], '2020-01-01 01:00+01')}), $job, 'the same moment is the same job in any time zone');
shop("UPDATE stripe_sync.job_record SET created_at = created_at - interval '40 days' WHERE id = $job");
is(shop(q{SELECT stripe_sync.backfill(ARRAY['customer', 'coupon'], '2020-01-01 00:00+00')}), $job, 'one that waits for long is joined, too');
my $single = begin('balance');
my $more = begin(qw(balance customer));
isnt($more, $single, 'two jobs may want the same singleton');
shop(q{SELECT stripe_sync.resume('stripe')});
over($_, 'each reads it', state => 'done', error => undef) for $job, $single, $more;
my ($ret, $out, $err) = $node->psql('postgres', q{CREATE DATABASE bare});
$node->safe_psql('bare', 'SET client_min_messages = warning; CREATE EXTENSION stripe_sync; SELECT stripe_sync.set_api_key(' . literal(KEY) . ')');
($ret, $out, $err) = $node->psql('bare', "\\set VERBOSITY verbose\nSELECT stripe_sync.backfill()");
like($err, qr/55000.*no tables.*HINT: .*create_tables/s, 'without tables there is nothing to do');

# ---- called off and taken up while an answer is awaited ----

empty();
$stripe->fault({ delay => 0.5 }, path => '^/v1/customers$');
$job = begin('customer_balance_transaction');
for my $round (1 .. 3)
{
	is_running_with($job, $round);
	shop("SELECT stripe_sync.cancel_job($job)");
	is(begin('customer_balance_transaction'), $job, 'taken up again at once');
}
$stripe->clear_faults;
my $row = over($job, 'it comes to its end', state => 'done', error => undef);
is($row->{objects}, 900, 'every page was written once');
is(rows('customer_balance_transactions'), 450, 'and nothing left out');

empty();
$stripe->fill('subscription', 30, seed => 6, children => 25);
held_after(0, 'subscriptions');
$job = begin('subscription');
ok($node->poll_query_until('shop', "SELECT count(*) > 0 FROM stripe_sync.job_part WHERE job = $job AND kind = 'list' AND state = 'running'"), 'a list is asked for');
ok($stripe->wait_for(sub { $stripe->stats->{in_flight} == 1 }), 'and that is in the air');
shop("SELECT stripe_sync.cancel_job($job)");
go_on();
over(begin('coupon'), 'another job', state => 'done');
is(shop("SELECT count(*) FROM stripe_sync.job_part WHERE job = $job AND kind = 'rest'"), '0', 'a page that comes after the job was called off adds nothing to it');
is(job_row($job)->{progress} < 1 ? 'less' : 1, 'less', 'nor is it told to be whole');

# ---- held up ----

empty();
held_after(1, 'customers');
my $held = begin('customer');
my $free = begin('product');
is_running_with($held, 1);
my $session = $node->background_psql('shop');
$session->query_safe("BEGIN; SELECT stripe_sync.cancel_job($held)");
go_on();
over($free, 'a job beside one that somebody has locked', state => 'done', error => undef);
is(shop("SELECT state FROM stripe_sync.job WHERE id = $held"), 'running', 'which waits');
$session->query_safe('ROLLBACK');
$session->quit;
over($held, 'and goes on when it is free', state => 'done', error => undef, objects => 450);

my $asker = $node->background_psql('shop');
$asker->query_safe("BEGIN; SELECT stripe_sync.refetch('customer', '$customers[7]')");
shop("INSERT INTO stripe_sync.reread (object_type, object_id, account, reason, due_at, after) VALUES ('customer', '$customers[7]', '', 'for the test', now(), '-infinity')");
over(begin('coupon'), 'a job while somebody keeps a refetch uncommitted that the mirror wants too', state => 'done', error => undef);
$asker->query_safe('COMMIT');
$asker->quit;
ok($node->poll_query_until('shop', q{SELECT count(*) = 0 FROM stripe_sync.job_part WHERE state IN ('waiting', 'running')}), 'all is read in the end');

# ---- a cursor in a parent's list that is gone ----

empty();
$stripe->add_objects([ map { { object => 'customer_balance_transaction', amount => $_, customer => $customers[0], _owner => $customers[0] } } 1 .. 150 ]);
$stripe->fault({ status => 400 }, path => "^/v1/customers/$customers[0]/balance_transactions", query => 'starting_after', times => 1);
over(begin('customer_balance_transaction'), "a cursor that is refused in a parent's list", state => 'done', error => undef);
is(rows('customer_balance_transactions'), 600, 'begins that list again');

# ---- several lists at once, of the version that is set ----

empty();
setting('stripe_sync.api_version', '2025-01-27.acacia');
held_after(0, '(customers|products|coupons)');
$job = begin(qw(customer product coupon));
ok($node->poll_query_until('shop', "SELECT count(*) = 3 FROM stripe_sync.job_part WHERE job = $job AND kind = 'list' AND state = 'running'"), 'lists are read at once');
go_on();
over($job, 'all of them', state => 'done', error => undef);
is((grep { $_->{path} eq '/v1/coupons' } @{ $stripe->requests })[-1]{headers}{'stripe-version'}, '2025-01-27.acacia', 'and as the version that is set');

# ---- another key ----

empty();
held_after(1, 'customers');
$job = begin('customer');
is_running_with($job, 1);
shop(q{SELECT stripe_sync.set_api_key('rk_test_second_0123456789_sEcReT')});
key_is('revoked');
go_on();
over($job, 'a key that is changed, and then revoked', state => 'done', error => undef);
key_is(undef);

held_after(1, 'products');
$job = begin('product');
is_running_with($job, 1);
shop(q{SELECT stripe_sync.set_api_key(NULL)});
go_on();
like(over($job, 'a key that is taken away', state => 'failed')->{error}, qr/set_api_key/, 'is not used any more');
no_secret_in($node, 'shop', 'the key');
$node->stop;
done_testing();
