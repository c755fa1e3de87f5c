// SPDX-License-Identifier: MIT OR Apache-2.0
//! What tmon counts in a real overlay, compared with what was sent and with the interfaces'
//! counters. Needs root, and fails with a message without it.
#![allow(clippy::unwrap_used)] // a test's panic is its report
#![cfg(feature = "live")]

use std::{
    collections::BTreeMap,
    net::IpAddr,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use model::{
    flow::{Count, Flow, Inner, InnerProto, Kind},
    snapshot::Snapshot,
};
use testkit::ground;
use tmon::{
    kernel::{attach::Want, bpf::Config, live::Live, netlink::Netlink, netns::Netns},
    lab::{self, Lab, LabOptions, Scenario, Traffic},
};

const ARP: Inner = Inner::Proto(InnerProto(0x0806));

fn options() -> LabOptions {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests need root (BPF, network namespaces): run them with sudo"
    );
    static NEXT: AtomicU32 = AtomicU32::new(0);
    LabOptions {
        prefix: format!("tmon-o{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)),
        ..LabOptions::default()
    }
}

/// Received and sent, as the interface itself counts.
fn interface(netns: &str, name: &str) -> [Count; 2] {
    let link = Netlink::open_in(&Netns::open(netns).unwrap()).unwrap().link(name).unwrap().unwrap();
    let s = link.stats;
    [
        Count { packets: s.rx_packets, bytes: s.rx_bytes },
        Count { packets: s.tx_packets, bytes: s.tx_bytes },
    ]
}

/// An interface's counters and a consistent reading: no packet passed in between, although
/// neighbour discovery may happen at any time.
fn at_rest(live: &mut Live, netns: &str, name: &str) -> ([Count; 2], Snapshot) {
    for _ in 0..100 {
        let before = interface(netns, name);
        let snapshot = live.read().unwrap();
        if interface(netns, name) == before {
            return (before, snapshot);
        }
    }
    panic!("{name} in {netns} does not come to rest");
}

/// Runs traffic for this many seconds with tmon on an interface; compares the books with the
/// interface's own counters; returns what tmon counted.
fn watch(lab: &Lab, netns: &str, name: &str, traffic: &Traffic, want: Want) -> Snapshot {
    let mut live = Live::open(&[name.to_owned()], Some(netns), &Config::default(), want).unwrap();
    let (before, started) = at_rest(&mut live, netns, name);
    let made =
        lab::traffic(&lab.plan().options().prefix, traffic, &AtomicBool::new(false)).unwrap();
    assert_eq!((made.lost, made.wrong), (0, 0), "{made}");
    let (after, snapshot) = at_rest(&mut live, netns, name);
    let books = snapshot.interfaces[0].books;
    let seen = books.since(&started.interfaces[0].books).seen();
    assert_eq!(seen, [0, 1].map(|i| after[i].since(before[i])), "seen, against the interface");
    let rows: Count = snapshot.rows.iter().map(|f| f.counters.total()).sum();
    assert_eq!(rows, books.counted[0] + books.counted[1], "the rows are what was counted");
    snapshot
}

fn without_arp(s: &Snapshot) -> Vec<Flow> {
    s.rows.merged().into_iter().filter(|f| f.key.inner != ARP).collect()
}

fn ancestor(seconds: u64) -> Traffic {
    Traffic { duration: Some(Duration::from_secs(seconds)), ..Traffic::new(Scenario::Ancestor) }
}

/// DESIGN section 8: what `ancestor` should show at host0, per second and direction.
const PER_ID: [(u32, u64); 4] = [(10000, 1996), (10001, 1080), (10002, 1556), (10003, 1720)];
const PER_PEER: [(u8, u64); 8] = [
    (101, 880),
    (102, 1116),
    (103, 1080),
    (104, 220),
    (105, 220),
    (106, 1116),
    (107, 860),
    (108, 860),
];

#[test]
fn ancestor_traffic_is_exact() {
    let lab = Lab::up(&options()).unwrap();
    let clsact = || {
        let mut netlink = Netlink::open_in(&lab.host(0).unwrap()).unwrap();
        let eth0 = netlink.link("eth0").unwrap().unwrap().index;
        netlink.delete_clsact(eth0).is_ok()
    };
    for want in ground::wants() {
        let s = watch(&lab, &lab.plan().host(0), "eth0", &ancestor(10), want);
        let flows = without_arp(&s);
        let (mut ids, mut peers) = (BTreeMap::new(), BTreeMap::new());
        let mut all = [Count::default(); 2];
        for f in &flows {
            let outer = f.key.outer.unwrap();
            assert_eq!((f.key.outermost.kind, f.key.depth, f.key.other), (Kind::Vxlan, 1, false));
            assert_eq!(outer.first, IpAddr::from([172, 16, 1, 100]), "host0 has the lower address");
            // Packets that host0 sends leave it: forward is egress, and the echo comes back byte
            // for byte.
            assert_eq!(f.counters.fwd(), f.counters.tx());
            assert_eq!(f.counters.rev(), f.counters.rx());
            assert_eq!(f.counters.fwd(), f.counters.rev(), "{f:?}");
            for (i, n) in [f.counters.rx(), f.counters.tx()].into_iter().enumerate() {
                all[i] += n;
            }
            *ids.entry(f.key.outermost.id.unwrap()).or_insert(0) += f.counters.rx().bytes;
            let IpAddr::V4(peer) = outer.second else { panic!("{outer:?}") };
            *peers.entry(peer.octets()[3]).or_insert(0) += f.counters.rx().bytes;
        }
        assert_eq!(all, [Count { packets: 120, bytes: 63_520 }; 2]);
        assert_eq!(ids, PER_ID.map(|(id, n)| (id, n * 10)).into());
        assert_eq!(peers, PER_PEER.map(|(peer, n)| (peer, n * 10)).into());
        assert_eq!(flows.len(), 11, "twelve echoes, two of them between the same clients");
        assert!(!clsact(), "a qdisc of ours was left");
    }
    lab.down().unwrap();
}

#[test]
fn the_direction_is_right_from_either_end() {
    let lab = Lab::up(&options()).unwrap();
    // host4 is 172.16.1.104: not the lowest. What it sends to host0 is `rev`.
    let s = watch(&lab, &lab.plan().host(4), "eth0", &ancestor(3), Want::Best);
    let flows: Vec<Flow> =
        without_arp(&s).into_iter().filter(|f| f.key.inner.pair().is_some()).collect();
    assert_eq!(flows.len(), 1, "{flows:?}");
    let at_host4 = flows[0];
    assert_eq!(at_host4.counters.fwd(), at_host4.counters.rx());
    assert_eq!(at_host4.counters.rev(), at_host4.counters.tx());
    assert_eq!(at_host4.counters.fwd(), Count { packets: 3, bytes: 3 * 220 });

    // The switch's port towards host4: the same packets on the opposite hooks, the same row.
    let port = {
        let fabric = Netns::open(&lab.plan().fabric()).unwrap();
        let peer = Netlink::open_in(&Netns::open(&lab.plan().host(4)).unwrap())
            .unwrap()
            .link("eth0")
            .unwrap()
            .unwrap()
            .lower
            .unwrap();
        Netlink::open_in(&fabric).unwrap().link_by_index(peer).unwrap().unwrap().name
    };
    let s = watch(&lab, &lab.plan().fabric(), &port, &ancestor(3), Want::Best);
    let flows: Vec<Flow> =
        without_arp(&s).into_iter().filter(|f| f.key.inner.pair().is_some()).collect();
    assert_eq!(flows.len(), 1, "{flows:?}");
    assert_eq!(flows[0].key, at_host4.key);
    assert_eq!(flows[0].counters.fwd(), at_host4.counters.fwd());
    assert_eq!(flows[0].counters.rx(), at_host4.counters.tx());
    assert_eq!(flows[0].counters.tx(), at_host4.counters.rx());
    lab.down().unwrap();
}

/// One lab per pair of families, outside and inside.
fn families(ipv6_underlay: bool, ipv6_clients: bool) {
    let lab = Lab::up(&LabOptions {
        hosts: 3,
        networks: 1,
        ipv6_underlay,
        ipv6_clients: true,
        ..options()
    })
    .unwrap();
    let traffic = Traffic {
        duration: Some(Duration::from_secs(2)),
        ipv6: ipv6_clients,
        ..Traffic::new(Scenario::Demo)
    };
    let mut live =
        Live::open(&["eth0".to_owned()], Some(&lab.plan().host(0)), &Config::default(), Want::Best)
            .unwrap();
    let made =
        lab::traffic(&lab.plan().options().prefix, &traffic, &AtomicBool::new(false)).unwrap();
    live.detach();
    let s = live.read().unwrap();
    let pairs: Vec<Flow> = s
        .rows
        .merged()
        .into_iter()
        .filter(|f| f.key.inner.pair().is_some_and(|p| p.first.is_ipv6() == ipv6_clients))
        .collect();
    let packets: u64 = pairs.iter().map(|f| f.counters.total().packets).sum();
    assert!(packets > 0 && !pairs.is_empty(), "{made}; {s:?}");
    for f in &pairs {
        assert_eq!(f.key.outer.unwrap().first.is_ipv6(), ipv6_underlay);
        // Every request was answered; over IPv6, so was neighbour discovery from one side.
        let (fwd, rev) = (f.counters.fwd().packets, f.counters.rev().packets);
        assert!(fwd.abs_diff(rev) <= if ipv6_clients { 2 } else { 0 }, "{f:?}");
    }
    assert_eq!(made.lost, 0);
    lab.down().unwrap();
}

#[test]
fn ipv4_in_ipv6() {
    families(true, false);
}

#[test]
fn ipv6_in_ipv4() {
    families(false, true);
}

#[test]
fn ipv6_in_ipv6() {
    families(true, true);
}

#[test]
fn dump_prints_the_contract() {
    let lab = Lab::up(&LabOptions { hosts: 2, networks: 1, ..options() }).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_tmon"))
        .args(["dump", "eth0", "--netns", &lab.plan().host(0), "--for", "200ms", "--json"])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let v: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(v["schema"], 1);
    assert_eq!(v["interfaces"][0]["name"], "eth0");
    assert_eq!(v["interfaces"][0]["netns"], lab.plan().host(0));
    assert!(v["interval_ns"].as_u64().unwrap() >= 200_000_000);
    lab.down().unwrap();
}

#[test]
fn unwatchable_interfaces_are_a_one_line_error() {
    for (args, said) in [
        (&["dump", "no-such-if", "--for", "0s"][..], "there is no interface no-such-if"),
        (&["dump", "lo", "--netns", "tmon-no-such-ns", "--for", "0s"], "tmon-no-such-ns"),
        (&["replay", "/nonexistent.pcap"], "nonexistent.pcap"),
    ] {
        let out = Command::new(env!("CARGO_BIN_EXE_tmon")).args(args).output().unwrap();
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{args:?}: {text}");
        assert!(
            text.contains(said) && text.trim_end().lines().count() == 1 && out.stdout.is_empty(),
            "{args:?}: {text}"
        );
    }
    let out = Command::new(env!("CARGO_BIN_EXE_tmon"))
        .args(["dump", "--port", "vxlan=99999"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
}
