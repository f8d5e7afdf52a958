# Sourced by the scripts that start servers for the tests.
# shellcheck shell=bash

# free_ports COUNT: ports that nobody listens on, below those that the system gives out itself.
free_ports() {
    python3 - "$1" << 'PYTHON'
import random, socket, sys
ports = []
while len(ports) < int(sys.argv[1]):
    port = random.randrange(15000, 20000)
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
    if port not in ports:
        ports.append(port)
print(*ports)
PYTHON
}

# start_daemon DIR NAME COMMAND...: starts it in the background; its pid is that of the program.
start_daemon() {
    local directory=$1 name=$2
    shift 2
    setsid "$@" < /dev/null > "$directory/$name.out" 2>&1 &
    echo $! > "$directory/$name.own"
}

# wait_for_port DIR NAME PORT
wait_for_port() {
    local end=$((SECONDS + 60))
    until curl --silent --output /dev/null --max-time 5 "http://127.0.0.1:$3/"; do
        if ((SECONDS >= end)) || ! kill -0 "$(cat "$1/$2.own")" 2> /dev/null; then
            echo "$2 did not come up, see $1/$2.out" >&2
            stop_daemon "$1" "$2"
            return 1
        fi
        sleep 0.2
    done
}

# stop_daemon DIR NAME
stop_daemon() {
    local pid end=$((SECONDS + 10))
    pid=$(cat "$1/$2.own" 2> /dev/null) || return 0
    kill "$pid" 2> /dev/null || true
    while kill -0 "$pid" 2> /dev/null; do
        if ((SECONDS >= end)); then
            kill -KILL "$pid" 2> /dev/null || true
        fi
        sleep 0.1
    done
    rm -f "$1/$2.own"
}
