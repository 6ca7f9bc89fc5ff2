# role_matrix.pl
#		Every way to have code of one's own run inside the extension, by everybody
#		who might: it never runs with rights that its author doesn't have.
#
# Who plants has a schema s and in it s.mark(way), which notes in public.marker who
# runs it and whether that role could make a superuser; what is rolled back is seen
# by a sequence, which counts whatever runs as another than its author.  Then others
# receive, retry, replay, verify, extend, explain, prune and commit.
#
# A cell that the server itself refuses to set up passes, and says so.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Attack;
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = ground_node('role_matrix', conf => "log_min_messages = fatal\n");
my $super = Attack::super();

# ---- the ways in ----

# on: on tables of the planter's, %s being the name: mirror tables, some of which have
# no trigger, or one that its handler writes; once: anywhere; session: in the planter's
# session before its own calls; handler: in the planter's handler.  What fails in part
# is not set up.
my ($triggered, $plain, $secured, $ruled) = map { "stripe.$_" } qw(customers coupons products plans);
my @ways = (
	[ 'trigger', on => [ map { [ $_, q{create trigger m_after after insert or update or delete on %s for each row execute function s.trg('trigger'); create trigger m_before before insert or update on %s for each row execute function s.trg('trigger');
		create trigger m_statement after insert or update on %s for each statement execute function s.trg('trigger')} ] } $triggered, 'stripe.refunds' ] ],
	[ 'check', on => [ map { [ $_, q{alter table %s add constraint m_check check (s.mark('check')), add constraint m_retry check (s.once(id))} ] } $triggered, $plain ] ],
	[ 'default', on => [ map { [ $_, q{alter table %s add column m_default boolean default s.mark('default')} ] } $triggered, $plain ] ],
	[ 'generated column', on => [ map { [ $_, q{alter table %s add column m_generated boolean generated always as (s.marked('generated column', id)) stored} ] } $triggered, $plain ] ],
	[ 'rule', on => [ [ $ruled, q{create rule m_insert as on insert to %s do also insert into s.sink select s.mark('rule'); create rule m_update as on update to %s do also insert into s.sink select s.mark('rule')} ] ] ],
	[ 'policy', on => [ [ $secured, q{create policy m on %s using (s.mark('policy')) with check (s.mark('policy')); alter table %s enable row level security, force row level security} ] ] ],
	[ 'index function', on => [ map { [ $_, q{create index on %s (s.marked('index function', id)); create index on %s (id) where s.marked('index function', id)} ] } $triggered, $plain ] ],
	[ 'domain', on => [ [ $plain, q{create domain s.checked as text check (s.mark('domain')); alter table %s add column m_domain s.checked} ] ],
		once => q{create domain public.text as pg_catalog.text check (s.mark('domain')); create domain public.jsonb as pg_catalog.jsonb check (s.mark('domain'))} ],
	[ 'cast', on => [ [ $plain, q{create type s.mood as enum ('sad'); create function s.to_json(s.mood) returns json language plpgsql as $f$ begin perform s.mark('cast'); return '"x"'; end $f$;
		create function s.to_jsonb(s.mood) returns jsonb language plpgsql as $f$ begin perform s.mark('cast'); return '"x"'; end $f$; create function s.to_text(s.mood) returns text language plpgsql as $f$ begin perform s.mark('cast'); return 'x'; end $f$;
		create cast (s.mood as json) with function s.to_json(s.mood) as implicit; create cast (s.mood as jsonb) with function s.to_jsonb(s.mood) as implicit; create cast (s.mood as text) with function s.to_text(s.mood) as implicit; alter table %s add column m_cast s.mood default 'sad'} ] ] ],
	[ 'operator', once => join(';', map { my ($name, $left, $right) = @$_; "create operator s.$name (leftarg = $left, rightarg = $right, function = s.op_$left)" }
			[qw(= text text)], [qw(<> text text)], [qw(|| text text)], [qw(-> jsonb text)], [qw(= int8 int8)], [qw(= oid oid)], [qw(< timestamptz timestamptz)]) ],
	[ 'temp object', session => q{create temp table orders (id text, note text); grant all on orders to public; create trigger m before insert on orders for each row execute function s.trg('temp object');
			create domain pg_temp.text as pg_catalog.text check (s.mark('temp object')); create function pg_temp.now() returns timestamptz language plpgsql as $f$ begin perform s.mark('temp object'); return pg_catalog.now(); end $f$;},
		handler => q{execute 'create function pg_temp.own() returns int language sql as $f$ select 1 $f$'; execute format('create table %I.orders (id text, note text)', (select nspname from pg_namespace where oid = pg_my_temp_schema()));
			execute 'grant all on pg_temp.orders to public'; execute $q$create trigger m before insert on pg_temp.orders for each row execute function s.trg('temp object')$q$;
			execute $q$create domain pg_temp.amount as numeric check (s.mark('temp object'))$q$;} ],
	[ 'cursor', session => q{begin; declare cc cursor with hold for select s.mark('cursor'); declare orders cursor for select s.mark('cursor') from generate_series(1, 9); commit;}, handler => q{declare c refcursor := 'cc'; begin open c for execute $q$select s.mark('cursor') from generate_series(1, 9)$q$; end;} ],
	[ 'deferred constraint', on => [ [ $triggered, q{create constraint trigger m_late after insert or update on %s deferrable initially deferred for each row execute function s.trg('deferred constraint')} ], [ $plain, q{alter table %s add constraint m_defers check (s.defer())} ],
			[ $secured, q{create policy m_defers on %s as restrictive using (s.defer()) with check (s.defer())} ], [ $ruled, q{create rule m_defers as on insert to %s do also insert into s.q values (1)} ] ],
		session => q{begin; select s.defer();}, handler => q{perform s.defer();} ],
	[ 'event trigger', once => q{create event trigger m on ddl_command_end execute function s.event_trg()} ],
	[ 'rename', on => [ [ 'stripe.invoices', q{alter table %s rename to moved; create table %s (like stripe.moved including all); grant all on %s to public; create trigger m after insert or update on %s for each row execute function s.trg('rename')} ] ],
		once => q{drop function s.of_others(jsonb); create function s.of_others(e jsonb) returns void language plpgsql as $f$ begin perform s.mark('rename'); end $f$} ],
	[ 'schema made afterwards', once => qq{create schema "$super"; grant usage on schema "$super" to public; create table "$super".orders (id text, note text); grant all on "$super".orders to public; create trigger m before insert on "$super".orders for each row execute function s.trg('schema made afterwards')} ],
);

# ---- who plants ----

# table: its own, which its handler writes, in place of the mirror's; more: what a superuser does for it, %s being
# the role and %d the database; makes: it makes the mirror itself; handler: it has one
my @mirror = map { "stripe.$_" } qw(customers products coupons plans refunds invoices);
my @who = (
	[ 'nobody' ],
	[ 'ingest', more => q{SELECT stripe_sync.grant_ingest('%s')} ],
	[ 'read', more => q{SELECT stripe_sync.grant_read('%s')} ],
	[ 'admin', more => q{SELECT stripe_sync.grant_admin('%s'); DROP SCHEMA stripe CASCADE}, makes => 1 ],
	[ 'table owner', more => join(';', map { "ALTER TABLE $_ OWNER TO %s" } @mirror) . '; GRANT USAGE ON SCHEMA stripe TO %s' ],
	[ 'schema owner', more => q{ALTER SCHEMA stripe OWNER TO %s} ],
	[ 'registrar', more => q{SELECT stripe_sync.grant_admin('%s')}, table => 's.own', handler => 1 ],
	[ 'database owner', more => join(';', map { "ALTER TABLE $_ OWNER TO %s" } @mirror) . '; ALTER SCHEMA stripe OWNER TO %s; ALTER DATABASE %d OWNER TO %s' ],
);

# ---- the ground: made once, copied for each ----

ground('matrix', qw(customer product coupon plan charge refund invoice));
root('matrix', qq{SELECT stripe_sync.add_slack_app('default', '@{[SLACK_SECRET]}')});
root('matrix', q{
	CREATE TABLE public.marker (way text, who text, session text, up boolean); GRANT ALL ON public.marker TO PUBLIC;
	CREATE TABLE public.orders (id text, note text);
	CREATE FUNCTION public.orders(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO orders VALUES (e->>'id', 'x'); END $$;
	CREATE FUNCTION public.flaky(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF nextval('public.turns') % 2 = 1 THEN RAISE 'not yet'; END IF; INSERT INTO orders VALUES (e->>'id', 'x'); END $$;
	CREATE SEQUENCE public.turns;
	SELECT stripe_sync.add_handler('b_orders', '*', 'public.orders'), stripe_sync.add_handler('b_flaky', '*.updated', 'public.flaky'), stripe_sync.add_handler('b_later', '*', 'public.orders', deferred => true);
});
root('matrix', 'CREATE SEQUENCE public.' . sequence($_->[0]) . '; GRANT ALL ON public.' . sequence($_->[0]) . ' TO PUBLIC') for @ways;
role(qw(matrix_ingest matrix_read matrix_ladder));

sub sequence { return 'foreign_' . ($_[0] =~ s/\W/_/gr); }

# What a planter has: its schema, and code that says who runs it.
sub tools
{
	my ($role) = @_;

	return qq{
		create function s.mark(way text) returns boolean language plpgsql as \$f\$
		declare up boolean := false;
		begin
			begin execute 'alter role matrix_ladder superuser'; execute 'alter role matrix_ladder nosuperuser'; up := true; exception when others then null; end;
			if current_user operator(pg_catalog.<>) '$role' or up then perform nextval(pg_catalog.format('public.foreign_%s', pg_catalog.replace(way, ' ', '_'))); end if;
			insert into public.marker values (way, current_user, session_user, up);
			return true;
		end \$f\$;
		create function s.marked(way text, id text) returns boolean language plpgsql immutable as \$f\$ begin return s.mark(way); end \$f\$;
		create function s.trg() returns trigger language plpgsql as \$f\$ begin perform s.mark(TG_ARGV[0]); if TG_OP operator(pg_catalog.=) 'DELETE' then return old; end if; return new; end \$f\$;
		create function s.event_trg() returns event_trigger language plpgsql as \$f\$ begin perform s.mark('event trigger'); end \$f\$;
		create table s.q (i int); create table s.sink (b boolean); create table s.own (id text, _account text);
		create constraint trigger m after insert on s.q deferrable initially deferred for each row execute function s.trg('deferred constraint');
		create sequence s.turns;
		create function s.once(id text) returns boolean language plpgsql as \$f\$ begin if id operator(pg_catalog.=) 'coupon_retry' and nextval('s.turns') operator(pg_catalog.<) 2 then raise 'the first time it fails'; end if; return true; end \$f\$;
		create function s.defer() returns boolean language plpgsql as \$f\$ begin insert into s.q values (1); return true; end \$f\$;
		create function s.op_text(a text, b text) returns boolean language plpgsql as \$f\$ begin return s.mark('operator'); end \$f\$;
		create function s.op_jsonb(a jsonb, b text) returns boolean language plpgsql as \$f\$ begin return s.mark('operator'); end \$f\$;
		create function s.op_int8(a int8, b int8) returns boolean language plpgsql as \$f\$ begin return s.mark('operator'); end \$f\$;
		create function s.op_oid(a oid, b oid) returns boolean language plpgsql as \$f\$ begin return s.mark('operator'); end \$f\$;
		create function s.op_timestamptz(a timestamptz, b timestamptz) returns boolean language plpgsql as \$f\$ begin return s.mark('operator'); end \$f\$;
	};
}

# ---- planting ----

my %set;    # "way by who" => what the server said, '' when it is set up

# Plant each statement in a transaction of its own; %set says which are there.
sub plant
{
	my ($database, $role, $who, @statements) = @_;
	my $script = join '', map { my ($way, $sql) = @$_; "\\warn WAY $way\nbegin;\n$sql;\ncommit;\n" } @statements;
	my ($out, $err) = as($database, $role, $script);

	for my $part (split /^WAY /m, $err)
	{
		my ($way, $said) = $part =~ /^([^\n]+)\n?(.*)$/s or next;
		my ($error) = $said =~ /ERROR:  (.*)/;

		# one way of several is enough
		$set{"$way by $who"} = $error // '' unless defined $set{"$way by $who"} && $set{"$way by $who"} eq '';
	}
	return;
}

sub ground_for
{
	my ($who, $database, $role, %of) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE matrix");
	role($role);
	root($database, "GRANT CREATE ON DATABASE $database TO $role; SELECT stripe_sync.activate(), stripe_sync.grant_ingest('matrix_ingest'), stripe_sync.grant_read('matrix_read')");
	root($database, $of{more} =~ s/%s/$role/gr =~ s/%d/$database/gr) if $of{more};
	as($database, $role, q{create schema s; grant usage on schema s to public;} . tools($role) . q{grant all on all tables in schema s to public; grant create on schema s to public;} . ($of{makes} ? q{select count(*) from stripe_sync.create_tables('{customer,product,coupon,plan,charge,refund,invoice}')} : ''));
	# a handler of others in the planter's schema
	root($database, q{CREATE FUNCTION s.of_others(e jsonb) RETURNS void LANGUAGE sql AS ''; SELECT stripe_sync.add_handler('c_others', '*', 's.of_others'); SELECT stripe_sync.grant_read('matrix_read')});
	return;
}

sub plant_all
{
	my ($who, $database, $role, %of) = @_;
	my (@statements, $does);

	for my $way (@ways)
	{
		my ($name, %how) = @$way;

		for my $on (@{ $how{on} // [] })
		{
			my $table = $of{table} // $on->[0];

			push @statements, [ $name, $on->[1] =~ s/%s/$table/gr ];
		}
		push @statements, [ $name, $how{once} ] if $how{once};
		next unless $how{handler} && $of{handler};
		$does .= "begin $how{handler} exception when others then null; end;\n";
		$set{"$name by $who"} = '';
	}
	plant($database, $role, $who, @statements);
	as($database, $role, "create function s.handler(e jsonb) returns void language plpgsql as \$h\$ begin insert into s.own values (e ->> 'id'); $does end \$h\$;
		create function s.answer(i jsonb) returns jsonb language plpgsql as \$h\$ begin insert into s.own values (i ->> 'id'); $does return null; end \$h\$;
		select stripe_sync.add_handler('a_first', '*', 's.handler'), stripe_sync.add_handler('a_later', '*', 's.handler', deferred => true),
			stripe_sync.add_slack_action('own', 's.answer'), stripe_sync.add_slack_command('/own', 's.answer')") if $of{handler};
	return;
}

# ---- what others do then ----

sub events_of
{
	my ($n) = @_;
	my $page = { object => 'list', url => '/v1/refunds', has_more => FALSE, data => [ { id => "re_$n", object => 'refund', charge => "ch_$n", amount => 1 } ] };

	return join '', map { receive_sql($_) } (map { my $type = $_; map { thing($type, "${type}_$n", name => $_, verb => $_) } qw(created updated deleted) } qw(customer product coupon plan)),
	  thing('charge', "ch_$n", verb => 'refunded', refunds => $page), thing('charge', "ch_$n", verb => 'refunded', refunds => { %$page, data => [] }), thing('refund', "re_$n", verb => 'updated', charge => "ch_$n"), thing('invoice', "in_$n");
}

sub victims
{
	my ($database) = @_;
	my $one = thing('customer', 'customer_one');
	my $path = 'set search_path = s, public, pg_catalog;';

	as($database, $_, slack_command('/own') . slack_press('own') . $path . slack_command('/own') . 'begin;' . slack_press('own') . 'fetch all from cc; commit; fetch all from cc;') for 'matrix_ingest', $super;
	as($database, 'matrix_ingest', events_of('i') . $path . events_of('p') . 'begin;' . receive_sql($one) . 'commit; begin;' . receive_sql(thing('coupon', 'coupon_retry')) . receive_sql(thing('customer', 'customer_two')) . 'fetch all from cc; commit; fetch all from cc;');
	as($database, 'matrix_read', "$path select * from stripe_sync.verify_mirror(); select stripe_sync.explain_event('$one->{id}');");
	as($database, $super, events_of('s') . $path . events_of('t') . 'begin;' . receive_sql(thing('customer', 'customer_three')) . 'fetch all from cc; commit; fetch all from cc;'
		. "select stripe_sync.replay('$one->{id}', true); select stripe_sync.explain_event('$one->{id}'); select * from stripe_sync.verify_mirror(); select stripe_sync.prune('35 days');
		alter table stripe.coupons drop column currency; alter table stripe.customers drop column phone; select * from stripe_sync.create_tables(); select * from stripe_sync.verify_mirror();");
	as($database, $super, 'update stripe_sync.event set next_attempt_at = now() where next_attempt_at is not null; call stripe_sync.work(); update stripe_sync.event set next_attempt_at = now() where next_attempt_at is not null; call stripe_sync.work();');
	return;
}

# The planter's own calls, with what its session holds.
sub own_calls
{
	my ($who, $database, $role) = @_;
	my $calls = receive_sql(thing('customer', 'own_1')) . "select * from stripe_sync.verify_mirror(); select * from stripe_sync.create_tables(); select stripe_sync.simulate('customer.created', '{\"id\": \"own_2\", \"object\": \"customer\"}');"
	  . "select stripe_sync.replay('-infinity'::timestamptz, statuses => null); call stripe_sync.work();";
	my ($out, $err);

	for my $way (@ways)
	{
		my ($name, %how) = @$way;

		next unless $how{session};
		($out, $err) = as($database, $role, "$how{session} set search_path = s, public, pg_catalog; $calls commit;");
		$set{"$name by $who"} = '' if $out =~ /\S/;
	}
	return;
}

# ---- the matrix ----

for my $entry (@who)
{
	my ($who, %of) = @$entry;
	my $database = 'matrix_' . ($who =~ s/ /_/gr);
	my $role = "w_" . ($who =~ s/ /_/gr);

	ground_for($who, $database, $role, %of);
	plant_all($who, $database, $role, %of);
	victims($database);
	own_calls($who, $database, $role);
	not_crashed($who);
	my %result = map { my ($name, @of) = split /\|/; $name => \@of } split /\n/, one($database, join ' UNION ALL ', map { my $name = $_->[0];
		"SELECT '$name', (SELECT string_agg(DISTINCT who || CASE WHEN up THEN ', who may make superusers' ELSE '' END, '; ') FROM public.marker WHERE way = '$name' AND (who <> '$role' OR up)),
			(SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM public.@{[ sequence($name) ]}), (SELECT count(*) FROM public.marker WHERE way = '$name')" } @ways);
	for my $name (map { $_->[0] } @ways)
	{
		my $refused = $set{"$name by $who"} // 'there is nothing that this role could do';
		my ($as, $tried, $ran) = @{ $result{$name} };

		ok($as eq '' && $tried eq '0', "$name by $who: " . ($refused eq '' ? 'never runs with rights of others' : 'the server refuses it'))
		  || diag("it ran as: $as; in all $tried times with rights that $role lacks");
		note($refused eq '' ? "$name by $who ran $ran times" : "$name by $who: $refused");
	}
	not_super($who, $role, 'matrix_ladder');
}

# ---- schemas made beforehand ----

$node->safe_psql('postgres', 'CREATE DATABASE before; CREATE DATABASE before_mirror');
root('before_mirror', 'CREATE EXTENSION stripe_sync');
for my $entry (@who)
{
	my ($who, %of) = @$entry;
	my $role = "w_" . ($who =~ s/ /_/gr);

	root($_, "GRANT CREATE ON DATABASE $_ TO $role") for qw(before before_mirror);
	root($_, "ALTER DATABASE $_ OWNER TO $role") for $who eq 'database owner' ? qw(before before_mirror) : ();
	as('before', $role, 'create schema stripe_sync');
	my $told = says('before', $super, 'CREATE EXTENSION stripe_sync');
	like($told, qr/ERROR:  55000.*HINT:  /s, "schema stripe_sync made beforehand by $who: CREATE EXTENSION refuses it");
	root('before', 'DROP EXTENSION IF EXISTS stripe_sync; DROP SCHEMA IF EXISTS stripe_sync CASCADE');
	root('before_mirror', "SELECT stripe_sync.grant_admin('$role')") if $who eq 'admin';
	as('before_mirror', $role, 'create schema stripe');
	$told = says('before_mirror', $super, "SELECT stripe_sync.add_endpoint('default', '@{[SECRET]}', tolerance => NULL); SELECT * FROM stripe_sync.create_tables('{customer}')");
	# who sets up may have made it
	if ($who eq 'admin') { unlike($told, qr/ERROR/, "schema stripe made beforehand by $who: is taken"); }
	elsif ($who eq 'database owner') { unlike($told, qr/server closed|XX000/, "schema stripe made beforehand by $who: the tables are its own"); }
	else { like($told, qr/ERROR: .*HINT:  /s, "schema stripe made beforehand by $who: is refused"); }
	root('before_mirror', 'DROP SCHEMA stripe CASCADE');
}
no_harm('beforehand');

$node->stop;
done_testing();
