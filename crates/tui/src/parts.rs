// SPDX-License-Identifier: MIT OR Apache-2.0
//! The layout of the screen's parts, by its size and by what it shows.
use ratatui::layout::Rect;

use crate::words::View;

/// Where the parts of the screen are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Name, tabs, time.
    pub header: Rect,
    /// Breadcrumb, filter, units.
    pub path: Rect,
    /// The view.
    pub main: Rect,
    /// Ids, ends, the selection.
    pub side: Rect,
    /// The contents of packets, below the view and the side.
    pub lens: Rect,
    /// The whole recording, above the last minutes.
    pub calendar: Rect,
    /// The last minutes.
    pub timeline: Rect,
    /// The status line.
    pub status: Rect,
    /// Keys, or a notice, or the filter being edited.
    pub hints: Rect,
}

impl Parts {
    /// The parts at a size, with room for the lines of a lens, if any, and for a calendar. Parts
    /// without room are empty.
    pub fn of(area: Rect, view: View, lens: Option<usize>, calendar: bool) -> Self {
        let mut p = Parts::default();
        let mut rest = area;
        let top = |rest: &mut Rect, h: u16| {
            let h = h.min(rest.height);
            let r = Rect { height: h, ..*rest };
            (rest.y, rest.height) = (rest.y + h, rest.height - h);
            r
        };
        let bottom = |rest: &mut Rect, h: u16| {
            let h = h.min(rest.height);
            rest.height -= h;
            Rect { y: rest.bottom(), height: h, ..*rest }
        };
        p.header = top(&mut rest, 1);
        if area.height >= 4 {
            p.status = bottom(&mut rest, 1);
        }
        if area.height >= 8 {
            p.hints = bottom(&mut rest, 1);
            (p.hints, p.status) = (p.status, p.hints);
        }
        if area.height >= 10 {
            p.path = top(&mut rest, 1);
        }
        if area.height >= 16 && !view.is_text() {
            p.timeline = bottom(
                &mut rest,
                if area.height >= 45 {
                    4
                } else if area.height >= 30 {
                    3
                } else {
                    1
                },
            );
        }
        if calendar && area.height >= 20 && !view.is_text() {
            p.calendar = bottom(&mut rest, 1 + u16::from(area.height >= 30));
        }
        if area.height >= 24 {
            top(&mut rest, 1); // an empty line
            bottom(&mut rest, u16::from(area.height >= 30));
        }
        if let Some(lines) = lens.filter(|_| !view.is_text() && rest.height >= 8) {
            // With headings, and room for a few more lines before anything has to move.
            let wanted = u16::try_from(lines + 2).unwrap_or(u16::MAX).max(6);
            let most = rest.height / 2;
            p.lens = bottom(&mut rest, wanted.min(most));
        }
        let side = match view {
            View::Health | View::Findings => 0,
            View::Table if area.width < 170 => 0,
            View::Matrix if area.width < 110 => 0,
            _ if area.width < 70 => 0,
            _ => (area.width * 3 / 10).clamp(26, 46),
        };
        p.side = Rect { x: rest.right() - side, width: side, ..rest };
        p.main = Rect { width: rest.width - side, ..rest };
        if side > 0 {
            // an empty column on both sides of the rule between them
            p.main.width = p.main.width.saturating_sub(2);
            p.side.width -= 1;
        }
        p
    }
}
