// SPDX-License-Identifier: MIT OR Apache-2.0
//! tmon's own captures, `captures/`: frames made by the frame builder, of every kind and every
//! chain of kinds in the table, with tshark's answers stored beside them. So every clone has
//! another decoder's answers, without that decoder.
//!
//! `make captures` regenerates both files, with tshark. A frame that the builder now makes
//! differently from the stored one, or a chain that is not stored, fails here.
use std::{collections::BTreeSet, fs, net::IpAddr, path::Path, process::Command};

use feed::{config::Config, judge, packet::Packet, pcap::Reader};
use model::{
    flow::{Flow, Hook, Kind},
    rows::Rows,
};
use testkit::table::{Begin, Case, Inside, Want, cases};

const PCAP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/captures/table.pcap");
const ANSWERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/captures/table.tsv");

/// The fields requested from tshark; the last ones are the ids of some tunnels.
const FIELDS: [&str; 10] = [
    "frame.protocols",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "vxlan.vni",
    "geneve.vni",
    "gtp.teid",
    "mpls.label",
    "pppoe.session_id",
];

/// The tunnels whose ids are in these fields.
const IDS: [(Kind, usize); 5] =
    [(Kind::Vxlan, 5), (Kind::Geneve, 6), (Kind::Gtpu, 7), (Kind::Mpls, 8), (Kind::Pppoe, 9)];

/// One frame for each chain of kinds with IPv4 or IPv6 outside and inside.
fn chosen() -> Vec<Case> {
    let mut known = BTreeSet::new();
    let mut chain = |case: &Case| {
        let Want::Row(answer) = &case.want else { return false };
        let inside = match answer.inside {
            Inside::Ends(ends) => format!("{}", ends.0.is_ipv6()),
            _ => "none".to_owned(),
        };
        let kinds: Vec<String> = answer.tunnels.iter().map(|t| t.kind.to_string()).collect();
        // tshark can only guess what follows an L2TPv3 header; it does read the ends of the tunnel.
        let read = case.sound || answer.tunnels.iter().any(|t| t.kind == Kind::L2tpv3);
        let whole = case.begin == Begin::Ethernet && case.gso.is_none();
        read && whole && known.insert((kinds, answer.outer.0.is_ipv6(), inside))
    };
    let mut chosen: Vec<Case> = cases().into_iter().filter(|case| chain(case)).collect();
    // tshark also takes later datagrams from the same port for L2TP: these frames come last.
    let is_l2tp = |case: &Case| {
        let has = |kind| matches!(kind, Kind::L2tp | Kind::L2tpv3);
        matches!(&case.want, Want::Row(a) if a.tunnels.iter().any(|t| has(t.kind)))
    };
    chosen.sort_by_key(is_l2tp);
    chosen
}

fn pcap(cases: &[Case]) -> Vec<u8> {
    let head = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1];
    let mut file: Vec<u8> = head.into_iter().flat_map(u32::to_le_bytes).collect();
    for (second, case) in (1_700_000_000_u32..).zip(cases) {
        let bytes = case.frame.bytes();
        let length = bytes.len() as u32;
        file.extend([second, 0, length, length].into_iter().flat_map(u32::to_le_bytes));
        file.extend(bytes);
    }
    file
}

/// tshark's answers, one line per frame: its name in the table, then [`FIELDS`].
fn ask_tshark(cases: &[Case]) -> String {
    let mut tshark = Command::new("tshark");
    tshark.args(["-r", PCAP, "-T", "fields", "-E", "separator=/t", "-o", "capwap.swap_fc:FALSE"]);
    tshark.args(FIELDS.iter().flat_map(|field| ["-e", field]));
    for ports in [
        "udp.port==4789,vxlan",
        "udp.port==8472,vxlan",
        "udp.port==6635,mpls",
        "udp.port==4754,gre",
        "udp.port==4341,lisp-data",
        "udp.port==6080,ip",
    ] {
        tshark.args(["-d", ports]);
    }
    let out = tshark.output().expect("tshark is installed");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    assert_eq!(text.lines().count(), cases.len(), "tshark reads every frame");
    let lines = cases.iter().zip(text.lines());
    lines.map(|(case, line)| format!("{}\t{line}\n", case.name)).collect()
}

/// The pairs of IP addresses in tshark's answer, outermost first. The quote of an ICMP error does
/// not count.
fn pairs(fields: &[&str]) -> Vec<(IpAddr, IpAddr)> {
    // When told that GUE's bare IP is `ip`, tshark also lists that before `ipv6`.
    let protocols = fields[0].replace("udp:ip:ipv6", "udp:ipv6");
    let list = |i: usize| fields.get(i).unwrap_or(&"").split(',').filter(|s| !s.is_empty());
    let (mut ip, mut ipv6) = (list(1).zip(list(2)), list(3).zip(list(4)));
    let mut found = Vec::new();
    for protocol in protocols.split(':').take_while(|p| !p.starts_with("icmp")) {
        let pair = match protocol {
            "ip" => ip.next(),
            "ipv6" => ipv6.next(),
            _ => continue,
        };
        let read = |text: &str| text.parse().expect("an address");
        found.extend(pair.map(|(from, to)| (read(from), read(to))));
    }
    found
}

fn is(pair: model::flow::Pair, (from, to): (IpAddr, IpAddr)) -> bool {
    (pair.first, pair.second) == (from, to) || (pair.first, pair.second) == (to, from)
}

/// The contradiction between a row and tshark's answer, if any.
fn contradiction(case: &Case, flow: &Flow, fields: &[&str]) -> Option<String> {
    let pairs = pairs(fields);
    let (Some(first), Some(last)) = (pairs.first(), pairs.last()) else {
        return Some("tshark reads no IP".to_owned());
    };
    if flow.key.outer.is_some_and(|outer| !is(outer, *first)) {
        return Some(format!("outside: {:?}", flow.key.outer));
    }
    if let Some(inner) = flow.key.inner.pair()
        && case.sound
        && case.frame.shark().1
        && !is(inner, *last)
    {
        return Some(format!("inside: {inner:?}"));
    }
    let outermost = flow.key.outermost;
    let (_, at) = IDS.iter().find(|(kind, _)| *kind == outermost.kind)?;
    let id = fields.get(*at)?.split(',').next().filter(|s| !s.is_empty())?;
    let id = match id.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => id.parse().ok(),
    };
    (id != outermost.id).then(|| format!("id: {:?}", outermost.id))
}

#[test]
fn our_answers_match_tsharks_stored_ones() {
    let cases = chosen();
    if std::env::var_os("TMON_WRITE").is_some() {
        fs::create_dir_all(Path::new(PCAP).parent().expect("a folder")).expect("the folder");
        fs::write(PCAP, pcap(&cases)).expect("write the capture");
        fs::write(ANSWERS, ask_tshark(&cases)).expect("write the answers");
    }
    let stored = fs::read(PCAP).expect("the capture is in the repository");
    assert!(stored == pcap(&cases), "the builder makes other frames: `make captures`, and look");
    let answers = fs::read_to_string(ANSWERS).expect("the answers are in the repository");
    assert_eq!(answers.lines().count(), cases.len());
    let kinds: BTreeSet<String> = cases
        .iter()
        .filter_map(|c| if let Want::Row(a) = &c.want { Some(a) } else { None })
        .flat_map(|a| a.tunnels.iter().map(|t| t.kind.to_string()))
        .collect();
    let missing = Kind::ALL.iter().filter(|k| **k != Kind::None && !kinds.contains(&k.to_string()));
    assert_eq!(missing.collect::<Vec<_>>(), [&Kind::None; 0], "every kind is there");

    let mut judge = judge::host(&Config { rows: 1024, ..Config::default() }).expect("memory");
    let mut reader = Reader::open(PCAP).expect("a capture");
    let mut wrong = Vec::new();
    let mut judged = 0;
    for (case, line) in cases.iter().zip(answers.lines()) {
        let frame = reader.next_frame().expect("a frame").expect("a frame");
        judge.clear().expect("empty tables");
        judge.run(Hook::Rx, &Packet::ethernet(frame.data), 0).expect("it is judged");
        let mut rows = Rows::default();
        judge.rows(0, &mut rows).expect("rows");
        let flows = rows.merged();
        let fields: Vec<&str> = line.split('\t').skip(1).collect();
        assert!(line.starts_with(&format!("{}\t", case.name)), "{line}");
        match &flows[..] {
            [flow] => {
                judged += 1;
                wrong
                    .extend(contradiction(case, flow, &fields).map(|why| {
                        format!("{}: {why}; tshark: {}", case.name, fields.join(" | "))
                    }));
            }
            _ => wrong.push(format!("{}: {} rows", case.name, flows.len())),
        }
    }
    assert!(wrong.is_empty(), "{} of {judged}:\n{}", wrong.len(), wrong.join("\n"));
    println!("{judged} frames, {} kinds", kinds.len());
}
