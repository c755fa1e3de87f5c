// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words of the screen: what it can show, in what, of when, and what it asks of the loop.
use std::time::Duration;

use model::{
    filter::Filter,
    flow::Count,
    matrix::Measure,
    units::{self, Base, Quantity, Rate},
};

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
    /// What is wrong, and why.
    Findings,
}

impl View {
    /// All views, in the order of Tab.
    pub const ALL: [View; 5] =
        [View::Chord, View::Matrix, View::Table, View::Health, View::Findings];

    /// It has lines of its own instead of hosts: nothing beside it, and no time below it.
    pub fn is_text(self) -> bool {
        matches!(self, View::Health | View::Findings)
    }

    /// Its name on the screen and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            View::Chord => "chord",
            View::Matrix => "matrix",
            View::Table => "table",
            View::Health => "health",
            View::Findings => "findings",
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

    /// A count in it: as a rate over a time, or as a total.
    pub fn quantity(self, c: Count, base: Base, elapsed: Option<Duration>) -> Quantity {
        match (self, elapsed) {
            (Unit::Bits, Some(t)) => units::bit_rate(Rate::of(c.bytes, t)),
            (Unit::Bytes, Some(t)) => units::byte_rate(Rate::of(c.bytes, t), base),
            (Unit::Packets, Some(t)) => units::packet_rate(Rate::of(c.packets, t)),
            (Unit::Bits, None) => units::bits(c.bytes),
            (Unit::Bytes, None) => units::bytes(c.bytes, base),
            (Unit::Packets, None) => units::packets(c.packets),
        }
    }

    /// The one after it, in the order of the key.
    #[must_use]
    pub fn next(self) -> Unit {
        match self {
            Unit::Bits => Unit::Bytes,
            Unit::Bytes => Unit::Packets,
            Unit::Packets => Unit::Bits,
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Look into the packets of these rows, or of none any more.
    Look(Option<Filter>),
    /// Keep packets of these rows in a file, or no more.
    Catch(Option<Filter>),
}

/// How long a notice stays in the status line.
pub const NOTICE: Duration = Duration::from_secs(8);

/// The time of day in UTC.
pub fn clock(t: std::time::SystemTime) -> String {
    let text = units::rfc3339(t);
    text.get(11..19).map_or(text.clone(), |s| format!("{s} UTC"))
}

/// How fast a capture plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speed {
    /// An interval is shown for as long as it is.
    #[default]
    One,
    /// Ten times as fast.
    Ten,
    /// A hundred times as fast.
    Hundred,
}

impl Speed {
    /// How many times as fast.
    pub fn times(self) -> u32 {
        match self {
            Speed::One => 1,
            Speed::Ten => 10,
            Speed::Hundred => 100,
        }
    }

    /// The next faster one.
    pub fn faster(self) -> Speed {
        if self == Speed::One { Speed::Ten } else { Speed::Hundred }
    }

    /// The next slower one.
    pub fn slower(self) -> Speed {
        if self == Speed::Hundred { Speed::Ten } else { Speed::One }
    }

    /// How long a picture is shown instead of this long, and how many intervals are one step: nobody
    /// sees more than a few pictures a second.
    pub fn pace(self, interval: std::time::Duration) -> (std::time::Duration, u64) {
        match self {
            Speed::One => (interval, 1),
            Speed::Ten => (interval / 10, 1),
            Speed::Hundred => (interval / 10, 10),
        }
    }
}
