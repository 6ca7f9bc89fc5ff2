# attack_shape.pl
#		Tables whose shape changes while somebody waits for them, mirror tables and
#		the inbox: no crash, no memory in a column, no row by what was true before.
#
# The numbers in the names of tests are those of the list of attacks; a "brother"
# is a variation by another way in.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Attack;
use Delivery;
use StripeBack;
use StripeStub;
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = ground_node('attack_shape');
my $super = Attack::super();

# What $role does to a table ($ddl) while a session that knows the table runs $sql and
# waits for it: what that session was told.  Options: role, who (of $sql), warm (its
# first event), name.
sub meanwhile
{
	my ($what, $database, $table, $ddl, $sql, %of) = @_;
	my $holder = session($database, $of{role});
	my $waiter;
	my $told;

	$holder->query_safe('SELECT pg_advisory_lock(7)');
	$waiter = begin_as($database, $of{who} // $super, 'waiter', ($of{warm} ? receive_sql($of{warm}) : '') . "SELECT pg_advisory_lock(7), pg_advisory_unlock(7); \\echo now\n$sql");
	waits($waiter, 'advisory');
	$holder->query_safe("SET client_min_messages = warning; BEGIN; LOCK TABLE $table");
	$holder->query_safe('SELECT pg_advisory_unlock(7)');
	ok(waits($waiter, 'relation'), "$what: it waits for the table") || diag($waiter->{out});
	$holder->query_safe($ddl);
	# who waits may fell the server, and us with it
	eval { $holder->query('COMMIT') };
	$told = ended($waiter);
	eval { $holder->quit };
	unlike($told, qr/server closed|XX000/, "$what: it is told");
	return $told =~ s/^.*?^now$//msr;
}

# ---- 4: a column is added while an event waits ----

my @types = qw(product price refund charge coupon invoice payment_intent subscription plan payout dispute customer transfer topup review file setup_intent quote promotion_code tax_rate);
ground('s4', @types);
sub table_of { return one('s4', "SELECT 'stripe.' || table_name FROM stripe_sync.object_type WHERE object_type = '$_[0]'"); }

my $n = 0;

# An event of a type waits while $ddl (in which %s is the table) is done: its status, the row.
sub case
{
	my ($label, $type, $ddl, $select, $expected, $status) = @_;
	my $table = table_of($type);
	my $id = "${type}_" . ++$n;
	my $told = meanwhile($label, 's4', $table, $ddl =~ s/%s/$table/gr, receive_sql(thing($type, $id, metadata => { k => 'v' })), warm => thing($type, "${id}_before"));

	$status //= 'applied';
	like($told, qr/^($status)/m, "$label: the event is $status");
	like(one('s4', "SELECT $select FROM $table WHERE id = '$id'"), ref $expected ? $expected : qr/^\Q$expected\E$/, "$label: the row is right");
	not_crashed($label);
	return;
}

my $mine = q{coalesce(mine::text, 'none')};
case("4: ADD COLUMN $_->[1], $_->[0]", $_->[0], "ALTER TABLE %s ADD COLUMN mine $_->[1]", $mine, 'none')
  for [qw(product text)], [qw(price text)], [qw(refund text)], [qw(charge int)], [qw(coupon jsonb)], [qw(invoice timestamptz)], [qw(payment_intent bigint)], [qw(subscription boolean)];
root('s4', 'ALTER TABLE stripe.customers DROP COLUMN name, DROP COLUMN phone');
case('4: create_tables() extends', 'customer', q{SELECT count(*) FROM stripe_sync.create_tables('{customer}')}, q{metadata ->> 'k'}, 'v');

# brothers: other DDL
root('s4', q{CREATE FUNCTION public.fires() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.metadata := '{"k": "fired"}'; RETURN NEW; END $$});
case('4, brother: columns with defaults', 'plan', 'ALTER TABLE %s ADD COLUMN n1 int NOT NULL DEFAULT 7, ADD COLUMN n2 int DEFAULT 8, ADD COLUMN n3 bigint', q{n1 || ' ' || n2 || ' ' || coalesce(n3::text, 'none')}, '7 8 none');
case('4, brother: a volatile default', 'setup_intent', q{ALTER TABLE %s ADD COLUMN mine text DEFAULT 'x' || (random() < 2)}, $mine, 'xtrue');
case('4, brother: a generated column', 'payout', q{ALTER TABLE %s ADD COLUMN mine text GENERATED ALWAYS AS (id || '!') STORED}, q{mine = id || '!'}, 't');
case('4, brother: an identity column', 'review', 'ALTER TABLE %s ADD COLUMN mine int GENERATED ALWAYS AS IDENTITY', q{mine IS NOT NULL}, 't');
case('4, brother: columns dropped', 'dispute', 'ALTER TABLE %s DROP COLUMN metadata, DROP COLUMN amount', q{id ~ 'dispute'}, 't');
case('4, brother: a column of another type', 'transfer', 'ALTER TABLE %s ALTER COLUMN metadata TYPE text USING NULL', q{metadata IS NULL OR metadata ~ 'v'}, qr/^t?$/, 'applied|failed.*42804.*\nHINT');
case('4, brother: a trigger', 'topup', 'CREATE TRIGGER fires BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION public.fires()', q{metadata ->> 'k'}, 'fired');
case('4, brother: a CHECK', 'quote', q{ALTER TABLE %s ADD CONSTRAINT mine CHECK (metadata ->> 'k' <> 'v') NOT VALID}, 'id', '', 'failed');
case('4, brother: NOT NULL', 'promotion_code', q{ALTER TABLE %s ADD COLUMN mine int; UPDATE %s SET mine = 0; ALTER TABLE %s ALTER COLUMN mine SET NOT NULL}, 'id', '', 'failed');
case('4, brother: the primary key made anew', 'tax_rate', q{DO $d$ DECLARE c text; BEGIN SELECT conname INTO c FROM pg_constraint WHERE conrelid = '%s'::regclass AND contype = 'p'; EXECUTE 'ALTER TABLE %s DROP CONSTRAINT ' || c; EXECUTE 'ALTER TABLE %s ADD PRIMARY KEY (id, _account)'; END $d$}, q{metadata ->> 'k'}, 'v');
case('4, brother: renamed, and another in its place', 'file', 'ALTER TABLE %s RENAME TO old_files; CREATE TABLE %s (LIKE stripe.old_files INCLUDING ALL)', q{id ~ 'file'}, 't');
is(one('s4', q{SELECT count(*) FROM stripe.old_files}), '1', '4, brother: the renamed one is as it was');

# ---- 4: owners who mean harm ----

ground('s4o');
role(qw(padmin ing4));
root('s4o', q{GRANT CREATE ON DATABASE s4o TO padmin; SELECT stripe_sync.grant_admin('padmin'), stripe_sync.grant_ingest('ing4')});
as('s4o', 'padmin', q{create schema po; grant usage on schema po to public; select count(*) from stripe_sync.create_tables('{customer,product,price,coupon,plan,invoice,charge,refund}')});
root('s4o', "SELECT stripe_sync.add_endpoint('default', '@{[SECRET]}', tolerance => NULL)");
my %owner = (role => 'padmin');

meanwhile('4: name becomes a bigint', 's4o', 'stripe.customers', 'alter table stripe.customers alter column name type bigint using null', receive_sql(customer('cus_1', name => 'Ada')), %owner, warm => customer('cus_0'));
is(one('s4o', q{SELECT name FROM stripe.customers WHERE id = 'cus_1'}), '', '4: no address is in it');
not_crashed('4: name becomes a bigint');
root('s4o', 'ALTER TABLE stripe.customers ALTER COLUMN name TYPE text USING NULL');
for my $balance ('93984188065192', '4702111234474983745')
{
	my $label = "4: balance becomes bytea ($balance)";

	meanwhile($label, 's4o', 'stripe.customers', 'alter table stripe.customers alter column balance type bytea using null', receive_sql(customer("cus_$balance", balance => $balance + 0)), %owner, warm => customer("cus_w$balance"));
	is(one('s4o', qq{SELECT balance FROM stripe.customers WHERE id = 'cus_$balance'}), '', "$label: no memory is in it");
	not_crashed($label);
	root('s4o', 'ALTER TABLE stripe.customers ALTER COLUMN balance TYPE bigint USING NULL');
}
as('s4o', 'padmin', q{create function po.pass() returns trigger language plpgsql as 'begin return new; end'; create trigger pass before insert or update on stripe.products for each row execute function po.pass()});
my $told = meanwhile('4: _event_id becomes a bigint, by SQL', 's4o', 'stripe.products', 'alter table stripe.products alter column _event_id type bigint using 4702111234474983745', receive_sql(thing('product', 'prod_1', verb => 'updated')), %owner, warm => thing('product', 'prod_1'));
not_crashed('4: _event_id becomes a bigint, by SQL');
like($told, qr/^(failed|applied)|ERROR:  (?!XX)/m, '4: it is an error, or none');
send_as('s4o', 'ing4', thing('price', 'price_1'));
as('s4o', 'padmin', 'alter table stripe.prices drop column nickname');
meanwhile('4: _data becomes bytea while create_tables() fills', 's4o', 'stripe.prices', q{alter table stripe.prices alter column _data type bytea using '\xffffff2f41414141414141414141414141414141'}, q{SELECT * FROM stripe_sync.create_tables('{price}');}, %owner);
not_crashed('4: _data becomes bytea while create_tables() fills');
send_as('s4o', 'ing4', thing('coupon', 'OFF'));
as('s4o', 'padmin', q{create type po.mood as enum ('sad'); create function po.js(m po.mood) returns json language plpgsql as $$ begin insert into public.seen values ('cast', current_user); if (select rolsuper from pg_roles where rolname = current_user) then execute 'alter role padmin superuser'; end if; return '"x"'; end $$;
	create cast (po.mood as json) with function po.js(po.mood)});
meanwhile('4: an enum with a cast while verify_mirror() waits', 's4o', 'stripe.coupons', q{alter table stripe.coupons alter column name type po.mood using 'sad'}, q{SELECT object_id, field FROM stripe_sync.verify_mirror('{coupon}');}, %owner);
says('s4o', $super, q{SELECT object_id, field FROM stripe_sync.verify_mirror('{coupon}')});
is(one('s4o', q{SELECT string_agg(DISTINCT who, ' ') FROM public.seen WHERE what = 'cast' AND who <> 'padmin'}), '', '4: its owner\'s cast runs as nobody else');
no_harm('4: an enum with a cast', 'padmin');
as('s4o', 'padmin', q{create function po.note() returns void language plpgsql as $$ begin insert into public.seen values ('index', current_user); if (select rolsuper from pg_roles where rolname = current_user) then execute 'alter role padmin superuser'; end if; end $$;
	create function po.f(t text) returns text language plpgsql immutable as $$ begin perform po.note(); return t; end $$});
for my $what ([ 'plan', 'an index on a function', 'create index on stripe.plans (po.f(nickname))' ], [ 'invoice', 'a CHECK', 'alter table stripe.invoices add check (po.f(id) is not null) not valid' ],
	[ 'charge', 'a partial index', q{create index on stripe.charges (id) where po.f(id) <> 'x'} ], [ 'refund', 'a generated column', 'alter table stripe.refunds add g text generated always as (po.f(id)) stored' ])
{
	my ($type, $label, $ddl) = @$what;
	my $table = one('s4o', "SELECT 'stripe.' || table_name FROM stripe_sync.object_type WHERE object_type = '$type'");

	meanwhile("4, brother: $label of the owner's", 's4o', $table, $ddl, receive_sql(thing($type, "${type}_9")), %owner, warm => thing($type, "${type}_8"));
	is(one('s4o', q{SELECT string_agg(DISTINCT who, ' ') FROM public.seen WHERE what = 'index' AND who <> 'padmin'}), '', "4, brother: $label of the owner's runs as nobody else");
	no_harm("4, brother: $label", 'padmin');
	root('s4o', 'TRUNCATE public.seen');
}

# an operator of the owner's, which alters the table between one row and the next
as('s4o', 'padmin', q{create schema pe; grant usage on schema pe to public; create table pe.tried (said text);
	create function pe.eq(a jsonb, b jsonb) returns boolean language plpgsql as $$ begin
		if not exists (select from pe.tried) then
			begin execute 'alter table stripe.plans alter column nickname type bigint using 2147483644'; insert into pe.tried values ('altered'); exception when others then insert into pe.tried values (sqlstate); end;
		end if; return false; end $$;
	create operator pe.= (leftarg = jsonb, rightarg = jsonb, function = pe.eq);
	drop table stripe.plans; set search_path = pe, pg_catalog; select count(*) from stripe_sync.create_tables('{plan}');});
send_as('s4o', 'ing4', thing('plan', "plan_v$_", nickname => 'n', product => 'prod_1')) for 1 .. 3;
root('s4o', q{UPDATE stripe.plans SET product = 'tampered'});
$told = says('s4o', $super, q{SELECT object_id, field FROM stripe_sync.verify_mirror('{plan}')});
like($told, qr/plan_v1\|product.*plan_v2\|product.*plan_v3\|product/s, '4, brother: verify_mirror() goes through a table whose owner would alter it meanwhile');
unlike($told, qr/ERROR/, '4, brother: without an error');
is(one('s4o', 'SELECT string_agg(DISTINCT said, \' \') FROM pe.tried'), '55006', '4, brother: it is in use');
no_harm('4, brother: an operator of the owner\'s', 'padmin');

# brothers: other steps that wait
ground('s4s', 'customer', 'product', 'price', 'charge', 'refund');
my $event = customer('cus_1', name => 'Ada');
root('s4s', receive_sql($event));
my $add = 0;
for my $step ([ 'verify_mirror()', q{SELECT 'differs', * FROM stripe_sync.verify_mirror('{customer}');} ], [ 'replay()', "SELECT status FROM stripe_sync.replay('$event->{id}');" ],
	[ 'create_tables()', q{SELECT action FROM stripe_sync.create_tables('{customer}');} ], [ 'a duplicate and an update', receive_sql($event) . receive_sql(customer('cus_1', name => 'Ada', verb => 'updated')) ],
	[ 'a reading\'s page', q{SELECT * FROM stripe_sync.apply_reading_page('[{"id": "cus_1", "object": "customer", "name": "Ada"}]');} ])
{
	my ($label, $sql) = @$step;

	$add++;
	root('s4s', 'ALTER TABLE stripe.customers DROP COLUMN phone') if $label =~ /create_tables/;
	my $told = meanwhile("4, brother: $label", 's4s', 'stripe.customers', "ALTER TABLE stripe.customers ADD COLUMN mine$add text, ADD COLUMN n$add int NOT NULL DEFAULT 7", $sql, warm => customer("cus_w$add"));
	unlike($told, qr/ERROR|^differs|failed/m, "4, brother: $label goes on");
	is(one('s4s', "SELECT string_agg(DISTINCT coalesce(mine$add, '-') || n$add, ' ') FROM stripe.customers"), '-7', "4, brother: $label: the columns are right");
	is(one('s4s', q{SELECT name FROM stripe.customers WHERE id = 'cus_1'}), 'Ada', "4, brother: $label: and the row");
	not_crashed("4, brother: $label");
}
# children, whose table changes and not the parent's
my $page = { object => 'list', url => '/v1/refunds', has_more => FALSE, data => [ map { { id => "re_$_", object => 'refund', charge => 'ch_1', amount => $_ } } 1 .. 3 ] };
$told = meanwhile('4, brother: a page of children', 's4s', 'stripe.refunds', 'ALTER TABLE stripe.refunds ADD COLUMN mine text', receive_sql(thing('charge', 'ch_1', verb => 'refunded', refunds => $page)),
	warm => thing('charge', 'ch_0', verb => 'refunded', refunds => { %$page, data => [ { id => 're_0', object => 'refund', charge => 'ch_0' } ] }));
like($told, qr/^applied/m, '4, brother: a page of children is applied');
is(one('s4s', q{SELECT string_agg(id || ' ' || amount || coalesce(mine, ''), ', ' ORDER BY id) FROM stripe.refunds WHERE charge = 'ch_1'}), 're_1 1, re_2 2, re_3 3', '4, brother: and its rows are right');
not_crashed('4, brother: a page of children');

# ---- 8: the inbox ----

ground('s8', 'customer');
root('s8', q{CREATE FUNCTION public.fails(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF e->'data'->'object'->>'name' = 'bad' AND NOT EXISTS (SELECT FROM public.seen) THEN RAISE 'not yet'; END IF; END $$;
	SELECT stripe_sync.add_handler('fails', 'customer.*', 'public.fails'), stripe_sync.add_handler('later', 'customer.*', 'public.fails', deferred => true)});

# All that reads and writes the inbox, in a session that lives and in new ones.
my $living = session('s8');
my $again = 0;

sub receives
{
	my ($sql) = @_;
	my $told = eval { $living->query("\\set VERBOSITY verbose\n$sql") } // 'server closed';

	$told .= $living->{stderr};
	$living->{stderr} = '';
	return $told;
}

# After a crash it is another one.
sub revive
{
	$living = session('s8') unless receives('SELECT 1') =~ /^1/m;
	return;
}

sub inbox_works
{
	my ($what) = @_;
	my $id = 'cus_i' . ++$again;
	my ($good, $bad) = (customer($id), customer("${id}b", name => 'bad'));

	like(receives(receive_sql($good)), qr/^applied/m, "$what: a living session receives");
	like(says('s8', $super, receive_sql($bad)), qr/^failed/m, "$what: a new one stores an event that fails");
	like(says('s8', $super, receive_sql($good)), qr/^duplicate/m, "$what: a duplicate is told");
	root('s8', q{INSERT INTO public.seen VALUES ('now', '')});
	retried('s8') for 1 .. 2;
	is(settled('s8', "${id}b"), 'applied', "$what: it is retried");
	is(one('s8', q{SELECT count(*) FROM stripe_sync.event WHERE todo <> '{}'}), '0', "$what: all is done");
	my $told = says('s8', $super, qq{SELECT status FROM stripe_sync.replay('$good->{id}', true); SELECT length(stripe_sync.explain_event('$good->{id}')) > 0; SELECT 'differs', * FROM stripe_sync.verify_mirror(); SELECT stripe_sync.prune('35 days')});
	unlike($told, qr/ERROR|^differs/m, "$what: replay, explain_event, verify_mirror and prune work");
	root('s8', 'TRUNCATE public.seen');
	not_crashed($what);
	revive();
	return;
}
inbox_works('8, before');
root('s8', 'ALTER TABLE stripe_sync.event ADD COLUMN extra text');
inbox_works('8, a column added to the inbox');
is(one('s8', 'SELECT count(*) FROM stripe_sync.event WHERE extra IS NOT NULL'), '0', '8: it is empty');
root('s8', q{ALTER TABLE stripe_sync.event ADD COLUMN n int DEFAULT 7});
inbox_works('8, brother: a column with a default');
is(one('s8', q{SELECT string_agg(DISTINCT coalesce(n, 7)::text, ' ') FROM stripe_sync.event}), '7', '8, brother: no other value is in it');
root('s8', q{ALTER TABLE stripe_sync.event DROP COLUMN extra, DROP COLUMN n});
inbox_works('8, brother: columns dropped again');
root('s8', q{CREATE INDEX mine ON stripe_sync.event (type); ALTER TABLE stripe_sync.event SET (fillfactor = 50)});
inbox_works('8, brother: an index of one\'s own');
$told = meanwhile('8, brother: a column added while an event waits', 's8', 'stripe_sync.event', 'ALTER TABLE stripe_sync.event ADD COLUMN waited text', receive_sql(customer('cus_waited')), warm => customer('cus_warm'));
like($told, qr/^applied/m, '8, brother: it is applied');
not_crashed('8, brother: a column added while an event waits');
revive();

# What the inbox cannot be is said so, and nothing is stored.
sub inbox_refuses
{
	my ($what, $make, $undo) = @_;
	my $before = one('s8', 'SELECT count(*) FROM stripe_sync.event');
	my $event = customer('cus_r' . ++$again);
	my $payload = json_text($event);
	my ($status, $out, $err) = $node->psql('s8', "SET client_min_messages = warning; $make");

	is($status, 0, "$what is made") || diag($err);
	for my $told (receives(receive_sql($event)), says('s8', $super, receive_sql($event)))
	{
		like($told, qr/ERROR:  55000: /, "$what: receive() is refused with 55000");
		like($told, qr/^HINT:  /m, "$what: and a hint");
	}
	is(says('s8', $super, 'SELECT http_status FROM stripe_sync.webhook(' . literals($payload, json_text({ 'Stripe-Signature' => signature($payload) })) . ')') =~ s/\s//gr, '500', "$what: webhook() answers 500");
	is(one('s8', 'SELECT count(*) FROM stripe_sync.event'), $before, "$what: nothing is stored");
	not_crashed($what);
	root('s8', $undo);
	revive();
	like(receives(receive_sql($event)), qr/^(applied|duplicate)/m, "$what, no more: the event is applied");
	return;
}
root('s8', 'CREATE FUNCTION public.pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$');
inbox_refuses('8, brother: a trigger on the inbox', 'CREATE TRIGGER mine BEFORE INSERT ON stripe_sync.event FOR EACH ROW EXECUTE FUNCTION public.pass()', 'DROP TRIGGER mine ON stripe_sync.event');
inbox_refuses('8, brother: a partitioned inbox', q{ALTER EXTENSION stripe_sync DROP TABLE stripe_sync.event; ALTER TABLE stripe_sync.event RENAME TO whole; ALTER INDEX stripe_sync.event_pkey RENAME TO whole_pkey; CREATE TABLE stripe_sync.event (LIKE stripe_sync.whole INCLUDING DEFAULTS, CONSTRAINT event_pkey PRIMARY KEY (id, account)) PARTITION BY HASH (id);
	CREATE TABLE stripe_sync.event_0 PARTITION OF stripe_sync.event FOR VALUES WITH (MODULUS 1, REMAINDER 0); INSERT INTO stripe_sync.event SELECT * FROM stripe_sync.whole; ALTER EXTENSION stripe_sync ADD TABLE stripe_sync.event},
	q{ALTER EXTENSION stripe_sync DROP TABLE stripe_sync.event; DROP TABLE stripe_sync.event; ALTER TABLE stripe_sync.whole RENAME TO event; ALTER INDEX stripe_sync.whole_pkey RENAME TO event_pkey; ALTER EXTENSION stripe_sync ADD TABLE stripe_sync.event});
# others work, or are refused: the heap by another name, an inherited one
for my $case ([ 'another access method', 'CREATE ACCESS METHOD other_heap TYPE TABLE HANDLER heap_tableam_handler; ALTER TABLE stripe_sync.event SET ACCESS METHOD other_heap', 'ALTER TABLE stripe_sync.event SET ACCESS METHOD heap; DROP ACCESS METHOD other_heap' ],
	[ 'an inherited inbox', 'CREATE TABLE public.child () INHERITS (stripe_sync.event)', 'DROP TABLE public.child' ])
{
	my ($label, $make, $undo) = @$case;

	root('s8', $make);
	$told = says('s8', $super, receive_sql(customer('cus_o' . ++$again)));
	like($told, qr/^applied|ERROR:  55000: .*HINT:  /ms, "8, brother: $label works, or is refused with a hint");
	not_crashed("8, brother: $label");
	root('s8', $undo);
}
$living->quit;

# A row that is damaged does not make the worker spin.
root('s8', q{INSERT INTO stripe_sync.event (id, account, type, endpoint, received_at, source, status, mirrored, todo, tries, attempts, next_attempt_at, payload)
	VALUES ('evt_damaged', '', 'customer.created', 'default', now(), 'webhook', 'failed', 'applied', '{later}', '{"later":0}', 1, now(), '{"id":"evt_other","object":"event","type":"customer.created","created":1,"data":{"object":{"id":"cus_1","object":"customer"}}}')});
my $scans = 'SELECT coalesce(sum(idx_scan + seq_scan), 0) FROM pg_stat_user_tables WHERE relid = \'stripe_sync.event\'::regclass';
my $before = one('s8', $scans);
says('s8', $super, q{CALL stripe_sync.work('3 seconds'); SELECT pg_stat_force_next_flush()});
is(one('s8', q{SELECT coalesce(next_attempt_at > now(), true) FROM stripe_sync.event WHERE id = 'evt_damaged'}), 't', '5: a row whose payload has another id is put off');
cmp_ok(one('s8', $scans) - $before, '<', 200, '5: and does not make the worker spin');
not_crashed('5: a damaged row');

# ---- additions: collations, rows that move ----

SKIP:
{
	ground('sc', 'product');
	my ($status) = $node->psql('sc', q{CREATE COLLATION public.blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)});
	skip 'no ICU', 4 if $status;
	root('sc', 'ALTER TABLE stripe.products ALTER COLUMN id TYPE text COLLATE public.blind');
	my $told = says('sc', $super, receive_sql(thing('product', 'prod_Aa', name => 'upper')) . receive_sql(thing('product', 'prod_aA', name => 'lower')));
	unlike($told, qr/server closed|XX000/, 'addition: a nondeterministic collation on the key');
	# two rows, or an error for what cannot be kept apart
	my $rows = one('sc', q{SELECT string_agg(id || ' ' || name, ', ' ORDER BY id COLLATE "C") FROM stripe.products});
	ok($rows eq 'prod_Aa upper, prod_aA lower' || $told =~ /failed|ERROR:  55000/, 'addition: two objects never end in one row without a word') || diag($told, $rows);
	not_crashed('addition: a collation');
}

# A child that a user's update moves (not HOT) while its parent's event sweeps it
root('s4s', 'CREATE INDEX ON stripe.refunds (amount); TRUNCATE stripe.refunds');
my $script = PostgreSQL::Test::Utils::tempdir() . '/move.sql';
append_to_file($script, "UPDATE stripe.refunds SET amount = amount + 1 WHERE id = 're_m';\n");
my ($in, $out) = ('', '');
my $mover = IPC::Run::start([ 'pgbench', '-n', '-T', '600', '-c', '2', '-f', $script, $node->connstr('s4s') ], '<', \$in, '>&', \$out, IPC::Run::timeout(900));
my $child = { id => 're_m', object => 'refund', charge => 'ch_m', amount => 1 };
my $sweeps = join '', map {
	receive_sql(thing('charge', 'ch_m', verb => 'refunded', refunds => { %$page, data => [ $_ % 2 ? $child : { %$child, id => 're_other' } ] }))
	  . "SELECT 'row', " . ($_ % 2 ? '_deleted_at IS NULL' : '_deleted_at IS NOT NULL') . " FROM stripe.refunds WHERE id = 're_m';\n" } 1 .. 300;
$told = says('s4s', $super, $sweeps);
ok($node->poll_query_until('s4s', q{SELECT n_tup_upd > 1000 FROM pg_stat_user_tables WHERE relid = 'stripe.refunds'::regclass}), 'addition (read): a row moves') || diag($out);
$mover->kill_kill;
is(scalar(() = $told =~ /^row\|t/mg), 300, 'addition (read): a row that moves meanwhile is not missed');
unlike(slurp_file($node->logfile), qr/concurrent update, retrying/, 'addition (read): and the log has no word of it');
not_crashed('addition: rows that move');
$node->stop;

# ---- 4: a reading in the worker waits ----

SKIP:
{
	my $missing = StripeStub->missing;
	skip $missing, 1 if $missing;
	my $stripe = StripeStub->start;
	my $reader = make_reader('shape_reader', $stripe, conf => "restart_after_crash = on\n");
	my ($id) = $stripe->add_objects([ { object => 'customer', id => 'cus_1', name => 'Ada' } ]);

	over(shop(q{SELECT stripe_sync.refetch('customer', 'cus_1')}), '4, brother: a reading', state => 'done');
	for my $ddl ('ADD COLUMN mine text', 'ADD COLUMN n int NOT NULL DEFAULT 7')
	{
		my $holder = $reader->background_psql('shop');

		$stripe->change($id, { name => $ddl }, quiet => TRUE);
		$holder->query_safe("BEGIN; ALTER TABLE stripe.customers $ddl");
		my $job = shop(q{SELECT stripe_sync.refetch('customer', 'cus_1')});
		ok($reader->poll_query_until('shop', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'stripe_sync worker' AND wait_event_type = 'Lock' AND wait_event = 'relation'}), "4, brother: a reading waits for $ddl");
		eval { $holder->query('COMMIT') };
		eval { $holder->quit };
		over($job, "4, brother: a reading after $ddl", state => 'done');
		is(shop('SELECT name FROM stripe.customers'), $ddl, '4, brother: it is in the mirror');
	}
	is(shop(q{SELECT coalesce(mine, 'none') || n FROM stripe.customers}), 'none7', '4, brother: with the columns right');
	unlike(slurp_file($reader->logfile), qr/PANIC|TRAP|terminated by signal/, '4, brother: no crash of the worker');
	$reader->stop;
}

done_testing();
