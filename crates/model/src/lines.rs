// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rows in scope as a list, sorted by any column.
use std::{
    cmp::{Ordering, Reverse},
    time::Duration,
};

use foldhash::{HashMap, HashMapExt};

use crate::{
    flow::{Count, Counters, Flow, Key},
    groups::{Group, Groups},
    interface::Interface,
    matrix::{Measure, Scope},
    once::BothEnds,
    rows::{Row, Rows},
    rtt::{Timed, there_and_back},
    snapshot::Interval,
};

/// The most rows that are sorted and shown; the others are summed in the last line.
pub const LINES: usize = 10_000;

/// A column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Column {
    /// The interface's name.
    Interface,
    /// The outermost tunnel's kind.
    Kind,
    /// Its id.
    Id,
    /// The innermost tunnel, when there is more than one, and the depth.
    Inside,
    /// The outer pair.
    Outer,
    /// The groups that its hosts are in.
    Groups,
    /// The inner pair, or what is there instead.
    Inner,
    /// What the first end sent.
    Forward,
    /// What the second end sent.
    Reverse,
    /// What arrived on the interface.
    Rx,
    /// What left on the interface.
    Tx,
    /// How much of it the kernel dropped.
    Dropped,
    /// Missing packets of its tunnel, by sequence number.
    SeqLost,
    /// Its TCP connection requests: unanswered ones, of all SYNs.
    Syn,
    /// The round-trip time of its packets, if it is measured.
    Rtt,
    /// What its senders counted, if both ends are in the fleet.
    Sent,
    /// What its receivers counted.
    Received,
    /// The difference in packets.
    Lost,
    /// Both directions per second in the interval.
    Rate,
    /// Both directions since counting began.
    #[default]
    Total,
}

impl Column {
    /// All columns, left to right.
    pub const ALL: [Column; 20] = [
        Column::Interface,
        Column::Kind,
        Column::Id,
        Column::Inside,
        Column::Outer,
        Column::Groups,
        Column::Inner,
        Column::Forward,
        Column::Reverse,
        Column::Rx,
        Column::Tx,
        Column::Dropped,
        Column::SeqLost,
        Column::Syn,
        Column::Rtt,
        Column::Sent,
        Column::Received,
        Column::Lost,
        Column::Rate,
        Column::Total,
    ];

    /// The next one; the first after the last.
    #[must_use]
    pub fn next(self) -> Self {
        let i = Column::ALL.iter().position(|c| *c == self).unwrap_or(0);
        Column::ALL[(i + 1) % Column::ALL.len()]
    }
}

/// SYNs of a row; they sort by the unanswered ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Syn {
    /// Unanswered connection requests.
    pub unanswered: u64,
    /// SYNs.
    pub syns: u64,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its interface's index.
    pub interface: u16,
    /// Its key.
    pub key: Key,
    /// The groups that its hosts are in, the deepest ones.
    pub groups: [Option<Group>; 2],
    /// Its counts, in the interval or since counting began, depending on the picture.
    pub counters: Counters,
    /// Its counts in the interval, if known.
    pub rate: Option<Count>,
    /// Its counts since counting began, if known.
    pub total: Option<Count>,
    /// What was dropped of it, over the same time as `counters`, if known.
    pub dropped: Option<Count>,
    /// Missing packets of its tunnel over that time, if it has sequence numbers.
    pub seq_lost: Option<u64>,
    /// TCP connections requested in it over that time, and how many of them are unanswered.
    pub syn: Option<Syn>,
    /// The median round-trip time from one end to the other and back, if it was measured.
    pub rtt: Option<Duration>,
    /// What both ends counted over that time, if both are in the fleet.
    pub ends: Option<BothEnds>,
}

impl Line {
    /// A row for a picture of rates, or else of totals.
    pub fn new(interface: u16, key: Key, counters: Counters, rate: bool) -> Self {
        let sum = Some(counters.total());
        let (rate, total) = (sum.filter(|_| rate), sum.filter(|_| !rate));
        let (dropped, seq_lost, syn, rtt, ends) = (None, None, None, None, None);
        let groups = [None; 2];
        Line { interface, key, groups, counters, rate, total, dropped, seq_lost, syn, rtt, ends }
    }

    /// The row as it was counted.
    pub fn flow(&self) -> Flow {
        Flow { interface: self.interface, key: self.key, counters: self.counters }
    }
}

/// Sorted rows.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// The rows.
    pub list: Vec<Line>,
    /// How many smaller rows are left out.
    pub more: usize,
}

/// How a table is sorted.
#[derive(Clone, Copy, Debug)]
pub struct Sorting {
    /// The column to sort by.
    pub column: Column,
    /// Whether the order is reversed.
    pub reversed: bool,
    /// Unit of the values.
    pub measure: Measure,
}

impl Lines {
    /// The rows in scope, sorted. `rate` says whether the interval's rows are rates or totals;
    /// `beside` holds the respective other, if known. `timed` has the round-trip times of rows; without
    /// it they are the interval's.
    pub fn of(
        interval: &Interval,
        beside: Option<&Rows>,
        timed: Option<&Timed>,
        rate: bool,
        scope: &Scope,
        by: Sorting,
    ) -> Self {
        let mut list: Vec<Line> = Vec::new();
        let mut place: HashMap<(u16, Key), usize> = HashMap::new();
        // If there are very many rows, the small ones are skipped.
        let least = threshold(interval, scope, by.measure);
        let mut more = 0;
        for row in scope.rows(interval) {
            if by.measure.of(row.total()) < least || list.len() >= 2 * LINES {
                more += 1;
                continue;
            }
            let row = row.flow();
            match place.entry((row.interface, row.key)) {
                std::collections::hash_map::Entry::Occupied(e) => {
                    list[*e.get()].counters.add(&row.counters)
                }
                std::collections::hash_map::Entry::Vacant(e) => {
                    e.insert(list.len());
                    list.push(Line::new(row.interface, row.key, row.counters, rate));
                }
            }
        }
        let groups = scope.grouping.groups();
        let timed = timed.map_or(interval.beside.round_trips(), |timed| &timed.rows);
        for line in &mut list {
            if let Some(pair) = line.key.outer.filter(|_| !groups.is_empty()) {
                line.groups = [pair.first, pair.second].map(|host| groups.of(host));
            }
            let sum = Some(line.counters.total());
            if rate {
                line.rate = sum
            } else {
                line.total = sum
            }
            line.dropped = interval.dropped(&line.flow());
            line.seq_lost = interval.numbered(&line.flow()).map(|n| n.lost);
            line.syn = interval
                .handshakes(&line.flow())
                .map(|n| Syn { unanswered: n.unanswered, syns: n.syns });
            let own =
                interval.interfaces.get(usize::from(line.interface)).filter(|_| !timed.is_empty());
            line.rtt = own.and_then(|i| timed.get(&(i.id, line.key))).and_then(there_and_back);
            line.ends = interval.both_ends(&line.flow());
        }
        if let Some(beside) = beside {
            // only few of very many rows are in the list: most are skipped without decoding them
            let mut prints = Prints::of(list.len());
            for line in &list {
                prints.add(line);
            }
            for row in beside.walk().filter(|r| prints.may_have(r)) {
                let row = row.flow();
                if let Some(line) = place.get(&(row.interface, row.key)).map(|i| &mut list[*i]) {
                    let slot = if rate { &mut line.total } else { &mut line.rate };
                    *slot = Some(slot.unwrap_or_default() + row.counters.total());
                }
            }
        }
        let by_path = match by.column {
            Column::Groups => places(&list, groups),
            _ => Vec::new(),
        };
        list.sort_unstable_by(|a, b| {
            let order = match by.column {
                Column::Groups => compare_groups(a, b, &by_path),
                _ => compare(a, b, by, &interval.interfaces),
            };
            let order = if by.reversed { order.reverse() } else { order };
            order.then_with(|| (a.interface, a.key).cmp(&(b.interface, b.key)))
        });
        if list.len() > LINES {
            more += list.len() - LINES;
            list.truncate(LINES);
        }
        Lines { list, more }
    }

    /// Where a row is.
    pub fn index(&self, row: (u16, Key)) -> Option<usize> {
        self.list.iter().position(|l| (l.interface, l.key) == row)
    }
}

/// A filter for rows that are certainly not in a list.
struct Prints(Vec<u64>);

impl Prints {
    /// For a list of this length: about one in sixteen of the other rows passes wrongly.
    fn of(rows: usize) -> Self {
        Prints(vec![0; (rows / 4).next_power_of_two().max(1)])
    }

    fn place(&self, print: u64) -> (usize, u64) {
        let at = (print >> 16) as usize;
        (at / 64 % self.0.len(), 1 << (at % 64))
    }

    fn add(&mut self, line: &Line) {
        let mut rows = Rows::default();
        rows.push_flow(0, &line.flow());
        for row in rows.walk() {
            let (word, bit) = self.place(row.print());
            self.0[word] |= bit;
        }
    }

    fn may_have(&self, row: &Row) -> bool {
        let (word, bit) = self.place(row.print());
        self.0[word] & bit != 0
    }
}

/// The size below which a row (or a part of one) is not among the largest [`LINES`].
fn threshold(interval: &Interval, scope: &Scope, measure: Measure) -> u64 {
    if interval.rows.len() <= 2 * LINES {
        return 0;
    }
    let mut sizes: Vec<u64> = scope.rows(interval).map(|r| measure.of(r.total())).collect();
    if sizes.len() <= LINES {
        return 0;
    }
    *sizes.select_nth_unstable_by_key(LINES, |n| Reverse(*n)).1
}

/// Where groups of a list are in the order of their paths, by their numbers.
fn places(list: &[Line], groups: &Groups) -> Vec<usize> {
    let mut all: Vec<Group> = list.iter().flat_map(|line| line.groups).flatten().collect();
    all.sort_unstable();
    all.dedup();
    let mut places = vec![usize::MAX; all.last().map_or(0, |last| last.number() as usize + 1)];
    all.sort_unstable_by_key(|group| groups.path(*group));
    for (i, group) in all.into_iter().enumerate() {
        places[group.number() as usize] = i;
    }
    places
}

/// By path, whichever end has it; what is in no group is last.
fn compare_groups(a: &Line, b: &Line, places: &[usize]) -> Ordering {
    let place = |line: &Line| {
        let both = line.groups.map(|group| {
            group.and_then(|g| places.get(g.number() as usize)).unwrap_or(&usize::MAX)
        });
        [both[0].min(both[1]), both[0].max(both[1])]
    };
    place(a).cmp(&place(b))
}

fn compare(a: &Line, b: &Line, by: Sorting, interfaces: &[Interface]) -> Ordering {
    let down = |a: Count, b: Count| by.measure.of(b).cmp(&by.measure.of(a));
    let maybe = |a: Option<Count>, b: Option<Count>| {
        b.map(|c| by.measure.of(c)).cmp(&a.map(|c| by.measure.of(c)))
    };
    let name = |l: &Line| interfaces.get(usize::from(l.interface)).map(|i| &i.name);
    match by.column {
        Column::Interface => name(a).cmp(&name(b)),
        Column::Kind => a.key.outermost.cmp(&b.key.outermost),
        Column::Id => a.key.outermost.id.cmp(&b.key.outermost.id),
        Column::Inside => (a.key.depth, a.key.innermost).cmp(&(b.key.depth, b.key.innermost)),
        Column::Outer => a.key.outer.cmp(&b.key.outer),
        Column::Groups => Ordering::Equal, // by their paths: see `compare_groups`
        Column::Inner => a.key.inner.cmp(&b.key.inner),
        Column::Forward => down(a.counters.fwd(), b.counters.fwd()),
        Column::Reverse => down(a.counters.rev(), b.counters.rev()),
        Column::Rx => down(a.counters.rx(), b.counters.rx()),
        Column::Tx => down(a.counters.tx(), b.counters.tx()),
        Column::Dropped => b.dropped.map(|n| n.packets).cmp(&a.dropped.map(|n| n.packets)),
        Column::SeqLost => b.seq_lost.cmp(&a.seq_lost),
        Column::Syn => b.syn.cmp(&a.syn),
        Column::Rtt => b.rtt.cmp(&a.rtt),
        Column::Sent => maybe(a.ends.map(|e| e.sent), b.ends.map(|e| e.sent)),
        Column::Received => maybe(a.ends.map(|e| e.received), b.ends.map(|e| e.received)),
        Column::Lost => b.ends.map(|e| e.lost).cmp(&a.ends.map(|e| e.lost)),
        Column::Rate => maybe(a.rate, b.rate),
        Column::Total => maybe(a.total, b.total),
    }
}
