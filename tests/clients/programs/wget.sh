#!/usr/bin/env bash
# wget, which only downloads. `ftps://` means AUTH TLS whatever the port: without --ftps-implicit it waits
# for a greeting in the clear on an implicit port and ends with status 4.
. ./_steps.sh

implicit=()
[ "$MATRIX_MODE" = explicit ] || implicit=(--ftps-implicit)
base=ftps://$MATRIX_HOST:$MATRIX_PORT

do_wget() {
    wget --no-verbose --no-config --tries=1 --timeout=30 --ca-certificate="$MATRIX_CA" \
        --secure-protocol="TLSv${MATRIX_TLS/./_}" --user="$MATRIX_USER" --password="$MATRIX_PASSWORD" \
        "${implicit[@]}" "$@"
}
list() { do_wget --no-remove-listing --directory-prefix "$out/ls" "$base/listed/" && cp "$out/ls/.listing" "$out/list.txt"; }

step login do_wget --output-document "$out/whole.bin" "$base/rename-me"
step get do_wget --output-document "$out/large.bin" "$base/large.bin"
step list list
step resume-get do_wget --continue --directory-prefix "$out" "$base/medium.bin"
cannot "wget only downloads" mkdir small zero large two resume-put append rename time delete rmdir abort
cannot "wget lists with LIST only" nlst mlsd
