# stripe.pl
#		Each item of the area "stripe": ok, broken and found, mended by its hint.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DoctorFaults;
use StripeStub;
use StripeSync;

use Test::More;

my $missing = DoctorFaults->missing || StripeStub->missing;
plan skip_all => $missing if $missing;

my $t = DoctorFaults->start('doctor_stripe');
my $rows = $t->rows;

is_deeply([ grep { $rows->{$_}{area} eq 'stripe' } sort keys %$rows ], [ $t->keys_of('stripe') ], 'each item has a fault here');
$t->check($_) for $t->keys_of('stripe');
done_testing;
