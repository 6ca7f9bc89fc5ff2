# backfill_faults.pl
#		What goes wrong with one list is said in the job, and the others go on;
#		lists by parent, singletons, connected accounts; a job that did not get
#		to its end goes on where it was.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use StripeStub;
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $missing = StripeStub->missing;
plan skip_all => $missing if $missing;
seed();

use constant KEY => 'rk_test_tap_0123456789_sEcReT';

my $stripe = StripeStub->start;
my $node = start_node('backfill_faults', conf => PRELOAD . $stripe->conf . "stripe_sync.stripe_rate = 100\nstripe_sync.http_timeout = '5min'\nstripe_sync.reconcile_interval = 0\n");
make_database($node, 'shop');

sub shop { return $node->safe_psql('shop', $_[0]); }

sub refused
{
	my ($call, $pattern, $what) = @_;
	my ($ret, $out, $err) = $node->psql('shop', "\\set VERBOSITY verbose\nSELECT $call");

	return like($err, $pattern, $what);
}

sub begin { return shop('SELECT stripe_sync.backfill(ARRAY[' . literals(@_) . '])'); }

sub over
{
	my ($job, $what, %expect) = @_;

	ok($node->poll_query_until('shop', "SELECT state NOT IN ('waiting', 'running') FROM stripe_sync.job WHERE id = $job"), "$what: it ends");
	my $row = json_value(shop("SELECT row_to_json(j) FROM stripe_sync.job j WHERE id = $job"));
	is($row->{$_}, $expect{$_}, "$what: $_") for sort keys %expect;
	return $row;
}

# The mirror is emptied: every case begins with nothing.
sub empty
{
	shop('TRUNCATE stripe.customers, stripe.products, stripe.invoices, stripe.coupons, stripe_sync.job_record CASCADE');
	$stripe->clear_faults;
	return;
}

# What is put off is due now.
sub make_due
{
	shop(q{UPDATE stripe_sync.reread SET due_at = now() WHERE state = 'waiting'; UPDATE stripe_sync.job_part SET due_at = now() WHERE state = 'waiting'; SELECT stripe_sync.resume('stripe')});
	return;
}

# Answers that are held back come now.
sub go_on
{
	$stripe->clear_faults;
	$stripe->release;
	return;
}

sub rows { return shop("SELECT count(*) FROM stripe.$_[0]"); }

# ---- what is asked for ----

$stripe->fill($_, 450, seed => 3) for qw(customer product invoice coupon);
refused('stripe_sync.backfill()', qr/55000.*no key.*HINT: .*set_api_key/s, 'without a key');
shop('SELECT stripe_sync.set_api_key(' . literal(KEY) . ')');
refused(q{stripe_sync.backfill(ARRAY['custommer'])}, qr/22023.*no list of objects of type "custommer".*HINT: .*object_type/s, 'a type that there is not');
refused(q{stripe_sync.backfill(ARRAY['mandate'])}, qr/22023.*"mandate"/s, 'a type that Stripe does not list');
refused(q{stripe_sync.backfill(ARRAY[NULL])}, qr/22004/s, 'no type');
refused(q{stripe_sync.backfill('{}')}, qr/22023/s, 'no types');
shop('DROP TABLE stripe.topups');
refused(q{stripe_sync.backfill(ARRAY['topup'])}, qr/55000.*HINT: .*create_tables\(ARRAY\['topup'\]\)/s, 'a type without a table');

# ---- keys ----

$stripe->keys(KEY() => 'invalid');
my $row = over(begin(qw(customer product)), 'a wrong key', state => 'failed', objects => 0);
like($row->{error}, qr/\AStripe answered 401[^\n]*\z/, 'is said once');
my @asked = grep { $_->{path} =~ m{^/v1/(customers|products)} } @{ $stripe->requests };
ok(@asked <= 2, 'and not tried with every list');
$stripe->keys(KEY() => undef);
over(begin(qw(customer product)), 'the same with a good key goes on', state => 'done', objects => 900, error => undef);

empty();
$stripe->fault($stripe->hold, path => '^/v1/(customers|invoices)$', skip => 3);
my $job = begin(qw(customer invoice));
ok($node->poll_query_until('shop', "SELECT pages >= 2 FROM stripe_sync.job WHERE id = $job"), 'in the middle of a job');
$stripe->keys(KEY() => 'revoked');
go_on();
$row = over($job, 'a key that is revoked meanwhile', state => 'failed');
like($row->{error}, qr/401/, 'is said');
cmp_ok($row->{objects}, '>=', 200, 'what was read stays');
$stripe->keys(KEY() => undef);
$stripe->forget_requests;
is(begin(qw(customer invoice)), $job, 'with a good one the same job goes on');
over($job, 'to its end', state => 'done', objects => 900, error => undef);

empty();
$stripe->keys(KEY() => { deny => ['^/v1/customers'] });
$row = over(begin(qw(customer product)), 'a list that a restricted key may not see', state => 'failed');
like($row->{error}, qr{/v1/customers: Stripe answered 403}, 'is said');
is(rows('products'), 450, 'and the other goes on');
$row = over(shop(q{SELECT stripe_sync.backfill()}), 'when everything is asked for, it is left out', state => 'done');
like($row->{error}, qr{/v1/customers: Stripe answered 403}, 'and said');
is(rows('customers'), 0, 'nothing of it');
is(rows('coupons'), 450, 'all else');
$stripe->keys(KEY() => undef);

# ---- pages ----

sub one_is_bad
{
	my ($what, $fault, $pattern, %rest) = @_;

	empty();
	$stripe->fault($fault, path => '^/v1/customers$', %rest);
	my $result = over(begin(qw(customer product)), $what, state => 'failed');
	like($result->{error}, $pattern, "$what: the job says so");
	is(rows('products'), 450, "$what: the other list goes on");
	return $result;
}

one_is_bad('no page at all', { page => { data => undef } }, qr/could not parse list page/);
one_is_bad('a list that never ends, without objects', { endless => 'empty' }, qr/does not end/);
is(rows('customers'), 450, 'what it had is there');
$row = one_is_bad('a list that never ends, the same again', { endless => 'same' }, qr/does not end/);
cmp_ok($row->{pages}, '<', 20, 'soon enough');
$stripe->fault({ status => 400, body => '{"error": {"type": "invalid_request_error", "message": "No such thing"}}' }, path => '^/v1/customers$');
one_is_bad('a request that is refused', { status => 400 }, qr{/v1/customers: Stripe answered 400});

sub none_is_bad
{
	my ($what, $fault, %rest) = @_;

	empty();
	$stripe->fault($fault, path => '^/v1/customers$', %rest);
	my $result = over(begin(qw(customer product)), $what, state => 'done', error => undef);
	is(rows('customers'), 450, "$what: all objects are there");
	return $result;
}

none_is_bad('ids that repeat across pages', { repeat => 7 });
none_is_bad('objects without created', { without => ['created'] });
none_is_bad('an answer that is too large', { huge => 40_000_000 }, times => 1);
none_is_bad('503 for a while', { status => 503 }, times => 5);

# ---- pages that don't come whole ----

# As none_is_bad(); the sizes of the pages that were asked for.
sub sizes_of
{
	my $before = @{ $stripe->requests };

	none_is_bad(@_);
	my @all = @{ $stripe->requests };
	return map { $_->{query} =~ /limit=(\d+)/ ? $1 : () } grep { $_->{path} eq '/v1/customers' } @all[ $before .. $#all ];
}

my @sizes = sizes_of('pages of more than 12 that break off', { malformed_json => TRUE }, query => 'limit=(1[3-9]|[2-9]\d|\d{3})\b');
is(join(' ', @sizes[ 0 .. 6 ]), '100 100 100 50 25 12 24', 'three times the same, then halves, then they grow');
cmp_ok(scalar(grep { $_ > 12 } @sizes), '<', 15, 'and are tried less and less often');
worker_setting($node, 'shop', 'stripe_sync.stripe_timeout', '1s');
is(join(' ', (sizes_of('pages of more than 50 that take too long', { never => TRUE }, query => 'limit=(5[1-9]|[6-9]\d|\d{3})\b'))[ 0 .. 4 ]), '100 100 100 50 100', 'likewise');
worker_setting($node, 'shop', 'stripe_sync.stripe_timeout', '0');
is(join(' ', sizes_of('pages that are reset in the middle, for a while', { reset_mid_answer => TRUE }, times => 3)), '100 100 100 50 100 100 100 100', 'the next but one is as large as it was');

# One object that can't be had in any page.
my @topups = $stripe->add_objects([ map { { object => 'topup', amount => $_, created => 1_700_000_000 - $_ } } 0 .. 29 ]);
shop(q{SELECT count(*) FROM stripe_sync.create_tables(ARRAY['topup'])});
$stripe->fault({ wrong_length => 1 }, path => '^/v1/topups$', query => StripeStub::pages_with(12, -1, @topups));
$stripe->fault({ status => 500 }, path => "^/v1/topups/$topups[12]");
$row = over(begin('topup'), 'one object that does not come, even alone', state => 'done', objects => 29);
like($row->{error}, qr/\Atopup $topups[12] could not be read, even by itself: connection: [^\n]*\z/, 'is noted');
is(rows('topups'), 29, 'all others are there');
is(shop(q{SELECT object_id || ' ' || field FROM stripe_sync.verify_mirror(ARRAY['topup'])}), "$topups[12] (incomplete)", 'the mirror knows what it lacks');
$stripe->clear_faults;
make_due();
ok($node->poll_query_until('shop', 'SELECT count(*) = 30 FROM stripe.topups'), 'and it is read by itself');
shop('DROP TABLE stripe.topups; TRUNCATE stripe_sync.job_record CASCADE');
$row = one_is_bad('pages that break off, whatever their size', { malformed_json => TRUE }, qr{/v1/customers: 22P02: could not parse list page: it is truncated}, skip => 2);
$stripe->clear_faults;
over(begin(qw(customer product)), 'and when they do no more', state => 'done');
is(rows('customers'), 450, 'nothing has been passed over');
shop('DELETE FROM stripe_sync.reread');

# ---- rows ----

empty();
my $bad = $stripe->ids(type => 'customer')->{customer}[120];
shop('ALTER TABLE stripe.customers ADD CONSTRAINT no_such CHECK (id <> ' . literal($bad) . ')');
$row = over(begin('customer'), 'a row that cannot be written', state => 'done', objects => 450);
like($row->{error}, qr{\Acustomer \Q$bad\E: 23514: .*no_such}, 'is noted');
is(rows('customers'), 449, 'and costs itself alone');
is(shop(q{SELECT object_type || ' ' || object_id || ' ' || field FROM stripe_sync.verify_mirror()}), "customer $bad (incomplete)", 'it is known to be incomplete');
shop('ALTER TABLE stripe.customers DROP CONSTRAINT no_such');
make_due();
ok($node->poll_query_until('shop', 'SELECT count(*) = 450 FROM stripe.customers'), 'and is read again by itself');
ok($node->poll_query_until('shop', 'SELECT count(*) = 0 FROM stripe_sync.reread'), 'and wanted no more');
$stripe->fault({ first_object => { id => undef } }, path => '^/v1/customers$', times => 1);
shop('TRUNCATE stripe.customers');
$row = over(begin('customer'), 'an object without an id', state => 'done');
like($row->{error}, qr/not an object of a known type with an id/, 'is noted');
is(rows('customers'), 449, 'and costs itself alone');

# ---- what is listed by parent, what is cut short, what is single ----

empty();
my @customers = @{ $stripe->ids(type => 'customer')->{customer} };
$stripe->add_objects([ map { { object => 'customer_balance_transaction', amount => $_, customer => $customers[ $_ % 3 ], _owner => $customers[ $_ % 3 ] } } 1 .. 330 ]);
$stripe->fill('subscription', 30, seed => 4, children => 25);
$stripe->change_singleton('balance', { pending => [ { amount => 4711, currency => 'eur' } ] }, quiet => TRUE);
$row = over(begin('customer_balance_transaction'), 'objects that are listed by parent', state => 'done', error => undef);
is(rows('customer_balance_transactions'), 330, 'are read through their parents');
is(rows('customers'), 450, 'who are read first');
# which can't be asked for by their ids: the page is read again
shop('TRUNCATE stripe.customer_balance_transactions, stripe_sync.job_record CASCADE');
shop(q{
	CREATE TABLE test.knob AS SELECT 7 AS amount;
	CREATE FUNCTION test.deny() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.amount IN (SELECT amount FROM test.knob) THEN RAISE 'not now'; END IF; RETURN NEW; END $$;
	CREATE TRIGGER deny BEFORE INSERT ON stripe.customer_balance_transactions FOR EACH ROW EXECUTE FUNCTION test.deny();
});
$job = begin('customer_balance_transaction');
ok($node->poll_query_until('shop', "SELECT error ~ 'not now' FROM stripe_sync.job_part WHERE job = $job AND tries = 1 AND state = 'waiting'"), 'one of them cannot be written: its page is put off');
shop('TRUNCATE test.knob');
make_due();
over($job, 'and read again', state => 'done', error => undef);
is(rows('customer_balance_transactions'), 330, 'with all that it has');
shop('DROP TRIGGER deny ON stripe.customer_balance_transactions');
$stripe->fault({ status => 404 }, path => "^/v1/customers/$customers[5]/", times => 1);
$stripe->fault({ status => 400 }, path => "^/v1/customers/$customers[6]/", times => 1);
$row = over(begin('customer_balance_transaction'), 'a parent whose list is refused', state => 'done');
like($row->{error}, qr/\Q$customers[6]\E/, 'is noted');
$stripe->clear_faults;
$stripe->fault({ status => 400 }, path => '^/v1/customers/.*/balance_transactions');
$row = over(begin('customer_balance_transaction'), 'a list that no parent has', state => 'failed');
like($row->{error}, qr{/v1/customers/\{id\}/balance_transactions: .*400}, 'is given up');
$stripe->clear_faults;
shop('TRUNCATE stripe_sync.job_record CASCADE');
$row = over(begin('subscription_item'), 'objects that their parents carry', state => 'done', error => undef);
is(rows('subscription_items'), 30 * 25, 'the rest of what is cut short is read too');
is(shop('SELECT count(*) FROM stripe.subscriptions'), 30, 'with the parents');
$row = over(begin(qw(balance account)), 'singletons', state => 'done', error => undef);
is(shop(q{SELECT pending->0->>'amount' FROM stripe.balances}), 4711, 'are read');
is(shop(q{SELECT count(*) FROM stripe.accounts}), 1, "and one's own account");

# ---- connected accounts ----

$stripe->accounts('acct_1Connected');
$stripe->fill('coupon', 120, seed => 9, account => 'acct_1Connected');
$stripe->keys(rk_test_connected_sEcReT => { account => 'acct_1Connected' });
shop('SELECT stripe_sync.set_api_key(' . literals('rk_test_connected_sEcReT', 'acct_1Connected') . ')');
$row = over(begin('coupon'), 'connected accounts', state => 'done', error => undef, objects => 570);
is(shop(q{SELECT count(*) FILTER (WHERE _account = ''), count(*) FILTER (WHERE _account = 'acct_1Connected') FROM stripe.coupons}), '450|120', 'are read by lists of their own');
shop(q{SELECT stripe_sync.set_api_key(NULL, 'acct_1Connected')});
# an endpoint's is read with its own key or not at all
shop('SELECT stripe_sync.add_endpoint(' . literals('sandbox', SECRET) . q{, false, NULL, 'sandbox')});
over(begin('coupon'), 'without a key of its own', state => 'done', error => undef, objects => 450);
shop('SELECT stripe_sync.set_api_key(' . literals('rk_test_sandbox_sEcReT', 'sandbox') . ')');
over(begin('coupon'), 'with one', state => 'done', error => undef, objects => 900);
is(shop(q{SELECT count(*) FROM stripe.coupons WHERE _account = 'sandbox'}), 450, 'it has rows of its own');
shop(q{SELECT stripe_sync.set_api_key(NULL, 'sandbox'), stripe_sync.drop_endpoint('sandbox')});

# ---- called off, and on again ----

empty();
$stripe->fault($stripe->hold, path => '^/v1/customers$', skip => 1);
$job = begin('customer');
ok($node->poll_query_until('shop', "SELECT pages >= 1 FROM stripe_sync.job WHERE id = $job"), 'in the middle of a job');
# whatever it may have been about a moment ago
ok($node->poll_query_until('shop', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'stripe_sync worker' AND datname = 'shop' AND xact_start IS NOT NULL}), 'no transaction is open while an answer is waited for');
shop("SELECT stripe_sync.cancel_job($job)");
go_on();
is(shop("SELECT state FROM stripe_sync.job WHERE id = $job"), 'cancelled', 'it is called off');
is(begin('customer'), $job, 'asked for again it goes on');
over($job, 'to its end', state => 'done', objects => 450, error => undef);
my $another = begin('customer');
isnt($another, $job, 'and once it is done another begins');
over($another, 'the other', state => 'done');

# ---- an error where none may be ----

empty();
shop(q{
	CREATE SEQUENCE test.failures;
	CREATE FUNCTION test.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF nextval('test.failures') = 1 THEN RAISE 'not now'; END IF; RETURN NEW; END $$;
	CREATE TRIGGER fail BEFORE UPDATE ON stripe_sync.job_part FOR EACH ROW WHEN (NEW.pages = 3) EXECUTE FUNCTION test.fail();
});
over(begin('customer'), 'an error in the middle', state => 'done', objects => 450, error => undef);
is(shop(q{SELECT last_value > 1 FROM test.failures}), 't', 'there was one');
shop('DROP TRIGGER fail ON stripe_sync.job_part');

# ---- one object, while it is being read ----

$stripe->fault($stripe->hold, path => "^/v1/customers/$customers[0]\$", times => 1);
$job = shop("SELECT stripe_sync.refetch('customer', '$customers[0]')");
ok($node->poll_query_until('shop', "SELECT state = 'running' FROM stripe_sync.job WHERE id = $job"), 'an object is being read');
ok($stripe->wait_for(sub { $stripe->stats->{in_flight} == 1 }), 'its request is in the air');
my $second = shop("SELECT stripe_sync.refetch('customer', '$customers[0]')");
isnt($second, $job, 'who asks then gets a reading of his own');
is(shop("SELECT stripe_sync.refetch('customer', '$customers[0]')"), $second, 'as all who ask then');
shop("SELECT pg_terminate_backend(@{[ worker_pid($node, 'shop') ]})");
over($_, 'the worker ends', state => 'done') for $job, $second;

# ---- pages that a webhook cuts short ----

my ($subscription) = $stripe->add_objects([ { object => 'subscription', customer => $customers[0] } ]);
$stripe->add_objects([ map { { object => 'subscription_item', subscription => $subscription, quantity => $_ } } 1 .. 150 ]);
my $object = $stripe->object($subscription);
is(scalar @{ $object->{items}{data} }, 10, 'a subscription carries ten of its items') or diag explain $object->{items};
my $payload = $stripe->encode({ id => 'evt_cut', object => 'event', type => 'customer.subscription.updated', created => int(time), livemode => FALSE, api_version => '2026-10-28.endive', pending_webhooks => 1, request => undef, data => { object => $object } });
shop('SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload)) . ')');
ok($node->poll_query_until('shop', "SELECT count(*) = 150 FROM stripe.subscription_items WHERE subscription = '$subscription'"), 'the worker reads the rest by itself');

no_secret_in($node, 'shop', 'the key');
$node->stop;
done_testing();
