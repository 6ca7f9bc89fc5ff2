#!/usr/bin/env bash
#
# manifest.sh: the Slack app's manifest in doc/ is YAML, and what Slack takes.
#
# The fields, types and lengths are those of Slack's schema of manifests
# (https://github.com/slackapi/manifest-schema, schemas/manifest.schema.1.0.0.json,
# as of 2026-07-21), as far as the manifest has them: an unknown field fails.
#
# Prints TAP.

set -euo pipefail
cd "$(dirname "$0")/../.."

perl - doc/slack-app-manifest.yml <<'PERL'
use strict;
use warnings;
use CPAN::Meta::YAML;

my %string = (command => [ 2, 32 ], description => [ 1, 140 ], name => [ 1, 35 ], display_name => [ 1, 80 ],
	usage_hint => [ 1, 1000 ], background_color => [ 4, 7 ], url => [ 1, 3000 ], request_url => [ 1, 3500 ], major_version => [ 1, 1 ]);
my %schema = (
	'' => [qw(_metadata display_information features oauth_config settings)],
	_metadata => ['major_version'],
	display_information => [qw(name description background_color)],
	features => [qw(bot_user slash_commands)],
	bot_user => [qw(display_name always_online)],
	slash_commands => [qw(command url description usage_hint should_escape)],
	oauth_config => ['scopes'],
	scopes => ['bot'],
	settings => [qw(interactivity org_deploy_enabled socket_mode_enabled token_rotation_enabled)],
	interactivity => [qw(is_enabled request_url)]);
my $points = 0;
my $failed = 0;

sub ok
{
	my ($good, $name, @faults) = @_;

	print $good ? 'ok' : 'not ok', ' ', ++$points, " - $name\n", map { "# $_\n" } @faults;
	$failed += !$good;
	return;
}

# What is wrong with a value, and with those in it
sub faults
{
	my ($name, $value) = @_;

	return map { faults($name, $_) } @$value if ref $value eq 'ARRAY';
	if (ref $value eq 'HASH')
	{
		my %known = map { $_ => 1 } @{ $schema{$name} // [] };

		return map { $known{$_} ? faults($_, $value->{$_}) : "$name has no field $_" } sort keys %$value;
	}
	return $value =~ /^(?:true|false)$/ ? () : "$name: neither true nor false" if $name =~ /^is_|_enabled$|^always_|^should_/;
	return $value =~ /^[a-z]+(?:[.:][a-z.]+)*$/ && length $value <= 50 ? () : "no scope: $value" if $name eq 'bot';
	my ($least, $most) = @{ $string{$name} // [ 0, -1 ] };
	my @wrong = length $value < $least || length $value > $most ? ("$name: from $least to $most characters") : ();
	push @wrong, "$name: no https URL" if $name =~ /url$/ && $value !~ m{^https://[a-z.]+/};
	push @wrong, "$name: no command" if $name eq 'command' && $value !~ m{^/[a-z]+$};
	push @wrong, "$name: no colour" if $name eq 'background_color' && $value !~ /^#[0-9a-f]{6}$/;
	return @wrong;
}

my $all = CPAN::Meta::YAML->read($ARGV[0])->[0];
my @wrong = faults('', $all);

ok(!@wrong, 'every field is one of Slack\'s schema', @wrong);
ok($all->{display_information}{name} && $all->{features}{bot_user}{display_name} && $all->{settings}{interactivity}{is_enabled} eq 'true', 'what must be there is');
ok(join(' ', sort @{ $all->{oauth_config}{scopes}{bot} }) eq 'chat:write chat:write.public commands usergroups:read', 'the scopes are those that are used');
my ($stripe) = grep { $_->{command} eq '/stripe' } @{ $all->{features}{slash_commands} };
ok($stripe && $stripe->{url} eq $all->{settings}{interactivity}{request_url}, 'one URL takes commands and buttons');
print "1..$points\n";
exit($failed > 0);
PERL
