// SPDX-License-Identifier: MIT OR Apache-2.0
//! Captures as they occur in practice: what `tmon replay` makes of their interfaces, times,
//! directions and link types.
use std::{fs, path::PathBuf, time::Duration};

use export::json;
use feed::{Recording, Replay, config::Config};
use model::{
    flow::{Count, Hook, Kind, Stop},
    snapshot::{Interval, Snapshot},
    units::timestamp,
};
use tempfile::TempDir;
use testkit::frames;

use frames::{Frame, pkt};

/// 2023-11-14T22:13:20Z
const THEN: u64 = 1_700_000_000;

/// VXLAN 42 with IPv4 in IPv4: 92 bytes.
fn ip() -> Frame {
    pkt()
        .ip("10.0.0.1 > 10.0.0.2")
        .udp(54321, 4789)
        .vxlan(42)
        .then(pkt().eth().ip("192.168.0.1 > 192.168.0.2").udp(1000, 2000).data(14))
}

fn ethernet() -> Vec<u8> {
    pkt().eth().then(ip()).bytes()
}

/// A classic capture being written, in either byte order.
#[derive(Clone)]
struct Classic {
    big_endian: bool,
    bytes: Vec<u8>,
}

impl Classic {
    fn new(link: u32) -> Classic {
        Classic::of(0xa1b2_c3d4, 4, false, link)
    }

    fn of(magic: u32, minor: u16, big_endian: bool, link: u32) -> Classic {
        let file = Classic { big_endian, bytes: vec![] };
        file.u32(magic).u16(2).u16(minor).u32(0).u32(0).u32(65_535).u32(link)
    }

    fn u16(mut self, n: u16) -> Self {
        self.bytes.extend(if self.big_endian { n.to_be_bytes() } else { n.to_le_bytes() });
        self
    }

    fn u32(mut self, n: u32) -> Self {
        self.bytes.extend(if self.big_endian { n.to_be_bytes() } else { n.to_le_bytes() });
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    fn frame(self, seconds: u64, data: &[u8]) -> Self {
        let length = data.len() as u32;
        self.u32(seconds as u32).u32(0).u32(length).u32(length).raw(data)
    }
}

/// A pcapng capture being written.
#[derive(Clone)]
struct Ng(Vec<u8>);

impl Ng {
    fn new() -> Ng {
        let ng = Ng(vec![]);
        ng.block(
            0x0a0d_0d0a,
            &[&0x1a2b_3c4du32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat(),
        )
    }

    fn block(mut self, kind: u32, body: &[u8]) -> Self {
        let length = 12 + body.len().next_multiple_of(4) as u32;
        self.0.extend([kind, length].map(u32::to_le_bytes).concat());
        self.0.extend(body);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self.0.extend(length.to_le_bytes());
        self
    }

    fn option(code: u16, value: &[u8]) -> Vec<u8> {
        let mut option = [code, value.len() as u16].map(u16::to_le_bytes).concat();
        option.extend(value);
        option.resize(option.len().next_multiple_of(4), 0);
        option
    }

    fn interface(self, link: u16, options: &[(u16, &[u8])]) -> Self {
        let mut body = [&link.to_le_bytes()[..], &[0; 6]].concat();
        body.extend(options.iter().flat_map(|(code, value)| Ng::option(*code, value)));
        self.block(1, &body)
    }

    fn frame(self, interface: u32, ticks: u64, data: &[u8], flags: u32) -> Self {
        let length = data.len() as u32;
        let head = [interface, (ticks >> 32) as u32, ticks as u32, length, length];
        let mut body = head.map(u32::to_le_bytes).concat();
        body.extend(data);
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(Ng::option(2, &flags.to_le_bytes()));
        self.block(6, &body)
    }

    fn simple(self, data: &[u8]) -> Self {
        self.block(3, &[&(data.len() as u32).to_le_bytes()[..], data].concat())
    }
}

/// The results of reading captures.
struct Seen {
    total: Snapshot,
    notes: Vec<String>,
    json: serde_json::Value,
    intervals: Vec<Interval>,
    end: Result<(), String>,
}

fn replay_files(files: &[&[u8]]) -> Seen {
    let dir = TempDir::new().expect("a scratch folder");
    let paths: Vec<PathBuf> =
        (0..files.len()).map(|i| dir.path().join(format!("{}.pcap", ["a", "b", "c"][i]))).collect();
    for (path, bytes) in paths.iter().zip(files) {
        fs::write(path, bytes).expect("write a capture");
    }
    let config = Config { rows: 256, ..Config::default() };
    let mut replay =
        Replay::open(&paths, &config, feed::judge::host).unwrap_or_else(|e| panic!("{e:#}"));
    let empty = replay.read().expect("a reading");
    let mut recording = Recording::new(Duration::from_secs(1), 1 << 24, empty);
    while let Some(time) = replay.peek().map(|f| f.time) {
        if recording.turns(time) {
            recording.turn(replay.read().expect("a reading"), time.expect("it turns at a time"));
        }
        replay.step().expect("a frame");
    }
    let total = replay.read().expect("a reading");
    let (intervals, at_end) = recording.finish(total.clone(), replay.span());
    assert_eq!(at_end, total);
    let mut out = Vec::new();
    let interval = total.total();
    let filter = "".parse().expect("a filter");
    json::write(&mut out, &export::Excerpt::new("tmon", &interval, &filter))
        .expect("a vector takes everything");
    for (i, interface) in total.interfaces.iter().enumerate() {
        let rows = total.rows.iter().filter(|f| usize::from(f.interface) == i);
        let counted: Count = rows.map(|f| f.counters.total()).sum();
        assert_eq!(counted, interface.books.counted[0] + interface.books.counted[1]);
    }
    Seen {
        notes: replay.notes(),
        json: serde_json::from_slice(&out).expect("JSON"),
        intervals,
        end: replay.end().map_err(|e| e.to_string()),
        total,
    }
}

fn replay(file: &[u8]) -> Seen {
    let seen = replay_files(&[file]);
    assert_eq!(seen.end, Ok(()));
    seen
}

impl Seen {
    /// Packets of VXLAN 42, by hook.
    fn vxlan(&self) -> [u64; 2] {
        let mut sum = [0; 2];
        for f in self.total.rows.iter() {
            if (f.key.outermost.kind, f.key.outermost.id) == (Kind::Vxlan, Some(42)) {
                sum[0] += f.counters.rx().packets;
                sum[1] += f.counters.tx().packets;
            }
        }
        sum
    }

    /// The names of interfaces, and their packets.
    fn interfaces(&self) -> Vec<(&str, u64)> {
        let packets = |books: &model::flow::Books| books.seen().iter().map(|c| c.packets).sum();
        self.total.interfaces.iter().map(|i| (i.name.as_str(), packets(&i.books))).collect()
    }

    fn stop(&self, stop: Stop) -> u64 {
        self.total.interfaces.iter().map(|i| i.books.stop(stop)[0].packets).sum()
    }

    /// since, taken, interval_ns
    fn times(&self) -> [String; 3] {
        ["since", "taken", "interval_ns"].map(|key| self.json[key].to_string())
    }
}

#[test]
fn interfaces_of_a_file_are_kept_apart() {
    let frame = ethernet();
    let t = THEN * 1_000_000;
    let file = Ng::new()
        .interface(1, &[(2, b"bond0")])
        .interface(1, &[(2, b"eth0")])
        .frame(0, t, &frame, 1)
        .frame(1, t, &frame, 1)
        .frame(0, t + 1, &frame, 2)
        .frame(1, t + 1, &frame, 2);
    let seen = replay(&file.0);
    assert_eq!(seen.interfaces(), [("bond0", 2), ("eth0", 2)]);
    assert_eq!(seen.total.rows.merged().len(), 2, "each has a row");
    assert_eq!(seen.vxlan(), [2, 2]);
    assert!(seen.notes[0].contains("packets of 2 interfaces are added up"), "{:?}", seen.notes);

    // The same interface in a later section, one without a name, and a file of its own.
    let more = [
        file.0,
        Ng::new()
            .interface(1, &[(2, b"eth0")])
            .interface(1, &[])
            .frame(0, t, &frame, 0)
            .frame(1, t, &frame, 0)
            .0,
    ]
    .concat();
    let seen = replay(&more);
    assert_eq!(seen.interfaces(), [("bond0", 2), ("eth0", 3), ("a.pcap#3", 1)]);
    let seen = replay_files(&[&more, &Classic::new(1).frame(THEN, &frame).bytes]);
    let names = ["a.pcap:bond0", "a.pcap:eth0", "b.pcap", "a.pcap#3"];
    assert_eq!(seen.interfaces().iter().map(|i| i.0).collect::<Vec<_>>(), names);
    assert!(replay(&Classic::new(1).frame(THEN, &frame).bytes).notes.is_empty());
}

#[test]
fn cooked_captures_have_interface_and_direction() {
    let cooked = |index: u8, packet: u8| {
        let mut frame = vec![8, 0, 0, 0, 0, 0, 0, index, 0, 1, packet, 6];
        frame.extend([0; 8]);
        frame.extend(ip().bytes());
        frame
    };
    let mut file = Classic::new(276);
    for (index, packet) in [(2, 0), (2, 4), (3, 0), (2, 1)] {
        file = file.frame(THEN, &cooked(index, packet));
    }
    let seen = replay(&file.bytes);
    assert_eq!(seen.interfaces(), [("if2", 3), ("if3", 1)]);
    assert_eq!(seen.total.interfaces[1].ifindex, 3);
    assert_eq!(seen.vxlan(), [3, 1]);
}

#[test]
fn surplus_interfaces_are_summed_and_reported() {
    let mut file = Ng::new();
    for _ in 0..70 {
        file = file.interface(1, &[]);
    }
    for i in 0..70 {
        file = file.frame(i, THEN, &ethernet(), 0);
    }
    let seen = replay(&file.0);
    assert_eq!(seen.total.interfaces.len(), 64);
    assert_eq!(seen.interfaces()[63], ("a.pcap#63", 7));
    assert!(
        seen.notes.iter().any(|n| n.starts_with("6 more interfaces than 64")),
        "{:?}",
        seen.notes
    );
}

#[test]
fn the_earliest_packet_begins_and_the_latest_ends_a_capture() {
    let frame = ethernet();
    let mut backwards = Classic::new(1);
    for s in [100, 50, 0] {
        backwards = backwards.frame(THEN + s, &frame);
    }
    let seen = replay(&backwards.bytes);
    let expected =
        ["\"2023-11-14T22:13:20.000000Z\"", "\"2023-11-14T22:15:00.000000Z\"", "100000000000"];
    assert_eq!(seen.times(), expected);
    let lengths: Vec<_> =
        seen.intervals.iter().map(|i| (i.elapsed.as_secs(), i.rows.len())).collect();
    assert_eq!(lengths, [(1, 1), (49, 0), (1, 1), (49, 0), (1, 1)]);

    // Packets of overlapping files are merged in order of time.
    let odd = Classic::new(1).frame(THEN, &frame).frame(THEN + 2, &frame);
    let even = Classic::new(1).frame(THEN + 1, &frame).frame(THEN + 3, &frame);
    let seen = replay_files(&[&even.bytes, &odd.bytes]);
    assert_eq!(seen.interfaces(), [("b.pcap", 2), ("a.pcap", 2)]);
    assert_eq!(seen.intervals.len(), 4);
}

#[test]
fn unknown_times_are_null() {
    let frame = ethernet();
    let unknown = ["null", "null", "0"];
    let simple = Ng::new().interface(1, &[]).simple(&frame).simple(&frame);
    assert_eq!(replay(&simple.0).times(), unknown);
    assert_eq!(replay(&Classic::new(1).frame(0, &frame).frame(0, &frame).bytes).times(), unknown);
    assert_eq!(replay(&Classic::new(1).bytes).times(), unknown);

    // A zero among other times, and one that is the origin of a clock.
    let seen =
        replay(&Classic::new(1).frame(0, &frame).frame(THEN, &frame).frame(THEN + 1, &frame).bytes);
    assert_eq!(seen.times()[2], "1000000000");
    let seen = replay(&Classic::new(1).frame(0, &frame).frame(2, &frame).bytes);
    assert_eq!(
        seen.times(),
        ["\"1970-01-01T00:00:00.000000Z\"", "\"1970-01-01T00:00:02.000000Z\"", "2000000000"]
    );

    // Years that RFC 3339 cannot express.
    let far = Ng::new().interface(1, &[(9, &[0])]).frame(0, 1 << 50, &frame, 0).frame(
        0,
        (1 << 50) + 3,
        &frame,
        0,
    );
    let seen = replay(&far.0);
    assert_eq!(seen.times(), ["null", "null", "3000000000"]);
    assert_eq!(seen.intervals.len(), 3);
    let last =
        Ng::new().interface(1, &[(9, &[0])]).frame(0, u64::MAX, &frame, 0).frame(0, 1, &frame, 0);
    assert_eq!(replay(&last.0).interfaces()[0].1, 2);
}

#[test]
fn every_interval_with_packets_shows_them() {
    let mut file = Classic::new(1);
    for s in 0..10 {
        file = file.frame(THEN + s, &ethernet());
    }
    let seen = replay(&file.bytes);
    assert_eq!(seen.intervals.len(), 10);
    for (s, i) in (THEN..).zip(&seen.intervals) {
        assert_eq!((i.rows.len(), i.elapsed), (1, Duration::from_secs(1)));
        let since = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        assert_eq!(timestamp(i.since), timestamp(since));
    }
}

#[test]
fn common_link_types_are_read() {
    let (ip, ethernet) = (ip().bytes(), ethernet());
    let behind = |header: &[u8]| [header, &ip].concat();
    let mut nflog = vec![2, 0, 0, 5, 8, 0, 1, 0, 8, 0, 1, 0];
    nflog.extend((4 + ip.len() as u16).to_le_bytes());
    nflog.extend([9, 0]);
    nflog.extend(&ip);
    let wifi = [&[0x08, 1][..], &[0; 22], &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &ip].concat();
    for (link, frame) in [
        (1, ethernet),
        (0, behind(&[0x00, 0x08, 0, 0])), // NULL with an EtherType, in either byte order
        (0, behind(&[0, 0, 0x08, 0x00])),
        (0, behind(&[2, 0, 0, 0])),
        (108, behind(&[0, 0, 0, 2])),
        (101, ip.clone()),
        (228, ip.clone()),
        (113, behind(&[0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0])),
        (9, behind(&[0xff, 3, 0, 0x21])),
        (50, behind(&[0xff, 3, 0, 0x21])),
        (104, behind(&[0x0f, 0, 8, 0])),
        (239, nflog),
        (105, wifi.clone()),
        (127, [&[0, 0, 8, 0, 0, 0, 0, 0][..], &wifi].concat()),
        (119, [&[0x44, 0, 0, 0, 144, 0, 0, 0][..], &[0; 136], &wifi].concat()),
        (226, behind(&[&[1, 2][..], &[0; 22]].concat())),
        (219, behind(&[0, 1, 1, 64])),
    ] {
        let seen = replay(&Classic::new(link).frame(THEN, &frame).bytes);
        assert_eq!(seen.vxlan(), [1, 0], "link type {link}");
        assert!(seen.notes.is_empty());
        let bytes: u64 = seen.total.interfaces[0].books.counted[Hook::Rx as usize].bytes;
        assert_eq!(bytes, frame.len() as u64, "link type {link}");
    }
}

#[test]
fn unreadable_frames_are_a_stop_and_reported() {
    let seen = replay(&Classic::new(197).frame(THEN, &[0; 80]).frame(THEN, &[0; 90]).bytes);
    assert_eq!((seen.stop(Stop::Unread), seen.stop(Stop::NonIp)), (2, 0));
    let books = &seen.json["interfaces"][0];
    assert_eq!(books["stops"]["unread"]["rx_bytes"], 170);
    assert_eq!(books["seen"]["rx_pkts"], 2);
    assert_eq!(
        seen.notes,
        ["frames of link type 197 (ERF), which tmon does not read, are counted as unread: 2"]
    );
}

#[test]
fn variants_of_pcap_read_the_same() {
    let frame = ethernet();
    let length = frame.len() as u32;
    for big_endian in [false, true] {
        let modified = Classic::of(0xa1b2_cd34, 4, big_endian, 1);
        let modified = (0..3).fold(modified, |file, s| {
            file.u32((THEN + s) as u32).u32(0).u32(length).u32(length).u32(0).u32(0).raw(&frame)
        });
        let seen = replay(&modified.bytes);
        assert_eq!((seen.vxlan(), seen.interfaces()), ([3, 0], vec![("a.pcap", 3)]));

        // Truncated to 80 bytes: in version 2.2 the original length comes first.
        let old = Classic::of(0xa1b2_c3d4, 2, big_endian, 1);
        let old = (0..2).fold(old, |file, s| {
            file.u32((THEN + s) as u32).u32(0).u32(1000).u32(length).raw(&frame)
        });
        let seen = replay(&old.bytes);
        assert_eq!(seen.vxlan(), [2, 0]);
        assert_eq!(seen.total.interfaces[0].books.counted[0].bytes, 2000);
        assert!(seen.notes.is_empty());
    }
}

#[test]
fn frame_check_sequences_are_not_counted() {
    let frame = ethernet();
    let with = [&frame[..], &[0xde, 0xad, 0xbe, 0xef]].concat();
    let file = Ng::new().interface(1, &[]).frame(0, 0, &with, 4 << 5 | 1).frame(0, 0, &frame, 1);
    let seen = replay(&file.0);
    assert_eq!(seen.total.interfaces[0].books.seen()[0].bytes, 2 * frame.len() as u64);
}

#[test]
fn a_truncated_file_is_counted_up_to_its_end() {
    let frame = ethernet();
    let whole = Classic::new(1).frame(THEN, &frame).frame(THEN + 1, &frame).frame(THEN + 2, &frame);
    let cut = &whole.bytes[..whole.bytes.len() - 20];
    let other = Classic::new(1).frame(THEN + 5, &frame).bytes;
    let seen = replay_files(&[cut, &other]);
    assert_eq!(seen.vxlan(), [3, 0]);
    let at = 24 + 2 * (16 + frame.len());
    let expected = format!("a.pcap: at byte {at}: the capture ends inside a record: ");
    assert!(seen.end.as_ref().is_err_and(|e| e.starts_with(&expected)), "{:?}", seen.end);
}
