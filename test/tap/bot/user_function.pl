# user_function.pl
#		The application's own actions, commands and views, between a worker and the
#		stub of Slack; dumped and restored; where there is no worker.

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

my $missing = SlackStub->missing;
plan skip_all => $missing if $missing;

my $slack = SlackStub->start;
$slack->trigger_life(60);
my $common = $slack->conf . "stripe_sync.slack_rate = 0\nstripe_sync.doctor_interval = 0\n";
my $node = start_node('user_function', conf => PRELOAD . $common);
my $log = $node->logfile;

sub set_up
{
	my ($on, $database) = @_;

	make_sender($on, $database);
	add_channel($on, $database, 'ops', '#ops');
	$on->safe_psql($database, 'SET client_min_messages = warning; SELECT stripe_sync.add_slack_app(' . literals('default', SlackStub::SIGNING_SECRET, TOKEN) . ');' . q{
		CREATE SCHEMA app;
		CREATE TABLE app.log (n serial, what text);
		CREATE FUNCTION app.answer(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO app.log (what) VALUES (i->>'name');
			RETURN (i->>'value')::jsonb;
		END $$;
		CREATE FUNCTION app.ask(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO app.log (what) VALUES ('asked');
			RETURN '{"view": {"type": "modal", "callback_id": "refund", "title": {"type": "plain_text", "text": "Refund"}, "submit": {"type": "plain_text", "text": "Refund"},
				"blocks": [{"type": "input", "block_id": "amount", "label": {"type": "plain_text", "text": "Amount"}, "element": {"type": "plain_text_input", "action_id": "value"}}]}}';
		END $$;
		CREATE FUNCTION app.refund(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
		DECLARE amount text := i->'body'->'view'->'state'->'values'->'amount'->'value'->>'value';
		BEGIN
			IF amount = 'boom' THEN RAISE 'it went off'; END IF;
			IF amount !~ '^\d+$' THEN RETURN '{"response_action": "errors", "errors": {"amount": "A number, please."}}'; END IF;
			INSERT INTO app.log (what) VALUES ('refunded ' || amount || ' by ' || (i->>'user'));
			RETURN NULL;
		END $$;
		SELECT stripe_sync.add_slack_command('/answer', 'app.answer'), stripe_sync.add_slack_action('answer', 'app.answer'), stripe_sync.add_slack_command('/refund', 'app.ask'),
			stripe_sync.add_slack_action('ask', 'app.ask'), stripe_sync.add_slack_action('refund', 'app.refund');
	});
	return;
}

set_up($node, 'one');
$node->safe_psql('one', q{CREATE ROLE front LOGIN; SELECT stripe_sync.grant_ingest('front')});

sub one { return $node->safe_psql('one', $_[0]); }

# What the HTTP front gets: (status, answer); Slack is told it, and dies where it would not take it.
sub receive
{
	my ($body, $headers) = @_;
	my ($status, $answer) = split /\|/, $node->safe_psql('one', 'SET ROLE front; ' . receive_call($body, $headers)), 2;

	$answer = $answer eq '' ? undef : decode_json($answer);
	$slack->answered($status, $answer);
	return ($status, $answer);
}

sub status { return one(q{SELECT concat_ws('|', kind, name, status, error) FROM stripe_sync.interaction ORDER BY id DESC LIMIT 1}); }
sub logged { return one(q{WITH d AS (DELETE FROM app.log RETURNING n, what) SELECT string_agg(what, ', ' ORDER BY n) FROM d}); }
sub last_view { my ($user) = @_; return (grep { $_->{user} eq $user } @{ $slack->views })[-1]; }
sub private_of { my ($user) = @_; return grep { $_->{user} eq $user } @{ $slack->private }; }

# A message with buttons of the application's own, in #ops
sub post
{
	my ($text, @buttons) = @_;
	my $blocks = json_text([ { type => 'section', text => { type => 'mrkdwn', text => $text } },
		{ type => 'actions', elements => [ map { { type => 'button', action_id => $_->[0], value => $_->[1], text => { type => 'plain_text', text => $_->[0] } } } @buttons ] } ]);

	one('SELECT stripe_sync.notify(' . literals('ops', $text, $blocks) . ')');
	$slack->wait_for(sub { grep { $_->{text} eq $text } @{ $slack->shows('#ops') } });
	return (grep { $_->{text} eq $text } @{ $slack->shows('#ops') })[0];
}

# ---- messages ----

my ($http, $answer) = receive($slack->command('/answer', '{"text": "Three orders."}', 'U1'));
is_deeply($answer, { response_type => 'ephemeral', text => 'Three orders.' }, 'a command is answered in the call');
is(status(), 'command|/answer|done', 'and done');
logged();
my $message = post('Buttons', [ answer => '{"text": "Only you see this."}' ], [ ask => 'x' ]);
receive($slack->press($message, 'answer', 'U1'));
eventually('a press is answered through response_url', sub { (private_of('U1'))[-1]{text} eq 'Only you see this.' });
is(logged(), 'answer', 'after the function ran once');
ok((grep { $_->{text} eq 'Buttons' } @{ $slack->shows('#ops') }), 'and the message stays');
$message = post('To all', [ answer => '{"text": "All see this.", "response_type": "in_channel"}' ]);
receive($slack->press($message, 'answer', 'U1'));
eventually('or for all', sub { grep { $_->{text} eq 'All see this.' } @{ $slack->shows('#ops') } });
$message = post('To go', [ answer => '{"text": "Done.", "replace_original": true}' ]);
receive($slack->press($message, 'answer', 'U1'));
eventually('or in place of the message', sub { !grep { $_->{text} eq 'To go' } @{ $slack->shows('#ops') } });
logged();

# ---- views ----

($message) = grep { $_->{text} eq 'Buttons' } @{ $slack->shows('#ops') };
receive($slack->press($message, 'ask', 'U2', at => time + 60));
eventually('a view is opened in time', sub { my $view = last_view('U2'); $view && $view->{state} eq 'open' });
is(logged(), 'asked', 'the function ran once');
($http, $answer) = receive($slack->submit({ amount => { value => 'much' } }, 'U2'));
is($answer->{response_action}, 'errors', 'what is wrong with a submission is answered in the call');
is(json_text(last_view('U2')->{errors}), '{"amount":"A number, please."}', 'and shown');
($http, $answer) = receive($slack->submit({ amount => { value => 'boom' } }, 'U2'));
is($answer->{response_action}, 'update', 'one that fails is answered politely');
unlike(json_text($answer), qr/went off/, 'without the error');
like(status(), qr/^view_submission\|refund\|failed\|P0001: it went off$/, 'which the interaction has');
like(slurp_file($log), qr/WARNING:  stripe_sync could not do what interaction \d+ asks: it went off/, 'and the log');
is(logged(), '', 'and nothing was done');
receive($slack->command('/refund', '', 'U3', at => time + 60));
eventually('a command may open one, too', sub { my $view = last_view('U3'); $view && $view->{state} eq 'open' });
($http, $answer) = receive($slack->submit({ amount => { value => '7' } }, 'U3'));
is("$http " . ($answer // 'nothing'), '200 nothing', 'a submission without an answer');
is(last_view('U3')->{state}, 'submitted', 'closes the view');
is(logged(), 'asked, refunded 7 by U3', 'and is done once');

# too late: Slack no longer takes it
receive($slack->press($message, 'ask', 'U4', at => time - 3));
eventually('a view that comes too late: press again', sub { my @told = private_of('U4'); @told && $told[-1]{text} =~ /Press again/ });
is(status(), 'press|ask|failed|the view came too late', 'which the interaction says');
is(logged(), '', 'and the function has done nothing');

# ---- errors undo nothing else ----

one(q{CREATE FUNCTION app.fails(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO app.log (what) VALUES ('half'); RAISE 'no <such> thing'; END $$;
	SELECT stripe_sync.add_slack_action('fails', 'app.fails')});
$message = post('To fail', [ fails => 'x' ]);
receive($slack->press($message, 'fails', 'U5'));
eventually('a press that fails is answered politely', sub { my @told = private_of('U5'); @told && $told[-1]{text} =~ /^That did not work\. Interaction \d+/ });
unlike((private_of('U5'))[-1]{text}, qr/thing/, 'without the error');
is(logged(), '', 'what it wrote is undone');
is(status(), 'press|fails|failed|P0001: no <such> thing', 'and the interaction is kept');

# ---- stopped, dumped, restored ----

my $file = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $file, $node->connstr('one') ], 'a dump');
$node->safe_psql('postgres', 'CREATE DATABASE two');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('two'), $file ], 'is restored');
my $functions = q{SELECT string_agg(concat_ws('|', n, function, function_owner, role, search_path, path_owners::text), E'\n' ORDER BY n) FROM
	(SELECT action_id AS n, function, function_owner, role, search_path, path_owners FROM stripe_sync.slack_action UNION ALL SELECT command, function, function_owner, role, search_path, path_owners FROM stripe_sync.slack_command) f};
is($node->safe_psql('two', $functions), one($functions), 'with its functions');
$node->safe_psql('two', 'SET client_min_messages = warning; SELECT stripe_sync.activate(), stripe_sync.add_slack_app(' . literals('default', SlackStub::SIGNING_SECRET, TOKEN) . ')');
my ($body, $headers) = $slack->command('/answer', '{"text": "As before."}', 'U1');
like($node->safe_psql('two', receive_call($body, $headers)), qr/^200\|.*As before\./, 'which run there');

# ---- where there is no worker ----

my $bare = start_node('bare', conf => $common);
set_up($bare, 'one');
($body, $headers) = $slack->command('/refund', '', 'U6');
my ($out, $err);
is($bare->psql('one', receive_call($body, $headers), stdout => \$out, stderr => \$err), 0, 'a view where there is no worker');
like($out, qr/^200\|.*That did not work/, 'is answered politely');
like($err, qr/WARNING: .*no view can be opened: this database has no worker/, 'with a warning that says why');
is($bare->safe_psql('one', 'SELECT error FROM stripe_sync.interaction'), '0A000: no view can be opened: this database has no worker', 'which the interaction has');
is($bare->safe_psql('one', 'SELECT count(*) FROM app.log'), '0', 'and the function has done nothing');
($body, $headers) = $slack->command('/answer', '{"text": "Here too."}', 'U6');
like($bare->safe_psql('one', receive_call($body, $headers)), qr/^200\|.*Here too\./, 'while commands are answered there');

$bare->stop;
$node->stop;
done_testing();
