# reconcile.pl
#		What never arrived by webhook is found in Stripe's own list of events,
#		and brought in once; what should have come is told of.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use StripeBack;
use StripeStub;
use StripeSync;

use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $missing = StripeStub->missing;
plan skip_all => $missing if $missing;
seed();

my $stripe = StripeStub->start;
my $node = make_reader('reconcile', $stripe, no_key => 1);
my $now = int time;

sub reconciled
{
	my ($what, %expect) = @_;
	my $since = delete $expect{since};

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return over(shop('SELECT stripe_sync.reconcile(' . (defined $since ? literal($since) : '') . ')'), $what, %expect);
}

# ---- without a key ----

refused('SELECT stripe_sync.reconcile()', qr/55000.*no key.*HINT: .*set_api_key/s, 'without a key it says what to do');
for my $wrong ('pk_test_123', 'whsec_123', '', "rk_test_\n123", 'file:relative')
{
	refused('SELECT stripe_sync.set_api_key(' . literal($wrong) . ')', qr/22023.*HINT/s, 'no key: ' . ($wrong =~ s/\n/\\n/r));
}
refused("SELECT stripe_sync.set_api_key('rk_test_1', 'cus_1')", qr/22023.*acct_/s, 'no account');
shop('SELECT stripe_sync.set_api_key(' . literal(KEY) . ')');
refused('SELECT stripe_sync.reconcile(NULL)', qr/22004.*HINT/s, 'no time');
refused(q{SELECT stripe_sync.reconcile('-1 day')}, qr/22023/, 'a time to come');

# ---- two thousand events, of which a third came ----

shop(q{
	CREATE TABLE test.handled (id text, at timestamptz DEFAULT clock_timestamp());
	CREATE FUNCTION test.note(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO test.handled VALUES (event->>'id') $$;
	SELECT stripe_sync.add_handler('note', '*', 'test.note');
});
my @customers = @{ $stripe->fill('customer', 200, seed => 1, since => $now - 80_000, until => $now - 70_000, events => TRUE)->{ids} };
my @changes = map { { id => $customers[ rand @customers ], set => { name => "Name $_", balance => $_ }, at => $now - 60_000 + $_ * 20 } } 1 .. 1800;
$stripe->change_many([ splice @changes, 0, 100 ]) while @changes;
my @events = $stripe->pending(limit => 5000);
is(scalar @events, 2000, 'two thousand events have happened');
# the first and the last come by no webhook, so that the gap's ends are known
my %ends = map { $_->{id} => 1 } (sort { $a->{created} <=> $b->{created} || $a->{id} cmp $b->{id} } @events)[ 0, -1 ];
my @came = grep { chance(0.3) && !$ends{ $_->{id} } } shuffle @events;
my $third = int(@came / 3);
my $amid = literals(map { $_->{id} } @came[ $third .. 2 * $third - 1 ]);

deliver(@came[ 0 .. $third - 1 ]);
my $job = shop(q{SELECT stripe_sync.reconcile()});
deliver(@came[ $third .. 2 * $third - 1 ]);
my $row = over($job, 'a run reads them all', state => 'done', objects => 2000, progress => 1, error => undef);
deliver(@came[ 2 * $third .. $#came ]);
ok(is_applied(), 'and all are applied');
is(shop('SELECT count(*), count(DISTINCT id) FROM stripe_sync.event'), '2000|2000', 'the inbox has every event once');
is(shop('SELECT count(*), count(DISTINCT id) FROM test.handled'), '2000|2000', 'handlers ran once each');
is(scalar(keys %{ $stripe->state(type => 'customer')->{customer} }), 200, 'Stripe has two hundred customers');
is(mirror_differs('customer', 'customers'), 0, 'the mirror equals them');
my $from_list = shop(q{SELECT count(*) FROM stripe_sync.event WHERE source = 'reconcile'});
cmp_ok($from_list, '>', 1000, 'many were missing');
is($row->{missing}, $from_list, 'the job says how many were missing');
# what it had stored and a webhook brought before its end was not left to it
my $brought = shop("SELECT count(*) FROM stripe_sync.event WHERE source = 'reconcile' AND id IN ($amid)");
cmp_ok($row->{repaired}, '<=', $from_list, 'and repaired');
cmp_ok($row->{repaired}, '>=', $from_list - $brought, 'but for what came meanwhile');
is(shop(q{SELECT string_agg(DISTINCT coalesce(endpoint, '-'), ',') FROM stripe_sync.event WHERE source = 'reconcile'}), 'default', 'the only endpoint is theirs');
is(shop(qq{SELECT bool_and(at >= before) FROM (SELECT h.at, lag(h.at) OVER (ORDER BY e.created, e.id COLLATE "C") AS before
	FROM test.handled h JOIN stripe_sync.event e USING (id) WHERE e.source = 'reconcile' AND e.id NOT IN ($amid)) o}), 't', 'what was missing was handled from the oldest up');
is(shop("SELECT gap_first || ' ' || gap_last FROM stripe_sync.job WHERE id = $job"),
	shop(q{SELECT (array_agg(id ORDER BY created, id COLLATE "C"))[1] || ' ' || (array_agg(id ORDER BY created DESC, id COLLATE "C" DESC))[1] FROM stripe_sync.event WHERE source = 'reconcile'}),
	'and the first and the last of them');
is(shop("SELECT gap_first_at = min(created) AND gap_last_at = max(created) FROM stripe_sync.job, stripe_sync.event WHERE job.id = $job AND source = 'reconcile' GROUP BY gap_first_at, gap_last_at"), 't', 'with their times');
is(shop(q{SELECT string_agg(type, ' ' ORDER BY type) FROM stripe_sync.webhook_type}), 'customer.created customer.updated', 'what comes by webhook is known by now');

# ---- again ----

sub scans
{
	my $before = -1;
	my $count = 0;

	# what processes have counted is added up when they are idle
	$node->poll_query_until('shop', q{SELECT state = 'sleeping' FROM stripe_sync.worker WHERE database = 'shop'});
	while ($count != $before)
	{
		$before = $count;
		select undef, undef, undef, 0.3;
		$count = shop(q{SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'event_pkey'});
	}
	return $count;
}

my $scans = scans();
reconciled('nothing is missing', state => 'done', objects => 2000, missing => 0, repaired => 0, error => undef, gap_first => undef);
$scans = scans() - $scans;
cmp_ok($scans, '>=', 2000, 'every event is looked for');
cmp_ok($scans, '<=', 2010, 'by one probe of the index');
is(shop('SELECT count(*) FROM test.handled'), '2000', 'and nothing is done twice');
is(shop(q{SELECT at BETWEEN started_at - interval '6 minutes' AND started_at - interval '4 minutes' FROM stripe_sync.watermark, stripe_sync.job ORDER BY id DESC LIMIT 1}), 't', 'the watermark is five minutes old');
my $young = $stripe->change($customers[0], { name => 'Too young' }, at => int(time) - 60);
reconciled('an event of a minute ago', missing => 0);
# or it would be old enough by and by
deliver($young);
$stripe->change($customers[0], { name => 'Old enough' }, at => int(time) - 400);
reconciled('and one that is old enough', missing => 1);
is_applied();

# ---- who reads ----

my @requests = grep { $_->{path} =~ m{^/v1/events} } @{ $stripe->requests };
my $version = shop('SELECT stripe_sync.catalog_api_version()');
is(scalar(grep { ($_->{headers}{'stripe-version'} // '') ne $version } @requests), 0, 'every request pins the version');
is(shop(q{SELECT count(*) > 0 AND bool_and(request_id LIKE 'req%' AND status = 200 AND path LIKE '/v1/events?%') FROM stripe_sync.api_call}), 't', 'and is logged with its id');

# ---- what should have come ----

sub told
{
	return shop(q{SELECT count(*) || ' ' || coalesce(sum((payload->>'text' ~ 'never arrived')::int), 0) FROM stripe_sync.message});
}

# whom a message goes to doesn't matter here
shop(q{SELECT stripe_sync.pause('slack'); SELECT stripe_sync.add_slack_webhook('ops', 'https://hooks.slack.com/services/T0/B0/tOkEn');
	SELECT stripe_sync.add_alert('missing', 'system.reconcile_missing', 'ops', '{{missing}} never arrived, from {{first}} to {{last}}', coalesce_for => '0')});
my @products = $stripe->add_objects([ map { { object => 'product', name => "P $_", created => $now - 3000 + $_ } } 1 .. 3 ], events => TRUE);
reconciled('a type that never came by webhook', missing => 3, repaired => 3, gap_first => undef);
is_applied();
is(shop('SELECT count(*) FROM stripe.products'), 3, 'is stored and applied');
is(told(), '0 0', 'without an alert');
my ($first, $last) = map { $stripe->change($customers[2], { name => "Gap $_" }, at => $now - 2000 + $_)->{id} } 1, 2;
reconciled('one that does', missing => 2, gap_first => $first, gap_last => $last);
is(told(), '1 1', 'is told of');
is(shop(q{SELECT payload->>'text' FROM stripe_sync.message}) =~ /2 never arrived, from $first to $last/ ? 1 : 0, 1, 'with the first and the last');
reconciled('nothing more', missing => 0);
is(told(), '1 1', 'is told once');
deliver(grep { $_->{type} eq 'product.created' } $stripe->pending);
shop(q{DELETE FROM stripe_sync.webhook_type; DELETE FROM stripe_sync.event WHERE type = 'customer.updated' AND source = 'reconcile' AND created > now() - interval '55 minutes'});
reconciled('what was learned is forgotten', since => '1 hour', state => 'done');
is(told(), '2 2', 'it is learned again from the inbox');

shop(q{INSERT INTO stripe_sync.watched_endpoint (id, endpoint, enabled_events) VALUES ('we_1', 'default', '{coupon.created}'), ('we_2', NULL, '{plan.created}')});
$stripe->add_objects([ { object => 'coupon', id => 'C1', created => $now - 3000 } ], events => TRUE);
$stripe->add_objects([ { object => 'plan', id => 'P1', created => $now - 3000 } ], events => TRUE);
like(reconciled('types that endpoints subscribe to', missing => 2)->{gap_first}, qr/^evt_/, 'ours should have sent its one');
is(shop(q{SELECT string_agg(type, ' ') FROM stripe_sync.job JOIN stripe_sync.event e ON e.id IN (gap_first, gap_last) WHERE job.id = (SELECT max(id) FROM stripe_sync.job)}), 'coupon.created', 'and somebody else\'s nothing');
is(told(), '3 3', 'which is told of');
is_applied();
shop('DELETE FROM stripe_sync.watched_endpoint');

# ---- connected accounts ----

$stripe->accounts('acct_1', 'acct_2', 'acct_3');
for my $account ('acct_1', 'acct_2')
{
	my @made = $stripe->add_objects([ map { { object => 'customer', id => "cus_$account$_", created => $now - 3000 + $_ } } 1 .. 3 ], events => TRUE, account => $account);
}
my ($heard) = $stripe->pending(account => 'acct_1');
deliver({ %$heard, account => 'acct_1' });
reconciled('a connected account that events have come from', state => 'done', missing => 2, error => undef);
is_applied();
is(shop(q{SELECT string_agg(id || ' ' || _account, ',' ORDER BY id) FROM stripe.customers WHERE _account <> ''}),
	'cus_acct_11 acct_1,cus_acct_12 acct_1,cus_acct_13 acct_1', 'is read by its own list; one that is not known of is not');
is(shop(q{SELECT count(*) FROM stripe_sync.event WHERE account = 'acct_1' AND payload->>'account' IS DISTINCT FROM 'acct_1'}), 0, 'each event is in its account');
shop(q{SELECT stripe_sync.set_api_key('rk_test_of_2_sEcReT', 'acct_2')});
$stripe->keys('rk_test_of_2_sEcReT' => { account => 'acct_2' });
$stripe->clear_faults;
reconciled('one that has a key of its own', state => 'done', missing => 3, error => undef);
is(scalar(grep { ($_->{headers}{'stripe-account'} // '') eq 'acct_2' } @{ $stripe->requests }), 0, 'is read with it, and without a header');
is(shop(q{SELECT string_agg(account, ',' ORDER BY account) FROM stripe_sync.watermark}), ',acct_1,acct_2', 'each has a watermark');
is_applied();
deliver({ %{ clone($heard) }, id => 'evt_gone', account => 'acct_gone' });
my $gone = reconciled('one that is connected no more', state => 'done', missing => 0);
like($gone->{error}, qr/403/, 'is left out, and said');

# ---- whose endpoint ----

shop(q{SELECT stripe_sync.add_endpoint('live', 'whsec_l', livemode => true, account => 'live')});
$stripe->change($customers[3], { name => 'Two' }, at => $now - 1500);
reconciled('of two endpoints one has this account', missing => 1);
is(shop(q{SELECT endpoint FROM stripe_sync.event ORDER BY received_at DESC LIMIT 1}), 'default', 'the event is its');
shop(q{SELECT stripe_sync.add_endpoint('test', 'whsec_t', livemode => false)});
$stripe->change($customers[3], { name => 'Three' }, at => $now - 1400);
reconciled('of three two could be its', missing => 1);
is(shop(q{SELECT endpoint IS NULL FROM stripe_sync.event ORDER BY received_at DESC LIMIT 1}), 't', 'neither is');
is_applied();

# ---- what was refused, or stored and ignored, is brought in once that is right ----

sub come_to
{
	my ($endpoint, $event) = @_;
	my $payload = json_text($event);

	return shop('SELECT body FROM stripe_sync.webhook(' . literal($payload) . q{, jsonb_build_object('stripe-signature', } . literal(signature($payload)) . '), ' . literal($endpoint) . ')');
}

sub where_is { return shop(q{SELECT string_agg(account || ' ' || status, ',' ORDER BY account) FROM stripe_sync.event WHERE id = } . literal($_[0]) . q{ AND account IN ('first', 'given', 'renamed')}); }

$stripe->keys("rk_test_${_}_sEcReT" => {}) for 'first', 'given';
shop('SELECT ' . join ', ', map { 'stripe_sync.add_endpoint(' . literals($_->[0], SECRET) . ", $_->[1], NULL, " . literal($_->[0]) . ')' } [ 'first', 'NULL' ], [ 'given', 'true' ]);
like(come_to('first', { %{ event('evt_live', 'customer.created', 1, { id => 'cus_live', object => 'customer' }) }, livemode => TRUE }), qr/applied/, 'an endpoint keeps the mode of its first event');
my ($held, $refused) = map { $stripe->change($customers[4], { name => $_ }, at => $now - 1300 + 100 * ($_ eq 'Refused')) } 'Held', 'Refused';
$stripe->pending;
like(come_to('first', $held), qr/ignored/, 'of the other one is ignored');
is(where_is($held->{id}), 'first ignored', 'and stored');
like(come_to('given', $refused), qr/ignored/, 'an endpoint that was told its mode');
is(where_is($refused->{id}), '', 'stores nothing of the other');
refused(q{SELECT stripe_sync.set_api_key('rk_test_first_sEcReT', 'first')}, qr/22023.*test key.*takes live events.*HINT/s, 'a key of the other mode is refused');
shop(join '', map { "SET client_min_messages = warning; SELECT stripe_sync.add_endpoint('$_', @{[ literal SECRET ]}, livemode => false, tolerance => NULL), stripe_sync.set_api_key('rk_test_${_}_sEcReT', '$_');" } 'first', 'given');
reconciled('once the mode is right', since => '1 hour', state => 'done');
is_applied();
is(where_is($held->{id}), 'first stale,given stale', 'what was ignored is brought in by a run, and has its place before what was refused');
is(where_is($refused->{id}), 'first applied,given applied', 'and what was refused');
is(shop(qq{SELECT string_agg(_account || ' ' || name, ',' ORDER BY _account) FROM stripe.customers WHERE id = '$customers[4]' AND _account <> ''}), 'first Refused,given Refused', 'each account has a row of its own');
is(come_to('first', $held) =~ s/.*"status": "(\w+)".*/$1/sr, 'duplicate', 'by webhook it is a duplicate then');
reconciled('and nothing is missing any more', since => '1 hour', missing => 0);
shop(q{SELECT stripe_sync.move_account('given', 'renamed')});
reconciled('nor under another name', since => '1 hour', missing => 0);
is(shop(q{SELECT string_agg(account, ',' ORDER BY account) FROM stripe_sync.api_key WHERE account IN ('given', 'renamed')}), 'renamed', 'whose key has gone with it');

no_secret_in($node, 'shop', 'keys');
$node->stop;
done_testing();
