// SPDX-License-Identifier: MIT OR Apache-2.0
//! Readings with other addresses and names, so that they can be given away: equal values stay
//! equal, no count changes, and rows keep their places.
use std::{net::IpAddr, sync::Arc};

use crate::{
    beside::{Beside, Claim, Gathered, Opener, Passage, Stream},
    drops::{DropKey, Dropped, Drops, Victim},
    flow::HookKind,
    interface::{Interface, Origin},
    lane::Lane,
    overlay::{Entry, Event, Mac, Overlay},
    snapshot::{Interval, Snapshot},
};

/// Replacements for addresses and names: equal originals have equal replacements, and different
/// ones have different replacements.
pub trait Aliases {
    /// The replacement for an address, of the same family.
    fn address(&self, address: IpAddr) -> IpAddr;
    /// The replacement for a hardware address.
    fn mac(&self, mac: Mac) -> Mac;
    /// The replacement for a host's name.
    fn host(&self, name: &str) -> String;
    /// The replacement for the name of a network namespace.
    fn netns(&self, name: &str) -> String;
    /// The text with all addresses and names in it replaced.
    fn text(&self, text: &str) -> String;
}

impl Snapshot {
    /// The same reading with other addresses and names.
    #[must_use]
    pub fn under(&self, aliases: &dyn Aliases) -> Snapshot {
        Snapshot {
            origin: origin(&self.origin, aliases),
            interfaces: self.interfaces.iter().map(|i| interface(i, aliases)).collect(),
            rows: self.rows.with_addresses(&|a| aliases.address(a)),
            drops: self.drops.as_ref().map(|d| Arc::new(drops(d, aliases))),
            beside: Arc::new(beside(&self.beside, aliases)),
            ..*self
        }
    }
}

impl Interval {
    /// The same interval with other addresses and names.
    #[must_use]
    pub fn under(&self, aliases: &dyn Aliases) -> Interval {
        let interfaces = self.interfaces.iter().map(|i| interface(i, aliases)).collect();
        let rows = self.rows.with_addresses(&|a| aliases.address(a));
        let mut other = Interval::new(self.since, self.taken, self.elapsed, interfaces, rows);
        other.origin = origin(&self.origin, aliases);
        other.drops = self.drops.as_ref().map(|d| Arc::new(drops(d, aliases)));
        other.beside = Arc::new(beside(&self.beside, aliases));
        other.overlay = self.overlay.as_ref().map(|o| Arc::new(o.under(aliases)));
        other
    }
}

fn origin(origin: &Origin, aliases: &dyn Aliases) -> Origin {
    Origin { host: aliases.host(&origin.host).into(), ..origin.clone() }
}

fn interface(i: &Interface, aliases: &dyn Aliases) -> Interface {
    let mut other = i.clone();
    other.netns = i.netns.as_deref().map(|n| aliases.netns(n));
    if i.hook == HookKind::Fleet {
        other.name = aliases.host(&i.name);
    }
    if let Some(host) = &mut other.host {
        let local = &mut Arc::make_mut(host).local;
        local.iter_mut().for_each(|a| *a = aliases.address(*a));
    }
    other
}

/// Namespaces of drops: in a fleet, the host's name followed by the namespace's.
fn space(netns: &Option<Arc<str>>, aliases: &dyn Aliases) -> Option<Arc<str>> {
    let of = |name: &str| match name.split_once(' ') {
        Some((host, netns)) => format!("{} {}", aliases.host(host), aliases.netns(netns)),
        None => aliases.netns(name),
    };
    netns.as_deref().map(|name| of(name).into())
}

fn drops(drops: &Drops, aliases: &dyn Aliases) -> Drops {
    let rows = drops.rows.iter().map(|(k, n)| {
        let (victim, is_swapped) = match &k.victim {
            Victim::Tunnel(of) => {
                let (key, is_swapped) = of.with_addresses(&|a| aliases.address(a));
                (Victim::Tunnel(key), is_swapped)
            }
            other => (*other, false),
        };
        let [fwd, rev] = n.counts;
        let counts = if is_swapped { [rev, fwd] } else { [fwd, rev] };
        let netns = space(&k.netns, aliases);
        (DropKey { netns, victim, ..k.clone() }, Dropped { counts, ..*n })
    });
    let devices = drops.devices.iter();
    let devices = devices.map(|((netns, d), n)| ((space(netns, aliases), Arc::clone(d)), *n));
    let mut other = Drops::new(rows);
    other.devices = devices.collect();
    other.unavailable.clone_from(&drops.unavailable);
    (other.elsewhere, other.missed) = (drops.elsewhere, drops.missed);
    other
}

fn beside(beside: &Beside, aliases: &dyn Aliases) -> Beside {
    let of = |a| aliases.address(a);
    let told: &Gathered = beside.read();
    let stream = |(s, n): (&Stream, &_)| (Stream { from: of(s.from), to: of(s.to), ..*s }, *n);
    let mut other = Gathered {
        numbers: told.numbers.iter().map(stream).collect(),
        earlier: told.earlier.iter().map(stream).collect(),
        claims: Default::default(),
        handshakes: Default::default(),
        passages: Default::default(),
        round_trips: Default::default(),
        resent: Default::default(),
        ..told.clone()
    };
    other.add_claims(
        told.claims
            .iter()
            .map(|(c, n)| (Claim { from: of(c.from), to: of(c.to), who: of(c.who), ..*c }, *n)),
    );
    other.add_handshakes(told.handshakes.iter().map(|(o, n)| {
        let (key, is_swapped) = o.key.with_addresses(&of);
        let mut n = *n;
        if is_swapped {
            n.resets.reverse();
        }
        (Opener { key, ..*o }, n)
    }));
    for (passage, n) in &told.passages {
        let lane = passage.lane;
        let lane = Lane { from: of(lane.from), to: of(lane.to), ..lane };
        other.passages.insert(Passage { lane, ..*passage }, *n);
    }
    for ((interface, row), ways) in &told.round_trips {
        let (key, is_swapped) = row.with_addresses(&of);
        let mut ways = ways.clone();
        if is_swapped {
            ways.reverse();
        }
        other.round_trips.insert((*interface, key), ways);
    }
    for ((interface, row), ways) in &told.resent {
        let (key, is_swapped) = row.with_addresses(&of);
        let mut ways = *ways;
        if is_swapped {
            ways.reverse();
        }
        other.resent.insert((*interface, key), ways);
    }
    Beside::new(other)
}

impl Overlay {
    /// The same configuration with other addresses and names.
    #[must_use]
    pub fn under(&self, aliases: &dyn Aliases) -> Overlay {
        let mut other = self.clone();
        let netns = |name: &mut Option<String>| {
            *name = name.as_deref().map(|name| aliases.netns(name));
        };
        other.devices.iter_mut().for_each(|d| netns(&mut d.netns));
        other.narrow.iter_mut().for_each(|n| netns(&mut n.netns));
        let own = self.addresses.iter().map(|(a, places)| {
            let mut places = places.clone();
            places.iter_mut().for_each(netns);
            (aliases.address(*a), places)
        });
        other.addresses = own.collect();
        let entry = |e: &Entry| Entry { endpoint: aliases.address(e.endpoint), ..e.clone() };
        let entries = self.entries.iter();
        let entries = entries.map(|(m, all)| (aliases.mac(*m), all.iter().map(entry).collect()));
        other.entries = entries.collect();
        let known = self.neighbours.iter();
        other.neighbours = known.map(|(a, m)| (aliases.address(*a), aliases.mac(*m))).collect();
        let event = |e: &Event| Event {
            text: aliases.text(&e.text),
            address: e.address.map(|a| aliases.address(a)),
            ..e.clone()
        };
        other.events = self.events.iter().map(event).collect();
        other
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::{
        beside::Handshakes,
        flow::{Count, Counters, Flow, Hook, Inner, Key, Kind, Pair, Tunnel},
        rows::Rows,
    };

    /// Inverts all bits of addresses, so that the lower of two becomes the higher.
    struct Flipped;

    impl Aliases for Flipped {
        fn address(&self, address: IpAddr) -> IpAddr {
            match address {
                IpAddr::V4(a) => IpAddr::V4((!a.to_bits()).into()),
                IpAddr::V6(a) => IpAddr::V6((!a.to_bits()).into()),
            }
        }
        fn mac(&self, mac: Mac) -> Mac {
            mac.map(|b| !b)
        }
        fn host(&self, name: &str) -> String {
            format!("host-{}", name.len())
        }
        fn netns(&self, name: &str) -> String {
            format!("netns-{}", name.len())
        }
        fn text(&self, text: &str) -> String {
            text.len().to_string()
        }
    }

    #[test]
    fn directions_survive_when_the_order_of_addresses_changes() {
        let count = |packets| Count { packets, bytes: 100 * packets };
        let flow = |outer: [[u8; 4]; 2], inner: Inner, n| Flow {
            interface: 0,
            key: Key {
                outer: Some(Pair { first: outer[0].into(), second: outer[1].into() }),
                outermost: Tunnel { kind: Kind::Vxlan, id: Some(7) },
                innermost: None,
                depth: 1,
                inner,
                other: false,
            },
            counters: Counters {
                cells: [[count(n), count(2 * n)], [count(3 * n), count(0)]],
                ..Counters::default()
            },
        };
        let inside = |first: IpAddr, second: IpAddr| Inner::Pair(Pair { first, second });
        let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let v6 = inside(IpAddr::from([1; 16]), IpAddr::from([2; 16]));
        let flows = [
            flow([a, b], inside([192, 168, 0, 9].into(), [192, 168, 0, 1].into()), 10),
            flow([a, b], v6, 1000),
            flow([a, a], inside([192, 168, 0, 1].into(), [192, 168, 0, 9].into()), 100_000),
        ];
        let mut rows = Rows::default();
        flows.iter().zip(0..).for_each(|(f, place)| rows.push_flow(place, f));
        let t = SystemTime::UNIX_EPOCH;
        let mut eth0 = Interface::new(0, "eth0");
        eth0.netns = Some("blue".to_owned());
        let second = Duration::from_secs(1);
        let mut interval = Interval::new(t, t + second, second, vec![eth0], rows);
        interval.origin.host = "node-a".into();
        let opener = Opener { interface: 0, key: flows[0].key, hook: Hook::Rx };
        let mut known = Gathered::default();
        known.add_handshakes([(opener, Handshakes { resets: [5, 0], ..Handshakes::default() })]);
        interval.beside = Arc::new(Beside::new(known));

        let other = interval.under(&Flipped);
        let sent = |i: &Interval| {
            let mut all = Vec::new();
            for f in i.rows.merged() {
                let pair = f.key.outer.expect("an outer pair");
                let (first, second) = (pair.first, pair.second);
                assert!(first <= second, "the lower is the first: {first} {second}");
                let inner = f.key.inner.pair().expect("an inner pair");
                for (hook, cells) in f.counters.cells.iter().enumerate() {
                    all.push((first, second, inner.first, inner.second, hook, cells[0]));
                    all.push((second, first, inner.second, inner.first, hook, cells[1]));
                }
            }
            all
        };
        let flipped = |a| Flipped.address(a);
        let mut expected: Vec<_> = sent(&interval)
            .into_iter()
            .map(|(a, b, c, d, hook, n)| (flipped(a), flipped(b), flipped(c), flipped(d), hook, n))
            .collect();
        let mut found = sent(&other);
        let order = |all: &mut Vec<(IpAddr, IpAddr, IpAddr, IpAddr, usize, Count)>| {
            all.sort_by_key(|t| (t.0, t.1, t.2, t.3, t.4, t.5.packets));
        };
        order(&mut expected);
        order(&mut found);
        assert_eq!(found, expected);
        let resets: Vec<_> = other.beside.handshakes().values().map(|n| n.resets).collect();
        assert_eq!(resets, [[0, 5]], "the ends have changed places");
        assert_eq!(
            (&*other.origin.host, other.interfaces[0].netns.as_deref()),
            ("host-6", Some("netns-4"))
        );
        assert_eq!(other.under(&Flipped).rows.merged(), interval.rows.merged(), "and back");
        // Totals that are read one after another can still be subtracted row by row.
        let (before, now) = (interval.snapshot(), interval.snapshot());
        assert!(now.under(&Flipped).since(&before.under(&Flipped)).rows.is_empty());
    }
}
