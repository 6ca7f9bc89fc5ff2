# blocks.pl
#		Newer kinds of blocks where Slack does not know them: sent again as sections,
#		once, remembered for the destination; and where it does: as they are.

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
my $node = start_node('blocks', conf => PRELOAD . $slack->conf . "stripe_sync.slack_rate = 0\nstripe_sync.http_timeout = '5min'\nstripe_sync.doctor_interval = 0\n");
make_database($node, 'shop');
shop(q{SET client_min_messages = warning; } . join ' ', map { "SELECT stripe_sync.add_slack_channel('$_', '#$_', '" . TOKEN . "');" } qw(new old strict ops));
add_webhook($node, 'shop', $slack, 'hook', 1);

sub shop { return $node->safe_psql('shop', $_[0]); }
sub blocks_of { return join ' ', map { $_->{type} } @{ $_[0]{blocks} }; }
sub is_plain { return shop("SELECT plain_blocks_at IS NOT NULL FROM stripe_sync.destination WHERE name = '$_[0]'"); }

# Attempts of a message as the log has them, and its state.
sub attempts
{
	my ($id) = @_;

	return shop(qq{SELECT string_agg(verdict || ' ' || code, ', ' ORDER BY attempt) || '; ' || (SELECT state FROM stripe_sync.message WHERE id = $id) FROM stripe_sync.delivery WHERE message_id = $id});
}

my $table = '{"type": "table", "rows": [[{"type": "raw_text", "text": "Customer"}, {"type": "raw_text", "text": "Owes"}], [{"type": "raw_text", "text": "Ada & Co"}, {"type": "raw_text", "text": "$5"}]]}';
my $unknown = qr/"type": "(?:table|data_table|data_visualization|markdown|card|carousel|container|alert)"/;

sub notify_table
{
	my ($destination, $text, @rest) = @_;

	return notify($node, 'shop', $destination, $text, "blocks => '[{\"type\": \"divider\"}, $table]'", @rest);
}

# Slack knows none of them at this destination, from now on.
sub refuse { my ($path, $fault) = @_; return $slack->fault($fault, path => $path, text => $unknown); }

# ---- where Slack takes them ----

my $id = notify_table('new', 'as it is');
state_of_message($node, 'shop', $id, 'sent', 'a table is sent');
is(attempts($id), 'sent ok; sent', 'at the first attempt');
is(blocks_of($slack->shows('#new')->[0]), 'divider table', 'as a table');
is(is_plain('new'), 'f', 'and nothing is remembered');

# all kinds of them, cut to their sizes, by rules of the stub's own
my $all = shop(q{SELECT json_agg(b) FROM (VALUES
	(jsonb_build_object('type', 'table', 'rows', (SELECT jsonb_agg((SELECT jsonb_agg(jsonb_build_object('type', 'raw_text', 'text', 'cell ' || c)) FROM generate_series(1, 25) c)) FROM generate_series(1, 150)))),
	(jsonb_build_object('type', 'data_table', 'caption', repeat('c', 300), 'rows', (SELECT jsonb_agg(jsonb_build_array(jsonb_build_object('type', 'raw_text', 'text', 'x'))) FROM generate_series(1, 150)))),
	(jsonb_build_object('type', 'data_visualization', 'title', repeat('t', 80), 'chart', jsonb_build_object('type', 'line', 'axis_config', jsonb_build_object('categories', (SELECT jsonb_agg(p || repeat('l', 30)) FROM generate_series(1, 30) p)),
		'series', (SELECT jsonb_agg(jsonb_build_object('name', s || repeat('n', 30), 'data', (SELECT jsonb_agg(jsonb_build_object('label', p || repeat('l', 30), 'value', -p)) FROM generate_series(1, 30) p))) FROM generate_series(1, 9) s)))),
	(jsonb_build_object('type', 'data_visualization', 'title', 'pie', 'chart', jsonb_build_object('type', 'pie', 'segments', (SELECT jsonb_agg(jsonb_build_object('label', s || repeat('n', 30), 'value', s)) FROM generate_series(1, 9) s)))),
	(jsonb_build_object('type', 'markdown', 'text', repeat('m', 20000))),
	(jsonb_build_object('type', 'card', 'title', jsonb_build_object('type', 'mrkdwn', 'text', repeat('t', 300)), 'body', jsonb_build_object('type', 'mrkdwn', 'text', repeat('t', 300)),
		'actions', (SELECT jsonb_agg(jsonb_build_object('type', 'button', 'action_id', 'a' || a, 'text', '{"type": "plain_text", "text": "b"}'::jsonb)) FROM generate_series(1, 9) a))),
	(jsonb_build_object('type', 'carousel', 'elements', (SELECT jsonb_agg('{"type": "card", "title": {"type": "mrkdwn", "text": "t"}}'::jsonb) FROM generate_series(1, 20)))),
	(jsonb_build_object('type', 'container', 'title', jsonb_build_object('type', 'plain_text', 'text', repeat('t', 300)), 'child_blocks', (SELECT jsonb_agg('{"type": "divider"}'::jsonb) FROM generate_series(1, 20)))),
	(jsonb_build_object('type', 'alert', 'text', jsonb_build_object('type', 'mrkdwn', 'text', repeat('t', 300))))) v (b)});
my @kinds = @{ decode_json($all) };
is(scalar @kinds, 9, 'all kinds, too large');
for my $kind (@kinds)
{
	my $name = $kind->{type} . ($kind->{title} && !ref $kind->{title} && $kind->{title} eq 'pie' ? ' (pie)' : '');

	$id = notify($node, 'shop', 'new', "too large: $name", 'blocks => ' . literals(json_text([$kind])));
	state_of_message($node, 'shop', $id, 'sent', "$name: cut to what Slack takes");
	is(attempts($id), 'sent ok; sent', 'at the first attempt');
	is((split / /, blocks_of($slack->shows('#new')->[-1]))[0], $kind->{type}, 'of its kind');
}
$id = notify($node, 'shop', 'new', 'all of them', 'blocks => ' . literals(json_text([ @kinds, @kinds ])));
state_of_message($node, 'shop', $id, 'sent', 'all in one message');
is(attempts($id), 'sent ok; sent', 'at the first attempt');

# ---- where it does not ----

refuse(qr/postMessage/, { api_error => 'invalid_blocks' });
refuse(qr/chat.update/, { api_error => 'invalid_blocks' });
refuse(qr/services/, { code => 'invalid_blocks' });
for my $destination (qw(old hook))
{
	my $place = $destination eq 'hook' ? 1 : "#$destination";

	$id = notify_table($destination, 'first');
	state_of_message($node, 'shop', $id, 'sent', "$destination: a table that Slack rejects is sent");
	is(attempts($id), 'message_bad invalid_blocks, sent ok; sent', 'again, once');
	is(blocks_of($slack->shows($place)->[0]), 'divider section', 'as a section');
	is($slack->shows($place)->[0]{shown}, "*Customer* · *Owes*\nAda & Co · \$5", 'with the same content');
	is(is_plain($destination), 't', 'which the destination remembers');
	$id = notify_table($destination, 'second');
	state_of_message($node, 'shop', $id, 'sent', 'the next');
	is(attempts($id), 'sent ok; sent', 'goes so at once');
	is(shop("SELECT payload #>> '{blocks,1,type}' FROM stripe_sync.message WHERE id = $id"), 'table', 'and keeps its blocks');
}
is(is_plain('new'), 'f', 'other destinations try for themselves');
like(slurp_file($node->logfile), qr/Slack rejects newer kinds of blocks at destination "old", which are sent as sections from now on/, 'the log says so');


# the destination is told to try again, or is added anew
shop(q{SELECT stripe_sync.enable_destination('old')});
is(is_plain('old'), 'f', 'enabled, it is tried again');
shop(q{SELECT stripe_sync.add_slack_webhook('hook', '} . $slack->webhook_url(1) . q{')});
is(is_plain('hook'), 't', 'added as it was, it stays');
shop(q{SELECT stripe_sync.add_slack_webhook('hook', '} . $slack->webhook_url(2) . q{')});
is(is_plain('hook'), 'f', 'added with a change, it is tried again');

# ---- an incident's message and its updates; the server is killed in between ----

shop(q{SELECT stripe_sync.add_alert('late', 'invoice.payment_failed', 'ops', '{{number}} failed', group_by => '$.data.object.id', closed_by => 'invoice.paid', coalesce_for => '0',
	blocks => '[{"type": "table", "rows": [[{"type": "raw_text", "text": "Invoice"}], [{"type": "raw_text", "text": "{{number}}"}]]}]')});

sub deliver
{
	my ($n, $type, $object) = @_;
	my $payload = json_text(event("evt_$n", $type, $n, $object));

	return shop('SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload)) . ')');
}

my %invoice = (id => 'in_1', object => 'invoice', number => 'IN-1', customer => 'cus_1', amount_due => 1200, currency => 'usd');
$slack->clear_faults;
deliver(1, 'invoice.payment_failed', { %invoice, status => 'open' });
ok(idle($node, 'shop'), 'a first message');
like(blocks_of($slack->shows('#ops')->[0]), qr/^table/, 'with its table');
refuse(qr/postMessage/, { api_error => 'invalid_blocks' });
$slack->fault($slack->hold, times => 1, path => qr/chat.update/);
refuse(qr/chat.update/, { api_error => 'invalid_blocks' });
deliver(2, 'invoice.paid', { %invoice, status => 'paid' });
ok($slack->wait_for(sub { grep { $_->{path} =~ /chat.update/ } @{ $slack->requests } }), 'its update is on the way');
kill_server($node);
$slack->release;
$node->start;
ok(idle($node, 'shop'), 'and is sent by the next server');
like(blocks_of($slack->shows('#ops')->[0]), qr/^section/, 'as a section');
like($slack->shows('#ops')->[0]{shown}, qr/^\*Invoice\*\nIN-1\n.*Resolved/s, 'with its content');
is(is_plain('ops'), 't', 'which is remembered');
is(shop(q{SELECT count(*) FILTER (WHERE code = 'invalid_blocks') FROM stripe_sync.delivery d JOIN stripe_sync.message m ON m.id = d.message_id WHERE m.method = 'update'}), 1, 'after one that was rejected');
like(shop(q{SELECT stripe_sync.trace_text('in_1')}), qr/refused.*invalid_blocks.*updated/s, 'the trace has both attempts');

# ---- the digest of quiet hours is a table, or lines ----

$slack->clear_faults;
shop(q{SELECT stripe_sync.drop_alert('late')});
for my $destination (qw(new ops))
{
	my ($n, $id) = $destination eq 'new' ? (10, 'in_10') : (20, 'in_20');

	refuse(qr/postMessage/, { api_error => 'invalid_blocks' }) if $destination eq 'ops';
	shop(qq{SELECT stripe_sync.add_alert('night_$destination', 'invoice.payment_failed', '$destination', '*{{number}}* failed, {{id | link:number}}', condition => '\$.data.object.number == "NIGHT-$n"',
		closed_by => 'invoice.paid', coalesce_for => '0'); SELECT stripe_sync.set_quiet_hours('$destination', 'mon-sun', NULL, NULL, 'UTC', 'none')});
	deliver($n, 'invoice.payment_failed', { %invoice, id => $id, number => "NIGHT-$n", status => 'open' });
	deliver($n + 1, 'invoice.payment_failed', { %invoice, id => "${id}_2", number => "NIGHT-$n", status => 'open' });
	deliver($n + 2, 'invoice.paid', { %invoice, id => $id, number => "NIGHT-$n", status => 'paid' });
	shop("SELECT stripe_sync.drop_quiet_hours('$destination')");
	my ($digest) = $slack->wait_for(sub { grep { $_->{shown} =~ /Quiet hours are over/ } @{ $slack->shows("#$destination") } });
	($digest) = grep { $_->{shown} =~ /Quiet hours are over/ } @{ $slack->shows("#$destination") };
	like($digest->{shown}, qr/2 alerts fired, 1 is over, 1 is still open/, "$destination: a digest");
	is((split / /, blocks_of($digest))[1], $destination eq 'new' ? 'table' : 'section', $destination eq 'new' ? 'with a table' : 'with lines');
	next if $destination eq 'new';
	like($digest->{blocks}[1]{text}{text}, qr/^ ?· \*Alert\* · \*Times\* · \*Since\* · \*Ended\*\n\*Still open\* · \[TEST\] \*NIGHT-20\* failed, <https:[^|]*\|NIGHT-20>.* · 1 · <!date\^.*\nOver · .*:white_check_mark: <!date/, 'of the same content, with its links');
}

# killed between the two attempts: the second goes out plain all the same
$slack->clear_faults;
refuse(qr/postMessage/, { api_error => 'invalid_blocks' });
$slack->fault($slack->hold, times => 1, path => qr/postMessage/, text => qr/"section"/);
$id = notify_table('strict', 'killed in between');
eventually('rejected, and sent again', sub { shop("SELECT attempts FROM stripe_sync.message WHERE id = $id") == 2 });
kill_server($node);
$slack->release;
$node->start;
state_of_message($node, 'shop', $id, 'sent', 'sent by the next server');
like(attempts($id), qr/^message_bad invalid_blocks, lost [a-z_]*, sent ok; sent$/, 'with two attempts that were logged before') or diag attempts($id);
is(blocks_of($slack->shows('#strict')->[-1]), 'divider section', 'as a section');
is(is_plain('strict'), 't', 'and remembered');

# ---- rejected for something else ----

shop(q{SELECT stripe_sync.enable_destination('strict')});
$slack->clear_faults;
$slack->fault({ api_error => 'invalid_blocks' }, text => qr/^bad anyway/);
$id = notify_table('strict', 'bad anyway');
state_of_message($node, 'shop', $id, 'dead', 'rejected as a section too');
is(attempts($id), 'message_bad invalid_blocks, message_bad invalid_blocks; dead', 'it is dead after the second');
is(is_plain('strict'), 'f', 'nothing is remembered: its newer blocks were not the cause');
$id = notify($node, 'shop', 'strict', 'bad anyway', q{blocks => '[{"type": "divider"}]'});
state_of_message($node, 'shop', $id, 'dead', 'one without them');
is(attempts($id), 'message_bad invalid_blocks; dead', 'is dead after the first, as ever');
$slack->fault({ api_error => 'msg_blocks_too_long' }, text => qr/^too long/);
$id = notify_table('strict', 'too long');
state_of_message($node, 'shop', $id, 'dead', 'another code');
is(attempts($id), 'message_bad msg_blocks_too_long; dead', 'is none of it');

# with no attempt left it is sent again all the same
$slack->clear_faults;
refuse(qr/postMessage/, { api_error => 'invalid_blocks' });
worker_setting($node, 'shop', 'stripe_sync.message_attempts', '1');
$id = notify_table('strict', 'the last attempt');
state_of_message($node, 'shop', $id, 'sent', 'at the last attempt');
is(attempts($id), 'message_bad invalid_blocks, sent ok; sent', 'there is one more for it');

done_testing;
