# Perl's Net::FTP with IO::Socket::SSL: one session; it never resumes TLS sessions (libnet#40).
use strict;
use warnings;
use Net::FTP;

my ($task, $host, $port, $mode, $tls, $ca, $user, $password, $in, $out, $time) =
    map { $ENV{"MATRIX_$_"} } qw(TASK HOST PORT MODE TLS CA USER PASSWORD IN OUT TIME);
my $part = 2 * 1024 * 1024 + 17;
my $ftp;
$| = 1;

sub connect_anew {
    $ftp = Net::FTP->new(
        $host, Port => $port, Passive => 1, Timeout => 30, Debug => 1,
        SSL => $mode eq 'implicit' ? 1 : 0,
        SSL_ca_file => $ca, SSL_version => $tls eq '1.3' ? 'TLSv1_3' : 'TLSv1_2',
    ) or die "connect: $@\n";
    if ($mode eq 'explicit') { $ftp->starttls or die 'starttls: ' . $ftp->message }
    must($ftp->login($user, $password));
    must($ftp->binary);
}

sub must {
    my ($result) = @_;
    die(($ftp->message || $!) . "\n") unless $result;
    return $result;
}

sub step {
    my ($name, $action) = @_;
    if (eval { $action->(); 1 }) {
        print "$name ok\n";
        return;
    }
    my $why = $@;
    $why =~ s/\s+/ /g;
    if ($why =~ s/^cannot: //) {
        print "$name none $why\n";
        return;
    }
    print "$name fail $why\n";
    eval { connect_anew() } or print "    $@";
}

sub names {
    my ($name, @lines) = @_;
    open my $file, '>', "$out/$name.txt" or die $!;
    print $file map { "$_\n" } @lines;
    close $file;
}

sub rest_of_medium {
    open my $file, '<:raw', "$in/medium.bin" or die $!;
    seek $file, $part, 0;
    return $file;
}

# Net::FTP prefers what it is told: put() of a handle, restart() before it for REST.
sub put { must($ftp->put("$in/$_[0]", $_[1])) }

if ($task eq 'uploads') {
    connect_anew();
    put('medium.bin', sprintf 'up-%02d.bin', $_) for 1 .. 20;
    $ftp->quit;
    exit;
}
step('login', \&connect_anew);
step('mkdir', sub { must($ftp->mkdir('made')) });
for my $name (qw(small zero large)) {
    step($name, sub { put("$name.bin", "made/$name.bin") });
}
step('two', sub { put('medium.bin', 'made/one.bin'); put('small.bin', 'made/two.bin') });
step('get', sub { must($ftp->get('large.bin', "$out/large.bin")) });
step('list', sub { names('list', must($ftp->dir('listed')) ? $ftp->dir('listed') : ()) });
step('nlst', sub { names('nlst', $ftp->ls('listed')) });
step('mlsd', sub { die "cannot: Net::FTP never sends MLSD\n" });
step('resume-get', sub { must($ftp->get('medium.bin', "$out/medium.bin", $part)) });
step('resume-put', sub {
    $ftp->restart($part);
    must($ftp->put(rest_of_medium(), 'resume.bin'));
});
step('append', sub { must($ftp->append(rest_of_medium(), 'append.bin')) });
step('rename', sub { must($ftp->rename('rename-me', 'made/renamed')) });
step('time', sub {
    my $code = $ftp->quot('MFMT', $time, 'made/small.bin');
    die $ftp->message unless $code == 2;
});
step('delete', sub { must($ftp->delete('delete-me')) });
step('rmdir', sub { must($ftp->rmdir('remove-me')) });
step('abort', sub {
    my $data = must($ftp->retr('large.bin'));
    $data->read(my $block, 65536) or die 'nothing read';
    $data->abort;
    must($ftp->pwd);
});
$ftp->quit;
