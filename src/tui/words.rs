// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words of the screen: what it can show, in what, of when, and what it asks of the loop.
use std::time::Duration;

use crate::matrix::Measure;

/// What fills the middle of the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum View {
    /// Arcs and ribbons.
    #[default]
    Chord,
    /// Sender by receiver.
    Matrix,
    /// Every row.
    Table,
    /// The books, and how well they are kept.
    Health,
}

impl View {
    /// All views, in the order of Tab.
    pub const ALL: [View; 4] = [View::Chord, View::Matrix, View::Table, View::Health];

    /// Its name on the screen and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            View::Chord => "chord",
            View::Matrix => "matrix",
            View::Table => "table",
            View::Health => "health",
        }
    }
}

/// What numbers are shown in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Bits on the wire.
    #[default]
    Bits,
    /// Bytes on the wire.
    Bytes,
    /// Packets on the wire.
    Packets,
}

impl Unit {
    /// What it measures.
    pub fn measure(self) -> Measure {
        match self {
            Unit::Packets => Measure::Packets,
            Unit::Bits | Unit::Bytes => Measure::Bytes,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Bits => "bits",
            Unit::Bytes => "bytes",
            Unit::Packets => "packets",
        }
    }
}

/// What the source or the program said, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// On the clock of the messages.
    pub at: Duration,
    /// One line.
    pub text: String,
    /// It is about something that went wrong.
    pub bad: bool,
}

/// What is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The chord, as SVG.
    Picture,
    /// The rows, as a page that draws itself.
    Page,
}

/// What the loop has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Leave.
    Quit,
    /// Stop until continued.
    Suspend,
    /// Write what is shown to a file.
    Save(Form),
    /// The next colours.
    Theme,
    /// Draw every cell again.
    Redraw,
}

/// How long a notice stays in the status line.
pub const NOTICE: Duration = Duration::from_secs(8);
