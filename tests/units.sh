#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# The systemd units of the Debian package, started by a separate systemd in a virtual machine: at
# boot, stopped, when the interface goes and comes back, at removal. Needs root: `tests/units.sh
# tmon_*.deb ROOT [KERNEL]`, where ROOT was created by debootstrap with libcap2-bin, iproute2,
# systemd-sysv, udev and dbus, as in `make test-package`. The machine sees ROOT, and what it writes
# there is lost. VMRUN boots it, see kernels.sh.
set -eu

# Runs in that system, once it is up.
inside() {
	set -eu
	until_it_is() { # WHAT CONDITION
		n=0
		until eval "$2"; do
			n=$((n + 1))
			[ $n -lt 120 ] || { echo "in vain: $1"; tmon status; systemctl --no-pager status 'tmon-attach*' || :; exit 1; }
			sleep 0.5
		done
		echo "ok: $1"
	}
	counts='tmon status | grep -q "^eth0 .* counting"'
	metrics() { bash -c 'exec 3<>/dev/tcp/127.0.0.1/9469; printf "GET /metrics HTTP/1.1\r\n\r\n" >&3; cat <&3'; }
	nothing='tmon status | grep -qx "nothing is attached"'
	underlay() {
		ip link add eth0 type veth peer name peer0
		ip link add vx0 type vxlan id 7 dstport 4789 remote 10.9.0.2 dev eth0
		for i in eth0 peer0 vx0; do ip link set $i up; done
	}

	until_it_is "enabled, it counts from boot on" "$counts"
	until_it_is "the unit is active" 'systemctl -q is-active tmon-attach@eth0'
	systemctl restart tmon-attach@eth0
	until_it_is "restarted, it counts" "$counts"
	systemctl stop tmon-attach@eth0
	until_it_is "stopped, nothing is left" "$nothing"
	systemctl start tmon-attach@eth0
	ip link del eth0
	until_it_is "the interface is gone, and so is what counted" "$nothing"
	underlay
	until_it_is "it is back, and counts" "$counts"
	systemctl disable --now tmon-attach@eth0
	systemctl enable --now tmon-attach.service
	until_it_is "the underlay of the tunnel is found" "$counts"
	systemctl start tmon-export@eth0
	until_it_is "metrics are exported, of what counts already" 'metrics | grep -q "^tmon_build_info"'
	until_it_is "the unit stays up" 'systemctl -q is-active tmon-export@eth0'
	systemctl stop tmon-export@eth0
	systemctl stop tmon-attach.service
	until_it_is "stopped, nothing is left" "$nothing"
	systemctl start tmon-attach.service
	systemctl enable --now tmon-attach@eth0
	dpkg --purge tmon
	[ ! -e /sys/fs/bpf/tmon ]
	left=$(find /etc/systemd /usr/lib/systemd -name '*tmon*')
	[ -z "$left" ] || { echo "left: $left"; exit 1; }
	echo "units: at boot, stopped, followed, removed: nothing is left"
}

# Runs in the machine, before that system.
before() {
	set -eu
	ip link add eth0 type veth peer name peer0
	ip link add vx0 type vxlan id 7 dstport 4789 remote 10.9.0.2 dev eth0
	for i in eth0 peer0 vx0; do ip link set $i up; done
	mount --bind "$1" "$1" # the sandboxing of services requires / to be a mount
	for m in dev sys; do mount --rbind /$m "$1/$m"; done
	mount -t tmpfs run "$1/run"
	cp "$2" "$1/tmon.deb"
	cp "$3" "$1/units.sh"
	chroot "$1" dpkg -i /tmon.deb >/dev/null
	cat >"$1/etc/systemd/system/prove.service" <<-UNIT
		[Unit]
		After=multi-user.target
		FailureAction=poweroff-force
		SuccessAction=poweroff-force
		[Service]
		Type=oneshot
		ExecStart=/bin/sh /units.sh --inside
		StandardOutput=append:/prove.log
		StandardError=inherit
		[Install]
		WantedBy=multi-user.target
	UNIT
	chroot "$1" systemctl -q enable prove.service tmon-attach@eth0.service
	unshare --pid --fork --mount sh -c 'mount -t proc proc "$0/proc"; cd "$0"; pivot_root . mnt
		exec chroot . sh -c "umount -l /mnt; exec /sbin/init"' "$1" >/boot.log 2>&1 || :
	cat "$1/prove.log" || cat /boot.log
}

case ${1:-} in
--inside) inside ;;
--before) before "$2" "$3" "$4" ;;
*)
	deb=$(realpath "$1") root=$(realpath "$2") kernel=${3:-6.12} here=$(dirname "$(realpath "$0")")
	: "${VMRUN:=$here/vm.sh}"
	said=$("$VMRUN" -m 1024 -t 1800 "$kernel" -- sh "$here/units.sh" --before "$root" "$deb" "$here/units.sh" 2>&1) || :
	echo "$said"
	echo "$said" | grep -q '^units: '
	;;
esac
