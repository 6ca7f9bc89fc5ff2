# attack_scope.pl
#		What one role leaves for the code of another: names, deferred triggers,
#		cursors, settings.  Nobody's rights are reached by it.
#
# The numbers in the names of tests are those of the list of attacks; a "brother"
# is a variation by another way in.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Attack;
use Delivery;
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = ground_node('attack_scope');
my $super = Attack::super();

# Statements for who notes its role in public.seen and, where it is a superuser,
# makes another one: what is noted as $2 by $1.
sub gain
{
	my ($role, $what) = @_;

	return "insert into public.seen values ('$what', current_user);
		if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then execute 'alter role $role superuser'; end if;";
}

sub trigger_function
{
	my ($name, $role, $what) = @_;

	return "create function $name() returns trigger language plpgsql as \$f\$ begin @{[ gain($role, $what) ]} return null; end \$f\$;";
}

# Who ran what is noted as $2, apart from those who may.
sub seen_by
{
	my ($database, $what, @may) = @_;
	my $list = join ', ', map { literal($_) } '', @may;

	return one($database, "SELECT string_agg(DISTINCT who, ' ') FROM public.seen WHERE what = '$what' AND who NOT IN ($list)");
}

sub count_of { return one($_[0], "SELECT count(*) FROM $_[1]"); }

# ---- 1: temporary objects of the caller's ----

ground('a1', 'customer', 'product');
role(qw(ing1));
root('a1', q{
	CREATE TABLE public.orders (id text, at timestamptz);
	CREATE DOMAIN public.amount AS numeric;
	CREATE SEQUENCE public.order_number;
	CREATE FUNCTION public.on_paid(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO orders VALUES (e->>'id', now()); END $$;
	CREATE FUNCTION public.on_price(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM 5::amount, nextval('order_number'); END $$;
	CREATE FUNCTION public.on_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO orders VALUES (NEW.id, now()); RETURN NULL; END $$;
	SELECT stripe_sync.add_handler('orders', 'customer.created', 'public.on_paid'), stripe_sync.add_handler('price', 'price.*', 'public.on_price'), stripe_sync.grant_ingest('ing1');
	CREATE TRIGGER on_row AFTER INSERT ON stripe.products FOR EACH ROW EXECUTE FUNCTION public.on_row();
});
my $temporary = 'create temp table orders (id text, at timestamptz); grant all on orders to public;'
  . trigger_function('pg_temp.evil', 'ing1', '1') . 'create trigger t before insert on orders for each row execute function pg_temp.evil();';
like(says('a1', 'ing1', $temporary . receive_sql(customer('cus_1'))), qr/^applied/m, '1: a handler does not see a temporary table of the caller\'s');
is(count_of('a1', 'public.orders'), '1', '1: it writes its own');
like(says('a1', 'ing1', $temporary . receive_sql(thing('product', 'prod_1'))), qr/^applied/m, '1: nor does a trigger of a mirror table');
is(count_of('a1', 'public.orders'), '2', '1: which writes its own as well');
is(seen_by('a1', '1', 'ing1'), '', '1: the caller\'s trigger runs as nobody else');
no_harm('1', 'ing1');

like(says('a1', 'ing1', 'create function pg_temp.evil(v numeric) returns boolean language plpgsql as $$ begin ' . gain('ing1', '1 brother') . ' return true; end $$;
	create domain pg_temp.amount as numeric check (pg_temp.evil(value)); create temp sequence order_number; grant all on order_number to public;' . receive_sql(thing('price', 'price_1'))),
	qr/^(applied|ignored)/m, '1, brother: nor does a handler see a temporary type or sequence');
is(one('a1', 'SELECT last_value || is_called::text FROM public.order_number'), '1true', '1, brother: it takes its number from its own sequence');
is(seen_by('a1', '1 brother', 'ing1'), '', '1, brother: the check of the caller\'s type runs as nobody else');
no_harm('1, brother', 'ing1');

# ---- 2: what a mirror table's owner defers ----

sub owned_ground
{
	my ($database, $owner, $ingest, $schema) = @_;

	ground($database);
	role($owner, $ingest);
	root($database, "GRANT CREATE ON DATABASE $database TO $owner; SELECT stripe_sync.grant_admin('$owner'), stripe_sync.grant_ingest('$ingest')");
	my $told = says($database, $owner, "create schema $schema; select count(*) from stripe_sync.create_tables('{customer,product,coupon,plan}');
		create table $schema.q (i int); grant usage on schema $schema to public;
		create sequence $schema.s;
		" . trigger_function("$schema.evil", $owner, '2') . "
		create constraint trigger ct after insert on $schema.q deferrable initially deferred for each row execute function $schema.evil();");
	unlike($told, qr/ERROR/, "2: set-up in $database by $owner");
	root($database, "SELECT stripe_sync.add_endpoint('default', '@{[SECRET]}', tolerance => NULL)");
	return;
}

owned_ground('a2', 'mown', 'ing3', 'mo');
unlike(says('a2', 'mown', q{
	create function mo.chk(t text) returns boolean language plpgsql as $$ begin
		if t = 'cus_retry' and nextval('mo.s') = 1 then raise exception 'first time fails'; end if;
		insert into mo.q values (1); return true; end $$;
	alter table stripe.customers add constraint c check (mo.chk(id));}), qr/ERROR/, '2: a CHECK that writes');
like(send_as('a2', 'ing3', customer('cus_1')), qr/^(applied|failed)/m, '2: an event meets it');
is(seen_by('a2', '2', 'mown'), '', '2: what it defers fires as the owner');
like(send_as('a2', 'ing3', customer('cus_retry')), qr/^failed/m, '2: one that fails');
retried('a2');
is(settled('a2', 'cus_retry'), 'applied', '2: is retried');
is(seen_by('a2', '2', 'mown'), '', '2: and the worker\'s rights are not reached');
no_harm('2', 'mown', 'ing3');

unlike(says('a2', 'mown', q{
	create function mo.pol() returns boolean language plpgsql as $$ begin insert into mo.q values (3); return true; end $$;
	create policy p on stripe.products using (mo.pol()) with check (mo.pol());
	alter table stripe.products enable row level security, force row level security;}), qr/ERROR/, '2: a policy that writes');
send_as('a2', 'ing3', thing('product', 'prod_1'));
retried('a2');
my $said = says('a2', $super, q{SELECT * FROM stripe_sync.verify_mirror('{product}')});
unlike($said, qr/XX000|server closed/, '2: a superuser verifies the mirror, or is told why not');
is(seen_by('a2', '2', 'mown'), '', '2: what a policy defers fires as the owner');
no_harm('2, policy', 'mown', 'ing3');

unlike(says('a2', 'mown', q{
	create function mo.def() returns text language plpgsql as $$ begin insert into mo.q values (2); return 'x'; end $$;
	alter table stripe.coupons add mine text default mo.def();
	create rule r as on insert to stripe.plans do also insert into mo.q values (4);
	create rule ru as on update to stripe.plans do also insert into mo.q values (5);}), qr/ERROR/, '2, brother: a DEFAULT and a rule that write');
like(send_as('a2', 'ing3', thing($_, "${_}_1")), qr/^(applied|failed)/m, "2, brother: an event of a $_ meets it") for qw(coupon plan);
like(send_as('a2', 'ing3', thing($_, "${_}_1", verb => 'updated')), qr/^(applied|failed)/m, "2, brother: and its update") for qw(coupon plan);
retried('a2');
is(seen_by('a2', '2', 'mown'), '', '2, brother: what they defer fires as the owner');
no_harm('2, brother', 'mown', 'ing3');

# ---- 3: scopes that an error leaves ----

sub eves_ground
{
	my ($database, $eve) = @_;

	ground($database, 'customer');
	role($eve);
	root($database, "SELECT stripe_sync.grant_ingest('$eve'), stripe_sync.grant_read('$eve');
		CREATE SCHEMA evs AUTHORIZATION $eve;
		CREATE FUNCTION public.nothing(e jsonb) RETURNS void LANGUAGE sql AS ''; SELECT stripe_sync.add_handler('nothing', '*', 'public.nothing');
		CREATE TABLE evs.event (n serial, payload text, signature text); GRANT SELECT ON evs.event TO $eve");
	root($database, "SELECT count(*) FROM stripe_sync.receive(" . literals($_, signature($_)) . ')') for map { json_text(customer("cus_$_")) } 1 .. 3;
	root($database, 'INSERT INTO evs.event (payload, signature) VALUES (' . literals($_, signature($_)) . ')') for map { json_text(customer("cus_s$_")) } 1 .. 40;
	return "create temp table q (i int);" . trigger_function('evs.evil', $eve, '3')
	  . 'create constraint trigger t after insert on q deferrable initially deferred for each row execute function evs.evil();';
}

my $prepared = eves_ground('a3', 'eve');
my $told = says('a3', 'eve', $prepared . q{
	create function evs.deep(n int) returns text language plpgsql as $$ begin if n > 0 then return evs.deep(n - 1); end if; perform * from stripe_sync.verify_mirror(array['customer']); return 'done'; end $$;
	create function evs.try(n int) returns text language plpgsql as $$ begin return evs.deep(n); exception when statement_too_complex then return 'deep'; end $$;
	do $$
	declare shallow int := 1; deep int := 2; middle int; e record;
	begin
		while evs.try(deep) = 'done' loop shallow := deep; deep := deep * 2; end loop;
		while deep - shallow > 1 loop
			middle := (shallow + deep) / 2;
			if evs.try(middle) = 'done' then shallow := middle; else deep := middle; end if;
		end loop;
		raise notice 'first too deep: %', deep;
		for e in select * from evs.event order by n loop
			insert into q values (1);
			perform evs.try(deep + 5 - e.n);
			perform status from stripe_sync.receive(e.payload, e.signature);
		end loop;
	end $$;
	select 'all received', count(*) from stripe.customers;
	begin; declare c cursor for select 1; fetch c; commit;});
like($told, qr/first too deep: \d+/, '3: the stack ends within verify_mirror()');
like($told, qr/all received\|43/, '3: the events after it are applied');
unlike($told, qr/0A000/, '3: and cursors may be declared');
is(seen_by('a3', '3', 'eve'), '', '3: the caller\'s deferred triggers fire as the caller');
is(one('a3', q{SELECT count(*) FROM public.seen WHERE what = '3'}), '40', '3: each of them');
no_harm('3', 'eve');

# an error of the owner's own in place of the stack's end: row security by a setting
# that this session does not have
$prepared = eves_ground('a3b', 'eve2');
role('mown3');
root('a3b', q{SELECT stripe_sync.grant_admin('mown3'); GRANT CREATE ON DATABASE a3b TO mown3; GRANT USAGE ON SCHEMA stripe TO mown3; ALTER TABLE stripe.customers OWNER TO mown3;
	ALTER TABLE stripe.customers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY p ON stripe.customers USING (current_setting('app.tenant') = 'x')});
$told = says('a3b', 'eve2', $prepared . q{
	do $$
	declare e record;
	begin
		insert into q values (1);
		begin perform * from stripe_sync.verify_mirror(array['customer']); exception when undefined_object or insufficient_privilege then raise notice 'verify_mirror() fails'; end;
		create temp table mine_too (i int);
		perform set_config('app.tenant', 'x', true);
		select * into e from evs.event where n = 1;
		select * into e from stripe_sync.receive(e.payload, e.signature);
		raise notice 'received: %', e.status;
	end $$;
	begin; savepoint s; select * from stripe_sync.verify_mirror(array['customer']); rollback to s; declare c cursor for select 'declared'; fetch c; commit;});
like($told, qr/verify_mirror\(\) fails.*received: applied/s, '3, brother: the event after a verify_mirror() that fails is applied');
like($told, qr/^declared/m, '3, brother: cursors may be declared');
unlike($told, qr/0A000/, '3, brother: and temporary tables made');
is(seen_by('a3b', '3', 'eve2'), '', '3, brother: the caller\'s deferred trigger fires as the caller');
no_harm('3, brother', 'eve2', 'mown3');

# users who mean no harm: a create_tables() that fails
root('a3b', 'ALTER TABLE stripe.customers DROP COLUMN name');
my $holder = session('a3b');
$holder->query_safe('BEGIN; LOCK TABLE stripe.customers IN ACCESS SHARE MODE');
$told = says('a3b', $super, q{BEGIN; SET LOCAL lock_timeout = '100ms'; SAVEPOINT s; SELECT * FROM stripe_sync.create_tables('{customer}'); ROLLBACK TO s; DECLARE c CURSOR FOR SELECT 1; CREATE TEMP TABLE mine (i int); COMMIT; SELECT 'through';});
$holder->quit;
like($told, qr/55P03/, '3: a create_tables() that fails');
like($told, qr/^through/m, '3: and what follows it in the transaction');
unlike($told, qr/0A000/, '3: may declare a cursor');

# ---- 15: a refused delivery, then a good one ----

ground('a15', 'customer');
role('ing15');
root('a15', q{SELECT stripe_sync.grant_ingest('ing15'); CREATE SCHEMA s15 AUTHORIZATION ing15;
	CREATE FUNCTION public.nothing(e jsonb) RETURNS void LANGUAGE sql AS ''; SELECT stripe_sync.add_handler('nothing', '*', 'public.nothing')});
my ($payload) = map { json_text($_) } customer('cus_1');
$told = says('a15', 'ing15', q{
	create table s15.q2 (i int);
	create function s15.path() returns trigger language plpgsql as $$ begin raise notice 'fired under <%> as <%>', current_setting('search_path'), current_user; return null; end $$;
	create constraint trigger t after insert on s15.q2 deferrable initially deferred for each row execute function s15.path();
	do $$
	begin
		begin perform stripe_sync.receive('{}'::text, 't=1,v1=00'); exception when others then null; end;
		begin perform stripe_sync.receive('{}'::text, 'nonsense'); exception when others then null; end;
		set local search_path = s15, second_path;
		insert into q2 values (1);
		perform stripe_sync.receive(} . literals($payload, signature($payload)) . q{);
	end $$;
	begin; savepoint s; select stripe_sync.receive('{}'::text, 't=1,v1=00'); rollback to s;
	set local search_path = s15, third_path; insert into q2 values (2);
	} . receive_sql(customer('cus_2')) . ' commit;');
like($told, qr/fired under <s15, second_path> as <ing15>/, '15: after a refused delivery the caller\'s triggers fire under the caller\'s path');
like($told, qr/fired under <s15, third_path> as <ing15>/, '15: and after a savepoint');
my @paths = $told =~ /fired under <(.*?)> as/g;
is(join(' ', grep { !/^s15, (second|third)_path$/ } @paths), '', '15: and under no other');
like($told, qr/^applied/m, '15: the good delivery is applied');
no_harm('15', 'ing15');

# brother: PREPARE TRANSACTION and a function's EXCEPTION around the good one
$told = says('a15', 'ing15', q{
	begin; savepoint s; select stripe_sync.webhook('{}'::text, '{"stripe-signature": "t=1,v1=00"}'); release s;
	do $$ begin set local search_path = s15, fourth_path; insert into q2 values (3);
		begin perform stripe_sync.receive(} . literals($payload, signature($payload)) . q{); raise division_by_zero; exception when division_by_zero then null; end;
	end $$; commit;});
@paths = $told =~ /fired under <(.*?)> as/g;
is(join(' ', grep { $_ ne 's15, fourth_path' } @paths), '', '15, brother: a delivery that the caller undoes leaves no other path');
cmp_ok(scalar(@paths), '>=', 1, '15, brother: the trigger fires');
no_harm('15, brother', 'ing15');

# ---- 3 and 15, by another way in: code that runs as its owner in a superuser's transaction ----

root('a15', q{CREATE TABLE public.items (i int); CREATE TABLE public.late (i int);
	CREATE FUNCTION public.late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM count(*) FROM items; RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON public.late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.late()});
unlike(says('a15', 'ing15', q{
	create function s15.evil() returns int language plpgsql as $$ begin } . gain('ing15', 'maintenance') . q{ return 1; end $$;
	create view s15.items as select s15.evil() as i; grant usage on schema s15 to public; grant all on s15.items to public;
	create table s15.t as select 1 as i; create sequence s15.asked;
	create function s15.receives(i int) returns int language plpgsql immutable set search_path = s15, pg_catalog as $$ begin
		perform nextval('s15.asked'); perform stripe_sync.receive(} . literals(map { json_text($_), signature(json_text($_)) } customer('cus_maintenance')) . q{); return i; exception when others then return i; end $$;
	create index on s15.t (s15.receives(i)); create materialized view s15.m as select s15.receives(i) from s15.t;}), qr/ERROR/, '15, brother: a role that may receive has an index and a view on a function that does');
for my $command ('ANALYZE s15.t', 'REINDEX TABLE s15.t', 'REFRESH MATERIALIZED VIEW s15.m')
{
	my $asked = one('a15', 'SELECT last_value FROM s15.asked');

	root('a15', 'DELETE FROM stripe_sync.event; TRUNCATE stripe.customers');
	unlike(says('a15', $super, "BEGIN; INSERT INTO public.late VALUES (1); $command; COMMIT"), qr/ERROR/, "15, brother: a superuser's $command");
	cmp_ok(one('a15', 'SELECT last_value FROM s15.asked'), '>', $asked, "15, brother: $command runs the function");
	is(seen_by('a15', 'maintenance', 'ing15'), '', "15, brother: what the superuser has deferred is not fired by it: $command");
	no_harm("15, brother: $command", 'ing15');
}

# a path of a function's own, between the caller and us
root('a15', 'CREATE FUNCTION public.take(payload text, signature text) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT status FROM stripe_sync.receive(payload, signature) $$');
$payload = json_text(customer('cus_definer'));
$told = says('a15', 'ing15', 'begin; set search_path = s15, fifth_path; insert into q2 values (5); select public.take(' . literals($payload, signature($payload)) . '); commit;');
like($told, qr/^applied/m, '15, brother: received by a SECURITY DEFINER function with a path of its own');
like($told, qr/fired under <s15, fifth_path> as <ing15>/, '15, brother: the caller\'s triggers fire under the session\'s path, as at COMMIT');

# ---- 6: what a handler leaves behind ----

ground('a6', 'customer');
role(qw(ha hb app6 vic hq2));
root('a6', q{
	CREATE SCHEMA sa AUTHORIZATION ha; CREATE SCHEMA sb AUTHORIZATION hb; CREATE SCHEMA hq; GRANT USAGE ON SCHEMA sa, hq TO PUBLIC;
	SELECT stripe_sync.grant_admin('ha'), stripe_sync.grant_admin('hb'), stripe_sync.grant_admin('vic'), stripe_sync.grant_admin('hq2'), stripe_sync.grant_ingest('app6')});
as('a6', 'ha', 'create table sa.stolen (who text, what text); grant all on sa.stolen to public');
as('a6', 'hb', q{create table sb.orders (id text); create table sb.private (x text); insert into sb.private values ('HB-ONLY');
	create function sb.take(e jsonb) returns void language plpgsql as $$ begin insert into orders values (e->>'id'); end $$;
	set search_path = sb; select stripe_sync.add_handler('b_second', 'customer.*', 'sb.take')});
my $thief = q{create function pg_temp.steal() returns trigger language plpgsql as 'begin insert into sa.stolen select current_user, x from sb.private; return null; end'};
my %ways = (
	'the schema\'s real name' => qq{execute \$q\$$thief\$q\$; execute format('create table %I.orders (id text)', (select nspname from pg_namespace where oid = pg_my_temp_schema()));},
	'set_config' => qq{perform set_config('search_path', 'pg_temp', true); execute 'create table orders (id text)'; execute \$q\$$thief\$q\$;},
	'SELECT INTO' => qq{execute 'select null::text as id into temp orders'; execute \$q\$$thief\$q\$;},
	'a view' => qq{execute 'create view pg_temp.orders as select null::text as id'; execute \$q\$$thief\$q\$;},
	'another schema\'s table' => qq{execute 'create table sa.orders (id text)'; execute 'alter table sa.orders set schema pg_temp'; execute \$q\$$thief\$q\$;});
for my $way (sort keys %ways)
{
	as('a6', 'ha', "create or replace function sa.plant(e jsonb) returns void language plpgsql as \$p\$ begin
		if exists (select from pg_class where relname = 'orders' and relnamespace = pg_my_temp_schema()) then return; end if;
		$ways{$way} execute 'grant all on pg_temp.orders to public'; execute 'create trigger t before insert on pg_temp.orders for each row execute function pg_temp.steal()'; end \$p\$;
		select stripe_sync.add_handler('a_first', 'customer.*', 'sa.plant')");
	my $id = 'cus_' . ($way =~ s/\W/_/gr);
	my $told = says('a6', 'app6', receive_sql(customer($id)) . receive_sql(customer($id, verb => 'updated')) . q{select 'left', count(*) from pg_class where relnamespace = pg_my_temp_schema() and relname = 'orders'; select 'left', count(*) from pg_proc where pronamespace = pg_my_temp_schema()});
	is(count_of('a6', 'sa.stolen'), '0', "6: a handler that makes a temporary table by $way reads nobody's rows");
	is(one('a6', 'SELECT count(*) FROM sb.orders'), '2', "6: the next handler writes its own table ($way)");
	unlike($told, qr/^left\|[1-9]/m, "6: and nothing temporary stays ($way)");
	root('a6', 'TRUNCATE sa.stolen, sb.orders; DROP TABLE IF EXISTS sa.orders');
}
as('a6', 'hb', q{select stripe_sync.drop_handler('b_second')});
no_harm('6', qw(ha hb app6));

# other things than tables, and the next who says their names
root('a6', q{CREATE FUNCTION public.evilchk(v numeric) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN } . gain('ha', '6 type') . q{ RETURN true; END $$});
my %things = (domain => 'create domain pg_temp.amount as numeric check (public.evilchk(value))', type => 'create type pg_temp.amount as (a int)',
	enum => q{create type pg_temp.amount as enum ('5')}, function => q{create function pg_temp.amount(int) returns int language sql as 'select 1'},
	operator => 'create operator pg_temp.<-> (leftarg = int, rightarg = int, function = int4pl)', collation => 'create collation pg_temp.amount from "C"',
	aggregate => 'create aggregate pg_temp.amount(int) (sfunc = int4pl, stype = int)');
root('a6', q{CREATE DOMAIN public.amount AS numeric});
for my $thing (sort keys %things)
{
	as('a6', 'ha', "create or replace function sa.plant(e jsonb) returns void language plpgsql as \$p\$ begin execute '" . ($things{$thing} =~ s/'/''/gr) . "'; end \$p\$;");
	my $event = customer("cus_$thing");
	my $told = says('a6', $super, receive_sql($event) . "SELECT status FROM stripe_sync.replay('$event->{id}', true); SELECT 5::amount;
		SELECT 'left', string_agg(classid::regclass || ' ' || objid, ', ') FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass AND refobjid = pg_my_temp_schema() HAVING count(*) > 0");
	unlike($told, qr/^left/m, "6, brother: a temporary $thing of a handler's does not stay");
}
is(seen_by('a6', '6 type', 'ha'), '', '6: a handler\'s type is not met by who calls replay()');
no_harm('6, types', qw(ha hb app6));
as('a6', 'ha', q{select stripe_sync.drop_handler('a_first')});

# cursors
root('a6', q{CREATE FUNCTION hq.say() RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT 'SAY ' || current_user $$;
	CREATE TABLE public.apptab (x text); INSERT INTO public.apptab VALUES ('APP-ROW'), ('APP-ROW'); GRANT SELECT ON public.apptab TO app6; CREATE SCHEMA s62 AUTHORIZATION hq2});
as('a6', 'hq2', q{create table s62.got (x text);
	create function s62.opens(e jsonb) returns void language plpgsql as $$ declare c refcursor := 'cc'; begin open c for execute 'select hq.say()'; end $$;
	create function s62.swaps(e jsonb) returns void language plpgsql as $$ declare c refcursor := 'mine'; begin close c; open c for execute 'select hq.say() from generate_series(1, 9)'; end $$;
	create function s62.reads(e jsonb) returns void language plpgsql as $$ declare c refcursor := 'mine'; r text; begin fetch c into r; insert into s62.got values (r); end $$;
	create function s62.moves(e jsonb) returns void language plpgsql as $$ declare c refcursor := 'mine'; begin move last in c; end $$;
	create function s62.good(e jsonb) returns void language plpgsql as $$ declare c cursor for select 'own row'; r text; begin open c; fetch c into r; close c; for r in select 'own row' loop null; end loop; insert into s62.got values (r); end $$;
	select stripe_sync.add_handler('h', 'customer.*', 's62.opens')});
$told = says('a6', 'app6', 'begin; ' . receive_sql(customer('cus_c1')) . ' fetch 1 from cc; commit;');
unlike($told, qr/SAY/, '6: a cursor that a handler leaves open is not the caller\'s to fetch');
for my $does (qw(swaps reads moves))
{
	as('a6', 'hq2', "select stripe_sync.add_handler('h', 'customer.*', 's62.$does')");
	$told = says('a6', 'app6', q{begin; declare mine cursor for select x from public.apptab; } . receive_sql(customer("cus_c$does")) . q{ fetch 1 from mine; commit; select 'through';});
	unlike($told, qr/SAY/, "6: a handler that $does the caller's cursor does not have it run its own query");
	like($told, qr/^APP-ROW/m, "6: and the caller's cursor goes on ($does)");
	is(count_of('a6', 's62.got'), '0', "6: nor does it get a row of the caller's ($does)");
}
as('a6', 'hq2', q{truncate s62.got; select stripe_sync.add_handler('h', 'customer.*', 's62.good')});
like(send_as('a6', 'app6', customer('cus_cgood')), qr/^applied/m, '6: cursors of the handler\'s own work');
is(one('a6', 'SELECT x FROM s62.got'), 'own row', '6: and give its rows');
as('a6', 'hq2', q{select stripe_sync.drop_handler('h')});

# ---- 6, by another way in: the functions of actions and commands of Slack ----

ground('a6s', 'customer');
role(qw(sla slb app6s));
root('a6s', qq{
	CREATE SCHEMA sa AUTHORIZATION sla; CREATE SCHEMA sb AUTHORIZATION slb; GRANT USAGE ON SCHEMA sa TO PUBLIC;
	SELECT stripe_sync.grant_admin('sla'), stripe_sync.grant_admin('slb'), stripe_sync.grant_ingest('app6s'), stripe_sync.add_slack_app('default', '@{[SLACK_SECRET]}')});
as('a6s', 'slb', q{create table sb.orders (id text); create table sb.private (x text); insert into sb.private values ('SLB-ONLY');
	create function sb.take(i jsonb) returns jsonb language plpgsql as $$ begin insert into orders values (i->>'id'); return null; end $$;
	set search_path = sb; select stripe_sync.add_slack_command('/take', 'sb.take')});
as('a6s', 'sla', 'create table sa.stolen (who text, what text); grant all on sa.stolen to public; create table sa.q (i int);
	create sequence sa.turns;' . trigger_function('sa.evil', 'sla', '6 slack') . '
	create constraint trigger late after insert on sa.q deferrable initially deferred for each row execute function sa.evil();');
my %escapes = (
	'a temporary table' => q{execute 'create temp table orders (id text)';},
	'the schema\'s real name' => q{execute format('create table %I.orders (id text)', (select nspname from pg_namespace where oid = pg_my_temp_schema()));},
	'SET ROLE' => qq{execute 'set role $super'; execute 'alter role sla superuser';},
	'RESET ROLE' => q{execute 'reset role'; execute 'alter role sla superuser';},
	'SET SESSION AUTHORIZATION' => qq{execute 'set session authorization $super'; execute 'alter role sla superuser';},
	'set_config' => qq{perform set_config('role', '$super', false); execute 'alter role sla superuser';},
	'search_path' => q{perform set_config('search_path', 'pg_temp, sa', false);},
	'a prepared statement' => q{execute 'prepare orders as select 1';},
	'a held cursor' => q{execute 'declare orders cursor with hold for select current_user';},
	'a lock table of the extension' => q{execute 'delete from stripe_sync.interaction';},
	'reading secrets' => q{execute 'insert into sa.stolen select app, signing_secret from stripe_sync.slack_app_secret';});
for my $way (sort keys %escapes)
{
	as('a6s', 'sla', "create or replace function sa.plant(i jsonb) returns jsonb language plpgsql as \$p\$ begin insert into sa.q values (1); begin $escapes{$way} exception when others then null; end; return null; end \$p\$;
		select stripe_sync.add_slack_action('plant', 'sa.plant'), stripe_sync.add_slack_command('/plant', 'sa.plant')");
	for my $who ('app6s', $super)
	{
		my $told = says('a6s', $who, slack_press('plant') . slack_command('/plant') . slack_command('/take') . q{select 'left', count(*) from pg_class where relnamespace = pg_my_temp_schema() and relname = 'orders';
			select 'left', count(*) from pg_prepared_statements where name = 'orders'; select 'left', count(*) from pg_cursors where name = 'orders'; select 'is ' || (current_user = session_user)});

		is(scalar(() = $told =~ /^200$/mg), 3, "6, Slack: $way, received by $who, is answered");
		unlike($told, qr/^left\|[1-9]/m, 'nothing of it stays');
		like($told, qr/^is true/m, 'the caller is who it was');
	}
	is(count_of('a6s', 'sa.stolen'), '0', "6, Slack: $way reads nobody's rows");
}
is(seen_by('a6s', '6 slack', 'sla'), '', '6, Slack: what such a function defers fires as the role that registered it');
cmp_ok(one('a6s', q{SELECT count(*) FROM public.seen WHERE what = '6 slack'}), '>', 0, 'and does fire');
is(count_of('a6s', 'sb.orders'), 2 * keys %escapes, '6, Slack: the function of another role writes its own table');
is(one('a6s', q{SELECT count(*) > 0 FROM stripe_sync.interaction WHERE status = 'done'}), 't', '6, Slack: the interactions are there');
no_harm('6, Slack', qw(sla slb app6s));

# ---- addition: large objects ----

root('a6', q{CREATE SCHEMA slo AUTHORIZATION vic});
as('a6', 'vic', q{create table slo.lo (o oid); insert into slo.lo select lo_from_bytea(0, 'VIC-SECRET');
	create function slo.opens(e jsonb) returns void language plpgsql as $$ begin perform lo_open((select o from slo.lo), 131072 + 262144); end $$;
	create function slo.reads(e jsonb) returns void language plpgsql as $$ declare f int; begin f := lo_open((select o from slo.lo), 262144); if loread(f, 100) is distinct from 'VIC-SECRET'::bytea then raise 'other bytes'; end if; perform lo_close(f); end $$;
	select stripe_sync.add_handler('lo', 'customer.*', 'slo.opens')});
$told = says('a6', 'app6', 'begin; ' . receive_sql(customer('cus_lo')) . q{ select encode(loread(0, 100), 'escape'); rollback; begin; } . receive_sql(customer('cus_lo2')) . q{ select 'wrote', lowrite(0, 'evil'); commit;});
unlike($told, qr/VIC-SECRET/, 'addition: a large object that a handler opens is not the caller\'s to read');
unlike($told, qr/^wrote\|/m, 'addition: nor to write');
is(one('a6', q{SELECT encode(lo_get(o), 'escape') FROM slo.lo}), 'VIC-SECRET', 'addition: it is as it was');
as('a6', 'vic', q{select stripe_sync.add_handler('lo', 'customer.*', 'slo.reads')});
like(send_as('a6', 'app6', customer('cus_lo3')), qr/^applied/m, 'addition: a handler may read its large objects');
# brother: the caller's descriptor is not the handler's
root('a6', q{CREATE TABLE public.applo (o oid); GRANT ALL ON public.applo TO app6; GRANT SELECT ON public.applo TO vic});
as('a6', 'app6', q{insert into public.applo select lo_from_bytea(0, 'APP-SECRET')});
as('a6', 'vic', q{create table slo.got (x text);
	create function slo.steals(e jsonb) returns void language plpgsql as $$ begin insert into slo.got values (encode(loread(0, 100), 'escape')); end $$; select stripe_sync.add_handler('lo', 'customer.*', 'slo.steals')});
$told = says('a6', 'app6', q{begin; select lo_open(o, 262144) from public.applo; } . receive_sql(customer('cus_lo4')) . q{ select 'mine ' || encode(loread(0, 100), 'escape'); commit;});
unlike(one('a6', 'SELECT string_agg(x, \' \') FROM slo.got'), qr/APP-SECRET/, 'addition, brother: a handler does not read what the caller has opened');
as('a6', 'vic', q{select stripe_sync.drop_handler('lo')});
no_harm('6, cursors and large objects', qw(ha hb app6 vic hq2));

# ---- addition: "$user" in a path ----

ground('au', 'customer', 'product');
role(qw(squat_u ing_u));
root('au', q{
	CREATE TABLE public.orders (id text);
	CREATE FUNCTION public.on_paid(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO orders VALUES (e->>'id'); END $$;
	CREATE FUNCTION public.on_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO orders VALUES (NEW.id); RETURN NULL; END $$;
	CREATE TRIGGER on_row AFTER INSERT ON stripe.products FOR EACH ROW EXECUTE FUNCTION public.on_row();
	SELECT stripe_sync.add_handler('orders', 'customer.*', 'public.on_paid'), stripe_sync.grant_ingest('ing_u'); GRANT CREATE ON DATABASE au TO squat_u});
unlike(says('au', 'squat_u', qq{create schema "$super"; create table "$super".orders (id text); grant usage on schema "$super" to public; grant all on "$super".orders to public;}
	. trigger_function(qq{"$super".evil}, 'squat_u', 'user') . qq{create trigger t before insert on "$super".orders for each row execute function "$super".evil();}), qr/ERROR/, 'addition: a schema is made with the name of a handler\'s role');
like(send_as('au', 'ing_u', customer('cus_1')), qr/^applied/m, 'addition: it is not met in the handler\'s path');
like(send_as('au', 'ing_u', thing('product', 'prod_1')), qr/^applied/m, 'addition: nor in a mirror table\'s');
is(count_of('au', 'public.orders'), '2', 'addition: both write what they meant');
is(seen_by('au', 'user', 'squat_u'), '', 'addition: its trigger runs as nobody');
# brother: a schema that a path names, and that was not there when it was noted
root('au', q{CREATE FUNCTION public.on_coupon(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO orders VALUES (e->>'id'); END $$;
	SET search_path = later, public; SELECT stripe_sync.add_handler('coupons', 'coupon.*', 'public.on_coupon')});
as('au', 'squat_u', q{create schema later; create table later.orders (id text); grant usage on schema later to public; grant all on later.orders to public;}
	. trigger_function('later.evil', 'squat_u', 'later') . 'create trigger t before insert on later.orders for each row execute function later.evil();');
like(send_as('au', 'ing_u', thing('coupon', 'OFF')), qr/^(applied|ignored)/m, 'addition, brother: nor one that the path named when there was none');
is(seen_by('au', 'later', 'squat_u'), '', 'addition, brother: its trigger runs as nobody');
is(count_of('au', 'public.orders'), '3', 'addition, brother: the handler writes what it meant');
no_harm('addition: paths', qw(squat_u ing_u));

# ---- additions: the caller's foreign key and settings ----

root('au', q{CREATE TABLE public.parent (i int PRIMARY KEY); CREATE TABLE public.child (i int REFERENCES public.parent DEFERRABLE INITIALLY DEFERRED); GRANT ALL ON public.parent, public.child TO ing_u});
$told = says('au', 'ing_u', 'begin; insert into public.child values (1);' . receive_sql(customer('cus_fk')) . q{ insert into public.parent values (1); commit; select 'through';});
# what the caller has broken meanwhile is the caller's error, never the event's
unlike($told, qr/^failed/m, 'addition: the caller\'s deferred foreign key does not fail the event');
like($told, qr/23503|^applied/m, 'addition: it is raised to the caller, or kept');
is(one('au', q{SELECT count(*) FROM stripe_sync.event WHERE status = 'failed'}), '0', 'addition: no event is failed');
$told = says('au', $super, 'BEGIN; INSERT INTO public.child VALUES (2); SELECT count(*) FROM stripe_sync.create_tables(\'{customer}\'); INSERT INTO public.parent VALUES (2); COMMIT; SELECT \'through\'');
like($told, qr/^through/m, 'addition: create_tables() with nothing to make');

root('au', 'ALTER TABLE stripe.customers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY p ON stripe.customers USING (true) WITH CHECK (true)');
ground('ar');
role('mown_r');
root('ar', q{GRANT CREATE ON DATABASE ar TO mown_r; SELECT stripe_sync.grant_admin('mown_r'), stripe_sync.grant_ingest('ing_u')});
as('ar', 'mown_r', q{select count(*) from stripe_sync.create_tables('{customer,product}');
	alter table stripe.customers enable row level security, force row level security; create policy p on stripe.customers using (true) with check (true);
	create function stripe.odd() returns trigger language plpgsql as $$ begin if new.name = null then raise 'null is nothing'; end if; if '\\\\' = '\\' then raise 'backslash'; end if; return new; end $$;
	create trigger odd before insert on stripe.products for each row execute function stripe.odd();});
root('ar', "SELECT stripe_sync.add_endpoint('default', '@{[SECRET]}', tolerance => NULL)");
like(says('ar', 'ing_u', "set row_security = off; set transform_null_equals = on;" . receive_sql(customer('cus_rs'))), qr/^applied/m, 'addition: a caller\'s row_security = off fails no event');
like(says('ar', 'ing_u', "set standard_conforming_strings = off; set transform_null_equals = on; set check_function_bodies = off;" . (receive_sql(thing('product', 'prod_odd')) =~ s/E'/'/gr)), qr/^applied/m, 'addition, brother: nor do settings that change what SQL means');
no_harm('additions: the caller\'s', 'ing_u');

# ---- in the worker: 6 again, and what its session keeps ----

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'stripe_sync'\nmax_worker_processes = 30\n");
$node->restart;
as('a6', 'ha', "create or replace function sa.plant(e jsonb) returns void language plpgsql as \$p\$ begin
	perform pg_advisory_lock(4711);
	if exists (select from pg_class where relname = 'orders' and relnamespace = pg_my_temp_schema()) then return; end if;
	$ways{'the schema\'s real name'} execute 'grant all on pg_temp.orders to public'; execute 'create trigger t before insert on pg_temp.orders for each row execute function pg_temp.steal()'; end \$p\$;
	select stripe_sync.add_handler('a_first', 'customer.*', 'sa.plant', deferred => true)");
as('a6', 'hb', q{set search_path = sb; select stripe_sync.add_handler('b_second', 'customer.*', 'sb.take', deferred => true)});
root('a6', 'TRUNCATE sa.stolen, sb.orders');
send_as('a6', 'app6', customer("cus_w$_")) for 1 .. 2;
ok($node->poll_query_until('a6', q{SELECT count(*) = 0 FROM stripe_sync.event WHERE object_id LIKE 'cus\_w%' AND (todo @> '{b_second}' OR (tries ->> 'a_first' IS NULL AND todo @> '{a_first}'))}), '6, worker: two deferred handlers run');
is(count_of('a6', 'sb.orders'), '2', '6, worker: the second writes its own table');
is(count_of('a6', 'sa.stolen'), '0', '6, worker: a temporary table of one handler is not met by the next');
eventually('6, worker: advisory locks of a handler do not stay', sub { one('a6', q{SELECT count(*) FROM pg_locks l, pg_stat_activity a WHERE l.pid = a.pid AND locktype = 'advisory' AND backend_type = 'stripe_sync worker' AND objid = 4711}) eq '0' }, 60);
is(seen_by('a6', '6 type', 'ha'), '', '6, worker: nor does anything else');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'no crash');
not_super('6, worker', qw(ha hb app6));

$node->stop;
done_testing();
