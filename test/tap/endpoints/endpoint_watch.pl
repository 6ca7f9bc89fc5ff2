# endpoint_watch.pl
#		The webhook endpoints that there are at Stripe are read now and then, and
#		what is wrong with ours is told, once, until it is well again.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use SlackStub;
use StripeStub;
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $missing = StripeStub->missing;
plan skip_all => $missing if $missing;

use constant KEY => 'sk_test_tap_0123456789_sEcReT';
use constant LIST => '^/v1/webhook_endpoints';

my $slack = SlackStub->start;
my $stripe = StripeStub->start(tls_dir => $slack->tls(''));
my $node = start_node('endpoint_watch', conf => $slack->conf . $stripe->conf
	. "stripe_sync.stripe_rate = 100\nstripe_sync.slack_rate = 0\nstripe_sync.reconcile_interval = '1h'\nstripe_sync.coalesce_burst = 1000\n");
make_sender($node, 'shop');
my $version = $node->safe_psql('shop', 'SELECT stripe_sync.catalog_api_version()');

sub shop { return $node->safe_psql('shop', $_[0]); }

sub reads { return grep { $_->{method} eq 'GET' && $_->{path} eq '/v1/webhook_endpoints' } @{ $stripe->requests }; }

# A reading now, in another second than what was told last (an event's time has
# no more than that, and readings are minutes apart); the job's row.
sub reading
{
	my ($what) = @_;
	my $before = shop('SELECT coalesce(max(id), 0) FROM stripe_sync.job_record');

	$node->poll_query_until('shop', q{SELECT coalesce(max(created) < date_trunc('second', clock_timestamp()), true) FROM stripe_sync.alerted});
	shop('UPDATE stripe_sync.endpoint_watch SET next_at = now()');
	shop('CALL stripe_sync.work()');
	my $row = json_value(shop(q{SELECT coalesce(json_agg(j), '[]') FROM stripe_sync.job j WHERE kind = 'watch_endpoints'}));
	ok(@$row == 1 && $row->[0]{id} > $before && $row->[0]{state} =~ /^(?:done|failed)$/, "$what: the list is read");
	return $row->[0];
}

# What is wrong, as "id trouble,trouble" each.
sub trouble { return shop(q{SELECT string_agg(id || ' ' || array_to_string(trouble, ','), '; ' ORDER BY id) FROM stripe_sync.watched_endpoint WHERE trouble <> '{}'}); }

sub messages { return @{ $slack->shows('#ops') }; }

# The messages that aren't resolved.
sub open_messages { return grep { $_->{shown} !~ /Resolved/ } messages(); }

# One trouble comes: told once, whatever is read again.
sub tells
{
	my ($what, $trouble, $pattern) = @_;
	my $before = messages();

	reading($what);
	is(trouble(), $trouble, "$what: it is seen");
	is(scalar(messages()) - $before, 1, "$what: it is told");
	like((messages())[-1]{shown}, $pattern, "$what: and what to do");
	my $requests = $slack->stats->{requests};
	reading($what);
	is($slack->stats->{requests}, $requests, "$what: once");
	return;
}

# All is well again.
sub recovers
{
	my ($what) = @_;

	reading($what);
	is(trouble(), '', "$what: it is seen");
	is(scalar(open_messages()), 0, "$what: all are resolved");
	return;
}

my $number = 0;

# An endpoint that somebody has made at Stripe; its id.
sub endpoint
{
	my (%fields) = @_;
	my ($id) = $stripe->add_objects([ { object => 'webhook_endpoint', id => sprintf('we_%04d', ++$number), url => "https://shop.example/$number",
		status => 'enabled', livemode => FALSE, api_version => $version, enabled_events => ['*'], %fields } ]);

	return $id;
}

sub change { my ($id, %fields) = @_; $stripe->change($id, \%fields, quiet => 1); return; }
sub remove { $stripe->remove($_, gone => 1, quiet => 1) for @_; return; }

# ---- when ----

is(shop('SELECT count(*) FROM stripe_sync.endpoint_watch'), '0', 'without a key nothing is to be read');
shop('SELECT stripe_sync.set_api_key(' . literal(KEY) . ')');
is(shop(q{SELECT next_at BETWEEN now() + '50 s' AND now() + '70 s' FROM stripe_sync.endpoint_watch}), 't', 'with one, soon');
add_channel($node, 'shop', 'ops', '#ops');
reading('no endpoint anywhere');
is(trouble(), '', 'no endpoint anywhere: none is expected');
is(shop(q{SELECT next_at BETWEEN now() + '59 min' AND now() + '61 min' AND read_at > now() - interval '1 min' AND error IS NULL FROM stripe_sync.endpoint_watch}), 't', 'then as often as events are reconciled');

# ---- nobody is told who didn't ask ----

shop('SET client_min_messages = warning; SELECT stripe_sync.add_endpoint(' . literals('default', SECRET) . ', false, NULL)');
reading('none at Stripe');
is(trouble(), ' none', 'none at Stripe: it is seen');
shop(q{SELECT count(*) FROM stripe_sync.add_default_alerts('ops')});
tells('none at Stripe', ' none', qr/:warning: .*Webhook endpoint at Stripe:\*? Stripe has 0, but none is enabled/);

# ---- one ----

my $one = endpoint();
recovers('one endpoint, and all is well');
change($one, status => 'disabled');
tells('disabled', "$one disabled", qr{https://shop\.example/1 \(\Q$one\E\) is disabled: Stripe sends no events to it\. Enable it in Stripe's dashboard});
change($one, status => 'enabled');
recovers('enabled again');
change($one, status => 'disabled');
tells('disabled once more', "$one disabled", qr/is disabled/);
change($one, status => 'enabled', api_version => '2020-08-27');
tells('another version', "$one version", qr/sends events of API version 2020-08-27, not \Q$version\E/);
is(scalar(open_messages()), 1, 'another version: the other trouble is resolved');
change($one, api_version => undef);
recovers('the version of the account, which nobody knows');
change($one, api_version => $version);

# ---- types ----

my $customer = json_text(event('evt_1', 'customer.created', 1, { id => 'cus_1', object => 'customer' }));
shop('SELECT stripe_sync.receive(' . literals($customer, signature($customer)) . ')');
my @defaults = split /\n/, shop(q{SELECT DISTINCT t FROM stripe_sync.alert, unnest(string_to_array(event_type || ',' || coalesce(closed_by, event_type), ',')) t WHERE t NOT LIKE 'system.%'});
my @customers = split /\n/, shop(q{SELECT unnest(event_types) FROM stripe_sync.object_type WHERE object_type = 'customer'});
change($one, enabled_events => [ @defaults, 'customer.created' ]);
tells('types are missing', "$one types", qr/is not subscribed to customer\.deleted, customer\.updated, which the mirror, a handler or an alert needs/);
is_deeply([ sort @{ json_value(shop(qq{SELECT to_json(missing_types) FROM stripe_sync.watched_endpoint WHERE id = '$one'})) } ], [ grep { $_ ne 'customer.created' } sort @customers ],
	'types are missing: those whose table has something in it');
shop(q{CREATE SCHEMA test; CREATE FUNCTION test.note(event jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
	SELECT stripe_sync.add_handler('topups', 'topup.failed', 'test.note'), stripe_sync.add_handler('all', '*', 'test.note')});
reading('a handler wants another');
is(shop(qq{SELECT 'topup.failed' = ANY (missing_types) AND cardinality(missing_types) = 3 FROM stripe_sync.watched_endpoint WHERE id = '$one'}), 't', 'a handler wants another: it is missing too');
is(shop(q{SELECT count FROM stripe_sync.incident WHERE state = 'open'}), '2', 'a handler wants another: it is told');
reading('a handler wants another, again');
is(shop(q{SELECT count FROM stripe_sync.incident WHERE state = 'open'}), '2', 'a handler wants another: once');
change($one, enabled_events => [ @defaults, @customers, 'topup.failed' ]);
recovers('all are subscribed to');

# ---- several that others made ----

my $two = endpoint(enabled_events => ['charge.failed']);
recovers('one of two would do');
change($one, status => 'disabled');
tells('none of two would do', ' none', qr/Stripe has 2, but none is enabled, of API version \Q$version\E and subscribed/);
change($two, enabled_events => ['*']);
recovers('the other does');
remove($one, $two);
tells('all are deleted', ' none', qr/Stripe has 0/);
is(shop(q{SELECT count(*) FROM stripe_sync.watched_endpoint WHERE id <> ''}), '0', 'all are deleted: and forgotten');

# ---- ours ----

my $made = json_value(shop(q{SELECT to_json(stripe_sync.create_webhook_endpoint('https://shop.example/ours'))}));
shop('CALL stripe_sync.work()');
is(shop("SELECT state FROM stripe_sync.job WHERE id = $made"), 'done', 'one is made here');
my $ours = shop("SELECT result ->> 'id' FROM stripe_sync.job WHERE id = $made");
my $name = shop("SELECT result ->> 'endpoint' FROM stripe_sync.job WHERE id = $made");
my @others = map { endpoint(status => 'disabled', enabled_events => ['charge.failed']) } 1 .. 250;
my $count = reads();
recovers('one of ours and many of others');
is(scalar(reads()) - $count, 3, 'in pages');
is(shop('SELECT count(*) FROM stripe_sync.watched_endpoint WHERE status IS NOT NULL'), '251', 'all of which are seen');
change($ours, status => 'disabled');
tells('ours is disabled', "$ours disabled", qr{shop\.example/ours.*disabled});
remove($ours);
tells('ours is deleted', "$ours gone", qr{shop\.example/ours \(\Q$ours\E\) was deleted at Stripe});
is(scalar(open_messages()), 1, 'ours is deleted: that it was disabled is resolved');
my $after = endpoint(url => 'https://shop.example/ours', enabled_events => ['charge.failed']);
reading('another at its URL');
is(trouble(), "$after types", 'another at its URL: is ours');
change($after, enabled_events => ['*']);
recovers('another at its URL, and all is well');
remove($after);
tells('it is deleted too', "$ours gone", qr/was deleted/);
shop('SELECT stripe_sync.drop_endpoint(' . literal($name) . ')');
endpoint();
recovers('its name is dropped');
remove(map { $_->{id} } values %{ $stripe->state(type => 'webhook_endpoint')->{webhook_endpoint} });
endpoint();
recovers('one again');

# ---- what goes wrong ----

sub fails
{
	my ($what, $fault, $pattern) = @_;

	$stripe->fault($fault, path => LIST);
	my $row = reading($what);
	is($row->{state}, 'failed', "$what: the job has failed");
	like($row->{error}, $pattern, "$what: and says why");
	is(trouble() . open_messages(), '0', "$what: nobody is told");
	$stripe->clear_faults;
	return;
}

fails('a list that does not end', { endless => 'same' }, qr/does not end/);
fails('empty pages without an end', { endless => 'empty' }, qr/does not end/);
fails('a malformed page', { malformed_json => TRUE }, qr/could not parse list page/);
fails('what is no endpoint', { first_object => { enabled_events => 'x' } }, qr/invalid webhook endpoint/);
fails('a key that is gone', { status => 401 }, qr/401/);
$stripe->fault({ status => 500 }, path => LIST, times => 2);
recovers('a 500');
$stripe->clear_faults;

$stripe->keys(KEY() => { deny => [LIST] });
$count = reads();
my $row = reading('a key that may not');
is($row->{state}, 'done', 'a key that may not: the job is done');
like($row->{error}, qr/403/, 'a key that may not: it says so');
is(shop(q{SELECT error LIKE '%403%' AND next_at > now() + '23 h' FROM stripe_sync.endpoint_watch}), 't', 'a key that may not: noted, and tried again tomorrow');
is(scalar(reads()) - $count, 1, 'a key that may not: asked once');
is(trouble() . open_messages(), '0', 'a key that may not: nobody is told');
$stripe->keys(KEY() => undef);
shop('SELECT stripe_sync.set_api_key(' . literal(KEY) . ')');
is(shop(q{SELECT next_at < now() + '70 s' FROM stripe_sync.endpoint_watch}), 't', 'a new key is tried soon');
recovers('a key that may');
is(shop(q{SELECT error IS NULL FROM stripe_sync.endpoint_watch}), 't', 'a key that may: nothing is wrong any more');
is(shop(q{SELECT count(*) FROM stripe_sync.job WHERE kind = 'watch_endpoints'}), '1', 'one job is left of all readings');

# ---- the other mode ----

my ($last) = values %{ $stripe->state(type => 'webhook_endpoint')->{webhook_endpoint} };
change($last->{id}, livemode => TRUE, status => 'disabled');
shop('SET client_min_messages = warning; SELECT stripe_sync.add_endpoint(' . literals('default', SECRET) . ', true, NULL)');
shop(q{SELECT stripe_sync.set_api_key('sk_live_tap_0123456789_sEcReT')});
reading('of the other mode');
is(trouble(), "$last->{id} disabled", 'of the other mode: it is the only one there');

no_secret_in($node, 'shop', 'what was read');
$node->stop;
done_testing();
