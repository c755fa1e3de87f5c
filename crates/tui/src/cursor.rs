// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cursor movement: from the current selection to the next. Pure.
use model::matrix::{End, Matrix, Measure, Pick};

/// The position of the selection in the list of ends.
fn end_index(m: &Matrix, pick: Option<Pick>) -> Option<usize> {
    match pick? {
        Pick::End(e) | Pick::Pair(e, _) => m.index(e),
    }
}

/// `i + by`, within `0..n`; `n` is not 0.
pub fn clamped(i: usize, by: isize, n: usize) -> usize {
    i.saturating_add_signed(by).min(n - 1)
}

/// Along the list of ends; the first if nothing is selected.
pub fn along_ends(m: &Matrix, pick: Option<Pick>, by: isize) -> Option<Pick> {
    if m.is_empty() {
        return pick;
    }
    let i = end_index(m, pick).map_or(0, |i| clamped(i, by, m.len()));
    m.ends.get(i).map(|e| Pick::End(*e))
}

/// Along the ribbons of an end, the largest first.
pub fn along_ribbons(m: &Matrix, measure: Measure, pick: Option<Pick>, by: isize) -> Option<Pick> {
    let Some(i) = end_index(m, pick) else { return along_ends(m, pick, 0) };
    let here = m.ends[i];
    let partners = m.partners(here, measure);
    let n = partners.len() as isize + 1; // the end itself comes before its first ribbon
    let at = match pick {
        Some(Pick::Pair(_, b)) => {
            partners.iter().position(|e| *e == b).map_or(0, |p| p as isize + 1)
        }
        _ => 0,
    };
    Some(match (at + by).rem_euclid(n) {
        0 => Pick::End(here),
        p => Pick::Pair(here, partners[p as usize - 1]),
    })
}

/// From cell to cell; column 0 is the head of the line: the end itself.
pub fn along_cells(m: &Matrix, pick: Option<Pick>, down: isize, right: isize) -> Option<Pick> {
    let first = m.ends.first()?;
    let column = |e: End| m.index(e).map_or(0, |j| j + 1);
    let (i, j) = match pick {
        Some(Pick::End(e)) => (m.index(e), 0),
        Some(Pick::Pair(a, b)) => (m.index(a), column(b)),
        None => (None, 0),
    };
    let Some(i) = i else { return Some(Pick::End(*first)) };
    let here = m.ends[clamped(i, down, m.len())];
    Some(match clamped(j, right, m.len() + 1) {
        0 => Pick::End(here),
        j => Pick::Pair(here, m.ends[j - 1]),
    })
}
