# SlackStub.pm
#		The stub of Slack (test/stub) for TAP tests: start, misbehave, look.
#
#	my $slack = SlackStub->start;
#	$node->append_conf('postgresql.conf', $slack->conf);
#	$slack->fault({ status => 500 }, times => 2, text => qr/disputed/);
#	$slack->wait_for(sub { $slack->stats->{ok} == 3 });
#	is_deeply([ map { $_->{shown} } @{ $slack->shows('#ops') } ], [ ... ]);
#
# What the stub does and how it can fail: see test/stub/slack.py, faults.py and
# control.py; what it shares with the other stub: Stub.pm.

package SlackStub;

use strict;
use warnings FATAL => 'all';

use parent 'Stub';

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

# ---- look ----

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
