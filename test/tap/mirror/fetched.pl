# reading.pl
#		Readings of the API and events of the same objects: whatever the order of
#		arrival, and whoever is at it at the same time, the mirror ends the same.
#
# A story is a set of events and readings.  They arrive in every order (small
# sets) or in many (large ones), straight and, where the tables have triggers,
# by SQL.  Of one object's row a model in this file says what it must be; of
# parents and their children all orders have to agree, and what is written by
# hand must be there.
#
# SEED=number chooses another chance, ONLY=regexp some of the stories.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use StripeSync;

use IPC::Run qw(start finish);
use List::Util qw(max min shuffle uniq);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use constant ALL_ORDERS_UP_TO => 5;
use constant SAMPLE           => 60;
use constant OBJECTS          => 1000;

my $node = shared_node('reading');
my @databases = ('reading_straight', 'reading_triggers');

# ---- the harness ----

for my $database (@databases)
{
	make_database($node, $database);
	$node->safe_psql($database, q{
		CREATE TABLE test.item (n int PRIMARY KEY, payload text, signature text, as_of timestamptz);
		CREATE TABLE test.arrival (k int PRIMARY KEY, ns int[]);
		CREATE TABLE test.outcome (k int PRIMARY KEY, rows text);

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

		CREATE PROCEDURE test.run(tables text[]) LANGUAGE plpgsql AS $$
		DECLARE
			arrival record;
			item record;
			name text;
			number int;
			state text;
			types text[] := ARRAY(SELECT t.object_type FROM stripe_sync.object_type t WHERE t.table_name = ANY (tables));
		BEGIN
			FOR arrival IN SELECT k, ns FROM test.arrival ORDER BY k LOOP
				FOREACH name IN ARRAY ARRAY['stripe_sync.event', 'stripe_sync.reread', 'stripe_sync.reading']
					|| ARRAY(SELECT format('stripe.%I', t) FROM unnest(tables) t) LOOP
					EXECUTE CASE WHEN arrival.k % 25 = 24 THEN 'TRUNCATE ' ELSE 'DELETE FROM ' END || name;
				END LOOP;
				FOREACH number IN ARRAY arrival.ns LOOP
					SELECT * INTO item FROM test.item i WHERE i.n = number;
					IF item.signature IS NULL THEN
						state := stripe_sync.apply_reading(item.payload::jsonb, '', item.as_of);
					ELSE
						state := status FROM stripe_sync.receive(item.payload, item.signature);
					END IF;
					IF state NOT IN ('applied', 'stale', 'duplicate') THEN
						RAISE EXCEPTION 'item % was %', number, state;
					END IF;
				END LOOP;
				INSERT INTO test.outcome VALUES (arrival.k, test.rows(tables));
				IF arrival.k % 10 = 0 THEN
					FOR item IN SELECT v.object_id, v.field, v.mirror, v.expected FROM stripe_sync.verify_mirror(types) v LOOP
						RAISE WARNING 'verify_mirror: % % is %, should be % in the order %', item.object_id, item.field, item.mirror, item.expected, arrival.ns;
					END LOOP;
				END IF;
			END LOOP;
		END $$;
	});
}
$node->safe_psql('reading_triggers', q{
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

# A reading, as of so many seconds after T0; without an object of that content
# it is gone.
sub reading
{
	my ($second, $object) = @_;

	return { reading => clone($object), second => $second };
}

sub gone { my ($second, $type, $id) = @_; return reading($second, { id => $id, object => $type, deleted => TRUE }); }

sub is_gone { return $_[0]{reading}{deleted} ? 1 : 0; }

# Outcomes of a story: { rows, count, order }, the commonest first.
sub outcomes
{
	my ($database, $items, $tables, $orders) = @_;
	my @values;

	for my $n (0 .. $#$items)
	{
		my $item = $items->[$n];
		my $text = json_text($item->{reading} // $item);

		push @values, "($n, " . literal($text) . ", "
		  . ($item->{reading} ? "NULL, to_timestamp(" . (T0 + $item->{second}) . ")" : literal(signature($text)) . ", NULL") . ")";
	}
	my $sql = "SET client_min_messages = warning; TRUNCATE test.item, test.arrival, test.outcome;\n"
	  . "INSERT INTO test.item VALUES " . join(",\n", @values) . ";\n"
	  . "INSERT INTO test.arrival VALUES " . join(",\n", map { "($_, '{" . join(',', @{ $orders->[$_] }) . "}')" } 0 .. $#$orders) . ";\n"
	  . "CALL test.run('{" . join(',', @$tables) . "}');\n"
	  . "SELECT json_agg(json_build_object('rows', rows::json, 'count', count, 'order', (SELECT ns FROM test.arrival WHERE k = first)) ORDER BY count DESC)"
	  . " FROM (SELECT rows, count(*), min(k) AS first FROM test.outcome GROUP BY 1) o;\n";
	my ($ret, $out, $err) = $node->psql($database, $sql);

	die "psql ended with $ret: $err" if $ret != 0 || $err ne '';
	return @{ json_value($out) };
}

sub orders_of
{
	my ($count) = @_;
	my @orders = $count <= ALL_ORDERS_UP_TO ? permutations(0 .. $count - 1) : random_orders(SAMPLE, 0 .. $count - 1);

	@orders = (shuffle @orders)[ 0 .. SAMPLE - 1 ] if @orders > SAMPLE;
	return [ map { chance(0.3) ? with_duplicates($_, 0.3) : $_ } @orders ];
}

sub name_of
{
	my ($item) = @_;

	return $item->{reading} ? (is_gone($item) ? 'gone' : 'read') . "\@$item->{second}" : "$item->{id}\@" . ($item->{created} - T0);
}

sub tell_order
{
	my ($items, $outcome) = @_;

	return join(' ', map { name_of($items->[$_]) } @{ $outcome->{order} }) . " ($outcome->{count} orders)";
}

# All orders end the same, in every database, and as it must be.  "except" are
# columns of children that don't count.
sub story
{
	my ($name, %story) = @_;
	my @lines;

	return if $ENV{ONLY} && $name !~ /$ENV{ONLY}/;
	for my $database (@databases)
	{
		my @outcomes = outcomes($database, $story{items}, $story{tables}, $story{orders} // orders_of(scalar @{ $story{items} }));
		my %seen;

		for my $outcome (@outcomes)
		{
			my @wrong = $story{check} ? $story{check}->($outcome->{rows}) : ();

			push @lines, map { "$database: $_ in the order " . tell_order($story{items}, $outcome) } @wrong;
			for my $table (keys %{ $outcome->{rows} })
			{
				delete @$_{ @{ $story{except}{$table} // [] } } for @{ $outcome->{rows}{$table} };
			}
			$seen{ json_text($outcome->{rows}) } //= $outcome;
		}
		if (keys %seen > 1)
		{
			my @two = (sort { $b->{count} <=> $a->{count} } values %seen)[ 0, 1 ];

			push @lines, "$database: " . (scalar keys %seen) . " outcomes";
			push @lines, map { tell_order($story{items}, $_) . "\n    " . json_text(bare($_->{rows})) } @two;
		}
		last if @lines;
	}
	ok(!@lines, $name) or diag(join("\n", splice(@lines, 0, 5)));
	return;
}

# Rows without what is NULL.
sub bare
{
	my ($rows) = @_;

	return { map { my $table = $_; ($table => [ map { my $row = $_; +{ map { ($_ => $row->{$_}) } grep { defined $row->{$_} } keys %$row } } @{ $rows->{$table} } ]) } keys %$rows };
}

# ---- one object: the model ----

# What the row must be.  All times differ, so there is no order within a second.
sub model
{
	my ($type, @items) = @_;
	my @events = sort { $a->{created} <=> $b->{created} } grep { !$_->{reading} } @items;
	my @read = sort { $a->{second} <=> $b->{second} } grep { $_->{reading} } @items;
	my ($alive) = reverse grep { !is_gone($_) } @read;
	my @gone = grep { is_gone($_) } @read;
	my $last = $read[-1];
	my $alive_at = $alive ? $alive->{second} : -1;
	my $deletes = sub { $_[0]{type} =~ /^\w+\.deleted$/ };
	my @deciding = grep { $_->{created} - T0 > $alive_at } @events;
	my $newest;

	@deciding = @events unless @deciding;
	for my $event (@deciding)
	{
		$newest = $event if !$newest || $deletes->($event) || !$deletes->($newest) || $event->{type} =~ /created$/;
	}
	my $event_at = $newest ? $newest->{created} - T0 : -1;

	if ($newest && (!$last || $event_at > $last->{second}))
	{
		return { data => $newest->{data}{object}, event => $newest->{id}, as_of => $event_at,
			deleted => $deletes->($newest) ? $event_at : undef, since_when => 1 };
	}
	return { data => $last->{reading}, as_of => $last->{second} } if !is_gone($last);

	# it is gone: since its deletion, or the first reading that missed it
	my $newer = $newest && $event_at > $alive_at;
	my $since = max($alive_at, $newer ? $event_at : -1);
	my $content = $newer ? $newest->{data}{object} : $alive ? $alive->{reading} : $last->{reading};

	return {
		data => $content, as_of => $last->{second},
		deleted => $newer && $deletes->($newest) ? $event_at : min(grep { $_ > $since } map { $_->{second} } @gone),
		# of two that missed it only one time is kept, while other things arrive
		since_when => @gone < 2,
		# an event of no life may have had the row before the deletion came
		loosely => $newer && $deletes->($newest) && scalar(grep { $_->{created} > $newest->{created} } @events) };
}

sub check_row
{
	my ($table, $must) = @_;

	return sub {
		my ($rows) = @_;
		my @rows = @{ $rows->{$table} };

		return scalar(@rows) . " rows" if @rows != 1;
		my $row = $rows[0];
		my %is = (data => $row->{_data}, event => $row->{_event_id}, as_of => $row->{_as_of}, deleted => $row->{_deleted_at});
		my %should = (data => $must->{data}, event => $must->{event}, as_of => moment($must->{as_of}), deleted => moment($must->{deleted}));

		$_->{deleted} = defined $_->{deleted} for $must->{deleted} && !$must->{since_when} ? (\%is, \%should) : ();
		delete @is{qw(as_of event)}, delete @should{qw(as_of event)} if $must->{loosely};
		return map { "$_ is " . json_text($is{$_}) . ", should be " . json_text($should{$_}) }
		  grep { json_text($is{$_}) ne json_text($should{$_}) } sort keys %is;
	};
}

# As stamp(), but of a tenth of a second as well.
sub moment
{
	my ($second) = @_;

	return undef unless defined $second;
	my $stamp = stamp(int($second));
	my $tenth = int($second * 10 + 0.5) % 10;

	$stamp =~ s/\+/.$tenth+/ if $tenth;
	return $stamp;
}

sub customer { return { id => 'cus_1', object => 'customer', name => $_[0] }; }
sub coupon   { return { id => 'SPRING', object => 'coupon', name => $_[0] }; }

sub of_one
{
	my ($name, $table, @items) = @_;

	my $must = model($table, @items);

	return story($name, items => \@items, tables => [$table], check => check_row($table, $must),
		except => { $table => [ $must->{loosely} ? qw(_as_of _event_id) : (), $must->{deleted} && !$must->{since_when} ? '_deleted_at' : () ] });
}

my $seed = seed();

of_one('an event up to the reading loses, one later wins', 'customers',
	event('a', 'customer.created', 1, customer('a')), reading(2, customer('r')), event('b', 'customer.updated', 3, customer('b')));
of_one('an event of the very time of the reading is in it', 'customers',
	event('a', 'customer.updated', 2, customer('a')), reading(2, customer('r')));
of_one('the later of two readings, and events between and around', 'customers',
	event('a', 'customer.created', 1, customer('a')), reading(2, customer('r')), event('b', 'customer.updated', 3, customer('b')), reading(4, customer('s')));
of_one('a reading that finds the object ends its deletion, and later updates count', 'coupons',
	event('a', 'coupon.created', 1, coupon('a')), event('d', 'coupon.deleted', 2, coupon('a')), reading(3, coupon('r')), event('b', 'coupon.updated', 4, coupon('b')));
of_one('a deletion after the reading ends it', 'coupons',
	event('a', 'coupon.created', 1, coupon('a')), reading(3, coupon('r')), event('d', 'coupon.deleted', 4, coupon('r')), event('b', 'coupon.updated', 5, coupon('b')));
of_one('gone: the tombstone keeps what was there', 'customers',
	event('a', 'customer.created', 1, customer('a')), gone(3, 'customer', 'cus_1'), event('b', 'customer.updated', 2, customer('b')));
of_one('gone since its deletion', 'customers',
	event('a', 'customer.created', 1, customer('a')), event('d', 'customer.deleted', 2, customer('a')), gone(3, 'customer', 'cus_1'), gone(4, 'customer', 'cus_1'));
of_one('gone, and found later', 'coupons',
	reading(1, coupon('r')), gone(2, 'coupon', 'SPRING'), reading(3, coupon('s')), event('a', 'coupon.updated', 1, coupon('a')));
of_one('found, gone, and events between', 'coupons',
	reading(2, coupon('r')), event('a', 'coupon.updated', 3, coupon('a')), gone(4, 'coupon', 'SPRING'), event('b', 'coupon.created', 5, coupon('b')));
of_one('gone, and never seen', 'customers', gone(2, 'customer', 'cus_1'), gone(5, 'customer', 'cus_1'));

# of chance
sub chance_items
{
	my ($round) = @_;
	my @seconds = (shuffle 1 .. 9)[ 0 .. 1 + int(rand(4)) ];
	my @moments = map { $_ + pick(0.3, 0.5, 0.7) } (shuffle 0 .. 9)[ 0 .. int(rand(4)) ];
	my @items = map { my $type = pick(qw(created updated updated deleted)); event("e$_", "coupon.$type", $_, coupon("e$_")) } @seconds;
	my $missed = 0;

	push @items, map { chance(0.35) && $missed++ < 2 ? gone($_, 'coupon', 'SPRING') : reading($_, coupon("r$_")) } @moments;
	return @items;
}
of_one("one object, by chance ($_)", 'coupons', chance_items($_)) for 1 .. 60;

# ---- parents and children ----

sub page
{
	my ($more, @data) = @_;

	return { object => 'list', url => '/v1/x', has_more => $more ? TRUE : FALSE, data => \@data };
}

sub item         { my ($k, $q) = @_; return { id => "si_$k", object => 'subscription_item', subscription => 'sub_1', quantity => $q }; }
sub subscription { my ($more, @items) = @_; return { id => 'sub_1', object => 'subscription', status => 'active', items => page($more, @items) }; }
sub tax_id       { my ($k, $v) = @_; return { id => "txi_$k", object => 'tax_id', customer => 'cus_1', value => $v }; }
sub taxed        { my ($more, @ids) = @_; return { id => 'cus_1', object => 'customer', name => 'n', tax_ids => page($more, @ids) }; }

# Children by key: their content, when they are from, and since when they are swept.
sub check_children
{
	my ($table, %must) = @_;

	return sub {
		my ($rows) = @_;
		my %is = map { ($_->{id} => $_) } @{ $rows->{$table} };
		my @wrong = map { "$_ is " . ($is{$_} ? 'there' : 'missing') } grep { !$is{$_} || !$must{$_} } sort(uniq(keys %is, keys %must));

		for my $id (grep { $must{$_} && $is{$_} } sort keys %must)
		{
			my ($data, $as_of, $deleted) = @{ $must{$id} };
			my $found = json_text([ $is{$id}{_data}, $is{$id}{_as_of}, $is{$id}{_deleted_at} ]);
			my $wanted = json_text([ $data, moment($as_of), moment($deleted) ]);

			push @wrong, "$id is $found, should be $wanted" if $found ne $wanted;
		}
		return @wrong;
	};
}

story('a reading lists children and sweeps the others',
	items => [ event('a', 'customer.subscription.created', 1, subscription(0, item(1, 1), item(2, 1))), reading(3, subscription(0, item(2, 5), item(3, 1))) ],
	tables => [qw(subscriptions subscription_items)],
	check => check_children('subscription_items', si_1 => [ item(1, 1), 1, 3 ], si_2 => [ item(2, 5), 3 ], si_3 => [ item(3, 1), 3 ]));
story('an event after the reading sweeps what it listed',
	items => [ reading(3, subscription(0, item(1, 1), item(2, 1))), event('b', 'customer.subscription.updated', 4, subscription(0, item(2, 7))) ],
	tables => [qw(subscriptions subscription_items)],
	check => check_children('subscription_items', si_1 => [ item(1, 1), 3, 4 ], si_2 => [ item(2, 7), 4 ]));
story('a reading that is followed by an event is remembered, with its page',
	items => [
		event('a', 'customer.subscription.created', 1, subscription(0, item(1, 1), item(2, 1))),
		reading(3, subscription(0, item(2, 1))),
		event('b', 'customer.subscription.updated', 4, subscription(0, item(2, 7), item(3, 1))) ],
	tables => [qw(subscriptions subscription_items)],
	check => check_children('subscription_items', si_1 => [ item(1, 1), 1, 3 ], si_2 => [ item(2, 7), 4 ], si_3 => [ item(3, 1), 4 ]));
story('a page that is cut short sweeps nothing',
	items => [ event('a', 'customer.subscription.created', 1, subscription(0, item(1, 1))), reading(3, subscription(1, item(2, 1))) ],
	tables => [qw(subscriptions subscription_items)],
	check => check_children('subscription_items', si_1 => [ item(1, 1), 1 ], si_2 => [ item(2, 1), 3 ]));
story('a child with events of its own: those up to the reading are in it',
	items => [
		event('t', 'customer.tax_id.created', 2, tax_id(1, 'own')), event('u', 'customer.tax_id.updated', 5, tax_id(2, 'own')),
		reading(3, taxed(0, tax_id(2, 'read'))), ],
	tables => [qw(customers tax_ids)],
	check => check_children('tax_ids', txi_1 => [ tax_id(1, 'own'), 2, 3 ], txi_2 => [ tax_id(2, 'own'), 5 ]));
story('a child that a reading lists is alive though it was deleted before',
	items => [
		event('t', 'customer.tax_id.created', 1, tax_id(1, 'own')), event('d', 'customer.tax_id.deleted', 2, tax_id(1, 'own')),
		reading(3, taxed(0, tax_id(1, 'read'))), event('b', 'customer.updated', 4, taxed(0, tax_id(1, 'page'))) ],
	tables => [qw(customers tax_ids)],
	check => check_children('tax_ids', txi_1 => [ tax_id(1, 'page'), 4 ]));
story('what is embedded in a reading only fills',
	items => [
		reading(5, { id => 'in_1', object => 'invoice', discount_coupon => { %{ coupon('embedded') }, valid => TRUE } }),
		event('a', 'coupon.created', 1, { %{ coupon('own') }, valid => TRUE }) ],
	tables => [qw(invoices coupons)],
	check => check_children('coupons', SPRING => [ { %{ coupon('own') }, valid => TRUE }, 1 ]));
story('what is embedded anywhere gives way to a reading',
	items => [
		reading(5, { id => 'in_1', object => 'invoice', discount_coupon => { %{ coupon('embedded') }, valid => TRUE } }),
		event('i', 'invoice.updated', 7, { id => 'in_1', object => 'invoice', discount_coupon => { %{ coupon('later') }, valid => TRUE } }),
		reading(3, { %{ coupon('read') }, valid => TRUE }) ],
	tables => [qw(invoices coupons)],
	check => check_children('coupons', SPRING => [ { %{ coupon('read') }, valid => TRUE }, 3 ]));

# A family of chance: one reading of the parent, or two; events of the parent
# and of the children.
sub chance_family
{
	my ($readings) = @_;
	my @seconds = shuffle 1 .. 12;
	my $ids = sub { return map { tax_id($_, "v$_[0]") } grep { chance(0.6) } 1 .. 3; };
	my @items;

	for (1 .. 2 + int(rand(2)))
	{
		my $second = shift @seconds;
		push @items, event("p$second", 'customer.updated', $second, taxed(chance(0.2), $ids->($second)));
	}
	for (1 .. int(rand(3)))
	{
		my $second = shift @seconds;
		push @items, event("t$second", pick(qw(customer.tax_id.updated customer.tax_id.deleted)), $second, tax_id(1 + int(rand(3)), "v$second"));
	}
	for (1 .. $readings)
	{
		my $second = shift(@seconds) + 0.5;
		push @items, reading($second, taxed(chance(0.2), $ids->($second)));
	}
	return \@items;
}
story("a family with one reading ($_)", items => chance_family(1), tables => [qw(customers tax_ids)]) for 1 .. 40;
# of all but the last reading that is replaced it is not known what it listed
story("a family with two readings ($_)", items => chance_family(2), tables => [qw(customers tax_ids)], except => { tax_ids => ['_deleted_at'] }, check => \&is_swept_or_not) for 1 .. 20;

sub is_swept_or_not
{
	my ($rows) = @_;

	$_->{swept} = defined $_->{_deleted_at} ? TRUE : FALSE for @{ $rows->{tax_ids} };
	return;
}

sub chance_subscription
{
	my @seconds = shuffle 1 .. 12;
	my $ids = sub { return map { item($_, $_[0]) } grep { chance(0.6) } 1 .. 3; };
	my @items = map { event("p$_", 'customer.subscription.updated', $_, subscription(chance(0.2), $ids->($_))) } splice(@seconds, 0, 2 + int(rand(2)));
	my $second = shift(@seconds) + 0.5;

	return [ @items, reading($second, subscription(chance(0.2), $ids->($second))) ];
}
story("a subscription with one reading ($_)", items => chance_subscription(), tables => [qw(subscriptions subscription_items)]) for 1 .. 30;

# ---- at the same time ----

# A thousand customers with tax ids are read, page by page, from two sessions
# and as of one time, while events of theirs from before and after arrive in
# three others.
use constant READ_AT => 500;

sub state_of
{
	my ($n, $version) = @_;

	return { id => "cus_$n", object => 'customer', name => "v$version", tax_ids => page(0, map { { id => "txi_${n}_$_", object => 'tax_id', customer => "cus_$n", value => "v$version" } } grep { ($version >> $_) & 1 } 0 .. 2) };
}

my (@events, @states, %newest);
for my $n (shuffle 1 .. OBJECTS)
{
	push @states, state_of($n, READ_AT);
	for my $second (uniq(map { READ_AT - 3 + int(rand(7)) } 1 .. 2))
	{
		push @events, event("evt_${n}_$second", 'customer.updated', $second, state_of($n, $second));
		$newest{"cus_$n"} = $second if $second > max(READ_AT, $newest{"cus_$n"} // 0);
	}
}
my @pages = map { [ splice(@{ [@states] }, $_ * 100, 100) ] } 0 .. OBJECTS / 100 - 1;

sub receive_sql { my $text = json_text($_[0]); return 'SELECT status FROM stripe_sync.receive(' . literals($text, signature($text)) . ");\n"; }
sub read_sql { return "SELECT status FROM stripe_sync.apply_reading_page(" . literal(json_text($_[0])) . ", '', to_timestamp(" . (T0 + READ_AT) . "));\n"; }

sub start_script
{
	my ($database, $name, @statements) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . "/$name.sql";
	my %session = (out => '', err => '');

	append_to_file($file, join('', @statements));
	$session{harness} = start([ 'psql', '-XAtq', '-d', $node->connstr($database), '-f', $file ], '<', \undef, '>', \$session{out}, '2>', \$session{err});
	return \%session;
}

my $everything = q{SELECT string_agg(r::text, E'\n' ORDER BY r::text COLLATE "C") FROM (
	SELECT to_jsonb(t) - '_synced_at' AS r FROM stripe.customers t UNION ALL SELECT to_jsonb(t) - '_synced_at' FROM stripe.tax_ids t) s};

sub clear
{
	my ($database) = @_;

	$node->safe_psql($database, 'TRUNCATE stripe_sync.event, stripe_sync.reading, stripe_sync.reread, stripe.customers, stripe.tax_ids');
	return;
}

# one after the other, events first
clear('reading_straight');
my $first = start_script('reading_straight', 'serial', (map { receive_sql($_) } @events), (map { read_sql($_) } @pages));
finish($first->{harness});
is($first->{err}, '', 'one after the other: no error');
my $serial = $node->safe_psql('reading_straight', $everything);

for my $database (@databases)
{
	clear($database);
	my @sessions = (
		(map { start_script($database, "events_${database}_$_", map { receive_sql($_) } shuffle @events) } 1 .. 3),
		(map { start_script($database, "pages_${database}_$_", map { read_sql([ shuffle @$_ ]) } shuffle @pages) } 1 .. 2));

	finish($_->{harness}) for @sessions;
	is(join('', map { $_->{err} } @sessions), '', "$database: no error, no deadlock");
	my %status = map { ($_ => 1) } map { split /\n/, $_->{out} } @sessions;
	is(join(' ', sort keys %status), 'applied duplicate stale', "$database: all were applied, stale or known");
	my $won = $node->safe_psql($database, 'SELECT id, _event_id, name FROM stripe.customers WHERE _event_id IS NOT NULL ORDER BY id COLLATE "C"');
	is($won, join("\n", map { "$_|evt_" . s/cus_//r . "_$newest{$_}|v$newest{$_}" } sort keys %newest), "$database: an event later than the reading wins every time");
	is($node->safe_psql($database, q{SELECT count(*), min(name), min(_as_of) FROM stripe.customers WHERE _event_id IS NULL}),
		(OBJECTS - keys %newest) . '|v' . READ_AT . '|' . stamp(READ_AT) =~ s/T/ /r =~ s/:00$//r, "$database: all others are as they were read");
	ok($node->safe_psql($database, $everything) eq $serial, "$database: the mirror is that of a serial run");
	is($node->safe_psql($database, q{SELECT * FROM stripe_sync.verify_mirror('{customer,tax_id}', 100000) LIMIT 3}), '', "$database: and what the inbox says");
}

$node->stop;
done_testing();
