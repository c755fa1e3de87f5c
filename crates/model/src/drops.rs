// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel dropped, with the kernel's reason, joined to rows.
//!
//! Drops are an annotation: what the hooks counted stays as it is. Every packet that the kernel
//! dropped in the namespaces examined is in exactly one row here, so that for every reason `seen =
//! attributed + plain + unknown`.
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
    time::SystemTime,
};

use foldhash::{HashMap, HashMapExt};

use crate::{
    flow::{Count, Inner, InnerProto, Key, Kind, Tunnel},
    interface::Interface,
};

/// The most rows of an interval that the history keeps apart.
pub const ROWS: usize = 512;

/// What a dropped packet was, as far as its bytes show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Victim {
    /// A tunnel's packet: the key of its row. There is no outer pair if only the tunnel device and
    /// the inside are known, or if the table was full ([`Key::other`]).
    Tunnel(Key),
    /// A packet outside any tunnel.
    Plain,
    /// Undetermined: a later fragment, or a header that is truncated or contradicts itself.
    Unknown,
}

impl Victim {
    /// Tunnels' packets for whose row the full table had no room.
    pub const OTHER: Victim = Victim::Tunnel(Key {
        outer: None,
        outermost: Tunnel { kind: Kind::None, id: None },
        innermost: None,
        depth: 0,
        inner: Inner::Proto(InnerProto::OTHER),
        other: true,
    });

    /// Its name in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Victim::Tunnel(_) => "tunnel",
            Victim::Plain => "plain",
            Victim::Unknown => "unknown",
        }
    }

    /// The key of a tunnel's packet.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Victim::Tunnel(key) => Some(key),
            Victim::Plain | Victim::Unknown => None,
        }
    }
}

/// What distinguishes rows of drops.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DropKey {
    /// The kernel's reason: `VXLAN_VNI_NOT_FOUND`; its number where it has no name.
    pub reason: Arc<str>,
    /// The network namespace that it happened in; `None` for the caller's.
    pub netns: Option<Arc<str>>,
    /// Whether it is neither a watched namespace nor one that contains its tunnel devices.
    pub elsewhere: bool,
    /// The packet's device; `None` if the kernel had detached the packet from it or had not chosen
    /// one yet.
    pub device: Option<Arc<str>>,
    /// What was dropped.
    pub victim: Victim,
}

/// How much was dropped, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// By direction in the row, `fwd` first; packets without a row are all `fwd`. Bytes are counted
    /// from the outermost known IP header.
    pub counts: [Count; 2],
    /// When the first one was dropped since counting began, also in an interval.
    pub first: SystemTime,
    /// When the last one was dropped.
    pub last: SystemTime,
}

impl Dropped {
    /// Both directions.
    pub fn total(&self) -> Count {
        self.counts[0] + self.counts[1]
    }

    fn add(&mut self, o: &Dropped) {
        self.counts[0] += o.counts[0];
        self.counts[1] += o.counts[1];
        self.first = self.first.min(o.first);
        self.last = self.last.max(o.last);
    }
}

/// Losses according to a device's own counters, including packets for which there was no `sk_buff`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceDrops {
    /// `rx_dropped`.
    pub rx_dropped: u64,
    /// `rx_missed_errors`: the hardware had no room.
    pub rx_missed: u64,
    /// `tx_dropped`.
    pub tx_dropped: u64,
    /// Dropped by its queueing disciplines.
    pub qdisc: u64,
}

impl DeviceDrops {
    fn since(self, older: Self) -> Self {
        let d = |new: u64, old: u64| new.checked_sub(old).unwrap_or(new);
        DeviceDrops {
            rx_dropped: d(self.rx_dropped, older.rx_dropped),
            rx_missed: d(self.rx_missed, older.rx_missed),
            tx_dropped: d(self.tx_dropped, older.tx_dropped),
            qdisc: d(self.qdisc, older.qdisc),
        }
    }

    fn add(&mut self, o: &Self) {
        self.rx_dropped = self.rx_dropped.saturating_add(o.rx_dropped);
        self.rx_missed = self.rx_missed.saturating_add(o.rx_missed);
        self.tx_dropped = self.tx_dropped.saturating_add(o.tx_dropped);
        self.qdisc = self.qdisc.saturating_add(o.qdisc);
    }
}

/// A reason's books: `seen() = attributed + plain + unknown`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropBooks {
    /// Of known tunnels.
    pub attributed: Count,
    /// Outside any tunnel.
    pub plain: Count,
    /// Undetermined.
    pub unknown: Count,
}

impl DropBooks {
    /// The sum of all three.
    pub fn seen(&self) -> Count {
        self.attributed + self.plain + self.unknown
    }

    fn add(&mut self, victim: &Victim, count: Count) {
        *match victim {
            Victim::Tunnel(_) => &mut self.attributed,
            Victim::Plain => &mut self.plain,
            Victim::Unknown => &mut self.unknown,
        } += count;
    }
}

/// A namespace, and what was dropped in it, by direction.
type InNamespace = (Option<Arc<str>>, [Count; 2]);

/// Drops: totals in a snapshot, differences in an interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Why there are no reasons, in one line: this kernel or these privileges do not allow it.
    /// Devices' own counters are available all the same.
    pub unavailable: Option<Arc<str>>,
    /// The rows.
    pub rows: BTreeMap<DropKey, Dropped>,
    /// Packets dropped in namespaces that nobody asked for: in no row.
    pub elsewhere: u64,
    /// Drops that interrupted the program while it was counting another one on the same CPU: the
    /// kernel counts these, and nothing else is known about them.
    pub missed: u64,
    /// The watched devices' own counters, by namespace and name.
    pub devices: BTreeMap<(Option<Arc<str>>, Arc<str>), DeviceDrops>,
    /// Index of the rows by key, see [`Drops::of`].
    index: HashMap<Key, Vec<InNamespace>>,
}

impl Drops {
    /// Makes it of these rows. Equal keys are added up.
    pub fn new(rows: impl IntoIterator<Item = (DropKey, Dropped)>) -> Drops {
        let mut drops = Drops::default();
        rows.into_iter().for_each(|(key, dropped)| drops.put(key, &dropped));
        drops.indexed()
    }

    fn put(&mut self, key: DropKey, dropped: &Dropped) {
        match self.rows.entry(key) {
            Entry::Vacant(new) => _ = new.insert(*dropped),
            Entry::Occupied(mut old) => old.get_mut().add(dropped),
        }
    }

    #[must_use]
    pub(crate) fn indexed(mut self) -> Drops {
        self.index = HashMap::new();
        for (key, dropped) in &self.rows {
            if let Victim::Tunnel(of) = key.victim {
                self.index.entry(of).or_default().push((key.netns.clone(), dropped.counts));
            }
        }
        self
    }

    /// What happened since an older reading. Rows without changes are left out.
    #[must_use]
    pub fn since(&self, older: &Drops) -> Drops {
        let rows = self.rows.iter().filter_map(|(key, new)| {
            let Some(old) = older.rows.get(key) else { return Some((key.clone(), *new)) };
            let counts = [0, 1].map(|way| new.counts[way].since(old.counts[way]));
            let happened = counts.iter().any(|n| !n.is_zero());
            happened.then(|| (key.clone(), Dropped { counts, ..*new }))
        });
        let d = |new: u64, old: u64| new.checked_sub(old).unwrap_or(new);
        let devices = self.devices.iter().map(|(device, now)| {
            // A device that appears later had counted before it was watched.
            let before = older.devices.get(device).copied().unwrap_or(*now);
            (device.clone(), now.since(before))
        });
        Drops {
            unavailable: self.unavailable.clone(),
            rows: rows.collect(),
            elsewhere: d(self.elsewhere, older.elsewhere),
            missed: d(self.missed, older.missed),
            devices: devices.collect(),
            index: HashMap::new(),
        }
        .indexed()
    }

    /// Adds the drops that a host of a fleet reports: its namespaces are distinguished by the
    /// host's name. Beyond `most` rows, new ones are added up by reason. Call [`Drops::indexed`]
    /// when all are added.
    pub(crate) fn add_host(&mut self, host: &Arc<str>, told: &Drops, most: usize) {
        let within = |netns: &Option<Arc<str>>| match netns {
            Some(netns) => Some(format!("{host} {netns}").into()),
            None => Some(Arc::clone(host)),
        };
        for (key, dropped) in &told.rows {
            let mut key = DropKey { netns: within(&key.netns), ..key.clone() };
            if self.rows.len() >= most && !self.rows.contains_key(&key) {
                let victim = match key.victim {
                    Victim::Tunnel(_) => Victim::OTHER,
                    other => other,
                };
                key = DropKey { netns: None, device: None, victim, ..key };
            }
            self.put(key, dropped);
        }
        self.elsewhere = self.elsewhere.saturating_add(told.elsewhere);
        self.missed = self.missed.saturating_add(told.missed);
        for ((netns, device), counted) in &told.devices {
            let device = (within(netns), device.clone());
            if self.devices.len() < most || self.devices.contains_key(&device) {
                self.devices.entry(device).or_default().add(counted);
            }
        }
    }

    /// Several intervals as one.
    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Drops>) -> Drops {
        let mut sum = Drops::default();
        for drops in all {
            sum.unavailable = drops.unavailable.clone();
            drops.rows.iter().for_each(|(key, dropped)| sum.put(key.clone(), dropped));
            sum.elsewhere = sum.elsewhere.saturating_add(drops.elsewhere);
            sum.missed = sum.missed.saturating_add(drops.missed);
            for (device, counted) in &drops.devices {
                sum.devices.entry(device.clone()).or_default().add(counted);
            }
        }
        sum.indexed()
    }

    /// The same with at most `most` separate rows; the smaller ones are added up by reason, so that
    /// the books stay exact.
    #[must_use]
    pub fn reduced(&self, most: usize) -> Drops {
        if self.rows.len() <= most {
            return self.clone();
        }
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by_key(|(key, dropped)| (Reverse(dropped.total()), *key));
        let mut reduced = Drops { rows: BTreeMap::new(), ..self.clone() };
        for (place, (key, dropped)) in rows.into_iter().enumerate() {
            let victim = match key.victim {
                Victim::Tunnel(_) => Victim::OTHER,
                other => other,
            };
            let small = DropKey { netns: None, device: None, victim, ..key.clone() };
            reduced.put(if place < most { key.clone() } else { small }, dropped);
        }
        reduced.indexed()
    }

    /// What was dropped of a flow, by direction: in the namespace of its interface, or in
    /// namespaces without a watched interface, such as those that contain tunnel devices.
    pub fn of(&self, key: &Key, interface: u16, interfaces: &[Interface]) -> [Count; 2] {
        let Some(rows) = self.index.get(key) else { return <[Count; 2]>::default() };
        let own = interfaces.get(usize::from(interface)).map(|i| i.netns.as_deref());
        let watched: BTreeSet<_> = interfaces.iter().map(|i| i.netns.as_deref()).collect();
        let here = rows.iter().filter(|(netns, _)| {
            let netns = netns.as_deref();
            own == Some(netns) || !watched.contains(&netns)
        });
        here.fold(<[Count; 2]>::default(), |sum, (_, n)| [sum[0] + n[0], sum[1] + n[1]])
    }

    /// The books of each reason.
    pub fn books(&self) -> BTreeMap<&str, DropBooks> {
        let mut books = BTreeMap::<&str, DropBooks>::new();
        for (key, dropped) in &self.rows {
            books.entry(&key.reason).or_default().add(&key.victim, dropped.total());
        }
        books
    }

    /// The books of all reasons together.
    pub fn total(&self) -> DropBooks {
        let mut sum = DropBooks::default();
        self.rows.iter().for_each(|(key, dropped)| sum.add(&key.victim, dropped.total()));
        sum
    }

    /// The variable part of the memory that it takes.
    pub fn bytes(&self) -> usize {
        const INDEX: usize = size_of::<Key>() + 2 * size_of::<(Option<Arc<str>>, [Count; 2])>();
        self.rows.len() * (size_of::<(DropKey, Dropped)>() + INDEX)
            + self.devices.len() * size_of::<DeviceDrops>()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::IpAddr,
        time::{Duration, UNIX_EPOCH},
    };

    use super::*;
    use crate::flow::{HookKind, Pair};

    fn key(inner: u8) -> Key {
        let v4 = |a: [u8; 4]| IpAddr::from(a);
        Key {
            outer: Some(Pair { first: v4([172, 16, 1, 100]), second: v4([172, 16, 1, 101]) }),
            outermost: Tunnel { kind: Kind::Vxlan, id: Some(7) },
            innermost: None,
            depth: 1,
            inner: Inner::Pair(Pair { first: v4([10, 0, 0, 1]), second: v4([10, 0, 0, inner]) }),
            other: false,
        }
    }

    fn of(reason: &str, victim: Victim) -> DropKey {
        DropKey {
            reason: reason.into(),
            netns: None,
            elsewhere: false,
            device: Some("eth0".into()),
            victim,
        }
    }

    fn dropped(packets: u64, at: u64) -> Dropped {
        Dropped {
            counts: [Count { packets, bytes: packets * 100 }, Count::default()],
            first: UNIX_EPOCH + Duration::from_secs(1),
            last: UNIX_EPOCH + Duration::from_secs(at),
        }
    }

    fn interface(netns: Option<&str>) -> Interface {
        Interface {
            ifindex: 2,
            netns: netns.map(str::to_owned),
            hook: HookKind::Tcx,
            ..Interface::new(0, "eth0")
        }
    }

    #[test]
    fn an_interval_has_its_own_drops() {
        let row = |inner| of("NETFILTER_DROP", Victim::Tunnel(key(inner)));
        let older = Drops::new([(row(2), dropped(5, 3)), (row(3), dropped(7, 3))]);
        let newer = Drops {
            missed: 2,
            ..Drops::new([
                (row(2), dropped(9, 8)),
                (row(3), dropped(7, 3)),
                (row(4), dropped(1, 9)),
            ])
        };
        let between = newer.since(&older);
        let expected = [(row(2), dropped(4, 8)), (row(4), dropped(1, 9))];
        assert_eq!(between.rows, BTreeMap::from(expected));
        assert_eq!((between.missed, between.total().seen().packets), (2, 5));
        assert_eq!(Drops::sum([&older, &between]).rows, newer.rows);
    }

    #[test]
    fn books_close_for_every_reason_however_few_rows_are_kept() {
        let rows = (0..40).map(|i| (of("NO_SOCKET", Victim::Tunnel(key(i))), dropped(1, 2)));
        let drops = Drops::new(rows.chain([
            (of("NO_SOCKET", Victim::Plain), dropped(3, 2)),
            (of("NO_SOCKET", Victim::Unknown), dropped(4, 2)),
            (of("UDP_CSUM", Victim::Tunnel(key(1))), dropped(2, 2)),
        ]));
        let reduced = drops.reduced(4);
        assert_eq!(reduced.books(), drops.books());
        assert_eq!(reduced.rows.len(), 5, "{:?}", reduced.rows);
        let socket = drops.books()["NO_SOCKET"];
        let packets = [socket.attributed, socket.plain, socket.unknown].map(|n| n.packets);
        assert_eq!((packets, socket.seen().packets), ([40, 3, 4], 47));
    }

    #[test]
    fn a_flow_has_the_drops_of_its_namespace_and_of_unwatched_ones() {
        let within = |netns: Option<&str>| DropKey {
            netns: netns.map(Into::into),
            ..of("NO_SOCKET", Victim::Tunnel(key(2)))
        };
        let drops = Drops::new([
            (within(None), dropped(1, 1)),
            (within(Some("b")), dropped(2, 1)),
            (within(Some("pod")), dropped(4, 1)),
        ]);
        let interfaces = [interface(None), interface(Some("b"))];
        let at = |i| drops.of(&key(2), i, &interfaces)[0].packets;
        assert_eq!((at(0), at(1)), (5, 6));
        assert_eq!(drops.of(&key(3), 0, &interfaces)[0].packets, 0);
    }
}
