// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vocabulary of the screen: views, units, notices, and what it asks of the loop.
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
    /// The books, and the state of the measurement.
    Health,
    /// What is wrong, and why.
    Findings,
}

impl View {
    /// All views, in the order of Tab.
    pub const ALL: [View; 5] =
        [View::Chord, View::Matrix, View::Table, View::Health, View::Findings];

    /// Whether it shows its own lines instead of hosts: no side pane and no timeline.
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

/// The unit of numbers.
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
    /// The measure behind it.
    pub fn measure(self) -> Measure {
        match self {
            Unit::Packets => Measure::Packets,
            Unit::Bits | Unit::Bytes => Measure::Bytes,
        }
    }

    /// A count in this unit: as a rate over a period, or as a total.
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

    /// The next one, in the order of the key.
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

/// A message of the source or the program, and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// On the clock of the messages.
    pub at: Duration,
    /// One line.
    pub text: String,
    /// Whether something went wrong.
    pub bad: bool,
}

/// A format to save in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The chord, as SVG.
    Picture,
    /// The rows, as a page that draws itself.
    Page,
}

/// A request to the loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Leave.
    Quit,
    /// Suspend until continued.
    Suspend,
    /// Write what is shown to a file.
    Save(Form),
    /// The next colour scheme.
    Theme,
    /// Redraw every cell.
    Redraw,
    /// Examine the packets of these rows, or stop doing so.
    Look(Option<Filter>),
    /// Write packets of these rows to a file, or stop doing so.
    Catch(Option<Filter>),
}

/// How long a notice stays in the status line.
pub const NOTICE: Duration = Duration::from_secs(8);

/// The time of day in UTC.
pub fn clock(t: std::time::SystemTime) -> String {
    let text = units::rfc3339(t);
    text.get(11..19).map_or(text.clone(), |s| format!("{s} UTC"))
}

/// The speed at which a capture plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speed {
    /// An interval is shown for its own duration.
    #[default]
    One,
    /// Ten times as fast.
    Ten,
    /// A hundred times as fast.
    Hundred,
}

impl Speed {
    /// The factor.
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

    /// How long a picture is shown instead of this long, and how many intervals make one step: more
    /// than a few pictures a second cannot be seen.
    pub fn pace(self, interval: std::time::Duration) -> (std::time::Duration, u64) {
        match self {
            Speed::One => (interval, 1),
            Speed::Ten => (interval / 10, 1),
            Speed::Hundred => (interval / 10, 10),
        }
    }
}
