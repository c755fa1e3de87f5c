// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel drops, joined to rows: in separate network namespaces, where nothing else is
//! dropped, compared with what was sent and with the kernel's other counters.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]
use std::{
    collections::BTreeMap,
    net::IpAddr,
    os::fd::OwnedFd,
    sync::{Arc, OnceLock},
};

use model::{
    drops::{DropKey, Dropped, Drops, Victim},
    flow::{Count, Inner, InnerProto, Key, Kind, Pair, Tunnel},
    snapshot::Snapshot,
};
use testkit::{
    frames::{self, pkt},
    ground::*,
};
use tmon::kernel::{drop_watch::DropWatch, live::Live};

/// The underlay in both families.
const OUTER: [[&str; 2]; 2] = [["10.77.0.1", "10.77.0.2"], ["fd77::1", "fd77::2"]];

/// Two ends with a VXLAN over IPv4 or IPv6; the second one is watched.
struct Scene {
    ground: Ground,
    raw: OwnedFd,
    ifindex: u32,
    v6: bool,
}

impl Scene {
    /// `more` are arguments of `ip link add t0 type vxlan` in addition to id, port and addresses.
    fn new(v6: bool, more: &str) -> Scene {
        let ground = Ground::bare();
        for (space, own) in ground.ends() {
            for which in ["default", "all", "eth0"] {
                space.set(&format!("net/ipv6/conf/{which}/disable_ipv6"), "0");
                space.set(&format!("net/ipv6/conf/{which}/accept_dad"), "0");
                space.set(&format!("net/ipv6/conf/{which}/router_solicitations"), "0");
            }
            space.ip(&format!("address add fd77::{own}/64 dev eth0 nodad"));
            let [one, two] = OUTER[usize::from(v6)];
            let (local, remote) = if own == 1 { (one, two) } else { (two, one) };
            space.ip(&format!(
                "link add t0 type vxlan id {VNI} dstport 4789 local {local} remote {remote} {more}"
            ));
            space.set("net/ipv6/conf/t0/disable_ipv6", "1");
            address(space, "t0", 2, own, inner);
        }
        let (raw, ifindex) = (ground.a.raw(), ground.a.link("eth0").index);
        Scene { ground, raw, ifindex, v6 }
    }

    /// A frame through this tunnel, from the first end to the second.
    fn frame(&self, vni: u32, inside: frames::Frame) -> frames::Frame {
        self.outside(50_000).vxlan(vni).then(inside)
    }

    fn outside(&self, port: u16) -> frames::Frame {
        let [one, two] = OUTER[usize::from(self.v6)];
        let eth = pkt().eth().set(0, &mac(1, 2)).set(6, &mac(1, 1));
        eth.ip(&format!("{one} > {two}")).udp(port, 4789)
    }

    fn inject(&self, frame: &[u8], times: u64) {
        for _ in 0..times {
            assert_eq!(inject(&self.raw, self.ifindex, frame), 1, "the veth has room");
        }
    }

    fn watch(&self) -> Live {
        watch(&self.ground.b, false)
    }

    /// The row of a packet between these inner ends.
    fn row(&self, vni: u32, inside: Inner) -> Key {
        let ends = OUTER[usize::from(self.v6)].map(|a| a.parse::<IpAddr>().unwrap());
        Key {
            outer: Some(Pair { first: ends[0], second: ends[1] }),
            outermost: Tunnel { kind: Kind::Vxlan, id: Some(vni) },
            innermost: None,
            depth: 1,
            inner: inside,
            other: false,
        }
    }
}

fn watch(space: &Space, all: bool) -> Live {
    let mut live = Live::open(
        &["eth0".to_owned()],
        Some(space.name()),
        &small(),
        tmon::kernel::attach::Want::Best,
    )
    .unwrap();
    assert_eq!(live.watch_drops(all), None, "this kernel says what it drops");
    live
}

/// Inside: UDP from the first end's inner address to the second's.
fn udp(from: u8, port: u16) -> frames::Frame {
    let eth = pkt().eth().set(0, &mac(2, 2)).set(6, &mac(2, 1));
    eth.ip(&format!("10.78.0.{from} > 10.78.0.2")).udp(1, port).data(40)
}

fn pair(first: u8) -> Inner {
    Inner::Pair(Pair { first: inner(first), second: inner(2) })
}

fn read(live: &mut Live) -> (Snapshot, Arc<Drops>) {
    let snapshot = live.read().unwrap();
    let drops = snapshot.drops.clone().unwrap();
    assert_eq!(drops.unavailable, None);
    (snapshot, drops)
}

/// Drops for a reason: in total, or those of a row.
fn of(drops: &Drops, reason: &str, row: Option<&Key>) -> u64 {
    let rows = drops.rows.iter().filter(|(key, _)| &*key.reason == reason);
    let rows = rows.filter(|(key, _)| row.is_none() || key.victim.key() == row);
    rows.map(|(_, dropped)| dropped.total().packets).sum()
}

/// A reason, or what kernels without it report.
fn named(reason: &str) -> &str {
    static WATCH: OnceLock<DropWatch> = OnceLock::new();
    let watch = WATCH.get_or_init(|| DropWatch::open(false, &small()).unwrap());
    if watch.knows(reason) { reason } else { "NOT_SPECIFIED" }
}

/// Waits until this many packets of a row were dropped for a reason. There must be no more than
/// these, and no drop of a tunnel's packet for any other reason.
fn expect(live: &mut Live, reason: &str, row: &Key, packets: u64) -> (DropKey, Dropped) {
    let reason = named(reason);
    until(&format!("{packets} drops by {reason}"), || {
        of(&read(live).1, reason, Some(row)) >= packets
    });
    let (snapshot, drops) = read(live);
    assert_eq!(of(&drops, reason, Some(row)), packets, "{:#?}", drops.rows);
    let tunnels: Vec<_> =
        drops.rows.iter().filter(|(key, _)| matches!(key.victim, Victim::Tunnel(_))).collect();
    assert_eq!(tunnels.len(), 1, "{tunnels:#?}");
    let total = snapshot.total();
    let flow = total.rows.merged().into_iter().find(|f| f.key == *row);
    if let Some(flow) = flow {
        assert_eq!(total.dropped(&flow).unwrap().packets, packets, "the row has them as well");
    }
    let (key, dropped) = tunnels[0];
    assert!(dropped.first <= dropped.last && !key.elsewhere);
    (key.clone(), *dropped)
}

/// The count of an nft rule with a counter: packets and bytes.
fn nft(space: &Space) -> Count {
    let text = space.run("nft", "list ruleset");
    let mut words = text.split_whitespace().skip_while(|w| *w != "packets");
    let mut number = || words.nth(1).unwrap().parse().unwrap();
    let packets = number();
    Count { packets, bytes: number() }
}

fn drop_by_nft(space: &Space, rule: &str) {
    space.run("nft", "add table ip tmon");
    space.run("nft", "add chain ip tmon in { type filter hook input priority 0 ; }");
    space.run("nft", &format!("add rule ip tmon in {rule} counter drop"));
}

fn nstat(space: &Space, name: &str) -> u64 {
    let text = space.run("nstat", &format!("-asz {name}"));
    let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{text}"));
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn an_id_without_a_device_has_its_reason() {
    for v6 in [false, true] {
        let scene = Scene::new(v6, "");
        let mut live = scene.watch();
        let frame = scene.frame(VNI + 1, udp(1, 2)).bytes();
        scene.inject(&frame, 5);
        let row = scene.row(VNI + 1, pair(1));
        let (key, dropped) = expect(&mut live, "VXLAN_VNI_NOT_FOUND", &row, 5);
        assert_eq!(key.device.as_deref(), Some("eth0"));
        assert_eq!(key.netns.as_deref(), Some(scene.ground.b.name()));
        assert_eq!(dropped.counts[0].bytes, 5 * (frame.len() as u64 - 14), "from outer IP on");
        // The payload need not be IP.
        scene.inject(&scene.frame(VNI + 1, pkt().eth().arp()).bytes(), 3);
        let arp = scene.row(VNI + 1, Inner::Proto(InnerProto(0x0806)));
        until("ARP", || of(&read(&mut live).1, named("VXLAN_VNI_NOT_FOUND"), Some(&arp)) == 3);
    }
}

#[test]
fn a_wrong_fdb_entry_has_its_reason() {
    for v6 in [false, true] {
        let scene = Scene::new(v6, "learning");
        let b = &scene.ground.b;
        let other = if v6 { "fd77::9" } else { "10.77.0.9" };
        b.run("bridge", &format!("fdb replace 02:00:00:00:02:01 dev t0 dst {other} static"));
        let mut live = scene.watch();
        scene.inject(&scene.frame(VNI, udp(1, 2)).bytes(), 4);
        expect(&mut live, "VXLAN_ENTRY_EXISTS", &scene.row(VNI, pair(1)), 4);
    }
}

#[test]
fn firewall_drops_of_the_tunnel() {
    let scene = Scene::new(false, "");
    drop_by_nft(&scene.ground.b, "udp dport 4789");
    let mut live = scene.watch();
    scene.inject(&scene.frame(VNI, udp(1, 2)).bytes(), 7);
    let (key, dropped) = expect(&mut live, "NETFILTER_DROP", &scene.row(VNI, pair(1)), 7);
    assert_eq!(dropped.total(), nft(&scene.ground.b));
    assert_eq!(key.device.as_deref(), Some("eth0"));
}

#[test]
fn firewall_drops_of_inner_packets() {
    for v6 in [false, true] {
        let scene = Scene::new(v6, "");
        drop_by_nft(&scene.ground.b, "ip saddr 10.78.0.1 udp dport 2");
        let mut live = scene.watch();
        let frame = scene.frame(VNI, udp(1, 2)).bytes();
        scene.inject(&frame, 6);
        let (key, dropped) = expect(&mut live, "NETFILTER_DROP", &scene.row(VNI, pair(1)), 6);
        assert_eq!(nft(&scene.ground.b).packets, 6);
        assert_eq!(key.device.as_deref(), Some("t0"), "after decapsulation");
        assert_eq!(dropped.total().bytes, 6 * (frame.len() as u64 - 14), "the outer packet's");
    }
}

#[test]
fn a_wrong_checksum() {
    for v6 in [false, true] {
        let scene = Scene::new(v6, "");
        let mut live = scene.watch();
        let mut frame = scene.frame(VNI, udp(1, 2)).bytes();
        let check = 14 + if v6 { 40 } else { 20 } + 6;
        frame[check..check + 2].copy_from_slice(&[0xba, 0xd1]);
        scene.inject(&frame, 3);
        expect(&mut live, "UDP_CSUM", &scene.row(VNI, pair(1)), 3);
        let name = if v6 { "Udp6InCsumErrors" } else { "UdpInCsumErrors" };
        assert_eq!(nstat(&scene.ground.b, name), 3);
    }
}

#[test]
fn a_source_rejected_by_rp_filter() {
    let scene = Scene::new(false, "");
    let b = &scene.ground.b;
    for which in ["all", "eth0"] {
        b.set(&format!("net/ipv4/conf/{which}/rp_filter"), "1");
    }
    b.ip("link add d0 type veth peer d1\nlink set d0 up\nlink set d1 up");
    b.ip("address add 192.0.2.1/24 dev d0");
    b.settle();
    let mut live = scene.watch();
    let eth = pkt().eth().set(0, &mac(1, 2)).set(6, &mac(1, 1));
    let outside = eth.ip("192.0.2.9 > 10.77.0.2").udp(50_000, 4789).vxlan(VNI);
    scene.inject(&outside.then(udp(1, 2)).bytes(), 4);
    let outer = Pair { first: outer(2), second: [192, 0, 2, 9].into() };
    // Both pairs in the row's order, which is that of the outer addresses.
    let row = Key {
        outer: Some(outer),
        inner: Inner::Pair(Pair { first: inner(2), second: inner(1) }),
        ..scene.row(VNI, pair(1))
    };
    let (_, dropped) = expect(&mut live, "IP_RPFILTER", &row, 4);
    assert_eq!(dropped.counts.map(|n| n.packets), [0, 4], "by the second end");
    assert_eq!(nstat(b, "TcpExtIPReversePathFilter"), 4);
}

#[test]
fn no_socket() {
    for v6 in [false, true] {
        let scene = Scene::new(v6, "");
        let mut live = scene.watch();
        scene.inject(&scene.frame(VNI, udp(1, 2)).bytes(), 9);
        expect(&mut live, "NO_SOCKET", &scene.row(VNI, pair(1)), 9);
        assert_eq!(nstat(&scene.ground.b, "UdpNoPorts"), 9);
    }
}

#[test]
fn no_socket_on_the_tunnels_port() {
    let scene = Scene::new(false, "");
    scene.ground.b.ip("link delete t0");
    let mut live = scene.watch();
    scene.inject(&scene.frame(VNI, udp(1, 2)).bytes(), 2);
    expect(&mut live, "NO_SOCKET", &scene.row(VNI, pair(1)), 2);
}

#[test]
fn a_next_hop_with_a_smaller_mtu() {
    let scene = Scene::new(false, "");
    let b = &scene.ground.b;
    b.ip("link add d0 type veth peer d1\nlink set d0 mtu 600 up\nlink set d1 up");
    b.ip("address add 10.79.0.1/24 dev d0");
    b.settle();
    b.set("net/ipv4/ip_forward", "1");
    let mut live = scene.watch();
    let eth = pkt().eth().set(0, &mac(2, 2)).set(6, &mac(2, 1));
    let large = eth.ip("10.78.0.1 > 10.79.0.9").set(6, &[0x40, 0]).udp(1, 2).data(1000);
    scene.inject(&scene.frame(VNI, large).bytes(), 3);
    let inside = Inner::Pair(Pair { first: inner(1), second: [10, 79, 0, 9].into() });
    expect(&mut live, "PKT_TOO_BIG", &scene.row(VNI, inside), 3);
    assert_eq!(nstat(b, "IpFragFails"), 3);
}

#[test]
fn a_missing_endpoint() {
    let scene = Scene::new(false, "");
    let b = &scene.ground.b;
    b.run("bridge", "fdb append 02:00:00:00:02:07 dev t0 dst 10.77.0.70");
    b.ip("neighbour add 10.78.0.7 lladdr 02:00:00:00:02:07 dev t0");
    let mut live = scene.watch();
    let socket = b.udp((inner(2), 5000));
    for _ in 0..2 {
        socket.send_to(&[7; 40], ("10.78.0.7", 9)).unwrap();
    }
    let row = Key {
        outer: Some(Pair { first: outer(2), second: [10, 77, 0, 70].into() }),
        inner: Inner::Pair(Pair { first: inner(2), second: inner(7) }),
        ..scene.row(VNI, pair(1))
    };
    expect(&mut live, "NEIGH_FAILED", &row, 2);
}

#[test]
fn more_combinations_than_room() {
    const KEYS: u32 = 20_000;
    let scene = Scene::new(false, "");
    let mut live = scene.watch();
    let mut frame = scene.frame(VNI + 1, udp(1, 2)).bytes();
    let source = frame.len() - 40 - 8 - 8;
    frame[14 + 20 + 6..][..2].fill(0); // no checksum outside
    for n in 0..KEYS {
        frame[source..source + 4].copy_from_slice(&(0x0a4e_0000 + n).to_be_bytes());
        inject(&scene.raw, scene.ifindex, &frame);
    }
    // A veth may silently have no room for one of them: the hook knows.
    let rows = live.read().unwrap().rows;
    let of_it = rows.iter().filter(|f| f.key.outermost.id == Some(VNI + 1));
    let sent: u64 = of_it.map(|f| f.counters.total().packets).sum();
    assert!(sent > 16_384, "{sent}");
    until("all to be dropped", || {
        of(&read(&mut live).1, named("VXLAN_VNI_NOT_FOUND"), None) >= sent
    });
    let (_, drops) = read(&mut live);
    let books = drops.books()[named("VXLAN_VNI_NOT_FOUND")];
    assert_eq!(drops.missed, 0);
    assert_eq!((books.attributed.packets, books.seen().packets), (sent, sent), "no drop is lost");
    let other = |key: &DropKey| matches!(key.victim, Victim::Tunnel(Key { other: true, .. }));
    let others: u64 =
        drops.rows.iter().filter(|(k, _)| other(k)).map(|(_, n)| n.total().packets).sum();
    assert!(others >= sent - 16_384 && others < sent, "{others} of {sent} have no row");
}

#[test]
fn a_quiet_tunnel_has_no_drops() {
    let ground = Ground::new();
    let mut live = watch(&ground.b, false);
    let [near, far] = ground.sockets(9);
    send(&near, &far, 100);
    send(&far, &near, 100);
    let (snapshot, drops) = read(&mut live);
    assert_eq!(drops.rows, BTreeMap::new());
    let total = snapshot.total();
    for flow in total.rows.merged() {
        assert_eq!(total.dropped(&flow), Some(Count::default()));
    }
    let device = (Some(ground.b.name().into()), "eth0".into());
    assert!(drops.devices.contains_key(&device), "{:?}", drops.devices);
}

#[test]
fn drops_of_other_namespaces_count_only_on_request() {
    let (scene, elsewhere) = (Scene::new(false, ""), Scene::new(false, ""));
    let mut live = scene.watch();
    let mut all = watch(&scene.ground.b, true);
    elsewhere.inject(&elsewhere.frame(VNI + 1, udp(1, 2)).bytes(), 5);
    let row = elsewhere.row(VNI + 1, pair(1));
    let there = elsewhere.ground.b.name();
    until("drops elsewhere", || {
        let (_, drops) = read(&mut all);
        let mut rows = drops.rows.iter().filter(|(key, _)| key.netns.as_deref() == Some(there));
        rows.any(|(key, n)| {
            key.elsewhere && key.victim == Victim::Tunnel(row) && n.total().packets == 5
        })
    });
    let (_, drops) = read(&mut live);
    // Its own neighbour discovery may be dropped as well.
    let own = Some(scene.ground.b.name());
    let other = |key: &DropKey| key.netns.as_deref() != own || key.victim.key().is_some();
    assert!(!drops.rows.keys().any(other), "{:?}", drops.rows);
    assert!(drops.elsewhere >= 5);
}

#[test]
fn reasons_have_this_kernels_names() {
    let watch = DropWatch::open(false, &small()).unwrap();
    assert!(watch.reasons() > 60, "{}", watch.reasons());
}
