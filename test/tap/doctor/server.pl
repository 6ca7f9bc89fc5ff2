# server.pl
#		Each item of the area "postgres" about the server: ok, broken and found,
#		mended by its hint; and the other causes of those that have several.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DoctorFaults;
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $missing = DoctorFaults->missing;
plan skip_all => $missing if $missing;

my $t = DoctorFaults->start('doctor_server');

# ---- each item ----

$t->check_all('Server');

# ---- other causes ----

# It is found, and its hint, run as printed, ends it.
sub found_and_mended
{
	my ($what, $key, $status, $detail, $mend) = @_;
	my $row = $t->wait_for_status($key, $status);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($row->{status}, $status, "$what: $status");
	like($row->{detail}, $detail, "$what: says so");
	if ($mend) { $mend->($row->{hint}); }
	else       { $t->run_hint($row->{hint}); }
	is($t->wait_for_status($key, 'ok')->{status}, 'ok', "$what: ok again");
	return;
}

sub burn { DoctorFaults::Server::burn_xids($t, 5100); return; }
sub set_system { DoctorFaults::Server::set_system($t, $_[0]); return; }

# The horizon: the name of a prepared transaction may hold anything.
$t->sql(q{BEGIN; CREATE TABLE test.prepared (n int); PREPARE TRANSACTION E'it''s\n; DROP TABLE test.locked; --'});
burn();
found_and_mended('a prepared transaction', 'postgres.xmin_horizon', 'warn', qr/prepared transaction "it's\?; DROP TABLE/);
is($t->sql('SELECT count(*) FROM test.locked'), '0', 'its name is not run');

$t->sql(q{SELECT pg_create_logical_replication_slot('decoded', 'pgoutput')});
burn();
found_and_mended('a slot', 'postgres.xmin_horizon', 'warn', qr/replication slot "decoded" \(not in use\)/);

my $standby = PostgreSQL::Test::Cluster->new('doctor_server_feedback');
$t->node->backup('feedback');
$standby->init_from_backup($t->node, 'feedback', has_streaming => 1);
$standby->append_conf('postgresql.conf', 'hot_standby_feedback = on');
$standby->start;
my $query = DoctorFaults::Session->new($standby, 'shop', 'query');
$query->run('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$t->eventually_true('SELECT count(backend_xmin) = 1 FROM pg_stat_replication');
burn();
found_and_mended('a standby', 'postgres.xmin_horizon', 'warn', qr/the feedback of standby "doctor_server_feedback"/,
	sub { $standby->safe_psql('shop', $_[0]) });

# On the standby the server's items are known, those of the primary are not.
my $there = json_value($standby->safe_psql('shop', q{SELECT json_object_agg(key, status) FROM stripe_sync.doctor() WHERE key LIKE 'postgres.%'}));
is($there->{$_}, 'ok', "on a standby $_ is ok")
  for qw(postgres.replicas postgres.connections postgres.slots postgres.wal postgres.wraparound postgres.xmin_horizon postgres.timeouts postgres.durability);
isnt($there->{'postgres.worker'}, 'fail', 'and the lack of a worker is no fault');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
is($standby->safe_psql('shop', q{SELECT status || ': ' || hint FROM stripe_sync.doctor() WHERE key = 'postgres.replicas'}),
	'warn: SELECT pg_wal_replay_resume();', 'it says that its replay is paused');
$standby->stop('immediate');

# Locks
$t->sql(q{BEGIN; LOCK TABLE test.locked; PREPARE TRANSACTION 'blocks'});
my $waiter = DoctorFaults::Server::open_session($t, 'waiter');
$waiter->send('SELECT * FROM test.locked');
DoctorFaults::Server::report_age($t, '3s');
found_and_mended('a prepared transaction that blocks', 'postgres.blocked_locks', 'fail', qr/because of a prepared transaction/);
DoctorFaults::Server::report_age_as_before($t);

# Sending
set_system('SET stripe_sync.outbound = off');
found_and_mended('outbound off', 'postgres.outbound', 'warn', qr/stripe_sync\.outbound is off/);
$t->sql('UPDATE stripe_sync.identity SET database = 1');
found_and_mended('a copy', 'postgres.outbound', 'warn', qr/it is a copy/);

# A slot whose consumer can't go on
set_system(q{SET max_slot_wal_keep_size = '16MB'});
$t->sql(q{SELECT pg_create_physical_replication_slot('lost', true)});
DoctorFaults::Server::write_wal($t, 50);
$t->sql('CHECKPOINT');
found_and_mended('a lost slot', 'postgres.slots', 'fail', qr/^slot "lost" has lost WAL that its consumer needs/);
set_system('RESET max_slot_wal_keep_size');

# A disk that WAL fills is critical.
SKIP: {
	skip 'the disk cannot be preloaded', 5 unless $t->{disk};
	$t->disk_is(1_000_000);
	$t->wait_for_status('postgres.wal', 'fail');
	$t->look_again('postgres.wal') for 1 .. 2;
	is($t->sql(q{SELECT told FROM stripe_sync.finding WHERE key = 'postgres.wal'}), 'critical', 'a full disk is reported');
	found_and_mended('a full disk', 'postgres.wal', 'fail', qr/976 kB of its disk are free: the disk fills up$/, sub { $t->disk_is(undef) });
	$t->look_again('postgres.wal') for 1 .. 2;
	is($t->sql(q{SELECT string_agg(alert || ' ' || state, ', ') FROM stripe_sync.incident WHERE group_key = 'postgres.wal'}), 'doctor_critical closed', '... and its end');
}

# No archive: the hint needs a restart.
$t->sql('ALTER SYSTEM SET archive_mode = off');
$t->node->restart;
found_and_mended('no archive', 'postgres.archiving', 'warn', qr/^archive_mode is off/,
	sub { like($_[0], qr/^ALTER SYSTEM SET archive_mode = on;$/m, 'no archive: the hint'); $t->run_hint($_[0]); $t->node->restart });

# Statements that run, where those that have ended are not recorded
$t->sql('DROP EXTENSION pg_stat_statements');
like($t->rows->{'postgres.slow_queries'}{detail}, qr/^no statement on mirror or inbox has run for 60 s; .* pg_stat_statements is not installed$/, 'without pg_stat_statements it says what was looked at');
my $slow = DoctorFaults::Server::open_session($t, 'slow');
$slow->send(q{SELECT pg_sleep(600), 'hidden_literal' FROM stripe.customers});
DoctorFaults::Server::report_age($t, '500ms');
found_and_mended('a slow statement', 'postgres.slow_queries', 'warn', qr/^1 statement on mirror or inbox is slow; the one of process \d+ \(role \w+\) has run for/);
DoctorFaults::Server::report_age_as_before($t);

# Settings
set_system('SET fsync = off');
found_and_mended('fsync', 'postgres.durability', 'fail', qr/^fsync is off/);
set_system('SET synchronous_commit = off');
found_and_mended('synchronous_commit', 'postgres.durability', 'warn', qr/^synchronous_commit is off/);
$t->sql('ALTER DATABASE shop RESET ALL');
found_and_mended('all time-outs', 'postgres.timeouts', 'warn', qr/^not set: statement_timeout, lock_timeout, idle_in_transaction_session_timeout$/);

# Wraparound
$t->sql(q{UPDATE pg_database SET datminmxid = '3244967296'::xid WHERE datname = current_database()});
found_and_mended('multixacts', 'postgres.wraparound', 'fail', qr/1050 million of 2147 million multixacts/);

# Backups
$t->sql(q{UPDATE stripe_sync.backup_note SET at = at - interval '9 days' WHERE what = 'base backup'});
found_and_mended('an old backup', 'postgres.backup', 'warn', qr/was made 9 days ago/);

$t->node->stop;
done_testing();
