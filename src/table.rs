// SPDX-License-Identifier: MIT OR Apache-2.0
//! The flow tables, mapped into memory: a reading costs no system call, while the programs count on.
//!
//! A table is an array of slots and one of their tags, a byte each, the eight of a group in one word;
//! `bpf/book.h` says how the programs find a row and make one. A slot's tag says whether it is free,
//! busy or holds a row: the programs set tags of free slots, and user space those of rows.
#![allow(unsafe_code)]
use std::{
    marker::PhantomData,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use anyhow::{Context, Result, ensure};
use foldhash::{HashMap, HashSet};
use memmap2::{MmapOptions, MmapRaw};

use contract::{
    GROUP, ROW_DIR, ROW_ID, ROW_ID1, ROW_INNER6, ROW_NO_OUTER, ROW_NO_PAIR, ROW_OTHER, ROW_OUTER6,
    SHARD_CPU, SHARD_FRAGMENT, TAG_AGEING, TAG_BUSY, TAG_FREE, TAG_ROW, key4, key6, slot4, slot6,
};

use crate::{
    flow::{Count, Inner, InnerProto, Key, Kind, Pair, Tunnel},
    snapshot::{Fill, Part, Rows},
};

/// An array map in this memory.
struct Array {
    map: OwnedFd,
    memory: MmapRaw,
}

impl Array {
    /// Maps an array of elements of this size.
    fn map(map: BorrowedFd<'_>, size: usize) -> Result<Array> {
        let mut info = libbpf_sys::bpf_map_info::default();
        let mut len = size_of_val(&info) as u32;
        // SAFETY: the kernel writes at most `len` bytes of plain numbers.
        let e = unsafe { libbpf_sys::bpf_map_get_info_by_fd(map.as_raw_fd(), &mut info, &mut len) };
        ensure!(
            e == 0,
            "ask for the size of a flow table: {}",
            std::io::Error::from_raw_os_error(-e)
        );
        ensure!(
            info.value_size as usize == size,
            "a flow table has elements of {} bytes, not {size}",
            info.value_size
        );
        let map = map.try_clone_to_owned().context("duplicate a BPF descriptor")?;
        let memory = MmapOptions::new()
            .len(info.max_entries as usize * size)
            .map_raw(map.as_raw_fd())
            .context("map a flow table into memory")?;
        Ok(Array { map, memory })
    }
}

/// One table: slots of `S` and their tags.
struct Table<S> {
    slots: Array,
    tags: Array,
    slot: PhantomData<S>,
}

impl<S: Slot> Table<S> {
    fn map([slots, tags]: [BorrowedFd<'_>; 2]) -> Result<Self> {
        let (slots, tags) =
            (Array::map(slots, size_of::<S>())?, Array::map(tags, size_of::<u64>())?);
        let (n, tagged) = (slots.memory.len() / size_of::<S>(), tags.memory.len());
        ensure!(n == tagged, "a flow table has {n} slots and {tagged} tags");
        Ok(Table { slots, tags, slot: PhantomData })
    }

    /// How many slots there are.
    fn len(&self) -> usize {
        self.tags.memory.len()
    }

    /// The tags of one group, the first slot's in the lowest byte.
    fn word(&self, group: usize) -> &AtomicU64 {
        assert!(group < self.len() / GROUP);
        // SAFETY: inside the mapping, aligned; shared with the programs, so atomics only.
        unsafe { AtomicU64::from_ptr(self.tags.memory.as_mut_ptr().cast::<u64>().add(group)) }
    }

    /// Turns a slot's tag from one into another. Neither may be one that anybody else turns.
    fn turn(&self, slot: usize, from: u8, to: u8) {
        self.word(slot / GROUP).fetch_xor(u64::from(from ^ to) << lane(slot), Ordering::AcqRel);
    }

    /// Takes a slot if it is free.
    fn claim(&self, slot: usize) -> bool {
        tag(
            self.word(slot / GROUP).fetch_or(u64::from(TAG_BUSY) << lane(slot), Ordering::AcqRel),
            slot,
        ) == TAG_FREE
    }

    /// The slots with a tag, and it.
    fn tagged(&self) -> impl Iterator<Item = (usize, u8)> + '_ {
        let words =
            (0..self.len() / GROUP).map(|group| (group, self.word(group).load(Ordering::Acquire)));
        words.filter(|(_, word)| *word != 0).flat_map(|(group, word)| {
            (group * GROUP..(group + 1) * GROUP)
                .map(move |slot| (slot, tag(word, slot)))
                .filter(|(_, tag)| *tag != TAG_FREE)
        })
    }

    fn at(&self, slot: usize) -> *mut S {
        assert!(slot < self.len());
        // SAFETY: inside the mapping.
        unsafe { self.slots.memory.as_mut_ptr().cast::<S>().add(slot) }
    }

    /// The words of a slot that the programs write at any time.
    fn words(&self, slot: usize) -> Words<'_> {
        let at = self.at(slot);
        // SAFETY: inside the mapping and aligned.
        unsafe { S::words(at) }
    }

    /// The key of a row. It is whole where the slot has a row's tag; nobody changes it then.
    fn key(&self, slot: usize) -> S::Key {
        let at = self.at(slot);
        // SAFETY: inside the mapping and aligned; any bytes are a key.
        unsafe { S::key(at) }
    }

    /// Every row: its slot, key and counts by hook.
    fn rows(&self) -> impl Iterator<Item = (usize, S::Key, [Count; 2])> + '_ {
        self.tagged().filter(|(_, tag)| *tag != TAG_BUSY).map(|(slot, _)| {
            let cells = self.words(slot).cells.map(|c| c.load(Ordering::Relaxed));
            (
                slot,
                self.key(slot),
                [0, 1].map(|hook| Count { packets: cells[hook], bytes: cells[2 + hook] }),
            )
        })
    }

    /// Takes idle rows out of the programs' sight; also those that an ager left so which was killed.
    /// What one CPU counted in a row goes when all of the row does: its common slot is seen for as
    /// long as any CPU counts in it. Looks at slots below a number only.
    fn mark(&self, below: usize, is_idle: impl Fn(&Words<'_>) -> bool) -> Vec<Marked> {
        let key = |slot| S::wide(self.key(slot));
        let is_part = |slot| key(slot).shard & SHARD_CPU != 0;
        let (mut marked, mut parts) = (Vec::new(), Vec::new());
        for (slot, tag) in self.tagged().take_while(|(slot, _)| *slot < below) {
            if tag == TAG_AGEING {
                marked.push(Marked { slot, tag });
            } else if tag != TAG_BUSY && is_idle(&self.words(slot)) {
                if is_part(slot) { &mut parts } else { &mut marked }.push(Marked { slot, tag });
            }
        }
        marked.iter().for_each(|m| self.turn(m.slot, m.tag, TAG_AGEING));
        if !parts.is_empty() {
            let common =
                |slot| number(&key6 { shard: key(slot).shard & SHARD_FRAGMENT, ..key(slot) });
            let rows = self.tagged().filter(|(slot, tag)| *tag >= TAG_ROW && !is_part(*slot));
            let live: HashSet<_> = rows.map(|(slot, _)| common(slot)).collect();
            parts.retain(|m| !live.contains(&common(m.slot)));
            parts.iter().for_each(|m| self.turn(m.slot, m.tag, TAG_AGEING));
            marked.append(&mut parts);
        }
        marked
    }

    fn restore(&self, marked: &[Marked]) {
        for m in marked {
            self.turn(m.slot, TAG_AGEING, m.tag);
        }
    }

    /// After the grace period marked rows are ours alone: their counts go home, their slots are
    /// free. Kept is what something was counted in after all. Returns how many have gone.
    fn settle<'a>(
        &self,
        marked: Vec<Marked>,
        is_idle: impl Fn(&Words<'_>) -> bool,
        mut home: impl FnMut(key6) -> Words<'a>,
    ) -> usize {
        let mut gone = 0;
        for Marked { slot, tag } in marked {
            let live = self.words(slot);
            if tag != TAG_AGEING && !is_idle(&live) {
                self.turn(slot, TAG_AGEING, tag);
                continue;
            }
            for (from, to) in live.cells.iter().zip(home(S::wide(self.key(slot))).cells) {
                to.fetch_add(from.swap(0, Ordering::Relaxed), Ordering::Relaxed);
            }
            live.seen.store(0, Ordering::Relaxed);
            self.turn(slot, TAG_AGEING, TAG_FREE);
            gone += 1;
        }
        gone
    }

    fn clear(&self) {
        for array in [&self.slots, &self.tags] {
            // SAFETY: the whole mapping, which nothing else touches by the contract of Tables::clear().
            unsafe { ptr::write_bytes(array.memory.as_mut_ptr(), 0, array.memory.len()) };
        }
    }
}

/// Where a slot's tag is in its group's word.
fn lane(slot: usize) -> usize {
    slot % GROUP * 8
}

fn tag(word: u64, slot: usize) -> u8 {
    (word >> lane(slot)) as u8
}

/// A row that no program finds any more, and the tag that it had.
struct Marked {
    slot: usize,
    tag: u8,
}

/// The three tables of one interface.
pub struct Tables {
    rows4: Table<slot4>,
    rows6: Table<slot6>,
    others: Table<slot6>,
}

impl Tables {
    /// Maps the tables of IPv4 rows, of all other rows, and of `other` rows: the slots and the tags of each.
    ///
    /// # Errors
    /// They are not what this version knows, or memory is short.
    pub fn map([rows4, rows6, others]: [[BorrowedFd<'_>; 2]; 3]) -> Result<Tables> {
        Ok(Tables {
            rows4: Table::map(rows4)?,
            rows6: Table::map(rows6)?,
            others: Table::map(others)?,
        })
    }

    /// The maps, in the order of [`Tables::map`].
    pub(crate) fn maps(&self) -> [[BorrowedFd<'_>; 2]; 3] {
        let Tables { rows4, rows6, others } = self;
        [[&rows4.slots, &rows4.tags], [&rows6.slots, &rows6.tags], [&others.slots, &others.tags]]
            .map(|t| t.map(|a| a.map.as_fd()))
    }

    /// Appends every row as of interface `interface`. Returns how full the tables are, and the first
    /// place (see [`Rows::push`]) that is not taken.
    pub fn read(&self, interface: u16, rows: &mut Rows) -> (Fill, u32) {
        let mut used = [0u64; 2];
        for (slot, key, counts) in self.rows4.rows() {
            used[0] += 1;
            push4(rows, slot as u32, interface, &key, counts);
        }
        let mut place = self.rows4.len() as u32;
        for (slot, key, counts) in self.rows6.rows() {
            used[1] += 1;
            push6(rows, place + slot as u32, interface, &key, counts);
        }
        place += self.rows6.len() as u32;
        for (slot, key, counts) in self.others.rows() {
            push6(rows, place + slot as u32, interface, &key, counts);
        }
        place += self.others.len() as u32;
        (Fill { used: used[0].max(used[1]), size: self.rows4.len() as u64 }, place)
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
        let rows4 = self.rows4.mark(usize::MAX, is_idle);
        let rows6 = self.rows6.mark(usize::MAX, is_idle);
        let mut homes = Homes::of(&self.others, now);
        let others =
            if homes.crowded() { self.others.mark(homes.shared, is_idle) } else { Vec::new() };
        if rows4.is_empty() && rows6.is_empty() && others.is_empty() {
            return Ok(0);
        }
        // Programs that had found a row before it was marked may still be adding to it.
        let waited = grace_period();
        if waited.is_err() {
            self.rows4.restore(&rows4);
            self.rows6.restore(&rows6);
            self.others.restore(&others);
            waited.context("rows cannot age here: wait for the programs that are running")?;
        }
        let gone = self.others.settle(others, is_idle, |key| {
            homes.forget(&key);
            homes.interface(&key)
        });
        let gone = gone + self.rows4.settle(rows4, is_idle, |key| homes.tunnel(aged(key)));
        Ok(gone + self.rows6.settle(rows6, is_idle, |key| homes.tunnel(aged(key))))
    }

    /// All slots to zero. Nothing may be counting meanwhile.
    pub fn clear(&self) {
        self.rows4.clear();
        self.rows6.clear();
        self.others.clear();
    }
}

/// The words of a slot that the programs write at any time.
struct Words<'a> {
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
    /// The same key, as the larger of the two.
    fn wide(key: Self::Key) -> key6;
}

macro_rules! slot {
    ($slot:ty, $key:ty, $wide:expr) => {
        impl Slot for $slot {
            type Key = $key;

            unsafe fn words<'a>(slot: *mut Self) -> Words<'a> {
                // SAFETY: aligned and inside the mapping; shared with the programs, so atomics only.
                unsafe {
                    let cell =
                        |first: *mut [u64; 2], i| AtomicU64::from_ptr(first.cast::<u64>().add(i));
                    let (packets, bytes) = (&raw mut (*slot).packets, &raw mut (*slot).bytes);
                    Words {
                        seen: AtomicU32::from_ptr(&raw mut (*slot).seen),
                        cells: [cell(packets, 0), cell(packets, 1), cell(bytes, 0), cell(bytes, 1)],
                    }
                }
            }

            unsafe fn key(slot: *mut Self) -> $key {
                // SAFETY: as above; whether it is whole is told by the tag.
                unsafe { ptr::read_volatile(&raw const (*slot).key) }
            }

            fn wide(key: $key) -> key6 {
                $wide(key)
            }
        }
    };
}

slot!(slot4, key4, |k: key4| key6 {
    id: [k.id, 0],
    kind: [k.kind, 0],
    flags: k.flags,
    depth: 1,
    shard: k.shard,
    outer: k.outer.map(|a| [a, 0, 0, 0]),
    inner: k.inner.map(|a| [a, 0, 0, 0]),
    ..Default::default()
});
slot!(slot6, key6, |k: key6| k);

const AGED_INNER: [[u32; 4]; 2] = [[InnerProto::AGED.0, 0, 0, 0], [0; 4]];

/// The key of the aged row that a row's counts go to.
fn aged(key: key6) -> key6 {
    key6 {
        flags: key.flags & !ROW_INNER6 | ROW_NO_PAIR | ROW_OTHER,
        shard: key.shard & SHARD_FRAGMENT,
        inner: AGED_INNER,
        ..key
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
    others: &'a Table<slot6>,
    now: u32,
    /// Slots that the programs use, too.
    shared: usize,
    /// How many of them are not free.
    used: usize,
    /// Where a free one is looked for next.
    next: usize,
    rows: HashMap<[u64; 10], usize>,
}

impl<'a> Homes<'a> {
    fn of(others: &'a Table<slot6>, now: u32) -> Self {
        let mut homes = Homes {
            others,
            now,
            shared: others.len() - GROUP,
            used: 0,
            next: 0,
            rows: HashMap::default(),
        };
        for (slot, tag) in others.tagged().take_while(|(slot, _)| *slot < homes.shared) {
            let key = others.key(slot);
            homes.used += 1;
            if tag >= TAG_ROW && key.inner == AGED_INNER && key.flags & ROW_OTHER != 0 {
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
        match self.rows.get(&number(&key)).copied().or_else(|| self.make(key)) {
            Some(slot) => {
                let live = self.others.words(slot);
                live.seen.store(self.now, Ordering::Relaxed);
                live
            }
            None => self.interface(&key),
        }
    }

    fn make(&mut self, key: key6) -> Option<usize> {
        while !self.crowded() && self.next < self.shared {
            // One of each group before a second one: the programs find room in every group.
            let groups = self.shared / GROUP;
            let slot = self.next % groups * GROUP + self.next / groups;
            self.next += 1;
            if self.others.claim(slot) {
                self.publish(slot, TAG_BUSY, &key);
                self.used += 1;
                self.rows.insert(number(&key), slot);
                return Some(slot);
            }
        }
        None
    }

    /// The part of the interface's aged row that a row's counts go to, where no program looks.
    fn interface(&self, of: &key6) -> Words<'a> {
        let (direction, shard) = (of.flags & ROW_DIR, of.shard & SHARD_FRAGMENT);
        let flags = direction | ROW_NO_OUTER | ROW_NO_PAIR | ROW_OTHER;
        // The last group is behind the shared ones, and has more than four slots.
        let slot = self.shared + usize::from(direction != 0) + 2 * usize::from(shard != 0);
        let now = tag(self.others.word(slot / GROUP).load(Ordering::Acquire), slot);
        if now < TAG_ROW {
            self.publish(
                slot,
                now,
                &key6 { flags, shard, inner: AGED_INNER, ..Default::default() },
            );
        }
        self.others.words(slot)
    }

    /// Makes a row of a slot that is ours. The programs never look for an aged row, so any tag of a
    /// row will do.
    fn publish(&self, slot: usize, now: u8, key: &key6) {
        // SAFETY: inside the mapping, and ours alone until it has the tag.
        unsafe { ptr::write_volatile(&raw mut (*self.others.at(slot)).key, *key) };
        self.others.turn(slot, now, TAG_ROW);
    }
}

/// A key as something that hashes.
fn number(key: &key6) -> [u64; 10] {
    zerocopy::transmute!(*key)
}

/// What of its row a slot holds. Packets seen at each hook went `direction = bit XOR hook`.
fn part(flags: u8, shard: u16) -> Part {
    let bit = flags & ROW_DIR != 0;
    Part { swapped: [bit, !bit], fragments: shard & SHARD_FRAGMENT != 0 }
}

fn v4(word: u32) -> IpAddr {
    Ipv4Addr::from(word.to_ne_bytes()).into()
}

fn push4(rows: &mut Rows, place: u32, interface: u16, k: &key4, counts: [Count; 2]) {
    let key = Key {
        outer: Some(Pair { first: v4(k.outer[0]), second: v4(k.outer[1]) }),
        outermost: Tunnel {
            kind: Kind::from_number(k.kind),
            id: (k.flags & ROW_ID != 0).then_some(k.id),
        },
        innermost: None,
        depth: 1,
        inner: match k.flags & ROW_NO_PAIR {
            0 => Inner::Pair(Pair { first: v4(k.inner[0]), second: v4(k.inner[1]) }),
            _ => Inner::Proto(InnerProto(k.inner[0])),
        },
        other: false,
    };
    rows.push(place, interface, &key, counts, part(k.flags, k.shard));
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
    let tunnel = |i: usize, flag| Tunnel {
        kind: Kind::from_number(k.kind[i]),
        id: (k.flags & flag != 0).then_some(k.id[i]),
    };
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
    rows.push(place, interface, &key, counts, part(k.flags, k.shard));
}
