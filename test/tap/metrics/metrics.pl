# metrics.pl
#		The counters are exactly right, whatever becomes of transactions and
#		sessions; they outlive a clean restart, and begin at zero after a crash.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use IPC::Run;
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('metrics', allows_streaming => 1,
	conf => PRELOAD . "max_prepared_transactions = 5\nlog_min_messages = log\nrestart_after_crash = on\nstripe_sync.outbound = off\nstripe_sync.doctor_interval = 0");

sub shop { return $node->safe_psql('shop', $_[0]); }

sub value_at
{
	my ($at, $name, %labels) = @_;
	my $value = $at->safe_psql('shop', "SELECT value FROM stripe_sync.activity WHERE name = '$name' AND labels @> "
		. literal(json_text(\%labels)));

	return $value eq '' ? 0 : $value;
}

sub value { return value_at($node, @_); }
sub events { return value('events_total', endpoint => $_[1] // 'default', status => $_[0]); }

# All counters that are not zero; of the histogram only the count
sub counted
{
	return shop(q{SELECT said FROM (SELECT name || coalesce(' ' || string_agg(v, ' ' ORDER BY k), '') || ' ' || value AS said FROM stripe_sync.activity a LEFT JOIN jsonb_each_text(labels) l (k, v) ON true
		WHERE type <> 'gauge' AND value <> 0 AND name !~ '(_bucket|_sum)$' GROUP BY name, labels, value) c ORDER BY said COLLATE "C"});
}

sub make_shop
{
	my ($database) = @_;

	make_database($node, $database);
	$node->safe_psql($database, q{
		CREATE FUNCTION test.event(id text, created int, type text DEFAULT 'customer.created', object text DEFAULT 'customer') RETURNS text LANGUAGE sql AS $$
			SELECT json_build_object('id', id, 'object', 'event', 'type', type, 'created', 1700000000 + created, 'livemode', false, 'api_version', '2026-10-28.endive',
				'data', json_build_object('object', json_build_object('id', split_part(id, '.', 2), 'object', object, 'name', id)))::text $$;
		CREATE FUNCTION test.send(id text, created int, type text DEFAULT 'customer.created', object text DEFAULT 'customer') RETURNS text LANGUAGE sql AS $$
			SELECT r.status FROM stripe_sync.receive(test.event(id, created, type, object), stripe_sync.sign(test.event(id, created, type, object), 'SECRET')) r $$;
	} =~ s/SECRET/@{[SECRET]}/r);
	return;
}

make_shop('shop');
my $since = shop('SELECT DISTINCT stats_reset FROM stripe_sync.activity WHERE stats_reset IS NOT NULL');

# ---- each outcome, once or more ----

is(counted(), '', 'nothing is counted at first');
is(shop(q{SELECT test.send('evt_1.cus_1', 10); SELECT test.send('evt_2.cus_2', 10); SELECT test.send('evt_3.cus_1', 20, 'customer.updated');
	SELECT test.send('evt_1.cus_1', 10); SELECT test.send('evt_1.cus_1', 10); SELECT test.send('evt_4.cus_1', 15, 'customer.updated'); SELECT test.send('evt_5.x_1', 10, 'x.y', 'nonsense')}),
	join("\n", qw(applied applied applied duplicate duplicate stale ignored)), 'seven deliveries');
$node->psql('shop', q{SELECT * FROM stripe_sync.receive('{}', 't=1,v1=00')});
shop(q{SELECT stripe_sync.webhook('{}', '{}'), stripe_sync.webhook('{}', '{}', 'no_such')});
is(counted(), join("\n", 'events_total (none) refused 1', map({ "events_total default $_" } 'applied 3', 'duplicate 2', 'ignored 1', 'refused 2', 'stale 1'), 'receive_duration_seconds_count 7'),
	'each outcome is counted; a refusal although its statement raised an error');
is(shop(q{SELECT max(value) FILTER (WHERE labels->>'le' = '+Inf') - max(value) FILTER (WHERE name ~ '_count$'), max(value) FILTER (WHERE name ~ '_sum$') BETWEEN 0.0001 AND 60,
	bool_and(value >= before) FROM (SELECT *, lag(value) OVER () AS before FROM stripe_sync.activity WHERE name ~ '^receive_duration') h WHERE name !~ '(_sum|_count)$' OR before IS NOT NULL})
	=~ s/\|[tf]$//r, '0|t', 'the histogram adds up');

# ---- rolled back ----

shop(q{BEGIN; SELECT test.send('evt_r1.cus_r', 10); ROLLBACK;
	BEGIN; SAVEPOINT a; SELECT test.send('evt_r2.cus_r', 10); SAVEPOINT b; SELECT test.send('evt_r3.cus_r', 10); RELEASE b; ROLLBACK TO a; SELECT test.send('evt_6.cus_6', 10);
	SAVEPOINT c; SELECT test.send('evt_7.cus_7', 10); RELEASE c; COMMIT;
	DO $$ BEGIN BEGIN PERFORM test.send('evt_r4.cus_r', 10); RAISE 'undone'; EXCEPTION WHEN raise_exception THEN NULL; END; PERFORM test.send('evt_8.cus_8', 10); END $$});
is(events('applied'), 6, 'what was rolled back, with its savepoint or transaction, is not counted');
shop(q{BEGIN; SELECT stripe_sync.reset_activity(); ROLLBACK});
is(events('applied'), 6, 'nor is a reset that was rolled back done');

# ---- handlers, and errors that end receive() ----

shop(q{CREATE FUNCTION test.fails(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
	CREATE FUNCTION test.sleeps(event jsonb) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(60) $$;
	CREATE FUNCTION test.again(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM test.send('evt_inner.cus_inner', 10); END $$;
	SELECT stripe_sync.add_handler('fails', 'x.fails', 'test.fails'), stripe_sync.add_handler('sleeps', 'x.sleeps', 'test.sleeps'), stripe_sync.add_handler('again', 'x.again', 'test.again')});
is(shop(q{SELECT test.send('evt_f.x_f', 10, 'x.fails', 'x'); SELECT test.send('evt_a.x_a', 10, 'x.again', 'x')}), "failed\nignored", 'a handler fails; one calls receive()');
my $errors = events('error');
my ($status, undef, $stderr) = $node->psql('shop', q{SET statement_timeout = '200ms'; SELECT test.send('evt_s.x_s', 10, 'x.sleeps', 'x')});
like($stderr, qr/57014|statement timeout/, 'receive() ends in an error');
is(events('error'), $errors + 1, '... which is counted at once');
$node->psql('shop', q{SET statement_timeout = '200ms'; DO $$ BEGIN BEGIN PERFORM test.send('evt_s.x_s', 10, 'x.sleeps', 'x'); EXCEPTION WHEN query_canceled THEN NULL; END; END $$});
is(events('error'), $errors + 2, '... also when its savepoint is rolled back');
is(join(' ', map { events($_) } qw(applied ignored failed)), '7 2 1', 'and nothing else of those');
is(value('handler_runs_total', handler => 'again', outcome => 'succeeded') . value('handler_runs_total', handler => 'fails', outcome => 'succeeded'), '10', 'runs of handlers');
cmp_ok(value('handler_runs_total', handler => 'fails', outcome => 'failed'), '>=', 1, '... that failed');
$node->poll_query_until('shop', q{SELECT value >= 1 FROM stripe_sync.activity WHERE name = 'event_runs_total' AND labels->>'outcome' = 'failed'}) or die;
pass('the worker tries again, which is counted');
shop(q{SELECT stripe_sync.drop_handler(h) FROM unnest('{fails,sleeps,again}'::text[]) h});

# ---- messages, alerts, jobs ----

shop(q{SELECT stripe_sync.add_slack_webhook('ops', 'https://hooks.slack.com/services/T0/B0/x'), stripe_sync.notify('ops', 'one', key => 'k'), stripe_sync.notify('ops', 'two', key => 'k');
	SELECT stripe_sync.add_alert('new', 'customer.created', 'ops', 'New', closed_by => 'customer.deleted'), stripe_sync.set_api_key('rk_test_0123456789abcdefghij')});
shop(q{SELECT test.send('evt_9.cus_9', 10); SELECT test.send('evt_10.cus_9', 20, 'customer.deleted')});
my $job = shop(q{SELECT stripe_sync.refetch('customer', 'cus_1')});
shop("SELECT stripe_sync.cancel_job($job)");
is(join(' ', value('messages_queued_total', destination => 'ops') >= 2, map({ value('incidents_total', alert => 'new', change => $_) } qw(opened closed)),
	map({ value('jobs_total', kind => 'refetch', state => $_) } qw(created cancelled))), '1 1 1 1 1', 'messages queued, incidents, jobs');
is(value('messages_waiting', destination => 'ops') . value('destination_enabled', destination => 'ops') . value('outbound_allowed', to => 'slack'), '310', 'and what waits, and why');

# ---- incidents that no event closes ----

sub closed { return value('incidents_total', alert => $_[0], change => 'closed'); }

shop(q{SELECT stripe_sync.add_slack_webhook('two', 'https://hooks.slack.com/services/T0/B0/y');
	SELECT stripe_sync.add_alert('grouped', 'customer.created', 'ops', 'New', closed_by => 'customer.deleted', group_by => '$.id'),
		stripe_sync.add_alert('dropped', 'customer.created', 'two', 'New', closed_by => 'customer.deleted'),
		stripe_sync.add_alert('window', 'customer.created', 'ops', 'New', coalesce_for => '1 millisecond')});
shop(q{SELECT test.send('evt_11.cus_11', 10)});
shop(q{SELECT stripe_sync.drop_alert('dropped'); SELECT stripe_sync.drop_destination('two')});
shop(q{SELECT stripe_sync.add_alert('grouped', 'customer.created', 'ops', 'New', closed_by => 'customer.deleted', group_by => '$.name')});
is(closed('dropped') . closed('grouped'), '11', 'dropping a destination, and another group_by, close incidents, which is counted');
shop(q{CALL stripe_sync.work('1 second')});
is(closed('window'), 1, 'the worker closes one at the end of its window');
shop(q{SELECT test.send('evt_12.cus_12', 10); SELECT pg_sleep(0.01); SELECT test.send('evt_13.cus_12', 20)});
is(closed('window'), 2, '... and so does the next event');
shop(q{SELECT stripe_sync.drop_alert(a) FROM unnest('{grouped,window}'::text[]) a;
	UPDATE stripe_sync.incident_record SET window_until = now() WHERE state = 'open' AND alert IN ('grouped', 'window')});
shop(q{CALL stripe_sync.work('1 second')});
is(join(' ', map { value('incidents_total', alert => $_, change => 'opened') - closed($_) } qw(grouped dropped window)), '0 0 0', 'whatever closes an incident is counted');

# ---- prepared transactions ----

my $before = events('applied');
shop(q{BEGIN; SELECT test.send('evt_p1.cus_p', 10); SAVEPOINT a; SELECT test.send('evt_p2.cus_p', 20, 'customer.updated'); ROLLBACK TO a; PREPARE TRANSACTION 'one'});
shop(q{BEGIN; SELECT test.send('evt_p3.cus_p3', 10); PREPARE TRANSACTION 'two'});
is(events('applied'), $before, 'a prepared transaction is not counted');
shop(q{COMMIT PREPARED 'one'});
is(events('applied'), $before + 1, 'it is when it commits, in another session');
shop(q{ROLLBACK PREPARED 'two'});
is(events('applied'), $before + 1, 'and not when it rolls back');
$node->psql('shop', q{COMMIT PREPARED 'two'});
is(events('applied'), $before + 1, 'nor when there is none');
shop(q{BEGIN; SELECT test.send('evt_p4.cus_p4', 10); PREPARE TRANSACTION 'later'});

# ---- many sessions at once ----

sub at_once
{
	my ($sessions, $sql) = @_;
	my @runs;

	for my $i (1 .. $sessions)
	{
		my $file = PostgreSQL::Test::Utils::tempdir() . '/statements';
		my $out = '';

		append_to_file($file, $sql =~ s/SESSION/$i/gr);
		push @runs, [ IPC::Run::start([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', $file, $node->connstr('shop') ], '>&', \$out), \$out ];
	}
	for (@runs)
	{
		IPC::Run::finish($_->[0]);
		my $said = ${ $_->[1] };
		diag $said if $said =~ /ERROR/;
	}
	return;
}

my ($applied, $duplicate, $durations) = (events('applied'), events('duplicate'), value('receive_duration_seconds_count'));
at_once(4, join '', map { "SELECT test.send('evt_m$_.SESSION.cus_m', $_), test.send('evt_same$_.cus_s$_', 1);\n" } 1 .. 25);
is(join(' ', events('applied') + events('stale') + events('duplicate') + events('failed') - $applied - $duplicate - 1 - 1, value('receive_duration_seconds_count') - $durations), '200 200',
	'four sessions: each delivery is counted once');
is(events('duplicate') - $duplicate, 75, '... and each event applied once');

# ---- a clean restart, and crashes ----

sub wait_for_worker { return $node->poll_query_until('shop', q{SELECT value = 1 FROM stripe_sync.activity WHERE name = 'worker_running'}); }

my $kept = counted();
ok(length $kept > 200, 'there is something to keep');
$node->restart;
is(join("\n", grep { !/event_runs_total|handler_runs_total/ } split /\n/, counted()), join("\n", grep { !/event_runs_total|handler_runs_total/ } split /\n/, $kept), 'the counters outlive a clean restart');
is(shop('SELECT DISTINCT stats_reset FROM stripe_sync.activity WHERE stats_reset IS NOT NULL'), $since, '... and so does stats_reset');
$before = events('applied');
shop(q{COMMIT PREPARED 'later'});
is(events('applied'), $before + 1, '... and the counts of a prepared transaction');

# ---- resets, other databases, names for which there is no room ----

make_shop('other');
is($node->safe_psql('other', q{SELECT test.send('evt_o.cus_o', 1)}), 'applied', 'another database');
is(events('applied'), $before + 1, '... counts for itself');
shop(q{SELECT stripe_sync.reset_activity()});
is(join('|', counted(), shop(q{SELECT what, by FROM stripe_sync.journal WHERE what = 'activity.reset'})), '|activity.reset|' . shop('SELECT current_user'), 'a reset sets all to zero, and is in the journal');
isnt(shop('SELECT DISTINCT stats_reset FROM stripe_sync.activity WHERE stats_reset IS NOT NULL'), $since, '... and stats_reset to its time');
is($node->safe_psql('other', q{SELECT value FROM stripe_sync.activity WHERE name = 'events_total' AND labels->>'status' = 'applied'}), '1', '... of this database alone');

shop(q{SELECT stripe_sync.add_endpoint('endpoint_' || i, 'whsec_' || i, account => 'a' || i) FROM generate_series(1, 60) i;
	SELECT count(stripe_sync.webhook('{}', '{}', 'endpoint_' || i)) FROM generate_series(1, 60) i});
is(shop(q{SELECT count(*) || ' ' || sum(value) || ' ' || max(value) FILTER (WHERE labels->>'endpoint' = '(others)') FROM stripe_sync.activity WHERE name = 'events_total' AND labels->>'status' = 'refused'}),
	'49 60 12', 'more names than there is room for are counted as (others)');
is(shop(q{SELECT count(stripe_sync.webhook('{}', '{}', 'invented ' || i)) FROM generate_series(1, 20) i;
	SELECT string_agg(labels->>'endpoint', '') FROM stripe_sync.activity WHERE name = 'events_total' AND labels->>'endpoint' ~ 'invented'}), "20\n", 'no client can add names');

# ---- dropped ----

# OIDs of the databases in the entries, as the shutdown has written them
sub databases_in_file
{
	my $file = $node->data_dir . '/pg_stat/';

	$node->stop;
	$file .= -e "${file}stripe_sync_counters.stat" ? 'stripe_sync_counters.stat' : 'pgstat.stat';
	my $bytes = slurp_file($file);
	my $at = index($bytes, pack('L', 0x53434f31));
	my (undef, $used) = unpack('LL', substr($bytes, $at, 8));
	my %found = map { $_ => 1 } map { unpack('L', substr($bytes, $at + 24 + 216 * $_, 4)) } 0 .. $used - 1;

	$node->start;
	return %found;
}

my $oid = $node->safe_psql('other', 'SELECT oid FROM pg_database WHERE datname = current_database()');
my %found = databases_in_file();
ok($found{$oid}, 'the entries of a database');
$node->safe_psql('postgres', 'DROP DATABASE other');
%found = databases_in_file();
ok(!$found{$oid} && %found, '... are freed when it is dropped');
shop(q{BEGIN; DROP EXTENSION stripe_sync CASCADE; ROLLBACK});
cmp_ok(events('refused', '(others)'), '==', 12, 'DROP EXTENSION that is rolled back changes nothing');

# ---- a standby ----

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$standby->safe_psql('shop', q{SELECT stripe_sync.webhook('{}', '{}')});
is(join(' ', map({ value_at($standby, $_) } qw(in_recovery worker_running counters_available)), value_at($standby, 'events_total', endpoint => 'default', status => 'refused')), '1 0 1 1',
	'a standby has counters of its own');
like($standby->safe_psql('shop', 'SELECT stripe_sync.metrics()'), qr/^stripe_sync_messages_waiting\{destination="ops"\} \d+$/m, '... and shows what waits');
$standby->stop('immediate');

# ---- crashes ----

sub is_zero
{
	my ($name) = @_;

	return is(counted() =~ s/^(?:event_runs_total|jobs_total|api_requests_total).*\n?//mgr, '', $name);
}

shop(q{SELECT test.send('evt_c1.cus_c', 10)});
my $session = IPC::Run::start([ 'psql', '-XqAt', '-c', 'SELECT pg_sleep(60)', $node->connstr('shop') ], '>', '/dev/null', '2>', '/dev/null');
$node->poll_query_until('shop', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'}) or die;
my $pid = shop(q{SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'});
my $crashed_at = shop('SELECT clock_timestamp()');
my $log_at = -s $node->logfile;
kill 'KILL', $pid;
IPC::Run::finish($session);
for (1 .. 1000)
{
	last if slurp_file($node->logfile, $log_at) =~ /all server processes terminated; reinitializing/ && system_log('pg_isready', '-q', '-d', $node->connstr('postgres')) == 0;
	select(undef, undef, undef, 0.1);
}
is_zero('after a crash of a session the counters begin at zero');
is(shop("SELECT bool_and(stats_reset > '$crashed_at') FROM stripe_sync.activity WHERE stats_reset IS NOT NULL"), 't', '... and stats_reset says since when');

shop(q{SELECT test.send('evt_c2.cus_c2', 10)});
$node->stop('immediate');
$node->start;
is_zero('after an immediate shutdown, too');

# ---- a file that is damaged ----

SKIP:
{
	shop(q{SELECT test.send('evt_d.cus_d', 10)});
	$node->stop;
	my $file = $node->data_dir . '/pg_stat/stripe_sync_counters.stat';
	skip 'the server keeps the counters itself', 4 unless -e $file;

	my $bytes = slurp_file($file);
	my %damaged = (
		'of another length' => substr($bytes, 0, -1), 'longer' => "${bytes}x", empty => '', 'with a bit flipped' => substr($bytes, 0, 5000) . ~substr($bytes, 5000, 1) . substr($bytes, 5001));
	for my $how (sort keys %damaged)
	{
		open my $to, '>:raw', $file or die "$file: $!";
		print $to $damaged{$how};
		close $to;
		my $log = -s $node->logfile;
		$node->start;
		ok(events('applied') == 0 && slurp_file($node->logfile, $log) =~ /LOG: +ignoring file "[^"]*stripe_sync_counters/ && !-e $file, "a file that is $how is ignored, logged and removed");
		$node->stop;
	}
}

# ---- another extension has taken the number of the statistics ----

SKIP:
{
	skip 'modules cannot add statistics to this server', 3 if $node->pg_version < 18;
	my $other = PostgreSQL::Test::Utils::tempdir() . '/other';
	append_to_file("$other.c", q{
#include "postgres.h"
#include "fmgr.h"
#include "utils/pgstat_internal.h"
PG_MODULE_MAGIC;
static void nothing(void *memory) {}
static void none(TimestampTz at) {}
static void no_snapshot(void) {}
static const PgStat_KindInfo kind = {.name = "other", .fixed_amount = true, .shared_size = 8, .shared_data_len = 8,
	.init_shmem_cb = nothing, .reset_all_cb = none, .snapshot_cb = no_snapshot};
void _PG_init(void) { pgstat_register_kind(31, &kind); }
});
	chomp(my $include = qx("$ENV{PG_CONFIG}" --includedir-server));
	system_or_bail('gcc', '-shared', '-fPIC', '-I', $include, '-o', "$other.so", "$other.c");
	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$other.so, stripe_sync'");
	my $log = -s $node->logfile;
	$node->start;
	like(slurp_file($node->logfile, $log), qr/LOG: +the counters of stripe_sync are kept in a file: "other" has taken number 31/, 'the log says who has the number');
	shop(q{SELECT test.send('evt_t.cus_t', 10)});
	is(events('applied'), 1, '... it is counted all the same');
	$node->restart;
	is(events('applied'), 1, '... also over a clean restart');
}
done_testing();
