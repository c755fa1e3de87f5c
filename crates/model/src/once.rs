// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which interface counts a packet that several watched interfaces saw: totals include it once.
//!
//! This is decided here and nowhere else, when an interval is made, and the interval carries the
//! decision. There are three cases. Every packet of a loopback interface passes both of its hooks;
//! then only egress counts. An interface may lie above or beside another one that all of its
//! packets pass; then only the other one counts. Or packets come in by one interface and leave by
//! another: at a bridge with two watched ports, at a router, at both ends of a wire. Each interface
//! shows its rows, and they mirror each other, since what arrives at one leaves by the other. Seen
//! from an interface, one of two hosts is the one whose packets arrive there. If, for the same two
//! hosts, some interfaces have the first host on that side and others the second, their rows are of
//! the same packets, and only one side counts: the one where more arrived. An interface that has
//! both hosts on its side (a mirror, a hub) is inconclusive, and everything seen of the two hosts
//! counts.
use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use foldhash::{HashMap, HashMapExt, HashSet};

use crate::{
    flow::{Count, Counters, Flow, HookKind, Pair},
    interface::Interface,
    lane::Balance,
    rows::{Row, Rows},
};

/// What counts in totals. By default everything does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Once {
    /// By interface: whether another one counts all of its packets.
    left_out: Arc<[bool]>,
    /// The pairs of hosts whose packets pass two of the other interfaces.
    transit: Arc<HashMap<Pair, Side>>,
    /// In a fleet: the host that has an address.
    hosts: Option<Arc<HashMap<IpAddr, u16>>>,
}

/// The counts of the same packets at both ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BothEnds {
    /// At their senders.
    pub sent: Count,
    /// At their receivers.
    pub received: Count,
    /// Packets that were sent and not received, in either direction.
    pub lost: u64,
    /// Packets that were received and not sent.
    pub surplus: u64,
    /// By how many packets either count may be wrong, because the ends are not read at the same
    /// moment.
    pub bound: u64,
}

/// The side that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Side {
    /// The host whose packets arrive there: 0 the first, 1 the second.
    from: usize,
    /// The index of an interface there.
    interface: u16,
}

/// What was seen on a side.
#[derive(Clone, Copy, Debug)]
struct Sight {
    interface: u16,
    /// A bitmap of all of them; those that are 128 apart share a bit.
    interfaces: u128,
    arrived: u64,
}

impl fmt::Display for BothEnds {
    /// The loss and its error bound: `12 ±3`, `0 ±3`, and `+30 ±3` for surplus.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.balance() {
            Balance::Even => "0".to_owned(),
            Balance::Lost(n) => n.to_string(),
            Balance::Surplus(n) => format!("+{n}"),
        };
        f.pad(&format!("{text} ±{}", self.bound))
    }
}

impl BothEnds {
    /// What the counts show.
    pub fn balance(&self) -> Balance {
        match Balance::of(self.lost, 0, self.bound) {
            Balance::Even => Balance::of(0, self.surplus, self.bound),
            lost => lost,
        }
    }
}

impl Once {
    /// Makes the decision for the rows of an interval, and marks rows of which only one hook
    /// counts.
    pub(crate) fn decide(rows: Rows, interfaces: &[Interface]) -> (Rows, Once) {
        if interfaces.iter().any(|i| i.hook == HookKind::Fleet) {
            let hosts = Once::hosts(interfaces);
            let rows = rows.counted_at_senders(|address| hosts.contains_key(&address));
            return (rows, Once { hosts: Some(Arc::new(hosts)), ..Once::default() });
        }
        let once = Once::of(&rows, interfaces);
        let loopback = |i: u16| interfaces.get(usize::from(i)).is_some_and(|i| i.loopback);
        let rows = match interfaces.iter().any(|i| i.loopback) {
            true => rows.egress_only(loopback),
            false => rows,
        };
        (rows, once)
    }

    /// The host of each address. An address of several hosts belongs to any of them.
    fn hosts(interfaces: &[Interface]) -> HashMap<IpAddr, u16> {
        let mut hosts: HashMap<IpAddr, u16> = HashMap::new();
        for (i, n) in interfaces.iter().zip(0..) {
            for address in i.live().iter().flat_map(|h| &h.local) {
                hosts.entry(*address).or_insert(n);
            }
        }
        hosts
    }

    /// What both ends counted of a row's packets, in the directions whose ends are both in the
    /// fleet; `None` if there is no such direction.
    pub fn both_ends(
        &self,
        flow: &Flow,
        interfaces: &[Interface],
        elapsed: Duration,
    ) -> Option<BothEnds> {
        let (hosts, pair) = (self.hosts.as_ref()?, flow.key.outer?);
        let host = |address| {
            let place = usize::from(*hosts.get(&address)?);
            interfaces.get(place)?.live().filter(|h| h.off.is_none())
        };
        let (a, b) = (host(pair.first)?, host(pair.second)?);
        if !a.is_as_detailed_as(b) {
            return None;
        }
        let apart = a.apart(b)?;
        let mut sum = BothEnds::default();
        for direction in 0..2 {
            let [received, sent] = flow.counters.cells.map(|hook| hook[direction]);
            sum.sent += sent;
            sum.received += received;
            sum.lost += sent.packets.saturating_sub(received.packets);
            sum.surplus += received.packets.saturating_sub(sent.packets);
        }
        let rate =
            sum.sent.packets.max(sum.received.packets) as f64 / elapsed.as_secs_f64().max(1e-3);
        sum.bound = (rate * apart.as_secs_f64()).ceil() as u64;
        Some(sum)
    }

    /// How many bytes of rows were counted by both ends, and how many there are; zero outside
    /// fleets.
    pub fn bytes_with_both(&self, rows: &Rows) -> [u64; 2] {
        let Some(hosts) = &self.hosts else { return [0; 2] };
        let mut sums = [0u64; 2];
        for row in rows.walk() {
            let bytes = row.total().bytes;
            let both = row.outer().is_some_and(|pair| {
                hosts.contains_key(&pair.first) && hosts.contains_key(&pair.second)
            });
            sums[0] = sums[0].saturating_add(if both { bytes } else { 0 });
            sums[1] = sums[1].saturating_add(bytes);
        }
        sums
    }

    /// Whether the rows are of a fleet.
    pub fn is_of_fleet(&self) -> bool {
        self.hosts.is_some()
    }

    fn of(rows: &Rows, interfaces: &[Interface]) -> Once {
        let left_out = interfaces.iter().map(|i| i.counted_on.is_some());
        let once = Once { left_out: left_out.collect(), ..Once::default() };
        if once.left_out.iter().filter(|left_out| !**left_out).count() < 2 {
            return once;
        }
        let mut seen: HashMap<Pair, [Option<Sight>; 2]> = HashMap::new();
        for row in rows.walk().filter(|r| once.has(r.interface())) {
            let (Some(pair), (from, arrived)) = (row.outer(), row.arrived()) else { continue };
            let new = Sight { interface: row.interface(), interfaces: 0, arrived: 0 };
            let sight = seen.entry(pair).or_default()[from].get_or_insert(new);
            sight.interfaces |= 1 << (row.interface() % 128);
            sight.arrived = sight.arrived.saturating_add(arrived);
        }
        // With more interfaces than bits, look again at pairs that may have both hosts on one side.
        let meets = |(pair, sights): (&Pair, &[Option<Sight>; 2])| match sights {
            [Some(a), Some(b)] if a.interfaces & b.interfaces != 0 => {
                Some((*pair, <[HashSet<u16>; 2]>::default()))
            }
            _ => None,
        };
        let mut exact: HashMap<_, _> = match interfaces.len() > 128 {
            true => seen.iter().filter_map(meets).collect(),
            false => HashMap::default(),
        };
        if !exact.is_empty() {
            for row in rows.walk().filter(|r| once.has(r.interface())) {
                if let Some(sides) = row.outer().and_then(|pair| exact.get_mut(&pair)) {
                    sides[row.arrived().0].insert(row.interface());
                }
            }
        }
        let side = |(pair, sights): (Pair, [Option<Sight>; 2])| match sights {
            [Some(a), Some(b)]
                if a.interfaces & b.interfaces == 0
                    || exact.get(&pair).is_some_and(|[a, b]| a.is_disjoint(b)) =>
            {
                let from = usize::from(b.arrived > a.arrived);
                Some((pair, Side { from, interface: [a, b][from].interface }))
            }
            _ => None,
        };
        Once { transit: Arc::new(seen.into_iter().filter_map(side).collect()), ..once }
    }

    /// Whether every packet counts wherever it was seen.
    pub fn is_all(&self) -> bool {
        self.transit.is_empty() && !self.left_out.contains(&true)
    }

    /// Whether an interface counts at all.
    pub fn has(&self, interface: u16) -> bool {
        self.left_out.get(usize::from(interface)).is_none_or(|left_out| !left_out)
    }

    /// Whether a row, or a part of one, counts.
    #[inline]
    pub fn counts(&self, row: &Row<'_>) -> bool {
        self.has(row.interface())
            && (self.transit.is_empty() || !self.repeats(row.outer(), row.arrived().0))
    }

    /// Whether part of a row of this pair, seen where this host's packets arrive, is counted
    /// elsewhere.
    fn repeats(&self, pair: Option<Pair>, from: usize) -> bool {
        pair.and_then(|p| self.transit.get(&p)).is_some_and(|side| side.from != from)
    }

    /// What a whole row contributes to totals.
    pub fn share(&self, flow: &Flow) -> Counters {
        if !self.has(flow.interface) {
            return Counters::default();
        }
        let mut counters = flow.counters;
        for from in 0..2 {
            if self.repeats(flow.key.outer, from) {
                for cells in [&mut counters.cells, &mut counters.fragments] {
                    (cells[0][from], cells[1][1 - from]) = (Count::default(), Count::default());
                }
            }
        }
        counters
    }

    /// The interface that counts the packets of a row which pass two interfaces, if the row
    /// contributes nothing.
    pub fn passed_on(&self, flow: &Flow) -> Option<u16> {
        if !self.has(flow.interface) {
            return None;
        }
        let side = flow.key.outer.and_then(|p| self.transit.get(&p))?;
        self.share(flow).total().is_zero().then_some(side.interface)
    }

    /// The same for fewer rows, without the parts that they do not need.
    #[must_use]
    pub fn only(&self, rows: &Rows) -> Once {
        if self.transit.is_empty() {
            return self.clone();
        }
        let pairs: HashSet<Pair> = rows.walk().filter_map(|r| r.outer()).collect();
        let transit = self.transit.iter().filter(|(p, _)| pairs.contains(p));
        Once { transit: Arc::new(transit.map(|(p, s)| (*p, *s)).collect()), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr},
        time::{Duration, SystemTime},
    };

    use super::*;
    use crate::{
        flow::{Inner, Key, Kind, Tunnel},
        matrix::{Scope, Tally},
        snapshot::Interval,
    };

    fn host(n: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, n).into()
    }

    /// A row between hosts 1 and `second`: packets by hook and direction.
    fn row(interface: u16, second: u8, cells: [[u64; 2]; 2]) -> Flow {
        let count = |packets| Count { packets, bytes: packets * 100 };
        let key = Key {
            outer: Some(Pair { first: host(1), second: host(second) }),
            outermost: Tunnel { kind: Kind::Vxlan, id: Some(7) },
            innermost: None,
            depth: 1,
            inner: Inner::Pair(Pair { first: host(101), second: host(102) }),
            other: false,
        };
        Flow {
            interface,
            key,
            counters: Counters { cells: cells.map(|c| c.map(count)), ..Default::default() },
        }
    }

    fn interfaces(n: u32) -> Vec<Interface> {
        let interface = |i: u32| Interface::new(i.into(), &format!("eth{i}"));
        (0..n).map(interface).collect()
    }

    fn interval(rows: Rows, interfaces: &[Interface]) -> Interval {
        let (since, second) = (SystemTime::UNIX_EPOCH, Duration::from_secs(1));
        Interval::new(since, since + second, second, interfaces.to_vec(), rows)
    }

    /// Packets in the total, by both ways of computing it.
    fn total(flows: &[Flow], interfaces: &[Interface]) -> u64 {
        let mut rows = Rows::default();
        flows.iter().zip(0..).for_each(|(f, place)| rows.push_flow(place, f));
        let scope = Scope::default();
        let interval = interval(rows, interfaces);
        let tally = Tally::of(&interval, &scope);
        assert_eq!(tally.total, scope.sum(&interval));
        let flows = interval.rows.merged();
        let once: Count = flows.iter().map(|f| interval.once().share(f).total()).sum();
        assert_eq!(once, tally.total);
        tally.total.packets
    }

    #[test]
    fn transit_packets_are_counted_once() {
        let two = interfaces(2);
        // From host 1, which is behind eth0, to host 2, behind eth1, and back.
        let passes = [row(0, 2, [[10, 0], [0, 4]]), row(1, 2, [[0, 4], [10, 0]])];
        assert_eq!(total(&passes, &two), 14);
        assert_eq!(total(&passes[..1], &two), 14);
        assert_eq!(total(&passes[1..], &two), 14);
        // Read between the two, or one of them dropped some.
        assert_eq!(total(&[passes[0], row(1, 2, [[0, 4], [7, 0]])], &two), 14);
        // Flooded to two ports: counts where it came in.
        assert_eq!(
            total(
                &[
                    row(0, 2, [[10, 0], [0, 0]]),
                    row(1, 2, [[0, 0], [10, 0]]),
                    row(2, 2, [[0, 0], [10, 0]])
                ],
                &interfaces(3)
            ),
            10
        );
        // Two additional ways out, or in.
        assert_eq!(
            total(
                &[
                    row(0, 2, [[10, 0], [0, 0]]),
                    row(1, 2, [[0, 0], [6, 0]]),
                    row(2, 2, [[0, 0], [4, 0]])
                ],
                &interfaces(3)
            ),
            10
        );
        assert_eq!(
            total(
                &[
                    row(0, 2, [[6, 0], [0, 0]]),
                    row(1, 2, [[0, 0], [10, 0]]),
                    row(2, 2, [[4, 0], [0, 0]])
                ],
                &interfaces(3)
            ),
            10
        );
    }

    #[test]
    fn transit_packets_are_counted_once_however_many_interfaces_there_are() {
        let many = interfaces(600);
        for out in [1, 127, 128, 256, 512] {
            let passes = [row(0, 2, [[10, 0], [0, 4]]), row(out, 2, [[0, 4], [10, 0]])];
            assert_eq!(total(&passes, &many), 14, "{out}");
            let mirror = row(out, 2, [[10, 4], [0, 0]]);
            assert_eq!(total(&[passes[0], mirror], &many), 28, "{out}: both hosts on one side");
        }
    }

    #[test]
    fn packets_not_in_transit_all_count() {
        let two = interfaces(2);
        // An end host with two uplinks: both see the same side.
        assert_eq!(total(&[row(0, 2, [[0, 5], [3, 0]]), row(1, 2, [[0, 2], [1, 0]])], &two), 11);
        // Other hosts.
        assert_eq!(total(&[row(0, 2, [[10, 0], [0, 4]]), row(1, 3, [[0, 4], [10, 0]])], &two), 28);
        // A mirror, a loop: both sides at one interface, whether it is alone or not.
        let mirror = row(0, 2, [[10, 4], [0, 0]]);
        assert_eq!(
            (total(&[mirror], &interfaces(1)), total(&[mirror, row(1, 2, [[1, 0], [0, 0]])], &two)),
            (14, 15)
        );
        // An interface that is left out for another reason says nothing about the others.
        let mut left_out = interfaces(2);
        left_out[1].counted_on = Some("eth0".to_owned());
        assert_eq!(
            total(&[row(0, 2, [[10, 0], [0, 4]]), row(1, 2, [[0, 4], [99, 0]])], &left_out),
            14
        );
    }

    #[test]
    fn a_loopback_interface_counts_only_egress() {
        let mut lo = interfaces(2);
        lo[0].loopback = true;
        let rows = [row(0, 2, [[10, 4], [10, 4]]), row(1, 3, [[1, 2], [0, 0]])];
        assert_eq!(total(&rows, &lo), 14 + 3);
        assert_eq!(total(&rows, &interfaces(2)), 28 + 3, "others have two packets at two hooks");
        // A reading keeps what its hooks saw; which of them counts is decided for the interval.
        let mut read = Rows::default();
        read.push_flow(0, &rows[0]);
        let interval = interval(read.clone(), &lo);
        let total = |rows: &Rows| rows.iter().map(|f| f.counters.total().packets).sum::<u64>();
        assert_eq!((total(&read), total(&interval.rows)), (28, 14));
        let counters = interval.rows.merged()[0].counters;
        assert_eq!([counters.rx(), counters.tx()].map(|c| c.packets), [14, 14]);
    }

    #[test]
    fn rows_name_the_interface_that_counts_them() {
        let flows = [
            row(0, 2, [[10, 0], [0, 4]]),
            row(1, 2, [[0, 4], [10, 0]]),
            row(1, 3, [[1, 0], [0, 0]]),
        ];
        let mut rows = Rows::default();
        flows.iter().zip(0..).for_each(|(f, place)| rows.push_flow(place, f));
        let once = Once::of(&rows, &interfaces(2));
        assert_eq!(flows.map(|f| once.passed_on(&f)), [None, Some(0), None]);
        assert!(Once::of(&rows, &interfaces(1)).is_all());
        // A reduced interval counts the same as the whole interval.
        let mut fewer = Rows::default();
        fewer.push_flow(0, &flows[1]);
        let less = interval(rows, &interfaces(2)).reduced(fewer);
        assert_eq!(flows.map(|f| less.once().passed_on(&f)), [None, Some(0), None]);
        assert_eq!(Tally::of(&less, &Scope::default()).total, Count::default());
    }
}
