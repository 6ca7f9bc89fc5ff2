# Delivery.pm
#		What the tests of messages on their way to Slack share.

package Delivery;

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StripeSync;
use Test::More;
use Time::HiRes qw(time);

our @EXPORT = qw(
  PRELOAD TOKEN
  make_sender add_webhook add_channel notify
  state_of_message field eventually idle kill_server
  worker_pid worker_setting ticks no_secret_in
);

use constant PRELOAD => "shared_preload_libraries = 'stripe_sync'\n";

# Never to be seen anywhere, like the paths of the stub's webhooks.
use constant TOKEN => 'xoxb-tap-0123456789-tOkEn';

# A database with the extension and nothing else.
sub make_sender
{
	my ($node, $database) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'SET client_min_messages = warning; CREATE EXTENSION stripe_sync');
	return;
}

# A destination that posts to the stub's webhook of that number.
sub add_webhook
{
	my ($node, $database, $slack, $name, $number) = @_;

	$node->safe_psql($database, 'SELECT stripe_sync.add_slack_webhook(' . literals($name, $slack->webhook_url($number)) . ')');
	return;
}

sub add_channel
{
	my ($node, $database, $name, $channel, $token) = @_;

	$node->safe_psql($database, 'SELECT stripe_sync.add_slack_channel(' . literals($name, $channel, $token // TOKEN) . ')');
	return;
}

# The id of a message; rest are named arguments in SQL.
sub notify
{
	my ($node, $database, $destination, $text, @rest) = @_;

	return $node->safe_psql($database, 'SELECT stripe_sync.notify(' . join(', ', literals($destination, $text), @rest) . ')');
}

# One value of a message's row.
sub field
{
	my ($node, $database, $id, $what) = @_;

	return $node->safe_psql($database, "SELECT $what FROM stripe_sync.message WHERE id = $id");
}

# Wait until a message is in a state; fails the test when it never is.
sub state_of_message
{
	my ($node, $database, $id, $state, $what) = @_;

	return eventually($what, sub { field($node, $database, $id, 'state') eq $state });
}

# The seconds that it took, or undef; fails the test when it takes too long.
sub eventually
{
	my ($what, $condition, $limit) = @_;
	my $start = time;
	my $took;

	$limit //= 180;
	while (!defined $took && time - $start < $limit)
	{
		if   ($condition->()) { $took = time - $start; }
		else                  { select(undef, undef, undef, 0.02); }
	}
	ok(defined $took, $what);
	return $took;
}

# kill -9 of the postmaster; its children go by themselves, and soon.  Until all
# are gone there is no other server in its place.
sub kill_server
{
	my ($node) = @_;
	my $directory = abs_path($node->data_dir);
	my $postmaster = (split /\n/, slurp_file("$directory/postmaster.pid"))[0];

	$node->kill9;
	eventually('the killed server goes', sub { !kill(0, $postmaster) });
	eventually('and its children', sub { !grep { (readlink($_) // '') eq $directory } glob '/proc/[0-9]*/cwd' });
	return;
}

# Change a setting, and wait until a database's worker has it, or will before it
# does anything.
sub worker_setting
{
	my ($node, $database, $name, $value) = @_;

	$node->append_conf('postgresql.conf', "$name = '$value'");
	$node->reload;
	$node->poll_query_until($database, "SELECT current_setting('$name') = '$value' AND state NOT IN ('starting', 'working') AND state NOT LIKE 'none%' FROM stripe_sync.worker WHERE database = '$database'");
	return;
}

# Wait until nothing of a database is due or on its way.
sub idle
{
	my ($node, $database, $seconds) = @_;
	my $until = time + ($seconds // 180);

	while (time < $until)
	{
		return 1 if $node->safe_psql($database, q{SELECT count(*) = 0 FROM stripe_sync.message
			WHERE state IN ('waiting', 'sending')}) eq 't';
		select(undef, undef, undef, 0.02);
	}
	return 0;
}

sub worker_pid
{
	my ($node, $database) = @_;

	return $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'stripe_sync worker' AND datname = } . literal($database));
}

# Ticks of the processor that a process has used.
sub ticks
{
	my ($pid) = @_;
	my $stat = slurp_file("/proc/$pid/stat");

	$stat =~ s/^.*\) //;
	my @fields = split / /, $stat;
	return $fields[11] + $fields[12];
}

# Neither the log nor anything that people may read holds what opens Slack.
sub no_secret_in
{
	my ($node, $database, $what) = @_;
	my $secret = qr{sEcReT|tOkEn};

	unlike(slurp_file($node->logfile), $secret, "$what: no secret in the log");
	my $found = '';
	for my $relation (split /\n/, $node->safe_psql($database, q{SELECT c.oid::regclass FROM pg_class c
		WHERE relnamespace = 'stripe_sync'::regnamespace AND relkind IN ('r', 'v') AND relname NOT IN ('destination_secret', 'endpoint_secret', 'api_key', 'slack_app_secret', 'interaction_secret')}))
	{
		$found .= "$relation " if $node->safe_psql($database, "SELECT EXISTS (SELECT FROM $relation r WHERE r::text ~ 'sEcReT|tOkEn')") eq 't';
	}
	is($found, '', "$what: no secret in a table or view");
	return;
}

1;
