# cancel.pl
#		Whatever interrupts receive() leaves nothing half done, and a retry
#		applies; a handler's failure is the handler's alone.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use StripeSync;

use IPC::Run qw(start finish);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('cancel', conf => "restart_after_crash = on\n");
my $db = 'cancel';
make_database($node, $db);

# Effects are told from the mirror's own work by the handler's name.
$node->safe_psql($db, q{
	CREATE TABLE test.event (n int PRIMARY KEY, id text, payload text, signature text, children int);
	CREATE TABLE test.effect (handler text, event_id text);
	CREATE FUNCTION test.deliver(number int) RETURNS text LANGUAGE sql AS $$
		SELECT r.status FROM test.event e, LATERAL stripe_sync.receive(e.payload, e.signature) r WHERE e.n = number
	$$;

	-- every handler notes that it ran, then does what it does
	CREATE FUNCTION test.good(event jsonb) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO test.effect VALUES ('good', event->>'id') $$;
	CREATE FUNCTION test.waits(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO test.effect VALUES ('waits', event->>'id');
		PERFORM pg_advisory_xact_lock(1);
	END $$;
	CREATE FUNCTION test.sleeps(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO test.effect VALUES ('sleeps', event->>'id');
		PERFORM pg_sleep(600);
	END $$;
	CREATE FUNCTION test.shrugs(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO test.effect VALUES ('shrugs', event->>'id');
		PERFORM pg_sleep(600);
	EXCEPTION WHEN query_canceled THEN
		INSERT INTO test.effect VALUES ('shrugs', event->>'id');
	END $$;
	CREATE FUNCTION test.devours(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO test.effect VALUES ('devours', event->>'id');
		PERFORM length(repeat('x', 900000000));
	END $$;
	CREATE FUNCTION test.raises(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO test.effect VALUES ('raises', event->>'id');
		RAISE EXCEPTION 'raised on purpose' USING ERRCODE = current_setting('test.sqlstate');
	END $$;
});

my $events = 0;

# An event of a customer with that many tax ids; returns its number.
sub make_event
{
	my ($children) = @_;
	my $n = $events++;
	my $customer = { id => "cus_$n", object => 'customer', name => 'N', tax_ids => { object => 'list', has_more => FALSE, url => '/t',
		data => [ map { { id => "txi_${n}_$_", object => 'tax_id', customer => "cus_$n", value => "v$_" } } 1 .. $children ] } };
	my $payload = json_text(event("evt_$n", 'customer.created', $n, $customer));

	$node->safe_psql($db, "INSERT INTO test.event VALUES ($n, 'evt_$n', " . literal($payload)
		  . ", stripe_sync.sign(" . literals($payload, SECRET) . "), $children)");
	return $n;
}

# What there is of an event: its row, the own row, children, effects.
sub traces
{
	my ($n) = @_;

	return $node->safe_psql($db, qq{SELECT
		(SELECT count(*) FROM stripe_sync.event WHERE id = 'evt_$n'),
		(SELECT count(*) FROM stripe.customers WHERE id = 'cus_$n'),
		(SELECT count(*) FROM stripe.tax_ids WHERE customer = 'cus_$n'),
		(SELECT count(*) FROM test.effect WHERE event_id = 'evt_$n')});
}

sub set_handlers
{
	my (@names) = @_;

	$node->safe_psql($db, "SELECT stripe_sync.drop_handler(name) FROM stripe_sync.handler;\n"
		  . join('', map { "SELECT stripe_sync.add_handler('$_', '*', 'test." . (/_(.*)/ ? $1 : $_) . "');\n" } @names));
	return;
}

# Deliver in a session of its own; "settings" are SET before it.
sub start_delivery
{
	my ($n, @settings) = @_;
	my %session = (out => '', err => '');

	$session{harness} = start(
		[ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr($db) . " application_name=delivery",
			map({ ('-c', "SET $_") } @settings), '-c', "SELECT test.deliver($n)" ],
		'<', \undef, '>', \$session{out}, '2>', \$session{err});
	return \%session;
}

sub end_delivery
{
	my ($session) = @_;

	finish($session->{harness});
	return $session;
}

sub deliver
{
	my ($n, @settings) = @_;
	my $session = end_delivery(start_delivery($n, @settings));

	chomp $session->{out};
	return ($session->{out}, $session->{err});
}

sub signal_delivery
{
	my ($how) = @_;

	wait_for_lock($node, $db, 'delivery', 'advisory') or die 'the delivery never came to wait';
	$node->safe_psql($db, "SELECT $how(pid) FROM pg_stat_activity WHERE application_name = 'delivery' AND wait_event = 'advisory'");
	return;
}

sub no_delivery_left
{
	return $node->poll_query_until($db, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'delivery'});
}

# ---- interrupted while a handler waits ----

set_handlers('a_good', 'b_waits', 'c_good');
my $holder = $node->background_psql($db);
$holder->query_safe('SELECT pg_advisory_lock(1)');

{
	my $n = make_event(3);
	my $session = start_delivery($n);
	signal_delivery('pg_cancel_backend');
	end_delivery($session);
	like($session->{err}, qr/57014/, 'pg_cancel_backend ends the transaction');
	is(traces($n), '0|0|0|0', 'pg_cancel_backend leaves nothing');

	$session = start_delivery($n);
	signal_delivery('pg_terminate_backend');
	end_delivery($session);
	like($session->{err}, qr/57P01/, 'pg_terminate_backend ends the session');
	no_delivery_left();
	is(traces($n), '0|0|0|0', 'pg_terminate_backend leaves nothing');

	my ($out, $err) = deliver($n, "statement_timeout = '200ms'");
	like($err, qr/57014.*statement timeout/, 'the caller\'s statement_timeout during a handler ends the transaction');
	is(traces($n), '0|0|0|0', 'statement_timeout leaves nothing');

	($out, $err) = deliver($n, "lock_timeout = '200ms'");
	like($err, qr/55P03/, 'lock_timeout during a handler ends the transaction');
	is(traces($n), '0|0|0|0', 'lock_timeout leaves nothing');

	# in a session that goes on: the timer of handler_timeout must not linger
	($out, $err) = $node->psql($db, "SET statement_timeout = '200ms'; SET stripe_sync.handler_timeout = '10s';"
		  . "SELECT test.deliver($n); RESET statement_timeout; SELECT 'on'");
	$node->safe_psql($db, "SET stripe_sync.handler_timeout = '1s'; SELECT test.deliver($n); SELECT pg_sleep(2)");
	is(traces($n), '1|1|3|2', 'handler_timeout fails the handler alone, and cancels nothing after it');
	like($node->safe_psql($db, "SELECT status, todo, error FROM stripe_sync.event WHERE id = 'evt_$n'"),
		qr/^failed\|\{b_waits\}\|b_waits: 57014: .*handler_timeout/, 'and says so on the event');

	my $other = make_event(2);
	$session = start_delivery($other);
	wait_for_lock($node, $db, 'delivery', 'advisory');
	my $pid = $node->safe_psql($db, q{SELECT pid FROM pg_stat_activity WHERE application_name = 'delivery' AND wait_event = 'advisory'});
	kill 'KILL', $pid;
	end_delivery($session);
	# until the server has noticed, the holder holds its lock
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory'}), 'the server comes back after kill -9');
	eval { $holder->quit };    # it went down with the others
	is(traces($other), '0|0|0|0', 'kill -9 leaves nothing');

	# nobody holds the lock now
	is((deliver($other))[0], 'applied', 'a retry applies');
	is(traces($other), '1|1|2|3', 'all of it');
	is($node->safe_psql($db, "SELECT status FROM stripe_sync.replay('evt_$n')"), 'applied', 'a replay runs what had failed');
	is(traces($n), '1|1|3|3', 'and only that');
}

# ---- interrupted anywhere ----

sub check_whole
{
	my ($what, @numbers) = @_;
	my $list = join(',', @numbers);
	my $half = $node->safe_psql($db, qq{
		SELECT string_agg(format('%s: %s', id, (stored, own, listed, effects)), E'\\n')
		FROM (SELECT e.id, e.children,
			(SELECT count(*) FROM stripe_sync.event v WHERE v.id = e.id AND v.status = 'applied') AS stored,
			(SELECT count(*) FROM stripe_sync.event v WHERE v.id = e.id AND v.status <> 'applied') AS other,
			(SELECT count(*) FROM stripe.customers WHERE id = 'cus_' || n) AS own,
			(SELECT count(*) FROM stripe.tax_ids WHERE customer = 'cus_' || n) AS listed,
			(SELECT count(*) FROM test.effect f WHERE f.event_id = e.id) AS effects
			FROM test.event e WHERE n IN ($list)) s
		WHERE (stored, other, own, listed, effects) NOT IN ((1, 0, 1, children, 1), (0, 0, 0, 0, 0))});
	is($half, '', "$what: every event is there with all of it, or not at all");
	my $stored = $node->safe_psql($db, qq{SELECT count(*) FROM stripe_sync.event v JOIN test.event e USING (id) WHERE n IN ($list)});
	note "$what: $stored of " . @numbers . ' were stored';
	return $stored;
}

sub check_retry
{
	my ($what, @numbers) = @_;
	my $count = @numbers;

	$node->safe_psql($db, join('', map { "SELECT test.deliver($_);\n" } @numbers));
	is(check_whole("$what, delivered again", @numbers), $count, "$what: delivered again all are applied");
	return;
}

set_handlers('good');
seed();

{
	# moments by statement_timeout: each event is dear enough to be caught at work
	my @numbers = map { make_event(800) } 1 .. 60;

	$node->psql($db, join('', map { "SET statement_timeout = '" . (1 + $_ % 40) . "ms'; SELECT test.deliver($numbers[$_]);\n" } 0 .. $#numbers),
		on_error_stop => 0);
	check_whole('statement_timeout', @numbers);
	check_retry('statement_timeout', @numbers);
}

{
	# moments by pg_cancel_backend, from a session that fires at random
	my @numbers = map { make_event(200) } 1 .. 150;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/deliveries.sql';

	append_to_file($file, join('', map { "SELECT test.deliver($_);\n" } @numbers));
	my ($out, $err) = ('', '');
	my $harness = start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=0', '-d', $node->connstr($db) . ' application_name=target', '-f', $file ],
		'<', \undef, '>', \$out, '2>', \$err);
	$node->safe_psql($db, q{
		DO $$
		BEGIN
			PERFORM setseed(0.5);
			FOR i IN 1 .. 400 LOOP
				PERFORM pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'target' AND state = 'active';
				PERFORM pg_stat_clear_snapshot();
				PERFORM pg_sleep(random() * 0.01);
			END LOOP;
		END $$});
	finish($harness);
	unlike($err, qr/ERROR:  (?!canceling statement due to user request)/, 'a cancelled delivery says nothing else');
	check_whole('pg_cancel_backend', @numbers);
	check_retry('pg_cancel_backend', @numbers);
}

# ---- errors that a handler raises ----

set_handlers('a_good', 'b_raises', 'c_good');
for my $case (
	[ '40001', 'a serialization failure' ], [ '40P01', 'a deadlock' ], [ 'XX000', 'an internal error' ], [ 'XX001', 'corrupted data' ],
	[ '55P03', 'a lock not available' ], [ '57014', 'a cancellation' ], [ '57P01', 'a shutdown' ], [ '53100', 'a full disk' ],
	[ '25P03', 'an idle transaction\'s end' ])
{
	my ($sqlstate, $what) = @$case;
	my $n = make_event(1);
	my ($out, $err) = deliver($n, "test.sqlstate = '$sqlstate'");

	like($err, qr/ERROR:  $sqlstate: raised on purpose/, "$what raised in a handler ends the transaction");
	is(traces($n), '0|0|0|0', "$what leaves nothing");
}
for my $case ([ 'P0001', 'an exception' ], [ '23505', 'a duplicate key' ], [ '42501', 'a missing right' ], [ '53200', 'out of memory' ],
	[ 'SY002', 'an error like ours' ], [ '25001', 'a transaction state' ])
{
	my ($sqlstate, $what) = @$case;
	my $n = make_event(1);
	my ($out, $err) = deliver($n, "test.sqlstate = '$sqlstate'");

	is("$out$err", 'failed', "$what raised in a handler fails the handler");
	is(traces($n), '1|1|1|2', "$what undoes the handler alone");
	like($node->safe_psql($db, "SELECT todo, error FROM stripe_sync.event WHERE id = 'evt_$n'"),
		qr/^\{b_raises\}\|b_raises: $sqlstate: raised on purpose/, "$what is noted on the event");
}

# ---- poison: it always raises, runs out of memory, sleeps, swallows the cancel ----

{
	set_handlers('a_good', 'b_raises', 'c_sleeps', 'd_shrugs', 'e_devours', 'f_good');
	my $session = $node->background_psql($db);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	my ($size) = slurp_file("/proc/$pid/status") =~ /VmSize:\s+(\d+) kB/;
	my $limit = ($size + 200_000) * 1024;
	my $limited = system("prlimit --pid $pid --as=$limit >/dev/null 2>&1") == 0;

	note 'no prlimit here: memory is not short' unless $limited;
	$session->query_safe(q{SET test.sqlstate = 'P0001'; SET stripe_sync.handler_timeout = '1s'});
	for my $n (map { make_event(2) } 1 .. 3)
	{
		my $status = $session->query_safe("SELECT test.deliver($n)");

		is($status, 'failed', "event $n is received in spite of poison");
		is(traces($n), '1|1|2|' . ($limited ? 2 : 3), "event $n: the mirror and the good handlers stand");
		my $todo = $node->safe_psql($db, "SELECT todo FROM stripe_sync.event WHERE id = 'evt_$n'");
		is($todo, $limited ? '{b_raises,c_sleeps,d_shrugs,e_devours}' : '{b_raises,c_sleeps,d_shrugs}', "event $n: what failed is still to do");
		my $error = $node->safe_psql($db, "SELECT error FROM stripe_sync.event WHERE id = 'evt_$n'");
		like($error, qr/c_sleeps: 57014: .*handler_timeout/, "event $n: the sleeper's time was up");
		like($error, qr/d_shrugs: 57014: .*handler_timeout/, "event $n: and that of the one that swallows the cancel");
		like($error, $limited ? qr/e_devours: 53200/ : qr/^/, "event $n: memory ran out");
	}
	$session->quit;

	# mended, all is done, and what was done isn't done again
	$node->safe_psql($db, q{
		CREATE OR REPLACE FUNCTION test.raises(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO test.effect VALUES ('raises', event->>'id') $$;
		CREATE OR REPLACE FUNCTION test.sleeps(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO test.effect VALUES ('sleeps', event->>'id') $$;
		CREATE OR REPLACE FUNCTION test.shrugs(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO test.effect VALUES ('shrugs', event->>'id') $$;
		CREATE OR REPLACE FUNCTION test.devours(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO test.effect VALUES ('devours', event->>'id') $$;
	});
	my $n = $events - 1;
	is($node->safe_psql($db, "SELECT status FROM stripe_sync.replay('evt_$n')"), 'applied', 'mended handlers are run by a replay');
	is(traces($n), '1|1|2|6', 'each once');
}

my $log = slurp_file($node->logfile);
unlike($log, qr/@{[SECRET]}/, 'no secret in the server\'s log');
unlike($log, qr/signal 11|signal 6|PANIC|TRAP:/, 'the server didn\'t crash');

$node->stop;
done_testing();
