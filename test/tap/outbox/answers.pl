# answers.pl
#		What Slack may answer, one word after the other: verdict, message,
#		destination and log are as the answer means.

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
my $node = start_node('answers', conf => PRELOAD . $slack->conf . "stripe_sync.slack_rate = 0\nstripe_sync.http_timeout = '5min'\n");
make_sender($node, 'one');
# when a message is due again, each time: a later attempt writes over it
$node->safe_psql('one', q{CREATE TABLE put_off (id bigint, attempt int, due_at timestamptz, settled_at timestamptz DEFAULT clock_timestamp());
	CREATE FUNCTION put_off() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.put_off (id, attempt, due_at) VALUES (new.id, new.attempts, new.due_at); RETURN NULL; END $$;
	CREATE TRIGGER put_off AFTER UPDATE ON stripe_sync.message FOR EACH ROW WHEN (old.state = 'sending' AND new.state = 'waiting') EXECUTE FUNCTION put_off();
	GRANT ALL ON put_off TO PUBLIC});

sub one { return $node->safe_psql('one', $_[0]); }

# Let the worker look at what was written by hand.
sub wake { return one('SELECT stripe_sync.resume()'); }

# An attempt as the log has it.
sub attempt
{
	my ($id, $number) = @_;

	return one(qq{SELECT concat_ws('|', coalesce(http_status::text, '-'), code, verdict) FROM stripe_sync.delivery
		WHERE message_id = $id AND attempt = $number});
}

sub attempts { return one("SELECT count(*) FROM stripe_sync.delivery WHERE message_id = $_[0]"); }

# Seconds from the end of an attempt to when the message was due again; and those
# of them that it took to write that down.
sub delay
{
	my ($id, $number) = @_;

	return split /\|/, one(qq{SELECT extract(epoch FROM p.due_at - d.finished_at), extract(epoch FROM p.settled_at - d.finished_at)
		FROM put_off p JOIN stripe_sync.delivery d ON d.message_id = p.id AND d.attempt = p.attempt WHERE p.id = $id AND p.attempt = $number});
}

sub destination { return one(qq{SELECT concat_ws('|', enabled, coalesce(disabled_reason, '-')) FROM stripe_sync.destination WHERE name = '$_[0]'}); }

# ---- every word that is known, in every way of sending ----

# What a code means is written here anew, from what Slack documents.
my %webhook = (
	sent             => ['ok'],
	message_bad      => [qw(invalid_payload no_text too_many_attachments a_word_made_up_since)],
	destination_dead => [qw(user_not_found action_prohibited channel_not_found channel_is_archived posting_to_general_channel_denied)],
	credential_dead  => [qw(invalid_token no_service no_active_hooks team_disabled)],
	retry            => [qw(rollup_error team_added_to_org org_login_required external_channel_migrating message_limit_exceeded)]);
my %api = (
	sent             => ['ok'],
	message_bad      => [qw(invalid_blocks invalid_blocks_format msg_too_long msg_blocks_too_long no_text too_many_attachments invalid_metadata_format
		invalid_metadata_schema metadata_too_large cannot_reply_to_message a_word_made_up_since)],
	destination_dead => [qw(channel_not_found is_archived not_in_channel restricted_action restricted_action_read_only_channel
		restricted_action_thread_only_channel team_not_found messages_tab_disabled)],
	credential_dead  => [qw(token_revoked token_expired account_inactive invalid_auth not_authed missing_scope no_permission not_allowed_token_type
		app_access_restricted access_denied ekm_access_denied accesslimited team_access_not_granted two_factor_setup_required enterprise_is_restricted)],
	# those of the second line pass by themselves
	retry            => [qw(ratelimited rate_limited service_unavailable request_timeout internal_error fatal_error
		team_added_to_org org_login_required external_channel_migrating message_limit_exceeded update_failed streaming_state_conflict)]);
my %update = (%api, message_bad => [ @{ $api{message_bad} }, qw(message_not_found cant_update_message edit_window_closed) ]);
my %webhook_status = (ok => 200, invalid_payload => 400, no_text => 400, too_many_attachments => 400, a_word_made_up_since => 400, user_not_found => 400,
	action_prohibited => 403, invalid_token => 403, posting_to_general_channel_denied => 403, team_disabled => 403,
	channel_not_found => 404, no_service => 404, no_active_hooks => 404, channel_is_archived => 410, rollup_error => 500, team_added_to_org => 400, org_login_required => 400,
	external_channel_migrating => 400, message_limit_exceeded => 400);
# What has no word of Slack's may be a proxy's: only that the message is bad or too large is believed.
my @statuses = map { [ { status => $_, body => '<html>gateway</html>' }, $_, "http_$_", $_ == 400 || $_ == 413 ? 'message_bad' : 'retry' ] }
  302, 400, 401, 403, 404, 407, 408, 413, 429, 500, 502, 503, 504;

# Each case has a destination of its own; its one fault is for the first attempt.
my @cases;
my $count = 0;

sub expect
{
	my ($method, $fault, $status, $code, $verdict) = @_;
	my $n = ++$count;
	my $case = { name => "$method: $code", method => $method, status => $status, code => $code, verdict => $verdict, destination => "d$n", text => "case $n of many", n => $n };

	push @cases, $case;
	$slack->fault($fault, times => 1, path => $method eq 'webhook' ? qr/B0*${n}\// : qr/\/api\/$method$/,
		$method eq 'auth.test' ? () : (text => qr/^(?:updated: )?case $n of many\n/)) if $fault;
	return $case;
}

# An answer of the Web API in so many bytes.
sub expect_json
{
	my ($json, @rest) = @_;

	my $case = expect('chat.postMessage', { status => 200, body_hex => unpack('H*', $json), deliver => $rest[1] eq 'sent' ? TRUE : FALSE }, 200, @rest);

	return $case->{name} .= ' ' . ($json =~ s/[^ -~]/?/gr =~ s/^.{40}\K.*/.../r);
}

for my $verdict (sort keys %webhook)
{
	expect('webhook', $_ eq 'ok' ? undef : { code => $_ }, $webhook_status{$_}, $_, $verdict) for @{ $webhook{$verdict} };
}
expect('webhook', @$_) for @statuses;
for my $verdict (sort keys %api)
{
	expect('chat.postMessage', $_ eq 'ok' ? undef : { api_error => $_ }, 200, $_, $verdict) for @{ $api{$verdict} };
}
expect('chat.postMessage', @$_) for @statuses;
expect('chat.postMessage', { status => 429, body => { ok => FALSE, error => 'ratelimited' } }, 429, 'ratelimited', 'retry');
expect('chat.postMessage', { ok_false_without_error => TRUE }, 200, 'no_error_given', 'retry');
expect('chat.postMessage', { malformed_json => TRUE }, 200, 'malformed_answer', 'retry');
# How JSON is read: what is no answer, and what is one all the same.
for my $json ('', 'ok', 'true', '<html></html>', '[{"ok":true}]', '{"ok":"true"}', '{"ok":1}', '{"ok":true,"ok":null}', '{"error":"invalid_auth"}', '{"ok":true', '{"ok":true}}',
	'{"ok":true}{"ok":true}', '{"ok":true,}', '{,"ok":true}', '{"ok":true "a":1}', '{"ok":true,"a":[1,]}', '{"ok":true,"a":[1}}', '{"ok":true,"a":01}', '{"ok":true,"a":1.}',
	'{"ok":true,"a":"\\x"}', '{"ok":true,"a":"\\u00zz"}', qq{{"ok":true,"a":"\n"}}, qq{{"ok":true,"a":"\x1f"}}, qq{{"ok":true,"a":"\0"}}, qq{{"ok":true}\0}, qq{{"ok":true}\xff},
	'{ok:true}', '{"ok":true,"a":' . '[' x 256 . ']' x 256 . '}', '{"ok":true,"a":' . '[' x 100_000 . ']' x 100_000 . '}', '{"a":' x 40_000, '[' x 250_000, '{"ok":true,"a":"\\')
{
	expect_json($json, 'malformed_answer', 'retry');
}
for my $json ('{"ok":true}', qq{ {\n\t"ok" : true }\r\n}, '{"\u006fk":true}', '{"ok":false,"ok":true}', '{"a":{"ok":false},"ok":true,"b":[{"ok":false}]}', '{"ok":true,"error":"invalid_auth"}',
	qq{{"ok":true,"a":"\xff\xc3"}}, qq{{"ok":true,"a":"\xc3\xa9"}}, '{"ok":true,"a":"\u0000\ud800"}', '{"ok":true,"a":1e999999999,"b":-' . '9' x 140_000 . '}', '{"ok":true,"channel":{"id":"C1"},"ts":7}',
	'{"ok":true,"a":' . '[' x 255 . ']' x 255 . '}', '{"ok":true,"a":[' . join(',', (1) x 50_000) . ']}')
{
	expect_json($json, 'ok', 'sent');
}
expect_json($_, 'no_error_given', 'retry') for '{"ok":false}', '{"ok":false,"error":""}', '{"ok":false,"error":null}', '{"ok":false,"error":{"error":"no_text"}}', '{"ok":false,"error":"no_text","error":7}';
expect_json($_->[0], $_->[1], 'message_bad') for [ '{"ok":false,"error":"odd code\u0000<b>"}', 'odd_code__b_' ], [ '{"ok":false,"error":"invalid_auth\u0000"}', 'invalid_auth_' ],
	[ qq{{"ok":false,"error":"caf\xc3\xa9\xff"}}, 'caf__' ], [ '{"ok":false,"error":"' . '0' x 300 . '"}', '0' x 127 ];
for my $verdict (sort keys %update)
{
	expect('chat.update', $_ eq 'ok' ? undef : { api_error => $_ }, 200, $_, $verdict) for @{ $update{$verdict} };
}
expect('chat.update', @$_) for @statuses;

# All at once: what one is answered is nobody else's affair.
my %set_up = map { my $c = $_; $c->{n} => $c->{method} eq 'webhook' ?
	'SELECT stripe_sync.add_slack_webhook(' . literals($c->{destination}, $slack->webhook_url($c->{n})) . ');' :
	'SELECT stripe_sync.add_slack_channel(' . literals($c->{destination}, "#channel-$c->{n}", TOKEN) . ');' } @cases;
one(join "\n", @set_up{ map { $_->{n} } @cases });
my @updates = grep { $_->{method} eq 'chat.update' } @cases;
one('SELECT ' . join ', ', map { "stripe_sync.notify('$_->{destination}', 'first', key => 'root-$_->{n}')" } @updates);
ok(idle($node, 'one'), 'what is to be updated is posted');
my $clock = one('SELECT clock_timestamp()');
my @ids = split /\|/, one('SELECT ' . join ', ', map { "stripe_sync.notify('$_->{destination}', '$_->{text}')" } grep { $_->{method} ne 'chat.update' } @cases);
push @ids, split /\n/, one(qq{INSERT INTO stripe_sync.message (destination, method, payload, thread, due_at) VALUES }
	. join(', ', map { "('$_->{destination}', 'update', '{\"text\": \"updated: $_->{text}\"}', 'root-$_->{n}', clock_timestamp())" } @updates)
	. ' RETURNING id');
$_->{id} = shift @ids for (grep { $_->{method} ne 'chat.update' } @cases), @updates;
wake();
eventually('every one is answered', sub { one("SELECT count(DISTINCT message_id) FROM stripe_sync.delivery WHERE started_at >= '$clock'") == @cases });
eventually('what is to be tried again is', sub { one(q{SELECT count(*) FROM stripe_sync.message WHERE state = 'sending' OR state = 'waiting' AND last_code NOT IN
	('} . join(q{', '}, map { $_->{code} } grep { $_->{verdict} =~ /_dead$/ } @cases) . q{')}) == 0 });

my %state_after = (sent => 'sent', retry => 'sent', message_bad => 'dead', destination_dead => 'waiting', credential_dead => 'waiting');
for my $case (@cases)
{
	my ($id, $verdict) = @$case{qw(id verdict)};

	is(attempt($id, 1), "$case->{status}|$case->{code}|$verdict", "$case->{name}: $verdict");
	is(field($node, 'one', $id, q{concat_ws('|', state, attempts, settled_at IS NOT NULL, lease_pid IS NULL)}),
		join('|', $state_after{$verdict}, $verdict eq 'retry' ? 2 : 1, $state_after{$verdict} eq 'waiting' ? 'f' : 't', 't'), "$case->{name}: the message");
	is(destination($case->{destination}), $verdict =~ /_dead$/ ? "f|$case->{code}" : 't|-', "$case->{name}: the destination");
	next unless $verdict eq 'retry';
	my ($delay, $late) = delay($id, 1);
	ok($delay > 0.7 && $delay < 1.5 + $late, "$case->{name}: again after a second") or diag($delay);
}
is(one(q{SELECT count(*) FROM stripe_sync.delivery WHERE started_at IS NULL OR finished_at < started_at OR duration IS DISTINCT FROM finished_at - started_at
	OR request_id IS NULL}), '0', 'each attempt has its times and the id that Slack gave the request');
my $once = $slack->texts;
is(join(',', grep { ($once->{ ($_->{method} eq 'chat.update' ? 'updated: ' : '') . $_->{text} } // 0) != ($state_after{ $_->{verdict} } eq 'sent') } @cases), '',
	'Slack has taken each that is sent once, and no other');
is(scalar(grep { $_->{updates} } map { @{ $slack->shows("#channel-$_->{n}") } } @updates), scalar(grep { $state_after{ $_->{verdict} } eq 'sent' } @updates), 'updates change the message that is there');

# ---- switched off ----

my @dead = grep { $_->{verdict} =~ /_dead$/ } @cases;
one('SELECT ' . join ', ', map { "stripe_sync.enable_destination('$_->{destination}')" } @dead);
ok(idle($node, 'one'), 'switched on again, what waited is sent');
$once = $slack->texts;
is(join(',', grep { ($once->{ ($_->{method} eq 'chat.update' ? 'updated: ' : '') . $_->{text} } // 0) != 1 } @dead), '', 'all of it, once');
is(one('SELECT string_agg(DISTINCT attempts::text, \',\') FROM stripe_sync.message WHERE id IN (' . join(', ', map { $_->{id} } @dead) . ')'), '2', 'with the second attempt');

add_webhook($node, 'one', $slack, 'watch', 900);
add_channel($node, 'one', 'frail', '#frail');
one(q{SELECT stripe_sync.set_fallback('frail', 'watch')});
$slack->channels('#frail' => 'is_archived');
my $log = -s $node->logfile;
my @frail = map { notify($node, 'one', 'frail', "frail $_") } 1 .. 5;
eventually('the fallback is told', sub { @{ $slack->shows(900) } });
like($slack->shows(900)->[0]{shown}, qr/frail.*is_archived.*\d messages? wait.*enable_destination\('frail'\)/s, 'which, why, how many wait, and what to do');
like(slurp_file($node->logfile, $log), qr/WARNING: .*destination "frail" was disabled: is_archived\n.*Messages that wait for it: \d.*\n.*HINT: .*enable_destination\('frail'\)/, 'and the log');
push @frail, notify($node, 'one', 'frail', 'frail 6');
one(q{SELECT stripe_sync.notify('watch', 'after frail')});
eventually('others are sent as ever', sub { $slack->texts->{'after frail'} });
is(field($node, 'one', $frail[5], q{state || attempts}), 'waiting0', 'what is queued for one that is off waits untried');
$slack->channels('#frail' => undef);
one(q{SELECT stripe_sync.enable_destination('frail')});
ok(idle($node, 'one'), 'and is sent when it is on');
is_deeply([ map { $slack->texts->{"frail $_"} } 1 .. 6 ], [ (1) x 6 ], 'every message, once');
is(scalar @{ $slack->shows(900) }, 2, 'the fallback is told once');

# What opens it is bad from the start.
one(q{SELECT stripe_sync.add_slack_channel('revoked', '#c', 'xoxb-revoked'), stripe_sync.add_slack_channel('nosecret', '#c', 'xoxb-0'), stripe_sync.add_slack_channel('file', '#c', 'file:/nonexistent/token')});
one(q{DELETE FROM stripe_sync.destination_secret WHERE destination = 'nosecret'});
my %reason = (revoked => qr/^f\|token_revoked$/, nosecret => qr/^f\|.*add_slack_channel/, file => qr/^f\|.*file/);
for my $name (sort keys %reason)
{
	my $id = notify($node, 'one', $name, "by $name");

	eventually("$name: it is switched off", sub { destination($name) =~ /^f/ });
	like(destination($name), $reason{$name}, "$name: and says why");
	is(field($node, 'one', $id, 'state'), 'waiting', "$name: the message waits");
}
add_channel($node, 'one', 'nosecret', '#c');
eventually('a new secret switches it on', sub { ($slack->texts->{'by nosecret'} // 0) == 1 });

# ---- a token, or a URL, that changes in its file ----

my $files = PostgreSQL::Test::Utils::tempdir();

# As those do who rotate: whole, at once, and as old as the writer pleases.
sub put_secret
{
	my ($name, $secret) = @_;

	PostgreSQL::Test::Utils::append_to_file("$files/$name.new", $secret);
	utime(0, 0, "$files/$name.new") or die $!;
	rename "$files/$name.new", "$files/$name" or die $!;
	return;
}

# What the worker does once a minute.
sub minute_passes { return one(q{CALL stripe_sync.work('1 second')}); }

sub refused { return one(qq{SELECT concat_ws('|', enabled, refused) FROM stripe_sync.destination WHERE name = '$_[0]'}); }

put_secret('token', 'xoxb-expired');
put_secret('url', $slack->webhook_url(950));
one("SELECT stripe_sync.add_slack_channel('rotating', '#rotating', 'file:$files/token'), stripe_sync.add_slack_webhook('rotating-hook', 'file:$files/url'),
	stripe_sync.add_slack_channel('by-hand', '#by-hand', 'file:$files/token'), stripe_sync.add_slack_channel('gone', '#gone', 'file:$files/missing'),
	stripe_sync.add_slack_channel('closed', '#closed', 'file:$files/url')");
$slack->fault({ code => 'no_service' }, times => 1, path => qr/B0*950\//);
my @rotating = map { notify($node, 'one', $_, "by $_") } 'rotating', 'rotating-hook', 'by-hand', 'gone';
eventually("$_: refused", sub { refused($_) eq 'f|t' }) for 'rotating', 'rotating-hook', 'by-hand', 'gone';
eventually('the view of workers says how many', sub { one(q{SELECT state LIKE 'sleeping: Slack refuses % destinations' FROM stripe_sync.worker WHERE database = 'one'}) eq 't' });
one(q{SELECT stripe_sync.disable_destination('by-hand', 'not now')});
is(refused('by-hand'), 'f|f', 'what a person switches off isn\'t refused');
minute_passes();
is(refused($_), 'f|t', "$_: off as long as the file is as it was") for 'rotating', 'rotating-hook', 'gone';
my $rotated = -s $node->logfile;
put_secret($_->[0], $_->[1]) for [ token => TOKEN ], [ url => $slack->webhook_url(951) ], [ missing => TOKEN ];
minute_passes();
eventually("by $_: sent when the file has changed", sub { ($slack->texts->{"by $_"} // 0) == 1 }) for 'rotating', 'rotating-hook', 'gone';
is(refused($_), 't|f', "$_: it is on") for 'rotating', 'rotating-hook', 'gone';
like(slurp_file($node->logfile, $rotated), qr/LOG: .*destination "rotating" was enabled: its file contains another token or URL/, 'the log says so');
is(refused('by-hand'), 'f|f', 'what a person has switched off stays off');
is(field($node, 'one', $rotating[2], 'state'), 'waiting', 'and its message waits');
is(one(q{SELECT string_agg(what || ' ' || by, ', ' ORDER BY id) FROM stripe_sync.journal WHERE ref = 'by-hand' AND what LIKE '%.o%'}),
	'destination.off worker, destination.off postgres', 'the journal knows who did it');
like(one(q{SELECT string_agg(what || coalesce(': ' || detail, ''), ', ' ORDER BY id) FROM stripe_sync.journal WHERE ref = 'rotating'}),
	qr/destination\.off: token_expired, destination\.on: its file contains another token or URL$/, 'and why, once it is over');
is(one(q{SELECT count(*) FROM stripe_sync.journal j WHERE j::text ~ 'xoxb|sEcReT'}), '0', 'but no secret');
# a file that was changed to another that is no good: off again, and told again
put_secret('token', 'xoxb-revoked');
notify($node, 'one', 'rotating', 'by rotating again');
eventually('a bad one is refused again', sub { destination('rotating') eq 'f|token_revoked' });
put_secret('token', 'xoxb-inactive');
minute_passes();
eventually('and the next', sub { destination('rotating') eq 'f|account_inactive' });
put_secret('token', TOKEN);
minute_passes();
eventually('until it is good', sub { ($slack->texts->{'by rotating again'} // 0) == 1 });
one(q{SELECT stripe_sync.drop_destination('by-hand')});

# ---- test_destination ----

sub test_destination
{
	my ($name) = @_;
	my $id = one("SELECT stripe_sync.test_destination('$name')");

	eventually("a test of $name ends", sub { attempts($id) });
	return $id;
}

add_channel($node, 'one', 'tested', '#tested');
my $before = @{ $slack->requests };
my $id = test_destination('tested');
is(field($node, 'one', $id, 'state'), 'sent', 'a test is a message');
is_deeply([ map { $_->{path} } @{ $slack->requests }[ $before .. $before + 1 ] ], [ '/api/auth.test', '/api/chat.postMessage' ], 'for which a token is checked first');
like($slack->shows('#tested')->[0]{text}, qr/test.*tested/, 'it says what it is');
for my $verdict (sort keys %api)
{
	for my $code (@{ $api{$verdict} })
	{
		next if $code eq 'ok';
		$slack->fault({ api_error => $code }, times => 1, path => qr/auth\.test$/);
		$id = test_destination('tested');
		is(attempt($id, 1), "200|$code|$verdict", "auth.test: $code: $verdict");
		is(destination('tested'), $verdict =~ /_dead$/ ? "f|$code" : 't|-', "auth.test: $code: the destination");
		# or it would be tried again, and meet the next answer; it may be by now
		eventually("auth.test: $code: it is over", sub {
			one("SELECT stripe_sync.cancel_message(id) FROM (SELECT id FROM stripe_sync.message WHERE id = $id AND state = 'waiting' FOR UPDATE) m");
			field($node, 'one', $id, 'state') =~ /^(?:sent|dead|cancelled)$/;
		});
		one(q{SELECT stripe_sync.enable_destination('tested')}) if $verdict =~ /_dead$/;
	}
}
eventually('those that wait are sent', sub { one(q{SELECT count(*) FROM stripe_sync.message WHERE destination = 'tested' AND state = 'waiting'}) == 0 });
$id = test_destination('watch');
is(field($node, 'one', $id, 'state'), 'sent', 'a webhook is tested by a message alone');

# ---- check_destination ----

# What psql shows of it.
sub checked
{
	my ($name, $more) = @_;
	my (undef, undef, $said) = $node->psql('one', "\\set VERBOSITY verbose\nCALL stripe_sync.check_destination('$name'" . ($more // '') . ')');

	return $said;
}

like(checked('tested'), qr/^psql:.*NOTICE: .*destination "tested" works: Slack accepted the test after \d/m, 'a destination that works is said to work');
my %advice = (invalid_auth => qr/install the app/, not_in_channel => qr{/invite}, missing_scope => qr/chat:write/, channel_not_found => qr/C0123456789/);
for my $code (sort keys %advice)
{
	$slack->fault({ api_error => $code }, times => 1, path => qr/auth\.test$/);
	like(checked('tested'), qr/ERROR: +38000: Slack rejected the test of destination "tested": $code\n.*HINT: .*$advice{$code}/s, "Slack's $code is told, with what to do");
	like(checked('tested'), qr/ERROR: +55000: destination "tested" is disabled: $code\n.*HINT: .*enable_destination/s, 'as is that it is off by then');
	one(q{SELECT stripe_sync.cancel_message(id) FROM stripe_sync.message WHERE destination = 'tested' AND state = 'waiting'; SELECT stripe_sync.enable_destination('tested')});
}
$slack->fault({ api_error => 'internal_error' }, times => 1, path => qr/auth\.test$/);
like(checked('tested', q{, '300 ms'}), qr/ERROR: +57014: Slack has not accepted the test of destination "tested" yet: internal_error\n/, 'what is tried again is told when the time is over');
like(checked('tested'), qr/works/, 'or it is waited for');
one(q{SELECT stripe_sync.pause('slack')});
like(checked('tested'), qr/ERROR: +55000: messages to Slack are paused\n.*HINT: +SELECT stripe_sync.resume\('slack'\);/s, 'what is paused is not waited for');
one(q{SELECT stripe_sync.resume('slack')});
like(checked('nowhere'), qr/SY005/, 'there is no such destination');
(undef, undef, my $said) = $node->psql('one', "\\set VERBOSITY verbose\nBEGIN; CALL stripe_sync.check_destination('tested')");
like($said, qr/2D000.*transaction block.*HINT/s, 'not in a transaction block');
eventually('what was tested is sent', sub { one(q{SELECT count(*) FROM stripe_sync.message WHERE destination = 'tested' AND state = 'waiting'}) == 0 });

# ---- when it is tried again ----

# Messages with so many attempts behind them, all due now.
sub with_attempts
{
	my ($destination, @numbers) = @_;
	my @made = split /\n/, one(q{INSERT INTO stripe_sync.message (destination, method, payload, attempts, due_at) VALUES } . join(', ',
		map { "('$destination', 'post', '{\"text\": \"after $_\"}', $_ - 1, clock_timestamp())" } @numbers) . ' RETURNING id');

	wake();
	return @made;
}

sub wait_for_attempt { my ($id, $number) = @_; return eventually("attempt $number", sub { attempt($id, $number) ne '' }); }

add_webhook($node, 'one', $slack, 'ill', 901);
$slack->fault({ status => 503 }, path => qr/B0*901\//);
my @numbers = (2, 3, 6, 10, 15, 16, 19, (12) x 12);
@ids = with_attempts('ill', @numbers, 20);
my $last = pop @ids;
my %jitter;
for my $i (0 .. $#ids)
{
	my $full = 2**($numbers[$i] - 1);

	$full = 6 * 3600 if $full > 6 * 3600;
	wait_for_attempt($ids[$i], $numbers[$i]);
	my ($delay, $late) = delay($ids[$i], $numbers[$i]);
	ok($delay > 0.79 * $full - 0.1 && $delay < 1.01 * $full + 0.5 + $late, "after attempt $numbers[$i] it is due again in some $full seconds") or diag($delay);
	$jitter{ int $delay }++ if $numbers[$i] == 12;
}
cmp_ok(scalar keys %jitter, '>', 3, 'not all at the same moment');
wait_for_attempt($last, 20);
is(field($node, 'one', $last, q{state || '|' || last_code || '|' || (settled_at IS NOT NULL)}), 'dead|http_503|true', 'with its attempts used up it is dead');
is(destination('ill'), 't|-', 'the destination is not');
$slack->clear_faults;
# what is called off isn't due for minutes
one("SELECT stripe_sync.retry_message($last), stripe_sync.cancel_message($ids[3])");
eventually('retry_message sends it again', sub { field($node, 'one', $last, 'state') eq 'sent' });
is(field($node, 'one', $last, 'attempts'), '1', 'its attempts counted anew');
is(field($node, 'one', $ids[3], q{state || '|' || (settled_at IS NOT NULL)}), 'cancelled|true', 'cancel_message calls one off');
one("SELECT stripe_sync.retry_message($ids[3]), stripe_sync.retry_message($ids[5])");
eventually('retry_message sends one that was cancelled, or that waits', sub { field($node, 'one', $ids[3], 'state') . field($node, 'one', $ids[5], 'state') eq 'sentsent' });
is(field($node, 'one', $ids[5], 'attempts'), '17', 'one that waits goes on counting');

# ---- Retry-After ----

# Seconds from the end of an attempt on, for a destination.
sub blocked
{
	my ($destination, $id, $number) = @_;

	return one(qq{SELECT round(extract(epoch FROM p.blocked_until - d.finished_at)) FROM stripe_sync.destination_pace p, stripe_sync.delivery d
		WHERE p.destination = '$destination' AND d.message_id = $id AND d.attempt = $number});
}

my %asks = (
	'a webhook'     => [ 'webhook', { status => 429, headers => { 'Retry-After' => '120' } }, 120 ],
	'a bot'         => [ 'channel', { status => 429, headers => { 'Retry-After' => '90' } }, 90 ],
	'200 and JSON'  => [ 'channel', { api_error => 'ratelimited', headers => { 'Retry-After' => '300' } }, 300 ],
	'a server error' => [ 'webhook', { status => 503, headers => { 'Retry-After' => '60' } }, 60 ],
	'a date'        => [ 'webhook', { status => 429, body => 'rate_limited', headers => { 'Retry-After' => 'Fri, 01 Jan 2100 00:00:00 GMT' } }, 86400 ],
	'no number'     => [ 'webhook', { status => 429, body => 'rate_limited', headers => { 'Retry-After' => 'soon' } }, 1 ],
	'nothing'       => [ 'webhook', { status => 429 }, 1 ]);
my $n = 910;
for my $who (sort keys %asks)
{
	my ($kind, $fault, $seconds) = @{ $asks{$who} };
	my $name = 'asks-' . ++$n;

	$kind eq 'webhook' ? add_webhook($node, 'one', $slack, $name, $n) : add_channel($node, 'one', $name, "#$name");
	$slack->fault($fault, times => 1, text => qr/^$name first/);
	my $first = notify($node, 'one', $name, "$name first");
	wait_for_attempt($first, 1);
	if ($seconds < 10)
	{
		eventually("$who: it is tried again soon", sub { field($node, 'one', $first, 'state') eq 'sent' });
		next;
	}
	my ($delay, $late) = delay($first, 1);
	ok(abs($delay - $seconds) < 2 + $late, "$who asks for $seconds seconds, and has them") or diag($delay);
	ok(abs(blocked($name, $first, 1) - $seconds) < 5 + $late, "$who: for the whole destination");
	my $second = notify($node, 'one', $name, "$name second");
	one("SELECT stripe_sync.notify('watch', 'beside $name')");
	eventually("$who: others are not held up", sub { $slack->texts->{"beside $name"} });
	is(field($node, 'one', $second, q{state || attempts}), 'waiting0', "$who: what comes meanwhile waits");
	one("SELECT stripe_sync.enable_destination('$name')");
	eventually("$who: unless somebody knows better", sub { field($node, 'one', $second, 'state') eq 'sent' });
}

add_webhook($node, 'one', $slack, 'brief', 930);
$slack->fault({ status => 429, headers => { 'Retry-After' => '2' } }, times => 1, path => qr/B0*930\//);
$id = notify($node, 'one', 'brief', 'brief');
eventually('after the two seconds it is sent by itself', sub { field($node, 'one', $id, 'state') eq 'sent' });
my @times = map { $_->{at} } grep { $_->{path} =~ /B0*930\// } @{ $slack->requests };
cmp_ok($times[1] - $times[0], '>=', 1.99, 'and not earlier');
# whoever had to look for it would come a minute later
cmp_ok($times[1] - $times[0], '<', 20, 'nor much later');

# Slack may say "in a moment" for hours: no message dies of that.
add_webhook($node, 'one', $slack, 'busy', 931);
$slack->fault({ status => 429, headers => { 'Retry-After' => '0' } }, path => qr/B0*931\//);
($id) = with_attempts('busy', 12);
wait_for_attempt($id, 12);
my ($delay, $late) = delay($id, 12);
cmp_ok($delay, '>', 1000, 'asked to come again at once, the backoff holds');
cmp_ok(blocked('busy', $id, 12) || 0, '<', 2 + $late, 'for that message, not for the destination');

# ---- what is kept of an answer ----

add_webhook($node, 'one', $slack, 'talks', 940);
sub answered
{
	my ($body) = @_;

	$slack->fault({ status => 400, body => $body }, times => 1, path => qr/B0*940\//);
	my $message = notify($node, 'one', 'talks', 'talk');
	eventually('it is answered', sub { attempts($message) });
	return one("SELECT response FROM stripe_sync.delivery WHERE message_id = $message");
}

is(answered('no_text'), 'no_text', 'the answer is kept as it came');
is(length answered('x' x 5000), 2048, 'its first 2 KB');
is(one(q{SELECT octet_length(response) <= 2048 AND response ~ '^é+$' FROM stripe_sync.delivery ORDER BY id DESC LIMIT 1}), 't', 'no character is cut in two') if answered("\x{e9}" x 3000);
my $path = $slack->webhook_path(940);
unlike(answered("no such hook: $path, or " . $slack->webhook_url(940)), qr/sEcReT|B0*940/, 'what opens it is not repeated');
unlike(answered(('x' x 2030) . $path), qr/T0STUB/, 'not even the beginning of it');
add_channel($node, 'one', 'says', '#says');
$slack->fault({ status => 400, body => '{"token": "' . TOKEN . '"}' }, times => 1, path => qr/chat/);
$id = notify($node, 'one', 'says', 'says');
eventually('it is answered', sub { attempts($id) });
no_secret_in($node, 'one', 'after all this');
# but for what check_destination() said
my @wrong = grep { /ERROR|PANIC|TRAP|terminated by signal/ && !/answers\.pl ERROR:  (?:Slack|destination|messages to Slack|there is no destination|stripe_sync\.check)/ } split /\n/, slurp_file($node->logfile);
is(join("\n", @wrong), '', 'and nothing went wrong');

$node->stop;
done_testing();
