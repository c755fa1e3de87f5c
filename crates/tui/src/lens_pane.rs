// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lens: the contents of packets of the selected rows, below the view.
use std::cmp::Reverse;

use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use export::lens::{flags, outer_inner};
use model::{
    filter::l4_name,
    flow::Count,
    lens::{Lens, LensSum},
    rtt::{three_digits, where_time_goes},
    text::fit,
    units::{self, percent, sanitize},
};

use crate::{app::App, look::Look, spark};

/// One column: its cells, and the order in which columns are left out for want of room (the highest
/// rank first).
struct Cells {
    title: &'static str,
    right: bool,
    rank: u8,
    cells: Vec<String>,
}

impl Cells {
    fn width(&self) -> usize {
        self.cells.iter().map(|c| c.width()).chain([self.title.width()]).max().unwrap_or(0)
    }

    fn written(&self, text: &str) -> String {
        let pad = " ".repeat(self.width() - text.width().min(self.width()));
        if self.right { format!("{pad}{text}") } else { format!("{text}{pad}") }
    }
}

/// The minimum width of the bar, if there is one.
const BAR: usize = 6;

/// Writes the pane: a heading, and as many lines as fit.
pub fn prepare(app: &App, look: &Look, width: usize, height: usize) -> Vec<Line<'static>> {
    let Some((lens, sums)) = &app.lens else { return Vec::new() };
    let mut lines = vec![headline(look, lens, width)];
    if sums.is_empty() {
        let text = "no packet of these rows has passed since";
        lines.push(Line::from(Span::styled(format!(" {text}"), look.dim)));
        return lines;
    }
    let times = times(app, look, lens, width, height / 3);
    let height = height.saturating_sub(times.len());
    // The headings, and perhaps the line for what is left out.
    let room = height.saturating_sub(2);
    let shown = if sums.len() > room { room.saturating_sub(1) } else { sums.len() };
    let (list, rest) = sums.split_at(shown);
    let all: Count = sums.iter().map(|s| s.count).sum();
    let mut columns = columns(app, list, all);
    let wide = |columns: &[Cells]| columns.iter().map(|c| c.width() + 2).sum::<usize>();
    while wide(&columns) > width
        && let Some(most) = columns.iter().map(|c| c.rank).max().filter(|rank| *rank > 0)
    {
        columns.retain(|c| c.rank < most);
    }
    let titles: String = columns.iter().map(|c| format!("{}  ", c.written(c.title))).collect();
    lines.push(Line::from(Span::styled(format!(" {titles}"), look.dim)));
    let free = width.saturating_sub(wide(&columns) + 2);
    let greatest = list.iter().map(|s| s.count.packets).max().unwrap_or(0);
    for (i, sum) in list.iter().enumerate() {
        let cells = columns.iter().map(|c| {
            let text = c.cells.get(i).map_or("", String::as_str);
            let style = if c.title == "packets" { look.strong } else { look.text };
            Span::styled(format!("{}  ", c.written(text)), style)
        });
        let mut spans: Vec<_> = [Span::raw(" ")].into_iter().chain(cells).collect();
        if free >= BAR {
            let bar = spark::share(sum.count.packets, greatest, free.min(40));
            spans.push(Span::styled(bar, look.spark));
        }
        lines.push(Line::from(spans));
    }
    if !rest.is_empty() {
        let left: Count = rest.iter().map(|s| s.count).sum();
        let text = format!(" and {} more with {} packets", rest.len(), left.packets);
        lines.push(Line::from(Span::styled(text, look.dim)));
    }
    lines.truncate(height);
    lines.extend(times);
    lines
}

/// The number of lines below the headings, while a lens is open.
pub fn lines(app: &App) -> Option<usize> {
    let (lens, sums) = app.lens.as_ref()?;
    let ways = lens.timed.iter().flat_map(|t| t.rows.values()).flatten();
    Some(sums.len() + ways.filter(|way| !way.is_empty()).count().min(3))
}

/// Round-trip times: a line for each end of the rows with the most samples.
fn times(app: &App, look: &Look, lens: &Lens, width: usize, most: usize) -> Vec<Line<'static>> {
    let Some(timed) = lens.timed.as_ref().filter(|t| !t.rows.is_empty()) else { return vec![] };
    let mut rows: Vec<_> = timed.rows.iter().collect();
    rows.sort_by_key(|(_, ways)| Reverse(ways[0].samples + ways[1].samples));
    let mut lines = Vec::new();
    for ((_, key), ways) in &rows {
        for (reverse, n) in [false, true].into_iter().zip(*ways).filter(|(_, n)| !n.is_empty()) {
            let Some(pair) = key.inner.pair() else { continue };
            let to = if reverse { pair.first } else { pair.second };
            let to = app.names.address(to, true).filter(|_| !app.numeric).unwrap_or(to.to_string());
            let time = |percent| n.percentile(percent).map_or("-".to_owned(), three_digits);
            let least = n.extremes().map_or("-".to_owned(), |[least, _]| three_digits(least));
            let bad = [
                (n.retransmitted, "retransmitted"),
                (n.out_of_order, "out of order"),
                (n.duplicate_acks, "dup acks"),
                (n.zero_windows, "zero windows"),
            ];
            let bad = bad.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!(", {n} {what}"));
            let bad: String = bad.collect();
            let way = if reverse { "←" } else { "→" };
            let text = format!(" rtt {way} {to}: {least}, p50 {}, p99 {}", time(50), time(99));
            let samples = format!(", {} samples", n.samples);
            let style = if n.retransmitted > 0 { look.warn } else { look.dim };
            lines.push(Line::from(vec![
                Span::styled(fit(&text, width).into_owned(), look.text),
                Span::styled(bad, style),
                Span::styled(samples, look.dim),
            ]));
        }
    }
    if let [((_, key), ways)] = rows.as_slice()
        && let Some(text) = where_time_goes(key, ways)
    {
        lines.push(Line::from(Span::styled(format!(" {text}"), look.dim)));
    }
    lines.truncate(most.max(1));
    lines
}

fn headline(look: &Look, lens: &Lens, width: usize) -> Line<'static> {
    let lost = format!(", {} lens-lost", lens.lost);
    let rows = match lens.rows.len() {
        1 => "1 row".to_owned(),
        n => format!("{n} rows"),
    };
    let counts = format!(" {rows}, {} packets", lens.looked_at);
    let end = " · L ends it";
    let used = 6 + counts.width() + lost.width() + end.width();
    let what = fit(&sanitize(&lens.filter), width.saturating_sub(used + 4).max(8)).into_owned();
    let rule = "─".repeat(width.saturating_sub(used + what.width() + 1));
    Line::from(vec![
        Span::styled(" lens ", look.accent),
        Span::styled(what, look.text),
        Span::styled(format!(" {rule}"), look.faint),
        Span::styled(counts, look.dim),
        Span::styled(lost, if lens.lost > 0 { look.warn } else { look.dim }),
        Span::styled(end, look.dim),
    ])
}

/// The value that all have in common, or how many values there are.
fn one_of<T>(all: impl ExactSizeIterator<Item = T>, text: impl Fn(T) -> String) -> String {
    let n = all.len();
    let mut all = all;
    match (n, all.next()) {
        (_, None) => "-".to_owned(),
        (1, Some(only)) => text(only),
        _ => format!("{n} kinds"),
    }
}

fn columns(app: &App, sums: &[LensSum], all: Count) -> Vec<Cells> {
    let column = |title, right, rank, cell: &dyn Fn(&LensSum) -> String| Cells {
        title,
        right,
        rank,
        cells: sums.iter().map(cell).collect(),
    };
    let service = |s: &LensSum| -> Option<&str> {
        let l4 = s.l4?;
        let other = s.others.first().filter(|_| s.others.len() == 1);
        let ports = [s.port, other.copied()];
        ports.into_iter().flatten().find_map(|port| app.names.service(l4, port))
    };
    let tos = |v: &[Option<u8>; 2]| {
        outer_inner(v.map(|tos| tos.map(|t| format!("{}.{}", t >> 2, t & 3))))
    };
    let ttl = |v: &[Option<u8>; 2]| outer_inner(v.map(|ttl| ttl.map(|t| t.to_string())));
    let others = |s: &LensSum| match s.others.len() {
        0 => "-".to_owned(),
        1 => s.others.first().map_or(String::new(), |p| p.to_string()),
        n => format!("{n} ports"),
    };
    let mut columns = vec![
        column("l4", false, 0, &|s| s.l4.map_or("-".into(), l4_name).into_owned()),
        column("port", true, 0, &|s| s.port.map_or("-".to_owned(), |p| p.to_string())),
        column("service", false, 3, &|s| service(s).unwrap_or("-").to_owned()),
        column("other", true, 9, &others),
        column("dscp.ecn", false, 4, &|s| one_of(s.tos.iter(), tos)),
        column("ttl", false, 5, &|s| one_of(s.ttl.iter(), ttl)),
        column("mark", false, 2, &|s| one_of(s.marks.iter(), |mark| mark.to_string())),
        column("flags", false, 6, &|s| flags(s.tcp)),
        column("≤64  >4k", false, 7, &|s| spark::text(&s.sizes)),
        column("packets", true, 0, &|s| s.count.packets.to_string()),
        column("share", true, 1, &|s| percent(s.count.packets, all.packets)),
        column("bytes", true, 8, &|s| units::bytes(s.count.bytes, app.base).to_string()),
    ];
    if sums.iter().any(|s| s.reverse.is_some()) {
        let way = |s: &LensSum| match s.reverse {
            Some(true) => "←".to_owned(),
            Some(false) => "→".to_owned(),
            None => String::new(),
        };
        columns.insert(0, column("", false, 0, &way));
    }
    if sums.iter().all(|s| s.marks.is_empty()) {
        columns.retain(|c| c.title != "mark");
    }
    if app.numeric {
        columns.retain(|c| c.title != "service");
    }
    columns
}
