// SPDX-License-Identifier: MIT OR Apache-2.0
//! The contents of rows' packets in captures: the lens sees what was built, and tshark counts the
//! same.
use std::{
    collections::BTreeMap,
    fs,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use feed::{
    Again, Capture, Captures, Replay, Source,
    config::Config,
    judge,
    pcapng::{InterfaceBlock, PacketBlock, PcapngWriter},
};
use model::lens::{Lens, LensEntry};
use testkit::frames::{Frame, pkt};

fn lens(file: &Path, filter: &str, threads: usize) -> Lens {
    let config = Config { age: Duration::ZERO, ..Config::default() };
    let mut replay = Replay::open(&[file.to_owned()], &config, judge::host).expect("a capture");
    replay.set_threads(threads);
    replay.look(filter.parse().expect("a filter")).expect("memory");
    while replay.advance(1000).expect("frames are judged") {}
    let counted: u64 = replay
        .read()
        .expect("a reading")
        .interfaces
        .iter()
        .flat_map(|i| i.books.counted)
        .map(|c| c.packets)
        .sum();
    let lens = replay.lens().expect("somebody looks");
    let sum: u64 = lens.rows.iter().flat_map(|r| &r.entries).map(|e| e.count.packets).sum();
    assert_eq!(sum + lens.lost, lens.looked_at);
    assert!(!filter.is_empty() || counted == lens.looked_at, "all packets of all rows");
    lens
}

#[test]
fn the_lens_sees_what_was_built() {
    let outer = |vni, ends| {
        pkt().eth().ip(ends).set(1, &[46 << 2 | 1]).set(8, &[60]).udp(1, 4789).vxlan(vni).eth()
    };
    let tcp = |outer: Frame, ends: &str, ports: [u16; 2], flags: u8| {
        let mut segment = ports.map(u16::to_be_bytes).concat();
        segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0, 9, 0, 0, 0, 0]);
        outer.ip(ends).set(1, &[8 << 2 | 3]).set(8, &[7]).proto(6).payload(&segment).bytes()
    };
    let (there, back) = ("10.0.0.1 > 10.0.0.2", "10.0.0.2 > 10.0.0.1");
    let (ask, answer) = ("192.168.0.1 > 192.168.0.2", "192.168.0.2 > 192.168.0.1");
    let all = [
        tcp(outer(7, there), ask, [40_000, 443], 0x02),
        tcp(outer(7, there), ask, [40_000, 443], 0x10),
        tcp(outer(7, back), answer, [443, 40_000], 0x12),
        outer(7, there)
            .ip("2001:db8::1 > 2001:db8::2")
            .set(0, &[0x6b, 0x80])
            .udp(53, 9)
            .data(900)
            .bytes(),
        outer(7, there).arp().bytes(),
        tcp(outer(8, there), ask, [1, 2], 0x10),
    ];
    let mut writer = PcapngWriter::new(Vec::new(), "tmon test");
    let on = InterfaceBlock { name: "eth0", link: 1, ..InterfaceBlock::default() };
    writer.interface(&on).expect("memory takes it");
    for (time, data) in (1..).zip(&all) {
        let packet =
            PacketBlock { time, data, orig_len: data.len() as u32, ..PacketBlock::default() };
        writer.packet(&packet).expect("memory takes it");
    }
    writer.flush().expect("memory takes it");
    let file = tempfile::NamedTempFile::with_suffix(".pcapng").expect("a file");
    fs::write(file.path(), writer.get_ref()).expect("a file is written");
    for threads in [1, 3] {
        let lens = lens(file.path(), "vni:7", threads);
        assert_eq!((lens.looked_at, lens.lost, lens.rows.len()), (5, 0, 3));
        let [fwd, rev] = &lens.rows[0].entries[..] else { panic!("{lens:#?}") };
        let expected = LensEntry {
            reverse: false,
            l4: Some(6),
            ports: Some([443, 40_000]),
            tos: [Some(46 << 2 | 1), Some(8 << 2 | 3)],
            ttl: [Some(60), Some(7)],
            size: (64, Some(128)),
            mark: None,
            tcp: 0x12,
            count: fwd.count,
        };
        assert_eq!((*fwd, fwd.count.packets), (expected, 2));
        assert_eq!(*rev, LensEntry { reverse: true, count: rev.count, ..expected });
        let others: Vec<LensEntry> = lens.rows[1..].iter().map(|r| r.entries[0]).collect();
        let v6 = others.iter().find(|e| e.l4 == Some(17)).expect("UDP in IPv6");
        assert_eq!((v6.tos[1], v6.ports, v6.size), (Some(0xb8), Some([9, 53]), (512, Some(1024))));
        let arp = others.iter().find(|e| e.l4.is_none()).expect("ARP");
        assert_eq!((arp.tos, arp.ttl), ([Some(46 << 2 | 1), None], [Some(60), None]));
    }
}

#[test]
fn packets_of_a_shown_capture_can_be_examined() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.pcapng");
    let mut writer = PcapngWriter::new(Vec::new(), "tmon test");
    let on = InterfaceBlock { name: "eth0", link: 1, ..InterfaceBlock::default() };
    writer.interface(&on).expect("memory takes it");
    for time in 1..=30 {
        let vni = 7 + (time % 3) as u32;
        let outer = pkt().eth().ip("10.0.0.1 > 10.0.0.2").udp(1, 4789).vxlan(vni).eth();
        let data = outer.ip("192.168.0.1 > 192.168.0.2").udp(53, 9).data(9).bytes();
        let packet = PacketBlock {
            time,
            data: &data,
            orig_len: data.len() as u32,
            ..PacketBlock::default()
        };
        writer.packet(&packet).expect("memory takes it");
    }
    writer.flush().expect("memory takes it");
    fs::write(&path, writer.get_ref()).expect("a file is written");
    let captures = Captures::open(&[path]).expect("a capture");
    let again = captures.again().expect("it is a file");
    let config = Config { age: Duration::ZERO, ..Config::default() };
    let shown = config.clone();
    let open = move || Replay::of(captures, &shown, judge::host, None);
    let mut capture = Capture::new(open, Duration::from_secs(1), 1 << 27).expect("a thread");
    assert!(capture.closer().is_err(), "no prober was provided");
    capture.set_again(Some(Again::new(again, &config, None)));
    let closer = capture.closer().expect("it can be read again");
    assert_eq!(closer.seen().expect("nothing is wrong"), None);
    // One after another; one that is abandoned does not disturb the next.
    for (filter, packets) in [("vni:7", 10), ("vni:8-9", 20), ("vni:70", 0), ("vni:8", 10)] {
        closer.look(Some(&"vni:9".parse().expect("a filter"))).expect("a thread");
        closer.look(Some(&filter.parse().expect("a filter"))).expect("a thread");
        let begun = Instant::now();
        loop {
            let lens = closer.seen().expect("nothing is wrong").expect("somebody looks");
            assert_eq!(lens.filter, filter);
            if lens.timed.is_some() && lens.looked_at == packets {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{lens:?}");
            thread::yield_now();
        }
    }
    closer.look(None).expect("nothing is left to do");
    assert_eq!(closer.seen().expect("nothing is wrong"), None);
}

#[test]
fn packets_of_a_pipe_cannot_be_examined_again() {
    let (from, _to) = std::io::pipe().expect("a pipe");
    let path = PathBuf::from(format!("/proc/self/fd/{}", from.as_raw_fd()));
    assert!(Captures::open(&[path]).expect("a pipe").again().is_none());
}

/// TCP packets by their ports, the lower one first, as tshark counts them.
fn tshark(file: &Path) -> Option<BTreeMap<[u16; 2], u64>> {
    let args = ["-o", "ip.defragment:FALSE", "-q", "-z", "conv,tcp", "-r"];
    let output = Command::new("tshark").args(args).arg(file).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut all = BTreeMap::new();
    for line in text.lines().filter(|l| l.contains(" <-> ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let port = |w: &str| w.rsplit(':').next().and_then(|p| p.parse::<u16>().ok());
        let (Some(a), Some(b)) = (port(words[0]), port(words[2])) else { continue };
        // frames and bytes each way, then both ways together
        let numbers: Vec<u64> = words[3..].iter().filter_map(|w| w.parse().ok()).collect();
        *all.entry([a.min(b), a.max(b)]).or_default() += numbers[4];
    }
    Some(all)
}

#[test]
fn tshark_counts_the_same_conversations() {
    let corpus = std::env::var_os("TMON_CORPUS").map(PathBuf::from);
    let corpus = corpus
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"));
    for name in [
        "suricata__vxlan-decoder-03_vxlan.pcap",
        "arkime__gtp-iphone.pcap",
        "zeek__tunnels_gtp_gtp6_gtp_0x32.pcap",
        "zeek__tunnels_ayiya3.pcap",
    ] {
        let file = corpus.join("pcaps").join(name);
        if !file.exists() {
            eprintln!("{name} is not there: not compared");
            continue;
        }
        let Some(theirs) = tshark(&file) else {
            return eprintln!("tshark is not here: nothing was compared");
        };
        let mut ours: BTreeMap<[u16; 2], u64> = BTreeMap::new();
        for e in lens(&file, "", 1).rows.iter().flat_map(|r| &r.entries) {
            if let (Some(6), Some(ports)) = (e.l4, e.ports) {
                *ours.entry(ports).or_default() += e.count.packets;
            }
        }
        assert_eq!(ours, theirs, "{name}");
        assert!(!ours.is_empty(), "{name}");
    }
}
