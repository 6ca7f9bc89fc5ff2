# upgrade.pl
#		pg_upgrade carries everything over; its binary mode has no worker; and
#		what came over sends nothing until somebody says so.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use SlackStub;
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $why = SlackStub->missing;
plan skip_all => $why if $why;

my $slack = SlackStub->start;
my $conf = "shared_preload_libraries = 'stripe_sync'\n" . $slack->conf;
my $old = start_node('old', conf => $conf);
my $new = PostgreSQL::Test::Cluster->new('new');
my $bindir = $ENV{BINDIR} // $old->config_data('--bindir');

# ---- what is there before ----

make_database($old, 'shop');
$old->safe_psql('shop', qq{
	SELECT stripe_sync.add_slack_webhook('ops', '@{[ $slack->webhook_url ]}');
	SELECT stripe_sync.add_default_alerts('ops');
	CREATE FUNCTION test.note(event jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
	SELECT stripe_sync.add_handler('note', 'invoice.*', 'test.note');
	CREATE ROLE team;
	GRANT USAGE ON SCHEMA stripe TO team;
	ALTER TABLE stripe.invoices OWNER TO team;
	CREATE FUNCTION test.touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.number := NEW.number || ''!''; RETURN NEW; END';
	GRANT USAGE ON SCHEMA test TO team;
	CREATE TRIGGER touched BEFORE INSERT ON stripe.invoices FOR EACH ROW WHEN (NEW.id = 'in_4') EXECUTE FUNCTION test.touched();
	SELECT stripe_sync.notify('ops', 'before');
});
# installed by another superuser, and by one who is none any more
$old->safe_psql('postgres', 'CREATE ROLE second SUPERUSER; CREATE ROLE third SUPERUSER');
for my $owner (qw(second third))
{
	$old->safe_psql('postgres', "CREATE DATABASE of_$owner");
	$old->safe_psql("of_$owner", qq{SET ROLE $owner; CREATE EXTENSION stripe_sync; RESET ROLE; SELECT stripe_sync.add_endpoint('default', '@{[SECRET]}', tolerance => NULL)});
}
$old->safe_psql('of_third', 'ALTER ROLE third NOSUPERUSER');
for my $n (1 .. 3)
{
	my $payload = json_text(event("evt_$n", 'invoice.payment_failed', $n,
		{ id => "in_$n", object => 'invoice', customer => 'cus_1', amount_due => 100, currency => 'usd', number => "N-$n" }));
	$old->safe_psql('shop', 'SELECT stripe_sync.receive(' . literals($payload, signature($payload)) . ')');
}
ok($old->poll_query_until('shop', q{SELECT state = 'sent' FROM stripe_sync.message WHERE payload ->> 'text' = 'before'}), 'the old server sends');
$old->safe_psql('shop', q{SELECT stripe_sync.pause(); SELECT stripe_sync.notify('ops', 'after', key => 'after'); SELECT stripe_sync.resume('stripe')});

my %contents = map { $_ => "SELECT count(*), md5(string_agg(t::text, ';' ORDER BY t::text)) FROM $_ t" }
  qw(stripe_sync.event stripe_sync.alert stripe_sync.handler stripe_sync.destination stripe_sync.destination_secret stripe_sync.slack_app_secret stripe_sync.endpoint_secret
  stripe_sync.incident_record stripe_sync.alerted stripe.invoices stripe_sync.identity stripe_sync.catalog_level);
# messages that are on their way settle until the server stops
$old->poll_query_until('shop', q{SELECT count(*) = 0 FROM stripe_sync.message WHERE state = 'sending'});
$contents{'stripe_sync.message'} = q{SELECT count(*), md5(string_agg(t::text, ';' ORDER BY t::text)) FROM stripe_sync.message t};
my %before = map { $_ => $old->safe_psql('shop', $contents{$_}) } keys %contents;
$old->stop;

# ---- binary mode ----

my $log = -s $old->logfile;
PostgreSQL::Test::Utils::system_log('pg_ctl', '-D', $old->data_dir, '-l', $old->logfile, '-w', '-o', '-b', 'start');
$old->_update_pid(1);
# it lets only its superuser in, by name
is($old->safe_psql('template1', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'stripe_sync%'}), '0', 'in binary upgrade mode there is neither launcher nor worker');
is($old->safe_psql('shop', q{SELECT count(*) FROM stripe_sync.worker WHERE pid IS NOT NULL}), '0', 'and the view shows none');
$old->stop;

# ---- pg_upgrade ----

$new->init(extra => [ '-E', 'UTF8', '--locale=C' ]);
$new->append_conf('postgresql.conf', "timezone = 'UTC'\nlog_min_messages = log\n$conf");
chdir PostgreSQL::Test::Utils::tempdir() or die $!;
command_ok([ 'pg_upgrade', '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $bindir, '-B', $bindir,
	'-s', $new->host, '-p', $old->port, '-P', $new->port ], 'pg_upgrade');
$new->start;
for my $table (sort keys %contents)
{
	is($new->safe_psql('shop', $contents{$table}), $before{$table}, "$table came over");
}
ok($new->poll_query_until('shop', q{SELECT state LIKE 'inactive%' FROM stripe_sync.worker WHERE database = 'shop'}), 'it is a copy, and inactive');
like(slurp_file($new->logfile), qr/sends nothing from database "shop": it is a copy.*\n.*activate\(\)/, 'which the log says, with what to do');
$new->safe_psql('shop', 'SELECT stripe_sync.resume()');
my $payload = json_text(event('evt_4', 'invoice.payment_failed', 4, { id => 'in_4', object => 'invoice', amount_due => 1, currency => 'usd', number => 'N-4' }));
is($new->safe_psql('shop', 'SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload)) . ')'), 'applied', 'events are stored and applied');
is($new->safe_psql('shop', q{SELECT number FROM stripe.invoices WHERE id = 'in_4'}), 'N-4!', 'by the owner of the mirror table that there was, through its trigger');
is($new->safe_psql('shop', q{SELECT count(*) FROM stripe_sync.event WHERE todo <> '{}'}), '0', 'and by the handlers');
is($new->safe_psql('shop', q{SELECT string_agg(DISTINCT action, ' ') FROM stripe_sync.create_tables()}), 'unchanged', 'create_tables() finds all tables');
is($new->safe_psql('shop', q{SELECT object_id FROM stripe_sync.verify_mirror('{invoice}') WHERE object_id <> 'in_4'}), '', 'and verify_mirror() no difference');
is($new->safe_psql('shop', q{SELECT state FROM stripe_sync.message WHERE key = 'after'}), 'waiting', 'and its messages wait');
$new->safe_psql('shop', 'SELECT stripe_sync.activate()');
ok($new->poll_query_until('shop', q{SELECT state = 'sent' FROM stripe_sync.message WHERE key = 'after'}), 'until activate()');
is($slack->texts->{after}, 1, 'then it is sent once');
is($slack->texts->{before}, 1, 'and what was sent before is not sent again');

# ---- the extension belongs to who runs pg_upgrade, its tables to who installed ----

sub receive_in { return $new->psql($_[0], "\\set VERBOSITY verbose\nSELECT status FROM stripe_sync.receive(" . literals($payload, signature($payload)) . ')'); }

is(($new->psql('of_second', q{SELECT extowner <> relowner FROM pg_extension, pg_class WHERE extname = 'stripe_sync' AND pg_class.oid = 'stripe_sync.event'::regclass}))[1], 't', 'two owners');
is((receive_in('of_second'))[1], 'applied', 'another superuser\'s receives');
my $error = (receive_in('of_third'))[2];
like($error, qr/55000: .*belongs to role "third".*HINT: .*ALTER TABLE stripe_sync\.\S+ OWNER TO/s, 'that of who is none any more says what to do');
$new->safe_psql('of_third', 'GRANT third TO CURRENT_USER; REASSIGN OWNED BY third TO CURRENT_USER');
is((receive_in('of_third'))[1], 'applied', 'and receives then');

$new->stop;
done_testing();
