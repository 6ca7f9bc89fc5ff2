# DoctorFaults/Slack.pm
#		The faults of the area "slack".

package DoctorFaults::Slack;

use strict;
use warnings FATAL => 'all';

use Delivery;
use StripeSync;

# Two destinations, each the other's fallback, and the default alerts.
sub prepare
{
	my ($t) = @_;

	add_webhook($t->node, $t->database, $t->slack, 'ops', 1);
	add_webhook($t->node, $t->database, $t->slack, 'spare', 2);
	$t->sql(q{SELECT stripe_sync.set_fallback('ops', 'spare'); SELECT stripe_sync.set_fallback('spare', 'ops');
		SELECT stripe_sync.add_default_alerts('ops')});
	return;
}

# A message to "spare" that the stub answers once with that fault.
sub notify_with
{
	my ($t, $fault, $text) = @_;

	$t->slack->fault($fault, times => 1, text => qr/\Q$text\E/);
	return notify($t->node, $t->database, 'spare', $text);
}

# Deliveries of today, of a message that was sent.
sub deliveries
{
	my ($t, $count, $status, $code) = @_;
	my $id = notify($t->node, $t->database, 'spare', "has $count deliveries");

	state_of_message($t->node, $t->database, $id, 'sent', "message $id is sent");
	$t->sql(qq{INSERT INTO stripe_sync.delivery (message_id, attempt, started_at, finished_at, http_status, code, verdict)
		SELECT $id, 100 + n, clock_timestamp(), clock_timestamp(), $status, '$code', 'retry' FROM generate_series(1, $count) n});
	return;
}

# They are of the day before yesterday.
sub past_deliveries { $_[0]->sql(q{UPDATE stripe_sync.delivery SET started_at = started_at - interval '2 days' WHERE attempt > 100}); return; }

sub reset_setting { my ($t, $name) = @_; $t->sql("ALTER SYSTEM RESET stripe_sync.$name"); $t->sql('SELECT pg_reload_conf()'); return; }

sub simulate { my ($t, $type, $object) = @_; $t->sql('SELECT FROM stripe_sync.simulate(' . literals($type, json_text($object)) . ')'); return; }

my %invoice = (id => 'in_doctor', object => 'invoice', number => 'D-1', customer => 'cus_doctor', amount_due => 100, currency => 'usd');
my %dispute = (id => 'du_doctor', object => 'dispute', charge => 'ch_doctor', amount => 100, currency => 'usd', reason => 'fraudulent');

sub faults
{
	return (
		'slack.destinations' => {
			break => sub { $_[0]->sql(q{SELECT stripe_sync.disable_destination('spare', 'for a test')}) },
			status => 'warn',
			detail => qr/1 destination is switched off: spare \(for a test\)/,
			hint => qr/enable_destination\('spare'\)/ },
		'slack.tokens' => {
			break => sub { notify_with($_[0], { code => 'no_service' }, 'to a webhook that is gone') },
			status => 'fail',
			detail => qr/spare \(no_service\), which has a fallback/,
			hint => qr/enable_destination\('spare'\)/ },
		'slack.fallback' => {
			break => sub { $_[0]->sql(q{SELECT stripe_sync.set_fallback('ops', NULL)}) },
			status => 'warn',
			detail => qr/1 destination has no fallback.*ops/,
			hint => qr/set_fallback\('ops', 'spare'\)/ },
		'slack.backlog' => {
			break => sub {
				my ($t) = @_;
				my $id = notify($t->node, $t->database, 'spare', 'tried before, due tomorrow', q{send_after => now() + interval '1 day'});

				$t->sql("UPDATE stripe_sync.message SET attempts = 1, created_at = now() - interval '2 hours' WHERE id = $id");
			},
			status => 'fail',
			detail => qr/1 message waits, the oldest for 2 h, for spare/,
			hint => qr/retry_message/ },
		'slack.dead_messages' => {
			break => sub { notify_with($_[0], { code => 'invalid_payload' }, 'refused by Slack') },
			status => 'fail',
			detail => qr/1 message was given up.*spare \(invalid_payload\)/,
			hint => qr/retry_message/ },
		'slack.failure_rate' => {
			break => sub { deliveries($_[0], 60, 500, 'http_500') },
			status => 'fail',
			detail => qr/6\d of \d+ deliveries in a day failed, most of them for spare \(http_500\)/,
			hint => qr/^CALL stripe_sync.check_destination\('spare'\)/,
			mend => sub { my ($t, $row) = @_; $t->run_hint($row->{hint}); past_deliveries($t); } },
		'slack.rate_limits' => {
			break => sub { deliveries($_[0], 12, 429, 'ratelimited') },
			status => 'warn',
			detail => qr/put off 12 deliveries/,
			hint => qr/^ALTER SYSTEM SET stripe_sync.slack_rate = 1;/,
			mend => sub { my ($t, $row) = @_; $t->run_hint($row->{hint}); past_deliveries($t); },
			after => sub { reset_setting($_[0], 'slack_rate') } },
		'slack.flood' => {
			break => sub {
				$_[0]->sql(q{INSERT INTO stripe_sync.message (destination, method, payload, state, due_at, alert, settled_at)
					SELECT 'spare', 'post', '{"text": "one of many"}', 'sent', now(), 'payment_failed', now() FROM generate_series(1, 61)});
			},
			status => 'warn',
			detail => qr/spare has had 61 messages/,
			hint => qr/^ALTER SYSTEM SET stripe_sync.max_alerts_per_hour = 120;/,
			after => sub { my ($t) = @_; $t->sql(q{DELETE FROM stripe_sync.message WHERE payload->>'text' = 'one of many'}); reset_setting($t, 'max_alerts_per_hour'); } },
		'slack.system_alerts' => {
			break => sub { $_[0]->sql(q{SELECT stripe_sync.drop_alert('events_dead')}) },
			status => 'warn',
			detail => qr/no alert for 1 event .*system\.event_dead/,
			hint => qr/add_default_alerts\('ops'\)/ },
		'slack.noisy_alerts' => {
			break => sub {
				$_[0]->sql(q{INSERT INTO stripe_sync.incident_record (kind, alert, group_key, account, destination, severity, state, text, event_id, window_until)
					SELECT 'single', 'payment_failed', 'in_' || n, '', 'ops', 'warning', 'closed', 'one of many', 'evt_' || n, now() FROM generate_series(1, 50) n});
			},
			status => 'warn',
			detail => qr/payment_failed has opened 50 incidents/,
			mend => sub { $_[0]->sql(q{UPDATE stripe_sync.incident_record SET opened_at = opened_at - interval '2 days' WHERE text = 'one of many'}) } },
		'slack.unused_alerts' => {
			break => sub {
				$_[0]->sql(q{SELECT stripe_sync.add_alert('forgotten', 'invoice.paid', 'ops', 'paid', condition => '$.data.object.amount_paid > 1000000000');
					UPDATE stripe_sync.alert SET created_at = now() - interval '91 days' WHERE name IN ('forgotten', 'fraud_warning', 'events_dead')});
			},
			status => 'warn',
			detail => qr/1 alert has never fired.*forgotten/,
			hint => qr/drop_alert\('forgotten'\)/ },
		'slack.unacknowledged_alerts' => {
			break => sub {
				my ($t) = @_;

				simulate($t, 'charge.dispute.created', \%dispute);
				$t->sql(q{UPDATE stripe_sync.incident_record SET escalate_at = now() WHERE alert = 'dispute_opened'});
				$t->sql('SELECT stripe_sync.resume()');
			},
			status => 'warn',
			detail => qr/1 critical incident was repeated and not acknowledged, the oldest is incident \d+ of dispute_opened, open for/,
			mend => sub { simulate($_[0], 'charge.dispute.closed', { %dispute, status => 'won' }) } },
		'slack.open_incidents' => {
			break => sub {
				my ($t) = @_;

				simulate($t, 'invoice.payment_failed', { %invoice, status => 'open' });
				$t->sql(q{UPDATE stripe_sync.incident_record SET opened_at = now() - interval '15 days' WHERE alert = 'payment_failed' AND state = 'open'});
			},
			status => 'warn',
			detail => qr/1 incident is open for more than 14 days, the oldest is incident \d+ of payment_failed/,
			mend => sub { simulate($_[0], 'invoice.paid', { %invoice, status => 'paid' }) } },
	);
}

1;
