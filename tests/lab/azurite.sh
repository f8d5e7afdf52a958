#!/usr/bin/env bash
# A stand-in for Azure Blob Storage: Azurite, in memory, on a free loopback port.
#
#   azurite.sh start DIR   prints ENDPOINT,ACCOUNT,KEY
#   azurite.sh stop DIR    ends the process that start began, and only that
#
# Needs node; npm installs azurite into tests/.clients/azurite (tests/lab/prepare.sh).
set -euo pipefail
. "$(dirname "$0")/daemon.sh"

readonly account=devstoreaccount1
# The account and key that Azurite itself documents: no secret.
readonly key=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==

main() {
    local azurite
    azurite="$(dirname "$(realpath "$0")")/../.clients/azurite/node_modules/azurite/dist/src/blob/main.js"
    case "${1:-} $#" in
    "start 2")
        mkdir -p "$2"
        local port
        port=$(free_ports 1)
        start_daemon "$2" azurite node "$azurite" --silent --inMemoryPersistence --disableTelemetry \
            --skipApiVersionCheck --blobHost 127.0.0.1 --blobPort "$port"
        wait_for_port "$2" azurite "$port"
        echo "http://127.0.0.1:$port/$account,$account,$key"
        ;;
    "stop 2") stop_daemon "$2" azurite ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
}

main "$@"
