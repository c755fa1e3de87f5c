// SPDX-License-Identifier: MIT OR Apache-2.0
//! What passes hooks twice is one packet in totals, and what an interface never received does not
//! count as received. Needs root.
#![allow(clippy::print_stdout)] // reports what was not tried
#![allow(clippy::unwrap_used)] // a test's panic is its report
#![cfg(feature = "live")]
use std::{
    env,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
};

use model::{
    flow::{Count, Pair},
    matrix::{Scope, Tally},
    snapshot::Snapshot,
};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket,
    sockopt::BindToDevice,
};
use testkit::ground::{self, Ground, PATIENCE, Space, at_rest, mac, outer, since, wants};
use tmon::kernel::{attach::Want, bpf::Config, live::Live};

fn watch(space: &Space, names: &[&str], want: Want) -> Live {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let config = Config { plain: true, rows: 1024, ..Config::default() };
    Live::open(&names, Some(space.name()), &config, want).unwrap()
}

/// Packets by hook between two addresses at an interface.
fn between(s: &Snapshot, interface: usize, a: IpAddr, b: IpAddr) -> [u64; 2] {
    let pair = Some(Pair { first: a.min(b), second: a.max(b) });
    let rows = s.rows.merged();
    let rows = rows.iter().filter(|f| usize::from(f.interface) == interface);
    let rows = rows.filter(|f| f.key.outer == pair);
    rows.fold([0; 2], |[rx, tx], f| [rx + f.counters.rx().packets, tx + f.counters.tx().packets])
}

/// Packets between these addresses in totals.
fn total(s: &Snapshot, of: &str) -> u64 {
    let scope = Scope { filter: of.parse().unwrap(), ..Scope::default() };
    Tally::of(&s.total(), &scope).total.packets
}

/// Sends this many datagrams, which arrive at another socket.
fn send(from: &UdpSocket, to: &UdpSocket, at: (IpAddr, u16), packets: u64) {
    to.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut got = [0; 64];
    for n in 0..packets {
        from.send_to(&n.to_be_bytes(), at).unwrap();
        let length = to.recv(&mut got).unwrap_or_else(|e| panic!("datagram {n} to {at:?}: {e}"));
        assert_eq!(got[..length], n.to_be_bytes());
    }
}

/// A multicast or broadcast that its sender also receives comes back to the ingress hook, without a
/// link header. It was counted when it left, as the interface counts it.
#[test]
fn a_hosts_own_multicast_is_not_counted_as_received() {
    for want in wants() {
        let g = Ground::bare();
        g.a.ip("route add 224.0.0.0/4 dev eth0");
        let (group, all) = (Ipv4Addr::new(239, 1, 1, 1), Ipv4Addr::new(10, 77, 0, 255));
        let ear = g.a.udp((Ipv4Addr::UNSPECIFIED.into(), 5000));
        let IpAddr::V4(own) = outer(1) else { unreachable!() };
        ear.join_multicast_v4(&group, &own).unwrap();
        let mouth = g.a.udp((outer(1), 0));
        mouth.set_broadcast(true).unwrap();
        let base = g.a.counted("eth0");
        let mut live = watch(&g.a, &["eth0"], want);
        send(&mouth, &ear, (group.into(), 5000), 10);
        send(&mouth, &ear, (all.into(), 5000), 5);
        let (counted, s) = at_rest(&mut live, &g.a, "eth0");
        let [received, sent] = s.interfaces[0].books.seen();
        assert_eq!(since(counted, base)[0], Count::default(), "nobody else talks");
        assert_eq!(received, Count::default(), "{want:?}");
        assert!(sent.packets >= 15);
        assert_eq!(between(&s, 0, outer(1), group.into()), [0, 10]);
        assert_eq!(between(&s, 0, outer(1), all.into()), [0, 5]);
    }
}

/// Two macvlans on one interface: the interface also sees what passes between them.
#[test]
fn macvlans_count_on_the_interface_below() {
    let g = Ground::bare();
    let inside = Space::new("m");
    let address = |end: u8| IpAddr::from([10, 79, 0, end]);
    for (space, name, end) in [(&g.a, "m1", 1), (&inside, "m2", 2)] {
        g.a.ip(&format!("link add {name} link eth0 type macvlan mode bridge"));
        if end == 2 {
            g.a.netlink().move_to(name, &space.0).unwrap();
        }
        ground::address(space, name, 3, end, address);
    }
    let [near, far] = [(&g.a, 1), (&inside, 2)].map(|(space, end)| space.udp((address(end), 5000)));
    let mut live = watch(&g.a, &["eth0", "m1"], Want::Best);
    send(&near, &far, (address(2), 5000), 10);
    send(&far, &near, (address(1), 5000), 4);
    let s = live.read().unwrap();
    let at = |name: &str| s.interfaces.iter().position(|i| i.name == name).unwrap();
    assert_eq!(between(&s, at("m1"), address(1), address(2)), [4, 10]);
    assert_eq!(
        between(&s, at("eth0"), address(1), address(2)),
        [14, 0],
        "both come from a macvlan"
    );
    assert_eq!((total(&s, "host:10.79.0.1"), total(&s, "iface:m1")), (14, 14));
}

/// In a VRF, what passes its ports is counted there, and what passes between its own addresses is
/// counted once, although the VRF's device sends and receives it.
#[test]
fn packets_within_a_vrf_are_counted_once() {
    let g = Ground::bare();
    let made = g.a.try_run("ip", &["link", "add", "red", "type", "vrf", "table", "10"]);
    if let Err(why) = made {
        assert!(env::var_os("TMON_TUNNELS").is_none_or(|v| v != "all"), "{why}");
        println!("once: not on this kernel: {why}");
        return;
    }
    let within = IpAddr::from([10, 5, 0, 1]);
    g.a.ip("link set eth0 master red\nlink set red up\naddr add 10.5.0.1/32 dev red");
    g.a.netlink().add_neighbour("eth0", outer(2), mac(1, 2)).unwrap();
    g.settle();
    let socket = |at, port| {
        let flags = SockFlag::SOCK_CLOEXEC;
        let open = || socket(AddressFamily::Inet, SockType::Datagram, flags, None);
        let socket = g.a.0.within(open).unwrap().unwrap();
        setsockopt(&socket, BindToDevice, &"red".into()).unwrap();
        bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(at, port))).unwrap();
        UdpSocket::from(socket)
    };
    let (near, own) = (socket(outer(1), 5000), socket(within, 5001));
    let far = g.b.udp((outer(2), 5002));
    for (qdisc, local) in [("noqueue", 10), ("pfifo", 0)] {
        if qdisc == "pfifo" {
            g.a.run("tc", "qdisc add dev red root pfifo");
        }
        let mut live = watch(&g.a, &["eth0", "red"], Want::Best);
        send(&near, &own, (within, 5001), 10);
        send(&near, &far, (outer(2), 5002), 3);
        let s = live.read().unwrap();
        let at = |name: &str| s.interfaces.iter().position(|i| i.name == name).unwrap();
        assert_eq!(between(&s, at("red"), outer(1), within), [0, 10], "{qdisc}: once");
        assert_eq!(between(&s, at("eth0"), outer(1), outer(2)), [0, 3], "{qdisc}");
        let through = if qdisc == "pfifo" { 3 } else { 0 };
        assert_eq!(between(&s, at("red"), outer(1), outer(2)), [0, through], "{qdisc}");
        assert_eq!(total(&s, ""), local + 3, "{qdisc}");
        assert_eq!(total(&s, "iface:red"), 10 + through, "{qdisc}");
    }
}
