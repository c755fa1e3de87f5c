#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# The Debian package in a clean root: installed, used as root and as a member of its group, purged,
# nothing left. As root: `tests/package.sh tmon_*.deb ROOT`, where ROOT was made by debootstrap with
# libcap2-bin and iproute2, as `make test-package` does.
set -eu
deb=$(realpath "$1") root=$(realpath "$2") here=$(dirname "$(realpath "$0")")
undo() {
	for m in run/netns sys/fs/bpf sys proc dev ''; do umount -l "$root/$m" 2>/dev/null || :; done
	rm -f "$root/tmp/tmon.deb" "$root/tmp/installed.sh"
}
trap undo EXIT
mount --bind "$root" "$root" # `ip netns exec` requires / to be a mount
for m in dev proc sys; do mount --bind "/$m" "$root/$m"; done
mount -t bpf bpf "$root/sys/fs/bpf" # its own: this machine's is neither seen nor touched

# All files, except what the package manager itself keeps about its work.
everything() {
	find "$root" -xdev \( -path "$root/var/log" -o -path "$root/var/cache" -o -path "$root/var/lib/dpkg" -o -path "$root/tmp" -o -path "$root/run" \
		-o -path "$root/etc/*-" \) -prune -o -printf '%P %m %U:%G %l\n' | sort
	sort "$root/etc/group"
}
before=$(everything)
cp "$deb" "$root/tmp/tmon.deb"
cp "$here/installed.sh" "$root/tmp/"
in_root() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }

in_root dpkg -i /tmp/tmon.deb
in_root getcap /usr/bin/tmon | grep -q 'cap_net_admin,cap_perfmon,cap_bpf=ep'
[ "$(stat -c '%a %G' "$root/usr/bin/tmon" | cut -d' ' -f1)" = 750 ]
for f in man/man1/tmon.1.gz man/man1/tmon-attach.1.gz bash-completion/completions/tmon zsh/vendor-completions/_tmon \
	fish/vendor_completions.d/tmon.fish doc/tmon/copyright doc/tmon/LICENSE-MIT doc/tmon/LICENSE-APACHE doc/tmon/CHANGELOG.md.gz; do
	[ -s "$root/usr/share/$f" ] || [ -s "$root/usr/share/${f%.gz}" ] || { echo "no $f"; exit 1; }
done
[ -s "$root/usr/lib/systemd/system/tmon-attach@.service" ]
[ -s "$root/usr/lib/systemd/system/tmon-watch@.service" ]
[ -s "$root/usr/lib/systemd/system/tmon-export@.service" ]
[ -s "$root/usr/lib/systemd/system/tmon-record@.service" ]
[ -s "$root/usr/lib/systemd/system/tmon-publish@.service" ]
in_root sh /tmp/installed.sh /usr/bin/tmon
# A member of the group, who may do nothing else; and a user who is not. (By a shell: setpriv itself keeps root's
# access.)
in_root setpriv --reuid 12345 --regid tmon --clear-groups sh -c 'tmon dump lo --for 10ms'
if in_root setpriv --reuid 12345 --regid 12345 --clear-groups sh -c 'tmon --version' 2>/dev/null; then
	echo "anybody may run it"
	exit 1
fi
# Again, as an upgrade; counting continues.
in_root tmon attach lo --rows 1024
in_root dpkg -i /tmp/tmon.deb
in_root tmon status | grep -q '^lo .*counting'
in_root dpkg --purge tmon
[ ! -e "$root/sys/fs/bpf/tmon" ] || ls "$root/sys/fs/bpf/tmon"
after=$(everything)
[ "$before" = "$after" ] || { echo "what is left, or gone:"; printf '%s\n' "$before" >/tmp/before.$$; printf '%s\n' "$after" | diff /tmp/before.$$ -; rm /tmp/before.$$; exit 1; }
echo "installed, used, purged: nothing is left"
