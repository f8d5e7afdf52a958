#!/bin/sh
# A pod's view of files, inside its network namespace: pod.sh DIR COMMAND …
# DIR/etc/* and DIR/run/* are put where the chart mounts them. Ends as the command.
set -eu
directory=$1
shift
# `ip netns exec` has made a mount namespace of our own: nothing of this reaches the machine.
mount -t tmpfs tmpfs /var/run
cp -R "$directory/run/." /var/run/
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work
cp -R "$directory/etc/." /mnt/upper/
mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
exec "$@"
