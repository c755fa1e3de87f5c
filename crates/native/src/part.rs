// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames judged by several threads, with the result of one: each has tables of its own, a part of
//! what is counted, and the parts are added up in the whole.
//!
//! Counters add in any order. What depends on the order of frames is done by the whole, in that
//! order, by the log of what a part did with each run of frames:
//!
//! - **Rows.** Which rows have a place in a table that becomes full depends on which came first.
//!   A row that a part makes is made in the whole, without a count, when the whole comes to that
//!   frame. At the end the counts follow, by the way of a packet: to the row, or where it has no
//!   place, to its `other` row. What has no place in a part's own table is deferred: the whole judges
//!   that frame.
//! - **Fragments.** A part knows the first fragments in its own run of frames alone, and the whole
//!   makes each change of what is remembered after it. What is found in a run is what the whole would
//!   find: since it was remembered, only the run's own frames could take its place. What is not found
//!   is deferred.
//! - **What is kept beside the rows** (sequence numbers) goes by the order of frames: a part only says
//!   what it is, and the whole does it.
//! - **Ageing** asks when each row was seen last, which is not kept apart: those who let rows age
//!   work without parts.
use anyhow::Result;
use contract::{BESIDES, GROUP, TAG_ROW, key4, key6, slot4, slot6};

use crate::{
    Frames, Memory, Native, NativeConfig, host::LogEntry, tmon_native_add, tmon_native_left,
};

/// What one thread counts.
pub struct Shard(Native);

impl Shard {
    /// Empty tables. They may be of other sizes and seeds than the whole's.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn new(config: &NativeConfig) -> Result<Shard> {
        let mut native = Native::new(config)?;
        native.ffi.part = 1;
        Ok(Shard(native))
    }

    /// All tables and books to zero.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Counts a run of frames; the log is for [`Native::follow`], in the order of the runs.
    pub fn judge_all(&mut self, frames: Frames<'_>) -> Vec<LogEntry> {
        let native = &mut self.0;
        native.ffi.frame = 0;
        if !native.host.fragments.is_empty() {
            native.host.fragments.clear(); // others may have judged newer ones
        }
        native.host.log = Some(Vec::new());
        native.judge_all(frames);
        native.host.log.take().unwrap_or_default()
    }
}

impl Native {
    /// Does what depends on the order of frames, after a part has counted a run of them.
    pub fn follow(&mut self, log: Vec<LogEntry>, frames: Frames<'_>) {
        for event in log {
            match event {
                LogEntry::Row { frame: number, key } => {
                    self.add(&key, 0, [0, 0], frames.at(number).now);
                }
                LogEntry::First { key, row, .. } => drop(self.host.fragments.put(key, row)),
                LogEntry::Found { key, .. } => drop(self.host.fragments.get(&key)),
                LogEntry::Forgotten { key, .. } => drop(self.host.fragments.pop(&key)),
                LogEntry::Left { frame: number, what, noted } => {
                    let now = frames.at(number).now;
                    // SAFETY: as of `judge_all`; the words are those that the part was given.
                    unsafe {
                        tmon_native_left(&mut *self.ffi, what, noted.as_ptr().cast(), now);
                    }
                }
                LogEntry::Deferred { frame: number } => self.judge(&frames.at(number)),
            }
        }
    }

    /// Adds what a part has counted, all of whose runs were followed.
    pub fn absorb(&mut self, part: &Shard) {
        let part = &part.0;
        let [rows4, rows6, _] = &part.tables;
        for slot in slots::<slot4>(rows4) {
            self.take_over(&wide(&slot.key), slot.packets, slot.bytes, slot.seen);
        }
        for slot in slots::<slot6>(rows6) {
            self.take_over(&slot.key, slot.packets, slot.bytes, slot.seen);
        }
        let words = 2 * self.cells().len() + BESIDES as usize;
        for (sum, n) in self.cpu[..words].iter_mut().zip(&part.cpu[..words]) {
            *sum += n;
        }
    }

    fn take_over(&mut self, key: &key6, packets: [u64; 2], bytes: [u64; 2], seen: u32) {
        for hook in [0, 1] {
            if packets[hook] > 0 {
                self.add(key, hook as u32, [packets[hook], bytes[hook]], seen);
            }
        }
    }

    /// Packets and bytes to a row, or to where they go if it has no room.
    fn add(&mut self, key: &key6, hook: u32, weight: [u64; 2], now: u32) {
        // SAFETY: as of `judge_all`.
        unsafe { tmon_native_add(&mut *self.ffi, key, hook, &weight, now) };
    }
}

/// The slots of a table that hold rows; nobody counts in it meanwhile.
fn slots<S: Copy>(memory: &Memory) -> impl Iterator<Item = S> + '_ {
    let [slots, tags, _] = memory;
    let words = (0..tags.len() / GROUP).map(|group| {
        // SAFETY: inside the mapping, and aligned.
        unsafe { tags.as_ptr().cast::<u64>().add(group).read() }
    });
    words.enumerate().filter(|(_, word)| *word != 0).flat_map(move |(group, word)| {
        let rows = word.to_le_bytes().into_iter().enumerate();
        rows.filter(|(_, tag)| *tag >= TAG_ROW).map(move |(lane, _)| {
            // SAFETY: a table has as many slots as tags.
            unsafe { slots.as_ptr().cast::<S>().add(group * GROUP + lane).read() }
        })
    })
}

/// The key of an IPv4 row as other rows have theirs.
fn wide(key: &key4) -> key6 {
    let first = |address: u32| [address, 0, 0, 0];
    key6 {
        id: [key.id, 0],
        kind: [key.kind, 0],
        flags: key.flags,
        depth: 1,
        shard: key.shard,
        zero: 0,
        outer: key.outer.map(first),
        inner: key.inner.map(first),
    }
}
