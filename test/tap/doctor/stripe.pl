# stripe.pl
#		Each item of the area "stripe": ok, broken and found, mended by its hint;
#		then what else each of them tells.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DoctorFaults;
use DoctorFaults::Stripe;
use StripeStub;
use StripeSync;

use PostgreSQL::Test::Utils;
use Test::More;

my $missing = DoctorFaults->missing || StripeStub->missing;
plan skip_all => $missing if $missing;

my $t = DoctorFaults->start('doctor_stripe');

$t->check_all('Stripe');

# ---- what else an item says ----

sub stripe { return $t->{stripe}; }

# "status: detail / hint" of an item
sub says
{
	my ($key, $with) = @_;

	return $t->sql(($with // '') . q{SELECT status || ': ' || detail || ' / ' || coalesce(hint, '') FROM stripe_sync.doctor() WHERE key = } . literal($key));
}

sub key_is { $t->sql('SET client_min_messages = error; SELECT stripe_sync.set_api_key(' . literal($_[0]) . ')'); return; }
sub endpoint_is { stripe()->change($t->{webhook_endpoint}, {@_}, quiet => 1); DoctorFaults::Stripe::read_endpoints($t); return; }

key_is(undef);
like(says('stripe.api_key'), qr/^warn: no key for Stripe's API is set.*set_api_key\('rk_test_\.\.\.'\)/, 'no key');
like(says($_), qr/^ok: /, "no key: nothing else of $_") for qw(stripe.reconcile stripe.reconcile_gap stripe.webhook_endpoint stripe.jobs);
key_is('file:/nonexistent/key');
like(says('stripe.api_key'), qr{^fail: the key cannot be used: .*/nonexistent/key}, 'a key whose file is not there');
key_is(DoctorFaults::Stripe::KEY);
like(says('stripe.api_key'), qr/^ok: /, 'a key once more');
stripe()->keys(DoctorFaults::Stripe::KEY, { deny => ['^/v1/events', '^/v1/webhook_endpoints'] });
DoctorFaults::Stripe::run_job($t, 'stripe_sync.reconcile()');
like(says('stripe.api_key'), qr/^fail: .*403: the key may not read events/, 'a key that may not read events');
$t->eventually_true('SELECT error IS NOT NULL FROM stripe_sync.endpoint_watch', sub { $t->sql(q{UPDATE stripe_sync.endpoint_watch SET next_at = now() - interval '1 s'}); DoctorFaults::Stripe::written($t) });
like(says('stripe.webhook_endpoint'), qr/^warn: the webhook endpoints at Stripe cannot be read: /, 'nor webhook endpoints');
stripe()->keys(DoctorFaults::Stripe::KEY, undef);
DoctorFaults::Stripe::run_job($t, 'stripe_sync.reconcile()');

endpoint_is(api_version => '2020-08-27');
like(says('stripe.api_versions'), qr/^warn: .*\Q$t->{webhook_endpoint}\E sends 2020-08-27/, 'a webhook endpoint of another version');
like(says('stripe.webhook_endpoint'), qr/^ok: /, 'which is told once');
endpoint_is(api_version => $t->{version}, enabled_events => ['charge.failed']);
like(says('stripe.webhook_endpoint'), qr/^warn: .*is not subscribed to \w+\.\w.*, which the mirror/, 'one that is not subscribed to what is needed');
endpoint_is(enabled_events => ['*']);

# A disabled endpoint is told once: critical, by its own event, or else by the doctor.
sub told { return $t->sql(q{SELECT string_agg(concat_ws(' ', i.alert, a.severity, i.state), ', ' ORDER BY i.id) FROM stripe_sync.incident i JOIN stripe_sync.alert a ON a.name = i.alert
	WHERE i.group_key LIKE '%/disabled' OR i.group_key = 'stripe.webhook_endpoint'}); }

$t->sql(q{SELECT count(stripe_sync.drop_alert(name)) FROM stripe_sync.alert WHERE name LIKE 'endpoint_%'; DELETE FROM stripe_sync.incident_record WHERE alert LIKE 'endpoint_%'; SELECT stripe_sync.add_default_alerts('ops')});
endpoint_is(status => 'disabled');
$t->look_again('stripe.webhook_endpoint') for 1 .. 2;
is($t->sql(q{SELECT status || ' ' || fails FROM stripe_sync.finding WHERE key = 'stripe.webhook_endpoint'}), 'fail 2', 'an endpoint is disabled');
is(told(), 'endpoint_disabled critical open', '... and told once');
$t->sql(q{SELECT count(stripe_sync.drop_alert(name)) FROM stripe_sync.alert WHERE name LIKE 'endpoint_%'});
$t->look_again('stripe.webhook_endpoint');
is(told(), 'doctor_critical critical open', '... by the doctor if no rule fits the event');
endpoint_is(status => 'enabled');
$t->look_again('stripe.webhook_endpoint') for 1 .. 2;
is(told(), 'doctor_critical critical closed', 'it is enabled again');

$t->sql(q{INSERT INTO stripe_sync.reread (object_type, object_id, account, reason, due_at, after, state) VALUES ('customer', 'o''neil', '', 'x', now(), now(), 'dead')});
like(says('stripe.jobs'), qr/^warn: 1 object was to be read .* customer o'neil \/ SELECT stripe_sync\.refetch\('customer', 'o''neil', ''\)$/, 'an object that was given up, its name quoted');
$t->sql('DELETE FROM stripe_sync.reread');

$t->sql(q{UPDATE stripe_sync.watermark SET at = at - interval '2 days'; UPDATE stripe_sync.reconcile_schedule SET next_at = now() + interval '14 min'; SELECT stripe_sync.pause('stripe')});
like(says('stripe.reconcile'), qr/^fail: .*2 days ago: requests to Stripe are paused \/ SELECT stripe_sync\.resume\('stripe'\)/, 'reconcile is paused');
$t->sql(q{SELECT stripe_sync.resume('stripe')});
DoctorFaults::Stripe::run_job($t, 'stripe_sync.reconcile()');

DoctorFaults::Stripe::forge($t, 'default', SECRET, livemode => TRUE);
DoctorFaults::Stripe::written($t);
like(says('stripe.mode'), qr/^fail: endpoint "default" refuses live events, and no endpoint takes live events/, 'live events are refused');
like(says('stripe.refused_deliveries'), qr/^ok: /, 'which is told once');
$t->sql('UPDATE stripe_sync.refusal_watch SET live_at = NULL');

DoctorFaults::Stripe::deliver($t, 'default', [ map { DoctorFaults::Stripe::an_event($t, created => time - 7200) } 1 .. 30 ]);
like(says('stripe.delivery_delay'), qr/^fail: events are delivered very late/, 'two hours late');
$t->sql(q{UPDATE stripe_sync.event SET received_at = received_at - interval '2 days' WHERE received_at - created > interval '1 hour'});

# without a key the newest stored event repairs a row
key_is(undef);
$t->sql(q{UPDATE stripe.customers SET name = 'Somebody else' WHERE id = 'cus_doctor'});
my $drift = $t->wait_for_status('stripe.mirror_drift', 'fail');
like($drift->{hint}, qr/replay/, 'a row that differs, without a key');
$t->run_hint($drift->{hint});
is($t->wait_for_status('stripe.mirror_drift', 'ok')->{status}, 'ok', 'and is repaired');
key_is(DoctorFaults::Stripe::KEY);

# runbook.pl does not run the pages of what the worker looks at by night
$t->run_hint($_) for slurp_file("$FindBin::RealBin/../../../doc/runbook/stripe-mirror-drift.md") =~ /^```sql\n(.*?)^```$/gms;

# ---- who looks ----

$t->sql(q{CREATE ROLE reader LOGIN; SELECT stripe_sync.grant_read('reader')});
is($t->sql(q{SET ROLE reader; SELECT count(*) FILTER (WHERE status = 'unknown') FROM stripe_sync.doctor() WHERE area = 'stripe'}), '0', 'who may read sees all of it');
is($t->sql(q{SELECT count(*) FROM stripe_sync.doctor() d WHERE d::text ~ 'sEcReT|whsec_[^.]|rk_test_[^.]'}), '0', 'no secret is shown');
is($t->sql(q{SELECT count(*) FROM stripe_sync.finding f WHERE f::text ~ 'sEcReT|whsec_[^.]|rk_test_[^.]'}), '0', 'nor stored');
done_testing;
