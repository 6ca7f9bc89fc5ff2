# attack_shape.pl
#		Tables whose shape changes while somebody waits for them, mirror tables and
#		the inbox: no crash, no memory in a column, no row by what was true before.
#
# The numbers in the names of tests are those of the list of attacks; a "brother"
# is a variation by another way in.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use Attack;
use Delivery;
use StripeBack;
use StripeStub;
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = ground_node('attack_shape');
my $super = Attack::super();

# What $role does to a table ($ddl) while a session that knows the table runs $sql and
# waits for it: what that session was told.  Options: role, who (of $sql), warm (its
# first event), name.
sub meanwhile
{
	my ($what, $database, $table, $ddl, $sql, %of) = @_;
	my $holder = session($database, $of{role});
	my $waiter;
	my $told;

	$holder->query_safe('SELECT pg_advisory_lock(7)');
	$waiter = begin_as($database, $of{who} // $super, 'waiter', ($of{warm} ? receive_sql($of{warm}) : '') . "SELECT pg_advisory_lock(7), pg_advisory_unlock(7); \\echo now\n$sql");
	waits($waiter, 'advisory');
	$holder->query_safe("SET client_min_messages = warning; BEGIN; LOCK TABLE $table");
	$holder->query_safe('SELECT pg_advisory_unlock(7)');
	ok(waits($waiter, 'relation'), "$what: it waits for the table");
	$holder->query_safe($ddl);
	$holder->query_safe('COMMIT');
	$told = ended($waiter);
	$holder->quit;
	unlike($told, qr/server closed|XX000/, "$what: it is told");
	return $told =~ s/^.*?^now$//msr;
}

# ---- 4: a column is added while an event waits ----

my @types = qw(product price refund charge coupon invoice payment_intent subscription plan payout dispute customer transfer topup review file setup_intent quote promotion_code tax_rate);
ground('s4', @types);
sub table_of { return one('s4', "SELECT 'stripe.' || table_name FROM stripe_sync.object_type WHERE object_type = '$_[0]'"); }

my $n = 0;

# [ label, type, DDL, select of the row, what it gives, status ]
sub case
{
	my ($label, $type, $ddl, $select, $expected, $status) = @_;
	my $table = table_of($type);
	my $id = "${type}_" . ++$n;
	my $told = meanwhile($label, 's4', $table, $ddl =~ s/TABLE\b/$table/gr, receive_sql(thing($type, $id, metadata => { k => 'v' })), warm => thing($type, "${id}_before"));

	$status //= 'applied';
	like($told, qr/^$status/m, "$label: the event is $status");
	is(one('s4', "SELECT $select FROM $table WHERE id = '$id'"), $expected, "$label: the row is right");
	not_crashed($label);
	return;
}
case("4: ADD COLUMN text, $_", $_, 'ALTER TABLE TABLE ADD COLUMN mine text' =~ s/TABLE TABLE/TABLE/r, q{coalesce(mine, 'none') || (metadata ->> 'k')}, 'nonev') for qw(product price refund);
sub added { my ($type, $sqltype, $select, $expected) = @_; return case("4: ADD COLUMN $sqltype, $type", $type, "ALTER TABLE ADD COLUMN mine $sqltype", $select, $expected); }
