# hints.pl
#		Names that others choose, and code of those who own tables of the mirror, in
#		what the doctor says: a superuser who runs its hints as printed comes to no
#		harm, and nothing it prints is obeyed by a terminal.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Attack;
use StripeSync;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = ground_node('doctor_hostile', conf => 'track_functions = all');

ground('d1', 'customer', 'product', 'invoice');
role(qw(mallory mowner));

# What a terminal obeys, or what turns the writing around, but for line breaks
my $obeyed = q{U&'[\0001-\0009\000b-\001f\007f-\009f\202a-\202e\2066-\2069]'};

# The hint of an item, run as printed by a superuser; what it said
sub run_hint
{
	my ($key) = @_;
	my $hint = one('d1', "SELECT hint FROM stripe_sync.doctor() WHERE key = 'postgres.$key'");

	return ($hint, says('d1', super(), $hint));
}

sub status { return one('d1', "SELECT status FROM stripe_sync.doctor() WHERE key = 'postgres.$_[0]'"); }

# What all items print: rows in which a line is obeyed by a terminal
sub obeyed
{
	return one('d1', "SELECT string_agg(key, ' ') FROM stripe_sync.doctor() WHERE detail ~ $obeyed OR hint ~ $obeyed OR detail ~ E'\\n'");
}

# ---- the name of the database's owner, in a DO ----

my @owners = (
	'$$;alter role mallory superuser;do $$begin end',
	q{o',t);execute 'alter role mallory superuser';--},
	'%s %I $_1$ $$ $_2$',
	"a\x15alter role mallory superuser; --\x0a\x1b[201~",
	'o\\\'; x');
for my $i (0 .. $#owners)
{
	my $owner = $owners[$i];
	my $name = $owner =~ s/"/""/gr;

	root('d1', qq{CREATE ROLE "$name"; ALTER DATABASE d1 OWNER TO "$name"});
	is(status('mirror_owner'), 'warn', "owner $i: the mirror belongs to a superuser");
	is(obeyed(), '', "owner $i: what is printed is harmless to a terminal");
	my ($hint) = run_hint('mirror_owner');
	not_super("owner $i", 'mallory');
	is(status('mirror_owner'), 'ok', "owner $i: the hint ends the fault") or diag($hint);
	root('d1', 'SELECT format(\'ALTER TABLE %I.%I OWNER TO %I\', schemaname, tablename, current_user) FROM pg_tables WHERE schemaname = \'stripe\' \gexec');
}
root('d1', 'ALTER DATABASE d1 OWNER TO ' . super());

# ---- checks of a table's owner, which ALTER TABLE runs as who runs it ----

root('d1', q{
	GRANT USAGE, CREATE ON SCHEMA stripe TO mowner;
	CREATE SCHEMA mo AUTHORIZATION mowner;
	ALTER TABLE stripe.customers OWNER TO mowner;
	ALTER TABLE stripe.products OWNER TO mowner;
});
send_as('d1', super(), customer('cus_1'));
as('d1', 'mowner', q{
	CREATE FUNCTION mo.evil(t text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO public.seen VALUES ('check', current_user); RETURN true; END $$;
	ALTER TABLE stripe.customers ADD CONSTRAINT "evil""; --" CHECK (mo.evil(id)) NOT VALID;
});
run_hint('not_valid');
is(one('d1', "SELECT count(*) FROM public.seen WHERE who <> 'mowner'"), '0', 'a check of the owner\'s is not run by the hint of NOT VALID');
as('d1', 'mowner', q{
	ALTER TABLE stripe.customers DROP CONSTRAINT "evil""; --";
	ALTER TABLE stripe.customers ADD CONSTRAINT "plain""; --" CHECK (id <> '') NOT VALID;
});
run_hint('not_valid');
is(status('not_valid'), 'ok', 'one that calls no function of anybody\'s is validated');

as('d1', 'mowner', q{
	CREATE SEQUENCE stripe."s'); ALTER ROLE mallory SUPERUSER; --" AS smallint;
	ALTER TABLE stripe.customers ADD COLUMN nr smallint DEFAULT 1 CHECK (mo.evil(nr::text));
	ALTER SEQUENCE stripe."s'); ALTER ROLE mallory SUPERUSER; --" OWNED BY stripe.customers.nr;
	SELECT setval('stripe."s''); ALTER ROLE mallory SUPERUSER; --"', 32000);
});
root('d1', 'TRUNCATE public.seen');
run_hint('sequences');
is(one('d1', "SELECT count(*) FROM public.seen WHERE who <> 'mowner'"), '0', 'nor by the hint of a sequence near its end');
not_super('sequence', 'mallory', 'mowner');

# ---- names of triggers, constraints, indexes, slots, prepared transactions ----

my $evil = "x\x15\x1b]0;t\x07" . '""\'; alter role mallory superuser; --';
root('d1', qq{
	CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN PERFORM pg_sleep(0.06); RETURN NULL; END \$\$;
	CREATE TRIGGER "$evil" AFTER INSERT ON stripe.products FOR EACH ROW EXECUTE FUNCTION public.slow();
	ALTER TABLE stripe.invoices ADD CONSTRAINT "$evil" FOREIGN KEY (id, _account) REFERENCES stripe.customers (id, _account) NOT VALID;
});
send_as('d1', super(), thing('product', 'prod_1'));
$node->poll_query_until('d1', q{SELECT status = 'warn' FROM stripe_sync.doctor() WHERE key = 'postgres.triggers'});
is(obeyed(), '', 'names of triggers and constraints are harmless to a terminal');
run_hint('triggers');
is(one('d1', q{SELECT tgenabled FROM pg_trigger WHERE tgrelid = 'stripe.products'::regclass AND NOT tgisinternal}), 'D', 'the hint disables the trigger of that name');
run_hint('foreign_keys');
is(status('foreign_keys'), 'ok', 'and another one drops the foreign key');
not_super('names', 'mallory');

# ---- the page and the screen ----

is(one('d1', "SELECT stripe_sync.dashboard_text() ~ $obeyed"), 'f', 'dashboard_text() prints nothing that a terminal obeys');
no_harm('the end', qw(mallory mowner));

$node->stop;
done_testing();
