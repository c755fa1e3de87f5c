#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Other programs for the tests of exports, names and the bus, unpacked below target/tools and never
# installed, since a daemon's package would start it. Usage: `tests/tools.sh FOLDER`.
set -eu
PACKAGES="nats-server prometheus pmacct libmariadb3 librdkafka1 libjansson4 libnfnetlink0 libpcap0.8 libzmq5 librabbitmq4 libpgm-5.3-0 libnorm1 openvswitch-switch openvswitch-common libunbound8 libxdp1 libbpf1 ovn-common ovn-central frr libyang2 containerd runc containernetworking-plugins"
mkdir -p "$1"
cd "$1"
for package in $PACKAGES; do
	[ -e "$package.unpacked" ] && continue
	rm -f "${package}_"*.deb
	apt-get download -qq "$package" 2>/dev/null || { echo "tools: cannot download $package: try apt-get update" >&2; exit 1; }
	dpkg -x "${package}_"*.deb .
	: >"$package.unpacked"
done
MODULES="kubernetes-validate duckdb grafana-foundation-sdk grpcio"
if [ "$(cat python/modules 2>/dev/null)" != "$MODULES" ]; then
	python3 -m venv python
	# shellcheck disable=SC2086 # words
	python/bin/pip install --quiet $MODULES || { echo "tools: cannot install $MODULES from PyPI" >&2; exit 1; }
	echo "$MODULES" >python/modules
fi
