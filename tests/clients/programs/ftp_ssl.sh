#!/usr/bin/env bash
# ftp-ssl, the old netkit client with TLS: a session for each step, commands on its input.
. ./_steps.sh

# It always ends with status 0: the last reply of the commands, before 221, tells.
do_ftp() {
    local text
    text=$({ printf 'user %s %s\nbinary\n' "$MATRIX_USER" "$MATRIX_PASSWORD"; printf '%s\n' "$@" bye; } |
        ftp-ssl -p -n -i -v -z secure -z verify=1 -z "cacert=$MATRIX_CA" "$MATRIX_HOST" "$MATRIX_PORT" 2>&1)
    printf '%s\n' "$text"
    ! grep -qE '^[45][0-9][0-9] ' <<< "$text" && grep -q '^221 ' <<< "$text"
}
rest_of_medium() { tail -c +$((part + 1)) "$in/medium.bin" > "$out/rest.bin"; }

step login do_ftp pwd
step mkdir do_ftp "mkdir made"
step small do_ftp "put $in/small.bin made/small.bin"
step zero do_ftp "put $in/zero.bin made/zero.bin"
step large do_ftp "put $in/large.bin made/large.bin"
step two do_ftp "put $in/medium.bin made/one.bin" "put $in/small.bin made/two.bin"
step get do_ftp "get large.bin $out/large.bin"
step list do_ftp "dir listed $out/list.txt"
step nlst do_ftp "nlist listed $out/nlst.txt"
cannot "ftp-ssl never sends MLSD" mlsd
step resume-get do_ftp "reget medium.bin $out/medium.bin"
step resume-put do_ftp "restart $part" "put $in/medium.bin resume.bin"
rest_of_medium
step append do_ftp "append $out/rest.bin append.bin"
step rename do_ftp "rename rename-me made/renamed"
step time do_ftp "quote MFMT $MATRIX_TIME made/small.bin"
step delete do_ftp "delete delete-me"
step rmdir do_ftp "rmdir remove-me"
cannot "only a keyboard's interrupt stops a transfer of ftp-ssl" abort
