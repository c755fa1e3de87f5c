#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# From an older version to this one while the kernel counts: attachments are recognised, one line
# says what it costs, and counting resumes. Needs root: `tests/upgrade.sh OLD NEW`, two programs; in
# a network namespace and with a bpffs of their own, so nothing of this machine is seen or touched.
# `make test-upgrade` builds the old one, 0.1.0, from this repository's history.
set -eu
if [ "${3-}" != inside ]; then
	exec unshare --mount --net --pid --fork --kill-child "$0" "$(realpath "$1")" "$(realpath "$2")" inside
fi
old=$1 new=$2
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs run /run
fail() {
	echo "upgrade: FAILED: $*"
	exit 1
}
ip link add eth0 type veth peer name peer0
for i in eth0 peer0; do ip link set "$i" up; done

"$old" attach eth0 --rows 1024
"$old" status | grep -q '^eth0 .*counting' || fail "the old version does not count"
had=$(ls /sys/fs/bpf/tmon)

# The new one sees it, reads none of its tables, counts by itself, and says what to do in one line.
"$new" status --json | grep -q '"state":"other-layout"' || fail "the new version does not see it: $("$new" status)"
said=$("$new" dump eth0 --for 10ms 2>&1 >/dev/null) || fail "the new version does not count beside it: $said"
[ "$(printf '%s\n' "$said" | wc -l)" = 1 ] || fail "more than one line: $said"
case $said in *"another version of tmon"*"tmon detach eth0"*) ;; *) fail "it says: $said" ;; esac

# What the package's postinst makes systemd do with its units.
"$new" detach eth0
"$new" attach eth0 --rows 1024
"$new" status | grep -q '^eth0 .*counting' || fail "the new version does not count"
"$new" dump eth0 >/dev/null || fail "the new version does not read what it attached"
"$new" detach eth0
[ ! -e /sys/fs/bpf/tmon ] || fail "left of $had: $(find /sys/fs/bpf/tmon)"
echo "upgrade: recognised, said in one line, counting again, nothing left: $said"
