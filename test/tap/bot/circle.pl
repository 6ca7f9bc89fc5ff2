# circle.pl
#		The full circle: a payment fails, Slack shows a message with buttons, a
#		person acknowledges, the message names them, the invoice is paid, the
#		thread is answered and the message resolved; the trace tells all of it.

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
my $node = start_node('circle', conf => PRELOAD . $slack->conf . "stripe_sync.slack_rate = 0\nstripe_sync.doctor_interval = 0\n");
make_database($node, 'shop');
add_channel($node, 'shop', 'billing', '#billing');

sub shop { return $node->safe_psql('shop', $_[0]); }

sub receive
{
	my ($id, $type, $second, $object, %rest) = @_;
	my $payload = json_text(event($id, $type, $second, $object, %rest));

	return shop('SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload)) . ')');
}

# The incident's message, once it shows what is wanted
sub shown
{
	my ($what, $about) = @_;
	my $message;

	ok($slack->wait_for(sub {
		($message) = grep { !defined $_->{thread_ts} } @{ $slack->shows('#billing') };
		return defined $message && json_text($message) =~ $what;
	}), $about) or diag json_text($slack->shows('#billing'));
	return $message;
}

sub invoice
{
	my (%fields) = @_;

	return { id => 'in_circle', object => 'invoice', livemode => FALSE, customer => 'cus_ada', customer_name => 'Ada', currency => 'eur',
		number => 'A-1', amount_due => 2900, amount_paid => 0, attempt_count => 1, status => 'open', %fields };
}

shop('SELECT stripe_sync.add_slack_app(' . literals('default', SlackStub::SIGNING_SECRET, TOKEN) . ')');
shop(q{SELECT stripe_sync.set_slack_user('U0GRACE', 'act'); SELECT count(*) FROM stripe_sync.add_default_alerts('billing')});

# ---- Stripe: the payment fails; Slack: a message with buttons ----

is(receive('evt_made', 'invoice.created', 0, invoice(status => 'draft')), 'applied', 'an invoice');
is(receive('evt_failed', 'invoice.payment_failed', 10, invoice()), 'applied', 'its payment fails');
my $message = shown(qr/Payment failed/, 'Slack shows it');
like(json_text($message), qr/Ada/, 'with the customer\'s name');
like(json_text($message), qr/stripe_sync\.$_"/, "and a button: $_") for qw(acknowledge snooze resolve trace);

# ---- a person acknowledges ----

is(shop(receive_call($slack->press($message, 'stripe_sync.acknowledge', 'U0GRACE'))), '200|', 'Acknowledge is pressed');
$message = shown(qr/Acknowledged .* by <\@U0GRACE>/, 'the message says who');
unlike(json_text($message), qr/stripe_sync\.acknowledge/, 'and has no such button any more');
is(shop(q{SELECT acknowledged_by, acknowledged_at IS NOT NULL, state FROM stripe_sync.incident}), 'slack:U0GRACE|t|open', 'the incident is acknowledged, and open');
like(shop('SELECT stripe_sync.dashboard_text()'), qr/\(acknowledged\) /, 'dashboard_text() says that somebody is at it');
like(shop('SELECT stripe_sync.dashboard()'), qr/acknowledged by U0GRACE/, 'and dashboard() who');
like(shop(receive_call($slack->command('/stripe', 'who payment_failed', 'U0GRACE'))), qr/^200\|.*acknowledged by/, 'a command asks who it is');

# ---- Stripe: the invoice is paid ----

is(receive('evt_paid', 'invoice.paid', 20, invoice(status => 'paid', amount_paid => 2900)), 'applied', 'it is paid');
$message = shown(qr/:white_check_mark:/, 'the message is resolved');
unlike(json_text($message), qr/"actions"/, 'without buttons');
ok($slack->wait_for(sub { @{ $slack->shows('#billing')->[0]{replies} } }), 'the thread is answered');
ok(idle($node, 'shop'), 'nothing else is to be sent');
my @posts = @{ $slack->shows('#billing') };
is(scalar @posts, 1, 'the channel has one message');
is(scalar @{ $posts[0]{replies} }, 1, 'the thread has one answer');

# ---- Postgres: the trace tells it in order ----

my $trace = shop(q{SELECT system || ': ' || what FROM stripe_sync.trace('in_circle')});
my @told = (
	qr/^stripe: .*invoice\.created/, qr/^stripe: .*invoice\.payment_failed/, qr/^postgres: .*opened incident/,
	qr/^slack: .*(?:200|sent|ok)/, qr/^slack: incident \d+ acknowledged by U0GRACE/, qr/^postgres: update of the message/,
	qr/^postgres: .*resolved incident/, qr/^postgres: answer in the thread/);
my @lines = split /\n/, $trace;
my $at = 0;
for my $what (@told)
{
	my $from = $at;

	$at++ while $at < @lines && $lines[$at] !~ $what;
	ok($at < @lines, "told, in its place: $what") or diag join "\n", "after line $from of", @lines;
}
is(shop(q{SELECT stripe_sync.trace_text('in_circle') ~ 'acknowledged by U0GRACE'}), 't', 'trace_text() has it too');
is(shop(q{SELECT what FROM stripe_sync.trace('in_circle') WHERE what ~ 'used'}), 'U0GRACE used "/stripe who payment_failed"', 'and the command');
is(shop(q{SELECT string_agg(step || ' ' || by, ', ' ORDER BY id) FROM stripe_sync.incident_step}), 'acknowledged slack:U0GRACE', 'one step');
is(shop(q{SELECT status || ' ' || slack_user || ' ' || (incident IS NOT NULL) FROM stripe_sync.interaction WHERE kind = 'press'}), 'done U0GRACE true', 'one press');

$node->stop;
done_testing();
