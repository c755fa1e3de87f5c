// SPDX-License-Identifier: MIT OR Apache-2.0
//! Extraction from captures: the frames of the rows that the filter matches in the table,
//! unchanged; the contents of tunnels; tshark agrees where it is installed.
use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use feed::{
    Captures, Extract, Extracted, Replay, Selection,
    config::Config,
    judge,
    names::Names,
    pcap::Reader,
    pcapng::{InterfaceBlock, PacketBlock, PcapngWriter},
};
use model::{
    filter::{Filter, PacketFilter},
    flow::Hook,
    groups::Groups,
};
use tempfile::TempDir;
use testkit::{
    frames::{Frame, Gre, Gtp, pkt},
    mutations::{Random, mutate},
    table::{Begin, cases},
};

/// A frame with everything that a capture contains about it.
type Whole = (Vec<u8>, u32, Option<Duration>, Option<Hook>, u16);

fn frames(capture: impl io::Read + Send + 'static) -> Vec<Whole> {
    let mut reader = Reader::new(capture).expect("a capture");
    let mut all = Vec::new();
    while let Ok(Some(f)) = reader.next_frame() {
        all.push((f.data.to_vec(), f.orig_len, f.time, f.direction, f.link_number));
    }
    all
}

fn config() -> Config {
    Config { rows: 32_768, age: Duration::ZERO, ..Config::default() }
}

fn packets(text: &str) -> Option<PacketFilter> {
    let groups = Groups::parse("10.0.0.1 eu/a\n10.0.0.9 us\n").expect("groups");
    Some(Names::default().packet_filter(text, &Arc::new(groups)).expect("a filter"))
}

fn selection(text: &str) -> Selection {
    Selection { filter: packets(text), ..Selection::default() }
}

/// The output, and what became of the frames.
fn take(files: &[PathBuf], config: &Config, selection: Selection) -> (Vec<u8>, Extracted) {
    let captures = Captures::open(files).expect("captures");
    let mut out = Vec::new();
    let writer = PcapngWriter::new(&mut out, "tmon test");
    let mut extract =
        Extract::of(captures, config, None, selection, writer).expect("captures are read");
    while extract.advance(7).expect("memory takes it") {}
    let extracted = extract.finish().expect("memory takes it");
    drop(extract);
    (out, extracted)
}

fn taken(files: &[PathBuf], selection: Selection) -> Vec<Whole> {
    frames(io::Cursor::new(take(files, &config(), selection).0))
}

/// A capture of Ethernet frames, a microsecond apart.
fn capture(dir: &TempDir, name: &str, all: &[Vec<u8>]) -> PathBuf {
    let mut writer = PcapngWriter::new(Vec::new(), "tmon test");
    let on = InterfaceBlock { name: "eth0", link: 1, ..InterfaceBlock::default() };
    writer.interface(&on).expect("memory takes it");
    for (n, data) in (0..).zip(all) {
        let time = 1_700_000_000_000_000_000 + 1000 * n;
        let packet =
            PacketBlock { time, data, orig_len: data.len() as u32, ..PacketBlock::default() };
        writer.packet(&packet).expect("memory takes it");
    }
    writer.flush().expect("memory takes it");
    let path = dir.path().join(name);
    fs::write(&path, writer.get_ref()).expect("a file");
    path
}

fn folder() -> TempDir {
    TempDir::new().expect("a scratch folder")
}

/// Captures by others, if available, and our own.
fn captures() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures/table.pcap");
    let corpus = std::env::var_os("TMON_CORPUS").map(PathBuf::from);
    let corpus = corpus
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"));
    let mut all = vec![own];
    match fs::read_dir(corpus.join("pcaps")) {
        Ok(files) => all.extend(files.filter_map(|f| Some(f.ok()?.path()))),
        Err(_) => eprintln!("there is no corpus: only tmon's own captures are looked at"),
    }
    all.sort();
    all
}

/// The rows of a capture that match a filter, each with its interface's name.
fn rows(file: &Path, filter: &str) -> BTreeSet<String> {
    let filter: Filter = filter.parse().expect("a filter");
    let mut replay =
        Replay::open(&[file.to_owned()], &config(), judge::host).expect("a capture is read");
    while replay.advance(1000).expect("frames are judged") {}
    let reading = replay.read().expect("a reading");
    let name = |i: u16| reading.interfaces[usize::from(i)].name.as_str();
    let kept = reading.rows.iter().filter(|f| filter.matches(f, name(f.interface)));
    // The interface names in this capture are no longer than this.
    let name = |i| name(i).chars().take(64).collect::<String>();
    kept.map(|f| format!("{} {:?} {:?}", name(f.interface), f.key, f.counters)).collect()
}

const FILTERS: [&str; 10] = [
    "",
    "kind:vxlan,gre,gtpu",
    "!kind:vxlan",
    "proto:ipv4",
    "proto:ipv6,arp,truncated,malformed",
    "inner:192.168.0.0/16",
    "host:10.0.0.0/8,172.16.0.0/12",
    "id:0-1000 !proto:ipv6",
    "iface:*",
    "iface:nothing",
];

/// The frames that a filter selects are those of its rows in the table, in their order, to the
/// byte.
fn are_those_of_the_table(file: &Path) {
    let all = frames(fs::File::open(file).expect("it is there"));
    let dir = folder();
    // An interface without a name has the name of its file.
    let part = dir.path().join(file.file_name().expect("a name"));
    for text in FILTERS {
        let bytes = take(&[file.to_owned()], &config(), selection(text)).0;
        fs::write(&part, &bytes).expect("a file");
        assert_eq!(rows(&part, ""), rows(file, text), "{}, {text:?}", file.display());
        let mut rest = all.iter();
        for frame in frames(io::Cursor::new(bytes)) {
            assert!(rest.any(|f| *f == frame), "{}, {text:?}: {frame:?}", file.display());
        }
    }
}

#[test]
fn extracted_frames_match_the_rows() {
    for file in captures() {
        are_those_of_the_table(&file);
    }
}

#[test]
fn broken_frames_match_as_well() {
    let dir = folder();
    let mut random = Random(7);
    let mut all = Vec::new();
    for case in cases().into_iter().filter(|c| c.begin == Begin::Ethernet && c.gso.is_none()) {
        let mut bytes = case.frame.bytes();
        all.push(bytes.clone());
        mutate(&mut bytes, &mut random);
        all.push(bytes);
    }
    are_those_of_the_table(&capture(&dir, "broken.pcapng", &all));
}

/// TCP from one inner host to another, with these flags.
fn tcp(outer: Frame, ports: [u16; 2], flags: u8, tos: u8) -> Vec<u8> {
    let mut segment = ports.map(u16::to_be_bytes).concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0, 9, 0, 0, 0, 0]);
    let inner = outer.ip("192.168.0.1 > 192.168.0.2").set(1, &[tos]);
    inner.proto(6).payload(&segment).bytes()
}

fn vxlan(vni: u32) -> Frame {
    pkt().eth().ip("10.0.0.1 > 10.0.0.2").udp(1, 4789).vxlan(vni).eth()
}

#[test]
fn packet_filters_examine_the_contents() {
    let dir = folder();
    let deep = || vxlan(7).ip("172.16.0.1 > 172.16.0.2").gre(Gre::default());
    let udp = vxlan(7).ip("192.168.0.1 > 192.168.0.2").udp(53, 9999).data(20);
    let v6 = vxlan(7).ip("2001:db8::1 > 2001:db8::2").set(0, &[0x6b, 0x80]).hopopts(1);
    let pieces = vxlan(7).ip("192.168.0.1 > 192.168.0.2").udp(53, 9999).data(64);
    let file = capture(
        &dir,
        "packets.pcapng",
        &[
            tcp(vxlan(7), [40000, 443], 0x02, 46 << 2),
            tcp(vxlan(7), [443, 40000], 0x12, 0),
            tcp(deep(), [443, 40000], 0x10, 0),
            udp.bytes(),
            v6.udp(1, 53).data(9).bytes(),
            pieces.fragments(1, 32, 5)[1].bytes(),
            vxlan(7).arp().bytes(),
            tcp(vxlan(8), [40000, 443], 0x02, 46 << 2),
        ],
    );
    let all = frames(fs::File::open(&file).expect("it is there"));
    for (text, wanted) in [
        ("", &[0, 1, 2, 3, 4, 5, 6, 7][..]),
        ("port:443", &[0, 1, 2, 7]),
        ("port:443 vni:7", &[0, 1, 2]),
        ("port:443 !kind:gre", &[0, 1, 7]),
        ("port:53", &[3, 4]),
        ("!port:443", &[3, 4, 5, 6]),
        ("l4:udp", &[3, 4, 5]),
        ("l4:tcp,udp", &[0, 1, 2, 3, 4, 5, 7]),
        ("flags:syn", &[0, 1, 7]),
        ("flags:syn !flags:ack id:8", &[7]),
        ("dscp:ef", &[0, 4, 7][..]),
        ("dscp:0", &[1, 2, 3, 5]),
        ("group:eu vni:8", &[7]),
        ("group:us,eu/a port:53", &[3, 4]),
        ("group:us", &[]),
    ] {
        let wanted: Vec<_> = wanted.iter().map(|n| all[*n].clone()).collect();
        let found = taken(std::slice::from_ref(&file), selection(text));
        assert!(found == wanted, "{text}: {} frames, not {}", found.len(), wanted.len());
    }
}

#[test]
fn decapsulated_packets_stand_alone() {
    let dir = folder();
    let inside = |f: Frame| f.ip("192.168.0.1 > 192.168.0.2").udp(1, 2).data(30);
    let gre = || pkt().ip("172.16.0.1 > 172.16.0.2").gre(Gre::default());
    let outer = pkt().eth().ip("10.0.0.1 > 10.0.0.2");
    let gtp = outer.clone().udp(1, 2152).gtpu(5, Gtp::default());
    let nested = vxlan(7).then(inside(gre())).pad(8);
    let fragments = vxlan(7).then(inside(pkt())).fragments(0, 48, 9);
    let all = [
        vxlan(7).then(inside(pkt())).bytes(),
        nested.bytes(),
        inside(gtp).bytes(),
        vxlan(7).arp().bytes(),
        outer.clone().gre(Gre::default()).payload(&[1, 2, 3]).bytes(),
        fragments[0].bytes(),
        fragments[1].bytes(),
    ];
    let file = capture(&dir, "inside.pcapng", &all);
    let once = taken(std::slice::from_ref(&file), Selection { decap: 1, ..selection("") });
    let bare = |frame: Frame, link| (frame.bytes(), frame.bytes().len() as u32, link);
    let first = vxlan(7).then(inside(pkt())).bytes();
    let part = first[50..14 + 20 + 48].to_vec();
    let expected = [
        bare(inside(pkt().eth()), 1),
        bare(pkt().eth().then(inside(gre())), 1),
        bare(inside(pkt()), 101),
        bare(pkt().eth().arp(), 1),
        (part.clone(), part.len() as u32, 1),
    ];
    let found: Vec<_> =
        once.iter().map(|(data, len, .., link)| (data.clone(), *len, *link)).collect();
    assert_eq!(found, expected);
    let (_, n) =
        take(std::slice::from_ref(&file), &config(), Selection { decap: 1, ..selection("") });
    assert_eq!((n.frames, n.matched, n.written, n.no_inside), (7, 7, 5, 2));

    let twice = taken(std::slice::from_ref(&file), Selection { decap: 2, ..selection("id:7") });
    assert_eq!((&twice[1].0, twice[1].4), (&inside(pkt()).bytes(), 101), "without both tags");
    assert_eq!((&twice[0].0, twice[0].4), (&expected[0].0, 1), "there is but one");
}

#[test]
fn only_requested_packets_are_taken() {
    let dir = folder();
    let all: Vec<_> = (0..20).map(|n| tcp(vxlan(n), [1, 2], 0x10, 0)).collect();
    let file = [capture(&dir, "a.pcapng", &all)];
    let few = taken(&file, Selection { count: Some(3), ..selection("id:5-19") });
    assert_eq!(few.iter().map(|f| f.0.clone()).collect::<Vec<_>>(), all[5..8]);
    let short = taken(&file, Selection { snaplen: Some(60), ..selection("") });
    let length = all[0].len();
    assert!(short.len() == 20 && short.iter().all(|f| f.0.len() == 60 && f.1 == length as u32));
    let between =
        "2023-11-14T22:13:20.000003Z..2023-11-14T22:13:20.000005Z".parse().expect("times");
    let of_a_time = taken(&file, Selection { between, ..selection("") });
    assert_eq!(of_a_time.iter().map(|f| f.0.clone()).collect::<Vec<_>>(), all[3..=5]);
}

#[test]
fn unparsed_packets_are_taken_on_request() {
    let dir = folder();
    let good = tcp(vxlan(7), [1, 2], 0x10, 0);
    let outer = || pkt().eth().ip("10.0.0.1 > 10.0.0.2");
    let all = [
        good.clone(),
        outer().set(0, &[0x43]).udp(1, 2).data(9).bytes(), // malformed
        outer().udp(1, 2).bytes()[..30].to_vec(),          // truncated
        outer().udp(1, 4789).data(40).set(0, &[0]).bytes(), // suspect
        outer().udp(1, 2).data(9).bytes(),                 // plain
        pkt().eth().arp().bytes(),                         // no IP
        outer().udp(1, 2).data(99).fragments(0, 48, 3)[1].bytes(), // a fragment of what was not seen
    ];
    let file = [capture(&dir, "a.pcapng", &all)];
    let bytes = |selection| taken(&file, selection).into_iter().map(|f| f.0).collect::<Vec<_>>();
    let stops = [&all[1..4], &all[6..]].concat();
    assert_eq!(bytes(Selection { stops: true, ..Selection::default() }), stops);
    let both = [&all[..4], &all[6..]].concat();
    assert_eq!(bytes(Selection { stops: true, ..selection("") }), both);
    assert_eq!(bytes(selection("")), [good]);
}

#[test]
fn several_captures_are_merged_and_keep_their_interfaces() {
    let dir = folder();
    let even: Vec<_> = (0..10).map(|n| tcp(vxlan(2 * n), [1, 2], 0x10, 0)).collect();
    let odd: Vec<_> = (0..10).map(|n| tcp(vxlan(2 * n + 1), [1, 2], 0x10, 0)).collect();
    let files = [capture(&dir, "a.pcapng", &even), capture(&dir, "b.pcapng", &odd)];
    let times: Vec<_> = taken(&files, selection("")).into_iter().map(|f| f.2).collect();
    assert!(times.len() == 20 && times.is_sorted());
    let one = taken(&files, selection("iface:b.pcapng:eth0"));
    assert_eq!(one.into_iter().map(|f| f.0).collect::<Vec<_>>(), odd);
}

/// Accepts this many bytes.
struct Disk(usize);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(self.0);
        self.0 -= n;
        if n == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(n) }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_reported() {
    let dir = folder();
    let all: Vec<_> = (0..9000).map(|n| tcp(vxlan(n), [1, 2], 0x10, 0)).collect();
    let captures = Captures::open(&[capture(&dir, "a.pcapng", &all)]).expect("it is there");
    let writer = PcapngWriter::new(Disk(300_000), "tmon test");
    let mut extract =
        Extract::of(captures, &config(), None, selection(""), writer).expect("it is read");
    let e = loop {
        match extract.advance(1000) {
            Ok(more) => assert!(more, "there is no room for all"),
            Err(e) => break e,
        }
    };
    assert!(format!("{e:#}").starts_with("write: "), "{e:#}");
    assert!(extract.whole() > 250_000 && extract.whole() <= 300_000);
}

/// The same rows in tshark's terms: its names for the tunnel's id and the inner addresses.
const FIELDS: [(&str, &str); 3] =
    [("vxlan", "vxlan.flag_i == 1 && vxlan.vni"), ("geneve", "geneve.vni"), ("gtpu", "gtp.teid")];

/// By destination port: packets from such a port are something else to tmon, as is VXLAN without
/// its I flag.
const PORTS: &str =
    "udp.dstport == 4789 || udp.dstport == 8472 || udp.dstport == 6081 || udp.dstport == 2152";

/// In captures with such tunnels and nothing deeper, each pair of addresses inside each tunnel is
/// selected, both here and by tshark.
#[test]
fn tshark_takes_the_same_frames() {
    if Command::new("tshark").arg("--version").output().is_err() {
        return eprintln!("tshark is not here: nothing was compared");
    }
    let dir = folder();
    let mut compared = 0;
    for file in captures() {
        let mut replay = Replay::open(std::slice::from_ref(&file), &config(), judge::host)
            .expect("a capture is read");
        while replay.advance(1000).expect("frames are judged") {}
        let rows = replay.read().expect("a reading").rows;
        let simple =
            rows.iter().all(|f| f.key.depth == 1 && f.counters.in_fragments().total().is_zero());
        let mut asked = BTreeSet::new();
        for flow in rows.iter().filter(|_| simple) {
            let kind = flow.key.outermost.kind.to_string();
            let (Some((_, field)), Some(id), Some(pair)) = (
                FIELDS.iter().find(|(k, _)| *k == kind),
                flow.key.outermost.id,
                flow.key.inner.pair(),
            ) else {
                continue;
            };
            // tshark does not distinguish outer addresses from inner ones.
            if flow.key.outer == Some(pair)
                || asked.len() >= 3
                || !asked.insert((kind.clone(), id, pair))
            {
                continue;
            }
            let address =
                |a: IpAddr| format!("{} == {a}", if a.is_ipv4() { "ip.addr" } else { "ipv6.addr" });
            let (first, second) = (address(pair.first), address(pair.second));
            let display = format!("{field} == {id} && {first} && {second} && ({PORTS})");
            let ours =
                format!("kind:{kind} id:{id} inner:{} inner:{} !l4:99", pair.first, pair.second);
            let theirs = dir.path().join("theirs.pcapng");
            let status = Command::new("tshark")
                .args(["-o", "ip.defragment:FALSE", "-o", "vxlan.udp.port:4789,8472"])
                .args(["-r".as_ref(), file.as_os_str(), "-w".as_ref(), theirs.as_os_str()])
                .args(["-Y", &display])
                .output()
                .expect("tshark runs");
            assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
            let theirs = frames(fs::File::open(&theirs).expect("tshark has written it"));
            let ours_taken = taken(std::slice::from_ref(&file), selection(&ours));
            assert_eq!(
                ours_taken.iter().map(|f| (&f.0, f.1, f.2)).collect::<Vec<_>>(),
                theirs.iter().map(|f| (&f.0, f.1, f.2)).collect::<Vec<_>>(),
                "{}: {ours}; {display}",
                file.display()
            );
            compared += ours_taken.len();
        }
    }
    eprintln!("{compared} frames are the same"); // none without a corpus
}
