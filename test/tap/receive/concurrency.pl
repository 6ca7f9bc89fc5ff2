# concurrency.pl
#		Sixteen sessions deliver overlapping subsets of two thousand events.
#
# Every event is stored once and its handler's effect is there once; there is
# no error and no deadlock; and the mirror is the one that a single session
# makes of the same events in the order of their times.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use StripeSync;

use IPC::Run qw(start finish);
use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use constant SESSIONS => 16;
use constant EVENTS   => 2000;

seed();

# ---- two thousand events of some hundred and fifty objects ----

my @accounts = (undef, undef, 'acct_1', 'acct_2');
my @events;

sub page
{
	my (@data) = @_;

	return { object => 'list', url => '/v1/things', has_more => FALSE, data => \@data };
}

# Hangs below many subscriptions and invoices, and is told differently.
sub price
{
	my ($n) = @_;

	return { id => "price_$n", object => 'price', unit_amount => 100 * $n, nickname => pick(qw(x y)),
		product => { id => 'prod_' . ($n % 3), object => 'product', name => pick(qw(p q)), active => TRUE } };
}

sub customer_state
{
	my ($n) = @_;

	return { id => "cus_$n", object => 'customer', name => pick(qw(Anna Berta Clara)), balance => int(rand(100)),
		tax_ids => page(map { { id => "txi_${n}_$_", object => 'tax_id', customer => "cus_$n", value => pick(qw(v w)) } } grep { chance(0.5) } 1 .. 3) };
}

sub subscription_state
{
	my ($n) = @_;
	my @prices = (shuffle 1 .. 6)[ 0 .. 1 + int(rand(3)) ];

	return { id => "sub_$n", object => 'subscription', customer => "cus_$n", status => pick(qw(active past_due)),
		items => page(map { { id => "si_${n}_$_", object => 'subscription_item', subscription => "sub_$n", quantity => int(rand(5)), price => price($_) } } @prices) };
}

sub invoice_state
{
	my ($n) = @_;

	return { id => "in_$n", object => 'invoice', customer => "cus_$n", status => pick(qw(draft open paid)), amount_due => int(rand(1000)),
		lines => page(map { { id => "il_${n}_$_", object => 'line_item', invoice => "in_$n", amount => int(rand(100)), price => price(1 + int(rand(6))) } } grep { chance(0.6) } 1 .. 3) };
}

sub refund_state
{
	my ($n, $k) = @_;

	return { id => "re_${n}_$k", object => 'refund', charge => "ch_$n", amount => 5, status => pick(qw(pending succeeded)) };
}

sub charge_state
{
	my ($n) = @_;

	return { id => "ch_$n", object => 'charge', customer => "cus_$n", amount => 50, amount_refunded => int(rand(50)),
		status => 'succeeded', refunds => page(map { refund_state($n, $_) } grep { chance(0.5) } 1 .. 3) };
}

my %lives = (
	customer => [ \&customer_state, 'customer.created', 'customer.updated' ],
	subscription => [ \&subscription_state, 'customer.subscription.created', 'customer.subscription.updated' ],
	invoice => [ \&invoice_state, 'invoice.created', 'invoice.updated' ],
	charge => [ \&charge_state, 'charge.succeeded', 'charge.updated' ],
);

my $serial = 0;

sub emit
{
	my ($type, $second, $object, %rest) = @_;

	# an id that says nothing of the order
	push @events, event(sprintf('evt_%s%04d', join('', map { pick('a' .. 'z') } 1 .. 4), $serial++), $type, $second, $object, %rest);
	return;
}

sub live
{
	my ($kind, $n, $account, $count) = @_;
	my ($state, $created, $updated) = @{ $lives{$kind} };
	my @of = defined $account ? (account => $account) : ();
	my $second = int(rand(50));
	my $now = $state->($n);

	emit($created, $second, $now, @of);
	for (2 .. $count)
	{
		my $next = $state->($n);

		$second += int(rand(3));
		emit($updated, $second, $next, previous => diff($now, $next), @of);
		$now = $next;
		emit('refund.updated', $second + int(rand(2)), refund_state($n, 1 + int(rand(3))), @of)
		  if $kind eq 'charge' && chance(0.3);
	}
	return;
}

for my $n (0 .. 37)
{
	my $account = pick(@accounts);

	live($_, $n, $account, 14) for sort keys %lives;
}
# more of the same customer, and one id in every account
live('customer', 'all', $_, 10) for undef, 'acct_1', 'acct_2';
@events = @events[ 0 .. EVENTS - 1 ] if @events > EVENTS;
cmp_ok(scalar @events, '>=', EVENTS, 'two thousand events');

# ---- two databases ----

my $node = shared_node('concurrency');

sub prepare
{
	my ($database) = @_;

	make_database($node, $database);
	$node->safe_psql($database, q{
		CREATE TABLE test.event (n int PRIMARY KEY, payload text, signature text);
		CREATE TABLE test.effect (event_id text, account text);
		CREATE TABLE test.receipt (event_id text, status text, detail text);
		CREATE FUNCTION test.effect(event jsonb) RETURNS void LANGUAGE sql AS
			$$ INSERT INTO test.effect VALUES (event->>'id', coalesce(event->>'account', '')) $$;
		SELECT stripe_sync.add_handler('effect', '*', 'test.effect');
		CREATE FUNCTION test.deliver(number int) RETURNS void LANGUAGE sql AS $$
			INSERT INTO test.receipt
			SELECT r.* FROM test.event e, LATERAL stripe_sync.receive(e.payload, e.signature) r WHERE e.n = number
		$$;
		CREATE FUNCTION test.state() RETURNS text LANGUAGE plpgsql AS $$
		DECLARE
			name text;
			one text;
			result text := '';
		BEGIN
			FOR name IN SELECT table_name FROM stripe_sync.mirror_table ORDER BY 1 LOOP
				EXECUTE format('SELECT string_agg(r::text, E''\n'' ORDER BY r::text COLLATE "C")'
					' FROM (SELECT %s AS r FROM stripe.%I t) s',
					-- of what is only ever embedded, no content is promised
					CASE WHEN name IN ('prices', 'products') THEN 'jsonb_build_array(id, _account)'
						ELSE 'to_jsonb(t) - ''_synced_at''' END, name) INTO one;
				result := result || coalesce(E'\n' || name || E'\n' || one, '');
			END LOOP;
			RETURN result;
		END $$;
	});
	$node->safe_psql($database, "INSERT INTO test.event SELECT n, p, stripe_sync.sign(p, " . literal(SECRET) . ") FROM (VALUES "
		  . join(",\n", map { "($_, " . literal(json_text($events[$_])) . ")" } 0 .. $#events) . ") AS v (n, p)");
	return;
}

prepare($_) for 'concurrency_many', 'concurrency_one';

# ---- in order, alone ----

my @in_order = sort { $events[$a]{created} <=> $events[$b]{created} || $a <=> $b } 0 .. $#events;
$node->safe_psql('concurrency_one', join('', map { "SELECT test.deliver($_);\n" } @in_order));

# ---- all at once ----

sub start_session
{
	my ($name, @numbers) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . "/$name.sql";
	my %session = (out => '', err => '');

	append_to_file($file, join('', map { "SELECT test.deliver($_);\n" } @numbers));
	$session{harness} = start(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=0', '-d', $node->connstr('concurrency_many'), '-f', $file ],
		'<', \undef, '>', \$session{out}, '2>', \$session{err});
	return \%session;
}

sub all_at_once
{
	my ($what) = @_;
	my @subsets = map { [] } 1 .. SESSIONS;

	# each event in several subsets, each subset in an order of its own
	for my $n (0 .. $#events)
	{
		my @of = (shuffle 0 .. SESSIONS - 1)[ 0 .. 1 + int(rand(3)) ];
		push @{ $subsets[$_] }, $n for @of;
	}
	my @sessions = map { start_session("${what}_$_", shuffle @{ $subsets[$_] }) } 0 .. SESSIONS - 1;

	for my $session (@sessions)
	{
		finish($session->{harness});
	}
	is(join('', map { $_->{err} } @sessions), '', "$what: no error, no deadlock");
	return;
}

sub judge
{
	my ($what) = @_;
	my $count = @events;

	is($node->safe_psql('concurrency_many', 'SELECT count(*), count(DISTINCT (id, account)) FROM stripe_sync.event'),
		"$count|$count", "$what: every event is stored once");
	is($node->safe_psql('concurrency_many', 'SELECT count(*), count(DISTINCT (event_id, account)) FROM test.effect'),
		"$count|$count", "$what: every event has its effect once");
	is($node->safe_psql('concurrency_many', q{SELECT count(*) FROM (SELECT event_id FROM test.receipt
			GROUP BY 1 HAVING count(*) FILTER (WHERE status <> 'duplicate') <> 1) s}),
		'0', "$what: every event was applied once, and else a duplicate");
	is($node->safe_psql('concurrency_many', q{SELECT string_agg(DISTINCT detail, ' ') FROM test.receipt WHERE status NOT IN ('applied', 'stale', 'duplicate')}),
		'', "$what: nothing failed");
	is($node->safe_psql('concurrency_many', 'SELECT * FROM stripe_sync.verify_mirror(sample => 100000) LIMIT 3'), '', "$what: the mirror is what the inbox says");
	my ($many, $one) = map { [ split /\n/, $node->safe_psql($_, 'SELECT test.state()') ] } 'concurrency_many', 'concurrency_one';
	my %one = map { ($_ => 1) } @$one;
	my %many = map { ($_ => 1) } @$many;
	my @surplus = grep { !$one{$_} } @$many;
	my @lacking = grep { !$many{$_} } @$one;

	cmp_ok(scalar @$many, '>', 400, "$what: there are rows");
	is(scalar(@surplus) + scalar(@lacking), 0, "$what: the mirror is that of a serial run")
	  or diag(join("\n", map({ "many: $_" } @surplus[ 0 .. ($#surplus < 3 ? $#surplus : 3) ]), map({ "one: $_" } @lacking[ 0 .. ($#lacking < 3 ? $#lacking : 3) ])));
	return;
}

all_at_once('straight');
judge('straight');

# ---- once more with a trigger of the user's on every table ----

$node->safe_psql('concurrency_many', q{
	TRUNCATE stripe_sync.event, test.effect, test.receipt;
	CREATE FUNCTION test.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
	DO $$
	DECLARE
		name text;
	BEGIN
		FOR name IN SELECT table_name FROM stripe_sync.mirror_table LOOP
			EXECUTE format('TRUNCATE stripe.%I', name);
			EXECUTE format('CREATE TRIGGER nothing BEFORE INSERT OR UPDATE ON stripe.%I'
				' FOR EACH ROW EXECUTE FUNCTION test.nothing()', name);
		END LOOP;
	END $$;
});
all_at_once('with triggers');
judge('with triggers');

# ---- a child's own event while its parent's page is on its way ----

# The page of second 3 leaves out the tax id that an event of second 2 brings:
# who comes first, and who waits, makes no difference.
{
	my $page = json_text(event('evt_page', 'customer.updated', 3, { id => 'cus_1', object => 'customer', tax_ids => page() }));
	my $own = json_text(event('evt_own', 'customer.tax_id.created', 2, { id => 'txi_1', object => 'tax_id', customer => 'cus_1' }));

	prepare('concurrency_family');
	for my $case ([ 'the page is first', $page, $own ], [ 'the child is first', $own, $page ])
	{
		my ($what, @payloads) = @$case;
		my @receive = map { 'SELECT status FROM stripe_sync.receive(' . literals($_, signature($_)) . ')' } @payloads;
		my ($out, $err) = ('', '');

		$node->safe_psql('concurrency_family', 'TRUNCATE stripe_sync.event, stripe.customers, stripe.tax_ids');
		my $holder = $node->background_psql('concurrency_family');
		$holder->query_safe('BEGIN');
		$holder->query_safe($receive[0]);
		my $harness = start([ 'psql', '-XAtq', '-d', $node->connstr('concurrency_family') . ' application_name=second', '-c', $receive[1] ],
			'<', \undef, '>', \$out, '2>', \$err);
		# it waits, or is through
		$node->poll_query_until('concurrency_family', q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'second' AND wait_event_type = 'Lock')
			OR (SELECT count(*) = 1 FROM stripe_sync.event)});
		$holder->query_safe('COMMIT');
		$holder->quit;
		finish($harness);
		is("$out$err", "applied\n", "$what: the other is applied");
		is($node->safe_psql('concurrency_family', 'SELECT id, _event_id, _as_of, _deleted_at FROM stripe.tax_ids'),
			'txi_1|evt_own|2023-11-14 22:13:22+00|2023-11-14 22:13:23+00', "$what: the child is swept");
	}
}

$node->stop;
done_testing();
