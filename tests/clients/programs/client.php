<?php
// PHP's ftp extension: one session. It verifies no certificate and has no option for the TLS version:
// the driver's OPENSSL_CONF holds it to one.
function env(string $name): string { return getenv("MATRIX_$name"); }
const PART = 2 * 1024 * 1024 + 17;
$in = env("IN");
$out = env("OUT");
$ftp = null;

class Cannot extends Exception {}

function connect(): void {
    global $ftp;
    $ftp = ftp_ssl_connect(env("HOST"), (int)env("PORT"), 30) ?: throw new Exception("no connection");
    must(@ftp_login($ftp, env("USER"), env("PASSWORD")));
    // Active mode is the default.
    must(ftp_pasv($ftp, true));
}

function must($result) {
    if ($result === false) {
        throw new Exception(error_get_last()["message"] ?? "false");
    }
    return $result;
}

function step(string $name, callable $action): void {
    error_clear_last();
    try {
        $action();
        echo "$name ok\n";
    } catch (Cannot $why) {
        echo "$name none {$why->getMessage()}\n";
    } catch (Throwable $error) {
        echo "$name fail {$error->getMessage()}\n";
        try { connect(); } catch (Throwable $again) { echo "    {$again->getMessage()}\n"; }
    }
}

function put(string $local, string $remote): callable {
    return function () use ($local, $remote) {
        global $ftp, $in;
        must(@ftp_put($ftp, $remote, "$in/$local", FTP_BINARY));
    };
}

function names(string $name, $lines): void {
    global $out;
    file_put_contents("$out/$name.txt", implode("\n", must($lines)));
}

if (env("TASK") === "uploads") {
    connect();
    for ($number = 1; $number <= 20; $number++) {
        put("medium.bin", sprintf("up-%02d.bin", $number))();
    }
    ftp_close($ftp);
    exit;
}
step("login", fn() => connect());
step("mkdir", fn() => must(@ftp_mkdir($ftp, "made")));
foreach (["small", "zero", "large"] as $name) {
    step($name, put("$name.bin", "made/$name.bin"));
}
step("two", function () {
    put("medium.bin", "made/one.bin")();
    put("small.bin", "made/two.bin")();
});
step("get", fn() => must(@ftp_get($ftp, "$out/large.bin", "large.bin", FTP_BINARY)));
step("list", fn() => names("list", @ftp_rawlist($ftp, "listed")));
step("nlst", fn() => names("nlst", @ftp_nlist($ftp, "listed")));
step("mlsd", fn() => names("mlsd", array_column(must(@ftp_mlsd($ftp, "listed")), "name")));
// FTP_AUTORESUME reads the local size.
step("resume-get", fn() => must(@ftp_get($ftp, "$out/medium.bin", "medium.bin", FTP_BINARY, FTP_AUTORESUME)));
// It asks SIZE, seeks, and sends REST and STOR.
step("resume-put", fn() => must(@ftp_put($ftp, "resume.bin", "$in/medium.bin", FTP_BINARY, FTP_AUTORESUME)));
step("append", function () {
    global $ftp, $in, $out;
    file_put_contents("$out/rest.bin", substr(file_get_contents("$in/medium.bin"), PART));
    must(@ftp_append($ftp, "append.bin", "$out/rest.bin", FTP_BINARY));
});
step("rename", fn() => must(@ftp_rename($ftp, "rename-me", "made/renamed")));
step("time", function () {
    global $ftp;
    $answer = ftp_raw($ftp, "MFMT " . env("TIME") . " made/small.bin");
    if (!str_starts_with($answer[0] ?? "", "213")) {
        throw new Exception($answer[0] ?? "no answer");
    }
});
step("delete", fn() => must(@ftp_delete($ftp, "delete-me")));
step("rmdir", fn() => must(@ftp_rmdir($ftp, "remove-me")));
step("abort", function () {
    // It has no ABOR: a download begun and never ended, then a new session.
    global $ftp, $out;
    must(@ftp_nb_get($ftp, "$out/cut.bin", "large.bin", FTP_BINARY));
    // Not ftp_close(): it would wait for the reply to QUIT behind the download that nobody reads.
    $ftp = null;
    connect();
    must(ftp_pwd($ftp));
});
ftp_close($ftp);
