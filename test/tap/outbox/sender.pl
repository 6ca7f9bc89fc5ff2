# sender.pl
#		What background workers that send HTTP have been seen to do wrong, and
#		this one doesn't (but for what worker.pl and crash.pl show).

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
my $node = start_node('sender', conf => PRELOAD . $slack->conf . "stripe_sync.slack_rate = 0\nstripe_sync.http_timeout = '10min'\n");
make_sender($node, 'one');
add_webhook($node, 'one', $slack, 'hook', 1);
add_webhook($node, 'one', $slack, 'slow', 2);
add_channel($node, 'one', 'bot', '#bot');

sub one { return $node->safe_psql('one', $_[0]); }
sub worker { return worker_pid($node, 'one'); }

# Whoever waited for an answer that is held back, or for the worker's next look
# around, would take longer.
use constant SOON => 20;

# Seconds until Slack has a text, of a message that is queued now.
sub sent_soon
{
	my ($what, $destination, $text) = @_;

	notify($node, 'one', $destination, $text);
	my $start = time;
	ok($slack->wait_for(sub { $slack->texts->{$text} }), $what);
	my $took = time - $start;
	cmp_ok($took, '<', SOON, "$what: at once");
	return $took;
}

sub log_of { return one("SELECT string_agg(attempt || verdict, ' ' ORDER BY id) FROM stripe_sync.delivery WHERE message_id = $_[0]"); }

# ---- an answer that takes its time ----

sent_soon('the first message', 'hook', 'first');
my $pid = worker();
$slack->fault($slack->hold, times => 1, text => qr/^taking its time/);
my $id = notify($node, 'one', 'slow', 'taking its time');
ok($slack->wait_for(sub { $slack->stats->{in_flight} == 1 }), 'one is in the air');
for my $destination (qw(hook bot slow))
{
	sent_soon("beside it, to $destination", $destination, "beside it to $destination");
}
# What came beside it is settled, and the worker through with that.
$node->poll_query_until('one', qq{SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
	OR (SELECT count(*) <> 1 FROM stripe_sync.message WHERE state = 'sending')});
# it looks around now and then: that is a few of these moments, not half of them
my $open = 0;
for (1 .. 20)
{
	$open += one(qq{SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)});
}
is($slack->stats->{in_flight}, 1, 'while it is in the air');
cmp_ok($open, '<', 10, 'no transaction or snapshot is open');
ok($node->poll_query_until('one', "SELECT count(*) = 0 FROM pg_locks WHERE pid = $pid"), 'and no lock is held');
is(field($node, 'one', $id, q{state || attempts}), 'sending1', 'its attempt is counted');
is(one(qq{SELECT lease_pid = $pid AND lease_at > created_at FROM stripe_sync.message WHERE id = $id}), 't', 'and it is leased to the worker');
is($slack->stats->{in_flight}, 1, 'all the while');
$slack->release;
state_of_message($node, 'one', $id, 'sent', 'it is sent when it is answered');
is(log_of($id), '1sent', 'by one attempt');

# A destination that doesn't answer takes connections, not all of them.
$slack->fault($slack->hold, text => qr/^stuck /);
one(q{SELECT count(stripe_sync.notify('slow', 'stuck ' || i)) FROM generate_series(1, 200) i});
ok($slack->wait_for(sub { $slack->stats->{in_flight} > 1 }), 'many to one place are in the air');
sent_soon('beside a hundred that wait for one place', 'hook', 'past the stuck');
one(q{SELECT stripe_sync.disable_destination('slow', 'stuck')});
eventually('switched off by hand, it is claimed for no more', sub { $slack->release; one(q{SELECT count(*) FROM stripe_sync.message WHERE state = 'sending'}) == 0 });
one(q{SELECT count(stripe_sync.cancel_message(id)) FROM stripe_sync.message WHERE state = 'waiting'});
ok(idle($node, 'one'), 'what was in the air lands');
is(one(q{SELECT count(*) FROM stripe_sync.message WHERE payload ->> 'text' LIKE 'stuck %' AND state NOT IN ('sent', 'cancelled')}), '0', 'sent, or cancelled before');
one(q{SELECT stripe_sync.enable_destination('slow')});
$slack->clear_faults;

# ---- a poison row ----

# What no function of ours would have written.
one(q{INSERT INTO stripe_sync.incident_record (id, kind, alert, group_key, account, destination, severity, text, blocks, event_id, window_until)
	VALUES (4712, 'incident', 'spoilt', '', '', 'hook', 'nonsense', 'x', '{"not": "an array"}', 'evt_0', now())});
one(q{INSERT INTO stripe_sync.message (destination, method, payload, due_at, incident) VALUES ('hook', 'summary', '{"text": "as it was queued"}', clock_timestamp(), 4712)});
my @poison = ('[]', '{}', 'null', '"text"', '{"text": 1}', '{"text": ""}', '{"blocks": [{}]}');
one(q{INSERT INTO stripe_sync.message (destination, method, payload, due_at, incident) SELECT d, m, p::jsonb, clock_timestamp(), i
	FROM unnest('{hook,bot}'::text[]) d, unnest('{post,summary,test,unheard_of}'::text[]) m, unnest(ARRAY[} . literals(@poison) . q{]) p, unnest('{NULL,4711}'::bigint[]) i
	WHERE i IS NULL OR m <> 'summary'});
one(q{INSERT INTO stripe_sync.message (destination, method, payload, due_at) VALUES ('nowhere', 'post', '{"text": "x"}', clock_timestamp())});
sent_soon('among rows that nobody can send', 'hook', 'among poison');
eventually('each of them ends by itself', sub { one(q{SELECT count(*) FROM stripe_sync.message WHERE state IN ('waiting', 'sending')}) == 0 });
is(one(q{SELECT count(*) FROM stripe_sync.message WHERE state = 'dead' AND attempts = 1} ) > 10 ? 1 : 0, 1, 'dead at the first attempt');
is($slack->texts->{'as it was queued'}, 1, 'what cannot be made anew is sent as it was queued');
is(worker(), $pid, 'the worker stays');
$slack->reset;

# ---- stopping and starting with a request in the air ----

sub in_the_air
{
	my ($text) = @_;

	$slack->fault($slack->hold, times => 1, text => qr/^\Q$text\E/);
	my $message = notify($node, 'one', 'hook', $text);
	ok($slack->wait_for(sub { grep { ($_->{payload}{text} // '') eq $text } @{ $slack->requests } }), "$text: it is in the air");
	return $message;
}

sub sent_again
{
	my ($message, $text) = @_;
	my $start = time;

	state_of_message($node, 'one', $message, 'sent', "$text: it is sent again");
	cmp_ok(time - $start, '<', SOON, "$text: at once");
	is(log_of($message), '1lost 2sent', "$text: the log has it");
	return;
}

$id = in_the_air('fast stop');
one('CHECKPOINT');
my $start = time;
kill('INT', (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0]);
eventually('a fast stop ends the worker', sub { !kill(0, $pid) });
cmp_ok(time - $start, '<', SOON, 'at once');
eventually('and the server', sub { !-e $node->data_dir . '/postmaster.pid' });
$node->_update_pid(0);
$node->start;
sent_again($id, 'fast stop');

$id = in_the_air('terminated');
$pid = worker();
one("SELECT pg_terminate_backend($pid)");
sent_again($id, 'terminated');
isnt(worker(), $pid, 'by another worker');

# Dropped while something is on its way there: what should be tried again is called off.
add_webhook($node, 'one', $slack, 'dropped', 3);
$slack->fault({ delay => 1, status => 500 }, text => qr/^dropped/);
$id = notify($node, 'one', 'dropped', 'dropped');
ok($slack->wait_for(sub { $slack->stats->{in_flight} }), 'dropped: it is in the air');
one(q{SELECT stripe_sync.drop_destination('dropped')});
eventually('a message of no destination does not wait for ever', sub { field($node, 'one', $id, q{state || coalesce(last_code, '')}) eq 'cancelleddestination_dropped' });

# Asked to make room it lets what is in the air land.
$slack->fault({ delay => 0.5 }, times => 1, text => qr/^leaving/);
$id = notify($node, 'one', 'hook', 'leaving');
ok($slack->wait_for(sub { grep { ($_->{payload}{text} // '') eq 'leaving' } @{ $slack->requests } }), 'leaving: it is in the air');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE one');
state_of_message($node, 'one', $id, 'sent', 'leaving: it is sent');
is($slack->texts->{leaving}, 1, 'leaving: once');
$node->safe_psql('postgres', 'DROP DATABASE copy');

# ---- waking ----

# A long session that commits often: the last wake-up costs what the first did
# (in seconds of the processor: others use it too).
one(q{SELECT stripe_sync.pause('slack')});
one(q{CREATE FUNCTION used() RETURNS float8 LANGUAGE sql AS $$
	SELECT (f[12]::float8 + f[13]::float8) / 100 FROM string_to_array(regexp_replace(pg_read_file('/proc/self/stat', 0, 4000), '^.*\) ', ''), ' ') f $$});
my $quarters = one(q{CREATE PROCEDURE many() LANGUAGE plpgsql AS $$
DECLARE
	began float8 := used();
	took text := '';
BEGIN
	FOR i IN 1 .. 20000 LOOP
		PERFORM stripe_sync.notify('hook', 'many', send_after => '2100-01-01');
		COMMIT;
		IF i % 5000 = 0 THEN
			took := took || ' ' || used() - began;
			began := used();
		END IF;
	END LOOP;
	CREATE TABLE many AS SELECT took;
END $$; CALL many(); SELECT took FROM many});
my @quarters = split ' ', $quarters;
note "quarters of 20,000 transactions: @quarters";
cmp_ok($quarters[3], '<', 2 * $quarters[0] + 1, 'a wake-up in a long session costs what it did at first');
one(q{TRUNCATE stripe_sync.message, stripe_sync.delivery; SELECT stripe_sync.resume()});

# One now and then goes at once.
my @trickle = sort { $a <=> $b } map { sent_soon("trickle $_", $_ % 2 ? 'hook' : 'bot', "trickle $_") } 1 .. 15;
note "median of a trickle: $trickle[7]";
cmp_ok($trickle[7], '<', 2, 'a trickle is sent without waiting for more');

# ---- many waiting ----

# Blocks that it takes to send so many to one destination, whatever else waits there.
sub cost
{
	my ($count) = @_;

	one(q{SELECT pg_stat_reset_single_table_counters('stripe_sync.message'::regclass)});
	my $worker = worker();
	one(qq{UPDATE stripe_sync.message SET due_at = clock_timestamp() - interval '1 hour' WHERE id IN (SELECT id FROM stripe_sync.message WHERE state = 'waiting' ORDER BY id LIMIT $count);
		SELECT pg_stat_force_next_flush()});
	one('VACUUM ANALYZE stripe_sync.message');
	my $before = one(q{SELECT heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read FROM pg_statio_all_tables WHERE relid = 'stripe_sync.message'::regclass});
	my $sent = one(q{SELECT count(*) FROM stripe_sync.message WHERE state = 'sent'});
	one(q{SELECT stripe_sync.resume()});
	eventually("$count are sent", sub { one(q{SELECT count(*) FROM stripe_sync.delivery}) >= $sent + $count });
	# the counters are there when the worker sleeps
	$node->poll_query_until('one', qq{SELECT state = 'sleeping' FROM stripe_sync.worker WHERE database = 'one'});
	return one(q{SELECT heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read FROM pg_statio_all_tables WHERE relid = 'stripe_sync.message'::regclass}) - $before;
}

one(q{TRUNCATE stripe_sync.message, stripe_sync.delivery; SELECT stripe_sync.pause('slack')});
one(q{INSERT INTO stripe_sync.message (destination, method, payload, due_at) SELECT 'hook', 'post', '{"text": "few"}', '2100-01-01' FROM generate_series(1, 200)});
my $few = cost(200);
one(q{TRUNCATE stripe_sync.message, stripe_sync.delivery; SELECT stripe_sync.pause('slack')});
one(q{INSERT INTO stripe_sync.message (destination, method, payload, due_at) SELECT 'hook', 'post', '{"text": "many"}', '2100-01-01' FROM generate_series(1, 200000)});
my $many = cost(200);
note "blocks for 200 messages: $few of 200, $many of 200,000";
cmp_ok($many, '<', 5 * $few, 'with 200,000 waiting, sending 200 costs what it costs with 200');

# Seconds of each quarter of draining so many, by the stub's clock.
sub drain
{
	my ($what, $count) = @_;

	one(q{TRUNCATE stripe_sync.message, stripe_sync.delivery; SELECT stripe_sync.pause('slack')});
	$slack->reset;
	one(qq{SELECT count(stripe_sync.notify(CASE WHEN i % 2 = 0 THEN 'hook' ELSE 'slow' END, 'drain')) FROM generate_series(1, $count) i});
	one(q{SELECT stripe_sync.resume()});
	eventually("$what: all are sent", sub { $slack->stats->{ok} >= $count }, 600);
	my @at = map { $_->{at} } @{ $slack->requests };
	my @quarter = map { $at[ $_ * $count / 4 - 1 ] - $at[ ($_ - 1) * $count / 4 ] } 1 .. 4;
	note "$what, seconds of each quarter of $count: " . join ' ', map { sprintf '%.2f', $_ } @quarter;
	return @quarter;
}

my @drained = drain('draining', 12000);
# a cost that grows with what was sent would make it seven times
cmp_ok($drained[3], '<', 4 * $drained[0] + 1, 'what was sent is not in the way of what is to be sent');

unlike(slurp_file($node->logfile), qr/ERROR|PANIC|TRAP|terminated by signal/, 'nothing went wrong');
no_secret_in($node, 'one', 'after all this');
$node->stop;
done_testing();
