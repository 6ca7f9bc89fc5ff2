# StripeBack.pm
#		What the tests of reading Stripe back share: a server whose worker reads
#		the stub of Stripe, jobs, events that come by webhook or don't.

package StripeBack;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use Delivery;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StripeSync;
use Test::More;

our @EXPORT = qw(
  KEY
  make_reader shop refused key_is deliver
  setting no_transaction over job_row is_applied mirror_differs
);

# Never to be seen anywhere.
use constant KEY => 'rk_test_tap_0123456789_sEcReT';

my ($node, $stripe);

# A server with the database shop, which reads the stub with KEY.  Options: conf
# (more lines), no_key.
sub make_reader
{
	my ($name, $stub, %options) = @_;

	$stripe = $stub;
	$node = start_node($name,
		conf => PRELOAD . $stripe->conf . "stripe_sync.stripe_rate = 100\nstripe_sync.http_timeout = '5min'\nstripe_sync.reconcile_interval = 0\n" . ($options{conf} // ''));
	make_database($node, 'shop');
	shop('SELECT stripe_sync.set_api_key(' . literal(KEY) . ')') unless $options{no_key};
	return $node;
}

sub shop { return $node->safe_psql('shop', $_[0]); }

# A call that raises what fits the pattern.
sub refused
{
	my ($call, $pattern, $what) = @_;
	my ($ret, $out, $err) = $node->psql('shop', "\\set VERBOSITY verbose\n$call");

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return like($err, $pattern, $what);
}

# Change a setting, and wait until the worker has it, or will before it does anything.
sub setting { return worker_setting($node, 'shop', @_); }

# The worker has no transaction open, whatever it may have been about a moment ago.
sub no_transaction
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($node->poll_query_until('shop', q{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE backend_type = 'stripe_sync worker' AND datname = 'shop' AND xact_start IS NULL AND backend_xmin IS NULL}), $_[0]);
}

# What Stripe thinks of our key: see StripeStub::keys.
sub key_is { return $stripe->keys(KEY() => $_[0]); }

# Events come by webhook; their statuses, a line each.
sub deliver
{
	return shop(join '', map {
		my $payload = json_text($_);
		'SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload)) . ");\n";
	} @_);
}

sub job_row { return json_value(shop("SELECT row_to_json(j) FROM stripe_sync.job j WHERE id = $_[0]")); }

# Wait for a job's end, and look at what it came to; answers its row.
sub over
{
	my ($job, $what, %expect) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($node->poll_query_until('shop', "SELECT state NOT IN ('waiting', 'running') FROM stripe_sync.job WHERE id = $job"), "$what: it ends");
	my $row = job_row($job);
	is($row->{$_}, $expect{$_}, "$what: $_") for sort keys %expect;
	return $row;
}

# All steps of all events have been run.
sub is_applied
{
	return $node->poll_query_until('shop', q{SELECT count(*) = 0 FROM stripe_sync.event WHERE status IN ('pending', 'failed') OR todo <> '{}'});
}

# How many objects of a type the mirror lacks, or has otherwise than Stripe.
sub mirror_differs
{
	my ($type, $table) = @_;
	my $state = $stripe->state(type => $type)->{$type} // {};
	my %mirror = map { my ($id, $data) = split /\|/, $_, 2; $id => json_value($data) }
	  split /\n/, shop("SELECT id, _data FROM stripe.$table WHERE _deleted_at IS NULL");

	return scalar grep { json_text($mirror{$_} // {}) ne json_text($state->{$_} // {}) } keys %{ { %$state, %mirror } };
}

1;
