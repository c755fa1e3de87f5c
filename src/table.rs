// SPDX-License-Identifier: MIT OR Apache-2.0
//! The flow tables, mapped into memory: a reading costs no system call, while the programs count on.
//!
//! A table is an array of groups of slots; `bpf/book.h` says how the programs find a row and make
//! one. A slot's tag says whether it is free, busy or holds a row, and is the only word that both
//! sides compare and swap.
#![allow(unsafe_code)]
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    ptr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

use anyhow::{Context, Result, ensure};
use memmap2::{MmapOptions, MmapRaw};

use crate::{
    bpf::types::{group4, group6, key4, key6, slot4, slot6},
    flow::{Count, Inner, InnerProto, Key, Kind, Pair, Tunnel},
    snapshot::{Fill, Rows},
};

// bpf/tmon.h
pub(crate) const TAG_FREE: u32 = 0;
pub(crate) const TAG_BUSY: u32 = 1;
pub(crate) const ROW_DIR: u8 = 0x01;
pub(crate) const ROW_ID: u8 = 0x02;
pub(crate) const ROW_ID1: u8 = 0x04;
pub(crate) const ROW_NO_PAIR: u8 = 0x08;
pub(crate) const ROW_OUTER6: u8 = 0x10;
pub(crate) const ROW_INNER6: u8 = 0x20;
pub(crate) const ROW_OTHER: u8 = 0x40;
pub(crate) const GROUP: usize = 8;

const _: () = assert!(size_of::<slot4>() == 64);
const _: () = assert!(size_of::<slot6>() == 128);
const _: () = assert!(size_of::<group4>() == GROUP * size_of::<slot4>());
const _: () = assert!(size_of::<group6>() == GROUP * size_of::<slot6>());

/// One table, mapped.
struct Table {
    _map: OwnedFd,
    memory: MmapRaw,
}

impl Table {
    /// Maps an array of groups of this size.
    fn map(map: BorrowedFd<'_>, group_size: usize) -> Result<Table> {
        let mut info = libbpf_sys::bpf_map_info::default();
        let mut len = size_of_val(&info) as u32;
        // SAFETY: the kernel writes at most `len` bytes of plain numbers.
        let e = unsafe { libbpf_sys::bpf_map_get_info_by_fd(map.as_raw_fd(), &mut info, &mut len) };
        ensure!(e == 0, "ask for the size of a flow table: {}", std::io::Error::from_raw_os_error(-e));
        ensure!(info.value_size as usize == group_size, "a flow table has groups of {} bytes, not {group_size}", info.value_size);
        let map = map.try_clone_to_owned().context("duplicate a BPF descriptor")?;
        let memory = MmapOptions::new()
            .len(info.max_entries as usize * group_size)
            .map_raw(map.as_raw_fd())
            .context("map a flow table into memory")?;
        Ok(Table { _map: map, memory })
    }

    fn slots<'a, S: 'a>(&'a self) -> impl ExactSizeIterator<Item = *mut S> + 'a {
        let first = self.memory.as_mut_ptr().cast::<S>();
        // SAFETY: every index is inside the mapping, whose length is a whole number of slots.
        (0..self.memory.len() / size_of::<S>()).map(move |i| unsafe { first.add(i) })
    }
}

/// The three tables of one interface.
pub struct Tables {
    rows4: Table,
    rows6: Table,
    others: Table,
}

impl Tables {
    /// Maps the tables of IPv4 rows, of all other rows, and of `other` rows.
    ///
    /// # Errors
    /// They are not what this version knows, or memory is short.
    pub fn map([rows4, rows6, others]: [BorrowedFd<'_>; 3]) -> Result<Tables> {
        Ok(Tables {
            rows4: Table::map(rows4, size_of::<group4>())?,
            rows6: Table::map(rows6, size_of::<group6>())?,
            others: Table::map(others, size_of::<group6>())?,
        })
    }

    /// Appends every row as of interface `interface`. Returns how full the tables are, and the
    /// first place (see [`Rows::push`]) that is not taken.
    pub fn read(&self, interface: u16, rows: &mut Rows) -> (Fill, u32) {
        let mut place = 0;
        let mut used = [0u64; 3];
        for slot in self.rows4.slots::<slot4>() {
            // SAFETY: slots() yields pointers into the mapping.
            if let Some((key, packets, bytes)) = unsafe { read_slot4(slot) } {
                used[0] += 1;
                push4(rows, place, interface, &key, packets, bytes);
            }
            place += 1;
        }
        for (table, used) in [&self.rows6, &self.others].into_iter().zip(&mut used[1..]) {
            for slot in table.slots::<slot6>() {
                // SAFETY: as above.
                if let Some((key, packets, bytes)) = unsafe { read_slot6(slot) } {
                    *used += 1;
                    push6(rows, place, interface, &key, packets, bytes);
                }
                place += 1;
            }
        }
        (Fill { used: used[0].max(used[1]), size: self.rows4.slots::<slot4>().len() as u64 }, place)
    }

    /// All slots to zero. Nothing may be counting meanwhile.
    pub fn clear(&self) {
        for table in [&self.rows4, &self.rows6, &self.others] {
            // SAFETY: the whole mapping, which nothing else touches by the contract above.
            unsafe { ptr::write_bytes(table.memory.as_mut_ptr(), 0, table.memory.len()) };
        }
    }
}

/// Reads one slot while the kernel counts in it: `None` when it is free, being written or aged out.
macro_rules! read_slot {
    ($name:ident, $slot:ty, $key:ty) => {
        /// # Safety
        /// `slot` points into a mapped table.
        unsafe fn $name(slot: *mut $slot) -> Option<($key, [u64; 2], [u64; 2])> {
            // SAFETY: aligned, inside the mapping; shared with the kernel, so atomics and volatile only.
            unsafe {
                let tag = AtomicU32::from_ptr(&raw mut (*slot).tag);
                let before = tag.load(Ordering::Acquire);
                if before == TAG_FREE || before == TAG_BUSY {
                    return None;
                }
                let key = ptr::read_volatile(&raw const (*slot).key);
                let load = |p: *mut u64| AtomicU64::from_ptr(p).load(Ordering::Relaxed);
                let packets = [0, 1].map(|i| load((&raw mut (*slot).packets).cast::<u64>().add(i)));
                let bytes = [0, 1].map(|i| load((&raw mut (*slot).bytes).cast::<u64>().add(i)));
                fence(Ordering::Acquire);
                (tag.load(Ordering::Relaxed) == before).then_some((key, packets, bytes))
            }
        }
    };
}
read_slot!(read_slot4, slot4, key4);
read_slot!(read_slot6, slot6, key6);

/// Which way packets seen at each hook went: `direction = bit XOR hook`.
fn swapped(flags: u8) -> [bool; 2] {
    let bit = flags & ROW_DIR != 0;
    [bit, !bit]
}

fn counts(packets: [u64; 2], bytes: [u64; 2]) -> [Count; 2] {
    [0, 1].map(|i| Count { packets: packets[i], bytes: bytes[i] })
}

fn v4(word: u32) -> IpAddr {
    Ipv4Addr::from(word.to_ne_bytes()).into()
}

fn push4(rows: &mut Rows, place: u32, interface: u16, k: &key4, packets: [u64; 2], bytes: [u64; 2]) {
    let key = Key {
        outer: Some(Pair { first: v4(k.outer[0]), second: v4(k.outer[1]) }),
        outermost: Tunnel { kind: Kind::from_number(k.kind), id: (k.flags & ROW_ID != 0).then_some(k.id) },
        innermost: None,
        depth: 1,
        inner: match k.flags & ROW_NO_PAIR {
            0 => Inner::Pair(Pair { first: v4(k.inner[0]), second: v4(k.inner[1]) }),
            _ => Inner::Proto(InnerProto(k.inner[0])),
        },
        other: false,
    };
    rows.push(place, interface, &key, counts(packets, bytes), swapped(k.flags));
}

fn push6(rows: &mut Rows, place: u32, interface: u16, k: &key6, packets: [u64; 2], bytes: [u64; 2]) {
    let address = |words: [u32; 4], v6: bool| {
        if !v6 {
            return v4(words[0]);
        }
        let mut octets = [0u8; 16];
        for (to, from) in octets.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&from.to_ne_bytes());
        }
        Ipv6Addr::from(octets).into()
    };
    let pair = |p: [[u32; 4]; 2], v6| Pair { first: address(p[0], v6), second: address(p[1], v6) };
    let tunnel = |i: usize, flag| Tunnel { kind: Kind::from_number(k.kind[i]), id: (k.flags & flag != 0).then_some(k.id[i]) };
    let key = Key {
        outer: Some(pair(k.outer, k.flags & ROW_OUTER6 != 0)),
        outermost: tunnel(0, ROW_ID),
        innermost: (k.depth > 1).then(|| tunnel(1, ROW_ID1)),
        depth: k.depth,
        inner: match k.flags & ROW_NO_PAIR {
            0 => Inner::Pair(pair(k.inner, k.flags & ROW_INNER6 != 0)),
            _ => Inner::Proto(InnerProto(k.inner[0][0])),
        },
        other: k.flags & ROW_OTHER != 0,
    };
    rows.push(place, interface, &key, counts(packets, bytes), swapped(k.flags));
}
