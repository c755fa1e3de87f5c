// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the dashboard begins.
use std::{sync::Arc, time::SystemTime};

use feed::names::Names;
use model::{detect::Known, groups::Groups, history, units::Base};

use crate::words::{Unit, View};

/// How the dashboard begins.
#[derive(Clone, Debug)]
pub struct Start {
    /// What fills the middle.
    pub view: View,
    /// Unit of the values.
    pub unit: Unit,
    /// The step between the prefixes of bytes.
    pub base: Base,
    /// Totals instead of rates.
    pub totals: bool,
    /// How many ends are shown before the rest is "other"; by the room there is when not given.
    pub top: Option<usize>,
    /// The filter's text, which must be one.
    pub filter: String,
    /// What is watched, in a word or two: "lab", a file's name.
    pub title: String,
    /// What addresses are called, and whether that is shown at first.
    pub names: Names,
    /// Groups of hosts that a file says; where there is none, those that a fleet's names make.
    pub groups: Option<Arc<Groups>>,
    /// Addresses at first, though there are names.
    pub numeric: bool,
    /// A capture: every interval is known from the start.
    pub recorded: bool,
    /// The time of a capture or a recording to begin at, if not its end.
    pub at: Option<SystemTime>,
    /// Bytes that the intervals of the past may take.
    pub history: usize,
    /// Findings that are known already.
    pub known: Known,
}

impl Default for Start {
    fn default() -> Self {
        Start {
            view: View::default(),
            unit: Unit::default(),
            base: Base::default(),
            totals: false,
            top: None,
            filter: String::new(),
            title: String::new(),
            names: Names::default(),
            groups: None,
            numeric: false,
            recorded: false,
            at: None,
            history: history::BYTES,
            known: Known::default(),
        }
    }
}
