// SPDX-License-Identifier: MIT OR Apache-2.0
//! One packet through the programs, by what it is and by how many rows there are.
use anyhow::Result;
use model::flow::Hook;

use crate::{
    bench::{Bench, Target, Varied, pin, rounds, shuffled, time, zipf},
    frames::{Frame, Gre, Gtp, pkt},
    report::{Line, Report, Stat},
};

/// What every inner packet is: 8 bytes of UDP header and this much behind it.
const DATA: usize = 64;
const AFTER_PAIR4: usize = 8 + DATA;

fn outer4() -> Frame {
    pkt().eth().ip("172.16.1.100 > 172.16.1.101")
}

fn outer6() -> Frame {
    pkt().eth().ip("2001:db8::1 > 2001:db8::2")
}

fn inside4(outside: Frame) -> Varied {
    Varied::new(outside.ip("10.0.0.1 > 10.1.0.0").udp(4000, 4001).data(DATA), AFTER_PAIR4)
}

fn inside6(outside: Frame) -> Varied {
    Varied::new(outside.ip("fd00::1 > fd00:0:0:1::").udp(4000, 4001).data(DATA), AFTER_PAIR4)
}

/// The packet that the ancestor was made for.
pub(crate) fn vxlan44() -> Varied {
    inside4(outer4().udp(54321, 4789).vxlan(10_000).eth())
}

/// A round: every program once, on its own packet. Nanoseconds.
struct Round {
    floor: f64,
    ancestor: f64,
    ours: f64,
}

fn line(what: &str, rounds: &[Round]) -> Line {
    let over = |f: fn(&Round) -> f64| Stat::of(rounds.iter().map(f));
    Line {
        floor: Some(over(|r| r.floor)),
        ancestor: Some(over(|r| r.ancestor)),
        ratio: Some(over(|r| r.ours / r.ancestor)),
        ..Line::cost(what, "ns", over(|r| r.ours))
    }
}

/// `frame` through ours and, if the ancestor has to be measured on something else, that through it.
fn compare(
    bench: &mut Bench,
    frame: &Varied,
    reference: Option<&Varied>,
    packets: u32,
    n: usize,
) -> Result<Vec<Round>> {
    rounds(n, || {
        let floor = bench.drive(Target::Empty, frame, packets)?;
        let ours = bench.drive(Target::Ours, frame, packets)? - floor;
        let own_floor = match reference {
            Some(r) => bench.drive(Target::Empty, r, packets)?,
            None => floor,
        };
        let ancestor =
            bench.drive(Target::Ancestor, reference.unwrap_or(frame), packets)? - own_floor;
        Ok(Round { floor, ancestor, ours })
    })
}

/// Rows, how they are met, and the target.
const SIZES: &[(&str, usize, bool, f64)] = &[
    ("VXLAN v4/v4, 1 row", 1, false, 0.20),
    ("VXLAN v4/v4, 1,024 rows", 1024, false, 0.20),
    ("VXLAN v4/v4, 65,536 rows, Zipf", 65_536, true, 0.25),
    ("VXLAN v4/v4, 65,536 rows, uniform", 65_536, false, 0.60),
    ("VXLAN v4/v4, 1,048,576 rows, uniform", 1 << 20, false, 0.65),
];

/// What is in one tunnel or two, and the ratio that is asked for.
pub(crate) fn kinds() -> Vec<(&'static str, Varied, f64)> {
    let keyed = || Gre { key: Some(7), ..Gre::default() };
    let options = [1, 2, 0x80, 1, 0, 0, 0, 0];
    let gtp = || Gtp { extensions: &[(0x85, &[0x10, 0x09])], ..Gtp::default() };
    let qinq = pkt().eth().tag(0x88a8, 100).tag(0x8100, 200).ip("172.16.1.100 > 172.16.1.101");
    vec![
        (
            "Geneve with options",
            inside4(outer4().udp(54321, 6081).geneve_options(10_000, &options).eth()),
            0.25,
        ),
        ("GRE with key", inside4(outer4().gre(keyed())), 0.25),
        ("GTP-U", inside4(outer4().udp(2152, 2152).gtpu(7, Gtp::default())), 0.25),
        ("GTP-U with an extension header", inside4(outer4().udp(2152, 2152).gtpu(7, gtp())), 0.25),
        ("IPIP", inside4(outer4()), 0.25),
        ("VXLAN in QinQ", inside4(qinq.udp(54321, 4789).vxlan(10_000).eth()), 0.25),
        ("VXLAN v4/v6", inside6(outer4().udp(54321, 4789).vxlan(10_000).eth()), 0.30),
        ("VXLAN v6/v4", inside4(outer6().udp(54321, 4789).vxlan(10_000).eth()), 0.30),
        ("VXLAN v6/v6", inside6(outer6().udp(54321, 4789).vxlan(10_000).eth()), 0.30),
        ("6in6", inside6(outer6()), 0.30),
        (
            "nested: GRE in VXLAN v4/v4/v4",
            inside4(
                outer4()
                    .udp(54321, 4789)
                    .vxlan(10_000)
                    .eth()
                    .ip("10.9.0.1 > 10.9.0.2")
                    .gre(keyed()),
            ),
            0.40,
        ),
        (
            "nested: VXLAN in VXLAN v4/v4/v6",
            inside6(
                outer4()
                    .udp(54321, 4789)
                    .vxlan(1)
                    .eth()
                    .ip("10.9.0.1 > 10.9.0.2")
                    .udp(54322, 4789)
                    .vxlan(2)
                    .eth(),
            ),
            0.40,
        ),
    ]
}

/// What is looked at more closely than others: TCP, and what its sender numbers.
pub(crate) fn watched() -> Vec<(&'static str, Vec<u8>)> {
    let tcp = |outside: Frame, ends| outside.ip(ends).tcp().data(DATA);
    let vxlan = || outer4().udp(54321, 4789).vxlan(10_000).eth();
    let syn = vxlan().ip("10.0.0.1 > 10.1.0.0").tcp().set(13, &[2]);
    let v6 = tcp(outer6().udp(54321, 4789).vxlan(10_000).eth(), "fd00::1 > fd00:0:0:1::");
    let ipip = tcp(outer4(), "10.0.0.1 > 10.1.0.0");
    let nested = outer4().udp(54321, 4789).vxlan(10_000).eth().ip("10.9.0.1 > 10.9.0.2");
    let nested = tcp(nested.gre(Gre { key: Some(7), ..Gre::default() }), "10.0.0.1 > 10.1.0.0");
    let numbered = Gre { sequence: Some(1), ..Gre::default() };
    let gtp = Gtp { sequence: Some(1), ..Gtp::default() };
    vec![
        ("VXLAN v4/v4, TCP", tcp(vxlan(), "10.0.0.1 > 10.1.0.0").bytes()),
        ("VXLAN v6/v6, TCP", v6.bytes()),
        ("IPIP, TCP", ipip.bytes()),
        ("nested: GRE in VXLAN v4/v4/v4, TCP", nested.bytes()),
        ("VXLAN v4/v4, a TCP SYN", syn.bytes()),
        ("GRE with sequence numbers", inside4(outer4().gre(numbered)).bytes),
        ("GTP-U with sequence numbers", inside4(outer4().udp(2152, 2152).gtpu(7, gtp)).bytes),
    ]
}

/// What is in no tunnel.
pub(crate) fn plain() -> [(&'static str, Vec<u8>); 3] {
    [
        ("plain TCP v4", outer4().tcp().data(DATA).bytes()),
        ("plain TCP v6", outer6().tcp().data(DATA).bytes()),
        ("plain UDP v4", outer4().udp(4000, 4001).data(DATA).bytes()),
    ]
}

pub(crate) fn run(report: &mut Report) -> Result<()> {
    pin(1)?;
    let own = vxlan44();
    report.heading("A packet on a row that is there: net ns; ratio to the ancestor with an equally large table");
    for (what, rows, is_zipf, target) in SIZES {
        let mut bench = Bench::new((*rows).max(1024) as u32)?;
        bench.order(&shuffled(*rows, 1))?;
        for t in [Target::Ancestor, Target::Ours] {
            bench.drive(t, &own, *rows as u32)?;
        }
        // Not as they were made: the ancestor's map takes its elements from memory in that order.
        bench.order(&if *is_zipf { zipf(*rows, 1 << 20) } else { shuffled(*rows, 2) })?;
        let packets = if *rows > 1024 { 131_072 } else { 16_384 };
        let n = if *rows > 65_536 { 21 } else { 41 };
        report.add(line(what, &compare(&mut bench, &own, None, packets, n)?).at_most(*target));
    }

    report.heading("Other packets, 1,024 rows: ratio to the ancestor on its own packet");
    for (what, frame, target) in kinds() {
        let mut bench = Bench::new(1024)?;
        bench.order(&shuffled(1024, 1))?;
        bench.drive(Target::Ancestor, &own, 1024)?;
        bench.drive(Target::Ours, &frame, 1024)?;
        report
            .add(line(what, &compare(&mut bench, &frame, Some(&own), 16_384, 41)?).at_most(target));
    }

    let bench = Bench::new(1024)?;
    for (what, frame) in plain() {
        let run = |t, frame: &[u8]| time(bench.entry(t, Hook::Rx), frame, 16_384);
        let rounds = rounds(41, || {
            let floor = run(Target::Empty, &frame)?;
            let ours = run(Target::Ours, &frame)? - floor;
            let ancestor = run(Target::Ancestor, &own.bytes)? - run(Target::Empty, &own.bytes)?;
            Ok(Round { floor, ancestor, ours })
        })?;
        report.add(line(what, &rounds).at_most(0.08));
        let gross = Stat::of(rounds.iter().map(|r| (r.ours + r.floor) / r.floor));
        let ours = Stat::of(rounds.iter().map(|r| r.ours + r.floor));
        report.add(
            Line {
                ratio: Some(gross),
                floor: Some(Stat::of(rounds.iter().map(|r| r.floor))),
                ..Line::cost(format!("{what}, gross"), "ns", ours)
            }
            .at_most(1.2),
        );
    }
    Ok(())
}
