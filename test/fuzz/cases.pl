#!/usr/bin/env perl
#
# cases.pl JUDGE VECTORS.json
#
# Asks the judge (judge.c) about every vector, made by running Stripe's own
# libraries, and about the edges of the rules that no vector has.  Prints TAP.

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256_hex);
use IPC::Open2;
use JSON::PP;
use MIME::Base64;

my ($judge, $vectors) = @ARGV;
die "usage: cases.pl JUDGE VECTORS.json\n" unless defined $vectors;

my $pid = open2(my $answers, my $questions, $judge);
my ($count, $failed) = (0, 0);

my $payload = '{"id":"evt_1","object":"event","type":"customer.created"}';
my $secret = 'whsec_test_secret';
my $at = 1760000000;

sub hex_of
{
	my ($bytes) = @_;
	return length $bytes ? unpack('H*', $bytes) : '-';
}

sub ask
{
	my ($question) = @_;
	print $questions "$question\n";
	my $answer = <$answers> // die "the judge has gone\n";
	chomp $answer;
	return $answer;
}

sub is
{
	my ($got, $expected, $name) = @_;
	my $fine = $got eq $expected;

	$count++;
	$failed++ unless $fine;
	print $fine ? "ok $count - $name\n" : "not ok $count - $name: got $got, expected $expected\n";
}

sub verify
{
	my (%with) = @_;
	my @secrets = @{ $with{secrets} // [ $with{secret} // $secret ] };

	return ask(join ' ', 'verify', hex_of($with{payload} // $payload),
		hex_of($with{header}), join(',', map { hex_of($_) } @secrets),
		$with{now} // $at, $with{tolerance} // 300);
}

# An element of the header that is right for these
sub v1
{
	my (%with) = @_;
	return 'v1=' . hmac_sha256_hex(($with{t} // $at) . '.' . ($with{payload} // $payload),
		$with{secret} // $secret);
}

sub bytes_of
{
	my ($text) = @_;
	utf8::encode($text);
	return $text;
}

sub test_vectors
{
	open my $file, '<', $vectors or die "$vectors: $!\n";
	my $all = JSON::PP->new->utf8->decode(do { local $/; <$file> });

	for my $vector (@{ $all->{vectors} })
	{
		my $answer = verify(
			payload => defined $vector->{payload}
			? bytes_of($vector->{payload})
			: decode_base64($vector->{payload_base64}),
			header => bytes_of($vector->{header}),
			secret => bytes_of($vector->{secret}),
			now => $vector->{now},
			tolerance => $vector->{tolerance});

		is($answer =~ /^fits/ ? 'accept' : 'reject',
			$vector->{verdict}, "vector $vector->{name} ($answer)");
	}
}

sub test_time
{
	my $good = "t=$at," . v1();

	is(verify(header => $good, now => $at + 300), 'fits 0', 'as old as the tolerance');
	is(verify(header => $good, now => $at + 301), 'too_old', 'a second older');
	is(verify(header => $good, now => $at + 301, tolerance => -1), 'fits 0', 'age not judged');
	is(verify(header => $good, now => $at, tolerance => 0), 'fits 0', 'tolerance of nothing');
	is(verify(header => $good, now => $at + 1, tolerance => 0), 'too_old', 'and a second');
	is(verify(header => $good, now => 0), 'fits 0', 'signed in the future');
	is(verify(header => $good, now => '-9223372036854775808'), 'fits 0', 'the earliest now');
	is(verify(header => $good, now => '9223372036854775807'), 'too_old', 'the latest now');
	is(verify(header => $good, now => $at + 999, payload => 'x'),
		'misfit', 'the signature is judged before the age');

	for my $t (0, 1, 999999999999)
	{
		is(verify(header => "t=$t," . v1(t => $t), now => 0), 'fits 0', "t=$t");
	}
	for my $t ('', '00', '01', '1000000000000', ' 1', '1 ', '+1', '-1', '-0', '1.0', '0x1', "1\n", "1\0", '=1', "\x{b2}")
	{
		is(verify(header => "t=$t," . v1(t => $t), now => 0),
			'unreadable', 't=' . ($t =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger));
	}
}

sub test_header
{
	my $v1 = v1();
	my $upper = 'v1=' . uc substr $v1, 3;

	is(verify(header => "$v1,t=$at"), 'fits 0', 't after v1');
	is(verify(header => ",,t=$at,,$v1,,"), 'fits 0', 'empty elements');
	is(verify(header => "t=$at,v0=$v1,v2=x,foo,=,$v1"), 'fits 0', 'other schemes');
	is(verify(header => "t=$at,$upper"), 'fits 0', 'hex in upper case');
	is(verify(header => "t,t=$at,$v1"), 'unreadable', 'a bare t first');
	is(verify(header => "t=$at,$v1,t"), 'unreadable', 'a bare t last');
	is(verify(header => "t=$at,t=$at,$v1"), 'unreadable', 't twice, the same');
	is(verify(header => "T=$at,$v1"), 'unreadable', 'T is no t');
	is(verify(header => "t=$at,V1=" . substr $v1, 3), 'unreadable', 'V1 is no v1');
	is(verify(header => " t=$at,$v1"), 'unreadable', 'a space before t');
	is(verify(header => "t=$at, $v1"), 'unreadable', 'a space before v1');
	is(verify(header => "t=$at,v1,$v1"), 'fits 0', 'a bare v1 and a good one');
	is(verify(header => "t=$at,v1=,v1"), 'misfit', 'an empty v1');
	is(verify(header => "t=$at,$v1 "), 'misfit', 'a space after v1');
	is(verify(header => "t=$at," . substr $v1, 0, -1), 'misfit', '63 digits');
	is(verify(header => "t=$at,$v1" . '0'), 'misfit', '65 digits');
	is(verify(header => "t=$at,$v1\0"), 'misfit', 'a NUL after v1');
	for my $with ('g', ' ', "\0", '/', ':', '@', '`', "\x{e1}")
	{
		my $misfits = grep
		{
			verify(header => "t=$at," . substr($v1, 0, 3 + $_) . $with . substr $v1, 4 + $_) eq 'misfit'
		} 0 .. 63;
		is($misfits, 64, sprintf 'no hex digit, in each of 64 places: \\x%02x', ord $with);
	}
	for my $flip (1, 2, 4, 8)
	{
		my $misfits = grep
		{
			my $digit = hex substr $v1, 3 + $_, 1;
			verify(header => "t=$at," . substr($v1, 0, 3 + $_)
				. sprintf('%x', $digit ^ $flip) . substr $v1, 4 + $_) eq 'misfit'
		} 0 .. 63;
		is($misfits, 64, "another hex digit, in each of 64 places, by $flip");
	}
	is(verify(header => "t=$at"), 'unreadable', 'no v1');
	is(verify(header => "t=$at;$v1"), 'unreadable', 'another separator');
}

sub test_limits
{
	my $start = "t=$at," . v1() . ',';
	my $bad = 'v1=' . 'a' x 64 . ',';

	is(verify(header => $start . 'x' x (16384 - length $start)), 'fits 0', 'a header of 16 kB');
	is(verify(header => $start . 'x' x (16385 - length $start)), 'unreadable', 'and a byte');
	is(verify(header => "t=$at," . $bad x 31 . v1()), 'fits 0', 'the 32nd v1');
	is(verify(header => "t=$at," . $bad x 32 . v1()), 'misfit', 'the 33rd v1');
	is(verify(header => "t=$at," . 'v1=z,' x 1000 . v1()), 'fits 0', 'malformed ones are not counted');
}

sub test_secrets
{
	my $good = "t=$at," . v1();

	is(verify(header => $good, secrets => [ 'other', $secret ]), 'fits 1', 'the second secret');
	is(verify(header => $good, secrets => [ $secret, $secret ]), 'fits 0', 'a secret twice');
	is(verify(header => $good, secrets => [ '', $secret ]), 'fits 1', 'an empty secret and a good one');
	is(verify(header => "t=$at," . v1(secret => ''), secrets => [ '', 'other' ]),
		'misfit', 'an empty secret fits nothing');
	is(verify(header => "t=$at," . v1(secret => 'old') . ',' . v1(), secret => 'old'),
		'fits 0', 'while rolling, the old secret');
	is(verify(header => "t=$at," . v1(secret => 'old') . ',' . v1()),
		'fits 0', 'while rolling, the new secret');
	is(verify(header => "t=$at," . v1(payload => ''), payload => ''),
		'misfit', 'an empty payload fits nothing');
	for my $length (1, 63, 64, 65, 128, 1000)
	{
		my $long = 'k' x $length;
		is(verify(header => "t=$at," . v1(secret => $long), secret => $long),
			'fits 0', "a secret of $length bytes");
	}
	for my $length (1, 51, 52, 53, 63, 64, 65, 5000, 1_000_000)
	{
		my $body = join '', map { chr($_ * 7 % 256) } 1 .. $length;
		is(verify(header => "t=$at," . v1(payload => $body), payload => $body),
			'fits 0', "a payload of $length bytes");
	}
}

sub test_sign
{
	my $sign = sub { ask(join ' ', 'sign', hex_of($payload), hex_of($_[0]), $_[1]) };

	is($sign->($secret, $at), "t=$at," . v1(), 'signs');
	is($sign->($secret, 0), 't=0,' . v1(t => 0), 'signs at 0');
	is($sign->($secret, 999999999999), 't=999999999999,' . v1(t => 999999999999), 'signs at 12 digits');
	is($sign->($secret, 1000000000000), 'refused', 'refuses 13 digits');
	is($sign->($secret, -1), 'refused', 'refuses a negative time');
	is($sign->('', $at), 'refused', 'refuses an empty secret');
}

test_vectors();
test_time();
test_header();
test_limits();
test_secrets();
test_sign();
close $questions;
waitpid $pid, 0;
is($?, 0, 'the judge left in peace');
print "1..$count\n";
exit($failed ? 1 : 0);
