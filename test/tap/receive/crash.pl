# crash.pl
#		Whoever dies in the middle of sending, and however: what is owed is
#		there, is sent, and only what was in the air may have come twice.

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

use constant MESSAGES    => 2000;
use constant CONNECTIONS => 16;

my $missing = SlackStub->missing;
plan skip_all => $missing if $missing;

my $slack = SlackStub->start;
my $sending = "stripe_sync.slack_rate = 0\nstripe_sync.max_connections = @{[CONNECTIONS]}\nstripe_sync.http_timeout = '5min'\n";
my $node = start_node('crash', conf => PRELOAD . $slack->conf . $sending);
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->reload;
make_sender($node, 'one');
add_webhook($node, 'one', $slack, "hook$_", $_) for 1 .. 15;
add_channel($node, 'one', "bot$_", "#bot$_") for 1 .. 5;

sub one { return $node->safe_psql('one', $_[0]); }

# How often the stub was asked to take each text.
sub asked
{
	my %asked;

	$asked{ $_->{payload}{text} }++ for @{ $slack->requests };
	return \%asked;
}

# Messages on their way to many places, and the kill when a quarter is there.
sub killed_in_the_middle
{
	my ($what, $kill, $go_on) = @_;
	my $worker;

	eventually("$what: there is a worker", sub { ($worker = worker_pid($node, 'one')) ne '' });
	$slack->reset;
	$slack->fault({ delay => 0.03 });
	one(q{TRUNCATE stripe_sync.message, stripe_sync.delivery});
	one(qq{SELECT count(stripe_sync.notify(CASE WHEN i % 20 < 15 THEN 'hook' || 1 + i % 20 ELSE 'bot' || i % 20 - 14 END, '$what ' || i,
		key => CASE WHEN i % 10 = 0 THEN '$what ' || i END, thread => CASE WHEN i % 10 IN (3, 4) THEN '$what thread ' || i % 20 END))
		FROM generate_series(1, @{[MESSAGES]}) i});
	ok($slack->wait_for(sub { $slack->stats->{ok} > MESSAGES / 4 }), "$what: a quarter of the messages is sent");
	$kill->($worker);
	my $killed = time;
	$go_on->($worker) if $go_on;
	$node->poll_query_until('one', 'SELECT true');
	$slack->clear_faults;
	eventually("$what: none is left", sub { one(q{SELECT count(*) FROM stripe_sync.message WHERE state <> 'sent'}) == 0 });
	cmp_ok(scalar(grep { $_->{at} > $killed } @{ $slack->requests }), '>', MESSAGES / 8, "$what: that was in the middle");
	check_what_came($what);
	return;
}

sub check_what_came
{
	my ($what) = @_;
	my ($texts, $asked) = ($slack->texts, asked());
	my @names = map { "$what $_" } 1 .. MESSAGES;
	my %message = map { my ($text, @row) = split /\|/; $text => \@row } split /\n/, one(q{SELECT payload ->> 'text', attempts,
		(SELECT count(*) FROM stripe_sync.delivery d WHERE d.message_id = m.id AND verdict = 'lost'),
		(SELECT count(*) FROM stripe_sync.delivery d WHERE d.message_id = m.id AND verdict = 'sent') FROM stripe_sync.message m});
	my @twice = grep { ($texts->{$_} // 0) > 1 } @names;

	is(scalar(grep { !$texts->{$_} } @names), 0, "$what: every message has come");
	is(scalar keys %$texts, MESSAGES, "$what: and no other");
	# as many may have been answered, with that not written down yet
	cmp_ok(scalar @twice, '<=', 2 * CONNECTIONS, "$what: no more came twice than were in the air");
	note scalar(@twice) . ' came twice';
	is(scalar(grep { $texts->{$_} > 2 || $message{$_}[1] != 1 } @twice), 0, "$what: those are in the log as lost, once");
	is(scalar(grep { $message{$_}[2] != 1 } @names), 0, "$what: each is in the log as sent, once");
	is(scalar(grep { $asked->{$_} > $message{$_}[0] } @names), 0, "$what: no attempt was made that was not counted");
	is(scalar(grep { $message{$_}[0] != $message{$_}[1] + $message{$_}[2] } @names), 0, "$what: each attempt is in the log");
	is(one(q{SELECT count(*) FROM stripe_sync.message WHERE lease_pid IS NOT NULL OR blocked_by IS NOT NULL}), '0', "$what: nothing is leased or set aside");
	return;
}

killed_in_the_middle('kill -9 of the worker', sub { kill('KILL', $_[0]) }, sub {
	my ($worker) = @_;

	eventually('the server begins anew', sub { my ($ret, $out) = $node->psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'stripe_sync worker'}); $ret == 0 && $out ne $worker });
});
killed_in_the_middle('kill -9 of the server', sub { kill_server($node) }, sub { $node->start });
killed_in_the_middle('immediate stop', sub { $node->stop('immediate') }, sub { $node->start });
killed_in_the_middle('pg_terminate_backend', sub { one("SELECT pg_terminate_backend($_[0])") });
killed_in_the_middle('fast stop', sub { $node->stop('fast') }, sub { $node->start });

# ---- a session that sends, killed ----

# CALL work() in a session of its own, until its message is with Slack.
sub work_in_the_background
{
	my ($server, $database, $name) = @_;
	my $work = IPC::Run::start([ 'psql', '-X', '-d', $server->connstr($database) . " application_name=$name", '-c', q{CALL stripe_sync.work('10 min')} ], '<', \undef, '>', '/dev/null', '2>', '/dev/null');

	ok($slack->wait_for(sub { $slack->stats->{in_flight} == 1 }), "$name: its message is in the air");
	return $work;
}

sub in_flight_is_sent_at_once
{
	my ($server, $database, $what, $text, $kill) = @_;
	my $start = time;

	$kill->();
	ok($slack->wait_for(sub { ($slack->texts->{$text} // 0) == 2 }), "$what: what it was sending is sent again");
	# not when the answer comes that is held back, nor with the worker's next look around
	cmp_ok(time - $start, '<', 20, "$what: at once");
	$server->poll_query_until($database, q{SELECT count(*) = 0 FROM stripe_sync.message WHERE state <> 'sent'});
	is($server->safe_psql($database, qq{SELECT string_agg(attempt || verdict, ' ' ORDER BY id) FROM stripe_sync.delivery
		WHERE message_id = (SELECT id FROM stripe_sync.message WHERE payload ->> 'text' = '$text')}), '1lost 2sent', "$what: the log tells");
	return;
}

$slack->reset;
# the doctor's looks are transactions while the answer is waited for
my $foreground = start_node('foreground', conf => $slack->conf . $sending . "stripe_sync.doctor_interval = 0\n");
make_sender($foreground, 'two');
add_webhook($foreground, 'two', $slack, 'hook', 1);
$slack->fault($slack->hold, times => 1);
notify($foreground, 'two', 'hook', 'by a session');
my $work = work_in_the_background($foreground, 'two', 'doomed');
is($foreground->safe_psql('two', q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'doomed' AND backend_xmin IS NULL AND backend_xid IS NULL}), '1', 'while it waits it holds neither snapshot nor transaction id');
is($foreground->safe_psql('two', q{SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE application_name = 'doomed' AND l.locktype <> 'virtualxid'}), '0', 'nor a lock');
in_flight_is_sent_at_once($foreground, 'two', 'a session terminated', 'by a session', sub {
	$foreground->safe_psql('two', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'doomed'});
	$work->finish;
	$foreground->safe_psql('two', 'CALL stripe_sync.work()');
});
$foreground->stop;

# The worker looks the other way while a session takes the message.
my $worker = worker_pid($node, 'one');

# Asleep, so that it holds nothing that others wait for.
sub stop_worker
{
	$node->poll_query_until('one', q{SELECT state = 'sleeping' FROM stripe_sync.worker WHERE database = 'one'});
	kill('STOP', $worker);
	return;
}

stop_worker();
$slack->fault($slack->hold, times => 1);
notify($node, 'one', 'hook1', 'beside the worker');
$work = work_in_the_background($node, 'one', 'beside');
kill('CONT', $worker);
in_flight_is_sent_at_once($node, 'one', 'a session beside the worker', 'beside the worker', sub {
	one(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'beside'});
	$work->finish;
});

# A cancel ends the call, not the session.
$slack->fault($slack->hold, times => 1);
stop_worker();
notify($node, 'one', 'hook1', 'cancelled');
$work = work_in_the_background($node, 'one', 'cancelled');
kill('CONT', $worker);
in_flight_is_sent_at_once($node, 'one', 'a call cancelled', 'cancelled', sub {
	one(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'cancelled'});
	$work->finish;
});

unlike(slurp_file($node->logfile), qr/PANIC|TRAP/, 'nobody has crashed');
no_secret_in($node, 'one', 'after all this');
$node->stop;
done_testing();
