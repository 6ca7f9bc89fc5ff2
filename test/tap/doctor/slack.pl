# slack.pl
#		Each item of the area "slack": ok, broken and found, mended by its hint.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DoctorFaults;

use Test::More;

my $missing = DoctorFaults->missing;
plan skip_all => $missing if $missing;

my $t = DoctorFaults->start('doctor_slack');

$t->check_all('Slack');
done_testing;
