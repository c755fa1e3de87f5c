// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lab in the kernel: created, used, broken and removed. Needs root, and fails with a message
//! without it.
#![allow(clippy::print_stdout, clippy::print_stderr)] // its output is its report
#![cfg(feature = "live")]
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use model::flow::Kind;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt::RcvBuf,
};
use tmon::{
    kernel::{
        netlink::{Changes, Netlink, NetnsChange, NewLink, TunnelDevice},
        netns::{self, Netns},
    },
    lab::{self, Interrupt, Lab, LabOptions, Plan, SWITCH, Scenario, Traffic, UNDERLAY},
};

/// Options of a lab that does not collide with any other.
fn options() -> LabOptions {
    assert!(
        nix::unistd::geteuid().is_root(),
        "the lab's tests need root (network namespaces): run them with sudo"
    );
    static NEXT: AtomicU32 = AtomicU32::new(0);
    LabOptions {
        prefix: format!("tmon-t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)),
        ..LabOptions::default()
    }
}

/// A lab that is just large enough.
fn small() -> LabOptions {
    LabOptions { hosts: 2, networks: 1, ..options() }
}

fn left_of(o: &LabOptions) -> Vec<String> {
    netns::list().expect("a list").into_iter().filter(|n| n.starts_with(&o.prefix)).collect()
}

/// A namespace for one test, removed when the test ends, however it ends.
struct Scratch(Netns);

impl Scratch {
    fn new() -> Self {
        Scratch(Netns::create(&options().prefix).expect("a namespace"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = netns::delete(self.0.name());
    }
}

/// What passed an interface, as (direction, outer protocol or tunnel id ...).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    out: bool,
    vni: Option<u32>,
    peer: Option<IpAddr>,
    inner: u16,
}

/// Everything that passes one interface of a namespace, from now on.
struct Capture {
    fd: OwnedFd,
    ifindex: usize,
}

impl Capture {
    fn start(netns: &Netns, link: &str) -> Self {
        let ifindex = Netlink::open_in(netns)
            .and_then(|mut n| n.link(link))
            .expect("netlink")
            .expect("the interface")
            .index as usize;
        let fd = netns
            .within(|| {
                socket(
                    AddressFamily::Packet,
                    SockType::Raw,
                    SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
                    SockProtocol::EthAll,
                )
            })
            .expect("the namespace")
            .expect("a packet socket");
        setsockopt(&fd, RcvBuf, &(4 << 20)).expect("a buffer");
        Capture { fd, ifindex }
    }

    /// Packets and bytes so far, by type.
    fn stop(self) -> BTreeMap<Seen, (u64, u64)> {
        let mut seen: BTreeMap<Seen, (u64, u64)> = BTreeMap::new();
        let mut frame = vec![0; 65536];
        while let Ok((length, from)) = recvfrom::<LinkAddr>(self.fd.as_raw_fd(), &mut frame) {
            let from = from.expect("an address");
            if from.ifindex() != self.ifindex {
                continue;
            }
            let f = &frame[..length];
            let be16 = |at: usize| u16::from_be_bytes([f[at], f[at + 1]]);
            // PACKET_OUTGOING
            let mut what =
                Seen { out: from.pkttype() == 4, vni: None, peer: None, inner: be16(12) };
            let ends: Option<([IpAddr; 2], usize)> = match be16(12) {
                0x0800 if f[23] == 17 => Some(([ip4(&f[26..30]), ip4(&f[30..34])], 34)),
                0x86dd if f[20] == 17 => Some(([ip6(&f[22..38]), ip6(&f[38..54])], 54)),
                _ => None,
            };
            if let Some((ends, udp)) = ends
                && be16(udp + 2) == 4789
            {
                what.vni = Some(u32::from_be_bytes([0, f[udp + 12], f[udp + 13], f[udp + 14]]));
                what.peer = Some(ends[usize::from(what.out)]);
                what.inner = be16(udp + 8 + 8 + 12);
            }
            let sum = seen.entry(what).or_default();
            *sum = (sum.0 + 1, sum.1 + length as u64);
        }
        seen
    }
}

fn ip4(b: &[u8]) -> IpAddr {
    <[u8; 4]>::try_from(b).expect("four bytes").into()
}

fn ip6(b: &[u8]) -> IpAddr {
    <[u8; 16]>::try_from(b).expect("sixteen bytes").into()
}

fn run(o: &LabOptions, scenario: Scenario, seconds: u64, ipv6: bool) -> lab::Summary {
    let t =
        Traffic { duration: Some(Duration::from_secs(seconds)), ipv6, ..Traffic::new(scenario) };
    lab::traffic(&o.prefix, &t, &AtomicBool::new(false)).expect("traffic")
}

/// Waits until traffic passes the first host, however long it takes to start.
fn started(lab: &Lab) {
    let mut netlink = Netlink::open_in(&lab.host(0).expect("host0")).expect("netlink");
    let mut sent = || netlink.link(UNDERLAY).expect("netlink").expect("eth0").stats.tx_packets;
    let (before, deadline) = (sent(), Instant::now() + Duration::from_secs(60));
    while sent() < before + 10 {
        assert!(Instant::now() < deadline, "no traffic begins");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn up_twice_and_down_twice() {
    let o = options();
    let here = || -> BTreeSet<String> {
        Netlink::open()
            .and_then(|mut n| n.links())
            .expect("links")
            .into_iter()
            .map(|l| l.name)
            .collect()
    };
    let around = here();
    let begun = Instant::now();
    let lab = Lab::up(&o).expect("up");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(60), "up took {took:?}");
    assert_eq!(left_of(&o).len(), 10);
    // Other programs may come and go here; the lab's interfaces may not.
    let new: Vec<String> = here().difference(&around).cloned().collect();
    let lab_like = |n: &String| {
        ["host", "switch", "br", "vxlan", "client", "port"]
            .iter()
            .any(|p| n.trim_end_matches(char::is_numeric) == *p)
    };
    assert!(!new.iter().any(lab_like), "{new:?}");

    let status = lab::status(&o.prefix).expect("status");
    assert!(status.complete && status.hosts.len() == 9 && status.kind.as_deref() == Some("vxlan"));
    let host8 = &status.hosts[8];
    assert_eq!(
        (host8.name.as_str(), host8.underlay.as_slice()),
        ("host8", ["172.16.1.108".parse::<IpAddr>().expect("ip")].as_slice())
    );
    assert_eq!(
        host8.clients.iter().map(|c| c.to_string()).collect::<Vec<_>>(),
        ["192.168.0.9", "192.168.1.9", "192.168.2.9", "192.168.3.9"]
    );
    assert_eq!(host8.tunnels, ["vxlan0", "vxlan1", "vxlan2", "vxlan3"]);
    assert!(
        status.to_string().contains("host8") && status.to_string().lines().count() == 11,
        "{status}"
    );

    // the same again: nothing happens, interfaces keep their indexes
    let index = |k| {
        Netlink::open_in(&lab.host(k).expect("a host"))
            .and_then(|mut n| n.link("vxlan3"))
            .expect("netlink")
            .expect("vxlan3")
            .index
    };
    let before = index(4);
    assert!(!lab::up(&o).expect("up again"));
    assert_eq!(index(4), before);
    // another one under the same name: refused, nothing happens
    let e =
        format!("{:#}", lab::up(&LabOptions { hosts: 3, ..o.clone() }).expect_err("another lab"));
    assert!(e.contains("hosts=9") && e.contains("lab down"), "{e}");
    assert_eq!(index(4), before);
    // a host that somebody removed comes back
    netns::delete(&lab.plan().host(5)).expect("delete");
    assert!(!lab::status(&o.prefix).expect("status").complete);
    assert!(lab::up(&o).expect("repair"));
    assert!(lab::status(&o.prefix).expect("status").complete);

    lab.down().expect("down");
    assert_eq!(left_of(&o), Vec::<String>::new());
    assert_eq!(lab::down(&o.prefix).expect("down again"), 0);
    assert_eq!(
        lab::status(&o.prefix).expect("status").to_string(),
        format!("lab '{}': down", o.prefix)
    );
}

#[test]
fn tunnels_match_the_design() {
    let o = LabOptions { hosts: 2, ..options() };
    let lab = Lab::up(&o).expect("up");
    let mut netlink = Netlink::open_in(&lab.host(1).expect("host1")).expect("netlink");
    let underlay = netlink.link(UNDERLAY).expect("netlink").expect("eth0");
    let tunnels = netlink.tunnels().expect("tunnels");
    assert_eq!(tunnels.len(), 4);
    for (i, t) in (0u8..).zip(&tunnels) {
        let bridge = netlink.link(&format!("br{i}")).expect("netlink").expect("the bridge");
        let expected = TunnelDevice {
            ifindex: t.ifindex,
            name: format!("vxlan{i}"),
            device: "vxlan".to_owned(),
            kind: Kind::Vxlan,
            id: Some(10000 + u32::from(i)),
            port: Some(4789),
            fou: false,
            local: Some([172, 16, 1, 101].into()),
            remote: Some([239, 1, 1, 1 + i].into()),
            underlay: Some(underlay.index),
            underlay_netnsid: None,
            netnsid: None,
            optional: 0,
            collect_metadata: false,
            mtu: 1450,
            up: true,
            master: Some(bridge.index),
        };
        assert_eq!(*t, expected);
        assert_eq!(netlink.underlay_of(t).expect("an answer"), Some(underlay.index));
        let client = netlink.link(&format!("client{i}")).expect("netlink").expect("the client");
        assert_eq!(
            (client.mtu, client.arphrd, client.kind.as_deref(), client.up),
            (1450, 1, Some("veth"), true)
        );
    }
    assert_eq!(netlink.default_route_interface().expect("routes"), None);
    netlink
        .add_route([0, 0, 0, 0].into(), 0, UNDERLAY, Some([172, 16, 1, 100].into()))
        .expect("a default route");
    assert_eq!(netlink.default_route_interface().expect("routes"), Some(underlay.index));
    lab.down().expect("down");
}

/// Whatever step fails, nothing is left and the error names the step.
#[test]
fn a_failing_step_undoes_itself() {
    let o = small();
    let steps = Plan::new(&o).expect("a plan").steps();
    for (n, step) in steps.iter().enumerate() {
        let e = format!(
            "{:#}",
            lab::up(&LabOptions { interrupt: Some(Interrupt::Fail(n)), ..o.clone() })
                .expect_err("asked to fail")
        );
        assert!(e.contains(&step.to_string()), "step {n}: {e}");
        assert_eq!(left_of(&o), Vec::<String>::new(), "step {n}: {step}");
    }
}

/// After a crash between any two steps, `down` removes everything, and `up` works over the remains.
#[test]
fn down_cleans_up_after_a_crash_at_any_step() {
    let o = small();
    let steps = Plan::new(&o).expect("a plan").steps().len();
    for n in 0..steps {
        let crashed = lab::up(&LabOptions { interrupt: Some(Interrupt::Crash(n)), ..o.clone() });
        assert!(
            crashed.is_err() && (left_of(&o).is_empty() == (n == 0)),
            "step {n} leaves something"
        );
        let status = lab::status(&o.prefix).expect("status");
        assert!(!status.complete, "step {n}: {status}");
        if n % 5 == 4 {
            let lab =
                Lab::up(&o).unwrap_or_else(|e| panic!("up over the remains of step {n}: {e:#}"));
            assert!(lab::status(&o.prefix).expect("status").complete);
            lab.down().expect("down");
        } else {
            lab::down(&o.prefix).expect("down");
        }
        assert_eq!(left_of(&o), Vec::<String>::new(), "step {n}");
    }
    // the remains of a namespace whose creation was interrupted
    std::fs::write(format!("{}/{}-host0", netns::DIR, o.prefix), "").expect("a file");
    assert_eq!(lab::down(&o.prefix).expect("down"), 1);
    assert_eq!(left_of(&o), Vec::<String>::new());
}

#[test]
fn the_ancestor_is_exact_on_the_wire() {
    let o = options();
    let lab = Lab::up(&o).expect("up");
    // The first second resolves the neighbours, on a busy machine with some losses.
    let met = (0..30).any(|_| run(&o, Scenario::Ancestor, 1, false).lost == 0);
    assert!(met, "the neighbours were not resolved");

    let host0 = lab.host(0).expect("host0");
    let mut netlink = Netlink::open_in(&host0).expect("netlink");
    let mut counters = || netlink.link(UNDERLAY).expect("netlink").expect("eth0").stats;
    let before = counters();
    let capture = Capture::start(&host0, UNDERLAY);
    let begun = Instant::now();
    let summary = run(&o, Scenario::Ancestor, 5, false);
    let took = begun.elapsed();
    let (after, seen) = (counters(), capture.stop());
    assert_eq!((summary.sent, summary.answered, summary.lost, summary.wrong), (60, 60, 0, 0));
    assert!(took.as_secs_f64() >= 4.0, "{took:?}");

    for out in [false, true] {
        let (mut total, mut ids, mut peers) = ((0, 0), BTreeMap::new(), BTreeMap::new());
        for (what, (packets, bytes)) in
            seen.iter().filter(|s| s.0.out == out && s.0.inner == 0x0800)
        {
            *ids.entry(what.vni.expect("nothing but tunnels")).or_insert(0) += bytes;
            *peers.entry(what.peer.expect("a peer").to_string()).or_insert(0) += bytes;
            total = (total.0 + packets, total.1 + bytes);
        }
        assert_eq!(total, (5 * 12, 5 * 6352), "out {out}: {seen:#?}");
        assert_eq!(
            ids.into_iter().collect::<Vec<_>>(),
            [(10000, 5 * 1996), (10001, 5 * 1080), (10002, 5 * 1556), (10003, 5 * 1720)]
        );
        let per_peer = [880, 1116, 1080, 220, 220, 1116, 860, 860].map(|b| 5 * b);
        assert_eq!(
            peers.into_iter().collect::<Vec<_>>(),
            (101..=108).map(|d| format!("172.16.1.{d}")).zip(per_peer).collect::<Vec<_>>()
        );
    }
    // The interface agrees with the capture, and there was no other traffic but ARP.
    let sum = |out| {
        seen.iter().filter(|s| s.0.out == out).fold((0, 0), |a, s| (a.0 + s.1.0, a.1 + s.1.1))
    };
    assert_eq!(
        sum(false),
        (after.rx_packets - before.rx_packets, after.rx_bytes - before.rx_bytes),
        "{seen:#?}"
    );
    assert_eq!(
        sum(true),
        (after.tx_packets - before.tx_packets, after.tx_bytes - before.tx_bytes),
        "{seen:#?}"
    );
    for (what, (packets, bytes)) in &seen {
        match (what.vni, what.inner) {
            (Some(_), 0x0800) | (None, 0x0806) => {}
            (Some(_), 0x0806) => assert_eq!(*bytes, packets * 92),
            _ => panic!("unasked traffic: {what:?}"),
        }
    }
    lab.down().expect("down");
}

/// Even from a cold start, no echo is lost to address resolution, which takes one ARP exchange
/// each.
#[test]
fn the_first_echo_is_answered() {
    let o = options();
    let lab = Lab::up(&o).expect("up");
    let capture = Capture::start(&lab.host(0).expect("host0"), UNDERLAY);
    let summary = run(&o, Scenario::Ancestor, 2, false);
    assert_eq!((summary.sent, summary.lost, summary.wrong), (24, 0, 0));
    let seen = capture.stop();
    let arp: u64 = seen
        .iter()
        .filter(|s| s.0.out && s.0.vni.is_some() && s.0.inner == 0x0806)
        .map(|s| s.1.0)
        .sum();
    assert_eq!(arp, 11, "one request for each destination: {seen:#?}");
    lab.down().expect("down");
}

/// The switch sees every frame of the lab once.
#[test]
fn the_switch_sees_every_frame_once() {
    let o = options();
    let lab = Lab::up(&o).expect("up");
    run(&o, Scenario::Ancestor, 1, false);
    let capture = Capture::start(&Netns::open(&lab.plan().fabric()).expect("fabric"), SWITCH);
    run(&o, Scenario::Ancestor, 2, false);
    let seen = capture.stop();
    let ip: Vec<_> = seen.iter().filter(|s| s.0.inner == 0x0800).collect();
    assert!(ip.iter().all(|s| !s.0.out), "{seen:#?}");
    assert_eq!(ip.iter().map(|s| s.1.0).sum::<u64>(), 2 * 24);
    assert_eq!(ip.iter().map(|s| s.1.1).sum::<u64>(), 2 * 2 * 6352);
    lab.down().expect("down");
}

#[test]
fn ipv6_outside_and_inside() {
    for (underlay, clients) in [(true, false), (false, true), (true, true)] {
        let o = LabOptions { ipv6_underlay: underlay, ipv6_clients: clients, ..options() };
        let lab = Lab::up(&o).expect("up");
        assert_eq!(
            run(&o, Scenario::Ancestor, 1, clients).lost,
            0,
            "underlay {underlay} clients {clients}"
        );
        let capture = Capture::start(&lab.host(0).expect("host0"), UNDERLAY);
        let summary = run(&o, Scenario::Ancestor, 2, clients);
        let seen = capture.stop();
        assert_eq!(
            (summary.sent, summary.answered, summary.wrong),
            (24, 24, 0),
            "underlay {underlay} clients {clients}"
        );
        // Either IPv6 header is 20 bytes longer. Neighbour discovery has the same EtherType as the
        // traffic.
        let more = 20 * (u64::from(underlay) + u64::from(clients));
        let ethertype = if clients { 0x86dd } else { 0x0800 };
        for out in [false, true] {
            let tunnelled: Vec<_> = seen
                .iter()
                .filter(|s| s.0.out == out && s.0.vni.is_some() && s.0.inner == ethertype)
                .collect();
            assert!(
                tunnelled.iter().all(|s| s.0.peer.is_some_and(|p| p.is_ipv6() == underlay)),
                "{seen:#?}"
            );
            let (packets, bytes) = tunnelled.iter().fold((0, 0), |a, s| (a.0 + s.1.0, a.1 + s.1.1));
            assert_eq!(
                (packets, bytes),
                (2 * 12, 2 * (6352 + 12 * more)),
                "underlay {underlay} clients {clients}: {seen:#?}"
            );
        }
        let udp = run(&o, Scenario::Culprit, 1, clients);
        assert!(udp.sent > 50 && udp.lost == 0 && udp.wrong == 0, "{udp}");
        lab.down().expect("down");
    }
}

#[test]
fn demo_and_culprit_lose_nothing_and_stop_on_request() {
    let o = options();
    let lab = Lab::up(&o).expect("up");
    for scenario in [Scenario::Demo, Scenario::Culprit] {
        let summary = run(&o, scenario, 2, false);
        assert!(summary.sent > 300 && summary.lost == 0 && summary.wrong == 0, "{summary}");
    }
    let t = Traffic::new(Scenario::Culprit);
    let (inner, outer) = t.culprit(&o.prefix).expect("a lab").expect("a culprit");
    assert!(
        inner.to_string().starts_with("192.168.") && outer.to_string().starts_with("172.16.1.1"),
        "{inner} {outer}"
    );
    // without an end, until stopped
    let stop = Arc::new(AtomicBool::new(false));
    let thread = thread::spawn({
        let (stop, prefix) = (stop.clone(), o.prefix.clone());
        move || lab::traffic(&prefix, &Traffic::new(Scenario::Demo), &stop)
    });
    started(&lab);
    // a second one would be answered by the first
    let second = lab::traffic(&o.prefix, &t, &AtomicBool::new(false)).expect_err("one at a time");
    assert!(format!("{second:#}").contains("already running"), "{second:#}");
    stop.store(true, Ordering::Relaxed);
    let told = Instant::now();
    let summary = thread.join().expect("no panic").expect("traffic");
    assert!(
        told.elapsed() < Duration::from_secs(60) && summary.sent > 0 && summary.lost == 0,
        "{summary}"
    );
    // traffic ends when the lab is removed
    let thread = thread::spawn({
        let prefix = o.prefix.clone();
        move || lab::traffic(&prefix, &Traffic::new(Scenario::Demo), &AtomicBool::new(false))
    });
    started(&lab);
    lab.down().expect("down");
    let e = format!("{:#}", thread.join().expect("no panic").expect_err("the lab is gone"));
    assert!(e.contains("lab"), "{e}");
    assert_eq!(left_of(&o), Vec::<String>::new());
    let e =
        format!("{:#}", lab::traffic(&o.prefix, &t, &AtomicBool::new(false)).expect_err("no lab"));
    assert!(e.contains("tmon lab up"), "{e}");
}

/// The command reports afterwards what it has done, and does it even if nobody reads.
#[test]
fn a_lab_is_created_and_removed_though_nobody_reads() {
    let o = small();
    for (full, code) in [(false, 0), (true, 1)] {
        let run = |words: &[&str]| {
            let stdout = match full {
                true => Stdio::from(File::options().write(true).open("/dev/full").expect("full")),
                false => Stdio::from(std::io::pipe().expect("a pipe").1),
            };
            let out = Command::new(env!("CARGO_BIN_EXE_tmon"))
                .arg("lab")
                .args(words)
                .args(["--prefix", &o.prefix])
                .stdout(stdout)
                .output()
                .expect("tmon");
            let said = String::from_utf8_lossy(&out.stderr);
            assert_eq!(out.status.code(), Some(code), "{words:?}: {said}");
        };
        run(&["up", "--hosts", "2", "--networks", "1"]);
        assert!(lab::status(&o.prefix).expect("status").complete);
        run(&["traffic", "demo", "--for", "300ms"]);
        run(&["status"]);
        run(&["down"]);
        assert_eq!(left_of(&o), Vec::<String>::new());
    }
}

/// Two at once: one creates it, the other waits and finds it created.
#[test]
fn only_one_up_creates_the_lab() {
    let o = options();
    let ups: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn({
                let o = o.clone();
                move || lab::up(&o)
            })
        })
        .collect();
    let made: Vec<bool> =
        ups.into_iter().map(|t| t.join().expect("no panic").expect("up")).collect();
    assert_eq!(made.iter().filter(|m| **m).count(), 1, "{made:?}");
    assert!(lab::status(&o.prefix).expect("status").complete);
    assert_eq!(lab::down(&o.prefix).expect("down"), 10);
    assert_eq!(left_of(&o), Vec::<String>::new());
}

/// A process that is still inside a namespace keeps it alive, but disconnected.
#[test]
fn down_disconnects_remaining_processes() {
    let o = small();
    let lab = Lab::up(&o).expect("up");
    let mut inside = Netlink::open_in(&lab.host(0).expect("host0")).expect("netlink");
    assert!(
        inside.link(UNDERLAY).expect("netlink").is_some()
            && !inside.tunnels().expect("tunnels").is_empty()
    );
    lab.down().expect("down");
    assert_eq!(left_of(&o), Vec::<String>::new());
    assert!(
        inside.link(UNDERLAY).expect("netlink").is_none()
            && inside.tunnels().expect("tunnels").is_empty()
    );
}

/// A lab that existed before its guard stays when the guard is dropped.
#[test]
fn a_guard_removes_only_what_it_created() {
    let o = small();
    let made = Lab::up(&o).expect("up");
    drop(Lab::up(&o).expect("borrowed"));
    assert!(lab::status(&o.prefix).expect("status").complete);
    drop(made);
    assert_eq!(left_of(&o), Vec::<String>::new());
}

#[test]
fn exec_runs_in_the_host() {
    let o = small();
    let lab = Lab::up(&o).expect("up");
    let sh = |host: &str, script: &str| {
        lab::exec(&o.prefix, host, &["sh", "-c", script].map(str::to_owned))
    };
    assert_eq!(
        sh("host1", "grep -q client0 /proc/net/dev && ! grep -q switch /proc/net/dev && exit 7")
            .expect("runs"),
        7
    );
    assert_eq!(sh("0", "kill -TERM $$").expect("runs"), 128 + 15);
    assert_eq!(sh("fabric", "grep -q switch /proc/net/dev").expect("runs"), 0);
    for bad in ["host2", "host", "", "../host0", "hostess", "host0\n"] {
        assert!(sh(bad, "true").is_err(), "{bad:?}");
    }
    assert!(lab::exec(&o.prefix, "host0", &[]).is_err());
    let e = format!(
        "{:#}",
        lab::exec(&o.prefix, "host0", &["no-such-command".to_owned()])
            .expect_err("no such command")
    );
    assert!(e.contains("no-such-command"), "{e}");
    lab.down().expect("down");
}

/// Kinds that this kernel lacks are refused with a one-line message, and leave nothing.
#[test]
fn other_kinds_work_or_give_a_reason() {
    for (kind, ipv6) in [
        (Kind::Geneve, false),
        (Kind::Geneve, true),
        (Kind::Gretap, false),
        (Kind::Gretap, true),
        (Kind::Gre, false),
        (Kind::Gre, true),
        (Kind::Ipip, false),
    ] {
        let o = LabOptions {
            kind,
            hosts: 3,
            networks: 2,
            ipv6_underlay: ipv6,
            ipv6_clients: ipv6,
            ..options()
        };
        match Lab::up(&o) {
            Ok(lab) => {
                for scenario in [Scenario::Ancestor, Scenario::Culprit] {
                    let summary = run(&o, scenario, 2, ipv6);
                    assert!(
                        summary.sent > 0 && summary.lost == 0 && summary.wrong == 0,
                        "{kind} ipv6 {ipv6}: {summary}"
                    );
                }
                let tunnels = Netlink::open_in(&lab.host(1).expect("host1"))
                    .and_then(|mut n| n.tunnels())
                    .expect("tunnels");
                let ours: Vec<_> = tunnels.iter().filter(|t| t.up).collect();
                // to two hosts, in two networks; IPIP has one for both
                assert_eq!(ours.len(), if kind == Kind::Ipip { 2 } else { 4 }, "{tunnels:#?}");
                for t in ours {
                    let id = if kind == Kind::Ipip {
                        None
                    } else {
                        Some(10000 + u32::from(t.name.contains("1-")))
                    };
                    assert_eq!(
                        (t.kind, t.id, t.remote.map(|r| r.is_ipv6())),
                        (kind, id, Some(ipv6)),
                        "{t:#?}"
                    );
                }
                println!("{kind} ipv6 {ipv6}: made and used");
                lab.down().expect("down");
            }
            Err(e) => {
                let e = format!("{e:#}");
                assert!(
                    e.contains(&format!("this kernel cannot make {kind} tunnels"))
                        && !e.contains('\n'),
                    "{e}"
                );
                println!("{e}");
            }
        }
        assert_eq!(left_of(&o), Vec::<String>::new());
    }
}

#[test]
fn running_in_a_namespace_does_not_move_the_caller() {
    let scratch = Scratch::new();
    let here = || std::fs::read_link("/proc/thread-self/ns/net").expect("a link");
    let before = here();
    assert_ne!(scratch.0.within(here).expect("enters"), before);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        scratch.0.within(|| panic!("as planned"))
    }));
    assert!(panicked.is_err());
    assert_eq!(here(), before);
    // what is opened there stays there
    let mut netlink = Netlink::open_in(&scratch.0).expect("netlink");
    assert_eq!(
        netlink.links().expect("links").iter().map(|l| l.name.as_str()).collect::<Vec<_>>(),
        ["lo"]
    );
    assert!(Netns::create(scratch.0.name()).is_err(), "the name is taken");
    assert!(Netns::open(scratch.0.name()).is_ok(), "and still there");
}

#[test]
fn links_are_created_changed_and_removed() {
    let (a, b) = (Scratch::new(), Scratch::new());
    let (mut in_a, mut in_b) =
        (Netlink::open_in(&a.0).expect("netlink"), Netlink::open_in(&b.0).expect("netlink"));
    let mut events = Changes::open_in(&a.0).expect("events");
    in_a.create("up0", Some(1400), &NewLink::Veth { peer: "up1", netns: Some(&b.0) })
        .expect("a pair");
    let peer = in_b.link("up1").expect("netlink").expect("the peer");
    let link = in_a.link("up0").expect("netlink").expect("the link");
    assert_eq!(
        (peer.mtu, link.mtu, link.lower, link.lower_netnsid.is_some()),
        (1400, 1400, Some(peer.index), true)
    );
    assert_eq!(
        in_a.link_by_index(link.index).expect("netlink").map(|l| l.name).as_deref(),
        Some("up0")
    );
    in_a.create("br0", None, &NewLink::Bridge).expect("a bridge");
    in_a.set_master("up0", "br0").expect("a port");
    in_a.set_mac("up0", [2, 0, 0, 0, 0, 9]).expect("a mac");
    in_a.set_mtu("up0", 1300).expect("an mtu");
    in_a.set_alias("up0", "uplink").expect("an alias");
    in_a.set_up("up0").expect("up");
    let link = in_a.link("up0").expect("netlink").expect("the link");
    let bridge = in_a.link("br0").expect("netlink").expect("the bridge");
    assert_eq!(
        (link.mac.as_slice(), link.mtu, link.master, link.up),
        ([2, 0, 0, 0, 0, 9].as_slice(), 1300, Some(bridge.index), true)
    );
    assert_eq!(link.alias.as_deref(), Some("uplink"));
    in_b.add_address("up1", [10, 9, 8, 7].into(), 24).expect("an address");
    assert_eq!(in_b.addresses().expect("addresses"), [(peer.index, [10, 9, 8, 7].into(), 24)]);
    in_b.set_up("up1").expect("up");
    in_b.add_neighbour("up1", [10, 9, 8, 1].into(), [2, 0, 0, 0, 0, 9]).expect("a neighbour");
    assert_eq!(in_b.route_to([10, 9, 8, 1].into()).expect("a route"), Some(peer.index));
    assert_eq!(in_b.route_to([10, 1, 1, 1].into()).expect("no route"), None);
    assert_eq!(in_b.fou_ports().expect("generic netlink"), []);
    in_a.create("gone0", None, &NewLink::Bridge).expect("a bridge");
    in_a.set_down("up0").expect("down");
    assert!(
        in_a.delete("gone0").expect("removed") && !in_a.delete("gone0").expect("nothing to do")
    );

    // errors name the object, the place and the reason
    let e = format!("{:#}", in_a.create("br0", None, &NewLink::Bridge).expect_err("twice"));
    assert!(e.contains("'br0'") && e.contains(a.0.name()) && e.contains("exists"), "{e}");
    let e = format!("{:#}", in_a.set_up("nothing0").expect_err("no such thing"));
    assert!(e.contains("'nothing0'") && e.contains(a.0.name()), "{e}");
    for bad in ["", "a/b", "sixteen-bytes-xx", "a b", "..", "a\0b"] {
        assert!(
            in_a.create(bad, None, &NewLink::Bridge).is_err()
                && in_a.link(bad).expect("no error").is_none(),
            "{bad:?}"
        );
    }

    // everything was received
    let heard = events.poll(1000).expect("events");
    let says = |f: &dyn Fn(&NetnsChange) -> bool| heard.iter().any(f);
    assert!(
        says(&|e| matches!(e, NetnsChange::Link(l, false) if l.name == "up0" && l.mtu == 1300)),
        "{heard:#?}"
    );
    assert!(says(&|e| matches!(e, NetnsChange::Link(l, true) if l.name == "gone0")), "{heard:#?}");
    assert!(events.poll(1000).expect("events").is_empty());
    // moving away is removal here
    in_a.move_to("up0", &b.0).expect("moved");
    assert!(
        events
            .poll(1000)
            .expect("events")
            .iter()
            .any(|e| matches!(e, NetnsChange::Link(l, true) if l.name == "up0"))
    );
    assert!(in_b.link("up0").expect("netlink").is_some());
}
