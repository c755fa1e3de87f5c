// SPDX-License-Identifier: MIT OR Apache-2.0
//! One interface in a reading, and where readings come from.
use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::flow::{Books, HookKind};

/// Where a reading comes from. Only readings of one origin can be subtracted from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The name of the host that read.
    pub host: Arc<str>,
    /// The inode number of the network namespace that it read in; 0 if unknown.
    /// [`Interface::netns`] is relative to it.
    pub netns: u64,
    /// A random number for each start of a source: its counters started then.
    pub epoch: u64,
}

/// Slots used in the fuller of an interface's two tables. A table is made with twice as many slots
/// as rows are expected, so that lookups stay short, and is full when all are in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Used slots.
    pub used: u64,
    /// All slots.
    pub size: u64,
}

/// One interface: who it is and its books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Identifies these counters: unique within a source. See [`GONE`].
    pub id: u64,
    /// Its name; for a capture, the file's.
    pub name: String,
    /// Its index in its network namespace; 0 for a capture.
    pub ifindex: u32,
    /// The named network namespace in which it was opened, if not the caller's.
    pub netns: Option<String>,
    /// How it is watched.
    pub hook: HookKind,
    /// Whether every packet passes both of its hooks.
    pub loopback: bool,
    /// Another of the interfaces, below or beside this one, that sees the same packets. Its rows
    /// are available when asked for; totals leave this interface out, so that nothing counts twice.
    pub counted_on: Option<String>,
    /// Whether its books or rows could not be read consistently: see
    /// [`crate::snapshot::Snapshot::keep_stale`].
    pub stale: bool,
    /// When `tmon attach` attached the programs; `None` if this process did.
    pub attached: Option<SystemTime>,
    /// Its books.
    pub books: Books,
    /// The time of its books: in a snapshot, when they were read, on the clock of
    /// [`Snapshot::at`](crate::snapshot::Snapshot::at); in an interval, the period that they cover,
    /// which is longer than the interval after a failed reading.
    pub span: Duration,
    /// The occupancy of its table.
    pub fill: Fill,
    /// What is known about the host, if this is a host of a fleet.
    pub host: Option<Arc<Host>>,
}

/// Whether a host of a fleet reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostState {
    /// It reports.
    #[default]
    Live,
    /// It has not reported for too long.
    Silent,
    /// It has announced that it leaves.
    Left,
}

impl HostState {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            HostState::Live => "live",
            HostState::Silent => "silent",
            HostState::Left => "left",
        }
    }
}

/// A host of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Whether it reports.
    pub state: HostState,
    /// Its own addresses.
    pub local: Vec<IpAddr>,
    /// The uncertainty of its readings in time: its clock's error, and the duration of a reading.
    pub error: Duration,
    /// Whether its clock is synchronised.
    pub synchronised: bool,
    /// How far its clock is off from most others', if that is too much to measure loss.
    pub off: Option<Duration>,
    /// The start of the period that it reports here.
    pub since: Option<SystemTime>,
    /// When its last reading was taken.
    pub taken: Option<SystemTime>,
    /// How much of that period is not covered because the host restarted or readings are missing.
    pub missing: Duration,
    /// How often it reports.
    pub cadence: Duration,
    /// The program that it runs: `tmon 0.2.0`.
    pub tool: String,
    /// Whether its rows have inner addresses.
    pub detail: Detail,
}

/// Whether a host reports rows with inner addresses or sums without them, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Inner addresses are reported.
    pub inner: bool,
    /// Since when it has been like this; `None` before anything is known.
    pub since: Option<SystemTime>,
}

/// The time from one to the other, whichever comes first.
fn between(a: Option<SystemTime>, b: Option<SystemTime>) -> Option<Duration> {
    let (a, b) = (a?, b?);
    Some(a.duration_since(b).unwrap_or_else(|e| e.duration()))
}

impl Host {
    /// How far apart in time the counts of two hosts may be, considering their clocks, the start
    /// and end of their periods, and gaps in them. `None` if unknown.
    pub fn apart(&self, other: &Host) -> Option<Duration> {
        let missing = self.missing.saturating_add(other.missing);
        let since = between(self.since, other.since)?.saturating_add(missing);
        Some(since.saturating_add(self.apart_at_end(other)?))
    }

    /// The same, considering only their clocks and the end of their periods.
    pub fn apart_at_end(&self, other: &Host) -> Option<Duration> {
        let error = self.error.saturating_add(other.error);
        Some(between(self.taken, other.taken)?.saturating_add(error))
    }

    /// Whether both have reported rows, or both sums, for all of their periods: otherwise what one
    /// counted in a row, the other may have counted in a sum.
    pub fn is_as_detailed_as(&self, other: &Host) -> bool {
        let is_unknown = self.detail.since.is_none() || other.detail.since.is_none();
        let [all, others] = [self, other].map(|h| h.detail.since <= h.since);
        is_unknown || (all && others && self.detail.inner == other.detail.inner)
    }
}

impl Interface {
    /// What is known about the host, if this is a host of a fleet that reports now.
    pub fn live(&self) -> Option<&Host> {
        self.host.as_deref().filter(|h| h.state == HostState::Live)
    }

    /// An interface of this process's namespace, with nothing attached and nothing counted yet.
    pub fn new(id: u64, name: &str) -> Interface {
        Interface {
            id,
            name: name.to_owned(),
            ifindex: 0,
            netns: None,
            hook: HookKind::Off,
            loopback: false,
            counted_on: None,
            stale: false,
            attached: None,
            books: Books::default(),
            span: Duration::ZERO,
            fill: Fill::default(),
            host: None,
        }
    }
}

/// The [`Interface::id`] of the sum of interfaces that went away long ago. The counts of an
/// interface that is no longer in a snapshot have moved there.
pub const GONE: u64 = u64::MAX;
