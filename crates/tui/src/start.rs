// SPDX-License-Identifier: MIT OR Apache-2.0
//! The initial state of the dashboard.
use std::{sync::Arc, time::SystemTime};

use feed::names::Names;
use model::{detect::Known, groups::Groups, history, units::Base};

use crate::words::{Unit, View};

/// The initial state of the dashboard.
#[derive(Clone, Debug)]
pub struct Start {
    /// The view.
    pub view: View,
    /// Unit of the values.
    pub unit: Unit,
    /// The step between unit prefixes of bytes.
    pub base: Base,
    /// Totals instead of rates.
    pub totals: bool,
    /// How many ends are shown before the rest is "other"; determined by the available room if not
    /// given.
    pub top: Option<usize>,
    /// The filter's text, which must be valid.
    pub filter: String,
    /// What is watched, in a word or two: "lab", a file's name.
    pub title: String,
    /// The names of addresses, and whether they are shown at first.
    pub names: Names,
    /// Groups of hosts from a file; without one, those derived from the names of a fleet's hosts.
    pub groups: Option<Arc<Groups>>,
    /// Show addresses at first, although there are names.
    pub numeric: bool,
    /// A capture: every interval is known from the start.
    pub recorded: bool,
    /// The time of a capture or a recording at which to start, if not its end.
    pub at: Option<SystemTime>,
    /// Memory limit for past intervals, in bytes.
    pub history: usize,
    /// Known findings.
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
