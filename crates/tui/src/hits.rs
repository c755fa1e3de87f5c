// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is where on the screen, for the mouse.
use ratatui::layout::{Position, Rect};

use model::{
    flow::{Key, Tunnel},
    lines::Column,
    matrix::Pick,
};

use crate::keys::Action;

/// What a click is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// The same as a key.
    Key(Action),
    /// An end or a pair.
    Pick(Pick),
    /// A tunnel of the selector; `None` is all of them.
    Tunnel(Option<Tunnel>),
    /// A row of the table.
    Row(u16, Key),
    /// A finding, by its number.
    Finding(u64),
    /// A column's headline.
    Column(Column),
    /// A level of the breadcrumb: how many levels stay.
    Crumb(usize),
    /// An interval of the timeline.
    Time(u64),
}

impl Hit {
    /// What hovering shows: the end or the pair that a click would select.
    pub fn pick(self) -> Option<Pick> {
        match self {
            Hit::Pick(p) => Some(p),
            _ => None,
        }
    }
}

/// What is where, for the mouse. What was added last is on top.
#[derive(Clone, Debug, Default)]
pub struct Hits {
    areas: Vec<(Rect, Hit)>,
    wheels: Vec<(Rect, Action, Action)>,
    /// Where the chord was drawn.
    pub chord: Option<Rect>,
}

impl Hits {
    /// A click in this area means this.
    pub fn add(&mut self, area: Rect, hit: Hit) {
        self.areas.push((area, hit));
    }

    /// Turning the wheel in this area means this.
    pub fn wheel(&mut self, area: Rect, up: Action, down: Action) {
        self.wheels.push((area, up, down));
    }

    /// What is at a cell.
    pub fn at(&self, x: u16, y: u16) -> Option<Hit> {
        self.areas.iter().rev().find(|a| a.0.contains(Position::new(x, y))).map(|a| a.1)
    }

    /// What turning the wheel up and down means at a cell.
    pub fn wheel_at(&self, x: u16, y: u16) -> Option<(Action, Action)> {
        self.wheels.iter().rev().find(|a| a.0.contains(Position::new(x, y))).map(|a| (a.1, a.2))
    }
}
