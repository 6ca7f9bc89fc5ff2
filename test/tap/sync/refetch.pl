# refetch.pl
#		One object is read again: asked for, or by the mirror itself.  However
#		often it is asked for at once, it is read once.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use StripeBack;
use StripeStub;
use StripeSync;

use Digest::SHA qw(sha256_hex);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $missing = StripeStub->missing;
plan skip_all => $missing if $missing;
seed();

my $stripe = StripeStub->start;
my $node = make_reader('refetch', $stripe, no_key => 1);

sub refetch { return shop('SELECT stripe_sync.refetch(' . literals(@_) . ')'); }

# It is asked for and read; the job's row.
sub refetched
{
	my ($object, $what, %expect) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return over(refetch(@$object), $what, %expect);
}

my @many; # products

sub requests
{
	my ($path) = @_;
	return grep { $_->{path} eq $path } @{ $stripe->requests };
}

# ---- what may be asked for ----

refused(q{SELECT stripe_sync.refetch('customer', 'cus_1')}, qr/55000.*no key.*HINT/s, 'without a key');
shop('SELECT stripe_sync.set_api_key(' . literal(KEY) . ')');
refused(q{SELECT stripe_sync.refetch('custommer', 'cus_1')}, qr/22023.*custommer.*HINT: .*object_type/s, 'a type that there is not');
refused(q{SELECT stripe_sync.refetch('invoiceitem', NULL)}, qr/22004/, 'nothing');
refused(q{SELECT stripe_sync.refetch('discount', 'di_1')}, qr/22023/, 'a type that cannot be retrieved');
refused(q{SELECT stripe_sync.refetch('customer', '')}, qr/22023.*cannot be empty/, 'an empty id, which would be a list');
refused(q{SELECT stripe_sync.refetch('balance', 'x')}, qr/22023.*HINT: .*refetch\('balance', ''\)/s, 'an id of what is there once');
refused(q{SELECT stripe_sync.refetch('customer', repeat('x', 513))}, qr/22023.*512/, 'an id that is none');
refused(q{SELECT stripe_sync.refetch('customer', 'cus_1', 'cus_1')}, qr/22023.*acct_/, 'an account that is none');
refused(q{SELECT stripe_sync.refetch('customer', 'cus_1', E'acct_1\\r\\nX-Other: header')}, qr/22023.*acct_/, 'nor one that is more than a word');

# ---- an object ----

my ($id) = $stripe->add_objects([ { object => 'customer', id => 'cus_1', name => 'Ada' } ]);
refetched([ 'customer', $id ], 'one that is new', state => 'done', objects => 1, error => undef);
is(shop(q{SELECT name || ' ' || (_event_id IS NULL) || ' ' || (_as_of BETWEEN now() - interval '1 min' AND now()) FROM stripe.customers}), 'Ada true true', 'is in the mirror, as of its time');
$stripe->change($id, { name => 'Grace' }, quiet => TRUE);
refetched([ 'customer', $id ], 'one that has changed', state => 'done');
is(shop('SELECT name FROM stripe.customers'), 'Grace', 'is up to date');
my $event = $stripe->change($id, { name => 'Later' });
deliver($event);
refetched([ 'customer', $id ], 'one that a webhook has brought', state => 'done');
is(shop('SELECT name FROM stripe.customers'), 'Later', 'stays');
$stripe->pending;
$stripe->add_objects([ { object => 'customer', id => 'cus_2', name => 'Gone' }, { object => 'customer', id => 'cus_3', name => 'Deleted' } ]);
refetched([ 'customer', $_ ], "customer $_", state => 'done') for 'cus_2', 'cus_3';
$stripe->remove('cus_2', gone => TRUE, quiet => TRUE);
$stripe->remove('cus_3', quiet => TRUE);
refetched([ 'customer', $_ ], "$_, which is no more", state => 'done', error => undef) for 'cus_2', 'cus_3';
is(shop(q{SELECT string_agg(id || ' ' || name, ', ' ORDER BY id) FROM stripe.customers WHERE _deleted_at IS NOT NULL}), 'cus_2 Gone, cus_3 Deleted', '404 and "deleted" both put a tombstone on it');
refetched([ 'customer', 'cus_never' ], 'one that never was', state => 'done');
is(shop('SELECT count(*) FROM stripe.customers WHERE _deleted_at IS NULL'), 1, 'is no object');
refetched([ 'customer', 'cus/../../v1/balance?x#%' ], 'an id with odd characters', state => 'done');
is(scalar(grep { $_->{path} =~ m{^/v1/customers/cus} && $_->{path} =~ m{\.\.|%2F}i } @{ $stripe->requests }), 1, 'is one segment of the path');
is(scalar(requests('/v1/balance')), 0, 'and no other path');
$stripe->fault({ page => { id => 'cus_other' } }, path => '^/v1/customers/cus_1$', times => 1);
like(refetched([ 'customer', 'cus_1' ], 'another answer', state => 'failed')->{error}, qr/another object/, 'is not taken for it');
$stripe->fault({ page => { object => 'product' } }, path => '^/v1/customers/cus_1$', times => 1);
refetched([ 'customer', 'cus_1' ], 'an answer of another type', state => 'failed');
is(shop(q{SELECT name FROM stripe.customers WHERE id = 'cus_1'}), 'Later', 'the mirror is as it was');

# an answer is as of its Date: without one that can be, it is asked for again
$stripe->add_objects([ { object => 'customer', id => 'cus_date', name => 'Dated' } ]);
for my $case ([ '', 'no_date' ], [ 'yesterday', 'no_date' ], [ 'Thu, 01 Jan 1970 00:00:09 GMT', 'wrong_date' ], [ 'Thu, 01 Jan 2099 00:00:00 GMT', 'wrong_date' ])
{
	my ($date, $code) = @$case;

	shop('TRUNCATE stripe_sync.api_call');
	$stripe->fault({ status => 200, headers => { Date => $date }, body => '{"id": "cus_date", "object": "customer", "name": "Wrong"}' }, path => '^/v1/customers/cus_date$', times => 1);
	refetched([ 'customer', 'cus_date' ], "an answer with the Date '$date'", state => 'done', error => undef);
	is(shop(q{SELECT string_agg(coalesce(code, 'good'), ' ' ORDER BY id) FROM stripe_sync.api_call}), "$code good", 'is not taken');
	is(shop(q{SELECT name || ' ' || (_as_of BETWEEN now() - interval '10 s' AND now()) FROM stripe.customers WHERE id = 'cus_date'}), 'Dated true', 'the next one is');
}
$stripe->fault({ status => 404, headers => { Date => 'Thu, 01 Jan 2099 00:00:00 GMT' }, body => '{"error": {"code": "resource_missing"}}' }, path => '^/v1/customers/cus_date$', times => 1);
refetched([ 'customer', 'cus_date' ], 'gone in the next century', state => 'done', error => undef);
is(shop(q{SELECT _deleted_at IS NULL FROM stripe.customers WHERE id = 'cus_date'}), 't', 'is not gone');
deliver($stripe->change('cus_date', { name => 'Event' }, at => int(time) + 5));
is(shop(q{SELECT name FROM stripe.customers WHERE id = 'cus_date'}), 'Event', 'and later events count');

# ---- what there is once ----

$stripe->change_singleton('balance', { available => [ { amount => 17, currency => 'eur' } ] }, quiet => TRUE);
refetched([ 'balance', '' ], 'the balance', state => 'done', error => undef);
is(shop(q{SELECT available->0->>'amount' FROM stripe.balances}), 17, 'is in its table');
$stripe->change_singleton('balance', { available => [ { amount => 18, currency => 'eur' } ] }, quiet => TRUE);
refetched([ 'balance', '' ], 'the balance, again', state => 'done');
is(shop(q{SELECT count(*), max(available->0->>'amount') FROM stripe.balances}), '1|18', 'is one row');
refetched([ 'cash_balance', 'cus_1' ], 'what there is once for a customer', state => 'done', error => undef);
is(shop('SELECT customer FROM stripe.cash_balances'), 'cus_1', 'is that customer\'s');

# ---- another account ----

$stripe->accounts('acct_1');
$stripe->add_objects([ { object => 'customer', id => 'cus_1', name => 'Of another' } ], account => 'acct_1');
refetched([ 'customer', 'cus_1', 'acct_1' ], 'of a connected account', state => 'done', error => undef);
is(shop(q{SELECT string_agg(name || ' ' || _account, ', ' ORDER BY _account) FROM stripe.customers WHERE id = 'cus_1'}), 'Later , Of another acct_1', 'is a row of its own');
refetched([ 'customer', 'cus_1', 'acct_none' ], 'of one that is not connected', state => 'failed');

# ---- a burst ----

$stripe->fault({ delay => 0.5 }, path => '^/v1/customers/cus_burst$');
$stripe->add_objects([ { object => 'customer', id => 'cus_burst', name => 'Burst' } ]);
shop(q{BEGIN; SELECT count(stripe_sync.refetch('customer', 'cus_burst')) FROM generate_series(1, 100); COMMIT});
ok($node->poll_query_until('shop', q{SELECT count(*) = 0 FROM stripe_sync.job WHERE state IN ('waiting', 'running')}), 'a hundred in one transaction');
is(scalar(requests('/v1/customers/cus_burst')), 1, 'are one request');
shop(q{SELECT stripe_sync.pause('stripe')});
my @sessions = map { $node->background_psql('shop') } 1 .. 4;
$_->{stdin} .= "SELECT count(stripe_sync.refetch('customer', 'cus_burst')) FROM generate_series(1, 50);\n\\echo asked\n" for @sessions;
$_->{run}->pump_nb for @sessions;
for my $session (@sessions)
{
	$session->{run}->pump until $session->{stdout} =~ /asked/ || !$session->{run}->pumpable;
	unlike($session->{stderr}, qr/ERROR/, 'sessions that ask at once do not fail');
	$session->quit;
}
is(shop(q{SELECT count(*) FROM stripe_sync.job WHERE state = 'waiting'}), 1, 'they ask for one job');
shop(q{SELECT stripe_sync.resume('stripe')});
ok($node->poll_query_until('shop', q{SELECT count(*) = 0 FROM stripe_sync.job WHERE state IN ('waiting', 'running')}), 'which is read');
is(scalar(requests('/v1/customers/cus_burst')), 2, 'once');
$stripe->clear_faults;
$stripe->fault($stripe->hold, path => '^/v1/customers/cus_burst$', times => 1);
my $job = refetch('customer', 'cus_burst');
ok($stripe->wait_for(sub { requests('/v1/customers/cus_burst') > 2 }), 'it is being read');
no_transaction('without a transaction');
$stripe->change('cus_burst', { name => 'Changed' }, quiet => TRUE);
isnt(refetch('customer', 'cus_burst'), $job, 'who asks now wants another answer');
$stripe->release;
ok($node->poll_query_until('shop', q{SELECT name = 'Changed' FROM stripe.customers WHERE id = 'cus_burst'}), 'and gets it');
$stripe->clear_faults;

# ---- the pace ----

sub refetch_products { return shop(q{SELECT count(stripe_sync.refetch('product', id)) FROM unnest(ARRAY[} . literals(@many) . ']) id'); }

@many = @{ $stripe->fill('product', 150, seed => 2)->{ids} };
$stripe->rate(per_second => 15, burst => 5);
my $start = time;
refetch_products();
ok($node->poll_query_until('shop', q{SELECT count(*) = 0 FROM stripe_sync.job WHERE state IN ('waiting', 'running')}), 'many objects under a limit lower than ours');
is(shop('SELECT count(*) FROM stripe.products'), 150, 'all are read');
my ($refused, $all) = split /\|/, shop(q{SELECT count(*) FILTER (WHERE status = 429), count(*) FROM stripe_sync.api_call WHERE path LIKE '/v1/products/%'});
cmp_ok($refused, '>', 0, 'some requests are refused');
cmp_ok($refused, '<', 75, "and the pace slows down: $refused of $all");
$stripe->rate;
refetch_products();
$node->poll_query_until('shop', q{SELECT count(*) = 0 FROM stripe_sync.job WHERE state IN ('waiting', 'running')});
$start = time;
refetch_products();
$node->poll_query_until('shop', q{SELECT count(*) = 0 FROM stripe_sync.job WHERE state IN ('waiting', 'running')});
# at the pace of before it would take ten
cmp_ok(time - $start, '<', 9, 'without refusals it has grown back');
is(shop(q{SELECT count(*) FROM stripe_sync.job WHERE state <> 'done' AND error !~ '403|another object'}), 0, 'nothing has failed');

# ---- the mirror asks ----

sub ambiguous
{
	my ($customer, @names) = @_;
	my $second = int time;

	$stripe->change_many([ map { { id => $customer, set => { name => $_ }, at => $second } } @names ]);
	my @events = grep { $_->{data}{object}{id} eq $customer } $stripe->pending;
	delete $_->{data}{previous_attributes} for @events;
	# in one transaction with a look at what it leaves: the worker goes about that in three seconds
	my @said = split /\n/, shop('BEGIN; ' . join('', map {
		my $payload = json_text($_);
		'SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload)) . ");\n";
	} @events) . 'SELECT object_type, object_id FROM stripe_sync.reread; COMMIT');
	return ($second, $said[-1]);
}

$stripe->add_objects([ { object => 'customer', id => 'cus_same', name => 'Before' } ]);
# An answer that took a second is as of too early to tell: it is asked for once more.
sub most_reads
{
	my ($path) = @_;

	return 1 + shop("SELECT count(*) FROM stripe_sync.api_call WHERE path = '$path' AND duration > '0.8 s'");
}

my ($second, $left_open) = ambiguous('cus_same', 'One', 'Two', 'Three');
is($left_open, 'customer|cus_same', 'what one second leaves open is to be read');
ok($node->poll_query_until('shop', q{SELECT _event_id IS NULL FROM stripe.customers WHERE id = 'cus_same'}), 'and is');
ok($node->poll_query_until('shop', 'SELECT count(*) = 0 FROM stripe_sync.reread'), 'nothing is left to be read');
my @reads = requests('/v1/customers/cus_same');
cmp_ok(scalar @reads, '<=', most_reads('/v1/customers/cus_same'), 'once');
cmp_ok($reads[0]{at}, '>=', $second + 3, 'three seconds after it');
cmp_ok($reads[0]{at}, '<', $second + 40, 'and soon');
is(shop(q{SELECT name FROM stripe.customers WHERE id = 'cus_same'}), 'Three', 'as Stripe has it');
# one that comes late
$stripe->fault({ delay => 4 }, path => '^/v1/customers/cus_slow$', times => 1);
$stripe->add_objects([ { object => 'customer', id => 'cus_slow', name => 'Before' } ]);
ambiguous('cus_slow', 'One', 'Two');
ok($node->poll_query_until('shop', q{SELECT _event_id IS NULL FROM stripe.customers WHERE id = 'cus_slow'}), 'one whose answer takes long');
cmp_ok(scalar(requests('/v1/customers/cus_slow')), '<=', most_reads('/v1/customers/cus_slow'), 'is asked for twice');

# ---- faults ----

for my $case ([ 'a 500', { status => 500 } ], [ 'a 429', { status => 429, headers => { 'Retry-After' => '1' } } ], [ 'a 409', { error => 'lock_timeout' } ],
	[ 'a reset', { reset_before => TRUE } ], [ 'a reset in the middle', { reset_mid_answer => TRUE } ])
{
	my ($what, $fault) = @$case;

	$stripe->fault($fault, path => '^/v1/customers/cus_1$', times => 2);
	refetched([ 'customer', 'cus_1' ], $what, state => 'done', error => undef);
	$stripe->clear_faults;
}
$stripe->fault({ malformed_json => TRUE }, path => '^/v1/customers/cus_1$');
refetched([ 'customer', 'cus_1' ], 'a malformed answer', state => 'failed');
$stripe->clear_faults;
for my $key ('revoked', 'invalid', { deny => ['^/v1/customers'] })
{
	key_is($key);
	like(refetched([ 'customer', 'cus_1' ], 'a key that is ' . (ref $key ? 'restricted' : $key), state => 'failed')->{error}, qr/40[13]/, 'the job says why');
}
key_is(undef);

# ---- a crash ----

$stripe->fault($stripe->hold, path => '^/v1/customers/cus_1$', times => 1);
$stripe->change('cus_1', { name => 'Crash' }, quiet => TRUE);
$job = refetch('customer', 'cus_1');
ok($node->poll_query_until('shop', "SELECT state = 'running' FROM stripe_sync.job WHERE id = $job"), 'in the middle of a request');
ok($stripe->wait_for(sub { $stripe->stats->{in_flight} == 1 }), 'which is in the air');
$node->stop('immediate');
$node->start;
over($job, 'the server dies: it is read again', state => 'done');
$stripe->fault($stripe->hold, path => '^/v1/customers/cus_1$', times => 1);
$job = refetch('customer', 'cus_1');
ok($node->poll_query_until('shop', "SELECT state = 'running' FROM stripe_sync.job WHERE id = $job"), 'another is under way');
ok($stripe->wait_for(sub { $stripe->stats->{in_flight} == 1 }), 'and in the air');
shop(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'stripe_sync worker'});
over($job, 'the worker is ended: it is read again', state => 'done');
is(shop(q{SELECT name FROM stripe.customers WHERE id = 'cus_1' AND _account = ''}), 'Crash', 'as it is');

# ---- called off ----

shop(q{SELECT stripe_sync.pause('stripe')});
$job = refetch('customer', 'cus_1');
shop("SELECT stripe_sync.cancel_job($job)");
isnt(refetch('customer', 'cus_1'), $job, 'who is called off is not joined');
shop(q{SELECT stripe_sync.resume('stripe')});
ok($node->poll_query_until('shop', q{SELECT count(*) = 0 FROM stripe_sync.job WHERE state IN ('waiting', 'running')}), 'the other is read');

# ---- the database has something against it ----

# What verify_mirror() says, a line each.
sub incomplete
{
	return shop(q{SELECT concat_ws(' ', object_type, object_id, nullif(account, ''), field, expected->>'tries', expected->>'state', expected->>'error', expected->>'run') FROM stripe_sync.verify_mirror(sample => 10000)});
}

# What is put off is due now.
sub make_due
{
	shop(q{UPDATE stripe_sync.reread SET due_at = now() WHERE state = 'waiting'; UPDATE stripe_sync.job_part SET due_at = now() WHERE state = 'waiting'; SELECT stripe_sync.resume('stripe')});
	return;
}

sub becomes
{
	my ($query, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($node->poll_query_until('shop', "SELECT $query"), $what);
}

# How what the mirror wants read of an object stands.
sub wish { return "EXISTS (SELECT FROM stripe_sync.reread WHERE object_id = '$_[0]' AND $_[1])"; }

sub deny { return shop("INSERT INTO test.knob VALUES ('$_[0]')"); }
sub let  { return shop('TRUNCATE test.knob'); }

shop(q{
	CREATE TABLE test.knob (what text);
	CREATE FUNCTION test.deny() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF EXISTS (SELECT FROM test.knob WHERE what = TG_ARGV[0]) THEN RAISE 'not now'; END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER deny BEFORE INSERT OR UPDATE ON stripe.customers FOR EACH ROW EXECUTE FUNCTION test.deny('customer');
	CREATE SEQUENCE test.line;
	CREATE FUNCTION test.once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF nextval('test.line') = 12 THEN RAISE 'not now'; END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER once BEFORE INSERT OR UPDATE ON stripe.line_items FOR EACH ROW EXECUTE FUNCTION test.once();
	SELECT stripe_sync.pause('slack'), stripe_sync.add_slack_webhook('ops', 'https://hooks.slack.com/services/T0/B0/tOkEn'),
		stripe_sync.add_alert('failing', 'system.event_failed', 'ops', '{{step}}: {{object_type}} {{object_id}}: {{error}}. {{remedy}}', coalesce_for => '0');
});
is(incomplete(), '', 'the mirror is known to lack nothing');

# a second that leaves open which is the newest
$stripe->add_objects([ { object => 'customer', id => 'cus_denied', name => 'Before' } ]);
shop(q{SELECT stripe_sync.pause('stripe')});
ambiguous('cus_denied', 'One', 'Two');
is(incomplete(), '', 'what is only asked for is no failure');
deny('customer');
make_due();
becomes(wish('cus_denied', 'tries = 1'), "a trigger raises while what the mirror wants is written");
is(shop(q{SELECT state || ' ' || attempts || ' ' || (due_at > now()) FROM stripe_sync.job_part WHERE object_id = 'cus_denied' AND state <> 'done'}), 'waiting 1 true', 'it is put off');
like(incomplete(), qr/\Acustomer cus_denied \(incomplete\) 1 is tried again customer cus_denied: P0001: not now SELECT stripe_sync.refetch\('customer', 'cus_denied', ''\)\z/, 'verify_mirror() says what is known to be incomplete');
make_due();
becomes(wish('cus_denied', 'tries = 2'), 'it is tried again, and fails again');
let();
make_due();
becomes(q{(SELECT _event_id IS NULL AND name = 'Two' FROM stripe.customers WHERE id = 'cus_denied')}, 'once the trigger lets it, it is written');
becomes('NOT ' . wish('cus_denied', 'true'), 'and wanted no more');
is(incomplete(), '', 'verify_mirror() is empty again');
is(shop('SELECT count(*) FROM stripe_sync.message'), 0, 'nothing had to be told');

# the rest of a page that was cut short
my ($invoice) = @{ $stripe->fill('invoice', 1, seed => 5, children => 17)->{ids} };
my $object = $stripe->object($invoice);
is(scalar @{ $object->{lines}{data} }, 10, 'an invoice carries ten of its lines');
deliver({ id => 'evt_invoice', object => 'event', type => 'invoice.created', created => int(time), livemode => FALSE, api_version => '2026-10-28.endive', pending_webhooks => 1, request => undef, data => { object => $object } });
becomes(wish($invoice, 'tries = 1'), 'a trigger raises once, at the twelfth line');
like(incomplete(), qr/\Ainvoice $invoice \(incomplete\) 1 is tried again .*P0001: not now/, 'verify_mirror() says so');
make_due();
becomes("(SELECT count(*) = 17 FROM stripe.line_items WHERE invoice = '$invoice')", 'all lines are there in the end');
becomes('NOT ' . wish($invoice, 'true'), 'and wanted no more');
is(incomplete(), '', 'verify_mirror() is empty again');

# once more, the trigger raising in the rest itself
my %carried = map { $_->{id} => 1 } @{ $object->{lines}{data} };
my ($line) = grep { !$carried{$_} } @{ $stripe->ids(type => 'line_item')->{line_item} };
shop("DELETE FROM stripe.line_items; CREATE TRIGGER deny BEFORE INSERT ON stripe.line_items FOR EACH ROW WHEN (NEW.id = '$line') EXECUTE FUNCTION test.deny('line')");
deny('line');
$job = refetch('invoice', $invoice);
becomes(wish($invoice, 'tries = 1'), 'it raises in what the invoice does not carry');
is(shop("SELECT string_agg(kind || ' ' || state, ', ' ORDER BY part) FROM stripe_sync.job_part WHERE job = $job"), 'object done, rest waiting', 'which alone is put off');
let();
make_due();
over($job, 'and read again', state => 'done');
is(shop("SELECT count(*) FROM stripe.line_items WHERE invoice = '$invoice'"), 17, 'all lines are there');
is(incomplete(), '', 'and nothing is incomplete');

# somebody asks for what was put off: it need not wait
deny('customer');
$job = refetch('customer', 'cus_1');
becomes(wish('cus_1', 'tries = 1'), "somebody's own refetch is put off, too");
let();
is(refetch('customer', 'cus_1'), $job, 'who asks again');
over($job, 'has it read at once', state => 'done', error => undef);
is(incomplete(), '', 'and nothing is incomplete');

# called off
shop(q{SELECT stripe_sync.pause('stripe')});
ambiguous('cus_denied', 'Off', 'And on');
deny('customer');
make_due();
becomes(wish('cus_denied', 'tries = 1'), 'what the mirror wants is put off');
shop(q{SELECT stripe_sync.cancel_job(job) FROM stripe_sync.job_part WHERE object_id = 'cus_denied' AND state = 'waiting'});
like(incomplete(), qr/\Acustomer cus_denied \(incomplete\) 1 given up job \d+ was cancelled/, 'and called off: it is incomplete for all that');
let();
over(refetch('customer', 'cus_denied'), 'refetch()', state => 'done', error => undef);
eventually('makes it whole', sub { incomplete() eq '' });

# given up
shop(q{SELECT stripe_sync.add_alert('grouped', 'system.event_failed', 'ops', 'x', group_by => '$.data.object.group', closed_by => 'system.event_recovered')});
deny('customer');
setting('stripe_sync.max_attempts', 2);
$job = refetch('customer', 'cus_1');
becomes(wish('cus_1', 'tries = 1'), 'the first of two tries');
make_due();
like(over($job, 'the second', state => 'failed')->{error}, qr/customer cus_1: P0001: not now/, 'it is given up, and the job says why');
like(incomplete(), qr/\Acustomer cus_1 \(incomplete\) 2 given up customer cus_1: P0001/, 'so does verify_mirror()');
is(shop(q{SELECT payload->>'text' FROM stripe_sync.message WHERE alert = 'failing'}),
	q{:warning: reading: customer cus_1: customer cus_1: P0001: not now. It is not tried again until somebody corrects the cause and runs `SELECT stripe_sync.refetch('customer', 'cus_1', '')`.}, 'system.event_failed tells which object, why, and what to run');
let();
over(refetch('customer', 'cus_1'), 'once it is mended, refetch()', state => 'done', error => undef);
eventually('makes it whole', sub { incomplete() eq '' });
is(shop(q{SELECT group_key || ' ' || state || ' ' || (closed_by IS NOT NULL) FROM stripe_sync.incident WHERE alert = 'grouped'}), 'reading customer closed true', 'and system.event_recovered resolves it');
shop(q{SELECT stripe_sync.drop_alert('grouped')});

# what Stripe won't show is final, and told
shop('DELETE FROM stripe_sync.message; SELECT stripe_sync.pause(\'stripe\')');
ambiguous('cus_denied', 'Three', 'Four');
key_is({ deny => ['^/v1/customers'] });
make_due();
becomes(wish('cus_denied', q{state = 'dead'}), 'Stripe refuses what the mirror wants: it is given up');
like(incomplete(), qr/\Acustomer cus_denied \(incomplete\) 0 given up .*403/, 'verify_mirror() says so');
like(shop(q{SELECT payload->>'text' FROM stripe_sync.message}), qr/customer cus_denied: .*403.*refetch\('customer', 'cus_denied', ''\)/, 'and system.event_failed');
key_is(undef);
# and an answer that is too early for what was given up
shop(q{UPDATE stripe_sync.reread SET after = now() + '2 s' WHERE object_id = 'cus_denied'});
over(refetch('customer', 'cus_denied'), 'with the right, refetch()', state => 'done', error => undef);
eventually('makes it whole', sub { incomplete() eq '' });

# a key that is no good says nothing of the object
shop(q{SELECT stripe_sync.pause('stripe')});
ambiguous('cus_denied', 'Five', 'Six');
key_is('revoked');
make_due();
becomes(wish('cus_denied', q{state = 'waiting' AND tries = 1 AND error ~ '401'}), 'a revoked key: it is asked for again later');
key_is(undef);
make_due();
becomes(q{(SELECT _event_id IS NULL AND name = 'Six' FROM stripe.customers WHERE id = 'cus_denied')}, 'and read with a good one');
becomes('NOT ' . wish('cus_denied', 'true'), 'and wanted no more');

# ---- whose key, and what it is told ----

sub sign_in
{
	my ($endpoint, $event) = @_;
	my $payload = json_text($event);

	return shop('SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload), $endpoint) . ')');
}

my %keys = (own => KEY, sandbox => 'rk_test_sandbox_sEcReT', acct_1 => 'rk_test_of_1_sEcReT');

# With whose key, and for whom, the last request for an object was; the stub notes
# a hash of the key.
sub asked_as
{
	my ($headers) = map { $_->{headers} } (requests("/v1/customers/$_[0]"))[-1];
	my ($key) = grep { index($headers->{authorization}, substr(sha256_hex($keys{$_}), 0, 8)) >= 0 } keys %keys;

	return join ' ', $key, map { "$_: $headers->{$_}" } grep { defined $headers->{$_} } 'stripe-account', 'stripe-context';
}

$stripe->accounts('acct_1', 'acct_2');
$stripe->keys($keys{sandbox} => {}, $keys{acct_1} => { account => 'acct_1' });
shop('SELECT stripe_sync.add_endpoint(' . literals('sandbox', SECRET) . q{, false, NULL, 'sandbox')});
$stripe->add_objects([ { object => 'customer', id => 'cus_key', name => 'Ours' } ]);
$stripe->add_objects([ { object => 'customer', id => "cus_of_$_", name => "Of $_" } ], account => $_) for 'acct_1', 'acct_2';
sign_in('default', { %{ event('evt_of_2', 'customer.created', 1, { id => 'cus_of_2', object => 'customer' }) }, context => 'acct_2' });
sign_in('default', { %{ event('evt_of_12', 'customer.created', 1, { id => 'cus_of_2', object => 'customer' }) }, context => 'acct_1/acct_2' });

refused(q{SELECT stripe_sync.refetch('customer', 'cus_key', 'sandbox')}, qr/55000.*account "sandbox".*HINT: .*set_api_key/s, "an endpoint's account has no key: one's own is not taken");
refused(q{SELECT stripe_sync.refetch('customer', 'cus_of_acct_1', 'sandbox/acct_1')}, qr/55000/, 'nor for what is connected to it');
shop('SELECT stripe_sync.set_api_key(' . literals($keys{sandbox}, 'sandbox') . ')');
for my $case (
	[ 'cus_key', '', 'own' ],
	[ 'cus_key', 'sandbox', 'sandbox' ],
	[ 'cus_of_acct_1', 'acct_1', 'own stripe-account: acct_1' ],
	[ 'cus_of_acct_1', 'sandbox/acct_1', 'sandbox stripe-account: acct_1' ],
	[ 'cus_of_acct_2', 'acct_2', 'own stripe-context: acct_2' ],
	[ 'cus_of_acct_2', 'acct_1/acct_2', 'own stripe-context: acct_1/acct_2' ])
{
	my ($customer, $account, $asked) = @$case;

	refetched([ 'customer', $customer, $account ], "$customer of '$account'", state => 'done', error => undef);
	is(asked_as($customer), $asked, 'is read with the right key, and for the right account');
	is(shop('SELECT count(*) FROM stripe.customers WHERE ' . sprintf('id = %s AND _account = %s', literal($customer), literal($account))), '1', 'and has a row of its own');
}
shop('SELECT stripe_sync.set_api_key(' . literals($keys{acct_1}, 'acct_1') . ')');
refetched([ 'customer', 'cus_of_acct_1', 'acct_1' ], 'an account with a key of its own', state => 'done');
is(asked_as('cus_of_acct_1'), 'acct_1', 'needs no header');
refetched([ 'customer', 'cus_of_acct_2', 'acct_1/acct_2' ], 'what is below it', state => 'done');
is(asked_as('cus_of_acct_2'), 'acct_1 stripe-context: acct_2', 'is read with that key');

# a key in a file may be of the other mode without anybody's saying so
append_to_file($node->data_dir . '/key', 'rk_live_wrong_mode_sEcReT');
shop('SELECT stripe_sync.set_api_key(' . literals('file:' . $node->data_dir . '/key', 'sandbox') . ')');
like(refetched([ 'customer', 'cus_key', 'sandbox' ], 'a live key for an endpoint of test mode', state => 'failed')->{error}, qr/live key.*takes test events/, 'reads nothing');

no_secret_in($node, 'shop', 'keys');
$node->stop;
done_testing();
