# DoctorFaults.pm
#		A healthy installation, and the faults that doctor() must find.  The tests of
#		the doctor and of the runbook share them.
#
#	my $t = DoctorFaults->start('slack');
#	$t->check_all('Slack');
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
# start() has the worker's run look at the nightly keys, unless its option "unseen"
# is set.  What $t offers: sql(), sql_ok(), psql() in the database, node, database, slack
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

# The keys are a contract: users mute them, and the pages of the runbook have their
# names.
use constant KEYS => {
	Stripe => [ map { "stripe.$_" } qw(endpoint_secret silence last_event delivery_delay failed_events refused_deliveries mode api_versions
		unmirrored_types mirror_drift api_key reconcile reconcile_gap webhook_endpoint jobs) ],
	Slack => [ map { "slack.$_" } qw(destinations tokens fallback backlog dead_messages failure_rate rate_limits flood system_alerts noisy_alerts
		unused_alerts unacknowledged_alerts open_incidents) ],
	Server => [ map { "postgres.$_" } qw(worker preload outbound version connections pooler idle_in_transaction long_transactions blocked_locks
		xmin_horizon wraparound replicas slots wal archiving backup restore_test slow_queries pending_restart timeouts durability checksums
		autovacuum) ],
	Storage => [ map { "postgres.$_" } qw(missing_indexes keys invalid_indexes bloat vacuum sequences not_valid mirror_owner foreign_keys triggers
		size growth) ] };
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

# All keys
sub all_keys { return map { @{ +KEYS->{$_} } } qw(Stripe Slack Server Storage); }

# ---- a healthy installation ----

# A reason not to run, or ''
sub missing { return SlackStub->missing; }

sub start
{
	my ($class, $name, %options) = @_;
	my $self = bless { database => 'shop', slack => SlackStub->start }, $class;

	$self->preload_disk;

	$self->{node} = start_node($name, %options, conf => join '', PRELOAD, $self->{slack}->conf,
		"stripe_sync.slack_rate = 0\nstripe_sync.doctor_interval = 0\n",
		$self->_each('conf'), $options{conf} // '');
	make_database($self->{node}, $self->{database});
	$self->_each('prepare');
	unless ($options{unseen})
	{
		$self->look_again($_) for grep { $self->faults->{$_}{nightly} } sort keys %{ $self->faults };
	}
	return $self;
}

# The servers that are started from here on: see disk.c.  Without a compiler, and
# with sanitizers, theirs is an ordinary disk.
sub preload_disk
{
	my ($self) = @_;
	my $directory = PostgreSQL::Test::Utils::tempdir_short;
	my $source = (__FILE__ =~ s{[^/]+$}{}r) . '../../lib/disk.c';

	return if $ENV{STRIPE_SYNC_SANITIZE} || defined $ENV{LD_PRELOAD};
	return if system("cc -O1 -shared -fPIC -o $directory/disk.so $source -ldl 2>$directory/log") != 0;
	$ENV{LD_PRELOAD} = "$directory/disk.so";
	$ENV{STRIPE_SYNC_DISK} = $self->{disk} = "$directory/free";
	return;
}

# So many bytes are free on the disk of pg_wal; undef: as many as there are.
sub disk_is
{
	my ($self, $bytes) = @_;

	unlink $self->{disk};
	append_to_file($self->{disk}, "$bytes\n") if defined $bytes;
	return;
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

sub statuses_in { my ($rows) = @_; return { map { $_ => $rows->{$_}{status} } keys %$rows }; }

sub statuses { my ($self) = @_; return statuses_in($self->rows); }

# The statuses that differ, as text
sub moved
{
	my ($before, $after, @except) = @_;
	my %except = map { $_ => 1 } @except;

	return join ', ', map { "$_ $before->{$_} -> " . ($after->{$_} // 'none') }
	  grep { !$except{$_} && $before->{$_} ne ($after->{$_} // '') } sort keys %$before;
}

# Have the worker's run look at a key now, in this session; unless "once" is set,
# again if the look was cut off, because the machine is busy.
sub look_again
{
	my ($self, $key, %options) = @_;
	my $where = 'WHERE key = ' . literal($key);
	my $again = "UPDATE stripe_sync.finding SET seen_at = '-infinity', progress = NULL $where";
	my $cut = $options{once} ? 'false' : "detail LIKE 'looking at it took more than%'";

	$self->sql($again);
	$self->eventually_true("SELECT coalesce((SELECT seen_at > '-infinity' AND progress IS NULL AND NOT $cut FROM stripe_sync.finding $where), false)",
		sub { $self->sql("$again AND $cut; SET stripe_sync.doctor_interval = '5 min'; CALL stripe_sync.work('20 s')") });
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

# Wait until a key has a status and, if "before" is given, all other keys but
# "except" have theirs; returns the rows as they were last.
sub wait_for_rows
{
	my ($self, $key, $status, $before, @except) = @_;
	my $until = time + WAIT;
	my $told = '';
	my $rows;

	do
	{
		$self->look_again($key) if $self->faults->{$key}{nightly};
		$rows = $self->rows;
		my $moved = moved($before // {}, statuses_in($rows), $key, @except);

		return $rows if $rows->{$key}{status} eq $status && $moved eq '';
		my $waits = "waits for $key, which is $rows->{$key}{status}: $rows->{$key}{detail}; $moved";

		note $waits if $waits ne $told;
		$told = $waits;
		select(undef, undef, undef, 0.05);
	} while (time < $until);
	return $rows;
}

# The same of one key; returns its row.
sub wait_for_status { my ($self, $key, $status) = @_; return $self->wait_for_rows($key, $status)->{$key}; }

# ---- keys ----

# Each key of a package has its fault, which is found.
sub check_all
{
	my ($self, $package) = @_;
	my %faults = "DoctorFaults::$package"->can('faults')->($self);
	my @keys = sort @{ +KEYS->{$package} };

	is_deeply([ sort keys %faults ], \@keys, 'each key has a fault');
	for my $key (@keys)
	{
		my $began = time;

		$self->check($key);
		note sprintf '%s: %.1f s', $key, time - $began;
	}
	return;
}

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
		my $before = delete $self->{healthy} // $self->statuses;
		my @also = @{ $fault->{also} // [] };

		is($before->{$key}, 'ok', 'is ok') or return;
		$fault->{break}->($self);
		my $rows = $self->wait_for_rows($key, $fault->{status}, $before, @also);
		my $row = $rows->{$key};

		is($row->{status}, $fault->{status}, "is $fault->{status}") or diag(explain($row)), return;
		like($row->{detail}, $fault->{detail}, 'says what is wrong');
		like($row->{hint} // '', $fault->{hint} // ($fault->{mend} ? qr// : qr/\S/), 'says what to do');
		is(moved($before, statuses_in($rows), $key, @also), '', 'no other key moves');

		if   ($fault->{mend}) { $fault->{mend}->($self, $row); }
		else                  { $self->run_hint($row->{hint}); }
		$rows = $self->wait_for_rows($key, 'ok', $fault->{after} ? undef : $before);
		is($rows->{$key}{status}, 'ok', 'is ok again') or diag explain $rows->{$key};
		if ($fault->{after})
		{
			$fault->{after}->($self);
			$rows = $self->wait_for_rows($key, 'ok', $before);
		}
		is(moved($before, statuses_in($rows)), '', 'all is as before') and $self->{healthy} = $before;
	};
	return;
}

1;
