# level.pl
#		A library that doesn't fit its catalog: living sessions and the worker
#		notice, webhooks go on, the worker idles, and resumes with ALTER EXTENSION
#		UPDATE.  (What one session sees by itself: sql/engine_level.sql.)

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use SlackStub;
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $missing = SlackStub->missing;
plan skip_all => $missing if $missing;

my $slack = SlackStub->start;
my $node = start_node('level', allows_streaming => 1, conf => PRELOAD . $slack->conf . "log_min_messages = log\nstripe_sync.http_timeout = '10min'\n");
my $folder = $node->config_data('--sharedir') . '/extension';
plan skip_all => "$folder is not ours to write to" unless -w $folder;

# ---- two versions of the extension, of one level each ----

my ($version) = slurp_file("$folder/stripe_sync.control") =~ /default_version = '(.*)'/;
my @scripts = ("$folder/stripe_sync--$version--older.sql", "$folder/stripe_sync--older--$version.sql");
append_to_file($scripts[0], "UPDATE stripe_sync.catalog_level SET level = level - 1;\n");
append_to_file($scripts[1], "UPDATE stripe_sync.catalog_level SET level = level + 1;\n");
END { unlink @scripts; }

make_database($node, 'one');
sub one { return $node->safe_psql('one', $_[0]); }

my $library = one('SELECT level FROM stripe_sync.catalog_level');
my $older = $library - 1;
my $idle = "idle: catalog level $older, library level $library";

sub state_is
{
	my ($state, $what) = @_;

	return eventually($what, sub { one(q{SELECT string_agg(state, ' ') FROM stripe_sync.worker WHERE database = 'one'}) eq $state });
}

# What somebody would have to wait a minute for was not told.
use constant SOON => 20;

my $number = 0;

sub webhook_sql
{
	my $id = ++$number;
	my $payload = json_text(event("evt_$id", 'customer.created', $id, { id => "cus_$id", object => 'customer' }));

	return "SELECT http_status FROM stripe_sync.webhook(@{[ literal($payload) ]}, jsonb_build_object('stripe-signature', @{[ literal(signature($payload)) ]}))";
}

sub webhook { return one(webhook_sql()); }

# What a living session is told, in its first line.
sub told
{
	my ($session, $sql) = @_;

	$session->{stderr} = '';
	$session->query($sql);
	my ($said) = $session->{stderr} =~ /ERROR:\s*(.*)/;
	$session->{stderr} = '';
	return $said // '';
}

my $refusal = qr/has catalog level $older, its library needs level $library/;

one(q{CREATE TABLE test.noted (id text);
	CREATE FUNCTION test.note(event jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO test.noted VALUES (event ->> ''id'')';
	SELECT stripe_sync.add_handler('note', 'customer.*', 'test.note', deferred => true)});
add_webhook($node, 'one', $slack, 'ops', 1);
state_is('sleeping', 'the worker is there');
is(webhook(), '200', 'a webhook is received');
eventually('and its deferred handler run', sub { one('SELECT count(*) FROM test.noted') == 1 });

# ---- the catalog becomes another under living sessions ----

my $living = $node->background_psql('one', on_error_stop => 0);
$living->query_safe('SELECT stripe_sync.resume()');
my $within = $node->background_psql('one', on_error_stop => 0);
$within->query_safe('BEGIN');
is($within->query_safe(webhook_sql()), '200', 'a session is in the middle of a transaction');
$within->query_safe('SELECT stripe_sync.resume()');
$within->query_safe('SAVEPOINT before');

my $update = $node->background_psql('one');
my $log = -s $node->logfile;
$update->query_safe(q{BEGIN; ALTER EXTENSION stripe_sync UPDATE TO 'older'});
is(webhook(), '200', 'while the update is not committed a webhook is received');
is($living->query_safe(webhook_sql()), '200', 'by a living session too');
is(told($living, 'SELECT stripe_sync.resume()'), '', 'where all else goes on');
$update->query_safe('COMMIT');
$update->quit;

like(told($living, 'SELECT stripe_sync.resume()'), $refusal, 'a living session notices');
is($living->query_safe(webhook_sql()), '200', 'and receives webhooks');
like(told($within, 'SELECT stripe_sync.resume()'), $refusal, 'one in the middle of a transaction notices, too');
$within->query_safe('ROLLBACK TO before');
is($within->query_safe(webhook_sql()), '200', 'and receives webhooks');
$within->query_safe('ROLLBACK');
$within->quit;

# ---- the worker idles ----

cmp_ok(state_is($idle, 'the view says why the worker does nothing'), '<', SOON, 'soon');
my $noted = one('SELECT count(*) FROM test.noted');
is(webhook(), '200', 'a webhook whose handler is deferred is received');
my $pid = worker_pid($node, 'one');
one("SELECT pg_terminate_backend($pid)");
eventually('another worker starts', sub { my $new = worker_pid($node, 'one'); $new ne '' && $new ne $pid });
state_is($idle, 'and idles');
$node->reload;    # wakes it
$pid = worker_pid($node, 'one');
my $ticks = ticks($pid);
select(undef, undef, undef, 2);    # what is measured is time itself
cmp_ok(ticks($pid) - $ticks, '<=', 10, 'it uses no processor');
is(one('SELECT count(*) FROM test.noted'), $noted, 'no worker has run the handler');
my @said = slurp_file($node->logfile, $log) =~ /LOG:  stripe_sync does nothing in database "one": .*\n.*ALTER EXTENSION stripe_sync UPDATE/g;
is(scalar @said, 1, 'the log says once why, and what to do');
unlike(slurp_file($node->logfile, $log), qr/WARNING|ERROR.*work/, 'and nothing fails');

# ---- a standby of it ----

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
my $reading = $standby->background_psql('one', on_error_stop => 0);
like(told($reading, q{SELECT stripe_sync.explain_event('evt_1')}), $refusal, 'a standby refuses as well');

# ---- ALTER EXTENSION UPDATE, as the hint says ----

one('ALTER EXTENSION stripe_sync UPDATE');
cmp_ok(state_is('sleeping', 'the worker resumes by itself'), '<', SOON, 'soon');
eventually('and does what was left', sub { one('SELECT count(*) FROM test.noted') == one('SELECT count(*) FROM stripe_sync.event') });
is(told($living, 'SELECT stripe_sync.resume()'), '', 'the living session goes on');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is(told($reading, q{SELECT stripe_sync.explain_event('evt_1')}), '', 'and the standby');
$reading->quit;
$standby->stop;

# ---- with a message in the air ----

sub in_the_air
{
	my ($text, $fault) = @_;

	$slack->fault($fault, times => 1, text => qr/^\Q$text\E/);
	my $id = notify($node, 'one', 'ops', $text);
	ok($slack->wait_for(sub { grep { ($_->{payload}{text} // '') eq $text } @{ $slack->requests } }), "$text: it is in the air");
	return $id;
}

# The worker lets it land before ALTER EXTENSION UPDATE goes on.
my $id = in_the_air('landing', { delay => 0.5 });
one(q{ALTER EXTENSION stripe_sync UPDATE TO 'older'});
is(field($node, 'one', $id, 'state'), 'sent', 'landing: it is settled before the update');
is($slack->texts->{landing}, 1, 'landing: once');
one('ALTER EXTENSION stripe_sync UPDATE');
state_is('sleeping', 'the worker is there again');

# Where the catalog changes behind its back the worker can't settle it.
$id = in_the_air('stranded', $slack->hold);
$pid = worker_pid($node, 'one');
$log = -s $node->logfile;
one("UPDATE stripe_sync.catalog_level SET level = $older");
$node->reload;    # wakes it
eventually('stranded: the worker lets go of it', sub { my $new = worker_pid($node, 'one'); $new ne '' && $new ne $pid });
state_is($idle, 'stranded: and idles');
is(field($node, 'one', $id, 'state'), 'sending', 'stranded: nothing is written');
unlike(slurp_file($node->logfile, $log), qr/WARNING|ERROR/, 'stranded: and nothing fails');
one("UPDATE stripe_sync.catalog_level SET level = $library");
$node->reload;
state_of_message($node, 'one', $id, 'sent', 'stranded: it is sent when the catalog fits');
is(one("SELECT string_agg(attempt || verdict, ' ' ORDER BY id) FROM stripe_sync.delivery WHERE message_id = $id"), '1lost 2sent', 'stranded: the log has it');

# A session that runs a statement meanwhile; its end is waited for by the next.
sub begin
{
	my ($session, $sql) = @_;

	$session->query_until(qr/begun/, "\\echo begun\n$sql;\n");
	return;
}

# CALL work() in a session that lives through the change
$slack->reset;
one(q{SELECT stripe_sync.pause('slack')});
$id = notify($node, 'one', 'ops', 'foreground');
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$living->quit;
$node->restart;
one(q{SELECT stripe_sync.resume()});
$living = $node->background_psql('one', on_error_stop => 0);
$slack->fault($slack->hold, times => 1, text => qr/^foreground/);
begin($living, q{CALL stripe_sync.work('1 hour')});
ok($slack->wait_for(sub { grep { ($_->{payload}{text} // '') eq 'foreground' } @{ $slack->requests } }), 'foreground: it is in the air');
one("UPDATE stripe_sync.catalog_level SET level = $older");
$slack->release;
like(told($living, 'SELECT 1'), $refusal, 'foreground: work() is told');
one("UPDATE stripe_sync.catalog_level SET level = $library");
$living->query_safe(q{CALL stripe_sync.work('1 minute')});
is(field($node, 'one', $id, 'state'), 'sent', 'foreground: and settles it when it is called again');
is($slack->texts->{foreground}, 1, 'foreground: once');

# One that ends meanwhile leaves it to others.
$slack->reset;
$id = notify($node, 'one', 'ops', 'abandoned');
$slack->fault($slack->hold, times => 1, text => qr/^abandoned/);
begin($living, q{CALL stripe_sync.work('1 hour')});
ok($slack->wait_for(sub { grep { ($_->{payload}{text} // '') eq 'abandoned' } @{ $slack->requests } }), 'abandoned: it is in the air');
one("UPDATE stripe_sync.catalog_level SET level = $older");
$slack->release;
like(told($living, 'SELECT 1'), $refusal, 'abandoned: work() is told');
$log = -s $node->logfile;
$living->quit;
eventually('abandoned: the session ends', sub { one(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'}) == 1 });
unlike(slurp_file($node->logfile, $log), qr/FATAL|ERROR/, 'abandoned: without a word');
one("UPDATE stripe_sync.catalog_level SET level = $library");
one(q{CALL stripe_sync.work('1 minute')});
is(field($node, 'one', $id, 'state'), 'sent', 'abandoned: another sends it');

# ---- a delivery that waits for the update ----

make_database($node, 'two');
$update = $node->background_psql('two');
$update->query_safe('BEGIN; ALTER TABLE stripe_sync.event ADD more text; UPDATE stripe_sync.catalog_level SET level = level + 1');
my $waiting = $node->background_psql('two', on_error_stop => 0);
$waiting->query_safe(q{SET application_name = 'waiting'});
begin($waiting, webhook_sql());
ok(wait_for_lock($node, 'two', 'waiting'), 'a delivery waits for the update');
$update->query_safe('COMMIT');
unlike(told($waiting, 'SELECT 1'), qr/ERROR/, 'and is stored, with what the new column has by default');
is($node->safe_psql('two', 'SELECT count(*) FROM stripe_sync.event'), 1, 'it is there');
is($node->safe_psql('two', webhook_sql()), '500', 'the next one is answered 500');
$_->quit for $waiting, $update;

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|was terminated by signal/, 'no crash');
$node->stop;
done_testing();
