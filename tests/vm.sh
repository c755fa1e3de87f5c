#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs a command under another kernel: a Debian kernel in QEMU, over this machine's file system.
#
#   tests/vm.sh [-m MB] [-c CPUS] [-t SECONDS] [-i] KERNEL -- COMMAND [ARGUMENT...]
#
# KERNEL is the start of a version (6.1, 6.12, 7.3): the newest linux-image package of that version in
# Debian's suites is fetched once and kept in ~/.cache/tmon-vm. The guest's root is this machine's, read
# only, with a scratch layer above it, so what COMMAND writes is lost. Its output and exit status are
# COMMAND's; 124 says that the time ran out, 125 that there was no kernel or no boot.
# -i  counts instructions: the guest's clock advances one nanosecond with each, so a duration measured in
#     the guest is a number of instructions, the same in every run and on every machine.
# Needs qemu-system-x86, busybox-static, cpio, xz-utils and zstd.
set -euo pipefail
CACHE=${TMON_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tmon-vm}
SUITES=${TMON_VM_SUITES:-"bullseye-security bookworm-security trixie-security trixie-backports"}

fail() { echo "vm.sh: $*" >&2; exit 125; }

# The first of these paths that exists.
first_of() { for path; do [ ! -e "$path" ] || { echo "$path"; return; }; done; }

# The little-endian number of $3 bytes at offset $2 of file $1.
number_at() { od -An -j"$2" -N"$3" -t"u$3" "$1" | tr -d ' '; }

# The ELF image in a bzImage: QEMU starts it without the guest's own decompression, which takes seconds.
extract_vmlinux() { # BZIMAGE VMLINUX
	local setup offset length unpack
	setup=$(number_at "$1" 497 1)
	offset=$(((setup + 1) * 512 + $(number_at "$1" 584 4)))
	length=$(number_at "$1" 588 4)
	case $(od -An -tx1 -j"$offset" -N4 "$1" | tr -d ' ') in
	fd377a58) unpack=xz ;;
	28b52ffd) unpack=zstd ;;
	1f8b*) unpack=gzip ;;
	*) fail "cannot unpack $1" ;;
	esac
	dd if="$1" bs=1M iflag=skip_bytes,count_bytes skip="$offset" count=$((length - 4)) status=none |
		$unpack -dcq >"$2"
}

# Fetches the newest kernel whose version starts with $1, with apt lists of its own.
fetch() { # KERNEL
	local mirror apt package suite url work modules release
	mirror=$(grep -hosE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list \
		/etc/apt/sources.list.d/* | sed -n '1s#/* *$##p') || true
	[ -n "$mirror" ] || fail "no Debian mirror in /etc/apt"
	work=$(mktemp -d)
	# shellcheck disable=SC2064
	trap "rm -rf '$work'" EXIT
	mkdir -p "$work"/{lists/partial,parts,archives/partial,deb,unpacked}
	for suite in $SUITES; do
		url=$mirror
		case $suite in *-security) url=$mirror-security ;; esac
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $url $suite main"
	done >"$work/sources"
	apt="-qq -o Dir::Etc::sourcelist=$work/sources -o Dir::Etc::sourceparts=$work/parts
		-o Dir::State::lists=$work/lists -o Dir::Cache=$work -o APT::Sandbox::User=root
		-o Acquire::Languages=none"
	# shellcheck disable=SC2086
	apt-get $apt update >&2 || fail "apt-get update failed"
	# shellcheck disable=SC2086
	package=$(apt-cache $apt pkgnames linux-image- |
		grep -E "^linux-image-${1//[.+]/[.+]}([.+-][0-9a-z.+-]*)?-amd64\$" |
		grep -vE 'cloud|rt-amd64|dbg' | sort -V | tail -1)
	[ -n "$package" ] || fail "no linux-image-$1*-amd64 in: $SUITES"
	release=${package#linux-image-}
	echo "vm.sh: fetching $package" >&2
	# Newer image packages only pull in others, by these names.
	# shellcheck disable=SC2046,SC2086
	(cd "$work/deb" && apt-get $apt download "$package" $(apt-cache $apt depends --important "$package" |
		sed -nE 's/.*Depends: (linux-(binary|modules)-[^ ]+)$/\1/p') >&2) || fail "cannot download $package"
	for package in "$work"/deb/*.deb; do
		dpkg-deb --fsys-tarfile "$package" | tar -x -C "$work/unpacked" --wildcards \
			--exclude='*/drivers/net/ethernet' --exclude='*/drivers/net/wireless' \
			'./boot*' './usr/lib/modules*' './lib/modules*' 2>/dev/null || true
	done
	modules=$(first_of "$work"/unpacked/{usr/,}lib/modules/"$release")
	[ -n "$modules" ] || fail "no modules in $release"
	mkdir -p "$work/kernel/lib/modules"
	mv "$modules" "$work/kernel/lib/modules/$release"
	modules=$work/kernel/lib/modules/$release
	# Only the modules that a network test may need, uncompressed for busybox's modprobe.
	(cd "$modules/kernel" && find . -name '*.ko*' | grep -vE \
		'^\./(arch|crypto|lib|net|fs/(9p|fuse|overlayfs|netfs|fscache)|drivers/(net|virtio|block|char/virtio_console|ptp|pps|vhost))' |
		xargs -r rm -f)
	find "$modules" -name '*.ko.xz' -print0 | xargs -0r -n 100 xz -d
	find "$modules" -name '*.ko.zst' -print0 | xargs -0r -n 100 zstd -qd --rm
	busybox depmod -b "$work/kernel" "$release"
	extract_vmlinux "$(first_of "$work"/unpacked/boot/vmlinuz-* "$modules/vmlinuz")" "$work/kernel/vmlinux"
	echo "$release" >"$work/kernel/release"
	boot_archive "$work/kernel" "$release"
	rm -rf "${CACHE:?}/$1"
	mv "$work/kernel" "$CACHE/$1"
	rm -rf "$work"
	trap - EXIT
}

# The part of the initramfs that is the same for every run: busybox and the modules that mount the
# root.
boot_archive() { # FOLDER RELEASE
	local tree=$1/initramfs modules=lib/modules/$2 name
	mkdir -p "$tree/bin" "$tree/$modules"
	cp "$(command -v busybox)" "$tree/bin/busybox"
	ln -s busybox "$tree/bin/sh"
	(cd "$1/$modules" && for name in virtio_pci 9pnet_virtio 9p overlay virtio_console; do
		sed -nE "s#^(.*/$name\.ko): *#\1 #p" modules.dep
	done | tr ' ' '\n' | sort -u | sed '/^$/d' |
		xargs cp --parents -t "$tree/$modules" modules.dep)
	(cd "$tree" && find . | cpio -o -H newc --quiet) >"$1/boot.cpio"
	rm -rf "$tree"
}

memory=1024 cpus=1 limit=300 icount=()
while getopts m:c:t:ih option; do
	case $option in
	m) memory=$OPTARG ;;
	c) cpus=$OPTARG ;;
	t) limit=$OPTARG ;;
	i) icount=(-icount "shift=0,sleep=off") ;;
	*) sed -n '3,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 2 ;;
	esac
done
shift $((OPTIND - 1))
[ "${2:-}" = -- ] && [ $# -ge 3 ] || { sed -n '3,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
kernel=$1
shift 2
for program in qemu-system-x86_64 busybox cpio xz zstd; do
	command -v $program >/dev/null || fail "no $program: install qemu-system-x86 busybox-static cpio xz-utils zstd"
done
mkdir -p "$CACHE"
exec 9>"$CACHE/.lock"
flock 9
[ -e "$CACHE/$kernel/boot.cpio" ] || fetch "$kernel"
flock -u 9
kernel=$CACHE/$kernel

run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
mkdir -p "$run/tree/vm"
# First stage, in the initramfs: this machine's root below a scratch layer.
cat >"$run/tree/init" <<'INIT'
#!/bin/sh
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /low /scratch /newroot
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
modprobe -a virtio_pci 9pnet_virtio 9p overlay virtio_console 2>/dev/null
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose root /low &&
mount -t tmpfs scratch /scratch && mkdir /scratch/upper /scratch/work &&
mount -t overlay -o lowerdir=/low,upperdir=/scratch/upper,workdir=/scratch/work root /newroot || exit 1
for m in dev proc sys; do mount --move /$m /newroot/$m; done
mkdir -p /newroot/run && mount -t tmpfs run /newroot/run && cp -r /vm /bin/busybox /newroot/run/
exec switch_root /newroot /run/busybox sh /run/vm/start
INIT
# Second stage, on the final root: mounts that a test expects, then the command.
cat >"$run/tree/vm/start" <<'START'
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH
. /run/vm/kernel
mkdir -p /dev/pts /dev/shm /lib/modules /run/lock /run/netns
mount -t devpts devpts /dev/pts; mount -t tmpfs shm /dev/shm; mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup /sys/fs/cgroup; mount -t debugfs debug /sys/kernel/debug; mount -t tracefs trace /sys/kernel/tracing
rm -rf /lib/modules/$release; ln -s "$folder/lib/modules/$release" /lib/modules/$release
ln -sf /run/busybox /sbin/modprobe; echo /sbin/modprobe >/proc/sys/kernel/modprobe
for n in 0 1 2; do ln -sf /proc/self/fd/$n /dev/$(echo stdin stdout stderr | cut -d' ' -f$((n + 1))); done; ln -sfn /proc/self/fd /dev/fd
/run/busybox hostname vm; ip link set lo up
n=0; while [ ! -c /dev/vport?p3 ] && [ $n -lt 50 ]; do sleep 0.1; n=$((n + 1)); done
port=$(echo /dev/vport?p3); port=${port%3}
mkfifo /run/vm/out /run/vm/err
cat /run/vm/out >${port}1 & out=$!; cat /run/vm/err >${port}2 & err=$!
/bin/bash /run/vm/command </dev/null >/run/vm/out 2>/run/vm/err; status=$?
(sleep 2; kill -9 $out $err) & wait $out $err	# a process left behind may hold the pipes
sync; echo $status >${port}3; /run/busybox poweroff -f
START
{
	printf 'release=%q folder=%q\n' "$(cat "$kernel/release")" "$kernel"
} >"$run/tree/vm/kernel"
{
	printf 'export HOME=/root\ncd %q\nexec' "$PWD"
	printf ' %q' "$@"
	echo
} >"$run/tree/vm/command"
chmod +x "$run/tree/init"
{
	cat "$kernel/boot.cpio"
	(cd "$run/tree" && find . | cpio -o -H newc --quiet)
} >"$run/initrd"

arguments=(-nodefaults -no-user-config -display none -no-reboot -M "q35,sata=off,smbus=off,usb=off"
	-accel tcg -cpu max -m "$memory" -smp "$cpus" "${icount[@]}"
	-kernel "$kernel/vmlinux" -initrd "$run/initrd"
	-append "console=ttyS0 quiet oops=panic panic=-1" -serial "file:$run/console"
	-fsdev "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"
	-device "virtio-9p-pci,fsdev=root,mount_tag=root" -device virtio-serial-pci)
port=0
for channel in out err status; do
	port=$((port + 1))
	if [ $channel = status ]; then : >"$run/$channel"; else mkfifo "$run/$channel"; fi
	arguments+=(-chardev "file,id=$channel,path=$run/$channel"
		-device "virtserialport,nr=$port,chardev=$channel")
done
cat "$run/out" & reader1=$!
cat "$run/err" >&2 & reader2=$!
exec 7<>"$run/out" 8<>"$run/err" # so that neither reader waits for ever if QEMU does not start
result=0
timeout -k 5 "$limit" qemu-system-x86_64 "${arguments[@]}" </dev/null >/dev/null 2>"$run/qemu" 7>&- 8>&- 9>&- &
wait $! || result=$?
exec 7>&- 8>&-
wait $reader1 $reader2 || true
status=$(tr -dc 0-9 <"$run/status")
[ -z "$status" ] || exit "$status"
cat "$run/qemu" >&2
tail -n 40 "$run/console" >&2
[ $result != 124 ] || { echo "vm.sh: no end within $limit s" >&2; exit 124; }
fail "the guest ended without a status"
