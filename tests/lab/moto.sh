#!/usr/bin/env bash
# A second S3 server: moto, in memory, on a free loopback port. It answers conditional requests as AWS
# does, which the Ceph gateway of Debian does not; it checks no signatures.
#
#   moto.sh start DIR   prints ENDPOINT,ACCESS_KEY_ID,SECRET
#   moto.sh stop DIR    ends the process that start began, and only that
set -euo pipefail
. "$(dirname "$0")/daemon.sh"

main() {
    local bin port
    bin="$(dirname "$(realpath "$0")")/../.venv/bin"
    case "${1:-} $#" in
    "start 2")
        mkdir -p "$2"
        port=$(free_ports 1)
        start_daemon "$2" moto "$bin/moto_server" -H 127.0.0.1 -p "$port"
        wait_for_port "$2" moto "$port"
        echo "http://127.0.0.1:$port,AKID,SECRETSECRET"
        ;;
    "stop 2") stop_daemon "$2" moto ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
}

main "$@"
