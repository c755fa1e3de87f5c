# SPDX-License-Identifier: MIT OR Apache-2.0
# `make demo` and `make test` are all you need; both first install what is missing. `make help` lists the rest.

PACKAGES := clang llvm clang-format iproute2 iputils-ping ethtool nftables libelf-dev zlib1g-dev pkg-config make gcc libc6-dev python3
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# This user's Rust toolchain, even under sudo.
CARGO := $(or $(shell command -v cargo),$(HOME)/.cargo/bin/cargo)
TMON := target/release/tmon

# One file for every host. For aarch64: TARGET=aarch64-unknown-linux-gnu, with Debian's gcc-aarch64-linux-gnu
# and arm64's libelf-dev and zlib1g-dev, in place or anywhere below SYSROOT.
TARGET := x86_64-unknown-linux-gnu
SYSROOT :=
HOST := $(shell $(CARGO) -vV 2>/dev/null | sed -n 's/^host: //p')
MULTIARCH := $(subst -unknown,,$(TARGET))
UPPER := $(shell echo $(TARGET) | tr a-z- A-Z_)
STATIC := target/$(TARGET)/dist/tmon
ASSETS := target/assets

SECONDS = 600

.PHONY: help demo pictures test test-pure test-arm test-page test-tools test-kernels test-package test-upgrade captures soak fuzz bench bench-swarm bench-instructions check-costs setup build contract check deny dist assets deb install uninstall source image

help:
	@echo 'demo          build tmon, simulate an overlay of nine hosts, watch it'
	@echo 'test          all tests (root)'
	@echo 'test-pure     the tests that need neither root, clang nor libelf: the crates in crates/, and the program without "live"'
	@echo 'test-arm      the native parser and the readers of captures on arm64, under qemu-user'
	@echo 'test-kernels  the tests that matter on other kernels, in virtual machines (KERNELS="6.1 7.3")'
	@echo 'test-package  the Debian package: installed, used, purged, its units booted'
	@echo 'test-upgrade  an upgrade from 0.1.0 to this version while the kernel counts (root)'
	@echo 'captures      regenerates the test captures by the frame builder, and their results by tshark'
	@echo 'test-page     the HTML page, clicked through in headless Chromium'
	@echo 'test-tools    exports, against Prometheus, nfdump, pmacct and tshark, and a fleet on a nats-server, unpacked below target/tools (root)'
	@echo 'soak          traffic, floods, kills and readers at once, for SECONDS=600'
	@echo 'fuzz          the capture reader, the frame decoder and the parser, for SECONDS=600'
	@echo 'bench         what tmon costs on this CPU, beside other methods'
	@echo 'bench-swarm   the cost of viewing 2,000 and 10,000 hosts, simulated in one process'
	@echo 'bench-instructions  counts the instructions per packet in a virtual machine, and prints a table'
	@echo 'check-costs   fails if a packet takes more instructions than in the table'
	@echo 'pictures      every view of the dashboard as an image, in target/pictures'
	@echo 'check         format, lints, documentation, generated files, licences'
	@echo 'deny          licences, sources and advisories by cargo-deny'
	@echo 'contract      regenerates the Rust side of bpf/tmon.h and bpf/kinds.h'
	@echo 'build         target/release/tmon'
	@echo 'install       installs it, with manual pages, completions and units (PREFIX=/usr/local DESTDIR=); uninstall'
	@echo 'source        an archive with all crates, for a build without a network'
	@echo 'image         a container image of the static program (needs podman)'
	@echo 'dist          one static binary (TARGET=aarch64-unknown-linux-gnu, SYSROOT= for arm64)'
	@echo 'deb           a Debian package around it (needs cargo-deb)'

demo: build
	$(SUDO) ./$(TMON) demo

# Needs root: each test loads BPF programs, creates network namespaces and mounts a bpffs of its own.
test: setup
	$(SUDO) $(CARGO) test --release --workspace
	@echo 'not run: test-arm, test-page, test-tools, test-kernels, test-package, test-upgrade'

# The tests that need neither root, clang nor libelf: the crates, and the program that only reads captures.
test-pure:
	$(CARGO) test -p contract -p model -p native -p feed -p bus -p export -p tui -p testkit
	$(CARGO) test --no-default-features --test captures-only
	$(CARGO) check --no-default-features --features nats

# The native parser and the reader of captures on another CPU: cross-built, and run under qemu-user.
ARM := aarch64-unknown-linux-gnu
test-arm:
	$(MAKE) setup PACKAGES='$(PACKAGES) gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user'
	rustup target add $(ARM)
	CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='qemu-aarch64 -L /usr/aarch64-linux-gnu' \
	$(CARGO) test --target $(ARM) -p contract -p native -p feed --lib --tests -- --skip protoc_reads_it # protoc is not for arm64

# Clicks through the page of `tmon dump --html` in headless Chromium, which is a download of some 100 MB.
test-page:
	$(MAKE) setup PACKAGES='$(PACKAGES) chromium chromium-driver python3-selenium'
	$(CARGO) test --release --test page -- --ignored

# Feeds tmon's exports to the programs that they are made for. Daemons among these are only unpacked.
test-tools:
	$(MAKE) setup PACKAGES='$(PACKAGES) curl jq nfdump tshark python3-venv'
	tests/tools.sh target/tools
	target/tools/python/bin/kubernetes-validate --strict packaging/kubernetes/*.yaml
	$(SUDO) $(CARGO) test --release --workspace --test exports --test names --test nats -- --include-ignored

# Every view and key of the dashboard in the lab, as pictures to look at: target/pictures/.
pictures: build
	$(MAKE) setup PACKAGES='$(PACKAGES) tmux python3-pil fonts-dejavu-core'
	$(SUDO) tests/pictures.sh ./$(TMON) target/pictures

# The tests on older and newer kernels, in virtual machines; VMRUN= names another program that boots them.
VM_PACKAGES := qemu-system-x86 busybox-static cpio xz-utils zstd
test-kernels:
	$(MAKE) setup PACKAGES='$(PACKAGES) $(VM_PACKAGES)'
	tests/kernels.sh $(KERNELS)

# Installs, uses and purges the package in a clean Debian; nothing may be left. Its units run under a systemd booted as in test-kernels.
CLEAN := target/clean-root
test-package: deb
	$(MAKE) setup PACKAGES='$(PACKAGES) debootstrap'
	[ -d $(CLEAN) ] || $(SUDO) debootstrap --variant=minbase --include=libcap2-bin,iproute2,systemd-sysv,udev,dbus bookworm $(CLEAN)
	$(SUDO) tests/package.sh $(ASSETS)/tmon_*.deb $(CLEAN)
	$(SUDO) env $(if $(VMRUN),VMRUN=$(VMRUN)) tests/units.sh $(ASSETS)/tmon_*.deb $(CLEAN)

# Upgrades from 0.1.0, built from this repository's history, to this version, while the kernel counts.
FIRST := a458681
test-upgrade: build
	mkdir -p target/first-edition && git archive $(FIRST) | tar -x -C target/first-edition
	cd target/first-edition && CARGO_TARGET_DIR=target $(CARGO) build --release
	$(SUDO) tests/upgrade.sh target/first-edition/target/release/tmon $(TMON)

# Captures made by the frame builder, with tshark's answers beside them: crates/feed/tests/captures/.
captures:
	$(MAKE) setup PACKAGES='$(PACKAGES) tshark'
	TMON_WRITE=1 $(CARGO) test -p feed --test own_captures

# Everything at once, for ten minutes or SECONDS=; finally prints what was sent, seen, counted, stopped, and the difference.
soak: setup
	@mkdir -p target; $(SUDO) env TMON_SOAK=$(SECONDS) $(CARGO) test --release --test books -- soak::soak --exact --nocapture \
	  >target/soak.log || { cat target/soak.log; exit 1; }
	@sed -n 's/^.*soak: /soak: /p' target/soak.log

# Fuzzes the capture reader with arbitrary bytes, and the parser with mutations of known packets, for ten minutes or
# SECONDS=. Findings go to target/; the corpus is maintained with -set_cover_merge=1 -max_len=600.
FUZZ := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
	-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions --cfg fuzzing \
	-Clinker=clang -Clink-arg=-fsanitize=address
fuzz: setup
	$(MAKE) setup PACKAGES='$(PACKAGES) g++ libclang-rt-14-dev'
	mkdir -p target/fuzz
	cd fuzz && RUSTFLAGS='$(FUZZ)' $(CARGO) run --release --target $(TARGET) --bin pcap -- \
	  ../target/fuzz corpus/pcap -artifact_prefix=../target/fuzz- -max_total_time=$$(($(SECONDS) / 4)) -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1
	mkdir -p target/fuzz-frame
	cd fuzz && RUSTFLAGS='$(FUZZ)' $(CARGO) run --release --target $(TARGET) --bin frame -- \
	  ../target/fuzz-frame corpus/frame -artifact_prefix=../target/fuzz- -max_total_time=$$(($(SECONDS) / 4)) -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1
	mkdir -p target/fuzz-parser
	cd fuzz && RUSTFLAGS='$(FUZZ)' $(CARGO) run --release --target $(TARGET) --bin parser -- \
	  ../target/fuzz-parser corpus/parser -artifact_prefix=../target/fuzz- -max_total_time=$$(($(SECONDS) / 4)) -timeout=10 -rss_limit_mb=2048 -max_len=2048 -print_final_stats=1
	$(SUDO) env TMON_MUTATIONS=$$(($(SECONDS) * 10000)) TMON_SEED=$$(date +%s) $(CARGO) test --release --test parser -- mutations --nocapture

# Measures the costs beside other methods and an empty program, in one table. Needs root and a quiet machine.
# KEEP=1 keeps it in docs/costs, as a page for this CPU.
bench: setup
	$(SUDO) $(if $(KEEP),env KEEP=$(KEEP)) $(CARGO) bench

# Very many hosts, in one process: bandwidth, CPU time and memory of a viewer, as a table.
bench-swarm:
	$(CARGO) run --release --no-default-features --example swarm

# Counts the instructions per packet in a virtual machine, which are the same on every machine. They
# execute in the kernel, so any profile will do.
COSTS := docs/costs/instructions.txt
COUNT = $(MAKE) setup PACKAGES='$(PACKAGES) $(VM_PACKAGES)' && \
	CARGO_TARGET_$(UPPER)_RUNNER='tests/vm.sh -i -m 1500 -c 2 -t 900 6.18 --' $(CARGO) bench --workspace --profile dev --bench cost -- instructions
bench-instructions:
	$(COUNT) >target/instructions.txt && mv target/instructions.txt $(COSTS) && cat $(COSTS)
check-costs:
	$(COUNT) $(COSTS)

build: setup
	$(CARGO) build --release

# Reproducible: no path of this machine gets into the file, so the same sources and toolchain give the same bytes.
dist: setup
	LIBBPF_SYS_LIBRARY_PATH_$(subst -,_,$(HOST))=/usr/lib/$(subst -unknown,,$(HOST)) \
	LIBBPF_SYS_LIBRARY_PATH_$(subst -,_,$(TARGET))=$(SYSROOT)/usr/lib/$(MULTIARCH) \
	CC_$(subst -,_,$(TARGET))=$(MULTIARCH)-gcc CARGO_TARGET_$(UPPER)_LINKER=$(MULTIARCH)-gcc \
	$(if $(SYSROOT),CFLAGS_$(subst -,_,$(TARGET))="-I$(SYSROOT)/usr/include -I$(SYSROOT)/usr/include/$(MULTIARCH)") \
	CARGO_TARGET_DIR=target \
	RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$(CURDIR)=/tmon \
	  --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)/registry/src=/crates" \
	  $(CARGO) build --locked --profile dist --features static --target $(TARGET)
	@file -b $(STATIC) 2>/dev/null; echo "$(STATIC): $$(stat -c %s $(STATIC)) bytes, sha256 $$(sha256sum <$(STATIC) | cut -d' ' -f1)"

# Manual pages and completions, written by the program itself: by this host's build when cross-compiling.
WRITER := $(if $(filter $(HOST),$(TARGET)),$(STATIC),$(TMON))
assets: dist $(if $(filter $(HOST),$(TARGET)),,build)
	$(call write_assets,$(WRITER),$(ASSETS))
define write_assets
	rm -rf $(2)
	mkdir -p $(2)/man
	$(1) man --dir $(2)/man
	$(1) completions bash >$(2)/tmon.bash
	$(1) completions zsh >$(2)/_tmon
	$(1) completions fish >$(2)/tmon.fish
endef

# Installs what `make build` has built, on this machine or below DESTDIR for a package. Compiles nothing.
PREFIX := /usr/local
INSTALLED := target/installed
INSTALL := install
UNITS := $(wildcard packaging/*.service)
# Settings of the units. Modified files are neither overwritten nor removed.
SETTINGS := $(wildcard packaging/etc/*.toml)
install:
	@test -x $(TMON) || { echo "there is no $(TMON): run \`make build\` first"; exit 1; }
	$(call write_assets,$(TMON),$(INSTALLED))
	$(INSTALL) -D -m 755 $(TMON) $(DESTDIR)$(PREFIX)/bin/tmon
	$(INSTALL) -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 $(INSTALLED)/man/*.1
	$(INSTALL) -D -m 644 $(INSTALLED)/tmon.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/tmon
	$(INSTALL) -D -m 644 $(INSTALLED)/_tmon $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_tmon
	$(INSTALL) -D -m 644 $(INSTALLED)/tmon.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/tmon.fish
	mkdir -p $(INSTALLED)/units
	for unit in $(UNITS); do sed 's,/usr/bin/tmon,$(PREFIX)/bin/tmon,' $$unit >$(INSTALLED)/units/$${unit##*/}; done
	$(INSTALL) -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system $(INSTALLED)/units/*
	for folder in grafana kubernetes pmacct prometheus; do \
	  $(INSTALL) -D -m 644 -t $(DESTDIR)$(PREFIX)/share/tmon/$$folder packaging/$$folder/*; done
	$(INSTALL) -D -m 644 -t $(DESTDIR)$(PREFIX)/share/tmon/schema docs/schema/*.json
	for file in $(SETTINGS); do to=$(DESTDIR)/etc/tmon/$${file##*/}; \
	  test -e $$to || $(INSTALL) -D -m 644 $$file $$to; done
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/tmon $(DESTDIR)$(PREFIX)/share/man/man1/tmon.1 $(DESTDIR)$(PREFIX)/share/man/man1/tmon-*.1
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/tmon $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_tmon
	rm -f $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/tmon.fish
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/lib/systemd/system/,$(notdir $(UNITS)))
	rm -rf $(DESTDIR)$(PREFIX)/share/tmon
	for file in $(SETTINGS); do to=$(DESTDIR)/etc/tmon/$${file##*/}; ! cmp -s $$file $$to || rm $$to; done

# The sources with all crates that they need, for builds without a network.
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
source:
	rm -rf target/tmon-$(VERSION) target/tmon-$(VERSION).tar.xz
	mkdir -p target/tmon-$(VERSION)/.cargo
	git archive HEAD | tar -x -C target/tmon-$(VERSION)
	cd target/tmon-$(VERSION) && $(CARGO) vendor --quiet --locked vendor >.cargo/config.toml
	tar -C target --sort=name --owner=0 --group=0 --mtime="@$$(git log -1 --format=%ct)" -cJf target/tmon-$(VERSION).tar.xz tmon-$(VERSION)
	rm -rf target/tmon-$(VERSION)
	@ls -l target/tmon-$(VERSION).tar.xz

# Needs podman (or CONTAINER=docker).
CONTAINER := podman
image: dist
	$(CONTAINER) build -f packaging/container/Containerfile -t tmon:$(VERSION) $(dir $(STATIC))

# Needs cargo-deb: `cargo install cargo-deb`.
deb: assets
	CARGO_TARGET_DIR=target $(CARGO) deb --no-build --no-strip --target $(TARGET) --profile dist --output $(ASSETS)/

setup:
	@for p in $(PACKAGES); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "installing$$missing"; \
	  $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; fi
	@$(CARGO) --version >/dev/null 2>&1 || { echo "tmon is built with Rust: install it from your distribution (1.88 or newer) or with rustup"; exit 1; }

# Everything in crates/contract that comes from bpf/tmon.h and bpf/kinds.h, and the table in docs/ENCAPSULATIONS.md.
contract: setup
	$(CARGO) run --quiet -p generate
	TMON_WRITE=1 $(CARGO) test --quiet -p contract --test checked_in

# Everything that a change must pass before it lands, apart from the tests.
check: setup
	@$(MAKE) --no-print-directory help >/dev/null
	$(CARGO) run --quiet -p generate -- --check
	$(CARGO) fmt --all --check
	clang-format --dry-run -Werror bpf/*.c bpf/*.h bpf/*/*.h
	clang-format --style=file:bpf/.clang-format --dry-run -Werror benches/cost/*.bpf.c
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --release --workspace --no-deps
	$(CARGO) clippy --no-default-features -- -D warnings
	$(CARGO) clippy --no-default-features --features live -- -D warnings
	tests/dependencies.py
	tests/walls.py

# Needs cargo-deny: `cargo install --locked cargo-deny`.
deny:
	$(CARGO) deny check
