# Sourced by the shell programs: one line for each step.
# shellcheck shell=bash
set -u
in=$MATRIX_IN out=$MATRIX_OUT
part=2097169

# step NAME COMMAND...: runs it, reports it, gives its status.
step() {
    local name=$1 text status
    shift
    text=$("$@" 2>&1)
    status=$?
    # Indented: no line of it can be taken for a step.
    [ -z "$text" ] || sed 's/^/    /' <<< "$text"
    if [ $status = 0 ]; then
        echo "$name ok"
    else
        echo "$name fail exit $status: $(grep . <<< "$text" | tail -n 1)"
    fi
    return $status
}

# cannot WHY STEP...: the client has no such command.
cannot() {
    local why=$1 name
    shift
    for name in "$@"; do echo "$name none $why"; done
}

# The names of the twenty uploads.
uploads() { seq -f 'up-%02g.bin' 1 20; }
