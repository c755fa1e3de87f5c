// SPDX-License-Identifier: MIT OR Apache-2.0
//! One interface in a reading.
use std::time::{Duration, SystemTime};

use crate::flow::{Books, HookKind};

/// How full the fuller one of an interface's two tables is, in slots: made for half of them, so
/// that rows are found at once, and full at all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Slots in use.
    pub used: u64,
    /// Slots there are.
    pub size: u64,
}

/// One interface: who it is and its books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Which counters these are: no others of the same source have this number. See [`GONE`].
    pub id: u64,
    /// Its name; for a capture, the file's.
    pub name: String,
    /// Its index in its network namespace; 0 for a capture.
    pub ifindex: u32,
    /// The named network namespace it was opened in, if it was not the caller's.
    pub netns: Option<String>,
    /// How it is watched.
    pub hook: HookKind,
    /// Another of the interfaces, below or beside this one, that the same packets pass. Its rows are
    /// here for who asks for them; totals leave this interface out, so that nothing counts twice.
    pub counted_on: Option<String>,
    /// Its books or rows could not be read as of one moment: see
    /// [`crate::snapshot::Snapshot::keep_stale`].
    pub stale: bool,
    /// When `tmon attach` put the programs there; `None` where this process did.
    pub attached: Option<SystemTime>,
    /// Its books.
    pub books: Books,
    /// The time of its books: in a snapshot when they were read, as [`Snapshot::at`](crate::snapshot::Snapshot::at); in an interval
    /// how long they are of, which is more than the interval after a reading that failed.
    pub span: Duration,
    /// Its table.
    pub fill: Fill,
}

/// The [`Interface::id`] of what interfaces counted that went away long ago, all together. Where
/// one is not in a snapshot any more, its counts have moved there.
pub const GONE: u64 = u64::MAX;
