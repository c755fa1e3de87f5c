// SPDX-License-Identifier: MIT OR Apache-2.0
//! A budget for actions triggered by the clock of a capture.
//!
//! Tables are read at the end of an interval, and searched when rows age. A file of small frames
//! can claim that an hour has passed at each of them, so the frequency of these actions is limited
//! by the number of frames, not by the time that they claim to span.
use model::snapshot::Snapshot;

/// Rows that may be read before there are any frames: less than a second's worth.
pub(crate) const FREE: u64 = 4_000_000;
/// Rows that may be read for each frame.
pub(crate) const PER_FRAME: u64 = 16;
/// Slots of a table that can be searched in the time of reading one row.
const SLOTS: u64 = 256;

/// The frames so far, and the rows that were read for them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowance {
    frames: u64,
    spent: u64,
}

impl Allowance {
    /// Adds more frames.
    #[inline]
    pub(crate) fn earn(&mut self, frames: u64) {
        self.frames = self.frames.saturating_add(frames);
    }

    /// Records a cost, in rows.
    pub(crate) fn spend(&mut self, rows: u64) {
        self.spent = self.spent.saturating_add(rows);
    }

    /// Whether there may be another reading.
    pub(crate) fn lasts(&self) -> bool {
        self.spent < FREE.saturating_add(self.frames.saturating_mul(PER_FRAME))
    }
}

/// The cost of searching a table of this many slots, in rows.
pub(crate) fn search(slots: u64) -> u64 {
    1 + slots / SLOTS
}

/// The cost of a reading, in rows.
pub(crate) fn reading(snapshot: &Snapshot) -> u64 {
    let searched: u64 = snapshot.interfaces.iter().map(|i| search(i.fill.size)).sum();
    searched + snapshot.rows.len() as u64
}
