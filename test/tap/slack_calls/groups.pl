# groups.pl
#		Members of user groups: read with an app's token, and how long they count.

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
my $node = start_node('groups', conf => PRELOAD . $slack->conf . "stripe_sync.doctor_interval = 0\n");
make_sender($node, 'one');

sub one { return $node->safe_psql('one', $_[0]); }

sub members { my ($group) = @_; return one("SELECT string_agg(app || ':' || slack_user, ' ' ORDER BY app, slack_user) FROM stripe_sync.slack_group_member WHERE slack_group = '$group'"); }

sub group { my ($group, $app) = @_; return one("SELECT concat_ws('|', error, failures, read_at IS NOT NULL) FROM stripe_sync.slack_group WHERE slack_group = '$group' AND app = '" . ($app // 'default') . q{'}); }

sub becomes
{
	my ($what, $look, $expected) = @_;
	my $now = '';

	$slack->wait_for(sub { ($now = $look->()) eq $expected });
	return is($now, $expected, $what);
}

# As if so much time had passed since the last attempt.
sub later
{
	my ($time, $wake) = @_;

	one(qq{UPDATE stripe_sync.slack_group SET tried_at = tried_at - interval '$time', read_at = read_at - interval '$time'});
	one('SELECT ' . ($wake // 'stripe_sync.resume()'));
	return;
}

# Requests for a group's members
sub asked { my ($group) = @_; return scalar grep { ($_->{query} // '') =~ /usergroup=\Q$group\E\b/ } @{ $slack->requests }; }

# ---- read soon, and every ten minutes ----

$slack->groups(S0ONCALL => [qw(U0B U0A W0C)], S0EMPTY => []);
one(q{SELECT stripe_sync.add_slack_app('default', } . literals(SlackStub::SIGNING_SECRET, TOKEN) . q{)});
one(q{SELECT stripe_sync.set_slack_user('S0ONCALL', 'act'), stripe_sync.set_slack_user('S0EMPTY', 'see'), stripe_sync.set_slack_user('U0X', 'see')});
becomes('members are read soon after set_slack_user()', sub { members('S0ONCALL') }, 'default:U0A default:U0B default:W0C');
becomes('an empty group, too', sub { group('S0EMPTY') }, '0|t');
is(members('S0EMPTY'), '', 'has no members');
is(one('SELECT count(*) FROM stripe_sync.slack_group'), '2', 'a person is no group');
is($slack->requests->[0]{headers}{authorization}, 'Bearer ' . TOKEN, 'with the token of the app');

$slack->groups(S0ONCALL => [qw(U0A U0D)]);
my $asked = asked('S0ONCALL');
later('9 minutes');
one('SELECT stripe_sync.resume()') for 1 .. 3;
is(asked('S0ONCALL'), $asked, 'not again before ten minutes');
later('1 minute');
becomes('after ten minutes all are replaced', sub { members('S0ONCALL') }, 'default:U0A default:U0D');

# ---- what goes wrong ----

$slack->scopes(TOKEN, 'chat:write');
later('10 minutes');
becomes('without the scope', sub { group('S0ONCALL') }, 'missing_scope|1|t');
is(members('S0ONCALL'), 'default:U0A default:U0D', 'members stay as they were read');
my $log = slurp_file($node->logfile);
like($log, qr/WARNING:  members of user group S0ONCALL could not be read by app "default": missing_scope/, 'the log says so');
like($log, qr/HINT:  Add the scope usergroups:read/, 'and what to do');
is(one(q{SELECT tried_at + interval '10 s' > clock_timestamp() - interval '1 min' FROM stripe_sync.slack_group WHERE slack_group = 'S0ONCALL'}), 't', 'it is tried again');
later('10 seconds');
becomes('sooner than in ten minutes', sub { group('S0ONCALL') }, 'missing_scope|2|t');
later('11 seconds');
is(group('S0ONCALL'), 'missing_scope|2|t', 'but later each time');
later('9 seconds');
becomes('the third time', sub { group('S0ONCALL') }, 'missing_scope|3|t');
is(scalar(() = slurp_file($node->logfile) =~ /S0ONCALL could not be read/g), 1, 'the log has each reason once');
$slack->scopes(TOKEN, undef);
$slack->paid(0);
later('10 minutes');
becomes('without a paid plan', sub { group('S0ONCALL') }, 'plan_upgrade_required|4|t');
like(slurp_file($node->logfile), qr/HINT:  User groups need a paid plan/, 'the log says so');
$slack->paid(1);
$slack->groups(S0ONCALL => undef);
later('10 minutes');
becomes('a group that is gone', sub { group('S0ONCALL') }, 'no_such_subteam|5|t');
$slack->fault({ status => 503 }, times => 1, path => qr/usergroups/, query => qr/S0ONCALL/);
later('10 minutes');
becomes('no answer that can be read', sub { group('S0ONCALL') }, 'http_503|6|t');
$slack->fault({ status => 200, body => { ok => TRUE, users => 'U1' } }, times => 1, query => qr/S0ONCALL/);
later('10 minutes');
becomes('nor another one', sub { group('S0ONCALL') }, 'malformed_answer|7|t');
$slack->groups(S0ONCALL => [ 'U0A', 'nobody', 'U0E; --', 'u0f', 'U0G' ]);
later('10 minutes');
becomes('members again, without what is no id', sub { members('S0ONCALL') }, 'default:U0A default:U0G');
is(group('S0ONCALL'), '0|t', 'the error is over');

# Slack's limit is respected, whatever is due.
$slack->clear_faults;
$slack->fault({ status => 429, headers => { 'Retry-After' => '3600' } }, times => 1, path => qr/usergroups/);
later('10 minutes');
$slack->wait_for(sub { one(q{SELECT count(*) FROM stripe_sync.slack_group WHERE error = 'ratelimited'}) == 1 });
$asked = asked('S0ONCALL') + asked('S0EMPTY');
later('10 minutes');
one('SELECT stripe_sync.resume()') for 1 .. 3;
is(asked('S0ONCALL') + asked('S0EMPTY'), $asked, 'after a 429 nothing is asked before Retry-After');

# ---- how long members count ----

$node->restart;    # which forgets Retry-After
$slack->groups(S0ONCALL => [qw(U0A U0B)]);
later('10 minutes');
becomes('read again', sub { members('S0ONCALL') }, 'default:U0A default:U0B');
$slack->scopes(TOKEN, 'chat:write');
later('61 minutes');
becomes('not read for an hour, they are deleted', sub { members('S0ONCALL') }, '');
$slack->scopes(TOKEN, undef);
later('10 minutes');
becomes('read again', sub { members('S0ONCALL') }, 'default:U0A default:U0B');
one(q{SELECT stripe_sync.pause('slack')});
$asked = asked('S0ONCALL');
later('61 minutes', q{stripe_sync.pause('slack')});
becomes('deleted while paused, too', sub { members('S0ONCALL') }, '');
is(asked('S0ONCALL'), $asked, 'and not read');
one(q{SELECT stripe_sync.resume('slack')});
becomes('resumed, they are read', sub { members('S0ONCALL') }, 'default:U0A default:U0B');

# ---- several apps; groups and apps that go ----

one(q{SELECT stripe_sync.add_slack_app('mute', } . literals(SlackStub::SIGNING_SECRET) . q{)});
becomes('an app without a token', sub { group('S0ONCALL', 'mute') }, 'no_token|1|f');
one(q{SELECT stripe_sync.add_slack_app('mute', } . literals(SlackStub::SIGNING_SECRET, TOKEN . 'mute') . q{); SELECT stripe_sync.resume()});
becomes('gets one, and reads', sub { members('S0ONCALL') }, 'default:U0A default:U0B mute:U0A mute:U0B');
one(q{SELECT stripe_sync.drop_slack_app('mute'); SELECT stripe_sync.resume()});
becomes('it is dropped', sub { members('S0ONCALL') }, 'default:U0A default:U0B');
one(q{DELETE FROM stripe_sync.slack_user WHERE slack_user = 'S0ONCALL'; SELECT stripe_sync.resume()});
becomes('a group that no longer counts is forgotten', sub { members('S0ONCALL') . one('SELECT count(*) FROM stripe_sync.slack_group') }, '1');

# ---- in the air ----

my $pid = worker_pid($node, 'one');
$slack->fault($slack->hold, times => 1, path => qr/usergroups/);
$slack->groups(S0EMPTY => ['U0Z']);
later('10 minutes');
ok($slack->wait_for(sub { $slack->stats->{in_flight} == 1 }), 'a request is in the air');
ok($node->poll_query_until('one', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL)"), 'no transaction or snapshot is open');
$slack->release;
becomes('it is read', sub { members('S0EMPTY') }, 'default:U0Z');
no_secret_in($node, 'one', 'at the end');

done_testing();
