// SPDX-License-Identifier: MIT OR Apache-2.0
//! The layout of the whole screen at every size.
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
    text::fit,
    units::{duration, sanitize},
};

use crate::{
    app::App,
    calendar, findings, health, help,
    hits::{Hit, Hits},
    keys::{Action, BINDINGS},
    lens_pane,
    look::Look,
    matrix_view,
    parts::Parts,
    sheets::Sheets,
    side, status, table_view, timeline,
    words::{Speed, View},
};

/// Draws everything except the chord itself, whose place it leaves in [`Hits::chord`], from what
/// was prepared for this area.
pub fn draw(
    app: &App,
    look: &Look,
    sheets: &Sheets,
    now: Duration,
    area: Rect,
    buf: &mut Buffer,
) -> Hits {
    let mut hits = Hits::default();
    if area.is_empty() {
        return hits;
    }
    buf.set_style(area, look.theme.base());
    let parts = Parts::of(area, app.view, lens_pane::lines(app), calendar::is_needed(app));
    header(app, look, parts.header, buf, &mut hits);
    path(app, look, parts.path, buf, &mut hits);
    let label = timeline::label(parts.timeline.height);
    calendar::draw(&sheets.calendar, look, label, parts.calendar, buf, &mut hits);
    timeline::draw(&sheets.timeline, look, parts.timeline, buf, &mut hits);
    status::draw(&sheets.status, look, now, parts.status, buf);
    hints(app, look, now, parts.hints, buf, &mut hits);
    if app.help {
        let body = Rect { width: area.width, ..parts.main };
        help::draw(app, look, body, buf, &mut hits);
        buf.set_style(body, look.theme.base().bg.map_or(Style::new(), |c| Style::new().bg(c)));
        return hits;
    }
    if app.view == View::Health {
        health::draw(app, look, &sheets.health, now, parts.main, buf, &mut hits);
        return hits;
    }
    if app.view == View::Findings {
        findings::draw(app, look, parts.main, buf, &mut hits);
        return hits;
    }
    for (line, y) in sheets.lens.iter().zip(parts.lens.y..parts.lens.bottom()) {
        line.render(Rect { y, height: 1, ..parts.lens }, buf);
    }
    if parts.lens.height > 0 {
        hits.add(Rect { height: 1, ..parts.lens }, Hit::Key(Action::Lens));
    }
    if parts.side.width > 0 {
        side::draw(look, &sheets.side, buf, &mut hits);
    }
    if app.picture.matrix.is_empty() {
        empty(app, look, parts.main, buf);
        return hits;
    }
    let main = sheets.main;
    for (line, y) in sheets.below.iter().zip(main.bottom()..) {
        line.render(Rect { x: main.x + 1, y, width: main.width.saturating_sub(1), height: 1 }, buf);
    }
    match app.view {
        View::Chord => {
            hits.wheel(main, Action::Up, Action::Down);
            hits.chord = Some(main);
        }
        View::Matrix => matrix_view::draw(app, look, &sheets.matrix, main, buf, &mut hits),
        View::Table => table_view::draw(app, look, &sheets.table, main, buf, &mut hits),
        View::Health | View::Findings => {}
    }
    hits
}

fn header(app: &App, look: &Look, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    if area.is_empty() {
        return;
    }
    buf.set_style(area, look.bar);
    let mut x = area.x;
    let put = |text: &str, style: Style, x: &mut u16, buf: &mut Buffer| {
        let room = area.right().saturating_sub(*x);
        let w = (text.width() as u16).min(room);
        buf.set_stringn(*x, area.y, text, usize::from(w), style);
        let r = Rect::new(*x, area.y, w, 1);
        *x += w;
        r
    };
    put(" tmon ", look.accent, &mut x, buf);
    const KEYS: [Action; 5] =
        [Action::Chord, Action::Matrix, Action::Table, Action::Health, Action::Findings];
    for (view, key) in View::ALL.into_iter().zip(KEYS) {
        let on = app.view == view;
        let text = format!(" {} ", view.name());
        let r = put(&text, if on { look.tab } else { look.dim }, &mut x, buf);
        hits.add(r, Hit::Key(key));
    }
    // the right end: time first, then what is watched as far as it fits
    let newest = app.series.history().newest().map(|f| f.interval.taken);
    let clock = crate::words::clock(app.picture.taken);
    let (sign, style) = match (app.series.at(), &app.trouble) {
        (_, Some(_)) => ("✗ stale".to_owned(), look.bad),
        _ if app.playing && app.speed > Speed::One => {
            (format!("▶ {}x {clock}", app.speed.times()), look.good)
        }
        _ if app.playing => (format!("▶ {clock}"), look.good),
        (At::Live, _) if app.series.ends() => (format!("■ end {clock}"), look.text),
        (At::Live, _) if app.picture.number.is_none() && app.read.is_none() => {
            ("○ waiting".to_owned(), look.warn)
        }
        (At::Live, _) => (format!("● live {clock}"), look.good),
        (At::Past(_), _) => {
            let ago =
                newest.and_then(|n| n.duration_since(app.picture.taken).ok()).unwrap_or_default();
            (format!("❚❚ {clock}, {} back", duration(ago)), look.warn)
        }
    };
    let sign = match &app.progress {
        Some(progress) => format!("{progress} read · {sign}"),
        None => sign,
    };
    let w = sign.width() as u16 + 1;
    let at = area.right().saturating_sub(w);
    if at > x {
        buf.set_stringn(at, area.y, &sign, usize::from(w), style);
        hits.add(Rect::new(at, area.y, w, 1), Hit::Key(Action::Pause));
        let mut names: Vec<String> =
            app.picture.interfaces.iter().map(|i| sanitize(&i.name).into_owned()).collect();
        if names.len() > 3 {
            let more = names.len() - 2;
            names.truncate(2);
            names.push(format!("+{more}"));
        }
        if !app.title.is_empty() && !names.contains(&app.title) {
            names.insert(0, app.title.clone());
        }
        let room = usize::from(at - x).saturating_sub(4);
        let names = fit(&names.join(" "), room).into_owned();
        if names.width() >= 3 {
            buf.set_stringn(at - 2 - names.width() as u16, area.y, &names, room, look.dim);
        }
    }
}

fn path(app: &App, look: &Look, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    if area.is_empty() {
        return;
    }
    let right = {
        let mut words = Vec::new();
        if let Some(t) = app.tunnel {
            words.push(t.to_string());
        }
        words.push(app.unit_name());
        if app.by_name {
            words.push("by name".to_owned());
        }
        words.join(" · ")
    };
    let at = area.right().saturating_sub(right.width() as u16 + 1);
    let mut x = area.x + 1;
    let limit = at.saturating_sub(2);
    let put = |text: &str, style: Style, x: &mut u16, buf: &mut Buffer| {
        let room = limit.saturating_sub(*x);
        let text = fit(text, usize::from(room));
        let w = text.width() as u16;
        if w > 0 {
            buf.set_stringn(*x, area.y, &text, usize::from(w), style);
        }
        let r = Rect::new(*x, area.y, w, 1);
        *x += w;
        r
    };
    let here = app.crumbs.len();
    let style = |level: usize| if level == here { look.text } else { look.dim };
    let r = put(app.root(), style(0), &mut x, buf);
    hits.add(r, Hit::Crumb(0));
    for i in 0..app.crumbs.len() {
        put(" › ", look.faint, &mut x, buf);
        let r = put(&app.crumb(i), style(i + 1), &mut x, buf);
        hits.add(r, Hit::Crumb(i + 1));
    }
    if !app.marks.is_empty() {
        put("   ", look.faint, &mut x, buf);
        put(&format!("● {} marked", app.marks.len()), look.accent, &mut x, buf);
    }
    if !app.filter.is_empty() {
        put("   /", look.faint, &mut x, buf);
        let r = put(&sanitize(&app.filter_text), look.warn, &mut x, buf);
        hits.add(r, Hit::Key(Action::Filter));
    }
    if at > area.x {
        buf.set_stringn(at, area.y, &right, right.width(), look.dim);
        hits.add(Rect { x: at, width: right.width() as u16, ..area }, Hit::Key(Action::Unit));
    }
}

fn hints(app: &App, look: &Look, now: Duration, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    if area.is_empty() {
        return;
    }
    let width = usize::from(area.width);
    if let Some(e) = &app.editing {
        let (before, after) = e.text.split_at(e.cursor);
        let mut rest = after.chars();
        let under = rest.next().map_or(" ".to_owned(), |c| c.to_string());
        // keep the cursor in sight
        let before = sanitize(before);
        let skip = before.chars().count().saturating_sub(width / 2);
        let head: String = before.chars().skip(skip).collect();
        let bad = e.error.is_some();
        let text = if bad { look.bad } else { look.text };
        let mut spans = vec![
            Span::styled(" / ", look.accent),
            Span::styled(head, text),
            Span::styled(sanitize(&under).into_owned(), look.cell),
            Span::styled(sanitize(rest.as_str()).into_owned(), text),
        ];
        spans.push(match &e.error {
            Some(e) => Span::styled(format!("  {}; try {}", e.what, sanitize(&e.hint)), look.warn),
            None if e.text.trim().is_empty() => {
                Span::styled("  host:172.16.1.0/24 vni:10000-10003 !proto:arp", look.faint)
            }
            None => Span::styled("  Enter applies it, Esc discards it", look.dim),
        });
        Line::from(spans).render(area, buf);
        return;
    }
    if let Some(n) = app.news(now) {
        let style = if n.bad { look.warn } else { look.text };
        buf.set_stringn(
            area.x + 1,
            area.y,
            fit(&n.text, width.saturating_sub(2)),
            width.saturating_sub(1),
            style,
        );
        return;
    }
    let mut x = area.x + 1;
    let order = [
        Action::Quit,
        Action::Help,
        Action::NextView,
        Action::Enter,
        Action::Back,
        Action::Filter,
        Action::NextTunnel,
        Action::Pause,
        Action::Lens,
        Action::Rate,
        Action::Unit,
        Action::Mark,
        Action::Sort,
        Action::Older,
    ];
    for b in order.iter().filter_map(|a| BINDINGS.iter().find(|b| b.action == *a)) {
        let hint = match (b.action, app.rate, app.series.at()) {
            (Action::Rate, false, _) => "rate",
            (Action::Pause, _, At::Past(_)) if !app.series.ends() => "live",
            (Action::Pause, ..) if app.series.ends() => "play",
            _ => b.hint,
        };
        let w = (b.label.width() + 1 + hint.width()) as u16;
        if x + w + 1 > area.right() {
            break;
        }
        buf.set_string(x, area.y, b.label, look.accent);
        buf.set_string(x + b.label.width() as u16 + 1, area.y, hint, look.dim);
        hits.add(Rect::new(x, area.y, w, 1), Hit::Key(b.action));
        x += w + 2;
    }
}

/// Why there is nothing to see, and what may help.
fn empty(app: &App, look: &Look, area: Rect, buf: &mut Buffer) {
    if area.height < 1 || area.width < 10 {
        return;
    }
    let level = app.what_ends_are();
    let (what, why) = match () {
        () if app.read.is_none() && !app.series.ends() => {
            ("nothing has been read yet".to_owned(), String::new())
        }
        () if app.picture.number.is_none() => {
            ("counting the first interval".to_owned(), String::new())
        }
        () if !app.filter.is_empty() => {
            (format!("no {level}: nothing matches the filter"), "/ to change it".to_owned())
        }
        () if app.tunnel.is_some() => {
            (format!("no {level}: this tunnel id is silent"), "i for another".to_owned())
        }
        () if !app.crumbs.is_empty() => (
            format!("no {level}: nothing was sent here in this interval"),
            "Esc to go back, t for totals".to_owned(),
        ),
        () if app.rate => (
            "no tunnelled traffic in this interval".to_owned(),
            "t for totals, H for what was seen and why it was not counted".to_owned(),
        ),
        () => (
            "no tunnelled traffic since counting began".to_owned(),
            "H for what was seen and why it was not counted".to_owned(),
        ),
    };
    let middle = area.y + area.height / 2;
    for (i, (text, style)) in [(what, look.text), (why, look.dim)].into_iter().enumerate() {
        let text = fit(&text, usize::from(area.width)).into_owned();
        let x = area.x + (area.width - text.width() as u16) / 2;
        let y = middle + i as u16;
        if y < area.bottom() {
            buf.set_string(x, y, &text, style);
        }
    }
}
