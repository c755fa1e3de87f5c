// SPDX-License-Identifier: MIT OR Apache-2.0
//! Totals at an instant, and the subtraction that makes an interval of two of them.
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use foldhash::{HashMap, HashMapExt};

use crate::{
    beside::{Beside, Handshakes, Numbered},
    drops::Drops,
    flow::{Books, Count, Flow, Key},
    interface::{GONE, Interface, Origin},
    once::{BothEnds, Once},
    overlay::Overlay,
    rows::{Counts, Part, Rows},
};

/// Placeholder for an unknown time: one that RFC 3339 cannot express, so that it is absent in JSON
/// and `-` elsewhere.
pub fn unknown_time() -> SystemTime {
    const LATER_THAN_ANY: Duration = Duration::from_secs(1 << 60);
    SystemTime::UNIX_EPOCH.checked_add(LATER_THAN_ANY).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Totals at an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The origin of the reading.
    pub origin: Origin,
    /// When counting began.
    pub since: SystemTime,
    /// When this was read.
    pub taken: SystemTime,
    /// When this was read, on a monotonic clock with an arbitrary origin.
    pub at: Duration,
    /// The interfaces, indexed by the rows.
    pub interfaces: Vec<Interface>,
    /// The rows, with totals.
    pub rows: Rows,
    /// What the kernel dropped since drops have been counted; `None` if they are not.
    pub drops: Option<Arc<Drops>>,
    /// What is known besides the rows.
    pub beside: Arc<Beside>,
}

/// What happened between two instants. Interfaces and rows hold differences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The origin of the readings.
    pub origin: Origin,
    /// When it began.
    pub since: SystemTime,
    /// When it ended.
    pub taken: SystemTime,
    /// Its actual length; never assumed.
    pub elapsed: Duration,
    /// The interfaces at its end, books as differences.
    pub interfaces: Vec<Interface>,
    /// Rows with changes, counters as differences.
    pub rows: Rows,
    /// What the kernel dropped in it; `None` if drops are not counted.
    pub drops: Option<Arc<Drops>>,
    /// What is known besides the rows.
    pub beside: Arc<Beside>,
    /// How the host was configured, if that is stored with the interval, as in recordings.
    pub overlay: Option<Arc<Overlay>>,
    once: Once,
}

impl Snapshot {
    /// What happened since an older snapshot, or everything if that one has another origin. An
    /// interface keeps its place for as long as its tables live, whatever it is called and however
    /// often it is recreated; one at a new place counts from zero.
    pub fn since(&self, older: &Snapshot) -> Interval {
        if self.origin != older.origin {
            return self.total();
        }
        let to = places(&older.interfaces, &self.interfaces);
        let heir = self.interfaces.iter().position(|i| i.id == GONE).unwrap_or(usize::MAX);
        let mut before = vec![(Books::default(), older.at); self.interfaces.len()];
        for (i, to) in older.interfaces.iter().zip(&to) {
            if let Some(to) = to {
                before[usize::from(*to)].0.add(&i.books);
                before[usize::from(*to)].1 = i.span;
            } else if let Some((books, _)) = before.get_mut(heir) {
                books.add(&i.books); // it had counted this much before, elsewhere
            }
        }
        let mut interfaces = self.interfaces.clone();
        for (now, (books, span)) in interfaces.iter_mut().zip(before) {
            (now.books, now.span) = (now.books.since(&books), now.span.saturating_sub(span));
        }
        for (i, to) in older.interfaces.iter().zip(&to) {
            let now = to.and_then(|to| interfaces.get_mut(usize::from(to)));
            if let (Some(now), Some(before)) = (now.and_then(|i| i.host.as_mut()), &i.host) {
                let missing = now.missing.saturating_sub(before.missing);
                let host = Arc::make_mut(now);
                (host.since, host.missing) = (before.taken, missing);
            }
        }
        let elapsed = self.at.saturating_sub(older.at);
        let rows = self.rows.since(&older.rows, &to, heir as u16);
        let drops = self.drops.as_deref().map(|new| match &older.drops {
            Some(old) => new.since(old),
            None => new.clone(),
        });
        let interval = Interval::new(older.taken, self.taken, elapsed, interfaces, rows);
        let beside = match Arc::ptr_eq(&self.beside, &older.beside) {
            true => Arc::default(),
            false => Arc::new(self.beside.since(&older.beside)),
        };
        Interval { origin: self.origin.clone(), drops: drops.map(Arc::new), beside, ..interval }
    }

    /// Keeps what could not be read consistently: the rows and books of stale interfaces are taken
    /// from an older snapshot, if it has them.
    pub fn keep_stale(&mut self, older: &Snapshot) {
        let mut to = places(&older.interfaces, &self.interfaces);
        for (i, to) in older.interfaces.iter().zip(&mut to) {
            match to.and_then(|to| self.interfaces.get_mut(usize::from(to))) {
                Some(now) if now.stale => {
                    (now.books, now.span, now.fill) = (i.books, i.span, i.fill);
                }
                _ => *to = None,
            }
        }
        if to.iter().any(Option::is_some) {
            self.rows.keep(&older.rows, &to);
        }
    }

    /// Everything since counting began, as one interval.
    pub fn total(&self) -> Interval {
        self.clone().into_total()
    }

    /// The same. Its rows are changed in place, so that there is one copy of them.
    pub fn into_total(self) -> Interval {
        let elapsed = self.taken.duration_since(self.since).unwrap_or_default();
        let mut interfaces = self.interfaces;
        for i in &mut interfaces {
            i.span = elapsed.saturating_sub(self.at.saturating_sub(i.span));
        }
        let rows = self.rows.folded();
        let interval = Interval::new(self.since, self.taken, elapsed, interfaces, rows);
        Interval { origin: self.origin, drops: self.drops, beside: self.beside, ..interval }
    }
}

impl Interval {
    /// The name of the interface with this `id`.
    pub fn name_of(&self, id: u64) -> Option<&str> {
        self.interfaces.iter().find(|i| i.id == id).map(|i| i.name.as_str())
    }

    /// What happened. This decides which interface counts a packet that several have seen.
    pub fn new(
        since: SystemTime,
        taken: SystemTime,
        elapsed: Duration,
        interfaces: Vec<Interface>,
        rows: Rows,
    ) -> Interval {
        let (rows, once) = Once::decide(rows, &interfaces);
        Interval {
            origin: Origin::default(),
            since,
            taken,
            elapsed,
            interfaces,
            rows,
            drops: None,
            beside: Arc::default(),
            overlay: None,
            once,
        }
    }

    /// Rows of one second, without a known interface.
    #[cfg(test)]
    pub(crate) fn of(rows: Rows) -> Interval {
        let (since, second) = (SystemTime::UNIX_EPOCH, Duration::from_secs(1));
        Interval::new(since, since + second, second, vec![], rows)
    }

    /// The decision which interface counts what.
    pub fn once(&self) -> &Once {
        &self.once
    }

    /// The same with fewer rows of the same sum. The decision which interface counts what stays the
    /// same.
    #[must_use]
    pub fn reduced(&self, rows: Rows) -> Interval {
        let once = self.once.only(&rows);
        let (origin, interfaces) = (self.origin.clone(), self.interfaces.clone());
        let (drops, beside) = (self.drops.clone(), Arc::clone(&self.beside));
        let overlay = self.overlay.clone();
        Interval { origin, interfaces, rows, drops, beside, overlay, once, ..*self }
    }

    /// Adds the books of its interfaces to those of a sum, which gets the interfaces that it does
    /// not have unless those that are gone share an entry. Returns their places there.
    pub(crate) fn add_books(&self, interfaces: &mut Vec<Interface>) -> Vec<u16> {
        let heir = interfaces.iter().position(|i| i.id == GONE);
        let mut to = Vec::with_capacity(self.interfaces.len());
        for (i, place) in self.interfaces.iter().zip(places(&self.interfaces, interfaces)) {
            let place = place.map(usize::from).or(heir).unwrap_or_else(|| {
                let (books, span) = (Books::default(), Duration::ZERO);
                interfaces.push(Interface { books, span, ..i.clone() });
                interfaces.len() - 1
            });
            interfaces[place].books.add(&i.books);
            interfaces[place].span += i.span;
            to.push(place as u16);
        }
        to
    }

    /// Several intervals of one host as one, oldest first. The interfaces are those of the last
    /// one; the counts of others stay with those that are gone, or at the place that they had.
    pub fn sum<'a, I>(all: I) -> Option<Interval>
    where
        I: IntoIterator<Item = &'a Interval>,
        I::IntoIter: DoubleEndedIterator + Clone,
    {
        let all = all.into_iter();
        let (first, last) = (all.clone().next()?, all.clone().next_back()?);
        let mut interfaces = last.interfaces.clone();
        for i in &mut interfaces {
            (i.books, i.span) = (Books::default(), Duration::ZERO);
        }
        let mut sums: HashMap<(u16, Key, Part), Counts> = HashMap::new();
        let (mut elapsed, mut beside) = (Duration::ZERO, Beside::default());
        let mut hosts: HashMap<u16, (Option<SystemTime>, Duration)> = HashMap::new();
        for interval in all.clone() {
            elapsed += interval.elapsed;
            let to = interval.add_books(&mut interfaces);
            for (i, place) in interval.interfaces.iter().zip(&to) {
                let host = interfaces.get_mut(usize::from(*place)).and_then(|i| i.host.as_mut());
                let (Some(host), Some(then)) = (host, &i.host) else { continue };
                let longer = hosts.entry(*place).or_insert((then.since, Duration::ZERO));
                longer.1 = longer.1.saturating_add(then.missing);
                let host = Arc::make_mut(host);
                (host.since, host.missing) = *longer;
            }
            for row in interval.rows.walk() {
                let interface = to.get(usize::from(row.interface())).copied();
                let interface = interface.unwrap_or(row.interface());
                let sum = sums.entry((interface, row.flow().key, row.part())).or_default();
                sum.iter_mut().zip(row.counts()).for_each(|(sum, n)| *sum += n);
            }
            if !interval.beside.is_empty() {
                beside = beside.with(&interval.beside);
            }
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_unstable_by_key(|((interface, key, part), _)| {
            (*interface, *key, part.swapped, part.fragments)
        });
        let mut rows = Rows::default();
        for (((interface, key, part), counts), place) in sums.into_iter().zip(0..) {
            rows.push(place, interface, &key, counts, part);
        }
        let drops = || Arc::new(Drops::sum(all.filter_map(|i| i.drops.as_deref())));
        Some(Interval {
            origin: last.origin.clone(),
            drops: last.drops.is_some().then(drops),
            beside: Arc::new(beside),
            overlay: last.overlay.clone(),
            ..Interval::new(first.since, last.taken, elapsed, interfaces, rows)
        })
    }

    /// The same as totals that start with it.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            origin: self.origin.clone(),
            since: self.since,
            taken: self.taken,
            at: self.elapsed,
            interfaces: self.interfaces.clone(),
            rows: self.rows.clone(),
            drops: self.drops.clone(),
            beside: Arc::clone(&self.beside),
        }
    }

    /// What was dropped of a row in it; `None` if unknown.
    pub fn dropped(&self, flow: &Flow) -> Option<Count> {
        let drops = self.drops.as_ref().filter(|d| d.unavailable.is_none())?;
        let [fwd, rev] = drops.of(&flow.key, flow.interface, &self.interfaces);
        Some(fwd + rev)
    }

    /// What both ends of a row counted, if both are in the fleet; otherwise `None`.
    pub fn both_ends(&self, flow: &Flow) -> Option<BothEnds> {
        self.once.both_ends(flow, &self.interfaces, self.elapsed)
    }

    /// What became of the numbered packets of a row's tunnel in it; `None` if its packets have no
    /// sequence numbers.
    pub fn numbered(&self, flow: &Flow) -> Option<Numbered> {
        self.beside.numbered(flow, &self.interfaces)
    }

    /// TCP handshakes and resets of a row in it; `None` if they were not seen.
    pub fn handshakes(&self, flow: &Flow) -> Option<Handshakes> {
        self.beside.handshakes_of(flow, &self.interfaces)
    }

    /// The books of all interfaces together, each packet once.
    pub fn books(&self) -> Books {
        let mut sum = Books::default();
        for (i, _) in self.interfaces.iter().zip(0..).filter(|(_, n)| self.once.has(*n)) {
            sum.add(&i.books);
        }
        sum
    }
}

/// The indices of an older list's interfaces in a newer one, matched by id.
pub fn places(older: &[Interface], newer: &[Interface]) -> Vec<Option<u16>> {
    let place = |(i, id): (usize, u64)| {
        let same = newer.get(i).filter(|n| n.id == id).map(|_| i);
        same.or_else(|| newer.iter().position(|n| n.id == id)).map(|i| i as u16)
    };
    older.iter().map(|i| i.id).enumerate().map(place).collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::flow::{Counters, Inner, Key, Kind, Pair, Tunnel};

    fn flow(last: u8, id: u32, n: u64) -> Flow {
        let v4 = |d| IpAddr::from([172, 16, 1, d]);
        let c = Count { packets: n, bytes: n * 100 };
        Flow {
            interface: 0,
            key: Key {
                outer: Some(Pair { first: v4(100), second: v4(last) }),
                outermost: Tunnel { kind: Kind::Vxlan, id: Some(id) },
                innermost: None,
                depth: 1,
                inner: Inner::Pair(Pair {
                    first: [192, 168, 0, 1].into(),
                    second: [192, 168, 0, last].into(),
                }),
                other: false,
            },
            counters: Counters {
                cells: [[Count::default(), c], [c, Count::default()]],
                ..Default::default()
            },
        }
    }

    fn snapshot(at: u64, flows: &[Flow]) -> Snapshot {
        let mut rows = Rows::default();
        for (i, f) in flows.iter().enumerate() {
            rows.push_flow(i as u32, f);
        }
        let taken = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
        Snapshot {
            origin: Origin::default(),
            since: SystemTime::UNIX_EPOCH,
            taken,
            at: Duration::from_secs(at),
            interfaces: vec![],
            rows,
            drops: None,
            beside: Default::default(),
        }
    }

    #[test]
    fn an_interval_is_the_difference() {
        let older = snapshot(10, &[flow(101, 1, 5), flow(102, 1, 5), flow(103, 1, 9)]);
        // 101 went on, 102 did not change, 103 was restarted, 104 is new
        let newer =
            snapshot(12, &[flow(101, 1, 8), flow(102, 1, 5), flow(103, 1, 2), flow(104, 1, 1)]);
        let d = newer.since(&older);
        assert_eq!(d.elapsed, Duration::from_secs(2));
        assert_eq!(d.rows.merged(), [flow(101, 1, 3), flow(103, 1, 2), flow(104, 1, 1)]);
    }

    #[test]
    fn a_sum_of_intervals_holds_what_happened_in_all_of_them() {
        let named = |id, n| Interface {
            books: Books { counted: [Count { packets: n, bytes: 0 }; 2], ..Books::default() },
            ..Interface::new(id, &format!("eth{id}"))
        };
        let on = |interface, f: Flow| Flow { interface, ..f };
        let second = Duration::from_secs(1);
        let happened = |at, interfaces, flows: &[Flow]| {
            let t = |n| SystemTime::UNIX_EPOCH + n * second;
            Interval::new(t(at), t(at + 1), second, interfaces, snapshot(0, flows).rows)
        };
        let flows = [on(0, flow(101, 1, 3)), on(1, flow(102, 1, 4))];
        let a = happened(10, vec![named(0, 3), named(1, 4)], &flows);
        // The first has moved, the second is gone.
        let flows = [on(0, flow(103, 1, 1)), on(1, flow(101, 1, 2))];
        let b = happened(11, vec![named(2, 1), named(0, 2)], &flows);
        let sum = Interval::sum([&a, &b]).expect("two");
        assert_eq!((sum.since, sum.taken), (a.since, b.taken));
        assert_eq!(sum.elapsed, Duration::from_secs(2));
        let counted: Vec<_> =
            sum.interfaces.iter().map(|i| (i.id, i.books.counted[0].packets)).collect();
        assert_eq!(counted, [(2, 1), (0, 5), (1, 4)]);
        let rows = [on(0, flow(103, 1, 1)), on(1, flow(101, 1, 5)), on(2, flow(102, 1, 4))];
        assert_eq!(sum.rows.merged(), rows);
        assert_eq!(sum.snapshot().total().rows.merged(), rows);
        assert_eq!(Interval::sum(&[]), None);
    }

    #[test]
    fn readings_of_another_origin_are_not_subtracted() {
        let by = |host: &str, epoch, s: Snapshot| Snapshot {
            origin: Origin { host: host.into(), netns: 0, epoch },
            ..s
        };
        let (older, newer) = (snapshot(1, &[flow(101, 1, 5)]), snapshot(2, &[flow(101, 1, 8)]));
        let since = |older: Snapshot| by("a", 1, newer.clone()).since(&older);
        let same = since(by("a", 1, older.clone()));
        assert_eq!((&*same.origin.host, same.rows.merged()), ("a", vec![flow(101, 1, 3)]));
        for other in [by("a", 2, older.clone()), by("b", 1, older.clone())] {
            let all = since(other);
            assert_eq!((all.since, all.rows.merged()), (newer.since, vec![flow(101, 1, 8)]));
        }
    }

    #[test]
    fn stale_interfaces_keep_their_last_values() {
        let interface = |id: u64, packets, stale| {
            let counted = [Count { packets, bytes: 0 }, Count::default()];
            Interface {
                stale,
                books: Books { counted, ..Books::default() },
                span: Duration::from_secs(packets),
                ..Interface::new(id, &format!("eth{id}"))
            }
        };
        let at = |interface, f: Flow| Flow { interface, ..f };
        // Interface 1 is stale now, and 2, which is new.
        let older = Snapshot {
            interfaces: vec![interface(0, 5, false), interface(1, 7, false)],
            ..snapshot(1, &[at(0, flow(101, 1, 5)), at(1, flow(102, 1, 7))])
        };
        let torn = [at(1, flow(102, 1, 9)), at(1, flow(103, 1, 9)), at(2, flow(104, 1, 1))];
        let mut newer = Snapshot {
            interfaces: vec![interface(0, 6, false), interface(1, 9, true), interface(2, 1, true)],
            ..snapshot(2, &[&[at(0, flow(101, 1, 6))], &torn[..]].concat())
        };
        newer.keep_stale(&older);
        let books: Vec<_> = newer.interfaces.iter().map(|i| i.books.counted[0].packets).collect();
        assert_eq!(books, [6, 7, 1], "what was never read before counts in full");
        let kept = [at(0, flow(101, 1, 6)), at(1, flow(102, 1, 7)), at(2, flow(104, 1, 1))];
        assert_eq!(newer.rows.merged(), kept);
        let happened = newer.since(&older).rows.merged();
        assert_eq!(happened, [at(0, flow(101, 1, 1)), at(2, flow(104, 1, 1))]);
    }

    #[test]
    fn a_slot_with_another_key_counts_from_zero() {
        let d = snapshot(2, &[flow(102, 1, 3)]).since(&snapshot(1, &[flow(101, 1, 9)]));
        assert_eq!(d.rows.merged(), [flow(102, 1, 3)]);
    }

    #[test]
    fn aged_counts_are_not_counted_again() {
        let aged = |f: Flow| Flow { key: f.key.aged(), ..f };
        let of_all = |f: Flow| Flow { key: Key::AGED, ..f };
        let older = snapshot(1, &[flow(101, 1, 5), flow(102, 1, 7), flow(103, 1, 9)]);
        // 101 counted one more and went; 102 had no aged row of its own; 103's slot now belongs to
        // another row.
        let newer = snapshot(
            2,
            &[aged(flow(101, 1, 6)), of_all(flow(0, 0, 7)), flow(104, 1, 2), aged(flow(103, 1, 9))],
        );
        assert_eq!(newer.since(&older).rows.merged(), [aged(flow(101, 1, 1)), flow(104, 1, 2)]);
        // It came back at once, in the same slot.
        let newer = snapshot(
            2,
            &[flow(101, 1, 2), flow(102, 1, 7), flow(103, 1, 9), aged(flow(101, 1, 5))],
        );
        assert_eq!(newer.since(&older).rows.merged(), [flow(101, 1, 2)]);
        // Aged rows continue from their previous counts.
        let later = snapshot(
            3,
            &[flow(101, 1, 2), aged(flow(102, 1, 7)), flow(103, 1, 9), aged(flow(101, 1, 5))],
        );
        assert_eq!(later.since(&newer).rows.merged(), []);
    }

    #[test]
    fn fragments_are_subtracted_and_aged_separately() {
        let with = |f: Flow, fragments| {
            let cells = f.counters.cells.map(|ways| {
                ways.map(|c| {
                    if c.is_zero() { c } else { Count { packets: fragments, bytes: fragments } }
                })
            });
            Flow { counters: Counters { fragments: cells, ..f.counters }, ..f }
        };
        let older = snapshot(1, &[with(flow(101, 1, 5), 2)]);
        let newer = snapshot(2, &[with(flow(101, 1, 9), 3)]);
        let difference = newer.since(&older).rows.merged();
        assert_eq!(
            (
                difference[0].counters.tx().packets,
                difference[0].counters.in_fragments().tx().packets
            ),
            (4, 1)
        );
        let gone =
            snapshot(3, &[Flow { key: flow(101, 1, 0).key.aged(), ..with(flow(101, 1, 9), 3) }]);
        assert_eq!(gone.since(&newer).rows.merged(), []);
    }

    #[test]
    fn books_cover_a_longer_time_after_a_failed_reading() {
        let reading = |at, read, packets| {
            let books =
                Books { counted: [Count { packets, bytes: packets * 100 }; 2], ..Books::default() };
            let interface = Interface {
                stale: read < at,
                books,
                span: Duration::from_secs(read),
                ..Interface::new(0, "eth0")
            };
            Snapshot { interfaces: vec![interface], ..snapshot(at, &[]) }
        };
        // Ten packets a second; the third and the fourth reading fail.
        let all = [
            reading(1, 1, 10),
            reading(2, 2, 20),
            reading(3, 2, 20),
            reading(4, 2, 20),
            reading(5, 5, 50),
            reading(6, 6, 60),
        ];
        let of = |i: &Interval| {
            (
                i.elapsed.as_secs(),
                i.interfaces[0].books.counted[0].packets,
                i.interfaces[0].span.as_secs(),
            )
        };
        let intervals: Vec<_> = all.windows(2).map(|w| of(&w[1].since(&w[0]))).collect();
        assert_eq!(intervals, [(1, 10, 1), (1, 0, 0), (1, 0, 0), (1, 30, 3), (1, 10, 1)]);
        assert_eq!(all.each_ref().map(|s| of(&s.total()).2), [1, 2, 2, 2, 5, 6]);
        // An interface that appears later counts from the reading before.
        assert_eq!(of(&all[5].since(&snapshot(4, &[]))), (2, 60, 2));
    }

    fn interface(id: u64, packets: u64) -> Interface {
        let books =
            Books { counted: [Count { packets, bytes: packets * 100 }; 2], ..Books::default() };
        let span = Duration::from_secs(1);
        Interface { books, span, ..Interface::new(id, &format!("pod{id}")) }
    }

    #[test]
    fn sharing_an_entry_later_does_not_count_again() {
        let at = |interface, f: Flow| Flow { interface, ..f };
        let aged = |interface, f: Flow| Flow { interface, key: f.key.aged(), ..f };
        let with = |ids: &[(u64, u64)], rows: &[(u32, Flow)]| {
            let mut s = snapshot(1, &[]);
            s.interfaces = ids.iter().map(|(id, n)| interface(*id, *n)).collect();
            rows.iter().for_each(|(place, row)| s.rows.push_flow(*place, row));
            s
        };
        let older = with(
            &[(7, 5), (8, 6), (9, 1)],
            &[
                (0, aged(0, flow(101, 1, 5))),
                (4, at(1, flow(102, 1, 6))),
                (2, at(2, flow(103, 1, 1))),
            ],
        );
        // 7 shares an entry, and so does 8, which counted one more before it went; 10 is new.
        let newer = with(
            &[(9, 3), (GONE, 12), (10, 4)],
            &[
                (2, at(0, flow(103, 1, 3))),
                (0, aged(1, flow(101, 1, 5))),
                (1, aged(1, flow(102, 1, 7))),
                (2, at(2, flow(104, 1, 4))),
            ],
        );
        let between = newer.since(&older);
        assert_eq!(
            between.rows.merged(),
            [at(0, flow(103, 1, 2)), aged(1, flow(102, 1, 1)), at(2, flow(104, 1, 4))]
        );
        let counted: Vec<u64> =
            between.interfaces.iter().map(|i| i.books.counted[0].packets).collect();
        assert_eq!(counted, [2, 1, 4]);
    }
}
