# alert.pl
#		What people in Slack see of alerts: an incident opened, counted and closed;
#		ten thousand failures as a handful of messages; other people's text as
#		text; and nothing lost when Slack fails in between.

use strict;
use utf8;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use SlackStub;
use StripeSync;

use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $missing = SlackStub->missing;
plan skip_all => $missing if $missing;

my $slack = SlackStub->start;
my $node = start_node('alert', conf => PRELOAD . $slack->conf . "stripe_sync.slack_rate = 0\nstripe_sync.http_timeout = '5min'\nfsync = off\n");
make_database($node, 'shop');

sub shop { return $node->safe_psql('shop', $_[0]); }

# A SELECT of a call that delivers an event.
sub delivery
{
	my ($event) = @_;
	my $payload = json_text($event);

	return 'SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload)) . ');';
}

sub deliver { return shop(join '', map { delivery($_) } @_); }
sub at_once { return shop('BEGIN; ' . join('', map { delivery($_) } @_) . 'COMMIT'); }

sub invoice
{
	my ($id, %more) = @_;

	return { id => $id, object => 'invoice', number => uc $id, status => 'open', customer => 'cus_1', amount_due => 1200, currency => 'usd', %more };
}

sub failed { my ($n, $id, %more) = @_; return event("evt_${id}_$n", 'invoice.payment_failed', $n, invoice($id, %more)); }
sub paid { my ($n, $id, %more) = @_; return event("evt_${id}_paid$n", 'invoice.paid', $n, invoice($id, status => 'paid', %more)); }

# Forget all that happened; rules and destinations stay.
sub anew
{
	shop(q{UPDATE stripe_sync.message SET state = 'cancelled' WHERE state = 'waiting'});
	idle($node, 'shop');
	shop('TRUNCATE stripe_sync.message, stripe_sync.delivery, stripe_sync.incident_record, stripe_sync.alerted, stripe_sync.event');
	shop('TRUNCATE stripe.invoices');
	$slack->clear_faults;
	$slack->reset;
	return;
}

# A change that waits for its turn goes out now.
sub hasten { return shop(q{SELECT stripe_sync.retry_message(id) FROM stripe_sync.message WHERE state = 'waiting'}); }

sub all_sent { return ok(idle($node, 'shop'), $_[0]); }

# The only message that a place shows.
sub only
{
	my ($place, $what) = @_;
	my $messages = $slack->shows($place);

	is(scalar @$messages, 1, $what);
	return $messages->[0] // { shown => '', replies => [], text => '', pings => [] };
}

# What the last of those says that count for many, whatever came in between.
sub collector
{
	my ($place) = @_;
	my @found = grep { $_->{shown} =~ /\bmore\b/ } @{ $slack->shows($place) };

	return @found ? $found[-1]{shown} : '';
}

# How long it took depends on the machine.
sub timeless { return $_[0] =~ s/ after (?:less than a minute|\d+ min)//r; }

sub replies { return [ map { timeless($_->{text}) } @{ $_[0]->{replies} } ]; }

add_channel($node, 'shop', 'ops', '#ops');
add_channel($node, 'shop', 'oncall', '#oncall');
add_webhook($node, 'shop', $slack, 'hook', 1);

# The rule of most of what follows; rest are named arguments in SQL.
sub rule
{
	my ($destination, @rest) = @_;

	shop('SELECT stripe_sync.add_alert(' . join(', ', literals('failed', 'invoice.payment_failed', $destination, '*Failed:* {{customer.name or customer}} owes {{amount_due | money}}, {{id | link:number}}'),
		"closed_by => 'invoice.paid'", @rest) . ')');
	return;
}

# ---- a bot's message lives ----

rule('ops');
deliver(failed(1, 'in_1'));
all_sent('a failure is told');
my $message = only('#ops', 'as one message');
like($message->{shown}, qr/^\[TEST\] :warning: \*?Failed:\*? cus_1 owes \$12\.00, .*IN_1/, 'which says what failed');
is($message->{text}, '[TEST] :warning: *Failed:* cus_1 owes $12.00, IN_1', 'in notifications too');
deliver(failed(2, 'in_1'));
all_sent('the next is counted');
$message = only('#ops', 'in the same message');
is($message->{updates}, 1, 'by an update');
like($message->{shown}, qr/\b2 times, last /, 'that says how often');
is_deeply($message->{replies}, [], 'and rings nobody');
# all at once: what takes ten seconds would be told in between
at_once(map { failed($_, 'in_1') } 3 .. 20);
hasten();
all_sent('many more are one update');
$message = only('#ops', 'of the same message');
is($message->{updates}, 2, 'one');
like($message->{shown}, qr/\b20 times, last /, 'with all of them');

shop(q{UPDATE stripe_sync.incident_record SET window_until = clock_timestamp()});
deliver(failed(21, 'in_1'));
hasten();
all_sent('a failure after the window is told');
$message = only('#ops', 'where the first one was');
like($message->{shown}, qr/\b21 times, last /, 'counted there');
is_deeply(replies($message), ['[TEST] :repeat: Again, 21 times now: *Failed:* cus_1 owes $12.00, IN_1'], 'and said in the thread');

deliver(paid(22, 'in_1'));
all_sent('its payment is told');
$message = only('#ops', 'still one message');
like($message->{shown}, qr/^\[TEST\] :white_check_mark: \*?Resolved:\*? /, 'marked as resolved');
like($message->{text}, qr/^\[TEST\] :white_check_mark: \*Resolved:\* \*Failed:\*/, 'in its fallback text too');
like($message->{shown}, qr/\b21 times, last .* · Resolved /s, 'with when, and how often it was');
is_deeply([ replies($message)->[1] ], ['[TEST] :white_check_mark: Resolved by invoice.paid, 21 times: *Failed:* cus_1 owes $12.00, IN_1'], 'and said in the thread');
my $before = $slack->stats->{requests};
deliver(paid(22, 'in_1'), paid(23, 'in_1'), failed(5, 'in_1'), event('evt_late', 'invoice.payment_failed', 5, invoice('in_1')));
shop(q{SELECT stripe_sync.replay(id) FROM stripe_sync.event});
deliver(event('evt_next', 'invoice.payment_failed', 30, invoice('in_2')));
ok($slack->wait_for(sub { @{ $slack->shows('#ops') } == 2 }), 'another is another message');
all_sent('and');
is($slack->shows('#ops')->[0]{updates}, $message->{updates}, 'what is closed is left alone by what comes late, twice or again');
is(scalar @{ $slack->shows('#ops')->[0]{replies} }, 2, 'thread included');

# paid before anybody was told
anew();
shop(q{SELECT stripe_sync.pause('slack')});
deliver(failed(1, 'in_1'), failed(2, 'in_1'), paid(3, 'in_1'));
shop(q{SELECT stripe_sync.resume('slack')});
all_sent('what is over before it is sent');
like(only('#ops', 'is one message')->{text}, qr/^\[TEST\] :white_check_mark: \*Resolved:\*/, 'that says so');

# ---- a count that isn't committed while the change is sent ----

anew();
deliver(failed(1, 'in_1'), failed(2, 'in_1'));
all_sent('opened and counted');
deliver(failed(3, 'in_1'));
my $late = $node->background_psql('shop');
$late->query_safe('BEGIN');
$late->query_safe(delivery(failed(4, 'in_1')));
# somebody else's lock of the same row would be waited for: another invoice's event is enough
hasten();
ok($slack->wait_for(sub { $slack->shows('#ops')->[0]{updates} == 2 }), 'a change is sent while somebody is counting');
like(only('#ops', 'one message')->{shown}, qr/\b3 times/, 'with what is committed');
$late->query_safe('COMMIT');
$late->quit;
hasten();
all_sent('another follows');
like(only('#ops', 'one message')->{shown}, qr/\b4 times/, 'with the rest');

# ---- Slack fails in between ----

anew();
deliver(failed(1, 'in_1'));
all_sent('opened');
$slack->fault({ status => 500, %{ $slack->hold } }, path => qr/chat\.update/, times => 1);
$slack->fault({ status => 500 }, path => qr/chat\.update/, times => 1);
deliver(failed(2, 'in_1'));
ok($slack->wait_for(sub { grep { $_->{path} =~ /chat\.update/ } @{ $slack->requests } }), 'a change is on its way');
deliver(failed(3, 'in_1'));
is(shop(q{SELECT count(*) FROM stripe_sync.message WHERE method = 'update' AND state <> 'sent'}), '2', 'and another waits already');
$slack->release;
$node->poll_query_until('shop', q{SELECT count(*) > 0 FROM stripe_sync.delivery WHERE verdict = 'retry'});
pass('the first one that fails is settled all the same');
hasten();
all_sent('both are sent');
like(only('#ops', 'one message')->{shown}, qr/\b3 times/, 'with the right count');

# a message that somebody has deleted
anew();
deliver(failed(1, 'in_1'));
all_sent('opened');
$slack->fault({ api_error => 'message_not_found' }, path => qr/chat\.update/);
deliver(failed(2, 'in_1'));
all_sent('an update of what is gone is settled');
is(shop(q{SELECT state, last_code FROM stripe_sync.message WHERE method = 'update'}), 'dead|message_not_found', 'and shown as dead');
deliver(paid(3, 'in_1'));
all_sent('the next ones as well');
is_deeply(replies($slack->shows('#ops')->[0]), ['[TEST] :white_check_mark: Resolved by invoice.paid, 2 times: *Failed:* cus_1 owes $12.00, IN_1'], 'the news is told');
anew();
deliver(failed(1, 'in_1'));
all_sent('opened');
$slack->fault({ api_error => 'message_not_found' }, path => qr/chat\.update/);
$slack->fault({ api_error => 'thread_not_found' }, path => qr/chat\.postMessage/, text => qr/Resolved by/, times => 1);
deliver(paid(2, 'in_1'));
all_sent('closed');
is(timeless($slack->shows('#ops')->[1]{text}), '[TEST] :white_check_mark: Resolved by invoice.paid: *Failed:* cus_1 owes $12.00, IN_1', 'news of a thread that is gone stands by itself');
is(shop(q{SELECT attempts, state FROM stripe_sync.message WHERE payload->>'text' LIKE '%Resolved by%'}), '1|sent', 'at the first attempt');

# ---- a webhook has one summary, when the window ends ----

anew();
rule('hook', "coalesce_for => '8 seconds'");
deliver(failed(1, 'in_1'));
ok($slack->wait_for(sub { @{ $slack->shows(1) } == 1 }), 'a webhook is told');
deliver(map { failed($_, 'in_1') } 2 .. 5);
unlike($slack->shows(1)->[0]{shown}, qr/times/, 'of the first');
ok($slack->wait_for(sub { @{ $slack->shows(1) } == 2 }), 'and once more');
all_sent('and no more');
is(scalar @{ $slack->shows(1) }, 2, 'two messages');
like($slack->shows(1)->[1]{shown}, qr/\b5 times/, 'the second says how often it was');
cmp_ok($slack->shows(1)->[1]{at} - $slack->shows(1)->[0]{at}, '>', 6, 'when the window has ended');

# ---- other people's text ----

anew();
my $name = '<!channel> & <https://x|y> <@U123> *b* @here';
my $long = 'long ' x 12_000;
rule('ops', q{blocks => '[{"type":"header","text":{"type":"plain_text","text":"{{customer.name}}"}},
	{"type":"section","text":{"type":"mrkdwn","text":"{{customer.name}}: {{id | link:customer.name}}"},"fields":[{"type":"mrkdwn","text":"{{metadata.note}}"}]},
	{"type":"context","elements":[{"type":"mrkdwn","text":"{{customer.name}}"}]}]'});
deliver(event('evt_c1', 'customer.created', 1, { id => 'cus_1', object => 'customer', name => $name, email => 'x@example.com' }));
deliver(failed(2, 'in_1', metadata => { note => $long }));
all_sent('a hostile name in blocks');
$message = only('#ops', 'is one message');
is_deeply($message->{pings}, [], 'that rings nobody');
is(() = $message->{shown} =~ /\Q$name\E/g, 4, 'and shows the name as it is: header, section, link, context');
like($message->{text}, qr/^\[TEST\] :warning: \*Failed:\* &lt;!channel&gt; &amp; &lt;https:\/\/x\|y&gt; &lt;\@U123&gt;/, 'escaped in the fallback text');
rule('ops');
deliver(event('evt_big', 'invoice.payment_failed', 3, invoice('in_2', number => $name)));
all_sent('without blocks');
is_deeply($slack->shows('#ops')->[1]{pings}, [], 'it rings nobody');
is(() = $slack->shows('#ops')->[1]{shown} =~ /\Q$name\E/g, 2, 'and shows the name, in the link too');
deliver(paid(4, 'in_2'));
all_sent('closed');
is_deeply($slack->shows('#ops')->[1]{replies}[0]{pings}, [], 'the answer below rings nobody');

anew();
my $parts = join ' ', map { "{{metadata.m$_}}" } 1 .. 200;
shop('SELECT stripe_sync.add_alert(' . literals('failed', 'invoice.payment_failed', 'ops', "Long $parts") . ", closed_by => 'invoice.paid')");
deliver(failed(1, 'in_1', metadata => { map { ("m$_" => "& $_ " . substr($long, 0, 600)) } 1 .. 200 }));
all_sent('a template that comes to more than 50 KB is sent');
$message = only('#ops', 'as one message');
cmp_ok(shop(q{SELECT length(text) FROM stripe_sync.incident}), '>', 51_200, '(it was that long)');
cmp_ok(length $message->{blocks}[0]{text}{text}, '<=', 3000, 'cut to a section');
like($message->{blocks}[0]{text}{text}, qr/…\z/, 'and says so');
is(shop(q{SELECT attempts, state FROM stripe_sync.message}), '1|sent', 'Slack refused nothing');

# ---- critical ones that nobody resolves ----

anew();
$node->safe_psql('postgres', q{ALTER SYSTEM SET stripe_sync.escalate_after = '2s'});
$node->reload;
$node->poll_query_until('shop', q{SELECT current_setting('stripe_sync.escalate_after') = '2s'});
shop(q{SELECT stripe_sync.set_escalation('ops', 'oncall')});
rule('ops', "severity => 'critical'");
at_once(failed(1, 'in_1'), failed(2, 'in_2'), paid(3, 'in_2'));
ok($slack->wait_for(sub { @{ $slack->shows('#oncall') } }), 'a critical incident that stays open is repeated elsewhere');
is(timeless($slack->shows('#oncall')->[0]{text}), '[TEST] :rotating_light: Not resolved: *Failed:* ' . '&lt;!channel&gt; &amp; &lt;https://x|y&gt; &lt;@U123&gt; *b* @here owes $12.00, IN_1', 'with what it is');
my $after = $slack->shows('#oncall')->[0]{at} - shop(q{SELECT extract(epoch FROM min(opened_at)) FROM stripe_sync.incident});
cmp_ok($after, '>', 1.9, 'not sooner');
cmp_ok($after, '<', 30, 'nor much later');
deliver(failed(4, 'in_1'), failed(5, 'in_3'));
ok($slack->wait_for(sub { @{ $slack->shows('#oncall') } == 2 }), 'as is the next');
all_sent('and');
is(join(' ', map { /(IN_\d)/ } map { $_->{text} } @{ $slack->shows('#oncall') }), 'IN_1 IN_3', 'each once, and not what was resolved');
$node->safe_psql('postgres', q{ALTER SYSTEM RESET stripe_sync.escalate_after});
$node->reload;

# ---- ten thousand failures ----

# Deliver so many, each in a transaction of its own, as fast as it goes; the
# seconds of the processor that each tenth of them took (others use it, too).
shop(q{CREATE FUNCTION used() RETURNS float8 LANGUAGE sql AS $$
	SELECT (f[12]::float8 + f[13]::float8) / 100 FROM string_to_array(regexp_replace(pg_read_file('/proc/self/stat', 0, 4000), '^.*\) ', ''), ' ') f $$;
CREATE PROCEDURE flood(many int, what text) LANGUAGE plpgsql AS $$
DECLARE
	started float8 := used();
	payload text;
BEGIN
	CREATE TEMP TABLE IF NOT EXISTS took (tenth int, seconds float8);
	TRUNCATE took;
	FOR n IN 1 .. many LOOP
		payload := json_build_object('id', 'evt_' || what || n, 'object', 'event', 'type', 'invoice.payment_failed', 'created', 1700000000, 'livemode', false, 'data', json_build_object('object',
			json_build_object('id', 'in_' || what || n, 'object', 'invoice', 'number', 'N-' || n, 'customer', 'cus_' || n, 'amount_due', 1200, 'currency', 'usd')));
		PERFORM stripe_sync.receive(payload, stripe_sync.sign(payload, '} . SECRET . q{'));
		COMMIT;
		IF n % (many / 10) = 0 THEN
			INSERT INTO took VALUES (n / (many / 10), used() - started);
			started := used();
		END IF;
	END LOOP;
END $$});

sub flood
{
	my ($many, $what) = @_;
	my $start = time;
	my @took = split /\n/, shop("CALL flood($many, '$what'); SELECT round(seconds::numeric, 2) FROM took ORDER BY tenth");
	my $total = 0;

	$total += $_ for @took;
	note sprintf '%d events (%s) in %.1f s: %s', $many, $what, time - $start, join ' ', @took;
	return (time - $start, $total, @took);
}

sub is_linear
{
	my ($what, @took) = @_;

	# noise on a shared machine is one thing, a cost that grows with the count another
	cmp_ok($took[8] + $took[9], '<', 4 * ($took[1] + $took[2]) + 0.5, "$what: the last ones take no longer than the first");
	return;
}

anew();
shop(q{SELECT stripe_sync.drop_alert('failed')});
my ($lasted, $without) = flood(10_000, 'plain');
anew();
rule('ops');
($lasted, my ($with, @took)) = flood(10_000, 'many');
note sprintf 'with the rule it takes %.2f times as long', $with / $without;
cmp_ok($with, '<', 60, '10,000 failing invoices, in less than a minute of the processor');
is_linear('a roll-up', @took);
hasten();
all_sent('all is told');
my $messages = $slack->shows('#ops');
cmp_ok(scalar @$messages, '<=', 6, 'in a handful of messages');
like(collector('#ops'), qr/\b9995 more\*? of/, 'one of which says how many more');
is(shop(q{SELECT sum(count) FROM stripe_sync.incident}), '10000', 'all are counted');
my $requests = grep { $_->{path} =~ /chat\./ } @{ $slack->requests };
cmp_ok($requests, '<=', 6 + 2 + $lasted / 10, 'with few requests');
is(shop(q{SELECT count(*) FROM stripe_sync.message WHERE state <> 'sent'}), '0', 'and nothing else waits');

# their payments
shop(q{DO $$ DECLARE payload text; BEGIN
	FOR n IN 1 .. 1000 LOOP
		payload := json_build_object('id', 'evt_paid' || n, 'object', 'event', 'type', 'invoice.paid', 'created', 1700000100, 'data', json_build_object('object', json_build_object('id', 'in_many' || n, 'object', 'invoice')));
		PERFORM stripe_sync.receive(payload, stripe_sync.sign(payload, '} . SECRET . q{'));
		COMMIT;
	END LOOP; END $$});
hasten();
all_sent('their payments are told');
like(collector('#ops'), qr/\b995 of them resolved since/, 'as a number');
is(scalar(grep { $_->{text} =~ /Resolved:/ } @{ $slack->shows('#ops') }), 5, 'and those that were single one by one');

# one incident, many times
anew();
rule('ops', q{group_by => '$.type'});
($lasted, $with, @took) = flood(10_000, 'same');
is_linear('one incident', @took);
hasten();
all_sent('all is told');
like(only('#ops', 'in one message')->{shown}, qr/\b10000 times/, 'with the right count');

# a webhook
anew();
rule('hook', "coalesce_for => '5 minutes'");
flood(2_000, 'hook');
hasten();
all_sent('a webhook is told');
cmp_ok(scalar @{ $slack->shows(1) }, '<=', 7, 'in a handful of messages');
like(collector(1), qr/\b1995 more\*? of/, 'one of which says how many');

# several sessions at once, and the flood guard
anew();
rule('ops', "coalesce_for => '1 millisecond'");
$node->safe_psql('postgres', q{ALTER SYSTEM SET stripe_sync.max_alerts_per_hour = 10});
$node->reload;
my @sessions = map { $node->background_psql('shop') } 1 .. 4;
$node->poll_query_until('shop', q{SELECT current_setting('stripe_sync.max_alerts_per_hour') = '10'});
$sessions[$_]->{stdin} .= "CALL flood(500, 's$_'); SELECT 'flood over';\n" for 0 .. 3;
$_->{run}->pump_nb for @sessions;
for my $session (@sessions)
{
	$session->{run}->pump until $session->{stdout} =~ /flood over/ || $session->{stderr} =~ /ERROR/;
	is($session->{stderr}, '', 'a session of several at once is not disturbed');
	$session->{stdout} = '';
	$session->quit;
}
hasten();
all_sent('all is told');
cmp_ok(scalar @{ $slack->shows('#ops') }, '>=', 11, 'past the limit of an hour a digest tells the rest');
cmp_ok(scalar @{ $slack->shows('#ops') }, '<=', 11 + 2 * @sessions, 'but for what sessions at once open each');
is(shop(q{SELECT sum(count) FROM stripe_sync.incident}), '2000', 'all are counted');
my @rest = split /\n/, shop(q{SELECT count FROM stripe_sync.incident WHERE kind = 'digest' ORDER BY count});
my @digests = map { $_->{shown} =~ /\b(\d+) more since .* failed \1\b/ ? $1 : () } @{ $slack->shows('#ops') };
is("@{[ sort { $a <=> $b } @digests ]}", "@rest", 'and shown, by each digest that sessions at once opened');
$node->safe_psql('postgres', q{ALTER SYSTEM RESET stripe_sync.max_alerts_per_hour});
$node->reload;

# ---- a destination that Slack refuses for good ----

anew();
shop(q{SELECT stripe_sync.drop_alert('failed'); SELECT stripe_sync.add_default_alerts('ops'); SELECT stripe_sync.add_alert('itself', 'system.destination_disabled', 'hook', 'off')});
$slack->fault({ code => 'no_service' }, path => qr/services/, times => 1);
my $waits = notify($node, 'shop', 'hook', 'waits');
ok($slack->wait_for(sub { @{ $slack->shows('#ops') } }), 'a destination that is switched off is told elsewhere');
like(only('#ops', 'once')->{text}, qr/^:rotating_light: \*Slack destination `hook` is disabled:\* no_service\nMessages that wait: 1\. .*`SELECT stripe_sync\.enable_destination\('hook'\)`\nMore: doc\/runbook\/slack-destinations\.md$/, 'with its reason, and what waits');
is(field($node, 'shop', $waits, 'state'), 'waiting', 'the message is not lost');
is(shop(q{SELECT count(*) FROM stripe_sync.incident WHERE alert = 'itself'}), '0', 'nor is the destination told of itself');
is(shop(q{SELECT state, escalate_at IS NOT NULL FROM stripe_sync.incident_record}), 'open|t', 'which somebody has to mend');
shop(q{SELECT stripe_sync.enable_destination('hook')});
all_sent('switched on it is sent');
is(shop(q{SELECT state, escalate_at IS NOT NULL FROM stripe_sync.incident_record}), 'closed|f', 'and nobody is reminded');
is(shop(q{SELECT count(*) || ' ' || (max(value) - min(value)) FROM stripe_sync.activity WHERE name = 'incidents_total' AND labels->>'alert' = 'destination_disabled' AND value > 0}), '2 0',
	'which is counted');
is($slack->shows(1)->[0]{text}, 'waits', 'there');
anew();
$slack->fault({ code => 'no_service' }, path => qr/services/, times => 1);
notify($node, 'shop', 'hook', 'waits too');
ok($slack->wait_for(sub { @{ $slack->shows('#ops') } }), 'switched off again');
add_webhook($node, 'shop', $slack, 'hook', 2);
is(shop(q{SELECT state, escalate_at IS NOT NULL FROM stripe_sync.incident_record}), 'closed|f', 'another address ends that as well');
all_sent('and has what waited');

# ---- in the foreground ----

my $foreground = start_node('foreground', conf => $slack->conf . "fsync = off\n");
make_database($foreground, 'shop');
add_channel($foreground, 'shop', 'ops', '#foreground');
$foreground->safe_psql('shop', q{SELECT stripe_sync.add_alert('failed', 'invoice.payment_failed', 'ops', 'x', closed_by => 'invoice.paid')});
$foreground->safe_psql('shop', delivery(failed(1, 'in_1')) . delivery(failed(2, 'in_1')) . delivery(paid(3, 'in_1')));
my $blocker = $foreground->background_psql('shop');
$blocker->query_safe('BEGIN; LOCK TABLE stripe_sync.message IN ACCESS EXCLUSIVE MODE');
my ($ret, $out, $err) = $foreground->psql('shop', 'CALL stripe_sync.work()');
like($err, qr/canceling statement due to lock timeout/, 'an error within work() is told as what it is');
$blocker->query_safe('ROLLBACK');
$blocker->quit;
$foreground->safe_psql('shop', 'CALL stripe_sync.work()');
$message = only('#foreground', 'work() does without a worker what it would do');
like($message->{text}, qr/Resolved/, 'in the order of the thread');
is(scalar @{ $message->{replies} }, 1, 'to its end');

no_secret_in($node, 'shop', 'after all of it');
done_testing();
