// SPDX-License-Identifier: MIT OR Apache-2.0
//! Round-trip times inside tunnels, frame by frame: for synthetic connections with known times, and
//! for captures by others, in which tshark measures the same where it is installed.
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use feed::{
    Replay,
    config::Config,
    judge::{self, native_config},
    packet::LinkStart,
    pcap::{Body, Reader},
    pcapng::{InterfaceBlock, PacketBlock, PcapngWriter},
};
use model::filter::Filter;
use native::{Answer, Guide, NativeFrame, RttTables};
use testkit::frames::{Frame, Gtp, pkt};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const MS: u64 = 1_000_000;

/// What one frame reveals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    rtt: Option<u64>,
    retransmitted: bool,
    out_of_order: bool,
    duplicate_ack: bool,
    zero_window: bool,
}

struct Timer {
    guide: Guide,
    tables: RttTables,
    before: [u64; 6],
}

impl Timer {
    fn new() -> Timer {
        let config = native_config(&Config::default()).expect("a configuration");
        let guide = Guide::new(&config).expect("memory");
        Timer { guide, tables: RttTables::default(), before: [0; 6] }
    }

    /// `None` if it is in no row.
    fn see(&mut self, frame: &NativeFrame<'_>) -> Option<Told> {
        let Answer::Row(_) = self.guide.choose(frame, &mut |_| 1) else { return None };
        self.guide.time(frame, 0, &mut self.tables);
        let mut sums = [0; 6];
        for n in self.tables.rows().flat_map(|(_, _, ways)| ways) {
            let all = [
                n.samples,
                n.nanoseconds,
                n.retransmitted,
                n.out_of_order,
                n.duplicate_acks,
                n.zero_windows,
            ];
            sums.iter_mut().zip(all).for_each(|(sum, n)| *sum += n);
        }
        let new: Vec<u64> = sums.iter().zip(self.before).map(|(n, before)| n - before).collect();
        self.before = sums;
        Some(Told {
            rtt: (new[0] > 0).then_some(new[1]),
            retransmitted: new[2] > 0,
            out_of_order: new[3] > 0,
            duplicate_ack: new[4] > 0,
            zero_window: new[5] > 0,
        })
    }

    fn ethernet(&mut self, time: u64, data: &[u8]) -> Told {
        self.see(&NativeFrame {
            data,
            length: data.len() as u32,
            link: 0,
            begins: LinkStart::Ethernet.number(),
            now: 0,
            time,
            gso_segs: 0,
            gso_size: 0,
            egress: false,
        })
        .expect("it is in a tunnel")
    }
}

/// A segment of a connection; `back` is from the responder.
#[derive(Clone, Copy, Debug)]
struct Segment {
    back: bool,
    ports: [u16; 2],
    seq: u32,
    ack: u32,
    flags: u8,
    data: usize,
    window: u16,
    stamps: Option<[u32; 2]>,
    /// The bytes that a selective acknowledgement is for.
    sack: Option<[u32; 2]>,
}

const AHEAD: Segment = Segment {
    back: false,
    ports: [40_000, 443],
    seq: 0,
    ack: 0,
    flags: ACK,
    data: 0,
    window: 1000,
    stamps: None,
    sack: None,
};
const BACK: Segment = Segment { back: true, ..AHEAD };

impl Segment {
    fn bytes(&self) -> Vec<u8> {
        let mut ports = self.ports;
        if self.back {
            ports.reverse();
        }
        let mut bytes = ports.map(u16::to_be_bytes).concat();
        bytes.extend([self.seq, self.ack].map(u32::to_be_bytes).concat());
        let words = 5 + [self.stamps, self.sack].iter().flatten().count() as u8 * 3;
        bytes.extend([words << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        if let Some(stamps) = self.stamps {
            bytes.extend([1, 1, 8, 10]);
            bytes.extend(stamps.map(u32::to_be_bytes).concat());
        }
        if let Some(sack) = self.sack {
            bytes.extend([1, 1, 5, 10]);
            bytes.extend(sack.map(u32::to_be_bytes).concat());
        }
        bytes.resize(bytes.len() + self.data, 7);
        bytes
    }

    fn inside(&self, outer: Frame) -> Vec<u8> {
        let ends =
            if self.back { "192.168.0.2 > 192.168.0.1" } else { "192.168.0.1 > 192.168.0.2" };
        outer.ip(ends).proto(6).payload(&self.bytes()).bytes()
    }

    fn vxlan(&self) -> Vec<u8> {
        let ends = if self.back { "10.0.0.2 > 10.0.0.1" } else { "10.0.0.1 > 10.0.0.2" };
        self.inside(pkt().eth().ip(ends).udp(1, 4789).vxlan(7).eth())
    }
}

/// The results of segments at these times in milliseconds.
fn told(segments: &[(u64, Segment)]) -> Vec<Told> {
    let mut timer = Timer::new();
    segments.iter().map(|(ms, s)| timer.ethernet(1_000 * MS + ms * MS, &s.vxlan())).collect()
}

fn rtts(segments: &[(u64, Segment)]) -> Vec<Option<u64>> {
    told(segments).into_iter().map(|t| t.rtt.map(|ns| ns / MS)).collect()
}

#[test]
fn acknowledged_segments_are_timed() {
    let all = [
        (0, Segment { seq: 99, flags: SYN, ..AHEAD }),
        (10, Segment { seq: 499, ack: 100, flags: SYN | ACK, ..BACK }),
        (13, Segment { seq: 100, ack: 500, ..AHEAD }),
        (20, Segment { seq: 100, ack: 500, data: 50, ..AHEAD }),
        (21, Segment { seq: 150, ack: 500, data: 50, ..AHEAD }),
        (40, Segment { seq: 500, ack: 200, ..BACK }), // acknowledges the second, exactly at its end
        (50, Segment { seq: 500, ack: 200, data: 10, ..BACK }),
        (57, Segment { seq: 200, ack: 510, data: 5, ..AHEAD }), // data also acknowledges
        (60, Segment { seq: 510, ack: 205, flags: ACK | FIN, ..BACK }),
        (64, Segment { seq: 205, ack: 511, flags: ACK, ..AHEAD }),
        (65, Segment { seq: 205, ack: 511, flags: ACK | RST, ..AHEAD }),
    ];
    let times =
        [None, Some(10), Some(3), None, None, Some(19), None, Some(7), Some(3), Some(4), None];
    assert_eq!(rtts(&all), times);
    assert!(told(&all).iter().all(|t| Told { rtt: None, ..*t } == Told::default()));
}

#[test]
fn unrelated_answers_are_not_samples() {
    let data = |seq, stamps| Segment { seq, data: 50, stamps, ..AHEAD };
    let ack = |ack, stamps| Segment { ack, stamps, ..BACK };
    // Sent twice: it is unknown which one was answered (Karn).
    assert_eq!(rtts(&[(0, data(1, None)), (50, data(1, None)), (60, ack(51, None))]), [None; 3]);
    // The answer is to an older packet, by its timestamp.
    let old = [(0, data(1, Some([900, 1]))), (10, ack(51, Some([5, 899])))];
    assert_eq!(rtts(&old), [None; 2]);
    let new = [(0, data(1, Some([900, 1]))), (10, ack(51, Some([5, 900])))];
    assert_eq!(rtts(&new), [None, Some(10)]);
    let wrapped = [(0, data(1, Some([u32::MAX, 1]))), (10, ack(51, Some([5, 3])))];
    assert_eq!(rtts(&wrapped), [None, Some(10)]);
    // It does not end a segment, or acknowledges one again.
    assert_eq!(rtts(&[(0, data(1, None)), (9, ack(40, None)), (10, ack(60, None))]), [None; 3]);
    let twice = [(0, data(1, None)), (9, ack(51, None)), (10, ack(51, None))];
    assert_eq!(rtts(&twice), [None, Some(9), None]);
    // Of other ports.
    let other = Segment { ports: [40_001, 443], ..ack(51, None) };
    assert_eq!(rtts(&[(0, data(1, None)), (9, other)]), [None; 2]);
    // Pure acknowledgements are never timed, whatever follows.
    let pure = [(0, Segment { seq: 7, ack: 9, ..AHEAD }), (5, Segment { seq: 9, ack: 7, ..BACK })];
    assert_eq!(rtts(&pure), [None; 2]);
}

#[test]
fn sequence_numbers_wrap() {
    let seq = u32::MAX - 9;
    let all = [
        (0, Segment { seq, data: 10, ..AHEAD }),
        (1, Segment { seq: 0, data: 10, ..AHEAD }),
        (7, Segment { ack: 0, ..BACK }),
        (9, Segment { ack: 10, ..BACK }),
        (90, Segment { seq, data: 10, ..AHEAD }),
    ];
    assert_eq!(rtts(&all), [None, None, Some(7), Some(8), None]);
    assert!(told(&all)[4].retransmitted);
}

#[test]
fn retransmissions_and_reordering_are_distinguished() {
    let data = |seq| Segment { seq, ack: 5, data: 100, ..AHEAD };
    let ack = |ack| Segment { seq: 5, ack, ..BACK };
    let all = [
        (0, data(0)),
        (100, data(200)),
        (101, data(100)), // overtaken
        (120, ack(300)),
        (200, data(300)),
        (201, data(400)),
        (220, ack(300)), // the first was lost
        (221, ack(300)),
        (222, ack(300)),
        (225, data(300)),                                // sent again, soon
        (900, data(400)),                                // and late
        (901, Segment { seq: 499, data: 0, ..data(0) }), // a keep-alive
        (902, Segment { window: 0, ..ack(500) }),
    ];
    let found = told(&all);
    let of = |is: fn(&Told) -> bool| -> Vec<u64> {
        all.iter().zip(&found).filter(|(_, t)| is(t)).map(|((at, _), _)| *at).collect()
    };
    assert_eq!(of(|t| t.out_of_order), [101]);
    assert_eq!(of(|t| t.retransmitted), [225, 900]);
    assert_eq!(of(|t| t.duplicate_ack), [220, 221, 222]);
    assert_eq!(of(|t| t.zero_window), [902]);
}

/// Retransmissions of what is stuck in the first end's direction, the smallest payload that is, and the
/// largest that arrived behind it.
fn stuck(segments: &[(u64, Segment)]) -> (u64, u32, u32) {
    let mut timer = Timer::new();
    for (time, segment) in segments {
        timer.ethernet(1_000 * MS + time * MS, &segment.vxlan());
    }
    let [sent, _] = timer.tables.rows().next().expect("a row").2;
    (sent.stuck, sent.too_big, sent.passed)
}

/// By the first end of the connection from this port.
fn sent(port: u16, seq: u32, data: usize) -> Segment {
    Segment { ports: [port, 443], seq, data, ..AHEAD }
}

/// Its answer.
fn acked(port: u16, ack: u32) -> Segment {
    Segment { ports: [port, 443], ack, ..BACK }
}

/// Its answer, which says that these bytes arrived as well.
fn sacked(port: u16, ack: u32, begin: u32, end: u32) -> Segment {
    Segment { sack: Some([begin, end]), ..acked(port, ack) }
}

/// Sorted by time.
fn together(all: &[&[(u64, Segment)]]) -> Vec<(u64, Segment)> {
    let mut all = all.concat();
    all.sort_by_key(|(time, _)| *time);
    all
}

/// A large segment that never arrives, and a small one behind it that does.
fn black_hole() -> Vec<(u64, Segment)> {
    let again = [20, 200, 600, 1400].map(|time| (time, sent(1, 1000, 1398)));
    let start =
        [(0, sent(1, 1000, 1398)), (1, sent(1, 2398, 100)), (10, sacked(1, 1000, 2398, 2498))];
    together(&[&start, &again])
}

#[test]
fn large_segments_that_never_arrive_are_stuck_where_small_ones_behind_them_arrive() {
    let hole = black_hole();
    assert_eq!(stuck(&hole[..5]), (0, 0, 0), "sent three times, and the last time perhaps arrived");
    assert_eq!(stuck(&hole[..6]), (1, 1398, 100));
    assert_eq!(stuck(&hole), (2, 1398, 100));
    let stamped: Vec<_> =
        hole.iter().map(|(time, s)| (*time, Segment { stamps: Some([1, 1]), ..*s })).collect();
    assert_eq!(stuck(&stamped), (2, 1398, 100), "one option more");
    // The small one is acknowledged late, when its predecessor was sent twice already.
    let mut late = hole.clone();
    late[2].0 = 300;
    assert_eq!(stuck(&together(&[&late, &[(3000, sent(1, 1000, 1398))]])), (1, 1398, 100));
    // Two connections: the smallest that does not arrive, the largest that does.
    let other = [(0, 1398), (1, 1000), (30, 1398), (300, 1398), (900, 1398)];
    let other =
        other.map(|(time, data)| (time, sent(2, if data == 1000 { 1398 } else { 0 }, data)));
    let both = together(&[&hole, &other, &[(11, sacked(2, 0, 1398, 2398))]]);
    assert_eq!(stuck(&both), (3, 1398, 1000));
}

#[test]
fn a_peer_that_is_gone_is_no_black_hole() {
    // Nothing of the connection is acknowledged, though all is of another one.
    let keys = (0..20).flat_map(|n| {
        let seq = n as u32 * 36;
        [(n * 100, sent(2, seq, 36)), (n * 100 + 1, acked(2, seq + 36))]
    });
    let keys: Vec<_> = keys.collect();
    let gone = [0, 200, 600, 1400, 1900].map(|time| (time, sent(1, 1000, 1398)));
    assert_eq!(stuck(&together(&[&keys, &gone])), (0, 0, 0));
    // It acknowledged small segments before, and one behind another hole.
    let before = [
        (0, sent(1, 700, 200)),
        (1, sent(1, 900, 100)),
        (2, sacked(1, 700, 900, 1000)),
        (50, sent(1, 700, 200)),
        (60, acked(1, 1000)),
    ];
    let gone = gone.map(|(time, segment)| (time + 100, segment));
    assert_eq!(stuck(&together(&[&before, &keys, &gone])), (0, 0, 0));
}

#[test]
fn plain_loss_is_no_black_hole() {
    let hole = black_hole();
    // Something as large arrives in another connection, before, meanwhile or within a minute.
    for at in [0, 300, 650] {
        let other = [(at, sent(3, 1000, 1398)), (at + 1, acked(3, 2398))];
        assert_eq!(stuck(&together(&[&other, &hole])).1, 0, "{at}");
    }
    let hour = |segment: &(u64, Segment)| (segment.0 + 3_600_000, segment.1);
    let later: Vec<_> = hole.iter().map(hour).collect();
    for (before, expected) in [(59_000, (0, 0, 0)), (121_000, (2, 1398, 100))] {
        let at = 3_600_000 - before;
        let other = [(at, sent(3, 1000, 1398)), (at + 1, acked(3, 2398))];
        assert_eq!(stuck(&together(&[&other, &later])), expected, "{before}");
    }
    // Behind the hole, and only by a selective acknowledgement.
    let large = [(12, sent(1, 2498, 1398)), (13, sacked(1, 1000, 2398, 3896))];
    assert_eq!(stuck(&together(&[&hole, &large])), (0, 0, 0));
    // It arrives after all.
    let late = together(&[&hole, &[(1410, acked(1, 2498))]]);
    assert_eq!(stuck(&late), (2, 0, 0));
    // What was received twice says nothing of what is missing.
    let twice: Vec<_> = hole
        .iter()
        .map(|(time, s)| match s.sack {
            Some(_) => (*time, sacked(1, 1000, 900, 1000)),
            None => (*time, *s),
        })
        .collect();
    assert_eq!(stuck(&twice), (0, 0, 0));
    // The sender found out, and sends the same bytes in smaller packets.
    let cut = (1400, Segment { data: 536, ..sent(1, 1000, 0) });
    let found = together(&[&hole[..5], &[cut, (1410, acked(1, 1536))]]);
    assert_eq!(stuck(&found), (0, 0, 0));
}

#[test]
fn segments_that_the_kernel_has_merged_are_measured_by_their_packets() {
    let mut timer = Timer::new();
    let mut see = |ms: u64, segment: Segment, gso_size: u16| {
        let data = segment.vxlan();
        timer.see(&NativeFrame {
            data: &data,
            length: data.len() as u32,
            link: 0,
            begins: LinkStart::Ethernet.number(),
            now: 0,
            time: ms * MS,
            gso_segs: if gso_size > 0 {
                segment.data.div_ceil(gso_size as usize) as u16
            } else {
                0
            },
            gso_size,
            egress: true,
        });
        let [sent, _] = timer.tables.rows().next().expect("a row").2;
        (sent.stuck, sent.too_big, sent.passed, sent.arrived[0])
    };
    // Three packets of 1398 bytes and one of 100, which alone arrives.
    see(0, sent(1, 1000, 4294), 1398);
    assert_eq!(see(10, sacked(1, 1000, 5194, 5294), 0), (0, 0, 0, 100));
    for ms in [20, 200] {
        see(ms, sent(1, 1000, 1398), 0);
    }
    assert_eq!(see(600, sent(1, 1000, 1398), 0), (1, 1398, 100, 100));
    // Another one, of which the first packet arrives, then all but the second.
    see(700, sent(2, 1000, 4294), 1398);
    assert_eq!(see(701, acked(2, 2398), 0), (1, 0, 0, 1398));
    assert_eq!(see(702, sacked(2, 2398, 3796, 5294), 0), (1, 0, 0, 1398));
}

#[test]
fn halves_in_different_rows_are_one_connection() {
    // GTP-U has an id for each direction, mirrored traffic has one outer direction for both.
    let mut timer = Timer::new();
    let gtp = |teid, ends| pkt().eth().ip(ends).udp(1, 2152).gtpu(teid, Gtp::default());
    let asked = Segment { seq: 1, data: 9, ..AHEAD }.inside(gtp(5, "10.0.0.1 > 10.0.0.2"));
    let answer = Segment { ack: 10, ..BACK }.inside(gtp(6, "10.0.0.2 > 10.0.0.1"));
    timer.ethernet(MS, &asked);
    assert_eq!(timer.ethernet(4 * MS, &answer).rtt, Some(3 * MS));
    let sampled: Vec<u32> = timer
        .tables
        .rows()
        .filter(|(.., w)| w.iter().any(|n| n.samples > 0))
        .map(|r| r.1.id[0])
        .collect();
    assert_eq!(sampled, [5], "in the segment's row");
    let mirrored = || pkt().eth().ip("10.0.0.9 > 10.0.0.8").udp(1, 4789).vxlan(7).eth();
    timer.ethernet(MS, &Segment { seq: 1, data: 9, ..AHEAD }.inside(mirrored()));
    let back = Segment { ack: 10, ..BACK }.inside(mirrored());
    assert_eq!(timer.ethernet(6 * MS, &back).rtt, Some(5 * MS));
}

#[test]
fn echoes_are_timed() {
    let mut timer = Timer::new();
    let echo = |answer: bool, id: u8, seq: u8| {
        let ends = if answer { "192.168.0.2 > 192.168.0.1" } else { "192.168.0.1 > 192.168.0.2" };
        let kind = if answer { 0 } else { 8 };
        let outer = pkt().eth().ip("10.0.0.1 > 10.0.0.2").udp(1, 4789).vxlan(7).eth();
        outer.ip(ends).proto(1).payload(&[kind, 0, 0, 0, 0, id, 0, seq, 1, 2]).bytes()
    };
    for (ms, frame, rtt) in [
        (0, echo(false, 1, 1), None),
        (5, echo(false, 1, 2), None),
        (6, echo(true, 1, 3), None),
        (7, echo(true, 2, 1), None),
        (8, echo(true, 1, 2), Some(3)),
        (9, echo(true, 1, 1), Some(9)),
        (10, echo(true, 1, 1), None),
        (20, echo(false, 1, 4), None),
        (21, echo(false, 1, 4), None), // the same again
        (22, echo(true, 1, 4), None),
    ] {
        assert_eq!(
            timer.ethernet(MS * 1000 + ms * MS, &frame).rtt,
            rtt.map(|ms: u64| ms * MS),
            "{ms}"
        );
    }
}

#[test]
fn a_flood_of_connections_is_bounded_and_reported() {
    let mut timer = Timer::new();
    for n in 0..20_000u32 {
        let ports = [(n % 50_000) as u16 + 1, 443];
        timer.ethernet(u64::from(n) * 1000, &Segment { ports, flags: SYN, ..AHEAD }.vxlan());
    }
    assert!(timer.tables.lost().displaced > 10_000);
    let cut = Segment { data: 9, ..AHEAD }.vxlan();
    timer.ethernet(1, &cut[..cut.len() - 20]);
    assert_eq!(timer.tables.lost().unread, 1);
}

/// A capture of a hundred connections, each in a tunnel of its own, with segments that are answered
/// after a known time.
#[test]
fn a_capture_yields_its_known_times() {
    let mut frames = Vec::new();
    let rtt = |n: u64, i: u64| 20_000 + 1_000_003 * n + 777 * i * i;
    for n in 0..100 {
        let outer = |ends| pkt().eth().ip(ends).udp(1, 6081).geneve(n as u32);
        for i in 0..50u64 {
            let at = 1_700_000_000_000_000_000 + i * 1_000 * MS + n * 1_000;
            let seq = (u32::MAX - 2500).wrapping_add(100 * i as u32);
            // Tenants' connections are distinguished by ports and sequence numbers, not by an id.
            let ports = [40_000 + n as u16, 443];
            let asked = Segment { ports, seq, data: 100, ..AHEAD };
            frames.push((at, asked.inside(outer("10.0.0.1 > 10.0.0.2").eth())));
            let answer = Segment { ports, ack: seq.wrapping_add(100), ..BACK };
            frames.push((at + rtt(n, i), answer.inside(outer("10.0.0.2 > 10.0.0.1").eth())));
        }
    }
    frames.sort();
    let mut writer = PcapngWriter::new(Vec::new(), "tmon test");
    let on = InterfaceBlock { name: "eth0", link: 1, ..InterfaceBlock::default() };
    writer.interface(&on).expect("memory takes it");
    for (time, data) in &frames {
        let orig_len = data.len() as u32;
        let packet = PacketBlock { time: *time, data, orig_len, ..PacketBlock::default() };
        writer.packet(&packet).expect("memory takes it");
    }
    writer.flush().expect("memory takes it");
    let file = tempfile::NamedTempFile::with_suffix(".pcapng").expect("a file");
    fs::write(file.path(), writer.get_ref()).expect("a file is written");

    for threads in [1, 3] {
        let config = Config { age: Duration::ZERO, ..Config::default() };
        let mut replay =
            Replay::open(&[file.path().to_owned()], &config, judge::host).expect("it is read");
        replay.set_threads(threads);
        replay.time("id:10-49".parse::<Filter>().expect("a filter")).expect("memory");
        while replay.advance(777).expect("frames are judged") {}
        let reading = replay.read().expect("a reading");
        let trips = reading.beside.round_trips();
        assert_eq!(trips.len(), 40, "only the requested rows");
        for ((_, key), [fwd, rev]) in trips {
            let n = u64::from(key.outermost.id.expect("an id"));
            assert_eq!((fwd.samples, rev.is_empty()), (50, true));
            let all: Vec<u64> = (0..50).map(|i| rtt(n, i)).collect();
            assert_eq!((fwd.least, fwd.most), (all[0], all[49]));
            assert_eq!(fwd.nanoseconds, all.iter().sum::<u64>());
            let median = fwd.percentile(50).expect("samples").as_nanos() as f64;
            assert!((median / all[24] as f64 - 1.0).abs() < 0.063);
        }
    }
}

/// tshark's answers by frame number.
fn tshark(file: &Path) -> Option<BTreeMap<u64, Told>> {
    let fields = [
        "frame.number",
        "tcp.analysis.ack_rtt",
        "tcp.analysis.retransmission",
        "tcp.analysis.out_of_order",
        "tcp.analysis.duplicate_ack",
        "tcp.analysis.zero_window",
        "icmp.resptime",
        "icmpv6.resptime",
    ];
    let output = Command::new("tshark")
        .args([
            "-o",
            "ip.defragment:FALSE",
            "-d",
            "udp.port==8472,vxlan",
            "-T",
            "fields",
            "-E",
            "separator=;",
            "-r",
        ])
        .arg(file)
        .args(fields.iter().flat_map(|f| ["-e", f]))
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let seconds = |s: &str| s.parse::<f64>().ok().map(|s| (s * 1e9).round() as u64);
    let told = text.lines().filter_map(|line| {
        let f: Vec<&str> = line.split(';').collect();
        let milliseconds = f[6..8].concat().parse::<f64>().ok().map(|ms| (ms * 1e6).round() as u64);
        Some((
            f[0].parse().ok()?,
            Told {
                rtt: seconds(f[1]).or(milliseconds),
                retransmitted: !f[2].is_empty(),
                out_of_order: !f[3].is_empty(),
                duplicate_ack: !f[4].is_empty(),
                zero_window: !f[5].is_empty(),
            },
        ))
    });
    Some(told.collect())
}

/// Captures in which tshark differs, and why.
const OTHERWISE: [(&str, &str); 2] = [
    ("teredo", "it pairs no echoes of ICMPv6 in Teredo"),
    ("katran", "it reads no GUE; packets outside of tunnels belong to the same connection"),
];

#[test]
fn tshark_measures_the_same_in_other_captures() {
    let corpus = std::env::var_os("TMON_CORPUS").map(PathBuf::from);
    let corpus = corpus
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"));
    let Ok(files) = fs::read_dir(corpus.join("pcaps")) else {
        return eprintln!("there is no corpus: nothing was compared");
    };
    let mut files: Vec<PathBuf> = files.filter_map(|f| Some(f.ok()?.path())).collect();
    files.sort();
    let (mut samples, mut taken, mut events) = (0, 0, 0);
    for file in files {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let Some(theirs) = tshark(&file) else {
            return eprintln!("tshark is not here: nothing was compared");
        };
        let mut reader = Reader::open(&file).expect("a capture");
        let mut timer = Timer::new();
        for number in 1.. {
            let Ok(Some(frame)) = reader.next_frame() else { break };
            let (data, begins) = match frame.body() {
                Body::Ethernet(data) => (data, LinkStart::Ethernet),
                Body::Ip(data) => (data, LinkStart::Ip),
                Body::Typed { ethertype, payload } => (payload, LinkStart::EtherType(ethertype)),
                _ => continue,
            };
            let Some(ours) = timer.see(&NativeFrame {
                data,
                length: frame.orig_len - (frame.data.len() - data.len()) as u32,
                link: 0,
                begins: begins.number(),
                now: 0,
                time: frame.time.map_or(0, |t| t.as_nanos() as u64),
                gso_segs: 0,
                gso_size: 0,
                egress: false,
            }) else {
                continue;
            };
            let theirs = theirs.get(&number).copied().unwrap_or_default();
            samples += usize::from(theirs.rtt.is_some());
            taken += usize::from(ours.rtt.is_some());
            let (a, b) = (Told { rtt: None, ..ours }, Told { rtt: None, ..theirs });
            events += usize::from(a != Told::default());
            // tshark's times are truncated to microseconds, like those of the captures.
            let same =
                ours.rtt.is_none_or(|rtt| theirs.rtt.is_some_and(|t| t.abs_diff(rtt) < 1000));
            let known = OTHERWISE.iter().any(|(part, _)| name.contains(part));
            assert!(
                (same && a == b) || known,
                "{name}, frame {number}: {ours:?}, tshark: {theirs:?}"
            );
        }
    }
    assert!(taken > 150 && events > 10, "{taken} samples, {events} events");
    eprintln!("{taken} samples of tshark's {samples}, {events} events");
}
