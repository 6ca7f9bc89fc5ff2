# worker.pl
#		The launcher keeps a worker in every database that has the extension,
#		and both are good citizens of their server.
#
# What a worker does there is the business of other tests.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use StripeSync;

use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# ---- looking ----

sub workers
{
	my ($node) = @_;

	return $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'stripe_sync worker'});
}

sub worker_comes
{
	my ($node, $database, $what, $other_than) = @_;

	eventually($what, sub {
		my $pid = worker_pid($node, $database);
		return $pid ne '' && $pid ne ($other_than // '');
	});
	return worker_pid($node, $database);
}

sub worker_goes
{
	my ($node, $database, $what) = @_;

	return eventually($what, sub { worker_pid($node, $database) eq '' });
}

# It is through with what its start brings, and asleep.
sub worker_sleeps
{
	my ($node, $database) = @_;

	return $node->poll_query_until($database, qq{SELECT count(*) = 1 FROM stripe_sync.worker
		WHERE database = '$database' AND state = 'sleeping'});
}

# Seconds that something takes.  Whoever waited for the worker's next look around
# would take a minute.
use constant SOON => 20;

sub timed
{
	my ($code) = @_;
	my $start = time;

	$code->();
	return time - $start;
}

sub is_gone { return !kill(0, $_[0]); }

# ---- coming and going with the extension ----

my $node = start_node('worker', allows_streaming => 1,
	conf => PRELOAD . "max_prepared_transactions = 5\nmax_worker_processes = 12\nlog_min_messages = info\n");
$node->safe_psql('postgres', 'CREATE DATABASE one');
is(workers($node), '0', 'where no database has the extension there is no worker');

make_database($node, 'two');
my $pid = worker_comes($node, 'two', 'CREATE EXTENSION brings a worker');
worker_sleeps($node, 'two');
is($node->safe_psql('two', q{SELECT count(*) FROM stripe_sync.worker WHERE database IS NULL AND pid IS NOT NULL}), '1', 'the view shows the launcher');
is($node->safe_psql('two', q{SELECT pid, state, since IS NOT NULL FROM stripe_sync.worker WHERE database = 'two'}), "$pid|sleeping|t", 'and the worker');
is($node->safe_psql('two', qq{SELECT application_name, xact_start IS NULL, backend_xmin IS NULL FROM pg_stat_activity WHERE pid = $pid}),
	'stripe_sync worker|t|t', 'which holds no transaction open while it sleeps');

$node->restart;
worker_comes($node, 'two', 'a start finds the databases that have the extension');
is(worker_pid($node, 'one'), '', 'and leaves the others alone');
worker_sleeps($node, 'two');

$pid = worker_pid($node, 'two');
$node->safe_psql('two', 'BEGIN; DROP EXTENSION stripe_sync; ROLLBACK');
worker_comes($node, 'two', 'after a DROP EXTENSION that is rolled back it is there again');
worker_sleeps($node, 'two');
$node->safe_psql('two', q{SELECT pg_terminate_backend(pid) FROM stripe_sync.worker WHERE database = 'two'});
ok($node->poll_query_until('two', q{SELECT count(*) = 1 FROM stripe_sync.journal WHERE what = 'worker.left' AND detail = 'it was terminated by a signal'}), 'the journal knows of one that was ended');
is($node->safe_psql('two', q{SELECT string_agg(concat_ws(' ', what, by, count > 1), ', ' ORDER BY what) FROM stripe_sync.journal WHERE what LIKE 'worker.%'}),
	'worker.left worker t, worker.started worker t', 'and that it left and came');
$node->safe_psql('two', q{ALTER TABLE stripe_sync.destination_pace RENAME blocked_until TO hidden; SELECT stripe_sync.resume()});
ok($node->poll_query_until('two', q{SELECT count(*) = 1 AND max(count) > 1 AND bool_and(ref = '42703' AND detail LIKE '%blocked_until%') FROM stripe_sync.journal WHERE what = 'worker.failed'}),
	'and that it fails, again and again: one row');
$node->safe_psql('two', q{ALTER TABLE stripe_sync.destination_pace RENAME hidden TO blocked_until});
worker_sleeps($node, 'two');
cmp_ok(timed(sub { $node->safe_psql('two', 'SET client_min_messages = warning; DROP EXTENSION stripe_sync CASCADE; DROP SCHEMA stripe CASCADE') }), '<', SOON, 'DROP EXTENSION waits for nobody');
worker_goes($node, 'two', 'DROP EXTENSION takes the worker away');
$node->safe_psql('two', 'CREATE EXTENSION stripe_sync');
worker_comes($node, 'two', 'CREATE EXTENSION brings it back');

$node->safe_psql('one', 'BEGIN; CREATE EXTENSION stripe_sync; ROLLBACK');
is(worker_pid($node, 'one'), '', 'CREATE EXTENSION that is rolled back brings none');
$node->safe_psql('one', q{BEGIN; CREATE EXTENSION stripe_sync; PREPARE TRANSACTION 'later'});
is(worker_pid($node, 'one'), '', 'nor one that is prepared');
$node->safe_psql('one', q{COMMIT PREPARED 'later'});
worker_comes($node, 'one', 'COMMIT PREPARED brings it');
worker_sleeps($node, 'one');
$node->safe_psql('one', q{SET client_min_messages = warning; DROP SCHEMA stripe_sync CASCADE});
worker_goes($node, 'one', 'a schema dropped with the extension in it takes the worker away');
$node->safe_psql('one', q{CREATE EXTENSION stripe_sync});
worker_comes($node, 'one', 'and it comes back');

# ---- what needs a database for itself ----

$node->safe_psql('postgres', q{CREATE ROLE meddler LOGIN; CREATE ROLE maker LOGIN CREATEDB; CREATE ROLE owner LOGIN CREATEDB});
worker_sleeps($node, 'one');
$pid = worker_pid($node, 'one');
for my $role (qw(meddler maker))
{
	for my $statement ('DROP DATABASE one', 'DROP DATABASE one WITH (FORCE)', 'CREATE DATABASE copy TEMPLATE one', 'ALTER DATABASE one RENAME TO uno',
		'ALTER DATABASE one SET TABLESPACE pg_default')
	{
		my ($ret, $out, $err) = $node->psql('postgres', $statement, extra_params => [ '-U', $role ]);

		like($err, qr/permission denied|must be owner/, "$role may not: $statement");
	}
	my ($ret, $out, $err) = $node->psql('one', 'DROP EXTENSION stripe_sync', extra_params => [ '-U', $role ]);
	like($err, qr/must be owner/, "$role may not drop the extension");
}
is(worker_pid($node, 'one'), $pid, 'who lacks the right cannot make the worker leave');

cmp_ok(timed(sub { $node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE one') }), '<', SOON, 'CREATE DATABASE ... TEMPLATE just works');
$pid = worker_comes($node, 'one', 'and the worker comes back', $pid);
worker_comes($node, 'copy', 'the copy has one too');
cmp_ok(timed(sub { $node->safe_psql('postgres', 'ALTER DATABASE copy RENAME TO renamed') }), '<', SOON, 'ALTER DATABASE ... RENAME just works');
worker_comes($node, 'renamed', 'and the worker is there under the new name');
$node->safe_psql('postgres', 'BEGIN; ALTER DATABASE renamed RENAME TO again; ALTER DATABASE again RENAME TO renamed; COMMIT');
worker_comes($node, 'renamed', 'renaming twice in a transaction works as well');
my $space = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', "CREATE TABLESPACE space LOCATION '$space'");
cmp_ok(timed(sub { $node->safe_psql('postgres', 'ALTER DATABASE renamed SET TABLESPACE space') }), '<', SOON, 'ALTER DATABASE ... SET TABLESPACE just works');
worker_comes($node, 'renamed', 'and the worker comes back');
$node->safe_psql('postgres', 'ALTER DATABASE renamed SET TABLESPACE pg_default; ALTER DATABASE renamed OWNER TO owner');
worker_comes($node, 'renamed', 'once more');
$node->safe_psql('postgres', 'DROP TABLESPACE space');
cmp_ok(timed(sub { $node->safe_psql('postgres', 'DROP DATABASE renamed WITH (FORCE)', extra_params => [ '-U', 'owner' ]) }), '<', SOON, 'its owner drops it with force');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE one');
worker_comes($node, 'copy', 'another copy has a worker');
cmp_ok(timed(sub { $node->safe_psql('postgres', 'DROP DATABASE copy') }), '<', SOON, 'DROP DATABASE just works');
is(worker_pid($node, 'copy'), '', 'and its worker is gone');

# A database that others use is refused, and its worker is there again.
my $user = $node->background_psql('one');
$user->query_safe('SELECT 1');
my ($ret, $out, $err) = $node->psql('postgres', 'DROP DATABASE one');
like($err, qr/being accessed by other users/, 'a database in use is refused as ever');
$user->quit;
worker_comes($node, 'one', 'and its worker comes back');

# Probing must not be in the way of template1, the usual template.
$node->safe_psql('postgres', join('', map { "CREATE DATABASE quick$_;\n" } 1 .. 5));
pass('databases are made one after the other');
$node->safe_psql('postgres', join('', map { "DROP DATABASE quick$_;\n" } 1 .. 5));
pass('and dropped');

$node->safe_psql('postgres', 'ALTER DATABASE one ALLOW_CONNECTIONS false');
worker_goes($node, 'one', 'where nobody may connect there is no worker');
$node->safe_psql('postgres', 'ALTER DATABASE one ALLOW_CONNECTIONS true');
worker_comes($node, 'one', 'and again when one may');

# ---- signals ----

worker_sleeps($node, 'one');
# as if it had crashed it would wait twice as long each time
for (1 .. 7)
{
	$pid = worker_pid($node, 'one');
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	my $took = eventually("terminated, it is restarted ($_)", sub { my $new = worker_pid($node, 'one'); $new ne '' && $new ne $pid });
	cmp_ok($took, '<', SOON, 'at once');
}
my $launcher = $node->safe_psql('one', 'SELECT pid FROM stripe_sync.worker WHERE database IS NULL');
$pid = worker_pid($node, 'one');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($launcher)");
eventually('the launcher is restarted too', sub { ($node->safe_psql('one', 'SELECT pid FROM stripe_sync.worker WHERE database IS NULL') || $launcher) ne $launcher });
is(worker_pid($node, 'one'), $pid, 'and takes over the worker that runs');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
worker_comes($node, 'one', 'and restarts it', $pid);
worker_sleeps($node, 'one');
$pid = worker_pid($node, 'one');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
is($node->safe_psql('one', 'SELECT 1'), '1', 'a cancel is nothing');
is(worker_pid($node, 'one'), $pid, 'to it');

$node->append_conf('postgresql.conf', 'stripe_sync.outbound = off');
$node->reload;
$node->poll_query_until('one', q{SELECT state LIKE 'off%' FROM stripe_sync.worker WHERE database = 'one'});
pass('SIGHUP reaches it: off');
$node->append_conf('postgresql.conf', 'stripe_sync.outbound = on');
$node->reload;
worker_sleeps($node, 'one');
is(worker_pid($node, 'one'), $pid, 'and on again, the same process');
$node->safe_psql('one', 'SELECT stripe_sync.pause()');
$node->poll_query_until('one', q{SELECT state = 'paused' FROM stripe_sync.worker WHERE database = 'one'});
$node->safe_psql('one', q{SELECT stripe_sync.resume('stripe')});
$node->poll_query_until('one', q{SELECT state = 'paused: slack' FROM stripe_sync.worker WHERE database = 'one'});
$node->safe_psql('one', q{SELECT stripe_sync.resume()});
worker_sleeps($node, 'one');
pass('a commit wakes it: paused, and resumed');

# ---- idle ----

$launcher = $node->safe_psql('one', 'SELECT pid FROM stripe_sync.worker WHERE database IS NULL');
# Ticks of both in five seconds.  Once a minute each looks around, which may fall
# into them, so the best of a few is taken.
sub ticks_of_idleness
{
	my @before = map { ticks($_) } $pid, $launcher;
	my $until = time + 5;

	select(undef, undef, undef, $until - time) while time < $until;    # what is measured is time itself
	return (ticks($pid) - $before[0], ticks($launcher) - $before[1]);
}

my @used = ticks_of_idleness();
for (1 .. 2)
{
	last if $used[0] <= 1 && $used[1] <= 1;
	my @again = ticks_of_idleness();
	@used = map { $again[$_] < $used[$_] ? $again[$_] : $used[$_] } 0, 1;
}
cmp_ok($used[0], '<=', 1, 'an idle worker uses no processor');
cmp_ok($used[1], '<=', 1, 'nor does the launcher');

# ---- a standby ----

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is($standby->safe_psql('one', 'SELECT database, pid, state FROM stripe_sync.worker'), 'one||none: this server is a standby', 'a standby has neither launcher nor worker, and says so');
is(workers($standby), '0', 'none');
$standby->promote;
worker_comes($standby, 'one', 'promoted, it has');
$standby->poll_query_until('one', q{SELECT state IN ('sleeping', 'working') FROM stripe_sync.worker WHERE database = 'one'});
unlike($standby->safe_psql('one', q{SELECT state FROM stripe_sync.worker WHERE database = 'one'}), qr/inactive/, 'and it is active');
cmp_ok(timed(sub { $standby->stop('fast') }), '<', SOON, 'it stops');

# ---- stopping ----

worker_sleeps($node, 'one');
$pid = worker_pid($node, 'one');
my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
my $log = -s $node->logfile;
# a checkpoint beforehand, so that it isn't that which is timed
$node->safe_psql('postgres', 'CHECKPOINT');
kill('INT', $postmaster);
my $took = eventually('a fast stop', sub { is_gone($pid) });
cmp_ok($took, '<', SOON, 'takes the worker no time');
eventually('and the server stops', sub { is_gone($postmaster) });
$node->_update_pid(0);
unlike(slurp_file($node->logfile, $log), qr/terminating background worker|PANIC|TRAP|was terminated by signal/, 'nobody complains of it in the log');
$node->start;
worker_comes($node, 'one', 'started again, it has its worker');

$pid = worker_pid($node, 'one');
$node->stop('immediate');
ok(is_gone($pid), 'an immediate stop ends it');
$node->start;
$pid = worker_comes($node, 'one', 'and after recovery there is another');
$launcher = $node->safe_psql('one', 'SELECT pid FROM stripe_sync.worker WHERE database IS NULL');
kill_server($node);
eventually('when the postmaster dies the worker goes', sub { is_gone($pid) });
eventually('and the launcher', sub { is_gone($launcher) });
$node->start;
worker_comes($node, 'one', 'and it starts again');
$pid = worker_pid($node, 'one');
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->reload;
kill('KILL', $pid);
# the server takes connections until it has noticed, and then for a while none
eventually('a worker that is killed comes back with the server', sub {
	my ($ret, $out) = $node->psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'stripe_sync worker' AND datname = 'one'});
	return $ret == 0 && $out ne '' && $out ne $pid;
});

# ---- more databases than workers ----

$log = -s $node->logfile;
$node->append_conf('postgresql.conf', 'max_worker_processes = 4');
$node->restart;
$node->safe_psql('postgres', join('', map { "CREATE DATABASE crowd$_ TEMPLATE one;\n" } 1 .. 6));
my %served;
eventually('with more databases than workers every one is served in its turn', sub {
	$served{$_}++ for split /\n/, $node->safe_psql('postgres', q{SELECT datname FROM pg_stat_activity WHERE backend_type = 'stripe_sync worker'});
	return (grep { /^crowd/ } keys %served) == 6 && $served{one} && $served{two};
});
cmp_ok(workers($node), '<=', 2, 'never more at once than there are');
eventually('the view tells who waits', sub { $node->safe_psql('one', q{SELECT count(*) FROM stripe_sync.worker WHERE state = 'waiting' AND pid IS NULL}) >= 5 });
my @said = slurp_file($node->logfile, $log) =~ /(not enough background workers are available)/g;
is(scalar @said, 1, 'the log says so once');
for my $n (1 .. 6)
{
	# whoever has something to do gets a worker
	$node->safe_psql("crowd$n", "SELECT stripe_sync.pause()");
	eventually("a commit in crowd$n is noticed", sub {
		$node->safe_psql("crowd$n", "SELECT count(*) FROM stripe_sync.worker WHERE database = 'crowd$n' AND state <> 'waiting'") == 1 });
}
$node->safe_psql('postgres', join('', map { "DROP DATABASE crowd$_;\n" } 1 .. 6));
worker_comes($node, 'one', 'when the crowd is gone each has its worker');
worker_comes($node, 'two', 'each');

# ---- without preload ----

$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->restart;
is($node->safe_psql('one', 'SELECT database, pid, state FROM stripe_sync.worker'), 'one||none: stripe_sync is not in "shared_preload_libraries"', 'without preload the view says why there is none');
$node->safe_psql('one', 'SELECT stripe_sync.pause(); SELECT stripe_sync.resume()');
$node->safe_psql('postgres', 'DROP DATABASE one');
pass('and the rest works');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP/, 'no crash but the one that was asked for');
$node->stop;
done_testing();
