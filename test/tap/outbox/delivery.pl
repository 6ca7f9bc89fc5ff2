# delivery.pl
#		Whatever breaks on the way to Slack: no message is lost, none that Slack
#		did not take counts as sent, none is sent twice, and what opens Slack
#		isn't told to anybody else.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use SlackStub;
use StripeSync;

use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $missing = SlackStub->missing;
plan skip_all => $missing if $missing;

# Long enough for any answer of a slow machine's that comes at all.
use constant TIMEOUT => 5;

my $slack = SlackStub->start;
my $node = start_node('delivery', conf => PRELOAD . $slack->conf
	. "stripe_sync.slack_rate = 0\nstripe_sync.http_timeout = '@{[TIMEOUT]}s'\nstripe_sync.max_connections = 8\n");
make_sender($node, 'one');
add_webhook($node, 'one', $slack, 'hook', 1);
add_channel($node, 'one', 'bot', '#bot');

sub one { return $node->safe_psql('one', $_[0]); }
sub log_of { return one("SELECT string_agg(concat_ws('|', coalesce(http_status::text, '-'), code, verdict), ' ' ORDER BY attempt) FROM stripe_sync.delivery WHERE message_id = $_[0]"); }
sub attempts { return one("SELECT count(*) FROM stripe_sync.delivery WHERE message_id = $_[0]"); }
sub reaches { my ($id, $state) = @_; return eventually("it is $state", sub { field($node, 'one', $id, 'state') eq $state }); }

# Of a process; its files are the server's affair.
sub open_sockets { return scalar grep { (readlink($_) // '') =~ /^socket:/ } glob "/proc/$_[0]/fd/*"; }

# What a worker may grow by for an answer of 1 GB; AddressSanitizer keeps what is
# freed for a while.
use constant MOST_KB => $ENV{STRIPE_SYNC_SANITIZE} ? 400_000 : 8192;

sub memory
{
	my ($pid) = @_;

	return slurp_file("/proc/$pid/status") =~ /VmHWM:\s+(\d+) kB/ ? $1 : die;
}

sub set_and_reload { return worker_setting($node, 'one', @_); }

reaches(notify($node, 'one', $_, "warm $_"), 'sent') for qw(hook bot);
my $worker = worker_pid($node, 'one');
$slack->disconnect;
my $sockets = open_sockets($worker);
my $memory = memory($worker);

# ---- faults of one request ----

# What the stub does once, then what the log says; next to all are tried again.
my @faults = (
	[ { reset_before => TRUE },                  '-|connection|retry' ],
	[ { close_before => TRUE },                  '-|connection|retry' ],
	[ { reset_mid_answer => TRUE },              '200|connection|retry' ],
	[ { wrong_length => 10 },                    '200|connection|retry' ],
	[ { garbage => TRUE },                       '-|connection|retry' ],
	[ { never => TRUE },                         '-|timeout|retry' ],
	[ { drip => 0.05 },                          qr/^(?:200|-)\|timeout\|retry$/, slow => 1 ],
	[ { delay => 15 },                           '-|timeout|retry', slow => 1 ],
	[ { malformed_json => TRUE },                { hook => '200|unexpected_answer|retry', bot => '200|malformed_answer|retry' } ],
	[ { ok_false_without_error => TRUE },        { hook => '200|unexpected_answer|retry', bot => '200|no_error_given|retry' } ],
	[ { status => 200, body => '' },             { hook => '200|unexpected_answer|retry', bot => '200|malformed_answer|retry' } ],
	[ { status => 200, body => '<html>ok</html>' }, { hook => '200|unexpected_answer|retry', bot => '200|malformed_answer|retry' } ],
	[ { status => 502, body => '<html>' x 50_000 },  '502|http_502|retry' ],
	[ { status => 403, body => '<html>' x 50_000 },  '403|http_403|retry' ],
	[ { huge => 1_000_000_000 },                 '200|answer_too_large|message_bad', huge => 1 ],
	[ { huge => 1_000_000_000, declared => TRUE }, '200|answer_too_large|message_bad', huge => 1 ]);
my @sent;
for my $case (@faults)
{
	my ($fault, $log, %is) = @$case;

	for my $destination (qw(hook bot))
	{
		my $what = "$destination: " . join(' ', map { $_ . '=' . substr($fault->{$_}, 0, 20) } sort keys %$fault) =~ tr/<>//dr;

		$slack->fault($fault, times => 1, text => qr/^\Q$what\E\n/);
		push @sent, { what => $what, log => ref $log eq 'HASH' ? $log->{$destination} : $log, id => notify($node, 'one', $destination, $what), %is };
		is_cut_off($sent[-1]) if $is{huge};
	}
}

# One gigabyte that we don't want.
sub is_cut_off
{
	my ($case) = @_;
	my ($id, $what) = @$case{qw(id what)};

	reaches($id, 'dead');
	is(attempts($id), '1', "$what: that message alone is dead");
	ok($slack->wait_for(sub { !grep { $_->{fault}{huge} && !exists $_->{ended} } grep { $_->{fault} } @{ $slack->requests } }), 'the answer is not read to its end');
	my ($request) = grep { ($_->{payload}{text} // '') eq $what } @{ $slack->requests };
	cmp_ok($request->{bytes}, '<', 50_000_000, 'as the stub can tell');
	cmp_ok(memory($worker) - $memory, '<', MOST_KB, 'nor kept in memory');
	one("SELECT stripe_sync.retry_message($id)");
	return;
}

for my $case (@sent)
{
	my ($id, $what, $log) = @$case{qw(id what log)};

	reaches($id, 'sent');
	my @log = split / /, log_of($id);
	is(scalar @log, 2, "$what: the second time it is sent");
	ref $log eq 'Regexp' ? like($log[0], $log, "$what: the log") : is($log[0], $log, "$what: the log");
	# what was only slow to answer had been taken, and nobody can know
	is($slack->texts->{$what}, $case->{slow} ? 2 : 1, "$what: and taken " . ($case->{slow} ? 'each time' : 'once'));
}
is(one(q{SELECT count(*) FROM stripe_sync.delivery WHERE code = 'timeout' AND duration NOT BETWEEN '} . (TIMEOUT - 0.1) . q{ s' AND '} . 3 * TIMEOUT . q{ s'}), '0', 'a time-out counts from the dispatch');
is(one(q{SELECT count(*) FROM stripe_sync.delivery WHERE code IN ('timeout', 'connection') AND response IS NULL}), '0', 'what went wrong is said');

# slow as the machine may be
set_and_reload('stripe_sync.http_timeout', '5min');
for my $destination (qw(hook bot))
{
	for my $fault ({ delay => 0.3 }, { drip => 0.001 }, { wrong_length => -5, deliver => TRUE }, { close => TRUE })
	{
		my $what = "$destination: well with " . join ' ', map { "$_=$fault->{$_}" } sort keys %$fault;

		$slack->fault($fault, times => 1, text => qr/^\Q$what\E\n/);
		my $id = notify($node, 'one', $destination, $what);
		reaches($id, 'sent');
		is(attempts($id) . $slack->texts->{$what}, '11', "$what: sent once");
	}
}
set_and_reload('stripe_sync.http_timeout', TIMEOUT . 's');

# A redirect could lead the message, and the token, anywhere.
my $other = SlackStub->start;
for my $destination (qw(hook bot))
{
	$slack->fault({ redirect => $other->webhook_url(1) }, times => 1);
	my $id = notify($node, 'one', $destination, "redirected $destination");
	reaches($id, 'sent');
	is(log_of($id), '302|http_302|retry 200|ok|sent', 'a redirect is no answer: the message is sent where it was meant to go');
}
is($other->stats->{connections}, 0, 'and not followed');
$other->stop;

# A connection that the other side has closed while it was idle is no failure.
reaches(notify($node, 'one', 'hook', 'before the pause'), 'sent');
$slack->disconnect;
my $id = notify($node, 'one', 'hook', 'after the pause');
reaches($id, 'sent');
is(attempts($id), '1', 'a kept connection that was closed costs no attempt');

# ---- Slack is away ----

# Its port is given to nobody meanwhile.
$slack->stop;
is(IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => $slack->port), undef, 'the port of a stub that is stopped is not taken');
$slack->start_again;

# Until it is back, however long; its first attempt ends as the log says.
sub away
{
	my ($what, $go, $come_back, $log) = @_;

	$go->();
	my @ids = map { notify($node, 'one', $_, "$what $_") } qw(hook bot);
	eventually("$what: attempted", sub { attempts($ids[0]) && attempts($ids[1]) });
	is((split / /, log_of($_))[0], $log, "$what: the log") for @ids;
	is(field($node, 'one', $_, 'state') =~ /waiting|sending/, 1, "$what: the message waits") for @ids;
	my $requests = $slack->requests;
	$come_back->();
	# locked, as the worker may be about to claim them
	one(q{SELECT stripe_sync.retry_message(id) FROM (SELECT id FROM stripe_sync.message WHERE state = 'waiting' FOR UPDATE) m});
	reaches($_, 'sent') for @ids;
	is($slack->texts->{"$what $_"}, 1, "$what: then it is sent, once") for qw(hook bot);
	return;
}

away('refused', sub { $slack->listen_mode('closed') }, sub { $slack->listen_mode('open') }, '-|connection|retry');
away('silent', sub { $slack->listen_mode('silent'); $slack->disconnect }, sub { $slack->listen_mode('open') }, '-|timeout|retry');
for my $certificate (qw(other wrong_host expired))
{
	away("certificate $certificate", sub { $slack->start_again(cert => $certificate) }, sub {
		is($slack->stats->{requests}, 0, "certificate $certificate: nothing was sent through it");
		cmp_ok($slack->stats->{connections}, '>', 0, "certificate $certificate: though it was tried");
		$slack->start_again(cert => 'server');
	}, '-|tls|retry');
}
away('no TLS', sub { $slack->start_again(plain => 1) }, sub {
	is($slack->stats->{requests}, 0, 'no TLS: nothing was sent in the clear');
	$slack->start_again(plain => 0);
}, '-|timeout|retry');

is(worker_pid($node, 'one'), $worker, 'the worker has lived through all of it');

# A hundred failures leave no descriptor behind.
$slack->fault({ reset_before => TRUE }, times => 100);
one("SELECT count(stripe_sync.notify('hook', 'leak ' || i)) FROM generate_series(1, 100) i");
ok(idle($node, 'one'), 'a hundred messages that broke once are sent');
cmp_ok(open_sockets($worker), '<=', $sockets + 8, 'no connection is left open beyond those that may be');
my $texts = $slack->texts;
is(scalar(grep { ($texts->{"leak $_"} // 0) != 1 } 1 .. 100), 0, 'each was taken once');

# ---- where nothing may be sent ----

my $before = $slack->stats->{connections};
for my $case (
	[ 'a host that is no longer allowed', 'hook', 'stripe_sync.slack_hosts', 'hooks.slack.com', $slack->host ],
	[ 'the same host, another port',      'hook', 'stripe_sync.slack_hosts', '127.0.0.1', $slack->host ],
	[ 'plain http that is not allowed',   'bot',  'stripe_sync.slack_api_base', 'http://' . $slack->host . '/api', $slack->api_base ])
{
	my ($what, $destination, $setting, $bad, $good) = @$case;

	set_and_reload($setting, $bad);
	$id = notify($node, 'one', $destination, $what);
	eventually("$what: attempted", sub { attempts($id) });
	is(log_of($id), '-|url_refused|destination_dead', "$what is not called");
	like(one("SELECT disabled_reason FROM stripe_sync.destination WHERE name = '$destination' AND NOT enabled"), qr/host|https|below/, 'the destination says why');
	is(field($node, 'one', $id, 'state'), 'waiting', 'the message waits');
	set_and_reload($setting, $good);
	one("SELECT stripe_sync.enable_destination('$destination')");
	reaches($id, 'sent');
	is($slack->texts->{$what}, 1, 'until it may');
}
set_and_reload('stripe_sync.allow_plain_http', 'on');
set_and_reload('stripe_sync.slack_api_base', 'http://192.0.2.1/api');
$id = notify($node, 'one', 'bot', 'plain');
eventually('plain http beyond loopback: attempted', sub { attempts($id) });
is(log_of($id), '-|url_refused|destination_dead', 'plain http is for loopback alone, whatever is allowed');
set_and_reload('stripe_sync.slack_api_base', $slack->api_base);
one(q{SELECT stripe_sync.enable_destination('bot')});
reaches($id, 'sent');

my $plain = SlackStub->start(plain => 1);
my $url = $plain->webhook_url(7);
set_and_reload('stripe_sync.slack_hosts', $slack->host . ', ' . $plain->host);
one("SELECT stripe_sync.add_slack_webhook('plain', '$url')");
$id = notify($node, 'one', 'plain', 'in the clear');
reaches($id, 'sent');
is($plain->texts->{'in the clear'}, 1, 'plain http to loopback, when a superuser allows it');
set_and_reload('stripe_sync.allow_plain_http', 'off');
$id = notify($node, 'one', 'plain', 'no more');
eventually('plain http: attempted', sub { attempts($id) });
is(log_of($id) . ($plain->texts->{'no more'} // ''), '-|url_refused|destination_dead', 'and no longer when not');
my ($ret, $out, $err) = $node->psql('one', "SELECT stripe_sync.add_slack_webhook('plain2', '$url')");
like($err, qr/ERROR: .*invalid URL of a Slack webhook/, 'nor can one be added');
unlike($err, qr/sEcReT/, 'and the refusal does not quote it');

no_secret_in($node, 'one', 'after all this');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'nobody has crashed');
$node->stop;
done_testing();
