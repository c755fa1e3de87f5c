// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table: every row in scope, by any column.
use std::ops::Range;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line as TextLine, Span},
    widgets::Widget,
};
use unicode_width::UnicodeWidthStr;

use model::{
    flow::{Count, HookKind, Inner, Pair},
    groups::Group,
    lane::Balance,
    lines::{Column, Line},
    matrix::End,
    rtt::three_digits,
    text::{apart, fit, shared_prefix, shorten},
    trend,
    units::sanitize,
};

use crate::{
    app::App,
    hits::{Hit, Hits},
    keys::Action,
    look::Look,
    spark,
};

fn title(column: Column) -> &'static str {
    match column {
        Column::Interface => "iface",
        Column::Kind => "tunnel",
        Column::Id => "id",
        Column::Inside => "inside",
        Column::Outer => "hosts",
        Column::Groups => "groups",
        Column::Inner => "inner",
        Column::Forward => "→ sent",
        Column::Reverse => "← sent",
        Column::Rx => "rx",
        Column::Tx => "tx",
        Column::Dropped => "dropped",
        Column::SeqLost => "seq_lost",
        Column::Syn => "syn",
        Column::Rtt => "rtt",
        Column::Sent => "sent",
        Column::Received => "received",
        Column::Lost => "lost",
        Column::Rate => "rate",
        Column::Total => "total",
    }
}

/// Whether a column holds numbers, which are right-aligned and sorted largest first.
fn is_number(column: Column) -> bool {
    matches!(
        column,
        Column::Forward
            | Column::Reverse
            | Column::Rx
            | Column::Tx
            | Column::Dropped
            | Column::SeqLost
            | Column::Syn
            | Column::Rtt
            | Column::Sent
            | Column::Received
            | Column::Lost
            | Column::Rate
            | Column::Total
    )
}

/// The order in which columns are left out for want of room: the highest first. Columns with
/// problems, and the one that the rows are sorted by, go last.
fn dispensable(column: Column, stays: bool) -> u8 {
    match column {
        _ if stays => 0,
        Column::Dropped | Column::SeqLost => 9,
        Column::Syn => 10,
        Column::Lost => 3,
        Column::Sent | Column::Received => 8,
        Column::Outer | Column::Inner | Column::Rate => 0,
        Column::Id => 1,
        Column::Kind => 2,
        Column::Forward | Column::Reverse => 3,
        // These are there because the user asked for measurements.
        Column::Total | Column::Rtt => 4,
        Column::Groups => 5,
        Column::Interface => 6,
        Column::Inside => 7,
        Column::Rx | Column::Tx => 8,
    }
}

/// Whether this column reports a problem with a row.
fn is_alarming(column: Column, line: &Line) -> bool {
    match column {
        Column::Dropped => line.dropped.is_some_and(|n| !n.is_zero()),
        Column::SeqLost => line.seq_lost.is_some_and(|n| n > 0),
        Column::Syn => line.syn.is_some_and(|n| n.unanswered > 0),
        Column::Lost => line.ends.is_some_and(|n| matches!(n.balance(), Balance::Lost(_))),
        _ => false,
    }
}

/// Whether the kernel dropped packets of a row, or packets of its tunnel are missing.
fn is_losing(line: &Line) -> bool {
    [Column::Dropped, Column::SeqLost, Column::Lost]
        .into_iter()
        .any(|column| is_alarming(column, line))
}

/// How much space the texts may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    /// Omit from the second address of a pair what it shares with the first.
    short: bool,
    /// Omit the units of numbers.
    bare: bool,
    /// How many leading bytes all outer and all inner addresses share, which are omitted.
    cut: [usize; 2],
    /// The maximum width of a name.
    name: usize,
    /// The space between columns.
    gap: usize,
}

impl Room {
    const AMPLE: Room = Room { short: false, bare: false, cut: [0; 2], name: usize::MAX, gap: 2 };

    /// The settings to try, the most generous first; the last one must do.
    fn all(lines: &[Line]) -> [Room; 4] {
        let shared = |pair: &dyn Fn(&Line) -> Option<Pair>| {
            let both = lines
                .iter()
                .filter_map(pair)
                .flat_map(|p| [p.first.to_string(), p.second.to_string()]);
            shared_prefix(&both.collect::<Vec<_>>())
        };
        let cut = [shared(&|l| l.key.outer), shared(&|l| l.key.inner.pair())];
        let short = Room { short: true, name: 24, ..Room::AMPLE };
        let bare = Room { bare: true, name: 18, ..short };
        [Room::AMPLE, short, bare, Room { cut, name: 13, gap: 1, ..bare }]
    }

    /// Two addresses in one cell.
    fn pair(&self, p: Pair, cut: usize) -> String {
        let (a, b) = (p.first.to_string(), p.second.to_string());
        if self.short
            && p.first.is_ipv4() == p.second.is_ipv4()
            && let Some(sep) = a.rfind(['.', ':'])
            && b.get(..=sep) == a.get(..=sep)
        {
            return format!("{} ⇄{}", &a[cut.min(sep)..], &b[sep..]);
        }
        format!("{} ⇄ {}", a.get(cut..).unwrap_or(&a), b.get(cut..).unwrap_or(&b))
    }
}

/// A pair with at least one name to show.
fn named(app: &App, p: Pair, inner: bool, room: Room) -> Option<String> {
    if app.numeric {
        return None;
    }
    let names = [p.first, p.second].map(|a| app.names.address(a, inner));
    names.iter().any(Option::is_some).then(|| {
        let [a, b] = names;
        let both =
            [a.unwrap_or_else(|| p.first.to_string()), b.unwrap_or_else(|| p.second.to_string())];
        apart(&both, room.name).join(" ⇄ ")
    })
}

/// The groups of a row's hosts: one path if both are in the same group.
fn groups(app: &App, line: &Line, room: Room) -> String {
    let path = |group: Option<Group>| group.map_or("-", |group| app.group_path(group)).to_owned();
    match line.groups {
        [None, None] => "-".to_owned(),
        [a, b] if a == b => shorten(&path(a), room.name),
        both => both.map(|group| shorten(&path(group), room.name)).join(" ⇄ "),
    }
}

fn cell(app: &App, column: Column, line: &Line, room: Room) -> String {
    let rate = app.rate.then_some(app.picture.elapsed);
    let one = |c: Count| match room.bare {
        true => app.number(c),
        false => app.quantity_over(c, rate).to_string(),
    };
    match column {
        Column::Interface => app
            .picture
            .interfaces
            .get(usize::from(line.interface))
            .map_or(String::new(), |i| sanitize(&i.name).into_owned()),
        Column::Kind => line.key.outermost.kind.to_string(),
        Column::Id => line.key.outermost.id.map_or(String::new(), |id| id.to_string()),
        Column::Inside => match (line.key.innermost, line.key.depth) {
            (Some(t), 2) => t.to_string(),
            (Some(t), n) => format!("{t} ({n} deep)"),
            (None, _) => String::new(),
        },
        Column::Outer => line.key.outer.map_or_else(
            || "overflow".to_owned(),
            |p| named(app, p, false, room).unwrap_or_else(|| room.pair(p, room.cut[0])),
        ),
        Column::Groups => groups(app, line, room),
        Column::Inner => match line.key.inner {
            _ if line.key.other => "other".to_owned(),
            Inner::Pair(p) => {
                named(app, p, true, room).unwrap_or_else(|| room.pair(p, room.cut[1]))
            }
            Inner::Proto(p) => p.to_string(),
        },
        Column::Forward => one(line.counters.fwd()),
        Column::Reverse => one(line.counters.rev()),
        Column::Rx => one(line.counters.rx()),
        Column::Tx => one(line.counters.tx()),
        Column::Dropped => line.dropped.map_or("-".to_owned(), |n| n.packets.to_string()),
        Column::SeqLost => line.seq_lost.map_or("-".to_owned(), |n| n.to_string()),
        Column::Syn => line.syn.map_or("-".to_owned(), |n| match n.unanswered {
            0 => n.syns.to_string(),
            unanswered => format!("{unanswered}/{}", n.syns),
        }),
        Column::Rtt => line.rtt.map_or(String::new(), three_digits),
        Column::Sent => line.ends.map_or("-".to_owned(), |n| one(n.sent)),
        Column::Received => line.ends.map_or("-".to_owned(), |n| one(n.received)),
        Column::Lost => line.ends.map_or("-".to_owned(), |n| n.to_string()),
        Column::Rate if room.bare && app.rate => line.rate.map_or("-".to_owned(), one),
        Column::Rate => line.rate.map_or("-".to_owned(), |c| {
            app.quantity_over(c, Some(app.interval_elapsed())).to_string()
        }),
        Column::Total => {
            line.total.map_or("-".to_owned(), |c| app.quantity_over(c, None).to_string())
        }
    }
}

/// A column as written: its width, and a text for each line.
#[derive(Clone, Debug)]
struct Texts {
    column: Column,
    width: usize,
    cells: Vec<String>,
}

/// All columns that are not empty.
fn columns(app: &App, lines: &[Line], width: usize, room: Room) -> Vec<Texts> {
    let nested = lines.iter().any(|l| l.key.innermost.is_some());
    let of_fleet = app.picture.interfaces.iter().any(|i| i.hook == HookKind::Fleet);
    let several = app.picture.interfaces.len() > 1;
    let grouped = lines.iter().any(|l| l.groups.iter().any(Option::is_some));
    let least = if room.bare { 6 } else { 9 };
    Column::ALL
        .iter()
        .filter(|c| {
            (**c != Column::Inside || nested)
                && (**c != Column::Groups || grouped)
                && (**c != Column::Dropped || app.picture.drops.is_some())
                && (**c != Column::SeqLost || lines.iter().any(|l| l.seq_lost.is_some()))
                && (**c != Column::Syn || lines.iter().any(|l| l.syn.is_some()))
                && (**c != Column::Rtt || lines.iter().any(|l| l.rtt.is_some()))
                && (!matches!(**c, Column::Sent | Column::Received | Column::Lost) || of_fleet)
                && (**c != Column::Interface || several || width > 150)
        })
        .map(|&c| {
            let cells: Vec<String> = lines.iter().map(|l| cell(app, c, l, room)).collect();
            let content = cells.iter().map(|text| text.width()).max().unwrap_or(0);
            let title = title(c).width() + if c == app.sort { 2 } else { 0 };
            let width = content.max(title).max(if is_number(c) { least } else { 0 }).min(80);
            Texts { column: c, width, cells }
        })
        .collect()
}

fn wide<'a>(columns: impl Iterator<Item = &'a Texts>, gap: usize) -> usize {
    columns.map(|c| c.width + gap).sum::<usize>().saturating_sub(gap)
}

/// The columns that fit, and the space between them.
fn fitting(app: &App, lines: &[Line], width: usize) -> (Vec<Texts>, usize) {
    let rooms = Room::all(lines);
    // shorten texts before leaving out columns, but omit units only to keep what is sent each way
    let stays = |column| column == app.sort || lines.iter().any(|line| is_alarming(column, line));
    let rank = |c: &Texts| dispensable(c.column, stays(c.column));
    for (i, room) in rooms.into_iter().enumerate() {
        let mut list = columns(app, lines, width, room);
        let must = list.iter().filter(|c| rank(c) <= 5);
        if wide(must, room.gap) > width && i + 1 < rooms.len() {
            continue;
        }
        while wide(list.iter(), room.gap) > width
            && let Some(most) = list.iter().map(rank).max().filter(|r| *r > 0)
        {
            list.retain(|c| rank(c) < most); // rx and tx go together
        }
        return (list, room.gap);
    }
    (vec![], Room::AMPLE.gap)
}

/// The visible part of the table, as text.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The lines that are shown, in the picture's list.
    lines: Range<usize>,
    cursor: Option<usize>,
    columns: Vec<Texts>,
    gap: usize,
    /// The ends of each line at the level shown.
    ends: Vec<(End, End)>,
}

/// Writes the table for an area.
pub fn prepare(app: &App, area: Rect) -> Page {
    let lines = &app.picture.lines;
    if area.height < 2 || area.width < 4 || lines.list.is_empty() {
        return Page::default();
    }
    let room = usize::from(area.height) - 1;
    let cursor = app.row.and_then(|r| lines.index(r));
    let last = lines.list.len() + usize::from(lines.more > 0);
    let first = cursor.map_or(0, |c| c.saturating_sub(room / 2)).min(last.saturating_sub(room));
    let shown = first.min(lines.list.len())..(first + room).min(lines.list.len());
    let page = &lines.list[shown.clone()];
    let (mut columns, gap) = fitting(app, page, usize::from(area.width).saturating_sub(1));
    let scroll = app.scroll.min(columns.len().saturating_sub(1));
    columns.drain(..scroll);
    let scope = app.scope();
    let ends = page.iter().map(|line| scope.shown(&line.flow())).collect();
    Page { lines: shown, cursor, columns, gap, ends }
}

/// Draws the table into the area that it was written for.
pub fn draw(app: &App, look: &Look, written: &Page, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let lines = &app.picture.lines;
    let Some(page) = lines.list.get(written.lines.clone()).filter(|page| !page.is_empty()) else {
        return;
    };
    let (first, cursor, gap) = (written.lines.start, written.cursor, written.gap);
    let shown = &written.columns;
    let width = usize::from(area.width).saturating_sub(1);
    let used = wide(shown.iter(), gap) + 2;
    let trend = width.saturating_sub(used).min(trend::ROWS);

    // headlines
    let mut x = area.x + 1;
    let right = area.right();
    for &Texts { column, width: w, .. } in shown {
        let w16 = (w as u16).min(right.saturating_sub(x));
        let arrow = match (column == app.sort, is_number(column) != app.reversed) {
            (false, _) => "",
            (true, true) => " ▾",
            (true, false) => " ▴",
        };
        let style = if column == app.sort { look.accent } else { look.dim };
        let text = format!("{}{arrow}", title(column));
        let text = if is_number(column) { format!("{text:>w$}") } else { text };
        buf.set_stringn(x, area.y, fit(&text, usize::from(w16)), usize::from(w16), style);
        hits.add(Rect::new(x, area.y, w16, 1), Hit::Column(column));
        x = x.saturating_add((w + gap) as u16);
        if x >= right {
            break;
        }
    }
    if trend >= 8 && x < right {
        buf.set_stringn(x, area.y, "trend", trend, look.dim);
    }

    for (i, line) in page.iter().enumerate() {
        let y = area.y + 1 + i as u16;
        let row = Rect::new(area.x, y, area.width, 1);
        let chosen = cursor == Some(first + i);
        let ends = written.ends.get(i);
        let dimmed = !chosen
            && app.row.is_none()
            && app.picked().zip(ends).is_some_and(|(p, (a, b))| !p.includes(*a, *b));
        if chosen {
            buf.set_style(row, look.cursor);
            buf.set_string(area.x, y, "▌", look.accent);
        }
        if is_losing(line) || app.found.concerns_row(&line.key) {
            buf.set_string(area.x, y, "!", look.bad);
        }
        let mut x = area.x + 1;
        for &Texts { column, width: w, ref cells } in shown {
            if x >= right {
                break;
            }
            let room = usize::from(right - x).min(w);
            let text = cells.get(i).map_or("", String::as_str);
            let style = match column {
                _ if dimmed => look.faint,
                Column::Kind | Column::Id => look.text,
                Column::Inside | Column::Interface | Column::Groups => look.dim,
                Column::Total => look.dim,
                _ if is_alarming(column, line) => look.bad,
                Column::Rate => look.strong,
                Column::Inner if line.key.inner.pair().is_none() => look.dim,
                _ if text.starts_with("0 ") || text.starts_with("0/") || text == "0" => look.faint,
                _ => look.text,
            };
            if matches!(column, Column::Outer | Column::Inner)
                && !dimmed
                && line.key.inner.pair().is_some()
            {
                pair_spans(look, column, line, text, style)
                    .render(Rect::new(x, y, room as u16, 1), buf);
            } else {
                let text = fit(text, room);
                let pad = if is_number(column) { room.saturating_sub(text.width()) } else { 0 };
                buf.set_stringn(x + pad as u16, y, &text, room - pad, style);
            }
            x = x.saturating_add((w + gap) as u16);
        }
        if trend >= 8 && x < right {
            let values = app.trend_of_row(line);
            let values = &values[values.len().saturating_sub(trend)..];
            let style = if dimmed { look.faint } else { look.spark };
            spark::low(values, Rect::new(x, y, (trend as u16).min(right - x), 1), buf, style);
        }
        hits.add(row, Hit::Row(line.interface, line.key));
    }
    if lines.more > 0 && first + usize::from(area.height) - 1 > lines.list.len() {
        let y = area.y + 1 + page.len() as u16;
        if y < area.bottom() {
            let text = format!("and {} smaller rows: filter with / to see them", lines.more);
            buf.set_stringn(area.x + 1, y, text, width, look.dim);
        }
    }
    hits.wheel(area, Action::Up, Action::Down);
}

/// The pair with each address in its end's colour where the ends are on the chord.
fn pair_spans<'a>(
    look: &Look,
    column: Column,
    line: &Line,
    text: &'a str,
    style: Style,
) -> TextLine<'a> {
    let pair = if column == Column::Outer { line.key.outer } else { line.key.inner.pair() };
    let (Some(p), Some((a, b))) = (pair, text.split_once(" ⇄")) else {
        return TextLine::styled(text, style);
    };
    let of = |addr| look.end_if_known(End::Addr(addr)).unwrap_or(style);
    TextLine::from(vec![
        Span::styled(a, of(p.first)),
        Span::styled(" ⇄", look.faint),
        Span::styled(b, of(p.second)),
    ])
}
