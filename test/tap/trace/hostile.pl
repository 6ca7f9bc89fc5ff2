# hostile.pl
#		Random events and references: trace, history, as_of and the dashboard raise
#		nothing but what they document, end, and show nothing unescaped.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Attack;
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = ground_node('trace_hostile');
my @types = qw(customer invoice charge payment_intent subscription refund price product coupon dispute);

seed();
ground('t1', @types);

# ---- what is checked, in the database ----

root('t1', q{
	SET standard_conforming_strings = on;
	CREATE TABLE public.fault (what text, ref text, state text, message text);
	CREATE FUNCTION public.look(what text, ref text, shown text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM convert_from(textsend(shown), 'UTF8');
		IF what NOT IN ('trace', 'history', 'as_of') AND shown ~ U&'[\0001-\0008\000b-\001f\007f-\009f\202a-\202e]' THEN
			INSERT INTO public.fault VALUES (what, ref, 'control', substring(shown FROM U&'.{0,60}[\0001-\0008\000b-\001f\007f-\009f\202a-\202e].{0,60}'));
		END IF;
		IF what ~ 'html|dashboard$' AND shown ~ '<x9|<[^>]*" onload=' THEN
			INSERT INTO public.fault VALUES (what, ref, 'markup', substring(shown FROM '.{0,60}<x9.{0,60}'));
		END IF;
	EXCEPTION WHEN OTHERS THEN INSERT INTO public.fault VALUES (what, ref, SQLSTATE, SQLERRM);
	END $$;
	CREATE FUNCTION public.try(what text, call text, ref text, rest text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE shown text;
	BEGIN
		EXECUTE format(call, quote_literal(ref) || rest) INTO shown;
		PERFORM public.look(what, ref, shown);
	EXCEPTION WHEN sqlstate 'SY005' OR invalid_parameter_value THEN NULL;
	WHEN OTHERS THEN INSERT INTO public.fault VALUES (what, ref, SQLSTATE, SQLERRM);
	END $$;
	CREATE FUNCTION public.try_all(ref text, account text, span text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE rest text := format(', %L, %L', account, span);
	BEGIN
		PERFORM public.try('trace', 'SELECT string_agg(t::text, '''') FROM stripe_sync.trace(%s) t', ref, rest),
			public.try('text', 'SELECT stripe_sync.trace_text(%s)', ref, rest), public.try('html', 'SELECT stripe_sync.trace_html(%s)', ref, rest);
	END $$;
});

# ---- random events ----

my @nasty = ('', 'message 1', 'incident 1', 'job 1', '<x9>', q{"x9' onload=x9}, "\x{1b}[31mred", "\x{202e}evil", "a\x{85}b", "line\nfeed\t", q{';drop table x;--},
	'\\', '%s%n', '{{id}}', "\x{1}", "e\x{301}" x 20, 'A' x 400, "\x{1f600}" x 40, "\x{200b}", '-->', '&lt;x9&gt;', 'ada@example.com', 'req_1', '1700000000.000100', 'infinity');
my @ids = ((map { my $p = $_; map { "${p}_$_" } 0 .. 2 } qw(cus in ch pi sub re price prod evt si)), @nasty);
my @fields = qw(customer invoice charge payment_intent subscription email name status amount currency amount_due created items lines id metadata latest_charge price
  product cancel_at deleted livemode refunds data url client_secret last_payment_error);
my @numbers = (0, 1, -1, 1_700_000_000, 253_402_300_800, '9223372036854775807', '-9223372036854775808', 1e308, 9_224_318_015_999, 0.5);

sub value
{
	my ($depth) = @_;
	my $kind = rand;

	return pick(@ids) if $kind < 0.4 || $depth > 4;
	return pick(@numbers) if $kind < 0.6;
	return pick(TRUE, FALSE, undef) if $kind < 0.7;
	return [ map { value($depth + 1) } 1 .. rand 4 ] if $kind < 0.8;
	return object($depth + 1);
}

sub object { my ($depth) = @_; return { map { (pick(@fields) => value($depth)) } 1 .. 1 + rand 7 }; }

sub random_event
{
	my ($n) = @_;
	my $type = pick(@types, 'nosuch');
	my $event = event(chance(0.9) ? "evt_r$n" : pick(@ids), "$type." . pick(qw(created updated deleted paid payment_failed)), int rand 20,
		{ %{ object(0) }, object => $type, id => pick(@ids) }, chance(0.6) ? (previous => object(0)) : (), chance(0.2) ? (account => pick('acct_1', @nasty)) : ());

	$event->{request} = { id => pick('req_1', @nasty), idempotency_key => pick('key_1', @nasty) } if chance(0.7);
	$event->{data}{object}{customer} = pick(qw(cus_0 cus_1 cus_2)) if chance(0.7);
	return $event;
}

says('t1', super(), join "\n", map { receive_sql(random_event($_)) } 1 .. 300);
cmp_ok(one('t1', 'SELECT count(*) FROM stripe_sync.event'), '>', 200, 'random events are received');

# ---- random references ----

sub random_ref
{
	my $kind = rand;

	return pick(@ids, map { "evt_r$_" } 1 .. 40) if $kind < 0.7;
	return join '', map { chr pick(1 + int rand 127, 160 + int rand 0x2f00, 0x202e, 0x1f600) } 1 .. rand 30 if $kind < 0.8;
	return pick('message ', 'incident ', 'job ', '#') . pick('1', '0', '-1', '9223372036854775808', '99999999999999999999', '1e5', ' 1 ') if $kind < 0.9;
	return pick(@nasty) . pick(@nasty);
}

my @tries = map { 'SELECT public.try_all(' . join(', ', literal(random_ref()), literal(pick(undef, undef, undef, '', 'acct_1', @nasty)),
	  literal(pick(undef, undef, '1 day', '0', '-1 day', '178000000 years'))) . ');' } 1 .. 250;
root('t1', "SET standard_conforming_strings = on; SET statement_timeout = '20s';\n" . join "\n", @tries);
root('t1', qq{SET statement_timeout = '20s';
	SELECT public.try('history', 'SELECT string_agg(h::text, '''') FROM stripe_sync.history(%s) h', object_type, format(', %L, %L', object_id, account)) FROM
		(SELECT DISTINCT object_type, object_id, account FROM stripe_sync.event WHERE object_type IS NOT NULL AND object_id IS NOT NULL) o;
	SELECT public.try('as_of', 'SELECT string_agg(a::text, '''') FROM stripe_sync.as_of(%s) a', type, format(', %L', at))
		FROM unnest('{@{[ join ',', @types ]}}'::text[]) type, unnest('{now,infinity,-infinity,2023-11-14 22:13:25+00}'::text[]) at;
	SELECT public.look('dashboard', '', stripe_sync.dashboard()), public.look('dashboard_text', '', stripe_sync.dashboard_text()),
		public.look('metrics', '', stripe_sync.metrics());});
# what is no object's type, or no time that can be asked for, is said
is(one('t1', q{SELECT string_agg(DISTINCT concat_ws(' ', what, state, message, quote_literal(ref)), E'\n') FROM public.fault}), '', 'nothing undocumented is raised, and all is escaped');
no_harm('random');

# ---- deep and equal objects: time is not doubled by each level ----

my $deep = { leaf => 1 };
$deep = { next => $deep, list => [ { next => 1 } ] } for 1 .. 60;
my @twins = map { event("evt_deep$_", 'customer.updated', 50, { id => 'cus_deep', object => 'customer', metadata => $deep }, previous => { name => "n$_" }) } 1 .. 3;
unlike(says('t1', super(), "SET statement_timeout = '10s';" . join '', map { receive_sql($_) } @twins), qr/57014|failed/, 'equal objects 60 levels deep are received');
like(says('t1', super(), "SET statement_timeout = '10s'; SELECT 'rows', count(*) FROM stripe_sync.history('customer', 'cus_deep');"), qr/^rows\|[1-9]/m, 'their history is told');
no_harm('deep');

# ---- one id of two types, and no event in the span ----

send_as('t1', super(), event('evt_two1', 'price.created', 60, { id => 'two', object => 'price', created => T0 }));
send_as('t1', super(), event('evt_two2', 'product.created', 60, { id => 'two', object => 'product', created => T0 }));
like(one('t1', "SELECT stripe_sync.trace_text('two', span => '0')"), qr/^(price|product) two/m, 'one id of two types is told');
like(one('t1', "SELECT stripe_sync.trace_text('two', span => '5000000 years')"), qr/evt_two1/, 'a span beyond all times is no limit');
no_harm('two types');

# ---- a statement to copy, with an id that a terminal would obey ----

is(one('t1', q{SELECT count(*) FROM stripe_sync.event WHERE id ~ E'\x1b'}) > 0 ? 1 : 0, 1, 'there is an event with such an id');

$node->stop;
done_testing();
