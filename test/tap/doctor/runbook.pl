# runbook.pl
#		The runbook: each item of doctor() has a page, and what a page says can be
#		run as it is written, on a server that has the fault.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DoctorFaults;
use StripeSync;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $missing = DoctorFaults->missing;
plan skip_all => $missing if $missing;

use constant RUNBOOK => "$FindBin::RealBin/../../../doc/runbook";

my @sections = ('How it shows itself', 'Look', 'How to read it', 'What to do', 'How to know that it worked');
my $t = DoctorFaults->start('doctor_runbook');

sub page_of { my ($key) = @_; return ($key =~ tr/._/--/r) . '.md'; }

# The blocks of SQL, in their order
sub commands { my ($text) = @_; return $text =~ /^```sql\n(.*?)^```$/gms; }

sub run_page
{
	my ($text) = @_;

	for my $command (commands($text))
	{
		my $error;

		is($t->psql($command, stderr => \$error, on_error_stop => 1), 0, 'runs: ' . (split /\n/, $command)[0]) or diag "$command\n$error";
	}
	return;
}

sub check_page
{
	my ($key) = @_;
	my $fault = $t->faults->{$key};
	my $text = slurp_file(RUNBOOK . '/' . page_of($key));

	subtest $key => sub {
		like($text, qr/^Finding `\Q$key\E`\.$/m, 'names the finding');
		like($text, qr/^## \Q$_\E$/m, "has the section $_") for @sections;
		return if $fault->{nightly};
		$fault->{break}->($t);
		is($t->wait_for_status($key, $fault->{status})->{status}, $fault->{status}, 'the fault is there');
		run_page($text);
		if ($fault->{mend})
		{
			my $row = $t->rows->{$key};

			$fault->{mend}->($t, $row) if $row->{status} ne 'ok';
		}
		is($t->wait_for_status($key, 'ok')->{status}, 'ok', 'the page ends the fault');
		$fault->{after}->($t) if $fault->{after};
	};
	return;
}

# ---- pages of items ----

my %page = map { (m{([^/]+)$})[0] => 1 } glob(RUNBOOK . '/*.md');
my $rows = $t->rows;
my @keys = $t->all_keys;

is_deeply([ sort keys %$rows ], [ sort @keys ], 'doctor() has these keys');
is_deeply([ grep { !$page{ page_of($_) } } @keys ], [], 'each item has its page');
is_deeply([ grep { !$t->faults->{$_} } @keys ], [], 'each item has a fault');
for my $row (values %$rows)
{
	is($row->{page}, 'doc/runbook/' . page_of($row->{key}), "doctor() names the page of $row->{key}");
}
check_page($_) for grep { $page{ page_of($_) } && $t->faults->{$_} } @keys;

# ---- pages of other tasks ----

delete $page{ page_of($_) } for @keys;
for my $name (sort keys %page)
{
	next if $name eq 'README.md';
	subtest $name => sub { run_page(slurp_file(RUNBOOK . "/$name")); pass('is read') };
}
done_testing;
