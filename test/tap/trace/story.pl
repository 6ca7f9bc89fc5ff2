# story.pl
#		One story over all three systems, told from each of its ids: a payment
#		fails, its event is retried, alerted, refused by Slack once, paid, resolved.
#		Another customer shares price, coupon, roll-up, idempotency key and second,
#		and is in none of it.

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
my $node = start_node('story', conf => PRELOAD . $slack->conf .
	  "stripe_sync.slack_rate = 0\nstripe_sync.coalesce_burst = 2\nstripe_sync.outbound = off\n");
make_database($node, 'one');
add_channel($node, 'one', 'billing', '#billing');

sub one { return $node->safe_psql('one', $_[0]); }

one(q{
	SELECT stripe_sync.add_alert('payment_failed', 'invoice.payment_failed', 'billing', 'Payment of {{id}} failed', closed_by => 'invoice.paid');
	SELECT stripe_sync.add_alert('charge_failed', 'charge.failed', 'billing', 'Charge {{id}} failed');
	SELECT stripe_sync.add_alert('big_invoice', 'invoice.created', 'billing', 'Big', condition => '$.data.object.amount_due > 1000000');
	CREATE TABLE test.switch (fails boolean); INSERT INTO test.switch VALUES (true); GRANT ALL ON test.switch TO PUBLIC;
	CREATE FUNCTION test.dunning(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF (SELECT fails FROM test.switch) AND event #>> '{data,object,customer}' = 'cus_Ada' THEN
			RAISE invalid_text_representation USING message = E'no such plan\n2026-01-01 slack nothing happened';
		END IF;
	END $$;
	SELECT stripe_sync.add_handler('dunning', 'invoice.payment_failed', 'test.dunning');
});

# ---- what Stripe sends ----

my %names = (Ada => "Ada\nLovelace \x{202e}", Bob => 'Bob', Eve => 'Eve', Zoe => 'Zoe');

sub objects
{
	my ($who, $paid) = @_;
	my $common = { customer => "cus_$who", livemode => FALSE, created => T0, currency => 'eur' };
	my $subscription = { %$common, id => "sub_$who", object => 'subscription', status => $paid ? 'active' : 'past_due',
		items => { object => 'list', has_more => FALSE, data => [ { id => "si_$who", object => 'subscription_item', price => price() } ] } };
	my $invoice = { %$common, id => "in_$who", object => 'invoice', subscription => "sub_$who", payment_intent => "pi_$who",
		charge => $paid ? "ch_${who}2" : "ch_${who}1", amount_due => 2900, status => $paid ? 'paid' : 'open', attempt_count => $paid ? 2 : 1 };

	return ($common, $subscription, $invoice);
}

sub price { return { id => 'price_1', object => 'price', currency => 'eur', unit_amount => 2900, product => 'prod_1', created => T0, livemode => FALSE }; }

# What one event does is one request's, whose key another customer's has as well.
sub receive
{
	my ($id, $type, $second, $object, %rest) = @_;
	my $event = event("evt_$id", $type, $second, $object, %{ $rest{of} // {} });

	$event->{request} = { id => $rest{request}, idempotency_key => $rest{key} } if $rest{request};
	my $payload = json_text($event);
	return one("SELECT status FROM stripe_sync.receive(" . literal($payload) . ', ' . literal(signature($payload)) . ')');
}

# Events of several customers in the same seconds, one type after the other.
sub fail_payment
{
	my (@who) = @_;

	for my $who (@who)
	{
		my ($common, $subscription, $invoice) = objects($who, 0);
		my %by = (request => "req_${who}1", key => 'key-shared');
		my $draft = { %$invoice, status => 'draft', attempt_count => 0, charge => undef, payment_intent => undef };
		my $open = { %$draft, status => 'open', attempt_count => 0 };

		receive("${who}01", 'customer.created', 0, { id => "cus_$who", object => 'customer', name => $names{$who}, email => "$who\@Example.com", created => T0, livemode => FALSE });
		receive("${who}02", 'customer.subscription.created', 1, { %$subscription, status => 'active' });
		receive("${who}03", 'invoice.created', 2, $draft, %by);
		receive("${who}04", 'invoice.finalized', 3, $open, of => { previous => { status => 'draft' } }, %by);
		receive("${who}05", 'charge.failed', 5, { %$common, id => "ch_${who}1", object => 'charge', amount => 2900, invoice => "in_$who",
			payment_intent => "pi_$who", status => 'failed', failure_code => 'card_declined' }, %by);
		receive("${who}06", 'payment_intent.payment_failed', 5, { %$common, id => "pi_$who", object => 'payment_intent', amount => 2900,
			status => 'requires_payment_method', invoice => "in_$who" }, %by);
		receive("${who}07", 'invoice.payment_failed', 5, $invoice, of => { previous => { attempt_count => 0 } }, %by);
	}
}

sub pay
{
	my (@who) = @_;

	for my $who (@who)
	{
		my ($common, undef, $invoice) = objects($who, 1);
		my %by = (request => "req_${who}2", key => "key-$who");

		receive("${who}08", 'charge.succeeded', 60, { %$common, id => "ch_${who}2", object => 'charge', amount => 2900, invoice => "in_$who",
			payment_intent => "pi_$who", status => 'succeeded' }, %by);
		receive("${who}09", 'invoice.paid', 61, $invoice, of => { previous => { status => 'open', attempt_count => 1 } }, %by);
		receive("${who}10", 'refund.created', 70, { id => "re_$who", object => 'refund', charge => "ch_${who}2", payment_intent => "pi_$who",
			amount => 100, currency => 'eur', status => 'succeeded', created => T0 + 70 });
	}
}

receive('price', 'price.created', 0, price());
receive('coupon', 'coupon.created', 0, { id => 'gold', object => 'coupon', percent_off => 10, created => T0, livemode => FALSE });
fail_payment('Eve', 'Zoe');
# two charges have an incident each; this one opens a roll-up, which counts Ada's
receive('Tim05', 'charge.failed', 5, { id => 'ch_Tim', object => 'charge', amount => 1, currency => 'eur', status => 'failed', customer => 'cus_Tim', created => T0, livemode => FALSE });
one(q{UPDATE stripe_sync.incident_record SET opened_at = opened_at - interval '1 hour' WHERE alert = 'payment_failed'});
fail_payment('Ada', 'Bob');
$slack->fault({ status => 429, headers => { 'Retry-After' => '1' }, body => '{"ok":false,"error":"ratelimited"}' }, times => 1, text => qr/in_Ada/);
$node->append_conf('postgresql.conf', 'stripe_sync.outbound = on');
$node->reload;
idle($node, 'one') or die 'messages wait';
one(q{UPDATE test.switch SET fails = false; SELECT stripe_sync.replay('evt_Ada07')});
one(q{SELECT stripe_sync.disable_destination('billing', 'for a while')});
pay('Ada', 'Bob');
one(q{SELECT stripe_sync.enable_destination('billing')});
idle($node, 'one') or die 'messages wait';

# A charge of another customer that names Ada's invoice.
receive('Bob11', 'charge.updated', 80, { id => 'ch_Bob9', object => 'charge', amount => 1, currency => 'eur', status => 'succeeded', customer => 'cus_Bob', invoice => 'in_Ada', created => T0 + 80, livemode => FALSE });

# ---- the story ----

# One line each; \t between the columns.
sub trace
{
	my ($ref, $more) = @_;

	return split /\n/, one("SELECT concat_ws(E'\\t', system, ref, what) FROM stripe_sync.trace(" . literal($ref) . ($more // '') . ')');
}

my @story = (
	qr/^stripe\t.*invoice\.created  evt_Ada03/,
	qr/^stripe\t.*invoice\.finalized/,
	qr/^stripe\t.*charge\.failed  evt_Ada05.*req_Ada1.*key-shared/,
	qr/^stripe\t.*invoice\.payment_failed  evt_Ada07/,
	qr/^stripe\t.*charge\.succeeded  evt_Ada08.*req_Ada2/,
	qr/^stripe\t.*invoice\.paid  evt_Ada09/,
	qr/^postgres\t.*received by endpoint default, .* after it happened; applied: .*no alert matches|received by endpoint default/,
	qr/^postgres\t.*alert charge_failed: not said on its own but counted in roll-up incident \d+ \(message \d+ for billing\), because the alert had opened more than 2 incidents/,
	qr/^postgres\t.*evt_Ada07: received by endpoint default, .*; applied: attempt_count 0 → 1/,
	qr/^postgres\t.*handler dunning failed after [\d.]+ ms: 22P02: no such plan 2026-01-01 slack nothing happened/,
	qr/^postgres\t.*alert payment_failed opened incident \d+, queued message \d+ for billing/,
	qr/^slack\t.*#billing: not accepted \(429 ratelimited, .*, 1st attempt\); again after /,
	qr/^slack\t.*#billing: posted \(200 ok, .*, 2nd attempt\)/,
	qr/^postgres\t.*handler dunning ran in /,
	qr/^postgres\t.*destination billing disabled by .*: for a while/,
	qr/^postgres\t.*applied: .*status open → paid/,
	qr/^postgres\t.*alert payment_failed: resolved incident \d+/,
	qr/^postgres\t.*answer in the thread of incident \d+ queued for billing/,
	qr/^postgres\t.*destination billing enabled/,
	qr/^slack\t.*#billing: message of the incident (posted|updated) \(200 ok/);

# Each of the patterns is found, in this order, and nothing of another's.
sub tells
{
	my ($name, $ref, %but) = @_;
	my @lines = trace($ref);
	my @rest = @lines;
	my $missing;

	for my $pattern (@story)
	{
		shift @rest while @rest && $rest[0] !~ $pattern;
		$missing //= $pattern unless @rest;
	}
	ok(!defined $missing, "$name: the story, in its order") or diag("missing: $missing\n" . join("\n", @lines));
	is(join("\n", grep { /(_|evt_)(Bob|Eve|Zoe|Tim)|Bob|(^|\W)(price|coupon)\.created/ } @lines), '', "$name: nothing of another's");
	return;
}

my $message = one(q{SELECT m.id FROM stripe_sync.message m JOIN stripe_sync.incident i ON i.message_id = m.id WHERE i.group_key = 'in_Ada'});
my $incident = one(q{SELECT id FROM stripe_sync.incident WHERE group_key = 'in_Ada' AND alert = 'payment_failed'});
my $ts = one("SELECT slack_ts FROM stripe_sync.message WHERE id = $message");

like($ts, qr/^\d+\.\d+$/, 'Slack has given the message a timestamp');
tells('the invoice', 'in_Ada');
tells('an event', 'evt_Ada07');
tells('the customer', 'cus_Ada');
tells('the subscription', 'sub_Ada');
tells('the first charge', 'ch_Ada1');
tells('the second charge', 'ch_Ada2');
tells('the payment intent', 'pi_Ada');
tells('the refund', 're_Ada');
tells('the message', "message $message");
tells('the message, by its number alone', $message);
tells('Slack\'s timestamp', $ts);
tells('the incident', "incident $incident");
tells('the request', 'req_Ada1');
tells('the idempotency key', 'key-Ada');
tells('the e-mail address', 'ada@EXAMPLE.com');
is(scalar(grep { /evt_Ada10/ } trace('in_Ada')), 2, 'the invoice has its refund');

# ---- shared objects, roll-ups, and what several customers have ----

is(join('|', map { (split /\t/)[1] } trace('price_1')), 'evt_price|evt_price', 'a price: its own events alone');
is(join('|', map { (split /\t/)[1] } trace('gold')), 'evt_coupon|evt_coupon', 'a coupon: its own events alone');
my $rollup = one(q{SELECT id FROM stripe_sync.incident WHERE kind = 'rollup'});
my @rollup = trace("incident $rollup");
is(scalar(grep { /counted evt_(Ada|Bob|Tim)05  charge\.failed/ } @rollup), 3, 'a roll-up names the events that it counts');
is(scalar(grep { /invoice|cus_|in_(Ada|Bob)/ } @rollup), 0, 'and tells no story of theirs');
my @both = trace('key-shared');
ok((grep { /evt_Ada07/ } @both) && (grep { /evt_Bob07/ } @both), 'a key that several customers have tells each story');
my @unsaid = grep { /alert big_invoice: nothing said, because its condition is not met/ } trace('in_Ada');
is(scalar @unsaid, 1, 'an alert whose condition is not met');
is(scalar(grep { /evt_Ada01/ } trace('in_Ada', q{, span => '3 s'})), 0, 'span limits what is told');
isnt(scalar(grep { /evt_Ada01/ } trace('in_Ada')), 0, 'without it the customer is told, too');
is(one(q{SELECT count(*) FROM stripe_sync.trace('in_Ada') WHERE what ~ '[[:cntrl:]\u2028\u202e]'}), '0', 'no line holds a line break or turns the writing around');
my $secrets = TOKEN . '|' . SECRET;
unlike(join("\n", map { one("SELECT string_agg(t::text, ' ') FROM stripe_sync.trace('$_') t") } 'in_Ada', 'cus_Ada', "message $message", "incident $rollup"),
	qr/$secrets/, 'no secret is in it');
is(one(q{SELECT string_agg(detail ->> 'http_status', ',' ORDER BY at) FROM stripe_sync.trace('in_Ada') WHERE system = 'slack' AND (detail ->> 'attempt')::int < 3 AND ref = 'message } . $message . q{'}),
	'429,200', 'the facts are in detail');

# ---- what is refused ----

sub refused
{
	my ($sql, $pattern, $name) = @_;
	my ($status, undef, $error) = $node->psql('one', $sql, extra_params => [ '-v', 'VERBOSITY=verbose' ]);

	ok($status != 0 && $error =~ $pattern, $name) or diag($error);
	return;
}

refused(q{SELECT stripe_sync.trace('in_Nobody')}, qr/SY005.*in_Nobody.*DETAIL:  Looked at: events, objects.*HINT:  A reference is/s, 'an unknown reference');
refused(q{SELECT stripe_sync.trace('message 4711')}, qr/SY005.*Looked at: messages/s, 'an unknown number');
refused(q{SELECT stripe_sync.trace('nobody@example.com')}, qr/SY005.*e-mail addresses of stripe.customers/s, 'an unknown address');
refused(q{SELECT stripe_sync.trace('')}, qr/SY005/, 'nothing');
refused(q{SELECT stripe_sync.trace(NULL)}, qr/22004/, 'NULL');
refused(q{SELECT stripe_sync.trace('in_Ada', 'acct_other')}, qr/SY005.*of account 'acct_other'/s, 'another account');
refused(q{SELECT stripe_sync.trace('in_Ada', span => '-1 day')}, qr/22023/, 'a negative span');
one(q{INSERT INTO stripe_sync.event SELECT id, 'acct_2', type, endpoint, livemode, api_version, object_type, object_id, request_id, idempotency_key, created,
	received_at, source, status, mirrored, todo, tries, attempts, next_attempt_at, error, applied_at, payload FROM stripe_sync.event WHERE id = 'evt_Bob03'});
refused(q{SELECT stripe_sync.trace('in_Bob')}, qr/22023.*several accounts.*'', 'acct_2'/s, 'an object of two accounts');
isnt(scalar(trace('in_Bob', q{, ''})), 0, 'one of them is named');

# ---- rights ----

one(q{CREATE ROLE stranger; CREATE ROLE reader; SELECT stripe_sync.grant_read('reader')});
refused(q{SET ROLE stranger; SELECT stripe_sync.trace('in_Ada')}, qr/42501/, 'a role without a grant');
is(one(q{SET ROLE reader; SELECT count(*) FROM stripe_sync.trace('in_Ada')}), scalar(trace('in_Ada')), 'a reader is told as much');
is(one(q{BEGIN READ ONLY; SET LOCAL transaction_isolation = 'repeatable read'; SELECT count(*) > 20 FROM stripe_sync.trace('in_Ada'); COMMIT}), 't', 'in a read only transaction');

# Row security hides the mirror's rows from the reader: what only they know is left out.
one(q{DELETE FROM stripe_sync.event WHERE id IN ('evt_Eve05', 'evt_Eve06'); ALTER TABLE stripe.charges ENABLE ROW LEVEL SECURITY});
is(one(q{SELECT count(*) FROM stripe_sync.trace('pi_Eve') WHERE what LIKE '%in_Eve%' OR ref = 'evt_Eve07'}) > 0, 1, 'by the mirror, for its owner');
refused(q{SET ROLE reader; SELECT stripe_sync.trace('ch_Eve1')}, qr/SY005/, 'a row that row security hides does not exist');
one(q{ALTER TABLE stripe.charges DISABLE ROW LEVEL SECURITY});

# Without tables of the mirror the events lead to what belongs together.
one(q{DROP SCHEMA stripe CASCADE});
tells('without tables, the invoice', 'in_Ada');
tells('without tables, the first charge', 'ch_Ada1');

$node->stop;
done_testing();
