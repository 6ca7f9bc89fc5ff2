# DoctorFaults/Storage.pm
#		The faults of the items of what is stored: tables, indexes, sizes.

package DoctorFaults::Storage;

use strict;
use warnings FATAL => 'all';

use StripeSync;

# Rows that no event has brought
use constant ROWS => q{INSERT INTO stripe.customers (id, _data, _account, _as_of, _synced_at)
	SELECT 'cus_row_' || g, '{}', '', now(), now() FROM generate_series(%d, %d) g;};

use constant FLUSH => 'SELECT pg_stat_force_next_flush();';

# to see which trigger is slow
sub conf { return "track_functions = pl\n"; }

# The mirror belongs to an ordinary role, and the inbox has been analyzed.
sub prepare
{
	my ($t) = @_;
	my $body = json_text({ %{ event('evt_storage', 'customer.created', time - T0, { id => 'cus_storage', object => 'customer', name => 'A' }) },
		api_version => $t->sql('SELECT stripe_sync.catalog_api_version()') });

	$t->sql(q{
		CREATE ROLE shop_mirror; GRANT USAGE ON SCHEMA stripe TO shop_mirror;
		DO $$ DECLARE t text; BEGIN FOR t IN SELECT name FROM stripe_sync.mirror_tables() LOOP
			EXECUTE format('ALTER TABLE stripe.%I OWNER TO shop_mirror', t); END LOOP; END $$;});
	$t->sql('SELECT stripe_sync.receive(' . literal($body) . ', ' . literal(signature($body)) . ')');
	return;
}

sub faults
{
	return (
		'postgres.missing_indexes' => {
			break => sub { $_[0]->sql('DROP INDEX stripe.invoices_customer_idx') },
			status => 'warn',
			detail => qr/stripe\.invoices has no index on customer/,
			hint => qr/^CREATE INDEX CONCURRENTLY/ },
		'postgres.keys' => {
			break => sub { $_[0]->sql('ALTER TABLE stripe.customers DROP CONSTRAINT customers_pkey') },
			status => 'fail',
			detail => qr/stripe\.customers lacks a key/,
			hint => qr/ADD PRIMARY KEY \(id, _account\)/ },
		'postgres.invalid_indexes' => {
			break => sub {
				my ($t) = @_;

				$t->sql(sprintf(ROWS, 1, 2));
				$t->psql('CREATE UNIQUE INDEX CONCURRENTLY once ON stripe.customers (_data)');
				$t->sql(q{DELETE FROM stripe.customers WHERE id LIKE 'cus_row_%'});
			},
			status => 'warn',
			detail => qr/index stripe\.once is invalid/,
			hint => qr/^REINDEX INDEX CONCURRENTLY/,
			after => sub { $_[0]->sql('DROP INDEX stripe.once') } },
		'postgres.bloat' => {
			break => sub {
				my ($t) = @_;

				$t->sql(sprintf(ROWS, 1, 30_000));
				$t->sql('VACUUM stripe.customers');
				$t->sql(q{UPDATE stripe.customers SET name = 'B' WHERE id LIKE 'cus_row_%';} . FLUSH);
			},
			status => 'warn',
			detail => qr/stripe\.customers has \d+ dead rows/,
			hint => qr/^VACUUM/,
			after => sub { remove_rows(@_) } },
		'postgres.vacuum' => {
			break => sub { $_[0]->sql(sprintf(ROWS, 1, 30_000) . FLUSH) },
			status => 'warn',
			detail => qr/stripe\.customers has 3\d{4} rows/,
			hint => qr/^VACUUM/,
			after => sub { remove_rows(@_) } },
		'postgres.sequences' => {
			break => sub { $_[0]->sql(q{SELECT setval('stripe_sync.event_error_id_seq', 9000000000000000000)}) },
			status => 'fail',
			detail => qr/stripe_sync\.event_error_id_seq has used 98 %/,
			hint => qr/setval/ },
		'postgres.not_valid' => {
			break => sub { $_[0]->sql(q{ALTER TABLE stripe.customers ADD CONSTRAINT named CHECK (id <> '') NOT VALID}) },
			status => 'warn',
			detail => qr/constraint named of stripe\.customers is NOT VALID/,
			hint => qr/VALIDATE CONSTRAINT named/,
			after => sub { $_[0]->sql('ALTER TABLE stripe.customers DROP CONSTRAINT named') } },
		'postgres.mirror_owner' => {
			break => sub { $_[0]->sql('ALTER TABLE stripe.customers OWNER TO postgres') },
			status => 'warn',
			detail => qr/stripe\.customers belongs to the superuser postgres/,
			hint => qr/OWNER TO/ },
		'postgres.foreign_keys' => {
			break => sub {
				$_[0]->sql(q{ALTER TABLE stripe.invoices ADD CONSTRAINT known FOREIGN KEY (customer, _account) REFERENCES stripe.customers});
			},
			status => 'warn',
			detail => qr/foreign key known of stripe\.invoices/,
			hint => qr/DROP CONSTRAINT known/ },
		'postgres.triggers' => {
			break => sub {
				$_[0]->sql(q{
					CREATE FUNCTION stripe.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.1); RETURN new; END $$;
					CREATE TRIGGER slow BEFORE INSERT ON stripe.products FOR EACH ROW EXECUTE FUNCTION stripe.slow();
					INSERT INTO stripe.products (id, _data, _account, _as_of, _synced_at) VALUES ('prod_slow', '{}', '', now(), now());} . FLUSH);
			},
			status => 'warn',
			detail => qr/trigger slow on stripe\.products takes \d+ ms/,
			hint => qr/DISABLE TRIGGER slow/,
			after => sub { $_[0]->sql(q{DROP FUNCTION stripe.slow CASCADE; DELETE FROM stripe.products WHERE id = 'prod_slow'}) } },
		'postgres.size' => {
			break => sub {
				$_[0]->sql(q{
					ANALYZE stripe_sync.event;
					INSERT INTO stripe_sync.pulse VALUES ('planted', now() - interval '1 day', 1e12, interval '1 h', now() - interval '1 day', now())});
			},
			status => 'fail',
			detail => qr/the disk is full in \d+ days/,
			hint => qr//,
			mend => sub { $_[0]->sql(q{DELETE FROM stripe_sync.pulse WHERE endpoint = 'planted'}) } },
		'postgres.growth' => {
			break => sub {
				my ($t) = @_;

				$t->sql(q{ALTER SYSTEM SET stripe_sync.retention = 0});
				$t->sql('SELECT pg_reload_conf()');
			},
			status => 'warn',
			detail => qr/grows by .* a day without end/,
			hint => qr/retention/,
			after => sub {
				my ($t) = @_;

				$t->sql('ALTER SYSTEM RESET stripe_sync.retention');
				$t->sql('SELECT pg_reload_conf()');
			} },
	);
}

sub remove_rows
{
	my ($t) = @_;

	$t->sql(q{DELETE FROM stripe.customers WHERE id LIKE 'cus_row_%'});
	$t->sql('VACUUM stripe.customers');
	return;
}

1;
