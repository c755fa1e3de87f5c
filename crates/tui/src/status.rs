// SPDX-License-Identifier: MIT OR Apache-2.0
//! The status line: what is drawn, how much of all traffic that is, and how old it is.
use std::{borrow::Cow, time::Duration};

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::Widget,
};

use feed::series::At;
use model::{
    flow::{Books, Count, HookKind, Stop},
    units::{self, duration, percent, sanitize},
};

use crate::{app::App, look::Look};

/// How much of what was seen was counted into rows, and the stop that took most of the rest.
pub fn coverage(books: &Books) -> (Count, Count, Option<(Stop, Count)>) {
    let both = |c: [Count; 2]| c[0] + c[1];
    let worst = Stop::ALL
        .iter()
        .map(|s| (*s, both(books.stop(*s))))
        .filter(|s| !s.1.is_zero())
        .max_by_key(|s| s.1.packets);
    (both(books.counted), both(books.seen()), worst)
}

/// Whether a stop means that something could not be read, rather than that it was not a tunnel.
pub fn is_fault(stop: Stop) -> bool {
    !matches!(stop, Stop::Plain | Stop::NonIp)
}

/// An age or a duration of less than a minute, to a tenth of a second.
pub fn seconds(d: Duration) -> String {
    if d < Duration::from_secs(60) { format!("{:.1} s", d.as_secs_f64()) } else { duration(d) }
}

/// A piece of the status line.
#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    /// How long ago a moment was, between two texts: the only text that is made while drawing.
    Age {
        since: Duration,
        before: &'static str,
        after: &'static str,
    },
}

impl Piece {
    fn text(&self, now: Duration) -> Cow<'_, str> {
        match self {
            Piece::Text(text) => text.into(),
            Piece::Age { since, before, after } => {
                format!("{before}{}{after}", seconds(now.saturating_sub(*since))).into()
            }
        }
    }
}

impl From<String> for Piece {
    fn from(text: String) -> Piece {
        Piece::Text(text)
    }
}

impl From<&str> for Piece {
    fn from(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }
}

/// The status line: parts, each a number and its word, and perhaps more if there is room.
#[derive(Clone, Debug, Default)]
pub struct StatusLine(Vec<Vec<(Piece, Style)>>);

/// Writes the texts of the status line.
pub(crate) fn prepare(app: &App, look: &Look) -> StatusLine {
    let mut parts: Vec<Vec<(Piece, Style)>> = Vec::new();
    let p = &app.picture;

    if let Some(trouble) = &app.trouble {
        let mut part = vec![(format!("cannot read: {trouble}").into(), look.bad)];
        part.extend(app.read.map(|since| {
            (Piece::Age { since, before: " · last reading ", after: " ago" }, look.bad)
        }));
        parts.push(part);
    }
    if let Some((since, news)) = &app.catching {
        let bytes = units::bytes(news.bytes, app.base);
        let text = format!("● {} packets, {bytes}, {} lost", news.packets, news.lost);
        let style = if news.lost > 0 { look.warn } else { look.good };
        let so_long = Piece::Age { since: *since, before: " in ", after: ", w stops it" };
        parts.push(vec![(text.into(), style), (so_long, look.dim)]);
    }
    for i in p.interfaces.iter().filter(|i| i.stale) {
        parts.push(vec![(format!("{} not read", sanitize(&i.name)).into(), look.bad)]);
    }
    if let At::Past(here) = app.series.at() {
        let mut events = app.series.events().filter(|e| e.0 == here).map(|e| &e.1);
        if let Some(first) = events.next() {
            let more = match events.count() {
                0 => String::new(),
                1 => " and 1 more change".to_owned(),
                n => format!(" and {n} more changes"),
            };
            let text = sanitize(&first.text).into_owned();
            let part = vec![(text.into(), look.good), (more.into(), look.dim)];
            parts.push(part);
        }
    }
    match (app.rate, p.number) {
        (_, None) if app.read.is_none() => parts.push(vec![("no reading yet".into(), look.warn)]),
        (true, None) => parts.push(vec![("the first interval is being counted".into(), look.dim)]),
        (true, _) => {
            parts.push(vec![(seconds(p.elapsed).into(), look.text), (" drawn".into(), look.dim)])
        }
        (false, _) => {
            parts.push(vec![("total of ".into(), look.dim), (seconds(p.elapsed).into(), look.text)])
        }
    }
    if let [bad, notes] = app.found.open()
        && bad + notes > 0
    {
        let number = |n: usize, word: &str, style| {
            (n > 0).then(|| (Piece::from(format!("{n} {word}")), style))
        };
        let comma = (bad > 0 && notes > 0).then(|| (", ".into(), look.dim));
        let words = [number(bad, "bad", look.bad), comma];
        parts.push(words.into_iter().flatten().chain(number(notes, "to note", look.dim)).collect());
    }
    let books = p.books;
    let (counted, seen, worst) = coverage(&books);
    if seen.packets > 0 {
        let style = match worst {
            Some((s, _)) if is_fault(s) => look.warn,
            _ => look.good,
        };
        let mut part = vec![
            (percent(counted.packets, seen.packets).into(), style),
            (" counted".into(), look.dim),
        ];
        if let Some((stop, n)) = worst {
            part.push((
                format!(", {} {}", stop.name(), percent(n.packets, seen.packets)).into(),
                if is_fault(stop) { look.warn } else { look.dim },
            ));
        }
        parts.push(part);
    } else if p.number.is_some() {
        parts.push(vec![("no packet seen".into(), look.dim)]);
    }
    let [both, all] = p.with_both_ends;
    if all > 0 {
        let part =
            vec![(percent(both, all).into(), look.text), (" with both ends".into(), look.dim)];
        parts.push(part);
    }
    let hosts = p.interfaces.iter().filter(|i| i.hook == HookKind::Fleet);
    let heard = hosts.clone().filter(|i| i.live().is_some()).count();
    let all = hosts.count();
    if heard < all {
        parts.push(vec![(format!("{heard} of {all} hosts").into(), look.warn)]);
    }
    let dropped = p.drops.as_ref().map_or(0, |drops| drops.total().attributed.packets);
    if dropped > 0 {
        parts.push(vec![(format!("{dropped} dropped").into(), look.warn)]);
    }
    let faults: u64 = Stop::ALL
        .iter()
        .filter(|s| is_fault(**s))
        .flat_map(|s| books.stop(*s))
        .map(|c| c.packets)
        .sum();
    if faults > 0 {
        parts.push(vec![(format!("{faults} unreadable").into(), look.warn)]);
    }
    if !p.tally.other.is_zero() {
        parts.push(vec![(
            format!("other {}", percent(p.tally.other.bytes, p.tally.total.bytes)).into(),
            look.warn,
        )]);
    }
    let suspect: u64 = books.suspect.iter().map(|c| c.packets).sum();
    if suspect > 0 {
        parts.push(vec![(format!("{suspect} suspect").into(), look.warn)]);
    }
    if let Some(fullest) = p
        .interfaces
        .iter()
        .map(|i| i.fill)
        .filter(|f| f.size > 0)
        .max_by_key(|f| f.used * 1000 / f.size)
    {
        let style = if fullest.used * 10 >= fullest.size * 9 { look.warn } else { look.text };
        parts.push(vec![
            ("table ".into(), look.dim),
            (percent(fullest.used, fullest.size).into(), style),
        ]);
    }
    let mut hooks: Vec<&str> = p.interfaces.iter().map(|i| i.hook.name()).collect();
    hooks.sort_unstable();
    hooks.dedup();
    if !hooks.is_empty() {
        parts.push(vec![(hooks.join("+").into(), look.dim)]);
    }
    if let (Some(since), None, false) = (app.read, &app.trouble, app.series.ends()) {
        let what = if app.series.at() == At::Live { " old" } else { " since the last reading" };
        let age = Piece::Age { since, before: "", after: "" };
        parts.push(vec![(age, look.text), (what.into(), look.dim)]);
    }
    StatusLine(parts)
}

/// Draws the status line. What does not fit is left out: the second half of a part, or all of it.
pub(crate) fn draw(status: &StatusLine, look: &Look, now: Duration, area: Rect, buf: &mut Buffer) {
    let room = usize::from(area.width).saturating_sub(1);
    let width = |part: &[Span<'_>]| part.iter().map(Span::width).sum::<usize>();
    let mut spans = vec![Span::raw(" ")];
    let mut used = 1;
    for (i, part) in status.0.iter().enumerate() {
        let texts = part.iter().map(|(piece, style)| Span::styled(piece.text(now), *style));
        let mut part: Vec<Span<'_>> = texts.collect();
        let sep = if i > 0 { 3 } else { 0 };
        while i > 0 && part.len() > 2 && used + sep + width(&part) > room {
            part.pop();
        }
        if i > 0 && used + sep + width(&part) > room {
            continue;
        }
        if i > 0 {
            spans.push(Span::styled(" · ", look.faint));
        }
        used += sep + width(&part);
        spans.extend(part);
    }
    Line::from(spans).render(area, buf);
}
