// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers over time as bars of one line or more.
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

const EIGHTHS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/// The values as a line of text, one per character; nonzero values are always visible.
pub fn text(values: &[u64]) -> String {
    let max = u128::from(values.iter().copied().max().unwrap_or(0)).max(1);
    let height = |v: u64| (u128::from(v) * 8).div_ceil(max) as usize;
    values.iter().map(|v| EIGHTHS.get(height(*v)).copied().unwrap_or("█")).collect()
}

/// Draws the newest values, one per column, the newest at the right; the largest fills the area.
/// Nonzero values are always visible.
pub fn line(values: &[u64], area: Rect, buf: &mut Buffer, style: Style) {
    scaled(values, area, buf, style, 8);
}

/// The same, but the largest leaves a gap to what is above: for lines below each other.
pub fn low(values: &[u64], area: Rect, buf: &mut Buffer, style: Style) {
    scaled(values, area, buf, style, 5);
}

/// The largest is `eighths` of the area high.
fn scaled(values: &[u64], area: Rect, buf: &mut Buffer, style: Style, eighths: u64) {
    let width = usize::from(area.width);
    let values = &values[values.len().saturating_sub(width)..];
    let max = values.iter().copied().max().unwrap_or(0);
    let max = (u128::from(max) * 8 / u128::from(eighths)).min(u128::from(u64::MAX)) as u64;
    let start = area.right().saturating_sub(values.len() as u16);
    for (i, v) in values.iter().enumerate() {
        bar(*v, max, Rect::new(start + i as u16, area.y, 1, area.height), buf, style);
    }
}

/// One bar, whose height is `value` in relation to `max`.
pub fn bar(value: u64, max: u64, area: Rect, buf: &mut Buffer, style: Style) {
    if area.is_empty() || max == 0 {
        return;
    }
    let steps = u128::from(area.height) * 8;
    let mut left =
        (u128::from(value) * steps / u128::from(max)).max(u128::from(value > 0)) as usize;
    for y in (area.top()..area.bottom()).rev() {
        let part = left.min(8);
        left -= part;
        if part > 0
            && let Some(cell) = buf.cell_mut((area.x, y))
        {
            cell.set_symbol(EIGHTHS[part]).set_style(style);
        }
    }
}

/// A horizontal bar: `part` of `whole` over `width` cells, to half a cell.
pub fn share(part: u64, whole: u64, width: usize) -> String {
    if whole == 0 || part == 0 {
        return String::new();
    }
    let halves =
        (u128::from(part.min(whole)) * width as u128 * 2 / u128::from(whole)).max(1) as usize;
    format!("{}{}", "━".repeat(halves / 2), if halves % 2 == 1 { "╸" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(values: &[u64], w: u16, h: u16) -> Vec<String> {
        let area = Rect::new(0, 0, w, h);
        let mut buf = Buffer::empty(area);
        line(values, area, &mut buf, Style::new());
        (0..h).map(|y| (0..w).map(|x| buf[(x, y)].symbol()).collect()).collect()
    }

    #[test]
    fn bar_heights_are_proportional() {
        assert_eq!(drawn(&[0, 1, 4, 8], 4, 1), [" ▁▄█"]);
        assert_eq!(drawn(&[1, 1_000_000], 3, 1), [" ▁█"]);
        assert_eq!(drawn(&[8, 16], 2, 2), [" █", "██"]);
        assert_eq!(drawn(&[1, 2, 3], 2, 1), ["▅█"], "the newest stay");
        assert_eq!(drawn(&[u64::MAX, u64::MAX / 2], 2, 1), ["█▃"]);
        assert_eq!(drawn(&[], 2, 1), ["  "]);
        assert!(drawn(&[1], 0, 0).is_empty());
        assert_eq!(text(&[0, 1, 1_000_000, 500_000]), " ▁█▄");
        assert_eq!(text(&[0, 0]), "  ");
    }

    #[test]
    fn shares_fill_their_width() {
        assert_eq!(share(1, 1, 3), "━━━");
        assert_eq!(share(1, 2, 3), "━╸");
        assert_eq!(share(0, 2, 3), "");
        assert_eq!(share(1, u64::MAX, 3), "╸");
        assert_eq!(share(5, 0, 3), "");
    }
}
