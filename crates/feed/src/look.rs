// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lens on captures: the packet contents of selected rows.
use anyhow::Result;
use contract::{
    KIND_GENEVE, KIND_GTPU, KIND_VXLAN, LENS, LENS_GROUP, LENS_INNER, LENS_L4, LENS_LOGICAL,
    LENS_OUTER, LENS_PORTS, LENS_QFI, LENS_REVERSE, LENS_SIZES, ROW_DIR, key6, lens, lens_key,
};
use foldhash::HashMap;
use model::{
    filter::Filter,
    flow::{Counters, Flow},
    lens::{Lens, LensEntry, LensRow},
    rows,
};
use native::{Answer, Frames, Guide, NativeConfig, NativeFrame, Way};

use crate::innermost::inner_packet;

/// The selection and the results so far.
pub(crate) struct Look {
    filter: Filter,
    config: NativeConfig,
    /// One for each interface.
    guides: Vec<Guide>,
    rows: HashMap<(usize, key6), HashMap<[u8; 20], lens>>,
    entries: usize,
    looked_at: u64,
    lost: u64,
}

impl Look {
    pub(crate) fn new(filter: Filter, config: NativeConfig) -> Look {
        Look {
            filter,
            config,
            guides: Vec::new(),
            rows: HashMap::default(),
            entries: 0,
            looked_at: 0,
            lost: 0,
        }
    }

    /// Examines frames of an interface.
    pub(crate) fn look(&mut self, interface: usize, name: &str, frames: Frames<'_>) -> Result<()> {
        while self.guides.len() <= interface {
            self.guides.push(Guide::new(&self.config)?);
        }
        for frame in frames.iter() {
            let (guide, filter) = (&mut self.guides[interface], &self.filter);
            let mut decide = |key: &key6| {
                let flow =
                    Flow { interface: 0, key: rows::decoded(key), counters: Counters::default() };
                filter.matches(&flow, name).into()
            };
            if guide.choose(&frame, &mut decide) != Answer::Row(1) {
                continue;
            }
            if let (way, Some(row)) = guide.way(&frame) {
                let key = key6 { flags: row.key.flags & !ROW_DIR, shard: 0, ..row.key };
                self.add(interface, key, seen(&way, &frame, row.reverse), &way, &frame);
            }
        }
        Ok(())
    }

    fn add(&mut self, at: usize, row: key6, key: lens_key, way: &Way, frame: &NativeFrame<'_>) {
        self.looked_at += 1;
        let entries = self.rows.entry((at, row)).or_default();
        let sum = match entries.get_mut(&bytes(&key)) {
            Some(sum) => sum,
            None if self.entries >= LENS as usize => {
                self.lost += 1;
                return;
            }
            None => {
                self.entries += 1;
                entries.entry(bytes(&key)).or_default()
            }
        };
        sum.packets += 1;
        sum.bytes += u64::from(frame.length) + u64::from(frame.link);
        sum.tcp |= u32::from(inner_packet(way, frame.data).tcp_flags.unwrap_or_default());
    }

    /// The results, by rows of these interfaces.
    pub(crate) fn lens(&self, name: impl Fn(usize) -> String) -> Lens {
        let mut all: Vec<LensRow> = Vec::new();
        for ((interface, key), entries) in &self.rows {
            let mut entries: Vec<LensEntry> =
                entries.iter().map(|(key, sum)| LensEntry::of(&key_of(key), sum)).collect();
            entries.sort_by_key(|e| {
                (std::cmp::Reverse(e.count), e.reverse, e.l4, e.ports, e.tos, e.ttl, e.size, e.mark)
            });
            let (interface, key) = (name(*interface), Some(rows::decoded(key)));
            all.push(LensRow { interface, key, entries });
        }
        let packets = |row: &LensRow| row.entries.iter().map(|e| e.count.packets).sum::<u64>();
        all.sort_by_cached_key(|row| {
            (std::cmp::Reverse(packets(row)), row.interface.clone(), row.key)
        });
        Lens {
            filter: self.filter.to_string(),
            rows: all,
            looked_at: self.looked_at,
            lost: self.lost,
            timed: None,
        }
    }
}

/// A key as bytes, for comparisons.
fn bytes(key: &lens_key) -> [u8; 20] {
    let [low, high] = key.port.map(u16::to_le_bytes);
    let [t0, t1] = key.tos;
    let [l0, l1] = key.ttl;
    let [a, b] = [low, high];
    let [m0, m1, m2, m3] = key.mark.to_le_bytes();
    let flags = key.flags;
    [
        flags, key.proto, t0, t1, l0, l1, key.size, a[0], a[1], b[0], b[1], m0, m1, m2, m3, 0, 0,
        0, 0, 0,
    ]
}

fn key_of(b: &[u8; 20]) -> lens_key {
    lens_key {
        flags: b[0],
        proto: b[1],
        tos: [b[2], b[3]],
        ttl: [b[4], b[5]],
        size: b[6],
        port: [u16::from_le_bytes([b[7], b[8]]), u16::from_le_bytes([b[9], b[10]])],
        mark: u32::from_le_bytes([b[11], b[12], b[13], b[14]]),
        ..lens_key::default()
    }
}

/// The contents of a frame.
fn seen(way: &Way, frame: &NativeFrame<'_>, reverse: bool) -> lens_key {
    let mut key = lens_key::default();
    let mut flags = if reverse { LENS_REVERSE } else { 0 };
    let levels = way.levels();
    let inner = levels.len().checked_sub(1).filter(|last| *last > 0).and_then(|n| levels.get(n));
    for (i, (level, flag)) in
        [(levels.first(), LENS_OUTER), (inner, LENS_INNER)].into_iter().enumerate()
    {
        let ip = level.and_then(|level| frame.data.get(level.ip()?..));
        let (tos, ttl) = match ip {
            Some([first, tos, _, _, _, _, _, _, ttl, ..]) if first >> 4 == 4 => (*tos, *ttl),
            Some([first, second, _, _, _, _, _, hops, ..]) => {
                ((first & 15) << 4 | second >> 4, *hops)
            }
            _ => continue,
        };
        (key.tos[i], key.ttl[i]) = (tos, ttl);
        flags |= flag;
    }
    let packet = inner_packet(way, frame.data);
    if let Some(l4) = packet.l4.filter(|_| flags & LENS_INNER != 0) {
        key.proto = l4;
        flags |= LENS_L4;
        if let Some([a, b]) = packet.ports {
            key.port = [a.min(b), a.max(b)];
            flags |= LENS_PORTS;
        }
    }
    if let Some((mark, flag)) = mark(way, frame.data) {
        key.mark = mark;
        flags |= flag;
    }
    let over = u64::from(frame.length) + u64::from(frame.link);
    key.size = (0..LENS_SIZES - 1).find(|n| over <= 64 << n).unwrap_or(LENS_SIZES - 1) as u8;
    key.flags = flags as u8;
    key
}

/// The fields of the outermost tunnel's header besides its id, and which of them it is: read as in
/// `bpf/lens.h`.
fn mark(way: &Way, data: &[u8]) -> Option<(u32, u32)> {
    const UDP: u8 = 17;
    const OVN: [u8; 3] = [1, 2, 0x80]; // class, type
    let [outer, inner, ..] = way.levels() else { return None };
    let ip = data.get(outer.ip()?..)?;
    let behind = match ip {
        [0x45, _, _, _, _, _, high, low, _, UDP, ..] if high & 0x3f == 0 && *low == 0 => 28,
        [first, _, _, _, _, _, UDP, ..] if first >> 4 == 6 => 48,
        _ => return None,
    };
    let header = ip.get(behind..)?;
    let begin: &[u8; 16] = header.first_chunk()?;
    match u32::from(inner.tunnel().0) {
        KIND_VXLAN if begin[0] & 0x80 != 0 => {
            Some((u16::from_be_bytes([begin[2], begin[3]]).into(), LENS_GROUP))
        }
        KIND_GTPU if begin[0] & 4 != 0 && begin[11] == 0x85 => {
            Some((u32::from(begin[14] & 0x3f), LENS_QFI))
        }
        KIND_GENEVE => {
            let end = 8 + usize::from(begin[0] & 0x3f) * 4;
            let mut options = header.get(8..end.min(header.len()))?;
            for _ in 0..4 {
                let option: &[u8; 8] = options.first_chunk()?;
                let [class, kind, of, words, a, b, c, d] = *option;
                let words = words & 0x1f;
                if [class, kind, of] == OVN && words == 1 {
                    return Some((u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff, LENS_LOGICAL));
                }
                options = options.get(4 + usize::from(words) * 4..)?;
            }
            None
        }
        _ => None,
    }
}
