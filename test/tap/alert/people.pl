# people.pl
#		What people do with an incident in Slack, and what its message shows: buttons,
#		who has taken it up, snoozes that end, repetitions until somebody takes it up.

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
my $node = start_node('people', conf => PRELOAD . $slack->conf . "stripe_sync.slack_rate = 0\nstripe_sync.doctor_interval = 0\nstripe_sync.coalesce_burst = 100\nstripe_sync.instance_name = 'shop <eu>'\nfsync = off\n");
make_database($node, 'shop');

sub shop { return $node->safe_psql('shop', $_[0]); }

sub deliver
{
	return shop(join '', map { my $payload = json_text($_); 'SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload)) . ');' } @_);
}

sub invoice { my ($id, %more) = @_; return { id => $id, object => 'invoice', number => uc $id, status => 'open', customer => 'cus_1', %more }; }
sub failed { my ($n, $id) = @_; return event("evt_${id}_$n", 'invoice.payment_failed', $n, invoice($id)); }
sub paid { my ($n, $id) = @_; return event("evt_${id}_paid$n", 'invoice.paid', $n, invoice($id, status => 'paid')); }

sub all_sent { return ok(idle($node, 'shop'), $_[0]); }

# What happens in between happens before anything is sent.
sub before_sending
{
	my (@do) = @_;

	shop(q{SELECT stripe_sync.pause('slack')});
	$_->() for @do;
	shop(q{SELECT stripe_sync.resume('slack')});
	return;
}

# The clock says that it is due; resume() wakes the worker.
sub due
{
	my ($column, $id) = @_;

	shop("UPDATE stripe_sync.incident_record SET $column = clock_timestamp() WHERE id = $id; SELECT stripe_sync.resume()");
	return;
}

sub incident { return shop("SELECT max(id) FROM stripe_sync.incident_record"); }
sub of { my ($id, $columns) = @_; return shop("SELECT $columns FROM stripe_sync.incident_record WHERE id = $id"); }

# Steps of an incident, the oldest first
sub steps { return shop("SELECT string_agg(concat_ws(' ', step, by), ', ' ORDER BY id) FROM stripe_sync.incident_step WHERE incident = $_[0]"); }

# The last message of a place
sub last_of { my ($place) = @_; return $slack->shows($place)->[-1]; }

# action_ids of its buttons
sub buttons
{
	my ($message) = @_;

	return join ' ', map { $_->{action_id} =~ s/^stripe_sync\.//r } map { @{ $_->{elements} } } grep { $_->{type} eq 'actions' } @{ $message->{blocks} // [] };
}

sub replies { return [ map { $_->{text} =~ s/ after (?:less than a minute|\d+ min)//r =~ s/\[TEST\] //r } @{ $_[0]->{replies} } ]; }

# A press, as the HTTP front hands it over
sub press
{
	my ($message, $action, $user, %how) = @_;

	return shop(SlackStub::receive_call($slack->press($message, "stripe_sync.$action", $user, %how)));
}

sub rule
{
	my ($destination, @rest) = @_;

	return shop('SELECT stripe_sync.add_alert(' . join(', ', literals('failed', 'invoice.payment_failed', $destination, '*Failed:* {{number}}'), "severity => 'critical'", @rest) . ')');
}

add_channel($node, 'shop', 'ops', '#ops');
add_channel($node, 'shop', 'oncall', '#oncall');
add_webhook($node, 'shop', $slack, 'hook', 1);
rule('ops', "closed_by => 'invoice.paid'");

# ---- no app: no button ----

deliver(failed(1, 'in_0'));
all_sent('told without an app');
is(buttons(last_of('#ops')), '', 'without buttons, which nobody would answer');
shop('SELECT stripe_sync.add_slack_app(' . literals('default', SlackStub::SIGNING_SECRET()) . ')');
shop(q{SELECT stripe_sync.set_slack_user('U0PERSON1', 'act'), stripe_sync.set_slack_user('U0PERSON2', 'act')});
deliver(paid(2, 'in_0'));
all_sent('closed');
my $message = last_of('#ops');
like($message->{shown}, qr/:white_check_mark: \*?Resolved:\*? .*Failed/, 'resolved');
like($message->{shown}, qr/Resolved \S.* after .* by .*invoice\.paid/s, 'with when, how long it took, and by what');
like(json_text($message->{blocks}), qr{<https://dashboard\.stripe\.com/test/events/evt_in_0_paid2\|invoice\.paid>}, 'which is a link');
is(buttons($message), '', 'and no button');

# ---- acknowledged ----

before_sending(
	sub { deliver(failed(10, 'in_1')) },
	sub { shop(q{UPDATE stripe_sync.incident_record SET mention = 'U0ONCALL', livemode = false, refs = '{"url": "https://dashboard.stripe.com/test/invoices/in_1", "trace": "in_1", "event": "evt_1", "message": 7, "destination": "ops", "reconcile": true, "finding": "slack.backlog"}' WHERE id = } . incident()) });
all_sent('told');
$message = last_of('#ops');
is(buttons($message), 'acknowledge snooze resolve open trace retry_event retry_message enable reconcile mute_finding', 'with all its buttons');
is_deeply($message->{pings}, ['@U0ONCALL'], 'it rings whom the alert names');
like($message->{text}, qr/^\[TEST\] :rotating_light: <\@U0ONCALL> \*Failed:\* IN_1/, 'and says that it is of test mode');
like($message->{shown}, qr/shop <eu>/, 'and which database speaks');
my $id = incident();
press($message, 'acknowledge', 'U0PERSON1');
all_sent('a press');
$message = last_of('#ops');
like($message->{shown}, qr/Acknowledged .* by \@U0PERSON1/, 'the message says who and when');
is($message->{updates}, 1, 'by an update');
is_deeply($message->{replies}, [], 'and no more');
is(buttons($message), 'snooze resolve open trace retry_event retry_message enable reconcile mute_finding', 'it needs no other press');
is(of($id, "acknowledged_by, acknowledged_at IS NOT NULL, escalate_at IS NULL, state"), 'slack:U0PERSON1|t|t|open', 'it is not repeated');
is(steps($id), 'acknowledged slack:U0PERSON1', 'a step');
press($message, 'acknowledge', 'U0PERSON2', stale => \1);
all_sent('the second press');
is(steps($id), 'acknowledged slack:U0PERSON1', 'is none');
is(of($id, 'acknowledged_by'), 'slack:U0PERSON1', 'and takes it from nobody');

# it counts, and people are told after the window, as before
shop("UPDATE stripe_sync.incident_record SET window_until = clock_timestamp() WHERE id = $id");
deliver(failed(11, 'in_1'));
shop(q{SELECT stripe_sync.retry_message(id) FROM stripe_sync.message WHERE state = 'waiting'});
all_sent('it happens again');
is_deeply(replies(last_of('#ops')), [':repeat: Again, 2 times now: *Failed:* IN_1'], 'and is said again');

# ---- snoozed ----

press($message, 'snooze', 'U0PERSON2', option => "$id:1h");
all_sent('snoozed');
$message = last_of('#ops');
like($message->{shown}, qr/Snoozed until .* by \@U0PERSON2/, 'the message says until when and by whom');
is(of($id, "snoozed_by, snoozed_until > clock_timestamp() + interval '50 minutes', escalate_at IS NULL"), 'slack:U0PERSON2|t|t', 'as does the incident');
shop("UPDATE stripe_sync.incident_record SET window_until = clock_timestamp() WHERE id = $id");
deliver(failed(12, 'in_1'));
shop(q{SELECT stripe_sync.retry_message(id) FROM stripe_sync.message WHERE state = 'waiting'});
all_sent('it happens meanwhile');
$message = last_of('#ops');
like($message->{shown}, qr/3 times/, 'counted');
is(scalar @{ $message->{replies} }, 1, 'and not said');
due('snoozed_until', $id);
ok($slack->wait_for(sub { @{ last_of('#ops')->{replies} } == 2 }), 'it comes back');
all_sent('and');
$message = last_of('#ops');
is(replies($message)->[1], ':alarm_clock: The snooze by <@U0PERSON2> is over, not resolved: *Failed:* IN_1', 'in its thread');
is_deeply($message->{replies}[1]{pings}, ['@U0PERSON2'], 'to who has snoozed it');
unlike($message->{shown}, qr/Snoozed|Acknowledged/, 'as if nobody had taken it up');
like(buttons($message), qr/^acknowledge /, 'so somebody can');
is(of($id, "snoozed_until IS NULL, acknowledged_at IS NULL, escalate_at > clock_timestamp() + interval '20 minutes'"), 't|t|t', 'it will be repeated');
press($message, 'snooze', 'U0PERSON1', option => "$id:1d");
press($message, 'snooze', 'U0PERSON1', option => "$id:1h");
all_sent('snoozed twice');
is(of($id, "snoozed_until < clock_timestamp() + interval '70 minutes'"), 't', 'the second one counts');
press($message, 'acknowledge', 'U0PERSON1', stale => \1);
all_sent('acknowledged');
is(of($id, 'snoozed_until IS NULL, acknowledged_by'), 't|slack:U0PERSON1', 'ends a snooze');

# ---- resolved by a person ----

press($message, 'resolve', 'U0PERSON2');
all_sent('resolved');
$message = last_of('#ops');
like($message->{text}, qr/^\[TEST\] :white_check_mark: \*Resolved:\* /, 'the message says so');
like($message->{shown}, qr/Resolved \S.* by \@U0PERSON2/, 'and who did it');
is(buttons($message), '', 'no button is left');
is(replies($message)->[-1], ':white_check_mark: Resolved by <@U0PERSON2>, 3 times: *Failed:* IN_1', 'its thread is told');
is(of($id, 'state, closed_by, escalate_at IS NULL'), 'closed|slack:U0PERSON2|t', 'as is the database');
is(steps($id), join(', ', 'acknowledged slack:U0PERSON1', 'snoozed slack:U0PERSON2', 'woken', 'snoozed slack:U0PERSON1', 'snoozed slack:U0PERSON1', 'acknowledged slack:U0PERSON1', 'resolved slack:U0PERSON2'), 'all in order');
press($message, 'resolve', 'U0PERSON1', stale => \1);
deliver(paid(13, 'in_1'));
all_sent('resolved again, and paid');
is(of($id, 'closed_by'), 'slack:U0PERSON2', 'nothing changes');
is(scalar @{ last_of('#ops')->{replies} }, scalar @{ $message->{replies} }, 'and nothing is said');
my $before = @{ $slack->shows('#ops') };
deliver(failed(14, 'in_1'));
all_sent('it fails once more');
is(scalar @{ $slack->shows('#ops') }, $before + 1, 'which is another message');

# ---- how it ended ----

before_sending(
	sub { deliver(failed(20, 'in_2'), paid(21, 'in_2')) },
	sub { shop(q{UPDATE stripe_sync.incident_record SET closing_text = ':no_entry: *Lost:* the money is gone', closed_well = false WHERE id = } . incident()) });
all_sent('a bad end');
like(last_of('#ops')->{text}, qr/^(?:\[TEST\] )?:no_entry: \*Lost:\* the money is gone\n\*Failed:\* IN_2/, 'has its own sign');
unlike(last_of('#ops')->{shown}, qr/:white_check_mark:/, 'and no check mark');

# ---- repeated until somebody takes it up ----

# Let so many repetitions be due; how many messages #oncall shows then
sub repeat
{
	my ($id, $times) = @_;

	foreach (1 .. $times)
	{
		my $done = of($id, 'escalations');

		last if of($id, 'escalate_at IS NULL') eq 't';
		due('escalate_at', $id);
		$node->poll_query_until('shop', "SELECT escalations > $done FROM stripe_sync.incident_record WHERE id = $id");
	}
	ok(idle($node, 'shop'), 'repeated');
	return scalar @{ $slack->shows('#oncall') };
}

shop(q{SELECT stripe_sync.set_escalation('ops', 'oncall')});
deliver(failed(30, 'in_3'));
all_sent('a critical one');
$id = incident();
is(repeat($id, 5), 3, 'is repeated three times, each in the channel');
is(of($id, 'escalations, escalate_at IS NULL'), '3|t', 'and no more');
is(steps($id), 'repeated, repeated, repeated', 'each is a step');
like(buttons($_), qr/^acknowledge /, 'with buttons') for @{ $slack->shows('#oncall') };
press($slack->shows('#oncall')->[1], 'acknowledge', 'U0PERSON2');
all_sent('taken up there');
like($_->{shown}, qr/Acknowledged .* by \@U0PERSON2/, 'all of its messages say so') for last_of('#ops'), @{ $slack->shows('#oncall') };
deliver(paid(31, 'in_3'));
all_sent('resolved');
like($_->{text}, qr/:white_check_mark: \*Resolved:\*/, 'all of them say so, too') for last_of('#ops'), @{ $slack->shows('#oncall') };
is(scalar @{ $slack->shows('#oncall')->[0]{replies} }, 1, 'it is told there once');

deliver(failed(40, 'in_4'));
$id = incident();
press(do { all_sent('another'); last_of('#ops') }, 'acknowledge', 'U0PERSON1');
is(repeat($id, 2), 3, 'what is acknowledged is not repeated');
deliver(failed(41, 'in_5'));
all_sent('one more');
$id = incident();
is(repeat($id, 1), 4, 'repeated');
press(last_of('#ops'), 'snooze', 'U0PERSON1', option => "$id:1d");
is(repeat($id, 2), 4, 'what is snoozed is not repeated');
due('snoozed_until', $id);
$node->poll_query_until('shop', "SELECT snoozed_until IS NULL FROM stripe_sync.incident_record WHERE id = $id");
is(repeat($id, 5), 7, 'three more times when that is over');
shop('UPDATE stripe_sync.slack_app SET first_press_at = NULL');
deliver(failed(42, 'in_6'));
all_sent('where nobody has ever pressed');
is(repeat(incident(), 5), 8, 'it is repeated once');
shop(q{UPDATE stripe_sync.slack_app SET first_press_at = now(); SELECT stripe_sync.set_escalation('ops', NULL)});

# what no event closes is no less open when its window has ended
rule('ops');
deliver(failed(50, 'in_7'));
all_sent('nothing closes it');
$id = incident();
shop("UPDATE stripe_sync.incident_record SET state = 'closed', closed_at = now(), window_until = now() WHERE id = $id");
press(last_of('#ops'), 'acknowledge', 'U0PERSON1');
all_sent('and somebody takes it up');
is(of($id, 'acknowledged_by, escalate_at IS NULL, closed_by IS NULL'), 'slack:U0PERSON1|t|t', 'after its window');
press(last_of('#ops'), 'resolve', 'U0PERSON1');
all_sent('and mends it');
like(last_of('#ops')->{shown}, qr/Resolved .* by \@U0PERSON1/, 'which is said');

# a muted one is not repeated, nor counted as that
deliver(failed(60, 'in_8'));
all_sent('one more');
$id = incident();
shop(q{SELECT stripe_sync.mute_alert('failed', now() + interval '1 hour')});
due('escalate_at', $id);
$node->poll_query_until('shop', "SELECT escalate_at > clock_timestamp() + interval '20 minutes' FROM stripe_sync.incident_record WHERE id = $id");
is(of($id, 'escalations') . scalar @{ last_of('#ops')->{replies} }, '00', 'a muted one is put off');
shop(q{SELECT stripe_sync.mute_alert('failed', NULL)});

# ---- the whole story ----

rule('ops', "closed_by => 'invoice.paid'");
deliver(failed(80, 'in_20'));
all_sent('a failure');
press(last_of('#ops'), 'acknowledge', 'U0PERSON1');
all_sent('taken up');
deliver(paid(81, 'in_20'));
all_sent('and paid');
$message = last_of('#ops');
like($message->{text}, qr/:white_check_mark: \*Resolved:\* \*Failed:\* IN_20/, 'the message says so');
is_deeply(replies($message), [':white_check_mark: Resolved by invoice.paid: *Failed:* IN_20'], 'and its thread');
like(shop(q{SELECT stripe_sync.trace_text('in_20')}), qr/opened incident.*posted.*acknowledged by U0PERSON1.*updated.*resolved incident.*updated.*posted/s, 'trace tells it in order');

# ---- a webhook, customers, blocks of one's own ----

rule('hook');
deliver(failed(70, 'in_9'));
all_sent('a webhook');
is(buttons(last_of(1)), '', 'has no buttons');
shop(q{SELECT stripe_sync.route_customer('cus_1', 'ops')});
rule('@customer');
deliver(failed(71, 'in_10'));
all_sent('a customer');
is(buttons(last_of('#ops')), '', 'has none either');
unlike(last_of('#ops')->{shown}, qr/shop/, 'nor the name of the database');
my $blocks = json_text([ map { { type => 'section', text => { type => 'mrkdwn', text => "$_ " . 'long ' x 50 } } } 1 .. 60 ]);
rule('ops', 'blocks => ' . literal($blocks));
before_sending(
	sub { deliver(failed(72, 'in_11')) },
	sub { shop(q{UPDATE stripe_sync.incident_record SET mention = 'S0TEAM', refs = '{"event": "evt_1"}' WHERE id = } . incident()) });
all_sent('many blocks of the user');
$message = last_of('#ops');
is(buttons($message), 'acknowledge snooze resolve retry_event', 'leave room for the buttons');
is_deeply($message->{pings}, ['!subteam^S0TEAM'], 'and the mention');
is(shop(q{SELECT count(*) FROM stripe_sync.message WHERE state <> 'sent'}), '0', 'Slack has refused nothing');

done_testing();
