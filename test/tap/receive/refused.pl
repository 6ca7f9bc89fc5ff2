# refusal.pl
#		Deliveries that are refused are counted in shared memory of a fixed size,
#		and written down by the worker; what was refused is brought in when
#		secret and mode are right.
#
# STRIPE_SYNC_CALLS is how many calls of webhook() eight sessions make at once;
# a million of them takes about half a minute.

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

use constant SESSIONS => 8;
use constant AT_ONCE  => 500;

my $calls = $ENV{STRIPE_SYNC_CALLS} // 40_000;
my $stripe = StripeStub->start;
my $node = make_reader('refusal', $stripe);

# What the worker does every minute, now.  Should it be at that itself, work() leaves
# it to it.
sub minute
{
	shop(q{CALL stripe_sync.work('10 seconds')});
	return $node->poll_query_until('shop', q{SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 3});
}

sub lines_of_log
{
	my $log = slurp_file($node->logfile);

	return scalar(() = $log =~ /LOG:  a delivery .*was refused/g);
}

# ---- random calls by many sessions ----

shop(q{SELECT stripe_sync.add_endpoint('default', 'SECRET', livemode => false, tolerance => NULL);
	SELECT stripe_sync.add_endpoint('other', 'whsec_other', livemode => false, tolerance => NULL);
	SELECT stripe_sync.add_endpoint('unreadable', 'file:/nonexistent/stripe_sync_secret');
	CREATE TABLE test.answer (code text, calls bigint);
	CREATE FUNCTION test.event(id text, livemode boolean) RETURNS text LANGUAGE sql AS $$
		SELECT jsonb_pretty(jsonb_build_object('id', id, 'object', 'event', 'type', 'customer.created', 'created', 1700000000,
			'livemode', livemode, 'data', '{"object": {"id": "cus_1", "object": "customer"}}'::jsonb)) $$;
	CREATE FUNCTION test.endpoint() RETURNS text LANGUAGE sql AS $$
		SELECT CASE floor(random() * 5)::int WHEN 0 THEN 'default' WHEN 1 THEN 'other' WHEN 2 THEN 'unreadable'
			WHEN 3 THEN md5(random()::text) ELSE repeat(md5(random()::text), 1 + floor(random() * 40)::int) END $$;
	CREATE FUNCTION test.payload() RETURNS text LANGUAGE sql AS $$
		SELECT CASE floor(random() * 5)::int WHEN 0 THEN '' WHEN 1 THEN md5(random()::text) WHEN 2 THEN '{"id": "' || md5(random()::text) || '"}'
			WHEN 3 THEN test.event('evt_' || md5(random()::text), random() < 0.5) ELSE test.event('evt_' || repeat(md5(random()::text), 30), true) END $$;
	-- only one that is signed rightly is accepted, and of those there are ten
	CREATE FUNCTION test.call_some(n int) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		body text; header text; answer record; live boolean;
		seen text[] := '{}';
	BEGIN
		FOR i IN 1 .. n LOOP
			body := test.payload();
			header := CASE floor(random() * 6)::int WHEN 0 THEN NULL WHEN 1 THEN md5(random()::text)
				WHEN 2 THEN 't=1700000000,v1=' || md5(random()::text) || md5(random()::text)
				WHEN 3 THEN stripe_sync.sign(body, 'whsec_other_' || random()) END;
			IF header IS NULL AND random() < 0.5 THEN
				live := random() < 0.3;
				body := CASE WHEN random() < 0.2 THEN '{"no": "event"}' ELSE test.event(CASE WHEN live THEN 'evt_live_' ELSE 'evt_' END || floor(random() * 10), live) END;
				header := stripe_sync.sign(body, CASE WHEN random() < 0.5 THEN 'whsec_other' ELSE 'SECRET' END);
			END IF;
			SELECT w.* INTO answer FROM stripe_sync.webhook(body, jsonb_build_object('Stripe-Signature', header, md5(random()::text), random()), test.endpoint()) w;
			seen := seen || coalesce(answer.body->>'code', 'accepted');
		END LOOP;
		INSERT INTO test.answer SELECT code, count(*) FROM unnest(seen) code GROUP BY code;
	END $$} =~ s/SECRET/@{[SECRET]}/gr);

# Name, rows and bytes of each table, and bytes of shared memory
sub sizes
{
	my %size = map { split /\|/, $_, 2 } split /\n/, shop(q{
		SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r' AND relnamespace IN ('stripe_sync'::regnamespace, 'stripe'::regnamespace)
		UNION ALL SELECT 'memory', sum(allocated_size) FROM pg_shmem_allocations
		UNION ALL SELECT 'events', count(*) FROM stripe_sync.event});
	return \%size;
}

# The first ones make the rows that there are to be.
shop('SELECT test.call_some(2000)');
shop("SELECT count(*) FROM generate_series(0, 9) i, test.event('evt_' || i, false) e (body), stripe_sync.webhook(body, jsonb_build_object('stripe-signature', stripe_sync.sign(body, '@{[SECRET]}')))");
minute();
my $before = sizes();
my $script = "$PostgreSQL::Test::Utils::tmp_check/calls.sql";
append_to_file($script, 'SELECT test.call_some(' . AT_ONCE . ");\n");
my $turns = int($calls / SESSIONS / AT_ONCE) || 1;
my $start = time;
$node->command_ok([ 'pgbench', '-n', '-c', SESSIONS, '-j', 2, '-t', $turns, '-f', $script, 'shop' ], 'eight sessions call webhook()');
note sprintf('%d calls in %.1f s', $turns * SESSIONS * AT_ONCE, time - $start);
is(shop('SELECT sum(calls) FROM test.answer'), 2000 + $turns * SESSIONS * AT_ONCE, 'all of them are answered');
my $expected = shop(q{SELECT code, sum(calls) FROM test.answer WHERE code <> 'accepted' GROUP BY 1 ORDER BY 1});
my $counted = q{SELECT code, sum(events) FROM stripe_sync.refusal GROUP BY 1 ORDER BY 1};
is(shop($counted), $expected, 'each that was refused is counted once');
like($expected, qr/SY001.*SY002.*SY004.*SY005.*SY006.*SY007/s, 'of every kind');
minute();
is(shop('SELECT count(*) FROM stripe_sync.refusals()'), 0, 'all is written down');
is(shop($counted), $expected, 'and says the same');
is(shop(q{SELECT string_agg(DISTINCT coalesce(endpoint, '-'), ' ') FROM stripe_sync.refusal}), '- default other unreadable', 'of the endpoints that there are, and one row for all other names');
cmp_ok(shop('SELECT count(*) FROM stripe_sync.refusal_record'), '<=', 4 * 8, 'which are few rows');
my $after = sizes();
is($after->{memory}, $before->{memory}, 'shared memory is as large as before');
is($after->{events}, $before->{events}, 'as many events are stored as before');
is(join(' ', grep { $after->{$_} != $before->{$_} && !/^refusal_/ } sort keys %$after), '', 'no other table has grown');
cmp_ok($after->{$_} - $before->{$_}, '<=', 32 * 1024, "$_ has not either, but for rows that it replaces") for qw(refusal_record refusal_watch);
cmp_ok(lines_of_log(), '<=', 4 * 8, 'the log has a line for each endpoint and reason');
is(shop(q{SELECT count(*) FROM stripe_sync.refusal WHERE last_detail ~ 'whsec|sEcReT' OR octet_length(last_detail) > 255}), 0, 'no secret is shown, and nothing is long');

# ---- the worker writes it down ----

my $forged = literals(json_text(event('evt_forged', 'customer.created', 1, { id => 'cus_1', object => 'customer' })));

# A forged delivery that looks like Stripe's: its status and code, and whether nothing
# was written.
sub forge { return shop("SELECT http_status, body->>'code', pg_current_xact_id_if_assigned() IS NULL FROM stripe_sync.webhook($forged, jsonb_build_object('stripe-signature', stripe_sync.sign($forged, 'whsec_forged')), " . literal($_[0] // 'default') . ')'); }

sub written { return shop(q{SELECT sum(events) FROM stripe_sync.refusal_record WHERE code = 'SY002' AND endpoint = 'default'}); }

my $known = written();
is(forge(), '400|SY002|t', 'a forged one is refused, which writes nothing');
eventually('and is seen at once', sub { shop(q{SELECT events FROM stripe_sync.refusal WHERE code = 'SY002' AND endpoint = 'default'}) == $known + 1 }, 10);
# (it looks at the minute's things when it starts)
shop(q{SELECT pg_terminate_backend(pid) FROM stripe_sync.worker WHERE database = 'shop'});
eventually('the worker writes it down by itself', sub { written() == $known + 1 });
$node->restart;
is(shop(q{SELECT events FROM stripe_sync.refusal WHERE code = 'SY002' AND endpoint = 'default'}), $known + 1, 'which a restart leaves');

# ---- what is told, and over ----

shop(q{SELECT stripe_sync.pause('slack'); SELECT stripe_sync.add_slack_webhook('ops', 'https://hooks.slack.com/services/T0/B0/tOkEn');
	TRUNCATE stripe_sync.refusal_record, stripe_sync.refusal_watch; SELECT stripe_sync.add_endpoint('quiet', 'whsec_quiet', tolerance => NULL);
	SELECT count(*) FROM stripe_sync.add_default_alerts('ops')});
my $quiet = literals(json_text(event('evt_quiet', 'product.created', 1, { id => 'prod_1', object => 'product' })));
my $good = "SELECT body->>'status' FROM stripe_sync.webhook($quiet, jsonb_build_object('stripe-signature', stripe_sync.sign($quiet, 'whsec_quiet')), 'quiet')";
sub incident { return shop(q{SELECT coalesce(string_agg(group_key || ' ' || state, ',' ORDER BY id), '') FROM stripe_sync.incident WHERE alert = 'deliveries_refused'}); }

is(shop($good), 'applied', 'one is accepted');
shop(q{UPDATE stripe_sync.event SET received_at = received_at - interval '2 hours' WHERE endpoint = 'quiet'});
forge('quiet') for 1 .. 2;
minute();
is(incident(), '', 'two that are refused are no news yet');
forge('quiet');
minute();
is(incident(), 'quiet open', 'three are');
forge('quiet') for 1 .. 3;
minute();
is(incident(), 'quiet open', 'once');
# nothing new is in the inbox: memory tells
is(shop($good), 'duplicate', 'a redelivery is accepted');
minute();
is(incident(), 'quiet closed', 'which ends it');
shop(q{UPDATE stripe_sync.refusal_watch SET told_at = told_at - interval '1 day'});
forge('quiet') for 1 .. 3;
minute();
is(incident(), 'quiet closed', 'a redelivery that was accepted within the hour speaks against it');

# ---- what was refused is brought in when it is right again ----

my $now = int time;
my @customers = map { "cus_refused_$_" } 1 .. 40;
my $old = $now - 30 * 86_400 + 3600;
$stripe->add_objects([ map { { object => 'customer', id => $customers[$_], created => $old + $_ * int((30 * 86_400 - 7200) / @customers) } } 0 .. $#customers ], events => TRUE);
my @events = $stripe->pending(limit => 1000);
is(scalar @events, scalar @customers, 'forty events of the last thirty days');

# By webhook; the answers, and how often each
sub by_webhook
{
	my ($secret, @those) = @_;
	my %answers;

	for my $event (@those)
	{
		my $payload = json_text($event);
		$answers{ shop("SELECT http_status || ' ' || (body->>'code') FROM stripe_sync.webhook(" . literal($payload)
			. ", jsonb_build_object('stripe-signature', " . literal(signature($payload, $secret)) . '))') }++;
	}
	return join ', ', map { "$_ x$answers{$_}" } sort keys %answers;
}

sub brought_in { return shop(q{SELECT count(*), count(*) FILTER (WHERE status = 'applied') FROM stripe_sync.event WHERE object_id LIKE 'cus\_refused\_%'}); }

is(by_webhook('whsec_not_yet_rotated', @events[ 0 .. 19 ]), '400 SY002 x20', 'half of them find another secret');
shop(q{UPDATE stripe_sync.endpoint SET livemode = true WHERE name = 'default'});
is(by_webhook(SECRET, @events[ 20 .. 39 ]), '200 SY006 x20', 'the others the wrong mode');
is(brought_in(), '0|0', 'nothing of them is stored');
is(shop(q{SELECT string_agg(code || ' ' || events, ',' ORDER BY code) FROM stripe_sync.refusal WHERE endpoint = 'default'}), 'SY002 20,SY006 20', 'and all of them are counted');
shop('SELECT stripe_sync.add_endpoint(' . literals('default', SECRET) . ', livemode => false, tolerance => NULL)');
over(shop(q{SELECT stripe_sync.reconcile('30 days')}), 'when it is right, reconcile', state => 'done', missing => 40, error => undef);
is_applied();
is(brought_in(), '40|40', 'brings in all of them');
shop(q{DELETE FROM stripe.customers WHERE id = 'cus_1'});
is(mirror_differs('customer', 'customers'), 0, 'and the mirror equals Stripe');

no_secret_in($node, 'shop', 'keys');
$node->stop;
done_testing();
