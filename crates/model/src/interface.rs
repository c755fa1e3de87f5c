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
    /// The network namespace that it read in, by its inode number; 0 where that is not known.
    /// [`Interface::netns`] is relative to it.
    pub netns: u64,
    /// A random number for each start of a source: its counters began with it.
    pub epoch: u64,
}

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
    /// Every packet passes both of its hooks.
    pub loopback: bool,
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
    /// What is known of the host, where this is one of a fleet.
    pub host: Option<Arc<Host>>,
}

/// Whether a host of a fleet is heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostState {
    /// It is.
    #[default]
    Live,
    /// It has not been for too long.
    Silent,
    /// It has said that it leaves.
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
    /// Whether it is heard.
    pub state: HostState,
    /// Its own addresses.
    pub local: Vec<IpAddr>,
    /// By how much its readings may be off in time: its clock's error, and how long a reading takes.
    pub error: Duration,
    /// Its clock is synchronised.
    pub synchronised: bool,
    /// By how much its clock differs from most others', where that is more than loss can be told
    /// with.
    pub off: Option<Duration>,
    /// When that begins of which it tells here.
    pub since: Option<SystemTime>,
    /// When its last reading was taken.
    pub taken: Option<SystemTime>,
    /// How much of that time it tells nothing of: it was started again, or readings are missing.
    pub missing: Duration,
    /// How often it tells.
    pub cadence: Duration,
    /// What it runs: `tmon 0.2.0`.
    pub tool: String,
}

impl Host {
    /// How far apart in time the counts of two hosts may be: by their clocks, by when they begin and
    /// end, by what is missing of them. `None` where that is not known.
    pub fn apart(&self, other: &Host) -> Option<Duration> {
        let between = |a: Option<SystemTime>, b: Option<SystemTime>| {
            let (a, b) = (a?, b?);
            Some(a.duration_since(b).unwrap_or_else(|e| e.duration()))
        };
        let ends =
            between(self.since, other.since)?.saturating_add(between(self.taken, other.taken)?);
        let missing = self.missing.saturating_add(other.missing);
        Some(self.error.saturating_add(other.error).saturating_add(ends).saturating_add(missing))
    }
}

impl Interface {
    /// What is known of the host, where this is one of a fleet that is heard now.
    pub fn live(&self) -> Option<&Host> {
        self.host.as_deref().filter(|h| h.state == HostState::Live)
    }

    /// An interface of this process's namespace at which nothing was counted yet, and nothing is
    /// attached.
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

/// The [`Interface::id`] of what interfaces counted that went away long ago, all together. Where
/// one is not in a snapshot any more, its counts have moved there.
pub const GONE: u64 = u64::MAX;
