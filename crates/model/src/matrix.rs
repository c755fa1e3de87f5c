// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows grouped by their ends: who sent how much to whom.
//!
//! Two steps. [`Tally`] walks the rows once and keeps every pair of ends in the [`Scope`];
//! [`Matrix`] arranges the largest N ends of a tally as a dense square, with all others summed as
//! [`End::Other`]. No step loses a count: the sum over the matrix is the sum over the rows.
use std::{
    cmp::{Ordering, Reverse},
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use foldhash::{HashMap, HashMapExt};

use crate::{
    filter::Filter,
    flow::{Count, Counters, Flow, Inner, InnerProto, Tunnel},
    groups::{Group, Grouping, Groups},
    interface::Interface,
    once::Once,
    rows::Row,
    snapshot::Interval,
};

/// One end of some traffic: an arc of the chord, a line and a column of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// A group of hosts.
    Group(Group),
    /// A machine: an outer address, or an inner one below the host level.
    Addr(IpAddr),
    /// Traffic of a host that has no inner addresses: the host, and the protocol or reason.
    Inside(IpAddr, InnerProto),
    /// The unknown ends of an interface's overflow row.
    Unknown,
    /// All ends that are not among the largest N.
    Other,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            End::Group(group) => format!("group {}", group.number()),
            End::Addr(a) => a.to_string(),
            End::Inside(a, p) => format!("{a} ({p})"),
            End::Unknown => "overflow".to_owned(),
            End::Other => "other".to_owned(),
        };
        f.pad(&text)
    }
}

/// The selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// An arc, a line of the matrix.
    End(End),
    /// A ribbon, a cell: the sender and the receiver.
    Pair(End, End),
}

impl Pick {
    /// Whether traffic between two ends is part of the selection.
    pub fn includes(self, a: End, b: End) -> bool {
        match self {
            Pick::End(e) => e == a || e == b,
            Pick::Pair(x, y) => (x, y) == (a, b) || (y, x) == (a, b),
        }
    }
}

/// The label of an end; [`End::Other`] says how many ends it stands for.
pub fn label(end: End, folded: usize) -> String {
    match end {
        End::Other => format!("{folded} others"),
        end => end.to_string(),
    }
}

/// What is measured, which determines the order of the ends and which of them are largest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Measure {
    /// Wire bytes.
    #[default]
    Bytes,
    /// Packets.
    Packets,
}

impl Measure {
    /// This measure of a count.
    pub fn of(self, c: Count) -> u64 {
        match self {
            Measure::Bytes => c.bytes,
            Measure::Packets => c.packets,
        }
    }
}

/// What the ends are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Level {
    /// Tunnel endpoints: the outer addresses.
    #[default]
    Hosts,
    /// What is inside: the inner addresses.
    Inner,
}

/// A condition on the two ends of a row at one level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Within {
    /// No condition.
    #[default]
    All,
    /// At least one end is one of these.
    Any(Vec<End>),
    /// The ends are these two, whichever sent.
    Pair(End, End),
}

impl Within {
    /// The ends that it asks for.
    pub fn ends(&self) -> Vec<End> {
        match self {
            Within::All => vec![],
            Within::Any(ends) => ends.clone(),
            Within::Pair(a, b) => vec![*a, *b],
        }
    }

    /// As text, with names for the ends.
    pub fn text(&self, called: impl Fn(End) -> String) -> String {
        match self {
            Within::All => String::new(),
            Within::Any(ends) => match ends.as_slice() {
                [one] => called(*one),
                [first, rest @ ..] => format!("{} +{}", called(*first), rest.len()),
                [] => String::new(),
            },
            Within::Pair(a, b) if a == b => called(*a),
            Within::Pair(a, b) => format!("{} ⇄ {}", called(*a), called(*b)),
        }
    }

    /// The groups among what it asks for.
    pub fn groups(&self) -> impl Iterator<Item = Group> {
        let group = |end| if let End::Group(group) = end { Some(group) } else { None };
        self.ends().into_iter().filter_map(group)
    }

    fn holds(&self, ends: (End, End)) -> bool {
        self.holds_by(ends, |what, end| what == end)
    }

    /// Whether two ends satisfy it, given when an end matches one that it asks for.
    fn holds_by(&self, (a, b): (End, End), is: impl Fn(End, End) -> bool) -> bool {
        match self {
            Within::All => true,
            Within::Any(ends) => ends.iter().any(|end| is(*end, a) || is(*end, b)),
            Within::Pair(x, y) => is(*x, a) && is(*y, b) || is(*y, a) && is(*x, b),
        }
    }
}

/// Which rows count, and which of their addresses are the ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// What the ends are.
    pub level: Level,
    /// Which hosts are shown as groups.
    pub grouping: Grouping,
    /// Only rows whose ends meet all of these conditions on hosts, or on any host of a group.
    pub groups: Vec<Within>,
    /// Only rows of these hosts.
    pub hosts: Within,
    /// Only rows of these inner ends.
    pub inner: Within,
    /// Only rows of this outermost tunnel.
    pub tunnel: Option<Tunnel>,
    /// Only rows that match.
    pub filter: Filter,
}

impl Scope {
    /// The ends of a row at a level: the sender of `fwd` first, then its receiver.
    pub fn ends(level: Level, row: &Flow) -> (End, End) {
        let outer = match row.key.outer {
            Some(p) => (p.first, p.second),
            None => return (End::Unknown, End::Unknown),
        };
        match (level, row.key.inner) {
            (Level::Hosts, _) => (End::Addr(outer.0), End::Addr(outer.1)),
            (Level::Inner, Inner::Pair(p)) => (End::Addr(p.first), End::Addr(p.second)),
            (Level::Inner, Inner::Proto(p)) => (End::Inside(outer.0, p), End::Inside(outer.1, p)),
        }
    }

    /// The ends of a row as they are shown: on the level of hosts, these may be groups.
    pub fn shown(&self, row: &Flow) -> (End, End) {
        let (a, b) = Scope::ends(self.level, row);
        match self.level {
            Level::Hosts => (self.together(a), self.together(b)),
            Level::Inner => (a, b),
        }
    }

    /// How an end at the level of hosts is shown: a host as its group.
    pub fn together(&self, end: End) -> End {
        let End::Addr(host) = end else { return end };
        self.grouping.shown(host).map_or(end, End::Group)
    }

    /// Whether a row has the requested groups as its ends.
    fn is_in_groups(&self, ends: (End, End)) -> bool {
        let is = |what: End, end: End| match (what, end) {
            (End::Group(group), End::Addr(host)) => self.grouping.groups().is_in(host, group),
            _ => what == end,
        };
        self.groups.iter().all(|within| within.holds_by(ends, is))
    }

    /// Whether every row matches, whatever its tunnel.
    fn is_open(&self) -> bool {
        self.filter.is_empty()
            && self.groups.is_empty()
            && self.hosts == Within::All
            && self.inner == Within::All
    }

    /// Whether a row matches, whatever its tunnel.
    fn admits(&self, row: &Flow, interfaces: &[Interface]) -> bool {
        let name = interfaces.get(usize::from(row.interface)).map_or("", |i| i.name.as_str());
        (self.filter.is_empty() || self.filter.matches(row, name))
            && (self.groups.is_empty() || self.is_in_groups(Scope::ends(Level::Hosts, row)))
            && (self.hosts == Within::All || self.hosts.holds(Scope::ends(Level::Hosts, row)))
            && (self.inner == Within::All || self.inner.holds(Scope::ends(Level::Inner, row)))
    }

    /// What to leave out because another interface counts it: nothing if interfaces are selected by
    /// name.
    fn once<'a>(&self, interval: &'a Interval) -> Option<&'a Once> {
        (!interval.once().is_all() && !self.filter.names_interfaces()).then(|| interval.once())
    }

    /// The sum of the rows that count.
    pub fn sum(&self, interval: &Interval) -> Count {
        self.rows(interval).map(|r| r.total()).sum()
    }

    /// What the kernel dropped in this scope, by ends, the lower first, as [`Tally::pairs`].
    pub fn dropped(&self, interval: &Interval) -> HashMap<(End, End), [Count; 2]> {
        let mut pairs = HashMap::new();
        for (key, dropped) in interval.drops.iter().flat_map(|drops| &drops.rows) {
            let Some(row) = key.victim.key().filter(|row| row.outer.is_some()) else { continue };
            let here = |i: &Interface| i.netns.as_deref() == key.netns.as_deref();
            let interface = interval.interfaces.iter().position(here);
            let flow = Flow {
                interface: interface.map_or(u16::MAX, |i| i as u16),
                key: *row,
                counters: Counters::default(),
            };
            if self.tunnel.is_some_and(|t| t != row.outermost)
                || !self.admits(&flow, &interval.interfaces)
            {
                continue;
            }
            let (a, b) = self.shown(&flow);
            let [fwd, rev] = dropped.counts;
            let (low, high, sent) = ordered(a, b, fwd, rev);
            add(pairs.entry((low, high)).or_default(), sent);
        }
        pairs
    }

    /// The rows that count, each packet once.
    pub fn rows<'a>(&'a self, interval: &'a Interval) -> impl Iterator<Item = Row<'a>> {
        let tunnel = self.tunnel;
        self.of_all_tunnels(interval).filter(move |r| tunnel.is_none_or(|t| t == r.outermost()))
    }

    /// The same, whatever their tunnel.
    fn of_all_tunnels<'a>(&'a self, interval: &'a Interval) -> impl Iterator<Item = Row<'a>> {
        let (open, once) = (self.is_open(), self.once(interval));
        interval.rows.walk().filter(move |r| {
            (open || self.admits(&r.flow(), &interval.interfaces))
                && once.is_none_or(|once| once.counts(r))
        })
    }
}

/// What cannot be put into an expression.
const MIXED: &str = "groups and hosts cannot be combined in one expression: select groups or hosts";
const GROUPED: &str =
    "traffic within a group is not a single expression: enter the group and select hosts";
const NOT_MEANT: &str =
    "\"other\" and \"overflow\" combine rows that are not told apart: select hosts";

impl Scope {
    /// The rows of the selection in this scope, as an expression. Without a selection, the rows of
    /// what was entered; the empty expression if nothing was.
    ///
    /// # Errors
    /// The selection cannot be expressed, or is too large for one expression.
    pub fn meant(&self, picked: &Within) -> Result<Filter, &'static str> {
        let hosts = if self.level == Level::Hosts { picked } else { &self.hosts };
        let is_in_groups = match hosts {
            Within::All => self.groups.is_empty(),
            Within::Any(ends) => ends.iter().all(|end| self.is_in_groups((*end, *end))),
            Within::Pair(a, b) => self.is_in_groups((*a, *b)),
        };
        // Hosts of the groups that were entered say it all.
        let entered = if is_in_groups { &[][..] } else { &self.groups };
        let levels =
            [(Level::Hosts, &self.hosts), (Level::Inner, &self.inner), (self.level, picked)];
        let levels = entered.iter().map(|within| (Level::Hosts, within)).chain(levels);
        let of_tunnel = self.tunnel.map(Filter::of_tunnel).unwrap_or_default();
        let groups = self.grouping.groups();
        let within = levels.into_iter().try_fold(of_tunnel, |all, (level, within)| {
            within.meant(level, groups).map(|filter| all.and(filter))
        })?;
        Ok(within.and(self.filter.clone()))
    }
}

impl Within {
    fn meant(&self, level: Level, groups: &Arc<Groups>) -> Result<Filter, &'static str> {
        let addresses = |all: Vec<IpAddr>| match level {
            Level::Hosts => Filter::of_hosts(all),
            Level::Inner => Filter::of_inner(all),
        };
        let one = |end: End| match end {
            End::Addr(address) => Ok(addresses(vec![address])),
            End::Inside(host, proto) => Ok(Filter::of_hosts([host]).and(Filter::of_proto(proto))),
            End::Group(group) => Ok(Filter::of_groups(groups, [group])),
            End::Unknown | End::Other => Err(NOT_MEANT),
        };
        match self {
            Within::All => Ok(Filter::default()),
            Within::Pair(End::Group(a), End::Group(b)) if a == b => Err(GROUPED),
            Within::Pair(a, b) => Ok(one(*a)?.and(one(*b)?)),
            Within::Any(ends) => match ends.as_slice() {
                [end] => one(*end),
                ends if self.groups().count() == ends.len() => {
                    Ok(Filter::of_groups(groups, self.groups()))
                }
                ends => ends
                    .iter()
                    .map(|end| match end {
                        End::Addr(a) => Ok(*a),
                        End::Group(_) => Err(MIXED),
                        _ => Err(NOT_MEANT),
                    })
                    .collect::<Result<_, _>>()
                    .map(addresses),
            },
        }
    }
}

/// The rows of a scope, added up by pair of ends and by tunnel.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By ends, the lower first: what the first sent to the second, and the reverse. Traffic of an
    /// end with itself is all in the first count.
    pub pairs: HashMap<(End, End), [Count; 2]>,
    /// By outermost tunnel, regardless of the tunnel of the scope.
    pub tunnels: HashMap<Tunnel, Count>,
    /// The sum of `tunnels`, regardless of the tunnel of the scope.
    pub everything: Count,
    /// The sum of `pairs`.
    pub total: Count,
    /// The part of `total` that found no room in a full table.
    pub other: Count,
    /// How many rows (or parts of rows) there were.
    pub rows: usize,
}

/// Sums by pair of ends while walking rows: most pairs are two IPv4 addresses, and one number
/// hashes much faster than two ends do.
#[derive(Default)]
struct Pairs {
    v4: HashMap<u64, [Count; 2]>,
    ends: HashMap<(End, End), [Count; 2]>,
}

/// The lower end first, and what was sent in each direction; all traffic of an end with itself
/// counts in one direction.
fn ordered<E: Ord>(a: E, b: E, fwd: Count, rev: Count) -> (E, E, [Count; 2]) {
    match a.cmp(&b) {
        Ordering::Less => (a, b, [fwd, rev]),
        Ordering::Greater => (b, a, [rev, fwd]),
        Ordering::Equal => (a, b, [fwd + rev, Count::default()]),
    }
}

fn add(cell: &mut [Count; 2], sent: [Count; 2]) {
    cell[0] += sent[0];
    cell[1] += sent[1];
}

impl Pairs {
    fn add_v4(&mut self, a: u32, b: u32, fwd: Count, rev: Count) {
        let (low, high, sent) = ordered(a, b, fwd, rev);
        add(self.v4.entry(u64::from(low) << 32 | u64::from(high)).or_default(), sent);
    }

    fn add(&mut self, a: End, b: End, fwd: Count, rev: Count) {
        match (a, b) {
            (End::Addr(IpAddr::V4(a)), End::Addr(IpAddr::V4(b))) => {
                self.add_v4(a.to_bits(), b.to_bits(), fwd, rev)
            }
            _ => {
                let (low, high, sent) = ordered(a, b, fwd, rev);
                add(self.ends.entry((low, high)).or_default(), sent);
            }
        }
    }

    fn into_map(mut self) -> HashMap<(End, End), [Count; 2]> {
        let end = |bits: u64| End::Addr(IpAddr::V4(Ipv4Addr::from_bits(bits as u32)));
        self.ends
            .extend(self.v4.into_iter().map(|(pair, sent)| ((end(pair >> 32), end(pair)), sent)));
        self.ends
    }
}

/// Sums by tunnel: few are busy, and these are found faster in a short list than in a table.
#[derive(Default)]
struct Tunnels {
    first: Vec<(Tunnel, Count)>,
    others: HashMap<Tunnel, Count>,
}

impl Tunnels {
    const FIRST: usize = 8;

    fn add(&mut self, tunnel: Tunnel, c: Count) {
        if let Some(known) = self.first.iter_mut().find(|t| t.0 == tunnel) {
            known.1 += c;
        } else if self.first.len() < Self::FIRST {
            self.first.push((tunnel, c));
        } else {
            *self.others.entry(tunnel).or_default() += c;
        }
    }

    fn into_map(mut self) -> HashMap<Tunnel, Count> {
        self.others.extend(self.first);
        self.others
    }
}

/// Sums by the ends as which hosts are shown.
fn together(
    pairs: HashMap<(End, End), [Count; 2]>,
    scope: &Scope,
) -> HashMap<(End, End), [Count; 2]> {
    let mut sums = HashMap::new();
    for ((a, b), [fwd, rev]) in pairs {
        let (low, high, sent) = ordered(scope.together(a), scope.together(b), fwd, rev);
        add(sums.entry((low, high)).or_default(), sent);
    }
    sums
}

impl Tally {
    /// Walks rows once.
    pub fn of(interval: &Interval, scope: &Scope) -> Self {
        let mut tally = Tally::default();
        let (mut pairs, mut tunnels) = (Pairs::default(), Tunnels::default());
        for row in scope.of_all_tunnels(interval) {
            let [fwd, rev] = row.sent();
            let (both, tunnel) = (fwd + rev, row.outermost());
            tunnels.add(tunnel, both);
            tally.everything += both;
            if scope.tunnel.is_some_and(|t| t != tunnel) {
                continue;
            }
            tally.rows += 1;
            tally.total += both;
            if row.other() && !row.flow().key.is_aged() {
                tally.other += both;
            }
            let v4 = match scope.level {
                Level::Hosts => row.outer_v4(),
                Level::Inner => row.inner_v4().filter(|_| row.outer_v4().is_some()),
            };
            match v4 {
                Some([a, b]) => pairs.add_v4(a, b, fwd, rev),
                None => {
                    let (a, b) = Scope::ends(scope.level, &row.flow());
                    pairs.add(a, b, fwd, rev);
                }
            }
        }
        tally.pairs = pairs.into_map();
        if scope.level == Level::Hosts && scope.grouping.groups_hosts() {
            tally.pairs = together(tally.pairs, scope);
        }
        tally.tunnels = tunnels.into_map();
        tally
    }

    /// What `a` sent to `b`.
    pub fn sent(&self, a: End, b: End) -> Count {
        let (key, way) = if a <= b { ((a, b), 0) } else { ((b, a), 1) };
        self.pairs.get(&key).map_or(Count::default(), |c| c[way])
    }

    /// The tunnels, largest first, then by kind and id.
    pub fn tunnels_by_size(&self, measure: Measure) -> Vec<(Tunnel, Count)> {
        let mut list: Vec<_> = self.tunnels.iter().map(|(t, c)| (*t, *c)).collect();
        list.sort_unstable_by_key(|(t, c)| (Reverse(measure.of(*c)), *t));
        list
    }
}

/// Sender by receiver, dense: the largest ends of a tally and the sum of the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrix {
    /// The ends, largest (sent plus received) first, then by address; [`End::Other`], if any, last.
    pub ends: Vec<End>,
    /// How many ends are in [`End::Other`].
    pub folded: usize,
    cells: Vec<Count>,
    sent: Vec<Count>,
    received: Vec<Count>,
}

impl Matrix {
    /// The `top` largest ends of a tally by a measure. A single further end is shown rather than
    /// called "other".
    pub fn new(tally: &Tally, measure: Measure, top: usize) -> Self {
        let mut sums: HashMap<End, Count> = HashMap::new();
        for ((a, b), [fwd, rev]) in &tally.pairs {
            *sums.entry(*a).or_default() += *fwd + *rev;
            if a != b {
                *sums.entry(*b).or_default() += *fwd + *rev;
            }
        }
        let mut list: Vec<(u64, End)> = sums.into_iter().map(|(e, c)| (measure.of(c), e)).collect();
        list.sort_unstable_by_key(|(n, e)| (Reverse(*n), *e));
        let top = top.max(1);
        let mut folded = 0;
        if list.len() > top + 1 {
            folded = list.len() - top;
            list.truncate(top);
        }
        let mut ends: Vec<End> = list.into_iter().map(|(_, e)| e).collect();
        if folded > 0 {
            ends.push(End::Other);
        }
        let place: HashMap<End, usize> = ends.iter().enumerate().map(|(i, e)| (*e, i)).collect();
        let n = ends.len();
        let last = n.saturating_sub(1);
        let (mut cells, mut sent, mut received) =
            (vec![Count::default(); n * n], vec![Count::default(); n], vec![Count::default(); n]);
        let mut add = |from: usize, to: usize, c: Count| {
            cells[from * n + to] += c;
            sent[from] += c;
            received[to] += c;
        };
        for ((a, b), [fwd, rev]) in &tally.pairs {
            let a = place.get(a).copied().unwrap_or(last);
            let b = place.get(b).copied().unwrap_or(last);
            add(a, b, *fwd);
            add(b, a, *rev);
        }
        Matrix { ends, folded, cells, sent, received }
    }

    /// How many ends there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// There is no end.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Where an end is.
    pub fn index(&self, end: End) -> Option<usize> {
        self.ends.iter().position(|e| *e == end)
    }

    /// What the end at `from` sent to the end at `to`; zero for an index beyond the matrix.
    pub fn get(&self, from: usize, to: usize) -> Count {
        let n = self.len();
        if from < n && to < n { self.cells[from * n + to] } else { Count::default() }
    }

    /// All that the end at `i` sent.
    pub fn sent(&self, i: usize) -> Count {
        self.sent.get(i).copied().unwrap_or_default()
    }

    /// All that the end at `i` received.
    pub fn received(&self, i: usize) -> Count {
        self.received.get(i).copied().unwrap_or_default()
    }

    /// The ends that an end sends to or receives from, the largest first.
    pub fn partners(&self, end: End, measure: Measure) -> Vec<End> {
        let Some(i) = self.index(end) else { return vec![] };
        let of = |c| measure.of(c);
        let both = |j: usize| of(self.get(i, j)).saturating_add(of(self.get(j, i)));
        let mut list: Vec<(u64, usize)> =
            (0..self.len()).map(|j| (both(j), j)).filter(|x| x.0 > 0).collect();
        list.sort_by_key(|&(n, j)| (Reverse(n), j));
        list.into_iter().map(|(_, j)| self.ends[j]).collect()
    }

    /// All of it.
    pub fn total(&self) -> Count {
        self.sent.iter().copied().sum()
    }

    /// The same numbers with the ends in another order: line `i` of the result is line `order[i]`
    /// of this matrix. `order` contains every index once.
    #[must_use]
    pub fn reordered(&self, order: &[usize]) -> Self {
        let mut m = Matrix { folded: self.folded, ..Matrix::default() };
        for &i in order {
            m.ends.extend(self.ends.get(i));
            m.sent.push(self.sent(i));
            m.received.push(self.received(i));
            m.cells.extend(order.iter().map(|&j| self.get(i, j)));
        }
        m
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        flow::{Counters, Key, Kind, Pair},
        rows::Rows,
    };

    fn v4(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(n).into()
    }

    /// A small generator with a fixed seed (PCG's multiplier), so that tests repeat exactly.
    fn random(state: &mut u64, below: u64) -> u64 {
        *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*state >> 33) % below
    }

    fn flows(seed: u64, n: usize) -> Vec<Flow> {
        let mut s = seed;
        (0..n)
            .map(|_| {
                let (a, b) = (random(&mut s, 20) as u32, random(&mut s, 20) as u32);
                let c = |s: &mut u64| Count { packets: random(s, 100), bytes: random(s, 100_000) };
                let (rx, tx) = (c(&mut s), c(&mut s));
                Flow {
                    interface: 0,
                    key: Key {
                        outer: Some(Pair { first: v4(a.min(b)), second: v4(a.max(b)) }),
                        outermost: Tunnel { kind: Kind::Vxlan, id: Some(random(&mut s, 4) as u32) },
                        innermost: None,
                        depth: 1,
                        inner: match random(&mut s, 10) {
                            0 => Inner::Proto(InnerProto(0x0806)),
                            _ => Inner::Pair(Pair {
                                first: v4(1000 + random(&mut s, 50) as u32),
                                second: v4(1000 + random(&mut s, 50) as u32),
                            }),
                        },
                        other: random(&mut s, 20) == 0,
                    },
                    counters: Counters {
                        cells: [[Count::default(), rx], [tx, Count::default()]],
                        ..Default::default()
                    },
                }
            })
            .collect()
    }

    fn rows(flows: &[Flow]) -> Interval {
        let mut rows = Rows::default();
        for (i, f) in flows.iter().enumerate() {
            rows.push_flow(i as u32, f);
        }
        Interval::of(rows)
    }

    #[test]
    fn no_step_loses_a_count() {
        for level in [Level::Hosts, Level::Inner] {
            let flows = flows(7, 500);
            let all: Count = flows.iter().map(|f| f.counters.total()).sum();
            let tally = Tally::of(&rows(&flows), &Scope { level, ..Scope::default() });
            assert_eq!(tally.total, all);
            assert_eq!(tally.tunnels.values().copied().sum::<Count>(), all);
            for top in [0, 1, 2, 5, 19, 1000] {
                let m = Matrix::new(&tally, Measure::Bytes, top);
                let n = m.len();
                assert_eq!(m.total(), all);
                assert_eq!((0..n).map(|i| m.received(i)).sum::<Count>(), all);
                for i in 0..n {
                    assert_eq!((0..n).map(|j| m.get(i, j)).sum::<Count>(), m.sent(i));
                    assert_eq!((0..n).map(|j| m.get(j, i)).sum::<Count>(), m.received(i));
                }
                assert!(n <= top.max(1) + 1);
                assert_eq!(m.folded > 0, m.ends.contains(&End::Other));
            }
        }
    }

    #[test]
    fn the_order_of_the_rows_does_not_matter() {
        let mut flows = flows(3, 300);
        let before = Matrix::new(&Tally::of(&rows(&flows), &Scope::default()), Measure::Packets, 8);
        let mut s = 99;
        for i in (1..flows.len()).rev() {
            flows.swap(i, random(&mut s, i as u64 + 1) as usize);
        }
        let after = Matrix::new(&Tally::of(&rows(&flows), &Scope::default()), Measure::Packets, 8);
        assert_eq!(before, after);
    }

    #[test]
    fn equal_ends_are_in_the_order_of_their_addresses() {
        let mut flows = flows(3, 3);
        for (i, f) in flows.iter_mut().enumerate() {
            f.key.outer = Some(Pair { first: v4(50 - i as u32), second: v4(90) });
            f.counters.cells =
                [[Count::default(); 2], [Count { packets: 1, bytes: 100 }, Count::default()]];
        }
        let m = Matrix::new(&Tally::of(&rows(&flows), &Scope::default()), Measure::Bytes, 8);
        assert_eq!(m.ends, [90, 48, 49, 50].map(|n| End::Addr(v4(n))));
    }

    #[test]
    fn direction_survives_the_order_of_the_pair() {
        let mut f = flows(3, 1)[0];
        f.key.outer = Some(Pair { first: v4(1), second: v4(2) });
        // the inner pair follows the outer pair, so its first may be the higher address
        f.key.inner = Inner::Pair(Pair { first: v4(9), second: v4(5) });
        let (fwd, rev) = (Count { packets: 1, bytes: 10 }, Count { packets: 2, bytes: 20 });
        f.counters.cells = [[Count::default(), rev], [fwd, Count::default()]];
        let hosts = Tally::of(&rows(&[f]), &Scope::default());
        assert_eq!(hosts.sent(End::Addr(v4(1)), End::Addr(v4(2))), fwd);
        assert_eq!(hosts.sent(End::Addr(v4(2)), End::Addr(v4(1))), rev);
        let inner = Tally::of(&rows(&[f]), &Scope { level: Level::Inner, ..Scope::default() });
        assert_eq!(inner.sent(End::Addr(v4(9)), End::Addr(v4(5))), fwd);
        assert_eq!(inner.sent(End::Addr(v4(5)), End::Addr(v4(9))), rev);
    }

    #[test]
    fn a_scope_selects_matching_rows() {
        let flows = flows(11, 400);
        let host = End::Addr(v4(7));
        let sum = |keep: &dyn Fn(&Flow) -> bool| {
            flows.iter().filter(|f| keep(f)).map(|f| f.counters.total()).sum::<Count>()
        };
        let is = |f: &Flow| f.key.outer.is_some_and(|p| p.first == v4(7) || p.second == v4(7));
        let of = |scope: &Scope| Tally::of(&rows(&flows), scope);

        let any = Scope { level: Level::Inner, hosts: Within::Any(vec![host]), ..Scope::default() };
        assert_eq!(of(&any).total, sum(&is));
        let tunnel = Tunnel { kind: Kind::Vxlan, id: Some(2) };
        let one = of(&Scope { tunnel: Some(tunnel), ..any.clone() });
        assert_eq!(one.total, sum(&|f| is(f) && f.key.outermost == tunnel));
        assert_eq!(one.everything, sum(&is), "the selector's shares are of everything in scope");
        let pair = of(&Scope { hosts: Within::Pair(End::Addr(v4(9)), host), ..any });
        assert_eq!(pair.total, sum(&|f| f.key.outer == Some(Pair { first: v4(7), second: v4(9) })));
    }

    #[test]
    fn traffic_without_addresses_is_still_counted() {
        let mut f = flows(5, 1)[0];
        f.key.inner = Inner::Proto(InnerProto(0x0806));
        let mut overflow = f;
        overflow.key.outer = None;
        overflow.key.depth = 0;
        let t =
            Tally::of(&rows(&[f, overflow]), &Scope { level: Level::Inner, ..Scope::default() });
        assert_eq!(t.total, f.counters.total() + overflow.counters.total());
        let m = Matrix::new(&t, Measure::Bytes, 9);
        assert!(m.ends.contains(&End::Unknown));
        let Some(Pair { first, .. }) = f.key.outer else { panic!("it has one") };
        assert!(m.ends.contains(&End::Inside(first, InnerProto(0x0806))));
        assert_eq!(End::Inside(v4(1), InnerProto(0x0806)).to_string(), "0.0.0.1 (arp)");
    }

    #[test]
    fn the_largest_counters_do_not_wrap() {
        let mut f = flows(5, 2);
        for f in &mut f {
            f.counters.cells = [[Count { packets: u64::MAX, bytes: u64::MAX }; 2]; 2];
        }
        let m = Matrix::new(&Tally::of(&rows(&f), &Scope::default()), Measure::Bytes, 9);
        assert_eq!(m.total().bytes, u64::MAX);
    }

    #[test]
    fn reordering_keeps_the_numbers() {
        let m =
            Matrix::new(&Tally::of(&rows(&flows(1, 100)), &Scope::default()), Measure::Bytes, 6);
        let order: Vec<usize> = (0..m.len()).rev().collect();
        let r = m.reordered(&order);
        assert_eq!(r.total(), m.total());
        assert_eq!(r.get(0, 1), m.get(m.len() - 1, m.len() - 2));
        assert_eq!(r.reordered(&order), m);
    }
}
