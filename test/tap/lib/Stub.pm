# Stub.pm
#		What the stubs (test/stub) have in common for TAP tests: start,
#		misbehave, look.  See SlackStub.pm and StripeStub.pm.
#
# A stub has program(), the name of its program in test/stub, and conf(), lines
# for postgresql.conf.

package Stub;

use strict;
use warnings FATAL => 'all';

use Carp;
use Cwd qw(abs_path);
use File::Basename;
use File::Temp;
use HTTP::Tiny;
use IPC::Run;
use JSON::PP;
use POSIX qw(WNOHANG);
use Scalar::Util qw(weaken);
use Socket;
use Time::HiRes qw(sleep time);

# A machine may be very slow; what is waited for comes, or the test has failed.
use constant PATIENCE => 180;

my $STUB = abs_path(dirname(__FILE__) . '/../../stub');
my $json = JSON::PP->new->utf8->canonical->allow_nonref;
my @running;

# ---- start and stop ----

# Options: dir (else one that goes with the object), cert => 'server',
# 'expired', 'wrong_host' or 'other'; plain => 1 for no TLS; port => that of an
# earlier one; tls_dir => another's tls(''), to share its certificates.
sub start
{
	my ($class, %options) = @_;
	my $self = bless { cert => 'server', plain => 0, port => 0, %options }, $class;

	$self->{owner} = $$;
	$self->{temp} = File::Temp->newdir('stub_XXXXXX', TMPDIR => 1) unless $self->{dir};
	$self->{dir} //= $self->{temp}->dirname;
	$self->make_certificates unless $self->{plain};
	$self->hold_port;
	$self->launch;
	return $self;
}

# Why it cannot be started here, or undef.
sub missing
{
	for my $program (qw(python3 openssl))
	{
		my $found = grep { -x "$_/$program" } split /:/, $ENV{PATH};

		return "no $program" unless $found;
	}
	return undef;
}

sub make_certificates
{
	my ($self) = @_;

	my $output;

	return if -e $self->tls('ca.pem');
	IPC::Run::run([ "$STUB/tls.sh", $self->tls('') ], '<', \undef, '>&', \$output)
	  or croak "tls.sh failed: $output";
	return;
}

# The port is ours until the object goes, so that nobody else is given it while the
# program is stopped: bound here too, but never listened on.
sub hold_port
{
	my ($self) = @_;

	socket $self->{held}, PF_INET, SOCK_STREAM, 0 or croak "socket: $!";
	setsockopt $self->{held}, SOL_SOCKET, SO_REUSEADDR, pack('l', 1) or croak "SO_REUSEADDR: $!";
	bind $self->{held}, pack_sockaddr_in($self->{port}, INADDR_LOOPBACK) or croak "port $self->{port}: $!";
	($self->{port}) = unpack_sockaddr_in(getsockname $self->{held});
	return;
}

sub launch
{
	my ($self) = @_;
	my @tls = $self->{plain} ? '--plain' :
	  ('--cert' => $self->tls("$self->{cert}.pem"), '--key' => $self->tls("$self->{cert}.key"));

	unlink map { "$self->{dir}/$_" } qw(port control_port pid);
	$self->forget_requests;
	$self->{pid} = $self->run_in_background('python3', "$STUB/" . $self->program,
		'--dir' => $self->{dir}, '--port' => $self->{port}, @tls);
	push @running, $self;
	weaken($running[-1]);
	$self->await_port;
	$self->{control} = $self->file('control_port');
	return;
}

# Not by IPC::Run, which may be gone already when the last object goes.
sub run_in_background
{
	my ($self, @command) = @_;
	my $pid = fork // croak "fork: $!";

	return $pid if $pid;
	open STDIN, '<', '/dev/null';
	open STDOUT, '>', "$self->{dir}/log";
	open STDERR, '>&', \*STDOUT;
	exec @command or POSIX::_exit(127);
}

sub await_port
{
	my ($self) = @_;
	my $until = time() + PATIENCE;

	until (-e "$self->{dir}/port")
	{
		next if waitpid($self->{pid}, WNOHANG) == 0 && time() < $until;
		$self->stop;
		croak $self->program . ' did not start: ' . $self->file('log');
	}
	continue
	{
		sleep 0.01;
	}
	return;
}

# start_again listens on the same port once more.
sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;

	kill 'TERM', $pid;
	waitpid $pid, 0;
	unlink "$self->{dir}/port";
	return;
}

# Without its state; with other options (cert, plain) if there are any.
sub start_again
{
	my ($self, %options) = @_;

	$self->stop;
	%$self = (%$self, %options);
	$self->launch;
	return;
}

sub DESTROY
{
	my ($self) = @_;

	local ($?, $!, $@);
	$self->stop if $self->{owner} == $$;
	return;
}

END
{
	$_->DESTROY for grep { defined } @running;
}

# ---- where it is ----

sub port { return $_[0]->{port}; }
sub dir { return $_[0]->{dir}; }
sub tls { return ($_[0]->{tls_dir} // "$_[0]->{dir}/tls/") . $_[1]; }
sub ca_file { return $_[0]->tls('ca.pem'); }
sub host { return "127.0.0.1:$_[0]->{port}"; }
sub url_base { return ($_[0]->{plain} ? 'http' : 'https') . '://' . $_[0]->host; }
# The line of postgresql.conf that lets its certificate be trusted.
sub trust_conf
{
	my ($self) = @_;

	return $self->{plain} ? "stripe_sync.allow_plain_http = on\n" :
	  "stripe_sync.ca_file = '@{[ $self->ca_file ]}'\n";
}

# ---- misbehave ----

# One rule behind those there are: what happens, then method, path, query,
# account, text (regexes), times, skip.  Without times it is for ever.
sub fault
{
	my ($self, $fault, %for) = @_;
	my %match = map { defined $for{$_} ? ($_ => regex_text($for{$_})) : () }
	  qw(method path query account text);
	my %rule = (match => \%match, times => $for{times}, skip => $for{skip} // 0, fault => $fault);

	return $self->control('faults/add', [ \%rule ]);
}

# Python understands most of what Perl does, but not (?^:...)
sub regex_text
{
	my ($regex) = @_;

	return $regex unless ref $regex;
	my ($pattern, $flags) = re::regexp_pattern($regex);
	$flags =~ tr/imsx//cd;
	return $flags ? "(?$flags)$pattern" : $pattern;
}

sub clear_faults { return $_[0]->control('faults', []); }
sub faults { return $_[0]->control('faults'); }

# A fault that holds answers back until release(), so that no test has to be done
# with what it looks at meanwhile in so many seconds.
sub hold { return { delay => 600 }; }
sub release { return $_[0]->control('release', {}); }

# per_second, burst, retry_after and what the stub has besides; nothing switches it off.
sub rate { my ($self, %rate) = @_; return $self->control('rate', \%rate); }

# 'open', 'closed' (connections are refused) or 'silent' (taken, never spoken to)
sub listen_mode { return $_[0]->control('listen', { mode => $_[1] }); }

# End the connections that are kept alive.
sub disconnect { return $_[0]->control('disconnect', {}); }

sub reset
{
	my ($self) = @_;

	$self->control('reset', {});
	$self->forget_requests;
	return;
}

# ---- look ----

# Every request, oldest first, as journal.py describes; for a slow answer with
# its end, once that is known.  Only what is new is read and decoded.
sub requests
{
	my ($self) = @_;

	open my $file, '<:raw', "$self->{dir}/requests.jsonl" or croak "requests.jsonl: $!";
	seek $file, $self->{offset}, 0;
	while (my $line = <$file>)
	{
		last unless $line =~ /\n\z/;
		$self->{offset} += length $line;
		$self->note_request($json->decode($line));
	}
	close $file;
	return $self->{requests};
}

sub note_request
{
	my ($self, $entry) = @_;
	my $request = $self->{by_number}{ $entry->{n} };

	if ($request)
	{
		%$request = (%$request, %$entry);
		return;
	}
	return unless exists $entry->{at};    # the end of one from before a reset
	push @{ $self->{requests} }, $entry;
	$self->{by_number}{ $entry->{n} } = $entry;
	return;
}

sub forget_requests
{
	my ($self) = @_;

	$self->{offset} = 0;
	$self->{requests} = [];
	$self->{by_number} = {};
	return;
}

sub stats { return $_[0]->control('stats'); }

# Until the condition is true; false when it never was.
sub wait_for
{
	my ($self, $condition, $seconds) = @_;
	my $until = time() + ($seconds // PATIENCE);

	for (;;)
	{
		return 1 if $condition->($self);
		return 0 if time() > $until;
		sleep 0.02;
	}
}

# ---- underneath ----

# GET, or POST when there is a body.
sub control
{
	my ($self, $call, $body) = @_;

	return $json->decode($self->control_text($call, $body));
}

# The same as it comes.
sub control_text
{
	my ($self, $call, $body) = @_;
	my $url = "http://127.0.0.1:$self->{control}/_control/$call";
	my $http = ($self->{http} //= HTTP::Tiny->new(timeout => PATIENCE, no_proxy => '127.0.0.1'));
	my $answer = defined $body ?
	  $http->post($url, { content => $json->encode($body) }) : $http->get($url);

	croak $self->program . ", $call: $answer->{status} $answer->{content}" unless $answer->{success};
	return $answer->{content};
}

sub encode { return $json->encode($_[1]); }

sub file
{
	my ($self, $name) = @_;

	open my $file, '<', "$self->{dir}/$name" or return '';
	my $content = join '', <$file>;
	close $file;
	chomp $content;
	return $content;
}

1;
