# order.pl
#		Whatever the order of arrival, the mirror ends the same, and right.
#
# Each scenario is a set of events and, written by hand, the rows that must be
# there in the end.  The events arrive in every order (small sets) or in many
# (large ones), some of them more than once; in one transaction or in one
# each; written straight or, where the tables have triggers, by SQL; at READ
# COMMITTED and at REPEATABLE READ.  All mirror columns but _synced_at count.
#
# Ids of events are given in the order of the story and, in a second round,
# against it: where only an id decides, both must be seen.
#
# ONLY=regexp in the environment chooses scenarios, SEED=number another chance.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use StripeSync;

use List::Util qw(max shuffle uniq);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use constant ALL_ORDERS_UP_TO => 5;    # events; of more, a sample

my $node = shared_node('order');
my @databases = ('order_straight', 'order_triggers');

# ---- the harness ----

sub make_harness
{
	my ($database) = @_;

	make_database($node, $database);
	$node->safe_psql($database, q{
		CREATE TABLE test.event (n int PRIMARY KEY, id text, payload text, signature text);
		CREATE TABLE test.arrival (k int PRIMARY KEY, ns int[]);
		CREATE TABLE test.outcome (k int PRIMARY KEY, digest text, reread text[]);
		CREATE TABLE test.failure (k int, n int, status text, detail text);
		CREATE TABLE test.digest (digest text PRIMARY KEY, rows text);

		CREATE FUNCTION test.rows(tables text[]) RETURNS text LANGUAGE plpgsql AS $$
		DECLARE
			name text;
			one jsonb;
			result jsonb := '{}';
		BEGIN
			FOREACH name IN ARRAY tables LOOP
				EXECUTE format('SELECT jsonb_agg(r ORDER BY r::text COLLATE "C")'
					' FROM (SELECT to_jsonb(t) - ''_synced_at'' AS r FROM stripe.%I t) s', name) INTO one;
				result := result || jsonb_build_object(name, coalesce(one, '[]'));
			END LOOP;
			RETURN result::text;
		END $$;

		CREATE PROCEDURE test.clear(tables text[], how text) LANGUAGE plpgsql AS $$
		DECLARE
			name text;
		BEGIN
			FOREACH name IN ARRAY array_cat(ARRAY['stripe_sync.event', 'stripe_sync.reread'],
				ARRAY(SELECT format('stripe.%I', t) FROM unnest(tables) t)) LOOP
				EXECUTE how || ' ' || name;
			END LOOP;
		END $$;

		CREATE PROCEDURE test.run(tables text[], separately bool) LANGUAGE plpgsql AS $$
		DECLARE
			arrival record;
			delivery record;
			receipt record;
			number int;
			state text;
			types text[] := ARRAY(SELECT t.object_type FROM stripe_sync.object_type t WHERE t.table_name = ANY (tables));
		BEGIN
			CALL test.clear(tables, 'TRUNCATE');
			FOR arrival IN SELECT k, ns FROM test.arrival ORDER BY k LOOP
				-- TRUNCATE is slow, and what is deleted is in the way: some of both
				CALL test.clear(tables, CASE WHEN arrival.k % 25 = 24 THEN 'TRUNCATE' ELSE 'DELETE FROM' END);
				IF separately THEN
					COMMIT;
				END IF;
				FOREACH number IN ARRAY arrival.ns LOOP
					SELECT * INTO delivery FROM test.event e WHERE e.n = number;
					SELECT * INTO receipt FROM stripe_sync.receive(delivery.payload, delivery.signature);
					IF receipt.event_id IS DISTINCT FROM delivery.id
						OR receipt.status NOT IN ('applied', 'stale', 'duplicate') THEN
						INSERT INTO test.failure VALUES (arrival.k, number, receipt.status, receipt.detail);
					END IF;
					IF separately THEN
						COMMIT;
					END IF;
				END LOOP;
				state := test.rows(tables);
				IF arrival.k % 25 = 0 AND EXISTS (SELECT FROM stripe_sync.verify_mirror(types)) THEN
					INSERT INTO test.failure SELECT arrival.k, arrival.ns[cardinality(arrival.ns)], 'verify_mirror', v::text
						FROM stripe_sync.verify_mirror(types) v;
				END IF;
				INSERT INTO test.digest VALUES (md5(state), state) ON CONFLICT DO NOTHING;
				INSERT INTO test.outcome VALUES (arrival.k, md5(state),
					ARRAY(SELECT object_type || '/' || object_id FROM stripe_sync.reread));
				COMMIT; -- what is dead is pruned
			END LOOP;
		END $$;
	});
	return;
}

make_harness($_) for @databases;
# What isn't plain is written by SQL.
$node->safe_psql('order_triggers', q{
	CREATE FUNCTION test.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
	DO $$
	DECLARE
		name text;
	BEGIN
		FOR name IN SELECT table_name FROM stripe_sync.mirror_table LOOP
			EXECUTE format('CREATE TRIGGER nothing BEFORE INSERT OR UPDATE ON stripe.%I'
				' FOR EACH ROW EXECUTE FUNCTION test.nothing()', name);
		END LOOP;
	END $$;
});

sub array_literal { return "'{" . join(',', @_) . "}'"; }

# Deliver the events in each of the orders; returns (digest, a first order,
# count of orders) of each outcome, and what went wrong.
sub run_orders
{
	my ($database, $events, $tables, $orders, %how) = @_;
	my $sql = "SET client_min_messages = warning;\n";
	my @signed = map { my $text = json_text($_); [ $_->{id}, $text, $_->{created} ] } @$events;

	$sql .= "TRUNCATE test.event, test.arrival, test.outcome, test.failure, test.digest;\n";
	$sql .= "INSERT INTO test.event SELECT n, id, payload, stripe_sync.sign(payload, "
	  . literal(SECRET) . ", to_timestamp(at)) FROM (VALUES "
	  . join(",\n", map { "($_, " . literals(@{ $signed[$_] }[ 0, 1 ]) . ", $signed[$_][2])" } 0 .. $#signed)
	  . ") AS v (n, id, payload, at);\n";
	$sql .= "INSERT INTO test.arrival VALUES "
	  . join(",\n", map { "($_, " . array_literal(@{ $orders->[$_] }) . ")" } 0 .. $#$orders) . ";\n";
	$sql .= "SET default_transaction_isolation = 'repeatable read';\n" if $how{repeatable};
	$sql .= "CALL test.run(" . array_literal(@$tables) . ", "
	  . ($how{separately} ? 'true' : 'false') . ");\n";
	# every event can be explained as well
	$sql .= "SELECT json_build_object("
	  . "'outcomes', (SELECT json_agg(json_build_object('digest', digest, 'count', count, 'order', "
	  . "    (SELECT ns FROM test.arrival WHERE k = first), 'rows', rows::json) ORDER BY count DESC)"
	  . "  FROM (SELECT digest, rows, count(*), min(k) AS first FROM test.outcome"
	  . "        JOIN test.digest USING (digest) GROUP BY 1, 2) o),"
	  . "'failures', (SELECT json_agg(f) FROM (SELECT * FROM test.failure LIMIT 3) f),"
	  . "'unexplained', (SELECT count(*) FROM stripe_sync.event WHERE stripe_sync.explain_event(id) = ''),"
	  . "'reread', (SELECT json_agg(DISTINCT reread) FROM test.outcome));\n";
	my ($ret, $out, $err) = $node->psql($database, $sql);
	return { error => $err || "psql ended with $ret" } if $ret != 0 || $err ne '';
	return json_value($out);
}

# ---- what is expected ----

# A row that must be there.
sub row
{
	my ($data, $event, $as_of, $deleted) = @_;

	return { data => $data, event => $event, as_of => $as_of, deleted => $deleted };
}

sub row_key
{
	my ($row) = @_;
	my $key = $row->{id} // $row->{customer} // '';

	return $row->{_account} eq '' ? $key : "$key\@$row->{_account}";
}

# Differences between the rows found and those expected, as lines.
sub differences
{
	my ($found, $expected) = @_;
	my @lines;

	for my $table (sort keys %$expected)
	{
		my $want = $expected->{$table};
		my %have = map { (row_key($_) => $_) } @{ $found->{$table} };

		for my $key (sort(uniq(keys %have, keys %$want)))
		{
			my ($row, $should) = ($have{$key}, $want->{$key});

			if (!defined $row || !defined $should)
			{
				push @lines, "$table $key is " . (defined $row ? 'there' : 'missing');
				next;
			}
			next unless ref $should;    # any content will do
			my %is = (
				data => $row->{_data}, event => $row->{_event_id},
				as_of => $row->{_as_of}, deleted => $row->{_deleted_at});
			my %must = (
				%$should, as_of => stamp($should->{as_of}), deleted => stamp($should->{deleted}));
			for my $field (qw(data event as_of deleted))
			{
				next if $field eq 'event' && !defined $must{event};
				push @lines, "$table $key: $field is " . json_text($is{$field})
				  . ", should be " . json_text($must{$field})
				  if json_text($is{$field}) ne json_text($must{$field});
			}
		}
	}
	return @lines;
}

# ---- running a scenario ----

sub orders_of
{
	my ($count, $sample) = @_;
	my @orders = $count <= ALL_ORDERS_UP_TO ? permutations(0 .. $count - 1) :
	  random_orders($sample, 0 .. $count - 1);

	@orders = (shuffle @orders)[ 0 .. $sample - 1 ] if @orders > $sample;
	return [ map { chance(0.5) ? with_duplicates($_, 0.4) : $_ } @orders ];
}

# Ids in the order of the story, or against it.
sub relabel
{
	my ($events, $reverse) = @_;
	my %label;
	my $n = @$events;

	for my $i (0 .. $#$events)
	{
		$label{ $events->[$i]{id} } =
		  sprintf('evt_%02d_%s', $reverse ? $n - $i : $i, $events->[$i]{id});
	}
	return ([ map { +{ %$_, id => $label{ $_->{id} } } } @$events ], \%label);
}

# Put the labels into what is expected.
sub labelled
{
	my ($expected, $label) = @_;
	my %result;

	$expected = $expected->($label) if ref $expected eq 'CODE';
	for my $table (keys %$expected)
	{
		for my $key (keys %{ $expected->{$table} })
		{
			my $row = $expected->{$table}{$key};

			$result{$table}{$key} = ref $row && defined $row->{event} ?
			  { %$row, event => $label->{ $row->{event} } } : $row;
		}
	}
	return \%result;
}

my %modes = (
	'in one transaction' => { database => 'order_straight', share => 1 },
	'in one each'        => { database => 'order_straight', share => 0.4, separately => 1 },
	'with triggers'      => { database => 'order_triggers', share => 0.25 },
	'repeatable read'    => { database => 'order_straight', share => 0.25, separately => 1, repeatable => 1 },
	'repeatable read, in one transaction' => { database => 'order_straight', share => 0.1, repeatable => 1 },
	'with triggers, in one each' => { database => 'order_triggers', share => 0.1, separately => 1 },
);

# Stories of chance take turns at the modes that are dearer.
sub two_modes
{
	my ($round) = @_;
	my @dearer = grep { $_ ne 'in one transaction' } sort keys %modes;

	return ('in one transaction', $dearer[ $round % @dearer ]);
}

# What is wrong with one scenario in one mode and one labelling, as lines.
sub run_mode
{
	my ($scenario, $mode, $reverse, $first) = @_;
	my %how = %{ $modes{$mode} };
	my ($events, $label) = relabel($scenario->{events}, $reverse);
	my $sample = max(4, int(($scenario->{sample} // 200) * $how{share}));
	my $result = run_orders($how{database}, $events, $scenario->{tables},
		orders_of(scalar @$events, $sample), %how);
	my $where = "$mode, ids " . ($reverse ? 'against the story' : 'as the story');
	my @lines;

	return "$where: $result->{error}" if $result->{error};
	my @names = map { $_->{id} } @$events;
	push @lines, map { "$where: $names[$_->{n}] was $_->{status}: " . ($_->{detail} // '') }
	  @{ $result->{failures} // [] };
	push @lines, "$where: an event without explanation" if $result->{unexplained};
	for my $outcome (@{ $result->{outcomes} })
	{
		my @wrong;

		@wrong = differences($outcome->{rows}, labelled($scenario->{expect}, $label))
		  if defined $scenario->{expect};
		push @lines, map { "$where: $_ ($outcome->{count} orders, e.g. "
			  . join(' ', map { $names[$_] } @{ $outcome->{order} }) . ")" } @wrong;
	}
	if (@{ $result->{outcomes} } > 1)
	{
		push @lines, "$where: " . @{ $result->{outcomes} } . " different outcomes";
		push @lines, unlike_outcomes(\@names, @{ $result->{outcomes} }[ 0, 1 ]) if !@lines || !defined $scenario->{expect};
	}
	for my $object (@{ $scenario->{reread} // [] })
	{
		push @lines, "$where: $object is not marked to be read again, in some order"
		  if grep { my $list = $_; !grep { $_ eq $object } @$list } @{ $result->{reread} };
	}
	my @digests = sort map { $_->{digest} } @{ $result->{outcomes} };
	$first->{$reverse} //= \@digests;
	push @lines, "$where: another outcome than in one transaction"
	  if !@lines && "@digests" ne "@{$first->{$reverse}}";
	return @lines;
}

# In what do two outcomes differ?
sub unlike_outcomes
{
	my ($names, @outcomes) = @_;
	my @lines;
	my ($a, $b) = map { $_->{rows} } @outcomes;

	for my $table (sort keys %$a)
	{
		my %rows = map { (json_text($_) => 1) } @{ $b->{$table} };
		my %back = map { (json_text($_) => 1) } @{ $a->{$table} };

		push @lines, map { "  order 1 has $_" } grep { !$rows{$_} } sort keys %back;
		push @lines, map { "  order 2 has $_" } grep { !$back{$_} } sort keys %rows;
	}
	return (map({ my $i = $_; "  order " . ($i + 1) . ": " . join(' ', map { $names->[$_] } @{ $outcomes[$i]{order} }) } 0, 1), @lines);
}

sub scenario
{
	my ($name, %scenario) = @_;
	my %first;
	my @lines;

	return if $ENV{ONLY} && $name !~ /$ENV{ONLY}/;
	for my $mode ('in one transaction', grep { $_ ne 'in one transaction' } sort keys %modes)
	{
		next if $scenario{modes} && !grep { $_ eq $mode } @{ $scenario{modes} };
		push @lines, run_mode(\%scenario, $mode, $_, \%first) for 0, 1;
		last if @lines;
	}
	ok(!@lines, $name) or diag(join("\n", splice(@lines, 0, 6)));
	return;
}

# ---- objects and events ----

my %updated = (
	customer => 'customer.updated', subscription => 'customer.subscription.updated',
	invoice => 'invoice.updated', coupon => 'coupon.updated', product => 'product.updated',
	account => 'account.updated', charge => 'charge.updated', credit_note => 'credit_note.updated',
);

# An update from one state to the next, with its previous_attributes.
sub update
{
	my ($id, $second, $before, $after, %rest) = @_;

	return event($id, $rest{type} // $updated{ $after->{object} }, $second, $after,
		previous => diff($before, $after), %rest{ grep { exists $rest{$_} } 'account' });
}

sub page
{
	my ($url, $more, @data) = @_;

	return { object => 'list', url => $url, has_more => $more ? TRUE : FALSE, data => \@data };
}

sub customer     { return { id => 'cus_1', object => 'customer', created => T0, @_ }; }
sub subscription { return { id => 'sub_1', object => 'subscription', customer => 'cus_1', status => 'active', @_ }; }
sub invoice      { return { id => 'in_1', object => 'invoice', customer => 'cus_1', amount_due => 500, amount_paid => 0, status => 'draft', @_ }; }
sub coupon       { return { id => 'SPRING', object => 'coupon', valid => TRUE, @_ }; }

sub item
{
	my ($id, %rest) = @_;

	return { id => $id, object => 'subscription_item', subscription => 'sub_1', quantity => 1, %rest };
}

sub items { return (items => page('/v1/subscription_items', 0, @_)); }

sub tax_id
{
	my ($id, %rest) = @_;

	return { id => $id, object => 'tax_id', customer => 'cus_1', type => 'eu_vat', value => 'DE1', %rest };
}

sub tax_ids { return (tax_ids => page('/v1/customers/cus_1/tax_ids', 0, @_)); }

my $seed = seed();

# ---- seconds of their own ----

{
	my ($a, $b, $c) = map { customer(name => $_) } qw(Anna Berta Clara);

	scenario('changes in seconds of their own',
		events => [ event('a', 'customer.created', 0, $a), update('b', 1, $a, $b), update('c', 2, $b, $c) ],
		tables => ['customers'],
		expect => { customers => { cus_1 => row($c, 'c', 2) } });
	scenario('an event that changes nothing raises _as_of and _event_id',
		events => [ event('a', 'customer.created', 0, $a), event('b', 'customer.updated', 5, $a) ],
		tables => ['customers'],
		expect => { customers => { cus_1 => row($a, 'b', 5) } });
}

# ---- within one second ----

{
	my ($a, $b, $c, $d) = map { customer(name => $_) } qw(Anna Berta Clara Dora);

	scenario('a, b, a within a second, the state before is known',
		events => [ event('created', 'customer.created', 0, $a), update('ab', 1, $a, $b), update('ba', 1, $b, $a) ],
		tables => ['customers'],
		expect => { customers => { cus_1 => row($a, 'ba', 1) } });
	scenario('a, b, a within the second of the creation',
		events => [ event('created', 'customer.created', 1, $a), update('ab', 1, $a, $b), update('ba', 1, $b, $a) ],
		tables => ['customers'],
		expect => { customers => { cus_1 => row($a, 'ba', 1) } });
	scenario('a, b, a within a second, the state before is unknown',
		events => [ update('ab', 1, $a, $b), update('ba', 1, $b, $a) ],
		tables => ['customers'], reread => ['customer/cus_1'],
		expect => sub {
			my ($label) = @_;
			return { customers => { cus_1 => $label->{ab} gt $label->{ba} ? row($b, 'ab', 1) : row($a, 'ba', 1) } };
		});
	scenario('a late earlier event tells an ambiguous second',
		events => [ event('created', 'customer.created', 0, $b), update('ab', 1, $a, $b), update('ba', 1, $b, $a) ],
		tables => ['customers'],
		expect => { customers => { cus_1 => row($b, 'ab', 1) } });
	scenario('a chain within a second, the state before is known',
		events => [ event('created', 'customer.created', 0, $a), update('ab', 1, $a, $b), update('bc', 1, $b, $c), update('cd', 1, $c, $d) ],
		tables => ['customers'],
		expect => { customers => { cus_1 => row($d, 'cd', 1) } });
	scenario('a chain within a second, the state before is unknown',
		events => [ update('ab', 1, $a, $b), update('bc', 1, $b, $c), update('cd', 1, $c, $d) ],
		tables => ['customers'],
		expect => { customers => { cus_1 => row($d, 'cd', 1) } });
	scenario('chains in two seconds, the second one leads back',
		events => [
			event('created', 'customer.created', 0, $a), update('ab', 1, $a, $b), update('bc', 1, $b, $c),
			update('cb', 2, $c, $b), update('bc2', 2, $b, $c), update('ca', 2, $c, $a),
		],
		tables => ['customers'],
		expect => { customers => { cus_1 => row($a, 'ca', 2) } });
	scenario('one change told by two events',
		events => [ event('created', 'customer.created', 0, $a), update('ab', 1, $a, $b), update('ab2', 1, $a, $b), update('bc', 1, $b, $c) ],
		tables => ['customers'],
		expect => { customers => { cus_1 => row($c, 'bc', 1) } });
	scenario('equal objects of one second are no conflict',
		events => [ event('created', 'customer.created', 0, $a), event('x', 'customer.updated', 1, $b), event('y', 'customer.updated', 1, $b) ],
		tables => ['customers'],
		expect => sub {
			my ($label) = @_;
			return { customers => { cus_1 => row($b, undef, 1) } };
		});
	my @chain = map { customer(name => "name $_") } 0 .. 16;
	scenario('sixteen changes within a second',
		events => [ event('c0', 'customer.created', 0, $chain[0]), map { update("c$_", 1, $chain[ $_ - 1 ], $chain[$_]) } 1 .. 16 ],
		tables => ['customers'], sample => 24,
		expect => { customers => { cus_1 => row($chain[16], 'c16', 1) } });
}

# ---- previous_attributes: nested, null, arrays ----

{
	my $none = customer();
	my $empty = customer(metadata => {});
	my ($a, $ab, $b) = map { customer(metadata => $_) } { a => '1' }, { a => '1', b => '2' }, { b => '2' };

	scenario('keys of metadata come and go within a second',
		events => [
			event('created', 'customer.created', 0, $empty), update('a', 1, $empty, $a),
			update('ab', 1, $a, $ab), update('b', 1, $ab, $b), update('empty', 1, $b, $empty),
		],
		tables => ['customers'],
		expect => { customers => { cus_1 => row($empty, 'empty', 1) } });
	scenario('a field that was absent before',
		events => [ event('created', 'customer.created', 0, $none), update('a', 1, $none, $a), update('none', 1, $a, $none), update('b', 1, $none, $b) ],
		tables => ['customers'],
		expect => { customers => { cus_1 => row($b, 'b', 1) } });

	my ($k1c3, $k1, $k2, $k2c3) = map { customer(metadata => $_) }
	  { k => '1', c => '3' }, { k => '1' }, { k => '2' }, { k => '2', c => '3' };
	scenario('a key lost in a nested hash tells the order too',
		events => [
			event('created', 'customer.created', 0, $k1c3), update('e1', 1, $k1c3, $k1),
			update('e2', 1, $k1, $k2), update('e3', 1, $k2, $k2c3), update('e4', 1, $k2c3, $k1c3),
		],
		tables => ['customers'],
		expect => { customers => { cus_1 => row($k1c3, 'e4', 1) } });

	my ($null, $ship, $ship2) = map { customer(shipping => $_) } undef,
	  { name => 'A', address => { city => 'Bonn', line2 => undef } },
	  { name => 'A', address => { city => 'Bonn', line2 => 'x' } };
	scenario('a hash from null, changed inside, to null again',
		events => [ event('created', 'customer.created', 0, $null), update('s', 1, $null, $ship), update('s2', 1, $ship, $ship2), update('n', 1, $ship2, $null) ],
		tables => ['customers'],
		expect => { customers => { cus_1 => row($null, 'n', 1) } });

	my ($en, $ende, $de) = map { customer(preferred_locales => $_) } ['en'], [ 'en', 'de' ], [ 'de', 'en' ];
	scenario('arrays are told whole, and their order counts',
		events => [ event('created', 'customer.created', 0, $en), update('1', 1, $en, $ende), update('2', 1, $ende, $de), update('3', 1, $de, $en) ],
		tables => ['customers'],
		expect => { customers => { cus_1 => row($en, '3', 1) } });
}

# ---- what Stripe really sends within a second ----

{
	my $line = sub { return (lines => page('/v1/invoices/in_1/lines', 0, map { { id => $_, object => 'line_item', invoice => 'in_1', amount => 5 } } @_)); };
	my $draft = invoice($line->('il_1'));
	my $open = invoice(status => 'open', number => 'N-1', $line->('il_1'));
	my $paid = invoice(status => 'paid', number => 'N-1', amount_paid => 500, $line->('il_1'));
	my @burst = (event('created', 'invoice.created', 1, $draft), event('finalized', 'invoice.finalized', 1, $open));
	my @tables = ('invoices', table_of('line_item'));
	my $lines = sub { return ($tables[1] => { il_1 => 1 }); };

	scenario('an invoice created, finalized, updated and paid within a second',
		events => [ @burst, update('updated', 1, $open, $paid), event('paid', 'invoice.paid', 1, $paid) ],
		tables => \@tables,
		expect => { invoices => { in_1 => row($paid, undef, 1) }, $lines->() });
	scenario('an invoice whose update tells of the finalization',
		events => [ @burst, update('updated', 1, $draft, $open), event('paid', 'invoice.paid', 1, $paid) ],
		tables => \@tables,
		expect => { invoices => { in_1 => row($paid, 'paid', 1) }, $lines->() });
	scenario('an invoice with a note made before it was paid',
		events => [ @burst, update('updated', 1, $open, { %$open, description => 'x' }), event('paid', 'invoice.paid', 1, { %$paid, description => 'x' }) ],
		tables => \@tables,
		expect => { invoices => { in_1 => row({ %$paid, description => 'x' }, 'paid', 1) }, $lines->() });
	scenario('an invoice with a note made after it was paid',
		events => [ @burst, event('paid', 'invoice.paid', 1, $paid), update('updated', 1, $paid, { %$paid, description => 'x' }) ],
		tables => \@tables,
		expect => { invoices => { in_1 => row({ %$paid, description => 'x' }, 'updated', 1) }, $lines->() });
	scenario('an invoice burst with payment_succeeded, and a draft known before',
		events => [
			event('created', 'invoice.created', 0, $draft), event('finalized', 'invoice.finalized', 2, $open),
			update('updated', 2, $open, $paid), event('paid', 'invoice.paid', 2, $paid),
			event('succeeded', 'invoice.payment_succeeded', 2, $paid),
		],
		tables => \@tables,
		expect => { invoices => { in_1 => row($paid, undef, 2) }, $lines->() });
	scenario('finalized and paid without previous_attributes: the later step of life',
		events => [ event('finalized', 'invoice.finalized', 1, $open), event('paid', 'invoice.paid', 1, $paid) ],
		tables => \@tables, reread => ['invoice/in_1'],
		expect => { invoices => { in_1 => row($paid, 'paid', 1) }, $lines->() });
	scenario('a payment that failed leaves an invoice open',
		events => [ @burst, event('failed', 'invoice.payment_failed', 1, { %$open, attempt_count => 1 }), update('updated', 1, $open, { %$open, attempt_count => 1 }) ],
		tables => \@tables,
		expect => { invoices => { in_1 => row({ %$open, attempt_count => 1 }, undef, 1) }, $lines->() });
}

{
	my $trial = subscription(status => 'trialing', trial_end => T0 + 100);
	my $active = subscription(status => 'active', trial_end => T0 + 1);
	my @second = (event('ends', 'customer.subscription.trial_will_end', 1, $trial), update('updated', 1, $trial, $active));

	scenario('trial_will_end and updated in the same second, nothing known before',
		events => \@second, tables => ['subscriptions'],
		expect => { subscriptions => { sub_1 => row($active, 'updated', 1) } });
	scenario('trial_will_end and updated in the same second, the trial is known',
		events => [ event('created', 'customer.subscription.created', 0, $trial), @second ],
		tables => ['subscriptions'],
		expect => { subscriptions => { sub_1 => row($active, 'updated', 1) } });
	my $short = subscription(status => 'trialing', trial_end => T0 + 50);
	scenario('trial_will_end because the trial was shortened',
		events => [
			event('created', 'customer.subscription.created', 0, $trial), update('updated', 1, $trial, $short),
			event('ends', 'customer.subscription.trial_will_end', 1, $short),
		],
		tables => ['subscriptions'],
		expect => { subscriptions => { sub_1 => row($short, undef, 1) } });
	my $started = subscription(status => 'incomplete');
	scenario('a subscription created and updated in the same second',
		events => [ event('created', 'customer.subscription.created', 1, $started), update('updated', 1, $started, $active) ],
		tables => ['subscriptions'],
		expect => { subscriptions => { sub_1 => row($active, 'updated', 1) } });
	my $ending = subscription(cancel_at_period_end => TRUE);
	my $canceled = subscription(status => 'canceled', cancel_at_period_end => TRUE);
	my $running = subscription(cancel_at_period_end => FALSE);
	scenario('a subscription updated and cancelled in the same second',
		events => [
			event('created', 'customer.subscription.created', 0, $running), update('updated', 1, $running, $ending),
			event('deleted', 'customer.subscription.deleted', 1, $canceled),
		],
		tables => ['subscriptions'],
		expect => { subscriptions => { sub_1 => row($canceled, 'deleted', 1) } });
	scenario('a subscription updated after its cancellation',
		events => [
			event('created', 'customer.subscription.created', 0, $running),
			event('deleted', 'customer.subscription.deleted', 1, $canceled),
			update('noted', 3, $canceled, { %$canceled, metadata => { why => 'price' } }),
		],
		tables => ['subscriptions'],
		expect => { subscriptions => { sub_1 => row({ %$canceled, metadata => { why => 'price' } }, 'noted', 3) } });
}

# ---- an ambiguous second that a late event resolves, against life ----

{
	my $active = subscription(items(item('si_a', quantity => 2)));
	my $due = subscription(status => 'past_due', items(item('si_a', quantity => 2), item('si_b')));
	my @second = (update('due', 1, $active, $due), update('paid', 1, $due, $active));

	scenario('past due and active again within a second, nothing known: life decides',
		events => \@second, tables => [ 'subscriptions', 'subscription_items' ], reread => ['subscription/sub_1'],
		expect => { subscriptions => { sub_1 => row($due, 'due', 1) },
			subscription_items => { si_a => row(item('si_a', quantity => 2), 'due', 1), si_b => row(item('si_b'), 'due', 1) } });
	scenario('past due and active again within a second, a late event tells the order',
		events => [ event('created', 'customer.subscription.created', 0, $active), @second ],
		tables => [ 'subscriptions', 'subscription_items' ],
		expect => { subscriptions => { sub_1 => row($active, 'paid', 1) },
			subscription_items => { si_a => row(item('si_a', quantity => 2), 'paid', 1), si_b => row(item('si_b'), 'due', 1, 1) } });
	my $cut = subscription(items => page('/v1/subscription_items', 1, item('si_a')));
	scenario('the snapshot that a late event makes the newest has a page cut short',
		events => [ event('created', 'customer.subscription.created', 0, $cut), update('due', 1, $cut, $due), update('paid', 1, $due, $cut) ],
		tables => [ 'subscriptions', 'subscription_items' ], reread => ['subscription/sub_1'],
		expect => { subscriptions => { sub_1 => row($cut, 'paid', 1) },
			subscription_items => { si_a => row(item('si_a'), 'paid', 1), si_b => row(item('si_b'), 'due', 1) } });
}

# ---- deletions ----

{
	my ($a, $b, $c) = map { coupon(name => $_) } qw(first second third);

	scenario('a coupon deleted and created again',
		events => [
			event('created', 'coupon.created', 0, $a), update('updated', 1, $a, $b), event('deleted', 'coupon.deleted', 2, $b),
			event('again', 'coupon.created', 4, $a), update('third', 5, $a, $c),
		],
		tables => ['coupons'],
		expect => { coupons => { SPRING => row($c, 'third', 5) } });
	scenario('a coupon deleted twice',
		events => [
			event('created', 'coupon.created', 0, $a), event('deleted', 'coupon.deleted', 2, $a),
			event('again', 'coupon.created', 4, $b), event('gone', 'coupon.deleted', 5, $b), update('late', 6, $b, $c),
		],
		tables => ['coupons'],
		expect => { coupons => { SPRING => row($b, 'gone', 5, 5) } });
	scenario('a coupon changed in the second of its second creation',
		events => [
			event('created', 'coupon.created', 0, $a), event('deleted', 'coupon.deleted', 2, $a),
			event('again', 'coupon.created', 4, $a), update('ab', 4, $a, $b), update('ba', 4, $b, $a),
		],
		tables => ['coupons'],
		expect => { coupons => { SPRING => row($a, 'ba', 4) } });
	scenario('created, updated and deleted within a second',
		events => [ event('created', 'coupon.created', 1, $a), update('updated', 1, $a, $b), event('deleted', 'coupon.deleted', 1, $b) ],
		tables => ['coupons'],
		expect => { coupons => { SPRING => row($b, 'deleted', 1, 1) } });
	my $gone = { id => 'prod_1', object => 'product', deleted => TRUE };
	my ($p, $q) = map { { id => 'prod_1', object => 'product', name => $_ } } qw(P Q);
	scenario('an update after the deletion changes nothing',
		events => [ event('created', 'product.created', 0, $p), event('deleted', 'product.deleted', 2, $gone), update('late', 3, $p, $q) ],
		tables => ['products'],
		expect => { products => { prod_1 => row($gone, 'deleted', 2, 2) } });
	scenario('an update from before the deletion changes nothing',
		events => [ update('old', 1, $p, $q), event('deleted', 'product.deleted', 2, $gone) ],
		tables => ['products'],
		expect => { products => { prod_1 => row($gone, 'deleted', 2, 2) } });
	scenario('deleted and updated in the same second',
		events => [ event('created', 'product.created', 0, $p), update('updated', 2, $p, $q), event('deleted', 'product.deleted', 2, $gone) ],
		tables => ['products'],
		expect => { products => { prod_1 => row($gone, 'deleted', 2, 2) } });
	scenario('deleted and created in the same second is deleted',
		events => [ event('created', 'product.created', 2, $p), event('deleted', 'product.deleted', 2, $gone), event('older', 'product.created', 0, $p) ],
		tables => ['products'],
		expect => { products => { prod_1 => row($gone, 'deleted', 2, 2) } });
}

# ---- accounts ----

{
	my @states = map { coupon(name => $_) } qw(own first second);

	scenario('one id in two accounts and one\'s own',
		events => [
			event('own', 'coupon.created', 3, $states[0]),
			event('one', 'coupon.created', 1, $states[1], account => 'acct_1'),
			event('gone', 'coupon.deleted', 2, $states[1], account => 'acct_1'),
			event('two', 'coupon.created', 0, $states[1], account => 'acct_2'),
			update('two2', 2, $states[1], $states[2], account => 'acct_2'),
		],
		tables => ['coupons'],
		expect => { coupons => {
			SPRING => row($states[0], 'own', 3), 'SPRING@acct_1' => row($states[1], 'gone', 2, 2),
			'SPRING@acct_2' => row($states[2], 'two2', 2) } });

	my $balance = sub { return { object => 'balance', available => [ { amount => $_[0] + 0, currency => 'eur' } ] }; };
	scenario('objects without an id: one an account',
		events => [
			event('a', 'balance.available', 1, $balance->(1)), event('b', 'balance.available', 2, $balance->(2)),
			event('c', 'balance.available', 1, $balance->(3), account => 'acct_1'),
			event('d', 'balance.available', 3, $balance->(4), account => 'acct_1'),
		],
		tables => [ table_of('balance') ],
		expect => { table_of('balance') => { '' => row($balance->(2), 'b', 2), '@acct_1' => row($balance->(4), 'd', 3) } });

	my $bank = sub { my ($id, %rest) = @_; return { id => $id, object => 'bank_account', account => 'acct_1', status => 'new', %rest }; };
	my $account = sub { return { id => 'acct_1', object => 'account', external_accounts => page('/v1/accounts/acct_1/external_accounts', 0, @_) }; };
	my ($first, $second) = ($account->($bank->('ba_1')), $account->($bank->('ba_2')));
	scenario('bank accounts of a connected account',
		events => [
			event('a', 'account.updated', 1, $first, account => 'acct_1'),
			event('own', 'account.external_account.updated', 2, $bank->('ba_1', status => 'validated'), account => 'acct_1'),
			event('b', 'account.updated', 3, $second, account => 'acct_1'),
		],
		tables => [ 'accounts', table_of('bank_account') ],
		expect => { accounts => { acct_1 => row($second, 'b', 3) },
			table_of('bank_account') => {
				'ba_1@acct_1' => row($bank->('ba_1', status => 'validated'), 'own', 2, 3),
				'ba_2@acct_1' => row($bank->('ba_2'), 'b', 3) } });
	scenario('bank accounts of a connected account, in one second',
		events => [
			update('a', 1, $second, $first, account => 'acct_1'),
			event('own', 'account.external_account.created', 1, $bank->('ba_1', status => 'own'), account => 'acct_1'),
		],
		tables => [ 'accounts', table_of('bank_account') ],
		expect => { accounts => { acct_1 => row($first, 'a', 1) },
			table_of('bank_account') => { 'ba_1@acct_1' => row($bank->('ba_1', status => 'own'), 'own', 1) } });
}

# ---- children of pages ----

{
	my @tables = ('subscriptions', 'subscription_items');
	my $at = sub { my ($s, @ids) = @_; return subscription(items(map { item("si_$_", quantity => $s + 0) } @ids)); };
	my @s = ($at->(0, 'a', 'b'), $at->(2, 'b', 'c'), $at->(4, 'a', 'c'), $at->(6, 'c'));
	my $is = sub { my ($id, $quantity, @rest) = @_; return ("si_$id" => row(item("si_$id", quantity => $quantity), @rest)); };

	scenario('items swept and listed again, in different seconds',
		events => [
			event('s0', 'customer.subscription.created', 0, $s[0]), update('s2', 2, $s[0], $s[1]),
			update('s4', 4, $s[1], $s[2]), update('s6', 6, $s[2], $s[3]),
		],
		tables => \@tables,
		expect => { subscriptions => { sub_1 => row($s[3], 's6', 6) },
			subscription_items => { $is->('a', 4, 's4', 4, 6), $is->('b', 2, 's2', 2, 4), $is->('c', 6, 's6', 6) } });
	scenario('items swept twice: the first time counts',
		events => [
			event('s0', 'customer.subscription.created', 0, $s[0]), update('s2', 2, $s[0], $s[1]), update('s4', 4, $s[1], $s[3]), update('s5', 5, $s[3], $s[3]) ],
		tables => \@tables,
		expect => { subscriptions => { sub_1 => row($s[3], 's5', 5) },
			subscription_items => { $is->('a', 0, 's0', 0, 2), $is->('b', 2, 's2', 2, 4), $is->('c', 6, 's5', 5) } });
	scenario('items swept and listed again, within a second',
		events => [
			event('s0', 'customer.subscription.created', 1, $s[0]), update('s2', 1, $s[0], $s[1]),
			update('s4', 1, $s[1], $s[2]), update('s6', 1, $s[2], $s[3]),
		],
		tables => \@tables,
		expect => { subscriptions => { sub_1 => row($s[3], 's6', 1) },
			subscription_items => { $is->('a', 4, 's4', 1, 1), $is->('b', 2, 's2', 1, 1), $is->('c', 6, 's6', 1) } });
	scenario('items of two seconds with two changes each',
		events => [
			event('s0', 'customer.subscription.created', 0, $s[0]), update('s2', 1, $s[0], $s[1]), update('s4', 1, $s[1], $s[2]),
			update('s6', 2, $s[2], $s[3]), update('s8', 2, $s[3], $s[0]),
		],
		tables => \@tables,
		expect => { subscriptions => { sub_1 => row($s[0], 's8', 2) },
			subscription_items => { $is->('a', 0, 's8', 2), $is->('b', 0, 's8', 2), $is->('c', 6, 's6', 2, 2) } });

	my $cut = subscription(items => page('/v1/subscription_items', 1, item('si_a', quantity => 3)));
	scenario('a page cut short sweeps nothing and is to be read again',
		events => [ event('s0', 'customer.subscription.created', 0, $s[0]), update('cut', 3, $s[0], $cut) ],
		tables => \@tables, reread => ['subscription/sub_1'],
		expect => { subscriptions => { sub_1 => row($cut, 'cut', 3) },
			subscription_items => { $is->('a', 3, 'cut', 3), $is->('b', 0, 's0', 0) } });
	scenario('a page cut short between whole ones',
		events => [ event('s0', 'customer.subscription.created', 0, $s[0]), update('cut', 3, $s[0], $cut), update('s4', 4, $cut, $s[2]) ],
		tables => \@tables,
		expect => { subscriptions => { sub_1 => row($s[2], 's4', 4) },
			subscription_items => { $is->('a', 4, 's4', 4), $is->('b', 0, 's0', 0, 4), $is->('c', 4, 's4', 4) } });
	scenario('a cancelled subscription keeps its items',
		events => [ event('s0', 'customer.subscription.created', 0, $s[0]), event('gone', 'customer.subscription.deleted', 3, { %{ $s[0] }, status => 'canceled' }) ],
		tables => \@tables,
		expect => { subscriptions => { sub_1 => row({ %{ $s[0] }, status => 'canceled' }, 'gone', 3) },
			subscription_items => { $is->('a', 0, 'gone', 3), $is->('b', 0, 'gone', 3) } });

	# children that don't name their parent
	my $note_line = sub { return { id => $_[0], object => 'credit_note_line_item', amount => $_[1] + 0 }; };
	my $note = sub { my ($more, $s, @ids) = @_;
		return { id => 'cn_1', object => 'credit_note', status => 'issued', lines => page('/v1/credit_notes/cn_1/lines', $more, map { $note_line->($_, $s) } @ids) }; };
	my @n = ($note->(0, 0, 'l1', 'l2'), $note->(1, 2, 'l1'), $note->(0, 3, 'l1'));
	my $table = table_of('credit_note_line_item');
	scenario('children that don\'t name their parent are swept too',
		events => [ event('n0', 'credit_note.created', 0, $n[0]), update('n3', 3, $n[0], $n[2]) ],
		tables => [ 'credit_notes', $table ],
		expect => { credit_notes => { cn_1 => row($n[2], 'n3', 3) },
			$table => { l1 => row($note_line->('l1', 3), 'n3', 3), l2 => row($note_line->('l2', 0), 'n0', 0, 3) } });
	scenario('children that don\'t name their parent, and a page cut short between',
		events => [ event('n0', 'credit_note.created', 0, $n[0]), update('n2', 2, $n[0], $n[1]), update('n3', 3, $n[1], $n[2]) ],
		tables => [ 'credit_notes', $table ],
		expect => { credit_notes => { cn_1 => row($n[2], 'n3', 3) },
			$table => { l1 => row($note_line->('l1', 3), 'n3', 3), l2 => row($note_line->('l2', 0), 'n0', 0, 3) } });

	my $right = sub { return { id => $_[0], object => 'entitlements.active_entitlement', lookup_key => $_[0], feature => "feat_$_[0]" }; };
	my $summary = sub { return { object => 'entitlements.active_entitlement_summary', customer => 'cus_1', entitlements => page('/v1/customer/cus_1/entitlements', 0, map { $right->($_) } @_) }; };
	my @e = ($summary->('x', 'y'), $summary->('y'), $summary->('y', 'z'));
	my $rights = table_of('entitlements.active_entitlement');
	my $summaries = table_of('entitlements.active_entitlement_summary');
	scenario('entitlements follow their newest summary',
		events => [ map { event("e$_", 'entitlements.active_entitlement_summary.updated', $_, $e[$_]) } 0 .. 2 ],
		tables => [ $rights, $summaries ],
		expect => { $summaries => { cus_1 => row($e[2], 'e2', 2) },
			$rights => { x => row($right->('x'), 'e0', 0, 1), y => row($right->('y'), 'e2', 2), z => row($right->('z'), 'e2', 2) } });
}

# ---- children with events of their own ----

{
	my @tables = ('charges', 'refunds');
	my $refund = sub { my (%rest) = @_; return { id => 're_1', object => 'refund', charge => 'ch_1', amount => 5, status => 'pending', %rest }; };
	my $charge = sub { my ($refunded, @refunds) = @_;
		return { id => 'ch_1', object => 'charge', amount => 5, status => 'succeeded', amount_refunded => $refunded + 0, refunds => page('/v1/charges/ch_1/refunds', 0, @refunds) }; };
	my $paid = $charge->(0);
	my $refunded = $charge->(5, $refund->(via => 'charge'));
	my $later = $charge->(5, $refund->(via => 'charge', status => 'succeeded'));

	scenario('a refund\'s own event beats an embedding of the same second',
		events => [
			event('paid', 'charge.succeeded', 0, $paid), update('refunded', 2, $paid, $refunded, type => 'charge.refunded'),
			event('refund', 'refund.created', 2, $refund->(via => 'own')),
		],
		tables => \@tables,
		expect => { charges => { ch_1 => row($refunded, 'refunded', 2) }, refunds => { re_1 => row($refund->(via => 'own'), 'refund', 2) } });
	scenario('a refund\'s later event beats an embedding',
		events => [
			event('paid', 'charge.succeeded', 0, $paid), update('refunded', 2, $paid, $refunded, type => 'charge.refunded'),
			event('refund', 'refund.created', 2, $refund->(via => 'own')), event('done', 'refund.updated', 4, $refund->(via => 'own', status => 'succeeded'), previous => { status => 'pending' }),
		],
		tables => \@tables,
		expect => { charges => { ch_1 => row($refunded, 'refunded', 2) }, refunds => { re_1 => row($refund->(via => 'own', status => 'succeeded'), 'done', 4) } });
	scenario('a later embedding beats a refund\'s event',
		events => [
			event('refund', 'refund.created', 2, $refund->(via => 'own')), update('refunded', 2, $paid, $refunded, type => 'charge.refunded'),
			update('later', 6, $refunded, $later),
		],
		tables => \@tables,
		expect => { charges => { ch_1 => row($later, 'later', 6) }, refunds => { re_1 => row($refund->(via => 'charge', status => 'succeeded'), 'later', 6) } });

	@tables = ('customers', 'tax_ids');
	my ($t1, $t2) = (tax_id('txi_1'), tax_id('txi_2'));
	my ($none, $first, $second) = (customer(tax_ids()), customer(tax_ids($t1)), customer(tax_ids($t2)));
	my $verified = tax_id('txi_1', verification => { status => 'verified' });
	scenario('tax ids: listed, changed, swept, deleted',
		events => [
			event('c0', 'customer.created', 0, $first), event('own2', 'customer.tax_id.updated', 2, $verified, previous => { verification => undef }),
			event('c3', 'customer.updated', 3, customer(name => 'without a page')), update('c4', 4, $first, $second),
			event('own5', 'customer.tax_id.deleted', 5, $t2),
		],
		tables => \@tables,
		expect => { customers => { cus_1 => row($second, 'c4', 4) },
			tax_ids => { txi_1 => row($verified, 'own2', 2, 4), txi_2 => row($t2, 'own5', 5, 5) } });
	scenario('a tax id changed after one page without it and before another',
		events => [
			event('c0', 'customer.created', 0, $first), update('c3', 3, $first, $second),
			event('own4', 'customer.tax_id.updated', 4, $verified), update('c5', 5, $second, $none),
		],
		tables => \@tables,
		expect => { customers => { cus_1 => row($none, 'c5', 5) },
			tax_ids => { txi_1 => row($verified, 'own4', 4, 5), txi_2 => row($t2, 'c3', 3, 5) } });
	scenario('a tax id changed in the second of a page without it, before another',
		events => [
			event('c0', 'customer.created', 0, $first), update('c3', 3, $first, $second),
			event('own3', 'customer.tax_id.updated', 3, $verified), update('c5', 5, $second, $none),
		],
		tables => \@tables,
		expect => { customers => { cus_1 => row($none, 'c5', 5) },
			tax_ids => { txi_1 => row($verified, 'own3', 3, 5), txi_2 => row($t2, 'c3', 3, 5) } });
	scenario('a deleted tax id that a page still lists stays deleted',
		events => [ event('own1', 'customer.tax_id.created', 1, $t1), event('own2', 'customer.tax_id.deleted', 2, $t1), event('c2', 'customer.updated', 2, $first), event('c4', 'customer.updated', 4, { %$first, name => 'N' }) ],
		tables => \@tables,
		expect => { customers => { cus_1 => row({ %$first, name => 'N' }, 'c4', 4) }, tax_ids => { txi_1 => row($t1, 'own2', 2, 2) } });
	scenario('a child of a deleted parent',
		events => [ event('c0', 'customer.created', 0, $first), update('c1', 1, $first, $second), event('gone', 'customer.deleted', 3, $none), event('own', 'customer.tax_id.updated', 2, $verified) ],
		tables => \@tables,
		expect => { customers => { cus_1 => row($none, 'gone', 3, 3) },
			tax_ids => { txi_1 => row($verified, 'own', 2), txi_2 => row($t2, 'c1', 1) } });

	my $current = customer(subscriptions => page('/v1/customers/cus_1/subscriptions', 0, subscription(id => 'sub_2', via => 'customer')));
	scenario('a customer\'s page of subscriptions sweeps nothing',
		events => [
			event('s1', 'customer.subscription.created', 1, subscription()), event('s2', 'customer.subscription.created', 1, subscription(id => 'sub_2')),
			event('c2', 'customer.updated', 2, $current), event('s3', 'customer.subscription.updated', 0, subscription(id => 'sub_2', status => 'incomplete')),
		],
		tables => [ 'customers', 'subscriptions' ],
		expect => { customers => { cus_1 => row($current, 'c2', 2) },
			subscriptions => { sub_1 => row(subscription(), 's1', 1), sub_2 => row(subscription(id => 'sub_2', via => 'customer'), 'c2', 2) } });
}

# ---- whole objects embedded elsewhere ----

{
	my $own = customer(name => 'own');
	my $expanded = customer(name => 'expanded', email => 'e@example.com');
	my @invoices = map { invoice(id => "in_$_", customer => $expanded) } 1, 2;

	scenario('an event of its own beats any embedding, even a later one',
		events => [ event('own', 'customer.created', 1, $own), event('i2', 'invoice.created', 2, $invoices[0]), event('i3', 'invoice.created', 3, $invoices[1]) ],
		tables => [ 'customers', 'invoices' ],
		expect => { customers => { cus_1 => row($own, 'own', 1) },
			invoices => { in_1 => row($invoices[0], 'i2', 2), in_2 => row($invoices[1], 'i3', 3) } });
}

# ---- chance: true states of an object, one to three changes a second ----

sub random_state
{
	my ($state) = @_;
	my $next = clone($state);
	my $what = int(rand(6));

	$next->{name} = pick(qw(Anna Berta Clara)) if $what == 0;
	if ($what == 1)
	{
		my $key = pick(qw(a b));
		if (exists $next->{metadata}{$key} && chance(0.5)) { delete $next->{metadata}{$key}; }
		else { $next->{metadata}{$key} = pick(qw(1 2)); }
	}
	$next->{shipping} = pick(undef, { name => 'S', address => { city => pick(qw(Bonn Rome)) } }) if $what == 2;
	$next->{preferred_locales} = [ (shuffle qw(en de))[ 0 .. int(rand(2)) ] ] if $what == 3;
	$next->{tax_ids}{data} = [ map { tax_id("txi_$_", value => pick(qw(v w))) } grep { chance(0.5) } 1 .. 3 ] if $what >= 4;
	return $next;
}

# Is "before" exactly "after" with the old values of "previous" in it?
sub undone
{
	my ($after, $previous) = @_;
	my %before = %$after;

	for my $key (keys %$previous)
	{
		$before{$key} = ref $previous->{$key} eq 'HASH' && ref $after->{$key} eq 'HASH' ?
		  undone($after->{$key}, $previous->{$key}) : $previous->{$key};
	}
	delete @before{ grep { !defined $before{$_} } keys %before };
	return \%before;
}

sub without_nulls
{
	my ($value) = @_;

	return $value unless ref $value eq 'HASH';
	return { map { ($_ => without_nulls($value->{$_})) } grep { defined $value->{$_} } keys %$value };
}

sub canonical { return json_text(without_nulls($_[0])); }

# All orders of a second's events in which each describes the one before.
sub valid_orders
{
	my ($start, @events) = @_;

	return [] unless @events;
	return map {
		my $i = $_;
		my @rest = @events;
		my ($first) = splice(@rest, $i, 1);
		my $object = $first->{data}{object};
		defined $start && canonical(undone($object, $first->{data}{previous_attributes})) ne canonical($start) ?
		  () : map { [ $first, @$_ ] } valid_orders($object, @rest);
	} 0 .. $#events;
}

# The rows that the true story leaves: own row and children.
sub story_rows
{
	my (@events) = @_;
	my %children;

	for my $i (0 .. $#events)
	{
		my %listed = map { ($_->{id} => $_) } @{ $events[$i]{data}{object}{tax_ids}{data} };
		my $second = $events[$i]{created} - T0;

		for my $id (sort(uniq(keys %children, keys %listed)))
		{
			if ($listed{$id}) { $children{$id} = row($listed{$id}, $events[$i]{id}, $second); }
			else { $children{$id}{deleted} //= $second; }
		}
	}
	my $last = $events[-1];
	return { customers => { cus_1 => row($last->{data}{object}, $last->{id}, $last->{created} - T0) }, tax_ids => \%children };
}

sub random_story
{
	my ($seconds, $with_creation) = @_;
	my $state = customer(name => 'Anna', metadata => {}, shipping => undef, preferred_locales => [], tax_ids());
	my @events = $with_creation ? (event('e0', 'customer.created', 0, $state)) : ();
	my $start = $with_creation ? $state : undef;
	my $told = 1;

	for my $second (1 .. $seconds)
	{
		my @second;

		for (1 .. pick(1, 1, 2, 3))
		{
			my $next = random_state($state);

			next if json_text($next) eq json_text($state);
			push @second, update('e' . (@events + @second), $second, $state, $next);
			$state = $next;
		}
		next unless @second;
		$told = 0 if valid_orders($start, @second) != 1;
		$start = $state;
		push @events, @second;
	}
	return (\@events, $told);
}

{
	my ($stories, $told_stories) = (0, 0);

	for my $round (1 .. 50)
	{
		my ($events, $told) = random_story(pick(3 .. 8), chance(0.7));

		next if @$events < 2;
		$stories++;
		$told_stories += $told;
		scenario("random story $round: " . @$events . ' events' . ($told ? '' : ', more than one order'),
			events => $events, tables => [ 'customers', 'tax_ids' ], sample => 24,
			modes => [ two_modes($round) ],
			expect => $told ? story_rows(@$events) : undef);
	}
	my ($events, $told) = random_story(18, 1);
	scenario('a long random story: ' . @$events . ' events', events => $events,
		tables => [ 'customers', 'tax_ids' ], sample => 200,
		modes => [ 'in one transaction', 'in one each' ],
		expect => $told ? story_rows(@$events) : undef);
	cmp_ok($told_stories, '>', $stories / 4, 'enough stories have one order') unless $ENV{ONLY};
}

# ---- chance: children with events of their own ----

# By the rules: the content is that of the last listing or, if as late or
# later, of the last own event; the tombstone is of the first page after it
# that leaves the child out; an own deletion is for good.
sub child_row
{
	my ($id, @events) = @_;
	my $content;
	my $dead;

	for my $event (sort { $a->{created} <=> $b->{created} || $a->{own} <=> $b->{own} }
		map { +{ %$_, own => $_->{type} =~ /tax_id/ ? 1 : 0 } } @events)
	{
		my $second = $event->{created} - T0;
		my $object = $event->{data}{object};

		if ($event->{own})
		{
			next if $object->{id} ne $id || $dead;
			$dead = $event->{type} =~ /deleted/;
			$content = row($object, $event->{id}, $second, $dead ? $second : undef);
			next;
		}
		my ($listed) = grep { $_->{id} eq $id } @{ $object->{tax_ids}{data} };

		next if $dead;
		if ($listed) { $content = row($listed, $event->{id}, $second); }
		elsif ($content) { $content->{deleted} //= $second; }
	}
	return $content;
}

sub random_family
{
	my @events;
	my @seconds = (shuffle 1 .. 9)[ 0 .. 2 + int(rand(2)) ];

	# pages, in different seconds
	for my $second (sort { $a <=> $b } @seconds)
	{
		push @events, event("p$second", 'customer.updated', $second, customer(name => "at $second",
			tax_ids(map { tax_id("txi_$_", value => "page $second") } grep { chance(0.5) } 1, 2)));
	}
	for my $child (1, 2)
	{
		my $deleted = chance(0.2) ? 1 + int(rand(9)) : 99;

		for my $second ((shuffle 1 .. 9)[ 0 .. int(rand(2)) ])
		{
			next if $second >= $deleted;
			push @events, event("own${child}_$second", 'customer.tax_id.updated', $second, tax_id("txi_$child", value => "own $second"));
		}
		push @events, event("gone$child", 'customer.tax_id.deleted', $deleted, tax_id("txi_$child", value => 'gone')) if $deleted < 99;
	}
	return @events;
}

for my $round (1 .. 50)
{
	my @events = random_family();
	my ($last) = reverse grep { $_->{type} eq 'customer.updated' } @events;
	my %children = map { my $row = child_row($_, @events); $row ? ($_ => $row) : () } qw(txi_1 txi_2);

	scenario("random family $round: " . @events . ' events', events => \@events,
		tables => [ 'customers', 'tax_ids' ], sample => 24,
		modes => [ two_modes($round) ],
		expect => { customers => { cus_1 => row($last->{data}{object}, $last->{id}, $last->{created} - T0) }, tax_ids => \%children });
}

# ---- the end ----

sub table_of
{
	my ($object_type) = @_;
	state_table() unless %StripeSync::tables;

	return $StripeSync::tables{$object_type} // die "no table of $object_type";
}

sub state_table
{
	for (split /\n/, $node->safe_psql('order_straight', 'SELECT object_type, table_name FROM stripe_sync.object_type WHERE table_name IS NOT NULL'))
	{
		my ($type, $table) = split /\|/;
		$StripeSync::tables{$type} = $table;
	}
	return;
}

$node->stop;
done_testing();
