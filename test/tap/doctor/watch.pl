# watch.pl
#		The doctor's frame: its rows, whose rights they need, mutes, the worker's
#		runs, and what is told to Slack.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use DoctorFaults;
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $missing = DoctorFaults->missing;
plan skip_all => $missing if $missing;

my $t = DoctorFaults->start('watch', allows_streaming => 1, unseen => 1);
my $node = $t->node;
my $faults = $t->faults;

sub shop { return $t->sql($_[0]); }

# A run of the worker's doctor over these keys, in this session.
sub run { $t->look_again($_, once => $_ eq 'stripe.refused_deliveries') for @_; return; }

sub as_role
{
	my ($role, $sql) = @_;
	my ($out, $error) = ('', '');

	$node->psql('shop', "\\set VERBOSITY sqlstate\nSET ROLE $role;\n$sql", stdout => \$out, stderr => \$error);
	return $error =~ /ERROR:\s+(\w+)/ ? $1 : $out;
}

sub told { return shop("SELECT string_agg(alert || ' ' || state, ', ' ORDER BY id) FROM stripe_sync.incident WHERE group_key = " . literal($_[0])) }
sub finding { my ($key, $what) = @_; return shop("SELECT $what FROM stripe_sync.finding WHERE key = " . literal($key)); }
sub doctor { my ($key, $what) = @_; return shop("SELECT $what FROM stripe_sync.doctor() WHERE key = " . literal($key)); }

# ---- rows ----

my %nightly = map { $_ => 1 } grep { $faults->{$_}{nightly} } keys %$faults;

is(shop('SELECT count(*) - count(DISTINCT key) FROM stripe_sync.doctor()'), '0', 'one row for each key');
is(shop(q{SELECT string_agg(key, ' ') FROM stripe_sync.doctor() WHERE key !~ ('^' || area || '\.[a-z_]+$') OR area NOT IN ('stripe', 'slack', 'postgres')
	OR page <> 'doc/runbook/' || translate(key, '._', '--') || '.md' OR item IS NULL OR detail IS NULL OR (figure IS NULL) <> (unit IS NULL)
	OR status NOT IN ('ok', 'warn', 'fail', 'unknown') OR muted_until IS NOT NULL}), '', 'each row has its key, page, figure with a unit, and no mute');
is(shop(q{SELECT string_agg(key, ' ') FROM stripe_sync.doctor() WHERE status = 'unknown'}), '', 'before a run nothing is unknown to a superuser');
like(doctor('stripe.mirror_drift', 'detail'), qr/^[1-9]\d* objects were compared, and all are as the stored events say$/, '... who looks at nightly items');
is(shop('SELECT count(*) FROM stripe_sync.finding'), '0', '... and records nothing');
run('slack.backlog');
like(shop('SELECT stripe_sync.metrics()'), qr/^stripe_sync_doctor_runs_total\S* [1-9]/m, 'a run is counted');
like(doctor('stripe.mirror_drift', 'detail'), qr/ \(as of \d+ s ago\)$/, 'then what the worker has found is shown');
is(shop('SELECT string_agg(key, $$ $$) FROM stripe_sync.doctor() WHERE status = $$unknown$$'), '', 'after a run none is');
is(shop('SELECT (SELECT count(*) FROM stripe_sync.finding) - (SELECT count(*) FROM stripe_sync.doctor())'), '0', 'the run has recorded each item');
unlike(shop('SELECT d::text FROM stripe_sync.doctor() d UNION ALL SELECT f::text FROM stripe_sync.finding f'), qr/sEcReT|tOkEn|whsec_/, 'no secret');
is(shop("BEGIN READ ONLY; SELECT count(*) > 0 FROM stripe_sync.doctor(); COMMIT"), 't', 'it only reads');

# ---- rights ----

shop(q{CREATE ROLE reader; CREATE ROLE watcher; CREATE ROLE boss; CREATE ROLE nobody; GRANT pg_read_all_stats TO watcher;
	SELECT stripe_sync.grant_read('reader'); SELECT stripe_sync.grant_read('watcher'); SELECT stripe_sync.grant_admin('boss')});
is(as_role('nobody', 'SELECT count(*) FROM stripe_sync.doctor()'), '42501', 'a role without grants may not call it');
is(as_role('reader', q{SELECT stripe_sync.mute_finding('slack.backlog', NULL)}), '42501', 'a reader may not mute');
like(as_role('reader', q{SELECT detail FROM stripe_sync.doctor() WHERE key = 'postgres.connections'}), qr/\(as of \d+ s ago\)/, 'what a reader may not see is the worker\'s finding, with its age');
unlike(as_role('watcher', q{SELECT detail FROM stripe_sync.doctor() WHERE key = 'postgres.connections'}), qr/as of/, 'pg_read_all_stats sees it itself');
unlike(as_role('reader', q{SELECT detail FROM stripe_sync.doctor() WHERE key = 'slack.backlog'}), qr/as of/, 'a reader looks at what it may read');
shop(q{DELETE FROM stripe_sync.finding WHERE key = 'postgres.connections'});
is(as_role('boss', q{SELECT status FROM stripe_sync.doctor() WHERE key = 'postgres.connections'}), 'unknown', 'never ok for what was not looked at');
run('postgres.connections');

# ---- two runs in a row open, two close ----

my $backlog = $faults->{'slack.backlog'};
my $key = 'slack.backlog';

$backlog->{break}->($t);
run($key);
is(finding($key, "concat_ws(' ', status, fails, wells, told)"), 'fail 1 0', 'the first run that fails is noted');
is(told($key), '', '... and not reported');
run($key);
is(finding($key, "concat_ws(' ', status, fails, wells, told)"), 'fail 2 0 fail', 'the second one');
is(told($key), 'doctor open', '... is reported: a warning');
run($key);
idle($node, 'shop', 1);
my $hint = doctor($key, 'hint');
my ($shown) = grep { /slack\.backlog/ } map { $_->{shown} } @{ $t->slack->shows(1) };
like($shown, qr/1 message waits.*retry_message.*slack-backlog\.md/s, 'the message tells what to copy, and the page');
is(shop(q{SELECT count(*) FROM stripe_sync.message WHERE alert = 'doctor'}), '1', 'once');
shop($hint);
$t->eventually_true('SELECT count(*) = 0 FROM stripe_sync.message WHERE state = $$waiting$$');
run($key);
is(finding($key, "concat_ws(' ', status, fails, wells, told)"), 'ok 0 1 fail', 'the first run that is well');
is(told($key), 'doctor open', '... closes nothing');
run($key);
is(told($key), 'doctor closed', 'the second one closes the incident');
is(finding($key, 'told IS NULL'), 't', '... and forgets it');
$backlog->{break}->($t);
run($key);
shop(doctor($key, 'hint'));
$t->eventually_true('SELECT count(*) = 0 FROM stripe_sync.message WHERE state = $$waiting$$');
run($key);
$backlog->{break}->($t);
run($key);
is(finding($key, "concat_ws(' ', status, fails)"), 'fail 1', 'two failing runs with a good one between');
is(told($key), 'doctor closed', '... are not two in a row');

# Of Postgres only what is critical is for Slack.
$faults->{'postgres.keys'}{break}->($t);
run('postgres.keys', 'postgres.keys');
is(finding('postgres.keys', "concat_ws(' ', status, fails, told)"), 'fail 2', 'a fault of Postgres');
is(told('postgres.keys'), '', '... is not reported');
shop(doctor('postgres.keys', 'hint'));

# ---- mutes ----

is(as_role('postgres', q{SELECT stripe_sync.mute_finding('slack.none', now() + interval '1 day')}), 'SY005', 'a key that does not exist');
is(as_role('postgres', q{SELECT stripe_sync.mute_finding(NULL, now() + interval '1 day')}), '22004', 'NULL as key');
is(as_role('boss', q{SELECT stripe_sync.mute_finding('slack.backlog', now() + interval '1 day')}), '', 'an administrator may mute');
run($key) for 1 .. 3;
is(told($key), 'doctor closed', 'a muted finding is not reported');
is(doctor($key, q{status || ' ' || (muted_until > now() + interval '23 hours')}), 'fail true', '... and shown, with the end of the mute');
is(as_role('boss', q{SELECT stripe_sync.mute_finding('slack.backlog', NULL)}), '', 'NULL ends it');
is(doctor($key, 'muted_until IS NULL'), 't', '... at once');
is(shop(q{SELECT string_agg(what || ' ' || ref || ' ' || by, ', ' ORDER BY id) FROM stripe_sync.journal WHERE what LIKE 'finding.%'}),
	'finding.muted slack.backlog boss, finding.unmuted slack.backlog boss', 'both are in the journal');
run($key);
is(told($key), 'doctor closed, doctor open', 'after the mute it is reported');
shop(doctor($key, 'hint'));
$t->eventually_true('SELECT count(*) = 0 FROM stripe_sync.message WHERE state = $$waiting$$');
run($key, $key);
is(told($key), 'doctor closed, doctor closed', '... and closed');

# ---- events of their own, and what is critical ----

my $token = 'slack.tokens';

shop(q{SELECT stripe_sync.set_fallback('spare', NULL)});
$faults->{$token}{break}->($t);
$t->wait_for_status($token, 'fail');
run($token, $token);
is(finding($token, 'fails'), '2', 'a webhook that Slack rejects');
is(told($token), '', '... has its own event, for which there is an alert');
is(shop(q{SELECT string_agg(alert, ' ') FROM stripe_sync.incident WHERE group_key = 'spare'}), 'destination_disabled', '... that was raised');
shop(q{SELECT stripe_sync.drop_alert('destination_disabled')});
run($token);
is(told($token), 'doctor_critical open', 'without that alert it is reported: critical, as there is no fallback');
shop(doctor($token, 'hint') . q{ SELECT stripe_sync.set_fallback('spare', 'ops'); SELECT stripe_sync.add_default_alerts('ops')});
$t->wait_for_status($token, 'ok');
run($token, $token);
is(told($token), 'doctor_critical closed', '... and closed');

# ---- items that raise an error, wait for a lock, or take long ----

my $refused = 'stripe.refused_deliveries';
my $view = shop(q{SELECT pg_get_viewdef('stripe_sync.refusal'::regclass)});

sub refusals { return shop("CREATE OR REPLACE VIEW stripe_sync.refusal AS $_[0]"); }
sub refusals_from { return refusals("SELECT NULL::text AS endpoint, 'x' AS code, 1::bigint AS events, now() AS first_at, now() AS last_at, '' AS last_detail FROM $_[0]"); }

my $before = $t->statuses;

refusals_from('(SELECT 1 / (random() * 0)::int) s (n) WHERE n > 0');
is(doctor($refused, q{status || ': ' || detail}), 'unknown: looking at it raised 22012: division by zero', 'an item that raises an error is unknown, with the error');
is(DoctorFaults::moved($before, $t->statuses, $refused), '', '... alone');
run($refused, $refused);
is(finding($refused, "concat_ws(' ', status, fails)"), 'unknown 0', 'the worker goes on, too');
refusals_from('pg_sleep(3)');
is(doctor($refused, q{status || ': ' || detail}), 'unknown: looking at it took more than 250 ms', 'an item that takes too long is unknown');
run($refused);
is(finding($refused, q{status || ': ' || detail}), 'unknown: looking at it took more than 20 ms', '... in the worker sooner');
is(finding($refused, q{slow_looks > 0 AND took_ms < 2000}), 't', '... where it was cut off, and that is noted');

my $locker = $node->background_psql('shop', on_error_stop => 1);

$locker->query_safe('BEGIN; LOCK TABLE stripe_sync.backup_note IN ACCESS EXCLUSIVE MODE');
is(doctor('postgres.backup', q{status || ': ' || detail}), 'unknown: another session holds a lock that it needs', 'no lock is waited for');
run('postgres.backup');
is(finding('postgres.backup', 'status'), 'unknown', '... in the worker neither');
$locker->query_safe('ROLLBACK');
$locker->quit;
run('postgres.backup');

# ---- the worker, with an item that is slow ----

worker_setting($node, 'shop', 'stripe_sync.doctor_interval', '1s');
my $looks = finding($refused, 'slow_looks');
my @delays;

for my $n (1 .. 15)
{
	my $id = notify($node, 'shop', 'ops', "message $n while the doctor runs");

	$t->eventually_true("SELECT state = 'sent' FROM stripe_sync.message WHERE id = $id");
	push @delays, shop("SELECT extract(epoch FROM d.started_at - m.created_at) FROM stripe_sync.message m JOIN stripe_sync.delivery d ON d.message_id = m.id WHERE m.id = $id ORDER BY d.id LIMIT 1");
}
ok($t->eventually_true("SELECT slow_looks > $looks + 6 FROM stripe_sync.finding WHERE key = " . literal($refused)), 'the worker looks again and again');
my @sorted = sort { $a <=> $b } @delays;
cmp_ok($sorted[7], '<', 0.5, 'a slow item delays no delivery') or diag "@sorted";
worker_setting($node, 'shop', 'stripe_sync.doctor_interval', '0');
refusals($view);
is($t->wait_for_status($refused, 'ok')->{status}, 'ok', 'the item is ok again');

# ---- the night ----

sub heavy { return (sort keys %nightly)[0]; }

# Call the worker at that hour of the day, by its time zone.
sub at_hour
{
	my ($hour, $seen) = @_;
	my $offset = ((gmtime)[2] - $hour + 36) % 24 - 12;		# Etc/GMT+5 is five hours behind

	shop('UPDATE stripe_sync.finding SET seen_at = clock_timestamp() - ' . literal($seen) . '::interval WHERE key = ' . literal(heavy()));
	shop(sprintf "SET TimeZone = 'Etc/GMT%+d'; SET stripe_sync.doctor_interval = '5 min'; CALL stripe_sync.work('20 s')", $offset);
	return finding(heavy(), q{CASE WHEN seen_at > clock_timestamp() - interval '1 hour' THEN 'looked' ELSE 'not' END});
}

SKIP: {
	skip 'there is no heavy item', 4 unless %nightly;
	is(at_hour(3, '10 hours'), 'looked', 'a heavy item is looked at in the night');
	is(at_hour(12, '20 hours'), 'not', '... and not at noon');
	is(at_hour(12, '3 days'), 'looked', '... unless it was not for two nights');
	is(at_hour(4, '70 min'), 'not', 'once in a night');
}

# ---- no worker ----

# work() is called in its place, by pg_cron for example.
shop('ALTER SYSTEM SET max_worker_processes = 2');
$node->restart;
is(doctor('postgres.worker', 'status'), 'fail', 'no worker runs');
run('postgres.worker', 'postgres.worker');
is(told('postgres.worker'), 'doctor_critical open', '... which is critical');
shop('ALTER SYSTEM RESET max_worker_processes');
$node->restart;
is($t->wait_for_status('postgres.worker', 'ok')->{status}, 'ok', 'after a restart it runs');
run('postgres.worker', 'postgres.worker');
is(told('postgres.worker'), 'doctor_critical closed', '... which is reported');

# ---- on a standby ----

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('watch_standby');

$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
my $rows = { map { $_->{key} => $_ } @{ json_value($standby->safe_psql('shop', 'SELECT json_agg(d) FROM stripe_sync.doctor() d')) } };

is(join(' ', grep { $rows->{$_}{status} eq 'unknown' } sort keys %$rows), '', 'on a standby nothing is unknown');
like($rows->{'postgres.worker'}{detail}, qr/\(as of \d+ (?:s|min) ago\)/, '... what only the primary knows is its finding');
unlike($rows->{'slack.backlog'}{detail}, qr/as of/, '... the rest is looked at');
$standby->stop;
done_testing;
