# command.pl
#		/stripe: what people are told by it, who is told nothing, and what it reads
#		when the role that receives may only receive.

use strict;
use utf8;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use SlackStub;
use StripeSync;

use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $missing = SlackStub->missing;
plan skip_all => $missing if $missing;

my $slack = SlackStub->start;
my $node = start_node('command', conf => $slack->conf . "stripe_sync.doctor_interval = 0\n");

make_database($node, 'one');
root(qq{
	CREATE ROLE front LOGIN;
	CREATE ROLE keeper;
	SELECT stripe_sync.grant_ingest('front');
	SELECT stripe_sync.add_slack_app('default', '@{[SlackStub::SIGNING_SECRET]}');
	SELECT stripe_sync.set_slack_user('USEES', 'see'), stripe_sync.set_slack_user('UACTS', 'act'), stripe_sync.set_slack_user('UADMIN', 'administer'),
		stripe_sync.set_slack_user('UNONE', 'nothing');
});

sub root { return $node->safe_psql('one', "SET client_min_messages = warning; $_[0]"); }

# All texts of an answer, blocks first; dies where Slack would not take it.
sub texts
{
	my ($answer) = @_;

	return join "\n", map { $_->{text}{text} } @{ $answer->{blocks} } if $answer->{blocks};
	return $answer->{text};
}

# What /stripe says to a person; the row of the last interaction is in $last.
my $last;

sub says
{
	my ($text, $user) = @_;
	my ($body, $headers) = $slack->command('/stripe', $text, $user // 'USEES');
	my $row = $node->safe_psql('one', receive_call($body, $headers), extra_params => [ '-U', 'front' ]);
	my ($status, $answer) = split /\|/, $row, 2;

	$answer = decode_json($answer) if $answer ne '';
	$slack->answered($status, $answer);
	is($answer->{response_type}, 'ephemeral', "$text: only the person sees the answer") if ref $answer && $answer->{response_type} ne 'ephemeral';
	$last = root('SELECT status || COALESCE(\': \' || error, \'\') FROM stripe_sync.interaction ORDER BY id DESC LIMIT 1');
	return ref $answer ? texts($answer) : '';
}

sub send_event
{
	my ($id, $type, $second, $object, %rest) = @_;
	my $payload = json_text(event($id, $type, $second, $object, %rest));

	return root('SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload)) . ')');
}

sub customer
{
	my ($id, %rest) = @_;

	return { id => $id, object => 'customer', livemode => TRUE, created => T0, currency => 'eur', balance => 0, name => undef, email => undef, %rest };
}

# ---- help, and who may ----

like(says('help', 'UADMIN'), qr/trace.*customer.*status.*who.*mute.*help/s, 'help names all words to who administers');
unlike(says('help', 'USEES'), qr/mute/, 'but none that the person may not use');
unlike(says('', 'UNKNOWN'), qr/trace|customer/, 'and hardly any to a stranger');
like(says('brew coffee'), qr{There is no `/stripe brew`.*trace}s, 'an unknown word is answered with help');
like(says("brew` <!channel>"), qr/There is no `\/stripe brew`/, 'and does not become mark-up');
like(says('trace'), qr/`\/stripe trace &lt;id&gt;`/, 'a word that lacks its argument says what it takes');

send_event('evt_ada', 'customer.created', 0, customer('cus_ada', name => 'Ada <!channel> & "Co"', email => 'ada@example.com', balance => -1050));
for my $who (qw(UNKNOWN UNONE))
{
	for my $what ('trace cus_ada', 'customer cus_ada', 'customer ada@example.com', 'status', 'who 1', 'mute payment_failed 1h')
	{
		my $told = says($what, $who);

		like($told, qr/^You may not/, "$what by $who is refused");
		unlike($told, qr/Ada|10\.50|well/, 'and nothing is told');
		like($last, qr/^refused: /, 'and it is recorded so');
	}
}
like(says('mute payment_failed 1h', 'UACTS'), qr/^You may not/, 'who acts may not mute');

# ---- customer ----

is($node->psql('one', 'SELECT * FROM stripe.customers', extra_params => [ '-U', 'front' ]), 3, 'the role that receives cannot read the mirror');
my $ada = says('customer cus_ada');
like($ada, qr{^\*<https://dashboard\.stripe\.com/customers/cus_ada\|Ada &lt;!channel&gt; &amp; "Co">\*  ada\@example\.com  `cus_ada`$}m, 'a customer is named, with a link, escaped');
like($ada, qr/^Balance: €10\.50 credit, for the next invoices$/m, 'with the balance');
like($ada, qr/^\*Plan\*: none$/m, 'without a plan');
like($ada, qr/^\*Last payments\*: none$/m, 'without payments');
like($ada, qr/^\*Open invoices\*: none$/m, 'and without open invoices');
is(says($_), $ada, "the same for: $_") for 'customer ada@example.com', 'customer ADA@Example.com', 'CUSTOMER  cus_ada ', 'customer <mailto:ada@example.com|ada@example.com>', 'customer `cus_ada`', 'customer cus_ada account=';
is(says('customer cus_nobody'), 'The mirror has no customer `cus_nobody`.', 'one that is not there');
like($last, qr/^ignored: there is no such customer/, 'which is recorded');
is(says('customer <x> & `y`'), "The mirror has no customer `&lt;x&gt; &amp; 'y`.", 'text of people is escaped');

send_event('evt_yen', 'customer.created', 1, customer('cus_yen', name => 'Yen', currency => 'jpy', balance => 1200, livemode => TRUE));
like(says('customer cus_yen'), qr/^Balance: ¥1,200 owed, added to the next invoice$/m, 'money in its own minor units');

# what the whole life of a subscription leaves
root(q{SELECT count(*) FROM stripe_sync.simulate_story('subscription', 'cus_story', '{checkout,paid,renewed,failed}')});
my $story = says('customer cus_story');
like($story, qr/^\[TEST\] \*</, 'test mode is marked');
like($story, qr{/test/customers/cus_story\|}, 'and its links lead there');
like($story, qr{^\*Plan\*\n• <https://dashboard\.stripe\.com/test/subscriptions/\S+\|.+ per month>, past due, renews <!date\^\d+\^}m, 'the plan, what it costs, and its state');
like($story, qr{^\*Last payments\*\n• <\S+\|\S+> (failed|requires payment method) <!date\^\d+\S* \{time\}\|[^>]+>: .+\n• <\S+\|\S+> succeeded <!date}m, 'the last payments, the newest first, and why one failed');
like($story, qr{^\*Open invoices\*\n• <\S+/invoices/in_\S+\|\S+> \S+, tried 1 time, next attempt <!date}m, 'the open invoice, and when it is tried again');

# ---- customers of one address, and of accounts ----

send_event("evt_two_$_", 'customer.created', $_, customer("cus_two_$_", name => "Two $_", email => 'Two@example.com')) for 1 .. 2;
my $two = says('customer two@example.com');
like($two, qr/^Several customers are known as `two\@example\.com`:\n• \*<\S+\|Two \d>\*/, 'several customers of an address are listed');
like($two, qr/`cus_two_$_`/, "with cus_two_$_") for 1 .. 2;
like($two, qr{One of them: `/stripe customer &lt;id&gt;`}, 'and how to see one');
send_event("evt_many_$_", 'customer.created', $_, customer("cus_many_$_", email => 'many@example.com')) for 1 .. 12;
my $many = says('customer many@example.com');
is(scalar(() = $many =~ /^• /mg), 10, 'no more than ten');
like($many, qr/^There are more/m, 'and it says that there are more');
send_event('evt_acct', 'customer.created', 3, customer('cus_ada', name => 'Ada elsewhere', email => 'else@example.com'), account => 'acct_1');
like(says('customer cus_ada'), qr/^Several customers.*`cus_ada` of account `acct_1`/s, 'an id of two accounts is asked for');
like(says('customer cus_ada account=acct_1'), qr{^\*<https://dashboard\.stripe\.com/acct_1/customers/cus_ada\|Ada elsewhere>\*}, 'and one is shown');
send_event('evt_gone', 'customer.deleted', 9, customer('cus_yen', name => 'Yen'));
like(says('customer cus_yen'), qr/`cus_yen`  _deleted_/, 'a deleted one is marked');

# ---- trace ----

my $trace = says('trace cus_story');
like($trace, qr/^```\n/, 'a trace is a code block');
like($trace, qr/invoice\.payment_failed/, 'of what happened');
like(says('trace evt_ada'), qr/customer\.created/, 'an event');
like(says('trace nothing_known'), qr/nothing_known/, 'what nobody knows is said so');
like($last, qr/^ignored/, 'and recorded');

# ---- status ----

my $status = says('status');
like($status, qr/^:\w+: \*(\d+ failing, )?(\d+ warnings?, )?\d+ ok/, 'status counts');
# as if the worker had looked at it: a slow machine has no time for all items
root(q{INSERT INTO stripe_sync.finding (key, status, detail, hint, since, seen_at)
	SELECT key, status, detail, hint, now(), now() FROM stripe_sync.doctor() WHERE hint ~ 'when a backup has been made'});
$status = says('status');
like($status, qr{`/\* when a backup has been made \*/ SELECT stripe_sync\.note_backup\([^`\n]*;`}, 'a comment in SQL of one line ends before the SQL');
root(q{SELECT stripe_sync.add_slack_channel('ops', '#ops', 'xoxb-1-status'), stripe_sync.disable_destination('ops', 'tried <it>')});
# on a busy machine there is no time for all items
for (1 .. 50)
{
	$status = says('status');
	last if $status =~ /failing/;
}
like($status, qr/^:x: \*.*failing/, 'what fails comes first');
like($status, qr/ops/, 'with its name');
unlike($status, qr/<it>/, 'escaped');

# ---- who ----

root(q{SELECT stripe_sync.add_alert('payment_failed', 'invoice.payment_failed', 'ops', 'failed')});
root(q{SELECT count(*) FROM stripe_sync.simulate_story('subscription', 'cus_who', '{checkout,paid,renewed,failed}')});
my $incident = root('SELECT max(id) FROM stripe_sync.incident_record');
like(says("who $incident"), qr/^\*Incident $incident\*: payment_failed in ops, opened <!date.*, open\nNobody has done anything/, 'an incident about which nobody has done anything');
root(qq{INSERT INTO stripe_sync.incident_step (incident, step, by, until) VALUES ($incident, 'acknowledged', 'slack:UACTS', NULL), ($incident, 'snoozed', 'slack:UACTS', now() + '1 hour'), ($incident, 'woken', NULL, NULL), ($incident, 'resolved', 'slack:T9/UOTHER', NULL)});
for my $ref ($incident, "#$incident", "incident $incident", 'payment_failed')
{
	my $who = says("who $ref");

	like($who, qr/acknowledged by <\@UACTS>\n.*snoozed by <\@UACTS> until <!date.*\n.*woken\n.*resolved by <\@UOTHER>/, "who did what: $ref");
}
is(root('SELECT incident FROM stripe_sync.interaction ORDER BY id DESC LIMIT 1'), $incident, 'the interaction is of that incident');
like(says('who 99999'), qr/^There is no incident `99999`/, 'one that is not there');

# ---- mute ----

like(says('mute payment_failed 2h', 'UADMIN'), qr/^Alert `payment_failed` is muted until <!date\^\d+\^/, 'an alert is muted');
is(root(q{SELECT muted_until BETWEEN now() + '119 minutes' AND now() + '121 minutes' FROM stripe_sync.alert WHERE name = 'payment_failed'}), 't', 'for that time');
like(root(q{SELECT string_agg(by, ' ') FROM stripe_sync.journal WHERE ref = 'payment_failed'}), qr/slack:UADMIN/, 'and the journal says by whom');
is(says('mute payment_failed off', 'UADMIN'), 'Alert `payment_failed` is no longer muted.', 'and not any more');
is(root(q{SELECT muted_until IS NULL OR muted_until <= now() FROM stripe_sync.alert WHERE name = 'payment_failed'}), 't', 'in the table too');
like(root("SELECT string_agg(what, E'\n') FROM stripe_sync.trace('incident $incident')"), qr/alert payment_failed muted by slack:UADMIN: until .*alert payment_failed no longer muted by slack:UADMIN/s, 'as does the trace of its incident');
like(says("mute payment_failed $_", 'UADMIN'), qr/the time is a number/, "no time: $_") for qw(2 2y h -1h 0m 99999d 1.5h tomorrow), '';
like(says('mute nothing 1h', 'UADMIN'), qr/^There is no alert `nothing`\. The alerts are: `payment_failed`/, 'no such alert');

# ---- the mirror's tables belong to others ----

root(q{
	CREATE TABLE public.ran (who text); GRANT ALL ON public.ran TO PUBLIC;
	CREATE SCHEMA own AUTHORIZATION keeper;
	GRANT USAGE ON SCHEMA stripe TO keeper;
	ALTER TABLE stripe.customers OWNER TO keeper;
	SET ROLE keeper;
	CREATE FUNCTION own.seen() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (current_user); RETURN true; END $$;
	CREATE POLICY p ON stripe.customers USING (own.seen());
	ALTER TABLE stripe.customers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
});
says($_) for 'customer cus_ada', 'customer two@example.com', 'trace cus_ada';
is(root(q{SELECT count(*) FROM public.ran WHERE who <> 'keeper'}), '0', 'no policy runs with the rights of another than the table\'s owner');
root('RESET ROLE; DROP TABLE stripe.customers CASCADE');
like(says('customer cus_ada'), qr/^The mirror has no table of customers\. .*create_tables/, 'a mirror without tables says so');

$node->stop;
done_testing();
