// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this kernel, these privileges and these interfaces allow, and what to do about it.
//!
//! What can be tried is tried: the programs are loaded and attached in a network namespace that
//! nobody else sees and that ends with the attempt.
use std::{fs, net::IpAddr, path::Path, time::Instant};

use anyhow::Result;
use nix::errno::Errno;

use crate::kernel::{
    attach::{Attachment, Want, is_ours, is_tmon, on_clsact, on_tcx, tcx_programs},
    bpf::{Config, Program},
    discover::{FoundTunnel, NetnsView},
    drop_watch::DropWatch,
    netlink::{Link, Netlink},
    netns::{self, NetnsHandle},
    pin::{Located, Pin, Pins, State, Whereabouts},
    privilege,
    sandbox::Force,
    version::{self, Age},
};
use model::{
    flow::{Hook, HookKind},
    units::sanitize,
};

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// As it should be.
    Ok,
    /// Worth knowing: tmon works, but shows less or costs more.
    Warn,
    /// tmon does not work, or not there.
    Fail,
}

impl Mark {
    /// Its name in JSON and on the screen.
    pub fn name(self) -> &'static str {
        match self {
            Mark::Ok => "ok",
            Mark::Warn => "warn",
            Mark::Fail => "fail",
        }
    }
}

/// One thing that was checked. All texts are safe for a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckLine {
    /// The interface; `None` for the host.
    pub interface: Option<String>,
    /// What was checked, in one word.
    pub about: &'static str,
    /// The result.
    pub mark: Mark,
    /// What was found.
    pub what: String,
    /// What to do, if anything.
    pub advice: Option<String>,
}

/// Collects lines about one subject.
struct CheckLines {
    interface: Option<String>,
    lines: Vec<CheckLine>,
}

impl CheckLines {
    fn ok(&mut self, about: &'static str, what: impl Into<String>) {
        self.add(about, Mark::Ok, what.into(), None);
    }

    fn warn(&mut self, about: &'static str, what: impl Into<String>, advice: impl Into<String>) {
        self.add(about, Mark::Warn, what.into(), Some(advice.into()));
    }

    fn fail(&mut self, about: &'static str, what: impl Into<String>, advice: impl Into<String>) {
        self.add(about, Mark::Fail, what.into(), Some(advice.into()));
    }

    fn add(&mut self, about: &'static str, mark: Mark, what: String, advice: Option<String>) {
        self.lines.push(CheckLine { interface: self.interface.clone(), about, mark, what, advice });
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|s| s.trim().to_owned())
}

/// Checks the host: kernel, privileges, what can be loaded and attached.
pub fn host(pins: &Pins) -> Vec<CheckLine> {
    let mut l = CheckLines { interface: None, lines: Vec::new() };
    let release = version::release();
    kernel(&mut l, &release);
    let status = read("/proc/self/status").unwrap_or_default();
    privileges(&mut l, &status, privilege::in_user_namespace());
    seccomp(&mut l, &status, probe());
    confinement(&mut l, Force::tried(), is_filtered(&status));
    let securityfs = Path::new("/sys/kernel/security/lsm").exists();
    lockdown(&mut l, read("/sys/kernel/security/lockdown").as_deref(), securityfs);
    memlock(&mut l, &release);
    jit(&mut l, read("/proc/sys/net/core/bpf_jit_enable").as_deref());
    let btf = if Path::new("/sys/kernel/btf/vmlinux").exists() { "there" } else { "not there" };
    l.ok("btf", format!("the kernel's type information is {btf}; only drops need it"));
    attempt(&mut l);
    drops(&mut l);
    match pins.mount() {
        // Folders are opened through descriptors in it.
        _ if !Path::new("/proc/self/fd").is_dir() => l.warn(
            "bpffs",
            "/proc is not mounted: `tmon attach` needs it",
            "`mount -t proc proc /proc`",
        ),
        Ok(None) => l.ok("bpffs", "mounted: `tmon attach` can count without a running process"),
        Ok(Some(command)) => {
            l.warn("bpffs", "not mounted: `tmon attach` needs it", format!("`{command}`"))
        }
        Err(e) => l.warn("bpffs", format!("{e:#}"), "only `tmon attach` needs it"),
    }
    match read("/proc/sys/kernel/bpf_stats_enabled").as_deref() {
        Some("1") => l.ok("bpf_stats", "on: `tmon status` shows the cost per packet"),
        None => l.ok("bpf_stats", "unknown: the kernel does not report it, or not to this user"),
        Some(_) => l.ok(
            "bpf_stats",
            "off: `sysctl kernel.bpf_stats_enabled=1` lets `tmon status` show the cost per packet",
        ),
    }
    l.lines
}

/// Whether the kernel reports drops, by trying.
fn drops(l: &mut CheckLines) {
    match DropWatch::open(false, &Config::default()) {
        Ok(watch) => l.ok(
            "drops",
            format!("counted per row and drop reason; the kernel has {} reasons", watch.reasons()),
        ),
        Err(e) => l.warn(
            "drops",
            format!("not counted per row and reason: {e:#}"),
            "shown instead: rx_dropped, rx_missed, tx_dropped of the devices and drops of their qdiscs",
        ),
    }
}

fn kernel(l: &mut CheckLines, release: &str) {
    let shown = format!("Linux {}", sanitize(release));
    match version::age(release) {
        Age::Known => l.ok("kernel", shown),
        Age::Untried => l.warn(
            "kernel",
            shown,
            "tmon has not been tested on it: 6.1 and newer are known to work",
        ),
        Age::TooOld => l.fail(
            "kernel",
            shown,
            "boot 6.1 or newer: this kernel has no BPF atomics that return a value",
        ),
    }
}

fn memlock(l: &mut CheckLines, release: &str) {
    match version::parse(release) {
        Some(v) if v < (5, 11) => {
            l.warn("memlock", "maps are charged to RLIMIT_MEMLOCK", "`ulimit -l unlimited`")
        }
        _ => l.ok("memlock", "maps are charged to the memory cgroup, not to RLIMIT_MEMLOCK"),
    }
}

fn privileges(l: &mut CheckLines, status: &str, namespace: bool) {
    let effective = status
        .lines()
        .find_map(|l| l.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let needed = privilege::words(&privilege::lacking(0));
    let Some(effective) = effective else {
        return l.warn(
            "privileges",
            "the kernel does not report them",
            format!("tmon needs {needed}"),
        );
    };
    let missing = privilege::lacking(effective);
    if !missing.is_empty() {
        return l.fail(
            "privileges",
            format!("{} missing", privilege::words(&missing)),
            match nix::unistd::geteuid().is_root() || namespace {
                true => privilege::advice(&missing),
                false => {
                    "run as root, or `setcap cap_bpf,cap_perfmon,cap_net_admin+ep` the program file"
                        .to_owned()
                }
            },
        );
    }
    if namespace {
        return l.fail(
            "privileges",
            "all that are needed, but only in a user namespace, where they do not permit bpf(2)",
            "run as root of the host's user namespace: /proc/self/uid_map shows how this one is mapped",
        );
    }
    match privilege::enters_namespaces(effective) {
        true if !privilege::attaches_by_netlink(effective) => l.ok(
            "privileges",
            "CAP_SYS_ADMIN, which is enough with tcx (Linux 6.6); clsact also needs CAP_NET_ADMIN",
        ),
        true => l.ok(
            "privileges",
            "all that tmon can use; it keeps only what it needs once it is attached",
        ),
        false => l.ok("privileges", format!("{needed}; --netns also needs CAP_SYS_ADMIN")),
    }
}

/// bpf(2)'s error for a command that no kernel has; `None` if it was let through.
#[allow(unsafe_code)]
fn probe() -> Option<Errno> {
    let attr = [0u64; 16];
    // SAFETY: the kernel reads at most the stated size.
    let done = unsafe { libc::syscall(libc::SYS_bpf, 9999, attr.as_ptr(), size_of_val(&attr)) };
    Errno::result(done).err().filter(|e| *e != Errno::EINVAL)
}

/// The kernel's number for how this process's system calls are filtered.
fn seccomp_mode(status: &str) -> Option<&str> {
    status.lines().find_map(|l| l.strip_prefix("Seccomp:")).map(str::trim)
}

fn is_filtered(status: &str) -> bool {
    seccomp_mode(status).is_some_and(|mode| mode != "0")
}

/// System call filters that somebody else put on this process.
fn seccomp(l: &mut CheckLines, status: &str, refused: Option<Errno>) {
    let mode = seccomp_mode(status);
    let said = refused.map_or(String::new(), |e| e.desc().to_lowercase());
    match (mode, refused) {
        (Some("0"), _) => l.ok("seccomp", "this process has no system call filter"),
        (Some(_), None) => {
            l.ok("seccomp", "this process has a system call filter that allows bpf(2)")
        }
        (Some(_), Some(_)) => l.fail(
            "seccomp",
            format!("this process has a system call filter, and bpf(2) is refused: {said}"),
            "allow bpf in the container's seccomp profile, or in SystemCallFilter= of the unit",
        ),
        (None, _) => l.warn(
            "seccomp",
            "the kernel does not report whether this process has a system call filter",
            "see `load` for whether bpf(2) is allowed",
        ),
    }
}

/// How far readers can confine themselves. `filtered`: another filter may deny it, whatever the
/// kernel supports.
fn confinement(l: &mut CheckLines, force: Result<Force>, filtered: bool) {
    const ABOUT: &str = "sandbox";
    let unless = |filter: &str, kernel: &str| {
        if filtered { format!("{filter}; or {kernel}") } else { kernel.to_owned() }
    };
    let force = match force {
        Ok(force) => force,
        Err(e) => return l.warn(ABOUT, format!("not tried: {e:#}"), "try again"),
    };
    let files = force.landlock.map(|abi| format!("Landlock (ABI {abi}) to the files they need"));
    let calls = "seccomp, which denies starting programs, mounting and kernel modules";
    match (files, force.seccomp) {
        (Some(files), true) => {
            l.ok(ABOUT, format!("readers (top, dump, watch, replay) confine themselves: {files}, and {calls}"))
        }
        (Some(files), false) => l.warn(
            ABOUT,
            format!("readers (top, dump, watch, replay) confine themselves by {files}, but not by seccomp"),
            unless(
                "allow seccomp(2) in the system call filter of this process",
                "boot a kernel with CONFIG_SECCOMP_FILTER",
            ),
        ),
        (None, seccomp) => l.warn(
            ABOUT,
            format!(
                "readers (top, dump, watch, replay) can open any file of this user: no Landlock{}",
                if seccomp { format!("; only {calls}") } else { " and no seccomp".to_owned() }
            ),
            unless(
                "allow landlock_create_ruleset(2) and its kin in the system call filter of this process",
                "boot 5.13 or newer with CONFIG_SECURITY_LANDLOCK and `landlock` in lsm=",
            ),
        ),
    }
}

/// `securityfs`: it is mounted, so modes that it does not list are not in the kernel.
fn lockdown(l: &mut CheckLines, modes: Option<&str>, securityfs: bool) {
    let Some(modes) = modes else {
        return match securityfs {
            true => l.ok("lockdown", "not in this kernel"),
            false => l.warn(
                "lockdown",
                "unknown: /sys/kernel/security cannot be read here",
                "see `load`; on the host, `cat /sys/kernel/security/lockdown` shows it",
            ),
        };
    };
    let mode = modes.split_once('[').and_then(|m| m.1.split_once(']')).map_or(modes, |m| m.0);
    match mode {
        "none" => l.ok("lockdown", "none"),
        "integrity" => l.ok("lockdown", "integrity, which does not concern tmon"),
        mode => l.warn(
            "lockdown",
            format!("{}: programs that read the kernel's memory are refused", sanitize(mode)),
            "tmon's programs read only packets: see `load` for whether they are allowed",
        ),
    }
}

fn jit(l: &mut CheckLines, jit: Option<&str>) {
    match jit {
        Some("0") => l.warn(
            "jit",
            "BPF programs are interpreted",
            "`sysctl net.core.bpf_jit_enable=1` makes them several times faster",
        ),
        Some(_) => l.ok("jit", "BPF programs are compiled"),
        None => l.ok(
            "jit",
            "not known: only root in the host's network namespace can read it; most kernels have the JIT on",
        ),
    }
}

/// The text of an error without its advice.
fn says(e: &anyhow::Error) -> String {
    let text = format!("{e:#}");
    let text = text.split("`tmon check`").next().unwrap_or_default();
    sanitize(text.trim_end_matches([' ', ':', ';'])).into_owned()
}

/// Loads the programs, and attaches them in an empty namespace.
fn attempt(l: &mut CheckLines) {
    let started = Instant::now();
    let loaded = version::suffices()
        .and_then(|()| Program::load(&Config { rows: 64, ..Config::default() }))
        .and_then(|program| program.load_probers().map(|()| program));
    let program = match loaded {
        Ok(program) => program,
        Err(e) => return l.fail("load", says(&e), "see kernel, privileges, seccomp and lockdown"),
    };
    l.ok(
        "load",
        format!(
            "the verifier accepts the programs, in {} ms; batch operations are not needed",
            started.elapsed().as_millis()
        ),
    );
    let tried = netns::scratch(|| {
        [HookKind::Tcx, HookKind::Clsact].map(|kind| {
            const LOOPBACK: u32 = 1; // in every namespace
            Attachment::new(&program, LOOPBACK, &NetnsHandle::Here, Want::Only(kind)).map(drop)
        })
    });
    match tried {
        Err(e) => l.warn(
            "attach",
            format!("not tried: {e:#}"),
            "testing it in a separate namespace needs CAP_SYS_ADMIN",
        ),
        Ok([tcx, clsact]) => {
            match (&tcx, &clsact) {
                (Ok(()), _) => {
                    l.ok("tcx", "links, which disappear with the process that holds them")
                }
                (Err(e), Ok(())) => l.ok(
                    "tcx",
                    format!("not available (needs Linux 6.6), so clsact is used: {}", says(e)),
                ),
                (Err(e), Err(_)) => l.fail(
                    "tcx",
                    says(e),
                    "build the kernel with CONFIG_NET_XGRESS or CONFIG_NET_CLS_ACT",
                ),
            }
            match (&tcx, &clsact) {
                (_, Ok(())) => l.ok("clsact", "filters"),
                (Ok(()), Err(e)) => {
                    l.ok("clsact", format!("not available, and not needed with tcx: {}", says(e)))
                }
                (Err(_), Err(e)) => {
                    l.fail("clsact", says(e), "load or build the kernel's sch_ingress and cls_bpf")
                }
            }
        }
    }
}

/// Checks one interface and the tunnels above it.
///
/// # Errors
/// Netlink gives no answer.
pub fn interface(
    scene: &NetnsView,
    link: &Link,
    place: &NetnsHandle,
    netlink: &mut Netlink,
    pins: &Pins,
) -> Result<Vec<CheckLine>> {
    let mut l =
        CheckLines { interface: Some(sanitize(&link.name).into_owned()), lines: Vec::new() };
    let frames = if link.is_ethernet() { "Ethernet" } else { "no Ethernet header" };
    match link.up {
        true => l.ok("link", format!("up, MTU {}, {frames}", link.mtu)),
        false => l.warn(
            "link",
            format!("down, MTU {}, {frames}", link.mtu),
            format!("`ip link set {} up`", sanitize(&link.name)),
        ),
    }
    let pinned = pins.of(place, link.index);
    let here = Located { place: place.clone(), ifindex: link.index, name: link.name.clone() };
    let on = Whereabouts::On(here.clone());
    let counting =
        pinned.iter().flatten().find(|pin| pin.state(&on).is_ok_and(|s| s == State::Counting));
    others(&mut l, link, &here, netlink, counting)?;
    match netlink.features(link.index) {
        Ok(on) => offloads(&mut l, &sanitize(&link.name), |name| on.contains(name)),
        Err(e) => l.warn("offloads", format!("not known: {e:#}"), "`ethtool -k`"),
    }
    for tunnel in scene.tunnels.iter().filter(|t| !t.is_fallback()) {
        match tunnel.underlay {
            Some(index) if index == link.index => room(&mut l, tunnel, link),
            None if tunnel.is_open() && scene.default_route == Some(link.index) => {
                open_room(&mut l, tunnel, link)
            }
            _ => {}
        }
    }
    match pinned {
        Err(e) => l.warn("attached", format!("not known: {e:#}"), "`tmon status`"),
        Ok(found) => {
            for pin in found {
                match pin.state(&on) {
                    Ok(State::Counting) => {
                        l.ok("attached", "by `tmon attach`: top and dump join it")
                    }
                    Ok(state) => l.warn(
                        "attached",
                        format!("{} (see `tmon status`)", state.name()),
                        pin.command("detach"),
                    ),
                    Err(e) => l.warn("attached", format!("{e:#}"), "`tmon status`"),
                }
            }
        }
    }
    Ok(l.lines)
}

/// Other programs on the path of its packets: before or after tmon's if it is attached, otherwise
/// where it will be.
fn others(
    l: &mut CheckLines,
    link: &Link,
    here: &Located,
    netlink: &mut Netlink,
    attached: Option<&Pin>,
) -> Result<()> {
    if link.xdp {
        l.warn(
            "xdp",
            "an XDP program sees arriving packets first: tmon does not see what it drops or redirects",
            format!("`ip -d link show {}` names it", sanitize(&link.name)),
        );
    }
    let before = attached.map(|pin| pin.before(here)).transpose()?.flatten();
    for (rival, pin) in before.iter().flatten().zip(attached.into_iter().cycle()) {
        l.warn(
            if rival.contains(" tcx ") { "tcx" } else { "clsact" },
            format!(
                "{rival} runs before tmon's: packets that it drops or redirects are not counted"
            ),
            format!(
                "{}, then {}: the last one to attach runs first",
                pin.command("detach"),
                pin.command("attach")
            ),
        );
    }
    let is_before = |rival: &String| before.iter().flatten().any(|b| b == rival);
    let index = link.index;
    let mut tcx = false;
    for (hook, side) in [(Hook::Rx, "ingress"), (Hook::Tx, "egress")] {
        match here.place.run(move || tcx_programs(hook, index))? {
            Ok(programs) => {
                tcx = true;
                let theirs = programs.into_iter().filter(|id| !is_tmon(*id));
                for rival in theirs.map(|id| on_tcx(id, hook)).filter(|r| !is_before(r)) {
                    l.ok("tcx", format!("{rival} runs after tmon's, which passes all packets on"));
                }
            }
            Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::EACCES)) => {
                l.warn(
                    "tcx",
                    format!("cannot see which programs are on {side}"),
                    privilege::advice(&privilege::missing()),
                );
            }
            Err(_) => {} // a kernel without tcx has no programs there
        }
    }
    let filters = netlink.filters(index)?;
    let theirs: Vec<_> = filters.iter().filter(|f| !is_ours(f)).collect();
    for f in &theirs {
        let what = on_clsact(f);
        if is_before(&what) {
            continue;
        }
        if attached.is_some() {
            l.ok("clsact", format!("{what} runs after tmon's"));
        } else if tcx {
            l.ok("clsact", format!("{what} runs after tmon's tcx programs"));
        } else if f.priority <= 1 {
            l.warn(
                "clsact",
                format!("{what} runs before tmon's, which does not see packets that it drops or redirects"),
                "give it priority 2 or more",
            );
        } else {
            l.ok("clsact", format!("{what} runs after tmon's"));
        }
    }
    if !link.xdp && theirs.is_empty() && l.lines.iter().all(|line| line.about != "tcx") {
        l.ok("others", "no other programs are on its hooks");
    }
    Ok(())
}

/// What the hardware does before or after the hooks.
fn offloads(l: &mut CheckLines, name: &str, on: impl Fn(&str) -> bool) {
    if on("hw-tc-offload") {
        l.warn(
            "offloads",
            "hw-tc-offload is on: flows that the hardware forwards reach no hook",
            format!("`ethtool -K {name} hw-tc-offload off` shows them to tmon, at a cost"),
        );
    }
    if on("rx-lro") {
        l.warn(
            "offloads",
            "rx-lro is on: the number of packets merged into one is unknown",
            format!("`ethtool -K {name} lro off`; GRO does not have this problem"),
        );
    }
    let merged: Vec<_> = [
        "rx-gro",
        "rx-gro-hw",
        "tx-tcp-segmentation",
        "tx-udp_tnl-segmentation",
        "tx-udp-segmentation",
    ]
    .into_iter()
    .filter(|name| on(name))
    .collect();
    match merged.is_empty() {
        true => l.ok("offloads", "no packets are merged"),
        false => l.ok(
            "offloads",
            format!("{}: merged packets are counted as they were on the wire", merged.join(", ")),
        ),
    }
}

/// Whether full-sized packets of a tunnel fit its underlay.
fn room(l: &mut CheckLines, tunnel: &FoundTunnel, underlay: &Link) {
    let t = &tunnel.device;
    let (name, overhead) = (sanitize(&t.name), t.overhead());
    let fits = underlay.mtu.saturating_sub(overhead);
    let what = format!(
        "{name} ({}, MTU {}) and {overhead} bytes of headers in {}",
        t.device, t.mtu, underlay.mtu
    );
    // A device that fragments by itself, or whose other end is remote, may have another limit; this
    // one is local.
    match t.mtu {
        0 => l.ok("mtu", format!("{name} ({}) has no MTU of its own", t.device)),
        mtu if mtu <= fits => l.ok("mtu", format!("{what}: {} to spare", fits - mtu)),
        _ => l.warn(
            "mtu",
            format!("{what}: full-sized packets do not fit and are fragmented or lost"),
            format!(
                "`ip link set {name} mtu {fits}`, or raise that of {}",
                sanitize(&underlay.name)
            ),
        ),
    }
    if t.remote.is_some_and(|r: IpAddr| r.is_multicast())
        && underlay.flags & libc::IFF_MULTICAST as u32 == 0
    {
        l.warn(
            "multicast",
            format!(
                "{name} sends to a multicast group, but {} has multicast off",
                sanitize(&underlay.name)
            ),
            format!("`ip link set {} multicast on`", sanitize(&underlay.name)),
        );
    }
}

/// The same for one whose packets each take their own route: its own MTU says nothing.
fn open_room(l: &mut CheckLines, tunnel: &FoundTunnel, underlay: &Link) {
    let (t, overhead) = (&tunnel.device, tunnel.device.overhead());
    let (name, left) = (sanitize(&t.name), underlay.mtu.saturating_sub(overhead));
    let by = sanitize(&underlay.name);
    l.ok(
        "mtu",
        format!(
            "{name} ({}) adds {overhead} bytes of headers: packets sent through {by} have {left} of {}",
            t.device, underlay.mtu
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netlink::TunnelDevice;
    use model::flow::Kind;

    fn lines(check: impl FnOnce(&mut CheckLines)) -> Vec<(&'static str, Mark)> {
        let mut l = CheckLines { interface: None, lines: Vec::new() };
        check(&mut l);
        for line in &l.lines {
            assert_eq!(
                line.mark == Mark::Ok,
                line.advice.is_none(),
                "what is not ok has advice: {line:?}"
            );
        }
        l.lines.iter().map(|l| (l.about, l.mark)).collect()
    }

    #[test]
    fn kernel_versions_are_judged() {
        for (release, mark) in [
            ("6.1.0-40-amd64", Mark::Ok),
            ("5.14.0", Mark::Warn),
            ("5.10.0-39-amd64", Mark::Fail),
            ("\x1b[2J", Mark::Warn),
        ] {
            assert_eq!(lines(|l| kernel(l, release)), [("kernel", mark)], "{release:?}");
        }
    }

    #[test]
    fn missing_privileges_are_named() {
        let of = |caps: u64| {
            let mut l = CheckLines { interface: None, lines: Vec::new() };
            privileges(&mut l, &format!("Name:\tx\nCapEff:\t{caps:016x}\n"), false);
            let line = l.lines.remove(0);
            (line.mark, line.what)
        };
        assert_eq!(of(u64::MAX).0, Mark::Ok);
        assert_eq!(of(1 << 39 | 1 << 38 | 1 << 12).0, Mark::Ok);
        assert_eq!(of(1 << 21 | 1 << 12).0, Mark::Ok, "CAP_SYS_ADMIN may load as well");
        let alone = of(1 << 21);
        assert!(
            alone.0 == Mark::Ok && alone.1.contains("clsact also needs CAP_NET_ADMIN"),
            "{alone:?}"
        );
        let all = "CapEff:\tffffffffffffffff\n";
        assert_eq!(lines(|l| privileges(l, all, true)), [("privileges", Mark::Fail)]);
        assert_eq!(of(1 << 39), (Mark::Fail, "CAP_PERFMON and CAP_NET_ADMIN missing".to_owned()));
        assert_eq!(
            of(0),
            (Mark::Fail, "CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN missing".to_owned())
        );
        assert_eq!(lines(|l| privileges(l, "nothing", false)), [("privileges", Mark::Warn)]);
    }

    #[test]
    fn lockdown_and_jit_are_reported() {
        assert_eq!(lines(|l| lockdown(l, None, true)), [("lockdown", Mark::Ok)]);
        assert_eq!(
            lines(|l| lockdown(l, None, false)),
            [("lockdown", Mark::Warn)],
            "what cannot be read is not known"
        );
        for (modes, mark) in [
            ("[none] integrity confidentiality", Mark::Ok),
            ("none [integrity] confidentiality", Mark::Ok),
            ("none integrity [confidentiality]", Mark::Warn),
            ("", Mark::Warn),
        ] {
            assert_eq!(lines(|l| lockdown(l, Some(modes), true)), [("lockdown", mark)], "{modes}");
        }
        assert_eq!(lines(|l| jit(l, Some("0"))), [("jit", Mark::Warn)]);
        assert_eq!(lines(|l| jit(l, None)), [("jit", Mark::Ok)]);
    }

    #[test]
    fn system_call_filters_are_reported() {
        let of = |mode: &str, refused| {
            lines(|l| seccomp(l, &format!("Name:\tx\nSeccomp:\t{mode}\n"), refused))
        };
        assert_eq!(
            of("0", Some(Errno::EPERM)),
            [("seccomp", Mark::Ok)],
            "this error is not a filter's"
        );
        assert_eq!(of("2", None), [("seccomp", Mark::Ok)]);
        assert_eq!(of("2", Some(Errno::ENOSYS)), [("seccomp", Mark::Fail)]);
        assert_eq!(lines(|l| seccomp(l, "", None)), [("seccomp", Mark::Warn)]);
    }

    #[test]
    fn confinement_is_reported() {
        let of =
            |landlock, seccomp| lines(|l| confinement(l, Ok(Force { landlock, seccomp }), false));
        assert_eq!(of(Some(7), true), [("sandbox", Mark::Ok)]);
        assert_eq!(of(Some(1), false), [("sandbox", Mark::Warn)]);
        assert_eq!(of(None, true), [("sandbox", Mark::Warn)]);

        let mut l = CheckLines { interface: None, lines: Vec::new() };
        let filtered = is_filtered("Name:\tx\nSeccomp:\t2\n");
        confinement(&mut l, Ok(Force { landlock: None, seccomp: true }), filtered);
        let advice = l.lines[0].advice.as_deref().expect("what to try");
        assert!(advice.contains("system call filter"), "it need not be the kernel: {advice}");
        assert!(!is_filtered("Name:\tx\nSeccomp:\t0\n") && !is_filtered(""));
    }

    #[test]
    fn programs_that_hide_packets_are_reported() {
        assert_eq!(lines(|l| offloads(l, "eth0", |_| false)), [("offloads", Mark::Ok)]);
        assert_eq!(lines(|l| offloads(l, "eth0", |n| n == "rx-gro")), [("offloads", Mark::Ok)]);
        let all = lines(|l| offloads(l, "eth0", |_| true));
        assert_eq!(all.iter().map(|l| l.1).collect::<Vec<_>>(), [Mark::Warn, Mark::Warn, Mark::Ok]);
    }

    #[test]
    fn room_for_headers_is_checked() {
        let underlay = Link {
            index: 2,
            name: "eth0".to_owned(),
            mtu: 1500,
            flags: libc::IFF_MULTICAST as u32,
            ..Link::default()
        };
        let link = |mtu| Link {
            index: 3,
            name: "vx".to_owned(),
            kind: Some("vxlan".to_owned()),
            mtu,
            up: true,
            ..Link::default()
        };
        let tunnel = |mtu| FoundTunnel {
            device: TunnelDevice::of(&link(mtu)).expect("a tunnel"),
            underlay: Some(2),
        };
        assert_eq!(tunnel(1450).device.kind, Kind::Vxlan);
        assert_eq!(lines(|l| room(l, &tunnel(1450), &underlay)), [("mtu", Mark::Ok)]);
        assert_eq!(lines(|l| room(l, &tunnel(1451), &underlay)), [("mtu", Mark::Warn)]);
        assert_eq!(lines(|l| room(l, &tunnel(0), &underlay)), [("mtu", Mark::Ok)]);
        let mut group = tunnel(1450);
        group.device.remote = Some([239, 1, 1, 1].into());
        assert_eq!(
            lines(|l| room(l, &group, &Link { flags: 0, ..underlay })),
            [("mtu", Mark::Ok), ("multicast", Mark::Warn)]
        );
    }
}
