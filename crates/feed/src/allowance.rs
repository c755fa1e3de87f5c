// SPDX-License-Identifier: MIT OR Apache-2.0
//! What may be done whenever the clock of a capture asks for it.
//!
//! Tables are read where an interval ends, and searched where rows age. A file of small frames can
//! say that an hour has passed at each of them, so how often that is done depends on how many frames
//! there are and not on how much time they say they span.
use model::snapshot::Snapshot;

/// Rows that may be read before there is any frame: less than a second's worth.
pub(crate) const FREE: u64 = 4_000_000;
/// Rows that may be read for each frame.
pub(crate) const PER_FRAME: u64 = 16;
/// Slots of a table that are searched in the time that one row is read.
const SLOTS: u64 = 256;

/// Frames so far, and the rows that were read for their sake.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowance {
    frames: u64,
    spent: u64,
}

impl Allowance {
    /// There are so many more frames.
    #[inline]
    pub(crate) fn earn(&mut self, frames: u64) {
        self.frames = self.frames.saturating_add(frames);
    }

    /// Something has cost as much as so many rows.
    pub(crate) fn spend(&mut self, rows: u64) {
        self.spent = self.spent.saturating_add(rows);
    }

    /// Whether there may be another reading.
    pub(crate) fn lasts(&self) -> bool {
        self.spent < FREE.saturating_add(self.frames.saturating_mul(PER_FRAME))
    }
}

/// What searching a table of so many slots costs, in rows.
pub(crate) fn search(slots: u64) -> u64 {
    1 + slots / SLOTS
}

/// What a reading costs, in rows.
pub(crate) fn reading(snapshot: &Snapshot) -> u64 {
    let searched: u64 = snapshot.interfaces.iter().map(|i| search(i.fill.size)).sum();
    searched + snapshot.rows.len() as u64
}
