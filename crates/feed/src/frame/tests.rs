// SPDX-License-Identifier: MIT OR Apache-2.0
use std::{
    io::{Cursor, Write as _},
    process::{Command, Stdio},
    sync::Arc,
};

use proptest::{collection::vec, prelude::*};

use super::*;
use model::{
    beside::{
        Beside, Claim, ClaimMessage, Claimed, Gathered, Handshakes, Numbered, Opener, Stream,
    },
    drops::{DeviceDrops, DropKey, Dropped, Drops, Victim},
    flow::{Books, Count, Flow, Hook, HookKind, Inner, InnerProto, Key, Kind, Pair, Tunnel},
    history,
    interface::{Fill, Interface, Origin},
    overlay::{Device, Entry, Event, Narrow, Overlay, Segment},
    rows::{Part, Rows},
};

fn address(n: u32, v6: bool) -> IpAddr {
    if v6 {
        std::net::Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(n)).into()
    } else {
        std::net::Ipv4Addr::from_bits(n).into()
    }
}

fn second(n: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000 + n)
}

fn frame(interfaces: Vec<Interface>, rows: Rows) -> Frame {
    let second_long = Duration::from_secs(1);
    let mut interval = Interval::new(second(0), second(1), second_long, interfaces, rows);
    interval.origin = Origin { host: "node-a".into(), netns: 4_026_531_840, epoch: 7 };
    Frame {
        kind: FrameKind::Rows,
        seq: 5,
        reading: Duration::from_micros(420),
        held: Duration::ZERO,
        heard: None,
        clock: Some(Duration::from_micros(900)),
        cadence: second_long,
        local: vec![],
        tool: "tmon 0.2.0".to_owned(),
        interval,
    }
}

type Slot = (Key, Part, [Count; 2]);

fn slots(rows: &Rows) -> Vec<(u16, Slot)> {
    let slot = |r: model::rows::Row<'_>| (r.interface(), (r.flow().key, r.part(), r.counts()));
    let mut all: Vec<_> = rows.walk().map(slot).collect();
    all.sort_by_key(|(i, (key, part, _))| (*i, *key, part.swapped, part.fragments));
    all
}

/// The same, except for the order of rows.
fn assert_same(a: &Frame, b: &Frame) {
    assert_eq!(slots(&a.interval.rows), slots(&b.interval.rows));
    let bare = |f: &Frame| {
        let mut f = f.clone();
        f.interval = f.interval.reduced(Rows::default());
        f
    };
    assert_eq!(bare(a), bare(b));
}

fn key() -> impl Strategy<Value = Key> {
    let pair = || (any::<u32>(), any::<u32>(), any::<bool>());
    let tunnel = || (0u8..40, proptest::option::of(any::<u32>()));
    let inside = prop_oneof![pair().prop_map(Ok), any::<u32>().prop_map(Err)];
    (proptest::option::weighted(0.9, pair()), tunnel(), tunnel(), 1u8..=4, inside, any::<bool>())
        .prop_map(|(outer, (kind, id), (kind1, id1), depth, inside, other)| {
            let of = |(a, b, v6)| Pair { first: address(a, v6), second: address(b, v6) };
            let tunnel = |kind, id| Tunnel { kind: Kind::from_number(kind), id };
            Key {
                outer: outer.map(of),
                outermost: tunnel(kind, id),
                innermost: (depth > 1).then(|| tunnel(kind1, id1)),
                depth,
                inner: match inside {
                    Ok(pair) => Inner::Pair(of(pair)),
                    Err(proto) => Inner::Proto(InnerProto(proto)),
                },
                other,
            }
        })
}

fn any_rows() -> impl Strategy<Value = Rows> {
    let count = || (any::<u64>(), any::<u64>());
    let row = (0u16..3, key(), any::<[bool; 2]>(), count(), count());
    vec(row, 0..40).prop_map(|all| {
        let mut rows = Rows::default();
        for ((interface, key, [swapped, fragments], rx, tx), place) in all.into_iter().zip(0..) {
            let counts = [rx, tx].map(|(packets, bytes)| Count { packets, bytes });
            rows.push(place, interface, &key, counts, Part { swapped, fragments });
        }
        rows
    })
}

fn interfaces() -> Vec<Interface> {
    let of = |id: u64| Interface::new(id, &format!("eth{id}"));
    vec![of(0), of(1), of(u64::MAX)]
}

/// One of everything.
fn full() -> Frame {
    let v4 = |n: u32| address(0xac10_0100 + n, false);
    let tunnel = Tunnel { kind: Kind::Vxlan, id: Some(10_000) };
    let key = Key {
        outer: Some(Pair { first: v4(1), second: v4(2) }),
        outermost: tunnel,
        innermost: None,
        depth: 1,
        inner: Inner::Pair(Pair { first: address(3, true), second: address(4, true) }),
        other: false,
    };
    let arp = Key { inner: Inner::Proto(InnerProto(0x0806)), ..key };
    let c = |packets| Count { packets, bytes: packets * 100 };
    let mut rows = Rows::default();
    rows.push(0, 0, &key, [c(5), c(7)], Part { swapped: true, fragments: false });
    rows.push(1, 0, &arp, [c(1), c(0)], Part { swapped: false, fragments: true });
    let interface = Interface {
        ifindex: 5,
        netns: Some("blue".to_owned()),
        hook: HookKind::Tcx,
        attached: Some(second(0)),
        counted_on: Some("bond0".to_owned()),
        stale: true,
        loopback: true,
        books: Books { counted: [c(6), c(7)], suspect: [c(1), c(0)], ..Books::default() },
        span: Duration::from_secs(1),
        fill: Fill { used: 3, size: 64 },
        ..Interface::new(9, "eth0")
    };
    let mut f = frame(vec![interface], rows);
    f.local = vec![v4(1), address(9, true)];
    let of = |reason: &str, victim| DropKey {
        reason: reason.into(),
        netns: Some("blue".into()),
        elsewhere: false,
        device: Some("eth0".into()),
        victim,
    };
    let n = Dropped { counts: [c(2), c(3)], first: second(0), last: second(1) };
    let mut drops = Drops::new([
        (of("NO_SOCKET", Victim::Tunnel(key)), n),
        (of("UDP_CSUM", Victim::Plain), n),
        (of("UDP_CSUM", Victim::Unknown), n),
    ]);
    drops.missed = 3;
    drops.elsewhere = 4;
    let device = DeviceDrops { rx_dropped: 1, rx_missed: 2, tx_dropped: 3, qdisc: 4 };
    drops.devices.insert((None, "eth0".into()), device);
    f.interval.drops = Some(Arc::new(drops));
    let mut read = Gathered { unnumbered: 1, unclaimed: 2, ..Gathered::default() };
    let stream =
        Stream { interface: 9, kind: Kind::Esp, from: v4(1), to: v4(2), id: 77, hook: Hook::Rx };
    let numbered = Numbered {
        packets: 9,
        lost: 8,
        late: 7,
        duplicate: 6,
        restarted: 5,
        highest: 4,
        missing: 3,
    };
    read.add_streams([(stream, numbered)]);
    let claim = Claim {
        interface: 9,
        tunnel,
        from: v4(1),
        to: v4(2),
        who: v4(3),
        message: ClaimMessage::Icmp([3, 4]),
        hook: Hook::Tx,
    };
    let echo = Claim { message: ClaimMessage::Gtpu(2), ..claim };
    read.add_claims([
        (claim, Claimed { packets: 2, mtu: Some(1400), ..Claimed::default() }),
        (echo, Claimed { packets: 3, mtu: None, timed: 2, nanoseconds: 3_000_000_000 }),
    ]);
    let opened = Handshakes {
        syns: 9,
        retries: 8,
        unanswered: 7,
        resets: [6, 5],
        timed: 4,
        nanoseconds: 3_000_000_000,
    };
    // Also of a row that has no packet in the interval.
    let silent = Key { inner: Inner::Pair(Pair { first: v4(7), second: v4(8) }), ..key };
    for (key, hook) in [(key, Hook::Rx), (silent, Hook::Tx)] {
        read.add_handshakes([(Opener { interface: 9, key, hook }, opened)]);
    }
    (read.unfollowed, read.displaced, read.now) = (3, 4, 5);
    f.interval.beside = Arc::new(Beside::new(read));
    let mac = [2, 0, 0, 0, 0, 1];
    let mut overlay = Overlay::default();
    overlay.devices.push(Device {
        netns: None,
        name: "vxlan0".to_owned(),
        kind: Kind::Vxlan,
        id: Some(0),
        port: Some(4789),
        up: true,
    });
    overlay.narrow.push(Narrow {
        netns: None,
        device: "eth0".to_owned(),
        mtu: 1500,
        tunnel: "vxlan0".to_owned(),
        needs: 1550,
    });
    overlay.addresses.insert(v4(1), vec![None, Some("blue".to_owned())]);
    let entry = Entry { device: "vxlan0".to_owned(), id: Some(7), endpoint: v4(2), fixed: true };
    overlay.entries.insert(mac, vec![entry]);
    overlay.neighbours.insert(address(3, true), mac);
    overlay.events.push(Event {
        at: second(1),
        text: "eth0 is down".to_owned(),
        address: Some(v4(2)),
        device: Some("eth0".to_owned()),
    });
    let [bridge, vrf] = ["br7", "red"].map(|name| Some(name.to_owned()));
    let l2 = Segment { bridge, vrf: vrf.clone(), is_routed: false };
    let l3 = Segment { bridge: None, vrf, is_routed: true };
    for (id, segment) in [(7, l2), (50, l3)] {
        overlay.segments.insert(Tunnel { kind: Kind::Vxlan, id: Some(id) }, segment);
    }
    f.interval.overlay = Some(Arc::new(overlay));
    f
}

proptest! {
    #[test]
    fn rows_survive_a_frame(rows in any_rows()) {
        let before = frame(interfaces(), rows);
        let after = Frame::decode(&before.encode()).expect("a frame");
        prop_assert_eq!(slots(&before.interval.rows), slots(&after.interval.rows));
        assert_same(&Frame::decode(&before.packed()).expect("a frame"), &after);
    }

    #[test]
    fn no_bytes_cause_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        drop(Frame::decode(&bytes));
        let stream = [&MAGIC[..], &bytes].concat();
        let mut reader = FrameReader::new(Cursor::new(stream)).expect("the magic");
        while let Ok(Some(_)) = reader.next_frame() {}
    }

    #[test]
    fn a_frame_with_a_changed_byte_is_refused_or_decodes_to_another(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = full().encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(frame) = Frame::decode(&bytes) {
            drop(Frame::decode(&frame.encode()).expect("what was read can be written"));
        }
    }
}

#[test]
fn a_frame_survives_encoding() {
    assert_same(&full(), &Frame::decode(&full().encode()).expect("a frame"));
    for kind in [FrameKind::Hello, FrameKind::Sum, FrameKind::Rows, FrameKind::End] {
        let held = Duration::from_millis(250);
        let f = Frame { kind, held, ..frame(vec![], Rows::default()) };
        let back = Frame::decode(&f.encode()).expect("a frame");
        assert_eq!((back.kind, back.held), (kind, held));
    }
}

/// What has been recorded must remain readable for ever.
#[test]
fn the_encoding_has_not_changed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/frame.bin");
    let bytes = full().encode();
    if std::env::var_os("TMON_BLESS").is_some() {
        std::fs::write(path, &bytes).expect("the folder is there");
    }
    assert_eq!(std::fs::read(path).expect("it is checked in"), bytes);
    assert!(bytes.starts_with(&[0x08, 0x01]), "schema 1");
}

#[test]
fn a_truncated_frame_is_refused() {
    let bytes = full().encode();
    let whole = (0..bytes.len()).filter(|n| Frame::decode(&bytes[..*n]).is_ok_and(|f| f == full()));
    // The checksum is optional.
    assert_eq!(whole.collect::<Vec<_>>(), [bytes.len() - wire::CHECKSUM_BYTES]);
}

#[test]
fn contradictory_frames_are_refused_with_a_reason() {
    use prost::Message;
    let refused = |change: &dyn Fn(&mut wire::FrameMessage)| {
        let mut m = wire::FrameMessage::decode(&*full().encode()).expect("a message");
        m.checksum = None;
        change(&mut m);
        format!("{:#}", Frame::decode(&m.encode_to_vec()).expect_err("it is refused"))
    };
    assert!(refused(&|m| m.schema = 2).contains("schema 2"));
    assert!(refused(&|m| m.kind = 9).contains("kind 9"));
    assert!(refused(&|m| m.row_tunnel[0] = 99).contains("beyond the last"));
    assert!(refused(&|m| m.row_rx_pkts.push(1)).contains("rx packets"));
    assert!(refused(&|m| m.row_inner_b[0] = 99).contains("not in the table"));
    assert!(refused(&|m| m.row_inner_b[0] = -99).contains("below zero"));
    assert!(refused(&|m| m.v6.push(0)).contains("IPv6"));
    assert!(refused(&|m| m.v4[0] = u32::MAX).contains("IPv4"));
    assert!(refused(&|m| m.interfaces.clear()).contains("no interface"));
    assert!(refused(&|m| m.tunnel_depth[0] = 5).contains("depth"));
    assert!(refused(&|m| m.tunnel_id[0] = u64::MAX).contains("32 bits"));
    assert!(refused(&|m| m.local[0] = 99).contains("not in the table"));
    assert!(refused(&|m| m.checksum = Some(1)).contains("checksum"));
}

#[test]
fn own_addresses_are_unique_and_limited() {
    let mut f = full();
    let own = |n: u32| IpAddr::from(n.to_be_bytes());
    f.local = (0..MOST_LOCAL as u32 + 10).map(own).collect();
    let read = Frame::decode(&f.encode()).expect("a frame").local;
    assert_eq!(read, f.local[..MOST_LOCAL]);
    f.local = vec![own(1); 1_000_000];
    assert_eq!(Frame::decode(&f.encode()).expect("a frame").local, [own(1)]);
}

#[test]
fn limits_apply_before_memory_is_allocated() {
    // Two bytes each would become interfaces of hundreds of bytes.
    let many = [0x6a, 0].repeat(MOST_MESSAGES + 1);
    assert!(format!("{:#}", Frame::decode(&many).expect_err("too many")).contains("messages"));
    let inside = [vec![0xd2, 0x02, 0xc4, 0xd8, 0x30], [0x12, 0].repeat(400_000)].concat();
    assert!(Frame::decode(&inside[..800_005]).is_err());
    let bomb = zstd::bulk::compress(&vec![0; 2 * MOST_BYTES], 3).expect("compressed");
    assert!(bomb.len() < 10_000);
    assert!(format!("{:#}", Frame::decode(&bomb).expect_err("a bomb")).contains("unpacks to more"));
    let length = [&MAGIC[..], &[0xff, 0xff, 0xff, 0xff, 0x7f]].concat();
    let mut reader = FrameReader::new(Cursor::new(length)).expect("a stream");
    assert!(reader.next_frame().is_err());
    let mut f = full();
    f.interval.origin.host = "\x1b[31m".repeat(100).into();
    let host = Frame::decode(&f.encode()).expect("a frame").interval.origin.host;
    assert!(host.chars().count() == MOST_CHARACTERS && !host.contains('\x1b'));
}

fn stream(frames: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = FrameWriter::new(&mut bytes);
    for seq in 0..frames as u64 {
        writer.write(&Frame { seq, ..full() }).expect("memory");
    }
    writer.end_block().expect("memory");
    bytes
}

fn read(bytes: &[u8]) -> (Vec<u64>, bool) {
    let Ok(mut reader) = FrameReader::new(Cursor::new(bytes.to_vec())) else {
        return (vec![], false);
    };
    let mut all = Vec::new();
    while let Ok(Some(frame)) = reader.next_frame() {
        all.push(frame.seq);
    }
    (all, reader.is_whole())
}

#[test]
fn a_stream_may_follow_a_greeting_and_another_stream() {
    let bytes = stream(2 * PER_BLOCK + 5);
    let all: Vec<u64> = (0..2 * PER_BLOCK as u64 + 5).collect();
    assert_eq!(read(&bytes), (all.clone(), true));
    let greeting = b"Last login: Mon Nov 30\r\n\x1b[1mwelcome\x1b[0m\n".to_vec();
    assert_eq!(read(&[greeting, bytes.clone()].concat()), (all.clone(), true));
    let plain = zstd::stream::decode_all(&*bytes).expect("as `zstd -d` does");
    assert_eq!(read(&plain), (all.clone(), true));
    assert_eq!(read(&[bytes.clone(), bytes.clone()].concat()).0, [all.clone(), all].concat());
    assert!(FrameReader::knows(&bytes[..100]) && FrameReader::knows(&plain));
    assert!(!FrameReader::knows(&zstd::bulk::compress(&[0; 100], 3).expect("compressed")));
    let chatty = vec![b'x'; 5000];
    assert!(FrameReader::new(Cursor::new(chatty)).is_err());
}

#[test]
fn truncation_costs_at_most_the_last_reading() {
    let mut bytes = Vec::new();
    let mut ends = Vec::new(); // where each frame was flushed
    let (to, from) = std::sync::mpsc::channel::<usize>();
    struct Told(Vec<u8>, std::sync::mpsc::Sender<usize>);
    impl io::Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.extend(bytes);
            _ = self.1.send(self.0.len());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    use std::io;
    let mut writer = FrameWriter::new(Told(Vec::new(), to));
    for seq in 0..5 {
        writer.write(&Frame { seq, ..full() }).expect("memory");
        ends.push(from.try_iter().last().expect("it was written"));
    }
    bytes.extend(stream(5));
    for cut in 0..bytes.len() {
        let flushed = ends.iter().filter(|end| **end <= cut).count() as u64;
        assert_eq!(read(&bytes[..cut]).0, (0..flushed).collect::<Vec<_>>(), "cut at {cut}");
    }
}

/// The row model of the design: this many tunnels to this many peers, most inner addresses IPv4,
/// sizes distributed as in practice.
fn busy(rows: u32, peers: u32, ids: u32) -> Rows {
    let mut seed = 1u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u32
    };
    let mut all = Rows::default();
    for place in 0..rows {
        let tunnel = random() % 250 * peers * ids / 250;
        let (peer, id) = (tunnel / ids, tunnel % ids);
        let v6 = random() % 100 < 8;
        let host = |n| address(0x0a00_0000 + n, false);
        let inner = |net: u32, n: u32| match v6 {
            false => address(0xc0a8_0000 + (net << 8) + n, false),
            true => address((net << 16) + n, true),
        };
        let key = Key {
            outer: Some(Pair { first: host(100), second: host(101 + peer) }),
            outermost: Tunnel { kind: Kind::Vxlan, id: Some(10_000 + id) },
            innermost: None,
            depth: 1,
            inner: match random() % 50 {
                0 => Inner::Proto(InnerProto(0x0806)),
                _ => Inner::Pair(Pair {
                    first: inner(id, random() % 20),
                    second: inner(id, 20 + random() % 200),
                }),
            },
            other: false,
        };
        // Log-normal, by the sum of many.
        let spread: f64 = (0..12).map(|_| f64::from(random() % 1000) / 1000.0).sum::<f64>() - 6.0;
        let packets = (3.0 + 1.5 * spread).exp().ceil() as u64;
        let size = 90 + u64::from(random() % 1400);
        let counts = [packets, packets / 2 + 1].map(|n| Count { packets: n, bytes: n * size });
        all.push(place, 0, &key, counts, Part { swapped: true, fragments: false });
    }
    all
}

#[test]
fn frames_have_the_size_stated_in_the_design() {
    let rows = busy(1000, 60, 6);
    let f = frame(vec![Interface::new(0, "eth0")], rows.clone());
    let sum = history::summed(&rows.iter().collect::<Vec<Flow>>(), 1024);
    let mut summed = Rows::default();
    sum.iter().take(250).zip(0..).for_each(|(flow, place)| summed.push_flow(place, flow));
    let s = frame(vec![Interface::new(0, "eth0")], summed);
    let sizes = [f.encode().len(), f.packed().len(), s.encode().len(), s.packed().len()];
    println!("1,000 rows and the sum of 250 tunnels, plain and packed: {sizes:?} bytes");
    assert!(sizes[0] <= 17_000 && sizes[1] <= 11_000, "{sizes:?}");
    assert!(sizes[3] <= 2_500, "{sizes:?}");
}

/// Other programs can read what we write, with the schema that is shipped.
#[test]
fn protoc_reads_it() {
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let started = Command::new("protoc")
        .args([&format!("-I{proto}"), "--decode=tmon.v1.Frame", "tmon.proto"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        return println!("NOT RUN: protoc is not installed (apt-get install protobuf-compiler)");
    };
    child.stdin.take().expect("a pipe").write_all(&full().encode()).expect("it reads");
    let out = child.wait_with_output().expect("it ends");
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).expect("text");
    let known =
        ["host: \"node-a\"", "kind: ROWS", "row_rx_pkts: 5", "reason: \"NO_SOCKET\"", "mtu: 1400"];
    known.iter().for_each(|line| assert!(text.contains(line), "{line} in {text}"));
    // Fields that the schema lacks would be shown by number.
    let unknown = text.lines().find(|l| l.trim_start().starts_with(|c: char| c.is_ascii_digit()));
    assert_eq!(unknown, None);
}
