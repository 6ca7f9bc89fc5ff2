# SlackStub.pm
#		The stub of Slack (test/stub) for TAP tests: start, misbehave, look.
#
#	my $slack = SlackStub->start;
#	$node->append_conf('postgresql.conf', $slack->conf);
#	$slack->fault({ status => 500 }, times => 2, text => qr/disputed/);
#	$slack->wait_for(sub { $slack->stats->{ok} == 3 });
#	is_deeply([ map { $_->{shown} } @{ $slack->shows('#ops') } ], [ ... ]);
#	my ($message) = @{ $slack->shows('#ops') };
#	$node->safe_psql('db', receive_call($slack->press($message, 'stripe_sync.acknowledge', 'U1')));
#
# What the stub does and how it can fail: see test/stub/slack.py, faults.py and
# control.py; what it shares with the other stub: Stub.pm.

package SlackStub;

use strict;
use warnings FATAL => 'all';

use parent 'Stub';

use Digest::SHA qw(hmac_sha256_hex);
use Exporter qw(import);
use JSON::PP;

our @EXPORT = qw(receive_call);

# What the stub signs with unless it is told otherwise: for add_slack_app().
use constant SIGNING_SECRET => '0123456789abcdef0123456789abcdef';

sub program { return 'slack.py'; }

# ---- where it is ----

sub api_base { return $_[0]->url_base . '/api'; }
sub webhook_path { return sprintf '/services/T0STUB/B%06d/sEcReT%06d', $_[1] // 1, $_[1] // 1; }
sub webhook_url { return $_[0]->url_base . $_[0]->webhook_path($_[1]); }

# Lines for postgresql.conf.
sub conf
{
	my ($self) = @_;

	return "stripe_sync.slack_hosts = '@{[ $self->host ]}'\n" .
	  "stripe_sync.slack_api_base = '@{[ $self->api_base ]}'\n" . $self->trust_conf;
}

# ---- misbehave ----

# 'xoxb-...' => 'token_revoked', or undef when it is good again
sub tokens { my ($self, %errors) = @_; return $self->control('tokens', \%errors); }

# '#name' => 'is_archived', or undef when it is good again
sub channels { my ($self, %errors) = @_; return $self->control('channels', \%errors); }

# 'xoxb-...' => 'chat:write', or undef when it may do everything again
sub scopes { my ($self, %scopes) = @_; return $self->control('scopes', \%scopes); }

# 'S...' => [ 'U...', ... ], or undef when there is no such user group
sub groups { my ($self, %groups) = @_; return $self->control('groups', \%groups); }

# False: a plan without user groups
sub paid { return $_[0]->control('plan', { paid => $_[1] ? JSON::PP::true : JSON::PP::false }); }

# All response_urls and trigger_ids are too old from now on.
sub expire { return $_[0]->control('expire', {}); }

# For so many seconds a trigger_id opens a view, else for 3.
sub trigger_life { return $_[0]->control('trigger_life', { seconds => $_[1] }); }

# ---- people ----
#
# What a person does, as the signed request that Slack makes of it: (body,
# headers as JSON), for receive_call() or any HTTP front.  Options are those of
# people.py: user_name, team, secret, at, to, ...

sub did
{
	my ($self, $what, %how) = @_;
	my $made = $self->control($what, \%how);

	$self->{made} = $made;
	return ($made->{body}, $self->encode($made->{headers}));
}

# A button, or with option => ... a menu, of a message as shows() has it
sub press
{
	my ($self, $message, $action, $user, %how) = @_;

	return $self->did('press', channel => $message->{channel}, ts => $message->{ts},
		action_id => $action, user => $user // 'U0PERSON1', %how);
}

# press() with the action_id of the first button whose text is this
sub press_text
{
	my ($self, $message, $text, $user, %how) = @_;
	my ($action) = map { $_->{action_id} }
	  grep { ref eq 'HASH' && ref $_->{text} && $_->{text}{text} eq $text }
	  map { (@{ $_->{elements} // [] }, $_->{accessory}) } @{ $message->{blocks} // [] };

	die "no button \"$text\"\n" unless defined $action;
	return $self->press($message, $action, $user, %how);
}

# command('/stripe', 'help', 'U1', channel => '#ops')
sub command
{
	my ($self, $command, $text, $user, %how) = @_;

	return $self->did('command', command => $command, text => $text, user => $user // 'U0PERSON1', %how);
}

# The person's open view, with { block_id => { action_id => text } }
sub submit
{
	my ($self, $values, $user, %how) = @_;

	return $self->did('submit', values => $values, user => $user // 'U0PERSON1', %how);
}

# The last request: id, response_url, trigger_id, and with "to" status and answer
sub made { return $_[0]->{made}; }

# Give Slack the app's answer to the last request: dies if Slack would not take it.
# The answer is what receive_slack() returned, a reference or undef.
sub answered
{
	my ($self, $status, $answer) = @_;

	return $self->control('answered', { id => $self->{made}{id}, status => $status + 0, answer => $answer });
}

# Headers as JSON for a body of one's own
sub sign
{
	my ($self, $body, %how) = @_;
	my $at = $how{at} // time;
	my $secret = $how{secret} // SIGNING_SECRET;

	return $self->encode({ 'X-Slack-Request-Timestamp' => "$at",
		'X-Slack-Signature' => 'v0=' . hmac_sha256_hex("v0:$at:$body", $secret) });
}

# The same request, as Slack delivers it once more
sub redelivery
{
	my ($self, $body, $headers, $number) = @_;
	my $again = decode_json($headers);

	return ($body, $self->encode({ %$again, %{ decode_json($self->sign($body)) },
		'X-Slack-Retry-Num' => ($number // 1) . '', 'X-Slack-Retry-Reason' => 'http_timeout' }));
}

# SELECT of receive_slack() for (body, headers), of an app if it isn't 'default'
sub receive_call
{
	my ($body, $headers, $app) = @_;
	my @arguments = map { s/'/''/gr } $body, $headers, $app // 'default';

	return sprintf "SELECT http_status, body FROM stripe_sync.receive_slack('%s', '%s', '%s')", @arguments;
}

# ---- look ----

# What only one person sees: [ { user, channel, text, blocks, shown } ]
sub private { return $_[0]->control('private'); }

# Modals: [ { id, user, state => 'open', 'closed' or 'submitted', view, errors } ]
sub views { return $_[0]->control('views'); }

# { channels => { id => { name, messages } }, webhooks => { path => messages } }
sub messages { return $_[0]->control('messages'); }

# The messages that one place shows: a channel's name or id, or a webhook's number.
sub shows
{
	my ($self, $place) = @_;
	my $all = $self->messages;

	return $all->{webhooks}{ $self->webhook_path($place) } // [] if $place =~ /^\d+\z/;
	$place =~ s/^#//;
	my ($channel) = grep { $_->{name} eq $place } values %{ $all->{channels} };
	$channel //= $all->{channels}{$place};
	return $channel ? $channel->{messages} : [];
}

# { text => how often a message of it was taken }
sub texts { return $_[0]->control('texts'); }

1;
