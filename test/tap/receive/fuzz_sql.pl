# fuzz_sql.pl
#		A hundred thousand random and mutated deliveries: never a crash, never a
#		wrong accept, nothing stored of what is refused.
#
# Who may be accepted is told without the extension: a payload byte for byte
# as it was signed, with a header that has the one time and among its v1 the
# one signature, which were made in Perl.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use StripeSync;

use IPC::Run qw(start finish);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('fuzz');
my $db = 'fuzz';
my $seed = seed();

make_database($node, $db);
$node->safe_psql($db, q{
	CREATE TABLE test.genuine (n int PRIMARY KEY, payload text, at text, hex text);
	CREATE TABLE test.wrong (what text, header text, payload bytea, said text);
	CREATE TABLE test.tally (what text, said text, count bigint);

	CREATE FUNCTION test.roll(sides int) RETURNS int LANGUAGE sql AS 'SELECT floor(random() * sides)::int';
	CREATE FUNCTION test.noise(length int) RETURNS bytea LANGUAGE sql AS $$
		SELECT substr(decode(string_agg(md5(random()::text), ''), 'hex'), 1, length) FROM generate_series(0, length / 16) $$;

	-- a mutation or three of some bytes
	CREATE FUNCTION test.mutated(bytes bytea) RETURNS bytea LANGUAGE plpgsql AS $$
	DECLARE
		result bytea := bytes;
		place int;
	BEGIN
		FOR i IN 0 .. test.roll(3) LOOP
			place := 1 + test.roll(length(result));
			CASE test.roll(7)
				WHEN 0 THEN
					IF length(result) > 0 THEN
						result := set_byte(result, place - 1, test.roll(256));
					END IF;
				WHEN 1 THEN
					IF length(result) > 0 THEN
						result := set_byte(result, place - 1, get_byte(result, place - 1) # (1 << test.roll(8)));
					END IF;
				WHEN 2 THEN result := substr(result, 1, place - 1);
				WHEN 3 THEN result := substr(result, place + 1);
				WHEN 4 THEN result := overlay(result PLACING test.noise(1 + test.roll(4)) FROM place FOR 0);
				WHEN 5 THEN result := overlay(result PLACING '' FROM place FOR 1 + test.roll(4));
				ELSE result := overlay(result PLACING convert_to((ARRAY['"', '\', '{', '}', ',', 't=', 'v1=', '=', ' ', '0', 'null', '\u0000', '\ud800', '1e999999', '-'])[1 + test.roll(15)], 'UTF8') FROM place FOR test.roll(3));
			END CASE;
		END LOOP;
		RETURN result;
	END $$;

	-- bytes as text, for a header
	CREATE FUNCTION test.as_text(bytes bytea) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		RETURN convert_from(bytes, 'UTF8');
	EXCEPTION WHEN OTHERS THEN
		RETURN translate(encode(bytes, 'escape'), '\', '');
	END $$;

	CREATE FUNCTION test.header(g test.genuine) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		good text := 't=' || g.at || ',v1=' || g.hex;
		other text := encode(test.noise(32), 'hex');
	BEGIN
		CASE test.roll(16)
			WHEN 0 THEN RETURN good;
			WHEN 1 THEN RETURN 't=' || g.at || ',v1=' || other;
			WHEN 2 THEN RETURN 't=' || g.at || ',v0=' || g.hex;
			WHEN 3 THEN RETURN 't=' || (g.at::bigint + test.roll(3) - 1) || ',v1=' || g.hex;
			WHEN 4 THEN RETURN good || ',v1=' || other;
			WHEN 5 THEN RETURN 't=' || g.at || ',t=' || g.at || ',v1=' || g.hex;
			WHEN 6 THEN RETURN 'v1=' || g.hex || ',t=' || g.at;
			WHEN 7 THEN RETURN 't=' || g.at || ',v1=' || left(g.hex, test.roll(64));
			WHEN 8 THEN RETURN 't=' || g.at || ',v1=' || upper(g.hex);
			WHEN 9 THEN RETURN test.as_text(test.noise(test.roll(100)));
			WHEN 10 THEN RETURN 't=' || g.at || ',v1=' || g.hex || repeat(',v1=' || other, test.roll(40));
			WHEN 11 THEN RETURN (SELECT 't=' || at || ',v1=' || hex FROM test.genuine ORDER BY random() LIMIT 1);
			WHEN 12 THEN RETURN 't=0' || g.at || ',v1=' || g.hex;
			ELSE RETURN test.as_text(test.mutated(convert_to(good, 'UTF8')));
		END CASE;
	END $$;

	-- who may be accepted
	CREATE FUNCTION test.may_pass(bytes bytea, header text) RETURNS boolean LANGUAGE sql AS $$
		SELECT EXISTS (SELECT FROM test.genuine g WHERE convert_to(g.payload, 'UTF8') = bytes
			AND 1 = (SELECT count(*) FROM regexp_split_to_table(header, ',') p WHERE p ~ '^\s*t=')
			AND EXISTS (SELECT FROM regexp_split_to_table(header, ',') p WHERE btrim(p) = 't=' || g.at)
			AND EXISTS (SELECT FROM regexp_split_to_table(header, ',') p WHERE lower(btrim(p)) = 'v1=' || g.hex)) $$;

	CREATE FUNCTION test.headers(header text) RETURNS jsonb LANGUAGE sql AS $$
		SELECT CASE test.roll(8)
			WHEN 0 THEN jsonb_build_object('STRIPE-SIGNATURE', header)
			WHEN 1 THEN jsonb_build_object('stripe-signature', jsonb_build_array(header))
			WHEN 2 THEN jsonb_build_object('host', 'h', 'Stripe-Signature', header, 'x', jsonb_build_array(1, NULL))
			WHEN 3 THEN CASE test.roll(6)
				WHEN 0 THEN NULL WHEN 1 THEN '[]' WHEN 2 THEN '17' WHEN 3 THEN '{"stripe-signature": {}}'
				WHEN 4 THEN '{"stripe-signature": []}' ELSE '{"stripe-signature": null}' END::jsonb
			ELSE jsonb_build_object('Stripe-Signature', header) END $$;

	-- forged, mutated, and now and then genuine
	CREATE FUNCTION test.forge(which text, count int) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		g test.genuine;
		bytes bytea;
		header text;
		said text;
		accepted boolean;
		tally jsonb := '{}';
	BEGIN
		FOR i IN 1 .. count LOOP
			SELECT * INTO g FROM test.genuine WHERE n = test_n(i);
			bytes := convert_to(g.payload, 'UTF8');
			IF test.roll(2) = 0 THEN
				bytes := CASE test.roll(10) WHEN 0 THEN test.noise(test.roll(300)) WHEN 1 THEN '' ELSE test.mutated(bytes) END;
			END IF;
			header := CASE WHEN test.roll(3) = 0 THEN 't=' || g.at || ',v1=' || g.hex ELSE test.header(g) END;
			BEGIN
				IF which = 'webhook' THEN
					SELECT w.http_status INTO said FROM stripe_sync.webhook(bytes, test.headers(header)) w;
					accepted := said = '200';
					IF said NOT IN ('200', '400', '413') THEN
						INSERT INTO test.wrong VALUES ('status', header, bytes, said);
					END IF;
				ELSIF which = 'receive' THEN
					SELECT r.status INTO said FROM stripe_sync.receive(bytes, header) r;
					accepted := true;
				ELSE
					said := stripe_sync.verify_signature(bytes, header, current_setting('test.secret'), NULL)::text;
					accepted := said = 'true';
					IF NOT accepted THEN
						INSERT INTO test.wrong VALUES ('false', header, bytes, said);
					END IF;
				END IF;
			EXCEPTION WHEN OTHERS THEN
				accepted := false;
				said := SQLSTATE;
				IF which = 'webhook' OR said NOT IN ('SY001', 'SY002', 'SY003', 'SY004') THEN
					INSERT INTO test.wrong VALUES ('raised by ' || which, header, bytes, said || ' ' || SQLERRM);
				END IF;
			END;
			tally := tally || jsonb_build_object(said, coalesce((tally->>said)::int, 0) + 1);
			IF accepted AND NOT test.may_pass(bytes, header) THEN
				INSERT INTO test.wrong VALUES ('accepted by ' || which, header, bytes, said);
			ELSIF NOT accepted AND which <> 'webhook' AND bytes = convert_to(g.payload, 'UTF8') AND header = 't=' || g.at || ',v1=' || g.hex THEN
				INSERT INTO test.wrong VALUES ('refused by ' || which, header, bytes, said);
			END IF;
		END LOOP;
		INSERT INTO test.tally SELECT which, key, value::bigint FROM jsonb_each_text(tally);
	END $$;

	-- one value in a payload replaced by a strange one, under an id of its own
	CREATE TABLE test.place (n int, k int, path text[], PRIMARY KEY (n, k));
	CREATE FUNCTION test.strange(g test.genuine) RETURNS bytea LANGUAGE plpgsql AS $$
	DECLARE
		document jsonb := g.payload;
		place text[];
		odd jsonb;
	BEGIN
		FOR i IN 0 .. test.roll(3) LOOP
			SELECT p.path INTO place FROM test.place p WHERE p.n = g.n
				AND k = (SELECT test.roll(count(*)::int) FROM test.place c WHERE c.n = g.n);
			odd := (ARRAY['null', 'true', '-1', '0.5', '1e30', '99999999999999999999', '"@NUL@"', '"@HALF@"', '"@HUGE@"', '""', '[]', '{}', '"x"',
				'[null, [], {"id": 5}]', '{"id": "x", "object": "customer", "name": 3}', '{"object": "list", "data": [{"id": "x", "object": "refund"}, 7], "has_more": false}',
				'{"object": "list", "data": {}, "has_more": 3}', '{"data": [[[[{"object": "price", "id": null}]]]], "object": "list"}', '1700000000', '"1700000000"'])[1 + test.roll(20)];
			IF document #> place IS NOT NULL THEN
				document := jsonb_set(document, place, odd, false);
			END IF;
		END LOOP;
		IF test.roll(20) > 0 THEN
			document := jsonb_set(document, '{id}', to_jsonb('evt_odd_' || md5(random()::text)));
		END IF;
		RETURN convert_to(replace(replace(replace(document::text, '@NUL@', '\u0000'), '@HALF@', '\ud83d'), '"@HUGE@"', '1e400000'), 'UTF8');
	END $$;

	-- nonsense with a good signature: stored, or refused as no event
	CREATE FUNCTION test.nonsense(count int) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		g test.genuine;
		bytes bytea;
		answer record;
		tally jsonb := '{}';
		known boolean;
		said text;
	BEGIN
		FOR i IN 1 .. count LOOP
			SELECT * INTO g FROM test.genuine WHERE n = test_n(i);
			bytes := CASE test.roll(3) WHEN 0 THEN test.mutated(convert_to(g.payload, 'UTF8')) ELSE test.strange(g) END;
			BEGIN
				SELECT w.http_status, w.body INTO answer FROM stripe_sync.webhook(bytes,
					jsonb_build_object('Stripe-Signature', stripe_sync.sign(bytes, current_setting('test.secret')))) w;
				said := answer.http_status || ' ' || coalesce(answer.body->>'status', answer.body->>'code');
				IF said NOT IN ('200 applied', '200 duplicate', '200 stale', '200 ignored', '400 SY004') THEN
					INSERT INTO test.wrong VALUES ('nonsense', NULL, bytes, said || ' ' || answer.body);
				END IF;
				IF answer.http_status = 200 THEN
					SELECT EXISTS (SELECT FROM stripe_sync.event WHERE id = answer.body->>'event') INTO known;
					IF NOT known THEN
						INSERT INTO test.wrong VALUES ('not stored', NULL, bytes, said);
					END IF;
				END IF;
			EXCEPTION WHEN OTHERS THEN
				said := SQLSTATE;
				INSERT INTO test.wrong VALUES ('raised for nonsense', NULL, bytes, SQLSTATE || ' ' || SQLERRM);
			END;
			tally := tally || jsonb_build_object(said, coalesce((tally->>said)::int, 0) + 1);
		END LOOP;
		INSERT INTO test.tally SELECT 'nonsense', key, value::bigint FROM jsonb_each_text(tally);
	END $$;
});

# ---- genuine deliveries ----

my @objects = (
	[ 'customer.updated', { id => 'cus_1', object => 'customer', name => "J\x{f6}rg", email => undef, balance => -5, created => T0, metadata => { k => 'v' } }, { name => 'x', metadata => { k => undef } } ],
	[ 'customer.subscription.updated', { id => 'sub_1', object => 'subscription', customer => 'cus_1', status => 'active', items => { object => 'list', has_more => FALSE, url => '/i', data => [
		{ id => 'si_1', object => 'subscription_item', subscription => 'sub_1', quantity => 1, price => { id => 'price_1', object => 'price', unit_amount => 5, product => 'prod_1' } } ] } }, { status => 'trialing' } ],
	[ 'invoice.paid', { id => 'in_1', object => 'invoice', customer => { id => 'cus_1', object => 'customer', name => 'N' }, status => 'paid', amount_due => 5, lines => { object => 'list', has_more => TRUE, url => '/l', data => [
		{ id => 'il_1', object => 'line_item', invoice => 'in_1', amount => 5 } ] } } ],
	[ 'charge.refunded', { id => 'ch_1', object => 'charge', amount => 5, refunds => { object => 'list', has_more => FALSE, url => '/r', data => [ { id => 're_1', object => 'refund', charge => 'ch_1', amount => 5, status => 'pending' } ] } }, { amount_refunded => 0 } ],
	[ 'coupon.deleted', { id => 'FREE', object => 'coupon', percent_off => 12.5, valid => FALSE } ],
	[ 'balance.available', { object => 'balance', available => [ { amount => 5, currency => 'eur' } ] } ],
);
my @genuine;
for my $n (0 .. 59)
{
	my ($type, $object, $previous) = @{ $objects[ $n % @objects ] };
	my $payload = json_text(event("evt_genuine_$n", $type, int($n / 7), $object, defined $previous ? (previous => $previous) : (), $n % 4 == 3 ? (account => 'acct_1') : ()));

	my ($hex) = signature($payload, SECRET, T0 + $n) =~ /v1=(.*)/;
	push @genuine, "($n, " . literals($payload, T0 + $n, $hex) . ")";
}
$node->safe_psql($db, 'INSERT INTO test.genuine VALUES ' . join(",\n", @genuine));
$node->safe_psql($db, q{CREATE FUNCTION public.test_n(i int) RETURNS int LANGUAGE sql AS 'SELECT test.roll(60) + 0 * i'});

$node->safe_psql($db, q{
	INSERT INTO test.place
	WITH RECURSIVE walk (n, path, value) AS (
		SELECT n, '{}'::text[], payload::jsonb FROM test.genuine
		UNION ALL
		SELECT n, path || step.key, step.value FROM walk, LATERAL (
			SELECT key, v.value FROM jsonb_each(CASE jsonb_typeof(walk.value) WHEN 'object' THEN walk.value ELSE '{}' END) v
			UNION ALL
			SELECT (ordinality - 1)::text, v.value FROM jsonb_array_elements(CASE jsonb_typeof(walk.value) WHEN 'array' THEN walk.value ELSE '[]' END) WITH ORDINALITY v
		) step)
	SELECT n, row_number() OVER (PARTITION BY n ORDER BY path) - 1, path FROM walk WHERE path <> '{}'});

# All that is genuine is there before: two sessions that store many events in
# one transaction each would wait for each other.
$node->safe_psql($db, q{SELECT stripe_sync.receive(payload, 't=' || at || ',v1=' || hex) FROM test.genuine ORDER BY random()});

# ---- two sessions at a time: there are two processors ----

sub run_batches
{
	my (@batches) = @_;
	my @sessions;

	for my $i (0 .. $#batches)
	{
		my %session = (out => '', err => '');

		$session{harness} = start(
			[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($db),
				'-c', "SET test.secret = '@{[SECRET]}'", '-c', "SELECT setseed(" . ((($seed + 7919 * $i) % 1000) / 1000) . ")", '-c', "SELECT $batches[$i]" ],
			'<', \undef, '>', \$session{out}, '2>', \$session{err});
		push @sessions, \%session;
	}
	for my $session (@sessions)
	{
		finish($session->{harness});
	}
	is(join('', map { $_->{err} } @sessions), '', "@batches: no session was lost");
	return;
}

sub none_wrong
{
	is($node->safe_psql($db, q{SELECT string_agg(format('%s (%s times): %s %s %s', what, count, said, header, left(encode(payload, 'escape'), 500)), E'\n')
		FROM (SELECT what, count(*), min(said) AS said, min(header) AS header, min(payload::text)::bytea AS payload FROM test.wrong GROUP BY what LIMIT 5) w}),
		'', 'nothing is wrongly accepted, refused or raised');
	note $node->safe_psql($db, q{SELECT what, said, sum(count) FROM test.tally GROUP BY 1, 2 ORDER BY 1, 2});
	return;
}

run_batches("test.forge('webhook', 35000)", "test.forge('webhook', 20000)");
is($node->safe_psql($db, 'SELECT count(*) FROM stripe_sync.event'), '60', 'nothing is stored but what is genuine');
run_batches("test.forge('verify', 23000), test.forge('receive', 12000)", 'test.nonsense(12000)');
is($node->safe_psql($db, q{SELECT count(*) FROM test.wrong WHERE said LIKE '%40P01%'}), '0', 'the sessions were not in each other\'s way');
none_wrong();
cmp_ok($node->safe_psql($db, 'SELECT sum(count) FROM test.tally'), '>=', 100_000, 'a hundred thousand in all');

is($node->safe_psql($db, 'SELECT count(*) FROM (SELECT stripe_sync.explain_event(id) FROM stripe_sync.event) e'),
	$node->safe_psql($db, 'SELECT count(*) FROM stripe_sync.event'), 'every stored event can be explained');
unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC|TRAP:/, 'the server never crashed');

$node->stop;
done_testing();
