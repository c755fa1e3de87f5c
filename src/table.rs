// SPDX-License-Identifier: MIT OR Apache-2.0
//! The flow tables, mapped into memory: a reading costs no system call, while the programs count on.
//!
//! A table is an array of groups of slots; `bpf/book.h` says how the programs find a row and make
//! one. A slot's tag says whether it is free, busy or holds a row, and is the only word that both
//! sides compare and swap.
#![allow(unsafe_code)]
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

use anyhow::{Context, Result, ensure};
use foldhash::HashMap;
use memmap2::{MmapOptions, MmapRaw};

use crate::{
    bpf::types::{group4, group6, key4, key6, slot4, slot6},
    flow::{Count, Inner, InnerProto, Key, Kind, Pair, Tunnel},
    snapshot::{Fill, Rows},
};

// bpf/tmon.h
pub(crate) const TAG_FREE: u32 = 0;
pub(crate) const TAG_BUSY: u32 = 1;
pub(crate) const TAG_USED: u32 = 2;
pub(crate) const TAG_AGEING: u32 = 4;
pub(crate) const ROW_DIR: u8 = 0x01;
pub(crate) const ROW_ID: u8 = 0x02;
pub(crate) const ROW_ID1: u8 = 0x04;
pub(crate) const ROW_NO_PAIR: u8 = 0x08;
pub(crate) const ROW_OUTER6: u8 = 0x10;
pub(crate) const ROW_INNER6: u8 = 0x20;
pub(crate) const ROW_OTHER: u8 = 0x40;
pub(crate) const ROW_NO_OUTER: u8 = 0x80;
pub(crate) const GROUP: usize = 8;

const _: () = assert!(size_of::<slot4>() == 64);
const _: () = assert!(size_of::<slot6>() == 128);
const _: () = assert!(size_of::<group4>() == GROUP * size_of::<slot4>());
const _: () = assert!(size_of::<group6>() == GROUP * size_of::<slot6>());

/// One table, mapped.
struct Table {
    map: OwnedFd,
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
        Ok(Table { map, memory })
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

    /// The maps, in the order of [`Tables::map`].
    pub(crate) fn maps(&self) -> [BorrowedFd<'_>; 3] {
        [&self.rows4, &self.rows6, &self.others].map(|t| t.map.as_fd())
    }

    /// Appends every row as of interface `interface`; `large` says whether a row was ever made in
    /// the second table, which is twice as much to look through as the first. Returns how full the
    /// tables are, and the first place (see [`Rows::push`]) that is not taken.
    pub fn read(&self, interface: u16, large: bool, rows: &mut Rows) -> (Fill, u32) {
        let mut place = 0;
        let mut used = [0u64; 3];
        for slot in self.rows4.slots::<slot4>() {
            // SAFETY: slots() yields pointers into the mapping.
            if let Some((key, counts)) = unsafe { read(slot) } {
                used[0] += 1;
                push4(rows, place, interface, &key, counts);
            }
            place += 1;
        }
        for (table, used) in [&self.rows6, &self.others].into_iter().zip(&mut used[1..]) {
            if !large && ptr::eq(table, &self.rows6) {
                place += table.slots::<slot6>().len() as u32;
                continue;
            }
            for slot in table.slots::<slot6>() {
                // SAFETY: as above.
                if let Some((key, counts)) = unsafe { read(slot) } {
                    *used += 1;
                    push6(rows, place, interface, &key, counts);
                }
                place += 1;
            }
        }
        (Fill { used: used[0].max(used[1]), size: self.rows4.slots::<slot4>().len() as u64 }, place)
    }

    /// Moves the counts of rows that were idle for more than `idle` jiffies at `now` to their
    /// tunnels' aged rows. Where `others` has become crowded, its own idle rows go to the
    /// interface's aged row, so memory is bounded. Returns how many rows have gone.
    ///
    /// # Errors
    /// The kernel has no way to wait for running programs: nothing has changed.
    pub fn age(&self, now: u32, idle: u32) -> Result<usize> {
        let since = |seen: u32| now.wrapping_sub(seen) as i32; // negative: counted in after `now`
        let is_idle = |live: &Words<'_>| since(live.seen.load(Ordering::Relaxed)) > idle as i32;
        let rows4 = mark(self.rows4.slots::<slot4>(), is_idle);
        let rows6 = mark(self.rows6.slots::<slot6>(), is_idle);
        let mut homes = Homes::of(&self.others, now);
        let others = if homes.crowded() { mark(self.others.slots::<slot6>().take(homes.shared), is_idle) } else { Vec::new() };
        if rows4.is_empty() && rows6.is_empty() && others.is_empty() {
            return Ok(0);
        }
        // Programs that had found a row before it was marked may still be adding to it.
        let waited = grace_period();
        if waited.is_err() {
            restore(&rows4);
            restore(&rows6);
            restore(&others);
            waited.context("rows cannot age here: wait for the programs that are running")?;
        }
        let mut gone = 0;
        for marked in others {
            gone += marked.settle(is_idle, |key| {
                homes.forget(&key);
                homes.interface(key.flags & ROW_DIR)
            });
        }
        for marked in rows4 {
            gone += marked.settle(is_idle, |key| homes.tunnel(slot4::aged(key)));
        }
        for marked in rows6 {
            gone += marked.settle(is_idle, |key| homes.tunnel(slot6::aged(key)));
        }
        Ok(gone)
    }

    /// All slots to zero. Nothing may be counting meanwhile.
    pub fn clear(&self) {
        for table in [&self.rows4, &self.rows6, &self.others] {
            // SAFETY: the whole mapping, which nothing else touches by the contract above.
            unsafe { ptr::write_bytes(table.memory.as_mut_ptr(), 0, table.memory.len()) };
        }
    }
}

/// The words of a slot that the programs write at any time.
struct Words<'a> {
    tag: &'a AtomicU32,
    /// In jiffies.
    seen: &'a AtomicU32,
    /// Packets by hook, then bytes by hook.
    cells: [&'a AtomicU64; 4],
}

/// A slot of either table.
trait Slot: Sized {
    type Key: Copy;

    /// # Safety
    /// `slot` points into a mapped table that outlives `'a`.
    unsafe fn words<'a>(slot: *mut Self) -> Words<'a>;
    /// # Safety
    /// `slot` points into a mapped table.
    unsafe fn key(slot: *mut Self) -> Self::Key;
    /// The key of the aged row that this row's counts go to.
    fn aged(key: Self::Key) -> key6;
}

macro_rules! slot {
    ($slot:ty, $key:ty, $aged:expr) => {
        impl Slot for $slot {
            type Key = $key;

            unsafe fn words<'a>(slot: *mut Self) -> Words<'a> {
                // SAFETY: aligned and inside the mapping; shared with the programs, so atomics only.
                unsafe {
                    let cell = |first: *mut [u64; 2], i| AtomicU64::from_ptr(first.cast::<u64>().add(i));
                    let (packets, bytes) = (&raw mut (*slot).packets, &raw mut (*slot).bytes);
                    Words {
                        tag: AtomicU32::from_ptr(&raw mut (*slot).tag),
                        seen: AtomicU32::from_ptr(&raw mut (*slot).seen),
                        cells: [cell(packets, 0), cell(packets, 1), cell(bytes, 0), cell(bytes, 1)],
                    }
                }
            }

            unsafe fn key(slot: *mut Self) -> $key {
                // SAFETY: as above; what is torn is told by the tag.
                unsafe { ptr::read_volatile(&raw const (*slot).key) }
            }

            fn aged(key: $key) -> key6 {
                $aged(key)
            }
        }
    };
}

slot!(slot4, key4, |k: key4| key6 {
    id: [k.id, 0],
    kind: [k.kind, 0],
    flags: aged_flags(k.flags),
    depth: 1,
    outer: k.outer.map(|a| [a, 0, 0, 0]),
    inner: AGED_INNER,
    ..Default::default()
});
slot!(slot6, key6, |k: key6| key6 { flags: aged_flags(k.flags), shard: 0, inner: AGED_INNER, ..k });

const AGED_INNER: [[u32; 4]; 2] = [[InnerProto::AGED.0, 0, 0, 0], [0; 4]];

fn aged_flags(flags: u8) -> u8 {
    flags & !ROW_INNER6 | ROW_NO_PAIR | ROW_OTHER
}

/// A slot's key and counts by hook, while the programs count in it: `None` when it holds no row.
///
/// # Safety
/// `slot` points into a mapped table.
unsafe fn read<S: Slot>(slot: *mut S) -> Option<(S::Key, [Count; 2])> {
    // SAFETY: by this function's own contract.
    let (live, key) = unsafe { (S::words(slot), || S::key(slot)) };
    let before = live.tag.load(Ordering::Acquire);
    if before == TAG_FREE || before == TAG_BUSY {
        return None;
    }
    let key = key();
    let [packets, bytes] = [0, 2].map(|i| [0, 1].map(|hook| live.cells[i + hook].load(Ordering::Relaxed)));
    fence(Ordering::Acquire);
    let counts = [0, 1].map(|hook| Count { packets: packets[hook], bytes: bytes[hook] });
    (live.tag.load(Ordering::Relaxed) == before).then_some((key, counts))
}

/// A row that no program finds any more, and the tag that it had.
struct Marked<S> {
    slot: *mut S,
    tag: u32,
}

/// Takes idle rows out of the programs' sight; also those that an ager left so which was killed.
fn mark<S: Slot>(slots: impl Iterator<Item = *mut S>, is_idle: impl Fn(&Words<'_>) -> bool) -> Vec<Marked<S>> {
    let mut marked = Vec::new();
    for slot in slots {
        // SAFETY: the iterators of a table yield pointers into its mapping.
        let live = unsafe { S::words(slot) };
        let tag = live.tag.load(Ordering::Acquire);
        let published = tag & TAG_USED != 0;
        let taken = || live.tag.compare_exchange(tag, TAG_AGEING, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if tag == TAG_AGEING || (published && is_idle(&live) && taken()) {
            marked.push(Marked { slot, tag });
        }
    }
    marked
}

fn restore<S: Slot>(marked: &[Marked<S>]) {
    for m in marked {
        // SAFETY: marked slots are slots of a mapped table.
        unsafe { S::words(m.slot) }.tag.store(m.tag, Ordering::Release);
    }
}

impl<S: Slot> Marked<S> {
    /// After the grace period the row is ours alone. Returns 1 when it has gone, 0 when it is kept
    /// because something was counted in it after all.
    fn settle<'a>(self, is_idle: impl Fn(&Words<'_>) -> bool, home: impl FnOnce(S::Key) -> Words<'a>) -> usize {
        // SAFETY: marked slots are slots of a mapped table.
        let (live, key) = unsafe { (S::words(self.slot), S::key(self.slot)) };
        if self.tag != TAG_AGEING && !is_idle(&live) {
            live.tag.store(self.tag, Ordering::Release);
            return 0;
        }
        let home = home(key);
        for (from, to) in live.cells.iter().zip(home.cells) {
            to.fetch_add(from.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
        live.seen.store(0, Ordering::Relaxed);
        live.tag.store(TAG_FREE, Ordering::Release);
        1
    }
}

/// Waits until no program runs that ran when this was called: they run inside RCU.
fn grace_period() -> std::io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: takes numbers only.
    match unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// The aged rows: where in `others` the counts of idle rows go.
struct Homes<'a> {
    others: &'a Table,
    now: u32,
    /// Slots that the programs use, too.
    shared: usize,
    /// How many of them are not free.
    used: usize,
    /// Where a free one is looked for next.
    next: usize,
    rows: HashMap<[u64; 10], *mut slot6>,
}

impl<'a> Homes<'a> {
    fn of(others: &'a Table, now: u32) -> Self {
        let slots = others.slots::<slot6>();
        let mut homes = Homes { others, now, shared: slots.len() - GROUP, used: 0, next: 0, rows: HashMap::default() };
        for slot in slots.take(homes.shared) {
            // SAFETY: inside the mapping.
            let (tag, key) = unsafe { (slot6::words(slot).tag.load(Ordering::Acquire), slot6::key(slot)) };
            homes.used += usize::from(tag != TAG_FREE);
            if tag & TAG_USED != 0 && key.inner == AGED_INNER && key.flags & ROW_OTHER != 0 {
                homes.rows.insert(number(&key), slot);
            }
        }
        homes
    }

    /// More than half full: the rest is for the programs' own `other` rows.
    fn crowded(&self) -> bool {
        self.used > self.shared / 2
    }

    /// A row of `others` is going.
    fn forget(&mut self, key: &key6) {
        self.rows.remove(&number(key));
        self.used -= 1;
    }

    /// The aged row of a tunnel; the interface's where there is no room for it.
    fn tunnel(&mut self, key: key6) -> Words<'a> {
        let found = self.rows.get(&number(&key)).copied().or_else(|| self.make(key));
        match found {
            // SAFETY: inside the mapping.
            Some(slot) => {
                let live = unsafe { slot6::words(slot) };
                live.seen.store(self.now, Ordering::Relaxed);
                live
            }
            None => self.interface(key.flags & ROW_DIR),
        }
    }

    fn make(&mut self, key: key6) -> Option<*mut slot6> {
        while !self.crowded() && self.next < self.shared {
            let slot = self.others.slots::<slot6>().nth(self.next)?;
            self.next += 1;
            if publish(slot, &key) {
                self.used += 1;
                self.rows.insert(number(&key), slot);
                return Some(slot);
            }
        }
        None
    }

    /// The interface's aged row, one for each direction bit, where no program looks.
    fn interface(&self, direction: u8) -> Words<'a> {
        let flags = direction | ROW_NO_OUTER | ROW_NO_PAIR | ROW_OTHER;
        let first = self.others.memory.as_mut_ptr().cast::<slot6>();
        // SAFETY: the last group is behind the shared ones, and has more than two slots.
        let slot = unsafe { first.add(self.shared + usize::from(direction != 0)) };
        publish(slot, &key6 { flags, inner: AGED_INNER, ..Default::default() });
        // SAFETY: as above.
        unsafe { slot6::words(slot) }
    }
}

/// Makes a row of a free slot; false when it is not free. The programs never look for an aged
/// row, so any tag of a published row will do.
fn publish(slot: *mut slot6, key: &key6) -> bool {
    // SAFETY: callers give slots of a mapped table; the key is written while the slot is busy.
    unsafe {
        let live = slot6::words(slot);
        if live.tag.compare_exchange(TAG_FREE, TAG_BUSY, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        ptr::write_volatile(&raw mut (*slot).key, *key);
        live.tag.store(TAG_USED, Ordering::Release);
    }
    true
}

/// A key as something that hashes.
fn number(key: &key6) -> [u64; 10] {
    // SAFETY: ten words of plain numbers, without padding.
    unsafe { ptr::read_unaligned(ptr::from_ref(key).cast()) }
}

/// Which way packets seen at each hook went: `direction = bit XOR hook`.
fn swapped(flags: u8) -> [bool; 2] {
    let bit = flags & ROW_DIR != 0;
    [bit, !bit]
}

fn v4(word: u32) -> IpAddr {
    Ipv4Addr::from(word.to_ne_bytes()).into()
}

fn push4(rows: &mut Rows, place: u32, interface: u16, k: &key4, counts: [Count; 2]) {
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
    rows.push(place, interface, &key, counts, swapped(k.flags));
}

fn push6(rows: &mut Rows, place: u32, interface: u16, k: &key6, counts: [Count; 2]) {
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
        outer: (k.flags & ROW_NO_OUTER == 0).then(|| pair(k.outer, k.flags & ROW_OUTER6 != 0)),
        outermost: tunnel(0, ROW_ID),
        innermost: (k.depth > 1).then(|| tunnel(1, ROW_ID1)),
        depth: k.depth,
        inner: match k.flags & ROW_NO_PAIR {
            0 => Inner::Pair(pair(k.inner, k.flags & ROW_INNER6 != 0)),
            _ => Inner::Proto(InnerProto(k.inner[0][0])),
        },
        other: k.flags & ROW_OTHER != 0,
    };
    rows.push(place, interface, &key, counts, swapped(k.flags));
}
