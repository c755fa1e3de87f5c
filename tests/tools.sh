#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Other people's programs for the tests of exports and of the bus, unpacked below target/tools and never installed:
# a daemon's package would start it. `tests/tools.sh FOLDER`.
set -eu
PACKAGES="nats-server prometheus pmacct libmariadb3 librdkafka1 libjansson4 libnfnetlink0 libpcap0.8 libzmq5 librabbitmq4 libpgm-5.3-0 libnorm1"
mkdir -p "$1"
cd "$1"
for package in $PACKAGES; do
	[ -e "$package.unpacked" ] && continue
	rm -f "${package}_"*.deb
	apt-get download -qq "$package" 2>/dev/null || { echo "tools: cannot download $package: try apt-get update" >&2; exit 1; }
	dpkg -x "${package}_"*.deb .
	: >"$package.unpacked"
done
if [ ! -e python/bin/kubernetes-validate ]; then
	python3 -m venv python
	python/bin/pip install --quiet kubernetes-validate || { echo "tools: cannot install kubernetes-validate from PyPI" >&2; exit 1; }
fi
