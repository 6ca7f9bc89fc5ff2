# calls.pl
#		What the worker asks of Slack for an interaction: answers through
#		response_url, and views.

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
$slack->trigger_life(60);
my $node = start_node('calls', conf => PRELOAD . $slack->conf . "stripe_sync.slack_rate = 0\nstripe_sync.doctor_interval = 0\nstripe_sync.http_timeout = '10min'\n");
make_sender($node, 'one');
add_channel($node, 'one', 'ops', '#ops');

sub one { return $node->safe_psql('one', $_[0]); }
sub wake { return one(q{SELECT stripe_sync.resume()}); }
one(q{SELECT stripe_sync.add_slack_app('default', } . literals(SlackStub::SIGNING_SECRET, TOKEN) . ')');

# ---- words ----

my $count = 0;

# A stored interaction, with what Slack has given for it: of a command, as the stub
# makes it.  url, trigger: others, or undef for none; age: of the press, an interval,
# by default in the future, so that a slow machine opens views in time.
sub interaction
{
	my (%how) = @_;

	$slack->command('/x', '', 'U1') unless $how{made};
	my $made = $how{made} // $slack->made;
	my ($url, $trigger) = map { exists $how{$_} ? $how{$_} : $made->{ $_ eq 'url' ? 'response_url' : 'trigger_id' } } qw(url trigger);
	my $id = one(qq{INSERT INTO stripe_sync.interaction (app, key, kind, sent_at, body)
		VALUES ('default', '@{[ ++$count ]}', 'command', clock_timestamp() - interval '@{[ $how{age} // '-1 min' ]}', '{}') RETURNING id});

	one("INSERT INTO stripe_sync.interaction_secret VALUES ($id, " . join(', ', map { defined $_ ? literal($_) : 'NULL' } $url, $trigger) . ')');
	return $id;
}

# A call that it owes, as slack_call_respond() and slack_call_open_view() queue them;
# the worker looks when it is woken.
sub call
{
	my ($interaction, $kind, $payload) = @_;

	return one(qq{INSERT INTO stripe_sync.slack_call (interaction, kind, payload, expires_at)
		SELECT id, '$kind', } . literal(json_text($payload)) . q{, sent_at + CASE '} . $kind . qq{' WHEN 'view' THEN interval '3 s' ELSE interval '30 min' END
		FROM stripe_sync.interaction WHERE id = $interaction RETURNING id});
}

sub respond { my ($interaction, $text) = @_; my $id = call($interaction, 'response', { text => $text }); wake(); return $id; }

sub view { return { type => 'modal', callback_id => 'cb', title => { type => 'plain_text', text => $_[0] }, blocks => [] }; }
sub open_view { my ($interaction, $title) = @_; my $id = call($interaction, 'view', view($title)); wake(); return $id; }

sub of_call { return one("SELECT concat_ws('|', state, code, http_status, attempts) FROM stripe_sync.slack_call WHERE id = $_[0]"); }

sub becomes
{
	my ($id, $expected, $what) = @_;
	my $now = '';

	$slack->wait_for(sub { ($now = of_call($id)) eq $expected });
	return is($now, $expected, $what);
}

# Send again now what waits for its next attempt.
sub hurry { my ($id) = @_; one("UPDATE stripe_sync.slack_call SET due_at = clock_timestamp() WHERE id = $id AND state = 'waiting'"); return wake(); }

sub seen { my ($text) = @_; return scalar grep { $_->{text} eq $text } @{ $slack->private }; }
sub secret_left { return one("SELECT count(*) FROM stripe_sync.interaction_secret WHERE interaction = $_[0]"); }
sub opened { my ($title) = @_; return scalar grep { $_->{view}{title}{text} eq $title } @{ $slack->views }; }

# ---- answers ----

my $interaction = interaction();
my $id = respond($interaction, 'first');
becomes($id, 'sent|ok|200|1', 'an answer is sent');
is(seen('first'), 1, 'and shown to the person');
is(secret_left($interaction), '1', 'its response_url can be used again');

# Of a message's button or shortcut Slack answers in JSON.
notify($node, 'one', 'ops', 'with a shortcut');
$slack->wait_for(sub { @{ $slack->shows('#ops') } == 1 });
$slack->did('shortcut', callback_id => 'cb', channel => '#ops', ts => $slack->shows('#ops')->[0]{ts});
$id = respond(interaction(made => $slack->made), 'in JSON');
becomes($id, 'sent|ok|200|1', 'an answer that Slack confirms in JSON');
is(seen('in JSON'), 1, 'is shown');

# Tried again, in 2, 8, 32, 128 seconds.
$slack->fault({ status => 503 }, times => 2, path => qr{^/commands/});
$slack->fault({ status => 200, body => '' }, times => 1, path => qr{^/commands/}, skip => 0);
$interaction = interaction();
$id = respond($interaction, 'again');
becomes($id, 'waiting|http_503|503|1', 'after a 503 it waits');
is(one("SELECT due_at - clock_timestamp() BETWEEN interval '-1 min' AND interval '2 s' FROM stripe_sync.slack_call WHERE id = $id"), 't', 'for some seconds');
hurry($id);
becomes($id, 'waiting|http_503|503|2', 'and again');
cmp_ok(one("SELECT extract(epoch FROM due_at - clock_timestamp()) FROM stripe_sync.slack_call WHERE id = $id"), '<=', 8, 'longer');
hurry($id);
becomes($id, 'sent|ok|200|3', 'then it is sent: an empty answer with 200 will do');
$slack->clear_faults;

# Retry-After, within the half hour
$slack->fault({ status => 429, headers => { 'Retry-After' => '600' } }, times => 1);
$id = respond(interaction(), 'limited');
becomes($id, 'waiting|rate_limited|429|1', 'limited');
cmp_ok(one("SELECT extract(epoch FROM due_at - clock_timestamp()) FROM stripe_sync.slack_call WHERE id = $id"), '>', 300, 'it waits as long as Slack says');
$slack->fault({ status => 429, headers => { 'Retry-After' => '3600' } }, times => 1);
$id = respond(interaction(), 'limited for too long');
becomes($id, 'dead|rate_limited|429|1', 'for longer than the response_url lives: it is given up');
like(slurp_file($node->logfile), qr/WARNING:  an answer for interaction \d+ was not accepted by Slack: rate_limited/, 'the log says so');

# ---- five uses, thirty minutes ----

one(q{SELECT stripe_sync.pause('slack')});
$interaction = interaction();
my @ids = map { call($interaction, 'response', { text => "use $_" }) } 1 .. 6;
one(q{SELECT stripe_sync.resume('slack')});
becomes($ids[5], 'dead|used_up|0', 'the sixth answer is not sent');
is(join(' ', map { of_call($_) } @ids[0 .. 4]), join(' ', ('sent|ok|200|1') x 5), 'five are');
is(join(' ', map { $_->{text} } grep { $_->{text} =~ /^use/ } @{ $slack->private }), 'use 1 use 2 use 3 use 4 use 5', 'in their order');
is(secret_left($interaction), '0', 'the response_url is deleted');

# Failed attempts are uses, too.
$interaction = interaction();
$slack->fault({ status => 500 }, times => 5, path => qr{^/commands/});
$id = respond($interaction, 'never');
for my $attempt (1 .. 4)
{
	becomes($id, "waiting|http_500|500|$attempt", "attempt $attempt fails");
	hurry($id);
}
becomes($id, 'dead|http_500|500|5', 'the fifth is the last one');
is(secret_left($interaction), '0', 'the response_url is deleted');
$slack->clear_faults;

my $before = $slack->stats->{requests};
$id = respond(interaction(age => '31 min'), 'late');
becomes($id, 'dead|expired|0', 'after half an hour nothing is sent');
$id = respond(interaction(url => undef), 'nowhere to');
becomes($id, 'dead|expired|0', 'nor without a response_url');
is($slack->stats->{requests}, $before, 'Slack was not asked');
$interaction = interaction();
$slack->expire;
$id = respond($interaction, 'Slack says so');
becomes($id, 'dead|expired_url|404|1', 'Slack says that it has expired');
$slack->fault({ never => TRUE }, times => 1);
worker_setting($node, 'one', 'stripe_sync.http_timeout', '1s');
$id = respond(interaction(), 'no answer');
becomes($id, 'waiting|timeout|1', 'no answer in time');
hurry($id);
becomes($id, 'sent|ok|200|2', 'it is sent again');
worker_setting($node, 'one', 'stripe_sync.http_timeout', '10min');
$slack->disconnect;

# What Slack does not take as a message
$id = respond(interaction(), ' ');
becomes($id, 'dead|no_text|400|1', 'a bad message is not tried again');

# ---- where a response_url may lead ----

my $other = SlackStub->start(tls_dir => $slack->tls(''));
for my $url ('https://example.com/x', $other->url_base . '/commands/x', 'http://' . $slack->host . '/commands/x', 'https://' . $slack->host . '@' . $other->host . '/x',
	'https://127.0.0.1/x', 'file:///etc/passwd', 'gopher://' . $slack->host . '/x', '', 'x' x 3000)
{
	$id = respond(interaction(url => $url), 'elsewhere');
	becomes($id, 'dead|url_refused|0', 'not called: ' . ($url =~ s/:\d+//gr =~ s/^.{60}\K.*/.../r));
}
is($other->stats->{connections}, 0, 'the other server never saw a connection');
like(slurp_file($node->logfile), qr/url_refused\n.*DETAIL:  Its host is not one of stripe_sync.slack_hosts/, 'the log says why');

# ---- views ----

$interaction = interaction(url => undef);
$id = open_view($interaction, 'in time');
becomes($id, 'sent|ok|200|1', 'a view is opened');
is(opened('in time'), 1, 'the person sees it');
is(secret_left($interaction), '0', 'the trigger_id is deleted');

$interaction = interaction(age => '4 s');
$before = grep { $_->{path} eq '/api/views.open' } @{ $slack->requests };
$id = open_view($interaction, 'late');
becomes($id, 'dead|trigger_expired|0', 'after 3 seconds nothing is opened');
is(scalar(grep { $_->{path} eq '/api/views.open' } @{ $slack->requests }), $before, 'Slack was not asked');
my $late = 'That took too long: Slack opens a form only within 3 seconds. Please try again.';
ok($slack->wait_for(sub { seen($late) == 1 }), 'the person is told');

$interaction = interaction();
$slack->expire;
$slack->command('/x', '', 'U1');    # with a response_url that is good
one('UPDATE stripe_sync.interaction_secret SET response_url = ' . literal($slack->made->{response_url}) . " WHERE interaction = $interaction");
$id = open_view($interaction, 'late at Slack');
becomes($id, 'dead|expired_trigger_id|200|1', 'Slack may find that it is late');
ok($slack->wait_for(sub { seen($late) == 2 }), 'the person is told');

$interaction = interaction();
$id = call($interaction, 'view', view('x' x 25));
wake();
becomes($id, 'dead|invalid_arguments|200|1', 'a view that Slack does not take');
ok($slack->wait_for(sub { seen('The form could not be opened (invalid_arguments).') == 1 }), 'the person is told');

# It is sent once: Slack may have opened it.
$slack->fault({ status => 500 }, times => 1, path => qr/views/);
$id = open_view(interaction(), 'once');
becomes($id, 'dead|http_500|500|1', 'a view is not tried again');

one(q{SELECT stripe_sync.add_slack_app('default', } . literals(SlackStub::SIGNING_SECRET) . ')');
$id = open_view(interaction(), 'no token');
becomes($id, 'dead|no_token|0', 'without a token there are no views');
one(q{SELECT stripe_sync.add_slack_app('default', } . literals(SlackStub::SIGNING_SECRET, TOKEN) . ')');

# Before anything else, over the one connection that there is.
worker_setting($node, 'one', 'stripe_sync.max_connections', '1');
one(q{SELECT stripe_sync.pause('slack')});
notify($node, 'one', 'ops', "one of many $_") for 1 .. 5;
my ($in_view, $in_answer) = (interaction(), interaction());
call($in_answer, 'response', { text => 'before messages' });
one("UPDATE stripe_sync.interaction SET sent_at = clock_timestamp() WHERE id = $in_view");
$id = call($in_view, 'view', view('first of all'));
one("UPDATE stripe_sync.slack_call SET expires_at = clock_timestamp() + interval '1 hour' WHERE id = $id");
is(of_call($id), 'waiting|0', 'while paused nothing is sent');
$slack->requests;
$before = @{ $slack->requests };
one(q{SELECT stripe_sync.resume('slack')});
ok($slack->wait_for(sub { @{ $slack->requests } == $before + 7 }), 'resumed, everything is sent');
is($slack->requests->[$before]{path}, '/api/views.open', 'the view first');
worker_setting($node, 'one', 'stripe_sync.max_connections', '32');

# ---- no transaction over the network; the lease ----

my $pid = worker_pid($node, 'one');
$slack->fault($slack->hold, times => 1, path => qr{^/commands/});
$interaction = interaction();
$id = respond($interaction, 'held');
ok($slack->wait_for(sub { $slack->stats->{in_flight} == 1 }), 'an answer is in the air');
ok($node->poll_query_until('one', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL)"), 'no transaction or snapshot is open');
ok($node->poll_query_until('one', "SELECT count(*) = 0 FROM pg_locks WHERE pid = $pid"), 'no lock is held');
is(one("SELECT state || ' ' || (lease_pid = $pid) FROM stripe_sync.slack_call WHERE id = $id"), 'sending true', 'it is leased to the worker');
notify($node, 'one', 'ops', 'beside it');
ok($slack->wait_for(sub { $slack->texts->{'beside it'} }), 'messages are sent beside it');

# A row that is locked by a user delays its own settlement only.
my $user = $node->background_psql('one');
$user->query_safe("BEGIN; SELECT FROM stripe_sync.slack_call WHERE id = $id FOR UPDATE");
$slack->release;
$id = respond(interaction(), 'not locked');
becomes($id, 'sent|ok|200|1', 'others are settled');
ok($slack->wait_for(sub { slurp_file($node->logfile) =~ /WARNING:  call \d+ to Slack could not be settled yet: .*lock timeout/ }), 'the log says what is locked');
$user->quit;
$node->poll_query_until('one', "SELECT state = 'sent' AND attempts = 1 FROM stripe_sync.slack_call WHERE interaction = $interaction");
is(seen('held'), 1, 'unlocked, it is settled, and was sent once');

# The server is killed while an answer and a view are in the air.
$slack->fault($slack->hold, times => 1, path => qr{^/commands/});
$slack->fault($slack->hold, times => 1, path => qr/views/);
my $in_air = interaction();
$interaction = interaction();
$id = respond($in_air, 'killed');
my $view = open_view($interaction, 'killed');
ok($slack->wait_for(sub { $slack->stats->{in_flight} == 2 }), 'both are in the air');
one('CHECKPOINT');
kill_server($node);
$slack->release;
$node->start;
becomes($id, 'sent|ok|200|2', 'the answer is sent again');
becomes($view, 'dead|lost|1', 'the view is not');
cmp_ok(seen('killed'), '>=', 1, 'the answer has come');
ok($slack->wait_for(sub { seen($late) == 3 }), 'the person is told to press again');

# The worker is asked to leave meanwhile: the answer is waited for.
$slack->fault({ delay => 0.5 }, times => 1, path => qr{^/commands/});
$before = $slack->stats->{requests};
$id = respond(interaction(), 'leaving');
ok($slack->wait_for(sub { $slack->stats->{requests} > $before }), 'an answer is in the air');
$node->safe_psql('postgres', 'ALTER DATABASE one RENAME TO two; ALTER DATABASE two RENAME TO one');
becomes($id, 'sent|ok|200|1', 'settled before the worker left');

# ---- queued by receive_slack() ----

one(q{CREATE FUNCTION public.ask(i jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('view', '} . json_text(view('asked')) . q{'::jsonb) $$;
	CREATE FUNCTION public.seen(i jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"text": "pressed"}'::jsonb $$;
	SELECT stripe_sync.add_slack_command('/ask', 'public.ask'), stripe_sync.add_slack_action('seen', 'public.seen'), stripe_sync.set_slack_user('U1', 'administer')});
sub last_call { return one('SELECT max(id) FROM stripe_sync.slack_call'); }
like(one(receive_call($slack->command('/ask', '', 'U1', at => time + 60))), qr/^200\|/, 'a command whose answer is a view');
becomes(last_call(), 'sent|ok|200|1', 'is answered');
is(opened('asked'), 1, 'it is opened');
my $last = last_call();
my $answer = one(receive_call($slack->command('/ask', '', 'U1', at => time - 3)));
like($answer, qr/again/, 'three seconds after the press, the person is told to try again');
is(last_call(), $last, 'nothing is queued');

notify($node, 'one', 'ops', 'with a button', q{'[{"type": "actions", "elements": [{"type": "button", "action_id": "seen", "text": {"type": "plain_text", "text": "Seen"}}]}]'});
my $message;
ok($slack->wait_for(sub { ($message) = grep { $_->{text} =~ /^with a button/ } @{ $slack->shows('#ops') } }), 'a message with a button');
is(one(receive_call($slack->press($message, 'seen', 'U1'))), '200|', 'a press is answered with nothing');
becomes(last_call(), 'sent|ok|200|1', 'and by a message to the person');
is(seen('pressed'), 1, 'who sees it');
is($slack->requests->[-1]{payload}{replace_original}, FALSE, 'beside the message');
one(q{SELECT stripe_sync.pause('slack')});
like(one(receive_call($slack->command('/ask', '', 'U1'))), qr/^200\|/, 'while Slack is paused');
is(one('SELECT status FROM stripe_sync.interaction ORDER BY id DESC LIMIT 1'), 'failed', 'no view can be opened');
like(one('SELECT error FROM stripe_sync.interaction ORDER BY id DESC LIMIT 1'), qr/no view can be opened: messages to Slack are paused/, 'which is said');
one(q{SELECT stripe_sync.resume('slack')});

# ---- secrets that have expired ----

my ($old, $young) = (interaction(age => '32 min'), interaction(age => '29 min'));
one("UPDATE stripe_sync.interaction SET received_at = sent_at WHERE id IN ($old, $young)");
$node->restart;
ok($node->poll_query_until('one', "SELECT count(*) = 0 FROM stripe_sync.interaction_secret WHERE interaction = $old"), 'after 31 minutes secrets are deleted');
is(secret_left($young), '1', 'not before');

# ---- CALL work() ----

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
$interaction = interaction();
$id = respond($interaction, 'by hand');
one('CALL stripe_sync.work()');
is(of_call($id), 'sent|ok|200|1', 'work() sends answers');
one(receive_call($slack->command('/ask', '', 'U1')));
like(one('SELECT error FROM stripe_sync.interaction ORDER BY id DESC LIMIT 1'), qr/no view can be opened: this database has no worker/, 'without a worker there are no views');
$slack->fault({ delay => 1 }, times => 1);
$id = respond($interaction, 'slowly by hand');
one('CALL stripe_sync.work()');
is(of_call($id), 'sent|ok|200|1', 'and waits for Slack');
no_secret_in($node, 'one', 'at the end');

done_testing();
