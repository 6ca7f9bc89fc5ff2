#!/usr/bin/env perl
#
# layers.pl TREE [LAYERS]
#
# The folders of src, against the list in src/layers (or LAYERS): which folder
# uses which, by linked symbols and by #include; what headers declare; sizes;
# and circles of files.  The tree is built.  Prints TAP.
#
# A declaration by hand leaves no #include, so symbols are read from the
# objects; types and macros leave no symbol, so #includes are read as well.

use strict;
use warnings;

my ($tree, $layers) = @ARGV;
my $src = "$tree/src";
$layers //= "$src/layers";

use constant {
	MAX_HEADER => 150,			# lines of a public header
	MAX_FILES  => 20,			# .c files of a folder
	MAX_SHARE  => 0.15,			# of all lines, for a folder
	MAX_CIRCLE => 3,			# files
};

my ($count, $failed) = (0, 0);

sub report
{
	my ($name, @faults) = @_;

	$count++;
	$failed++ if @faults;
	print @faults ? 'not ok' : 'ok', " $count - $name\n";
	print "# $_\n" for @faults;
}

sub slurp
{
	my ($file) = @_;

	open my $in, '<', $file or die "$file: $!\n";
	local $/;
	return scalar <$in>;
}

# ---- the list ----

my (@folders, %place, %may, %circle_of, %header, @list_faults);

for my $line (split /\n/, slurp($layers))
{
	next if $line =~ /^\s*(#|$)/;
	if (my ($path, $why) = $line =~ /^header (\S+): (.+)/) { $header{$path} = $why; next; }
	if (my ($folder, $size) = $line =~ /^circle (\w+): (\d+)/) { $circle_of{$folder} = $size; next; }
	my ($folder, $others) = $line =~ /^(\w+):(.*)/ or die "cannot read \"$line\" in $layers\n";

	for my $other (split ' ', $others)
	{
		push @list_faults, "$folder may not use $other, which stands below it" unless exists $place{$other};
		$may{$folder}{$other} = 1;
	}
	$place{$folder} = @folders;
	push @folders, $folder;
}
my @found = map { s|^\Q$src/\E||r } grep { my @c = glob "$_/*.c"; @c && !/generated/ } glob "$src/*";

push @list_faults, map { "folder $_ is not in the list" } grep { !exists $place{$_} } @found;
push @list_faults, map { my $f = $_; "there is no folder $f" } grep { my $f = $_; !grep { $_ eq $f } @found } @folders;
report('src/layers lists each folder, after all that it uses', @list_faults);

# ---- symbols ----

my (%home, @uses);

# Generated data belongs to the folder whose header declares it.
my %generated = (catalog_data => "types", fixture_data => "simulate");

for my $object (glob "$src/*/*.o")
{
	my ($folder, $file) = $object =~ m|/(\w+)/(\w+)\.o$|;

	next if $folder ne "generated" && !-e ($object =~ s|o$|c|r);
	$folder = $generated{$file} // die "$object?\n" if $folder eq 'generated';
	for (split /\n/, `nm --format=posix '$object'`)
	{
		my ($name, $class) = split ' ';

		$home{$name} = [ $folder, $file ] if $class =~ /[TDBRV]/;
		push @uses, [ $folder, $file, $name ] if $class eq 'U';
	}
}
die "$src has no objects: build first\n" unless @uses;

my (@upward, %file_uses, %used_outside);

for (@uses)
{
	my ($folder, $file, $name) = @$_;
	my ($to, $to_file) = @{ $home{$name} // next };

	$used_outside{$name} = 1 if "$folder/$file" ne "$to/$to_file";
	$file_uses{"$folder/$file"}{"$to/$to_file"} = 1;
	push @upward, "$folder/$file.c uses $name of $to/$to_file.c"
		if $to ne $folder && !$may{$folder}{$to};
}
report('symbols: a folder uses only what src/layers lets it', sort @upward);

# ---- includes ----

my (@include_faults, @section_faults, @unused, @long);

for my $file (glob("$src/*/*.[ch]"), glob "$src/*.[ch]")
{
	my ($folder) = $file =~ m|/src/(\w+)/\w+\.[ch]$|;

	next if !defined $folder || $folder eq 'generated';
	for my $path (slurp($file) =~ /^#include "(\w+\/\w+\.h)"/mg)
	{
		my ($to, $name) = $path =~ m|(\w+)/(\w+)\.h|;

		next if $to eq $folder || !exists $place{$to};
		push @include_faults, "$folder includes $path" unless $may{$folder}{$to};
		push @include_faults, "$file includes $path, which only its own folder may"
			unless $name eq $to || $to eq 'base' || exists $header{$path};
	}
}
report('#includes: only public headers, of folders that src/layers lets it use', @include_faults);

for my $file (glob "$src/*/*.h")
{
	my ($path) = $file =~ m|/src/(\w+/\w+\.h)$|;
	my ($folder, $name) = split m|[/.]|, $path;
	my $section = [];
	my $text = slurp($file);
	my $lines = () = $text =~ /\n/g;

	push @long, "$path has $lines lines" if $lines > MAX_HEADER && $name ne 'internal' && $path ne 'base/compat.h';
	for my $line (split /\n/, $text)
	{
		$section = [ $line =~ /(\w+)\.c\b/g, map { s/^_//r } $line =~ /(_\w+)\.c\b/g ] if $line =~ m{^/\* ---- .*\w\.c};
		my ($symbol) = $line =~ /^(?:compat_noreturn )?extern [^(;=]*?\b(\w+)(?:\(|;|\[|$)/ or next;
		my $at = $home{$symbol} // next;

		push @section_faults, "$path has $symbol, of $at->[0]/$at->[1].c, under " . join(', ', map { "$_.c" } @$section)
			if $at->[0] ne $folder || ($at->[1] !~ /_data$/ && @$section && !grep { $at->[1] =~ /\Q$_\E$/ } @$section);
		push @unused, "$path declares $symbol, which no other file uses" unless $used_outside{$symbol};
	}
}
report('headers: each declaration is under the file that defines it', @section_faults);
report('headers: each declaration has a user in another file', @unused);
report("headers: no public one is longer than @{[ MAX_HEADER ]} lines", @long);

# ---- sizes ----

my (%lines, %files, $all, @large);

for my $file (glob "$src/*/*.c")
{
	my ($folder) = $file =~ m|/(\w+)/\w+\.c$|;
	my $n = () = slurp($file) =~ /\n/g;

	next if $folder eq 'generated';
	$lines{$folder} += $n;
	$files{$folder}++;
	$all += $n;
}
for (@folders)
{
	push @large, "$_ has $files{$_} files" if ($files{$_} // 0) > MAX_FILES;
	push @large, sprintf '%s has %.1f %% of the lines', $_, 100 * $lines{$_} / $all if ($lines{$_} // 0) > MAX_SHARE * $all;
}
report('folders: at most ' . MAX_FILES . ' files and ' . 100 * MAX_SHARE . ' % of the lines', @large);

# ---- circles ----

my ($clock, %index, %low, %stacked, @stack, @circles) = (0);

sub visit
{
	my ($file) = @_;

	$index{$file} = $low{$file} = $clock++;
	push @stack, $file;
	$stacked{$file} = 1;
	for my $to (sort keys %{ $file_uses{$file} })
	{
		visit($to) unless exists $index{$to};
		$low{$file} = $low{$to} if $stacked{$to} && $low{$to} < $low{$file};
	}
	return unless $low{$file} == $index{$file};
	my @circle;

	do { push @circle, pop @stack; delete $stacked{ $circle[-1] } } until $circle[-1] eq $file;
	push @circles, [ sort @circle ] if @circle > 1;
}
no warnings 'recursion';
visit($_) for grep { !exists $index{$_} } sort keys %file_uses;

my @circle_faults;

for my $circle (@circles)
{
	my %in = map { (split m|/|)[0] => 1 } @$circle;
	my ($folder) = sort keys %in;

	push @circle_faults, "@$circle" if keys %in > 1 || @$circle > ($circle_of{$folder} // MAX_CIRCLE);
}
report('circles of files: none across folders, none longer than ' . MAX_CIRCLE . ' but for those in src/layers', @circle_faults);

print "1..$count\n";
exit($failed > 0);
