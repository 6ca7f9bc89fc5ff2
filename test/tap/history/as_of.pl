# as_of.pl
#		as_of() at random moments of random stories equals what a model says.
#
# The model (model.py, in another language) makes the stories and knows their true
# order: bursts of one second, deletions, lives begun again, objects older than
# their first event, events that are never delivered, changes that only a fetch
# has seen.  It says where the past is not known.  All is delivered in another
# order than it happened.
#
# Then some of the events are pruned, then all: of the kept types the answers are
# the same; of other types what is still known is right.
#
# SEED=number in the environment chooses other stories.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use constant STORIES => 200;
use constant MOMENTS => 50;

plan skip_all => 'no python3' if system('python3 -c "" 2>/dev/null') != 0;

my $seed      = seed();
my $node      = shared_node('history');
my $database  = 'history';
my $directory = PostgreSQL::Test::Utils::tempdir();

chmod 0755, $directory;
system('python3', "$FindBin::RealBin/model.py", $seed, STORIES, MOMENTS, $directory) == 0 or die 'the model ended with an error';

make_database($node, $database);
$node->safe_psql($database, q{
	SET client_min_messages = warning;
	SELECT stripe_sync.create_tables('{customer,coupon,subscription,subscription_item}');
	CREATE TABLE test.arrival (n int PRIMARY KEY, what text, payload text, at float);
	CREATE TABLE test.answer (moment int, at float, type text, id text, object jsonb);

	-- what as_of() says at all moments, in the form of the model's answers
	CREATE FUNCTION test.said(types text[]) RETURNS TABLE (moment int, type text, id text, object jsonb) LANGUAGE sql AS $$
		SELECT m.moment, t.type, a.object_id, CASE WHEN a.known THEN a.object END
		  FROM (SELECT DISTINCT moment, at FROM test.answer) m, unnest(types) t (type),
			stripe_sync.as_of(t.type, to_timestamp(m.at)) a
	$$;
	CREATE FUNCTION test.expected(types text[]) RETURNS TABLE (moment int, type text, id text, object jsonb) LANGUAGE sql AS $$
		SELECT moment, type, id, object FROM test.answer WHERE type = ANY (types)
	$$;
	-- the first answers that differ
	CREATE FUNCTION test.differences(types text[]) RETURNS TABLE (at float, type text, id text, said text, expected text) LANGUAGE sql AS $$
		SELECT m.at - 1735689600, coalesce(s.type, e.type), coalesce(s.id, e.id),
			CASE WHEN s.id IS NULL THEN 'no row' ELSE coalesce(s.object->>'name', s.object->>'quantity', 'unknown') END,
			CASE WHEN e.id IS NULL THEN 'no row' ELSE coalesce(e.object->>'name', e.object->>'quantity', 'unknown') END
		  FROM test.said(types) s FULL JOIN test.expected(types) e USING (moment, type, id)
		  JOIN (SELECT DISTINCT moment, at FROM test.answer) m USING (moment)
		 WHERE s.id IS NULL OR e.id IS NULL OR s.object IS DISTINCT FROM e.object
		 ORDER BY 2, 3, 1 LIMIT 5
	$$;
	-- what is said to be known, or not to exist, and is not what the model says
	CREATE FUNCTION test.guesses(types text[]) RETURNS bigint LANGUAGE sql AS $$
		SELECT count(*) FROM test.said(types) s FULL JOIN test.expected(types) e USING (moment, type, id)
		 WHERE s.object IS NOT NULL AND s.object IS DISTINCT FROM e.object OR s.id IS NULL AND e.object IS NOT NULL
	$$;
	CREATE FUNCTION test.histories() RETURNS TABLE (type text, id text, rows jsonb) LANGUAGE sql AS $$
		SELECT o.type, o.id, (SELECT jsonb_agg(to_jsonb(h) ORDER BY n) FROM stripe_sync.history(o.type, o.id) WITH ORDINALITY h (at, event_id, field, old, new, n))
		  FROM (SELECT DISTINCT type, id FROM test.answer WHERE type LIKE 'subscription%') o
	$$;
});
$node->safe_psql($database, "COPY test.arrival FROM '$directory/arrivals'; COPY test.answer FROM '$directory/answers'");

# ---- delivery ----

my $arrived = $node->safe_psql($database, q{
	SELECT what, r.status IN ('applied', 'stale') AS good, count(*) > 100 AS many FROM
		(SELECT * FROM test.arrival ORDER BY n OFFSET 0) a,
		LATERAL (SELECT CASE a.what WHEN 'fetch' THEN stripe_sync.apply_reading(a.payload::jsonb, '', to_timestamp(a.at))
			ELSE (SELECT status FROM stripe_sync.receive(a.payload, stripe_sync.sign(a.payload, '} . SECRET . q{'))) END AS status) r
	 GROUP BY 1, 2 ORDER BY 1
});
is($arrived, "event|t|t\nfetch|t|t", 'events and fetched objects are delivered');

# ---- the answers ----

my $all  = q{'{customer,coupon,subscription,subscription_item}'};
my $kept = q{'{subscription,subscription_item}'};
my $gone = q{'{customer,coupon}'};

my $kinds = $node->safe_psql($database, q{
	SELECT type, bool_or(object IS NULL) AS unknown, bool_or(object IS NOT NULL) AS known FROM test.answer WHERE type IS NOT NULL GROUP BY 1 ORDER BY 1});
is($kinds, "coupon|t|t\ncustomer|t|t\nsubscription|t|t\nsubscription_item|t|t", 'the model knows some moments, and others not');

sub same_as_model
{
	my ($types, $name) = @_;

	is($node->safe_psql($database, "SELECT * FROM test.differences($types)"), '', $name);
	return;
}

same_as_model($all, 'as_of() is what the model says');

# ---- after pruning ----

$node->safe_psql($database, "CREATE TABLE test.history AS SELECT * FROM test.histories()");

sub prune
{
	my ($which) = @_;

	$node->safe_psql($database, "UPDATE stripe_sync.event SET received_at = now() - interval '100 days' WHERE $which");
	return $node->safe_psql($database, 'SELECT stripe_sync.prune() > 0');
}

sub same_history
{
	my ($name) = @_;

	is($node->safe_psql($database, q{
		SELECT o.type, o.id, o.rows, n.rows FROM test.history o JOIN test.histories() n USING (type, id)
		 WHERE o.rows IS DISTINCT FROM n.rows ORDER BY 1, 2 LIMIT 2}), '', $name);
	return;
}

for my $part (0 .. 1)
{
	my $which = $part == 0 ? "hashtext(id || '$seed') % 2 = 0" : 'true';

	is(prune($which), 't', "events are pruned: $which");
	same_as_model($kept, 'as_of() of the kept types is the same');
	same_history('history() too');
	is($node->safe_psql($database, "SELECT test.guesses($gone)"), '0', 'of other types nothing is guessed');
}
is($node->safe_psql($database, 'SELECT count(*) FROM stripe_sync.event'), '0', 'no event is left');
is($node->safe_psql($database, "SELECT count(*) FROM stripe_sync.change WHERE object_type NOT LIKE 'subscription%'"), '0', 'only kept types are kept');

done_testing();
