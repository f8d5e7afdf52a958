#!/usr/bin/env bash
# A real S3 server for the tests: the Ceph RADOS gateway with one monitor and one OSD.
#
#   rgw.sh start DIR        fresh and empty, on free loopback ports; prints ENDPOINT,ACCESS_KEY_ID,SECRET
#   rgw.sh start DIR disk   the same with its objects in a sparse file in DIR, not in memory
#   rgw.sh stop DIR         ends the processes that start began, and only those
#
# Needs the Debian packages radosgw, ceph-mon, ceph-osd, ceph-common and jq. Up in about 20 seconds.
set -euo pipefail
. "$(dirname "$0")/daemon.sh"

readonly access_key_id=AKID secret_access_key=SECRETSECRET

main() {
    case "${1:-} $#" in
    "start 2") start "$2" memory ;;
    "start 3") start "$2" "$3" ;;
    "stop 2") stop "$2" ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
}

start() {
    mkdir -p "$1"
    directory=$(realpath "$1")
    kept_on=$2
    cd "$directory"
    mkdir mon osd rgw log socket
    read -r port monitor_v2 monitor_v1 < <(free_ports 3)
    # What was started goes again if the rest fails.
    trap 'stop "$directory"' EXIT
    write_configuration
    export CEPH_ARGS="-c $directory/ceph.conf"

    ceph-authtool --create-keyring keyring --gen-key -n mon. --cap mon 'allow *' > /dev/null
    local name
    for name in client.admin client.rgw.a; do
        ceph-authtool keyring --gen-key -n "$name" --cap mon 'allow *' --cap osd 'allow *' > /dev/null
    done
    monmaptool --create --fsid "$cluster" \
        --addv a "[v2:127.0.0.1:$monitor_v2,v1:127.0.0.1:$monitor_v1]" monmap > /dev/null
    ceph-mon --mkfs -i a --monmap monmap --keyring keyring > log/mon-mkfs.out 2>&1
    start_daemon . mon ceph-mon -f -i a
    local osd
    wait_for "the monitor" timeout 10 ceph status
    osd=$(timeout 20 ceph osd new "$(cat /proc/sys/kernel/random/uuid)" 2> log/osd-new.out)
    ceph-osd -i "$osd" --mkfs --osd-uuid "$(ceph osd dump -f json 2> /dev/null | jq -r '.osds[0].uuid')" \
        > log/osd-mkfs.out 2>&1
    start_daemon . osd ceph-osd -f -i "$osd"
    wait_for "the OSD" osd_is_up
    start_daemon . rgw radosgw -f -n client.rgw.a
    # No limit on buckets: each test makes its own.
    timeout 90 radosgw-admin user create --uid=tests --display-name=tests --max-buckets=0 \
        --access-key="$access_key_id" --secret-key="$secret_access_key" \
        > log/user.json 2> log/user.err
    # A second one, who may nothing but what the policy of a bucket allows.
    timeout 90 radosgw-admin user create --uid=restricted --display-name=restricted --max-buckets=-1 \
        --access-key=RESTRICTED --secret-key="$secret_access_key" \
        > log/restricted.json 2> log/restricted.err
    wait_for "the gateway" curl --silent --output /dev/null "http://127.0.0.1:$port/"
    trap - EXIT
    echo "http://127.0.0.1:$port,$access_key_id,$secret_access_key"
}

wait_for() {
    local what=$1 end=$((SECONDS + 90))
    shift
    until "$@" > /dev/null 2>&1; do
        if ((SECONDS >= end)); then
            echo "$what did not come up, see $directory/log" >&2
            return 1
        fi
        sleep 0.2
    done
}

osd_is_up() {
    timeout 10 ceph osd stat -f json 2> /dev/null | jq -e '.num_up_osds == 1'
}

stop() {
    local name
    for name in rgw osd mon; do
        stop_daemon "$1" $name
    done
}

write_configuration() {
    cluster=$(cat /proc/sys/kernel/random/uuid)
    cat > ceph.conf << CONF
[global]
fsid = $cluster
mon host = [v2:127.0.0.1:$monitor_v2/0,v1:127.0.0.1:$monitor_v1/0]
mon initial members = a
public network = 127.0.0.0/8
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
mon warn on pool no redundancy = false
osd crush chooseleaf type = 0
osd pool default pg num = 8
osd pool default pgp num = 8
mon max pg per osd = 2000
run dir = $directory/socket
log file = $directory/log/\$name.log
admin socket = $directory/socket/\$name.asok
pid file = $directory/\$name.pid
keyring = $directory/keyring
ms bind ipv6 = false
ms mon client mode = crc
ms mon service mode = crc
ms mon cluster mode = crc
debug ms = 0
[mon]
mon data = $directory/mon
mon addr = 127.0.0.1
[osd]
osd data = $directory/osd
$(osd_store)
osd max object name len = 1024
osd memory target = 1500000000
osd class load list = *
osd class default list = *
[client.rgw.a]
rgw data = $directory/rgw
keyring = $directory/keyring
rgw frontends = beast endpoint=127.0.0.1:$port
rgw dns name = localhost
rgw enable usage log = false
rgw num rados handles = 1
rgw thread pool size = 64
rgw enable ops log = false
# A key of the testing backend, for SSE-KMS; SSE-C without TLS between a front and the gateway.
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = testkey=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
rgw crypt require ssl = false
# Objects live in memory: give that of deleted ones back at once instead of after two hours.
rgw enable gc threads = true
rgw gc obj min wait = 1
rgw gc processor period = 5
rgw gc processor max time = 5
CONF
}

# Where the OSD keeps objects.
osd_store() {
    case "$kept_on" in
    memory)
        echo "osd objectstore = memstore"
        echo "memstore device bytes = 12G"
        ;;
    disk)
        echo "osd objectstore = bluestore"
        echo "bluestore block create = true"
        echo "bluestore block size = 45G"
        # The file lies on a disk that others use: space that was written once is used again.
        echo "bluestore fsck on mount = false"
        ;;
    *)
        echo "expected memory or disk, found $kept_on" >&2
        return 1
        ;;
    esac
}

main "$@"
