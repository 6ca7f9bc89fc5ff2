#!/usr/bin/env perl
#
# post_slack.pl: Slack's part in the tests of the HTTP fronts.
#
# usage: post_slack.pl [-s SECRET] [-t SECONDS] [-n] [-j] URL FILE
#
# Posts the bytes of FILE as a form (-j: as JSON), signed with SECRET so many
# seconds ago (-n: not signed at all), and prints the status and the body that came
# back.  Signs by itself: what is tested must not be what made the test.

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256_hex);
use Getopt::Std;
use HTTP::Tiny;

my %option = (s => 'a' x 32, t => 0);

getopts('s:t:nj', \%option) && @ARGV == 2 or die "usage: see the source\n";
my ($url, $file) = @ARGV;
open my $in, '<:raw', $file or die "$file: $!\n";
my $payload = do { local $/; <$in> } // '';
my $at = time - $option{t};
my %headers = ('Content-Type' => $option{j} ? 'application/json' : 'application/x-www-form-urlencoded');

%headers = (%headers, 'X-Slack-Request-Timestamp' => $at, 'X-Slack-Signature' => 'v0=' . hmac_sha256_hex("v0:$at:$payload", $option{s}))
	unless $option{n};
my $answer = HTTP::Tiny->new(timeout => 20)->post($url, { content => $payload, headers => \%headers });
print "$answer->{status} ", $answer->{content} // '', "\n";
