# interference.pl
#		What others do at the same time doesn't stop the sending, and an orderly
#		end of whoever sends doesn't send anything twice.

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
use Time::HiRes qw(time);

my $missing = SlackStub->missing;
plan skip_all => $missing if $missing;

my $slack = SlackStub->start;
my $node = start_node('busy', conf => PRELOAD . $slack->conf . "stripe_sync.slack_rate = 0\nstripe_sync.http_timeout = '5min'\nstripe_sync.slack_burst = 2\n");
make_database($node, 'shop');
add_webhook($node, 'shop', $slack, 'hook', 1);
add_webhook($node, 'shop', $slack, 'other', 2);
add_channel($node, 'shop', 'bot', '#bot');

sub shop { return $node->safe_psql('shop', $_[0]); }
sub worker { return worker_pid($node, 'shop'); }
sub received { return $slack->texts->{ $_[0] } // 0; }

sub deliver
{
	my ($id, $type, $object) = @_;
	my $payload = json_text(event($id, $type, 1, $object));

	return shop('SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload)) . ')');
}

sub in_flight { return $slack->wait_for(sub { $slack->stats->{in_flight} >= 1 }) || die 'nothing is in the air'; }

# Another destination's messages go out meanwhile.
sub others_go_on
{
	my ($what) = @_;
	my $start = time;

	for my $n (1 .. 3)
	{
		notify($node, 'shop', 'other', "$what $n");
		ok($slack->wait_for(sub { received("$what $n") == 1 }), "$what: others go on ($n)");
	}
	cmp_ok(time - $start, '<', 45, "$what: and soon");
	return;
}

sub set_conf
{
	my (%settings) = @_;

	$node->append_conf('postgresql.conf', "$_ = '$settings{$_}'") for keys %settings;
	$node->reload;
	for (keys %settings)
	{
		$node->poll_query_until('shop', "SELECT setting::float = $settings{$_} AND state NOT IN ('starting', 'working') AND state NOT LIKE 'none%' FROM pg_settings, stripe_sync.worker WHERE name = '$_' AND database = 'shop'");
	}
	return;
}

notify($node, 'shop', 'hook', 'the first');
ok($slack->wait_for(sub { received('the first') == 1 }), 'it sends');
my $pid = worker();

# ---- a transaction that somebody leaves open ----

my $session = $node->background_psql('shop');

$slack->fault($slack->hold, times => 1, text => qr/^held 1/);
my $held = notify($node, 'shop', 'bot', 'held 1', q{thread => 'held'});
in_flight();
$session->query_safe(q{BEGIN; SELECT stripe_sync.set_fallback('bot', 'hook')});
$slack->release;
ok($slack->wait_for(sub { received('held 1') == 1 }), 'a message lands while its destination is being changed');
eventually('it cannot be settled yet, which the log says', sub { slurp_file($node->logfile) =~ /message $held could not be settled yet/ });
others_go_on('destination changed');
is(field($node, 'shop', $held, 'state'), 'sending', 'it waits for that');
$session->query_safe('ROLLBACK');
state_of_message($node, 'shop', $held, 'sent', 'it is, when that is over');
is(received('held 1'), 1, 'and was sent once');

$slack->fault($slack->hold, times => 1, text => qr/^ahead/);
my $ahead = notify($node, 'shop', 'bot', 'ahead', q{thread => 'queue'});
in_flight();
my $behind = notify($node, 'shop', 'bot', 'behind', q{thread => 'queue'});
$node->poll_query_until('shop', "SELECT blocked_by = $ahead FROM stripe_sync.message WHERE id = $behind");
$session->query_safe("BEGIN; SELECT stripe_sync.cancel_message($behind)");
$slack->release;
state_of_message($node, 'shop', $ahead, 'sent', 'a message is settled though one behind it is being cancelled');
others_go_on('message cancelled');
$session->query_safe('ROLLBACK');
# an hour's worth of minutes isn't waited for here: work() does what the worker does every minute
shop('CALL stripe_sync.work()');
state_of_message($node, 'shop', $behind, 'sent', 'and that one is sent when it is not');

shop(q{CREATE TABLE test.locked (id text);
	CREATE FUNCTION test.write(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO test.locked VALUES (event->>'id') $$;
	SELECT stripe_sync.add_handler('write', 'product.created', 'test.write', deferred => true)});
$session->query_safe('BEGIN; LOCK TABLE test.locked');
is(deliver('evt_l', 'product.created', { id => 'prod_l', object => 'product' }), 'applied', 'a deferred handler meets a lock');
others_go_on('handler waits');
ok($node->poll_query_until('shop', q{SELECT error LIKE 'write: 55P03%' FROM stripe_sync.event WHERE id = 'evt_l'}), 'it waits two seconds for it, not for ever');
$session->query_safe('ROLLBACK');
shop(q{UPDATE stripe_sync.event SET next_attempt_at = now() WHERE id = 'evt_l'; SELECT stripe_sync.resume()});
ok($node->poll_query_until('shop', q{SELECT todo = '{}' FROM stripe_sync.event WHERE id = 'evt_l'}), 'and succeeds later');

# VACUUM holds this lock, and would be cancelled by who waits for it
shop(q{INSERT INTO stripe_sync.event (id, type, account, created, received_at, source, status, todo, attempts, payload)
	SELECT 'evt_pad_' || n, 'product.created', '', now(), now(), 'webhook', 'ignored', '{}', 0, json_build_object('id', 'evt_pad_' || n, 'pad', (SELECT string_agg(md5(n::text || m::text), '') FROM generate_series(1, 40) m))
	  FROM generate_series(1, 1200) n});
cmp_ok(shop(q{SELECT pg_relation_size('stripe_sync.event') / current_setting('block_size')::int}), '>', 128, 'a range of the BRIN index is full');
$session->query_safe('BEGIN; LOCK TABLE stripe_sync.event IN SHARE UPDATE EXCLUSIVE MODE');
my (undef, undef, $summarized) = $node->psql('shop', q{CALL stripe_sync.work('10 seconds')});
is($summarized, '', 'the index is not summarized while the inbox is vacuumed, and nothing waits');
$session->query_safe('ROLLBACK');
shop(q{DELETE FROM stripe_sync.event WHERE id LIKE 'evt_pad_%'});
$session->quit;

# ---- much else to do ----

shop(q{CREATE FUNCTION test.busy(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE until timestamptz := clock_timestamp() + '50 ms'; BEGIN WHILE clock_timestamp() < until LOOP END LOOP; END $$;
	SELECT stripe_sync.add_handler('busy', 'coupon.created', 'test.busy', deferred => true)});
my $payloads = join ', ', map {
	my $payload = json_text(event("evt_c$_", 'coupon.created', 1, { id => "c$_", object => 'coupon' }));
	'(' . literals($payload, signature($payload)) . ')';
} 1 .. 180;
# longer than http_timeout in all
set_conf('stripe_sync.http_timeout' => 6000);
$slack->fault({ delay => 0.5 }, times => 4, text => qr/^amid/);
shop("SELECT count(r.status) FROM (VALUES $payloads) p (payload, signature) CROSS JOIN LATERAL stripe_sync.receive(payload, signature) r;"
	. join '', map { "SELECT stripe_sync.notify('hook', 'amid $_');" } 1 .. 4);
ok($node->poll_query_until('shop', q{SELECT bool_and(todo = '{}') FROM stripe_sync.event WHERE type = 'coupon.created'}), 'many handlers that take their time');
ok(idle($node, 'shop'), 'messages are sent beside them');
is(join(' ', map { received("amid $_") } 1 .. 4), '1 1 1 1', 'each once');
is(shop(q{SELECT count(*) FROM stripe_sync.delivery d JOIN stripe_sync.message m ON m.id = d.message_id WHERE m.payload->>'text' LIKE 'amid%' AND d.verdict <> 'sent'}), '0',
	'none was taken for lost');
set_conf('stripe_sync.http_timeout' => 300_000);

shop(q{UPDATE stripe_sync.event SET payload = '[]', todo = '{busy}', tries = '{"busy": 1}', next_attempt_at = now() - interval '1 hour' WHERE id = 'evt_c1'});
is(deliver('evt_after', 'coupon.created', { id => 'after', object => 'coupon' }), 'applied', 'behind an event that nobody can read');
ok($node->poll_query_until('shop', q{SELECT todo = '{}' FROM stripe_sync.event WHERE id = 'evt_after'}), 'others have their turn');
is(shop(q{SELECT error IS NOT NULL AND next_attempt_at > now() FROM stripe_sync.event WHERE id = 'evt_c1'}), 't', 'it is put off, and says why');
is(worker(), $pid, 'the worker is the same all the while');

# ---- told to stop ----

set_conf('stripe_sync.max_connections' => 1);
sub queue_slow { return shop(join '', map { "SELECT stripe_sync.notify('hook', 'slow $_[0] $_');" } 1 .. 8); }
sub waiting_untouched
{
	my ($what) = @_;

	ok($node->poll_query_until('shop', q{SELECT count(*) = 0 FROM stripe_sync.message WHERE state = 'sending'}), "$what: what was claimed and not sent goes back");
	cmp_ok(shop(q{SELECT count(*) FROM stripe_sync.message WHERE state = 'waiting'}), '>=', 5, "$what: most were not sent");
	is(shop(q{SELECT count(*) FROM stripe_sync.message WHERE state = 'waiting' AND attempts > 0 AND last_code IS NULL}), '0', "$what: and no attempt is counted");
	return;
}
$slack->fault($slack->hold, text => qr/^slow/);
queue_slow('pause');
in_flight();
shop(q{SELECT stripe_sync.pause('slack')});
$slack->release;
waiting_untouched('paused');
$slack->clear_faults;
shop(q{SELECT stripe_sync.resume('slack')});
ok(idle($node, 'shop'), 'resumed, all are sent');
is(join(' ', map { received("slow pause $_") } 1 .. 8), join(' ', (1) x 8), 'each once');

$slack->fault({ status => 429, headers => { 'Retry-After' => '100' }, delay => 0.4 }, times => 1, text => qr/^limited/);
shop(join '', map { "SELECT stripe_sync.notify('hook', 'limited $_');" } 1 .. 8);
ok($node->poll_query_until('shop', q{SELECT blocked_until IS NOT NULL FROM stripe_sync.destination_pace WHERE destination = 'hook'}), 'Slack asks for silence');
waiting_untouched('silenced');
shop(q{UPDATE stripe_sync.message SET due_at = now() WHERE state = 'waiting'; SELECT stripe_sync.enable_destination('hook')});
ok(idle($node, 'shop'), 'when that is over all are sent');
is(shop(q{SELECT sum(attempts) FROM stripe_sync.message WHERE payload->>'text' LIKE 'limited%'}), '9', 'with one attempt more than messages');

# What leaves lets land what is in the air, and begins nothing more.
$slack->fault({ delay => 0.4 }, times => undef, text => qr/^slow/);
queue_slow("leave $_"), in_flight(), shop('BEGIN; DROP EXTENSION stripe_sync CASCADE; ROLLBACK') for 1 .. 2;
ok(idle($node, 'shop'), 'a worker that had to leave comes back, and all are sent');
my %times;
$times{ received("slow leave $_->[0] $_->[1]") }++ for map { my $n = $_; map { [ $n, $_ ] } 1 .. 8 } 1 .. 2;
is(json_text(\%times), json_text({ 1 => 16 }), 'each once');
$slack->clear_faults;

# ---- clocks ----

set_conf('stripe_sync.slack_rate' => 5);
shop(q{UPDATE stripe_sync.destination_pace SET next_at = now() + interval '1 day', blocked_until = now() + interval '1 year'});
notify($node, 'shop', 'hook', 'later');
ok($slack->wait_for(sub { received('later') == 1 }), 'what a clock that ran ahead has noted holds up nothing');

# ---- the launcher ----

my $launcher = shop('SELECT pid FROM stripe_sync.worker WHERE database IS NULL');
shop("SELECT pg_cancel_backend($launcher)");
notify($node, 'shop', 'hook', 'after the cancel');
ok($slack->wait_for(sub { received('after the cancel') == 1 }), 'a cancel');
is(shop('SELECT pid FROM stripe_sync.worker WHERE database IS NULL'), $launcher, 'is nothing to the launcher');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'no crash');
$node->stop;

# ---- CALL work() ----

my $bare = start_node('bare', conf => $slack->conf . "stripe_sync.slack_rate = 0\nstripe_sync.max_connections = 4\n");
make_database($bare, 'shop');
add_webhook($bare, 'shop', $slack, 'hook', 1);
$slack->reset;
$slack->fault({ delay => 0.4 }, times => undef);
$bare->safe_psql('shop', join '', map { "SELECT stripe_sync.notify('hook', 'work $_');" } 1 .. 30);
for (1 .. 3)
{
	$bare->safe_psql('shop', q{CALL stripe_sync.work('1 second')});
	is($bare->safe_psql('shop', q{SELECT count(*) FROM stripe_sync.message WHERE state = 'sending'}), '0', "at its end work() holds nothing ($_)");
}
$bare->safe_psql('shop', q{CALL stripe_sync.work('1 minute')});
is($bare->safe_psql('shop', q{SELECT count(*) FILTER (WHERE state = 'sent') FROM stripe_sync.message}), '30', 'several calls send all');
is(join(' ', map { received("work $_") } 1 .. 30), join(' ', (1) x 30), 'each once');

# The engine's own trouble is told as it is, and leaves no lease behind.
$slack->clear_faults;
my $late = notify($bare, 'shop', 'hook', 'late');
my $locker = $bare->background_psql('shop');
$locker->query_safe('BEGIN; LOCK TABLE stripe_sync.destination_pace');
my ($ret, $out, $err) = $bare->psql('shop', q{CALL stripe_sync.work('5 seconds')});
like($err, qr/canceling statement due to lock timeout/, 'an error within work() is told as it is');
is(field($bare, 'shop', $late, 'state'), 'waiting', 'and nothing stays leased');
$locker->query_safe('ROLLBACK');
$locker->quit;

# A message that is committed while its destination is dropped
$bare->safe_psql('shop', q{UPDATE stripe_sync.message SET destination = 'gone' WHERE payload->>'text' = 'late'});
$bare->safe_psql('shop', q{CALL stripe_sync.work('10 seconds')});
is(field($bare, 'shop', $late, q{state || ' ' || last_code}), 'cancelled destination_dropped', 'what no destination is left for is called off');

$bare->stop;
done_testing();
