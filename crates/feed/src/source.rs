// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where readings come from: what a source is to everything that shows or writes readings.
use std::{fs::File, sync::Arc};

use anyhow::{Result, bail};

use model::{
    filter::Filter,
    lens::Lens,
    overlay::Overlay,
    snapshot::{Interval, Snapshot},
};

/// One reading, and what went wrong or changed since the last one.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The totals.
    pub snapshot: Snapshot,
    /// What happened before, oldest first, where the source knows more of it than the totals: a
    /// capture does. It replaces what earlier readings said.
    pub past: Vec<Interval>,
    /// One line each, to be told to the user.
    pub notices: Vec<String>,
    /// What the host is configured to do, where the source knows it.
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
    /// Whenever it is asked: totals go on.
    Always,
    /// Not yet: it is being read, and asked again soon.
    Later,
    /// Never: all of it has been read.
    Never,
}

/// What readings come from. A function that makes readings is also a source.
pub trait Source {
    /// Reads. After an error it may be tried again.
    ///
    /// # Errors
    /// What cannot be read, and why.
    fn read(&mut self) -> Result<Reading>;

    /// Follows what happens to the source between readings, and says what the user should know, a
    /// line each. It is cheap where nothing has happened, and called a few times a second.
    fn follow(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// How much has been read of what ends, in a word or two, while there is more of it.
    fn progress(&self) -> Option<String> {
        None
    }

    /// When the next reading can be had.
    fn due(&self) -> Due {
        Due::Always
    }

    /// What looks into packets of some rows, where there are packets.
    ///
    /// # Errors
    /// Why there are none, and what to do instead.
    fn closer(&mut self) -> Result<&mut dyn Closer> {
        bail!("here are only counts, and no packets: look where they pass, by `tmon top` there")
    }
}

/// Looks into packets that pass, of rows that somebody wants to know more of.
pub trait Closer {
    /// Looks at these rows from now on, and at all that are yet to come, and at no others; at none
    /// with `None`.
    ///
    /// # Errors
    /// They cannot be looked at.
    fn look(&mut self, rows: Option<&Filter>) -> Result<()>;

    /// What was in their packets so far; `None` where nobody looks.
    ///
    /// # Errors
    /// It cannot be read.
    fn seen(&mut self) -> Result<Option<Lens>>;

    /// Writes packets of these rows to a file from now on, as a capture. `keep` gives the file its
    /// name, once they can be caught; returns that.
    ///
    /// # Errors
    /// They cannot be caught, or the file has no name.
    fn catch(
        &mut self,
        rows: &Filter,
        to: File,
        keep: &dyn Fn() -> Result<String>,
    ) -> Result<String>;

    /// Writes what was caught meanwhile, and says how far that is; to be called all the time. `None`
    /// where nothing is caught, or no longer. `over`: ends it.
    fn caught(&mut self, over: bool) -> Option<CatchNews>;
}

/// How far a capture is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatchNews {
    /// Packets that are in it.
    pub packets: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Packets that are not, for want of room or time.
    pub lost: u64,
    /// It is over: a line with its name and counts, or what went wrong as well.
    pub end: Option<Result<String, String>>,
}

impl<F: FnMut() -> Result<Reading>> Source for F {
    fn read(&mut self) -> Result<Reading> {
        self()
    }
}
