# backfill.pl
#		What there was before the first webhook comes into the mirror whole:
#		through faults and a kill -9, and beside live webhooks, which win.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use StripeStub;
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $missing = StripeStub->missing;
plan skip_all => $missing if $missing;
seed();

use constant KEY => 'rk_test_tap_0123456789_sEcReT';
use constant EACH => 4200;	# objects of each type: twelve make 50,000
my @types = qw(product price coupon customer payment_method subscription invoice payment_intent charge refund dispute payout);
my %path = (map({ $_ => "/v1/${_}s" } @types), payment_method => '/v1/payment_methods');
my %table = map { $_ => "stripe.${_}s" } @types;

my $stripe = StripeStub->start;
my $node = start_node('backfill', conf => PRELOAD . $stripe->conf . "stripe_sync.stripe_rate = 100\nstripe_sync.http_timeout = '5min'\nstripe_sync.reconcile_interval = 0\n");
make_database($node, 'shop');

sub shop { return $node->safe_psql('shop', $_[0]); }

sub deliver { return join '', map { 'SELECT status FROM stripe_sync.receive(' . literals($_, signature($_)) . ");\n" } @_; }

sub over
{
	my ($job, $what) = @_;

	ok($node->poll_query_until('shop', "SELECT state NOT IN ('waiting', 'running') FROM stripe_sync.job WHERE id = $job"), $what);
	return json_value(shop("SELECT row_to_json(j) FROM stripe_sync.job j WHERE id = $job"));
}

# How many objects of a type the mirror has otherwise than Stripe, or not.
sub differences
{
	my ($type) = @_;
	my $file = $node->basedir . "/$type.json";

	open my $out, '>:raw', $file or die "cannot write $file: $!";
	print $out $stripe->control_text("state?type=$type");
	close $out;
	my $differ = shop("SELECT count(*), min(coalesce(s.key, m.id)) FROM (SELECT key, value FROM jsonb_each(pg_read_file(" . literal($file) . ")::jsonb -> '$type')) s"
		  . " FULL JOIN (SELECT id, _data FROM $table{$type} WHERE _deleted_at IS NULL) m ON m.id = s.key WHERE s.value IS DISTINCT FROM m._data");
	my ($count, $first) = split /\|/, $differ;

	diag "$first at Stripe:\n" . $stripe->object_text($first) . "\nin the mirror:\n" . shop("SELECT row_to_json(t) FROM $table{$type} t WHERE id = " . literal($first)) if $count;
	return $count;
}

my $type_array = 'ARRAY[' . literals(@types) . ']';
my ($ret, $out, $err) = $node->psql('shop', '\set VERBOSITY verbose' . "\nSELECT stripe_sync.backfill()");
like($err, qr/55000.*no key.*HINT: .*set_api_key/s, 'without a key it says what to do');
shop('SELECT stripe_sync.set_api_key(' . literal(KEY) . ')');

# ---- fifty thousand objects, faults, a kill -9 ----

$stripe->fill($_, EACH, seed => 7, children => 2) for @types;
my %customer = map { $_ => 1 } @{ $stripe->ids(type => 'customer')->{customer} };
for my $number (0 .. $#types)
{
	my @where = (path => "^$path{ $types[$number] }\$", skip => 3 + 2 * $number);

	$stripe->fault({ status => 429, headers => { 'Retry-After' => '1' } }, @where, times => 1) if $number % 4 == 0;
	$stripe->fault({ status => 500 }, @where, times => 3) if $number % 4 == 1;
	$stripe->fault({ reset_before => TRUE }, @where, times => 2) if $number % 4 == 2;
	$stripe->fault({ reset_mid_answer => TRUE }, @where, times => 1) if $number % 4 == 2;
	$stripe->fault({ delay => 0.7 }, @where, times => 4) if $number % 4 == 3;
}
# it cannot be over before the kill: one list's end comes late
$stripe->fault({ delay => 20 }, path => "^$path{payout}\$", skip => 30, times => 1);
my $job = shop("SELECT stripe_sync.backfill($type_array)");
is(shop("SELECT stripe_sync.backfill($type_array)"), $job, 'the same that waits or runs is joined');
ok($node->poll_query_until('shop', "SELECT objects > 25000 AND state = 'running' FROM stripe_sync.job WHERE id = $job"), 'half-way');
is(shop("SELECT progress > 0 AND progress < 1 AND rate > 0 AND remaining IS NOT NULL FROM stripe_sync.job WHERE id = $job"), 't', 'it says how far it is, how fast, how long it takes');
kill_server($node);
$node->start;
my $row = over($job, 'after a kill -9 it goes on to its end');
is($row->{state}, 'done', 'and is done');
is($row->{error}, undef, 'nothing failed');
is($row->{progress}, 1, 'its progress is 1');
is(differences($_), 0, "all objects are there: $_") for @types;
my $pages = $stripe->pages;
my %twice;
for my $request (keys %$pages)
{
	my ($list) = $request =~ /\A([^?]+)/;
	$twice{$list} += $pages->{$request}{answered} - 1 if $pages->{$request}{answered} > 1;
}
is(scalar(grep { $_ > 1 } values %twice), 0, 'of each list one page at most was read twice') or diag explain \%twice;
ok(!grep({ $_ eq 'subscription' } %twice) && grep(m{^/v1/subscriptions\?status=all&}, keys %$pages), 'subscriptions of every status are asked for');
is(shop('SELECT count(*) FROM stripe_sync.api_call WHERE request_id IS NULL AND status IS NOT NULL'), '0', 'every answer is logged with its request id');

# ---- beside webhooks ----

my @ids = sort keys %customer;
my (@early, @late);
$stripe->change_many([ map { { id => $_, set => { name => "Quiet $_" }, quiet => TRUE } } @ids ]);
# events whose state the lists do not show: newer, whenever they come
for my $number (0 .. 999)
{
	my $object = clone($stripe->object($ids[$number]));
	$object->{name} = "By webhook $number";
	my $payload = $stripe->encode({ id => "evt_live_$number", object => 'event', type => 'customer.updated', created => int(time) + 600, livemode => FALSE, api_version => '2026-10-28.endive', pending_webhooks => 1, request => undef, data => { object => $object } });
	push @{ $number % 2 ? \@early : \@late }, $payload;
}
$stripe->fault({ delay => 0.2 }, path => '^/v1/customers$');
$job = shop(q{SELECT stripe_sync.backfill(ARRAY['customer'])});
shop(deliver(@early[ 0 .. 249 ]));
ok($node->poll_query_until('shop', "SELECT pages > 5 FROM stripe_sync.job WHERE id = $job"), 'pages come');
while (my @some = splice @early, 250, 50)
{
	shop(deliver(@some, splice @late, 0, 50));
}
$row = over($job, 'and come to an end');
shop(deliver(@late));
is($row->{state}, 'done', 'beside webhooks');
is(shop(q{SELECT count(*) FROM stripe.customers WHERE name LIKE 'By webhook %'}), '1000', "what a webhook has brought wins, whenever it came");
is(shop(q{SELECT count(*) FROM stripe.customers WHERE name LIKE 'Quiet %'}), EACH - 1000, 'and the list tells of all the others');
$stripe->clear_faults;

# ---- a page that is older than the webhook which comes before it is written ----

$stripe->fault({ delay => 2 }, path => '^/v1/products$', times => 1);
my @products = @{ $stripe->ids(type => 'product')->{product} };
$job = shop(q{SELECT stripe_sync.backfill(ARRAY['product'])});
shop(deliver($stripe->encode($stripe->change($products[0], { name => 'Changed meanwhile' }, at => int(time) + 1))));
over($job, 'the page comes');
is(shop("SELECT name FROM stripe.products WHERE id = " . literal($products[0])), 'Changed meanwhile', 'a change meanwhile is not undone by it');

# ---- what vanished ----

my @gone = @products[ 10 .. 12 ];
$stripe->remove($gone[0], quiet => TRUE);
$stripe->remove($gone[1], quiet => TRUE, gone => TRUE);
$stripe->fault({ status => 500 }, path => "^/v1/products/$gone[0]", times => 1);
$row = over(shop(q{SELECT stripe_sync.backfill(ARRAY['product'])}), 'objects vanish');
is($row->{state}, 'done', 'which holds nothing up');
is(shop('SELECT string_agg(id, chr(44) ORDER BY id) FROM stripe.products WHERE _deleted_at IS NOT NULL'), join(',', sort @gone[ 0, 1 ]), 'those that Stripe says are gone get a tombstone');
is($row->{repaired}, 2, 'and are counted');
is(differences('product'), 0, 'the others are as they were');

# ---- what is younger ----

my $since = shop(q{SELECT to_char(percentile_disc(0.9) WITHIN GROUP (ORDER BY created), 'YYYY-MM-DD"T"HH24:MI:SSOF') FROM stripe.charges});
my $younger = shop("SELECT count(*) FROM stripe.charges WHERE created >= '$since'");
$row = over(shop("SELECT stripe_sync.backfill(ARRAY['charge'], '$since')"), 'only what is younger');
is($row->{objects}, $younger, 'is read');
is($row->{repaired}, 0, 'and what is older does not count as vanished');
no_secret_in($node, 'shop', 'the key');
$node->stop;
done_testing();
