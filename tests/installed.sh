#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# What a user does with an installed tmon, named on the command line, on an empty machine: look
# around, attach, count, join, detach, and find nothing left. Needs root.
set -eu
tmon=$1
prefix=tmon-i$$
# A bpffs of its own, which disappears with this script, whether the machine has one or not.
[ "${2:-}" = alone ] || exec unshare --mount --propagation unchanged sh "$0" "$tmon" alone
mount --make-rprivate /sys
mount -t bpf bpf /sys/fs/bpf
trap '"$tmon" lab down --prefix "$prefix" >/dev/null' EXIT

"$tmon" --version
"$tmon" check >/dev/null # no check fails
"$tmon" lab up --hosts 2 --networks 2 --prefix "$prefix" >/dev/null
host=$prefix-host0
# The contents of its hooks; tcx, which not every iproute2 shows, is covered by `check`.
hooks() { ip netns exec "$host" tc qdisc show; ip netns exec "$host" tc filter show dev eth0 ingress 2>/dev/null || :; }
before=$(hooks)
[ "$("$tmon" tunnels --netns "$host" | grep -c '^vxlan[01] ')" = 2 ]
"$tmon" attach --netns "$host" --rows 1024
"$tmon" lab traffic ancestor --for 2s --prefix "$prefix" >/dev/null
"$tmon" status | grep "^eth0 *$host *counting"
"$tmon" dump --netns "$host" --json | grep -q '"vni":10000.*"inner_sip":"192.168.0.1","inner_dip":"192.168.0.2"'
"$tmon" dump --netns "$host" --for 100ms >/dev/null
"$tmon" detach eth0 --netns "$host"
[ "$before" = "$(hooks)" ]
"$tmon" check eth0 --netns "$host" | grep -q "nobody else's programs"
"$tmon" lab down --prefix "$prefix" >/dev/null
! "$tmon" status | grep "$host"
