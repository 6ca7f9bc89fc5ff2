# guard.pl
#		A copy of a database, however it was made, sends nothing until somebody
#		says that it may; the original goes on.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use constant PRELOAD => "shared_preload_libraries = 'stripe_sync'\nlog_min_messages = log\n";

# What the view says of a database's worker, once it has settled.
sub state_of
{
	my ($node, $database) = @_;

	my $state = '';

	# in one look: by the next it may be at work again
	for (1 .. 1800)
	{
		$state = $node->safe_psql($database, qq{SELECT state FROM stripe_sync.worker
			WHERE database = '$database' AND pid IS NOT NULL AND state NOT IN ('starting', 'working', 'waiting', 'leaving')});
		last if $state ne '';
		select undef, undef, undef, 0.1;
	}
	return $state;
}

sub becomes
{
	my ($node, $database, $state, $what) = @_;

	ok($node->poll_query_until($database, qq{SELECT count(*) = 1 FROM stripe_sync.worker
		WHERE database = '$database' AND state = '$state'}), $what);
	return;
}

# The standard error of a statement that succeeds.
sub said
{
	my ($node, $database, $sql) = @_;
	my ($ret, $out, $err) = $node->psql($database, $sql);

	is($ret, 0, "succeeds: $sql");
	return $err;
}

my $endpoint = "SELECT stripe_sync.add_endpoint('default', '@{[SECRET]}', tolerance => NULL)";

# ---- the original ----

my $node = start_node('guard', allows_streaming => 1, conf => PRELOAD);
make_database($node, 'original');
is(state_of($node, 'original'), 'sleeping', 'what was set up here is active');
is($node->safe_psql('original', q{SELECT count(*), bool_and(database = (SELECT oid FROM pg_database WHERE datname = current_database())
	AND system_identifier = (SELECT system_identifier FROM pg_control_system())) FROM stripe_sync.identity}),
	'1|t', 'the first set-up call notes server and database');
unlike(said($node, 'original', $endpoint), qr/WARNING/, 'the next says nothing');
is($node->safe_psql('original', 'SELECT count(*) FROM stripe_sync.identity'), '1', 'and notes nothing');
like(said($node, 'original', 'SELECT stripe_sync.activate()'), qr/NOTICE: .*may send/, 'activate() here is harmless');
is(state_of($node, 'original'), 'sleeping', 'and changes nothing');

$node->safe_psql('postgres', 'CREATE DATABASE empty');
$node->safe_psql('empty', 'CREATE EXTENSION stripe_sync');
is(state_of($node, 'empty'), 'sleeping', 'where nothing was set up there is nothing to send');
is($node->safe_psql('empty', 'SELECT count(*) FROM stripe_sync.identity'), '0', 'the install script notes nothing');

# ---- what opens it is not in the log ----

# Whatever ends a call that was given a secret, and comes from elsewhere.
$node->safe_psql('original', q{SELECT stripe_sync.add_slack_channel('held', '#c', 'xoxb-1'), stripe_sync.add_slack_webhook('hooked', 'https://hooks.slack.com/services/T1/B1/x')});
my $holder = $node->background_psql('original');
$holder->query_safe('BEGIN; SELECT FROM stripe_sync.destination_pace FOR UPDATE; SELECT FROM stripe_sync.endpoint FOR UPDATE');
my %told = (
	add_slack_channel      => [ q{'held', '#c', '%s'}, 'xoxb-NeverLogged' ],
	add_slack_webhook      => [ q{'hooked', '%s'}, 'https://hooks.slack.com/services/T1/B1/NeverLogged' ],
	add_endpoint           => [ q{'default', '%s'}, 'whsec_NeverLogged' ],
	rotate_endpoint_secret => [ q{'default', '%s'}, 'whsec_NeverLogged' ]);
for my $function (sort keys %told)
{
	my ($arguments, $secret) = @{ $told{$function} };
	my $call = "stripe_sync.$function(" . sprintf($arguments, $secret) . ')';

	for my $sql ("SELECT $call", "DO \$\$ BEGIN PERFORM $call; END \$\$")
	{
		my $log = -s $node->logfile;
		my ($ret) = $node->psql('original', "SET lock_timeout = '1s'; SET log_min_messages = warning; SET log_lock_waits = on; SET deadlock_timeout = '10ms'; $sql");

		isnt($ret, 0, "$function waits in vain: $sql");
		my $said = slurp_file($node->logfile, $log);
		like($said, qr/LOG: .*still waiting.*ERROR: .*lock timeout/s, 'which the log says');
		unlike($said, qr/NeverLogged/, 'without the secret');
	}
}
$holder->quit;

# ---- a copy by TEMPLATE ----

$node->safe_psql('postgres', 'CREATE DATABASE twin TEMPLATE original');
is(state_of($node, 'twin'), 'inactive: a copy', 'a template copy is inactive');
is(state_of($node, 'original'), 'sleeping', 'its original is not');
like(said($node, 'twin', $endpoint), qr/WARNING: .*copy.*\n.*HINT: .*activate\(\)/, 'a set-up call in it warns and says what to do');
is(state_of($node, 'twin'), 'inactive: a copy', 'and does not activate');
like(said($node, 'twin', 'CALL stripe_sync.work()'), qr/WARNING: .*copy.*\n.*HINT: .*activate\(\)/, 'work() in it says why nothing is sent');
unlike(said($node, 'original', 'CALL stripe_sync.work()'), qr/WARNING/, 'and in the original nothing');
$node->restart;
is(state_of($node, 'twin'), 'inactive: a copy', 'nor does a restart');
like(slurp_file($node->logfile), qr/sends nothing from database "twin": it is a copy/, 'the log says so');
$node->safe_psql('twin', 'BEGIN; SELECT stripe_sync.activate(); ROLLBACK');
is(state_of($node, 'twin'), 'inactive: a copy', 'nor an activate() that is rolled back');
$node->safe_psql('twin', 'SELECT stripe_sync.activate()');
becomes($node, 'twin', 'sleeping', 'activate() does');
is(state_of($node, 'original'), 'sleeping', 'the original is as it was');
$node->safe_psql('postgres', 'ALTER DATABASE twin RENAME TO renamed');
is(state_of($node, 'renamed'), 'sleeping', 'a rename is no copy');

# ---- dump and restore ----

my $dump = PostgreSQL::Test::Utils::tempdir() . '/original.dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('original') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('restored'), $dump ], 'pg_restore');
becomes($node, 'restored', 'inactive: a copy', 'what is restored beside its original is inactive');
$node->safe_psql('restored', 'SELECT stripe_sync.activate()');
becomes($node, 'restored', 'sleeping', 'until activate()');

my $other = start_node('other', conf => PRELOAD);
$other->safe_psql('postgres', 'CREATE DATABASE restored');
$other->command_ok([ 'pg_restore', '-d', $other->connstr('restored'), $dump ], 'pg_restore on another server');
becomes($other, 'restored', 'inactive: a copy', 'what is restored elsewhere is inactive');
$other->safe_psql('restored', 'SELECT stripe_sync.activate()');
becomes($other, 'restored', 'sleeping', 'until activate()');

$other->append_conf('postgresql.conf', 'stripe_sync.outbound = off');
$other->reload;
$other->safe_psql('postgres', 'CREATE DATABASE staging');
$other->command_ok([ 'pg_restore', '-d', $other->connstr('staging'), $dump ], 'pg_restore where nothing may be sent: its worker is not in the way');
$other->append_conf('postgresql.conf', 'stripe_sync.outbound = on');
$other->reload;

# Set up here, then given the notes of another: whose is it?
make_database($other, 'mixed');
is(state_of($other, 'mixed'), 'sleeping', 'set up here');
my $notes = $node->safe_psql('original', 'SELECT system_identifier, database FROM stripe_sync.identity');
$notes =~ s/\|/, /;
$other->safe_psql('mixed', "INSERT INTO stripe_sync.identity (system_identifier, database) VALUES ($notes); SELECT stripe_sync.resume()");
becomes($other, 'mixed', 'inactive: a copy', 'only its one note being its own, a database sends');
$other->stop;

# ---- rights ----

$node->safe_psql('original', q{CREATE ROLE boss LOGIN; CREATE ROLE nobody LOGIN; SELECT stripe_sync.grant_admin('boss')});
for my $call ('activate()', "pause('slack')", "resume('slack')")
{
	my ($ret, $out, $err) = $node->psql('original', "SELECT stripe_sync.$call", extra_params => [ '-U', 'nobody' ]);
	like($err, qr/permission denied/, "not everybody may $call");
	($ret, $out, $err) = $node->psql('original', "SELECT stripe_sync.$call", extra_params => [ '-U', 'boss' ]);
	is($ret, 0, "an administrator may $call");
}
for my $what (q('mails'), 'NULL', q(''))
{
	my ($ret, $out, $err) = $node->psql('original', '\set VERBOSITY verbose' . "\nSELECT stripe_sync.pause($what)");
	like($err, qr/22023.*HINT: /s, "pause($what) is 22023 with a hint");
}

# ---- a server that starts from a backup ----

$node->backup('base');

sub restored_server
{
	my ($name, $how) = @_;
	my $server = PostgreSQL::Test::Cluster->new($name);

	if    ($how eq 'label')    { $server->init_from_backup($node, 'base'); }
	elsif ($how eq 'recovery') { $server->init_from_backup($node, 'base', has_restoring => 1, standby => 0); }
	else                       { $server->init_from_backup($node, 'base', has_streaming => 1); }
	if ($how eq 'recovery')
	{
		$server->append_conf('postgresql.conf', "restore_command = 'false'");
	}
	$server->start;
	return $server;
}

my $labelled = restored_server('labelled', 'label');
like(slurp_file($labelled->logfile), qr/sends nothing from this server: it starts from a backup/, 'a server that starts with a backup_label says that it is inactive');
is(state_of($labelled, $_), 'inactive: restored from a backup', "its database $_ is") for qw(original renamed restored);
like(said($labelled, 'original', $endpoint), qr/WARNING: .*restored from a backup/, 'a set-up call warns');
$labelled->restart;
is(state_of($labelled, 'original'), 'inactive: restored from a backup', 'after a restart as well');
$labelled->safe_psql('original', 'SELECT stripe_sync.activate()');
becomes($labelled, 'original', 'sleeping', 'until activate()');
is(state_of($labelled, 'renamed'), 'inactive: restored from a backup', 'which speaks for that database alone');
make_database($labelled, 'fresh');
is(state_of($labelled, 'fresh'), 'sleeping', 'what is set up after the restore is active');
$labelled->restart;
is(state_of($labelled, 'original'), 'sleeping', 'and active it stays');
is(state_of($labelled, 'renamed'), 'inactive: restored from a backup', 'or inactive');
is(state_of($node, 'original'), 'sleeping', 'the backed up server goes on');
$labelled->stop;

my $recovered = restored_server('recovered', 'recovery');
$recovered->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
is(state_of($recovered, 'original'), 'inactive: restored from a backup', 'a server that starts with a recovery.signal is inactive');
$recovered->safe_psql('original', 'SELECT stripe_sync.activate()');
becomes($recovered, 'original', 'sleeping', 'until activate()');
$recovered->stop;

my $standby = restored_server('standby', 'standby');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
$standby->promote;
is(state_of($standby, 'original'), 'sleeping', 'a promoted standby is active');
$standby->restart;
is(state_of($standby, 'original'), 'sleeping', 'and stays so');
$standby->stop;

# A crash is no restore.
$node->stop('immediate');
$node->start;
is(state_of($node, 'original'), 'sleeping', 'after a crash it goes on');

unlike(slurp_file($_->logfile), qr/\Q@{[SECRET]}\E|PANIC|TRAP|terminated by signal/, $_->name . ': no crash, and no secret in the log')
  for $node, $other, $labelled, $recovered, $standby;
$node->stop;
done_testing();
