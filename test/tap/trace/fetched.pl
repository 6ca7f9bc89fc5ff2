# fetched.pl
#		What a trace tells of reading from Stripe: refetch, reconcile, requests that
#		failed, objects that are to be fetched again.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use StripeBack;
use StripeStub;
use StripeSync;

use PostgreSQL::Test::Utils;
use Test::More;

my $missing = StripeStub->missing;
plan skip_all => $missing if $missing;

my $stripe = StripeStub->start;
my $node = make_reader('trace_fetched', $stripe);

# On one line: where a line is broken does not matter here.
sub trace_of { my $text = shop('SELECT stripe_sync.trace_text(' . literal($_[0]) . ')'); $text =~ s/\s+/ /g; return $text; }

my ($id) = $stripe->add_objects([ { object => 'customer', id => 'cus_1', name => 'Ada' } ]);
my ($other) = $stripe->add_objects([ { object => 'customer', id => 'cus_2', name => 'Bob' } ]);

# ---- an object that was fetched ----

my $job = shop(q{SELECT stripe_sync.refetch('customer', 'cus_1')});
over($job, 'the refetch', state => 'done');
over(shop(q{SELECT stripe_sync.refetch('customer', 'cus_2')}), 'the other refetch', state => 'done');
my $text = trace_of('cus_1');
like($text, qr/customer cus_1: state of the mirror, fetched from Stripe's API/, 'the state that was fetched');
like($text, qr/job $job \(refetch\) fetches cus_1: done/, 'the job');
like($text, qr{job $job: GET /v1/customers/cus_1 \(200, \d+ ms\)}, 'its request');
unlike($text, qr/cus_2|Bob/, 'nothing of another customer');
like(trace_of("job $job"), qr/refetch/, 'the job has a story of its own');
is(shop("SELECT count(*) FROM stripe_sync.trace('cus_1') WHERE detail::text ~ 'sEcReT|rk_test'"), '0', 'no key is shown');

# ---- requests that fail ----

$stripe->fault({ status => 500, body => '{}' }, path => '^/v1/customers/cus_1$', times => 1);
$job = shop(q{SELECT stripe_sync.refetch('customer', 'cus_1')});
over($job, 'a refetch that is tried again', state => 'done');
$text = trace_of('cus_1');
like($text, qr{job $job: GET /v1/customers/cus_1 \(500.*?job $job: GET /v1/customers/cus_1 \(200}, 'both requests, in their order');

key_is({ status => 403 });
$stripe->fault({ status => 403, body => '{"error": {"type": "invalid_request_error", "message": "no permission"}}' }, path => '^/v1/customers/cus_2$', times => 50);
$job = shop(q{SELECT stripe_sync.refetch('customer', 'cus_2')});
over($job, 'a refetch that is not permitted', state => 'failed');
like(trace_of('cus_2'), qr/job $job \(refetch\) fetches cus_2: failed: /, 'why it failed');
like((split /\n/, shop(q{SELECT stripe_sync.trace_text('cus_2')}))[0], qr/\S/, 'and a verdict');
$stripe->clear_faults;
key_is({});

# ---- events that reconcile found ----

my $event = $stripe->change($id, { name => 'Grace' }, at => time - 400);
$job = shop('SELECT stripe_sync.reconcile()');
over($job, 'reconcile', state => 'done');
like(trace_of('cus_1'), qr/\Q$event->{id}\E: found in Stripe's list of events by reconcile.*\(job $job\)/, 'an event that reconcile found, and its job');

# ---- what is still to be fetched ----

shop(q{INSERT INTO stripe_sync.reread (object_type, object_id, account, reason, state, error, tries, due_at, after)
	VALUES ('customer', 'cus_1', '', 'two events of one second', 'dead', 'no answer', 12, now() + interval '1 day', now())});
like(trace_of('cus_1'), qr/cus_1 is to be fetched from Stripe again: two events of one second; no answer; given up/, 'what is given up');
done_testing;
