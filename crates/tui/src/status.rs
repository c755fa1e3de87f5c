// SPDX-License-Identifier: MIT OR Apache-2.0
//! The status line: what is drawn, how much of all traffic that is, and how old it is.
use std::time::Duration;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::Widget,
};
use unicode_width::UnicodeWidthStr;

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

/// Draws the status in one line.
pub fn draw(app: &App, look: &Look, now: Duration, area: Rect, buf: &mut Buffer) {
    // each part: a number and its word, and perhaps more if there is room
    let mut parts: Vec<Vec<(String, Style)>> = Vec::new();
    let p = &app.picture;
    let age = app.read.map(|r| now.saturating_sub(r));

    if let Some(trouble) = &app.trouble {
        let stale = age.map_or(String::new(), |a| format!(" · last reading {} ago", seconds(a)));
        parts.push(vec![(format!("cannot read: {trouble}{stale}"), look.bad)]);
    }
    if let Some((since, news)) = &app.catching {
        let bytes = units::bytes(news.bytes, app.base);
        let text = format!("● {} packets, {bytes}, {} lost", news.packets, news.lost);
        let style = if news.lost > 0 { look.warn } else { look.good };
        let so_long = format!(" in {}, w ends it", seconds(now.saturating_sub(*since)));
        parts.push(vec![(text, style), (so_long, look.dim)]);
    }
    for i in p.interfaces.iter().filter(|i| i.stale) {
        parts.push(vec![(format!("{} not read", sanitize(&i.name)), look.bad)]);
    }
    if let At::Past(here) = app.series.at() {
        let mut events = app.series.events().filter(|e| e.0 == here).map(|e| &e.1);
        if let Some(first) = events.next() {
            let more = match events.count() {
                0 => String::new(),
                1 => " and 1 more change".to_owned(),
                n => format!(" and {n} more changes"),
            };
            let part = vec![(sanitize(&first.text).into_owned(), look.good), (more, look.dim)];
            parts.push(part);
        }
    }
    match (app.rate, p.number) {
        (_, None) if app.read.is_none() => {
            parts.push(vec![("no reading yet".to_owned(), look.warn)])
        }
        (true, None) => {
            parts.push(vec![("the first interval is being counted".to_owned(), look.dim)])
        }
        (true, _) => {
            parts.push(vec![(seconds(p.elapsed), look.text), (" drawn".to_owned(), look.dim)])
        }
        (false, _) => {
            parts.push(vec![("total of ".to_owned(), look.dim), (seconds(p.elapsed), look.text)])
        }
    }
    if let [bad, notes] = app.found.open()
        && bad + notes > 0
    {
        let number = |n: usize, word: &str, style| (n > 0).then(|| (format!("{n} {word}"), style));
        let comma = (bad > 0 && notes > 0).then(|| (", ".to_owned(), look.dim));
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
            (percent(counted.packets, seen.packets), style),
            (" counted".to_owned(), look.dim),
        ];
        if let Some((stop, n)) = worst {
            part.push((
                format!(", {} {}", stop.name(), percent(n.packets, seen.packets)),
                if is_fault(stop) { look.warn } else { look.dim },
            ));
        }
        parts.push(part);
    } else if p.number.is_some() {
        parts.push(vec![("no packet seen".to_owned(), look.dim)]);
    }
    let [both, all] = p.with_both_ends;
    if all > 0 {
        let part = vec![(percent(both, all), look.text), (" with both ends".to_owned(), look.dim)];
        parts.push(part);
    }
    let hosts = p.interfaces.iter().filter(|i| i.hook == HookKind::Fleet);
    let heard = hosts.clone().filter(|i| i.live().is_some()).count();
    let all = hosts.count();
    if heard < all {
        parts.push(vec![(format!("{heard} of {all} hosts"), look.warn)]);
    }
    let dropped = p.drops.as_ref().map_or(0, |drops| drops.total().attributed.packets);
    if dropped > 0 {
        parts.push(vec![(format!("{dropped} dropped"), look.warn)]);
    }
    let faults: u64 = Stop::ALL
        .iter()
        .filter(|s| is_fault(**s))
        .flat_map(|s| books.stop(*s))
        .map(|c| c.packets)
        .sum();
    if faults > 0 {
        parts.push(vec![(format!("{faults} unreadable"), look.warn)]);
    }
    if !p.tally.other.is_zero() {
        parts.push(vec![(
            format!("other {}", percent(p.tally.other.bytes, p.tally.total.bytes)),
            look.warn,
        )]);
    }
    let suspect: u64 = books.suspect.iter().map(|c| c.packets).sum();
    if suspect > 0 {
        parts.push(vec![(format!("{suspect} suspect"), look.warn)]);
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
            ("table ".to_owned(), look.dim),
            (percent(fullest.used, fullest.size), style),
        ]);
    }
    let mut hooks: Vec<&str> = p.interfaces.iter().map(|i| i.hook.name()).collect();
    hooks.sort_unstable();
    hooks.dedup();
    if !hooks.is_empty() {
        parts.push(vec![(hooks.join("+"), look.dim)]);
    }
    if let (Some(age), None, false) = (age, &app.trouble, app.series.ends()) {
        let what = if app.series.at() == At::Live { "old" } else { "since the last reading" };
        parts.push(vec![(seconds(age), look.text), (format!(" {what}"), look.dim)]);
    }

    // drop what does not fit: the second half of a part, or else the part
    let room = usize::from(area.width).saturating_sub(1);
    let width = |part: &[(String, Style)]| part.iter().map(|s| s.0.width()).sum::<usize>();
    let mut spans = vec![Span::raw(" ")];
    let mut used = 1;
    for (i, mut part) in parts.into_iter().enumerate() {
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
        spans.extend(part.into_iter().map(|(t, s)| Span::styled(t, s)));
    }
    Line::from(spans).render(area, buf);
}
