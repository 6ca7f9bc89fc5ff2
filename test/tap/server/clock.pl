# clock.pl
#		The server's clock is an hour ahead, or an hour behind: what is read from
#		Stripe is as of Stripe's clock, and nothing is missed or held up.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use StripeBack;
use StripeStub;
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $missing = StripeStub->missing;
plan skip_all => $missing if $missing;
my ($faketime) = glob '/usr/lib/*/faketime/libfaketime.so.1';
plan skip_all => 'no libfaketime' unless defined $faketime;
plan skip_all => 'libfaketime and sanitizers cannot both come first' if $ENV{STRIPE_SYNC_SANITIZE};
seed();

my ($stripe, $node);

# libfaketime and the postmaster of PostgreSQL 15 do not get on: what it forks in
# a signal's handler has the right time.  Sessions have the wrong one, so the
# worker's work is done by one.
sub work { return shop("CALL stripe_sync.work('20 seconds')"); }

sub done
{
	my ($call, @rest) = @_;
	my $job = shop("SELECT stripe_sync.$call");

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	work();
	return over($job, @rest);
}

sub becomes
{
	my ($query, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return eventually($what, sub { work(); shop($query) eq 't' });
}

sub requests
{
	my ($path) = @_;
	return grep { $_->{path} eq $path } @{ $stripe->requests };
}

# ---- reconcile ----

sub check_reconcile
{
	my ($what) = @_;
	my $now = int time;
	my @customers = @{ $stripe->fill('customer', 20, seed => 1, since => $now - 9000, until => $now - 8000, events => TRUE)->{ids} };

	deliver($stripe->pending);
	$stripe->change_many([ map { { id => $customers[$_], set => { name => "Old $_" }, at => $now - 2 * 3600 + $_ } } 0 .. 4 ]);
	$stripe->change_many([ map { { id => $customers[$_], set => { name => "Recent $_" }, at => $now - 400 } } 5 .. 9 ]);
	$stripe->change_many([ map { { id => $customers[$_], set => { name => "Young $_" }, at => $now - 120 } } 10 .. 14 ]);
	my @young = $stripe->pending;
	# an hour and a half: neither an hour more nor an hour less
	done(q{reconcile('90 minutes')}, "$what: reconcile", state => 'done', missing => 5, error => undef);
	done(q{reconcile()}, "$what: three days", state => 'done', missing => 5, error => undef);
	becomes(q{SELECT count(*) = 0 FROM stripe_sync.event WHERE status IN ('pending', 'failed')}, "$what: what was missing is applied");
	is(shop(q{SELECT count(*) FILTER (WHERE name LIKE 'Old%'), count(*) FILTER (WHERE name LIKE 'Recent%'), count(*) FILTER (WHERE name LIKE 'Young%') FROM stripe.customers}),
		'5|5|0', "$what: but for what is younger than five minutes by Stripe's clock");
	my $at = shop(q{SELECT EXTRACT(epoch FROM at) FROM stripe_sync.watermark});
	cmp_ok(abs($at - ($now - 300)), '<', 600, "$what: the watermark is Stripe's time");
	deliver(grep { $_->{data}{object}{name} =~ /^Young/ } @young);
	is(mirror_differs('customer', 'customers'), 0, "$what: the webhooks bring the rest");

	# by itself, from where the last ended
	$stripe->change($customers[15], { name => 'By itself' }, at => $now - 310);
	$node->append_conf('postgresql.conf', "stripe_sync.reconcile_interval = '1s'");
	$node->reload;
	becomes(q{SELECT count(*) = 1 FROM stripe.customers WHERE name = 'By itself'}, "$what: it runs by itself");
	$node->append_conf('postgresql.conf', "stripe_sync.reconcile_interval = 0");
	$node->reload;
	return;
}

# ---- refetch ----

sub check_refetch
{
	my ($what) = @_;
	my ($id) = $stripe->add_objects([ { object => 'customer', id => 'cus_clock', name => 'First' } ]);

	done(q{refetch('customer', 'cus_clock')}, "$what: refetch", state => 'done');
	cmp_ok(abs(shop(q{SELECT EXTRACT(epoch FROM _as_of) FROM stripe.customers WHERE id = 'cus_clock'}) - time), '<', 300, "$what: the answer is as of Stripe's time");
	deliver($stripe->change('cus_clock', { name => 'Later' }));
	is(shop(q{SELECT name FROM stripe.customers WHERE id = 'cus_clock'}), 'Later', "$what: and a later event is not blocked by it");
	$stripe->change('cus_clock', { name => 'Quiet' }, quiet => TRUE);
	# what is read is as of more than a second ago
	my $changed = time;
	eventually("$what: later", sub { time > $changed + 3 });
	done(q{refetch('customer', 'cus_clock')}, "$what: again", state => 'done');
	is(shop(q{SELECT name FROM stripe.customers WHERE id = 'cus_clock'}), 'Quiet', "$what: an earlier event does not block a reading");
	return;
}

# ---- the mirror asks ----

sub check_reread
{
	my ($what) = @_;
	my $second;

	$stripe->add_objects([ { object => 'customer', id => 'cus_same', name => 'Before' } ]);
	$stripe->pending;
	$second = int time;
	$stripe->change_many([ map { { id => 'cus_same', set => { name => $_ }, at => $second } } 'One', 'Two' ]);
	my @events = $stripe->pending;
	delete $_->{data}{previous_attributes} for @events;
	deliver(@events);
	my $took = becomes(q{SELECT _event_id IS NULL AND name = 'Two' FROM stripe.customers WHERE id = 'cus_same'}, "$what: an ambiguous second is read");
	cmp_ok($took // 60, '<', 45, "$what: soon");
	# an answer that took a second is as of too early to tell
	cmp_ok(scalar(requests('/v1/customers/cus_same')), '<=', 3 + shop(q{SELECT count(*) FROM stripe_sync.api_call WHERE path = '/v1/customers/cus_same' AND duration > '0.8 s'}), "$what: and not over and over");
	return;
}

# ---- both ways ----

for my $offset ('+1h', '-1h')
{
	my $what = $offset eq '+1h' ? 'an hour ahead' : 'an hour behind';

	my $wrong = sub { abs($_[0] - time - ($offset eq '+1h' ? 3600 : -3600)) };

	{
		# certificates that are good for a server an hour behind
		local $ENV{LD_PRELOAD} = $faketime;
		local $ENV{FAKETIME} = '-2h';
		$stripe = StripeStub->start;
	}
	$stripe->start_again;
	$node = make_reader($offset eq '+1h' ? 'ahead' : 'behind', $stripe);
	$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
	$node->stop;
	{
		local $ENV{LD_PRELOAD} = $faketime;
		local $ENV{FAKETIME} = $offset;
		local $ENV{FAKETIME_DONT_FAKE_MONOTONIC} = 1;
		$node->start;
	}
	cmp_ok($wrong->(shop('SELECT EXTRACT(epoch FROM clock_timestamp())')), '<', 600, "$what: so is the clock of sessions");
	check_reconcile($what);
	check_refetch($what);
	check_reread($what);
	cmp_ok($wrong->(shop('SELECT EXTRACT(epoch FROM max(started_at)) FROM stripe_sync.api_call')), '<', 600, "$what: and so was that of the requests");
	$node->stop;
	$stripe->stop;
}
done_testing();
