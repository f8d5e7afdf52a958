#!/usr/bin/env bash
# The curl command line: a process, and so a login, for each step.
. ./_steps.sh

case $MATRIX_MODE in
    explicit) base=ftp://$MATRIX_HOST:$MATRIX_PORT reach=(--ssl-reqd) ;;
    implicit) base=ftps://$MATRIX_HOST:$MATRIX_PORT reach=() ;;
esac

do_curl() {
    curl --silent --show-error --max-time 90 --user "$MATRIX_USER:$MATRIX_PASSWORD" --cacert "$MATRIX_CA" \
        "--tlsv$MATRIX_TLS" --tls-max "$MATRIX_TLS" "${reach[@]}" "$@"
}
upload() { do_curl --upload-file "$in/$1" "$base/$2"; }
# Quoted commands run before the listing, which nobody reads.
quote() {
    local lines=() line
    for line in "$@"; do lines+=(--quote "$line"); done
    do_curl "${lines[@]}" --list-only --output /dev/null "$base/"
}
two() { do_curl --upload-file "$in/medium.bin" "$base/made/one.bin" --next --silent --show-error \
    --user "$MATRIX_USER:$MATRIX_PASSWORD" --cacert "$MATRIX_CA" "--tlsv$MATRIX_TLS" --tls-max "$MATRIX_TLS" \
    "${reach[@]}" --upload-file "$in/small.bin" "$base/made/two.bin"; }
# A range ends with ABOR; the second transfer proves that the session was left in order.
abort() { do_curl --range 0-99999 --output /dev/null "$base/large.bin" && quote "PWD"; }

if [ "$MATRIX_TASK" = uploads ]; then
    # One process, one control connection.
    config=$out/uploads.conf
    for name in $(uploads); do
        printf 'upload-file = "%s"\nurl = "%s"\n' "$in/medium.bin" "$base/$name"
    done > "$config"
    do_curl --config "$config"
    exit
fi
step login quote PWD
step mkdir quote "MKD made"
step small upload small.bin made/small.bin
step zero upload zero.bin made/zero.bin
step large upload large.bin made/large.bin
step two two
step get do_curl --output "$out/large.bin" "$base/large.bin"
step list do_curl --output "$out/list.txt" "$base/listed/"
step nlst do_curl --list-only --output "$out/nlst.txt" "$base/listed/"
step mlsd do_curl --request MLSD --output "$out/mlsd.txt" "$base/listed/"
step resume-get do_curl --continue-at - --output "$out/medium.bin" "$base/medium.bin"
cannot "curl resumes uploads with SIZE and APPE" resume-put
append() { do_curl --continue-at - --upload-file "$in/medium.bin" "$base/append.bin"; }
step append append
step rename quote "RNFR rename-me" "RNTO made/renamed"
step time quote "MFMT $MATRIX_TIME made/small.bin"
step delete quote "DELE delete-me"
step rmdir quote "RMD remove-me"
step abort abort
