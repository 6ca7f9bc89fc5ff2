# fresh.pl
#		A fresh installation, set up as the README says: nothing fails, warnings are
#		what the production checklist closes, and after it all is ok.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Delivery;
use SlackStub;
use StripeStub;
use StripeSync;

use PostgreSQL::Test::Utils;
use Test::More;

my $missing = SlackStub->missing || StripeStub->missing;
plan skip_all => $missing if $missing;

my ($slack, $stripe) = (SlackStub->start, StripeStub->start);

# As PostgreSQL is installed: what the tests' servers switch off is on again.
my $node = start_node('fresh', allows_streaming => 1, conf => PRELOAD . $slack->conf . $stripe->conf . "fsync = on\nautovacuum = on\n");

sub shop { return $node->safe_psql('shop', "SET client_min_messages = error;\n$_[0]"); }
sub all_with { return shop(q{SELECT string_agg(key, ' ' ORDER BY key COLLATE "C") FROM stripe_sync.doctor() WHERE status = } . literal($_[0])); }
sub details { return shop(q{SELECT string_agg(concat_ws(' ', key, status, detail), E'\n') FROM stripe_sync.doctor() WHERE status <> 'ok'}); }

# Every item of the worker's doctor, now.
sub run_all
{
	shop(q{UPDATE stripe_sync.finding SET seen_at = '-infinity'});
	shop('CALL stripe_sync.work($$30 s$$)');
	return;
}

# An event, as Stripe sends it to the web server now.
sub webhook
{
	my ($id) = @_;
	my $payload = json_text({ id => $id, object => 'event', type => 'customer.created', created => time, livemode => FALSE,
		api_version => shop('SELECT stripe_sync.catalog_api_version()'), data => { object => { id => "cus_$id", object => 'customer', name => 'Ada', created => time } } });

	return shop('SET ROLE web; SELECT http_status FROM stripe_sync.webhook(' . literal($payload) . ", jsonb_build_object('Stripe-Signature', stripe_sync.sign(" . literals($payload, SECRET) . ')))');
}

# ---- the README ----

$node->safe_psql('postgres', 'CREATE DATABASE shop');
shop('CREATE EXTENSION stripe_sync');
shop('SELECT stripe_sync.add_endpoint(' . literals('default', SECRET) . q{, livemode => false); CREATE ROLE web LOGIN; SELECT stripe_sync.grant_ingest('web')});
shop('SELECT stripe_sync.add_slack_webhook(' . literals('ops', $slack->webhook_url(1)) . q{); SELECT stripe_sync.add_default_alerts('ops')});
$stripe->add_objects([ { object => 'webhook_endpoint', url => 'https://shop.example/stripe/webhook', status => 'enabled', livemode => FALSE,
	api_version => shop('SELECT stripe_sync.catalog_api_version()'), enabled_events => ['*'] } ], quiet => 1);
shop(q{SELECT stripe_sync.set_api_key('rk_test_fresh_0123456789')});
is(webhook('evt_fresh_1'), '200', 'a webhook arrives');
is(all_with('unknown'), '', 'nothing is unknown, whether the worker has looked or not') or diag details();
$node->poll_query_until('shop', q{SELECT count(*) = 1 FROM stripe_sync.worker WHERE database = 'shop' AND state NOT LIKE 'none%'});
run_all();
is(all_with('fail'), '', 'nothing fails') or diag details();
is(all_with('unknown'), '', 'nothing is unknown') or diag details();
is(all_with('warn'), 'postgres.archiving postgres.backup postgres.mirror_owner postgres.restore_test postgres.timeouts slack.fallback', 'warnings are what the production checklist closes') or diag details();
is(shop('SELECT count(*) FROM stripe_sync.message'), '0', 'and Slack is told nothing');

# ---- the production checklist ----

# Its commands, as it prints them; only the places are the test's.
my ($section) = slurp_file("$FindBin::RealBin/../../../doc/production.md") =~ /^### What doctor\(\) warns of at first\n(.*?)(?=^##|\z)/ms;
my ($place, $url) = (PostgreSQL::Test::Utils::tempdir_short, $slack->webhook_url(2));

for my $command ($section =~ /^```(?:sql|text)\n(.*?)^```$/gms)
{
	my $error;

	$command =~ s{/mnt/archive}{$place}g;
	$command =~ s{https://hooks\.slack\.com/services/\w+/\w+/\w+}{$url};
	is($node->psql('shop', $command, stderr => \$error, on_error_stop => 1), 0, 'the checklist runs') or diag "$command\n$error";
}
$node->restart;
$node->poll_query_until('shop', q{SELECT count(*) = 1 FROM stripe_sync.worker WHERE database = 'shop' AND state NOT LIKE 'none%'});
shop('SELECT pg_switch_wal()');
$node->poll_query_until('shop', 'SELECT archived_count > 0 FROM pg_stat_archiver');
run_all();
is(all_with($_), '', "after the checklist nothing is $_") or diag details() for qw(warn fail unknown);
done_testing;
