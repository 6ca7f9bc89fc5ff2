# press.pl
#		Buttons in Slack, from the message to what it shows afterwards: a worker, the
#		stub of Slack, and a role for the HTTP front that may only receive.

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
my $node = start_node('press', conf => PRELOAD . $slack->conf . "stripe_sync.slack_rate = 0\nstripe_sync.doctor_interval = 0\nstripe_sync.escalate_after = 0\n");

make_database($node, 'one');
sub one { return $node->safe_psql('one', $_[0]); }

one('SET client_min_messages = warning; SELECT count(*) FROM stripe_sync.create_tables(ARRAY[\'invoice\', \'customer\'])');
add_channel($node, 'one', 'ops', '#ops');
one('SELECT stripe_sync.add_slack_app(' . literals('default', SlackStub::SIGNING_SECRET, TOKEN) . ')');
one(q{CREATE ROLE front LOGIN; SELECT stripe_sync.grant_ingest('front')});
one(qq{SELECT stripe_sync.set_slack_user('$_->[0]', '$_->[1]')}) for [ UADA => 'act' ], [ UEVE => 'see' ], [ WADM => 'administer' ], [ 'T0OTHER/UFAR' => 'act' ];
one(q{SELECT stripe_sync.add_alert('failed', 'invoice.payment_failed', 'ops', 'Payment of {{id}} failed', group_by => '$.data.object.id', coalesce_for => '0',
	closed_by => 'invoice.paid', severity => 'critical')});

# ---- helpers ----

sub send_event
{
	my $payload = json_text(event(@_));

	return one('SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload)) . ')');
}

sub invoice { return { id => $_[0], object => 'invoice', customer => 'cus_1', currency => 'eur', amount_due => 2900 }; }

# The message in the channel whose text has this, as the stub shows it.
sub shown { my ($text) = @_; return (grep { $_->{text} =~ /\Q$text\E/ } @{ $slack->shows('#ops') })[0]; }

sub message
{
	my ($text) = @_;

	$slack->wait_for(sub { shown($text) });
	return shown($text);
}

# What the HTTP front gets for a request: "200" and the body
sub receive
{
	my ($body, $headers, $app) = @_;

	return $node->safe_psql('one', 'SET ROLE front; ' . receive_call($body, $headers, $app));
}

sub press { return receive($slack->press(@_)); }

# The texts that a person was told privately, once there are so many.
my %heard;
sub told
{
	my ($user) = @_;
	my $count = ++$heard{$user};
	my @texts;

	eventually("$user is told", sub { @texts = map { $_->{text} } grep { $_->{user} eq $user } @{ $slack->private }; @texts >= $count });
	return $texts[-1];
}

# The request with another value or action of the button, signed: a message in it
# has buttons of its own.
sub forged
{
	my ($body, %how) = @_;
	my $payload = json_value($body =~ s/^payload=//r =~ tr/+/ /r =~ s/%(..)/chr hex $1/ger);

	$payload->{actions}[0]{value} = $how{value} if defined $how{value};
	$payload->{actions}[0]{action_id} = "stripe_sync.$how{action}" if defined $how{action};
	delete $payload->{response_url} if $how{unanswerable};
	$body = 'payload=' . json_text($payload) =~ s/([^A-Za-z0-9_.-])/sprintf '%%%02X', ord $1/ger;
	return ($body, $slack->sign($body));
}

sub status { return one("SELECT concat_ws('|', name, slack_user, incident, status, error) FROM stripe_sync.interaction ORDER BY id DESC LIMIT 1"); }
sub steps { return one("SELECT string_agg(step || ' ' || coalesce(by, '-'), ', ' ORDER BY id) FROM stripe_sync.incident_step WHERE incident = $_[0]"); }
sub has_button { my ($message, $id) = @_; return scalar grep { ($_->{action_id} // '') eq "stripe_sync.$id" } map { @{ $_->{elements} // [] } } @{ $message->{blocks} }; }

# ---- the circle: failed, acknowledged, paid ----

is(send_event('evt_1', 'invoice.payment_failed', 1, invoice('in_1')), 'applied', 'a payment fails');
my $message = message('in_1');
ok(has_button($message, $_), "the message has the button $_") for qw(acknowledge snooze resolve);
is(press($message, 'stripe_sync.acknowledge', 'UADA', user_name => 'ada'), '200|', 'Acknowledge is answered with 200 and no body');
is(status(), 'stripe_sync.acknowledge|UADA|1|done', 'and stored');
$slack->wait_for(sub { shown('in_1')->{shown} =~ /UADA/ });
like(shown('in_1')->{shown}, qr/acknowledged.*UADA/i, 'the message says who has acknowledged it');
ok(!has_button(shown('in_1'), 'acknowledge'), 'the button is gone');
is(press($message, 'stripe_sync.acknowledge', 'WADM', stale => TRUE), '200|', 'somebody else presses it in an old view');
like(told('WADM'), qr/^Already acknowledged by <\@UADA>, /, 'and is told who did it');
is(steps(1), 'acknowledged slack:UADA', 'it is one step');
is(send_event('evt_2', 'invoice.paid', 2, invoice('in_1')), 'applied', 'it is paid');
$slack->wait_for(sub { !has_button(shown('in_1'), 'resolve') });
is(one('SELECT state, closed_by FROM stripe_sync.incident WHERE id = 1'), 'closed|evt_2', 'the incident is closed by the event');
is(press($message, 'stripe_sync.resolve', 'UADA', stale => TRUE), '200|', 'a press on the message of a closed incident');
like(told('UADA'), qr/^This incident is closed: by `evt_2`, /, 'says so');
is(steps(1), 'acknowledged slack:UADA', 'and does nothing');

# ---- who may ----

send_event('evt_3', 'invoice.payment_failed', 3, invoice('in_3'));
$message = message('in_3');
my $before = scalar @{ $slack->shows('#ops') };
for my $case ([ 'acknowledge', 'UEVE', 'it needs act, and this person may see' ], [ 'resolve', 'UNEW', 'it needs act, and this person may nothing' ],
	[ 'snooze', 'UNEW', 'it needs act, and this person may nothing', option => '1h' ], [ 'resolve', 'UADA', 'it needs act, and this person may nothing', team => 'T0OTHER' ],
	[ 'trace', 'UNEW', 'it needs see, and this person may nothing' ])
{
	my ($action, $user, $error, %how) = @$case;

	next if $action eq 'trace' && !has_button($message, 'trace');
	is(press($message, "stripe_sync.$action", $user, %how), '200|', "$user may not $action");
	is(status(), "stripe_sync.$action|$user|2|refused|$error", 'which is recorded');
	my $said = told($user);
	like($said, qr/^You may not /, 'and told privately');
	unlike($said, qr/in_3|cus_|29\.00/, 'without what it is about');
}
is(steps(2), '', 'nothing was done');
is(scalar @{ $slack->shows('#ops') }, $before, 'and nothing said in the channel');
is(press($message, 'stripe_sync.acknowledge', 'UFAR', team => 'T0OTHER'), '200|', 'one of another workspace may with it');
is(steps(2), 'acknowledged slack:T0OTHER/UFAR', 'and is stored with it');

# ---- snooze, resolve ----

is(press($message, 'stripe_sync.snooze', 'UADA', option => '1h'), '200|', 'Snooze');
$slack->wait_for(sub { shown('in_3')->{shown} =~ /snoozed/i });
like(shown('in_3')->{shown}, qr/snoozed.*UADA/i, 'shows in the message');
is(press($message, 'stripe_sync.resolve', 'UADA', stale => TRUE), '200|', 'Resolve');
$slack->wait_for(sub { !has_button(shown('in_3'), 'resolve') });
is(one('SELECT state, closed_by FROM stripe_sync.incident WHERE id = 2'), 'closed|slack:UADA', 'closes it');

# ---- the same request twice, and others that are not to be believed ----

send_event('evt_4', 'invoice.payment_failed', 4, invoice('in_4'));
$message = message('in_4');
my @request = $slack->press($message, 'stripe_sync.acknowledge', 'UADA');
is(receive(@request), '200|', 'a press');
is(receive(@request), '200|', 'the same request once more');
is(receive($slack->redelivery(@request)), '200|', 'and as a redelivery');
is(one('SELECT count(*) FROM stripe_sync.interaction WHERE incident = 3'), '1', 'are one interaction');
is(steps(3), 'acknowledged slack:UADA', 'and one step');
my $rows = one('SELECT count(*) FROM stripe_sync.interaction');
@request = $slack->press($message, 'stripe_sync.resolve', 'UADA');
like(receive($request[0], $slack->sign($request[0], secret => 'x' x 32)), qr/^401\|\{.*"code": "SY002"/, 'signed with another secret');
like(receive($request[0], $slack->sign($request[0], at => time - 302)), qr/^401\|/, 'too old');
like(receive($request[0] . '&x=1', $request[1]), qr/^401\|/, 'changed');
like(receive(@request, 'nobody'), qr/^500\|/, 'for another app');
is(one('SELECT count(*) FROM stripe_sync.interaction'), $rows, 'leave no row');
is(one('SELECT state FROM stripe_sync.incident WHERE id = 3'), 'open', 'and do nothing');

# a body that is signed and has other values: only an incident's number counts
for my $value ('999', '3;', "3' OR true", '-3', '3' x 400)
{
	is(receive(forged($request[0], value => $value)), '200|', 'a value of another kind is answered');
	like(status(), qr/\|ignored\|there is no such incident$/, 'and does nothing');
	is(told('UADA'), 'This incident is not stored any more.', 'which is told');
}
is(one('SELECT state FROM stripe_sync.incident WHERE id = 3'), 'open', 'none of them has resolved it');

# ---- the trace, as the person may see it and the front's role may not ----

one(q{UPDATE stripe_sync.incident_record SET refs = coalesce(refs, '{}') || '{"trace":"in_4","account":"","url":"https://dashboard.stripe.com/test/invoices/in_4"}' WHERE id = 3});
@request = $slack->press($message, 'stripe_sync.resolve', 'UEVE');
is(receive(forged($request[0], action => 'trace')), '200|', 'Show trace');
is(told('UEVE'), 'Trace of in_4', 'is told privately');
my ($private) = grep { $_->{text} eq 'Trace of in_4' } @{ $slack->private };
my $story = join "\n", map { $_->{text}{text} } @{ $private->{blocks} };
like($story, qr/^```\n.*invoice in_4 .*invoice\.payment_failed.*```\n<https:.*\|Open in Stripe>$/s, 'in code blocks, with a link');
is(one(q{SELECT has_table_privilege('front', 'stripe.invoices', 'SELECT')}), 'f', 'the role of the front may not read the mirror');
is($node->psql('one', q{SET ROLE front; SELECT stripe_sync.trace_text('in_4')}), 3, 'nor trace');

# A long story is cut to what Slack takes, in the middle.
send_event("evt_l$_", 'invoice.updated', 100 + $_, { %{ invoice('in_4') }, description => "line $_ " . '&<>`' x 100 }) for 1 .. 150;
@request = $slack->press($message, 'stripe_sync.resolve', 'WADM');
is(receive(forged($request[0], action => 'trace')), '200|', 'Show trace of a long story');
is(told('WADM'), 'Trace of in_4', 'is taken by Slack');
($private) = grep { $_->{text} eq 'Trace of in_4' && $_->{user} eq 'WADM' } @{ $slack->private };
$story = join "\n", map { $_->{text}{text} } @{ $private->{blocks} };
like($story, qr/\.\.\. \d+ lines are left out \.\.\./, 'and cut in the middle');
like($story, qr/evt_l150/, 'not at its end');

# ---- the system's own: the worker does what takes long ----

one(q{CREATE TABLE broken AS SELECT true AS broken; GRANT SELECT ON broken TO PUBLIC;
	CREATE FUNCTION handle(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF (SELECT broken FROM public.broken) THEN RAISE 'as asked'; END IF; END $$;
	SELECT stripe_sync.add_handler('h', 'x', 'handle'), stripe_sync.add_alert('failing', 'system.event_failed', 'ops', 'Event {{event}} has failed')});
is(send_event('evt_x', 'x', 5, {}), 'failed', 'a handler fails');
$message = message('has failed');
my $failing = one(q{SELECT id FROM stripe_sync.incident WHERE alert = 'failing'});
one("UPDATE stripe_sync.incident_record SET refs = coalesce(refs, '{}') || '{\"event\":\"evt_x\",\"account\":\"\"}' WHERE id = $failing");
one(q{UPDATE broken SET broken = false; UPDATE stripe_sync.event SET status = 'dead', next_attempt_at = NULL, tries = '{"h": 100}' WHERE id = 'evt_x'});
@request = $slack->press($message, 'stripe_sync.resolve', 'WADM');
sub as_action { return forged($request[0], action => $_[0]); }
is(receive(as_action('retry_event')), '200|', 'Retry event');
is(told('WADM'), 'What has failed of `evt_x` is run again now.', 'is queued');
eventually('the worker applies it', sub { one(q{SELECT status FROM stripe_sync.event WHERE id = 'evt_x'}) =~ /^(applied|ignored)$/ });
eventually('which ends the failure', sub { one(q{SELECT string_agg(state, ' ') FROM stripe_sync.event_error WHERE event_id = 'evt_x'}) eq 'settled' });
is(one(q{SELECT what, ref, by, detail FROM stripe_sync.journal WHERE what = 'event.retried'}), "event.retried|evt_x|slack:WADM|incident $failing", 'the journal says who');

# A destination that Slack refuses is switched on again from another one.
add_channel($node, 'one', 'other', '#other', 'xoxb-other');
one(q{SELECT stripe_sync.disable_destination('other', 'as asked'); SELECT stripe_sync.notify('other', 'waits')});
one("UPDATE stripe_sync.incident_record SET state = 'open', closed_at = NULL, closed_by = NULL, refs = '{\"destination\":\"other\"}' WHERE id = $failing");
is(receive(as_action('enable')), '200|', 'Switch the destination on again');
is(told('WADM'), 'Destination `other` is switched on again.', 'is told');
$slack->wait_for(sub { @{ $slack->shows('#other') } });
is(one(q{SELECT by FROM stripe_sync.journal WHERE what = 'destination.on'}), 'slack:WADM', 'and in the journal');

# A message that was given up is sent again.
my $id = notify($node, 'one', 'other', 'once more', q{send_after => now() + interval '1 day'});
one("UPDATE stripe_sync.message SET state = 'dead', settled_at = now() WHERE id = $id; UPDATE stripe_sync.incident_record SET refs = '{\"message\":$id}' WHERE id = $failing");
is(receive(as_action('retry_message')), '200|', 'Retry message');
is(told('WADM'), "Message $id is sent again now.", 'is told');
state_of_message($node, 'one', $id, 'sent', 'the message is sent');

# ---- nobody hears it: no response_url, one on a foreign host ----

is(receive(forged($request[0], action => 'retry_message', unanswerable => 1)), '200|', 'without response_url');
like(status(), qr/\|ignored\|55000: message $id is sent/, 'it is done or not all the same');

no_secret_in($node, 'one', 'at the end');
my $log = slurp_file($node->logfile);
unlike($log, qr/response_url|hooks|trigger_id/, 'the log shows no request');
$node->stop;
done_testing();
