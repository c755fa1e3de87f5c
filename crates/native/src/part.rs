// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parsing frames on several threads with the same result as on one: each thread has tables of its
//! own, a part of the counts, and the parts are added up in the whole.
//!
//! Counters can be added in any order. Whatever depends on the order of frames is done by the
//! whole, in that order, using the log of what a part did with each run of frames:
//!
//! - **Rows.** Which rows find room in a table that becomes full depends on the order of their
//!   arrival. A row that a part creates is created in the whole, with no count, when the whole
//!   reaches that frame. The counts are added at the end, like those of a packet: to the row or, if
//!   it found no room, to its `other` row. If a part's own table has no room, the frame is
//!   deferred: the whole judges it.
//! - **Fragments.** A part knows only the first fragments of its own run of frames, and the whole
//!   afterwards repeats each change of what is remembered. What a part finds is what the whole would
//!   find: only the run's own frames could have replaced it since. A frame whose first fragment is
//!   not found is deferred.
//! - **What is kept beside the rows** (sequence numbers) depends on the order of frames: a part
//!   only logs it, and the whole does it.
//! - **Ageing** depends on when each row was last seen, which is not kept per part: sources whose
//!   rows age work without parts.
use anyhow::Result;
use contract::{BESIDES, GROUP, TAG_ROW, key4, key6, slot4, slot6};

use crate::{
    Frames, Memory, Native, NativeConfig, host::LogEntry, tmon_native_add, tmon_native_left,
};

/// The tables of one thread.
pub struct Shard(Native);

impl Shard {
    /// Empty tables. Their sizes and seeds may differ from the whole's.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn new(config: &NativeConfig) -> Result<Shard> {
        let mut native = Native::new(config)?;
        native.ffi.part = 1;
        Ok(Shard(native))
    }

    /// Resets all tables and books to zero.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Counts a run of frames. Pass the log to [`Native::follow`], in the order of the runs.
    pub fn judge_all(&mut self, frames: Frames<'_>) -> Vec<LogEntry> {
        let native = &mut self.0;
        native.ffi.frame = 0;
        if !native.host.fragments.is_empty() {
            native.host.fragments.clear(); // other threads may have judged newer frames
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
                    // SAFETY: as in `judge_all`; the words are those that the part received.
                    unsafe {
                        tmon_native_left(&mut *self.ffi, what, noted.as_ptr().cast(), now);
                    }
                }
                LogEntry::Deferred { frame: number } => self.judge(&frames.at(number)),
            }
        }
    }

    /// Adds the counts of a part, all of whose runs have been followed.
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

    /// Adds packets and bytes to a row, or to where they go if it has no room.
    fn add(&mut self, key: &key6, hook: u32, weight: [u64; 2], now: u32) {
        // SAFETY: as in `judge_all`.
        unsafe { tmon_native_add(&mut *self.ffi, key, hook, &weight, now) };
    }
}

/// The slots of a table that hold rows; nothing may count in it meanwhile.
fn slots<S: Copy>(memory: &Memory) -> impl Iterator<Item = S> + '_ {
    let [slots, tags, _] = memory;
    let words = (0..tags.len() / GROUP).map(|group| {
        // SAFETY: it is within the mapping, and aligned.
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

/// The key of an IPv4 row in the format of other rows.
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
