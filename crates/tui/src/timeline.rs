// SPDX-License-Identifier: MIT OR Apache-2.0
//! The last minutes along the bottom: one bar per interval, the peak, changes of the host's
//! configuration, and the position of the picture.
use std::collections::BTreeSet;

use ratatui::{buffer::Buffer, layout::Rect};

use feed::series::At;
use model::units;

use crate::{
    app::App,
    hits::{Hit, Hits},
    look::Look,
    side::baseline,
    spark,
};

/// The columns to the left of the bars: room for the peak, on one line or two.
fn label(height: u16) -> u16 {
    if height > 1 { 11 } else { 16 }
}

/// Draws the timeline into an area.
pub fn draw(app: &App, look: &Look, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let label = label(area.height);
    if area.is_empty() || area.width < label + 10 {
        return;
    }
    let bars = Rect { x: area.x + label, width: area.width - label - 5, ..area };
    let line = app.trends.moments();
    let width = usize::from(bars.width);
    // the window ends now, unless what is shown is older
    let shown = app.series.number();
    let here = shown.and_then(|n| line.iter().position(|p| p.0 == n));
    let mut end = line.len();
    if let Some(here) = here
        && here + width < end
    {
        end = (here + width / 2).max(width);
    }
    let window = &line[end.saturating_sub(width)..end];
    let max = window.iter().map(|p| app.measure(p.2)).max().unwrap_or(0);
    let peak = window.iter().rposition(|p| app.measure(p.2) == max).filter(|_| max > 0);
    let start = bars.right() - window.len() as u16;
    baseline(look, Rect { width: start - bars.x, ..bars }, buf);
    let eventful: BTreeSet<u64> = app.series.events().map(|e| e.0).collect();
    for (i, (number, elapsed, count)) in window.iter().enumerate() {
        let column = Rect { x: start + i as u16, width: 1, ..bars };
        let chosen = app.series.at() != At::Live && Some(*number) == shown;
        let style = match () {
            () if chosen => look.accent,
            () if Some(i) == peak => look.warn,
            () => look.spark,
        };
        if chosen {
            buf.set_style(column, look.cursor);
        }
        spark::bar(app.measure(*count), max, column, buf, style);
        if chosen && count.is_zero() {
            buf.set_string(column.x, column.bottom() - 1, "│", look.accent);
        }
        if eventful.contains(number) {
            buf.set_string(column.x, column.y, "▾", if chosen { look.accent } else { look.good });
        }
        hits.add(column, Hit::Time(*number));
        if Some(i) == peak {
            let text = app.quantity_over(*count, Some(*elapsed)).to_string();
            let y = area.y + u16::from(area.height > 1);
            let x = if area.height > 1 { area.x + 1 } else { area.x + 6 };
            buf.set_stringn(area.x + 1, area.y, "peak", 5, look.dim);
            buf.set_stringn(x, y, &text, usize::from(bars.x.saturating_sub(x)), look.warn);
        }
    }
    let right = bars.right() + 1;
    let (text, style) = match (end == line.len(), window.last(), line.last()) {
        (true, ..) => ("now".to_owned(), look.dim),
        (false, Some(w), Some(_)) => {
            let after: std::time::Duration = line.iter().filter(|p| p.0 > w.0).map(|p| p.1).sum();
            (format!("-{}", units::duration(after)), look.dim)
        }
        _ => (String::new(), look.dim),
    };
    buf.set_stringn(
        right,
        area.bottom() - 1,
        text.replace(' ', ""),
        usize::from(area.right().saturating_sub(right)),
        style,
    );
}
