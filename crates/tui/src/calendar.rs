// SPDX-License-Identifier: MIT OR Apache-2.0
//! A whole recording on one line, for when the timeline can show only part of it: the busiest
//! interval of each minute, or of each longer period, and where findings began.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ratatui::{buffer::Buffer, layout::Rect};

use feed::series::At;
use model::{
    detect::{Finding, Severity},
    units,
};

use crate::{
    app::App,
    hits::{Hit, Hits},
    look::Look,
    spark,
};

/// How long a cell may be, in minutes; beyond that, whole days.
const MINUTES: [u64; 12] = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440];
/// How many of the peaks one can jump to.
const PEAKS: usize = 12;
/// The longest recording; a capture's times may be meaningless.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// A minute or a longer period.
#[derive(Clone, Debug, Default)]
pub struct Period {
    /// The number of its busiest interval, and that interval's rate per second.
    pub peak: Option<(u64, u64)>,
    /// The severity of the worst finding that began in it, and the interval in which the first one
    /// began.
    pub found: Option<(Severity, u64)>,
}

/// Cells of equal length, aligned to the wall clock.
#[derive(Clone, Debug, Default)]
pub struct Calendar {
    /// When the first one begins.
    pub begin: Duration,
    /// How long each is.
    pub step: Duration,
    /// The cells, oldest first.
    pub cells: Vec<Period>,
    /// The cell that is shown, unless the newest interval is.
    pub here: Option<usize>,
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Calendar {
    /// Everything that is kept, in at most this many cells; no cells if times are unknown.
    pub fn of(app: &App, width: usize) -> Calendar {
        let history = app.series.history();
        let (Some(oldest), Some(newest)) = (history.oldest(), history.newest()) else {
            return Calendar::default();
        };
        let first = since_1970(oldest.interval.since);
        let last = since_1970(newest.interval.taken);
        let span = last.saturating_sub(first);
        if width == 0 || span.is_zero() || last > LONGEST {
            return Calendar::default();
        }
        let cells_of = |step: u64| last.as_secs().div_ceil(step) - first.as_secs() / step;
        let minutes = MINUTES.into_iter().map(|n| n * 60);
        let days = || span.as_secs().div_ceil(86_400).div_ceil(width as u64) + 1;
        let step = minutes.into_iter().find(|step| cells_of(*step) <= width as u64);
        let step = step.unwrap_or_else(|| days() * 86_400);
        let begin = first.as_secs() / step * step;
        let count = cells_of(step).min(width as u64) as usize;
        let mut cells = vec![Period::default(); count];
        let place = |time: SystemTime| {
            let place = since_1970(time).as_secs().checked_sub(begin)? / step;
            usize::try_from(place).ok().filter(|place| *place < count)
        };
        for (frame, (_, elapsed, sum)) in history.iter().zip(app.trends.moments()) {
            let Some(cell) = place(frame.interval.since).and_then(|i| cells.get_mut(i)) else {
                continue;
            };
            let rate = app.measure(*sum) as f64 / elapsed.as_secs_f64().max(1e-3);
            if rate > 0.0 && cell.peak.is_none_or(|peak| (rate as u64) > peak.1) {
                cell.peak = Some((frame.number, rate as u64));
            }
        }
        for finding in app.series.findings().filter(|f| !f.muted) {
            let Some(cell) = place(finding.since).and_then(|i| cells.get_mut(i)) else { continue };
            let Some(number) = app.series.number_at(finding.since) else { continue };
            cell.found = Some(match cell.found {
                Some((worst, first)) => (worst.max(finding.severity), first.min(number)),
                None => (finding.severity, number),
            });
        }
        let here = place(app.picture.since).filter(|_| app.series.at() != At::Live);
        Calendar { begin: Duration::from_secs(begin), step: Duration::from_secs(step), cells, here }
    }

    /// The cells that are higher than their neighbours, the highest first.
    fn peaks(&self) -> Vec<(u64, u64)> {
        let beside = |i: Option<usize>| {
            let cell = i.and_then(|i| self.cells.get(i))?;
            Some(cell.peak.map_or(0, |peak| peak.1))
        };
        let stands_out = |(i, cell): (usize, &Period)| {
            let peak = cell.peak?;
            let mut beside = [i.checked_sub(1), Some(i + 1)].into_iter().filter_map(beside);
            let is_higher = beside.clone().any(|other| peak.1 > other);
            (is_higher && beside.all(|other| peak.1 >= other)).then_some(peak)
        };
        let mut peaks: Vec<_> = self.cells.iter().enumerate().filter_map(stands_out).collect();
        peaks.sort_by_key(|(number, rate)| (std::cmp::Reverse(*rate), *number));
        peaks.truncate(PEAKS);
        peaks
    }
}

/// A place to jump to: the number of an interval, and what is there.
pub type Place = (u64, String);

/// The peaks, and the intervals in which findings began, in chronological order.
pub fn places(app: &App) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    let peaks = Calendar::of(app, usize::from(app.size.0).max(80)).peaks();
    for ((number, _), rank) in peaks.into_iter().zip(1..) {
        let Some(moment) = app.trends.moments().iter().find(|m| m.0 == number) else { continue };
        let most = app.quantity_over(moment.2, Some(moment.1));
        places.push((number, format!("peak {rank}: {most}")));
    }
    let said = |f: &Finding| Some((app.series.number_at(f.since)?, f.text.clone()));
    places.extend(app.series.findings().filter(|f| !f.muted).filter_map(said));
    // For one interval, a finding takes precedence over a peak.
    places.sort_by_key(|(number, text)| (*number, text.starts_with("peak ")));
    places.dedup_by_key(|(number, _)| *number);
    places
}

/// Whether there is more than the timeline can show.
pub fn is_needed(app: &App) -> bool {
    let room = app.size.0.saturating_sub(16);
    app.series.ends() && app.series.history().len() > usize::from(room)
}

/// The area of the cells, with the same space beside them as in the timeline.
fn bars(area: Rect, label: u16) -> Option<Rect> {
    let fits = !area.is_empty() && area.width >= label + 10;
    let width = area.width.saturating_sub(label + 5);
    fits.then_some(Rect { x: area.x + label, width, height: 1, ..area })
}

/// Makes the cells that fit into an area, beside a label of this width.
pub(crate) fn prepare(app: &App, area: Rect, label: u16) -> Calendar {
    bars(area, label).map_or_else(Calendar::default, |b| Calendar::of(app, usize::from(b.width)))
}

/// Draws it into the area that it was prepared for, with times below if there is a second line.
pub(crate) fn draw(
    calendar: &Calendar,
    look: &Look,
    label: u16,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let Some(bars) = bars(area, label).filter(|_| !calendar.cells.is_empty()) else { return };
    let most = calendar.cells.iter().filter_map(|c| c.peak).map(|p| p.1).max().unwrap_or(0);
    let here = calendar.here;
    let each = match calendar.step.as_secs() {
        step @ ..3600 => format!("by {} min", step / 60),
        step @ ..86_400 => format!("by {} h", step / 3600),
        step => format!("by {} d", step / 86_400),
    };
    buf.set_stringn(area.x + 1, area.y, each, usize::from(label - 2), look.dim);
    for (i, cell) in calendar.cells.iter().enumerate() {
        let column = Rect { x: bars.x + i as u16, width: 1, ..bars };
        let rate = cell.peak.map_or(0, |peak| peak.1);
        let style = match cell.found {
            Some((Severity::Bad, _)) => look.bad,
            Some((Severity::Note, _)) => look.warn,
            None if Some(i) == here => look.accent,
            None => look.spark,
        };
        if Some(i) == here {
            buf.set_style(column, look.cursor);
        }
        spark::bar(rate, most, column, buf, style);
        if rate == 0 && (cell.found.is_some() || Some(i) == here) {
            buf.set_string(column.x, column.y, "│", style);
        }
        if let Some(number) = cell.found.map(|f| f.1).or(cell.peak.map(|p| p.0)) {
            hits.add(column, Hit::Time(number));
        }
    }
    if area.height > 1 {
        times(calendar, look, Rect { y: area.y + 1, ..bars }, buf);
    }
}

/// Round times below the cells that begin at them, at least eight cells apart.
fn times(calendar: &Calendar, look: &Look, area: Rect, buf: &mut Buffer) {
    const DAY: u64 = 86_400;
    let step = calendar.step.as_secs().max(1);
    let fits = |unit: &u64| *unit >= 8 * step && unit.is_multiple_of(step);
    let unit = MINUTES.into_iter().map(|n| n * 60).find(fits).unwrap_or(8 * step.max(DAY));
    for i in 0..calendar.cells.len() {
        let x = area.x + i as u16;
        let begin = calendar.begin + calendar.step * i as u32;
        let text = units::rfc3339(UNIX_EPOCH + begin);
        let text = match begin.as_secs() {
            begin if !begin.is_multiple_of(unit) => None,
            begin if begin.is_multiple_of(DAY) => text.get(5..10),
            _ => text.get(11..16),
        };
        if let Some(text) = text.filter(|text| x + text.len() as u16 <= area.right()) {
            buf.set_string(x, area.y, text, look.dim);
        }
    }
}
