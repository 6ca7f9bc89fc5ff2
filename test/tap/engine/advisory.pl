# advisory.pl
#		Whoever may log in can take every advisory lock that SQL knows of, and
#		holds up no event, no alert and no set-up with that.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('advisory', conf => 'max_locks_per_transaction = 256');
make_database($node, 'shop');
$node->safe_psql('shop', q{
	CREATE ROLE nobody LOGIN;
	SELECT stripe_sync.add_slack_webhook('ops', 'https://hooks.slack.com/services/T1/B1/x');
	SELECT stripe_sync.add_alert('failed', 'charge.*', 'ops', 'A charge: {{id}}')});

# The statements of a transaction that takes each of our locks.
my $number = 0;
sub work
{
	$number++;
	my $charge = "ch_$_[0]";
	my @events = (
		event("evt_charge_$number", 'charge.refunded', $number, { id => $charge, object => 'charge',
			refunds => { object => 'list', has_more => FALSE, url => '/x', data => [ { id => "re_$_[0]", object => 'refund', charge => $charge } ] } }),
		event("evt_refund_$number", 'refund.created', $number, { id => "re_$_[0]", object => 'refund', charge => $charge }));

	return (
		(map { my $payload = json_text($_); 'SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload)) . ');' } @events),
		q{SELECT count(*) FROM stripe_sync.create_tables('{customer}');},
		q{SELECT stripe_sync.set_api_key('rk_test_1');});
}

# Which does it take?  Those that SQL can't are told by objsubid.
my $locks = $node->safe_psql('shop', join "\n", 'BEGIN;', work('1'),
	q{SELECT 'lock', classid, objid, objsubid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid(); ROLLBACK});
my @locks = $locks =~ /^lock\|(\d+\|\d+\|\d+)$/mg;
cmp_ok(scalar(@locks), '>=', 5, 'a refund, its charge, an alert, its destination, tables and a key: they are locked');
is(scalar(grep { !/\|3$/ } @locks), 0, 'by no lock that SQL can take');
is(scalar(grep { !/^@{[ $node->safe_psql('shop', q{SELECT oid FROM pg_extension WHERE extname = 'stripe_sync'}) ]}\|/ } @locks), 0, 'each names the extension');

# Nobody takes the same keys in either of the ways that SQL knows, and what the
# first version took.
my $nobody = $node->background_psql('shop', extra_params => [ '-U', 'nobody' ]);
$nobody->query_safe(q{SELECT count(pg_advisory_lock((SELECT oid::bigint::int FROM pg_class WHERE relname = 'event' AND relnamespace = 'stripe_sync'::regnamespace), k)) FROM generate_series(0, 1023) k});
$nobody->query_safe(q{SELECT pg_advisory_lock(hashtextextended('stripe_sync.create_tables', 0))});
for (@locks)
{
	my ($class, $object) = split /\|/;
	my $as_int = sub { return $_[0] >= 2**31 ? $_[0] - 2**32 : $_[0]; };

	$nobody->query_safe("SELECT pg_advisory_lock(@{[ $as_int->($class) ]}, @{[ $as_int->($object) ]})");
	$nobody->query_safe("SELECT pg_advisory_lock((('x' || lpad(to_hex(${class}::bigint), 8, '0') || lpad(to_hex(${object}::bigint), 8, '0'))::bit(64))::bigint)");
}
cmp_ok($node->safe_psql('shop', q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted}), '>=', 1025 + 2 * @locks, 'somebody without a right holds them all');

my ($ret, $out, $err) = $node->psql('shop', join "\n", q{SET lock_timeout = '20s';}, work('1'));
is($ret, 0, 'nothing waits for that');
like($out, qr/^applied\napplied\n1\n/, 'events are applied, tables made');
is($err, '', 'and nothing is said');
is($node->safe_psql('shop', 'SELECT count(*) > 0 FROM stripe_sync.incident'), 't', 'and alerts have told');
$nobody->quit;

# Ours do hold up ours: a child and its parent are one after the other.
my $first = $node->background_psql('shop');
$first->query_safe('BEGIN');
$first->query_safe((work('2'))[0]);
my $second = $node->background_psql('shop');
$second->query_safe(q{SET application_name = 'second'});
$second->query_until(qr/begun/, "\\echo begun\n" . (work('2'))[1] . "\n");
ok(wait_for_lock($node, 'shop', 'second', 'advisory'), 'a refund waits for its charge');
$first->query_safe('COMMIT');
$second->quit;
is($node->safe_psql('shop', q{SELECT _deleted_at IS NULL FROM stripe.refunds WHERE id = 're_2'}), 't', 'and is there');

$node->stop;
done_testing();
