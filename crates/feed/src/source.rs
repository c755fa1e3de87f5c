// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sources of readings, as seen by everything that shows or writes readings.
use std::{fs::File, net::IpAddr, sync::Arc};

use anyhow::{Result, bail};

use model::{
    filter::Filter,
    lens::Lens,
    overlay::Overlay,
    snapshot::{Interval, Snapshot},
};

/// A reading, and what went wrong or changed since the last one.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The totals.
    pub snapshot: Snapshot,
    /// Earlier intervals, oldest first, if the source knows more than the totals, as a capture
    /// does. They replace those of earlier readings.
    pub past: Vec<Interval>,
    /// Messages for the user, one line each.
    pub notices: Vec<String>,
    /// The configuration of the host, if the source knows it.
    pub overlay: Option<Arc<Overlay>>,
}

impl From<Snapshot> for Reading {
    fn from(snapshot: Snapshot) -> Self {
        Reading { snapshot, past: Vec::new(), notices: Vec::new(), overlay: None }
    }
}

/// When a source has its next reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At any time: the totals keep growing.
    Always,
    /// Not yet: it is still being read; ask again soon.
    Later,
    /// Never: all of it has been read.
    Never,
}

/// A source of readings. A function that returns readings is also a source.
pub trait Source {
    /// Takes a reading. After an error it may be tried again.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn read(&mut self) -> Result<Reading>;

    /// Follows changes of the source between readings, and returns messages for the user, one line
    /// each. It is called a few times a second, and cheap if nothing has happened.
    fn follow(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// How much of a finite source has been read, in a word or two, until all of it has.
    fn progress(&self) -> Option<String> {
        None
    }

    /// Whether it is finite, and can be played once it has been read.
    fn is_recorded(&self) -> bool {
        false
    }

    /// When the next reading is available.
    fn due(&self) -> Due {
        Due::Always
    }

    /// The user looks into the rows of these addresses' hosts. Of others, sums without inner
    /// addresses are enough.
    fn look_into(&mut self, _hosts: &[IpAddr]) {}

    /// Examines packets of selected rows, if the source has packets.
    ///
    /// # Errors
    /// Why it has none, and what to do instead.
    fn closer(&mut self) -> Result<&mut dyn Closer> {
        bail!("only counts are available here, not packets: run `tmon top` where the packets pass")
    }
}

/// Examines the packets of selected rows.
pub trait Closer {
    /// Examines packets of these rows from now on, including rows that appear later, and of no
    /// others; `None` stops.
    ///
    /// # Errors
    /// The packets cannot be examined.
    fn look(&mut self, rows: Option<&Filter>) -> Result<()>;

    /// What the packets contained so far; `None` if none are being examined.
    ///
    /// # Errors
    /// It cannot be read.
    fn seen(&mut self) -> Result<Option<Lens>>;

    /// Captures packets of these rows to a file from now on. `keep` gives the file its name once
    /// capturing has started, and returns the name.
    /// # Errors
    /// They cannot be captured, or the file cannot be named.
    fn catch(
        &mut self,
        rows: &Filter,
        to: File,
        keep: &dyn Fn() -> Result<String>,
    ) -> Result<String>;

    /// Writes the packets captured meanwhile, and returns the progress; to be called continually.
    /// `None` if no capture is running. `over` ends it.
    fn caught(&mut self, over: bool) -> Option<CatchNews>;
}

/// The progress of a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatchNews {
    /// Packets in the file.
    pub packets: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Packets that were lost for lack of room or time.
    pub lost: u64,
    /// Set when it has ended: a line with its name and counts, or with what went wrong.
    pub end: Option<Result<String, String>>,
}

impl<F: FnMut() -> Result<Reading>> Source for F {
    fn read(&mut self) -> Result<Reading> {
        self()
    }
}
