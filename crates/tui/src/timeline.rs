// SPDX-License-Identifier: MIT OR Apache-2.0
//! The last minutes along the bottom: one bar per interval, the peak, changes of the host's
//! configuration, and the position of the picture.
use std::collections::BTreeSet;

use ratatui::{buffer::Buffer, layout::Rect};

use feed::series::At;
use model::{trend::Moment, units};

use crate::{
    app::App,
    hits::{Hit, Hits},
    look::Look,
    side::baseline,
    spark,
};

/// The columns to the left of the bars: room for the peak, on one line or two.
pub fn label(height: u16) -> u16 {
    if height > 1 { 11 } else { 16 }
}

/// One bar: an interval.
#[derive(Clone, Debug)]
struct Bar {
    number: u64,
    value: u64,
    /// It is the interval shown, and not the newest.
    chosen: bool,
    /// The host's configuration changed in it.
    eventful: bool,
}

/// The bars that fit, and the texts beside them.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    bars: Vec<Bar>,
    max: u64,
    /// The last bar of the greatest height, and its value.
    peak: Option<(usize, String)>,
    /// How long ago the bars end.
    end: String,
}

/// The area of the bars, with room for texts on both sides; `None` if there is too little.
fn bars(area: Rect) -> Option<Rect> {
    let label = label(area.height);
    let fits = !area.is_empty() && area.width >= label + 10;
    fits.then(|| Rect { x: area.x + label, width: area.width - label - 5, ..area })
}

/// Chooses the bars for an area, and writes the texts.
pub(crate) fn prepare(app: &App, area: Rect) -> Timeline {
    let Some(width) = bars(area).map(|bars| usize::from(bars.width)) else {
        return Timeline::default();
    };
    let line = app.trends.moments();
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
    let peak = peak.and_then(|i| {
        let (_, elapsed, count) = window.get(i)?;
        Some((i, app.quantity_over(*count, Some(*elapsed)).to_string()))
    });
    let eventful: BTreeSet<u64> = app.series.events().map(|e| e.0).collect();
    let is_past = app.series.at() != At::Live;
    let bar = |(number, _, count): &Moment| Bar {
        number: *number,
        value: app.measure(*count),
        chosen: is_past && Some(*number) == shown,
        eventful: eventful.contains(number),
    };
    let text = match (end == line.len(), window.last(), line.last()) {
        (true, ..) => "now".to_owned(),
        (false, Some(w), Some(_)) => {
            let after: std::time::Duration = line.iter().filter(|p| p.0 > w.0).map(|p| p.1).sum();
            format!("-{}", units::duration(after)).replace(' ', "")
        }
        _ => String::new(),
    };
    Timeline { bars: window.iter().map(bar).collect(), max, peak, end: text }
}

/// Draws the timeline into the area that it was prepared for.
pub(crate) fn draw(
    timeline: &Timeline,
    look: &Look,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let Some(bars) = bars(area) else { return };
    let start = bars.right().saturating_sub(timeline.bars.len() as u16);
    baseline(look, Rect { width: start.saturating_sub(bars.x), ..bars }, buf);
    let peak = timeline.peak.as_ref();
    for (i, bar) in timeline.bars.iter().enumerate() {
        let column = Rect { x: start + i as u16, width: 1, ..bars };
        let style = match () {
            () if bar.chosen => look.accent,
            () if peak.is_some_and(|(at, _)| *at == i) => look.warn,
            () => look.spark,
        };
        if bar.chosen {
            buf.set_style(column, look.cursor);
        }
        spark::bar(bar.value, timeline.max, column, buf, style);
        if bar.chosen && bar.value == 0 {
            buf.set_string(column.x, column.bottom() - 1, "│", look.accent);
        }
        if bar.eventful {
            let style = if bar.chosen { look.accent } else { look.good };
            buf.set_string(column.x, column.y, "▾", style);
        }
        hits.add(column, Hit::Time(bar.number));
    }
    if let Some((_, text)) = peak {
        let y = area.y + u16::from(area.height > 1);
        let x = if area.height > 1 { area.x + 1 } else { area.x + 6 };
        buf.set_stringn(area.x + 1, area.y, "peak", 5, look.dim);
        buf.set_stringn(x, y, text, usize::from(bars.x.saturating_sub(x)), look.warn);
    }
    let right = bars.right() + 1;
    let room = usize::from(area.right().saturating_sub(right));
    buf.set_stringn(right, area.bottom() - 1, &timeline.end, room, look.dim);
}
