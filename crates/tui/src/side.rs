// SPDX-License-Identifier: MIT OR Apache-2.0
//! Beside the picture: the tunnel ids, the ends with their colours, and the selection.
use std::net::IpAddr;

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
    matrix::{End, Level, Pick},
    returns::{carried, is_one_way},
    rtt::three_digits,
    text::{apart, shared_prefix, shorten},
    units::{self, percent},
};

use crate::{
    app::App,
    hits::{Hit, Hits},
    keys::Action,
    look::Look,
    spark,
};

/// The pane's contents as text, with their places.
#[derive(Clone, Debug, Default)]
pub struct Pane {
    titles: Vec<(Rect, String)>,
    entries: Vec<Entry>,
    wheels: Vec<(Rect, Action, Action)>,
    details: Option<Details>,
}

/// Details of the selection.
#[derive(Clone, Debug)]
struct Details {
    area: Rect,
    name: Vec<Span<'static>>,
    chart: Rect,
    values: Vec<u64>,
    words: Vec<Line<'static>>,
}

/// Prepares the pane for an area.
pub fn prepare(app: &App, look: &Look, area: Rect) -> Pane {
    let mut pane = Pane::default();
    if area.width < 12 || area.height < 3 {
        return pane;
    }
    let height = usize::from(area.height);
    let air = usize::from(height >= 12); // space between the parts
    let chart = if height >= 30 { 3 } else { 1 };
    let (name, words) = details(app, look, usize::from(area.width));
    let wanted = if name.is_empty() { 0 } else { 1 + chart + words.len() };
    let ids = app.picture.tunnels.len();
    let ids_most = if wanted > 0 { height / 4 } else { height * 2 / 5 };
    let ids_height = (ids + 2 + air).min(ids_most.max(5)).min(height);
    let details_height = wanted.min(height - ids_height);
    let ends_height = height - ids_height - details_height;

    let at = |y: usize, h: usize| Rect { y: area.y + y as u16, height: h as u16, ..area };
    pane.tunnels(app, look, at(0, ids_height - air));
    let ends_air = if details_height > 0 { air } else { 0 };
    pane.ends(app, look, at(ids_height, ends_height.saturating_sub(ends_air)));
    if details_height > 0 {
        let area = at(ids_height + ends_height, details_height);
        let values = app.picked().map_or_else(Vec::new, |pick| {
            app.trends.of(pick, usize::from(area.width), app.unit.measure())
        });
        let chart = Rect { y: area.y + 1, height: chart as u16, ..area }.intersection(area);
        pane.details = Some(Details { area, name, chart, values, words });
    }
    pane
}

/// Draws the pane in the area that it was prepared for.
pub fn draw(look: &Look, pane: &Pane, buf: &mut Buffer, hits: &mut Hits) {
    for (area, text) in &pane.titles {
        title(look, text, *area, buf);
    }
    for entry in &pane.entries {
        if entry.cursor {
            buf.set_style(entry.area, look.cursor);
        }
        entry.draw(look, buf);
        if let Some(hit) = entry.hit {
            hits.add(entry.area, hit);
        }
    }
    for &(area, up, down) in &pane.wheels {
        hits.wheel(area, up, down);
    }
    let Some(Details { area, name, chart, values, words }) = &pane.details else { return };
    headline(look, name, *area, buf);
    baseline(look, *chart, buf);
    spark::line(values, *chart, buf, look.spark);
    for (line, y) in words.iter().zip(chart.bottom()..area.bottom()) {
        line.render(Rect { y, height: 1, ..*area }, buf);
    }
}

/// The line on which bars stand.
pub fn baseline(look: &Look, area: Rect, buf: &mut Buffer) {
    if !area.is_empty() {
        buf.set_string(area.x, area.bottom() - 1, "▁".repeat(usize::from(area.width)), look.faint);
    }
}

/// A heading in several colours with its rule.
fn headline(look: &Look, name: &[Span<'static>], area: Rect, buf: &mut Buffer) {
    let width: usize = name.iter().map(|s| s.content.width()).sum();
    let mut spans = name.to_vec();
    spans.push(Span::raw(" "));
    spans.push(Span::styled(
        "─".repeat(usize::from(area.width).saturating_sub(width + 1)),
        look.faint,
    ));
    Line::from(spans).render(Rect { height: 1, ..area }, buf);
}

/// A section's heading with its rule.
pub fn title(look: &Look, text: &str, area: Rect, buf: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let rule = "─".repeat(usize::from(area.width).saturating_sub(text.width() + 1));
    let line = Line::from(vec![
        Span::styled(text, look.dim),
        Span::raw(" "),
        Span::styled(rule, look.faint),
    ]);
    line.render(Rect { height: 1, ..area }, buf);
}

/// One line of a list: a sign, a name, a bar of its share, a sparkline, a number.
#[derive(Clone, Debug)]
struct Entry {
    area: Rect,
    hit: Option<Hit>,
    /// Whether the cursor is on it.
    cursor: bool,
    sign: (&'static str, Style),
    name: String,
    style: Style,
    /// The style of the bar and of the sparkline.
    line: Style,
    /// Its share of the largest; no bar is drawn for `(0, 0)`.
    share: (u64, u64),
    trend: Vec<u64>,
    value: String,
    /// The columns that the values of its list need, so that what is to the left of them lines up.
    columns: usize,
}

/// The columns of the sparkline.
const TREND: usize = 12;

impl Entry {
    /// An entry with neither bar nor sparkline that cannot be clicked.
    fn plain(
        area: Rect,
        sign: (&'static str, Style),
        name: String,
        style: Style,
        value: String,
    ) -> Self {
        let (share, trend, columns) = ((0, 0), vec![], 0);
        let (hit, cursor, line) = (None, false, style);
        Entry { area, hit, cursor, sign, name, style, line, share, trend, value, columns }
    }

    fn draw(&self, look: &Look, buf: &mut Buffer) {
        let area = self.area;
        let value = self.value.width();
        let room = usize::from(area.width).saturating_sub(value + 1);
        let name = shorten(&self.name, room.saturating_sub(2));
        buf.set_stringn(area.x, area.y, self.sign.0, 1, self.sign.1);
        buf.set_stringn(area.x + 2, area.y, &name, room.saturating_sub(2), self.style);
        buf.set_stringn(
            area.right().saturating_sub(value as u16),
            area.y,
            &self.value,
            value,
            look.text,
        );
        let mut free = usize::from(area.width)
            .saturating_sub(value.max(self.columns) + 1 + 2 + name.width() + 1);
        if free > TREND.min(9) && !self.trend.is_empty() {
            let width = if free > TREND { TREND } else { free };
            let x = area.right().saturating_sub((value.max(self.columns) + 1 + width) as u16);
            let line = Rect { x, width: width as u16, ..area };
            baseline(look, line, buf);
            spark::low(&self.trend, line, buf, self.line);
            free -= width;
        }
        if free >= 4 {
            let text = spark::share(self.share.0, self.share.1, free - 1);
            buf.set_stringn(area.x + 3 + name.width() as u16, area.y, text, free, self.line);
        }
    }
}

impl Pane {
    fn tunnels(&mut self, app: &App, look: &Look, area: Rect) {
        self.titles.push((area, "networks".to_owned()));
        if area.height < 2 {
            return;
        }
        let list = &app.picture.tunnels;
        let everything = app.picture.tally.everything;
        let whole = app.measure(everything);
        let line = |i: usize| Rect { y: area.y + 1 + i as u16, height: 1, ..area };
        let sign = |on: bool| if on { ("◉", look.accent) } else { ("○", look.faint) };
        let style = |on: bool, normal: Style| if on { look.accent } else { normal };
        let all = app.tunnel.is_none();
        let value = app.quantity(everything).to_string();
        let plain =
            Entry::plain(line(0), sign(all), "all".to_owned(), style(all, look.text), value);
        self.entries.push(Entry { hit: Some(Hit::Tunnel(None)), ..plain });
        let room = usize::from(area.height) - 2;
        // the selected one is always there, even if it is small or silent
        let chosen = list.iter().position(|t| Some(t.0) == app.tunnel);
        let first = chosen.map_or(0, |c| (c + 1).saturating_sub(room));
        let max = list.iter().map(|t| app.measure(t.1)).max().unwrap_or(0);
        for (i, (tunnel, count)) in list.iter().skip(first).take(room).enumerate() {
            let on = app.tunnel == Some(*tunnel);
            let left = list.len() - first - room.min(list.len() - first);
            if i + 1 == room && left > 0 && !on {
                let rest: Count = list.iter().skip(first + i).map(|t| t.1).sum();
                let name = format!("{} more", left + 1);
                let value = percent(app.measure(rest), whole);
                let sign = (" ", look.faint);
                self.entries.push(Entry::plain(line(i + 1), sign, name, look.dim, value));
                break;
            }
            let n = app.measure(*count);
            self.entries.push(Entry {
                area: line(i + 1),
                hit: Some(Hit::Tunnel(Some(*tunnel))),
                cursor: false,
                sign: sign(on),
                name: app.tunnel_called(*tunnel),
                style: style(on, if all { look.text } else { look.dim }),
                line: if on || all { look.spark } else { look.faint },
                share: (n, max),
                // the share takes precedence over the sparkline if there is no room for both
                trend: if area.width >= 40 {
                    app.trends.of_tunnel(Some(*tunnel), TREND, app.unit.measure())
                } else {
                    vec![]
                },
                value: percent(n, whole),
                columns: 6,
            });
        }
        if app.tunnel.is_some() && chosen.is_none() && room > 0 {
            let name = app.tunnel.map(|t| app.tunnel_called(t)).unwrap_or_default();
            let area = line(list.len().min(room - 1) + 1);
            let value = "silent".to_owned();
            self.entries.push(Entry::plain(area, sign(true), name, look.accent, value));
        }
        self.wheels.push((area, Action::PreviousTunnel, Action::NextTunnel));
    }

    fn ends(&mut self, app: &App, look: &Look, area: Rect) {
        let m = &app.picture.matrix;
        let what = app.what_ends_are();
        let name = if m.folded > 0 {
            format!("{what} ({} of {})", m.len() - 1, m.len() - 1 + m.folded)
        } else {
            format!("{what} ({})", m.len())
        };
        self.titles.push((area, name));
        if area.height < 2 || m.is_empty() {
            return;
        }
        let room = usize::from(area.height) - 1;
        let picked = app.picked();
        let cursor = match app.pick {
            Some(Pick::End(e) | Pick::Pair(e, _)) => m.index(e),
            None => None,
        };
        let first =
            cursor.map_or(0, |c| c.saturating_sub(room / 2)).min(m.len().saturating_sub(room));
        let both = |i: usize| m.sent(i) + m.received(i);
        let max = (0..m.len()).map(|i| app.measure(both(i))).max().unwrap_or(0);
        let shown = first..m.len().min(first + room);
        let values: Vec<String> =
            shown.clone().map(|i| app.quantity(both(i)).to_string()).collect();
        let widest = values.iter().map(|v| v.width()).max().unwrap_or(0);
        let names: Vec<String> = shown.clone().map(|i| app.called(m.ends[i])).collect();
        let names = apart(&names, usize::from(area.width).saturating_sub(widest + 1 + 2));
        for ((i, name), value) in shown.zip(names).zip(values) {
            let end = m.ends[i];
            let lit = match picked {
                None => true,
                Some(Pick::End(e)) => e == end,
                Some(Pick::Pair(a, b)) => a == end || b == end,
            };
            let colour = look.end(end);
            let sign = if app.marks.contains(&end) {
                ("●", look.accent)
            } else {
                ("■", if lit { colour } else { look.faint })
            };
            self.entries.push(Entry {
                area: Rect { y: area.y + 1 + (i - first) as u16, height: 1, ..area },
                hit: Some(Hit::Pick(Pick::End(end))),
                cursor: picked.is_some() && lit,
                sign,
                name,
                style: if lit { colour } else { look.dim },
                line: if lit { colour } else { look.faint },
                share: (app.measure(both(i)), max),
                trend: app.trends.of(Pick::End(end), TREND, app.unit.measure()),
                value,
                columns: 9,
            });
        }
        self.wheels.push((area, Action::Up, Action::Down));
    }
}

/// The selection: its name, and details about it.
pub fn details(app: &App, look: &Look, width: usize) -> (Vec<Span<'static>>, Vec<Line<'static>>) {
    let Some(pick) = app.picked() else { return (vec![], vec![]) };
    let picture = &app.picture;
    let all = app.measure(picture.tally.total);
    let value = |c: Count| app.quantity(c).to_string();
    let word = |s: &str| Span::styled(s.to_owned(), look.dim);
    let end = |e: End| Span::styled(app.called(e), look.end(e));
    let mut lines = Vec::new();
    let name = match pick {
        Pick::End(e) => {
            let (sent, received) = picture.sums(e);
            for (what, c) in [("sent", sent), ("received", received)] {
                let share = percent(app.measure(c), all);
                lines.push(Line::from(vec![
                    word(&format!("{what:<9}")),
                    Span::styled(format!("{:>9}", value(c)), look.strong),
                    word(&format!(" {share}{}", if width >= 34 { " of all" } else { "" })),
                ]));
            }
            let partners = picture.matrix.partners(e, app.unit.measure());
            if let Some(first) = partners.first() {
                let n = partners.len();
                let text =
                    format!("{n} {}, most with ", if n == 1 { "partner" } else { "partners" });
                match text.width() + end(*first).content.width() <= width {
                    true => lines.push(Line::from(vec![word(&text), end(*first)])),
                    false => lines.push(Line::from(vec![word("most with "), end(*first)])),
                }
            }
            vec![end(e), word(if app.marks.contains(&e) { " marked" } else { "" })]
        }
        Pick::Pair(a, b) => {
            // if there is no room for both, the second without what it shares with the first
            let full = [a, b].map(|e| app.called(e));
            let cut = match (a, b) {
                (End::Addr(_), End::Addr(_)) if a != b => shared_prefix(&full),
                _ => 0,
            };
            let fits = |room: usize| full[0].width() + full[1].width() <= room;
            let short = |e: End, room: usize| {
                let text = app.called(e);
                let cut = if fits(room) { 0 } else { cut.min(text.len()) };
                Span::styled(shorten(&text[cut..], width), look.end(e))
            };
            let ways = if a == b { vec![(a, a)] } else { vec![(b, a), (a, b)] };
            for (to, from) in ways {
                let c = picture.sent(from, to);
                let of_to = percent(app.measure(c), app.measure(picture.sums(to).1));
                let of_all = percent(app.measure(c), all);
                let room = width.saturating_sub(15);
                lines.push(Line::from(vec![
                    short(to, room),
                    word(" received from "),
                    short(from, room),
                ]));
                let value = Span::styled(format!(" {}", value(c)), look.strong);
                if width >= 44 {
                    lines.push(Line::from(vec![
                        value,
                        word(&format!("  {of_to} of its total, {of_all} of all")),
                    ]));
                } else {
                    lines.push(Line::from(vec![value, word(&format!(", {of_all} of all"))]));
                    lines.push(Line::from(word(&format!(" {of_to} of its total"))));
                }
                let dropped = picture.dropped(from, to);
                if !dropped.is_zero() {
                    let text = format!(" {} of it dropped", units::packets(dropped.packets));
                    lines.push(Line::from(Span::styled(text, look.bad)));
                }
            }
            match a == b {
                true => vec![end(a), word(" with itself")],
                false => vec![end(a), word(" ⇄ "), short(b, width.saturating_sub(5))],
            }
        }
    };
    lines.extend(ways(app, look, pick, width));
    (name, lines)
}

/// The most ids of a direction, and the most echo times, that are listed.
const LISTED: usize = 3;

/// For tunnels with an id for each direction: the ids by which the selection sends and receives,
/// and how fast the endpoints answer echo requests.
fn ways(app: &App, look: &Look, pick: Pick, width: usize) -> Vec<Line<'static>> {
    if !app.picture.tunnels.iter().any(|(tunnel, _)| is_one_way(tunnel.kind)) {
        return vec![];
    }
    let Some(interval) = app.interval() else { return vec![] };
    let carried = carried(&interval, &app.scope(), pick);
    let host = |a: IpAddr| app.called_at(Level::Hosts, End::Addr(a));
    let mut lines = Vec::new();
    for c in carried.iter().filter(|_| app.level() == Level::Inner).take(2 * LISTED) {
        let ids: Vec<String> = c.ids.iter().take(LISTED).map(u32::to_string).collect();
        let more = match c.ids.len() - ids.len() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let (what, to, endpoint) =
            if c.sends { ("sends", "to", c.ends.1) } else { ("receives", "from", c.ends.0) };
        let text = format!("{what} {} {}{more}", c.kind, ids.join(", "));
        let value = format!(" {}", app.quantity(c.count));
        let place = format!(" {to} {}", host(endpoint));
        let place = shorten(&place, width.saturating_sub(value.width()));
        lines.push(Span::styled(shorten(&text, width), look.dim).into());
        lines.push(Line::from(vec![
            Span::styled(value, look.strong),
            Span::styled(place, look.dim),
        ]));
    }
    let mut paths: Vec<_> = carried.iter().flat_map(|c| [c.ends, (c.ends.1, c.ends.0)]).collect();
    paths.sort_unstable();
    paths.dedup();
    let now = |(from, to)| interval.beside.echo_time(from, to);
    let ever = |(from, to)| app.latest().and_then(|all| all.beside.echo_time(from, to));
    let times =
        paths.into_iter().filter_map(|path| Some((path, now(path).or_else(|| ever(path))?)));
    for ((from, to), time) in times.take(LISTED) {
        let text = format!("echo {} → {}", host(from), host(to));
        lines.extend(valued(look, width, text, three_digits(time)));
    }
    lines
}

/// Words and a value on one line, or the value below them if there is no room.
fn valued(look: &Look, width: usize, text: String, value: String) -> Vec<Line<'static>> {
    let fits = text.width() + 1 + value.width() <= width;
    let text = Span::styled(shorten(&text, width), look.dim);
    let value = Span::styled(format!(" {value}"), look.strong);
    if fits { vec![Line::from(vec![text, value])] } else { vec![text.into(), value.into()] }
}
