# request.pl
#		10,000 mutated requests, half of them signed after the mutation: no crash, no
#		error, no row of one that wasn't signed; and what is signed is stored once.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use StripeSync;

use Digest::SHA qw(hmac_sha256_hex sha256_hex);
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use constant SIGNING_SECRET => '0123456789abcdef0123456789abcdef';
use constant { ROUNDS => 20, IN_ROUND => 500 };

my $node = start_node('request', conf => "stripe_sync.doctor_interval = 0\n");
make_sender($node, 'shop');
sub shop { return $node->safe_psql('shop', $_[0]); }

shop('SELECT stripe_sync.add_slack_app(' . literals('default', SIGNING_SECRET) . q{);
	SELECT stripe_sync.set_slack_user('U1', 'administer');
	CREATE TABLE request (n int PRIMARY KEY, body bytea, headers jsonb, is_signed boolean, status int)});

# ---- requests ----

sub url_encoded { return $_[0] =~ s/([^A-Za-z0-9_.-])/sprintf '%%%02X', ord $1/ger; }

sub form
{
	my @pairs;

	while (my ($name, $value) = splice @_, 0, 2)
	{
		push @pairs, "$name=" . url_encoded($value);
	}
	return join '&', @pairs;
}

sub payload { return form(payload => JSON::PP->new->utf8->canonical->encode({ team => { id => 'T1' }, user => { id => 'U1', username => 'ada', team_id => 'T1' }, trigger_id => '1.2.3', token => 'tOkEn', @_ })); }

sub button { my ($action, $value) = @_; return payload(type => 'block_actions', channel => { id => 'C1' }, container => { message_ts => '1.1' }, response_url => 'https://hooks.slack.com/actions/tOkEn', actions => [ { action_id => $action, value => $value } ]); }

sub command { my ($command, $text) = @_; return form(token => 'tOkEn', team_id => 'T1', user_id => 'U1', user_name => 'ada', channel_id => 'C1', command => $command, text => $text, response_url => 'https://hooks.slack.com/commands/tOkEn', trigger_id => '1.2.3'); }

sub callback { my ($id, %event) = @_; return JSON::PP->new->utf8->canonical->encode({ type => 'event_callback', token => 'tOkEn', team_id => 'T1', event_id => $id, event => { user => 'U1', %event } }); }

my @originals = (
	(map { button("stripe_sync.$_", '1') } qw(acknowledge snooze resolve trace open retry_event retry_message enable reconcile mute_finding)), button('app.own', "a \x{e9} & b"),
	command('/stripe', 'help'), command('/stripe', 'customer cus_1'), command('/stripe', 'trace in_1'), command('/stripe', 'mute payments 1h'), command('/stripe', 'who 1'), command('/orders', '+ %'),
	payload(type => 'view_submission', view => { callback_id => 'cb', state => { values => { b => { a => { value => 'x' } } } } }), payload(type => 'shortcut', callback_id => 'cb'),
	callback('Ev1', type => 'app_mention', text => "\x{1F4B6} \\u0000", ts => '1.2', channel => 'C1'), callback('Ev2', type => 'reaction_added', item => { channel => 'C1', ts => '1.3' }));

my @pieces = ('%00', '%FF', '%', '%ED%A0%80', '&', '=', '+', '&payload=x', '&command=%2Fstripe', '{', '}', '[', ']', '"', '\\', '\\u0000', '\\ud800', ',', ':', 'null', '1e999999', '-0', "\0", "\xff", "\xc3\xa9",
	'[' x 300, '&x=1' x 70, 'A' x 2000, '%22', '%7B', "'", '--', ';', '$1', '<!channel>');
seed();

sub mutated
{
	my ($body) = @_;
	my $from = $body;

	until ($body ne $from)
	{
		for (0 .. int rand 3)
		{
			my $place = int rand(1 + length $body);
			my $kind = int rand 6;

			if ($kind == 0 && $place < length $body) { substr($body, $place, 1) = chr(ord(substr $body, $place, 1) ^ 1 << int rand 8); }
			elsif ($kind == 1) { substr($body, $place, 0) = $pieces[ rand @pieces ]; }
			elsif ($kind == 2) { substr($body, $place, int rand 20) = ''; }
			elsif ($kind == 3) { substr($body, $place, 0) = substr $body, int rand length $body, int rand 60; }
			elsif ($kind == 4) { $body = substr $body, 0, $place; }
			elsif ($kind == 5) { substr($body, $place, 1) = chr int rand 256 if $place < length $body; }
			$body = 'x' unless length $body;
		}
	}
	return $body;
}

sub headers
{
	my ($body, %how) = @_;
	my $at = $how{at} // time;

	return JSON::PP->new->canonical->encode({ 'X-Slack-Request-Timestamp' => "$at",
		'X-Slack-Signature' => 'v0=' . hmac_sha256_hex("v0:$at:$body", $how{secret} // SIGNING_SECRET) });
}

# Statuses of requests in one statement each; nothing raises.
sub receive_all
{
	my (@requests) = @_;

	shop('TRUNCATE request; INSERT INTO request (n, body, headers, is_signed) VALUES ' .
		join(', ', map { sprintf q{(%d, '\x%s', '%s', %s)}, $_, unpack('H*', $requests[$_]{body}), $requests[$_]{headers}, $requests[$_]{signed} ? 'true' : 'false' } 0 .. $#requests));
	my ($status, $out, $err) = $node->psql('shop', q{UPDATE request SET status = (SELECT http_status FROM stripe_sync.receive_slack(request.body, request.headers))});
	is($status, 0, 'no request raises an error') or diag($err);
	return split /\n/, shop('SELECT is_signed::int, status, count(*) FROM request GROUP BY 1, 2 ORDER BY 1, 2');
}

my $pid = shop(q{SELECT pg_postmaster_start_time()});

# ---- as they are ----

receive_all(map { { body => $_, headers => headers($_), signed => 1 } } @originals);
is(shop('SELECT string_agg(DISTINCT status::text, $$ $$) FROM request'), '200', 'every original is accepted');
is(shop('SELECT count(*) FROM stripe_sync.interaction'), scalar @originals, 'and has a row');
is(shop(q{SELECT count(*) FROM stripe_sync.interaction i WHERE i::text ~ 'tOkEn'}), 0, 'without what lets its holder answer');
my $before = shop(q{SELECT md5(string_agg(i::text, ';' ORDER BY id)) FROM stripe_sync.interaction i});
receive_all(map { { body => $_, headers => headers($_, at => time - 60), signed => 1 } } @originals);
is(shop('SELECT string_agg(DISTINCT status::text, $$ $$) FROM request'), '200', 'every one again, signed anew: accepted');
is(shop(q{SELECT md5(string_agg(i::text, ';' ORDER BY id)) FROM stripe_sync.interaction i}), $before, 'and nothing is done twice');
receive_all(map { my $body = $_; map { { body => $body, headers => headers($body, %$_) } } { secret => 'f' x 32 }, { at => time - 400 }, { at => time + 400 }, { at => '' }, { at => time . '000' } } @originals);
is(shop('SELECT string_agg(DISTINCT status::text, $$ $$) FROM request'), '401', 'forged ones, old ones, and those of the future are refused');
receive_all(map { my $body = $_; my $headers = headers($body); map { { body => $_, headers => $headers } } grep { $_ ne $body } $body =~ s/%([0-9A-F]{2})/%\L$1/gr, $body =~ s/%20/+/gr, "$body\n", $body =~ s/\+/%20/gr } @originals);
is(shop('SELECT string_agg(DISTINCT status::text, $$ $$) FROM request'), '401', 'what was encoded again is refused');
is(shop(q{SELECT md5(string_agg(i::text, ';' ORDER BY id)) FROM stripe_sync.interaction i}), $before, 'and none of it leaves a row');

# ---- mutated ----

my ($accepted, $refused) = (0, 0);
shop('TRUNCATE stripe_sync.interaction; CREATE TABLE sent (key text)');
for my $round (1 .. ROUNDS)
{
	my @requests;
	for my $n (1 .. IN_ROUND)
	{
		my $original = $originals[ rand @originals ];
		my $body = mutated($original);
		push @requests, { body => $body, headers => headers($n % 2 ? $body : $original), signed => $n % 2 };
	}
	my @counts = receive_all(@requests);
	my @wrong = grep { !/^(?:0\|401|1\|200|1\|400)\|/ } @counts;
	is("@wrong", '', 'unsigned ones are refused, signed ones accepted or unreadable');
	$accepted += $_ for map { /^1\|200\|(\d+)/ } @counts;
	$refused += $_ for map { /^1\|400\|(\d+)/ } @counts;
	shop(q{INSERT INTO sent SELECT 'body:' || encode(sha256(body), 'hex') FROM request WHERE is_signed AND status = 200});
}
cmp_ok($accepted, '>', 300, "of the signed ones $accepted are requests of Slack's");
cmp_ok($refused, '>', 300, "and $refused are not");
is(shop(q{SELECT count(*) FROM stripe_sync.interaction i WHERE key LIKE 'body:%' AND NOT EXISTS (SELECT FROM sent s WHERE s.key = i.key)}), 0, 'no row but of a signed request');
is(shop(q{SELECT count(*) > 0 FROM stripe_sync.interaction WHERE key LIKE 'event:%'}), 't', 'events have their own keys');
is(shop(q{SELECT count(*) FROM stripe_sync.interaction WHERE status = 'received' OR http_status IS NULL}), 0, 'every row has its answer');
is(shop(q{SELECT string_agg(DISTINCT error, '; ') FROM stripe_sync.interaction WHERE status = 'failed'}), '', 'none failed');
is(shop(q{SELECT pg_postmaster_start_time()}), $pid, 'the server has not restarted');
unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC|TRAP|server process .* was terminated/, 'no backend crashed');

$node->stop;
done_testing();
