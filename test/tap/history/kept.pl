# kept.pl
#		What history() and as_of() say of pruned events: on a standby, to a reader,
#		after a dump and restore, under another account; and what they cost.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('kept', allows_streaming => 1);
make_database($node, 'shop');

sub shop { return $node->safe_psql('shop', $_[0]); }

sub receive
{
	my ($id, $type, $second, $object, %rest) = @_;
	my $payload = json_text(event($id, $type, $second, $object, %rest));

	return shop('SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload)) . ')');
}

sub subscription
{
	my ($quantity, $status) = @_;

	return { id => 'sub_1', object => 'subscription', customer => 'cus_1', status => $status,
		items => { object => 'list', has_more => FALSE, data => [ { id => 'si_1', object => 'subscription_item', subscription => 'sub_1', quantity => $quantity } ] } };
}

# ---- three states, all pruned ----

receive('evt_1', 'customer.subscription.created', 0, subscription(1, 'active'));
receive('evt_2', 'customer.subscription.updated', 100, subscription(5, 'active'));
receive('evt_3', 'customer.subscription.deleted', 200, subscription(5, 'canceled'));
my $questions = q{
	SELECT round(extract(epoch FROM at)) - } . T0 . q{, event_id, field, old, new FROM stripe_sync.history('subscription', 'sub_1', '%1$s') WHERE field = 'status';
	SELECT round(extract(epoch FROM at)) - } . T0 . q{, field, old, new FROM stripe_sync.history('subscription_item', 'si_1', '%1$s') WHERE field = 'quantity';
	SELECT s, a.object_id, a.object->>'status', a.known FROM unnest('{-1,50,150,250}'::int[]) s, stripe_sync.as_of('subscription', to_timestamp(} . T0 . q{ + s), '%1$s') a ORDER BY s;
	SELECT s, a.object_id, a.object->>'quantity', a.known FROM unnest('{50,150}'::int[]) s, stripe_sync.as_of('subscription_item', to_timestamp(} . T0 . q{ + s), '%1$s') a ORDER BY s;
};
my $before = shop(sprintf $questions, '');

like($before, qr/50\|sub_1\|active\|t\n150\|sub_1\|active\|t\n250\|sub_1\|canceled\|t\n50\|si_1\|1\|t\n150\|si_1\|5\|t$/, 'all states are known');
shop(q{UPDATE stripe_sync.event SET received_at = now() - interval '100 days'});
is(shop('SELECT stripe_sync.prune()'), '3', 'all events are pruned');
is(shop(sprintf $questions, ''), $before, 'and the answers are the same');

# ---- who may ask, and where ----

shop(q{CREATE ROLE reader; CREATE ROLE stranger; SELECT stripe_sync.grant_read('reader')});
is(shop("SET ROLE reader;" . sprintf($questions, '')), $before, 'a reader gets them');
my ($ret, $out, $err) = $node->psql('shop', q{SET ROLE stranger; SELECT * FROM stripe_sync.history('subscription', 'sub_1')});
like($err, qr/permission denied/, 'a role without rights does not');

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('kept_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
is($standby->safe_psql('shop', sprintf $questions, ''), $before, 'a standby answers');
is($standby->safe_psql('shop', q{SELECT stripe_sync.trace_text('sub_1') LIKE '%subscription sub_1%'}), 't', 'and traces');
$standby->stop('immediate');

# ---- dump and restore ----

my $dump = PostgreSQL::Test::Utils::tempdir() . '/shop.sql';
$node->command_ok([ 'pg_dump', '-d', $node->connstr('shop'), '-f', $dump ], 'the database is dumped');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', $dump ], 'and restored');
is($node->safe_psql('restored', sprintf $questions, ''), $before, 'the copy answers the same');

# ---- two prunings ----

my $first = $node->background_psql('shop', on_error_stop => 1);
$first->query_safe('BEGIN');
$first->query_safe('SELECT stripe_sync.prune()');
my $second = $node->background_psql('shop', on_error_stop => 1);
$second->query_safe(q{SET application_name = 'second'});
$second->query_until(qr/begun/, "\\echo begun\nSELECT stripe_sync.prune();\n");
ok(wait_for_lock($node, 'shop', 'second'), 'a second pruning waits');
$first->query_safe('COMMIT');
$first->quit;
$second->quit;
is(shop(sprintf $questions, ''), $before, 'nothing is kept twice');

# ---- another account ----

shop(q{SELECT stripe_sync.move_account('', 'acct_1')});
is(shop(sprintf $questions, 'acct_1'), $before, 'moved to another account, the history is there');
is(shop(q{SELECT count(*) FROM stripe_sync.history('subscription', 'sub_1')}), '0', 'and no longer here');

# ---- what it costs ----

use constant OBJECTS => 20_000;

shop(q{INSERT INTO stripe_sync.event (id, account, type, endpoint, livemode, api_version, object_type, object_id, created, received_at, source, status, mirrored, todo, attempts, applied_at, payload)
	SELECT 'evt_many_' || n, 'acct_1', 'customer.created', 'default', false, '2024-06-20', 'customer', 'cus_' || n, t.at, t.at, 'webhook', 'applied', 'applied', '{}', 1, t.at,
		json_build_object('id', 'evt_many_' || n, 'object', 'event', 'type', 'customer.created', 'created', extract(epoch FROM t.at)::bigint, 'data',
			json_build_object('object', json_build_object('id', 'cus_' || n, 'object', 'customer', 'description', repeat('x', 2000))))
	FROM generate_series(1, } . OBJECTS . q{) n, LATERAL (SELECT date_trunc('second', now()) - interval '1 hour' AS at) t; ANALYZE stripe_sync.event});
my $cost = shop(q{
	CREATE FUNCTION pg_temp.peak() RETURNS bigint LANGUAGE sql AS $$ SELECT substring(pg_read_file('/proc/' || pg_backend_pid() || '/status') FROM 'VmPeak:\s+(\d+)')::bigint $$;
	SELECT pg_temp.peak() AS before \gset
	SELECT count(*) || ' ' || count(*) FILTER (WHERE known) FROM (SELECT * FROM stripe_sync.as_of('customer', now()) OFFSET 0) a;
	SELECT pg_temp.peak() - :before < 65536;
});
is($cost, OBJECTS . ' ' . OBJECTS . "\nt", 'objects are read one by one, within 64 MB');
done_testing;
