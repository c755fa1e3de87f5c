// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is in the packets of rows that were looked at more closely.
use contract::{
    LENS_INNER, LENS_L4, LENS_OUTER, LENS_PORTS, LENS_REVERSE, LENS_SIZES, lens, lens_key,
};

use crate::flow::{Count, Key};

/// What somebody saw in the packets of the rows that he meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lens {
    /// Which rows, as canonical text.
    pub filter: String,
    /// These rows, by interface and key.
    pub rows: Vec<LensRow>,
    /// Their packets since they were looked at.
    pub looked_at: u64,
    /// Of these, what had no room.
    pub lost: u64,
}

/// One row, or what is known of packets whose row is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LensRow {
    /// The interface's name.
    pub interface: String,
    /// `None` where more rows were looked at than can be told apart.
    pub key: Option<Key>,
    /// The most packets first.
    pub entries: Vec<LensEntry>,
}

/// Packets with the same in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LensEntry {
    /// From the row's second end to its first.
    pub reverse: bool,
    /// The IP protocol in the innermost IP header.
    pub l4: Option<u8>,
    /// The ports that follow it, the lower one first.
    pub ports: Option<[u16; 2]>,
    /// DSCP and ECN as one byte, outer and innermost.
    pub tos: [Option<u8>; 2],
    /// TTL or hop limit, likewise.
    pub ttl: [Option<u8>; 2],
    /// Their length: more than the first, and not more than the second if there is one.
    pub size: (u32, Option<u32>),
    /// TCP flags that any of them had.
    pub tcp: u8,
    /// How many there were.
    pub count: Count,
}

impl LensEntry {
    /// What the programs' table says.
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
            tcp: sum.tcp as u8,
            count: Count { packets: sum.packets, bytes: sum.bytes },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_sizes_follow_each_other() {
        let size =
            |size| LensEntry::of(&lens_key { size, ..lens_key::default() }, &lens::default()).size;
        assert_eq!([size(0), size(1), size(2)], [(0, Some(64)), (64, Some(128)), (128, Some(256))]);
        assert_eq!(size(7), (4096, None));
    }

    #[test]
    fn what_was_not_looked_at_is_not_known() {
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
