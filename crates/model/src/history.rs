// SPDX-License-Identifier: MIT OR Apache-2.0
//! The last minutes, in bounded memory.
//!
//! Every interval is kept as an interval, so whatever can be drawn of the present can be drawn of
//! the past. An interval with very many rows is first reduced, just as the kernel does when its
//! table is full: the largest rows stay, the others are added to their tunnel's `other` row (same
//! outer pair, same tunnel), so that sums by host and by tunnel stay exact. Time is an argument.
use std::{
    cmp::Reverse,
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use foldhash::{HashMap, HashMapExt};

use crate::{
    drops::{self, Drops},
    flow::{Books, Counters, Flow, Inner, InnerProto, Key, Kind, Pair, Tunnel},
    interface::Interface,
    rows::Rows,
    snapshot::Interval,
};

/// How far back the history reaches.
pub const SPAN: Duration = Duration::from_secs(600);
/// The largest rows of an interval that are kept apart.
pub const ROWS: usize = 512;
/// How many `other` rows (outer pair and tunnel) an interval keeps apart.
pub const GROUPS: usize = 1024;
/// Rows kept over all intervals. The oldest intervals go first.
pub const BUDGET: usize = 1_000_000;
/// Bytes that all intervals take together, unless another number is given.
pub const BYTES: usize = 128_000_000;

/// One interval of the past.
#[derive(Clone, Debug)]
pub struct PastInterval {
    /// Its number: counts up by one, never reused.
    pub number: u64,
    /// What happened, reduced.
    pub interval: Interval,
}

/// Intervals, oldest first.
#[derive(Clone, Debug)]
pub struct History {
    frames: VecDeque<PastInterval>,
    next: u64,
    rows: usize,
    bytes: usize,
    /// Limit on its memory in bytes.
    most: usize,
    span: Option<Duration>,
}

impl Default for History {
    fn default() -> Self {
        History {
            frames: VecDeque::new(),
            next: 0,
            rows: 0,
            bytes: 0,
            most: BYTES,
            span: Some(SPAN),
        }
    }
}

impl History {
    /// A history that forgets and reduces nothing: for captures, which end.
    pub fn unlimited() -> Self {
        History { span: None, ..History::default() }
    }

    /// A history of at most this many bytes; with 0 it keeps nothing.
    pub fn within(bytes: usize) -> Self {
        History { most: bytes, ..History::default() }
    }

    /// Adds the newest interval and returns its number.
    pub fn push(&mut self, interval: &Interval) -> u64 {
        let number = self.next;
        self.next += 1;
        if self.most == 0 {
            return number;
        }
        let mut kept = match self.span {
            Some(_) if interval.rows.len() > ROWS => {
                interval.reduced(reduce(&interval.rows, ROWS, GROUPS))
            }
            _ => interval.clone(),
        };
        if let Some(drops) = kept.drops.as_mut().filter(|_| self.span.is_some())
            && drops.rows.len() > drops::ROWS
        {
            *drops = Arc::new(drops.reduced(drops::ROWS));
        }
        self.rows += kept.rows.len();
        self.bytes += bytes(&kept);
        let newest = kept.taken;
        self.frames.push_back(PastInterval { number, interval: kept });
        while self.span.is_some()
            && self.frames.len() > 1
            && (self.rows > BUDGET || self.bytes > self.most || self.oldest_is_past(newest))
        {
            if let Some(gone) = self.frames.pop_front() {
                self.rows -= gone.interval.rows.len();
                self.bytes -= bytes(&gone.interval);
            }
        }
        number
    }

    fn oldest_is_past(&self, newest: SystemTime) -> bool {
        let age = self.frames.front().and_then(|f| newest.duration_since(f.interval.taken).ok());
        matches!((age, self.span), (Some(age), Some(span)) if age > span)
    }

    /// The interval with this number, if it is still kept.
    pub fn get(&self, number: u64) -> Option<&PastInterval> {
        let first = self.frames.front()?.number;
        self.frames.get(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    /// The newest interval.
    pub fn newest(&self) -> Option<&PastInterval> {
        self.frames.back()
    }

    /// The oldest interval.
    pub fn oldest(&self) -> Option<&PastInterval> {
        self.frames.front()
    }

    /// How many intervals there are.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// There is no interval.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The intervals, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &PastInterval> + ExactSizeIterator {
        self.frames.iter()
    }

    /// Rows kept over all intervals.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Everything from the oldest interval to the one with this number, as one interval: the total
    /// while scrubbing. `None` if that interval is gone.
    pub fn total_until(&self, number: u64) -> Option<Interval> {
        let last = &self.get(number)?.interval;
        let first = &self.oldest()?.interval;
        let mut sums: HashMap<(u16, Key), Counters> = HashMap::new();
        let mut elapsed = Duration::ZERO;
        let mut interfaces = last.interfaces.clone();
        for i in &mut interfaces {
            (i.books, i.span) = (Books::default(), Duration::ZERO);
        }
        for frame in self.frames.iter().take_while(|f| f.number <= number) {
            elapsed += frame.interval.elapsed;
            let to = frame.interval.add_books(&mut interfaces);
            for row in frame.interval.rows.iter() {
                let interface = to.get(usize::from(row.interface)).copied();
                let interface = interface.unwrap_or(row.interface);
                sums.entry((interface, row.key)).or_default().add(&row.counters);
            }
        }
        let mut rows = Rows::default();
        for (place, ((interface, key), counters)) in sums.into_iter().enumerate() {
            rows.push_flow(place as u32, &Flow { interface, key, counters });
        }
        let all = self.frames.iter().take_while(|f| f.number <= number);
        let drops = Drops::sum(all.filter_map(|f| f.interval.drops.as_deref()));
        let mut total = Interval::new(first.since, last.taken, elapsed, interfaces, rows);
        total.origin = last.origin.clone();
        total.drops = last.drops.is_some().then(|| Arc::new(drops));
        Some(total)
    }

    /// The last `n` intervals up to the one with this number, oldest first.
    pub fn until(&self, number: u64, n: usize) -> impl Iterator<Item = &PastInterval> {
        let end = self.frames.partition_point(|f| f.number <= number);
        self.frames.range(end.saturating_sub(n)..end)
    }

    /// The intervals from the one with this number on, oldest first.
    pub fn since(&self, number: u64) -> impl Iterator<Item = &PastInterval> {
        self.frames.range(self.frames.partition_point(|f| f.number < number)..)
    }
}

/// The variable part of the memory that an interval takes.
pub fn bytes(interval: &Interval) -> usize {
    let interfaces = &interval.interfaces;
    let names = |i: &Interface| i.name.len() + i.netns.as_ref().map_or(0, String::len);
    let interfaces: usize = interfaces.iter().map(|i| size_of::<Interface>() + names(i)).sum();
    interval.rows.bytes()
        + interfaces
        + interval.drops.as_ref().map_or(0, |d| d.bytes())
        + interval.beside.bytes()
}

/// What identifies an `other` row of the history: interface, outer pair, outermost tunnel.
type Group = (u16, Option<Pair>, Tunnel);

/// Sums by group while walking rows. Most outer pairs are two IPv4 addresses, which fit into one
/// number.
#[derive(Default)]
struct Sums {
    v4: HashMap<(u64, u16, Tunnel), Counters>,
    groups: HashMap<Group, Counters>,
}

impl Sums {
    fn add_v4(&mut self, [a, b]: [u32; 2], interface: u16, tunnel: Tunnel, counters: &Counters) {
        self.v4
            .entry((u64::from(a) << 32 | u64::from(b), interface, tunnel))
            .or_default()
            .add(counters);
    }

    fn add(&mut self, row: &Flow) {
        match row.key.outer {
            Some(Pair { first: IpAddr::V4(a), second: IpAddr::V4(b) }) => {
                self.add_v4(
                    [a.to_bits(), b.to_bits()],
                    row.interface,
                    row.key.outermost,
                    &row.counters,
                );
            }
            outer => self
                .groups
                .entry((row.interface, outer, row.key.outermost))
                .or_default()
                .add(&row.counters),
        }
    }

    fn into_list(self) -> Vec<(Group, Counters)> {
        let end = |bits: u64| IpAddr::V4(Ipv4Addr::from_bits(bits as u32));
        let v4 = self.v4.into_iter().map(|((pair, interface, tunnel), sum)| {
            let outer = Pair { first: end(pair >> 32), second: end(pair) };
            ((interface, Some(outer), tunnel), sum)
        });
        v4.chain(self.groups).collect()
    }
}

fn other(group: Group, counters: Counters) -> Flow {
    let (interface, outer, outermost) = group;
    let inner = Inner::Proto(InnerProto::OTHER);
    Flow {
        interface,
        key: Key {
            outer,
            outermost,
            innermost: None,
            depth: u8::from(outer.is_some()),
            inner,
            other: true,
        },
        counters,
    }
}

/// Keeps at most `keep` rows as they are, at most `groups` sums of the others, and one row per
/// interface for everything beyond. No count is lost.
pub fn reduce(rows: &Rows, keep: usize, groups: usize) -> Rows {
    if rows.len() <= keep {
        return rows.clone();
    }
    // larger first, then in their original order
    let rank = |&(n, i): &(u64, u32)| (Reverse(n), i);
    let mut order: Vec<(u64, u32)> =
        rows.walk().zip(0..).map(|(r, i)| (r.total().bytes, i)).collect();
    let limit = rank(order.select_nth_unstable_by_key(keep.saturating_sub(1), rank).1);
    drop(order);

    let mut out = Rows::default();
    let mut sums = Sums::default();
    let mut place = 0;
    for (row, i) in rows.walk().zip(0..) {
        if rank(&(row.total().bytes, i)) <= limit {
            out.push_flow(place, &row.flow());
            place += 1;
        } else if let Some(outer) = row.outer_v4() {
            sums.add_v4(outer, row.interface(), row.outermost(), &row.counters());
        } else {
            sums.add(&row.flow());
        }
    }
    for flow in others(sums, groups) {
        out.push_flow(place, &flow);
        place += 1;
    }
    out
}

/// Adds rows up as the history adds up the small ones: at most `groups` sums by interface, outer
/// pair and tunnel, and one per interface for everything beyond. No count is lost.
pub fn summed<'a>(flows: impl IntoIterator<Item = &'a Flow>, groups: usize) -> Vec<Flow> {
    let mut sums = Sums::default();
    flows.into_iter().for_each(|f| sums.add(f));
    others(sums, groups)
}

fn others(sums: Sums, groups: usize) -> Vec<Flow> {
    let mut sums = sums.into_list();
    let rank = |(group, c): &(Group, Counters)| (Reverse(c.total().bytes), *group);
    let mut overflow: HashMap<u16, Counters> = HashMap::new();
    if sums.len() > groups {
        sums.select_nth_unstable_by_key(groups, rank);
        for (group, counters) in sums.drain(groups..) {
            overflow.entry(group.0).or_default().add(&counters);
        }
    }
    sums.sort_unstable_by_key(rank);
    let none = Tunnel { kind: Kind::None, id: None };
    let overflow = overflow.into_iter().map(|(interface, c)| ((interface, None, none), c));
    sums.into_iter().chain(overflow).map(|(group, counters)| other(group, counters)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        flow::Count,
        matrix::{Scope, Tally},
    };

    fn row(peer: u32, id: u32, inner: u32, bytes: u64) -> Flow {
        let v4 = |n| IpAddr::from(Ipv4Addr::from_bits(n));
        Flow {
            interface: 0,
            key: Key {
                outer: Some(Pair { first: v4(1), second: v4(peer) }),
                outermost: Tunnel { kind: Kind::Vxlan, id: Some(id) },
                innermost: None,
                depth: 1,
                inner: Inner::Pair(Pair { first: v4(0), second: v4(inner) }),
                other: false,
            },
            counters: Counters {
                cells: [[Count::default(); 2], [Count { packets: 1, bytes }, Count::default()]],
                ..Default::default()
            },
        }
    }

    fn interval(at: u64, flows: impl IntoIterator<Item = Flow>) -> Interval {
        let mut rows = Rows::default();
        for (i, f) in flows.into_iter().enumerate() {
            rows.push_flow(i as u32, &f);
        }
        let t = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        Interval::new(t(at), t(at + 1), Duration::from_secs(1), vec![], rows)
    }

    type Sent = ((crate::matrix::End, crate::matrix::End), [Count; 2]);

    fn sums(rows: &Rows) -> (Vec<Sent>, Vec<(Tunnel, Count)>) {
        let t = Tally::of(&Interval::of(rows.clone()), &Scope::default());
        let mut pairs: Vec<_> = t.pairs.clone().into_iter().collect();
        pairs.sort_unstable_by_key(|p| p.0);
        (pairs, t.tunnels_by_size(Default::default()))
    }

    #[test]
    fn a_reduced_interval_has_the_same_sums_by_host_and_tunnel() {
        let flows: Vec<Flow> =
            (0..9000).map(|i| row(2 + i % 40, i % 4, i, u64::from(i * 7919 % 10007) + 1)).collect();
        let all = interval(0, flows.iter().copied());
        let less = reduce(&all.rows, 100, 500);
        assert!(less.len() <= 100 + 160);
        assert_eq!(sums(&less), sums(&all.rows));
        let largest =
            flows.iter().max_by_key(|f| f.counters.total().bytes).expect("there are flows");
        assert!(less.merged().contains(largest), "the largest rows are kept as they are");
    }

    #[test]
    fn more_hosts_than_groups_still_lose_nothing() {
        let all = interval(0, (0..5000).map(|i| row(2 + i, 0, i, 10)));
        let less = reduce(&all.rows, 50, 60);
        assert_eq!(less.len(), 50 + 60 + 1);
        let total = |r: &Rows| r.iter().map(|f| f.counters.total()).sum::<Count>();
        assert_eq!(total(&less), total(&all.rows));
    }

    #[test]
    fn a_total_keeps_the_interfaces_of_earlier_intervals_apart() {
        let mut h = History::default();
        let mut last = 0;
        for (at, name) in [(0, "eth0"), (1, "eth1")] {
            let mut one = interval(at, [row(2, 1, 1, 10)]);
            one.interfaces = vec![Interface::new(at, name)];
            last = h.push(&one);
        }
        let total = h.total_until(last).expect("both are kept");
        let names: Vec<_> = total.interfaces.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(names, ["eth1", "eth0"]);
        let mut places: Vec<_> = total.rows.iter().map(|f| f.interface).collect();
        places.sort_unstable();
        assert_eq!(places, [0, 1]);
    }

    #[test]
    fn intervals_older_than_the_span_are_forgotten() {
        let mut h = History::default();
        let first = h.push(&interval(0, [row(2, 1, 1, 1)]));
        for at in 1..=700 {
            h.push(&interval(at, [row(2, 1, 1, 1)]));
        }
        assert!(h.get(first).is_none());
        assert_eq!(h.len(), SPAN.as_secs() as usize + 1);
        assert_eq!(h.rows(), h.len());
        assert_eq!(h.get(700).map(|f| f.number), Some(700));
        assert!(h.get(701).is_none());
    }

    #[test]
    fn rows_are_bounded_for_any_input() {
        let mut h = History::default();
        let big = interval(0, (0..4000).map(|i| row(2 + i, i % 7, i, 10)));
        for _ in 0..1000 {
            h.push(&big);
            assert!(h.rows() <= BUDGET);
        }
        assert!(
            h.len() * (ROWS + GROUPS + 1) >= BUDGET - (ROWS + GROUPS + 1),
            "no more is dropped than must be"
        );
    }

    #[test]
    fn bytes_are_bounded_for_any_intervals() {
        let mut h = History::within(100_000);
        let one = interval(0, (0..100).map(|i| row(2 + i, 1, i, 10)));
        for _ in 0..100 {
            h.push(&one);
            assert!(h.bytes <= 100_000);
        }
        assert_eq!(h.len(), 100_000 / one.rows.bytes());
        assert_eq!(h.bytes, h.iter().map(|f| bytes(&f.interval)).sum::<usize>());
        let mut none = History::within(0);
        assert_eq!((none.push(&one), none.push(&one), none.len()), (0, 1, 0));
    }

    #[test]
    fn the_total_up_to_an_interval_is_the_sum() {
        let mut h = History::default();
        for at in 0..5 {
            h.push(&interval(at, [row(2, 1, 1, 10 + at), row(3, 1, 1, 100)]));
        }
        let sum = h.total_until(2).expect("it is kept");
        assert_eq!(sum.elapsed, Duration::from_secs(3));
        assert_eq!(
            sum.rows.merged().iter().map(|f| f.counters.total().bytes).collect::<Vec<_>>(),
            [33, 300]
        );
        assert!(h.total_until(9).is_none());
    }

    #[test]
    fn a_scope_has_its_own_trend() {
        let mut h = History::default();
        for at in 0..9 {
            h.push(&interval(at, [row(2, 1, 1, at + 1), row(3, 2, 1, 100)]));
        }
        let scope =
            Scope { tunnel: Some(Tunnel { kind: Kind::Vxlan, id: Some(1) }), ..Scope::default() };
        let line: Vec<u64> = h.until(6, 3).map(|f| scope.sum(&f.interval).bytes).collect();
        assert_eq!(line, [5, 6, 7]);
        assert_eq!(h.since(7).map(|f| f.number).collect::<Vec<_>>(), [7, 8]);
    }
}
