# DoctorFaults/Server.pm
#		The faults of the items of the server: worker, sessions, locks,
#		replication, WAL, backups, settings.
#
# Sessions that only exist are opened by the protocol itself: Session below.

package DoctorFaults::Server;

use strict;
use warnings FATAL => 'all';

use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Small WAL and few transactions reach the limits that are derived from them.
sub conf
{
	return join "\n", 'fsync = on', 'full_page_writes = on', 'autovacuum = on', "autovacuum_naptime = '1h'",
	  'autovacuum_freeze_max_age = 100000', 'wal_level = logical', 'max_wal_senders = 5', 'max_replication_slots = 5', 'max_prepared_transactions = 5',
	  "min_wal_size = '32MB'", "max_wal_size = '32MB'", "wal_receiver_status_interval = '1s'",
	  'archive_mode = on', "archive_command = 'true'",
	  "shared_preload_libraries = 'stripe_sync, pg_stat_statements'", "pg_stat_statements.track = 'top'", '';
}

# What the production checklist says.
sub prepare
{
	my ($t) = @_;

	$t->sql(q{
		ALTER DATABASE shop SET statement_timeout = '5min';
		ALTER DATABASE shop SET lock_timeout = '30s';
		ALTER DATABASE shop SET idle_in_transaction_session_timeout = '5min';
		SELECT stripe_sync.note_backup(what => 'base backup'), stripe_sync.note_backup(what => 'restore tested');
		CREATE EXTENSION pg_stat_statements;
		CREATE TABLE test.locked (n int)});
	return;
}

# ---- what the faults share ----

sub open_session { my ($t, $name) = @_; return DoctorFaults::Session->new($t->node, $t->database, $name); }

sub write_wal
{
	my ($t, $megabytes) = @_;

	$t->sql("SELECT count(pg_logical_emit_message(false, 'test', repeat('x', 1000000))) FROM generate_series(1, $megabytes)");
	return;
}

# Each has a transaction ID of its own.
sub burn_xids
{
	my ($t, $count) = @_;

	$t->sql("DO \$\$ BEGIN FOR i IN 1 .. $count LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END \$\$");
	return;
}

sub set_system
{
	my ($t, $what) = @_;

	$t->sql("ALTER SYSTEM $what");
	$t->sql('SELECT pg_reload_conf()');
	return;
}

# Transactions of this age are reported in new sessions of the database.
sub report_age { my ($t, $age) = @_; $t->sql("ALTER DATABASE shop SET stripe_sync.doctor_transaction_age = '$age'"); return; }

sub report_age_as_before { $_[0]->sql('ALTER DATABASE shop RESET stripe_sync.doctor_transaction_age'); return; }

sub script_between
{
	my ($t) = @_;

	return $t->node->config_data('--sharedir') . '/extension/stripe_sync--0.0.1--' . $t->sql(q{SELECT default_version FROM pg_available_extensions WHERE name = 'stripe_sync'}) . '.sql';
}

# Also those that wait
sub end_sessions
{
	my ($t) = @_;
	my $sessions = delete $t->{sessions} // [];

	$t->sql('SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid IN (' . join(', ', map { $_->pid } @$sessions) . ')') if @$sessions;
	return;
}

# ---- the faults ----

sub faults
{
	return (of_worker(), of_sessions(), of_wal(), of_settings());
}

sub of_worker
{
	return (
		'postgres.worker' => {
			break => sub { $_[0]->sql('ALTER TABLE stripe_sync.destination_pace RENAME COLUMN next_at TO next; SELECT pg_notify(\'wake\', \'\')');
				$_[0]->sql('SELECT pg_reload_conf()') },
			status => 'fail',
			detail => qr/the worker fails/,
			hint => qr/^SELECT .* FROM stripe_sync\.journal/,
			mend => sub { my ($t, $row) = @_;
				$t->run_hint($row->{hint});
				like($t->sql($row->{hint}), qr/42703/, 'its hint shows why');
				$t->sql('ALTER TABLE stripe_sync.destination_pace RENAME COLUMN next TO next_at') } },
		'postgres.preload' => {
			break => sub { my ($t) = @_;
				$t->sql(q{ALTER SYSTEM SET shared_preload_libraries = 'auto_explain', 'pg_stat_statements'});
				$t->node->restart },
			status => 'warn',
			detail => qr/not in "shared_preload_libraries"/,
			hint => qr/^ALTER SYSTEM SET shared_preload_libraries = 'auto_explain', 'pg_stat_statements', 'stripe_sync';/,
			mend => sub { my ($t, $row) = @_; $t->run_hint($row->{hint}); $t->node->restart } },
		'postgres.outbound' => {
			break => sub { $_[0]->sql(q{SELECT stripe_sync.pause('slack')}) },
			status => 'warn',
			detail => qr/messages to Slack are paused/,
			hint => qr/^SELECT stripe_sync\.resume\('slack'\);$/ },
		'postgres.version' => {
			break => sub { my ($t) = @_;
				append_to_file(script_between($t), "SELECT;\n");
				$t->sql(q{UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'stripe_sync'}) },
			status => 'warn',
			detail => qr/of version 0\.0\.1, its library of/,
			hint => qr/^ALTER EXTENSION stripe_sync UPDATE;$/,
			after => sub { unlink script_between($_[0]) } },
	);
}

sub of_sessions
{
	return (
		'postgres.connections' => {
			break => sub { my ($t) = @_; $t->{sessions} = [ map { open_session($t, "idle $_") } 1 .. 39 ] },
			status => 'warn',
			detail => qr/^\d+ of 47 connections are used: .* idle/,
			hint => qr/^SELECT pg_terminate_backend\(pid\)/,
			after => \&end_sessions },
		# never a fault: what it sees is in its detail
		'postgres.pooler' => {
			break => sub { my ($t) = @_; $t->{sessions} = [ map { open_session($t, "PgBouncer $_") } 1, 1 ] },
			status => 'ok',
			detail => qr/^a pooler is in front: 2 sessions of "PgBouncer 1"$/,
			mend => \&end_sessions },
		'postgres.idle_in_transaction' => {
			break => sub { my ($t) = @_;
				my $session = open_session($t, 'forgetful');

				$session->run('BEGIN; SELECT 1');
				report_age($t, '300ms');
				$t->{sessions} = [$session] },
			status => 'warn',
			detail => qr/1 session idle in a transaction; the oldest, process \d+ \(role \w+, application forgetful\)/,
			hint => qr/^SELECT pg_terminate_backend\(\d+\);$/,
			after => sub { end_sessions($_[0]); report_age_as_before($_[0]) } },
		'postgres.long_transactions' => {
			break => sub { my ($t) = @_;
				my $session = open_session($t, 'report');

				$session->send('SELECT pg_sleep(600)');
				report_age($t, '100ms');
				$t->{sessions} = [$session] },
			status => 'warn',
			detail => qr/in a long transaction; .*report/,
			hint => qr/^SELECT pg_terminate_backend\(\d+\);$/,
			after => sub { end_sessions($_[0]); report_age_as_before($_[0]) } },
		'postgres.blocked_locks' => {
			break => sub { my ($t) = @_;
				my ($first, $second, $third) = map { open_session($t, $_) } qw(first second third);

				$first->send('BEGIN; LOCK TABLE test.locked; SELECT pg_sleep(600)');
				$t->eventually_true(q{SELECT count(*) = 1 FROM pg_locks WHERE relation = 'test.locked'::regclass AND granted});
				$_->send('SELECT * FROM test.locked') for $second, $third;
				report_age($t, '3s');
				$t->{blocker} = $first->pid;
				$t->{sessions} = [ $first, $second, $third ] },
			status => 'fail',
			detail => qr/2 sessions wait for a lock; .* because of process \d+/,
			hint => qr/^SELECT pg_terminate_backend\(\d+\);$/,
			mend => sub { my ($t, $row) = @_;
				like($row->{hint}, qr/\($t->{blocker}\)/, 'names the head of the queue');
				$t->run_hint($row->{hint});
				$_->wait_ready for @{ $t->{sessions} }[ 1, 2 ] },
			after => sub { end_sessions($_[0]); report_age_as_before($_[0]) } },
		'postgres.xmin_horizon' => {
			break => sub { my ($t) = @_;
				my $session = open_session($t, 'snapshot');

				$session->run('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
				$t->{sessions} = [$session];
				burn_xids($t, 5100) },
			status => 'warn',
			detail => qr/the session of process \d+/,
			hint => qr/^SELECT pg_terminate_backend\(\d+\);$/,
			after => \&end_sessions },
		'postgres.wraparound' => {
			break => sub { $_[0]->sql(q{UPDATE pg_database
				SET datfrozenxid = ((pg_current_xact_id()::text::bigint + 4294967296 - 1050000000) % 4294967296)::text::xid
				WHERE datname = current_database()}) },
			status => 'fail',
			detail => qr/database "shop" has used 1050 million of 2147 million transactions/,
			hint => qr/^VACUUM \(FREEZE\) \w+\.\w+;$/ },
		'postgres.slow_queries' => {
			break => sub { $_[0]->sql("DO 'BEGIN END';" . 'SELECT pg_sleep(0.11), count(*), \'hidden_literal\' FROM stripe.customers;' x 10) },
			status => 'warn',
			detail => qr/1 statement is slow; .* queryid -?\d+, 10 calls/,
			hint => qr/^SELECT .* FROM public\.pg_stat_statements WHERE queryid = -?\d+;$/,
			mend => sub { my ($t, $row) = @_;
				like($t->sql($row->{hint}), qr/stripe\.customers/, 'its hint shows the statement');
				unlike("$row->{detail} $row->{hint}", qr/stripe\.customers|pg_sleep/, 'which doctor() does not');
				my ($id) = $row->{hint} =~ /queryid = (-?\d+)/;
				$t->sql("SELECT pg_stat_statements_reset(queryid => $id)") } },
	);
}

sub of_wal
{
	return (
		'postgres.replicas' => {
			break => sub { my ($t) = @_;
				my $standby = PostgreSQL::Test::Cluster->new($t->node->name . '_standby');

				$t->node->backup('for_standby');
				$standby->init_from_backup($t->node, 'for_standby', has_streaming => 1);
				$standby->start;
				$t->{standby} = $standby;
				$t->node->wait_for_catchup($standby, 'replay', $t->node->lsn('insert'));
				$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
				write_wal($t, 10) },
			status => 'warn',
			detail => qr/1 replica; the last, "\w+" \(streaming\), is .* behind/,
			hint => qr/^-- on the standby "\w+"\nSELECT pg_wal_replay_resume\(\);$/,
			mend => sub { my ($t, $row) = @_; $t->{standby}->safe_psql('postgres', $row->{hint}) },
			after => sub { my ($t) = @_; (delete $t->{standby})->stop } },
		'postgres.slots' => {
			break => sub { my ($t) = @_;
				$t->sql(q{SELECT pg_create_physical_replication_slot('left_over', true)});
				write_wal($t, 10) },
			status => 'warn',
			detail => qr/slot "left_over" \(not in use, \w+\) keeps/,
			hint => qr/^SELECT pg_drop_replication_slot\('left_over'\);$/ },
		'postgres.wal' => {
			break => sub { my ($t) = @_;
				my $session = open_session($t, 'holder');

				$session->run(q{SELECT pg_create_physical_replication_slot('holder', true, true)});
				$t->{sessions} = [$session];
				write_wal($t, 100) },
			status => 'warn',
			detail => qr/^pg_wal has \d+ MB, max_wal_size is 32 MB.*something keeps WAL$/,
			hint => qr/^-- it uses replication slot "holder"\nSELECT pg_terminate_backend\(\d+, 5000\);\nCHECKPOINT;$/,
			after => \&end_sessions },
		'postgres.archiving' => {
			break => sub { my ($t) = @_;
				set_system($t, q{SET archive_command = 'false'});
				$t->sql(q{SELECT pg_switch_wal()}) },
			status => 'warn',
			detail => qr/^archiving failed \d+ s ago; 1 file waits/,
			mend => sub { my ($t) = @_;
				set_system($t, 'RESET archive_command');
				$t->sql(q{SELECT pg_logical_emit_message(false, 'test', ''); SELECT pg_switch_wal()}) } },
		'postgres.backup' => {
			break => sub { $_[0]->sql(q{DELETE FROM stripe_sync.backup_note WHERE what = 'base backup'}) },
			status => 'warn',
			detail => qr/no backup was ever recorded/,
			hint => qr/^SELECT stripe_sync\.note_backup\(/m },
		'postgres.restore_test' => {
			break => sub { $_[0]->sql(q{UPDATE stripe_sync.backup_note SET at = at - interval '100 days' WHERE what = 'restore tested'}) },
			status => 'warn',
			detail => qr/the last restore was tried 100 days ago/,
			hint => qr/^SELECT stripe_sync\.note_backup\(what => 'restore tested'\);$/m },
	);
}

sub of_settings
{
	return (
		'postgres.pending_restart' => {
			break => sub { set_system($_[0], 'SET max_files_per_process = 999') },
			status => 'warn',
			detail => qr/^1 setting waits for a restart: max_files_per_process$/,
			hint => qr/restart/,
			mend => sub { my ($t) = @_; set_system($t, 'RESET max_files_per_process'); $t->node->restart } },
		'postgres.timeouts' => {
			break => sub { $_[0]->sql('ALTER DATABASE shop RESET lock_timeout') },
			status => 'warn',
			detail => qr/^not set: lock_timeout$/,
			hint => qr/^ALTER DATABASE shop SET lock_timeout = '30s';$/ },
		'postgres.durability' => {
			break => sub { set_system($_[0], 'SET full_page_writes = off') },
			status => 'fail',
			detail => qr/^full_page_writes is off/,
			hint => qr/^ALTER SYSTEM SET full_page_writes = on;\nSELECT pg_reload_conf\(\);$/ },
		'postgres.checksums' => {
			break => sub { my ($t) = @_;
				$t->node->safe_psql('postgres', 'CREATE TABLE damaged AS SELECT 1 AS n; CHECKPOINT');
				my $file = $t->node->data_dir . '/' . $t->node->safe_psql('postgres', q{SELECT pg_relation_filepath('damaged')});

				my $sums = $t->node->safe_psql('postgres', 'SHOW data_checksums');

				$t->node->stop;
				command_ok([ 'pg_checksums', '--enable', '--no-sync', '-D', $t->node->data_dir ], 'checksums are on') if $sums eq 'off';
				open my $page, '+<:raw', $file or die "$file: $!\n";
				seek $page, 8000, 0;
				print $page "\xff\x00\xff";
				close $page;
				$t->node->start;
				$t->node->psql('postgres', 'SELECT * FROM damaged') },
			status => 'fail',
			detail => qr/^1 page was not what was written/,
			mend => sub { my ($t) = @_; $t->node->safe_psql('postgres', 'DROP TABLE damaged; SELECT pg_stat_reset()') } },
		'postgres.autovacuum' => {
			break => sub { set_system($_[0], 'SET autovacuum = off') },
			status => 'fail',
			detail => qr/^autovacuum is off/,
			hint => qr/^ALTER SYSTEM SET autovacuum = on;\nSELECT pg_reload_conf\(\);$/ },
	);
}

# ---- a session ----

package DoctorFaults::Session;

use strict;
use warnings FATAL => 'all';

use IO::Socket::UNIX;

sub new
{
	my ($class, $node, $database, $name) = @_;
	my $socket = IO::Socket::UNIX->new(Peer => $node->host . '/.s.PGSQL.' . $node->port) or die "cannot connect: $!\n";
	my $self = bless { socket => $socket }, $class;
	my $start = pack 'N (Z*Z*)3 x', 196608, user => $ENV{PGUSER} // scalar getpwuid($<), database => $database, application_name => $name;

	$socket->autoflush(1);
	print $socket pack('N', 4 + length $start), $start;
	$self->wait_ready;
	return $self;
}

sub pid { return $_[0]{pid}; }

# Until it is ready for the next statement; dies of an error.
sub wait_ready
{
	my ($self) = @_;
	my $type = '';

	while ($type ne 'Z')
	{
		$self->_read(5) =~ /(.)(.{4})/s or die;
		$type = $1;
		my $body = $self->_read(unpack('N', $2) - 4);

		$self->{pid} = unpack 'N', $body if $type eq 'K';
		die "session: $body\n" if $type eq 'E';
	}
	return;
}

sub _read
{
	my ($self, $length) = @_;
	my $bytes = '';

	while (length $bytes < $length)
	{
		read $self->{socket}, $bytes, $length - length $bytes, length $bytes or die "session: its server has ended it\n";
	}
	return $bytes;
}

sub send
{
	my ($self, $sql) = @_;
	my $socket = $self->{socket};

	print $socket pack('a N Z*', 'Q', 5 + length $sql, $sql);
	return;
}

sub run { my ($self, $sql) = @_; $self->send($sql); $self->wait_ready; return; }

1;
