// SPDX-License-Identifier: MIT OR Apache-2.0
//! The findings view: what is wrong, since when, and the evidence.
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
    widgets::Widget,
};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use feed::series::At;
use model::{
    detect::{FindingGroup, Severity},
    units::sanitize,
};

use crate::{
    app::App,
    hits::{Hit, Hits},
    keys::Action,
    look::Look,
    words::clock,
};

/// Columns before the sentence: a sign, a time, a kind.
const BEFORE: usize = 23;

/// Draws the view around the selected finding.
pub fn draw(app: &App, look: &Look, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    if area.is_empty() {
        return;
    }
    hits.wheel(area, Action::Up, Action::Down);
    let found = &app.found;
    if found.lines().is_empty() {
        let text = match app.read {
            None if !app.series.ends() => "nothing has been read yet",
            _ => "nothing is wrong, as far as can be seen from here",
        };
        buf.set_stringn(
            area.x + 1,
            area.y,
            text,
            usize::from(area.width).saturating_sub(1),
            look.dim,
        );
        events(app, look, Rect { y: area.y + 1, height: area.height - 1, ..area }, buf, hits);
        return;
    }
    let width = usize::from(area.width);
    let cursor = found.cursor();
    let blocks: Vec<Vec<Line<'_>>> = found
        .lines()
        .iter()
        .enumerate()
        .map(|(i, group)| block(look, group, i == cursor, width))
        .collect();
    // The selected finding is on the screen with all its lines, as far as there is room.
    let room = usize::from(area.height);
    let mut first = cursor;
    let mut used = blocks[cursor].len();
    while first > 0 && used + blocks[first - 1].len() <= room {
        first -= 1;
        used += blocks[first].len();
    }
    let mut y = area.y;
    for (i, block) in blocks.iter().enumerate().skip(first) {
        let top = y;
        for line in block {
            if y >= area.bottom() {
                break;
            }
            let at = Rect { y, height: 1, ..area };
            line.render(at, buf);
            if i == cursor {
                buf.set_style(at, look.cursor);
            }
            y += 1;
        }
        if y > top {
            let at = Rect { y: top, height: y - top, ..area };
            hits.add(at, Hit::Finding(found.lines()[i].first.number));
        }
    }
    events(app, look, Rect { y, height: area.bottom().saturating_sub(y), ..area }, buf, hits);
}

/// Changes of the host's configuration, the newest first, if there is room.
fn events(app: &App, look: &Look, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let here = match app.series.at() {
        At::Live => u64::MAX,
        At::Past(n) => n,
    };
    let mut known = app.series.events().rev().filter(|e| e.0 <= here).peekable();
    if area.height < 3 || known.peek().is_none() {
        return;
    }
    let width = usize::from(area.width).saturating_sub(1);
    buf.set_stringn(area.x + 1, area.y + 1, "changes on this host", width, look.dim);
    for (y, (number, event)) in (area.y + 2..area.bottom()).zip(known) {
        let at = clock(event.at);
        let line = format!("▾ {} {}", at.trim_end_matches(" UTC"), sanitize(&event.text));
        buf.set_stringn(area.x + 1, y, line, width, look.dim);
        hits.add(Rect { y, height: 1, ..area }, Hit::Time(*number));
    }
}

/// A finding as lines; the selected one with its evidence.
fn block<'a>(look: &Look, group: &FindingGroup, chosen: bool, width: usize) -> Vec<Line<'a>> {
    let f = &group.first;
    let over = f.until.is_some() || f.muted;
    let style = match (over, f.severity) {
        (true, _) => look.dim,
        (false, Severity::Bad) => look.bad,
        (false, Severity::Note) => look.warn,
    };
    let sign = match (over, f.severity) {
        (true, _) if f.muted => "m",
        (true, _) => "·",
        (false, Severity::Bad) => "!",
        (false, Severity::Note) => "i",
    };
    let text = sanitize(&group.text()).into_owned();
    let (narrow, indent) = (width < 60, if width < 60 { 3 } else { BEFORE });
    let mut lines = Vec::new();
    let since = clock(f.since);
    let since = since.trim_end_matches(" UTC");
    let head = format!(" {sign} {since} {:<10} ", f.topic.name());
    let words = if over { look.dim } else { look.text };
    let mut rest = wrapped(&text, width.saturating_sub(indent + 1)).into_iter();
    if narrow {
        lines.push(Line::from(Span::styled(head, style)));
    } else {
        let first = rest.next().unwrap_or_default();
        let pad = BEFORE.saturating_sub(head.width());
        lines.push(Line::from(vec![
            Span::styled(format!("{head}{}", " ".repeat(pad)), style),
            Span::styled(first, words),
        ]));
    }
    let pad = " ".repeat(indent);
    lines.extend(rest.map(|line| Line::from(Span::styled(format!("{pad}{line}"), words))));
    if chosen {
        let mut told: Vec<String> = Vec::new();
        if f.muted {
            told.push("known, by --ignore".to_owned());
        }
        if let Some(until) = f.until {
            told.push(format!("it lasted until {}", clock(until)));
        }
        let counts = f.counts.iter().map(|(name, n)| format!("{} {n}", name.replace('_', " ")));
        told.extend(counts);
        let mut more = wrapped(&told.join(" · "), width.saturating_sub(indent + 1));
        if let Some(event) = &f.event {
            let text = format!("before it, {}: {}", clock(event.at), sanitize(&event.text));
            more.extend(wrapped(&text, width.saturating_sub(indent + 1)));
        }
        let more = more.into_iter().filter(|line| !line.is_empty());
        lines.extend(more.map(|line| Line::from(Span::styled(format!("{pad}{line}"), look.dim))));
    }
    lines
}

/// Text in lines of at most this width, broken between words if possible.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let gap = usize::from(!line.is_empty());
        if line.width() + gap + word.width() <= width {
            line.push_str(if gap > 0 { " " } else { "" });
            line.push_str(word);
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        for c in word.chars() {
            if line.width() + c.width().unwrap_or(0) > width {
                lines.push(std::mem::take(&mut line));
            }
            line.push(c);
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::wrapped;

    #[test]
    fn sentences_are_broken_between_words() {
        assert_eq!(wrapped("nothing has come back", 12), ["nothing has", "come back"]);
        assert_eq!(wrapped("2001:db8::1234:5678", 10), ["2001:db8::", "1234:5678"]);
        assert_eq!(wrapped("", 10), [""]);
    }
}
