# retry.pl
#		The worker runs what an event still has to do: deferred handlers as soon
#		as it is committed, what has failed when it falls due again; and no
#		poison stops it.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('retry', conf => PRELOAD);
make_database($node, 'retry');

sub sql { return $node->safe_psql('retry', $_[0]); }

sub deliver
{
	my ($id, $type) = @_;
	my $payload = json_text(event($id, $type, 1, { id => "cus_$id", object => 'customer', name => $id }));

	return sql('SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload)) . ')');
}

sub comes_true
{
	my ($what, $query) = @_;

	ok($node->poll_query_until('retry', $query), $what);
	return;
}

sub pid_of_worker { return sql(q{SELECT pid FROM stripe_sync.worker WHERE database = current_database()}); }

# The step's backoff is a minute and more: what is tested is who runs it, not
# how long that takes.
sub make_due { return sql(q{UPDATE stripe_sync.event SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL; SELECT stripe_sync.resume()}); }

# Due again and again, until it comes true: one that the worker has at the moment
# is put off when that is over.
sub comes_true_when_due
{
	my ($what, $query) = @_;

	return eventually($what, sub { make_due(); sql($query) eq 't' });
}

sql(q{
	CREATE TABLE test.log (handler text, event text, pid int DEFAULT pg_backend_pid());
	CREATE TABLE test.broken (handler text);
	CREATE FUNCTION test.note(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
		IF EXISTS (SELECT FROM test.broken WHERE handler = 'note') THEN RAISE 'note is broken'; END IF;
		INSERT INTO test.log VALUES ('note', event->>'id'); END $$;
	CREATE FUNCTION test.later(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO test.log VALUES ('later', event->>'id'); END $$;
	CREATE FUNCTION test.poison(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
		RAISE 'poison %', event->>'id'; END $$;
	CREATE FUNCTION test.endless(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
		LOOP PERFORM 1; END LOOP; END $$;
	SELECT stripe_sync.add_handler('note', 'customer.created', 'test.note');
	SELECT stripe_sync.add_handler('later', 'customer.*', 'test.later', deferred => true);
	SELECT stripe_sync.add_handler('poison', 'customer.updated', 'test.poison');
});
$node->poll_query_until('retry', q{SELECT count(*) = 1 FROM stripe_sync.worker WHERE database = 'retry' AND state = 'sleeping'});
my $pid = pid_of_worker();

# ---- deferred handlers ----

is(deliver('a', 'customer.created'), 'applied', 'an event with a deferred handler is applied');
comes_true('the deferred handler is run after the commit', q{SELECT count(*) = 1 FROM test.log WHERE handler = 'later' AND event = 'a'});
is(sql(q{SELECT pid FROM test.log WHERE handler = 'later' AND event = 'a'}), $pid, 'by the worker');
isnt(sql(q{SELECT pid FROM test.log WHERE handler = 'note' AND event = 'a'}), $pid, 'the other one was run by the session');
comes_true('then nothing is left to do', q{SELECT todo = '{}' AND next_attempt_at IS NULL FROM stripe_sync.event WHERE id = 'a'});

# ---- what has failed ----

sql(q{INSERT INTO test.broken VALUES ('note')});
is(deliver('b', 'customer.created'), 'failed', 'a handler fails');
comes_true('the worker has run the deferred one nonetheless', q{SELECT todo = '{note}' FROM stripe_sync.event WHERE id = 'b'});
is(sql(q{SELECT next_attempt_at > now() FROM stripe_sync.event WHERE id = 'b'}), 't', 'and the other is due later');
make_due();
comes_true('due, it is tried again', q{SELECT tries->>'note' = '2' AND status = 'failed' AND next_attempt_at > now() FROM stripe_sync.event WHERE id = 'b'});
sql(q{DELETE FROM test.broken});
comes_true_when_due('and mended, it succeeds', q{SELECT status = 'applied' AND todo = '{}' AND error IS NULL FROM stripe_sync.event WHERE id = 'b'});
is(sql(q{SELECT string_agg(handler, ',' ORDER BY handler) FROM test.log WHERE event = 'b'}), 'later,note', 'each was run once');

# ---- poison ----

sub setting
{
	my ($name, $value) = @_;

	$node->append_conf('postgresql.conf', "$name = $value");
	$node->reload;
	comes_true("$name is set", "SELECT current_setting('$name') = '$value'");
	return;
}

setting('stripe_sync.max_attempts', '3');
is(deliver("p$_", 'customer.updated'), 'failed', "poison $_") for 1 .. 5;
sql(q{INSERT INTO test.broken VALUES ('note')});
is(deliver('c', 'customer.created'), 'failed', 'and one that is well later');
sql(q{DELETE FROM test.broken});
comes_true_when_due('after max_attempts they are dead', q{SELECT count(*) = 5 AND bool_and(next_attempt_at IS NULL) FROM stripe_sync.event WHERE status = 'dead'});
is(sql(q{SELECT bool_and(tries->>'poison' = '3' AND error LIKE '%poison p%') FROM stripe_sync.event WHERE status = 'dead'}), 't', 'each tried three times, with what it raised');
comes_true_when_due('poison holds up no other event', q{SELECT status = 'applied' FROM stripe_sync.event WHERE id = 'c'});

setting('stripe_sync.handler_timeout', '2s');

sql(q{SELECT stripe_sync.add_handler('poison', 'customer.updated', 'test.endless')});
sql(q{SELECT stripe_sync.add_handler('endless', 'product.created', 'test.endless', deferred => true)});
my $payload = json_text(event('e', 'product.created', 1, { id => 'prod_e', object => 'product' }));
is(sql('SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload)) . ')'), 'applied', 'a deferred handler that never ends');
comes_true('is cut off by its time-out', q{SELECT error LIKE '%endless%' AND next_attempt_at > now() FROM stripe_sync.event WHERE id = 'e'});
is(pid_of_worker(), $pid, 'the worker is the same all the while');
comes_true('and holds no transaction open', qq{SELECT xact_start IS NULL AND backend_xmin IS NULL FROM pg_stat_activity WHERE pid = $pid});

# ---- what is not the worker's to decide ----

sql(q{SELECT stripe_sync.pause()});
is(deliver('d', 'customer.created'), 'applied', 'paused, events are applied');
comes_true('and their deferred handlers run', q{SELECT count(*) = 1 FROM test.log WHERE handler = 'later' AND event = 'd'});
sql(q{SELECT stripe_sync.resume()});

# A replay of a dead one begins anew, and the worker goes on with it.
sql(q{SELECT stripe_sync.drop_handler('poison')});
sql(q{SELECT stripe_sync.add_handler('poison', 'customer.updated', 'test.later')});
is(sql(q{SELECT string_agg(DISTINCT status, ',') FROM stripe_sync.replay(now() - interval '1 day', types => '{customer.updated}')}), 'applied', 'mended and replayed, the dead are applied');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'no crash');
$node->stop;
done_testing();
