#!/usr/bin/env bash
# A stand-in for Google Cloud Storage: gcp-storage-emulator, in memory, on a free loopback port, with
# what it lacks added by gcs.py.
#
#   gcs.sh start DIR   prints ENDPOINT
#   gcs.sh stop DIR    ends the process that start began, and only that
set -euo pipefail
. "$(dirname "$0")/daemon.sh"

main() {
    local here port
    here=$(dirname "$(realpath "$0")")
    case "${1:-} $#" in
    "start 2")
        mkdir -p "$2"
        port=$(free_ports 1)
        start_daemon "$2" gcs "$here/../.venv/bin/python" "$here/gcs.py" "$port"
        wait_for_port "$2" gcs "$port"
        echo "http://127.0.0.1:$port"
        ;;
    "stop 2") stop_daemon "$2" gcs ;;
    *) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
}

main "$@"
