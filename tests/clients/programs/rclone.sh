#!/usr/bin/env bash
# rclone, which is Go's jlaffaye/ftp: a process for each step.
. ./_steps.sh

case $MATRIX_MODE in explicit) tls=--ftp-explicit-tls ;; implicit) tls=--ftp-tls ;; esac
only=()
# Otherwise Go takes 1.3.
[ "$MATRIX_TLS" = 1.3 ] || only=(--ftp-disable-tls13)
password=$(rclone obscure "$MATRIX_PASSWORD")

do_rclone() {
    rclone --config /dev/null --retries 1 --low-level-retries 1 --timeout 30s --contimeout 10s -v \
        --ftp-host "$MATRIX_HOST" --ftp-port "$MATRIX_PORT" --ftp-user "$MATRIX_USER" --ftp-pass "$password" \
        "$tls" "${only[@]}" "$@"
}

if [ "$MATRIX_TASK" = uploads ]; then
    mkdir "$out/up"
    for name in $(uploads); do ln "$in/medium.bin" "$out/up/$name" || cp "$in/medium.bin" "$out/up/$name"; done
    do_rclone copy "$out/up" :ftp:
    exit
fi

upload() { do_rclone copyto "$in/$1" ":ftp:$2"; }
two() {
    mkdir "$out/two" && cp "$in/medium.bin" "$out/two/one.bin" && cp "$in/small.bin" "$out/two/two.bin" &&
        do_rclone copy --transfers 1 "$out/two" :ftp:made
}
list() { do_rclone --ftp-disable-mlsd lsf :ftp:listed > "$out/list.txt"; }
mlsd() { do_rclone lsf :ftp:listed > "$out/mlsd.txt"; }
# A range: REST, RETR and the data connection closed by the client.
abort() { [ "$(do_rclone cat --offset 1000 --count 99999 :ftp:large.bin | wc -c)" = 99999 ] && do_rclone lsf :ftp:listed; }
times() {
    local stamp="${MATRIX_TIME:0:4}-${MATRIX_TIME:4:2}-${MATRIX_TIME:6:2}T${MATRIX_TIME:8:2}:${MATRIX_TIME:10:2}:${MATRIX_TIME:12:2}"
    do_rclone touch --no-create --timestamp "$stamp" :ftp:made/small.bin
}

step login do_rclone lsf :ftp:
step mkdir do_rclone mkdir :ftp:made
step small upload small.bin made/small.bin
step zero upload zero.bin made/zero.bin
step large upload large.bin made/large.bin
step two two
step get do_rclone copyto :ftp:large.bin "$out/large.bin"
step list list
step mlsd mlsd
cannot "rclone never sends NLST" nlst
cannot "rclone starts interrupted transfers anew" resume-get resume-put append
step rename do_rclone moveto :ftp:rename-me :ftp:made/renamed
step time times
step delete do_rclone deletefile :ftp:delete-me
step rmdir do_rclone rmdir :ftp:remove-me
step abort abort
