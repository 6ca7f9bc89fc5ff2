# watch.pl
#		The doctor's frame: rows, rights, mutes, the worker's runs, what is told.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use StripeSync;

use Test::More;

my $node = start_node('watch', conf => "stripe_sync.doctor_interval = '1s'\n");
make_database($node, 'shop');

sub shop { return $node->safe_psql('shop', $_[0]); }

diag shop('SELECT * FROM stripe_sync.doctor()');
shop("CALL stripe_sync.work('10 s')");
diag shop('SELECT * FROM stripe_sync.finding');
ok 1;
done_testing;
