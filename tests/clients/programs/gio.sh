#!/usr/bin/env bash
# gio, GNOME's files over gvfs: a daemon keeps the session.
[ -n "${MATRIX_BUS-}" ] || MATRIX_BUS=1 XDG_RUNTIME_DIR=$MATRIX_OUT exec dbus-run-session bash "$0" 2>&1
. ./_steps.sh

case $MATRIX_MODE in explicit) scheme=ftps ;; implicit) scheme=ftpis ;; esac
base=$scheme://$MATRIX_USER@$MATRIX_HOST:$MATRIX_PORT
chmod 700 "$out"

# It asks whether to trust the certificate (it knows no authority but the system's), then the password.
mount_it() { printf '1\n%s\n' "$MATRIX_PASSWORD" | gio mount "$base/" && gio list "$base/"; }
upload() { gio copy "$in/$1" "$base/$2"; }
two() { upload medium.bin made/one.bin && upload small.bin made/two.bin; }
list() { gio list "$base/listed" > "$out/list.txt"; }
abort() { [ "$(gio cat "$base/large.bin" 2> "$out/cat.log" | head -c 99999 | wc -c)" = 99999 ] && gio list "$base/listed"; }

step login mount_it
step mkdir gio mkdir "$base/made"
step small upload small.bin made/small.bin
step zero upload zero.bin made/zero.bin
step large upload large.bin made/large.bin
step two two
step get gio copy "$base/large.bin" "$out/large.bin"
step list list
cannot "gvfs lists with LIST only" nlst mlsd
cannot "gio starts an interrupted transfer anew" resume-get resume-put append
cannot "gvfs cannot set times over FTP" time
step rename gio move "$base/rename-me" "$base/made/renamed"
step delete gio remove "$base/delete-me"
step rmdir gio remove "$base/remove-me"
step abort abort
