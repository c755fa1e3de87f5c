// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parser, in the kernel: every row of the table goes through the loaded BPF object with
//! BPF_PROG_TEST_RUN. Needs root (CAP_BPF, CAP_NET_ADMIN); without it these tests fail and say so.
//!
//! In addition to its own result, every row must have two properties: the books close, and each
//! truncation of the frame gives the same result or is reported as truncated, never another flow.
//! `TMON_MUTATIONS=n` sets how many random mutations are tried (1,000,000), `TMON_SEED=n` which.
//! `TMON_TABLE_PCAP=file` makes `the_builder_agrees_with_tshark` leave the table there as a
//! capture.
#![allow(clippy::print_stdout, clippy::print_stderr)] // its output is its report
#![cfg(feature = "live")]
use std::{
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
};

use model::{
    flow::{Books, Count, Flow, Hook, Inner, InnerProto, Key, Kind, Stop, Tunnel},
    rows::Rows,
};
use testkit::{cpu, frames, mutations, table};
use tmon::kernel::bpf::{Config, L2tp, LinkStart, Packet, Port, Program};

use frames::{Gre, ends, pkt};
use mutations::{Random, mutate};
use table::{Answer, Begin, Case, I4, I6, Inside, O4, O6, Want, cases, deep, reason, tunnel};

/// The program's return value on every path: TC_ACT_UNSPEC, so that others decide about the packet.
const UNSPEC: i32 = -1;

/// One loaded object for each way of starting.
struct Bench {
    ethernet: Program,
    layer3: Program,
}

fn load(config: Config) -> Program {
    Program::load(&config).unwrap_or_else(|e| {
        panic!(
            "cannot load the BPF object; this test needs root (CAP_BPF and CAP_NET_ADMIN): {e:#}"
        )
    })
}

impl Bench {
    fn new() -> Self {
        let config = || Config { rows: 64, replay: true, ..Config::default() };
        Bench { ethernet: load(config()), layer3: load(Config { l3: true, ..config() }) }
    }

    fn program(&self, begin: Begin) -> &Program {
        match begin {
            Begin::Ethernet => &self.ethernet,
            Begin::Ip | Begin::EtherType(_) => &self.layer3,
        }
    }
}

fn packet<'a>(case: &Case, data: &'a [u8], wire_len: usize) -> Packet<'a> {
    let start = match case.begin {
        Begin::Ethernet => LinkStart::Ethernet,
        Begin::Ip => LinkStart::Ip,
        Begin::EtherType(t) => LinkStart::EtherType(t),
    };
    let (gso_segs, gso_size) = case.gso.unwrap_or((0, 0));
    Packet { data, wire_len: wire_len as u32, start, link_len: 0, gso_segs, gso_size, time: 0 }
}

/// Where one packet went.
#[derive(Clone, Debug, PartialEq)]
enum Got {
    /// A row, and the packet's direction in it (0: first to second).
    Row(Key, usize),
    Stop(Stop),
    Suspect,
}

/// Empties the tables, runs one packet and returns where it went, or how the books do not close.
fn run(program: &Program, hook: Hook, packet: &Packet, count: Count) -> Result<Got, String> {
    program.clear().map_err(|e| format!("clear: {e:#}"))?;
    match program.run(hook, packet) {
        Ok(UNSPEC) => {}
        Ok(other) => return Err(format!("the program returned {other}")),
        Err(e) => return Err(format!("the run failed: {e:#}")),
    }
    settle(&read(program)?, hook, count)
}

fn read(program: &Program) -> Result<(Books, Vec<Flow>), String> {
    let books = program.books().map_err(|e| format!("books: {e:#}"))?;
    let mut rows = Rows::default();
    program.rows(0, &mut rows).map_err(|e| format!("rows: {e:#}"))?;
    Ok((books, rows.merged()))
}

/// Asserts that one packet of this count is in exactly one place.
fn settle((books, flows): &(Books, Vec<Flow>), hook: Hook, count: Count) -> Result<Got, String> {
    let mut want = [Count::default(); 2];
    want[hook as usize] = count;
    let broken = |what: &str| {
        Err(format!("{what}: {} at {hook:?}; {}", tell_count(&count), tell_tables(books, flows)))
    };
    if books.seen() != want {
        return broken("the books do not have it once");
    }
    let hidden = Stop::ALL.iter().find(|s| books.stop(**s) == want);
    match (hidden, &flows[..]) {
        (Some(stop), []) => match books.suspect == want {
            false if books.suspect == <[Count; 2]>::default() => Ok(Got::Stop(*stop)),
            true if *stop == Stop::Plain => Ok(Got::Suspect),
            _ => broken("suspect is not right"),
        },
        (None, [flow]) if books.counted == want => {
            let cells = flow.counters.cells[hook as usize];
            let direction = usize::from(cells[0].is_zero());
            if cells[direction] != count || flow.counters.total() != count {
                return broken("the row's counters are not the packet");
            }
            if books.suspect != <[Count; 2]>::default() {
                return broken("counted, and suspect");
            }
            Ok(Got::Row(flow.key, direction))
        }
        _ => broken("it is not in exactly one place"),
    }
}

fn right(want: &Want, got: &Got) -> bool {
    match (want, got) {
        (Want::Suspect, Got::Suspect) => true,
        (Want::Stop(s), Got::Stop(g)) => s == g,
        (Want::Row(answer), Got::Row(key, direction)) => {
            let (mut want, way) = answer.row();
            if answer.inside == Inside::Null && matches!(key.inner, Inner::Proto(_)) {
                want.inner = key.inner;
            }
            (want, way) == (*key, *direction)
        }
        _ => false,
    }
}

/// What a frame counts as: its segments, each with all headers.
fn count(case: &Case, wire_len: usize) -> Count {
    let segments = case.gso.map_or(1, |g| u64::from(g.0).max(1));
    let headers = if segments > 1 { case.frame.headers() as u64 } else { 0 };
    Count { packets: segments, bytes: wire_len as u64 + (segments - 1) * headers }
}

/// Everything that went wrong, shown at the end; the first few in full.
#[derive(Default)]
struct Report {
    text: String,
    failures: usize,
    checks: usize,
}

impl Report {
    const SHOWN: usize = 25;

    fn fail(&mut self, name: &str, frame: &[u8], want: &str, got: &str) {
        self.failures += 1;
        if self.failures <= Self::SHOWN {
            let _ =
                write!(self.text, "\n{name}\n{}  expected {want}\n  got      {got}\n", dump(frame));
        } else {
            let _ = writeln!(self.text, "also: {name}");
        }
    }

    fn end(self, what: &str) {
        assert_eq!(
            self.failures, 0,
            "{what}: {} of {} failed\n{}",
            self.failures, self.checks, self.text
        );
        println!("{what}: {} checks", self.checks);
        assert!(self.checks > 0, "{what}: nothing was checked");
    }
}

/// Offsets and bytes, as `text2pcap` reads them.
fn dump(frame: &[u8]) -> String {
    let mut text = String::new();
    for (i, line) in frame.chunks(16).enumerate() {
        if i == 16 {
            let _ = writeln!(text, "  ....  {} bytes in all", frame.len());
            break;
        }
        let bytes: Vec<String> = line.iter().map(|b| format!("{b:02x}")).collect();
        let _ = writeln!(text, "  {:04x}  {}", i * 16, bytes.join(" "));
    }
    text
}

fn tell(t: &Tunnel) -> String {
    t.id.map_or_else(|| t.kind.to_string(), |id| format!("{} {id}", t.kind))
}

fn tell_key(key: &Key, direction: usize) -> String {
    let pair = |p: &model::flow::Pair| format!("{} <> {}", p.first, p.second);
    format!(
        "row [{}{}] depth {} outer {} inner {} {}{}",
        tell(&key.outermost),
        key.innermost.map_or(String::new(), |t| format!(" .. {}", tell(&t))),
        key.depth,
        key.outer.as_ref().map_or("none".to_owned(), pair),
        key.inner.pair().as_ref().map_or_else(|| key.inner.proto(), pair),
        ["fwd", "rev"][direction],
        if key.other { " other" } else { "" },
    )
}

fn tell_count(c: &Count) -> String {
    format!("{} packets {} bytes", c.packets, c.bytes)
}

fn tell_cells(cells: &[[Count; 2]; 2]) -> String {
    let cell = |hook: usize, direction: usize| {
        format!(
            "{}/{} {}",
            ["rx", "tx"][hook],
            ["fwd", "rev"][direction],
            tell_count(&cells[hook][direction])
        )
    };
    let places =
        [(0, 0), (0, 1), (1, 0), (1, 1)].into_iter().filter(|(h, d)| !cells[*h][*d].is_zero());
    places.map(|(h, d)| cell(h, d)).collect::<Vec<_>>().join(", ")
}

/// Everything that is not zero.
fn tell_tables(books: &Books, flows: &[Flow]) -> String {
    let mut text = String::from("books");
    let stops = Stop::ALL.iter().map(|s| (s.name(), books.stop(*s)));
    for (name, both) in
        [("counted", books.counted), ("suspect", books.suspect)].into_iter().chain(stops)
    {
        for (hook, c) in ["rx", "tx"].iter().zip(&both).filter(|(_, c)| !c.is_zero()) {
            let _ = write!(text, ", {name} {hook} {}", tell_count(c));
        }
    }
    for f in flows {
        let _ =
            write!(text, "\n           {}: {}", tell_key(&f.key, 0), tell_cells(&f.counters.cells));
    }
    text
}

fn tell_want(want: &Want) -> String {
    match want {
        Want::Row(a) => {
            let (key, direction) = a.row();
            let any = if a.inside == Inside::Null { " (any inner_proto)" } else { "" };
            tell_key(&key, direction) + any
        }
        Want::Stop(s) => format!("stop {}", s.name()),
        Want::Suspect => "stop plain, suspect".to_owned(),
    }
}

fn tell_got(got: &Result<Got, String>) -> String {
    match got {
        Ok(Got::Row(key, direction)) => tell_key(key, *direction),
        Ok(Got::Stop(s)) => format!("stop {}", s.name()),
        Ok(Got::Suspect) => "stop plain, suspect".to_owned(),
        Err(e) => e.clone(),
    }
}

#[test]
fn every_frame_has_the_result_in_the_table() {
    let bench = Bench::new();
    let mut report = Report::default();
    for case in cases() {
        let bytes = case.frame.bytes();
        for hook in [Hook::Rx, Hook::Tx] {
            report.checks += 1;
            let got = run(
                bench.program(case.begin),
                hook,
                &packet(&case, &bytes, bytes.len()),
                count(&case, bytes.len()),
            );
            if !got.as_ref().is_ok_and(|g| right(&case.want, g)) {
                report.fail(&case.name, &bytes, &tell_want(&case.want), &tell_got(&got));
                break;
            }
        }
    }
    report.end("table");
}

/// A conversation, seen at an end host: one direction arrives, the other leaves. And seen at a
/// mirror port: both arrive.
#[test]
fn both_directions_are_one_row() {
    let bench = Bench::new();
    let mut report = Report::default();
    for case in cases() {
        let Want::Row(answer) = &case.want else { continue };
        let inside = match answer.inside {
            Inside::Ends((a, b)) => Inside::Ends((b, a)),
            other => other,
        };
        let back = Answer { outer: (answer.outer.1, answer.outer.0), inside, ..answer.clone() };
        let ((key, there), (back_key, here)) = (answer.row(), back.row());
        assert_eq!(key, back_key, "{}: the table's own order", case.name);
        let program = bench.program(case.begin);
        let (bytes, reversed) = (case.frame.bytes(), case.frame.reversed().bytes());
        let c = count(&case, bytes.len());
        for (hook, other_hook) in [(Hook::Rx, Hook::Tx), (Hook::Tx, Hook::Rx), (Hook::Rx, Hook::Rx)]
        {
            report.checks += 1;
            let result = (|| {
                program.clear().map_err(|e| format!("{e:#}"))?;
                program
                    .run(hook, &packet(&case, &bytes, bytes.len()))
                    .map_err(|e| format!("{e:#}"))?;
                program
                    .run(other_hook, &packet(&case, &reversed, reversed.len()))
                    .map_err(|e| format!("{e:#}"))?;
                read(program)
            })();
            let mut cells = [[Count::default(); 2]; 2];
            cells[hook as usize][there] += c;
            cells[other_hook as usize][here] += c;
            let ok = matches!(&result, Ok((_, flows)) if flows.len() == 1 && flows[0].counters.cells == cells);
            if !ok {
                let got = result.map_or_else(|e| e, |(books, flows)| tell_tables(&books, &flows));
                report.fail(
                    &case.name,
                    &reversed,
                    &format!("one row with {}", tell_cells(&cells)),
                    &got,
                );
                break;
            }
        }
    }
    report.end("both directions");
}

/// Whether a shorter prefix of the frame may have this result. `short`: the packet itself is that
/// short, so that its length fields are wrong; otherwise only the capture was truncated and the
/// original length is known.
fn prefix_may(want: &Want, got: &Got, short: bool) -> bool {
    // a label stack with nothing after it has no IP
    let cut = |g: &Got| {
        matches!(g, Got::Stop(Stop::Truncated))
            || short && matches!(g, Got::Stop(Stop::Malformed | Stop::NonIp))
    };
    match want {
        _ if right(want, got) || cut(got) => true,
        Want::Row(answer) => {
            let Got::Row(key, direction) = got else { return false };
            let prefixes = (1..=answer.tunnels.len())
                .map(|n| Answer { tunnels: answer.tunnels[..n].to_vec(), ..answer.clone() });
            // a tunnel header with nothing after it carries nothing
            let reasons =
                if short { &["truncated", "malformed", "none"][..] } else { &["truncated"] };
            prefixes
                .flat_map(|a| {
                    reasons.iter().map(move |r| Answer { inside: reason(r), ..a.clone() })
                })
                .any(|a| a.row() == (*key, *direction))
        }
        Want::Stop(_) | Want::Suspect => false,
    }
}

/// Runs every prefix of a frame and checks the sum of their results: one reading per frame. Returns
/// true if each result is allowed and no more prefixes than `recognised` were in none.
fn sweep(program: &Program, case: &Case, bytes: &[u8], short: bool) -> Result<bool, String> {
    let text = |e: anyhow::Error| format!("{e:#}");
    program.clear().map_err(text)?;
    let mut sent = Count::default();
    for n in usize::from(short)..bytes.len() {
        let wire_len = if short { n } else { bytes.len() };
        program.run(Hook::Rx, &packet(case, &bytes[..n], wire_len)).map_err(text)?;
        sent += count(case, wire_len);
    }
    let (books, flows) = read(program)?;
    let in_rows = flows.iter().map(|f| f.counters.total()).sum::<Count>();
    let in_stops = sent.packets - books.counted[0].packets;
    let got_rows = flows.iter().flat_map(|f| {
        [0, 1]
            .into_iter()
            .filter(|d| !f.counters.cells[0][*d].is_zero())
            .map(|d| Got::Row(f.key, d))
    });
    let got_stops =
        Stop::ALL.into_iter().filter(|s| !books.stop(*s)[0].is_zero()).map(|s| match s {
            Stop::Plain if books.suspect[0] == books.stop(s)[0] => Got::Suspect,
            _ => Got::Stop(s),
        });
    let allowed = got_rows.chain(got_stops).all(|g| prefix_may(&case.want, &g, short));
    Ok(allowed
        && books.seen() == [sent, Count::default()]
        && in_rows == books.counted[0]
        && in_stops <= case.recognised as u64)
}

/// Finds the first prefix of a frame with a wrong result, one by one.
fn blame(
    program: &Program,
    case: &Case,
    bytes: &[u8],
    short: bool,
) -> (usize, Result<Got, String>) {
    let mut depth = 0;
    for n in usize::from(short)..bytes.len() {
        let wire_len = if short { n } else { bytes.len() };
        let got =
            run(program, Hook::Rx, &packet(case, &bytes[..n], wire_len), count(case, wire_len));
        let now = match &got {
            Ok(Got::Row(key, _)) => key.depth,
            _ => 0,
        };
        // what was recognised stays recognised when more of the frame is available
        let fine = got.as_ref().is_ok_and(|g| prefix_may(&case.want, g, short))
            && now >= depth
            && (n < case.recognised || now > 0);
        if !fine {
            return (n, got);
        }
        depth = now;
    }
    (0, Err("each piece alone is where it may be, together they are not".to_owned()))
}

#[test]
fn no_prefix_of_a_frame_is_another_flow() {
    let bench = Bench::new();
    let mut report = Report::default();
    for case in cases().iter().filter(|c| c.gso.is_none()) {
        let bytes = case.frame.bytes();
        let program = bench.program(case.begin);
        for short in [false, true] {
            // the fault of a false friend may be in a length that is cut off here
            if short && case.want == Want::Suspect {
                continue;
            }
            report.checks += bytes.len() - usize::from(short);
            let together = sweep(program, case, &bytes, short);
            if together != Ok(true) {
                let (n, got) = match together {
                    Err(e) => (0, Err(e)),
                    Ok(_) => blame(program, case, &bytes, short),
                };
                let what = if short { "a packet of" } else { "captured" };
                let from = if case.recognised < bytes.len() {
                    format!(", a row from byte {} on", case.recognised)
                } else {
                    String::new()
                };
                let want = format!("{}, or truncated{from}", tell_want(&case.want));
                report.fail(
                    &format!("{}: {what} {n} of {} bytes", case.name, bytes.len()),
                    &bytes,
                    &want,
                    &tell_got(&got),
                );
            }
        }
    }
    report.end("prefixes");
}

#[test]
fn mutations_never_break_the_books() {
    let total: usize = std::env::var("TMON_MUTATIONS")
        .map_or(1_000_000, |n| n.parse().expect("TMON_MUTATIONS is a number"));
    let bench = Bench::new();
    let table = cases();
    let each = total.div_ceil(table.len());
    let mut random = Random(
        std::env::var("TMON_SEED")
            .map_or(0x746d_6f6e, |n| n.parse().expect("TMON_SEED is a number")),
    );
    let mut ran = 0;
    for case in &table {
        let program = bench.program(case.begin);
        let bytes = case.frame.bytes();
        program.clear().expect("clear");
        let mut seen = [Count::default(); 2];
        let mut last = Vec::new();
        for _ in 0..each.min(total - ran) {
            let mut frame = bytes.clone();
            mutate(&mut frame, &mut random);
            // one in four was truncated by the capture: longer on the wire than what is there
            let wire_len = frame.len() + if random.below(4) == 0 { random.below(1500) } else { 0 };
            let hook = if random.below(2) == 0 { Hook::Rx } else { Hook::Tx };
            let p = Packet { gso_segs: 0, gso_size: 0, ..packet(case, &frame, wire_len) };
            let returned = program
                .run(hook, &p)
                .unwrap_or_else(|e| panic!("{}: {e:#}\n{}", case.name, dump(&frame)));
            assert_eq!(returned, UNSPEC, "{}\n{}", case.name, dump(&frame));
            seen[hook as usize] += Count { packets: 1, bytes: wire_len as u64 };
            ran += 1;
            last = frame;
        }
        let (books, flows) = read(program).expect("tables");
        let counted = [Hook::Rx, Hook::Tx].map(|h| {
            flows
                .iter()
                .map(|f| f.counters.cells[h as usize][0] + f.counters.cells[h as usize][1])
                .sum::<Count>()
        });
        let name = &case.name;
        assert_eq!(
            books.seen(),
            seen,
            "{name}: the books miss something; the last of the mutations:\n{}",
            dump(&last)
        );
        assert_eq!(
            counted,
            books.counted,
            "{name}: rows and books differ; the last of the mutations:\n{}",
            dump(&last)
        );
        for f in &flows {
            let known = |t: &Tunnel| t.kind.name().is_some() && t.kind != Kind::None;
            let sane = f.key.other
                || (1..=4).contains(&f.key.depth)
                    && known(&f.key.outermost)
                    && f.key.innermost.as_ref().is_none_or(known)
                    && f.key.outer.is_some();
            assert!(sane, "{name}: a row that cannot be: {}", tell_key(&f.key, 0));
        }
    }
    println!("mutations: {ran} over {} rows of the table", table.len());
    assert!(ran >= total);
}

/// How many random frames a test tries in addition to the mutations.
fn tries() -> usize {
    std::env::var("TMON_MUTATIONS").map_or(1_000_000, |n| n.parse().expect("a number")) / 10
}

/// Once a tunnel's header has been recognised the packet is in that tunnel's row, with the right
/// host and id, whatever is inside: never in a stop, in the overflow row or in another tunnel's.
#[test]
fn any_inner_packet_counts_in_its_tunnels_row() {
    let bench = Bench::new();
    let mut random = Random(13);
    let mut report = Report::default();
    let mut check = |name: &str, bytes: &[u8], n: usize, ends: frames::Ends, t: Tunnel| {
        report.checks += 1;
        let hook = if report.checks % 2 == 0 { Hook::Rx } else { Hook::Tx };
        let wire_len = bytes.len();
        let p = Packet { wire_len: wire_len as u32, ..Packet::ethernet(&bytes[..n]) };
        let c = Count { packets: 1, bytes: wire_len as u64 };
        let got = run(&bench.ethernet, hook, &p, c);
        let ok = matches!(&got, Ok(Got::Row(key, _)) if key.outermost == t && !key.other
            && key.outer.is_some_and(|p| [(p.first, p.second), (p.second, p.first)].contains(&ends)));
        if !ok {
            report.fail(name, &bytes[..n], &format!("a row of {}", tell(&t)), &tell_got(&got));
        }
    };
    for n in 0..tries() {
        let (frame, ends, t) = deep(&mut |n| random.below(n));
        let bytes = frame.bytes();
        check(&format!("deep {n}"), &bytes, bytes.len(), ends, t);
    }
    let table = cases();
    let known: Vec<(&Case, &Answer)> = table
        .iter()
        .filter_map(|c| match &c.want {
            Want::Row(a) if c.recognised < c.frame.bytes().len() => Some((c, a)),
            _ => None,
        })
        .collect();
    for _ in 0..tries().div_ceil(known.len()) {
        for (case, answer) in &known {
            // the inside is damaged, then truncated somewhere by the capture
            let mut bytes = case.frame.bytes();
            let mut inside = bytes.split_off(case.recognised);
            let len = inside.len();
            mutate(&mut inside, &mut random);
            inside.resize(len, 0);
            bytes.extend(inside);
            let n = case.recognised + random.below(2 * len);
            check(&case.name, &bytes, n.min(bytes.len()), answer.outer, answer.tunnels[0]);
        }
    }
    report.end("insides");
}

/// RFC 8200, section 4.5: the next header of later fragments may differ from that of the first.
#[test]
fn ip6_fragments_may_name_other_next_headers() {
    let program = load(Config { rows: 256, replay: true, ..Config::default() });
    let frame = pkt().eth().ip(O6).udp(54321, 4789).vxlan(7).eth().ip(I4).udp(5, 6).data(600);
    let parts: Vec<Vec<u8>> = frame.fragments(0, 200, 77).iter().map(|f| f.bytes()).collect();
    for (i, part) in parts.iter().enumerate() {
        let mut part = part.clone();
        if i > 0 {
            part[14 + 40] = 60; // the fragment header's next header
        }
        program.run(Hook::Rx, &Packet::ethernet(&part)).expect("run");
    }
    assert_eq!(only_row(&program).counters.total().packets, parts.len() as u64);
    assert_eq!(program.books().expect("books").stop(Stop::Fragment)[0], Count::default());
}

/// Offsets and lengths are 32 bits wide: even the longest frame that a capture can describe is
/// read.
#[test]
fn the_longest_frame_is_read() {
    let program = load(Config { rows: 256, replay: true, l3: true, ..Config::default() });
    for o in [O4, O6] {
        let bytes = pkt().ip(o).udp(54321, 4789).vxlan(42).eth().ip(I4).tcp().bytes();
        for wire_len in [u32::MAX, u32::MAX - 13, u32::MAX - 14, 1 << 31, (1 << 31) - 1] {
            let p = Packet { wire_len, start: LinkStart::Ip, ..Packet::ethernet(&bytes) };
            let got = run(&program, Hook::Rx, &p, Count { packets: 1, bytes: u64::from(wire_len) });
            let answer = Answer {
                outer: ends(o),
                tunnels: vec![tunnel(Kind::Vxlan, 42)],
                inside: I4.into(),
            };
            assert!(
                got.as_ref().is_ok_and(|g| right(&Want::Row(answer), g)),
                "{o}, {wire_len}: {}",
                tell_got(&got)
            );
        }
    }
}

/// EtherTypes that are unknown as tags until they are configured.
#[test]
fn tag_types_are_settable() {
    let tpids = vec![0x9200, 0x9300, 0x88b7, 0x0600];
    let program = load(Config { rows: 256, replay: true, tpids, ..Config::default() });
    let default = load(Config { rows: 256, replay: true, ..Config::default() });
    let inner = || pkt().ip(O4).udp(54321, 4789).vxlan(7).eth().ip(I4).tcp();
    let answer =
        Answer { outer: ends(O4), tunnels: vec![tunnel(Kind::Vxlan, 7)], inside: I4.into() };
    for frame in [
        pkt().eth().tag(0x9200, 5).then(inner()),
        pkt().eth().vlan(4).tag(0x9300, 5).vlan(6).then(inner()),
        pkt().eth().tag(0x88b7, 5).tag(0x0600, 5).then(inner()),
    ] {
        let bytes = frame.bytes();
        let c = Count { packets: 1, bytes: bytes.len() as u64 };
        let got = run(&program, Hook::Rx, &Packet::ethernet(&bytes), c);
        assert!(
            got.as_ref().is_ok_and(|g| right(&Want::Row(answer.clone()), g)),
            "{}",
            tell_got(&got)
        );
        let got = run(&default, Hook::Rx, &Packet::ethernet(&bytes), c);
        assert_eq!(got, Ok(Got::Stop(Stop::NonIp)), "unasked");
    }
    let five = Config { tpids: vec![0x9200; 5], ..Config::default() };
    assert!(Program::load(&five).is_err(), "there is room for four");
}

/// The fast path and the states, one loaded object each for every way of starting.
struct BothWays {
    quick: Bench,
    states: Bench,
}

impl BothWays {
    fn new() -> Self {
        cpu::stay();
        let config = |states, l3| {
            let seed = Some([0x9e37_79b9_7f4a_7c15; 12]);
            load(Config { rows: 64, replay: true, states, l3, seed, ..Config::default() })
        };
        let bench =
            |states| Bench { ethernet: config(states, false), layer3: config(states, true) };
        BothWays { quick: bench(false), states: bench(true) }
    }

    /// Runs these packets both ways, from empty tables. Returns where they went, or how the results
    /// differ.
    fn run(&self, begin: Begin, packets: &[(Hook, Packet)]) -> Result<(Books, Vec<Flow>), String> {
        let [quick, states] = [&self.quick, &self.states].map(|bench| {
            let program = bench.program(begin);
            program.clear().expect("clear");
            for (hook, p) in packets {
                assert_eq!(program.run(*hook, p).expect("run"), UNSPEC);
            }
            let (books, mut flows) = read(program).expect("tables");
            flows.sort_by_key(|f| format!("{:?}", f.key));
            (books, flows)
        });
        if quick == states {
            return Ok(quick);
        }
        Err(format!(
            "fast path: {}\n           states: {}",
            tell_tables(&quick.0, &quick.1),
            tell_tables(&states.0, &states.1)
        ))
    }

    /// The same with many packets at once; a difference is reported by the first packet that
    /// differs.
    fn compare(&self, name: &str, begin: Begin, packets: &[(Hook, Packet)], report: &mut Report) {
        report.checks += packets.len();
        let Err(all) = self.run(begin, packets) else { return };
        for packet in packets {
            if let Err(got) = self.run(begin, &[*packet]) {
                let what =
                    format!("{name}: {} bytes of {}", packet.1.data.len(), packet.1.wire_len);
                return report.fail(&what, packet.1.data, "the same both ways", &got);
            }
        }
        report.fail(&format!("{name}: together"), &[], "the same both ways", &all);
    }
}

/// Whatever the fast path reads, the states read as well: same row, same stop, same bytes, for every
/// row of the table, its prefixes and its mutations.
#[test]
fn the_fast_path_and_the_states_agree() {
    let both = BothWays::new();
    let mut report = Report::default();
    let table = cases();
    let mut random = Random(17);
    let each = (tries() * 10).div_ceil(table.len());
    for case in &table {
        let bytes = case.frame.bytes();
        let whole = packet(case, &bytes, bytes.len());
        let mut packets = vec![(Hook::Rx, whole), (Hook::Tx, whole)];
        for n in 0..bytes.len() {
            packets.push((Hook::Rx, packet(case, &bytes[..n], bytes.len())));
            packets.push((Hook::Rx, packet(case, &bytes[..n], n)));
        }
        let mutations: Vec<(Hook, Vec<u8>, usize)> = (0..each)
            .map(|_| {
                let mut frame = bytes.clone();
                mutate(&mut frame, &mut random);
                let cut = if random.below(4) == 0 { random.below(1500) } else { 0 };
                let hook = if random.below(2) == 0 { Hook::Rx } else { Hook::Tx };
                (hook, frame, cut)
            })
            .collect();
        packets.extend(mutations.iter().map(|(hook, frame, cut)| {
            let p = packet(case, frame, frame.len() + cut);
            (*hook, Packet { gso_segs: 0, gso_size: 0, ..p })
        }));
        both.compare(&case.name, case.begin, &packets, &mut report);
    }
    for n in 0..tries() / 10 {
        let bytes = deep(&mut |n| random.below(n)).0.bytes();
        let packets = [(Hook::Rx, Packet::ethernet(&bytes))];
        both.compare(&format!("deep {n}"), Begin::Ethernet, &packets, &mut report);
    }
    report.end("both ways");
}

/// The same for packets that others captured, where the captures are (see corpus.rs).
#[test]
fn the_fast_path_and_the_states_agree_on_captures() {
    let folder = std::env::var_os("TMON_CORPUS").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"),
        std::path::PathBuf::from,
    );
    let Ok(files) = std::fs::read_dir(folder.join("pcaps")) else {
        return println!("both ways: no captures in {}", folder.display());
    };
    let both = BothWays::new();
    let mut report = Report::default();
    for path in files.map(|f| f.expect("a folder of captures").path()) {
        let file = std::fs::read(&path).expect("a capture");
        let word = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().expect("four bytes"));
        let (start, begin) = match (word(0), word(20)) {
            (0xa1b2_c3d4 | 0xa1b2_3c4d, 1) => (LinkStart::Ethernet, Begin::Ethernet),
            (0xa1b2_c3d4 | 0xa1b2_3c4d, 12 | 14 | 101 | 228 | 229) => (LinkStart::Ip, Begin::Ip),
            _ => continue,
        };
        let mut packets = Vec::new();
        let mut at = 24;
        while at + 16 <= file.len() {
            let (caught, wire_len) = (word(at + 8) as usize, word(at + 12));
            let data = &file[at + 16..at + 16 + caught];
            packets.push((Hook::Rx, Packet { wire_len, start, ..Packet::ethernet(data) }));
            at += 16 + caught;
        }
        both.compare(&path.display().to_string(), begin, &packets, &mut report);
    }
    report.end("both ways, captures");
}

/// A row's packets, bytes, by key.
fn only_row(program: &Program) -> Flow {
    let (_, flows) = read(program).expect("tables");
    assert_eq!(flows.len(), 1, "{flows:#?}");
    flows[0]
}

#[test]
fn later_fragments_go_to_the_row_of_the_first() {
    let program = load(Config { rows: 256, replay: true, ..Config::default() });
    let vxlan =
        |o: &str| pkt().eth().ip(o).udp(54321, 4789).vxlan(7).eth().ip(I4).udp(5, 6).data(600);
    let gre = |o: &str| pkt().eth().ip(o).gre(Gre::default()).ip(I6).tcp().data(600);
    let tagged = pkt().eth().vlan(3).ip(O4).udp(54321, 4789).vxlan(7).eth().ip(I4).tcp().data(600);
    let frames = [
        ("vxlan", vxlan(O4)),
        ("vxlan over ip6", vxlan(O6)),
        ("gre", gre(O4)),
        ("gre over ip6", gre(O6)),
        ("behind a tag", tagged),
    ];
    for (id, (name, frame)) in (0x1234..).step_by(2).zip(frames) {
        let parts: Vec<Vec<u8>> = frame.fragments(0, 200, id).iter().map(|f| f.bytes()).collect();
        assert!(parts.len() > 2, "{name}: {} fragments", parts.len());
        let run = |p: &[u8]| program.run(Hook::Rx, &Packet::ethernet(p)).expect("run");
        let bytes = |parts: &[Vec<u8>]| Count {
            packets: parts.len() as u64,
            bytes: parts.iter().map(|p| p.len() as u64).sum(),
        };

        program.clear().expect("clear");
        run(&parts[1]);
        assert_eq!(
            program.books().expect("books").stop(Stop::Fragment)[0],
            bytes(&parts[1..2]),
            "{name}: a later fragment alone"
        );

        run(&parts[0]);
        let first = only_row(&program);
        assert_eq!(first.counters.total(), bytes(&parts[..1]), "{name}: the first fragment");
        assert!(
            first.key.inner.pair().is_some(),
            "{name}: the first fragment is read like a whole packet"
        );
        for p in &parts[1..] {
            run(p);
        }
        let all = only_row(&program);
        assert_eq!(
            (all.key, all.counters.rx()),
            (first.key, bytes(&parts)),
            "{name}: the later fragments"
        );
        assert_eq!(all.counters.fwd(), all.counters.total(), "{name}: and their direction");
        assert_eq!(
            all.counters.fragments, all.counters.cells,
            "{name}: all of the row is fragments"
        );
        run(&frame.bytes());
        let more = only_row(&program);
        assert_eq!(
            more.counters.total().packets,
            parts.len() as u64 + 1,
            "{name}: a whole packet is in the same row"
        );
        assert_eq!(
            more.counters.fragments, all.counters.fragments,
            "{name}: and is not a fragment"
        );
        assert_eq!(
            program.books().expect("books").fragments,
            [bytes(&parts), Count::default()],
            "{name}: as in the books"
        );

        // another datagram, another protocol, another sender: not this row
        for stranger in [frame.fragments(0, 200, id + 1), frame.reversed().fragments(0, 200, id)] {
            program.clear().expect("clear");
            run(&parts[0]);
            let p = stranger[1].bytes();
            run(&p);
            assert_eq!(only_row(&program).counters.total(), bytes(&parts[..1]), "{name}");
            assert_eq!(
                program.books().expect("books").stop(Stop::Fragment)[0],
                Count { packets: 1, bytes: p.len() as u64 },
                "{name}"
            );
        }
    }
}

/// An inner packet that is shorter than its carrier ends in the first fragment of that. It is read
/// like a whole one, but it is still a fragment, and the later ones belong to its row, even if the
/// row existed before.
#[test]
fn a_first_fragment_with_the_whole_inner_packet_is_a_fragment() {
    let program = load(Config { rows: 256, replay: true, ..Config::default() });
    let frame = pkt().eth().ip(O4).udp(54321, 4789).vxlan(7).eth().ip(I4).udp(5, 6).data(600);
    let short = |mut bytes: Vec<u8>| {
        let length = 14 + 20 + 8 + 8 + 14 + 2;
        bytes[length..length + 2].copy_from_slice(&40u16.to_be_bytes());
        bytes
    };
    let mut parts: Vec<Vec<u8>> =
        frame.fragments(0, 200, 0x4321).iter().map(|f| f.bytes()).collect();
    parts[0] = short(std::mem::take(&mut parts[0]));
    let run = |p: &[u8]| program.run(Hook::Rx, &Packet::ethernet(p)).expect("run");
    run(&short(frame.bytes()));
    for p in &parts {
        run(p);
    }
    let row = only_row(&program);
    assert_eq!(row.counters.total().packets, 1 + parts.len() as u64);
    let fragments: Count = row.counters.fragments.iter().flatten().copied().sum();
    assert_eq!(fragments.packets, parts.len() as u64);
    assert_eq!(program.books().expect("books").stop(Stop::Fragment)[0], Count::default());
}

/// The end that a header declares on the fast path is as binding as any other's.
#[test]
fn headers_past_a_declared_end_are_malformed() {
    let program = load(Config { rows: 256, replay: true, ..Config::default() });
    for sequence in [false, true] {
        program.clear().expect("clear");
        // A jumbo length outside declares nothing; the tunnel's own IPv4 header does.
        let gre = Gre { sequence: sequence.then_some(1), ..Gre::default() };
        let mut bytes =
            pkt().eth().ip(O6).ip("10.9.0.1 > 10.9.0.2").gre(gre).ip(I4).udp(5, 6).data(60).bytes();
        bytes[14 + 4..14 + 6].copy_from_slice(&[0, 0]);
        let (header, stump) = (14 + 40, if sequence { 8 } else { 4 } + 10);
        bytes[header + 2..header + 4].copy_from_slice(&(20 + stump as u16).to_be_bytes());
        program.run(Hook::Rx, &Packet::ethernet(&bytes)).expect("run");
        assert_eq!(
            only_row(&program).key.inner,
            Inner::Proto(InnerProto(InnerProto::REASON | 2)),
            "sequence {sequence}"
        );
    }
}

/// IPv4 identifications are reused quickly: a new datagram without a tunnel, with an old one's
/// identification, must not be counted as the old one's.
#[test]
fn a_reused_identification_is_a_new_datagram() {
    let program = load(Config { rows: 256, replay: true, ..Config::default() });
    for o in [O4, O6] {
        program.clear().expect("clear");
        let tunnelled = pkt()
            .eth()
            .ip(o)
            .udp(54321, 4789)
            .vxlan(7)
            .eth()
            .ip(I4)
            .udp(5, 6)
            .data(600)
            .fragments(0, 200, 99);
        let plain = pkt().eth().ip(o).udp(5, 6).data(600).fragments(0, 200, 99);
        for frame in [&tunnelled[0], &plain[0], &plain[1]] {
            program.run(Hook::Rx, &Packet::ethernet(&frame.bytes())).expect("run");
        }
        let first = tunnelled[0].bytes().len() as u64;
        assert_eq!(
            only_row(&program).counters.total(),
            Count { packets: 1, bytes: first },
            "{o}: the tunnel's row has a packet that is not its own"
        );
    }
}

#[test]
fn fragments_of_plain_traffic_are_not_a_tunnel() {
    let program = load(Config { rows: 256, replay: true, ..Config::default() });
    for o in [O4, O6] {
        program.clear().expect("clear");
        let parts = pkt().eth().ip(o).udp(5, 6).data(900).fragments(0, 400, 5);
        for p in &parts {
            program.run(Hook::Tx, &Packet::ethernet(&p.bytes())).expect("run");
        }
        let (books, flows) = read(&program).expect("tables");
        let n = |s: Stop| books.stop(s)[1].packets;
        assert!(flows.is_empty(), "{flows:#?}");
        // the later ones belong to a plain packet, or to an unknown one: both are true
        assert_eq!(n(Stop::Plain) + n(Stop::Fragment), parts.len() as u64);
        assert!(n(Stop::Plain) >= 1);
    }
}

/// What L2TPv3 headers do not contain is given by the parameter of the port or the protocol.
#[test]
fn parameters_give_the_payload_offset_of_l2tpv3() {
    let with = |port, cookie, sublayer| Port {
        l2tp: Some(L2tp { cookie, sublayer }),
        ..Port::of(Kind::L2tpv3, port)
    };
    let program = load(Config {
        rows: 256,
        replay: true,
        ports: vec![with(1701, 8, true), with(5000, 4, false), with(5001, 0, false)],
        l2tpv3: Some(L2tp { cookie: 0, sublayer: true }),
        ..Config::default()
    });
    let inner = || pkt().eth().ip(I4).tcp();
    let ip = || pkt().eth().ip(O4);
    let session = tunnel(Kind::L2tpv3, 77);
    let version2 = ip().udp(1701, 1701).l2tp(1, 2, frames::L2tp::default()).ppp().ip(I4).tcp();
    for (name, frame, want) in [
        ("cookie and sublayer", ip().udp(54321, 1701).l2tpv3(77, 12).then(inner()), session),
        ("the answer", ip().udp(1701, 54321).l2tpv3(77, 12).then(inner()), session),
        ("cookie", ip().udp(54321, 5000).l2tpv3(77, 4).then(inner()), session),
        ("neither", ip().udp(54321, 5001).l2tpv3(77, 0).then(inner()), session),
        ("ip, sublayer", ip().l2tpv3_ip(77, 4).then(inner()), session),
        ("version 2 beside it", version2, tunnel(Kind::L2tp, 2)),
    ] {
        let bytes = frame.bytes();
        let c = Count { packets: 1, bytes: bytes.len() as u64 };
        let answer = Answer { outer: ends(O4), tunnels: vec![want], inside: I4.into() };
        let got = run(&program, Hook::Rx, &Packet::ethernet(&bytes), c);
        assert!(
            got.as_ref().is_ok_and(|g| right(&Want::Row(answer), g)),
            "{name}: {}",
            tell_got(&got)
        );
    }
}

#[test]
fn ports_are_settable() {
    let port = Port::of;
    let fou = Port { fou: true, ..port(Kind::Gue, 5555) };
    let added = vec![
        port(Kind::Vxlan, 5789),
        port(Kind::Vxlan, 5790),
        port(Kind::Geneve, 6082),
        port(Kind::Gtpu, 2153),
        port(Kind::Gue, 9999),
        fou,
    ];
    let program = load(Config { rows: 256, replay: true, ports: added, ..Config::default() });
    let default = load(Config { rows: 256, replay: true, ..Config::default() });
    let inner = || pkt().eth().ip(I4).tcp();
    let to = |port| pkt().eth().ip(O4).udp(54321, port);
    let (gue, gre) = (tunnel(Kind::Gue, None), tunnel(Kind::Gre, None));
    for (port, frame, tunnels) in [
        (5789, to(5789).vxlan(7).then(inner()), vec![tunnel(Kind::Vxlan, 7)]),
        (5790, to(5790).vxlan(7).then(inner()), vec![tunnel(Kind::Vxlan, 7)]),
        (4789, to(4789).vxlan(7).then(inner()), vec![tunnel(Kind::Vxlan, 7)]),
        (6082, to(6082).geneve(7).then(inner()), vec![tunnel(Kind::Geneve, 7)]),
        (2153, to(2153).gtpu(7, frames::Gtp::default()).ip(I4).tcp(), vec![tunnel(Kind::Gtpu, 7)]),
        (9999, to(9999).gue(0).ip(I4).tcp(), vec![gue]),
        (5555, to(5555).ip(I4).tcp(), vec![gue]),
        (5555, to(5555).gre(Gre::default()).ip(I4).tcp(), vec![gue, gre]),
    ] {
        let bytes = frame.bytes();
        let c = Count { packets: 1, bytes: bytes.len() as u64 };
        let answer = Answer { outer: ends(O4), tunnels, inside: I4.into() };
        let got = run(&program, Hook::Rx, &Packet::ethernet(&bytes), c);
        assert!(
            got.as_ref().is_ok_and(|g| right(&Want::Row(answer), g)),
            "port {port}: {}",
            tell_got(&got)
        );
        if port != 4789 {
            let got = run(&default, Hook::Rx, &Packet::ethernet(&bytes), c);
            assert_eq!(got, Ok(Got::Stop(Stop::Plain)), "port {port} unasked");
        }
    }
}

/// A capture's link header other than Ethernet precedes the packet and counts.
#[test]
fn an_unparsed_link_header_counts() {
    let program = load(Config { rows: 256, replay: true, ..Config::default() });
    let bytes = pkt().ip(O4).udp(54321, 4789).vxlan(7).eth().ip(I4).tcp().bytes();
    let p = Packet { start: LinkStart::Ip, link_len: 16, ..Packet::ethernet(&bytes) };
    let got = run(&program, Hook::Rx, &p, Count { packets: 1, bytes: bytes.len() as u64 + 16 });
    assert!(matches!(got, Ok(Got::Row(..))), "{}", tell_got(&got));
}

#[test]
fn traffic_without_a_tunnel_has_rows_on_request() {
    let program = load(Config { rows: 256, replay: true, plain: true, ..Config::default() });
    for o in [O4, O6] {
        for hook in [Hook::Rx, Hook::Tx] {
            let bytes = pkt().eth().ip(o).tcp().data(7).bytes();
            let c = Count { packets: 1, bytes: bytes.len() as u64 };
            let got = run(&program, hook, &Packet::ethernet(&bytes), c);
            let Ok(Got::Row(key, 0)) = &got else { panic!("{o}: {}", tell_got(&got)) };
            assert_eq!(
                (key.outermost, key.depth, key.innermost),
                (tunnel(Kind::None, None), 0, None)
            );
            assert_eq!(key.outer.map(|p| (p.first, p.second)), Some(ends(o)));
            assert_eq!(key.inner.pair(), None, "nothing is inside");
        }
    }
    let arp = pkt().eth().arp().bytes();
    let got = run(
        &program,
        Hook::Rx,
        &Packet::ethernet(&arp),
        Count { packets: 1, bytes: arp.len() as u64 },
    );
    assert_eq!(got, Ok(Got::Stop(Stop::NonIp)));
}

/// `--skb` counts the kernel's buffers, not packets on the wire.
#[test]
fn super_packets_can_be_counted_as_one() {
    let program = load(Config { rows: 256, replay: true, skb: true, ..Config::default() });
    let bytes = pkt().eth().ip(O4).udp(54321, 4789).vxlan(7).eth().ip(I4).tcp().data(3000).bytes();
    let p = Packet { gso_segs: 3, gso_size: 1000, ..Packet::ethernet(&bytes) };
    let got = run(&program, Hook::Tx, &p, Count { packets: 1, bytes: bytes.len() as u64 });
    assert!(matches!(got, Ok(Got::Row(..))), "{}", tell_got(&got));
}

/// A flood of random inner addresses fills the table; packets for whose row there is no room stay
/// with their tunnel, and sums stay exact.
#[test]
fn a_full_table_loses_nothing() {
    let program = load(Config { rows: 256, replay: true, ..Config::default() });
    let mut random = Random(7);
    let mut sent = [Count::default(); 4];
    let outer = |i: usize| format!("172.16.1.100 > 172.16.1.{}", 101 + i);
    for n in 0..20_000 {
        let peer = random.below(sent.len());
        let inner = format!("10.{}.{}.{} > 192.168.0.1", n >> 16, n >> 8 & 255, n & 255);
        let frame = pkt()
            .eth()
            .ip(&outer(peer))
            .udp(54321, 4789)
            .vxlan(7)
            .eth()
            .ip(&inner)
            .udp(5, 6)
            .data(random.below(40));
        let bytes = frame.bytes();
        program.run(Hook::Tx, &Packet::ethernet(&bytes)).expect("run");
        sent[peer] += Count { packets: 1, bytes: bytes.len() as u64 };
    }
    let (books, flows) = read(&program).expect("tables");
    assert_eq!(books.counted[1], sent.iter().copied().sum());
    for (peer, sent) in sent.iter().enumerate() {
        let (a, b) = ends(&outer(peer));
        let mine =
            flows.iter().filter(|f| f.key.outer.is_some_and(|p| (p.first, p.second) == (a, b)));
        assert_eq!(mine.clone().map(|f| f.counters.tx()).sum::<Count>(), *sent, "{}", outer(peer));
        let others: Vec<&Flow> = mine.filter(|f| f.key.other).collect();
        assert_eq!(others.len(), 1, "{}: one other row, {others:#?}", outer(peer));
        assert_eq!(
            (others[0].key.outermost, others[0].key.inner.pair()),
            (tunnel(Kind::Vxlan, 7), None)
        );
    }
    // a table has twice the slots that it is sized for
    assert!(flows.len() <= 512 + sent.len(), "{} rows in a table for 256", flows.len());
}

/// The builder is right: from every well-formed frame another decoder reads the layers that were
/// requested, and finds every length and IPv4 checksum correct.
#[test]
#[ignore = "needs tshark: cargo test --test parser -- --ignored"]
fn the_builder_agrees_with_tshark() {
    let table: Vec<Case> =
        cases().into_iter().filter(|c| c.begin == Begin::Ethernet && c.sound).collect();
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65535, 1] {
        file.extend(word.to_ne_bytes());
    }
    for case in &table {
        let bytes = case.frame.bytes();
        for word in [0, 0, bytes.len() as u32, bytes.len() as u32] {
            file.extend(word.to_ne_bytes());
        }
        file.extend(bytes);
    }
    if let Some(path) = std::env::var_os("TMON_TABLE_PCAP") {
        std::fs::write(path, &file).expect("write TMON_TABLE_PCAP");
    }
    let fields = [
        "frame.protocols",
        "_ws.malformed",
        "ip.checksum.status",
        "udp.checksum.status",
        "tcp.checksum.status",
        "_ws.expert.message",
    ];
    let decode = [
        "udp.port==4789,vxlan",
        "udp.port==8472,vxlan",
        "udp.port==6635,mpls",
        "udp.port==4754,gre",
        "udp.port==4341,lisp-data",
        "udp.port==6080,ip",
    ];
    let mut command = Command::new("tshark");
    command.args([
        "-r",
        "-",
        "-T",
        "fields",
        "-E",
        "separator=/t",
        "-o",
        "ip.check_checksum:TRUE",
        "-o",
        "udp.check_checksum:TRUE",
    ]);
    command.args(["-o", "tcp.check_checksum:TRUE", "-o", "capwap.swap_fc:FALSE"]);
    command.args(fields.iter().flat_map(|f| ["-e", f])).args(decode.iter().flat_map(|d| ["-d", d]));
    let mut tshark = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("tshark is installed");
    let mut input = tshark.stdin.take().expect("piped");
    let feeder = std::thread::spawn(move || input.write_all(&file));
    let output = tshark.wait_with_output().expect("tshark");
    feeder.join().expect("feeder").expect("tshark reads");
    let text = String::from_utf8(output.stdout).expect("utf-8");
    assert_eq!(text.lines().count(), table.len(), "tshark reads every frame");
    let mut report = Report::default();
    for (case, line) in table.iter().zip(text.lines()) {
        report.checks += 1;
        let mut fields = line.split('\t');
        let names = fields.next().unwrap_or_default();
        let rest: Vec<&str> = fields.collect();
        let (asked, all) = case.frame.shark();
        // tshark adds names of its own ("ethertype", "data", guesses from port numbers): the
        // expected ones must be there in this order, with no other known layer between them
        let ours = |n: &&str| frames::SHARK.contains(n);
        let layers = |names: &str| -> bool {
            let read: Vec<&str> = names.split(':').filter(ours).collect();
            if all { read == asked } else { read.starts_with(&asked) }
        };
        // when told that GUE's bare IP is `ip`, tshark also lists that before `ipv6`
        let same = layers(names) || layers(&names.replace("udp:ip:ipv6", "udp:ipv6"));
        let bad = all && rest.first().is_some_and(|m| !m.is_empty())
            || rest.iter().skip(1).take(3).any(|s| s.split(',').any(|s| s == "0"));
        if !same || bad {
            report.fail(
                &case.name,
                &case.frame.bytes(),
                &asked.join(":"),
                &format!("{names}\n           {}", rest.join(" | ")),
            );
        }
    }
    report.end("tshark");
}

/// Every kind known to this version has rows in the table.
#[test]
fn the_table_has_every_kind() {
    let table = cases();
    for kind in Kind::ALL.iter().filter(|kind| **kind != Kind::None) {
        let rows = table
            .iter()
            .filter(
                |c| matches!(&c.want, Want::Row(a) if a.tunnels.iter().any(|t| t.kind == *kind)),
            )
            .count();
        assert!(rows >= 2, "{kind}: {rows} rows");
    }
    let elsewhere = |s: &Stop| matches!(s, Stop::Truncated | Stop::Fragment | Stop::Unread);
    for s in Stop::ALL.into_iter().filter(|s| !elsewhere(s)) {
        assert!(table.iter().any(|c| c.want == Want::Stop(s)), "no row for stop {}", s.name());
    }
    let deep = Inner::Proto(InnerProto(InnerProto::REASON | 3));
    assert!(
        table.iter().any(
            |c| matches!(&c.want, Want::Row(a) if a.tunnels.len() == 4 && a.row().0.inner == deep)
        ),
        "no row of five tunnels"
    );
    println!("{} rows, {} encapsulations", table.len(), table::CARRIERS.len());
}
