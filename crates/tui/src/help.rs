// SPDX-License-Identifier: MIT OR Apache-2.0
//! The keys, from the key table.
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
    widgets::{Clear, Widget},
};
use unicode_width::UnicodeWidthStr;

use model::text::fit;

use crate::{
    app::App,
    hits::{Hit, Hits},
    keys::{Action, BINDINGS, KeyGroup},
    look::Look,
    side::title,
};

/// Draws the help over an area, in as many columns as fit.
pub fn draw(app: &App, look: &Look, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    if area.width < 8 || area.height < 2 {
        return;
    }
    Clear.render(area, buf);
    let columns = if area.width >= 110 { 2 } else { 1 };
    let width = (area.width - 2) / columns;
    let mut lists: Vec<Vec<Option<&crate::keys::Binding>>> = vec![Vec::new(); usize::from(columns)];
    let mut titles: Vec<Vec<(usize, KeyGroup)>> = vec![Vec::new(); usize::from(columns)];
    for group in KeyGroup::ALL {
        // fill the shortest column next; the first group, which is the longest, comes first
        let c = (0..lists.len()).min_by_key(|&c| lists[c].len()).unwrap_or(0);
        if !lists[c].is_empty() {
            lists[c].push(None);
        }
        titles[c].push((lists[c].len(), group));
        lists[c].push(None);
        lists[c].extend(BINDINGS.iter().filter(|b| b.group == group).map(Some));
    }
    let tallest = lists.iter().map(Vec::len).max().unwrap_or(0);
    let room = usize::from(area.height);
    let first = app.scroll.min(tallest.saturating_sub(room));
    for (c, list) in lists.iter().enumerate() {
        let x = area.x + 1 + c as u16 * width;
        for (i, binding) in list.iter().enumerate().skip(first).take(room) {
            let line = Rect::new(x, area.y + (i - first) as u16, width.saturating_sub(2), 1);
            match binding {
                Some(b) => {
                    let text = fit(b.help, usize::from(line.width).saturating_sub(11)).into_owned();
                    Line::from(vec![
                        Span::styled(format!("{:>9}  ", b.label), look.accent),
                        Span::styled(text, look.text),
                    ])
                    .render(line, buf);
                    hits.add(line, Hit::Key(b.action));
                }
                None => {
                    if let Some((_, g)) = titles[c].iter().find(|t| t.0 == i) {
                        title(look, g.title(), line, buf);
                    }
                }
            }
        }
    }
    if first + room < tallest {
        let more = " more ↓ ";
        buf.set_stringn(
            area.right().saturating_sub(more.width() as u16),
            area.bottom() - 1,
            more,
            8,
            look.accent,
        );
    }
    hits.wheel(area, Action::Up, Action::Down);
}
