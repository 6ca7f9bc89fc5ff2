# DoctorFaults.pm
#		A healthy installation, and the faults that doctor() must find.  The tests of
#		the doctor and of the runbook share them.
#
#	my $t = DoctorFaults->start('slack');
#	$t->check($_) for $t->keys_of('slack');
#
# Each area has a package of its own, listed in AREAS: DoctorFaults/Slack.pm,
# Stripe.pm, Server.pm, Storage.pm.  It has these functions, $t being the object:
#
#	conf($t)		lines for postgresql.conf; may be missing
#	prepare($t)		sets the area up as the README and the production checklist
#					say, so that all of its items are ok; may be missing
#	faults()		a list of key => { ... }, one for each item:
#
#	'slack.destinations' => {
#		break  => sub { my ($t) = @_; $t->sql('...') },	makes the fault
#		status => 'fail',			what doctor() then says: fail or warn
#		detail => qr/ops/,			what its detail must match
#		hint   => qr/enable/,		what its hint must match; optional
#		mend   => sub { my ($t) = @_; ... },	ends the fault where the hint
#									doesn't; without it the hint is run as printed
#		after  => sub { ... },		puts back what neither has; optional
#		also   => ['slack.backlog'],	other keys that this fault moves; avoid
#		nightly => 1,				the worker looks at it once a night
#	}
#
# What $t offers: sql(), sql_ok(), psql() in the database, node, database, slack
# (a SlackStub, or undef), rows() of doctor(), wait_for_status(), look_again().

package DoctorFaults;

use strict;
use warnings FATAL => 'all';

use Delivery;
use SlackStub;
use StripeSync;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use constant AREAS => qw(Slack Stripe Server Storage);
use constant WAIT => 60;		# seconds

# The areas whose package is there.
sub areas { return grep { eval "require DoctorFaults::$_; 1" || ($@ =~ /^Can't locate DoctorFaults/ ? 0 : die $@) } AREAS; }

sub _each
{
	my ($self, $name) = @_;

	return map { my $code = "DoctorFaults::$_"->can($name); $code ? $code->($self) : () } areas();
}

# The faults of all areas, by key.
sub faults { my %all = $_[0]->_each('faults'); return \%all; }

sub keys_of { my ($self, $area) = @_; return grep { /^\Q$area\E\./ } sort keys %{ $self->faults }; }

# ---- a healthy installation ----

# A reason not to run, or ''
sub missing { return SlackStub->missing; }

sub start
{
	my ($class, $name, %options) = @_;
	my $self = bless { database => 'shop', slack => SlackStub->start }, $class;

	$self->{node} = start_node($name, %options, conf => join '', PRELOAD, $self->{slack}->conf,
		"stripe_sync.slack_rate = 0\nstripe_sync.doctor_interval = 0\n",
		$self->_each('conf'), $options{conf} // '');
	make_database($self->{node}, $self->{database});
	$self->_each('prepare');
	return $self;
}

sub node { return $_[0]{node}; }
sub database { return $_[0]{database}; }
sub slack { return $_[0]{slack}; }
sub sql { my ($self, $sql) = @_; return $self->{node}->safe_psql($self->{database}, $sql); }

# The exit status of psql; nothing is checked.
sub psql { my ($self, $sql, %options) = @_; return $self->{node}->psql($self->{database}, $sql, %options); }

# ---- what the doctor says ----

# { key => { area, item, status, ... } }
sub rows
{
	my ($self) = @_;

	return { map { $_->{key} => $_ } @{ json_value($self->sql('SELECT json_agg(d) FROM stripe_sync.doctor() d')) } };
}

sub statuses { my ($self) = @_; my $rows = $self->rows; return { map { $_ => $rows->{$_}{status} } keys %$rows }; }

# The statuses that differ, as text
sub moved
{
	my ($before, $after, @except) = @_;
	my %except = map { $_ => 1 } @except;

	return join ', ', map { "$_ $before->{$_} -> " . ($after->{$_} // 'none') }
	  grep { !$except{$_} && $before->{$_} ne ($after->{$_} // '') } sort keys %$before;
}

# Have the worker's run look at a key now, in this session.
sub look_again
{
	my ($self, $key) = @_;

	$self->sql("UPDATE stripe_sync.finding SET seen_at = '-infinity', progress = NULL WHERE key = " . literal($key));
	$self->eventually_true("SELECT coalesce((SELECT seen_at > '-infinity' AND progress IS NULL FROM stripe_sync.finding WHERE key = " . literal($key) . '), false)',
		sub { $self->sql("SET stripe_sync.doctor_interval = '5 min'; CALL stripe_sync.work('20 s')") });
	return;
}

sub eventually_true
{
	my ($self, $query, $do) = @_;
	my $until = time + WAIT;

	while (time < $until)
	{
		$do->() if $do;
		return 1 if $self->sql($query) eq 't';
		select(undef, undef, undef, 0.05);
	}
	return 0;
}

# Wait until a key has a status; returns its row as it was last.
sub wait_for_status
{
	my ($self, $key, $status) = @_;
	my $until = time + WAIT;
	my $row;

	do
	{
		$self->look_again($key) if $self->faults->{$key}{nightly};
		$row = $self->rows->{$key};
		return $row if $row->{status} eq $status;
		select(undef, undef, undef, 0.05);
	} while (time < $until);
	return $row;
}

# ---- one key ----

sub run_hint
{
	my ($self, $hint) = @_;
	my $error;

	is($self->psql($hint, stderr => \$error, on_error_stop => 1), 0, "the hint can be run: $hint") or diag $error;
	return;
}

# Broken, it is found; mended, it is ok again; no other key moves meanwhile.
sub check
{
	my ($self, $key) = @_;
	my $fault = $self->faults->{$key};

	subtest $key => sub {
		my $before = $self->statuses;

		is($before->{$key}, 'ok', 'is ok') or return;
		$fault->{break}->($self);
		my $row = $self->wait_for_status($key, $fault->{status});

		is($row->{status}, $fault->{status}, "is $fault->{status}") or diag(explain($row)), return;
		like($row->{detail}, $fault->{detail}, 'says what is wrong');
		like($row->{hint} // '', $fault->{hint} // ($fault->{mend} ? qr// : qr/\S/), 'says what to do');
		is(moved($before, $self->statuses, $key, @{ $fault->{also} // [] }), '', 'no other key moves');

		if   ($fault->{mend}) { $fault->{mend}->($self, $row); }
		else                  { $self->run_hint($row->{hint}); }
		my $after = $self->wait_for_status($key, 'ok');

		is($after->{status}, 'ok', 'is ok again') or diag explain $after;
		$fault->{after}->($self) if $fault->{after};
		is(moved($before, $self->statuses), '', 'all is as before');
	};
	return;
}

1;
