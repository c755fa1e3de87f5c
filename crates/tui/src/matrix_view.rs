// SPDX-License-Identifier: MIT OR Apache-2.0
//! The matrix: senders down, receivers across, as a heat map with a logarithmic scale.
use std::ops::Range;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::Widget,
};
use unicode_width::UnicodeWidthStr;

use model::{
    flow::Count,
    matrix::{End, Pick},
    text::{apart, shared_prefix, shorten},
};

use crate::{
    app::App,
    hits::{Hit, Hits},
    keys::Action,
    look::Look,
};

/// The width of a cell, including the space that separates it from the next.
const CELL: u16 = 8;
const NARROW: u16 = 6;

/// The position of `n` between zero (0) and the maximum (1), on a logarithmic scale of four
/// decades.
pub fn heat(n: u64, max: u64) -> f64 {
    if n == 0 || max == 0 {
        return 0.0;
    }
    let decades = (n as f64 / max as f64).log10(); // 0 down to ..
    (1.0 + decades / 4.0).clamp(0.05, 1.0)
}

/// The first of `n` items to show if `room` fit and `cursor` must be among them.
fn window(n: usize, room: usize, cursor: Option<usize>) -> usize {
    cursor.map_or(0, |c| c.saturating_sub(room / 2)).min(n.saturating_sub(room))
}

/// The visible part of the matrix, as text, with its geometry.
#[derive(Clone, Debug, Default)]
pub struct Grid {
    /// The names of all ends: before their lines, and above their columns.
    names: Vec<String>,
    heads: Vec<String>,
    /// The columns of the line heads, and of a cell.
    head: u16,
    cell: u16,
    /// The number of screen lines per line of the matrix.
    high: usize,
    legend: bool,
    /// The lines and columns of the matrix that are shown.
    lines: Range<usize>,
    columns: Range<usize>,
    /// For each line shown: its cells, and what its end sent.
    cells: Vec<(Vec<String>, String)>,
    received: Vec<String>,
    total: String,
    /// The largest cell, and the largest sum.
    max: u64,
    max_sum: u64,
    greatest: String,
}

/// The width of the totals' column.
const SUM: u16 = 9;

/// Prepares the matrix for an area.
pub fn prepare(app: &App, area: Rect) -> Grid {
    let m = &app.picture.matrix;
    if area.height < 3 || area.width < 16 || m.is_empty() {
        return Grid::default();
    }
    let n = m.len();
    let full: Vec<String> = m.ends.iter().map(|e| app.called(*e)).collect();
    // do not cut names
    let is_address = |i: usize| matches!(m.ends[i], End::Addr(a) if full[i] == a.to_string());
    let addresses: Vec<String> =
        (0..n).filter(|i| is_address(*i)).map(|i| full[i].clone()).collect();
    let cut = shared_prefix(&addresses);
    let short = |i: usize| match m.ends[i] {
        End::Addr(_) if is_address(i) => full[i][cut..].to_owned(),
        _ => full[i].clone(),
    };
    let widest = full.iter().map(|l| l.width()).max().unwrap_or(0);
    let names: Vec<String> = match widest + 3 > usize::from(area.width) / 3 {
        true => apart(&(0..n).map(short).collect::<Vec<_>>(), usize::from(area.width) / 3),
        false => full.clone(),
    };
    let widest = names.iter().map(|l| l.width()).max().unwrap_or(0);
    let head = (widest + 3).max(13).min(usize::from(area.width) / 3) as u16;
    let room_for = |cell: u16| usize::from(area.width.saturating_sub(head + SUM) / cell);
    let cell = if room_for(CELL) >= n { CELL } else { NARROW };
    // a wide screen spreads the columns rather than leaving them in a corner
    let cell = if room_for(CELL) >= n {
        ((area.width - head - SUM) / n as u16).clamp(CELL, 12)
    } else {
        cell
    };
    let legend = area.height >= 8;
    let room = usize::from(area.height) - 2 - usize::from(legend) * 2;
    // with room to spare, cells are visually square
    let high = if n * 3 <= room {
        3
    } else if n * 2 <= room {
        2
    } else {
        1
    };
    let (row_at, column_at) = place(app, app.pick);
    let shown = |room: usize, cursor| {
        let first = window(n, room, cursor);
        first..n.min(first + room)
    };
    let (lines, columns) = (shown(room / high, row_at), shown(room_for(cell).max(1), column_at));
    let max = (0..n)
        .flat_map(|i| (0..n).map(move |j| (i, j)))
        .map(|(i, j)| app.measure(m.get(i, j)))
        .max()
        .unwrap_or(0);
    let max_sum =
        (0..n).flat_map(|i| [m.sent(i), m.received(i)]).map(|c| app.measure(c)).max().unwrap_or(0);
    let text = |c: Count, width: u16| {
        let width = usize::from(width) - 1;
        let text = app.number(c);
        let text = if text.width() > width { text.replace(' ', "") } else { text };
        format!("{text:>width$}")
    };
    let width = usize::from(cell) - 1;
    let one = |c: Count| if c.is_zero() { format!("{:>width$}", "·") } else { text(c, cell) };
    let line =
        |i: usize| (columns.clone().map(|j| one(m.get(i, j))).collect(), text(m.sent(i), SUM));
    let above = |i: usize| format!("{:>width$}", shorten(&short(i), width));
    Grid {
        heads: (0..n).map(above).collect(),
        cells: lines.clone().map(line).collect(),
        received: columns.clone().map(|j| text(m.received(j), cell)).collect(),
        total: text(m.total(), SUM),
        greatest: if max == 0 { String::new() } else { app.number(largest(app)) },
        names: names.iter().map(|name| shorten(name, usize::from(head) - 2)).collect(),
        head,
        cell,
        high,
        legend,
        lines,
        columns,
        max,
        max_sum,
    }
}

/// The position of the selection in the matrix.
fn place(app: &App, pick: Option<Pick>) -> (Option<usize>, Option<usize>) {
    let m = &app.picture.matrix;
    match pick {
        Some(Pick::End(e)) => (m.index(e), None),
        Some(Pick::Pair(a, b)) => (m.index(a), m.index(b)),
        None => (None, None),
    }
}

/// Draws the matrix into the area that it was prepared for.
pub fn draw(app: &App, look: &Look, grid: &Grid, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let m = &app.picture.matrix;
    if grid.lines.is_empty() || grid.names.len() != m.len() {
        return;
    }
    let n = m.len();
    let &Grid { head, cell, high, max, max_sum, .. } = grid;
    let (row, column) = place(app, app.picked());
    let (top, left, last_column) = (grid.lines.start, grid.columns.start, grid.columns.end);
    let cell_x = |j: usize| area.x + head + (j - left) as u16 * cell;
    let sum_x = cell_x(last_column);
    let selected = row.is_some();

    // headlines
    buf.set_stringn(area.x + 1, area.y, "from ↓  to →", usize::from(head), look.faint);
    for j in left..last_column {
        let style = if selected && column != Some(j) && row != Some(j) {
            look.dim
        } else {
            look.end(m.ends[j])
        };
        buf.set_stringn(cell_x(j), area.y, &grid.heads[j], usize::from(cell) - 1, style);
        hits.add(Rect::new(cell_x(j), area.y, cell, 1), Hit::Pick(Pick::End(m.ends[j])));
    }
    buf.set_stringn(sum_x + 1, area.y, format!("{:>7}", "sent"), usize::from(SUM), look.dim);

    for (i, (texts, sent)) in grid.lines.clone().zip(&grid.cells) {
        let y = area.y + 1 + ((i - top) * high + high / 3) as u16;
        let marked = app.marks.contains(&m.ends[i]);
        let here = row == Some(i);
        let line = Rect::new(area.x, y, area.width.min(head), 1);
        if here {
            buf.set_style(line, look.cursor);
        }
        let style =
            if selected && !here && column != Some(i) { look.dim } else { look.end(m.ends[i]) };
        buf.set_string(
            area.x,
            y,
            if marked {
                "●"
            } else if here {
                "▌"
            } else {
                " "
            },
            if marked { look.accent } else { style },
        );
        buf.set_stringn(area.x + 1, y, &grid.names[i], usize::from(head) - 1, style);
        hits.add(line, Hit::Pick(Pick::End(m.ends[i])));
        for (j, text) in grid.columns.clone().zip(texts) {
            let c = m.get(i, j);
            let area = Rect::new(cell_x(j), y, cell - 1, 1);
            let lit = match app.picked() {
                None => true,
                Some(Pick::End(e)) => e == m.ends[i] || e == m.ends[j],
                Some(p) => p.includes(m.ends[i], m.ends[j]),
            };
            let exact = here && column == Some(j);
            if c.is_zero() {
                let style = if exact { look.cell } else { look.faint };
                buf.set_stringn(area.x, y, text, usize::from(cell), style);
            } else {
                let style = match () {
                    () if exact => look.cell,
                    () if lit => look.heat(heat(app.measure(c), max)),
                    () => look.heat_dim(heat(app.measure(c), max)),
                };
                pad(look, area, high, style, buf);
                buf.set_stringn(area.x, y, text, usize::from(cell) - 1, style);
            }
            if app.is_wrong(m.ends[i], m.ends[j]) {
                buf.set_string(area.x + cell - 1, y, "!", look.bad);
            }
            let whole = Rect { y: y - (high / 3) as u16, width: cell, height: high as u16, ..area };
            hits.add(whole, Hit::Pick(Pick::Pair(m.ends[i], m.ends[j])));
        }
        let style = sum_style(app, look, m.sent(i), max_sum, selected && !here);
        buf.set_stringn(sum_x, y, sent, usize::from(SUM) - 1, style);
    }
    // what each end received, below
    let y = area.y + 1 + (grid.lines.len() * high) as u16;
    buf.set_stringn(area.x + 1, y, "received", usize::from(head) - 1, look.dim);
    for (j, text) in grid.columns.clone().zip(&grid.received) {
        let dim = selected && column != Some(j) && row != Some(j);
        let style = sum_style(app, look, m.received(j), max_sum, dim);
        buf.set_stringn(cell_x(j), y, text, usize::from(cell) - 1, style);
    }
    let style = sum_style(app, look, m.total(), max_sum, false);
    buf.set_stringn(sum_x, y, &grid.total, usize::from(SUM) - 1, style);

    if grid.legend {
        let hidden = (n - grid.columns.len(), n - grid.lines.len());
        let y = (y + 2).min(area.bottom() - 1);
        let mut spans = vec![Span::styled(" 0 · ", look.faint)];
        let steps = 16;
        spans.extend((0..steps).map(|k| {
            Span::styled(" ", look.heat(0.05 + 0.95 * f64::from(k) / f64::from(steps - 1)))
        }));
        spans.push(Span::styled(format!(" {} {} ", grid.greatest, app.unit_name()), look.dim));
        spans.push(Span::styled("logarithmic", look.faint));
        if hidden.0 + hidden.1 > 0 {
            spans.push(Span::styled(format!(" · {n} × {n}, move to see the rest"), look.dim));
        }
        Line::from(spans).render(Rect::new(area.x, y, area.width, 1), buf);
    }
    hits.wheel(area, Action::Up, Action::Down);
}

/// Fills a cell's background; if cells are high, with a gap below.
fn pad(look: &Look, area: Rect, high: usize, style: Style, buf: &mut Buffer) {
    let top = area.y - (high / 3) as u16;
    let whole = Rect { y: top, height: high as u16, ..area };
    buf.set_style(whole, style);
    if high > 1 && style.bg.is_some() {
        let gap = style.fg(look.theme.base().bg.unwrap_or_default());
        buf.set_string(area.x, whole.bottom() - 1, "▃".repeat(usize::from(area.width)), gap);
    }
}

/// The largest cell.
fn largest(app: &App) -> Count {
    let m = &app.picture.matrix;
    (0..m.len())
        .flat_map(|i| (0..m.len()).map(move |j| m.get(i, j)))
        .max_by_key(|c| app.measure(*c))
        .unwrap_or_default()
}

/// The style of a total: brighter if larger.
fn sum_style(app: &App, look: &Look, c: Count, max: u64, dim: bool) -> Style {
    match () {
        () if c.is_zero() => look.faint,
        () if dim => look.dim,
        () if heat(app.measure(c), max) > 0.8 => look.strong,
        () => look.text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heat_is_logarithmic_and_never_zero_for_traffic() {
        assert_eq!(heat(0, 100), 0.0);
        assert_eq!(heat(100, 100), 1.0);
        assert!((heat(1, 100) - 0.5).abs() < 1e-9);
        assert_eq!(heat(1, u64::MAX), 0.05);
        assert_eq!(heat(5, 0), 0.0);
    }

    #[test]
    fn the_cursor_is_in_the_window() {
        for n in 0..30 {
            for room in 1..40 {
                for c in 0..n {
                    let w = window(n, room, Some(c));
                    assert!((w..w + room).contains(&c));
                    assert!(w == 0 || w + room <= n);
                }
            }
        }
    }
}
