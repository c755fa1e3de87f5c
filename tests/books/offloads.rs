// SPDX-License-Identifier: MIT OR Apache-2.0
//! GSO, GRO and BIG TCP: super-packets are counted as what the wire carries, verified by an end
//! without any offload, which receives and sends every packet individually.
use std::{
    io::{Read, Write},
    net::{IpAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    thread,
    time::Duration,
};

use model::{
    flow::{Count, Inner},
    snapshot::Snapshot,
};
use nix::sys::socket::{setsockopt, sockopt::RcvBuf};
use tmon::kernel::{attach::Want, bpf::Config, live::Live, netlink::NewLink};

use crate::ground::*;

/// An end with all offloads, a bridge, and an end with none. Between the bridge and the second end,
/// packets are as on a wire.
struct Wire {
    g: Ground,
    bridge: Space,
}

const EVERYTHING: &str = "tso off gso off gro off tx-udp-segmentation off tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off";

impl Wire {
    fn new() -> Wire {
        let (g, bridge) = (Ground { a: Space::new("a"), b: Space::new("b") }, Space::new("m"));
        let mut netlink = bridge.netlink();
        netlink.create("br0", None, &NewLink::Bridge).unwrap();
        netlink.set_up("br0").unwrap();
        for ((space, own), port) in g.ends().into_iter().zip(["p1", "p2"]) {
            netlink
                .create(port, None, &NewLink::Veth { peer: "eth0", netns: Some(&space.0) })
                .unwrap();
            netlink.set_master(port, "br0").unwrap();
            netlink.set_up(port).unwrap();
            address(space, "eth0", 1, own, outer);
        }
        let w = Wire { g, bridge };
        w.bridge.ethtool("p2", EVERYTHING);
        w.g.b.ethtool("eth0", EVERYTHING);
        w.g.settle();
        w.bridge.settle();
        w
    }

    fn tunnel(&self, name: &str, id: u32) {
        self.g.tunnel(name, id);
        self.plain(name);
    }

    /// A reading, and the counts of both ends, while no packets are in flight between them.
    fn read(&self, live: &mut Live) -> (Snapshot, [[Count; 2]; 2]) {
        let counted = || self.g.ends().map(|(space, _)| space.counted("eth0"));
        for _ in 0..100 {
            let before = counted();
            let snapshot = live.read().unwrap();
            thread::sleep(Duration::from_millis(200));
            if counted() == before {
                return (snapshot, before);
            }
        }
        panic!("the ends do not come to rest");
    }

    /// Disables all offloads at the second end.
    fn plain(&self, name: &str) {
        self.g.b.ethtool(name, "tso off gso off gro off");
    }
}

/// Transfers this many bytes over TCP. The window is small: what is in flight fits into the queues.
pub(crate) fn bulk(from: &Space, to: &Space, at: IpAddr, bytes: usize) {
    let listener = to.0.within(|| TcpListener::bind((at, 0))).unwrap().unwrap();
    setsockopt(&listener.as_fd(), RcvBuf, &(128 << 10)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = vec![0; 1 << 18];
            let mut got = 0;
            loop {
                match stream.read(&mut buffer).unwrap() {
                    0 => return got,
                    n => got += n,
                }
            }
        });
        let mut stream: TcpStream =
            from.0.within(|| TcpStream::connect((at, port))).unwrap().unwrap();
        stream.write_all(&vec![7; bytes]).unwrap();
        drop(stream);
        assert_eq!(receiver.join().unwrap(), bytes);
    });
}

/// Asserts equality to the packet and to the byte.
fn agrees(what: &str, counted: Count, truth: Count) {
    println!("{what}: counted {counted:?}, on the wire {truth:?}");
    assert_eq!(counted, truth, "{what}");
}

fn seen(s: &Snapshot, interface: usize) -> [Count; 2] {
    s.interfaces[interface].books.seen()
}

const BULK: usize = 24 << 20;

/// Asserts that a device counts fewer super-packets than packets on the wire; otherwise the test
/// would show nothing.
fn merged(counted: Count, skbs: Count) {
    assert!(skbs.packets * 4 < counted.packets, "no offload was at work: {skbs:?} of {counted:?}");
}

#[test]
fn gso_and_gro_are_what_the_wire_carries() {
    let w = Wire::new();
    w.tunnel("t0", VNI);
    w.g.a.ethtool("eth0", "gro on");
    // A veth merges only packets from one that would not send them merged.
    w.bridge.ethtool("p1", "tso off");
    let names = ["eth0".to_owned(), "t0".to_owned()];
    let mut live =
        Live::open(&names, Some(w.g.a.name()), &Config { plain: true, ..small() }, Want::Best)
            .unwrap();
    let mut raw =
        Live::open(&names[..1], Some(w.g.a.name()), &Config { skb: true, ..small() }, Want::Best)
            .unwrap();
    let (_, before) = w.read(&mut live);
    bulk(&w.g.a, &w.g.b, inner(2), BULK);
    bulk(&w.g.b, &w.g.a, inner(1), BULK);
    let (s, after) = w.read(&mut live);
    let [skbs, truth] = [0, 1].map(|end| since(after[end], before[end]));
    let counted = seen(&s, 0);
    agrees("GRO at ingress", counted[0], truth[1]);
    agrees("GSO at egress", counted[1], truth[0]);
    // The raw view is what the interface itself counts, unless that counts before merging.
    let raw = seen(&raw.read().unwrap(), 0);
    assert_eq!(raw[1], skbs[1], "--skb");
    merged(counted[0], raw[0]);
    merged(counted[1], raw[1]);
    // The tunnel device shows the inside: the wire minus the encapsulation.
    let inside = seen(&s, 1);
    for hook in [0, 1] {
        let bare = Count {
            packets: counted[hook].packets,
            bytes: counted[hook].bytes - counted[hook].packets * ENCAPSULATION,
        };
        agrees("inside", inside[hook], bare);
    }
    closed(&s);
}

#[test]
fn a_tunnel_in_a_tunnel_is_what_the_wire_carries() {
    let w = Wire::new();
    w.tunnel("t0", VNI);
    // Another tunnel between the inner addresses of the first.
    for (space, own) in w.g.ends() {
        let (local, remote) = (inner(own), inner(3 - own));
        space.ip(&format!(
            "link add t1 mtu 1400 type vxlan id 9 dstport 4789 local {local} remote {remote}\n"
        ));
        address(space, "t1", 3, own, |end| [10, 79, 0, end].into());
    }
    w.plain("t1");
    let mut live = w.g.watch(&small(), Want::Best);
    let (_, before) = w.read(&mut live);
    bulk(&w.g.a, &w.g.b, [10, 79, 0, 2].into(), BULK);
    let (s, after) = w.read(&mut live);
    let truth = since(after[1], before[1]);
    agrees("two tunnels", seen(&s, 0)[1], truth[0]);
    let deep: Count = s
        .rows
        .iter()
        .filter(|f| f.key.depth == 2 && f.key.innermost.is_some_and(|t| t.id == Some(9)))
        .map(|f| f.counters.tx())
        .sum();
    assert_eq!(deep, seen(&s, 0)[1], "all of it is in rows of two tunnels");
}

/// The kernel lets a veth carry super-packets beyond 64 KiB, whose IP header has no length; newer
/// kernels also a VXLAN.
fn big_tcp(what: &str, v6: bool, tunnel: bool) {
    let w = Wire::new();
    let at = |end: u8| -> IpAddr {
        match (v6, tunnel) {
            (true, _) => [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(end)].into(),
            (false, true) => inner(end),
            (false, false) => outer(end),
        }
    };
    let device = if tunnel { "t0" } else { "eth0" };
    if tunnel {
        w.tunnel("t0", VNI);
    }
    for (space, own) in w.g.ends() {
        if v6 {
            space.set(&format!("net/ipv6/conf/{device}/disable_ipv6"), "0");
            space.netlink().add_address(device, at(own), 64).unwrap();
            space
                .netlink()
                .add_neighbour(device, at(3 - own), mac(1 + u8::from(tunnel), 3 - own))
                .unwrap();
        }
    }
    for name in ["p1", "br0", "p2"] {
        w.bridge.largest(name, 200_000);
    }
    let big = w.g.a.largest("eth0", 200_000) && w.g.a.largest(device, 200_000);
    assert!(big || tunnel, "a veth sends them");
    let mut live = w.g.watch(&Config { plain: true, ..small() }, Want::Best);
    let (silence, before) = w.read(&mut live);
    bulk(&w.g.a, &w.g.b, at(2), 8 * BULK);
    let (s, after) = w.read(&mut live);
    let [skbs, truth] = [0, 1].map(|end| since(after[end], before[end]));
    // Including an IPv6 interface's own traffic.
    let counted = since(seen(&s, 0), seen(&silence, 0))[1];
    agrees(what, counted, truth[0]);
    merged(counted, skbs[1]);
    let pair = |f: &model::flow::Flow| match f.key.inner {
        Inner::Pair(p) if tunnel => p.first == at(1) && p.second == at(2),
        Inner::Proto(_) if !tunnel => {
            f.key.outer.is_some_and(|p| p.first == at(1) && p.second == at(2))
        }
        _ => false,
    };
    let tcp: Count = s.rows.iter().filter(pair).map(|f| f.counters.tx()).sum();
    assert!(truth[0].packets - tcp.packets < 10, "{what}: {tcp:?} of {:?} in its row", truth[0]);
    assert!(
        s.interfaces[0].books.stops.iter().flatten().all(|n| n.packets < 10),
        "{:?}",
        s.interfaces[0].books
    );
    let average = skbs[1].bytes / skbs[1].packets;
    println!("{what}: super-packets of {average} bytes on average");
    assert!(big || average <= 1 << 16, "{what}: but the device claims that it cannot send them");
}

#[test]
fn big_tcp_over_ipv4() {
    big_tcp("BIG TCP over IPv4", false, false);
}

#[test]
fn big_tcp_over_ipv6() {
    big_tcp("BIG TCP over IPv6", true, false);
}

/// Kernels without BIG TCP for UDP tunnels limit these to 64 KiB: the counts are exact either way.
#[test]
fn big_tcp_in_a_tunnel() {
    for v6 in [false, true] {
        big_tcp("BIG TCP in VXLAN", v6, true);
    }
}

#[test]
fn a_tag_in_the_metadata_is_counted() {
    let g = Ground::bare();
    // The kernel removes the tag from a received frame before our hook.
    let mut far = Live::open(&["eth0".to_owned()], Some(g.b.name()), &small(), Want::Best).unwrap();
    let mut near = g.watch(&small(), Want::Best);
    let frame = vxlan(7, 1, 2);
    let tagged = [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat();
    let before = g.b.counted("eth0");
    let raw = g.a.raw();
    let tries: u64 = (0..100).map(|_| inject(&raw, g.a.link("eth0").index, &tagged)).sum();
    assert_eq!(tries, 100, "a hundred fit into the queue");
    until("the frames", || seen(&far.read().unwrap(), 0)[0].packets == 100);
    let all = Count { packets: 100, bytes: 100 * tagged.len() as u64 };
    let (near, far) = (near.read().unwrap(), far.read().unwrap());
    let row = |s: &Snapshot| {
        s.rows
            .iter()
            .filter(|f| f.key.outermost.id == Some(7))
            .map(|f| f.counters.total())
            .sum::<Count>()
    };
    assert_eq!((row(&near), seen(&near, 0)[1]), (all, all), "leaving, in the frame");
    assert_eq!((row(&far), seen(&far, 0)[0]), (all, all), "arriving, in the metadata");
    assert_eq!(since(g.b.counted("eth0"), before)[0], all, "the interface agrees");
}

#[test]
fn fragments_are_in_the_row_of_their_packet() {
    const PACKETS: u64 = 20;
    let g = Ground::new();
    let mut live = g.watch(&small(), Want::Best);
    // An inner packet does not fit into an outer one any more.
    for (space, _) in g.ends() {
        space.netlink().set_mtu("t0", 1500).unwrap();
    }
    // Path MTU discovery does not notice it.
    g.a.run("ip", "route replace 10.78.0.0/24 dev t0 src 10.78.0.1 mtu lock 1500");
    let [near, far] = g.sockets(9);
    let before = g.a.counted("eth0");
    let mut got = [0; 2048];
    for n in 0..PACKETS {
        near.send(&[n as u8; 1472]).unwrap();
        assert_eq!(far.recv(&mut got).unwrap(), 1472, "put together again");
    }
    let (after, s) = at_rest(&mut live, &g.a, "eth0");
    let sent = since(after, before)[1];
    assert_eq!(sent.packets, 2 * PACKETS);
    let rows = s.rows.merged();
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!((rows[0].counters.tx(), rows[0].key.outermost.id), (sent, Some(VNI)));
    assert_eq!(s.interfaces[0].books.fragments, [Count::default(), sent]);
    assert_eq!(rows[0].counters.in_fragments().tx(), sent, "all of it was in fragments");
    closed(&s);
}
