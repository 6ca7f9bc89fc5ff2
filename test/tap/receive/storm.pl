# storm.pl
#		Eight senders deliver events, a backfill reads Stripe's lists and
#		verify_mirror() looks on, while another session changes the mirror's tables
#		and the inbox in every way that their owner may.
#
# STORM_SECONDS says how long; SEED chooses another storm.  What it must leave,
# whatever met whatever: no crash, and once the tables are as they were and what
# had failed was tried again, the rows of a quiet database that got the same
# events in their order, and read the same lists.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use StripeStub;
use StripeSync;

use IPC::Run qw(start finish);
use List::Util qw(shuffle sum0);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use constant SENDERS => 8;

# a storm that sanitizers look over is a long one
my $seconds = $ENV{STORM_SECONDS} || ($ENV{STRIPE_SYNC_SANITIZE} ? 60 : 10);

my $missing = StripeStub->missing;
plan skip_all => $missing if $missing;
seed();
note "$seconds seconds (STORM_SECONDS=... in the environment chooses others)";

# ---- events ----

# No two events of an object and what it lists are of one second, and nothing
# embeds what has no event of its own: so their order alone says what must be
# there.  livemode keeps them apart from what the backfill compares with its lists.

my @events;
my $serial = 0;
my %state;

sub page { return { object => 'list', url => '/v1/things', has_more => FALSE, data => [@_] }; }

sub refund
{
	my ($n, $k) = @_;

	return { id => "re_${n}_$k", object => 'refund', charge => "ch_$n", amount => int(rand(50)), status => pick(qw(pending succeeded)) };
}

my %make = (
	customer => sub {
		my ($n) = @_;
		return { id => "cus_$n", object => 'customer', livemode => TRUE, created => T0, name => pick(qw(Anna Berta Clara)), email => pick('a@example.com', 'b@example.com'), balance => int(rand(100)),
			tax_ids => page(map { { id => "txi_${n}_$_", object => 'tax_id', customer => "cus_$n", value => pick(qw(v w)) } } grep { chance(0.5) } 1 .. 3) };
	},
	subscription => sub {
		my ($n) = @_;
		return { id => "sub_$n", object => 'subscription', livemode => TRUE, customer => "cus_$n", status => pick(qw(active past_due)),
			items => page(map { { id => "si_${n}_$_", object => 'subscription_item', subscription => "sub_$n", quantity => int(rand(5)) } } grep { chance(0.6) } 1 .. 4) };
	},
	invoice => sub {
		my ($n) = @_;
		return { id => "in_$n", object => 'invoice', livemode => TRUE, customer => "cus_$n", status => pick(qw(draft open paid)), amount_due => int(rand(1000)),
			lines => page(map { { id => "il_${n}_$_", object => 'line_item', invoice => "in_$n", amount => int(rand(100)), description => pick('x', 'y') } } grep { chance(0.6) } 1 .. 4) };
	},
	charge => sub {
		my ($n) = @_;
		return { id => "ch_$n", object => 'charge', livemode => TRUE, customer => "cus_$n", amount => 50, amount_refunded => int(rand(50)), status => 'succeeded',
			refunds => page(map { refund($n, $_) } grep { chance(0.5) } 1 .. 3) };
	},
);

sub emit_event
{
	my ($type, $second, $object, %rest) = @_;

	push @events, event(sprintf('evt_%s%05d', join('', map { pick('a' .. 'z') } 1 .. 4), $serial++), $type, $second, $object, %rest);
	return;
}

sub next_of
{
	my ($kind, $n, $second) = @_;
	my $type = { subscription => 'customer.subscription' }->{$kind} // $kind;
	my $before = $state{"$kind $n"};
	my $after = $make{$kind}->($n);

	$state{"$kind $n"} = $after;
	return emit_event($kind eq 'charge' ? 'charge.succeeded' : "$type.created", $second, $after) unless $before;
	return emit_event('refund.updated', $second, refund($n, pick(1 .. 3))) if $kind eq 'charge' && chance(0.3) && ($state{"$kind $n"} = $before);
	return emit_event("$type.updated", $second, $after, previous => diff($before, $after));
}

for my $second (1 .. $seconds * 40)
{
	next_of(pick(sort keys %make), pick(1 .. 12), $second);
}

# ---- two databases ----

my $stripe = StripeStub->start;
$stripe->fill('customer', 250, seed => 1);
$stripe->fill('coupon', 250, seed => 2);

my $node = start_node('storm', conf => PRELOAD . $stripe->conf . q{
	log_line_prefix = '%m [%p] %e '
	stripe_sync.stripe_rate = 100
	stripe_sync.reconcile_interval = 0
	stripe_sync.max_attempts = 1000
	max_worker_processes = 20
	deadlock_timeout = '200ms'
});

sub prepare
{
	my ($database) = @_;

	make_database($node, $database);
	$node->safe_psql($database, q{
		CREATE TABLE test.effect (event_id text);
		CREATE FUNCTION test.effect(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO test.effect VALUES (event->>'id') $$;
		SELECT stripe_sync.add_handler('effect', '*', 'test.effect');
		SELECT stripe_sync.set_api_key('rk_test_storm');
	});
	return;
}

sub storm { return $node->safe_psql('storm', $_[0]); }

prepare($_) for 'storm', 'twin';

# The columns that the mirror has by itself, with their types, of each table.
sub columns
{
	my ($database) = @_;
	my %columns;

	for my $line (split /\n/, $node->safe_psql($database, q{
		SELECT m.table_name, a.attname, format_type(a.atttypid, a.atttypmod) FROM stripe_sync.mirror_table m
		  JOIN pg_attribute a ON a.attrelid = format('stripe.%I', m.table_name)::regclass AND a.attnum > 0 AND NOT a.attisdropped}))
	{
		my ($table, $column, $type) = split /\|/, $line;
		$columns{$table}{$column} = $type;
	}
	return \%columns;
}

my $ours = columns('twin');

storm(q{
	CREATE EXTENSION amcheck;
	CREATE TABLE test.refused (who text, code text, message text);
	CREATE TYPE test.mood AS ENUM ('sad', 'happy');
	CREATE TYPE test.pair AS (a int, b text);
	CREATE DOMAIN test.positive AS int CHECK (value > 0);
	CREATE FUNCTION test.pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
	CREATE FUNCTION test.moody() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF random() < 0.2 THEN RAISE 'not now'; END IF; RETURN NEW; END $$;
	CREATE FUNCTION test.short(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN left(t, 20); END $$;
	CREATE PROCEDURE test.look(until timestamptz) LANGUAGE plpgsql AS $$
	BEGIN
		WHILE clock_timestamp() < until LOOP
			BEGIN
				PERFORM count(*) FROM stripe_sync.verify_mirror(sample => 100);
			EXCEPTION WHEN OTHERS THEN
				INSERT INTO test.refused VALUES ('verify_mirror', SQLSTATE, SQLERRM);
			END;
			COMMIT;
		END LOOP;
	END $$;
	CREATE PROCEDURE test.read(until timestamptz) LANGUAGE plpgsql AS $$
	BEGIN
		WHILE clock_timestamp() < until LOOP
			BEGIN
				PERFORM stripe_sync.backfill(ARRAY['customer', 'coupon']);
			EXCEPTION WHEN OTHERS THEN
				INSERT INTO test.refused VALUES ('backfill', SQLSTATE, SQLERRM);
			END;
			COMMIT;
			PERFORM pg_sleep(0.2);
		END LOOP;
	END $$;
});

# ---- sessions ----

my @payloads = map { json_text($_) } @events;
my @receive = map { 'SELECT status FROM stripe_sync.receive(' . literals($_, signature($_)) . ");\n" } @payloads;

sub start_psql
{
	my ($database, $name, $script) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . "/$name.sql";
	my %session = (name => $name, out => '', err => '');

	append_to_file($file, "\\set VERBOSITY verbose\n$script");
	$session{harness} = start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=0', '-d', $node->connstr($database) . " application_name=$name", '-f', $file ],
		'<', \undef, '>', \$session{out}, '2>', \$session{err});
	return \%session;
}

# Each event by one or two senders, about when its turn is.
sub start_senders
{
	my ($begin) = @_;
	my @scripts = ('') x SENDERS;

	for my $n (0 .. $#receive)
	{
		my $at = $begin + $seconds * $n / @receive + rand(1);
		my @of = (shuffle 0 .. SENDERS - 1)[ 0 .. int(rand(2)) ];
		$scripts[$_] .= "SELECT pg_sleep(greatest(0, $at - extract(epoch FROM clock_timestamp())));\n$receive[$n]" for @of;
	}
	return map { start_psql('storm', "sender_$_", $scripts[$_]) } 0 .. SENDERS - 1;
}

# ---- what owners do ----

my @tables = qw(customers tax_ids subscriptions subscription_items invoices line_items charges refunds coupons);
my @types = ('text', 'int', 'bigint', 'smallint', 'boolean', 'numeric(10,2)', 'real', 'jsonb', 'json', 'bytea', 'timestamptz', 'date', 'interval', 'uuid', 'text[]', 'int4range', 'inet', 'name', '"char"', 'char(3)',
	'test.mood', 'test.pair', 'test.positive', 'xml', 'tsvector', 'point', 'money', 'bit(3)', 'oid', 'regclass');
my %types_of = (customers => [ name => 'varchar' ], tax_ids => [ value => 'varchar' ], subscriptions => [ status => 'varchar' ], subscription_items => [ quantity => 'numeric' ],
	invoices => [ amount_due => 'numeric' ], line_items => [ amount => 'numeric' ], charges => [ amount => 'int' ], refunds => [ amount => 'numeric' ], coupons => [ name => 'varchar' ]);
my $number = 0;
my %undo = map { $_ => [] } @tables; # what makes the table as it was, newest last
my %partitioned;

# DDL that keeps its lock for a moment, so that events wait for it.
sub held
{
	return 'BEGIN; ' . join('; ', @_) . '; SELECT pg_sleep(' . rand(0.15) . '); COMMIT';
}

# Another table in its place, with its rows.
sub replacement
{
	my ($table, $how) = @_;
	my $new = "${table}_" . ++$number;

	return held("LOCK stripe.$table", "CREATE TABLE stripe.$new (LIKE stripe.$table INCLUDING ALL) $how",
		$how ? map { "CREATE TABLE stripe.${new}_p$_ PARTITION OF stripe.$new FOR VALUES WITH (MODULUS 3, REMAINDER $_)" } 0 .. 2 : (),
		"INSERT INTO stripe.$new SELECT * FROM stripe.$table", "DROP TABLE stripe.$table", "ALTER TABLE stripe.$new RENAME TO $table");
}

# [ what to run, what undoes it, if anything must ], for a table.
my %deeds = (
	add_column => sub {
		my ($table) = @_;
		my $column = 'mine_' . ++$number;
		my $type = pick(@types);
		my $rest = $type eq 'int' ? pick('', 'DEFAULT 7', 'NOT NULL DEFAULT 8', 'GENERATED ALWAYS AS (length(_account)) STORED') : $type eq 'text' ? pick('', "NOT NULL DEFAULT 'x'", 'DEFAULT test.short(current_user::text)') : '';
		return [ held("ALTER TABLE stripe.$table ADD COLUMN $column $type $rest"), "ALTER TABLE stripe.$table DROP COLUMN IF EXISTS $column" ];
	},
	add_columns => sub {
		my ($table) = @_;
		my @columns = map { 'mine_' . ++$number } 1 .. 3;
		return [ held('ALTER TABLE stripe.' . $table . ' ' . join(', ', map { "ADD COLUMN $_ " . pick(@types) } @columns)),
			"ALTER TABLE stripe.$table " . join(', ', map { "DROP COLUMN IF EXISTS $_" } @columns) ];
	},
	drop_ours => sub {
		my ($table) = @_;
		my $column = { customers => 'email', charges => 'amount_refunded', invoices => 'status', coupons => 'name' }->{$table};
		return [ held("ALTER TABLE stripe.$table DROP COLUMN IF EXISTS $column"), 'SELECT stripe_sync.create_tables()' ];
	},
	index => sub {
		my ($table) = @_;
		my $index = 'mine_' . ++$number;
		my $on = pick('(id)', '(_as_of)', '(test.short(id))', '(id) WHERE _deleted_at IS NULL', '(_synced_at, id)', 'USING hash (id)', 'USING gin (_data)');
		my $unique = $on eq '(id)' && chance(0.5) && !$partitioned{$table} ? 'UNIQUE' : '';
		return [ pick(held("CREATE $unique INDEX $index ON stripe.$table $on"), $partitioned{$table} ? 'SELECT 1' : "CREATE $unique INDEX CONCURRENTLY $index ON stripe.$table $on"), "DROP INDEX IF EXISTS stripe.$index" ];
	},
	check => sub {
		my ($table) = @_;
		my $name = 'mine_' . ++$number;
		my $check = pick("CHECK (id <> '')", 'CHECK (test.short(id) IS NOT NULL)', 'CHECK (false) NOT VALID');
		return [ held("ALTER TABLE stripe.$table ADD CONSTRAINT $name $check"), "ALTER TABLE stripe.$table DROP CONSTRAINT IF EXISTS $name" ];
	},
	trigger => sub {
		my ($table) = @_;
		my $name = 'mine_' . ++$number;
		my $trigger = pick("TRIGGER $name BEFORE INSERT OR UPDATE ON stripe.$table FOR EACH ROW EXECUTE FUNCTION test.pass()",
			"TRIGGER $name BEFORE INSERT OR UPDATE ON stripe.$table FOR EACH ROW EXECUTE FUNCTION test.moody()",
			"TRIGGER $name AFTER UPDATE ON stripe.$table FOR EACH STATEMENT EXECUTE FUNCTION test.pass()",
			"CONSTRAINT TRIGGER $name AFTER INSERT OR UPDATE ON stripe.$table DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION test.moody()");
		return [ held("CREATE $trigger"), "DROP TRIGGER IF EXISTS $name ON stripe.$table" ];
	},
	foreign_key => sub {
		my ($table) = @_;
		my ($column, $parent) = $table eq 'line_items' ? ('invoice', 'invoices') : ('subscription', 'subscriptions');
		my $name = 'mine_' . ++$number;
		return [ held("ALTER TABLE stripe.$table ADD CONSTRAINT $name FOREIGN KEY ($column, _account) REFERENCES stripe.$parent " . pick('', 'DEFERRABLE INITIALLY DEFERRED') . ' NOT VALID'),
			"ALTER TABLE stripe.$table DROP CONSTRAINT IF EXISTS $name" ];
	},
	type => sub {
		my ($table) = @_;
		my ($column, $type) = @{ $types_of{$table} };
		return [ held("ALTER TABLE stripe.$table ALTER COLUMN $column TYPE $type"), "ALTER TABLE stripe.$table ALTER COLUMN $column TYPE $ours->{$table}{$column}" ];
	},
	security => sub {
		my ($table) = @_;
		return [ held("ALTER TABLE stripe.$table ENABLE ROW LEVEL SECURITY"), "ALTER TABLE stripe.$table DISABLE ROW LEVEL SECURITY" ];
	},
	unlogged => sub {
		my ($table) = @_;
		return [ held("ALTER TABLE stripe.$table SET UNLOGGED"), "ALTER TABLE stripe.$table SET LOGGED" ];
	},
	rename => sub {
		my ($table) = @_;
		return [ held("ALTER TABLE stripe.$table RENAME TO elsewhere", 'SELECT pg_sleep(0.05)', "ALTER TABLE stripe.elsewhere RENAME TO $table") ];
	},
	rename_column => sub {
		my ($table) = @_;
		return [ held("ALTER TABLE stripe.$table RENAME COLUMN _data TO elsewhere", 'SELECT pg_sleep(0.05)', "ALTER TABLE stripe.$table RENAME COLUMN elsewhere TO _data") ];
	},
	reindex => sub { return [ pick("REINDEX TABLE CONCURRENTLY stripe.$_[0]", "REINDEX TABLE stripe.$_[0]", 'REINDEX TABLE CONCURRENTLY stripe_sync.event', 'REINDEX INDEX CONCURRENTLY stripe_sync.event_pkey') ]; },
	vacuum => sub { return [ pick("VACUUM FULL stripe.$_[0]", "VACUUM ANALYZE stripe.$_[0]", 'VACUUM FULL stripe_sync.event', 'VACUUM FULL stripe_sync.job_part', 'VACUUM stripe_sync.event') ]; },
	create_tables => sub { return ['SELECT stripe_sync.create_tables()']; },
	inbox => sub {
		my $column = 'mine_' . ++$number;
		return [ held("ALTER TABLE stripe_sync.event ADD COLUMN $column " . pick(@types)), "ALTER TABLE stripe_sync.event DROP COLUMN $column" ];
	},
	replace => sub {
		my ($table) = @_;
		return [ replacement($table, 'PARTITION BY HASH (' . pick('id', '_account') . ')'), replacement($table, '') ];
	},
);

# What may be done to one that is partitioned at the moment, and what to some alone.
my %of_partitioned = map { $_ => 1 } qw(add_column drop_ours index reindex vacuum create_tables);
my %of_tables = (drop_ours => [qw(customers charges invoices coupons)], foreign_key => [qw(line_items subscription_items)],
	replace => [qw(customers charges tax_ids refunds coupons)]);

my $ddl;
my %done;
my %in_vain;

# False when it was refused, which DDL among events may be: a lock, a deadlock.
sub run
{
	my ($what, $sql) = @_;

	$ddl->query("$sql;");
	my $error = $ddl->{stderr};
	$ddl->{stderr} = '';
	$done{$what}++;
	$in_vain{$what}++ if $error =~ /ERROR/;
	$ddl->query('ROLLBACK;') if $error =~ /ERROR/ && $sql =~ /^BEGIN/;
	$ddl->{stderr} = '';
	return $error !~ /ERROR/;
}

# False when that is refused.
sub undo_last
{
	my ($table) = @_;
	my ($name, $sql) = @{ pop @{ $undo{$table} } };

	if (!run("undo $name", $sql))
	{
		# what stands in its way may be undone before it
		unshift @{ $undo{$table} }, [ $name, $sql ];
		return;
	}
	delete $partitioned{$table} if $name eq 'replace';
	return 1;
}

my @turn;

# Each kind has its turn before any has another.
sub do_something
{
	my @undoable = grep { @{ $undo{$_} } } @tables;

	if (@undoable && chance(0.45))
	{
		undo_last(pick(@undoable));
		return;
	}
	@turn = shuffle sort keys %deeds unless @turn;
	my $name = shift @turn;
	my @of = grep { $of_partitioned{$name} || !$partitioned{$_} } @{ $of_tables{$name} // \@tables } or return;
	my $table = pick(@of);
	# what stands on it isn't carried over
	if ($name eq 'replace')
	{
		while (@{ $undo{$table} }) { undo_last($table) or return; }
	}
	my $deed = $deeds{$name}->($table);
	run($name, $deed->[0]) or return;
	push @{ $undo{$table} }, [ $name, $deed->[1] ] if defined $deed->[1];
	$partitioned{$table} = 1 if $name eq 'replace';
	return;
}

# ---- the storm ----

sub crashes { return grep { /PANIC:|TRAP:|terminated by signal|AddressSanitizer|runtime error:/ } split /\n/, slurp_file($node->logfile); }

my $begin = time + 0.5;
my $end = $begin + $seconds;
my @senders = start_senders($begin);
my @others = (start_psql('storm', 'verify', "CALL test.look(to_timestamp($end));\n"), start_psql('storm', 'backfill', "CALL test.read(to_timestamp($end));\n"));

eval {
	$ddl = $node->background_psql('storm', on_error_stop => 0);
	$ddl->set_query_timer_restart;
	$ddl->query(q{SET lock_timeout = '3s'; SET client_min_messages = error;});
	do_something() while time < $end;
	# the tables are as they were, whatever stood in the way of that
	run('calm', 'CREATE OR REPLACE FUNCTION test.moody() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$');
	for my $table (@tables)
	{
		for (my $tries = 0; @{ $undo{$table} } && $tries < 100; $tries++) { undo_last($table); }
	}
};
my $ended = $@;
note join ', ', map { "$_ $done{$_}" . ($in_vain{$_} ? " ($in_vain{$_} in vain)" : '') } sort keys %done;
for my $session (@senders, @others) { finish($session->{harness}); }

my @crashes = crashes();
is("@crashes", '', 'the server has not crashed');
if (@crashes)
{
	diag(map { "$_\n" } grep { /DETAIL:|Failed process|SUMMARY|#[0-9] / } split /\n/, slurp_file($node->logfile));
	$node->stop('immediate', fail_ok => 1);
	done_testing();
	exit 1;
}
is($ended, '', 'the tables are as they were');
is_deeply([ grep { @{ $undo{$_} } } @tables ], [], 'all that was done is undone');
cmp_ok(sum0(values %done) - sum0(values %in_vain), '>=', 5, 'and there was something');
$ddl->quit;

# ---- what was refused is sent again, what failed tried again ----

my %refused;
for my $session (@senders, @others)
{
	$refused{$1}++ while $session->{err} =~ /ERROR:\s+(\w{5}):/g;
}
$refused{$_}++ for split /\n/, storm('SELECT code FROM test.refused');
note 'refused: ' . (join(', ', map { "$_ $refused{$_} times" } sort keys %refused) || 'nothing');
is(join(' ', grep { /^XX/ } sort keys %refused), '', 'nothing ended in an internal error');

for my $round (1 .. 3)
{
	my %stored = map { $_ => 1 } split /\n/, storm('SELECT id FROM stripe_sync.event');
	my @again = grep { !$stored{ $events[$_]{id} } } 0 .. $#events or last;

	note scalar(@again) . ' events are sent again';
	finish(start_psql('storm', "again_$round", join('', map { $receive[$_] } @again))->{harness});
}
is(storm('SELECT count(*), count(DISTINCT id) FROM stripe_sync.event'), @events . '|' . @events, 'every event is stored once');

# What waits for its next try is due now; true when nothing is left.
storm(q{
	CREATE FUNCTION test.settled() RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		UPDATE stripe_sync.event SET next_attempt_at = now() WHERE next_attempt_at > now();
		UPDATE stripe_sync.reread SET due_at = now() WHERE state = 'waiting' AND due_at > now();
		UPDATE stripe_sync.job_part SET due_at = now() WHERE state = 'waiting' AND due_at > now();
		PERFORM stripe_sync.resume();
		RETURN NOT EXISTS (SELECT FROM stripe_sync.event WHERE status IN ('pending', 'failed', 'dead') OR todo <> '{}')
			AND NOT EXISTS (SELECT FROM stripe_sync.reread) AND NOT EXISTS (SELECT FROM stripe_sync.job WHERE state IN ('waiting', 'running'));
	END $$;
	SELECT stripe_sync.create_tables();
});
ok($node->poll_query_until('storm', 'SELECT test.settled()'), 'what had failed is done in the end')
  or diag(storm(q{SELECT left(error, 300), count(*) FROM stripe_sync.event WHERE status IN ('failed', 'dead') GROUP BY 1 ORDER BY 2 DESC LIMIT 5}), storm(q{SELECT * FROM stripe_sync.reread LIMIT 3}), storm(q{SELECT * FROM stripe_sync.job WHERE state IN ('waiting', 'running') LIMIT 3}));

# ---- the quiet twin ----

my $quiet = start_psql('twin', 'quiet', join('', @receive));
finish($quiet->{harness});
is($quiet->{err}, '', 'the quiet twin gets all events in their order');

for my $database ('storm', 'twin')
{
	my $job = $node->safe_psql($database, q{SELECT stripe_sync.backfill(ARRAY['customer', 'coupon'])});
	ok($node->poll_query_until($database, "SELECT state NOT IN ('waiting', 'running') FROM stripe_sync.job WHERE id = $job"), "$database: a quiet backfill ends");
	is($node->safe_psql($database, "SELECT state, error FROM stripe_sync.job WHERE id = $job"), 'done|', "$database: and has read all");
}

# ---- what is left ----

my $theirs = columns('storm');
for my $table (sort keys %$ours)
{
	my %left = map { $_ => $theirs->{$table}{$_} // 'none' } keys %{ $ours->{$table} };
	is_deeply(\%left, $ours->{$table}, "$table has its columns again") if grep { $left{$_} ne $ours->{$table}{$_} } keys %left;
}

# Of what was read from Stripe the time is that of the reading.
sub rows
{
	my ($database, $table) = @_;
	my @pairs = map { $_ eq '_as_of' ? q{'_as_of', CASE WHEN _event_id <> '' THEN _as_of END} : "'$_', \"$_\"" } grep { $_ ne '_synced_at' } sort keys %{ $ours->{$table} };
	my @parts;

	# a function takes a hundred arguments
	push @parts, 'jsonb_build_object(' . join(', ', splice(@pairs, 0, 40)) . ')' while @pairs;
	return split /\n/, $node->safe_psql($database, 'SELECT ' . join(' || ', @parts) . " FROM stripe.$table ORDER BY 1");
}

my $rows = 0;
for my $table (sort keys %$ours)
{
	my @storm = rows('storm', $table);
	my @twin = rows('twin', $table);
	my (%storm, %twin);

	$storm{$_}++ for @storm;
	$twin{$_}++ for @twin;
	my @surplus = grep { !$twin{$_} } @storm;
	my @lacking = grep { !$storm{$_} } @twin;
	$rows += @twin;
	is(scalar(@storm) . ' ' . @surplus . ' ' . @lacking, scalar(@twin) . ' 0 0', "$table has the rows of the quiet twin") if @twin || @storm;
	diag(map { "storm: $_\n" } @surplus[ 0 .. ($#surplus < 2 ? $#surplus : 2) ]) if @surplus;
	diag(map { "twin:  $_\n" } @lacking[ 0 .. ($#lacking < 2 ? $#lacking : 2) ]) if @lacking;
}
cmp_ok($rows, '>', 550, "there are rows: $rows");
is(storm('SELECT count(*), count(DISTINCT event_id) FROM test.effect'), @events . '|' . @events, 'every event had its effect once');
is(storm('SELECT * FROM stripe_sync.verify_mirror(sample => 100000) LIMIT 5'), '', 'the mirror is what the inbox says');

# every row is in every index
is(storm(q{
	DO $$
	DECLARE one regclass;
	BEGIN
		FOR one IN SELECT x.indexrelid FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid JOIN pg_am a ON a.oid = i.relam
			WHERE t.relnamespace IN ('stripe'::regnamespace, 'stripe_sync'::regnamespace) AND i.relkind = 'i' AND a.amname = 'btree' AND x.indisvalid LOOP
			PERFORM bt_index_check(one, true);
		END LOOP;
	END $$; SELECT 'sound'}), 'sound', 'the indexes are sound');
my $log = slurp_file($node->logfile);
is(join("\n", crashes()), '', 'nothing crashed until then');
unlike($log, qr/concurrent update, retrying/, 'the log has no lines that say nothing');
unlike($log, qr/ XX\d\d\d (ERROR|FATAL|WARNING)/, 'nor of internal errors');

$node->stop;
done_testing();
