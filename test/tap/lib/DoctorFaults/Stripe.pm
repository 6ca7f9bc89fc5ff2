# DoctorFaults::Stripe
#		The area "stripe": an installation that receives what the stub of Stripe
#		sends and reads it back, and a fault for each item.  See DoctorFaults.pm.

package DoctorFaults::Stripe;

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use StripeStub;
use StripeSync;
use Test::More;

# Never to be seen in a finding.
use constant KEY => 'rk_test_doctor_0123456789_sEcReT';

# The names of endpoints that are made here; the apostrophe is to be quoted.
use constant ORDERS => q{or'ders};

my $number = 0;

sub stripe { return $_[0]{stripe}; }

sub conf
{
	my ($t) = @_;

	$t->{stripe} = StripeStub->start(tls_dir => $t->slack->tls(''));
	return $t->{stripe}->conf . "stripe_sync.stripe_rate = 100\n";
}

# An event as Stripe's endpoint sends it; what is given replaces that.
sub an_event
{
	my ($t, %fields) = @_;
	my $id = sprintf 'evt_doctor_%04d', ++$number;
	my $object = delete $fields{object} // { id => 'cus_doctor', object => 'customer' };

	$t->{version} //= $t->sql('SELECT stripe_sync.catalog_api_version()');
	return { id => $id, object => 'event', type => 'customer.updated', created => time, api_version => $t->{version},
		livemode => FALSE, pending_webhooks => 1, request => undef, data => { object => $object }, %fields };
}

# Deliver events to an endpoint; "with" is run before in the same session.
sub deliver
{
	my ($t, $endpoint, $events, $secret, $with) = @_;

	return $t->sql(join '', $with // '', map {
		my $payload = json_text($_);
		'SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload, $secret, time), $endpoint) . ");\n";
	} @$events);
}

# Run a hint with a signing secret in the place of its dots.
sub run_with_secret
{
	my ($t, $row) = @_;

	like($row->{hint}, qr/'whsec_\.\.\.'/, 'the hint leaves the secret out');
	$t->run_hint($row->{hint} =~ s/whsec_\.\.\./whsec_of_the_hint_sEcReT/r);
	return;
}

# Deliver one that is refused.
sub forge
{
	my ($t, $endpoint, $secret, %fields) = @_;
	my $payload = json_text(an_event($t, %fields));

	return $t->sql('SELECT http_status FROM stripe_sync.webhook(' . literal($payload)
		. q{, jsonb_build_object('stripe-signature', } . literal(signature($payload, $secret, time)) . '), ' . literal($endpoint) . ')');
}

# What was refused is written down once a minute, and when a session works.
sub written
{
	my ($t) = @_;

	$t->sql(q{CALL stripe_sync.work('10 s')});
	return;
}

sub run_job { my ($t, $call) = @_; return $t->psql("SELECT $call AS job \\gset\nCALL stripe_sync.wait_job(:job)", stderr => \my $ignored); }

sub read_endpoints
{
	my ($t) = @_;

	$t->eventually_true(q{SELECT read_at > now() - interval '1 s' AND NOT EXISTS (SELECT FROM stripe_sync.job_record
		WHERE kind = 'watch_endpoints' AND state IN ('waiting', 'running')) FROM stripe_sync.endpoint_watch},
		sub { $t->sql(q{UPDATE stripe_sync.endpoint_watch SET next_at = now() - interval '1 s'}); written($t) });
	return;
}

sub prepare
{
	my ($t) = @_;
	my $stripe = stripe($t);
	my $now = time;

	$t->sql('SET client_min_messages = warning; SELECT stripe_sync.add_endpoint(' . literals('default', SECRET) . ', livemode => false, tolerance => NULL),
		stripe_sync.add_endpoint(' . literals('billing', SECRET . 'b') . ', livemode => false, tolerance => NULL),
		stripe_sync.add_endpoint(' . literals(ORDERS, SECRET . 'o') . ', livemode => false, tolerance => NULL),
		stripe_sync.add_endpoint(' . literals('learned', SECRET . 'l') . ', tolerance => NULL),
		stripe_sync.set_api_key(' . literal(KEY) . ')');
	($t->{webhook_endpoint}) = $stripe->add_objects([ { object => 'webhook_endpoint', url => 'https://shop.example/stripe/webhook', status => 'enabled', livemode => FALSE,
		api_version => $t->sql('SELECT stripe_sync.catalog_api_version()'), enabled_events => ['*'] } ], quiet => 1);
	$t->{customers} = $stripe->fill('customer', 12, seed => 1, since => $now - 5, until => $now - 2, events => TRUE)->{ids};
	$stripe->change($_, { name => "Customer $_" }, at => $now - 1) for @{ $t->{customers} };
	my @events = $stripe->pending(limit => 100);

	deliver($t, 'default', \@events);
	deliver($t, 'billing', [ an_event($t, type => 'customer.created') ], SECRET . 'b');
	deliver($t, 'learned', [ an_event($t) ], SECRET . 'l');
	run_job($t, 'stripe_sync.reconcile()');
	read_endpoints($t);
	return;
}

# An endpoint that usually has an event every 20 minutes, and had none for hours
sub silence
{
	my ($t) = @_;

	$t->sql(q{INSERT INTO stripe_sync.pulse SELECT 'billing', now() - interval '3 hours' - d * interval '1 day', 60, '20 minutes',
			now() - interval '26 hours' - d * interval '1 day', now() - interval '3 hours' - d * interval '1 day' FROM generate_series(0, 9) d;
		DELETE FROM stripe_sync.pulse WHERE endpoint = 'billing' AND last_at > now() - interval '2 hours';
		UPDATE stripe_sync.event SET received_at = received_at - interval '4 hours' WHERE endpoint = 'billing';
		SELECT stripe_sync.silence_check()});
	return;
}

sub faults
{
	return (
		'stripe.endpoint_secret' => {
			break => sub { $_[0]->sql(q{DELETE FROM stripe_sync.endpoint_secret WHERE endpoint = 'billing'}) },
			status => 'fail', detail => qr/endpoint "billing" has no signing secret that can be used/,
			hint => qr/rotate_endpoint_secret\('billing', 'whsec_\.\.\.'\)/,
			mend => \&run_with_secret,
			after => sub { $_[0]->sql('SELECT stripe_sync.rotate_endpoint_secret(' . literals('billing', SECRET . 'b') . q{, '0 s')}) },
		},
		'stripe.silence' => {
			break => \&silence,
			status => 'fail', detail => qr/endpoint "billing" has received no event for 3 h, usually at most 20 min/,
			mend => sub { my ($t) = @_; deliver($t, 'billing', [ an_event($t) ], SECRET . 'b'); $t->sql('SELECT stripe_sync.silence_check()') },
			after => sub { $_[0]->sql(q{DELETE FROM stripe_sync.pulse WHERE endpoint = 'billing'}) },
		},
		'stripe.last_event' => {
			break => sub { $_[0]->sql(q{UPDATE stripe_sync.event SET received_at = received_at - interval '8 days'; DELETE FROM stripe_sync.pulse}) },
			status => 'warn', detail => qr/no event has been delivered for 8 days/,
			mend => sub { my ($t) = @_; deliver($t, 'default', [ an_event($t) ]) },
			after => sub { $_[0]->sql(q{UPDATE stripe_sync.event SET received_at = received_at + interval '8 days' WHERE received_at < now() - interval '7 days'}) },
		},
		'stripe.delivery_delay' => {
			break => sub { my ($t) = @_; deliver($t, 'billing', [ map { an_event($t, created => time - 300) } 1 .. 40 ], SECRET . 'b') },
			status => 'warn', detail => qr/delivered late: endpoint "billing": half within 30\d\.\d s, 95 % within 30\d\.\d s, all within 30\d\.\d s \(\d+ events\)/,
			mend => sub { $_[0]->sql(q{UPDATE stripe_sync.event SET received_at = received_at - interval '2 days' WHERE received_at - created > interval '4 min'}) },
		},
		'stripe.failed_events' => {
			# the cause is gone before the hint is run
			break => sub {
				my ($t) = @_;

				$t->sql(q{CREATE FUNCTION test.refuse(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF current_setting('test.works', true) IS NULL THEN RAISE division_by_zero USING MESSAGE = 'of Ada'; END IF; END $$;
					SELECT stripe_sync.add_handler('access', 'customer.deleted', 'test.refuse')});
				deliver($t, 'default', [ map { an_event($t, type => 'customer.deleted', object => { id => "cus_gone_$_", object => 'customer', deleted => TRUE }) } 1, 2 ], undef,
					"SET stripe_sync.max_attempts = 1;\n");
				$t->sql(q{CREATE OR REPLACE FUNCTION test.refuse(event jsonb) RETURNS void LANGUAGE sql AS 'SELECT'});
			},
			status => 'fail', detail => qr/^2 events are dead; most often step "access" of customer\.deleted, 22012 \(2 times, as evt_doctor_\d+\)$/,
			hint => qr/FROM stripe_sync\.replay\(timestamptz '.*'\)/,
			after => sub { $_[0]->sql(q{SELECT stripe_sync.drop_handler('access'); DROP FUNCTION test.refuse(jsonb)}) },
		},
		'stripe.refused_deliveries' => {
			break => sub { my ($t) = @_; forge($t, ORDERS, 'whsec_another') for 1 .. 3; written($t) },
			status => 'fail', detail => qr/endpoint "or'ders" refuses deliveries that look like Stripe's, the last \d+ s ago: SY002: /,
			hint => qr/rotate_endpoint_secret\('or''ders', 'whsec_\.\.\.'\)/,
			# and it is well when one is accepted
			mend => sub { my ($t, $row) = @_; run_with_secret($t, $row); deliver($t, ORDERS, [ an_event($t) ], 'whsec_of_the_hint_sEcReT') },
			after => sub { $_[0]->sql('SELECT stripe_sync.rotate_endpoint_secret(' . literals(ORDERS, SECRET . 'o') . q{, '0 s')}) },
		},
		'stripe.mode' => {
			break => sub { my ($t) = @_; deliver($t, 'learned', [ an_event($t, livemode => TRUE) ], SECRET . 'l') },
			status => 'fail', detail => qr/1 live event of the last day is stored and not applied, and no endpoint takes live events/,
			hint => qr/add_endpoint\('live', 'whsec_\.\.\.', livemode => true, account => 'live'\)/,
			mend => \&run_with_secret,
			# another account wants a key of its own
			after => sub { $_[0]->sql(q{SELECT stripe_sync.drop_endpoint('live'); DELETE FROM stripe_sync.event WHERE livemode}); written($_[0]); $_[0]->sql('UPDATE stripe_sync.refusal_watch SET live_at = NULL') },
		},
		'stripe.api_versions' => {
			break => sub { my ($t) = @_; deliver($t, 'billing', [ an_event($t, api_version => '2020-08-27') ], SECRET . 'b') },
			status => 'warn', detail => qr/endpoint "billing" receives 2020-08-27/,
			mend => sub { my ($t) = @_; deliver($t, 'billing', [ map { an_event($t) } 1 .. 10 ], SECRET . 'b') },
		},
		'stripe.unmirrored_types' => {
			break => sub { my ($t) = @_; $t->sql('DROP TABLE stripe.coupons'); deliver($t, 'default', [ an_event($t, type => 'coupon.created', object => { id => '10OFF', object => 'coupon' }) ]) },
			status => 'warn', detail => qr/1 event in the last day .* no table for: 'coupon'/,
			hint => qr/create_tables\(ARRAY\['coupon'\]\)/,
			after => sub { $_[0]->sql(q{DO $$ BEGIN EXECUTE format('ALTER TABLE stripe.coupons OWNER TO %I', (SELECT tableowner FROM pg_tables WHERE schemaname = 'stripe' AND tablename = 'customers')); END $$}) },
		},
		'stripe.mirror_drift' => {
			break => sub { my ($t) = @_; $t->sql(q{UPDATE stripe.customers SET name = 'Somebody else' WHERE id = } . literal($t->{customers}[0])) },
			status => 'fail', detail => qr/^1 object differs from the stored events, in \d+ comparisons: customer cus_\w+ \(name\) \(as of/,
			hint => qr/refetch/, nightly => 1,
		},
		'stripe.api_key' => {
			break => sub { my ($t) = @_; stripe($t)->keys(KEY() => 'revoked'); run_job($t, 'stripe_sync.reconcile()') },
			status => 'fail', detail => qr/the key is refused: Stripe answers 401: the key is not valid/,
			hint => qr/set_api_key\('rk_test_\.\.\.'\)/,
			after => sub { my ($t) = @_; stripe($t)->keys(KEY() => undef); $t->sql('SELECT stripe_sync.set_api_key(' . literal(KEY) . ')'); run_job($t, 'stripe_sync.reconcile()') },
		},
		'stripe.reconcile' => {
			break => sub { $_[0]->sql(q{UPDATE stripe_sync.reconcile_schedule SET next_at = now() + interval '14 min'; UPDATE stripe_sync.watermark SET at = at - interval '3 hours'}) },
			status => 'warn', detail => qr/Stripe's list of events was last compared 3 h ago/,
			hint => qr/reconcile\('2 days'\)/,
		},
		'stripe.reconcile_gap' => {
			break => sub { my ($t) = @_; stripe($t)->change($t->{customers}[1], { name => 'Unheard' }, at => time - 900); run_job($t, 'stripe_sync.reconcile()') },
			status => 'warn', detail => qr/^1 event, from evt_\w+ to evt_\w+ \(15 min ago\), were not delivered; job \d+ has stored them$/,
			hint => qr/reconcile\(\)/,
		},
		'stripe.webhook_endpoint' => {
			break => sub { my ($t) = @_; stripe($t)->change($t->{webhook_endpoint}, { status => 'disabled' }, quiet => 1); read_endpoints($t) },
			status => 'fail', detail => qr{https://shop\.example/stripe/webhook \(we_\w+\) is disabled at Stripe},
			mend => sub { my ($t) = @_; stripe($t)->change($t->{webhook_endpoint}, { status => 'enabled' }, quiet => 1); read_endpoints($t) },
		},
		'stripe.jobs' => {
			# Stripe permits it again before the hint is run
			break => sub {
				my ($t) = @_;

				stripe($t)->keys(KEY() => { deny => ['^/v1/coupons'] });
				run_job($t, q{stripe_sync.backfill(ARRAY['coupon'], '2026-01-01 00:00:00+00')});
				stripe($t)->keys(KEY() => undef);
			},
			status => 'warn', detail => qr/^1 job failed; the last is backfill, job \d+: /,
			hint => qr/^SELECT stripe_sync\.backfill\(ARRAY\['coupon'\], created_since => '2026-01-01T00:00:00\+00'\)$/,
		},
	);
}

1;
