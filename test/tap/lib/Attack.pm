# Attack.pm
#		What the tests of other people's rights share: a server that goes on after a
#		crash, databases with an endpoint, roles, what they say and what they gained.

package Attack;

use strict;
use warnings FATAL => 'all';

use Digest::SHA qw(hmac_sha256_hex);
use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StripeSync;
use Test::More;

our @EXPORT = qw(
  ground_node ground root one as says session send_as begin_as waits ended
  role super not_super not_crashed no_harm
  receive_sql customer thing retried settled
  SLACK_SECRET slack_command slack_press
);

use constant SLACK_SECRET => '8f742231b10e8888abcd99baac85a5e0';

my ($node, $super, $started, $log);

# ---- the ground ----

# A server that comes back after a crash: a test that fells it says so, and the
# next one finds a server.  Options as of start_node.
sub ground_node
{
	my ($name, %options) = @_;

	$node = start_node($name, %options,
		conf => "restart_after_crash = on\nmax_prepared_transactions = 5\nfsync = off\nlog_min_messages = warning\n" . ($options{conf} // ''));
	$super = $node->safe_psql('postgres', 'SELECT current_user');
	return $node;
}

sub super { return $super; }

# A database with the extension, an endpoint that takes any age, and the mirror
# tables of some types alone.  Without types none is made.
sub ground
{
	my ($database, @types) = @_;
	my $tables = join ',', @types;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, qq{
		SET client_min_messages = warning;
		CREATE EXTENSION stripe_sync;
		CREATE TABLE public.seen (what text, who text, n int DEFAULT 1);
		GRANT ALL ON public.seen TO PUBLIC;
	});
	root($database, "SELECT count(*) FROM stripe_sync.create_tables('{$tables}'); SELECT stripe_sync.add_endpoint('default', '@{[SECRET]}', tolerance => NULL)") if @types;
	return;
}

# ---- roles and what they do ----

# Roles that may log in.
sub role
{
	$node->safe_psql('postgres', "CREATE ROLE $_ LOGIN") for @_;
	return;
}

# A superuser's statements, which must succeed.
sub root
{
	my ($database, $sql) = @_;

	return $node->safe_psql($database, "SET client_min_messages = warning; $sql");
}

# One value of a superuser's, or '' when there is none.
sub one
{
	my ($database, $sql) = @_;
	my ($status, $out, $err) = $node->psql($database, $sql);

	diag(substr($sql, 0, 200) . ": $err") if $status;
	return $out // '';
}

# Statements of a role in one session, whatever becomes of them: what it printed
# and what it was told.
sub as
{
	my ($database, $role, $sql) = @_;
	my ($out, $err, $late);
	my $status = $node->psql($database, "\\set VERBOSITY verbose\n$sql", stdout => \$out, stderr => \$err,
		extra_params => [ '-U', $role ], on_error_stop => 0, timeout => 300, timed_out => \$late);

	diag("$role in $database: no end after 300 s") if $late;
	diag("$role in $database: " . substr($err, -1000)) if $err =~ /server closed/;
	return ($out // '', $err // '');
}

# The same as one text.
sub says { return join "\n", as(@_); }

# A session of a role that goes on; query() of BackgroundPsql.
sub session
{
	my ($database, $role) = @_;

	return $node->background_psql($database, on_error_stop => 0, extra_params => [ '-U', $role // $super ]);
}

# Statements of a role in a session of their own, beside us; of that application_name.
sub begin_as
{
	my ($database, $role, $name, $sql) = @_;
	my $self = { name => $name, out => '', in => "\\set VERBOSITY verbose\nSET application_name = '$name';\n$sql\n\\echo END_OF_SCRIPT\n" };

	$self->{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr($database), '-U', $role ],
		'<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{out}, IPC::Run::timeout(300));
	return $self;
}

# Has it come to wait for a lock?  Of that kind of lock, if one is given.  False when
# it has ended, or does not come to it in a minute.
sub waits
{
	my ($self, $event) = @_;
	my $until = time + 60;

	$event //= '%';
	while (time < $until)
	{
		return 1 if one('postgres', qq{SELECT count(*) FROM pg_stat_activity WHERE application_name = '$self->{name}'
			AND wait_event_type = 'Lock' AND wait_event LIKE '$event'}) eq '1';
		last unless $self->{run}->pumpable;
		$self->{run}->pump_nb;
		last if $self->{out} =~ /END_OF_SCRIPT|server closed/;
		select undef, undef, undef, 0.05;
	}
	return 0;
}

# What it printed and what it was told, once it has ended.
sub ended
{
	my ($self) = @_;

	eval { $self->{run}->finish; };
	return $self->{out} =~ s/^END_OF_SCRIPT\n//mr;
}

# ---- events ----

my $serial = 0;

# receive() of an event of an object.
sub receive_sql
{
	my ($event) = @_;
	my $payload = json_text($event);

	return 'SELECT status, left(detail, 400) FROM stripe_sync.receive(' . literals($payload, signature($payload)) . ');';
}

# An event of a customer, the newest yet.
sub customer { my ($id, %fields) = @_; return thing('customer', $id, %fields); }

sub thing
{
	my ($type, $id, %fields) = @_;

	$serial++;
	return event("evt_${id}_$serial", "$type." . (delete $fields{verb} // 'created'), $serial, { id => $id, object => $type, %fields });
}

# A role receives it: what it is told.
sub send_as
{
	my ($database, $role, $event) = @_;

	return says($database, $role, receive_sql($event));
}

# What is due of a database is tried again, by a superuser.
sub retried
{
	my ($database) = @_;

	root($database, q{UPDATE stripe_sync.event SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL});
	return says($database, $super, 'CALL stripe_sync.work()');
}

# The status of an event of that object's, the newest
sub settled
{
	my ($database, $id) = @_;

	return one($database, "SELECT status FROM stripe_sync.event WHERE object_id = '$id' ORDER BY created DESC LIMIT 1");
}

# ---- what must hold after each ----

sub not_super
{
	my ($what, @roles) = @_;
	my $list = join ', ', map { literal($_) } @roles;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(one('postgres', "SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolsuper AND rolname IN ($list)"), '', "$what: nobody is a superuser who was none");
	# what follows begins with what it began with
	$node->psql('postgres', "ALTER ROLE $_ NOSUPERUSER") for @roles;
	return;
}

# The server has not been felled since this was asked last.  (The postmaster's own
# start time outlives a crash of its children, the checkpointer's doesn't.)
sub not_crashed
{
	my ($what) = @_;
	my $from = $log // 0;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $up = $node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'checkpointer'});
	my $now = one('postgres', q{SELECT pg_postmaster_start_time(), backend_start FROM pg_stat_activity WHERE backend_type = 'checkpointer'});
	my $said = slurp_file($node->logfile, $from);
	$log = -s $node->logfile;
	my @crashes = $said =~ /^.*(?:terminated by signal|PANIC:|TRAP:|AddressSanitizer|runtime error:).*$/mg;
	is(join("\n", @crashes), '', "$what: no process of the server crashes");
	is($now, $started // $now, "$what: the server has not started again") if $up;
	$started = $now;
	return;
}

sub no_harm
{
	my ($what, @roles) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	not_super($what, @roles) if @roles;
	not_crashed($what);
	return;
}

# ---- requests from Slack, signed by other means than the extension's ----

sub slack_sql
{
	my ($body) = @_;
	my $at = time;
	my $headers = json_text({ 'X-Slack-Request-Timestamp' => "$at", 'X-Slack-Signature' => 'v0=' . hmac_sha256_hex("v0:$at:$body", SLACK_SECRET) });

	return 'SELECT http_status FROM stripe_sync.receive_slack(' . literals($body, $headers) . ');';
}

my $requests = 0;

sub slack_command
{
	my ($name) = @_;

	return slack_sql('command=' . ($name =~ s/(\W)/sprintf '%%%02X', ord $1/ger) . '&text=&team_id=T1&user_id=U1&channel_id=C1&trigger_id=' . ++$requests);
}

sub slack_press
{
	my ($action) = @_;
	my $payload = json_text({ type => 'block_actions', team => { id => 'T1' }, user => { id => 'U1', team_id => 'T1' }, trigger_id => ++$requests . '',
		actions => [ { type => 'button', action_id => $action, value => 'v' } ] });

	return slack_sql('payload=' . ($payload =~ s/(\W)/sprintf '%%%02X', ord $1/ger));
}

1;
