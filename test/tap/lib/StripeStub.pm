# StripeStub.pm
#		The stub of Stripe's API (test/stub) for TAP tests: fill, change, look.
#
#	my $stripe = StripeStub->start;
#	$node->append_conf('postgresql.conf', $stripe->conf);
#	$stripe->fill('customer', 1000, size => 5000);
#	my $event = $stripe->change('cus_1', { name => 'Ada' });
#	deliver($_) for $stripe->webhooks(limit => 10);
#	$stripe->fault({ status => 500 }, path => qr{^/v1/invoices}, times => 2);
#	is_deeply(mirror(), $stripe->state);
#
# Two stubs in one test share their authority:
# StripeStub->start(tls_dir => $slack->tls('')).  What the stub does and how it
# can fail: see test/stub/stripe.py, stripe_faults.py and stripe_control.py; what
# it shares with the other stub: Stub.pm.  "account" in %how is that of a
# connected account, and left out for the platform's own.

package StripeStub;

use strict;
use warnings FATAL => 'all';

use parent 'Stub';

use constant KEY => 'sk_test_stub';
use constant RESTRICTED_KEY => 'rk_test_stub';

sub program { return 'stripe.py'; }

# ---- where it is ----

sub api_base { return $_[0]->url_base; }

# Lines for postgresql.conf.
sub conf
{
	my ($self) = @_;

	return "stripe_sync.stripe_api_base = '@{[ $self->api_base ]}'\n" . $self->trust_conf;
}

# ---- what Stripe holds ----

# Count plausible objects of a type; size, seed, since, until (seconds),
# children, events => 1, account.  { made => n, ids => [...] }
sub fill
{
	my ($self, $type, $count, %how) = @_;

	$_ += 0 for grep { defined } $count, @how{ grep { exists $how{$_} } qw(size seed since until children) };
	return $self->control('fill', { %how, type => $type, count => $count });
}

# Objects as they are given, [ { object => 'customer', ... } ]; events => 1,
# account.  Their ids.
sub add_objects
{
	my ($self, $objects, %how) = @_;

	return @{ $self->control('objects', { %how, objects => $objects })->{ids} };
}

# Set fields of an object; unset => [ names ], event => type, at => seconds,
# quiet => 1, type, account.  The event, or undef.
sub change
{
	my ($self, $id, $fields, %how) = @_;

	return $self->control('change', { %how, id => $id, set => $fields });
}

# Many at once: [ { id => ..., set => { ... } }, ... ].  Their events.
sub change_many { return $_[0]->control('change', $_[1]); }

# Delete an object (a subscription is cancelled); gone => 1, event, at, quiet,
# type, account.  The event, or undef.
sub remove
{
	my ($self, $id, %how) = @_;

	return $self->control('delete', { %how, id => $id });
}

# Change what has no list: balance, balance_settings, account, tax.settings, or
# cash_balance with customer => id.  The event, or undef.
sub change_singleton
{
	my ($self, $type, $fields, %how) = @_;

	return $self->control('singleton', { %how, type => $type, set => $fields });
}

# Events as they are given, completed.  They.
sub add_events
{
	my ($self, $events, %how) = @_;

	return @{ $self->control('events', { %how, events => $events }) };
}

# ---- what it is to be like ----

# key => 'revoked', 'expired', 'invalid', { allow => [ path regexes ], deny => [
# ... ], write => 0, account => its own }, or undef to forget it; '*' is every other key.
sub keys { my ($self, %keys) = @_; return $self->control('keys', \%keys); }

# Connected accounts that there are.
sub accounts { my ($self, @accounts) = @_; return $self->control('accounts', \@accounts); }

# Stripe's time is so many seconds ahead of this machine's.
sub clock { return $_[0]->control('clock', { shift => $_[1] + 0 }); }

# Of events from now on.
sub api_version { return $_[0]->control('api_version', { version => $_[1] }); }

# ---- look ----

# { type => { id => object } }, without events; type, account.
sub state { my ($self, %of) = @_; return $self->control(with('state', %of)); }

# { type => [ ids ] }, newest first; type, account.
sub ids { my ($self, %of) = @_; return $self->control(with('ids', %of)); }

# One object as it is now; type, account.
sub object { my ($self, $id, %of) = @_; return $self->control(with('object', %of, id => $id)); }

# The same as text, as the API shows it.
sub object_text
{
	my ($self, $id, %of) = @_;

	return $self->control_text(with('object', %of, id => $id));
}

# Every event, oldest first, whatever its age; account.
sub events { my ($self, %of) = @_; return @{ $self->control(with('events', %of)) }; }

# The events that nobody has taken yet, oldest first, which takes them; limit, account.
sub pending { my ($self, %of) = @_; return @{ $self->control(with('pending', %of)) }; }

# The same as payloads (bytes) to be signed and delivered.
sub webhooks
{
	my ($self, %of) = @_;

	return map { $self->encode($_) } $self->pending(%of);
}

# Events that were delivered, for delivery_success; success => 0, account.
sub delivered
{
	my ($self, $ids, %how) = @_;

	return $self->control('delivered', { %how, ids => $ids });
}

# { 'path?query' => { asked => n, answered => n } } of an account.
sub pages { return $_[0]->control('pages')->{ $_[1] // '' } // {}; }

# The signing secret of a webhook endpoint that was made here.
sub secret_of { return $_[0]->control('secrets')->{ $_[1] }; }

# A query that fits the requests for a page in which the id at that place is, of
# a list that begins with these ids; behind "from" is the first such page.
sub pages_with
{
	my ($place, $from, @ids) = @_;

	return join '|', map {
		my $sizes = join '|', $place - $_ .. 100;
		$_ < 0 ? "^limit=($sizes)(?!.*starting_after)(&|\$)" : "limit=($sizes)&starting_after=$ids[$_](&|\$)"
	} $from .. $place - 1;
}

# A call with the fields of its query.
sub with
{
	my ($call, %of) = @_;
	my @fields = map { "$_=" . escape($of{$_}) } grep { defined $of{$_} } sort CORE::keys %of;

	return @fields ? "$call?" . join('&', @fields) : $call;
}

sub escape
{
	my ($text) = @_;

	$text =~ s/([^A-Za-z0-9_.~-])/sprintf '%%%02X', ord $1/ge;
	return $text;
}

1;
