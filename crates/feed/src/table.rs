// SPDX-License-Identifier: MIT OR Apache-2.0
//! The flow tables, mapped into memory: a reading needs no system call, while the programs go on
//! counting.
//!
//! A table is an array of slots and an array of their tags, one byte each; the eight tags of a
//! group form one word. `bpf/table.h` explains how the programs find and create rows. A slot's tag
//! says whether it is free, busy or holds a row: the programs set the tags of free slots, user
//! space sets those of rows.
#![allow(unsafe_code)]
use std::{
    marker::PhantomData,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering, fence},
    },
};

use anyhow::{Context, Result, ensure};
use foldhash::{HashMap, HashSet};
use memmap2::MmapRaw;

use contract::{
    GROUP, OWNER_ASK, OWNER_BEFORE, OWNER_CPU, OWNER_CROWD, OWNER_PROBE, ROW_DIR, ROW_INNER6,
    ROW_NO_OUTER, ROW_NO_PAIR, ROW_OTHER, SHARD_CPU, SHARD_FRAGMENT, TAG_AGEING, TAG_BUSY,
    TAG_FREE, TAG_ROW, key4, key6, more, slot4, slot6,
};

use model::{
    flow::{Count, InnerProto},
    interface::Fill,
    rows::{Counts, Rows},
};

/// An array map, mapped into memory.
struct Array {
    memory: Arc<MmapRaw>,
}

/// One table: slots of type `S`, their tags and their second counters.
struct Table<S> {
    /// Which of the three tables it is, as in [`Move::table`].
    number: usize,
    slots: Array,
    tags: Array,
    more: Array,
    slot: PhantomData<S>,
}

impl<S: Slot> Table<S> {
    fn of(number: usize, [slots, tags, more]: [Array; 3]) -> Result<Self> {
        let (n, tagged) = (slots.memory.len() / size_of::<S>(), tags.memory.len());
        ensure!(n == tagged, "a flow table has {n} slots and {tagged} tags");
        Ok(Table { number, slots, tags, more, slot: PhantomData })
    }

    /// The number of slots.
    fn len(&self) -> usize {
        self.tags.memory.len()
    }

    /// The tags of a group, with that of the first slot in the lowest byte.
    fn word(&self, group: usize) -> &AtomicU64 {
        assert!(group < self.len() / GROUP);
        // SAFETY: inside the mapping, aligned; shared with the programs, so atomics only.
        unsafe { AtomicU64::from_ptr(self.tags.memory.as_mut_ptr().cast::<u64>().add(group)) }
    }

    /// Changes a slot's tag. Nobody else may change it at the same time.
    fn turn(&self, slot: usize, from: u8, to: u8) {
        self.word(slot / GROUP).fetch_xor(u64::from(from ^ to) << lane(slot), Ordering::AcqRel);
    }

    /// Takes a slot if it is free. Its tag is TAG_AGEING until it is a row: if this process is
    /// killed in between, the next ager finds it, whereas a busy slot might belong to a program.
    fn claim(&self, slot: usize) -> bool {
        let claimed = |word| {
            (tag(word, slot) == TAG_FREE).then(|| word | u64::from(TAG_AGEING) << lane(slot))
        };
        self.word(slot / GROUP).fetch_update(Ordering::AcqRel, Ordering::Acquire, claimed).is_ok()
    }

    /// The slots that are not free, with their tags.
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

    /// The words of a slot that the programs may write at any time.
    fn words(&self, slot: usize) -> Words<'_> {
        let at = self.at(slot);
        // SAFETY: inside the mapping and aligned.
        Words { more: self.more(slot), ..unsafe { S::words(at) } }
    }

    /// A slot's second counters; none if only the owner counts in it.
    fn more(&self, slot: usize) -> Option<More<'_>> {
        if slot >= self.more.memory.len() / size_of::<more>() {
            return None;
        }
        // SAFETY: inside the mapping and aligned.
        unsafe {
            let at = self.more.memory.as_mut_ptr().cast::<more>().add(slot);
            Some(More {
                cells: cells(&raw mut (*at).packets, &raw mut (*at).bytes),
                turns: AtomicU32::from_ptr(&raw mut (*at).turns),
            })
        }
    }

    /// The key of a row. It is complete if the slot has a row's tag, and does not change then.
    fn key(&self, slot: usize) -> S::Key {
        let at = self.at(slot);
        // SAFETY: inside the mapping and aligned; any bytes are a key.
        unsafe { S::key(at) }
    }

    /// All rows: the place, which is the number of the slot plus `first`, the key and the counts.
    /// Counts on their way home are included in the home row.
    fn rows(
        &self,
        first: u32,
        moving: Option<Move>,
    ) -> impl Iterator<Item = (u32, S::Key, Counts)> + '_ {
        self.tagged().filter(|(_, tag)| *tag != TAG_BUSY).filter_map(move |(slot, tag)| {
            let cells = match moving {
                Some(m) if (m.table, m.slot) == (self.number, slot) => [0; 4],
                Some(m) if (OTHERS, m.home) == (self.number, slot) => m.cells,
                _ => self.words(slot).counts(),
            };
            // A row that has gone home leaves a slot that is not free yet, and may have no key.
            (tag != TAG_AGEING || cells != [0; 4]).then(|| {
                let counts =
                    [0, 1].map(|hook| Count { packets: cells[hook], bytes: cells[2 + hook] });
                (first + slot as u32, self.key(slot), counts)
            })
        })
    }

    /// Hides idle rows from the programs, including rows left in TAG_AGEING by an ageing pass that
    /// was killed. Shards of single CPUs disappear together with the whole row, whose common slot
    /// is marked as seen as long as any CPU counts in it. Only considers slots below `below`.
    fn mark(&self, below: usize, is_idle: impl Fn(&Words<'_>) -> bool) -> Vec<Marked> {
        let key = |slot| S::wide(self.key(slot));
        let is_part = |slot| key(slot).shard & SHARD_CPU != 0;
        let (mut marked, mut parts) = (Vec::new(), Vec::new());
        for (slot, tag) in self.tagged().take_while(|(slot, _)| *slot < below) {
            let found = Marked { slot, tag, owner: 0 };
            if tag == TAG_AGEING {
                marked.push(found);
            } else if tag != TAG_BUSY && is_idle(&self.words(slot)) {
                if is_part(slot) { &mut parts } else { &mut marked }.push(found);
            }
        }
        let hide = |m: &mut Marked| {
            self.turn(m.slot, m.tag, TAG_AGEING);
            // The owner would keep counting without checking the tag.
            m.owner = self.words(m.slot).owner.swap(0, Ordering::AcqRel);
        };
        marked.iter_mut().for_each(hide);
        if !parts.is_empty() {
            let common =
                |slot| number(&key6 { shard: key(slot).shard & SHARD_FRAGMENT, ..key(slot) });
            let rows = self.tagged().filter(|(slot, tag)| *tag >= TAG_ROW && !is_part(*slot));
            let live: HashSet<_> = rows.map(|(slot, _)| common(slot)).collect();
            parts.retain(|m| !live.contains(&common(m.slot)));
            parts.iter_mut().for_each(hide);
            marked.append(&mut parts);
        }
        marked
    }

    fn restore(&self, marked: &[Marked]) {
        for m in marked {
            // Do not overwrite the crowd flag, if it was set meanwhile.
            self.words(m.slot).owner.fetch_or(m.owner, Ordering::AcqRel);
            self.turn(m.slot, TAG_AGEING, m.tag);
        }
    }

    /// After the grace period the marked rows belong to this process: adds their counts to their
    /// homes and frees their slots. Rows in which packets were counted meanwhile are kept. Returns
    /// how many were removed.
    fn settle(
        &self,
        marked: Vec<Marked>,
        is_idle: impl Fn(&Words<'_>) -> bool,
        homes: &mut Homes<'_>,
        home: impl Fn(&mut Homes<'_>, usize, key6) -> usize,
    ) -> usize {
        let (others, journal) = (homes.others, homes.others.journal());
        let mut gone = 0;
        for m in marked {
            let (slot, live) = (m.slot, self.words(m.slot));
            if m.tag != TAG_AGEING && !is_idle(&live) {
                self.restore(&[m]);
                continue;
            }
            let home = home(homes, slot, S::wide(self.key(slot)));
            let to = others.words(home);
            let (from, now) = (live.counts(), to.counts());
            let sum = |i: usize| from[i].wrapping_add(now[i]);
            journal.carry(
                &Move { table: self.number, slot, home, cells: [0, 1, 2, 3].map(sum) },
                &live,
                &to,
            );
            live.seen.store(0, Ordering::Relaxed);
            live.owner.store(0, Ordering::Relaxed);
            if let Some(more) = &live.more {
                more.turns.store(0, Ordering::Relaxed);
            }
            self.turn(slot, TAG_AGEING, TAG_FREE);
            gone += 1;
        }
        gone
    }

    /// See [`Tables::ask`].
    fn ask(&self, is_meant: &impl Fn(&key6) -> bool) {
        let probed = |word: u32| {
            let owner = word & OWNER_CPU;
            // Aged rows have no owner: nothing is counted in them.
            (owner != 0 && word & OWNER_PROBE == 0)
                .then_some(owner << OWNER_BEFORE | OWNER_CROWD | OWNER_PROBE | OWNER_ASK)
        };
        let is_part = |slot| S::wide(self.key(slot)).shard & SHARD_CPU != 0;
        // First the shards of single CPUs: a packet that finds the common slot marked then finds
        // the shards marked as well.
        for parts in [true, false] {
            for (slot, _) in self.tagged().filter(|(_, tag)| *tag >= TAG_ROW) {
                if is_part(slot) == parts && is_meant(&S::wide(self.key(slot))) {
                    let owner = self.words(slot).owner;
                    let _ = owner.fetch_update(Ordering::AcqRel, Ordering::Acquire, probed);
                }
            }
        }
    }

    /// See [`Tables::unask`].
    fn unask(&self) {
        let before = |word: u32| (word & OWNER_PROBE != 0).then_some(word >> OWNER_BEFORE);
        for (slot, _) in self.tagged().filter(|(_, tag)| *tag >= TAG_ROW) {
            let owner = self.words(slot).owner;
            let _ = owner.fetch_update(Ordering::AcqRel, Ordering::Acquire, before);
        }
    }

    fn probed(&self) -> usize {
        let is_probed = |slot| self.words(slot).owner.load(Ordering::Acquire) & OWNER_PROBE != 0;
        self.tagged().filter(|(slot, tag)| *tag >= TAG_ROW && is_probed(*slot)).count()
    }

    fn clear(&self) {
        for array in [&self.slots, &self.tags, &self.more] {
            // SAFETY: the whole mapping, which nobody else accesses, as Tables::clear() requires.
            unsafe { ptr::write_bytes(array.memory.as_mut_ptr(), 0, array.memory.len()) };
        }
    }
}

/// The number of the table that holds aged rows.
const OTHERS: usize = 2;

/// The counts of a row on their way home. The move can be repeated by anybody who finds that the
/// ager was killed during it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    table: usize,
    slot: usize,
    /// The slot in `others`.
    home: usize,
    /// The counts of the home row after the move.
    cells: [u64; 4],
}

/// The last slot of `others`, which never has a tag: the journal of ageing.
struct Journal<'a> {
    /// The number of moves so far.
    moves: &'a AtomicU64,
    /// Table and slot of an incomplete move; 0 for none. Written last.
    from: &'a AtomicU64,
    home: &'a AtomicU64,
    cells: [&'a AtomicU64; 4],
}

impl Table<slot6> {
    fn journal(&self) -> Journal<'_> {
        let at = self.at(self.len() - 1).cast::<u64>();
        // SAFETY: within a slot, which is longer, inside the mapping and aligned; shared with
        // readers, so atomics only.
        let word = |i| unsafe { AtomicU64::from_ptr(at.add(i)) };
        Journal {
            moves: word(0),
            from: word(1),
            home: word(2),
            cells: [word(3), word(4), word(5), word(6)],
        }
    }
}

impl Journal<'_> {
    /// The number of moves so far, and the one that is incomplete.
    fn now(&self) -> (u64, Option<Move>) {
        let moves = self.moves.load(Ordering::Acquire);
        let from = self.from.load(Ordering::Acquire);
        let moving = (from >> 32).checked_sub(1).map(|table| Move {
            table: table as usize,
            slot: from as u32 as usize,
            home: self.home.load(Ordering::Relaxed) as usize,
            cells: self.cells.map(|c| c.load(Ordering::Relaxed)),
        });
        (moves, moving)
    }

    /// Moves counts. If it is killed at any point, the move has not begun or can be completed.
    fn carry(&self, m: &Move, from: &Words<'_>, to: &Words<'_>) {
        let moves = self.moves.load(Ordering::Relaxed);
        self.moves.store(moves.wrapping_add(1), Ordering::Release);
        self.home.store(m.home as u64, Ordering::Release);
        for (cell, n) in self.cells.iter().zip(m.cells) {
            cell.store(n, Ordering::Release);
        }
        self.from.store((m.table as u64 + 1) << 32 | m.slot as u64, Ordering::Release);
        self.complete(m, from, to);
    }

    fn complete(&self, m: &Move, from: &Words<'_>, to: &Words<'_>) {
        for (cell, n) in to.cells.iter().zip(m.cells) {
            cell.store(n, Ordering::Release);
        }
        from.all().for_each(|cell| cell.store(0, Ordering::Release));
        // Before the slot is freed: a program may count in it immediately.
        self.from.store(0, Ordering::Release);
    }
}

/// The position of a slot's tag in the word of its group.
fn lane(slot: usize) -> usize {
    slot % GROUP * 8
}

fn tag(word: u64, slot: usize) -> u8 {
    (word >> lane(slot)) as u8
}

/// A row hidden from the programs, with its previous tag and owner.
struct Marked {
    slot: usize,
    tag: u8,
    owner: u32,
}

/// The three tables of one interface.
pub struct Tables {
    rows4: Table<slot4>,
    rows6: Table<slot6>,
    others: Table<slot6>,
    alone: bool,
}

impl Tables {
    /// The tables of IPv4 rows, of all other rows, and of `other` rows: for each the slots, the
    /// tags and the second counters. `alone` means that nothing counts in them while they are read
    /// or aged, so there are no programs to wait for.
    ///
    /// # Errors
    /// The tables do not have the layout of this version.
    /// They are not what this version knows.
    pub fn of(tables: &[[Arc<MmapRaw>; 3]; 3], alone: bool) -> Result<Tables> {
        let arrays = |table: usize| {
            tables[table].each_ref().map(|memory| Array { memory: Arc::clone(memory) })
        };
        Ok(Tables {
            rows4: Table::of(0, arrays(0))?,
            rows6: Table::of(1, arrays(1))?,
            others: Table::of(OTHERS, arrays(2))?,
            alone,
        })
    }

    /// The number of moves so far, and the one that is incomplete.
    fn moves(&self) -> (u64, Option<Move>) {
        let (moves, moving) = self.others.journal().now();
        // Others write to this memory: check it.
        let known = |m: &Move| {
            let slots = [self.rows4.len(), self.rows6.len(), self.others.len() - GROUP];
            slots.get(m.table).is_some_and(|n| m.slot < *n) && m.home < self.others.len() - 1
        };
        (moves, moving.filter(known))
    }

    /// Appends all rows, as those of interface `interface`. Returns how full the tables are, the
    /// first free place (see [`Rows::extend4`]), and whether the reading is consistent with respect
    /// to ageing; callers that hold the lock against agers need not check that.
    pub fn read(&self, interface: u16, rows: &mut Rows) -> (Fill, u32, bool) {
        let before = self.moves();
        let moving = before.1;
        let mut used = [0u64; 2];
        let (rows4, rows6, others) = (&self.rows4, &self.rows6, &self.others);
        rows.extend4(interface, rows4.rows(0, moving).inspect(|_| used[0] += 1));
        let mut place = rows4.len() as u32;
        rows.extend6(interface, rows6.rows(place, moving).inspect(|_| used[1] += 1));
        place += rows6.len() as u32;
        rows.extend6(interface, others.rows(place, moving));
        place += others.len() as u32;
        fence(Ordering::Acquire);
        let fill = Fill { used: used[0].max(used[1]), size: self.rows4.len() as u64 };
        (fill, place, before == self.moves())
    }

    /// Moves the counts of rows that have been idle for more than `idle` jiffies at `now` to the
    /// aged rows of their tunnels. If `others` is crowded, its own idle rows go to the aged row of
    /// the interface, so memory is bounded. Returns how many rows were removed.
    ///
    /// # Errors
    /// The kernel cannot wait for running programs; nothing was changed.
    pub fn age(&self, now: u32, idle: u32) -> Result<usize> {
        if let (_, Some(m)) = self.moves() {
            let from = match m.table {
                0 => self.rows4.words(m.slot),
                1 => self.rows6.words(m.slot),
                _ => self.others.words(m.slot),
            };
            self.others.journal().complete(&m, &from, &self.others.words(m.home));
        }
        let since = |seen: u32| now.wrapping_sub(seen) as i32; // negative: counted in after `now`
        let is_idle = |live: &Words<'_>| since(live.seen.load(Ordering::Relaxed)) > idle as i32;
        let rows4 = self.rows4.mark(usize::MAX, is_idle);
        let rows6 = self.rows6.mark(usize::MAX, is_idle);
        let mut homes = Homes::of(&self.others, now);
        let crowded = homes.crowded();
        let others = self.others.mark(homes.shared, |live| crowded && is_idle(live));
        if rows4.is_empty() && rows6.is_empty() && others.is_empty() {
            return Ok(0);
        }
        // Programs that found a row before it was marked may still be counting in it.
        let waited = if self.alone { Ok(()) } else { grace_period() };
        if waited.is_err() {
            self.rows4.restore(&rows4);
            self.rows6.restore(&rows6);
            self.others.restore(&others);
            waited.context("rows cannot age here: wait for the programs that are running")?;
        }
        let homes = &mut homes;
        let gone = self.others.settle(others, is_idle, homes, |homes, slot, key| {
            homes.forget(slot, &key);
            homes.interface(&key)
        });
        let tunnel = |homes: &mut Homes<'_>, _, key| homes.tunnel(aged(key));
        let gone = gone + self.rows4.settle(rows4, is_idle, homes, tunnel);
        Ok(gone + self.rows6.settle(rows6, is_idle, homes, tunnel))
    }

    /// Sends the next packet of each of these rows to the program that compares it with the
    /// probers' expressions (`bpf/probe.h`). A key is that of a slot: of one direction and one
    /// shard.
    pub fn ask(&self, is_meant: impl Fn(&key6) -> bool) {
        self.rows4.ask(&is_meant);
        self.rows6.ask(&is_meant);
        self.others.ask(&is_meant);
    }

    /// Ends all probing: each slot belongs to its owner again.
    pub fn unask(&self) {
        self.rows4.unask();
        self.rows6.unask();
        self.others.unask();
    }

    /// The number of slots that are being probed.
    pub fn probed(&self) -> usize {
        self.rows4.probed() + self.rows6.probed() + self.others.probed()
    }

    /// Zeroes all slots. Nothing may be counting meanwhile.
    pub fn clear(&self) {
        self.rows4.clear();
        self.rows6.clear();
        self.others.clear();
    }
}

/// The words of a slot that the programs may write at any time.
struct Words<'a> {
    /// The last packet's time, in jiffies.
    seen: &'a AtomicU32,
    /// The CPU that adds to the cells without atomic operations.
    owner: &'a AtomicU32,
    /// Packets by hook, then bytes by hook.
    cells: [&'a AtomicU64; 4],
    /// The second counters, if there are any.
    more: Option<More<'a>>,
}

/// The counters, beside a slot, to which all CPUs but the owner add.
struct More<'a> {
    /// As in [`Words::cells`].
    cells: [&'a AtomicU64; 4],
    /// How many such packets there were in the current jiffy.
    turns: &'a AtomicU32,
}

impl Words<'_> {
    /// All counters.
    fn all(&self) -> impl Iterator<Item = &AtomicU64> {
        self.cells.into_iter().chain(self.more.iter().flat_map(|more| more.cells))
    }

    /// The sums, in the order of the cells.
    fn counts(&self) -> [u64; 4] {
        let mut sums = self.cells.map(|cell| cell.load(Ordering::Relaxed));
        for (sum, more) in sums.iter_mut().zip(self.more.iter().flat_map(|more| more.cells)) {
            *sum = sum.wrapping_add(more.load(Ordering::Relaxed));
        }
        sums
    }
}

/// The counters of a slot: packets by hook, then bytes by hook.
///
/// # Safety
/// Both pointers are aligned and point into a mapped table that outlives `'a`.
unsafe fn cells<'a>(packets: *mut [u64; 2], bytes: *mut [u64; 2]) -> [&'a AtomicU64; 4] {
    // SAFETY: as required above; shared with the programs, so atomics only.
    let cell = |first: *mut [u64; 2], i| unsafe { AtomicU64::from_ptr(first.cast::<u64>().add(i)) };
    [cell(packets, 0), cell(packets, 1), cell(bytes, 0), cell(bytes, 1)]
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
    /// The key converted to the larger of the two types.
    fn wide(key: Self::Key) -> key6;
}

macro_rules! slot {
    ($slot:ty, $key:ty, $wide:expr) => {
        impl Slot for $slot {
            type Key = $key;

            unsafe fn words<'a>(slot: *mut Self) -> Words<'a> {
                // SAFETY: aligned and inside the mapping; shared with the programs, so atomics only.
                unsafe {
                    Words {
                        seen: AtomicU32::from_ptr(&raw mut (*slot).seen),
                        owner: AtomicU32::from_ptr(&raw mut (*slot).owner),
                        cells: cells(&raw mut (*slot).packets, &raw mut (*slot).bytes),
                        more: None,
                    }
                }
            }

            unsafe fn key(slot: *mut Self) -> $key {
                // SAFETY: as above; the tag says whether it is complete.
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

/// The key of the aged row that takes a row's counts.
fn aged(key: key6) -> key6 {
    key6 {
        flags: key.flags & !ROW_INNER6 | ROW_NO_PAIR | ROW_OTHER,
        shard: key.shard & SHARD_FRAGMENT,
        inner: AGED_INNER,
        ..key
    }
}

/// Waits until all programs that are running now have ended: they run in RCU read-side critical
/// sections.
pub fn grace_period() -> std::io::Result<()> {
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
    /// The number of slots that the programs use as well.
    shared: usize,
    /// How many of those are in use.
    used: usize,
    /// Where to look for the next free slot.
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

    /// More than half full: the rest is for `other` rows made by the programs.
    fn crowded(&self) -> bool {
        self.used > self.shared / 2
    }

    /// Forgets a row of `others` that is being removed.
    fn forget(&mut self, slot: usize, key: &key6) {
        if self.rows.get(&number(key)) == Some(&slot) {
            self.rows.remove(&number(key));
        }
        self.used -= 1;
    }

    /// The aged row of a tunnel, or that of the interface if there is no room.
    fn tunnel(&mut self, key: key6) -> usize {
        match self.rows.get(&number(&key)).copied().or_else(|| self.make(key)) {
            Some(slot) => {
                self.others.words(slot).seen.store(self.now, Ordering::Relaxed);
                slot
            }
            None => self.interface(&key),
        }
    }

    fn make(&mut self, key: key6) -> Option<usize> {
        while !self.crowded() && self.next < self.shared {
            // Use one slot of each group before a second one, so that the programs find room in
            // every group.
            let groups = self.shared / GROUP;
            let slot = self.next % groups * GROUP + self.next / groups;
            self.next += 1;
            if self.others.claim(slot) {
                self.publish(slot, TAG_AGEING, &key);
                self.used += 1;
                self.rows.insert(number(&key), slot);
                return Some(slot);
            }
        }
        None
    }

    /// The shard of the interface's aged row that takes a row's counts; programs never look there.
    fn interface(&self, of: &key6) -> usize {
        let (direction, shard) = (of.flags & ROW_DIR, of.shard & SHARD_FRAGMENT);
        let flags = direction | ROW_NO_OUTER | ROW_NO_PAIR | ROW_OTHER;
        // The last group comes after the shared ones; its last slot is the journal.
        let slot = self.shared + usize::from(direction != 0) + 2 * usize::from(shard != 0);
        let now = tag(self.others.word(slot / GROUP).load(Ordering::Acquire), slot);
        if now < TAG_ROW {
            self.publish(
                slot,
                now,
                &key6 { flags, shard, inner: AGED_INNER, ..Default::default() },
            );
        }
        slot
    }

    /// Turns a slot that this process has claimed into a row. The programs never look up aged rows,
    /// so any tag of a row will do.
    fn publish(&self, slot: usize, now: u8, key: &key6) {
        // SAFETY: inside the mapping, and not shared until it has the tag.
        unsafe { ptr::write_volatile(&raw mut (*self.others.at(slot)).key, *key) };
        self.others.turn(slot, now, TAG_ROW);
    }
}

/// A key in a form that can be hashed.
fn number(key: &key6) -> [u64; 10] {
    zerocopy::transmute!(*key)
}

#[cfg(test)]
mod tests {
    use memmap2::MmapOptions;

    use super::*;

    fn array(elements: usize, size: usize) -> Array {
        let file = tempfile::tempfile().unwrap();
        file.set_len((elements * size) as u64).unwrap();
        let memory = MmapOptions::new().len(elements * size).map_raw(&file).unwrap();
        Array { memory: Arc::new(memory) }
    }

    #[test]
    fn second_counters_belong_to_the_slot_if_present() {
        let table = Table::<slot6> {
            number: OTHERS,
            slots: array(2 * GROUP, size_of::<slot6>()),
            tags: array(2, size_of::<u64>()),
            more: array(2, size_of::<more>()),
            slot: PhantomData,
        };
        for slot in [1, 2] {
            assert!(table.claim(slot));
            table.turn(slot, TAG_AGEING, TAG_ROW);
            for (n, cell) in (1..).zip(table.words(slot).cells) {
                cell.store(n, Ordering::Relaxed);
            }
        }
        for (n, cell) in (1..).zip(table.words(1).more.unwrap().cells) {
            cell.store(10 * n, Ordering::Relaxed);
        }
        table.words(1).owner.store(7 | contract::OWNER_CROWD, Ordering::Relaxed);
        table.words(1).more.unwrap().turns.store(3, Ordering::Relaxed);
        assert!(table.words(2).more.is_none(), "the map has no element for it");
        let count = |packets, bytes| Count { packets, bytes };
        let rows =
            || table.rows(0, None).map(|(slot, _, counts)| (slot, counts)).collect::<Vec<_>>();
        let (both, alone) = ([count(11, 33), count(22, 44)], [count(1, 3), count(2, 4)]);
        assert_eq!(rows(), [(1, both), (2, alone)]);

        // All counts go home with the row.
        let mut homes = Homes::of(&table, 0);
        table.turn(1, TAG_ROW, TAG_AGEING);
        let marked = vec![Marked { slot: 1, tag: TAG_ROW, owner: 7 }];
        assert_eq!(table.settle(marked, |_| true, &mut homes, |_, _, _| 2), 1);
        assert_eq!(rows(), [(2, [count(12, 36), count(24, 48)])]);
        let free = table.words(1);
        assert_eq!(free.counts(), [0; 4]);
        let left = [free.owner, free.more.unwrap().turns].map(|word| word.load(Ordering::Relaxed));
        assert_eq!(left, [0, 0], "the next row in it has another owner");
    }

    #[test]
    fn a_row_that_stays_gets_its_owner_back() {
        let table = Table::<slot6> {
            number: OTHERS,
            slots: array(GROUP, size_of::<slot6>()),
            tags: array(1, size_of::<u64>()),
            more: array(GROUP, size_of::<more>()),
            slot: PhantomData,
        };
        assert!(table.claim(0));
        table.turn(0, TAG_AGEING, TAG_ROW);
        table.words(0).owner.store(2, Ordering::Relaxed);
        let owner = || table.words(0).owner.load(Ordering::Relaxed);
        let marked = table.mark(usize::MAX, |_| true);
        assert_eq!((marked.len(), owner()), (1, 0), "it counts nowhere without the tag now");
        // A program that had found the row before counts in it and sets the crowd flag.
        table.words(0).owner.fetch_or(contract::OWNER_CROWD, Ordering::Relaxed);
        let gone = table.settle(marked, |_| false, &mut Homes::of(&table, 0), |_, _, _| 0);
        assert_eq!((gone, owner()), (0, 2 | contract::OWNER_CROWD));
        assert_eq!(table.tagged().collect::<Vec<_>>(), [(0, TAG_ROW)]);
    }
}
