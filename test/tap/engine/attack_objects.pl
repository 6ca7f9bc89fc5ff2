# attack_objects.pl
#		Schemas made beforehand, functions and roles that change hands, locks that
#		anybody may take, publications, the log.
#
# The numbers in the names of tests are those of the list of attacks; a "brother"
# is a variation by another way in.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Attack;
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = ground_node('attack_objects', allows_streaming => 'logical', conf => "max_locks_per_transaction = 256\nwal_level = logical\n");
my $super = Attack::super();
my $endpoint = "SELECT stripe_sync.add_endpoint('default', '@{[SECRET]}', tolerance => NULL);";

sub database
{
	my ($name, @creators) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $name");
	root($name, "GRANT CREATE ON DATABASE $name TO $_") for @creators;
	return;
}

# ---- 5: a schema stripe_sync that is there ----

role(qw(squat));
database('b5', 'squat');
as('b5', 'squat', 'create schema stripe_sync');
my $told = says('b5', $super, 'CREATE EXTENSION stripe_sync');
like($told, qr/ERROR:  55000: .*stripe_sync/, '5: CREATE EXTENSION refuses a schema of somebody else\'s');
like($told, qr/squat/, '5: it names the owner');
like($told, qr/^HINT:  /m, '5: and says what to do');
is(one('b5', q{SELECT count(*) FROM pg_extension WHERE extname = 'stripe_sync'}), '0', '5: there is no extension');

# brothers: empty ones whose owner has the installer's rights are taken, others that hold something are not
database('b5b', 'squat');
like(says('b5b', $super, "CREATE SCHEMA stripe_sync; CREATE EXTENSION stripe_sync; SELECT 'made'"), qr/^made/m, '5, brother: an empty schema of the installer\'s own is taken');
unlike(says('b5b', $super, "SELECT count(*) FROM stripe_sync.create_tables('{customer}'); $endpoint"), qr/ERROR/, '5, brother: and works');
database('b5c', 'squat');
root('b5c', 'CREATE SCHEMA stripe_sync; GRANT ALL ON SCHEMA stripe_sync TO squat');
as('b5c', 'squat', q{create function stripe_sync.event_type_fits(text, text) returns boolean language sql as 'select true'});
like(says('b5c', $super, 'CREATE EXTENSION stripe_sync'), qr/ERROR:  55000: .*HINT:  /s, '5, brother: a schema that holds something of others is refused, whoever owns it');
database('b5d', 'squat');
as('b5d', 'squat', 'create schema stripe_sync; alter default privileges in schema stripe_sync grant all on tables to squat; alter default privileges in schema stripe_sync grant execute on functions to squat');
like(says('b5d', $super, 'CREATE EXTENSION stripe_sync'), qr/ERROR:  55000: /, '5, brother: nor is one with default privileges');

# the same afterwards: the schema is given away, renamed and made anew with tables like ours
ground('b5e', 'customer');
root('b5e', q{GRANT CREATE ON DATABASE b5e TO squat; ALTER SCHEMA stripe_sync OWNER TO squat});
as('b5e', 'squat', q{alter schema stripe_sync rename to sx; create schema stripe_sync; grant usage on schema stripe_sync to public; create schema sq;
	create function sq.evil(e jsonb) returns void language plpgsql as $$ begin insert into public.seen values ('5', current_user); execute 'alter role squat superuser'; end $$;});
root('b5e', q{DO $$ DECLARE r record; BEGIN FOR r IN SELECT relname FROM pg_class WHERE relnamespace = 'sx'::regnamespace AND relkind = 'r' LOOP
	EXECUTE format('CREATE TABLE stripe_sync.%1$I (LIKE sx.%1$I INCLUDING ALL); INSERT INTO stripe_sync.%1$I OVERRIDING SYSTEM VALUE SELECT * FROM sx.%1$I; ALTER TABLE stripe_sync.%1$I OWNER TO squat', r.relname); END LOOP; END $$});
my $planted = says('b5e', 'squat', qq{insert into stripe_sync.handler (name, event_type, function, function_owner, role, search_path, path_owners, deferred) values ('evil', '*', 'sq.evil', 'squat', '$super', 'pg_catalog', '{}', true);
	insert into stripe_sync.event (id, account, type, endpoint, received_at, source, status, mirrored, todo, tries, attempts, next_attempt_at, payload)
	values ('evt_s1', '', 'customer.created', 'default', now(), 'webhook', 'failed', 'applied', '{evil}', '{"evil":0}', 1, now(), '{"id":"evt_s1","object":"event","type":"customer.created","created":1,"data":{"object":{"id":"cus_1","object":"customer"}}}');});
note $planted;
says('b5e', $super, 'CALL sx.work()');
says('b5e', $super, 'CALL sx.work()');
says('b5e', $super, receive_sql(customer('cus_5')) =~ s/stripe_sync\./sx./r);
is(one('b5e', q{SELECT string_agg(who, ' ') FROM public.seen}), '', '5, brother: tables that are not the extension\'s are not looked at');
no_harm('5', 'squat');

# ---- 10: a schema stripe that is there ----

role('sq2');
database('b10', 'sq2');
as('b10', 'sq2', 'create schema stripe');
root('b10', 'CREATE EXTENSION stripe_sync');
$told = says('b10', $super, $endpoint);
like($told, qr/ERROR:  (55000|42501|42P06|42710): .*stripe.*HINT:  /s, '10: add_endpoint() refuses a schema of somebody else\'s, with a hint');
like(says('b10', $super, q{SELECT * FROM stripe_sync.create_tables('{customer}')}), qr/ERROR:  /, '10: so does create_tables()');
$told = says('b10', $super, 'ALTER SCHEMA stripe RENAME TO other; ' . $endpoint . q{SELECT 'done'});
like($told, qr/^done/m, '10: once it is renamed all is made');
says('b10', $super, receive_sql(customer('cus_10', email => 'ceo@victim.example')));
like(says('b10', 'sq2', 'select * from stripe.customers'), qr/42501/, '10: and sq2 reads nothing');

# brother: the schema is made anew by somebody else, in the place of ours
root('b10', 'CREATE TABLE public.shape (LIKE stripe.customers INCLUDING ALL); GRANT SELECT ON public.shape TO sq2; SET client_min_messages = warning; DROP SCHEMA stripe CASCADE');
as('b10', 'sq2', 'alter schema other rename to stripe; create table stripe.customers (like public.shape including all)');
$told = says('b10', $super, receive_sql(customer('cus_11', email => 'ceo@victim.example')));
unlike($told, qr/server closed/, '10, brother: an event whose table is another\'s is told');
like(root('b10', q{SELECT error FROM stripe_sync.event WHERE object_id = 'cus_11'}), qr/55000: schema "stripe" belongs to role "sq2"/, '10, brother: with whose the schema is');
is(one('b10', q{SELECT count(*) FROM stripe.customers}), '0', '10, brother: it is not written into a table of a schema made afterwards');
# the names of types
database('b10t');
root('b10t', q{CREATE EXTENSION stripe_sync; CREATE DOMAIN public.jsonb AS int; CREATE DOMAIN public.text AS int; CREATE DOMAIN public.timestamptz AS int});
$told = says('b10t', $super, q{CREATE DOMAIN pg_temp.jsonb AS int; SET search_path = public, pg_catalog; SELECT count(*) FROM stripe_sync.create_tables('{customer}')});
unlike($told, qr/ERROR/, '10, brother: types are made by their own names');
is(one('b10t', q{SELECT count(*) FROM pg_attribute WHERE attrelid = 'stripe.customers'::regclass AND attnum > 0 AND (SELECT typnamespace FROM pg_type WHERE oid = atttypid) <> 'pg_catalog'::regnamespace}), '0', '10, brother: and no domain of others');
no_harm('10', 'sq2');

# brother: a table that only has the name of one, in a schema of an administrator's
ground('b10g', 'customer');
role(qw(adm10 vic10));
root('b10g', q{SELECT stripe_sync.grant_admin('adm10'), stripe_sync.grant_read('adm10'); GRANT CREATE ON DATABASE b10g TO adm10; ALTER SCHEMA stripe RENAME TO stripe_old});
as('b10g', 'adm10', 'create schema stripe; grant create, usage on schema stripe to vic10');
as('b10g', 'vic10', q{create table stripe.customers (id text, secret text); insert into stripe.customers values ('x', 'of vic10'); grant select on stripe.customers to adm10; revoke select on stripe.customers from adm10; create table stripe.products as select 1 as i; grant select on stripe.products to adm10});
$told = says('b10g', 'adm10', q{select action from stripe_sync.create_tables('{coupon}'); select stripe_sync.grant_read('adm10'); select * from stripe.customers});
like($told, qr/^created.*ERROR:  42501/ms, '10, brother: no right is given on a table that only has the name of one');
unlike($told, qr/of vic10/, '10, brother: and nothing of it is read');
is(one('b10g', q{SELECT has_table_privilege('adm10', 'stripe_old.customers', 'SELECT') AND has_table_privilege('adm10', 'stripe.coupons', 'SELECT')}), 't', '10, brother: the mirror\'s own may be read');
root('b10g', q{SELECT stripe_sync.revoke_all('adm10')});
is(one('b10g', q{SELECT has_table_privilege('adm10', 'stripe.products', 'SELECT')}), 't', '10, brother: nor is what its owner has given taken back');

# ---- 7: functions that change hands ----

ground('b7', 'customer');
role(qw(schown ing7 other7));
root('b7', q{CREATE SCHEMA app AUTHORIZATION schown; CREATE FUNCTION app.h(jsonb) RETURNS void LANGUAGE sql AS ''; CREATE FUNCTION app.k(jsonb) RETURNS void LANGUAGE sql AS ''; CREATE FUNCTION app.l(jsonb) RETURNS void LANGUAGE sql AS '';
	SELECT stripe_sync.add_handler('good', 'customer.*', 'app.h'), stripe_sync.grant_ingest('ing7')});

# The event is stored and waits; the handler did not run, and no try is spent.
sub refused
{
	my ($what, $handler, $id) = @_;
	my $said = send_as('b7', 'ing7', customer($id));

	like($said, qr/^(applied|failed)/m, "$what: the event is stored");
	unlike($said, qr/^applied/m, "$what: and waits");
	like(one('b7', "SELECT error FROM stripe_sync.event WHERE object_id = '$id'"), qr/SY005.*(owner|belongs|register|add_handler)/s, "$what: with an error that says why");
	retried('b7');
	is(one('b7', "SELECT coalesce(max((tries ->> '$handler')::int), 0) FROM stripe_sync.event WHERE object_id = '$id'"), '0', "$what: no try is spent");
	is(one('b7', "SELECT todo @> '{$handler}' FROM stripe_sync.event WHERE object_id = '$id'"), 't', "$what: it is still to do");
	is(one('b7', q{SELECT string_agg(DISTINCT who, ' ') FROM public.seen WHERE who <> 'schown'}), '', "$what: nothing ran with others' rights");
	not_super($what, qw(schown other7));
	return;
}

my $evil = q{language plpgsql as $$ begin insert into public.seen values ('7', current_user); execute 'alter role schown superuser'; end $$};
as('b7', 'schown', "drop function app.h(jsonb); create function app.h(e jsonb) returns void $evil");
refused('7', 'good', 'cus_1');
root('b7', q{DROP FUNCTION app.h(jsonb); CREATE FUNCTION app.h(jsonb) RETURNS void LANGUAGE sql AS ''; SELECT stripe_sync.add_handler('good', 'customer.*', 'app.h')});
retried('b7');
is(settled('b7', 'cus_1'), 'applied', '7: registered again, it runs');
root('b7', q{SELECT stripe_sync.drop_handler('good'), stripe_sync.add_handler('owned', 'customer.*', 'app.k'); ALTER FUNCTION app.k(jsonb) OWNER TO schown});
as('b7', 'schown', "create or replace function app.k(jsonb) returns void $evil");
refused('7, brother: ALTER FUNCTION OWNER', 'owned', 'cus_2');
root('b7', q{SELECT stripe_sync.drop_handler('owned'), stripe_sync.add_handler('loaded', 'customer.*', 'app.l')});
as('b7', 'schown', "create function app.l(json) returns void $evil; create function app.l(anyelement) returns void $evil");
like(send_as('b7', 'ing7', customer('cus_3')), qr/^applied/m, '7, brother: a function of the same name and other arguments is not the handler');
root('b7', 'DROP FUNCTION app.l(jsonb)');
send_as('b7', 'ing7', customer('cus_4'));
retried('b7');
is(one('b7', q{SELECT string_agg(who, ' ') FROM public.seen}), '', '7, brother: nor when that one is gone');
no_harm('7', qw(schown other7));

# ---- 9: locks that anybody may take ----

ground('b9', 'customer', 'refund', 'charge');
role(qw(nobody1 ing9));
root('b9', q{SELECT stripe_sync.grant_ingest('ing9'), stripe_sync.add_slack_webhook('ops', 'https://hooks.slack.com/services/T1/B1/x'), stripe_sync.add_alert('paid', 'charge.*', 'ops', 'x')});
my $page = { object => 'list', url => '/v1/refunds', has_more => FALSE, data => [ { id => 're_1', object => 'refund', charge => 'ch_1', amount => 5 } ] };
my $refunded = thing('charge', 'ch_1', verb => 'refunded', refunds => $page);
my $holder = session('b9', 'nobody1');
$holder->query_safe(q{select count(pg_advisory_lock((select oid::int from pg_class where relname = 'event' and relnamespace = 'stripe_sync'::regnamespace), k)) from generate_series(0, 1023) k});
like(says('b9', 'ing9', "set statement_timeout = '20s';" . receive_sql($refunded)), qr/^applied/m, '9: nobody1\'s advisory locks hold up no page of children');
like(says('b9', 'ing9', "set statement_timeout = '20s';" . receive_sql(thing('refund', 're_1', charge => 'ch_1'))), qr/^applied/m, '9: nor a child\'s own event');
$holder->query_safe('select pg_advisory_unlock_all()');
my $inside = session('b9');
root('b9', q{SELECT stripe_sync.set_api_key('rk_test_b9')});
$inside->query('BEGIN; ALTER TABLE stripe.customers DROP COLUMN phone;' . receive_sql(thing('charge', 'ch_2', verb => 'refunded', refunds => $page)) . receive_sql(thing('refund', 're_1', charge => 'ch_2'))
	. q{SELECT count(*) FROM stripe_sync.create_tables(); SELECT stripe_sync.notify('ops', 'text', key => 'k', thread => 't'); SELECT stripe_sync.reconcile()});
is(one('b9', q{SELECT string_agg(DISTINCT objsubid::text, ' ') FROM pg_locks WHERE locktype = 'advisory' AND objsubid IN (1, 2)}), '', '9, brother: none of our locks is one that SQL can take');
# whatever they are: the same numbers, taken in both forms
my $keys = one('b9', q{SELECT string_agg(format('(%s,%s)', classid, objid), ',') FROM (SELECT DISTINCT classid, objid FROM pg_locks WHERE locktype = 'advisory') l});
$inside->query('ROLLBACK');
$inside->quit;
if ($keys ne '')
{
	$holder->query_safe("select count(pg_advisory_lock(((c << 32) | o)::bigint)), count(pg_advisory_lock((case when c > 2147483647 then c - 4294967296 else c end)::int, (case when o > 2147483647 then o - 4294967296 else o end)::int)) from (values $keys) k (c, o)" =~ s/\(values /(select c::bigint, o::bigint from (values /r =~ s/k \(c, o\)$/k (c, o)) k/r);
	like(says('b9', $super, "SET statement_timeout = '20s'; " . q{ALTER TABLE stripe.customers DROP COLUMN IF EXISTS phone; SELECT count(*) FROM stripe_sync.create_tables('{customer}'); SELECT 'made'}), qr/^made/m, '9, brother: create_tables() waits for no bigint key');
	like(says('b9', 'ing9', "set statement_timeout = '20s';" . receive_sql(thing('charge', 'ch_3', verb => 'refunded', refunds => $page))), qr/^applied/m, '9, brother: nor does an alert\'s group');
}
$holder->quit;
no_harm('9', 'nobody1');

# ---- 11: publications and logical decoding ----

ground('b11', 'customer');
role('repl');
root('b11', q{ALTER ROLE repl REPLICATION; CREATE PUBLICATION p FOR ALL TABLES;});
is(one('b11', q{SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_class c WHERE relnamespace = 'stripe_sync'::regnamespace AND relkind IN ('r', 'p')
	AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)}), '', '11: each table has a primary key');
is(one('b11', q{SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_class c WHERE relnamespace = 'stripe_sync'::regnamespace AND relkind IN ('r', 'p') AND relreplident NOT IN ('d', 'i')}), '', '11: which identifies its rows');
my $decoding = says('b11', 'repl', q{SELECT 'slot', pg_create_logical_replication_slot('s', 'test_decoding')});
my %set_up = (
	add_endpoint => q{SELECT stripe_sync.add_endpoint('second', 'whsec_REPLSEEN0')},
	rotate_endpoint_secret => q{SELECT stripe_sync.rotate_endpoint_secret('default', 'whsec_REPLSEEN1')},
	'rotate_endpoint_secret, again' => q{SELECT stripe_sync.rotate_endpoint_secret('default', 'whsec_REPLSEEN2', keep_old => '0')},
	set_api_key => q{SELECT stripe_sync.set_api_key('rk_test_REPLSEEN3')},
	'set_api_key, again' => q{SELECT stripe_sync.set_api_key('rk_test_REPLSEEN4')},
	add_slack_channel => q{SELECT stripe_sync.add_slack_channel('c', '#c', 'xoxb-REPLSEEN5')},
	'add_slack_channel, again' => q{SELECT stripe_sync.add_slack_channel('c', '#c', 'xoxb-REPLSEEN6')},
	add_slack_webhook => q{SELECT stripe_sync.add_slack_webhook('w', 'https://hooks.slack.com/services/T1/B1/REPLSEEN7')},
	receive => receive_sql(customer('cus_1')),
	add_slack_app => q{SELECT stripe_sync.add_slack_app('default', 'signing-REPLSEEN10', 'xoxb-REPLSEEN11')},
	'add_slack_app, again' => q{SELECT stripe_sync.add_slack_app('default', 'signing-REPLSEEN12', 'xoxb-REPLSEEN13')},
	reconcile => 'SELECT stripe_sync.reconcile()',
	note_backup => 'SELECT stripe_sync.note_backup(); SELECT stripe_sync.note_backup()',
	prune => 'SELECT stripe_sync.prune()',
	drop_destination => q{SELECT stripe_sync.drop_destination('c'), stripe_sync.drop_destination('w')},
	drop_endpoint => q{SELECT stripe_sync.drop_endpoint('second')});
for my $what ('add_endpoint', 'rotate_endpoint_secret', 'rotate_endpoint_secret, again', 'receive', 'set_api_key', 'set_api_key, again', 'add_slack_channel', 'add_slack_channel, again', 'add_slack_webhook', 'add_slack_app', 'add_slack_app, again', 'reconcile', 'note_backup', 'prune', 'drop_destination', 'drop_endpoint')
{
	my $said = says('b11', $super, "$set_up{$what}; SELECT 'done'");
	like($said, qr/^done/m, "11: where all tables are published, $what works") unless $what eq 'receive';
	unlike($said, qr/ERROR/, "11: without an error ($what)");
}
for my $table (split /\n/, one('b11', q{SELECT oid::regclass FROM pg_class c WHERE relnamespace = 'stripe_sync'::regnamespace AND relkind = 'r'}))
{
	my ($status, $out, $err) = $node->psql('b11', qq{BEGIN; SET LOCAL session_replication_role = replica; UPDATE $table SET } . one('b11', "SELECT format('%1\$I = %1\$I', attname) FROM pg_attribute WHERE attrelid = '$table'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = '' LIMIT 1") . '; ROLLBACK');
	unlike($err, qr/replica identity/, "11: rows of $table may be updated");
}
SKIP:
{
	skip 'no test_decoding', 2 unless $decoding =~ /^slot/m;
	like($decoding, qr/^slot/m, '11: a role that may replicate makes a slot');
	my $changes = says('b11', 'repl', q{select data from pg_logical_slot_get_changes('s', null, null)});
	like($changes, qr/table stripe_sync\.event: INSERT/, '11: what is no secret is decoded');
	unlike($changes, qr/REPLSEEN|\Q@{[SECRET]}\E/, '11: no secret is');
	# brother: the old row in whole
	my $full = says('b11', $super, q{ALTER TABLE stripe_sync.endpoint_secret REPLICA IDENTITY FULL; ALTER TABLE stripe_sync.api_key REPLICA IDENTITY FULL; ALTER TABLE stripe_sync.destination_secret REPLICA IDENTITY FULL; ALTER TABLE stripe_sync.slack_app_secret REPLICA IDENTITY FULL;
		SELECT stripe_sync.rotate_endpoint_secret('default', 'whsec_REPLSEEN8', keep_old => '0'); SELECT stripe_sync.set_api_key('rk_test_REPLSEEN9'); SELECT stripe_sync.drop_endpoint('default')});
	says('b11', $super, q{SELECT stripe_sync.add_slack_app('default', 'signing-REPLSEEN14', 'xoxb-REPLSEEN15')});
	$changes = says('b11', 'repl', q{select data from pg_logical_slot_get_changes('s', null, null)});
	unlike($changes, qr/REPLSEEN/, '11, brother: nor with REPLICA IDENTITY FULL on the tables of secrets');
	as('b11', 'repl', q{select pg_drop_replication_slot('s')});
}
no_harm('11', 'repl');

# ---- 12: constraints that are renamed, moved, made anew ----

ground('b12', 'customer');
root('b12', q{CREATE SCHEMA z1; CREATE TABLE z1.p (i int PRIMARY KEY); CREATE TABLE z1.t (i int CONSTRAINT c REFERENCES z1.p DEFERRABLE INITIALLY DEFERRED);
	CREATE FUNCTION public.nothing(e jsonb) RETURNS void LANGUAGE sql AS ''; SELECT stripe_sync.add_handler('good', 'customer.*', 'public.nothing')});
my $pooled = session('b12');
like($pooled->query(receive_sql(customer('cus_1'))), qr/^applied/m, '12: a session with a handler');
my %changes = (
	'1 ALTER SCHEMA RENAME' => 'ALTER SCHEMA z1 RENAME TO z2',
	'2 a constraint made anew' => 'ALTER TABLE z2.t DROP CONSTRAINT c; ALTER TABLE z2.t ADD CONSTRAINT c FOREIGN KEY (i) REFERENCES z2.p DEFERRABLE INITIALLY DEFERRED',
	'3 a constraint renamed' => 'ALTER TABLE z2.t RENAME CONSTRAINT c TO d',
	'4 one not deferrable of the same name' => 'CREATE TABLE z2.u (i int, CONSTRAINT d CHECK (i > 0))',
	'5 ALTER TABLE SET SCHEMA' => 'CREATE SCHEMA z3; ALTER TABLE z2.t SET SCHEMA z3',
	'6 another schema of the old name' => 'CREATE SCHEMA z1; CREATE TABLE z1.t (i int)',
	'7 a table dropped' => 'DROP TABLE z3.t',
	'8 a schema dropped' => 'SET client_min_messages = warning; DROP SCHEMA z2 CASCADE');
for my $change (sort keys %changes)
{
	root('b12', $changes{$change});
	my $label = $change =~ s/^1 //r ne $change ? '12: after ALTER SCHEMA RENAME in another session' : '12, brother: after ' . ($change =~ s/^\d //r);
	like($pooled->query(receive_sql(customer("cus_x$change" =~ s/\W//gr))), qr/^applied/m, "$label a living session applies events");
}
$pooled->quit;
is(one('b12', q{SELECT count(*) FROM stripe_sync.event WHERE status <> 'applied'}), '0', '12: no event has failed');
no_harm('12');

# ---- 14: roles that are revoked ----

ground('b14', 'customer');
role(qw(alice bob ing14));
root('b14', q{SELECT stripe_sync.grant_admin('alice'), stripe_sync.grant_admin('bob'), stripe_sync.grant_ingest('ing14')});
for my $role (qw(alice bob))
{
	root('b14', "CREATE SCHEMA of_$role AUTHORIZATION $role");
	as('b14', $role, "create function of_$role.h(e jsonb) returns void language plpgsql as \$\$ begin insert into public.seen values ('runs', current_user); end \$\$; select stripe_sync.add_handler('h_$role', 'customer.*', 'of_$role.h'), stripe_sync.add_handler('d_$role', 'customer.*', 'of_$role.h', deferred => true)");
}
send_as('b14', 'ing14', customer('cus_1'));
retried('b14');
is(one('b14', q{SELECT string_agg(who || n, ' ' ORDER BY who) FROM (SELECT who, count(*) n FROM public.seen GROUP BY who) s}), 'alice2 bob2', '14: handlers of two roles run');
$told = says('b14', $super, q{SELECT stripe_sync.revoke_all('alice')});
like($told, qr/NOTICE: .*h_alice/s, '14: revoke_all() names the handlers of the role');
like($told, qr/d_alice/, '14: deferred ones too');
unlike($told, qr/h_bob/, '14: and no others');
root('b14', 'ALTER ROLE alice NOLOGIN; TRUNCATE public.seen');
send_as('b14', 'ing14', customer('cus_2'));
retried('b14');
is(one('b14', q{SELECT string_agg(DISTINCT who, ' ') FROM public.seen}), 'bob', '14: they are not run any more; others are');
# brother: a role that is gone, and another of its name
root('b14', q{TRUNCATE public.seen; REASSIGN OWNED BY bob TO alice; DROP OWNED BY bob; DROP ROLE bob; CREATE ROLE bob LOGIN});
like(send_as('b14', 'ing14', customer('cus_3')), qr/^(applied|failed)/m, '14, brother: events are received when a handler\'s role is gone and another has its name');
retried('b14');
is(one('b14', q{SELECT string_agg(DISTINCT who, ' ') FROM public.seen}), '', '14, brother: no handler of either runs');
no_harm('14', qw(alice bob));

# ---- 13: secrets and the log ----

ground('b13', 'customer');
root('b13', q{SELECT stripe_sync.add_slack_channel('held', '#c', 'xoxb-1'), stripe_sync.add_slack_webhook('hooked', 'https://hooks.slack.com/services/T1/B1/x')});
my $from = -s $node->logfile;
sub logged
{
	my $said = slurp_file($node->logfile, $from);
	$from = -s $node->logfile;
	return $said;
}
# function => arguments with the secret in them; all have bad ones too
my %secret = (
	set_api_key => [ q{'rk_live_%s'}, q{'rk_live_%s', 'no such account'}, q{'nonsense_%s'} ],
	add_endpoint => [ q{'default', 'whsec_%s'}, q{NULL, 'whsec_%s'}, q{'default', 'whsec_%s', tolerance => '-1 s'} ],
	rotate_endpoint_secret => [ q{'default', 'whsec_%s'}, q{'no such', 'whsec_%s'}, q{NULL, 'whsec_%s'} ],
	add_slack_channel => [ q{'held', '#c', 'xoxb-%s'}, q{'held', NULL, 'xoxb-%s'}, q{'held', '#c', 'nonsense %s'} ],
	add_slack_webhook => [ q{'hooked', 'https://hooks.slack.com/services/T1/B1/%s'}, q{'hooked', 'https://elsewhere.example/%s'}, q{NULL, 'https://hooks.slack.com/services/T1/B1/%s'} ],
	create_webhook_endpoint => [ q{'https://user:%s@example.com/'}, q{'http://user:%s@example.com/ x'} ],
	verify_signature => [ q{'{}'::text, 't=1,v1=00', 'whsec_%s'}, q{'{}'::text, 'nonsense', 'whsec_%s'}, q{'{}'::text, NULL, 'whsec_%s'} ],
	sign => [ q{'{}'::text, 'whsec_%s', 'infinity'}, q{'{}'::text, 'whsec_%s', NULL}, q{NULL::text, 'whsec_%s', now()} ]);
my $lock = 'BEGIN; LOCK TABLE ' . one('b13', q{SELECT string_agg(oid::regclass::text, ', ') FROM pg_class WHERE relnamespace = 'stripe_sync'::regnamespace AND relkind = 'r' AND relname <> 'catalog_level'});
my $n = 0;
for my $function (sort keys %secret)
{
	for my $arguments (@{ $secret{$function} })
	{
		for my $way ('as it is', 'while its tables are locked', 'in PL/pgSQL')
		{
			next if $way =~ /locked/ && $arguments ne $secret{$function}[0];
			my $mark = 'SECRET' . ++$n . 'X';
			my $call = "SELECT stripe_sync.$function(" . sprintf($arguments, $mark) . ')';
			my $locker;

			if ($way =~ /locked/)
			{
				$locker = session('b13');
				$locker->query_safe($lock);
			}
			my $session = "SET log_lock_waits = on; SET deadlock_timeout = '10ms'; SET lock_timeout = '60ms'; SET log_min_messages = warning;";
			$call = "DO \$d\$ BEGIN PERFORM " . ($call =~ s/^SELECT //r) . "; END \$d\$" if $way =~ /PL/;
			as('b13', $super, "$session $call");
			$locker->quit if $locker;
			unlike(logged(), qr/$mark/, "13: no secret in the log: $function(" . ($arguments =~ s/%s/.../r) . ") $way");
		}
	}
}
# bound parameters
for my $function (sort keys %secret)
{
	my $k = 0;

	for my $arguments (@{ $secret{$function} })
	{
		my $mark = 'BOUND' . ++$n . 'X';
		my @parameters;
		my $sql = $arguments;
		my $file = PostgreSQL::Test::Utils::tempdir() . "/bound$n.sql";

		$sql =~ s/'([^']*%s[^']*)'/:secret/;
		push @parameters, sprintf($1, $mark);
		append_to_file($file, "SELECT stripe_sync.$function($sql);\n");
		my ($in, $out) = ('', '');
		IPC::Run::run([ 'pgbench', '-n', '-t', '1', '-M', 'extended', '-f', $file, '-D', "secret=$parameters[0]", $node->connstr('b13') . " options='-c log_parameter_max_length_on_error=-1 -c lock_timeout=60ms'" ],
			'<', \$in, '>&', \$out);
		my $said = logged();
		unlike($said, qr/$mark/, "13: nor as a bound parameter: $function, " . ++$k);
	}
}
# auto_explain
SKIP:
{
	my $have = says('b13', $super, q{LOAD 'auto_explain'; SELECT 'loaded'});
	skip 'no auto_explain', 1 unless $have =~ /^loaded/m;
	my $explain = q{LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on; SET auto_explain.log_verbose = on; SET auto_explain.log_level = warning; SET client_min_messages = error; SET log_parameter_max_length = -1; SET plan_cache_mode = force_custom_plan;};
	my $calls = join '', map { "SELECT stripe_sync.$_(" . sprintf($secret{$_}[0], "AUTOEXPLAIN") . ');' } grep { !/verify|sign|webhook_endpoint/ } sort keys %secret;
	logged();
	as('b13', $super, $explain . "DO \$d\$ BEGIN PERFORM 1; END \$d\$;" . $calls);
	my $said = logged();
	# a statement of the user's own holds what it says: that is the user's to set
	my @ours = grep { /AUTOEXPLAIN/ && !/Query Text: SELECT stripe_sync\.\w+\(/ } split /^(?=\d{4}-\d\d-\d\d )/m, $said;
	like($said, qr/Query Text/, '13: auto_explain tells of statements');
	is(join("\n", @ours), '', '13: and of none of ours with a secret');
}
no_harm('13');

# ---- 16: lesser ones ----

ground('b16');
role(qw(mown16 reader16 ing16));
root('b16', q{GRANT CREATE ON DATABASE b16 TO mown16; SELECT stripe_sync.grant_admin('mown16'), stripe_sync.grant_read('reader16'), stripe_sync.grant_ingest('ing16')});
as('b16', 'mown16', q{select count(*) from stripe_sync.create_tables('{invoice,customer}')});
root('b16', "$endpoint SELECT stripe_sync.grant_read('reader16')");
send_as('b16', 'ing16', thing('invoice', 'in_9', customer_email => 'hidden@x'));
as('b16', 'mown16', q{alter table stripe.invoices enable row level security; create policy p on stripe.invoices using (false); update stripe.invoices set customer_email = 'tampered'});
is(says('b16', 'reader16', 'select count(*) from stripe.invoices') =~ s/\s//gr, '0', '16: a reader whom row security shows nothing');
$told = says('b16', 'reader16', q{select object_id, field, mirror, expected from stripe_sync.verify_mirror('{invoice}')});
unlike($told, qr/hidden\@x|tampered/, '16: is shown nothing by verify_mirror() either');
like(says('b16', $super, q{select object_id, field, mirror, expected from stripe_sync.verify_mirror('{invoice}')}), qr/in_9\|customer_email\|"tampered"\|"hidden\@x"/, '16: which others are');
root('b16', q{GRANT SELECT ON stripe.customers TO reader16; REVOKE SELECT ON stripe.customers FROM reader16});
send_as('b16', 'ing16', customer('cus_9', email => 'hidden@y'));
root('b16', q{UPDATE stripe.customers SET email = 'tampered'});
unlike(says('b16', 'reader16', q{select object_id, field, mirror, expected from stripe_sync.verify_mirror('{customer}')}), qr/hidden\@y|tampered/, '16, brother: nor who has no right to the table');
root('b16', q{SELECT stripe_sync.add_slack_webhook('ops', 'https://hooks.slack.com/services/T1/B1/x'), stripe_sync.add_alert('deep', 'plan.*', 'ops', 'x', condition => '$.**.**.**.**.**.** ? (@ == 77)'),
	stripe_sync.add_alert('grouped', 'product.*', 'ops', 'x', group_by => '$.**.**.**.**.**.** ? (@ == 77)')});
my $deep = {};
$deep = { a => $deep, b => 1 } for 1 .. 60;
my $sessions_own = q{set statement_timeout = '180s';};
for my $case ([ 'plan', 'deep', 'a condition' ], [ 'product', 'grouped', 'a group' ])
{
	my ($type, $alert, $what) = @$case;

	like(says('b16', 'ing16', $sessions_own . receive_sql(thing($type, "${type}_deep", metadata => $deep))), qr/^failed/m, "16: $what that does not end keeps no event out");
	like(root('b16', "SELECT error FROM stripe_sync.event WHERE object_id = '${type}_deep'"), qr/alert "$alert": its jsonpath ran longer than stripe_sync.handler_timeout/, '16: and it is said');
}
my $error = says('b16', $super, q{SELECT stripe_sync.apply_reading_page('{}')});
unlike($error, qr/XX000|server closed/, '16: a page that is none is no internal error');
no_harm('16', qw(mown16 reader16 ing16));

# ---- 17: schemas of a noted search_path that change hands ----

ground('b17', 'customer');
role(qw(squ17 ing17 own17));
root('b17', q{GRANT CREATE ON DATABASE b17 TO squ17; SELECT stripe_sync.grant_ingest('ing17'); CREATE SCHEMA app AUTHORIZATION own17; CREATE TABLE app.orders (id text); CREATE TABLE public.orders (id text);
	CREATE FUNCTION public.note(text) RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION public.h(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(17); INSERT INTO orders VALUES (e->'data'->'object'->>'id'); PERFORM note('x'::varchar); END $$;
	CREATE FUNCTION public.t() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO orders VALUES (NEW.id); PERFORM note('x'::varchar); RETURN NULL; END $$;
	SET search_path = app, public; SELECT count(*) FROM stripe_sync.create_tables('{product}'); SELECT stripe_sync.add_handler('h', 'customer.*', 'public.h');
	CREATE TRIGGER t AFTER INSERT ON stripe.products FOR EACH ROW EXECUTE FUNCTION public.t()});
my $orders = q{SELECT string_agg(id, ' ' ORDER BY id) FROM %s.orders};
my $spoil = q{insert into public.seen values ('17', current_user); execute 'alter role squ17 superuser';};
my $squat = qq{create schema app; grant usage on schema app to public; create table app.orders (id text); grant all on app.orders to public;
	create function app.t() returns trigger language plpgsql as \$\$ begin $spoil return null; end \$\$; create trigger t before insert on app.orders for each row execute function app.t();
	create function app.note(varchar) returns void language plpgsql as \$\$ begin $spoil end \$\$;};
my $living = session('b17');
sub both_receive
{
	my ($n) = @_;

	return $living->query(receive_sql(customer("cus_$n")) . receive_sql(thing('product', "prod_$n")));
}

# Nothing of the squatter's runs: a handler waits without a try, and the mirror says what to run.
sub path_refused
{
	my ($what, $schema, $n) = @_;
	my $named = qr/schema "$schema" in the search_path of/;
	my $told = both_receive($n);

	is(() = $told =~ /^failed\|/mg, 2, "$what: both events wait");
	like(one('b17', "SELECT error FROM stripe_sync.event WHERE object_id = 'cus_$n'"), qr/SY005: $named handler "h" belongs to role "squ17" now.*add_handler\('h', \.\.\.\)/s, "$what: a handler's with whose the schema is");
	like(one('b17', "SELECT error FROM stripe_sync.event WHERE object_id = 'prod_$n'"), qr/55000: $named table stripe\.products belongs to role "squ17" now.*ALTER SCHEMA $schema OWNER TO .*create_tables\(\)/s, "$what: a mirror table's with what to run");
	retried('b17');
	is(one('b17', "SELECT todo @> '{h}' AND coalesce((tries ->> 'h')::int, 0) = 0 FROM stripe_sync.event WHERE object_id = 'cus_$n'"), 't', "$what: the handler is still to do, no try is spent");
	is(one('b17', 'SELECT count(*) FROM public.seen'), '0', "$what: nothing of the other's ran");
	no_harm($what, 'squ17');
	return;
}

both_receive('1');
is(one('b17', sprintf $orders, 'app'), 'cus_1 prod_1', '17: the path is the one of the registration');
is(one('b17', q{SELECT string_agg(DISTINCT path_owners[1], ' ') FROM (SELECT path_owners FROM stripe_sync.handler UNION ALL SELECT path_owners FROM stripe_sync.mirror_table WHERE table_name = 'products') p}), 'own17', '17: with the owners of its schemas');
root('b17', 'ALTER SCHEMA app RENAME TO app_v1');
both_receive('2');
is(one('b17', sprintf $orders, 'public'), 'cus_2 prod_2', '17: a schema that is gone is passed over');

# one that is made while the handler runs is not found
$living->query_safe('SELECT pg_advisory_lock(17)');
my $running = begin_as('b17', $super, 'running', q{SET stripe_sync.handler_timeout = '5min';} . receive_sql(customer('cus_3')));
ok(waits($running, 'advisory'), '17, brother: a handler runs');
as('b17', 'squ17', $squat);
$living->query_safe('SELECT pg_advisory_unlock(17)');
like(ended($running), qr/^applied/m, '17, brother: and ends');
is(one('b17', 'SELECT count(*) FROM public.seen'), '0', '17, brother: what is made meanwhile is not found');
path_refused('17', 'app', '4');
root('b17', q{SET search_path = app_v1, public; SELECT stripe_sync.add_handler('h', 'customer.*', 'public.h')});
like(says('b17', $super, q{SET search_path = app_v1, public; SELECT count(*) FROM stripe_sync.create_tables('{product}')}), qr/NOTICE: .*the search_path of table stripe\.products is "app_v1, public, pg_temp" now/, '17: create_tables() says that it notes another path');
retried('b17');
is(settled('b17', $_), 'applied', "17: $_ is applied once the path is noted again") for qw(cus_4 prod_4);
is(one('b17', sprintf $orders, 'app_v1'), 'cus_1 cus_4 prod_1 prod_4', '17: under the path of now');
root('b17', 'ALTER SCHEMA app_v1 OWNER TO squ17');
path_refused('17, brother: ALTER SCHEMA OWNER', 'app_v1', '5');
root('b17', 'ALTER SCHEMA app_v1 OWNER TO own17');
retried('b17');
is(settled('b17', $_), 'applied', "17, brother: $_ is applied once the schema is given back") for qw(cus_5 prod_5);
$living->quit;
no_harm('17', qw(squ17 ing17 own17));

$node->stop;
done_testing();
