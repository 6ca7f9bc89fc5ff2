# StripeSync.pm
#		What the TAP tests share: clusters, events, arrivals, chance.

package StripeSync;

use strict;
use warnings FATAL => 'all';

use Digest::SHA qw(hmac_sha256_hex);
use Encode qw(encode_utf8);
use Exporter 'import';
use JSON::PP;
use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  SECRET T0 TRUE FALSE
  start_node shared_node make_database
  json_text json_value literal literals
  event diff clone stamp signature
  seed chance pick permutations random_orders with_duplicates
  wait_for_lock
);

# Never to be seen in a dump, an error or a log: some tests search for it.
use constant SECRET => 'whsec_tap_0123456789abcdefSECRET';

# An arbitrary moment; events count their seconds from here.
use constant T0 => 1_700_000_000;

use constant TRUE  => JSON::PP::true;
use constant FALSE => JSON::PP::false;

my $json = JSON::PP->new->canonical->allow_nonref->utf8(0)->ascii;

sub json_text  { return $json->encode($_[0]); }
sub json_value { return $json->decode($_[0]); }

# ---- servers ----

sub start_node
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(
		extra => [ '-E', 'UTF8', '--locale=C' ],
		allows_streaming => $options{allows_streaming} // 0);
	$node->append_conf('postgresql.conf', join("\n",
		"log_statement = none",
		"log_min_messages = warning",
		"timezone = 'UTC'",
		"max_connections = 50",
		"shared_buffers = 64MB",
		"autovacuum = off",
		$options{conf} // ''));
	$node->start;
	return $node;
}

# The server that test files share, for those that need nothing but databases
# of their own (names begin with the file's); without one, a server like it.
sub shared_node
{
	my ($name) = @_;

	return start_node($name) unless defined $ENV{STRIPE_SYNC_HOST};
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->{_host} = $ENV{STRIPE_SYNC_HOST};
	$node->{_port} = 5432;
	$ENV{PGUSER} = 'postgres';
	return $node;
}

# A database with the extension and an endpoint that takes any age.
sub make_database
{
	my ($node, $database) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, qq{
		SET client_min_messages = warning;
		CREATE EXTENSION stripe_sync;
		SELECT stripe_sync.add_endpoint('default', '@{[SECRET]}', tolerance => NULL);
		CREATE SCHEMA test;
	});
	return;
}

# Wait until a session of that application_name waits for a lock.
sub wait_for_lock
{
	my ($node, $database, $application, $event) = @_;

	$event //= '%';
	return $node->poll_query_until($database, qq{
		SELECT count(*) > 0 FROM pg_stat_activity
		WHERE application_name = '$application' AND wait_event_type = 'Lock'
		  AND wait_event LIKE '$event'});
}

# ---- values ----

sub literal
{
	my ($text) = @_;

	return 'NULL' unless defined $text;
	$text =~ s/'/''/g;
	return "'$text'" unless $text =~ /\\/;
	$text =~ s/\\/\\\\/g;
	return "E'$text'";
}

sub literals { return join(', ', map { literal($_) } @_); }

sub clone { return json_value(json_text($_[0])); }

# As to_jsonb() writes a timestamptz of so many seconds after T0.
sub stamp
{
	my ($second) = @_;

	return undef unless defined $second;
	my ($s, $m, $h, $day, $month, $year) = gmtime(T0 + $second);
	return sprintf('%04d-%02d-%02dT%02d:%02d:%02d+00:00',
		$year + 1900, $month + 1, $day, $h, $m, $s);
}

# An event: id, type, seconds after T0, object, and maybe previous => {...},
# account => 'acct_...'.
sub event
{
	my ($id, $type, $second, $object, %rest) = @_;
	my $data = { object => clone($object) };

	$data->{previous_attributes} = clone($rest{previous}) if exists $rest{previous};
	my $event = {
		id => $id, object => 'event', type => $type, created => T0 + $second,
		api_version => '2024-06-20', livemode => FALSE, pending_webhooks => 1,
		request => undef, data => $data,
	};
	$event->{account} = $rest{account} if defined $rest{account};
	return $event;
}

# previous_attributes as Stripe makes them: partial in nested hashes, whole
# for arrays, null for what was absent.
sub diff
{
	my ($before, $after) = @_;
	my %previous;

	for my $key (keys %{ { %$before, %$after } })
	{
		my ($old, $new) = ($before->{$key}, $after->{$key});

		next if json_text($old) eq json_text($new);
		$previous{$key} = ref $old eq 'HASH' && ref $new eq 'HASH' ?
		  diff($old, $new) : $old;
	}
	return \%previous;
}

# A Stripe-Signature header, made by other means than the extension's.
sub signature
{
	my ($payload, $secret, $at) = @_;

	$at //= T0;
	return "t=$at,v1=" . hmac_sha256_hex(encode_utf8("$at.$payload"), encode_utf8($secret // SECRET));
}

# ---- chance, with a seed that is printed ----

sub seed
{
	my $seed = $ENV{SEED} || 20240620;

	srand($seed);
	note "seed $seed (SEED=... in the environment chooses another)";
	return $seed;
}

sub chance { return rand() < $_[0]; }
sub pick   { return $_[ int rand @_ ]; }

sub permutations
{
	my (@items) = @_;

	return [] unless @items;
	return map {
		my $i = $_;
		my @rest = @items;
		my ($first) = splice(@rest, $i, 1);
		map { [ $first, @$_ ] } permutations(@rest);
	} 0 .. $#items;
}

sub random_orders
{
	my ($count, @items) = @_;

	return map { [ shuffle @items ] } 1 .. $count;
}

# Deliver some of them again, at any time after the first.
sub with_duplicates
{
	my ($order, $probability) = @_;
	my @result = @$order;

	for my $item (@$order)
	{
		next unless chance($probability);
		my ($first) = grep { $result[$_] eq $item } 0 .. $#result;
		splice(@result, $first + 1 + int(rand(@result - $first)), 0, $item);
	}
	return \@result;
}

1;
