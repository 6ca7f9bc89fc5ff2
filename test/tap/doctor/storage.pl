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
my %faults = DoctorFaults::Storage::faults($t);

sub receive
{
	my (@event) = @_;
	my $body = json_text(event(@event));

	return $t->sql('SELECT status FROM stripe_sync.receive(' . literal($body) . ', ' . literal(signature($body)) . ')');
}

# ---- each item ----

$t->check($_) for sort keys %faults;

# ---- keys of the extension's own tables ----

# The list of keys in keys.c is complete, but for tables of one row.
{
	my @keys = split /\n/, $t->sql(q{SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		WHERE i.indisunique AND c.relnamespace = 'stripe_sync'::regnamespace ORDER BY 1});
	my $unknown = 0;

	for my $key (grep { !/_pkey$/ } @keys)
	{
		$t->sql("DROP INDEX stripe_sync.$key");
		my $row = $t->rows->{'postgres.keys'};

		is($row->{status}, 'fail', "$key is missed") or next;
		$t->run_hint($row->{hint});
		is($t->rows->{'postgres.keys'}{status}, 'ok', "$key is made again");
	}
	for my $key ('event_pkey', 'message_pkey', 'alerted_pkey')
	{
		my $table = $key =~ s/_pkey$//r;

		$t->sql("ALTER TABLE stripe_sync.$table DROP CONSTRAINT $key CASCADE");
		my $row = $t->rows->{'postgres.keys'};

		is($row->{status}, 'fail', "$key is missed") or next;
		$t->run_hint($row->{hint});
		is($t->rows->{'postgres.keys'}{status}, 'ok', "$key is made again");
	}
}

done_testing;
