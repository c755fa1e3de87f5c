// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table for people: rows by bytes, totals, and the coverage of the traffic by the rows.
use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write},
    iter::repeat_n,
};

use unicode_width::UnicodeWidthStr;

use super::{Excerpt, tunnels};
use feed::names::Names;
use model::{
    flow::{Count, Counters, Flow, Stop},
    interface::Interface,
    rtt::three_digits,
    text::shorten,
    units::{Base, Rate, UNKNOWN, bit_rate, bytes, duration, packets, percent, rfc3339, sanitize},
};

/// The style of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableOptions {
    /// The width of the terminal, into which the table then fits; `None` if the output is not a
    /// terminal: then nothing is left out or shortened.
    pub width: Option<usize>,
    /// The step between the prefixes of bytes.
    pub base: Base,
}

const COLUMNS: usize = 14;
const TITLES: [&str; COLUMNS] = [
    "IFACE", "TUNNEL", "HOST A", "HOST B", "INNER A", "INNER B", "A→B", "B→A", "BYTES", "SHARE",
    "PACKETS", "RATE", "RECEIVED", "LOST",
];
const IFACE: usize = 0;
const SHARE: usize = 9;
/// Only for a fleet: packets that the other end counted, and missing ones.
const ENDS: [usize; 2] = [12, 13];
/// The first column with a number; all columns after it have one too.
const NUMBERS: usize = 6;
/// Columns to leave out, in this order, if the terminal is too narrow.
const LEAST_NEEDED: [usize; 6] = [SHARE, 7, 6, ENDS[0], 10, 11];
/// Texts are not shortened below this.
const LEAST_TEXT: usize = 6;
const GAP: usize = 2;

/// Writes one reading: its interval, the rows by bytes, their total, then one line per interface.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, reading: &Excerpt<'_>, options: &TableOptions) -> io::Result<()> {
    let interval = reading.interval;
    writeln!(
        out,
        "{} on {}: {} until {}",
        reading.tool,
        sanitize(reading.host),
        duration(interval.elapsed),
        rfc3339(interval.taken)
    )?;
    if reading.flows.is_empty() {
        writeln!(
            out,
            "\nno tunnel traffic{}",
            if reading.rows > 0 { " that matches the filter" } else { "" }
        )?;
    } else {
        writeln!(out)?;
        rows(out, reading, options)?;
        if !reading.groups.is_empty() {
            writeln!(out)?;
            by_group(out, reading, options)?;
        }
    }
    writeln!(out)?;
    if !reading.filter.is_empty() {
        writeln!(
            out,
            "filter {}: {} of {} rows",
            sanitize(&reading.filter),
            reading.flows.len(),
            reading.rows
        )?;
    }
    for interface in &interval.interfaces {
        writeln!(out, "{}", coverage(interface))?;
    }
    for (claim, n) in interval.beside.claims() {
        if let Some(time) = n.echo_time() {
            let (from, to, of) =
                (claim.from, claim.to, if n.timed == 1 { "of" } else { "mean of" });
            let (time, n) = (three_digits(time), packets(n.timed));
            writeln!(out, "gtpu echo {from} > {to}: {time}, {of} {n} answered")?;
        }
    }
    let transit = reading.flows.iter().filter(|f| reading.passed_on(f).is_some()).count();
    if transit > 0 {
        let (s, have) = if transit == 1 { ("", "has") } else { ("s", "have") };
        writeln!(
            out,
            "passing through: {transit} row{s} {have} no share: another interface counts the same packets"
        )?;
    }
    let other: Vec<Flow> =
        reading.flows.iter().filter(|f| f.key.other && !f.key.is_aged()).collect();
    if !other.is_empty() {
        let sum: Count = other.iter().map(|f| f.counters.total()).sum();
        let (n, s) = (other.len(), if other.len() == 1 { "" } else { "s" });
        writeln!(
            out,
            "other {} packets, {} in {n} row{s}: the table was full, --rows makes it larger",
            packets(sum.packets),
            bytes(sum.bytes, options.base)
        )?;
    }
    Ok(())
}

/// How much of what the hooks saw is in rows, and where the rest is. One line, safe for a terminal.
pub fn coverage(interface: &Interface) -> String {
    let both = |c: [Count; 2]| c[0].packets.saturating_add(c[1].packets);
    let mut on = sanitize(&interface.name).into_owned();
    if let Some(netns) = &interface.netns {
        let _ = write!(on, " in {}", sanitize(netns));
    }
    let _ = write!(on, " ({})", interface.hook.name());
    let books = &interface.books;
    let seen = both(books.seen());
    if seen == 0 {
        return format!("nothing seen on {on}");
    }
    let mut line = format!(
        "coverage {} of {} packets seen on {on}",
        percent(both(books.counted), seen),
        packets(seen)
    );
    let stops = Stop::ALL.map(|s| (both(books.stop(s)), s.name()));
    for (i, (n, name)) in stops.iter().filter(|(n, _)| *n > 0).enumerate() {
        let _ = write!(line, "{} {} {name}", if i == 0 { ":" } else { "," }, packets(*n));
    }
    let suspect = both(books.suspect);
    if suspect > 0 {
        let _ = write!(line, "; {} suspect (a tunnel's port without its header)", packets(suspect));
    }
    let fragments = both(books.fragments);
    if fragments > 0 {
        let _ = write!(line, "; {} fragments of outer packets", packets(fragments));
    }
    if let Some(other) = &interface.counted_on {
        let _ = write!(line, "; not in totals: {} counts the same packets", sanitize(other));
    }
    if interface.stale {
        line.push_str("; could not be read: last known counts");
    }
    if interface.fill.size > 0 {
        let _ = write!(line, "; table {} full", percent(interface.fill.used, interface.fill.size));
    }
    line
}

fn rows(out: &mut dyn Write, reading: &Excerpt<'_>, options: &TableOptions) -> io::Result<()> {
    let mut flows: Vec<Flow> = reading.flows.iter().collect();
    flows.sort_by_key(|f| Reverse(f.counters.total().bytes)); // stable: equal ones stay in key order
    let mut sum = Counters::default();
    flows.iter().for_each(|f| sum.add(&reading.once(f)));

    let cells = Cells { reading, base: options.base, all: sum.total().bytes };
    let total = cells.total(&sum);
    let mut widths = TITLES.map(UnicodeWidthStr::width);
    let mut widen = |cells: &[String]| {
        widths.iter_mut().zip(cells).for_each(|(width, cell)| *width = (*width).max(cell.width()))
    };
    flows.iter().for_each(|f| widen(&cells.text(f)));
    let of_fleet = reading.interval.once().is_of_fleet();
    if of_fleet {
        flows.iter().for_each(|f| widen(&cells.row(f)));
    }
    widen(&total); // cells with numbers are equally wide in every row, except shares, which are at most 100 %
    widths[SHARE] = widths[SHARE].max("99.9 %".len());
    if reading.interval.interfaces.len() < 2 {
        widths[IFACE] = 0;
    }
    if !of_fleet {
        ENDS.iter().for_each(|column| widths[*column] = 0);
    }
    if let Some(width) = options.width {
        fit(&mut widths, width);
    }
    let mut line = String::new();
    let mut write_row = |row: &[String]| {
        line.clear();
        for (i, (cell, width)) in
            row.iter().zip(widths).enumerate().filter(|(_, (_, width))| *width > 0)
        {
            if !line.is_empty() {
                line.extend([' '; GAP]);
            }
            let cell = shorten(cell, width);
            let space = repeat_n(' ', width - cell.width());
            if i < NUMBERS {
                line.push_str(&cell);
                line.extend(space);
            } else {
                line.extend(space);
                line.push_str(&cell);
            }
        }
        writeln!(out, "{}", cut(line.trim_end(), options.width))
    };
    write_row(&TITLES.map(str::to_owned))?;
    for flow in &flows {
        write_row(&cells.row(flow))?;
    }
    write_row(&total)
}

/// The traffic between groups of hosts, each packet once. Hosts without a group are `-`.
fn by_group(out: &mut dyn Write, reading: &Excerpt<'_>, options: &TableOptions) -> io::Result<()> {
    let mut sums: BTreeMap<[&str; 2], [Count; 2]> = BTreeMap::new();
    for flow in reading.flows.iter() {
        let [a, b] = reading.groups(&flow).map(|group| group.unwrap_or(UNKNOWN));
        let n = reading.once(&flow);
        let [to, back] = sums.entry([a.min(b), a.max(b)]).or_default();
        let ways = if a > b { [back, to] } else { [to, back] };
        ways.into_iter().zip([n.fwd(), n.rev()]).for_each(|(sum, n)| *sum += n);
    }
    let all: Count = sums.values().flatten().copied().sum();
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, [to, back])| Reverse((*to + *back).bytes));
    let cells = sums.iter().map(|([a, b], [to, back])| {
        let both = *to + *back;
        let [to, back, sum] = [*to, *back, both].map(|n| bytes(n.bytes, options.base).cell());
        let share = percent(both.bytes, all.bytes);
        [(*a).to_owned(), (*b).to_owned(), to, back, sum, share, packets(both.packets).cell()]
    });
    let titles = ["GROUP A", "GROUP B", "A→B", "B→A", "BYTES", "SHARE", "PACKETS"];
    let lines: Vec<[String; 7]> = std::iter::once(titles.map(str::to_owned)).chain(cells).collect();
    let mut widths = [0; 7];
    for line in &lines {
        widths.iter_mut().zip(line).for_each(|(width, cell)| *width = (*width).max(cell.width()));
    }
    let needed = |w: &[usize; 7]| w.iter().sum::<usize>() + GAP * 6;
    while options.width.is_some_and(|most| needed(&widths) > most)
        && let Some(widest) = widths[..2].iter_mut().max_by_key(|w| **w)
        && *widest > LEAST_TEXT
    {
        *widest -= 1;
    }
    for line in &lines {
        let mut text = String::new();
        for (i, (cell, width)) in line.iter().zip(widths).enumerate() {
            let cell = shorten(cell, width);
            let space = " ".repeat(width - cell.width());
            let [before, after] = if i < 2 { ["", &space] } else { [&*space, ""] };
            let gap = if i > 0 { " ".repeat(GAP) } else { String::new() };
            text += &format!("{gap}{before}{cell}{after}");
        }
        writeln!(out, "{}", cut(text.trim_end(), options.width))?;
    }
    Ok(())
}

/// The text of rows.
struct Cells<'a> {
    reading: &'a Excerpt<'a>,
    base: Base,
    all: u64, // bytes of all rows
}

impl Cells<'_> {
    fn row(&self, flow: &Flow) -> [String; COLUMNS] {
        let mut row = self.with_numbers(self.text(flow), &flow.counters);
        if self.reading.counted_on(flow).is_some() {
            UNKNOWN.clone_into(&mut row[SHARE]); // it is not part of the total
        }
        if let Some(ends) = self.reading.interval.both_ends(flow) {
            row[ENDS[0]] = packets(ends.received.packets).cell();
            row[ENDS[1]] = ends.to_string();
        }
        row
    }

    fn text(&self, flow: &Flow) -> [String; NUMBERS] {
        let key = &flow.key;
        let names = &self.reading.names;
        let called = |a, inner| names.shown(a, inner).unwrap_or_else(|| a.to_string());
        let [host_a, host_b] = match key.outer {
            Some(p) => [called(p.first, false), called(p.second, false)],
            None => [UNKNOWN.to_owned(), UNKNOWN.to_owned()],
        };
        let [inner_a, inner_b] = match key.inner.pair() {
            Some(p) => [called(p.first, true), called(p.second, true)],
            None => [key.inner.proto(), UNKNOWN.to_owned()],
        };
        [
            sanitize(self.reading.interface(flow)).into_owned(),
            tunnel(flow, names),
            host_a,
            host_b,
            inner_a,
            inner_b,
        ]
    }

    fn total(&self, sum: &Counters) -> [String; COLUMNS] {
        let n = self.reading.flows.len();
        let text = [
            String::new(),
            "total".to_owned(),
            format!("{n} row{}", if n == 1 { "" } else { "s" }),
            String::new(),
            String::new(),
            String::new(),
        ];
        self.with_numbers(text, sum)
    }

    fn with_numbers(
        &self,
        [iface, tunnel, host_a, host_b, inner_a, inner_b]: [String; NUMBERS],
        c: &Counters,
    ) -> [String; COLUMNS] {
        let total = c.total();
        let [fwd, rev, all] =
            [c.fwd().bytes, c.rev().bytes, total.bytes].map(|n| bytes(n, self.base).cell());
        let share = percent(total.bytes, self.all);
        let rate = bit_rate(Rate::of(total.bytes, self.reading.interval.elapsed)).cell();
        [
            iface,
            tunnel,
            host_a,
            host_b,
            inner_a,
            inner_b,
            fwd,
            rev,
            all,
            share,
            packets(total.packets).cell(),
            rate,
            UNKNOWN.to_owned(),
            UNKNOWN.to_owned(),
        ]
    }
}

/// `vxlan 10000`, nested `vxlan 10000 > gtpu 7`, with further ones between them `vxlan 1 > .. >
/// gtpu 7`.
fn tunnel(flow: &Flow, names: &Names) -> String {
    if flow.key.outer.is_none() {
        return UNKNOWN.to_owned();
    }
    let named = |t: model::flow::Tunnel| match names.shown_id(t) {
        Some(name) => format!("{} {name}", t.kind),
        None => t.to_string(),
    };
    let names: Vec<String> = tunnels(&flow.key).map(named).collect();
    match names.len() {
        0 => flow.key.outermost.kind.to_string(),
        _ => names.join(if flow.key.depth > 2 { " > .. > " } else { " > " }),
    }
}

/// Makes the columns fit: first whole columns are dropped, then the widest texts are shortened.
fn fit(widths: &mut [usize; COLUMNS], most: usize) {
    let needed = |w: &[usize; COLUMNS]| {
        let shown = w.iter().filter(|w| **w > 0);
        shown.clone().sum::<usize>() + GAP * shown.count().saturating_sub(1)
    };
    for column in LEAST_NEEDED {
        if needed(widths) > most {
            widths[column] = 0;
        }
    }
    while needed(widths) > most {
        match widths[..NUMBERS].iter_mut().max_by_key(|w| **w) {
            Some(widest) if *widest > LEAST_TEXT => *widest -= 1,
            _ => break,
        }
    }
}

/// The beginning of a text, as much as fits into `width` columns.
fn head(text: &str, width: usize) -> &str {
    let end = text
        .char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .take_while(|end| text[..*end].width() <= width)
        .last();
    &text[..end.unwrap_or(0)]
}

fn cut(line: &str, width: Option<usize>) -> &str {
    width.filter(|w| line.width() > *w).map_or(line, |w| head(line, w))
}
