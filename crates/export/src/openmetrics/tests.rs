// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which series there are, their maximum number, and that their sums equal the interfaces'
//! counters.
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::SystemTime,
};

use super::*;
use model::{
    drops::{DropKey, Dropped, Drops, Victim},
    flow::{Books, Counters, Flow, Inner, InnerProto, Key, Pair},
    interface::Interface,
    rows::Rows,
    snapshot::Snapshot,
};

const SECOND: Duration = Duration::from_secs(1);
const INSIDE: &str = "192.168.77.";

fn ip(n: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + n).into()
}

/// Packets of host 1 and a peer in a VXLAN: received (rx) and sent (tx).
fn talk(interface: u16, peer: u32, id: u32, rx: u64, tx: u64) -> Flow {
    let n = |packets| Count { packets, bytes: packets * 100 };
    let none = Count::default();
    let inside = |last| IpAddr::from([192, 168, 77, last]);
    Flow {
        interface,
        key: Key {
            outer: Some(Pair { first: ip(1), second: ip(peer) }),
            outermost: Tunnel { kind: Kind::Vxlan, id: Some(id) },
            innermost: None,
            depth: 1,
            inner: Inner::Pair(Pair { first: inside(1), second: inside(2) }),
            other: false,
        },
        counters: Counters { cells: [[none, n(rx)], [n(tx), none]], ..Counters::default() },
    }
}

/// Interfaces whose books match their rows.
fn interfaces(names: &[&str], flows: &[Flow]) -> Vec<Interface> {
    let of = |(name, n): (&&str, u16)| {
        let own = || flows.iter().filter(|f| f.interface == n).map(|f| &f.counters);
        let counted = [own().map(Counters::rx).sum(), own().map(Counters::tx).sum()];
        let plain = [Count { packets: 1, bytes: 60 }, Count::default()];
        let mut books = Books { counted, ..Books::default() };
        books.stops[Stop::Plain as usize] = plain;
        Interface { books, fill: Fill { used: 3, size: 128 }, ..Interface::new(n.into(), name) }
    };
    names.iter().zip(0..).map(of).collect()
}

fn snapshot(at: u64, names: &[&str], flows: &[Flow]) -> Snapshot {
    let mut rows = Rows::default();
    flows.iter().zip(0..).for_each(|(flow, place)| rows.push_flow(place, flow));
    let at = Duration::from_secs(at);
    Snapshot {
        origin: Default::default(),
        since: SystemTime::UNIX_EPOCH,
        taken: SystemTime::UNIX_EPOCH + at,
        at,
        interfaces: interfaces(names, flows),
        rows,
        drops: None,
        beside: Default::default(),
    }
}

fn metering(tunnels: usize, peers: usize) -> Metering {
    Metering::new("1.2.3", SeriesLimits { tunnels, peers, age: 600 * SECOND })
}

/// Series and their values. Both formats have the same ones.
fn series(metering: &Metering) -> BTreeMap<String, u64> {
    let read = |exposition| -> BTreeMap<String, u64> {
        let text = metering.text(exposition);
        let lines = text.lines().filter(|l| !l.starts_with('#'));
        let mut all = BTreeMap::new();
        for line in lines {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            let before = all.insert(name.to_owned(), value.parse().expect("an integer"));
            assert_eq!(before, None, "{name} is there twice");
        }
        all
    };
    let [classic, open] = [Exposition::Classic, Exposition::OpenMetrics].map(read);
    assert_eq!(classic, open);
    open
}

fn sum(series: &BTreeMap<String, u64>, name: &str, labels: &[&str]) -> u64 {
    let of = |(key, _): &(&String, &u64)| {
        key.starts_with(&format!("{name}{{")) && labels.iter().all(|l| key.contains(l))
    };
    series.iter().filter(of).map(|(_, n)| n).sum()
}

/// The books close: the tunnels' sums equal what the interfaces counted.
fn books_close(series: &BTreeMap<String, u64>) {
    for way in ["direction=\"rx\"", "direction=\"tx\""] {
        for unit in ["packets", "bytes"] {
            let counted = [way, "state=\"counted\""];
            let counted = sum(series, &format!("tmon_interface_{unit}_total"), &counted);
            assert_eq!(sum(series, &format!("tmon_tunnel_{unit}_total"), &[way]), counted);
            let seen = [way, "state=\"seen\""];
            let stops = sum(series, &format!("tmon_stops_{unit}_total"), &[way]);
            let seen = sum(series, &format!("tmon_interface_{unit}_total"), &seen);
            assert_eq!(seen, counted + stops);
        }
    }
}

#[test]
fn groups_have_the_traffic_between_their_hosts() {
    let m = metering(3, 0);
    let groups = Groups::parse("10.0.0.1 eu\n10.0.0.2 eu/a\n10.0.0.3 us\n").expect("groups");
    let flows =
        [talk(0, 2, 1, 1, 2), talk(0, 2, 2, 10, 20), talk(0, 3, 1, 100, 0), talk(0, 4, 1, 0, 7)];
    let mut t = 0;
    let mut add = |flows: &[Flow]| {
        t += 1;
        let interval = snapshot(t, &["eth0"], flows).total();
        m.add(&interval, []);
        m.add_groups(&interval, &groups);
    };
    add(&flows[..2]);
    let all = series(&m);
    let sent = |all: &BTreeMap<String, u64>, from, to| {
        let key = format!("tmon_group_packets_total{{from=\"{from}\",to=\"{to}\"}}");
        all.get(&key).copied()
    };
    assert_eq!([sent(&all, "eu", "eu/a"), sent(&all, "eu/a", "eu")], [Some(22), Some(11)]);
    // A third group gets a place, and one is left over.
    add(&flows[2..]);
    let all = series(&m);
    assert_eq!([sent(&all, "us", "eu"), sent(&all, "other", "other")], [Some(100), Some(7)]);
    assert_eq!(sum(&all, "tmon_group_packets_total", &[]), 140, "{all:?}");
}

#[test]
fn the_series_are_as_documented() {
    let m = metering(100, 10);
    let mut plain = talk(0, 9, 0, 1, 0);
    plain.key.outermost = Tunnel { kind: Kind::Ipip, id: None };
    let mut s = snapshot(1, &["eth0"], &[talk(0, 2, 10_000, 5, 3), plain]);
    s.interfaces[0].netns = Some("blue".to_owned());
    let dropped = |packets| Dropped {
        counts: [Count { packets, bytes: 0 }, Count::default()],
        first: s.taken,
        last: s.taken,
    };
    let key = |reason: &str, victim| DropKey {
        reason: reason.into(),
        netns: None,
        elsewhere: false,
        device: None,
        victim,
    };
    let drops = [
        (key("NO_SOCKET", Victim::Plain), dropped(2)),
        (key("NO_SOCKET", Victim::Unknown), dropped(3)),
    ];
    s.drops = Some(Arc::new(Drops::new(drops)));
    m.add(&s.total(), []);
    let all = series(&m);
    let at = "interface=\"eth0\",netns=\"blue\"";
    for (name, value) in [
        (format!("tmon_interface_packets_total{{{at},state=\"seen\",direction=\"rx\"}}"), 7),
        (format!("tmon_interface_bytes_total{{{at},state=\"counted\",direction=\"tx\"}}"), 300),
        (format!("tmon_stops_packets_total{{{at},reason=\"plain\",direction=\"rx\"}}"), 1),
        (
            format!(
                "tmon_tunnel_packets_total{{{at},kind=\"vxlan\",id=\"10000\",direction=\"rx\"}}"
            ),
            5,
        ),
        (format!("tmon_tunnel_bytes_total{{{at},kind=\"ipip\",id=\"\",direction=\"rx\"}}"), 100),
        (
            format!(
                "tmon_peer_packets_total{{{at},kind=\"vxlan\",id=\"10000\",local=\"10.0.0.1\",\
                 remote=\"10.0.0.2\",direction=\"tx\"}}"
            ),
            3,
        ),
        ("tmon_drops_packets_total{reason=\"NO_SOCKET\"}".to_owned(), 5),
        ("tmon_findings{kind=\"silent\",severity=\"bad\"}".to_owned(), 0),
        (format!("tmon_table_slots{{{at},state=\"size\"}}"), 128),
        ("tmon_readings_failed_total".to_owned(), 0),
        ("tmon_build_info{version=\"1.2.3\"}".to_owned(), 1),
    ] {
        assert_eq!(all.get(&name), Some(&value), "{name} in {all:#?}");
    }
    books_close(&all);
    assert!(!m.text(Exposition::Classic).contains(INSIDE), "no inner address");
}

#[test]
fn a_flood_of_keys_stays_within_the_series_limits() {
    let (tunnels, peers) = (20, 7);
    let m = metering(tunnels, peers);
    m.add(&snapshot(1, &["eth0", "eth1"], &[talk(0, 2, 7, 1, 1), talk(1, 3, 8, 1, 1)]).total(), []);
    let before = series(&m);
    let mut most = 0;
    for t in 2..6 {
        let many = (0..5000).map(|n| talk((n % 2) as u16, 100 + n + t * 9000, n * t, 1, 2));
        let flows: Vec<Flow> = many.collect();
        let older = snapshot(u64::from(t) - 1, &["eth0", "eth1"], &[]);
        m.add(&snapshot(t.into(), &["eth0", "eth1"], &flows).since(&older), []);
        let all = series(&m);
        let of = |name: &str| all.keys().filter(|k| k.starts_with(name)).count();
        // Two interfaces have one `other` each.
        assert_eq!(of("tmon_tunnel_"), 4 * (tunnels + 2));
        assert_eq!(of("tmon_peer_"), 4 * (peers + 2));
        most = most.max(all.len());
        books_close(&all);
        assert!(
            before.iter().all(
                |(name, n)| all.get(name).is_some_and(|now| now >= n) || name.contains("slots")
            )
        );
    }
    let others = 2 * (8 + 24 + 2) + 2 * Topic::ALL.len() + 1 + 1;
    assert_eq!(most, 4 * (tunnels + 2) + 4 * (peers + 2) + others);
}

#[test]
fn interfaces_that_come_and_go_are_bounded() {
    let m = metering(100, 0);
    let mut total = 0;
    for n in 0..3 {
        let names: Vec<String> = (0..400).map(|i| format!("veth{n}-{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        m.add(&snapshot(1, &names, &[talk(399, 2, n, 1, 1)]).total(), []);
        total += 401;
    }
    let all = series(&m);
    assert_eq!(sum(&all, "tmon_interface_packets_total", &["rx", "seen"]), total);
    books_close(&all);
    let of = |name: &str| all.keys().filter(|k| k.starts_with(name)).count();
    assert_eq!(of("tmon_interface_"), 8 * (INTERFACES + 1));
    assert_eq!(sum(&all, "tmon_tunnel_packets_total", &["interface=\"other\"", "rx"]), 2);
}

#[test]
fn counters_do_not_fall() {
    let m = metering(100, 10);
    let mut older = snapshot(1, &["eth0"], &[talk(0, 2, 7, 100, 50)]);
    m.add(&older.total(), []);
    let mut before = series(&m);
    let aged = |f: Flow| Flow { key: f.key.aged(), ..f };
    let mut stale = snapshot(5, &["eth0"], &[talk(0, 2, 7, 1, 1)]);
    stale.interfaces[0].stale = true;
    for (newer, packets) in [
        // It continues; it is idle and ages; it comes back; the table is recreated; a reading
        // fails.
        (snapshot(2, &["eth0"], &[talk(0, 2, 7, 110, 50)]), 110),
        (snapshot(3, &["eth0"], &[aged(talk(0, 2, 7, 110, 50))]), 110),
        (snapshot(4, &["eth0"], &[talk(0, 2, 7, 4, 0), aged(talk(0, 2, 7, 110, 50))]), 114),
        (snapshot(4, &["eth0"], &[talk(0, 2, 7, 3, 0)]), 117),
        (stale, 117),
        (snapshot(6, &["eth0"], &[talk(0, 2, 7, 8, 0)]), 122),
    ] {
        let mut newer = newer;
        newer.keep_stale(&older);
        m.add(&newer.since(&older), []);
        let all = series(&m);
        let id = "id=\"7\",direction=\"rx\"";
        assert_eq!(sum(&all, "tmon_tunnel_packets_total", &[id]), packets);
        for (name, n) in before.iter().filter(|(name, _)| name.contains("_total")) {
            assert!(all.get(name).is_some_and(|now| now >= n), "{name} fell from {n}");
        }
        (older, before) = (newer, all);
    }
    assert_eq!(before["tmon_readings_failed_total"], 1);
}

#[test]
fn each_packet_counts_once() {
    let m = metering(100, 10);
    // From host 1, which is behind eth0, to host 2, behind eth1, and back: a bridge.
    let mirrored = |f: Flow| {
        let [rx, tx] = f.counters.cells;
        Flow { interface: 1, counters: Counters { cells: [tx, rx], ..f.counters }, ..f }
    };
    let here = talk(0, 2, 7, 4, 10);
    m.add(&snapshot(1, &["eth0", "eth1"], &[here, mirrored(here)]).total(), []);
    let all = series(&m);
    assert_eq!(sum(&all, "tmon_tunnel_packets_total", &[]), 14);
    assert_eq!(sum(&all, "tmon_peer_packets_total", &[]), 14);
    assert_eq!(sum(&all, "tmon_interface_packets_total", &["counted"]), 28, "as hooks saw them");
    // Over loopback each packet passes both hooks.
    let m = metering(100, 10);
    let mut lo = snapshot(
        1,
        &["lo"],
        &[Flow {
            counters: Counters {
                cells: [[Count { packets: 5, bytes: 500 }, Count::default()]; 2],
                ..Counters::default()
            },
            ..talk(0, 2, 7, 0, 0)
        }],
    );
    lo.interfaces[0].loopback = true;
    m.add(&lo.total(), []);
    let all = series(&m);
    assert_eq!(sum(&all, "tmon_tunnel_packets_total", &["tx"]), 5);
    assert_eq!(sum(&all, "tmon_tunnel_packets_total", &[]), 5);
    assert_eq!(sum(&all, "tmon_peer_packets_total", &[]), 5);
}

#[test]
fn aged_and_overflow_rows_are_labelled_other() {
    let m = metering(100, 10);
    let rest = |proto| Flow {
        key: Key { inner: Inner::Proto(proto), ..Key::AGED },
        ..talk(0, 2, 7, 3, 1)
    };
    let flows = [rest(InnerProto::AGED), rest(InnerProto::OVERFLOW), talk(0, 2, 7, 1, 0)];
    m.add(&snapshot(1, &["eth0"], &flows).total(), []);
    let all = series(&m);
    let other = ["kind=\"other\"", "id=\"other\""];
    assert_eq!(sum(&all, "tmon_tunnel_packets_total", &other), 8);
    assert_eq!(sum(&all, "tmon_peer_packets_total", &["remote=\"other\""]), 8);
    books_close(&all);
}

/// The name of an interface cannot inject metrics.
#[test]
fn labels_are_quoted() {
    let m = metering(1, 0);
    let evil = "a\"} 1\\b\u{202e}\x1b";
    m.add(&snapshot(1, &[evil], &[talk(0, 2, 7, 1, 1)]).total(), []);
    let text = m.text(Exposition::OpenMetrics);
    assert!(text.contains(r#"{interface="a\"} 1\\b"#), "{text}");
    assert!(!text.contains(['\x1b', '\u{202e}']), "{text:?}");
}
