# DoctorFaults/Slack.pm
#		The faults of the area "slack".

package DoctorFaults::Slack;

use strict;
use warnings FATAL => 'all';

use Delivery;
use StripeSync;

# Two destinations, each the other's fallback, and the default alerts.
sub prepare
{
	my ($t) = @_;

	add_webhook($t->node, $t->database, $t->slack, 'ops', 1);
	add_webhook($t->node, $t->database, $t->slack, 'spare', 2);
	$t->sql(q{SELECT stripe_sync.set_fallback('ops', 'spare'); SELECT stripe_sync.set_fallback('spare', 'ops');
		SELECT stripe_sync.add_default_alerts('ops')});
	return;
}

sub faults
{
	return (
		'slack.destinations' => {
			break => sub { $_[0]->sql(q{SELECT stripe_sync.disable_destination('spare', 'for a test')}) },
			status => 'fail',
			detail => qr/spare.*for a test/,
			hint => qr/enable_destination\('spare'\)/ },
	);
}

1;
