# scope.pl
#		Scopes where it takes more than one session: a schema is renamed by
#		another one, the worker's session is left clean, a transaction is
#		prepared, and what waits for a stopped handler is run by the worker.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('scope', conf => PRELOAD . "max_prepared_transactions = 2\n");
make_database($node, 'scope');

sub sql { return $node->safe_psql('scope', $_[0]); }

sub comes_true
{
	my ($what, $query) = @_;

	ok($node->poll_query_until('scope', $query), $what);
	return;
}

sub receive
{
	my ($id, $type) = @_;
	my $payload = json_text(event($id, $type, 1, { id => "x_$id", object => 'teapot' }));

	return 'SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload)) . ')';
}

sql(q{
	CREATE TABLE test.log (event text, pid int DEFAULT pg_backend_pid());
	CREATE FUNCTION test.note(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO test.log VALUES (event->>'id') $$;
	SELECT stripe_sync.add_handler('note', 'note', 'test.note');
	CREATE SCHEMA z1;
	CREATE TABLE z1.parent (i int PRIMARY KEY);
	CREATE TABLE z1.child (i int REFERENCES z1.parent DEFERRABLE INITIALLY DEFERRED);
});

# ---- a schema is renamed by another session ----

my $session = $node->background_psql('scope');

is($session->query_safe(receive('evt_1', 'note')), 'ignored', 'a handler runs where a constraint can be deferred');
sql('ALTER SCHEMA z1 RENAME TO z2');
is($session->query_safe(receive('evt_2', 'note')), 'ignored', 'and when its schema has been renamed by another session');
$session->query_safe('BEGIN');
is($session->query_safe(receive('evt_3', 'note')), 'ignored', 'within a transaction');
sql('ALTER SCHEMA z2 RENAME TO z3');
is($session->query_safe(receive('evt_4', 'note')), 'ignored', 'in the middle of which it is renamed again');
$session->query_safe('INSERT INTO z3.child VALUES (1); INSERT INTO z3.parent VALUES (1); COMMIT');
is(sql('SELECT i FROM z3.child'), '1', 'afterwards the constraint is deferred as it was declared');
is(sql(q{SELECT count(*) FROM stripe_sync.event WHERE error IS NOT NULL}), '0', 'nothing failed');

# ---- prepared transactions ----

$session->query_safe('BEGIN; INSERT INTO z3.child VALUES (2)');
is($session->query_safe('INSERT INTO z3.parent VALUES (2); ' . receive('evt_p', 'note')), 'ignored', 'an event is received in a transaction');
$session->query_safe(q{PREPARE TRANSACTION 'p'});
$session->query_safe('CREATE TEMP TABLE mine (i int); DECLARE c CURSOR WITH HOLD FOR SELECT 1');
pass('which is prepared, and leaves no scope in the session');
is($session->query_safe(receive('evt_p2', 'note')), 'ignored', 'nor in the next event');
sql(q{COMMIT PREPARED 'p'});
is(sql(q{SELECT count(*) FROM test.log WHERE event IN ('evt_p', 'evt_p2')}), '2', 'both are committed');
$session->quit;

# ---- the worker's session ----

sql(q{
	CREATE FUNCTION test.locks(event jsonb) RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_lock(4711); INSERT INTO test.log VALUES (event->>'id') $$;
	SELECT stripe_sync.add_handler('locks', 'locks', 'test.locks', deferred => true);
});
sql(receive('evt_l', 'locks'));
comes_true('a handler in the worker takes an advisory lock of its session',
	q{SELECT count(*) = 1 FROM test.log l JOIN stripe_sync.worker w ON w.pid = l.pid WHERE event = 'evt_l'});
comes_true('which ends with it', q{SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711});
is(sql('SELECT pg_try_advisory_lock(4711)'), 't', 'and can be taken by others');

# ---- a stopped handler ----

sql(q{
	CREATE ROLE scope_gone;
	SELECT stripe_sync.grant_admin('scope_gone');
	GRANT USAGE ON SCHEMA test TO scope_gone;
	SET ROLE scope_gone;
	SELECT stripe_sync.add_handler('note', 'note', 'test.note');
	RESET ROLE;
	SELECT stripe_sync.revoke_all('scope_gone');
});
is(sql(receive('evt_s', 'note')), 'ignored', 'an event waits for a handler that is stopped, and has not failed');
comes_true('the worker puts it off', q{SELECT next_attempt_at > now() + interval '1 s' AND todo = '{note}' AND tries->>'note' = '0' FROM stripe_sync.event WHERE id = 'evt_s'});
sql(q{UPDATE stripe_sync.event SET next_attempt_at = now() + interval '1 hour' WHERE id = 'evt_s'});
sql(q{SELECT stripe_sync.add_handler('note', 'note', 'test.note')});
comes_true('registered again, it runs at once', q{SELECT todo = '{}' FROM stripe_sync.event WHERE id = 'evt_s'});
is(sql(q{SELECT count(*) FROM test.log WHERE event = 'evt_s'}), '1', 'once');

$node->stop;
done_testing();
