# thread.pl
#		Which message goes when: order, pace, keys, delays, transactions; by the
#		worker and by CALL work().

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use SlackStub;
use StripeSync;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $missing = SlackStub->missing;
plan skip_all => $missing if $missing;

my $slack = SlackStub->start;
my $node = start_node('thread', conf => PRELOAD . $slack->conf . "max_prepared_transactions = 5\nstripe_sync.http_timeout = '5min'\n");
make_sender($node, 'one');
add_webhook($node, 'one', $slack, "hook$_", $_) for 1 .. 9;
add_channel($node, 'one', "bot$_", "#bot$_") for 1 .. 9;

sub one { return $node->safe_psql('one', $_[0]); }
sub taken { my ($text) = @_; return $slack->wait_for(sub { $slack->texts->{$text} }); }
sub not_taken { return !$slack->texts->{ $_[0] }; }

# For what would take a minute if it had to be looked for.
use constant SOON => 20;

# When the stub had each request to a destination that fits, by its own clock.
sub times_of
{
	my ($regex) = @_;

	return map { $_->{at} } grep { ($_->{payload}{text} // '') =~ $regex } @{ $slack->requests };
}

sub setting { return worker_setting($node, 'one', @_); }

# ---- pace ----

my $start = time;
one(q{BEGIN; SELECT count(stripe_sync.notify('hook1', 'paced ' || i)), count(stripe_sync.notify('bot1', 'paced too ' || i)) FROM generate_series(1, 6) i;
	SELECT stripe_sync.notify('hook2', 'not held up'); COMMIT});
ok(taken('not held up'), 'what goes elsewhere');
my @texts = map { $_->{payload}{text} } @{ $slack->requests };
my ($place) = grep { $texts[$_] eq 'not held up' } 0 .. $#texts;
cmp_ok($place, '<=', 7, 'is not held up by the pace of others');
ok(idle($node, 'one'), 'all of it is sent');
for my $regex (qr/^paced \d/, qr/^paced too/)
{
	my @at = times_of($regex);

	is(scalar @at, 6, 'six to one destination');
	cmp_ok($at[2] - $at[0], '<', 1.7, 'three of them at once');
	# one that was held up on its way may be close behind the one before: what counts is when it may go
	cmp_ok($at[$_] - $start, '>', $_ - 2 - 0.1, 'then one a second, not earlier') for 3 .. 5;
	cmp_ok($at[5] - $at[2], '<', 5.9, 'nor slower');
}

# ---- several at once, and how many ----

setting('stripe_sync.slack_rate', '0');
$slack->reset;
$slack->fault($slack->hold, times => 1, text => qr/^many 1\n/);
$slack->fault({ delay => 1 });
one(q{SELECT count(stripe_sync.notify('hook' || 1 + i % 9, 'many ' || i)) FROM generate_series(1, 90) i});
eventually('all but one are settled', sub { one(q{SELECT count(*) FROM stripe_sync.message WHERE state = 'sent' AND payload ->> 'text' LIKE 'many %'}) == 89 });
is(one(q{SELECT payload ->> 'text' FROM stripe_sync.message WHERE state IN ('waiting', 'sending')}), 'many 1', 'each as it ends, not all at the end');
$slack->wait_for(sub { $slack->stats->{in_flight} == 1 });
$slack->release;
ok(idle($node, 'one'), 'ninety messages are sent');
cmp_ok($slack->stats->{max_in_flight}, '>', 4, 'several at a time');
cmp_ok($slack->stats->{connections}, '<=', 32, 'over connections that are kept');
setting('stripe_sync.max_connections', '3');
$slack->reset;
$slack->disconnect;
$slack->fault({ delay => 0.02 });
one(q{SELECT count(stripe_sync.notify('hook' || 1 + i % 9, 'few ' || i)) FROM generate_series(1, 60) i});
ok(idle($node, 'one'), 'sixty messages are sent');
cmp_ok($slack->stats->{max_in_flight}, '<=', 3, 'never more at a time than there may be connections');
cmp_ok($slack->stats->{max_open}, '<=', 3, 'nor more connections');
my %connections = map { $_->{connection} => 1 } @{ $slack->requests };
cmp_ok(scalar keys %connections, '<=', 3, 'each is used again');
setting('stripe_sync.max_connections', '32');

# ---- threads ----

# What was said in a thread, as Slack got it.
sub order_of
{
	my ($regex) = @_;

	return join ' ', map { $_->{payload}{text} =~ /(\d+)$/ } grep { $_->{payload}{text} =~ $regex && ($_->{code} // '') eq '' && !($_->{fault}{status} || $_->{fault}{api_error}) } @{ $slack->requests };
}

$slack->reset;
$slack->fault({ delay => 0.05 }, text => qr/ 1\n/);
$slack->fault({ delay => 0.02 }, text => qr/[37]\n/);
$slack->fault({ status => 500 }, times => 1, text => qr/^thread bot1 5\n/);
$slack->fault({ status => 500 }, times => 1, text => qr/^thread hook1 5\n/);
$slack->fault({ api_error => 'msg_too_long' }, text => qr/^thread bot2 5\n/);
$slack->fault({ code => 'invalid_payload' }, text => qr/^thread hook2 5\n/);
one(q{SELECT count(stripe_sync.notify(d || n, 'thread ' || d || n || ' ' || i, key => CASE i WHEN 1 THEN 'root ' || d || n END, thread => CASE WHEN i > 1 THEN 'root ' || d || n END))
	FROM generate_series(1, 10) i, generate_series(1, 4) n, unnest('{hook,bot}'::text[]) d});
eventually('threads are sent', sub { one(q{SELECT count(*) FROM stripe_sync.message WHERE state IN ('waiting', 'sending')}) == 0 });
for my $destination (map { ("hook$_", "bot$_") } 1 .. 4)
{
	is(order_of(qr/^thread $destination /), join(' ', grep { $destination !~ /2$/ || $_ != 5 } 1 .. 10), "$destination: in its order");
}
cmp_ok($slack->stats->{max_in_flight}, '>', 1, 'threads beside each other');
is(one(q{SELECT string_agg(payload ->> 'text' || ' ' || state, ', ' ORDER BY id) FROM stripe_sync.message WHERE state <> 'sent' AND payload ->> 'text' LIKE 'thread%'}) =~ tr/,//, 1, 'only the two bad ones are dead');
my @top = map { $_->{text} } @{ $slack->shows('#bot1') };
is_deeply(\@top, ['thread bot1 1'], 'the message of that key is in the channel');
is_deeply([ map { $_->{text} } @{ $slack->shows('#bot1')->[0]{replies} } ], [ map { "thread bot1 $_" } 2 .. 10 ], 'the others are below it');
one(q{SELECT stripe_sync.notify('bot5', 'loose ' || i, thread => 'no such key') FROM generate_series(1, 3) i});
ok(taken('loose 3'), 'a thread that no message has the key of');
is_deeply([ map { $_->{text} } @{ $slack->shows('#bot5')->[0]{replies} } ], [ 'loose 2', 'loose 3' ], 'is below its first');

# One that waits holds up its thread, and nobody else; called off it does not.
my $late = notify($node, 'one', 'bot6', 'late', q{thread => 'later'}, q{send_after => now() + interval '1 hour'});
my $next = notify($node, 'one', 'bot6', 'after late', q{thread => 'later'});
notify($node, 'one', 'bot6', 'another thread', q{thread => 'other'});
ok(taken('another thread'), 'another thread goes on');
ok(not_taken('after late'), 'the thread keeps its order');
one("SELECT stripe_sync.cancel_message($late)");
ok(taken('after late'), 'until the first is called off');

# ---- transactions, keys, delays ----

one(q{BEGIN; SELECT stripe_sync.notify('hook1', 'rolled back'); ROLLBACK});
one(q{BEGIN; SAVEPOINT s; SELECT stripe_sync.notify('hook1', 'rolled back to'); ROLLBACK TO s; SELECT stripe_sync.notify('hook1', 'committed'); COMMIT});
ok(taken('committed'), 'what is committed is sent');
my $session = $node->background_psql('one');
$session->query_safe(q{BEGIN; SELECT stripe_sync.notify('hook1', 'not yet')});
notify($node, 'one', 'hook1', 'meanwhile');
ok(taken('meanwhile'), 'and beside it');
ok(not_taken($_), "not: $_") for 'rolled back', 'rolled back to', 'not yet';
$session->query_safe('COMMIT');
ok(taken('not yet'), 'until it is committed');

is(notify($node, 'one', 'hook1', 'keyed', q{key => 'k1'}), notify($node, 'one', 'hook2', 'keyed again', q{key => 'k1'}), 'the same key is the same message');
$session->query_safe(q{BEGIN; SELECT stripe_sync.notify('hook1', 'first of two', key => 'k2')});
my $second = IPC::Run::start([ 'psql', '-XAt', '-d', $node->connstr('one') . ' application_name=second', '-c', q{SELECT stripe_sync.notify('hook1', 'second of two', key => 'k2')} ], '<', \undef, '>', \my $id);
wait_for_lock($node, 'one', 'second');
$session->query_safe('COMMIT');
$second->finish;
chomp $id;
is($id, one(q{SELECT id FROM stripe_sync.message WHERE key = 'k2'}), 'two sessions with one key: the second is told of the first');
$session->query_safe(q{BEGIN; SELECT stripe_sync.notify('hook1', 'withdrawn', key => 'k3')});
$second = IPC::Run::start([ 'psql', '-XAt', '-d', $node->connstr('one') . ' application_name=second', '-c', q{SELECT stripe_sync.notify('hook1', 'instead', key => 'k3')} ], '<', \undef, '>', \$id);
wait_for_lock($node, 'one', 'second');
$session->query_safe('ROLLBACK');
$second->finish;
ok(taken('instead'), 'or sends its own, when the first is withdrawn');
ok(taken('first of two'), 'one of two is sent');
ok(not_taken($_), "not: $_") for 'keyed again', 'second of two', 'withdrawn';
$session->quit;

$start = time;
notify($node, 'one', 'hook1', 'in a second', q{send_after => clock_timestamp() + interval '1.5 s'});
ok(taken('in a second'), 'a delayed one is sent by itself');
cmp_ok(time - $start, '>=', 1.5, 'not earlier');
# whoever had to look for it would come a minute later
cmp_ok(time - $start, '<', SOON, 'nor much later');

one(q{BEGIN; SELECT stripe_sync.notify('hook1', 'prepared'); PREPARE TRANSACTION 'p1'});
one(q{BEGIN; SELECT stripe_sync.notify('hook1', 'given up'); PREPARE TRANSACTION 'p2'});
notify($node, 'one', 'hook1', 'while they are prepared');
ok(taken('while they are prepared') && not_taken('prepared'), 'what is prepared is not sent');
one(q{ROLLBACK PREPARED 'p2'});
one(q{COMMIT PREPARED 'p1'});
$start = time;
ok(taken('prepared'), 'until its COMMIT PREPARED');
cmp_ok(time - $start, '<', SOON, 'which tells the worker');
ok(not_taken('given up'), 'and never after a ROLLBACK PREPARED');

# ---- pause ----

one(q{SELECT stripe_sync.pause('slack')});
my $paused = notify($node, 'one', 'hook1', 'paused');
one(q{SELECT stripe_sync.pause('stripe')});
$node->poll_query_until('one', q{SELECT state = 'paused' FROM stripe_sync.worker WHERE database = 'one'});
is(field($node, 'one', $paused, q{state || attempts}), 'waiting0', 'paused, a message waits');
one(q{SELECT stripe_sync.resume('slack')});
ok(taken('paused'), 'resumed, it is sent');
notify($node, 'one', 'hook1', 'only Stripe is paused');
ok(taken('only Stripe is paused'), 'a pause of Stripe is none of Slack');
setting('stripe_sync.outbound', 'off');
my $off = notify($node, 'one', 'hook1', 'outbound');
$node->poll_query_until('one', q{SELECT state LIKE 'off%' FROM stripe_sync.worker WHERE database = 'one'});
is(field($node, 'one', $off, q{state || attempts}), 'waiting0', 'with outbound off it waits');
setting('stripe_sync.outbound', 'on');
ok(taken('outbound'), 'until it is on');
no_secret_in($node, 'one', 'after all this');
unlike(slurp_file($node->logfile), qr/ERROR|PANIC|TRAP|terminated by signal/, 'nothing went wrong');
$node->stop;

# ---- CALL work(), where there is no worker ----

my $server = start_node('work', conf => $slack->conf . "stripe_sync.http_timeout = '10s'\n");
make_sender($server, 'two');
add_webhook($server, 'two', $slack, 'hook', 1);
add_channel($server, 'two', 'bot', '#bot');
sub two { return $server->safe_psql('two', $_[0]); }
sub work_fails { my ($sql) = @_; my ($ret, $out, $err) = $server->psql('two', $sql); isnt($ret, 0, 'it fails'); return $err; }

$slack->reset;
two(q{SELECT stripe_sync.notify('hook', 'in the foreground'), stripe_sync.test_destination('bot'), stripe_sync.notify('bot', 'later', send_after => now() + interval '1 hour')});
is(two('SELECT count(*) FROM stripe_sync.delivery'), '0', 'without a worker nobody sends');
$start = time;
two('CALL stripe_sync.work()');
cmp_ok(time - $start, '<', SOON, 'CALL work() ends when nothing is due');
is(two(q{SELECT string_agg(state, ' ' ORDER BY id) FROM stripe_sync.message}), 'sent sent waiting', 'and what was due is sent');
two(q{SELECT count(stripe_sync.notify('hook', 'at a pace ' || i)) FROM generate_series(1, 5) i});
two('CALL stripe_sync.work()');
is(two(q{SELECT count(*) FROM stripe_sync.message WHERE state = 'sent' AND payload ->> 'text' LIKE 'at a pace%'}), '5', 'it waits for the pace of what is due');
two(q{SELECT count(stripe_sync.notify('hook', 'no time ' || i)) FROM generate_series(1, 50) i});
$start = time;
two(q{CALL stripe_sync.work('1.5 s')});
cmp_ok(time - $start, '<', SOON, 'but no longer than it may');
is(two(q{SELECT count(*) FROM stripe_sync.message WHERE state = 'sending'}), '0', 'and lets go of what it had claimed');
cmp_ok(two(q{SELECT count(*) FROM stripe_sync.message WHERE state = 'waiting' AND attempts > 0}), '==', 0, 'which counts as no attempt');
like(work_fails('BEGIN; CALL stripe_sync.work(); COMMIT'), qr/cannot run inside a transaction block/, 'not in a transaction block');
like(work_fails('CALL stripe_sync.work(NULL)'), qr/max_time cannot be NULL/, 'nor for no time');

# What fails in the middle is told as it is, and nobody is left holding a message.
two(q{UPDATE stripe_sync.message SET state = 'cancelled', settled_at = now() WHERE state = 'waiting';
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused by a trigger'; END $$;
	CREATE TRIGGER refuse BEFORE INSERT ON stripe_sync.delivery FOR EACH ROW EXECUTE FUNCTION refuse();
	SET stripe_sync.slack_rate = 0; SELECT stripe_sync.notify('hook', 'refused')});
like(work_fails('CALL stripe_sync.work()'), qr/refused by a trigger/, 'an error in the middle');
two('DROP TRIGGER refuse ON stripe_sync.delivery; SET stripe_sync.slack_rate = 0; CALL stripe_sync.work()');
is(two(q{SELECT state FROM stripe_sync.message WHERE payload ->> 'text' = 'refused'}), 'sent', 'the next call sends it');
two(q{CREATE TRIGGER refuse BEFORE UPDATE ON stripe_sync.message FOR EACH ROW WHEN (new.state = 'sending') EXECUTE FUNCTION refuse(); SELECT stripe_sync.notify('hook', 'not claimed')});
like(work_fails('SET stripe_sync.slack_rate = 0; CALL stripe_sync.work()'), qr/refused by a trigger/, 'an error while claiming');
two(q{DROP TRIGGER refuse ON stripe_sync.message;
	CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON stripe_sync.message DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (new.state = 'sending') EXECUTE FUNCTION refuse()});
# the session goes on after the commit that failed
my ($ret, $out, $err) = $server->psql('two', q{SET stripe_sync.slack_rate = 0;
	CALL stripe_sync.work();
	DROP TRIGGER refuse ON stripe_sync.message;
	CALL stripe_sync.work()}, on_error_stop => 0);
like($err, qr/refused by a trigger/, 'an error in the commit of a claim');
is($slack->texts->{'not claimed'}, 1, 'what was not claimed is sent once, when it is');
is(two(q{SELECT state || attempts FROM stripe_sync.message WHERE payload ->> 'text' = 'not claimed'}), 'sent1', 'by one attempt');
unlike(slurp_file($server->logfile), qr/PANIC|TRAP|terminated by signal|invalid transaction termination/, 'nothing went wrong but what had to');
$server->stop;
done_testing();
