// SPDX-License-Identifier: MIT OR Apache-2.0
//! The health view: the books of every interface, and the state of the measurement.
use std::{cmp::Reverse, time::Duration};

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::Widget,
};
use unicode_width::UnicodeWidthStr;

use model::{
    drops::DropBooks,
    flow::{Count, HookKind, Stop},
    interface::{HostState, Interface},
    matrix::Level,
    text::{fit, shared_prefix},
    units::{self, Rate, percent, sanitize},
};

use crate::{
    app::App,
    hits::Hits,
    keys::Action,
    look::Look,
    spark,
    status::{is_fault, seconds},
    words::clock,
};

/// Draws the view, scrolled as the app says: the prepared text, and below it what changes with
/// time.
pub fn draw(
    app: &App,
    look: &Look,
    written: &[Line<'static>],
    now: Duration,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    if area.is_empty() {
        return;
    }
    let ages = ages(app, look, now);
    let lines: Vec<&Line> = written.iter().chain(&ages).collect();
    let room = usize::from(area.height);
    let first = app.scroll.min(lines.len().saturating_sub(room));
    for (i, line) in lines.iter().skip(first).take(room).enumerate() {
        line.render(Rect { y: area.y + i as u16, height: 1, ..area }, buf);
    }
    if first + room < lines.len() {
        buf.set_stringn(
            area.right().saturating_sub(8),
            area.bottom() - 1,
            " more ↓ ",
            8,
            look.accent,
        );
    }
    hits.wheel(area, Action::Up, Action::Down);
}

fn rule(look: &Look, text: &str, width: usize) -> Line<'static> {
    let rest = width.saturating_sub(text.chars().count() + 3);
    Line::from(vec![
        Span::raw(" "),
        Span::styled(text.to_owned(), look.accent),
        Span::styled(format!(" {}", "─".repeat(rest)), look.faint),
    ])
}

fn count(app: &App, c: Count, t: Duration) -> String {
    if app.rate {
        units::packet_rate(Rate::of(c.packets, t)).to_string()
    } else {
        units::packets(c.packets).to_string()
    }
}

fn weight(app: &App, c: Count, t: Duration) -> String {
    if app.rate {
        units::bit_rate(Rate::of(c.bytes, t)).to_string()
    } else {
        units::bytes(c.bytes, app.base).to_string()
    }
}

fn books(app: &App, look: &Look, i: &Interface, width: usize) -> Vec<Line<'static>> {
    let (b, t) = (&i.books, i.span);
    let seen = b.seen();
    let all = seen[0].packets.saturating_add(seen[1].packets);
    let bar = width.saturating_sub(68).min(40);
    let row = |name: &str, c: [Count; 2], style: Style| {
        let n = c[0].packets.saturating_add(c[1].packets);
        let numbers = format!(
            "{:>9} {:>10} {:>9} {:>10}  {:>6} ",
            count(app, c[0], t),
            weight(app, c[0], t),
            count(app, c[1], t),
            weight(app, c[1], t),
            percent(n, all)
        );
        let faint = n == 0;
        Line::from(vec![
            Span::styled(format!("   {name:<12}"), if faint { look.dim } else { style }),
            Span::styled(numbers, if faint { look.faint } else { look.text }),
            Span::styled(format!(" {}", spark::share(n, all, bar)), style),
        ])
    };
    let head =
        format!("   {:<12}{:>9} {:>10} {:>9} {:>10}  {:>6}", "", "rx", "", "tx", "", "share");
    let mut lines = vec![
        Line::from(Span::styled(head, look.dim)),
        row("seen", seen, look.strong),
        row("counted", b.counted, look.good),
    ];
    let only_in_captures = |s: &Stop| *s == Stop::Unread && b.stop(*s) == [Count::default(); 2];
    for s in Stop::ALL.into_iter().filter(|s| !only_in_captures(s)) {
        lines.push(row(s.name(), b.stop(s), if is_fault(s) { look.warn } else { look.dim }));
    }
    lines.push(row("suspect", b.suspect, look.warn));
    // Counted all the same: shown because fragments are costly for the hosts that create and
    // reassemble them.
    lines.push(row("fragments", b.fragments, look.warn));
    lines
}

/// Which tunnels are fragmented, and who sends the fragments.
fn fragmented(app: &App, look: &Look, width: usize) -> Vec<Line<'static>> {
    const MOST: usize = 5;
    let list = &app.picture.fragmented;
    if list.is_empty() {
        return vec![];
    }
    let mut lines = vec![rule(look, "outer packets in fragments", width)];
    for f in list.iter().take(MOST) {
        let numbers = format!(
            " {:>9} {:>10}  {:>6} of its packets",
            count(app, f.fragments, app.picture.elapsed),
            weight(app, f.fragments, app.picture.elapsed),
            percent(f.fragments.packets, f.all.packets)
        );
        let tunnel = app.tunnel_called(f.tunnel);
        let room = width.saturating_sub(numbers.width() + 3 + tunnel.width() + 2);
        let ends = [f.from, f.to].map(|e| app.called_at(Level::Hosts, e));
        let mut way = format!("{} → {}", ends[0], ends[1]);
        if way.width() > room {
            way = format!("{} → {}", ends[0], &ends[1][shared_prefix(&ends)..]);
        }
        lines.push(Line::from(vec![
            Span::styled(format!("   {tunnel}  "), look.warn),
            Span::styled(format!("{:<room$}", fit(&way, room)), look.text),
            Span::styled(numbers, look.text),
        ]));
    }
    if list.len() > MOST {
        lines
            .push(Line::from(Span::styled(format!("   and {} more", list.len() - MOST), look.dim)));
    }
    lines.push(Line::default());
    lines
}

/// What the kernel dropped, by reason, and the devices' own counters beside it.
fn drops(app: &App, look: &Look, width: usize) -> Vec<Line<'static>> {
    const MOST: usize = 8;
    let Some(drops) = &app.picture.drops else { return vec![] };
    let t = app.picture.elapsed;
    let mut lines = vec![rule(look, "dropped by the kernel", width)];
    let head = format!(
        "   {:<24}{:>9} {:>9} {:>9} {:>9}",
        "reason", "seen", "tunnels", "plain", "unknown"
    );
    let row = |name: &str, n: &DropBooks, style: Style| {
        let numbers = [n.seen(), n.attributed, n.plain, n.unknown];
        let mut spans = vec![Span::styled(format!("   {:<24}", fit(name, 24)), style)];
        for (place, c) in numbers.into_iter().enumerate() {
            let style = match place {
                _ if c.is_zero() => look.faint,
                1 => look.bad,
                _ => look.text,
            };
            let gap = if place == 0 { "" } else { " " };
            spans.push(Span::styled(format!("{gap}{:>9}", count(app, c, t)), style));
        }
        Line::from(spans)
    };
    let note = |text: String, style: Style| Line::from(Span::styled(format!("   {text}"), style));
    if let Some(why) = &drops.unavailable {
        lines.push(note(format!("not known by reason: {}", sanitize(why)), look.warn));
    } else {
        lines.push(Line::from(Span::styled(head, look.dim)));
        lines.push(row("all", &drops.total(), look.strong));
        let mut books: Vec<_> = drops.books().into_iter().collect();
        books.sort_by_key(|(name, n)| (Reverse((n.attributed, n.seen())), *name));
        for (name, n) in books.iter().take(MOST) {
            lines.push(row(&sanitize(name), n, look.text));
        }
        if books.len() > MOST {
            lines.push(note(format!("and {} more reasons", books.len() - MOST), look.dim));
        }
        let apart =
            [(drops.elsewhere, "elsewhere"), (drops.missed, "not looked at, for lack of time")];
        for (n, what) in apart.into_iter().filter(|(n, _)| *n > 0) {
            lines.push(note(format!("and {} {what}", units::packets(n)), look.dim));
        }
    }
    for ((netns, name), n) in &drops.devices {
        let counters = [
            (n.rx_dropped, "rx_dropped"),
            (n.rx_missed, "rx_missed"),
            (n.tx_dropped, "tx_dropped"),
            (n.qdisc, "by qdiscs"),
        ];
        let said: Vec<_> = counters
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, what)| format!("{n} {what}"))
            .collect();
        if !said.is_empty() {
            let netns = netns.as_ref().map_or(String::new(), |n| format!(" in {}", sanitize(n)));
            let text = format!("{}{netns} counted {}", sanitize(name), said.join(", "));
            lines.push(note(text, look.warn));
        }
    }
    lines.push(Line::default());
    lines
}

fn fill(look: &Look, i: &Interface) -> Line<'static> {
    let f = i.fill;
    let full = f.size > 0 && f.used.saturating_mul(10) >= f.size.saturating_mul(9);
    let style = if full { look.warn } else { look.good };
    Line::from(vec![
        Span::styled(format!("   {:<12}", "table"), look.dim),
        Span::styled(
            format!("{} of {} rows, {} full ", f.used, f.size, percent(f.used, f.size)),
            if full { look.warn } else { look.text },
        ),
        Span::styled(spark::share(f.used, f.size, 20), style),
        Span::styled(
            if full { "  new conversations go to their tunnel's `other` row" } else { "" },
            look.warn,
        ),
    ])
}

/// Hosts of a fleet: how many are healthy, a line for each that is not, and the books of all.
fn hosts(app: &App, look: &Look, width: usize) -> Vec<Line<'static>> {
    const MOST: usize = 100;
    let p = &app.picture;
    let hosts: Vec<&Interface> =
        p.interfaces.iter().filter(|i| i.hook == HookKind::Fleet).collect();
    if hosts.is_empty() {
        return vec![];
    }
    let unwell: Vec<(&Interface, String, bool)> =
        hosts.iter().filter_map(|i| unwell(i).map(|(why, bad)| (*i, why, bad))).collect();
    let heard = hosts.iter().filter(|i| i.live().is_some()).count();
    let mut lines = vec![rule(look, "hosts", width)];
    let text = format!("{heard} of {}, {} well", hosts.len(), hosts.len() - unwell.len());
    let style = if unwell.is_empty() { look.good } else { look.text };
    lines.push(line(look, "heard", text, style));
    let [both, all] = p.with_both_ends;
    if all > 0 {
        let text = format!("{} of bytes were counted by both of their ends", percent(both, all));
        lines.push(line(look, "both ends", text, look.text));
    }
    for (i, why, bad) in unwell.iter().take(MOST) {
        let style = if *bad { look.bad } else { look.warn };
        let name = sanitize(&i.name);
        lines.push(Line::from(vec![
            Span::styled(format!("   {:<12} ", fit(&name, 24)), style),
            Span::styled(why.clone(), look.text),
        ]));
    }
    if unwell.len() > MOST {
        let text = format!("   and {} more", unwell.len() - MOST);
        lines.push(Line::from(Span::styled(text, look.dim)));
    }
    lines.push(Line::default());
    lines.push(rule(look, "all hosts", width));
    let sum = Interface { books: p.books, span: p.elapsed, ..Interface::new(0, "") };
    lines.extend(books(app, look, &sum, width));
    lines.push(Line::default());
    lines
}

/// What is wrong with a host of a fleet, in one line, and whether its numbers are missing because
/// of it.
fn unwell(i: &Interface) -> Option<(String, bool)> {
    let host = i.host.as_deref()?;
    let since = || host.taken.map_or(String::new(), |t| format!(" since {}", clock(t)));
    match host.state {
        HostState::Silent => return Some((format!("silent{}", since()), true)),
        HostState::Left => return Some((format!("left{}", since()), false)),
        HostState::Live => {}
    }
    let mut said = Vec::new();
    let mut bad = false;
    if let Some(off) = host.off {
        said.push(format!("clock {} ms off: no loss is reported", off.as_millis()));
        bad = true;
    } else if !host.synchronised {
        said.push("clock not synchronised".to_owned());
    }
    if host.missing > Duration::ZERO {
        said.push(format!("{} are missing", seconds(host.missing)));
    }
    let seen = i.books.seen();
    let both = |c: [Count; 2]| c[0].packets.saturating_add(c[1].packets);
    let faults: u64 =
        Stop::ALL.iter().filter(|s| is_fault(**s)).map(|s| both(i.books.stop(*s))).sum();
    if faults > 0 {
        said.push(format!("{} of packets unreadable", percent(faults, both(seen))));
    }
    if i.fill.size > 0 && i.fill.used.saturating_mul(10) >= i.fill.size.saturating_mul(9) {
        said.push(format!("table {} full", percent(i.fill.used, i.fill.size)));
    }
    (!said.is_empty()).then(|| (said.join(", "), bad))
}

fn line(look: &Look, name: &str, text: String, style: Style) -> Line<'static> {
    Line::from(vec![Span::styled(format!("   {name:<12}"), look.dim), Span::styled(text, style)])
}

/// Writes everything that does not change with time alone.
pub fn prepare(app: &App, look: &Look, width: usize) -> Vec<Line<'static>> {
    let p = &app.picture;
    let fact = |name: &str, text: String, style: Style| line(look, name, text, style);
    let mut out = hosts(app, look, width);
    for i in p.interfaces.iter().filter(|i| i.hook != HookKind::Fleet) {
        let netns = i.netns.as_ref().map_or(String::new(), |n| format!(" in {}", sanitize(n)));
        out.push(rule(look, &format!("{}{netns} · {}", sanitize(&i.name), i.hook.name()), width));
        if i.hook == HookKind::Off {
            out.push(fact(
                "watched",
                "not at present: it is gone, or its programs were detached; these are its last counts".to_owned(),
                look.bad,
            ));
        }
        if i.stale {
            out.push(fact(
                "not read",
                "its counters could not be read: these are the last values read".to_owned(),
                look.bad,
            ));
        }
        out.extend(books(app, look, i, width));
        out.push(fill(look, i));
        out.push(Line::default());
    }
    out.extend(drops(app, look, width));
    out.extend(fragmented(app, look, width));
    out.push(rule(look, "measurement", width));
    let length = if app.rate {
        format!("{}, as measured", seconds(p.elapsed))
    } else {
        format!("total of {}", seconds(p.elapsed))
    };
    out.push(fact("interval", length, look.text));
    let other = percent(app.picture.tally.other.bytes, app.picture.tally.total.bytes);
    let style = if app.picture.tally.other.is_zero() { look.text } else { look.warn };
    out.push(fact(
        "other",
        format!("{other} of bytes in scope: a full table could not keep them apart"),
        style,
    ));
    out.push(fact("rows", format!("{} in scope of the picture", p.tally.rows), look.text));
    out
}

/// The ages of things.
fn ages(app: &App, look: &Look, now: Duration) -> Vec<Line<'static>> {
    let fact = |name: &str, text: String, style: Style| line(look, name, text, style);
    let mut out = Vec::new();
    match app.read {
        Some(read) => out.push(fact(
            "sample",
            format!(
                "{} old, taken {}",
                seconds(now.saturating_sub(read)),
                app.latest().map_or(String::new(), |s| clock(s.taken))
            ),
            look.text,
        )),
        None if app.series.ends() => {
            out.push(fact("sample", "a capture, read to its end".to_owned(), look.text))
        }
        None => out.push(fact("sample", "nothing has been read yet".to_owned(), look.warn)),
    }
    let kept = format!(
        "{} intervals, {} rows kept",
        app.series.history().len(),
        app.series.history().rows()
    );
    out.push(fact("history", kept, look.text));
    match (&app.trouble, &app.last_error) {
        (Some(e), _) => out.push(fact("error", format!("now: {e}"), look.bad)),
        (None, Some((at, e))) => out.push(fact(
            "last error",
            format!("{} ago: {e}", seconds(now.saturating_sub(*at))),
            look.warn,
        )),
        (None, None) => out.push(fact("last error", "none".to_owned(), look.good)),
    }
    for n in app.notices.iter().rev().take(20) {
        let style = if n.bad { look.warn } else { look.text };
        out.push(fact(
            "notice",
            format!("{} ago: {}", seconds(now.saturating_sub(n.at)), n.text),
            style,
        ));
    }
    out
}
