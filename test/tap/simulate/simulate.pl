# simulate.pl
#		Whatever is simulated of one object, as fast as it goes, ends in the last
#		call's state, and the same events end so wherever they arrive, in any order.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use StripeSync;

use IPC::Run qw(start finish);
use JSON::PP;
use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use constant SEQUENCES => 1000;
use constant LONGEST   => 8;
use constant SESSIONS  => 20; # most of them wait for the clock

seed();
my $node = shared_node('simulate');

make_database($node, $_) for qw(simulate_first simulate_second);

# ---- what objects and stories are made of ----

sub read_json { return JSON::PP->new->utf8->decode(slurp_file("$FindBin::RealBin/../../../src/$_[0]")); }

my %catalog = map { $_->{object} => $_ } @{ read_json('types/object_types.json')->{object_types} };
my %fields = map { my $type = $_; $type => { map { $_->{name} => $_ } @{ $catalog{$type}{fields} } } } keys %catalog;
my %event_types = map { map { $_ => 1 } @{ $_->{event_types} } } values %catalog;
my $objects = read_json('simulate/fixtures/objects.json');
my $stories = read_json('simulate/fixtures/stories.json');

sub unknown { my ($object, $type) = @_; return map { "$type.$_" } grep { !exists $fields{$type}{$_} } keys %$object; }

delete $_->{about} for $objects, $stories;
# what is by a type of event, and not of object
my %told_first = map { $_ => delete $objects->{$_} } grep { !exists $catalog{$_} } keys %$objects;
my %carried = map { my $type = $_; map { $_ => $type->{object} } @{ $type->{event_types} } } values %catalog;

is(join(' ', map { unknown($told_first{$_}, $carried{$_} // 'none') } keys %told_first), '', 'what fixtures say of types of events are fields that Stripe has');
is(join(' ', map { unknown($objects->{$_}, $_) } keys %$objects), '', 'fixtures have fields that Stripe has');
is(join(' ', map { my $type = $_; map { "$type.$_" } grep { !$fields{$type}{$_}{nullable} && !defined $objects->{$type}{$_} } keys %{ $fields{$type} } } keys %$objects), '',
	'and all that Stripe always sends');
my @told = map { my $story = $_; map { map { { type => $_->{type}, object => ref $_->{object} ? $_->{object} : $story->{parts}{ substr $_->{object}, 1 } } } @{ $_->{events} } } @{ $story->{steps} } } values %$stories;
is(join(' ', grep { !$event_types{$_} } map { $_->{type} } @told), '', 'stories tell events that there are');
is(join(' ', map { unknown($_->{object}, $_->{object}{object}) } @told), '', 'of fields that there are');

# ---- sequences of calls, and what they come to ----

# Few values: so that states come back.
my %values = (
	customer => {
		name => [ 'Ada', 'Bob', undef ],
		balance => [ 0, 100 ],
		address => [ undef, {}, { city => 'Berlin' }, { city => 'Berlin', line1 => 'x' }, { line1 => undef } ],
		metadata => [ {}, { a => '1' }, { a => '1', b => '2' }, { b => { c => [ 1, 2 ] } } ],
		preferred_locales => [ [], ['de'], [ 'de', 'en' ] ],
	},
	invoice => {
		status => [ 'draft', 'open', 'paid', 'void', 'uncollectible' ],
		amount_paid => [ 0, 2900 ],
		attempt_count => [ 0, 1, 2 ],
		metadata => [ {}, { a => '1' } ],
	});
my %types = (
	customer => [ ('customer.updated') x 9, 'customer.created', 'customer.deleted' ],
	invoice => [ ('invoice.updated') x 4, qw(invoice.finalized invoice.paid invoice.payment_failed invoice.voided invoice.created) ]);
my %prefix = (customer => 'cus', invoice => 'in');

sub sequence
{
	my ($number) = @_;
	my $kind = pick('customer', 'customer', 'invoice');
	my $id = "$prefix{$kind}_$number";
	my @calls;

	for my $n (1 .. 1 + int rand LONGEST)
	{
		my $type = $n == 1 && chance(0.7) ? "$kind.created" : pick(@{ $types{$kind} });
		my %object = (id => $id, object => $kind);

		for my $field (sort keys %{ $values{$kind} })
		{
			$object{$field} = pick(@{ $values{$kind}{$field} }) if chance(0.4);
		}
		push @calls, { type => $type, object => \%object };
	}
	return { kind => $kind, id => $id, calls => \@calls };
}

# What is told of an object, after all calls; undef: it is deleted.
sub outcome
{
	my ($sequence) = @_;
	my $state;
	my $dead = 0;

	for my $call (@{ $sequence->{calls} })
	{
		if ($call->{type} =~ /\.created$/)
		{
			$state = {} if $dead;
			$dead = 0;
		}
		next if $dead;
		$state = { %{ $state // {} }, %{ $call->{object} } };
		$dead = 1 if $call->{type} =~ /\.deleted$/;
	}
	return $dead ? undef : $state;
}

sub script
{
	return join '', map { 'SELECT stripe_sync.simulate(' . literals($_->{type}, json_text($_->{object})) . ");\n" } @_;
}

# Scripts at the same time, each by a session of its own.
sub run_all
{
	my ($database, @scripts) = @_;
	my $place = PostgreSQL::Test::Utils::tempdir();
	my @runs = map {
		append_to_file("$place/$_.sql", $scripts[$_]);
		start([ 'psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database), '-f', "$place/$_.sql" ], '<', '/dev/null', '>', '/dev/null', '2>', "$place/$_.err");
	} 0 .. $#scripts;

	finish($_) for @runs;
	return is(join('', map { slurp_file("$place/$_.err") } 0 .. $#runs), '', "$database: all calls succeed");
}

# Objects as a database's mirror has them, by id: undef for those that are deleted.
sub mirrored
{
	my ($database) = @_;

	return map { my ($id, $data) = split /\|/, $_, 2; $id => $data eq '' ? undef : json_value($data) }
	  split /\n/, $node->safe_psql($database, q{
		SELECT id, CASE WHEN _deleted_at IS NULL THEN _data END FROM stripe.customers
		UNION ALL SELECT id, CASE WHEN _deleted_at IS NULL THEN _data END FROM stripe.invoices});
}

# ---- the calls ----

my @sequences = map { sequence($_) } 1 .. SEQUENCES;
my @scripts = ('') x SESSIONS;

$scripts[ $_ % SESSIONS ] .= script(@{ $sequences[$_]{calls} }) for 0 .. $#sequences;
run_all('simulate_first', @scripts);

my %first = mirrored('simulate_first');
my @wrong;

for my $sequence (@sequences)
{
	my $expected = outcome($sequence);
	my $is = $first{ $sequence->{id} };
	my $right = exists $first{ $sequence->{id} } && defined $expected == defined $is
	  && (!defined $expected || !grep { json_text($expected->{$_}) ne json_text($is->{$_}) } keys %$expected);

	push @wrong, { %$sequence, expected => $expected, is => $is } unless $right;
}
is(scalar @wrong, 0, 'each of ' . SEQUENCES . ' sequences ends in its last state') or diag explain $wrong[0];
is($node->safe_psql('simulate_first', 'SELECT count(*) FROM stripe_sync.event WHERE created > received_at'), 0, 'no event is later than now');
is($node->safe_psql('simulate_first', 'SELECT count(*) FROM stripe_sync.reread'), 0, 'no order was in doubt');
is($node->safe_psql('simulate_first', 'SELECT count(*) FROM stripe_sync.verify_mirror(NULL, 100000)'), 0, 'the mirror is what its events say');

# ---- their events, elsewhere ----

my @events = shuffle(split /\n/, $node->safe_psql('simulate_first', 'SELECT payload FROM stripe_sync.event ORDER BY id'));

cmp_ok(scalar @events, '>', 4 * SEQUENCES, 'there are many events');
@scripts = ('') x 2;
$scripts[ $_ % 2 ] .= 'SELECT stripe_sync.receive(' . literals($events[$_], signature($events[$_])) . ");\n" for 0 .. $#events;
run_all('simulate_second', @scripts);
my %second = mirrored('simulate_second');
my @differ = grep { json_text($first{$_}) ne json_text($second{$_}) } keys %{ { %first, %second } };

is(scalar @differ, 0, 'received in any order they end the same') or diag explain { id => $differ[0], first => $first{ $differ[0] }, second => $second{ $differ[0] } };
is($node->safe_psql('simulate_second', 'SELECT count(*) FROM stripe_sync.verify_mirror(NULL, 100000)'), 0, 'and the mirror is what they say');
done_testing();
