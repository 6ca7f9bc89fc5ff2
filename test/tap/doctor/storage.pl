# storage.pl
#		Each item of the area "postgres" about what is stored: ok, broken and found,
#		mended by its hint.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DoctorFaults;
use StripeSync;

use Test::More;

my $missing = DoctorFaults->missing;
plan skip_all => $missing if $missing;

my $t = DoctorFaults->start('doctor_storage');

# ---- each item ----

$t->check_all('Storage');

# ---- events that fail ----

sub receive_object
{
	my ($id, $type, $object) = @_;
	my $body = json_text(event($id, $type, 1, $object));

	return $t->sql('SELECT status FROM stripe_sync.receive(' . literal($body) . ', ' . literal(signature($body)) . ')');
}

# The hint of a key that fails drops what is in the way, and replays.
sub check_failing
{
	my ($key, $detail, $event) = @_;
	my $row = $t->rows->{$key};

	is($row->{status}, 'fail', "$key is fail");
	like($row->{detail}, $detail, 'names what is in the way');
	$t->run_hint($row->{hint});
	is($t->rows->{$key}{status}, 'ok', "$key is ok again");
	is($t->sql("SELECT status FROM stripe_sync.event WHERE id = '$event'"), 'applied', 'the event is applied');
	return;
}

$t->sql('ALTER TABLE stripe.invoices ADD CONSTRAINT known FOREIGN KEY (customer, _account) REFERENCES stripe.customers');
is(receive_object('evt_orphan', 'invoice.created', { id => 'in_orphan', object => 'invoice', customer => 'cus_nobody' }), 'failed', 'a foreign key fails');
check_failing('postgres.foreign_keys', qr/foreign key known of stripe\.invoices makes events fail/, 'evt_orphan');

$t->sql(q{CREATE FUNCTION stripe.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no' USING ERRCODE = 'PX001'; END $$;
	CREATE TRIGGER refuse BEFORE INSERT ON stripe.products FOR EACH ROW EXECUTE FUNCTION stripe.refuse()});
is(receive_object('evt_refused', 'product.created', { id => 'prod_refused', object => 'product' }), 'failed', 'a trigger fails');
check_failing('postgres.triggers', qr/trigger refuse on stripe\.products makes events fail with PX001/, 'evt_refused');

# ---- finished events that nobody prunes ----

$t->sql(q{UPDATE stripe_sync.event SET received_at = now() - interval '100 days' WHERE id = 'evt_storage'});
is($t->rows->{'postgres.growth'}{status}, 'fail', 'old events are found');
$t->run_hint($t->rows->{'postgres.growth'}{hint});
is($t->rows->{'postgres.growth'}{status}, 'ok', 'prune() mends it');

# ---- keys of the extension's own tables ----

# Dropped all at once, each is missed, and the hints make them again.
{
	my $unique = q{FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
		WHERE i.indisunique AND t.relnamespace = 'stripe_sync'::regnamespace AND t.relkind = 'r'};
	my $before = $t->sql("SELECT string_agg(pg_get_indexdef(c.oid), E'\\n' ORDER BY c.relname) $unique");

	$t->sql(qq{DO \$\$ DECLARE drop text; BEGIN
		FOR drop IN SELECT CASE WHEN i.indisprimary THEN format('ALTER TABLE stripe_sync.%I DROP CONSTRAINT %I CASCADE', t.relname, c.relname)
			ELSE format('DROP INDEX stripe_sync.%I', c.relname) END $unique LOOP EXECUTE drop; END LOOP; END \$\$});
	is($t->rows->{'postgres.keys'}{status}, 'fail', 'dropped keys are missed');
	$t->sql(q{DO $$ DECLARE hint text; BEGIN LOOP
		SELECT rtrim(d.hint, ';') INTO hint FROM stripe_sync.doctor() d WHERE d.key = 'postgres.keys' AND d.status = 'fail';
		EXIT WHEN hint IS NULL; EXECUTE hint; END LOOP; END $$});
	is($t->sql("SELECT string_agg(pg_get_indexdef(c.oid), E'\\n' ORDER BY c.relname) $unique"), $before, 'the hints make all of them again');
}

done_testing;
