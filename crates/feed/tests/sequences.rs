// SPDX-License-Identifier: MIT OR Apache-2.0
//! Missing sequence numbers: in frames built here, and in captures by others, whose numbers tshark
//! reads.
#![allow(clippy::print_stdout)] // it says whether there was anything to judge
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::{Path, PathBuf},
    process::Command,
};

use feed::{
    Replay,
    config::{Config, L2tp, Port},
    judge::{self, Judge},
    packet::Packet,
};
use model::{
    beside::{Gathered, Numbered},
    flow::{Hook, Kind},
};
use testkit::frames::{Frame, Gre, Gtp, pkt};

fn run(judge: &mut dyn Judge, frame: &Frame) {
    judge.run(Hook::Rx, &Packet::ethernet(&frame.bytes()), 0).expect("a frame is judged");
}

fn host() -> Box<dyn Judge> {
    let l2tp = Some(L2tp { cookie: 4, sublayer: true });
    let port = Port { l2tp, ..Port::of(Kind::L2tpv3, 1701) };
    let config = Config { rows: 64, ports: vec![port], ..Config::default() };
    judge::host(&config).expect("memory for the tables")
}

fn outer() -> Frame {
    pkt().eth().ip("10.0.0.1 > 10.0.0.2")
}

fn inside(frame: Frame) -> Frame {
    frame.ip("192.168.0.1 > 192.168.0.2").udp(1000, 2000).data(20)
}

fn esp(spi: u32, n: u64) -> Frame {
    let bytes = [&spi.to_be_bytes()[..], &(n as u32).to_be_bytes(), &[0xc3; 32]].concat();
    outer().proto(50).payload(&bytes)
}

/// Its name, its kind and id, the width of its numbers, and the packet with a number.
type Numbering = (&'static str, Kind, u32, u32, fn(u64) -> Frame);

/// Each kind with sequence numbers.
fn kinds() -> Vec<Numbering> {
    vec![
        ("ESP", Kind::Esp, 0x1000, 32, |n| esp(0x1000, n)),
        ("ESP in UDP", Kind::Esp, 0x1001, 32, |n| {
            let bytes = [&0x1001u32.to_be_bytes()[..], &(n as u32).to_be_bytes(), &[0xc3; 32]];
            outer().udp(4500, 4500).payload(&bytes.concat())
        }),
        ("WireGuard", Kind::Wireguard, 0x0403_0201, 64, |n| {
            let bytes = [&[4, 0, 0, 0, 1, 2, 3, 4][..], &n.to_le_bytes(), &[0xc3; 32]].concat();
            outer().udp(51820, 51820).payload(&bytes)
        }),
        ("GRE", Kind::Gre, 0, 32, |n| {
            inside(outer().gre(Gre { sequence: Some(n as u32), ..Gre::default() }))
        }),
        ("GRE with key and checksum", Kind::Gretap, 9, 32, |n| {
            let gre =
                Gre { key: Some(9), sequence: Some(n as u32), checksum: true, routing: false };
            inside(outer().gre(gre).eth())
        }),
        ("GRE in UDP", Kind::GreUdp, 7, 32, |n| {
            let gre = Gre { key: Some(7), sequence: Some(n as u32), ..Gre::default() };
            inside(outer().udp(5000, 4754).gre(gre))
        }),
        ("ERSPAN II", Kind::Erspan, 5, 32, |n| {
            let gre = Gre { sequence: Some(n as u32), ..Gre::default() };
            inside(outer().gre(gre).erspan2(5).eth())
        }),
        ("ERSPAN III", Kind::Erspan, 6, 32, |n| {
            let gre = Gre { sequence: Some(n as u32), ..Gre::default() };
            inside(outer().gre(gre).erspan3(6, 0, false).eth())
        }),
        ("PPTP", Kind::Pptp, 11, 32, |n| inside(outer().pptp(11, Some(n as u32), Some(3)).ppp())),
        ("GTP-U", Kind::Gtpu, 12, 16, |n| {
            inside(
                outer()
                    .udp(2152, 2152)
                    .gtpu(12, Gtp { sequence: Some(n as u16), ..Gtp::default() }),
            )
        }),
        ("L2TPv3", Kind::L2tpv3, 13, 24, |n| {
            let sublayer = (0x4000_0000 | n as u32 & 0xff_ffff).to_be_bytes();
            inside(outer().udp(1701, 1701).l2tpv3(13, 8).set(12, &sublayer).eth())
        }),
    ]
}

fn seen(judge: &mut dyn Judge) -> Vec<(Kind, u32, Numbered)> {
    let mut all = Gathered::default();
    judge.beside(0, &mut all).expect("what is beside the rows");
    assert_eq!(all.unnumbered, 0);
    all.numbers.into_iter().map(|(stream, n)| (stream.kind, stream.id, n)).collect()
}

#[test]
fn every_kind_with_sequence_numbers() {
    for (what, kind, id, bits, frame) in kinds() {
        // From far up, wrapping at zero: 3 are missing, one is late, one is a duplicate.
        let mask = u64::MAX >> (64 - bits);
        let start = mask - 99;
        let mut judge = host();
        for n in 0..300u64 {
            let n = match n {
                20 | 120 | 121 => continue,
                200 => 201,
                201 => 200,
                n => n,
            };
            run(&mut *judge, &frame(start.wrapping_add(n) & mask));
        }
        run(&mut *judge, &frame(start.wrapping_add(250) & mask));
        let want = Numbered {
            packets: 298,
            lost: 3,
            late: 1,
            duplicate: 1,
            restarted: 0,
            highest: start.wrapping_add(299) & mask,
            missing: 0,
        };
        assert_eq!(seen(&mut *judge), [(kind, id, want)], "{what}");
    }
}

#[test]
fn a_restarted_sender_has_lost_nothing() {
    for (what, _, _, bits, frame) in kinds() {
        let mask = u64::MAX >> (64 - bits);
        let mut judge = host();
        for n in (5000..5100).chain(0..100).chain(7..50) {
            run(&mut *judge, &frame(n & mask));
        }
        let [(_, _, n)] = seen(&mut *judge)[..] else { panic!("{what}: one stream") };
        assert_eq!((n.packets, n.lost, n.restarted, n.late), (243, 0, 2, 0), "{what}: {n:?}");
    }
}

#[test]
fn a_new_key_is_a_new_stream() {
    let mut judge = host();
    for (spi, n) in (1..=50).map(|n| (0x1000, n)).chain((1..=50).map(|n| (0x2000, n))) {
        run(&mut *judge, &esp(spi, n));
    }
    let all = seen(&mut *judge);
    let counts: Vec<_> =
        all.iter().map(|(_, id, n)| (*id, n.packets, n.lost, n.restarted)).collect();
    assert_eq!(counts, [(0x1000, 50, 0, 0), (0x2000, 50, 0, 0)]);
}

#[test]
fn reordering_within_64_loses_nothing_and_the_start_is_no_loss() {
    let mut judge = host();
    let numbers: Vec<u64> =
        (0..20u64).flat_map(|block| (0..50).rev().map(move |n| block * 50 + n)).collect();
    for n in &numbers {
        run(&mut *judge, &esp(0x1000, 1_000_000 + n));
    }
    let [(_, _, n)] = seen(&mut *judge)[..] else { panic!("one stream") };
    assert_eq!((n.packets, n.lost, n.late, n.duplicate, n.missing), (1000, 0, 980, 0, 0));
}

#[test]
fn streams_without_room_are_counted() {
    let mut judge = host();
    for spi in 0..10_000 {
        run(&mut *judge, &esp(0x1000 + spi, 1));
    }
    let mut all = Gathered::default();
    judge.beside(0, &mut all).expect("what is beside the rows");
    assert!(all.unnumbered > 5000 && all.numbers.len() > 3000, "{}", all.numbers.len());
    assert_eq!(all.numbers.len() as u64 + all.unnumbered, 10_000);
}

/// The numbers of a capture's outermost tunnels, by stream, as read by tshark.
fn sharks(pcap: &Path) -> BTreeMap<String, Vec<u64>> {
    const FIELDS: [&str; 19] = [
        "ip.src",
        "ip.dst",
        "ipv6.src",
        "ipv6.dst",
        "gre.sequence_number",
        "gre.key",
        "gre.key.call_id",
        "erspan.spanid",
        "esp.spi",
        "esp.sequence",
        "wg.receiver",
        "wg.counter",
        "ip.proto",
        "ipv6.nxt",
        "udp.dstport",
        "gtp.flags",
        "gtp.message",
        "gtp.teid",
        "gtp.seq_number",
    ];
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(pcap).args(["-d", "udp.port==51820,wg", "-T", "fields"]);
    tshark.args(["-E", "occurrence=f", "-E", "separator=|"]);
    for field in FIELDS {
        tshark.args(["-e", field]);
    }
    let out = tshark.output().expect("tshark is installed");
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    let mut streams: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        let f: Vec<&str> = line.split('|').collect();
        let [
            src,
            dst,
            src6,
            dst6,
            gre,
            key,
            call,
            span,
            spi,
            esp,
            receiver,
            counter,
            proto,
            next,
            port,
            flags,
            message,
            teid,
            gtp,
        ] = f[..]
        else {
            continue;
        };
        let (src, dst) = if src.is_empty() { (src6, dst6) } else { (src, dst) };
        let (of, n) = if !esp.is_empty() {
            (format!("esp {spi}"), number(esp))
        } else if !counter.is_empty() {
            (format!("wg {receiver}"), number(counter))
        } else if message == "0xff" && port == "2152" && number(flags).is_some_and(|n| n & 2 != 0) {
            (format!("gtp {teid}"), number(gtp))
        } else if !gre.is_empty() && (proto == "47" || ["47", "60"].contains(&next)) {
            (format!("gre {key}{call}{span}"), number(gre))
        } else {
            continue;
        };
        streams.entry(format!("{src} {dst} {of}")).or_default().extend(n);
    }
    streams
}

/// Packets, missing numbers between the first and the last, and duplicates.
type Sums = (u64, u64, u64);

/// The same computed with sets, valid if no number is far behind another and no sender restarted.
fn judged(numbers: &[u64]) -> Option<Sums> {
    let mut highest = *numbers.first()?;
    for n in numbers {
        if *n + 63 < highest || *n < numbers[0] {
            return None;
        }
        highest = highest.max(*n);
    }
    let all: BTreeSet<u64> = numbers.iter().copied().collect();
    let (count, different) = (numbers.len() as u64, all.len() as u64);
    Some((count, highest - numbers[0] + 1 - different, count - different))
}

/// `../shared/corpus` (or `TMON_CORPUS`); without it, only the frames above are tested.
#[test]
fn tshark_reads_the_same_numbers_in_other_captures() {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let corpus = env::var_os("TMON_CORPUS").map_or_else(own, PathBuf::from);
    let folder = corpus.join("pcaps");
    if !folder.exists() || Command::new("tshark").arg("--version").output().is_err() {
        println!("NOT JUDGED: no captures in {} (set TMON_CORPUS), or no tshark", corpus.display());
        return;
    }
    let mut kinds = BTreeMap::new();
    for name in CAPTURES {
        let path = folder.join(format!("{name}.pcap"));
        let streams = sharks(&path);
        assert!(!streams.is_empty(), "{name}: tshark reads numbers");
        let mut replay = Replay::open(&[path], &Config::default(), judge::host)
            .unwrap_or_else(|e| panic!("{e:#}"));
        while replay.advance(1000).expect("frames are judged") {}
        let total = replay.read().expect("a reading");
        let mut left: Vec<(String, u32, Numbered)> = Vec::new();
        for (stream, n) in total.beside.numbers() {
            left.push((format!("{} {} ", stream.from, stream.to), stream.id, *n));
            *kinds.entry(stream.kind.to_string()).or_insert(0) += n.packets;
        }
        let packets =
            |all: &[(String, u32, Numbered)]| -> u64 { all.iter().map(|s| s.2.packets).sum() };
        let sharks: u64 = streams.values().map(|n| n.len() as u64).sum();
        assert_eq!(packets(&left), sharks, "{name}: every number is examined once");
        for (of, numbers) in &streams {
            let Some(want) = judged(numbers) else { continue };
            let is = |(ends, _, n): &(String, u32, Numbered)| {
                of.starts_with(ends) && (n.packets, n.lost + n.missing, n.duplicate) == want
            };
            let Some(at) = left.iter().position(is) else {
                panic!("{name}: {of} should be {want:?}: {left:#?}")
            };
            left.swap_remove(at);
        }
    }
    println!("numbers judged against tshark, by kind: {kinds:?}");
}

const CAPTURES: [&str; 7] = [
    "packetnet__gre_all_options",
    "pcapplusplus__GrePackets_2",
    "pcapplusplus__gtp",
    "suricata__decode-erspan-typeII-01",
    "tcpdump__erspan-type-ii-3",
    "tcpdump__erspan-type-iii-ft-7",
    "zeek__tunnels_gtp_gtp6_gtp_0x32",
];
