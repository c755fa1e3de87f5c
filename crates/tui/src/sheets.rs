// SPDX-License-Identifier: MIT OR Apache-2.0
//! The texts of the views: written when something visible has changed, and only copied while
//! drawing, which happens far more often.
use ratatui::{layout::Rect, text::Line};

use model::matrix::Pick;

use crate::{
    app::App,
    calendar::{self, Calendar},
    health, lens_pane,
    look::Look,
    matrix_view::{self, Grid},
    parts::Parts,
    side::{self, Pane},
    status::{self, StatusLine},
    table_view::{self, Page},
    timeline::{self, Timeline},
    words::View,
};

/// What they were written for: as long as it is unchanged, there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Written {
    area: Rect,
    picked: Option<Pick>,
    version: u64,
}

/// The views' texts.
#[derive(Debug, Default)]
pub struct Sheets {
    written: Option<Written>,
    /// The area of the view.
    pub(crate) main: Rect,
    /// Details of the selection, below the view if there is no pane beside it.
    pub(crate) below: Vec<Line<'static>>,
    pub(crate) side: Pane,
    pub(crate) table: Page,
    pub(crate) matrix: Grid,
    pub(crate) health: Vec<Line<'static>>,
    pub(crate) lens: Vec<Line<'static>>,
    pub(crate) status: StatusLine,
    pub(crate) calendar: Calendar,
    pub(crate) timeline: Timeline,
}

impl Sheets {
    /// Rewrites what has changed since it was last written.
    pub fn write(&mut self, app: &App, look: &Look, area: Rect) {
        let written = Some(Written { area, picked: app.picked(), version: app.version });
        if self.written == written {
            return;
        }
        let parts = Parts::of(area, app.view, lens_pane::lines(app), calendar::is_needed(app));
        let mut sheets = Sheets { written, main: parts.main, ..Sheets::default() };
        let label = timeline::label(parts.timeline.height);
        sheets.calendar = calendar::prepare(app, parts.calendar, label);
        let (width, height) = (usize::from(parts.lens.width), usize::from(parts.lens.height));
        sheets.lens = lens_pane::prepare(app, look, width, height);
        sheets.status = status::prepare(app, look);
        sheets.timeline = timeline::prepare(app, parts.timeline);
        if parts.side.width > 0 {
            sheets.side = side::prepare(app, look, parts.side);
        } else if parts.main.height >= 8 && !app.view.is_text() {
            let width = usize::from(parts.main.width).saturating_sub(2);
            sheets.below = side::details(app, look, width).1;
            sheets.below.truncate(usize::from(parts.main.height / 4));
            sheets.main.height -= sheets.below.len() as u16;
        }
        match app.view {
            View::Table => sheets.table = table_view::prepare(app, sheets.main),
            View::Matrix => sheets.matrix = matrix_view::prepare(app, sheets.main),
            View::Health => {
                sheets.health = health::prepare(app, look, usize::from(parts.main.width));
            }
            View::Chord | View::Findings => {}
        }
        *self = sheets;
    }
}
