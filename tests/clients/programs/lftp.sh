#!/usr/bin/env bash
# lftp (GnuTLS): a process for each step.
. ./_steps.sh

case $MATRIX_MODE in explicit) scheme=ftp ;; implicit) scheme=ftps ;; esac

do_lftp() {
    lftp --norc -c "set net:max-retries 1; set net:timeout 30; set cmd:fail-exit yes; set cmd:interactive no;
        set xfer:use-temp-file no; set xfer:clobber yes; set xfer:log no;
        set ssl:ca-file $MATRIX_CA; set ssl:verify-certificate yes;
        set ssl:priority \"NORMAL:-VERS-ALL:+VERS-TLS$MATRIX_TLS\";
        set ftp:ssl-force yes; set ftp:ssl-protect-data yes; set ftp:ssl-protect-list yes; debug 5;
        $settings
        open -u $MATRIX_USER,$MATRIX_PASSWORD $scheme://$MATRIX_HOST:$MATRIX_PORT; $1"
}
settings=

if [ "$MATRIX_TASK" = uploads ]; then
    script=
    for name in $(uploads); do script+="put $in/medium.bin -o $name;"; done
    do_lftp "$script"
    exit
fi

# Without MLSD lftp lists with LIST.
list() { settings="set ftp:use-mlsd no;" do_lftp "cls -1 listed > $out/list.txt"; }
mlsd() { settings="set ftp:use-mlsd yes;" do_lftp "cls -1 listed > $out/mlsd.txt"; }
resume_put() { do_lftp "put -c $in/medium.bin -o resume.bin"; }
# lftp has no APPE; `mirror -R` sets times with MFMT, SITE UTIME or MDTM, whichever works.
times() {
    mkdir "$out/mirror" && cp "$in/small.bin" "$out/mirror/small.bin" &&
        TZ=UTC touch -t "${MATRIX_TIME:0:12}.${MATRIX_TIME:12}" "$out/mirror/small.bin" &&
        do_lftp "mirror -R --ignore-time --transfer-all --overwrite $out/mirror made"
}
# Killed in mid-download: lftp sends its ABOR with Telnet bytes around it.
abort() { do_lftp "set net:limit-rate 200k:0; get large.bin -o $out/cut.bin & sleep 2; kill all; pwd; cls -1 made"; }

step login do_lftp "pwd; cd /"
step mkdir do_lftp "mkdir made"
step small do_lftp "put $in/small.bin -o made/small.bin"
step zero do_lftp "put $in/zero.bin -o made/zero.bin"
step large do_lftp "put $in/large.bin -o made/large.bin"
step two do_lftp "put $in/medium.bin -o made/one.bin; put $in/small.bin -o made/two.bin"
step get do_lftp "get large.bin -o $out/large.bin"
step list list
step nlst do_lftp "nlist listed > $out/nlst.txt"
step mlsd mlsd
step resume-get do_lftp "get -c medium.bin -o $out/medium.bin"
step resume-put resume_put
cannot "lftp resumes uploads with REST and STOR" append
step rename do_lftp "mv rename-me made/renamed"
step time times
step delete do_lftp "rm delete-me"
step rmdir do_lftp "rmdir remove-me"
step abort abort
