#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Tests on other kernels: the parser's tables and mutations, live tunnels, the lab and the books,
# each kernel in a virtual machine of its own, one line per kernel. Arguments are the kernels.
#
# VMRUN  the program that boots them, as tests/vm.sh does: `vm.sh [-m MB] [-t SECONDS] KERNEL -- COMMAND`
# TESTS  which of parser, rows, tunnels, overlay, books, once, pin and check to run
# TMON   the program of `make dist`, if given, also run on each kernel and on one that is too old
# LOGS   a folder for each kernel's complete output; by default only that of a failure is shown
set -eu
cd "$(dirname "$0")/.."
: "${VMRUN:=tests/vm.sh}" "${TESTS:=parser rows tunnels overlay books once pin check}" "${LOGS:=}"
: "${TMON:=target/x86_64-unknown-linux-gnu/dist/tmon}" "${TOO_OLD:=5.10}"
[ $# -gt 0 ] || set -- 6.1 6.12 6.18 7.3
command -v "$VMRUN" >/dev/null || { echo "no $VMRUN: name a program that boots kernels with VMRUN=" >&2; exit 2; }
CARGO=$(command -v cargo || echo "$HOME/.cargo/bin/cargo")

what=
for t in $TESTS; do what="$what --test $t"; done
# shellcheck disable=SC2086
built=$("$CARGO" test --release --no-run $what 2>&1) || { echo "$built" >&2; exit 1; }

# There is no udev to create this device; and `tmon status` is to report the cost per packet.
run='echo 1 >/proc/sys/kernel/bpf_stats_enabled; [ -e /dev/net/tun ] || { mkdir -p /dev/net && mknod /dev/net/tun c 10 200; };'
for t in $TESTS; do
	binary=$(echo "$built" | sed -n "s|.*Executable tests/$t.rs (\(.*\))|\1|p")
	[ -n "$binary" ] || { echo "cargo names no binary of tests/$t.rs" >&2; exit 1; }
	run="$run $(realpath "$binary") --test-threads 1 && echo passed: $t || echo failed: $t;"
done

[ ! -x "$TMON" ] || run="$run tests/installed.sh $(realpath "$TMON") && echo passed: installed || echo failed: installed;"
[ ! -x "$TMON" ] || TESTS="$TESTS installed"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
printf '%-8s %-8s %-12s %-8s %s\n' kernel hook tunnels seconds result
for kernel; do
	started=$(date +%s)
	# Every distribution kernel has all the devices: one that is missing is a failure here.
	"$VMRUN" -m 1024 -t "${LIMIT:-1800}" "$kernel" -- \
		env TMON_TUNNELS=all TMON_MUTATIONS="${TMON_MUTATIONS:-1000}" sh -c "$run" >"$log" 2>&1 || echo "failed: the machine" >>"$log"
	seconds=$(($(date +%s) - started))
	[ -z "$LOGS" ] || cp "$log" "$LOGS/kernel-$kernel.log"
	summary=$(sed -n 's/^tunnels: kernel [^ ]*, hook \([a-z]*\): \([0-9]*\) passed, \([0-9]*\) failed.*), \([0-9]*\) not on .*/\1 \2 \3 \4/p' "$log")
	# shellcheck disable=SC2086
	set -- ${summary:-- 0 0 0}
	result=ok
	for t in $TESTS; do grep -qx "passed: $t" "$log" || result="FAILED: $(sed -n 's/^failed: //p' "$log" | tr '\n' ' ')"; done
	printf '%-8s %-8s %-12s %-8s %s\n' "$kernel" "$1" "$2 of $(($2 + $3 + $4))" "$seconds" "$result"
	if [ "$result" != ok ]; then
		status=1
		[ -n "$LOGS" ] || tail -60 "$log" >&2
	fi
done
# A kernel that is too old is reported in one line by every command; `check` reports it and
# continues.
if [ -x "$TMON" ] && [ -n "$TOO_OLD" ]; then
	started=$(date +%s)
	refused='for c in "dump lo" "top lo" "attach lo" "replay /dev/null" demo; do
			$0 $c 2>&1; echo "$c: $?"
		done; $0 check lo; echo "check: $?"'
	"$VMRUN" -m 512 -t 200 "$TOO_OLD" -- sh -c "$refused" "$(realpath "$TMON")" >"$log" 2>&1 || :
	line=$(sed -n 1p "$log")
	expected=$(for c in "dump lo" "top lo" "attach lo" "replay /dev/null" demo; do echo "$line"; echo "$c: 1"; done)
	result="refused: $line"
	case $line in "tmon: this is Linux $TOO_OLD"*": tmon needs 5.15 or newer") ;; *) result=FAILED ;; esac
	[ "$(sed -n 1,10p "$log")" = "$expected" ] && grep -q '^fail  *host  *kernel .*Linux' "$log" && grep -qx 'check: 1' "$log" || result=FAILED
	[ "$result" != FAILED ] || { status=1; cat "$log" >&2; }
	printf '%-8s %-8s %-12s %-8s %s\n' "$TOO_OLD" - - "$(($(date +%s) - started))" "$result"
fi
exit $status
