# fixtures.pl
#		Objects of every type: applied, and every column says what _data says.
#
# Stripe's own example objects are read from the file that STRIPE_SYNC_FIXTURES
# names, or from ../shared beside the checkout; they are no part of the
# project.  Objects of our own writing are always there.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = shared_node('fixtures');
my $database = 'fixtures';
make_database($node, $database);
$node->safe_psql($database, q{
	CREATE FUNCTION test.all_rows(OUT name text, OUT content jsonb) RETURNS SETOF record LANGUAGE plpgsql AS $$
	BEGIN
		FOR name IN SELECT table_name FROM stripe_sync.mirror_table ORDER BY 1 LOOP
			FOR content IN EXECUTE format('SELECT to_jsonb(t) FROM stripe.%I t', name) LOOP
				RETURN NEXT;
			END LOOP;
		END LOOP;
	END $$;
});

my %types = map { ($_->{object_type} => $_) } @{ json_value($node->safe_psql($database,
	'SELECT json_agg(t) FROM stripe_sync.object_type t')) };
my %type_of_table = map { defined $_->{table_name} ? ($_->{table_name} => $_) : () } values %types;

# ---- columns, told from _data by other means than the extension's ----

sub number_or_null
{
	my ($value) = @_;

	return undef if !defined $value || ref $value || JSON::PP::is_bool($value);
	return $value;
}

# Is it a JSON string, and not a number?
sub is_string
{
	my ($value) = @_;

	return defined $value && !ref $value && json_text($value) =~ /^"/;
}

sub is_number { return defined $_[0] && !ref $_[0] && json_text($_[0]) !~ /^"/; }

sub reference
{
	my ($value) = @_;

	$value = $value->{id} if ref $value eq 'HASH';
	return is_string($value) ? $value : undef;
}

sub time_of
{
	my ($seconds) = @_;

	return undef unless is_number($seconds) && $seconds =~ /^-?\d+$/ && abs($seconds) < 1e11;
	return stamp($seconds - T0);
}

my %by_kind = (
	string => sub { is_string($_[0]) ? $_[0] : undef },
	integer => sub { is_number($_[0]) && $_[0] =~ /^-?\d{1,18}$/ ? $_[0] : undef },
	number => sub { is_number($_[0]) ? 0 + $_[0] : is_string($_[0]) && $_[0] =~ /^-?[0-9.]+$/ ? 0 + $_[0] : undef },
	boolean => sub { JSON::PP::is_bool($_[0]) ? $_[0] : undef },
	timestamp => \&time_of,
	reference => \&reference,
	whole => sub { $_[0] },
);
$by_kind{decimal} = $by_kind{number};
$by_kind{$_} = $by_kind{whole} for qw(embedded object array list metadata);

sub page_data
{
	my ($object, $field) = @_;
	my $page = $object->{$field};

	return () unless ref $page eq 'HASH' && ref $page->{data} eq 'ARRAY';
	return @{ $page->{data} };
}

sub bound
{
	my ($object, $field, $latest) = @_;
	my @values = sort { $a <=> $b } grep { is_number($_) } map { $_->{$field} } page_data($object, 'items');

	return @values ? $values[ $latest ? -1 : 0 ] : undef;
}

sub only_item
{
	my ($object) = @_;
	my @items = page_data($object, 'items');

	return @items == 1 && !$object->{items}{has_more} ? $items[0] : {};
}

sub payment
{
	my ($object, $field) = @_;
	my @payments = grep { defined $_->{payment}{$field} } page_data($object, 'payments');
	my ($default) = grep { $_->{is_default} } @payments;
	my $chosen = $default // $payments[0];

	return defined $chosen ? $chosen->{payment}{$field} : undef;
}

# Columns that moved between versions of Stripe's API
my %moved = (
	'invoices.subscription' => sub { reference($_[0]{subscription} // $_[0]{parent}{subscription_details}{subscription}) },
	'invoices.charge' => sub { reference($_[0]{charge} // payment($_[0], 'charge')) },
	'invoices.payment_intent' => sub { reference($_[0]{payment_intent} // payment($_[0], 'payment_intent')) },
	'charges.invoice' => sub { reference($_[0]{invoice}) },
	'subscriptions.current_period_start' => sub { time_of($_[0]{current_period_start} // bound($_[0], 'current_period_start', 0)) },
	'subscriptions.current_period_end' => sub { time_of($_[0]{current_period_end} // bound($_[0], 'current_period_end', 1)) },
	'subscriptions.price' => sub { my $item = only_item($_[0]); reference($item->{price} // $item->{plan} // $_[0]{plan}) },
	'subscriptions.quantity' => sub { $by_kind{integer}->($_[0]{quantity} // only_item($_[0])->{quantity}) },
);

sub same
{
	my ($is, $must) = @_;

	return 1 if json_text($is) eq json_text($must);
	return is_number($is) && is_number($must) && $is == $must;
}

# Columns of a row that don't say what _data says, as lines.
sub wrong_columns
{
	my ($table, $row) = @_;
	my $data = clone($row->{_data});    # looking into it makes hashes
	my %kind = %{ $type_of_table{$table}{fields} };
	my @lines;

	for my $column (sort grep { !/^_/ } keys %$row)
	{
		my $name = "$table.$column";
		my $must;

		if ($moved{$name}) { $must = $moved{$name}->(clone($data)); }
		elsif ($kind{$column}) { $must = $by_kind{ $kind{$column} }->($data->{$column}); }
		else { push @lines, "$name is no field of Stripe's"; next; }
		push @lines, "$name is " . json_text($row->{$column}) . ", _data says " . json_text($must)
		  unless same($row->{$column}, $must);
	}
	push @lines, map { "$table has no column $_" } grep { !exists $row->{$_} } sort keys %kind;
	return @lines;
}

sub all_rows
{
	my $rows = json_value($node->safe_psql($database,
		q{SELECT coalesce(json_agg(json_build_object('table', name, 'row', content)), '[]') FROM test.all_rows()}));

	return @$rows;
}

sub all_columns_right
{
	my ($what) = @_;
	my @rows = all_rows();
	my @lines = map { wrong_columns($_->{table}, $_->{row}) } @rows;

	ok(@rows > 0 && !@lines, "$what: every column of " . @rows . ' rows says what _data says')
	  or diag(join("\n", @lines[ 0 .. ($#lines < 15 ? $#lines : 15) ]));
	return;
}

# ---- receiving ----

my $number = 0;

sub receive_all
{
	my (@events) = @_;
	my $sql = "SELECT r.event_id, r.status, r.detail FROM (VALUES "
	  . join(",\n", map { "($_, " . literal(json_text($events[$_])) . ")" } 0 .. $#events)
	  . ") AS v (n, payload), LATERAL stripe_sync.receive(payload, stripe_sync.sign(payload, "
	  . literal(SECRET) . ")) r ORDER BY n";

	return @{ json_value($node->safe_psql($database, "SELECT json_agg(x) FROM ($sql) x")) };
}

sub event_type
{
	my ($object_type) = @_;
	my @known = @{ $types{$object_type}{event_types} // [] };
	my ($created) = grep { /\.created$/ } @known;
	my ($updated) = grep { /\.updated$/ } @known;

	return $created // $updated // "$object_type.created";
}

sub wrap
{
	my ($object, $type, $second) = @_;

	return event(sprintf('evt_%04d', $number++), $type, $second, $object);
}

# ---- our own ----

my $customer = { id => 'cus_own', object => 'customer', name => "J\x{f6}rg & \x{1F600}", email => undef,
	balance => -500, created => 1_600_000_000, delinquent => FALSE, livemode => FALSE,
	metadata => { plan => 'gold', empty => '' }, tax_exempt => 'none', address => { city => 'Bonn', line2 => undef } };
my @own = (
	[ $customer, 'customer.created' ],
	[ { id => 'in_old', object => 'invoice', customer => 'cus_own', subscription => 'sub_own', charge => 'ch_own',
		payment_intent => 'pi_own', amount_due => 1234, created => 1_600_000_001, paid => TRUE, status => 'paid',
		lines => { object => 'list', has_more => FALSE, url => '/l', data => [ { id => 'il_own', object => 'line_item', amount => 1234, invoice => 'in_old' } ] } }, 'invoice.paid' ],
	[ { id => 'in_new', object => 'invoice', customer => $customer,
		parent => { type => 'subscription_details', subscription_details => { subscription => { id => 'sub_own', object => 'subscription' } } },
		payments => { object => 'list', has_more => FALSE, url => '/p', data => [
			{ id => 'inpay_1', object => 'invoice_payment', invoice => 'in_new', is_default => FALSE, payment => { type => 'charge', charge => 'ch_1' } },
			{ id => 'inpay_2', object => 'invoice_payment', invoice => 'in_new', is_default => TRUE, payment => { type => 'payment_intent', payment_intent => 'pi_2' } } ] } }, 'invoice.updated' ],
	[ { id => 'sub_own', object => 'subscription', customer => 'cus_own', status => 'active', start_date => 1_600_000_000,
		items => { object => 'list', has_more => FALSE, url => '/i', data => [
			{ id => 'si_1', object => 'subscription_item', subscription => 'sub_own', quantity => 3,
				current_period_start => 1_600_000_100, current_period_end => 1_600_000_200, price => { id => 'price_own', object => 'price', unit_amount => 5, unit_amount_decimal => '5.25' } } ] } }, 'customer.subscription.created' ],
	[ { id => 'sub_two', object => 'subscription', customer => 'cus_own', status => 'active',
		items => { object => 'list', has_more => FALSE, url => '/i', data => [
			{ id => 'si_2', object => 'subscription_item', subscription => 'sub_two', quantity => 3, current_period_start => 1_600_000_300, current_period_end => 1_600_000_900, price => 'price_own' },
			{ id => 'si_3', object => 'subscription_item', subscription => 'sub_two', quantity => 4, current_period_start => 1_600_000_200, current_period_end => 1_600_000_800, price => 'price_own' } ] } }, 'customer.subscription.created' ],
	[ { id => 'price_dec', object => 'price', unit_amount => undef, unit_amount_decimal => '0.000123456789', product => 'prod_1', active => TRUE }, 'price.created' ],
	# kinds that have changed
	[ { id => 'cus_odd', object => 'customer', name => 17, balance => 'much', created => 'today', delinquent => 'no', metadata => [], email => { at => 1 } }, 'customer.created' ],
	[ { id => 'ch_odd', object => 'charge', amount => 1.5, captured => undef, invoice => 'in_old', customer => [], created => -1 }, 'charge.succeeded' ],
	[ { object => 'balance', available => [ { amount => 1, currency => 'eur' } ], pending => [], livemode => FALSE }, 'balance.available' ],
);

my @receipts = receive_all(map { wrap($_->[0], $_->[1], 10) } @own);
is(join(' ', map { $_->{status} } @receipts), join(' ', ('applied') x @own), 'our own objects are applied')
  or diag(json_text(\@receipts));
all_columns_right('our own objects');
is($node->safe_psql($database, 'SELECT id, subscription, charge, payment_intent FROM stripe.invoices ORDER BY id'),
	"in_new|sub_own|ch_1|pi_2\nin_old|sub_own|ch_own|pi_own", 'columns of invoices that moved');
is($node->safe_psql($database, 'SELECT id, price, quantity, extract(epoch FROM current_period_start)::bigint, extract(epoch FROM current_period_end)::bigint FROM stripe.subscriptions ORDER BY id'),
	"sub_own|price_own|3|1600000100|1600000200\nsub_two|||1600000200|1600000900", 'columns of subscriptions that moved');

# ---- Stripe's ----

my $file = $ENV{STRIPE_SYNC_FIXTURES} || "$FindBin::RealBin/../../../../shared/stripe/fixtures.json";

SKIP:
{
	skip 'skipped: no fixtures', 6 unless -r $file;
	my $fixtures = json_value(slurp_file($file));
	my %resources = %{ $fixtures->{resources} };
	my %deleted = %{ $fixtures->{deleted} };

	cmp_ok(scalar keys %resources, '>=', 125, 'objects to try');
	$node->safe_psql($database, 'TRUNCATE stripe_sync.event');
	my @names = sort keys %resources;
	my @got = receive_all(map { wrap($resources{$_}, event_type($resources{$_}{object}), 20) } @names);
	my @not = grep { $got[$_]{status} ne ($names[$_] eq 'billing.alert_triggered' ? 'ignored' : 'applied') } 0 .. $#names;
	is(join("\n", map { "$names[$_]: $got[$_]{status} " . ($got[$_]{detail} // '') } @not), '',
		'every object is applied, but the one that there is nothing to keep of');
	all_columns_right('every object');

	@names = sort keys %deleted;
	@got = receive_all(map { wrap($deleted{$_}, "$deleted{$_}{object}.deleted", 30) } @names);
	@not = grep { $got[$_]{status} ne 'applied' } 0 .. $#names;
	is(join("\n", map { "$names[$_]: $got[$_]{status} " . ($got[$_]{detail} // '') } @not), '', 'every deletion is applied');
	my %rows = map { ("$_->{table} " . ($_->{row}{id} // '') => $_->{row}) } all_rows();
	my @alive = grep {
		my $row = $rows{ "$types{ $deleted{$_}{object} }{table_name} $deleted{$_}{id}" };
		!defined $row || ($row->{_deleted_at} // '') ne stamp(30);
	} @names;
	is("@alive", '', 'and leaves a tombstone');
	all_columns_right('every deletion');
}

$node->stop;
done_testing();
