# webhook_endpoint.pl
#		A webhook endpoint is made at Stripe, once whatever happens on the way,
#		and its secret is kept and nowhere to be seen.

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

my $missing = StripeStub->missing;
plan skip_all => $missing if $missing;

use constant KEY => 'sk_test_tap_0123456789_sEcReT';
use constant READER => 'rk_test_tap_0123456789_sEcReT';
use constant LIVE => 'sk_live_tap_0123456789_sEcReT';
use constant PATH => '^/v1/webhook_endpoints';

my $stripe = StripeStub->start;
my $node = start_node('webhook_endpoint', conf => PRELOAD . $stripe->conf
	. "stripe_sync.stripe_rate = 100\nstripe_sync.http_timeout = '5min'\nstripe_sync.reconcile_interval = 0\n");
make_sender($node, 'shop');
my $version = $node->safe_psql('shop', 'SELECT stripe_sync.catalog_api_version()');

sub shop { return $node->safe_psql('shop', $_[0]); }

sub raises
{
	my ($sql, $pattern, $what) = @_;
	my ($ret, $out, $err) = $node->psql('shop', '\set VERBOSITY verbose' . "\n$sql");

	return like($err, $pattern, $what);
}

# A call's job.
sub create
{
	my ($url, $types) = @_;

	return shop('SELECT stripe_sync.create_webhook_endpoint(' . literal($url) . ($types ? ", $types" : '') . ')');
}

# Its row, when it is over.
sub over
{
	my ($job, $what) = @_;

	ok($node->poll_query_until('shop', "SELECT state NOT IN ('waiting', 'running') FROM stripe_sync.job WHERE id = $job"), "$what: it ends");
	return json_value(shop("SELECT row_to_json(j) FROM stripe_sync.job j WHERE id = $job"));
}

# What Stripe has at a URL.
sub at_stripe
{
	my ($url) = @_;

	return grep { $_->{url} eq $url } values %{ $stripe->state(type => 'webhook_endpoint')->{webhook_endpoint} // {} };
}

sub posts { return grep { $_->{method} eq 'POST' && $_->{path} eq '/v1/webhook_endpoints' } @{ $stripe->requests }; }

# The secret that is kept under a name: those who may see it are superusers.
sub kept { return shop('SELECT secret FROM stripe_sync.endpoint_secret WHERE endpoint = ' . literal($_[0])); }

# Put-off parts go on now.
sub hasten
{
	shop(q{UPDATE stripe_sync.job_part SET due_at = now() WHERE state = 'waiting'});
	$node->reload;
	return;
}

# ---- made ----

raises(q{SELECT stripe_sync.create_webhook_endpoint('https://shop.example/hook')}, qr/55000.*no key.*HINT: .*set_api_key/s, 'without a key it says what to do');
shop('SELECT stripe_sync.set_api_key(' . literal(KEY) . ')');
raises(q{SELECT stripe_sync.create_webhook_endpoint('http://shop.example/hook')}, qr/22023.*https/s, 'a URL that no endpoint can have is refused at once');
shop(q{SELECT stripe_sync.create_tables('{customer,invoice}')});

my $url = 'https://shop.example/stripe/webhook?shop=1&a=2+3';
my $job = create($url, q{'{customer.created,invoice.paid}'});
my $row = over($job, 'a new endpoint');
my ($made) = at_stripe($url);
is($row->{state}, 'done', 'a new endpoint is made');
is_deeply($row->{result}, { endpoint => 'default', id => $made->{id}, url => $url, livemode => FALSE }, 'the job says which, and its name here');
is_deeply([ @$made{qw(status api_version enabled_events)} ], [ 'enabled', $version, [ 'customer.created', 'invoice.paid' ] ], 'Stripe has it as it was asked for');
my ($post) = posts();
like($post->{body}, qr{^url=https%3A%2F%2Fshop%2Eexample%2Fstripe%2Fwebhook%3Fshop%3D1%26a%3D2%2B3&enabled_events\[\]=customer%2Ecreated&enabled_events\[\]=invoice%2Epaid&api_version=\Q@{[ $version =~ s/\./%2E/r ]}\E&description=stripe_sync%2C%20database%20shop$},
	'the request is the form that Stripe documents');
is($post->{headers}{'content-type'}, 'application/x-www-form-urlencoded', 'and says so');
like($post->{headers}{'idempotency-key'}, qr/^stripe_sync-[0-9a-f-]{36}$/, 'it has an idempotency key');
is($post->{headers}{'stripe-version'}, $version, 'and pins the version');
is(kept('default'), $stripe->secret_of($made->{id}), 'the secret is kept');
is(shop(q{SELECT livemode, tolerance FROM stripe_sync.endpoint WHERE name = 'default'}), 'f|00:05:00', 'of the mode that Stripe said');

# An event as Stripe would sign it; the status, or the error.
sub signed
{
	my ($id, $secret, $name) = @_;
	my $payload = json_text(event($id, 'customer.created', 1, { id => "cus_$id", object => 'customer' }));
	my ($ret, $out, $err) = $node->psql('shop', 'SELECT status FROM stripe_sync.receive(' . literals($payload, signature($payload, $secret, time)) . ($name ? ', ' . literal($name) : '') . ')');

	return $out || $err;
}

is(signed('evt_1', $stripe->secret_of($made->{id})), 'applied', 'an event that is signed with it is received');
like(signed('evt_2', 'whsec_other'), qr/ERROR/, 'and no other');

# ---- again ----

my ($ret, $out, $err) = $node->psql('shop', 'SELECT stripe_sync.create_webhook_endpoint(' . literal($url) . q{, '{invoice.paid,customer.created}')});
is($out, $job, 'a URL that one was made for answers the same job');
like($err, qr/NOTICE: .*already exists: we_\w+, stored as endpoint "default"/, 'and says so, with its name here');
(undef, undef, $err) = $node->psql('shop', "CALL stripe_sync.wait_job($job)");
like($err, qr/NOTICE: .*is stored as endpoint "default"$/m, 'who waits for the job is told the name');
raises('SELECT stripe_sync.create_webhook_endpoint(' . literal($url) . q{, '{charge.failed}')}, qr/42710.*HINT: .*dashboard/s, 'with other types it is refused');
is(scalar(posts()), 1, 'and Stripe was asked once');
my $second = 'https://shop.example/second';
($ret, my $next, $err) = $node->psql('shop', 'SELECT stripe_sync.create_webhook_endpoint(' . literal($second) . q{, '{*}')});
like($err, qr/NOTICE: .*named by its id \(we_\.\.\.\).*HINT: .*wait_job\($next\) shows the name/s, 'another URL: it is said that default is taken');
$row = over($next, 'another URL');
my ($other) = at_stripe($second);
(undef, undef, $err) = $node->psql('shop', "CALL stripe_sync.wait_job($next)");
like($err, qr/NOTICE: .*is stored as endpoint "$other->{id}"\nHINT: .*webhook\(payload, headers, '$other->{id}'\)/, 'another URL: who waits is told the name, and where to give it');
like(slurp_file($node->logfile), qr/LOG:  webhook endpoint $other->{id} was created at Stripe, its secret is stored as endpoint "$other->{id}"/, 'another URL: the log has it too');
is($row->{result}{endpoint}, $other->{id}, 'another URL: named by its id, as default is taken');
is(signed('evt_3', $stripe->secret_of($other->{id}), $other->{id}), 'applied', 'another URL: its events are received under that name');
is(signed('evt_4', $stripe->secret_of($made->{id})), 'applied', 'another URL: the first one keeps its secret');

# ---- which types, if nobody says ----

shop(q{CREATE SCHEMA test; CREATE FUNCTION test.note(event jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
	SELECT stripe_sync.add_handler('dispute', 'charge.dispute.*', 'test.note');
	SELECT stripe_sync.add_handler('authorize', 'issuing_authorization.request', 'test.note');});
over(create('https://shop.example/chosen'), 'types are chosen');
my ($chosen) = at_stripe('https://shop.example/chosen');
my %chosen = map { $_ => 1 } @{ $chosen->{enabled_events} };
is_deeply([ @chosen{qw(customer.updated invoice.paid charge.dispute.closed issuing_authorization.request)}, $chosen{'charge.failed'}, $chosen{'price.created'} ], [ 1, 1, 1, 1, undef, undef ],
	'those of the tables that there are, and of handlers');
shop(q{SELECT stripe_sync.drop_handler('authorize'); SELECT count(*) FROM stripe_sync.create_tables()});
over(create('https://shop.example/all'), 'a table for everything');
is_deeply([ map { $_->{enabled_events} } at_stripe('https://shop.example/all') ], [ ['*'] ], 'every type, later ones too');

# ---- what goes wrong on the way ----

# Made once, whatever was in between.
sub once
{
	my ($what, $fault, %rest) = @_;
	my $at = "https://shop.example/fault/" . ($what =~ s/\W+/-/gr);

	$stripe->fault($fault, method => 'POST', path => PATH, times => 2, %rest);
	my $ended = over(create($at, q{'{invoice.paid}'}), $what);
	my @there = at_stripe($at);
	is("$ended->{state} " . @there, 'done 1', "$what: one endpoint is made");
	is(kept($ended->{result}{endpoint}), $stripe->secret_of($there[0]{id}), "$what: with its secret");
	$stripe->clear_faults;
	return;
}

once('a reset', { reset_before => TRUE });
once('an answer that is lost', { reset_before => TRUE, deliver => TRUE });
once('an answer cut in the middle', { reset_mid_answer => TRUE, deliver => TRUE });
# A setting that the worker has, or will have before it does anything.
sub setting { return worker_setting($node, 'shop', @_); }

setting('stripe_sync.http_timeout', '4s');
once('a time-out', { never => TRUE, deliver => TRUE }, times => 1);
setting('stripe_sync.http_timeout', '5min');
once('a 500', { status => 500 });
once('a 500 after it was made', { status => 500, deliver => TRUE });
once('a 429', { status => 429, headers => { 'Retry-After' => '1' } });
once('a 409', { error => 'idempotency_key_in_use' });
my %keys;
$keys{ $_->{body} }{ $_->{headers}{'idempotency-key'} } = 1 for posts();
is(scalar(grep { keys %$_ > 1 } values %keys), 0, 'each is the same request with the same key on every attempt');

my $at = 'https://shop.example/spoilt';
$stripe->fault({ malformed_json => TRUE, deliver => TRUE }, method => 'POST', path => PATH, times => 1);
$job = create($at, q{'{invoice.paid}'});
ok($node->poll_query_until('shop', "SELECT error LIKE '%not a webhook endpoint with its secret%' FROM stripe_sync.job WHERE id = $job"), 'an answer that cannot be read: it is said');
hasten();
is(over($job, 'and asked for again')->{state} . at_stripe($at), 'done1', 'and once more it is one');

# ---- what is refused ----

$stripe->fault({ status => 500, headers => { 'Idempotent-Replayed' => 'true' } }, method => 'POST', path => PATH, times => 1);
like(over(create('https://shop.example/kept500', q{'{invoice.paid}'}), 'a 500 that Stripe keeps')->{error}, qr/500.*repeats this answer.*dashboard/, 'a 500 that Stripe keeps: the job says what to do');
$stripe->fault({ status => 400 }, method => 'POST', path => PATH, times => 1);
like(over(create('https://shop.example/bad', q{'{invoice.paid}'}), 'a 400')->{error}, qr/400.*unacceptable/, 'a 400: the job says why');
shop('SELECT stripe_sync.set_api_key(' . literal(READER) . ')');
$row = over(create('https://shop.example/reader', q{'{invoice.paid}'}), 'a key that may only read');
is("$row->{state} " . at_stripe('https://shop.example/reader'), 'failed 0', 'a key that may only read makes none');
like($row->{error}, qr/403.*must have permission to write webhook endpoints.*add_endpoint/, 'and what to do is said');
shop('SELECT stripe_sync.set_api_key(' . literal(KEY) . ')');

# ---- the other mode ----

raises('SELECT stripe_sync.set_api_key(' . literal(LIVE) . ')', qr/22023.*live key.*takes test events.*HINT/s, 'with a key of the other mode none is made here');

# ---- a crash ----

# While the answer is on its way; and while it is being written.
sub dies
{
	my ($what, $before, $reached) = @_;
	my $there = "https://shop.example/crash/" . ($what =~ s/\W+/-/gr);
	my $session = $node->background_psql('shop') if $node->can('background_psql');

	$before->($session);
	my $of = create($there, q{'{invoice.paid}'});
	ok($stripe->wait_for(sub { $reached->($there) }), "$what: so far");
	$node->stop('immediate');
	eval { $session->quit } if $session;
	$stripe->clear_faults;
	$node->start;
	my $ended = over($of, $what);
	my @all = at_stripe($there);
	is("$ended->{state} " . @all, 'done 1', "$what: one endpoint");
	is(kept($ended->{result}{endpoint}), $stripe->secret_of($all[0]{id}), "$what: and its secret is kept");
	return;
}

dies('the server dies before the answer has come', sub { $stripe->fault($stripe->hold, method => 'POST', path => PATH, times => 1) }, sub { return scalar at_stripe($_[0]); });
dies('the server dies before it is committed', sub { $_[0]->query_safe('BEGIN; LOCK TABLE stripe_sync.endpoint_secret') },
	sub { return shop(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'stripe_sync worker' AND wait_event_type = 'Lock'}); })
  if $node->can('background_psql');

# The worker alone goes: what is in the air is let go of.
$at = 'https://shop.example/leaves';
$stripe->fault($stripe->hold, method => 'POST', path => PATH, times => 1);
$job = create($at, q{'{invoice.paid}'});
ok($stripe->wait_for(sub { scalar at_stripe($at) }), 'the worker leaves with a request in the air: so far');
shop(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'stripe_sync worker'});
$row = over($job, 'the worker leaves with a request in the air');
is("$row->{state} " . at_stripe($at), 'done 1', 'the worker leaves with a request in the air: one endpoint');
is(kept($row->{result}{endpoint}), $stripe->secret_of($row->{result}{id}), 'the worker leaves with a request in the air: and its secret is kept');

# ---- called off ----

shop(q{SELECT stripe_sync.pause('stripe')});
$job = create('https://shop.example/off', q{'{invoice.paid}'});
is(create('https://shop.example/off'), $job, 'one that waits is joined');
shop("SELECT stripe_sync.cancel_job($job)");
shop(q{SELECT stripe_sync.resume('stripe')});
over(create('https://shop.example/after', q{'{invoice.paid}'}), 'the next');
is(scalar(at_stripe('https://shop.example/off')), 0, 'one that is called off in time is not made');
$stripe->fault($stripe->hold, method => 'POST', path => PATH, times => 1);
$job = create('https://shop.example/late', q{'{invoice.paid}'});
ok($stripe->wait_for(sub { at_stripe('https://shop.example/late') }), 'one that Stripe is making');
shop("SELECT stripe_sync.cancel_job($job)");
$stripe->release;
ok($node->poll_query_until('shop', "SELECT state = 'cancelled' AND result IS NOT NULL FROM stripe_sync.job WHERE id = $job"), 'called off too late it is kept all the same');
is(signed('evt_5', $stripe->secret_of($_), $_), 'applied', 'so that its events are received') for map { $_->{id} } at_stripe('https://shop.example/late');
$stripe->clear_faults;

shop(q{SELECT stripe_sync.pause('stripe')});
$job = create('https://shop.example/yesterday', q{'{invoice.paid}'});
shop("UPDATE stripe_sync.job_record SET started_at = now() - interval '1 day', state = 'running' WHERE id = $job");
shop(q{SELECT stripe_sync.resume('stripe')});
like(over($job, 'begun a day ago')->{error}, qr/not known whether Stripe created.*dashboard/, 'what was begun a day ago is not asked again: Stripe forgets the key');
is(scalar(at_stripe('https://shop.example/yesterday')), 0, 'and is not made');

# ---- the worker watches ----

$node->append_conf('postgresql.conf', "stripe_sync.reconcile_interval = '1h'");
$node->reload;
shop('SELECT stripe_sync.set_api_key(' . literal(KEY) . ')');
shop('UPDATE stripe_sync.endpoint_watch SET next_at = now()');
ok($node->poll_query_until('shop', q{SELECT read_at IS NOT NULL FROM stripe_sync.endpoint_watch}), 'the worker reads the endpoints that there are');
is(shop('SELECT count(*) FROM stripe_sync.watched_endpoint WHERE endpoint IS NOT NULL AND seen_by = (SELECT max(id) FROM stripe_sync.job WHERE kind = $$watch_endpoints$$)') > 10, 1, 'those that were made among them');

# ---- nowhere to be seen ----

no_secret_in($node, 'shop', 'what was made');
is(shop(q{SELECT count(*) > 10 AND bool_and(path = '/v1/webhook_endpoints') FROM stripe_sync.api_call WHERE method = 'POST'}), 't', 'the requests are logged without what they said');
command_ok([ 'pg_dump', '--dbname' => $node->connstr('shop'), '--file' => $node->basedir . '/dump.sql' ], 'it is dumped');
unlike(slurp_file($node->basedir . '/dump.sql'), qr/sEcReT/, 'without the secrets');

$node->stop;
done_testing();
