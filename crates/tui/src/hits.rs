// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is where on the screen, for the mouse.
use ratatui::layout::{Position, Rect};

use model::{
    flow::{Key, Tunnel},
    lines::Column,
    matrix::Pick,
};

use crate::keys::Action;

/// The target of a click.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// Equivalent to a key.
    Key(Action),
    /// An end or a pair.
    Pick(Pick),
    /// A tunnel in the selector; `None` is all of them.
    Tunnel(Option<Tunnel>),
    /// A row of the table.
    Row(u16, Key),
    /// A finding, by its number.
    Finding(u64),
    /// The head of a column.
    Column(Column),
    /// A level of the breadcrumb: the number of levels that stay.
    Crumb(usize),
    /// An interval of the timeline.
    Time(u64),
}

impl Hit {
    /// What hovering highlights: the end or the pair that a click would select.
    pub fn pick(self) -> Option<Pick> {
        match self {
            Hit::Pick(p) => Some(p),
            _ => None,
        }
    }
}

/// Targets by area, for the mouse. The one added last is on top.
#[derive(Clone, Debug, Default)]
pub struct Hits {
    areas: Vec<(Rect, Hit)>,
    wheels: Vec<(Rect, Action, Action)>,
    /// Where the chord was drawn.
    pub chord: Option<Rect>,
}

impl Hits {
    /// Registers the target of a click in this area.
    pub fn add(&mut self, area: Rect, hit: Hit) {
        self.areas.push((area, hit));
    }

    /// Registers what the wheel does in this area.
    pub fn wheel(&mut self, area: Rect, up: Action, down: Action) {
        self.wheels.push((area, up, down));
    }

    /// The target at a cell.
    pub fn at(&self, x: u16, y: u16) -> Option<Hit> {
        self.areas.iter().rev().find(|a| a.0.contains(Position::new(x, y))).map(|a| a.1)
    }

    /// What turning the wheel up and down does at a cell.
    pub fn wheel_at(&self, x: u16, y: u16) -> Option<(Action, Action)> {
        self.wheels.iter().rev().find(|a| a.0.contains(Position::new(x, y))).map(|a| (a.1, a.2))
    }
}
