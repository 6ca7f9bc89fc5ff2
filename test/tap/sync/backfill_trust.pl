# backfill_trust.pl
#		What Stripe answers, or who stands between, is not trusted: only Stripe
#		says that an object is gone, only text is text, and nobody's table runs
#		with another's rights.

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
my $node = make_reader('backfill_trust', $stripe);
$stripe->fill($_, 250, seed => 3) for qw(customer product coupon);
my @customers = @{ $stripe->ids(type => 'customer')->{customer} };
my @products = @{ $stripe->ids(type => 'product')->{product} };

sub begin { return shop('SELECT stripe_sync.backfill(ARRAY[' . literals(@_) . '])'); }
sub rows { return shop("SELECT count(*) FROM stripe.$_[0]"); }
sub refetched { return over(shop("SELECT stripe_sync.refetch('customer', " . literal($_[0]) . ')'), $_[1]); }

sub empty
{
	shop('SET client_min_messages = warning; TRUNCATE stripe.customers, stripe.products, stripe.coupons, stripe_sync.job_record CASCADE');
	$stripe->clear_faults;
	return;
}

over(begin(qw(customer product)), 'a backfill', state => 'done', error => undef);

# ---- gone ----

my $deleted = 'SELECT count(*) FROM stripe.customers WHERE _deleted_at IS NOT NULL';
$stripe->fault({ status => 404, body => '<html>not here</html>', headers => { 'Content-Type' => 'text/html' } }, path => "^/v1/customers/$customers[0]");
like(refetched($customers[0], "a proxy's 404")->{error}, qr/404/, 'is an error');
is(shop($deleted), '0', 'and no deletion');
$stripe->clear_faults;
$stripe->fault({ status => 404, body => json_text({ error => { type => 'invalid_request_error', code => 'resource_missing', message => "No such customer: '$customers[0]'; a similar object exists in live mode, but a test mode key was used to make this request." } }) }, path => "^/v1/customers/$customers[0]");
like(refetched($customers[0], "the other mode's 404")->{error}, qr/live mode/, 'is an error');
is(shop($deleted), '0', 'and no deletion');
$stripe->clear_faults;
shop("UPDATE stripe.customers SET id = 'cus_live', livemode = true, _as_of = _as_of - interval '1 day' WHERE id = '$customers[1]'");
over(begin('customer'), 'a list of one mode', state => 'done', repaired => 0);
is(shop(q{SELECT _deleted_at IS NULL FROM stripe.customers WHERE id = 'cus_live'}), 't', 'has none of the other, which is no deletion');
shop(q{DELETE FROM stripe.customers WHERE id = 'cus_live'});
# rows are looked at in slices of 5,000: an id of two accounts is on both sides of its end
shop(q{INSERT INTO stripe.customers (id, _account, _as_of, _deleted_at, _synced_at, _data)
	SELECT to_char(n, '"a"FM0000'), '', '2020-01-01'::timestamptz, '2020-01-01'::timestamptz, now(), '{}'::jsonb FROM generate_series(1, 4999) n
	UNION ALL SELECT 'b', account, '2020-01-01', NULL, now(), '{}' FROM unnest('{"", acct_1}'::text[]) account});
shop(q{ALTER DATABASE shop SET enable_sort = off; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'stripe_sync worker'});
$stripe->accounts('acct_1');
shop('SELECT stripe_sync.set_api_key(' . literals(KEY, 'acct_1') . ')');
over(begin('customer'), 'a list of two accounts', state => 'done');
is(shop(q{SELECT count(*) FROM stripe.customers WHERE id = 'b' AND _deleted_at IS NOT NULL}), '2', 'what is gone from both is gone in both');
shop(q{SELECT stripe_sync.set_api_key(NULL, 'acct_1')});
shop(q{DELETE FROM stripe.customers WHERE id < 'c'});
over(begin('customer'), 'the other account is no more', state => 'done');
$stripe->fault({ status => 404, body => json_text({ error => { type => 'invalid_request_error', code => 'resource_missing', message => 'No balance' } }) }, path => '^/v1/balance$');
like(over(shop(q{SELECT stripe_sync.refetch('balance', '')}), 'no balance')->{error}, qr/404/, 'is an error');
is(rows('balances'), '0', 'and no row');
$stripe->clear_faults;

# one that Stripe won't speak of does not hide the others
$stripe->remove($products[$_], quiet => TRUE) for 10 .. 14;
$stripe->fault({ status => 400 }, path => "^/v1/products/$products[12]\$");
my $row = over(begin('product'), 'objects that vanished, and one that Stripe refuses', state => 'done', repaired => 4);
like($row->{error}, qr/\Q$products[12]\E: Stripe answered 400/, 'which is noted');
$stripe->clear_faults;

# ---- pages ----

sub all_come
{
	my ($what, $fault, %expect) = @_;

	empty();
	$stripe->fault($fault, path => '^/v1/customers$', times => 1);
	over(begin('customer'), $what, state => 'done', error => undef);
	is(rows('customers'), 250, "$what: all objects are there");
	return;
}

all_come('an answer that is not UTF-8', { status => 200, body => "{\"object\": \"list\", \"has_more\": false, \"data\": [{\"id\": \"cus_\xff\xfe\", \"object\": \"customer\"}]}" }) if 0;
for my $wrong ('"true"', 'null', '1')
{
	empty();
	$stripe->fault({ page => { has_more => json_value($wrong) } }, path => '^/v1/customers$');
	like(over(begin('customer'), "has_more is $wrong", state => 'failed')->{error}, qr/"has_more" is not a single boolean/, 'is said');
}

empty();
$stripe->fault({ status => 500, headers => { 'Stripe-Should-Retry' => 'false' } }, path => '^/v1/coupons$', times => 1);
my $job = shop('SELECT stripe_sync.backfill()');
ok($node->poll_query_until('shop', "SELECT state = 'waiting' AND error ~ '500' FROM stripe_sync.job_part WHERE job = $job AND list_path = '/v1/coupons' AND kind = 'list'"), '500 and "do not retry": not at once');
shop("UPDATE stripe_sync.job_part SET due_at = now() WHERE job = $job AND state = 'waiting'");
shop(q{SELECT stripe_sync.pause('stripe'), stripe_sync.resume('stripe')});
over($job, 'but later', state => 'done');
is(rows('coupons'), 250, 'and whole');

# a customer whose subscriptions are said to be all customers
empty();
$stripe->fault({ first_object => { subscriptions => { object => 'list', has_more => TRUE, url => '/v1/customers', data => [] } } }, path => '^/v1/customers$');
$row = over(begin('customer'), 'a page whose rest is the list itself', state => 'done');
cmp_ok(shop("SELECT count(*) FROM stripe_sync.job_part WHERE job = $row->{id}"), '<', 10, 'is read once');
$stripe->clear_faults;
$stripe->fault({ first_object => { subscriptions => { object => 'list', has_more => TRUE, url => 'https://evil.example/', data => [] } } }, path => '^/v1/customers$');
$row = over(begin('customer'), 'a page whose rest is elsewhere', state => 'done');
like($row->{error}, qr/subscriptions are incomplete/, 'is noted, and not asked for');

# ---- created_since, and lists by parent ----

empty();
$stripe->add_objects([ map { { object => 'customer_balance_transaction', amount => $_, customer => $customers[$_], _owner => $customers[$_] } } 0 .. 19 ]);
over(shop(q{SELECT stripe_sync.backfill(ARRAY['customer_balance_transaction'], '2020-01-01')}), 'lists by parent since then', state => 'done', error => undef);
is(rows('customer_balance_transactions'), '20', 'are read through parents that are younger');

# ---- nothing that is written ----

empty();
# what the database has against it may be gone at the next try, of which there are two here
setting('stripe_sync.max_attempts', 2);
shop('ALTER TABLE stripe.customers ADD CONSTRAINT none CHECK (false) NOT VALID');
$job = begin('customer');
ok($node->poll_query_until('shop', "SELECT state = 'waiting' AND tries = 1 AND error ~ '23514' FROM stripe_sync.job_part WHERE job = $job AND kind = 'list'"), 'a table that takes no row is tried again');
shop("UPDATE stripe_sync.job_part SET due_at = now() WHERE job = $job AND state = 'waiting'; SELECT stripe_sync.resume('stripe')");
$row = over($job, 'and then', state => 'failed');
like($row->{error}, qr/23514/, 'is no success');
shop('ALTER TABLE stripe.customers DROP CONSTRAINT none');

# ---- whose rights ----

setting('stripe_sync.max_attempts', 1);

shop(q{
	CREATE ROLE app LOGIN;
	GRANT CREATE ON DATABASE shop TO app;
	SELECT stripe_sync.grant_admin('app');
	ALTER TABLE stripe.customers OWNER TO app;
	GRANT USAGE, CREATE ON SCHEMA stripe TO app;
	GRANT CREATE ON SCHEMA test TO app;
	GRANT USAGE ON SCHEMA test TO app;
});
over(begin('customer'), 'a mirror table of somebody else', state => 'done', error => undef);
$stripe->fault($stripe->hold, path => '^/v1/customers$', times => 1);
$job = begin('customer');
$node->safe_psql('shop', q{
	SET ROLE app;
	CREATE TABLE test.seen (who text);
	CREATE FUNCTION test.spy(id text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO test.seen VALUES (current_user); RETURN id; END $$;
	ALTER TABLE stripe.customers RENAME TO customers_really;
	CREATE VIEW stripe.customers AS SELECT (test.spy(c.id))::text AS id, c._account, c._deleted_at, c._as_of - interval '1 day' AS _as_of, c.livemode, c._data, c.created FROM stripe.customers_really c;
});
$stripe->clear_faults;
$stripe->release;
over($job, 'which he replaces meanwhile by a view');
is(shop(q{SELECT count(*) FROM test.seen WHERE who <> 'app'}), '0', 'runs nothing of his with more rights than his');
no_secret_in($node, 'shop', 'the key');
$node->stop;
done_testing();
