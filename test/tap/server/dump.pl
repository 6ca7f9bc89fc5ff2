# dump.pl
#		Dumped and restored, dropped and created again, read on a standby.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('dump', allows_streaming => 1);
my $file = PostgreSQL::Test::Utils::tempdir() . '/dump';
my $number = 0;

make_database($node, 'source');

sub receive_sql
{
	my ($event, $secret) = @_;
	my $payload = json_text($event);

	return "SELECT status FROM stripe_sync.receive(" . literals($payload, signature($payload, $secret)) . ")";
}

sub customer_event
{
	my ($id, $second, $name) = @_;

	return event(sprintf('evt_%s_%d', $id, $second), $second ? 'customer.updated' : 'customer.created', $second,
		{ id => $id, object => 'customer', name => $name, metadata => { note => "it's \\ \"quoted\"" } });
}

sub deliver
{
	my ($database, $event, $secret) = @_;

	return $node->safe_psql($database, receive_sql($event, $secret // SECRET));
}

# Everything that must come along.
my %contents = (
	events => q{SELECT string_agg(e::text, E'\n' ORDER BY id) FROM stripe_sync.event e},
	rereads => q{SELECT string_agg(r::text, E'\n' ORDER BY object_id) FROM stripe_sync.reread r},
	refusals => q{SELECT string_agg(r::text, E'\n' ORDER BY endpoint, code) FROM stripe_sync.refusal_record r},
	errors => q{SELECT string_agg(e::text, E'\n' ORDER BY id) FROM stripe_sync.event_error e},
	'handler runs' => q{SELECT string_agg(r::text, E'\n' ORDER BY event_id) FROM stripe_sync.handler_run r},
	journal => q{SELECT string_agg(j::text, E'\n' ORDER BY id) FROM stripe_sync.journal j},
	handlers => q{SELECT string_agg(h::text, E'\n' ORDER BY name) FROM stripe_sync.handler h},
	endpoints => q{SELECT string_agg(e::text, E'\n' ORDER BY name) FROM stripe_sync.endpoint e},
	'mirror rows' => q{SELECT string_agg(to_jsonb(c)::text, E'\n' ORDER BY id) FROM stripe.customers c},
	'mirror tables' => q{SELECT string_agg(t::text, E'\n' ORDER BY table_name) FROM stripe_sync.mirror_table t},
	indexes => q{SELECT string_agg(indexdef, E'\n' ORDER BY indexdef) FROM pg_indexes WHERE schemaname = 'stripe'},
	triggers => q{SELECT string_agg(pg_get_triggerdef(t.oid), E'\n') FROM pg_trigger t WHERE tgrelid = 'stripe.customers'::regclass},
	columns => q{SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), E'\n' ORDER BY attrelid::regclass::text, attname)
		FROM pg_attribute WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'stripe'::regnamespace AND relkind = 'r') AND attnum > 0 AND NOT attisdropped},
);

sub contents
{
	my ($database) = @_;

	return { map { ($_ => $node->safe_psql($database, $contents{$_})) } keys %contents };
}

$node->safe_psql('source', q{
	CREATE SCHEMA app;
	CREATE TABLE app.effect (event_id text);
	CREATE FUNCTION app.effect(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO app.effect VALUES (event->>'id') $$;
	CREATE FUNCTION app.fails(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken'; END $$;
	CREATE FUNCTION app.touched() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.noted := upper(NEW.name); RETURN NEW; END $$;
	SELECT stripe_sync.add_handler('effect', 'customer.*', 'app.effect');
	SELECT stripe_sync.add_handler('fails', 'customer.updated', 'app.fails');
	SELECT stripe_sync.webhook('{}'::text, '{}');
	SELECT stripe_sync.add_endpoint('connect', 'whsec_another_SECRET_of_connect', livemode => true, account => 'connect');
	ALTER TABLE stripe.customers ADD noted text;
	CREATE INDEX customers_name_of_ours ON stripe.customers (lower(name));
	CREATE TRIGGER touched BEFORE INSERT OR UPDATE ON stripe.customers FOR EACH ROW EXECUTE FUNCTION app.touched();
});
is(deliver('source', customer_event('cus_1', 0, 'Anna')), 'applied', 'an event is received');
is(deliver('source', customer_event('cus_1', 1, "Berta\t\x{e4}")), 'failed', 'another has a handler that fails');
is(deliver('source', customer_event('cus_2', 0, 'Clara')), 'applied', 'a third is received');
my $before = contents('source');
like($before->{'mirror rows'}, qr/ANNA|BERTA/, 'the user\'s trigger has run');

# ---- pg_dump ----

sub all_came_along
{
	my ($what, $database) = @_;
	my $after = contents($database);

	is($after->{$_}, $before->{$_}, "$what: $_ come along") for sort keys %contents;
	is($node->safe_psql($database, 'SELECT count(*) FROM stripe_sync.endpoint_secret'), '0', "$what: no secret comes along");

	my ($ret, $out, $err) = $node->psql($database, '\set VERBOSITY verbose' . "\n" . receive_sql(customer_event('cus_9', 0, 'X'), SECRET));
	like($err, qr/SY007/, "$what: the endpoint has no secret");
	like($err, qr/HINT:.*add_endpoint/s, "$what: and the hint says what to do");
	is($node->safe_psql($database, q{SELECT http_status FROM stripe_sync.webhook('{}', '{"stripe-signature": "t=1,v1=00"}')}), '500',
		"$what: an HTTP front answers that it isn't set up");
	$node->safe_psql($database, q{SELECT stripe_sync.add_endpoint('default', 'whsec_new_after_restore', tolerance => NULL)});
	is(deliver($database, customer_event('cus_1', 0, 'Anna'), 'whsec_new_after_restore'), 'duplicate', "$what: what was received isn't received again");
	is(deliver($database, customer_event('cus_3', 0, 'Dora'), 'whsec_new_after_restore'), 'applied', "$what: new events are applied");
	is($node->safe_psql($database, q{SELECT noted FROM stripe.customers WHERE id = 'cus_3'}), 'DORA', "$what: through the user's trigger");
	is($node->safe_psql($database, q{SELECT string_agg(event_id, ' ' ORDER BY event_id) FROM app.effect}), 'evt_cus_1_0 evt_cus_1_1 evt_cus_2_0 evt_cus_3_0',
		"$what: handlers run, once");
	$node->safe_psql($database, q{CREATE OR REPLACE FUNCTION app.fails(event jsonb) RETURNS void LANGUAGE sql AS ''});
	is($node->safe_psql($database, q{SELECT status FROM stripe_sync.replay('evt_cus_1_1')}), 'applied', "$what: what was to do can be done");
	return;
}

# the catalog's level is not dumped: what is restored is of the level of its own script
$node->safe_psql('source', 'UPDATE stripe_sync.catalog_level SET level = level - 1');
$node->command_ok([ 'pg_dump', '-f', "$file.sql", $node->connstr('source') ], 'pg_dump, plain');
$node->safe_psql('source', 'UPDATE stripe_sync.catalog_level SET level = level + 1');
my $text = slurp_file("$file.sql");
unlike($text, qr/\Q@{[SECRET]}\E|SECRET_of_connect|whsec_/, 'no secret in the dump');
$node->safe_psql('postgres', 'CREATE DATABASE plain');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('plain'), '-f', "$file.sql" ], 'restored by psql');
all_came_along('plain', 'plain');

$node->command_ok([ 'pg_dump', '-Fc', '-f', "$file.custom", $node->connstr('source') ], 'pg_dump, custom');
$node->safe_psql('postgres', 'CREATE DATABASE custom');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('custom'), "$file.custom" ], 'restored by pg_restore');
all_came_along('custom', 'custom');

# ---- a dump by the database's owner, who is no superuser ----

$node->safe_psql('postgres', 'CREATE ROLE landlord LOGIN; CREATE ROLE lodger LOGIN; CREATE DATABASE owned OWNER landlord');
$node->safe_psql('owned', "CREATE EXTENSION stripe_sync; SELECT stripe_sync.add_endpoint('default', '@{[SECRET]}', tolerance => NULL),
	stripe_sync.add_slack_channel('ops', '#ops', 'xoxb-1'); SELECT stripe_sync.notify('ops', 'told')");
is($node->safe_psql('owned', receive_sql(customer_event('cus_1', 0, 'Anna'), SECRET)), 'applied', 'a database of a role that is no superuser');
$node->safe_psql('owned', q{CREATE ROLE reports; SELECT stripe_sync.grant_mirror('reports')});
is($node->safe_psql('owned', q{SELECT tableowner FROM pg_tables WHERE schemaname = 'stripe' AND tablename = 'customers'}), 'landlord', 'whose the mirror is');
$node->command_ok([ 'pg_dump', '-U', 'landlord', '-Fc', '-f', "$file.owned", $node->connstr('owned') ], 'is dumped by its owner');
$node->command_fails([ 'pg_dump', '-U', 'lodger', '-f', "$file.lodger", $node->connstr('owned') ], 'and by nobody else');
$node->safe_psql('postgres', 'CREATE DATABASE owned_again OWNER landlord');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('owned_again'), "$file.owned" ], 'what was dumped is restored');
is($node->safe_psql('owned_again', q{SELECT (SELECT count(*) FROM stripe_sync.event), (SELECT count(*) FROM stripe_sync.message), (SELECT name FROM stripe.customers)}), '1|1|Anna', 'whole');
# who may read the mirror may read what is made of it after the restore
$node->safe_psql('owned_again', q{DROP TABLE stripe.coupons; SELECT count(*) FROM stripe_sync.create_tables()});
is($node->safe_psql('owned_again', q{SELECT count(*) FILTER (WHERE NOT has_table_privilege('reports', oid, 'SELECT')), has_table_privilege('reports', 'stripe.coupons', 'SELECT'), has_table_privilege('reports', 'stripe_sync.event', 'SELECT')
	FROM pg_class WHERE relnamespace = 'stripe'::regnamespace AND relkind = 'r'}), '0|t|f', 'a reader of the mirror is one after the restore');
# the mirror of somebody else's making is not left out
$node->safe_psql('postgres', 'CREATE ROLE tenant LOGIN; CREATE DATABASE let OWNER landlord; GRANT CREATE ON DATABASE let TO tenant');
$node->safe_psql('let', q{CREATE EXTENSION stripe_sync; SELECT stripe_sync.grant_admin('tenant')});
$node->safe_psql('let', "SELECT stripe_sync.add_endpoint('default', '@{[SECRET]}')", extra_params => [ '-U', 'tenant' ]);
$node->command_ok([ 'pg_dump', '-U', 'landlord', '-f', "$file.let", $node->connstr('let') ], 'a mirror that another made is dumped too');

# a dump of the restored one is as the first
$node->safe_psql('postgres', 'CREATE DATABASE again');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('again'), "$file.custom" ], 'restored once more');
$node->command_ok([ 'pg_dump', '-f', "$file.again.sql", $node->connstr('again') ], 'and dumped once more');
sub lines { return [ sort grep { !/^\\(un)?restrict / } split /\n/, slurp_file($_[0]) ]; }
is_deeply(lines("$file.again.sql"), lines("$file.sql"), 'a dump of what was restored is the same dump');

# ---- whoever restores, and whoever had installed ----

# Set up again, as after any restore, it receives and builds.
sub goes_on
{
	my ($what, $database) = @_;

	is($node->safe_psql($database, q{SELECT count(*) FROM stripe_sync.add_endpoint('default', 'whsec_new_after_restore', tolerance => NULL)}), '1', "$what: it is set up again");
	$number++;
	is(deliver($database, customer_event("cus_8$number", 0, 'Hilde'), 'whsec_new_after_restore'), 'applied', "$what: an event is applied");
	is($node->safe_psql($database, q{SELECT string_agg(DISTINCT action, ' ') FROM stripe_sync.create_tables()}), 'unchanged', "$what: no table is missing");
	return;
}

sub restore
{
	my ($what, $database, $dump, @options) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->command_ok([ 'pg_restore', '--exit-on-error', @options, '-d', $node->connstr($database), $dump ], "restored: $what");
	goes_on($what, $database);
	return;
}

$node->safe_psql('postgres', 'CREATE ROLE second SUPERUSER LOGIN; CREATE ROLE builder LOGIN');
restore('by another superuser', 'by_second', "$file.custom", '-U', 'second');
restore('by another superuser, without owners', 'by_second_no_owner', "$file.custom", '-U', 'second', '--no-owner');
is($node->safe_psql('by_second_no_owner', q{SELECT extowner::regrole FROM pg_extension WHERE extname = 'stripe_sync'}), 'second', 'then it is hers');

# installed by another superuser, the mirror made by an administrator who is none
$node->safe_psql('postgres', 'CREATE DATABASE mixed');
$node->safe_psql('postgres', 'GRANT CREATE ON DATABASE mixed TO builder');
$node->safe_psql('mixed', q{SET client_min_messages = warning; SET ROLE second; CREATE EXTENSION stripe_sync; SELECT stripe_sync.grant_admin('builder')});
$node->safe_psql('mixed', q{SELECT stripe_sync.add_endpoint('default', 'whsec_mixed', tolerance => NULL)}, extra_params => [ '-U', 'builder' ]);
is($node->safe_psql('mixed', q{SELECT nspname || ' ' || nspowner::regrole FROM pg_namespace WHERE nspname LIKE 'stripe%' ORDER BY 1}), "stripe builder\nstripe_sync second", 'two owners');
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$file.mixed", $node->connstr('mixed') ], 'dumped');
restore('two owners', 'mixed_restored', "$file.mixed");
restore('two owners, without owners', 'mixed_no_owner', "$file.mixed", '--no-owner');
# the mirror's owner administers no more: it is still the owner
$node->safe_psql('mixed', q{SELECT stripe_sync.revoke_all('builder'); SELECT stripe_sync.rotate_endpoint_secret('default', 'whsec_new_after_restore')});
goes_on('the mirror\'s owner administers no more', 'mixed');
# all of it is given to somebody else
$node->safe_psql('mixed', 'CREATE ROLE third SUPERUSER; REASSIGN OWNED BY second TO third; ALTER ROLE second NOSUPERUSER');
goes_on('all of it is another superuser\'s', 'mixed');
$node->safe_psql('mixed', 'REASSIGN OWNED BY builder TO third; DROP OWNED BY builder');
goes_on('and the mirror too', 'mixed');

# A schema that somebody has made to be found by a restore: it is taken away from
# him by ALTER SCHEMA ... OWNER, which is in the dump, or else it is refused.
$node->safe_psql('postgres', 'CREATE DATABASE squatted');
$node->safe_psql('postgres', 'GRANT CREATE ON DATABASE squatted TO builder');
$node->safe_psql('squatted', 'CREATE SCHEMA stripe_sync', extra_params => [ '-U', 'builder' ]);
$node->command_checks_all([ 'pg_restore', '--no-owner', '-d', $node->connstr('squatted'), "$file.custom" ],
	1, [qr/^$/], [qr/schema "stripe_sync" belongs to role "builder".*HINT: .*ALTER SCHEMA stripe_sync/s], 'a schema that is another\'s is not taken');
$node->safe_psql('postgres', 'CREATE DATABASE taken');
$node->safe_psql('postgres', 'GRANT CREATE ON DATABASE taken TO builder');
$node->safe_psql('taken', 'CREATE SCHEMA stripe_sync', extra_params => [ '-U', 'builder' ]);
$node->command_checks_all([ 'pg_restore', '-d', $node->connstr('taken'), "$file.custom" ], 1, [qr/^$/], [qr/schema "stripe_sync" already exists/], 'with owners that is said');
is($node->safe_psql('taken', q{SELECT nspowner = extowner FROM pg_namespace, pg_extension WHERE nspname = 'stripe_sync' AND extname = 'stripe_sync'}), 't', 'and it is his no more');
goes_on('a schema that was another\'s', 'taken');

# ---- DROP EXTENSION, CREATE EXTENSION ----

$node->safe_psql('source', 'SET client_min_messages = warning; DROP EXTENSION stripe_sync CASCADE');
is($node->safe_psql('source', $contents{'mirror rows'}), $before->{'mirror rows'}, 'DROP EXTENSION leaves the mirror');
is($node->safe_psql('source', $contents{indexes}), $before->{indexes}, 'and its indexes');
$node->safe_psql('source', 'CREATE EXTENSION stripe_sync');
$node->safe_psql('source', "SELECT stripe_sync.add_endpoint('default', '@{[SECRET]}', tolerance => NULL)");
is($node->safe_psql('source', $contents{'mirror rows'}), $before->{'mirror rows'}, 'CREATE EXTENSION again leaves the rows');
is(deliver('source', customer_event('cus_1', 4, 'Ella')), 'applied', 'and adopts the tables');
$node->safe_psql('source', q{CREATE ROLE reader; SELECT stripe_sync.grant_read('reader')});
is($node->safe_psql('source', q{SELECT has_table_privilege('reader', 'stripe.customers', 'SELECT')}), 't', 'grant_read() lets a role read adopted tables');
is($node->safe_psql('source', q{SELECT string_agg(DISTINCT action, ' ') FROM stripe_sync.create_tables()}), 'unchanged', 'create_tables() finds nothing missing');
is($node->safe_psql('source', $contents{'mirror tables'}), $before->{'mirror tables'}, 'and knows them all');
is(deliver('source', customer_event('cus_1', 5, 'Emma')), 'applied', 'a newer event is applied to an adopted row');
is(deliver('source', customer_event('cus_2', 7, 'Frida')), 'applied', 'and to another');
is($node->safe_psql('source', q{SELECT string_agg(name, ' ' ORDER BY id) FROM stripe.customers}), 'Emma Frida', 'as it says');
is(deliver('source', event('evt_late', 'customer.updated', 3, { id => 'cus_1', object => 'customer', name => 'late' })), 'stale', 'an older one is stale');

# ---- a standby ----

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
is(deliver('source', customer_event('cus_4', 0, 'Grete')), 'applied', 'the primary goes on');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));

is($standby->safe_psql('source', q{SELECT name FROM stripe.customers WHERE id = 'cus_4'}), 'Grete', 'a standby has the mirror');
is($standby->safe_psql('source', q{SELECT status FROM stripe_sync.event WHERE id = 'evt_cus_4_0'}), 'applied', 'and the inbox');
cmp_ok($standby->safe_psql('source', 'SELECT count(*) FROM stripe_sync.object_type'), '>', 100, 'and the catalog');
is($standby->safe_psql('source', q{SELECT stripe_sync.verify_signature('x'::text, stripe_sync.sign('x'::text, 's'), 's')}), 't', 'it verifies signatures');
isnt($standby->safe_psql('source', q{SELECT stripe_sync.explain_event('evt_late')}), '', 'and explains events');
is($standby->safe_psql('source', q{SELECT object_id, field, mirror, expected FROM stripe_sync.verify_mirror('{customer}')}), '', 'and verifies the mirror');
$node->safe_psql('source', q{UPDATE stripe.customers SET name = 'wrong' WHERE id = 'cus_4'});
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is($standby->safe_psql('source', q{SELECT object_id, field, mirror, expected FROM stripe_sync.verify_mirror('{customer}')}),
	'cus_4|name|"wrong"|"Grete"', 'and shows what is wrong there');
for my $case (
	[ 'receive', receive_sql(customer_event('cus_5', 0, 'Hanna'), SECRET) ],
	[ 'a redelivery', receive_sql(customer_event('cus_4', 0, 'Grete'), SECRET) ],
	[ 'replay', q{SELECT stripe_sync.replay('evt_late')} ],
	[ 'simulate', q{SELECT stripe_sync.simulate('customer.created', '{"id": "cus_6", "object": "customer"}')} ],
	[ 'add_endpoint', q{SELECT stripe_sync.add_endpoint('more', 'whsec_more')} ])
{
	my ($ret, $out, $err) = $standby->psql('source', '\set VERBOSITY verbose' . "\n" . $case->[1]);

	next if $case->[0] eq 'a redelivery' && $out eq 'duplicate';    # as good an answer
	like($err, qr/25006/, "a standby refuses $case->[0] with 25006");
}

my ($ret, $out, $err) = $standby->psql('source', q{
	SELECT http_status FROM stripe_sync.webhook('} . json_text(customer_event('cus_7', 0, 'Ida')) =~ s/'/''/gr
	  . q{', '{"Stripe-Signature": "t=1,v1=00"}')});
is($out, '400', 'a forged delivery is told apart on a standby too');

$standby->promote;
is($standby->safe_psql('source', receive_sql(customer_event('cus_5', 0, 'Hanna'), SECRET)), 'applied', 'once promoted it receives');

unlike(slurp_file($_->logfile), qr/\Q@{[SECRET]}\E|PANIC|terminated by signal/, $_->name . ': no crash, and no secret in the log')
  for $node, $standby;

$standby->stop;
$node->stop;
done_testing();
