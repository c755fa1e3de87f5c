// SPDX-License-Identifier: MIT OR Apache-2.0
//! The contents of packets of selected rows.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use contract::{
    LENS_GROUP, LENS_INNER, LENS_L4, LENS_LOGICAL, LENS_OUTER, LENS_PORTS, LENS_QFI, LENS_REVERSE,
    LENS_SIZES, lens, lens_key,
};

use crate::{
    flow::{Count, Key},
    rtt::Timed,
};

/// The contents of the packets of rows that match a filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lens {
    /// The filter, in canonical form.
    pub filter: String,
    /// These rows, by interface and key.
    pub rows: Vec<LensRow>,
    /// The number of packets examined.
    pub looked_at: u64,
    /// How many of them had no room.
    pub lost: u64,
    /// Their round-trip times, if measured.
    pub timed: Option<Timed>,
}

/// A row, or all packets whose rows were not kept apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LensRow {
    /// The interface's name.
    pub interface: String,
    /// `None` if there were more rows than can be kept apart.
    pub key: Option<Key>,
    /// The entries, the one with most packets first.
    pub entries: Vec<LensEntry>,
}

/// Packets with equal contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LensEntry {
    /// Whether they go from the row's second end to its first.
    pub reverse: bool,
    /// The IP protocol in the innermost IP header.
    pub l4: Option<u8>,
    /// The ports that follow it, the lower one first.
    pub ports: Option<[u16; 2]>,
    /// DSCP and ECN as one byte, outer and innermost.
    pub tos: [Option<u8>; 2],
    /// TTL or hop limit, likewise.
    pub ttl: [Option<u8>; 2],
    /// The class of their length: more than the first, and at most the second if there is one.
    pub size: (u32, Option<u32>),
    /// Fields of the outermost tunnel header besides the id.
    pub mark: Option<TunnelMark>,
    /// All TCP flags that occurred.
    pub tcp: u8,
    /// The number of packets.
    pub count: Count,
}

/// A field of a tunnel header besides the tunnel id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TunnelMark {
    /// GTP-U: the QoS flow.
    Qfi(u8),
    /// VXLAN: the group policy id.
    Group(u16),
    /// Geneve as used by OVN: the keys of the packet's ingress and egress logical ports.
    Logical(u16, u16),
}

impl fmt::Display for TunnelMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TunnelMark::Qfi(flow) => write!(f, "qfi {flow}"),
            TunnelMark::Group(group) => write!(f, "group {group}"),
            TunnelMark::Logical(from, to) => write!(f, "port {from}>{to}"),
        }
    }
}

impl LensEntry {
    /// Converts an entry of the programs' table.
    pub fn of(key: &lens_key, sum: &lens) -> LensEntry {
        let is = |flag: u32| u32::from(key.flags) & flag != 0;
        let known = |values: [u8; 2]| {
            [is(LENS_OUTER).then_some(values[0]), is(LENS_INNER).then_some(values[1])]
        };
        let class = u32::from(key.size).min(LENS_SIZES - 1);
        LensEntry {
            reverse: is(LENS_REVERSE),
            l4: is(LENS_L4).then_some(key.proto),
            ports: is(LENS_PORTS).then_some(key.port),
            tos: known(key.tos),
            ttl: known(key.ttl),
            size: (
                if class == 0 { 0 } else { 32 << class },
                (class + 1 < LENS_SIZES).then_some(64 << class),
            ),
            mark: if is(LENS_QFI) {
                Some(TunnelMark::Qfi(key.mark as u8))
            } else if is(LENS_GROUP) {
                Some(TunnelMark::Group(key.mark as u16))
            } else if is(LENS_LOGICAL) {
                Some(TunnelMark::Logical((key.mark >> 16) as u16, key.mark as u16))
            } else {
                None
            },
            tcp: sum.tcp as u8,
            count: Count { packets: sum.packets, bytes: sum.bytes },
        }
    }
}

/// Packets with the same protocol and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LensSum {
    /// Whether they go from the rows' second ends to their first; `None` if the rows are not all
    /// between the same hosts.
    pub reverse: Option<bool>,
    /// The IP protocol in the innermost IP header.
    pub l4: Option<u8>,
    /// The port that they share, which is the lower one.
    pub port: Option<u16>,
    /// Ports of the other ends.
    pub others: BTreeSet<u16>,
    /// DSCP and ECN, outer and innermost.
    pub tos: BTreeSet<[Option<u8>; 2]>,
    /// TTL or hop limit, likewise.
    pub ttl: BTreeSet<[Option<u8>; 2]>,
    /// Fields of the outermost tunnel header besides the id.
    pub marks: BTreeSet<TunnelMark>,
    /// Packets by class of their length.
    pub sizes: [u64; LENS_SIZES as usize],
    /// All TCP flags that occurred.
    pub tcp: u8,
    /// The number of packets.
    pub count: Count,
}

impl Lens {
    /// The contents of all rows by protocol and port, most packets first; by direction if all rows
    /// are between the same hosts.
    pub fn sums(&self) -> Vec<LensSum> {
        let mut hosts = self.rows.iter().map(|row| row.key.and_then(|key| key.outer));
        let first = hosts.next().flatten();
        let ways = first.is_some() && hosts.all(|pair| pair == first);
        let mut all: BTreeMap<_, LensSum> = BTreeMap::new();
        for e in self.rows.iter().flat_map(|row| &row.entries) {
            let (reverse, port) = (ways.then_some(e.reverse), e.ports.map(|p| p[0]));
            let sum = all.entry((reverse, e.l4, port)).or_insert_with(|| LensSum {
                reverse,
                l4: e.l4,
                port,
                others: BTreeSet::new(),
                tos: BTreeSet::new(),
                ttl: BTreeSet::new(),
                marks: BTreeSet::new(),
                sizes: Default::default(),
                tcp: 0,
                count: Count::default(),
            });
            sum.others.extend(e.ports.map(|p| p[1]));
            sum.tos.insert(e.tos);
            sum.ttl.insert(e.ttl);
            sum.marks.extend(e.mark);
            if let Some(class) = sum.sizes.get_mut(e.size_class()) {
                *class += e.count.packets;
            }
            sum.tcp |= e.tcp;
            sum.count += e.count;
        }
        let mut sums: Vec<_> = all.into_values().collect();
        sums.sort_by_key(|sum| std::cmp::Reverse(sum.count.packets));
        sums
    }
}

impl LensEntry {
    /// The number of the class of length, from 0.
    fn size_class(&self) -> usize {
        match self.size {
            (0, _) => 0,
            (more, _) => more.trailing_zeros().saturating_sub(5) as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_are_contiguous() {
        let size =
            |size| LensEntry::of(&lens_key { size, ..lens_key::default() }, &lens::default()).size;
        assert_eq!([size(0), size(1), size(2)], [(0, Some(64)), (64, Some(128)), (128, Some(256))]);
        assert_eq!(size(7), (4096, None));
        let class = |size| {
            let key = lens_key { size, ..lens_key::default() };
            LensEntry::of(&key, &lens::default()).size_class()
        };
        assert!((0..LENS_SIZES as u8).all(|size| class(size) == usize::from(size)));
    }

    #[test]
    fn marks_are_decoded_by_tunnel_kind() {
        let mark = |flags: u32, mark| {
            let key = lens_key { flags: flags as u8, mark, ..lens_key::default() };
            LensEntry::of(&key, &lens::default()).mark.map(|mark| mark.to_string())
        };
        assert_eq!(mark(LENS_QFI, 9).as_deref(), Some("qfi 9"));
        assert_eq!(mark(LENS_GROUP, 100).as_deref(), Some("group 100"));
        assert_eq!(mark(LENS_LOGICAL, 3 << 16 | 5).as_deref(), Some("port 3>5"));
        assert_eq!(mark(LENS_OUTER, 9), None);
    }

    #[test]
    fn sums_by_protocol_and_port_lose_nothing() {
        let entry = |reverse, ports, tcp, size: u8, packets| {
            let flags = LENS_L4 | LENS_PORTS | LENS_OUTER | LENS_INNER;
            let flags = if reverse { flags | LENS_REVERSE } else { flags };
            let key =
                lens_key { flags: flags as u8, proto: 6, port: ports, size, ..lens_key::default() };
            LensEntry::of(&key, &lens { packets, bytes: 100 * packets, tcp, ..lens::default() })
        };
        let entries = vec![
            entry(false, [443, 40_000], 2, 0, 1),
            entry(false, [443, 40_001], 16, 5, 8),
            entry(true, [443, 40_000], 16, 5, 3),
            entry(false, [53, 40_000], 0, 1, 2),
        ];
        let key = crate::flow::Key {
            outer: Some(crate::flow::Pair { first: [1; 4].into(), second: [2; 4].into() }),
            ..crate::flow::Key::AGED
        };
        let row = |key| LensRow { interface: String::new(), key, entries: entries.clone() };
        let seen = |rows| Lens { rows, ..Lens::default() }.sums();
        let sums = seen(vec![row(Some(key))]);
        let told: Vec<_> = sums.iter().map(|s| (s.reverse, s.port, s.count.packets)).collect();
        let (fwd, rev) = (Some(false), Some(true));
        assert_eq!(told, [(fwd, Some(443), 9), (rev, Some(443), 3), (fwd, Some(53), 2)]);
        assert_eq!((sums[0].tcp, sums[0].others.len()), (18, 2));
        assert_eq!((sums[0].sizes[0], sums[0].sizes[5]), (1, 8));
        let elsewhere = crate::flow::Key { outer: None, ..key };
        let sums = seen(vec![row(Some(key)), row(Some(elsewhere))]);
        let told: Vec<_> = sums.iter().map(|s| (s.reverse, s.port, s.count.packets)).collect();
        assert_eq!(
            told,
            [(None, Some(443), 24), (None, Some(53), 4)],
            "rows between different hosts have no direction"
        );
    }

    #[test]
    fn unexamined_rows_are_unknown() {
        let key = lens_key {
            flags: (LENS_OUTER | LENS_L4) as u8,
            tos: [0xb8, 1],
            ttl: [64, 1],
            proto: 47,
            ..lens_key::default()
        };
        let entry = LensEntry::of(&key, &lens { packets: 2, bytes: 300, ..lens::default() });
        assert_eq!((entry.tos, entry.ttl), ([Some(0xb8), None], [Some(64), None]));
        assert_eq!((entry.l4, entry.ports, entry.reverse), (Some(47), None, false));
        assert_eq!(entry.count, Count { packets: 2, bytes: 300 });
    }
}
