# quiet.pl
#		Quiet hours: their times against Python's; what is held, the digest at the
#		end, what passes; a server that is killed in between, and one that is
#		restarted.

use strict;
use utf8;
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
my $seed = seed();

my $slack = SlackStub->start;
my $node = start_node('quiet', conf => PRELOAD . $slack->conf . "stripe_sync.slack_rate = 0\nstripe_sync.http_timeout = '5min'\nstripe_sync.doctor_interval = 0\nstripe_sync.instance_name = 'shop <eu>'\nfsync = off\n");
make_database($node, 'shop');

sub shop { return $node->safe_psql('shop', $_[0]); }

# ---- times ----

# Every window of every zone around the days on which its clocks change.
{
	my ($out, $err);

	IPC::Run::run([ 'python3', "$FindBin::RealBin/model.py", $seed ], '>', \$out, '2>', \$err) or die $err;
	my ($calls, $values) = split /^--$/m, $out;
	shop(qq{
		CREATE TABLE test.window (destination text, days text, from_time time, to_time time, zone text);
		INSERT INTO test.window VALUES $calls;
		CREATE TABLE test.instant (destination text, at timestamptz, until timestamptz);
		INSERT INTO test.instant VALUES $values});
	shop('SET client_min_messages = warning; SELECT stripe_sync.add_slack_webhook(destination, ' . literal($slack->webhook_url(9)) . ') FROM (SELECT DISTINCT destination FROM test.window) w');
	shop('SELECT stripe_sync.set_quiet_hours(destination, days, from_time, to_time, zone) FROM test.window');
	cmp_ok(shop('SELECT count(*) FROM test.instant'), '>', 5000, 'thousands of instants');
	is(shop(q{SELECT count(DISTINCT destination) FROM test.instant WHERE until IS NOT NULL}), 15, 'quiet in each set of windows');
	is(shop(q{SELECT destination, at, until, found FROM (SELECT *, stripe_sync.quiet_until(destination, 'warning', at) AS found FROM test.instant) i
		WHERE found IS DISTINCT FROM until ORDER BY at LIMIT 5}), '', 'are as quiet as by the model');
	is(shop(q{SELECT count(*) FROM test.instant WHERE stripe_sync.quiet_until(destination, 'critical', at) IS NOT NULL}), 0, 'and never for what passes');
	shop('SELECT stripe_sync.drop_quiet_hours(destination) FROM (SELECT DISTINCT destination FROM test.window) w');
}

# ---- a night ----

sub delivery
{
	my ($event) = @_;
	my $payload = json_text($event);

	return 'SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload)) . ');';
}

sub deliver { return shop(join '', map { delivery($_) } @_); }

sub invoice_event
{
	my ($type, $n, $id) = @_;

	return event("evt_${id}_$n", "invoice.$type", $n, { id => $id, object => 'invoice', number => uc $id, status => 'open', customer => 'cus_1', amount_due => 1200, currency => 'usd' });
}

sub failed { return invoice_event('payment_failed', @_); }
sub paid { return invoice_event('paid', @_); }
sub critical { return invoice_event('marked_uncollectible', @_); }

sub anew
{
	shop('SELECT stripe_sync.drop_quiet_hours(name) FROM stripe_sync.destination');
	shop(q{UPDATE stripe_sync.message SET state = 'cancelled' WHERE state = 'waiting'});
	idle($node, 'shop');
	shop('TRUNCATE stripe_sync.message, stripe_sync.delivery, stripe_sync.incident_record, stripe_sync.alerted, stripe_sync.event');
	$slack->clear_faults;
	$slack->reset;
	return;
}

# Instead of what was set: quiet from an hour ago until so many seconds from now,
# then until so many later, and so on.
sub quiet_until
{
	my ($destination, @seconds) = @_;
	my $sql = "SELECT stripe_sync.drop_quiet_hours('$destination');";
	my $from = -3600;
	my $now = shop('SELECT clock_timestamp()');
	my $local = sub { "((timestamptz '$now' + interval '$_[0] s') AT TIME ZONE 'Asia/Kathmandu')::time" };

	for my $to (@seconds)
	{
		$sql .= "SELECT stripe_sync.set_quiet_hours('$destination', 'mon-sun', @{[ $local->($from) ]}, @{[ $local->($to) ]}, 'Asia/Kathmandu');";
		$from = $to;
	}
	shop("BEGIN; $sql COMMIT");
	return $now;
}

sub always_quiet { return shop("SELECT stripe_sync.set_quiet_hours('$_[0]', 'mon-sun', NULL, NULL, 'Europe/Berlin')"); }
sub quiet_ends { return shop("SELECT stripe_sync.drop_quiet_hours('$_[0]')"); }
sub held { return shop(q{SELECT count(*) FROM stripe_sync.message WHERE state = 'waiting' AND due_at = 'infinity'}); }
sub texts { return [ map { $_->{text} } @{ $slack->shows($_[0]) } ]; }
sub all_sent { return ok(idle($node, 'shop'), $_[0]); }

add_channel($node, 'shop', 'ops', '#ops');
add_webhook($node, 'shop', $slack, 'hook', 1);
shop(q{SELECT stripe_sync.add_alert('failed', 'invoice.payment_failed', 'ops', 'Failed: {{number}}', closed_by => 'invoice.paid'),
	stripe_sync.add_alert('lost', 'invoice.marked_uncollectible', 'ops', 'Lost: {{number}}', closed_by => 'invoice.paid', severity => 'critical')});

# Three fire, two are over, one is open; a critical one passes.
sub night
{
	my ($what, $end) = @_;

	deliver(failed(1, 'in_1'), failed(2, 'in_2'), failed(3, 'in_3'), critical(4, 'in_4'), failed(5, 'in_3'), paid(6, 'in_1'), paid(7, 'in_2'));
	eventually("$what: the critical one passes", sub { scalar @{ $slack->shows('#ops') } == 1 });
	like(texts('#ops')->[0], qr/Lost: IN_4/, "$what: alone");
	cmp_ok(held(), '>=', 3, "$what: the others are held");
	$end->();
	all_sent("$what: in the morning all is sent");
	my @texts = @{ texts('#ops') };
	is(scalar @texts, 3, "$what: one digest and the open one") or diag(join "\n", @texts);
	like($texts[1], qr/Quiet hours are over\..* 3 alerts fired, 2 are over, 1 is still open\./, "$what: the digest first");
	my $shown = $slack->shows('#ops')->[1]{shown};
	like($shown, qr/Still open.*Failed: IN_3.*\n2\n.*Over.*Failed: IN_1.*invoice\.paid.*Failed: IN_2/s, "$what: with each of them");
	like($slack->shows('#ops')->[1]{blocks}[-1]{elements}[0]{text}, qr/^shop &lt;eu&gt;$/, "$what: and which database speaks");
	unlike($shown, qr/IN_4/, "$what: but not the one that passed");
	like($texts[2], qr/Failed: IN_3/, "$what: then what is open");
	deliver(paid(8, 'in_3'));
	all_sent("$what: it is paid");
	like($slack->shows('#ops')->[2]{text}, qr/Resolved/, "$what: and its message shows it");
	is(scalar @{ $slack->shows('#ops') }, 3, "$what: no other message");
	is(shop(q{SELECT count(*) FROM stripe_sync.message WHERE state NOT IN ('sent', 'cancelled')}), 0, "$what: nothing is left");
	anew();
	return;
}

always_quiet('ops');
night('dropped', sub { quiet_ends('ops') });

# By the clock: the worker sleeps until then.
always_quiet('ops');
night('by the clock', sub { quiet_until('ops', 5) });

# A restart in between.
always_quiet('ops');
night('restarted', sub { $node->restart; quiet_ends('ops'); });

# Killed within the transaction of the digest.
my $stall = PostgreSQL::Test::Utils::tempdir() . '/stall';
shop(qq{
	CREATE FUNCTION test.stall() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN
		IF (pg_catalog.pg_stat_file('$stall', true)).size IS NOT NULL THEN PERFORM pg_catalog.pg_sleep(3600); END IF;
		RETURN NEW;
	END \$\$;
	CREATE TRIGGER stall AFTER INSERT ON stripe_sync.message FOR EACH ROW WHEN (NEW.key LIKE 'incident/quiet/%') EXECUTE FUNCTION test.stall()});
always_quiet('ops');
night('killed', sub {
	append_to_file($stall, "stall\n");
	quiet_ends('ops');
	eventually('the digest is being made', sub { $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) > 0 });
	is(scalar @{ $slack->shows('#ops') }, 1, 'and nothing of it sent');
	kill_server($node);
	unlink $stall;
	$node->start;
});
shop('DROP TRIGGER stall ON stripe_sync.message');

# ---- what was there before ----

deliver(failed(1, 'in_1'), failed(2, 'in_2'));
all_sent('two before it is quiet');
always_quiet('ops');
shop(q{UPDATE stripe_sync.incident_record SET window_until = clock_timestamp()});
deliver(failed(3, 'in_1'), paid(4, 'in_2'));
eventually('updates are not held', sub { !grep { $_->{updates} == 0 } @{ $slack->shows('#ops') } });
is_deeply([ map { scalar @{ $_->{replies} } } @{ $slack->shows('#ops') } ], [ 0, 0 ], 'answers are');
quiet_ends('ops');
all_sent('both are told');
like(texts('#ops')->[2], qr/no new alert fired, 1 is over, 1 is still open\./, 'in a digest');
like($slack->shows('#ops')->[0]{replies}[0]{text}, qr/^\[TEST\] :hourglass: Still open, 2 times now: Failed: IN_1/, 'and the open one in its thread');
is(scalar @{ $slack->shows('#ops')->[1]{replies} }, 0, 'the other not');
anew();

# ---- a webhook, and a switched off one ----

shop(q{SELECT stripe_sync.add_alert('failed', 'invoice.payment_failed', 'hook', 'Failed: {{number}}', closed_by => 'invoice.paid')});
always_quiet('hook');
deliver(map { failed($_, "in_$_") } 1 .. 4);
deliver(paid(5, 'in_1'));
shop(q{SELECT stripe_sync.disable_destination('hook', 'a test')});
quiet_ends('hook');
eventually('the digest waits for the destination', sub { shop(q{SELECT count(*) FROM stripe_sync.message WHERE key LIKE 'incident/quiet/%' AND state = 'waiting'}) == 1 });
shop(q{SELECT stripe_sync.enable_destination('hook')});
all_sent('and is sent when it is on again');
is(scalar @{ $slack->shows(1) }, 4, 'with the three that are open');
like(texts(1)->[0], qr/4 alerts fired, 1 is over, 3 are still open/, 'digest first');
anew();

# ---- another window follows ----

shop(q{SELECT stripe_sync.add_alert('failed', 'invoice.payment_failed', 'ops', 'Failed: {{number}}', closed_by => 'invoice.paid')});
always_quiet('ops');
deliver(failed(1, 'in_1'));
my $now = quiet_until('ops', 2, 6);
all_sent('two windows end');
is(scalar(grep { /Quiet hours are over/ } @{ texts('#ops') }), 1, 'with one digest');
is(shop(qq{SELECT created_at >= timestamptz '$now' + interval '6 s' FROM stripe_sync.message WHERE key LIKE 'incident/quiet/%'}), 't', 'at the end of the last');

$node->stop;
done_testing();
