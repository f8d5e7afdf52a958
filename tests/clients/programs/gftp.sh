#!/usr/bin/env bash
# gftp-text: a session for each step, commands on its input. It takes any certificate and says nothing by
# its status; the driver looks at the files.
. ./_steps.sh

# After an upload it sends SITE CHMOD, and takes the 502.
do_gftp() {
    local text
    text=$(printf '%s\n' "open ftps://$MATRIX_USER:$MATRIX_PASSWORD@$MATRIX_HOST:$MATRIX_PORT/" "$@" quit | gftp-text 2>&1)
    printf '%s\n' "$text"
    grep -q '230 ' <<< "$text" && ! sed "/SITE CHMOD/,+1d" <<< "$text" | grep -qE "(^|[^0-9])[45][0-9][0-9] [A-Z]"
}
# A file goes by its own name.
mkdir "$out/up"
cp "$in/small.bin" "$in/zero.bin" "$in/large.bin" "$out/up/"
cp "$in/medium.bin" "$out/up/one.bin"
cp "$in/small.bin" "$out/up/two.bin"
upload() { do_gftp "lcd $out/up" "cd made" "${@/#/put }"; }
list() { do_gftp "cd listed" ls > "$out/mlsd.raw"; sed 's/\x1b\[[0-9;]*m//g' "$out/mlsd.raw" > "$out/mlsd.txt"; }

step login do_gftp pwd
step mkdir do_gftp "mkdir made"
step small upload small.bin
step zero upload zero.bin
step large upload large.bin
step two upload one.bin two.bin
step get do_gftp "lcd $out" "get large.bin"
step mlsd list
cannot "gftp lists with MLSD where FEAT has it" list nlst
cannot "gftp-text has no command for it" resume-get resume-put append time abort
step rename do_gftp "rename rename-me made/renamed"
step delete do_gftp "delete delete-me"
step rmdir do_gftp "rmdir remove-me"
