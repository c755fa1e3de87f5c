// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parser compiled for this host and the loaded BPF programs give the same answers: rows, books
//! and stops. Needs root for the programs. `TMON_MUTATIONS=n` sets how many random frames are tried.
#![cfg(feature = "live")]
use std::{env, time::Duration};

use feed::judge::{self, Judge};
use model::{
    beside::{Gathered, Handshakes},
    flow::{Books, Flow, Hook},
    interface::Fill,
    rows::Rows,
};
use testkit::{cpu, frames, mutations, table};
use tmon::kernel::{
    bpf::{Config, LinkStart, Packet},
    loaded,
};

use frames::{Frame, Gre, pkt};
use mutations::{Random, mutate};
use table::{Begin, Case, cases};

/// A frame in the form that both accept.
#[derive(Clone, Debug)]
struct Given {
    name: String,
    bytes: Vec<u8>,
    wire_len: u32,
    start: LinkStart,
    gso: (u16, u16),
    hook: Hook,
    now: u32,
}

impl Given {
    fn of(case: &Case, bytes: Vec<u8>, wire_len: usize, hook: Hook) -> Given {
        let start = match case.begin {
            Begin::Ethernet => LinkStart::Ethernet,
            Begin::Ip => LinkStart::Ip,
            Begin::EtherType(t) => LinkStart::EtherType(t),
        };
        let gso = case.gso.unwrap_or_default();
        let wire_len = wire_len as u32;
        Given { name: case.name.clone(), bytes, wire_len, start, gso, hook, now: 0 }
    }
}

/// Books, rows, occupancy, what is beside the rows.
type Got = (Books, Vec<Flow>, Fill, Gathered);

/// The programs and the native parser, with tables and seed alike.
struct Both {
    native: Box<dyn Judge>,
    kernel: Box<dyn Judge>,
}

impl Both {
    fn new(config: Config) -> Both {
        // The programs number their slots by CPU: stay on one.
        cpu::stay();
        let config = Config { seed: Some([0x9e37_79b9_7f4a_7c15; 12].map(scramble())), ..config };
        let native = judge::host(&config).expect("memory for the tables");
        let kernel = loaded::kernel(&config)
            .unwrap_or_else(|e| panic!("this test needs root (CAP_BPF and CAP_NET_ADMIN): {e:#}"));
        Both { native, kernel }
    }

    fn run(&mut self, given: &Given) {
        let packet = Packet {
            data: &given.bytes,
            wire_len: given.wire_len,
            start: given.start,
            link_len: 0,
            gso_segs: given.gso.0,
            gso_size: given.gso.1,
            time: u64::from(given.now) * 10_000_000,
        };
        for judge in [&mut self.native, &mut self.kernel] {
            judge.run(given.hook, &packet, given.now).expect("a frame is judged");
        }
    }

    fn got(judge: &mut dyn Judge) -> Got {
        let mut rows = Rows::default();
        let fill = judge.rows(0, &mut rows).expect("rows");
        let mut beside = Gathered::default();
        judge.beside(0, &mut beside).expect("what is beside the rows");
        (judge.books().expect("books"), rows.merged(), fill, beside)
    }

    fn clear(&mut self) {
        self.native.clear().and_then(|()| self.kernel.clear()).expect("clear");
    }

    /// Asserts that both have the same results for everything since they were cleared.
    fn agree(&mut self) -> Result<(), String> {
        let (native, kernel) = (Both::got(&mut *self.native), Both::got(&mut *self.kernel));
        if native == kernel {
            return Ok(());
        }
        let only = |a: &Got, b: &Got| {
            let rows = a.1.iter().filter(|f| !b.1.contains(f));
            format!("{:?}\n   {:?}\n{:#?}\n{:#?}", a.0, a.2, rows.collect::<Vec<_>>(), a.3)
        };
        Err(format!("native: {}\nkernel: {}", only(&native, &kernel), only(&kernel, &native)))
    }

    /// Judges all of them, and reports the first that the two see differently.
    fn judge(&mut self, all: &[Given]) {
        self.clear();
        all.iter().for_each(|g| self.run(g));
        let Err(both) = self.agree() else { return };
        for given in all {
            self.clear();
            self.run(given);
            if let Err(why) = self.agree() {
                panic!("{}: {:02x?}\n{given:?}\n{why}", given.name, given.bytes);
            }
        }
        panic!("each frame alone is judged alike, {} in a row are not:\n{both}", all.len());
    }
}

/// Different numbers for each seed.
fn scramble() -> impl FnMut(u64) -> u64 {
    let mut random = Random(0x746d_6f6e);
    move |n| n ^ random.next()
}

fn small() -> Config {
    Config { rows: 1024, ..Config::default() }
}

fn tries(default: usize) -> usize {
    env::var("TMON_MUTATIONS").map_or(default, |n| n.parse().expect("TMON_MUTATIONS is a number"))
}

#[test]
fn every_frame_of_the_table_and_every_prefix() {
    for plain in [false, true] {
        let mut both = Both::new(Config { plain, ..small() });
        for case in cases() {
            let frame = case.frame.bytes();
            let mut all = Vec::new();
            for hook in [Hook::Rx, Hook::Tx] {
                for n in 0..=frame.len() {
                    // truncated by the capture, and truncated on the wire
                    all.push(Given::of(&case, frame[..n].to_vec(), frame.len(), hook));
                    all.push(Given::of(&case, frame[..n].to_vec(), n, hook));
                }
            }
            both.judge(&all);
        }
    }
}

#[test]
fn random_changes_of_frames() {
    let mut random = Random(0x6e61_7469_7665);
    let table = cases();
    let total = tries(200_000);
    for plain in [false, true] {
        let mut both = Both::new(Config { plain, ..small() });
        for case in &table {
            let frame = case.frame.bytes();
            let all: Vec<Given> = (0..total / table.len() / 2)
                .map(|_| {
                    let mut bytes = frame.clone();
                    mutate(&mut bytes, &mut random);
                    let more = if random.below(4) == 0 { random.below(1500) } else { 0 };
                    let hook = if random.below(2) == 0 { Hook::Rx } else { Hook::Tx };
                    let wire_len = bytes.len() + more;
                    Given::of(case, bytes, wire_len, hook)
                })
                .collect();
            for some in all.chunks(500) {
                both.judge(some);
            }
        }
    }
}

fn given(frame: &Frame, hook: Hook, now: u32) -> Given {
    let bytes = frame.bytes();
    Given {
        name: "built".to_owned(),
        wire_len: bytes.len() as u32,
        bytes,
        start: LinkStart::Ethernet,
        gso: (0, 0),
        hook,
        now,
    }
}

/// One of many flows.
fn flow(random: &mut Random, flows: usize) -> Frame {
    let n = random.below(flows);
    let (a, b, c) = (n % 251, n / 251 % 251, n / 63_001);
    let inside = pkt().eth().ip(&format!("10.{c}.{b}.{a} > 10.0.0.1")).udp(1000, 2000).data(14);
    match n % 3 {
        0 => pkt().eth().ip("172.16.1.100 > 172.16.1.101").udp(1, 4789).vxlan(7).then(inside),
        1 => pkt().eth().ip("172.16.1.103 > 172.16.1.102").udp(1, 6081).geneve(8).then(inside),
        _ => pkt().eth().ip("fd00::100 > fd00::101").udp(1, 4789).vxlan(9).then(inside),
    }
}

#[test]
fn full_tables() {
    for rows in [64, 512, 4096] {
        let mut both = Both::new(Config { rows, ..Config::default() });
        let mut random = Random(rows.into());
        for _ in 0..20_000 {
            let hook = if random.below(2) == 0 { Hook::Rx } else { Hook::Tx };
            both.run(&given(&flow(&mut random, 10_000), hook, 0));
        }
        both.agree().unwrap_or_else(|why| panic!("{rows} rows: {why}"));
        assert!(
            rows == 4096 || Both::got(&mut *both.native).1.iter().any(|f| f.key.other),
            "no table is full"
        );
    }
}

/// SYNs, answers and resets of few connections, so that they meet.
#[test]
fn tcp_connections() {
    let mut both = Both::new(Config { rows: 64, ..Config::default() });
    let mut random = Random(0x7463_7000);
    for round in 0..40u32 {
        both.clear();
        for now in 0..400 {
            let back = random.below(2) == 1;
            let turn =
                |a: &str, b: &str| if back { format!("{b} > {a}") } else { format!("{a} > {b}") };
            let outer = pkt().eth().ip(&turn("172.16.1.100", "172.16.1.101"));
            let outer = match random.below(3) {
                0 => outer.udp(1, 4789).vxlan(7).eth(),
                1 => outer.udp(1, 6081).geneve(8).eth(),
                _ => outer.gre(Gre { sequence: Some(now), ..Gre::default() }),
            };
            let n = random.below(if round % 2 == 0 { 150 } else { 8 });
            let inner = match random.below(4) {
                0 => outer.ip(&turn(&format!("fd00::{n}"), "fd00::fff")),
                _ => outer.ip(&turn(&format!("10.0.0.{n}"), "10.0.1.1")),
            };
            let (port, number) = (random.below(2) as u8, random.below(3) as u8);
            let ports = if back { [0, 80, 0, port] } else { [0, port, 0, 80] };
            let flags = [0x02u8, 0x12, 0x04, 0x14, 0x10, 0x02, 0x12][random.below(7)];
            let fields =
                [&ports[..], &[0, 0, 0, number, 0, 0, 0, number + 1, 0x50, flags]].concat();
            let frame = inner.tcp().set(0, &fields).data(random.below(2));
            let hook = if random.below(2) == 0 { Hook::Rx } else { Hook::Tx };
            both.run(&given(&frame, hook, now));
        }
        both.agree().unwrap_or_else(|why| panic!("round {round}: {why}"));
    }
    let seen = Both::got(&mut *both.native).3.handshakes;
    let some = |what: fn(&Handshakes) -> u64| seen.values().any(|n| what(n) > 0);
    assert!(some(|n| n.timed) && some(|n| n.retries) && some(|n| n.unanswered));
}

#[test]
fn fragments() {
    let mut both = Both::new(small());
    let mut random = Random(0x6672_6167);
    for round in 0..200 {
        both.clear();
        for _ in 0..200 {
            let mut one = given(&flow(&mut random, 20), Hook::Rx, 0);
            if one.bytes[12] == 0x08 {
                // IPv4: one of a few identifications, first, in the middle, last, or whole
                one.bytes[19] = random.below(4) as u8;
                let piece = [0x2000u16, 0x2010, 0x0020, 0][random.below(4)];
                one.bytes[20..22].copy_from_slice(&piece.to_be_bytes());
            }
            both.run(&one);
        }
        both.agree().unwrap_or_else(|why| panic!("round {round}: {why}"));
    }
    assert!(Both::got(&mut *both.native).0.fragments[0].packets > 0, "no fragment found its row");
}

#[test]
fn rows_that_age_by_the_clock_of_a_capture() {
    let mut both = Both::new(small());
    let mut random = Random(0x61_6765);
    let mut gone = 0;
    for now in (0..600_000).step_by(100) {
        both.run(&given(&flow(&mut random, 400), Hook::Rx, now));
        if now % 5000 == 0 {
            let n = [&mut both.native, &mut both.kernel]
                .map(|judge| judge.age(now, Duration::from_secs(60)).expect("rows age"));
            assert_eq!(n[0], n[1], "at {now}");
            gone += n[0];
            both.agree().unwrap_or_else(|why| panic!("at {now}: {why}"));
        }
    }
    assert!(gone > 100, "{gone} rows have aged");
    assert!(Both::got(&mut *both.native).1.iter().any(|f| f.key.is_aged()));
}
