# legitimate.pl
#		What people do with a database of their own goes on: deferred foreign keys,
#		temporary tables, SET CONSTRAINTS, owners that change, dump and restore.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Attack;
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = ground_node('legitimate');
my $super = Attack::super();

sub through
{
	my ($what, $database, $role, $sql) = @_;
	my $told = says($database, $role, "$sql\n;select 'through';");

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like($told, qr/^through/m, $what);
	unlike($told, qr/ERROR/, "$what: without an error");
	return $told;
}

# ---- deferred foreign keys: the caller's ----

# plain mirror tables and no handler: no scope of others' is entered
ground('l_plain', 'customer');
role(qw(app));
root('l_plain', q{SELECT stripe_sync.grant_ingest('app');
	CREATE TABLE public.parent (i int PRIMARY KEY); CREATE TABLE public.child (i int CONSTRAINT fk REFERENCES public.parent DEFERRABLE INITIALLY DEFERRED, CONSTRAINT u UNIQUE (i) DEFERRABLE);
	CREATE TABLE public.other (i int CONSTRAINT fk_other REFERENCES public.parent DEFERRABLE);
	GRANT ALL ON public.parent, public.child, public.other TO app});
my $told = through('child, receive, parent, commit', 'l_plain', 'app', 'begin; insert into public.child values (1);' . receive_sql(customer('cus_1')) . ' insert into public.parent values (1); commit;');
like($told, qr/^applied/m, 'the event is applied');
is(one('l_plain', 'SELECT count(*) FROM public.child'), '1', 'both rows are there');
$told = through('SET CONSTRAINTS of the caller\'s', 'l_plain', 'app', 'begin; set constraints fk_other, u deferred; insert into public.other values (2); insert into public.child values (1);' . receive_sql(customer('cus_2')) . receive_sql(customer('cus_2', verb => 'updated'))
	. ' insert into public.parent values (2); delete from public.child where ctid = (select max(ctid) from public.child); commit;');
is(() = $told =~ /^applied/mg, 2, 'events in between are applied');
$told = says('l_plain', 'app', 'begin; set constraints all immediate;' . receive_sql(customer('cus_3')) . ' insert into public.child values (9); commit;');
like($told, qr/^applied.*ERROR:  23503/ms, 'SET CONSTRAINTS IMMEDIATE is kept too');
$told = says('l_plain', 'app', 'begin; insert into public.child values (99);' . receive_sql(customer('cus_4')) . ' commit;');
like($told, qr/^applied.*ERROR:  23503/ms, 'and what is missing at the commit is an error there');
is(one('l_plain', q{SELECT string_agg(id, ' ' ORDER BY id) FROM stripe.customers}), 'cus_1 cus_2', 'with which the event goes, for Stripe to send it again');
through('a savepoint in between', 'l_plain', 'app', 'begin; insert into public.child values (5); savepoint s;' . receive_sql(customer('cus_5')) . 'rollback to s;' . receive_sql(customer('cus_6')) . 'insert into public.parent values (5); commit;');
through('PREPARE TRANSACTION', 'l_plain', 'app', 'begin;' . receive_sql(customer('cus_7')) . q{prepare transaction 'p7'; commit prepared 'p7';});
is(one('l_plain', q{SELECT count(*) FROM stripe.customers WHERE id IN ('cus_5', 'cus_6', 'cus_7')}), '2', 'what was rolled back is not there, the rest is');

# ---- deferred foreign keys: in handlers, and to the mirror ----

ground('l_handler', 'customer', 'subscription', 'subscription_item');
role(qw(shop));
root('l_handler', q{SELECT stripe_sync.grant_admin('shop'), stripe_sync.grant_ingest('app'); CREATE SCHEMA shop AUTHORIZATION shop; GRANT USAGE ON SCHEMA stripe TO shop; GRANT SELECT, REFERENCES ON ALL TABLES IN SCHEMA stripe TO shop});
through('a handler with deferred foreign keys', 'l_handler', 'shop', q{
	create table shop.account (id text primary key);
	create table shop.member (id text references shop.account deferrable initially deferred);
	create table shop.person (customer text, account text default '', foreign key (customer, account) references stripe.customers (id, _account) deferrable initially deferred);
	create function shop.joins(e jsonb) returns void language plpgsql as $$ declare who text := e->'data'->'object'->>'id'; begin
		insert into shop.member values (who); if who <> 'cus_alone' then insert into shop.account values (who); end if; insert into shop.person values (who); end $$;
	create function shop.later(e jsonb) returns void language plpgsql as $$ begin set constraints all deferred; insert into shop.member values (e->>'id'); insert into shop.account values (e->>'id'); end $$;
	select stripe_sync.add_handler('joins', 'customer.created', 'shop.joins'), stripe_sync.add_handler('later', 'customer.created', 'shop.later', deferred => true);});
like(send_as('l_handler', 'app', customer('cus_1')), qr/^applied/m, 'it writes child before parent, and refers to the mirror');
like(send_as('l_handler', 'app', customer('cus_alone')), qr/^failed.*23503/ms, 'what lacks its parent is the handler\'s own failure');
retried('l_handler');
is(one('l_handler', q{SELECT string_agg(id, ' ' ORDER BY id) FROM shop.member}), 'cus_1 evt_cus_1_' . (one('l_handler', q{SELECT split_part(id, '_', 4) FROM stripe_sync.event WHERE object_id = 'cus_1'})) . ' ' . one('l_handler', q{SELECT id FROM stripe_sync.event WHERE object_id = 'cus_alone'}), 'deferred handlers too');
# foreign keys between mirror tables, in the order that events come
$told = says('l_handler', $super, q{BEGIN; INSERT INTO shop.member VALUES ('nobody'); SELECT status FROM stripe_sync.apply_reading_page('[{"id": "cus_read", "object": "customer"}]'); COMMIT});
like($told, qr/ERROR:  23503: [^\n]*"member"/, 'what the caller had deferred is told to it');
unlike($told, qr/^(applied|failed)/m, 'before anything is read');
root('l_handler', q{ALTER TABLE stripe.subscriptions ADD FOREIGN KEY (customer, _account) REFERENCES stripe.customers (id, _account) DEFERRABLE INITIALLY DEFERRED;
	ALTER TABLE stripe.subscription_items ADD FOREIGN KEY (subscription, _account) REFERENCES stripe.subscriptions (id, _account) DEFERRABLE INITIALLY DEFERRED});
my $page = { object => 'list', url => '/v1/subscription_items', has_more => FALSE, data => [ { id => 'si_1', object => 'subscription_item', subscription => 'sub_1', quantity => 1 } ] };
like(send_as('l_handler', 'app', event('evt_sub_1', 'customer.subscription.created', 500, { id => 'sub_1', object => 'subscription', customer => 'cus_1', items => $page })), qr/^applied/m, 'a subscription of a known customer, with its items');
like(send_as('l_handler', 'app', event('evt_sub_2', 'customer.subscription.created', 501, { id => 'sub_2', object => 'subscription', customer => 'cus_later' })), qr/^failed.*23503/ms, 'one of a customer that comes later waits');
like(send_as('l_handler', 'app', customer('cus_later')), qr/^applied/m, 'until the customer comes');
retried('l_handler');
is(settled('l_handler', 'sub_2'), 'applied', 'and is applied');

# ---- temporary tables ----

through('a staging table of the caller\'s', 'l_handler', 'app', q{create temp table staging (id text, payload text) on commit drop; begin; create temp table customers (id text) on commit preserve rows; create temp table event (id text); create temp table member (id text);
	insert into customers values ('mine');} . receive_sql(customer('cus_t')) . q{insert into customers values ('mine too'); commit; select count(*) from customers;});
is(settled('l_handler', 'cus_t'), 'applied', 'its event is applied');
is(one('l_handler', q{SELECT count(*) FROM stripe.customers WHERE id = 'cus_t'}), '1', 'to the mirror');
is(one('l_handler', q{SELECT count(*) FROM shop.account WHERE id = 'cus_t'}), '1', 'and by the handler');
root('l_handler', q{CREATE TABLE public.incoming (n int, payload text, signature text); GRANT SELECT ON public.incoming TO app});
root('l_handler', join '', map { 'INSERT INTO public.incoming VALUES (' . $_->{created} . ', ' . literals(json_text($_), signature(json_text($_))) . ');' } map { customer("cus_s$_") } 1 .. 120);
$told = through('events received from a staging table, with a cursor open', 'l_handler', 'app', q{create temp table staging as select * from public.incoming; begin; declare c cursor for select n from staging order by n; fetch c;
	do $$ declare r record; begin for r in select * from staging order by n loop perform stripe_sync.receive(r.payload, r.signature); end loop; end $$; fetch c; close c; commit; select 'status', r.status from staging s, stripe_sync.receive(s.payload, s.signature) r;});
is(() = $told =~ /^status\|duplicate/mg, 120, 'each once');
root('l_handler', 'CREATE TABLE public.staged (id text)');
through('a trigger on the mirror that uses a temporary table of the session\'s own superuser', 'l_handler', $super, q{create temp table staged (id text); begin;} . receive_sql(customer('cus_own')) . 'commit;');
# those of a SECURITY DEFINER function in between
root('l_handler', 'CREATE FUNCTION public.take(payload text, signature text) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT status FROM stripe_sync.receive(payload, signature) $$');
my $payload = json_text(customer('cus_definer'));
role('outside');
like(says('l_handler', 'outside', 'select public.take(' . literals($payload, signature($payload)) . ')'), qr/^applied/m, 'receive() within a SECURITY DEFINER function');

# ---- handlers whose function is another role's ----

root('l_handler', q{CREATE ROLE developers; GRANT developers TO shop; CREATE FUNCTION public.shared(e jsonb) RETURNS void LANGUAGE sql AS ''; });
through('a handler whose function a superuser owns', 'l_handler', 'shop', q{select stripe_sync.add_handler('shared', 'coupon.*', 'public.shared')});
root('l_handler', 'ALTER FUNCTION shop.joins(jsonb) OWNER TO ' . $super);
like(send_as('l_handler', 'app', customer('cus_o1')), qr/^applied/m, 'a function that a superuser takes over still runs');
root('l_handler', 'CREATE ROLE deputy; GRANT shop TO deputy; GRANT CREATE, USAGE ON SCHEMA shop TO deputy; ALTER FUNCTION shop.joins(jsonb) OWNER TO deputy');
like(send_as('l_handler', 'app', customer('cus_o2')), qr/^applied/m, 'so does one of a role that has the rights of the handler\'s');
through('CREATE OR REPLACE of a handler by its owner', 'l_handler', $super, q{ALTER FUNCTION shop.joins(jsonb) OWNER TO shop; SET ROLE shop; CREATE OR REPLACE FUNCTION shop.joins(e jsonb) RETURNS void LANGUAGE sql AS ''; RESET ROLE});
like(send_as('l_handler', 'app', customer('cus_o3')), qr/^applied/m, 'its next version runs');

# ---- schemas of a noted path that are another role's, or change hands ----

# the handler's role is shop, schema "works" is a contractor's all along, "own" becomes shop's
root('l_handler', q{CREATE ROLE contractor; CREATE ROLE crew; GRANT shop TO crew; CREATE SCHEMA works AUTHORIZATION contractor; CREATE SCHEMA own AUTHORIZATION contractor; GRANT USAGE ON SCHEMA works, own TO shop; CREATE TABLE own.plans (id text); GRANT ALL ON own.plans TO shop;
	CREATE FUNCTION shop.plans(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO plans VALUES (e->>'id'); END $$});
through('a handler whose path has schemas of others', 'l_handler', 'shop', q{set search_path = works, own, public; select stripe_sync.add_handler('plans', 'plan.*', 'shop.plans')});
my $plan = 0;
sub plans
{
	my ($what) = @_;

	$plan++;
	like(send_as('l_handler', 'app', thing('plan', "plan_$plan")), qr/^(applied|ignored)/m, "$what: the handler runs");
	is(one('l_handler', 'SELECT count(*) FROM own.plans'), "$plan", "$what: and finds what it did");
	return;
}
plans('schemas of the noted owners');
root('l_handler', "ALTER SCHEMA own OWNER TO $_; GRANT USAGE ON SCHEMA own TO shop"), plans("ALTER SCHEMA OWNER TO $_") for 'shop', 'crew', $super, 'contractor';
root('l_handler', 'CREATE ROLE tenant; ALTER DATABASE l_handler OWNER TO tenant');
plans('ALTER DATABASE OWNER, whose schema public is');
root('l_handler', 'ALTER SCHEMA public OWNER TO tenant');
plans('its owner takes schema public himself');
root('l_handler', 'DROP SCHEMA works');
plans('a schema is dropped');
root('l_handler', "ALTER SCHEMA public OWNER TO pg_database_owner; ALTER DATABASE l_handler OWNER TO $super");

# ---- ALTER ... OWNER, REASSIGN OWNED ----

ground('l_owner', 'customer', 'product');
role(qw(dba team installer));
root('l_owner', q{SELECT stripe_sync.grant_ingest('app'), stripe_sync.grant_read('team'); CREATE FUNCTION public.nothing(e jsonb) RETURNS void LANGUAGE sql AS ''; SELECT stripe_sync.add_handler('nothing', 'customer.*', 'public.nothing');
	CREATE FUNCTION public.pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$; CREATE TRIGGER pass BEFORE INSERT ON stripe.products FOR EACH ROW EXECUTE FUNCTION public.pass()});
my $n = 0;
sub goes_on
{
	my ($what, $database) = @_;

	$n++;
	like(send_as($database, 'app', customer("cus_g$n")), qr/^applied/m, "$what: an event is applied");
	like(send_as($database, 'app', thing('product', "prod_g$n")), qr/^applied/m, "$what: through a trigger as well");
	my $told = says($database, $super, q{SELECT 'differs', * FROM stripe_sync.verify_mirror(); CALL stripe_sync.work(); SELECT stripe_sync.prune('35 days'); SELECT string_agg(DISTINCT action, ' ') FROM stripe_sync.create_tables('{customer,product}');
		SELECT stripe_sync.replay((SELECT max(id) FROM stripe_sync.event)); SELECT stripe_sync.rotate_endpoint_secret('default', '} . SECRET . q{')});
	unlike($told, qr/ERROR|^differs/m, "$what: and what an administrator does works");
	return;
}
goes_on('before', 'l_owner');
root('l_owner', 'GRANT USAGE ON SCHEMA stripe TO team; ALTER TABLE stripe.customers OWNER TO team; ALTER TABLE stripe.products OWNER TO team');
goes_on('ALTER TABLE OWNER of mirror tables', 'l_owner');
root('l_owner', 'ALTER SCHEMA stripe OWNER TO team');
goes_on('ALTER SCHEMA stripe OWNER', 'l_owner');
root('l_owner', 'ALTER ROLE dba SUPERUSER; ALTER SCHEMA stripe_sync OWNER TO dba');
goes_on('ALTER SCHEMA stripe_sync OWNER TO another superuser', 'l_owner');
root('l_owner', q{DO $$ DECLARE r record; BEGIN FOR r IN SELECT oid::regclass AS name, relkind FROM pg_class WHERE relnamespace = 'stripe_sync'::regnamespace AND relkind IN ('r', 'v') LOOP EXECUTE format('ALTER %s %s OWNER TO dba', CASE r.relkind WHEN 'r' THEN 'TABLE' ELSE 'VIEW' END, r.name); END LOOP; END $$});
goes_on('ALTER TABLE OWNER of the extension\'s tables', 'l_owner');
root('l_owner', 'CREATE ROLE heir; REASSIGN OWNED BY team TO heir');
goes_on('REASSIGN OWNED of the mirror\'s owner', 'l_owner');
root('l_owner', 'CREATE ROLE dba_heir SUPERUSER; REASSIGN OWNED BY dba TO dba_heir; ALTER ROLE dba NOSUPERUSER');
goes_on('REASSIGN OWNED of the extension\'s owner', 'l_owner');

# ---- dump and restore ----

ground('l_dump', 'customer', 'product');
root('l_dump', q{SELECT stripe_sync.grant_ingest('app'), stripe_sync.grant_read('team'); ALTER TABLE stripe.customers OWNER TO team; CREATE FUNCTION public.nothing(e jsonb) RETURNS void LANGUAGE sql AS ''; SELECT stripe_sync.add_handler('nothing', 'customer.*', 'public.nothing');
	CREATE FUNCTION public.pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$; CREATE TRIGGER pass BEFORE INSERT ON stripe.products FOR EACH ROW EXECUTE FUNCTION public.pass(); GRANT USAGE ON SCHEMA stripe TO team;
	CREATE SCHEMA house AUTHORIZATION heir; SET search_path = house, public; SELECT stripe_sync.add_handler('nothing', 'customer.*', 'public.nothing'); UPDATE stripe_sync.mirror_table SET search_path = 'house, public, pg_temp', path_owners = '{heir,pg_database_owner}'});
goes_on('before the dump', 'l_dump');
my $file = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $file, $node->connstr('l_dump') ], 'pg_dump');
root('postgres', 'CREATE ROLE second_super SUPERUSER LOGIN');
my @restores = (
	[ 'the same superuser', 'l_same', $super ], [ 'another superuser', 'l_other', 'second_super' ],
	[ '--no-owner', 'l_no_owner', $super, '--no-owner' ], [ '--no-owner by another', 'l_no_owner_other', 'second_super', '--no-owner' ], [ '--no-owner --no-privileges', 'l_bare', $super, '--no-owner', '--no-privileges' ],
	[ '--clean, over what is there', 'l_same', $super, '--clean', '--if-exists' ]);
for my $restore (@restores)
{
	my ($what, $database, $who, @options) = @$restore;

	root('postgres', "CREATE DATABASE $database OWNER $who") unless $what =~ /clean/;
	$node->command_ok([ 'pg_restore', '--exit-on-error', '-U', $who, @options, '-d', $node->connstr($database), $file ], "restored: $what");
	root($database, "SELECT stripe_sync.add_endpoint('default', '@{[SECRET]}', tolerance => NULL), stripe_sync.grant_ingest('app')");
	is(one($database, 'SELECT count(*) FROM stripe.customers'), '1', "$what: rows are there");
	goes_on($what, $database);
}
# the mirror of an application's role that owns its database, into one of another's
root('postgres', 'CREATE DATABASE l_app OWNER team; CREATE DATABASE l_app_again');
root('l_app', qq{CREATE EXTENSION stripe_sync; SELECT count(*) FROM stripe_sync.create_tables('{customer,product}'); SELECT stripe_sync.add_endpoint('default', '@{[SECRET]}', tolerance => NULL), stripe_sync.grant_ingest('app')});
goes_on('a database of an application\'s role', 'l_app');
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$file.app", $node->connstr('l_app') ], 'pg_dump');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('l_app_again'), "$file.app" ], 'restored: into another role\'s database');
is(one('l_app_again', q{SELECT string_agg(DISTINCT r, ' ') FROM (SELECT nspowner::regrole::text AS r FROM pg_namespace WHERE nspname = 'stripe' UNION ALL SELECT tableowner FROM pg_tables WHERE schemaname = 'stripe') s}), 'team', 'schema and tables are whose they were');
root('l_app_again', "SELECT stripe_sync.add_endpoint('default', '@{[SECRET]}', tolerance => NULL)");
goes_on('another role\'s database', 'l_app_again');
# a dump in plain text, in one transaction
$node->command_ok([ 'pg_dump', '--no-owner', '-f', "$file.sql", $node->connstr('l_dump') ], 'pg_dump, plain');
root('postgres', 'CREATE DATABASE l_plain_text');
$node->command_ok([ 'psql', '-Xq1', '-v', 'ON_ERROR_STOP=1', '-U', 'second_super', '-d', $node->connstr('l_plain_text'), '-f', "$file.sql" ], 'restored by psql in one transaction, by another superuser');
root('l_plain_text', "SELECT stripe_sync.add_endpoint('default', '@{[SECRET]}', tolerance => NULL), stripe_sync.grant_ingest('app')");
goes_on('plain text', 'l_plain_text');

# ---- schemas that are there, and installers ----

root('postgres', 'CREATE DATABASE l_premade');
through('an empty schema of the installer\'s', 'l_premade', $super, "CREATE SCHEMA stripe_sync; CREATE EXTENSION stripe_sync; SELECT count(*) FROM stripe_sync.create_tables('{customer}');");
root('l_premade', 'SET client_min_messages = warning; DROP EXTENSION stripe_sync CASCADE; DROP SCHEMA stripe CASCADE');
through('one of another superuser\'s, and schema stripe of who sets up', 'l_premade', 'second_super', "CREATE SCHEMA IF NOT EXISTS stripe_sync AUTHORIZATION $super; CREATE SCHEMA stripe; CREATE EXTENSION stripe_sync SCHEMA stripe_sync; SELECT count(*) FROM stripe_sync.create_tables('{customer}');");
root('l_premade', 'SET client_min_messages = warning; DROP EXTENSION stripe_sync CASCADE');
through('the mirror that an earlier installation left', 'l_premade', 'second_super', "CREATE EXTENSION stripe_sync; SELECT count(*) FROM stripe_sync.create_tables('{customer}');");
root('l_premade', 'SET client_min_messages = warning; DROP SCHEMA stripe CASCADE; ALTER DATABASE l_premade OWNER TO team');
root('l_premade', q{SELECT stripe_sync.grant_admin('team')});
through('schema stripe made by who has the admin grade', 'l_premade', 'team', "create schema stripe; select count(*) from stripe_sync.create_tables('{customer}');");

# An installer who is no superuser: the control file says superuser = true, so it is
# refused, clearly; one that a provider's hook lets install is a superuser's work.
root('postgres', 'CREATE DATABASE l_installer OWNER installer');
like(says('l_installer', 'installer', 'create extension stripe_sync'), qr/ERROR:  42501: permission denied to create extension "stripe_sync".*HINT: .*superuser/s, 'an installer who is no superuser is told so');
root('l_installer', 'ALTER ROLE installer SUPERUSER');
through('an installer who was a superuser', 'l_installer', 'installer', "create extension stripe_sync; select count(*) from stripe_sync.create_tables('{customer,product}'); select stripe_sync.add_endpoint('default', '@{[SECRET]}', tolerance => null), stripe_sync.grant_ingest('app');
	create function public.pass() returns trigger language plpgsql as \$\$ begin return new; end \$\$; create trigger pass before insert on stripe.products for each row execute function public.pass();");
root('postgres', 'ALTER ROLE installer NOSUPERUSER');
root('postgres', 'GRANT pg_read_all_settings, pg_monitor TO installer');
goes_on('and is none any more', 'l_installer');
root('l_installer', qq{SELECT count(*) FROM stripe_sync.create_tables('{coupon}'); ALTER TABLE stripe.coupons OWNER TO $super; CREATE ROLE auditor});
$told = through('grant_read() where a table of the mirror is another\'s', 'l_installer', 'installer', q{select stripe_sync.grant_read('auditor')});
like($told, qr/WARNING: .*auditor.*HINT: .*GRANT SELECT/s, 'says what is to be granted by its owner');
my $rights = q{SELECT has_table_privilege('auditor', 'stripe_sync.event', 'SELECT'), has_table_privilege('auditor', 'stripe.customers', 'SELECT'), has_table_privilege('auditor', 'stripe.coupons', 'SELECT')};
is(one('l_installer', $rights), 't|t|f', 'and grants the rest');
through('revoke_all() there', 'l_installer', 'installer', q{select stripe_sync.revoke_all('auditor')});
is(one('l_installer', $rights), 'f|f|f', 'takes it back');
no_harm('legitimate', qw(app shop team installer));

$node->stop;
done_testing();
