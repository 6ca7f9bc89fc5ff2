# told.pl
#		What a trace tells of messages: a digest in a flood, a message that was given
#		up, one that was cancelled, and a destination that Slack refuses.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use SlackStub;
use StripeSync;

use PostgreSQL::Test::Utils;
use Test::More;

my $missing = SlackStub->missing;
plan skip_all => $missing if $missing;

my $slack = SlackStub->start;
my $node = start_node('told', conf => PRELOAD . $slack->conf .
	  "stripe_sync.slack_rate = 0\nstripe_sync.max_alerts_per_hour = 1\nstripe_sync.coalesce_burst = 100\nstripe_sync.doctor_interval = 0\n");
make_database($node, 'one');
add_webhook($node, 'one', $slack, 'ops', 1);

sub one { return $node->safe_psql('one', $_[0]); }
sub trace_of { my $text = one('SELECT stripe_sync.trace_text(' . literal($_[0]) . ')'); $text =~ s/\s+/ /g; return $text; }

sub receive
{
	my ($id, $object) = @_;
	my $payload = json_text(event("evt_$id", 'charge.failed', 0, { id => "ch_$id", object => 'charge', livemode => FALSE, %{ $object // {} } }));

	return one('SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload)) . ')');
}

# ---- a flood ----

one(q{SELECT stripe_sync.add_alert('failed', 'charge.failed', 'ops', 'Charge {{id}} failed')});
receive($_) for qw(first second third);
ok($node->poll_query_until('one', q{SELECT count(*) >= 1 FROM stripe_sync.message WHERE state = 'sent' AND event_id = 'evt_first'}), 'the first message is sent');
like(trace_of('ch_first'), qr/alert failed opened incident \d+, queued message \d+ for ops.*ops: .*200 ok/, 'the first is told');
like(trace_of('ch_second'), qr/digest/, 'the second is in a digest, and the trace says so');
unlike(trace_of('ch_second'), qr/ch_first|ch_third/, 'with nothing of the others');
one(q{SELECT stripe_sync.drop_alert('failed')});

# ---- messages that are not sent ----

$slack->fault({ code => 'invalid_payload' }, times => 1, text => qr/never taken/);
my $dead = notify($node, 'one', 'ops', 'never taken');
state_of_message($node, 'one', $dead, 'dead', 'a message is given up');
like(trace_of("message $dead"), qr/invalid_payload/, 'Slack\'s answer');
like((split /\n/, one("SELECT stripe_sync.trace_text('message $dead')"))[0], qr/retry_message\($dead\)|invalid_payload/, 'the first line says what is wrong');

my $later = notify($node, 'one', 'ops', 'not now', q{send_after => now() + interval '1 day'});
one("SELECT stripe_sync.cancel_message($later)");
like(trace_of("message $later"), qr/cancelled/, 'a message that was cancelled');

$slack->fault({ status => 500, body => 'oops' }, times => 1, text => qr/second time/);
my $again = notify($node, 'one', 'ops', 'second time');
state_of_message($node, 'one', $again, 'sent', 'a message is sent at the second attempt');
like(trace_of("message $again"), qr/500.*1st attempt.*200 ok.*2nd attempt/, 'both attempts, in their order');

# ---- a destination that Slack refuses ----

$slack->fault({ code => 'no_service' }, times => 1, text => qr/gone/);
my $waits = notify($node, 'one', 'ops', 'gone');
ok($node->poll_query_until('one', q{SELECT NOT enabled FROM stripe_sync.destination WHERE name = 'ops'}), 'it is switched off');
my $text = trace_of("message $waits");
like($text, qr/no_service/, 'why it is not sent');
like($text, qr/enable_destination\('ops'\)/, 'and what to do');
done_testing;
