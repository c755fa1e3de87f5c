// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where labels go around a circle, without overlapping. Pure.
//!
//! Every label gets a row of its own beside the circle, as near as possible to what it names. If
//! that is another row, a leader goes from the label to its anchor. Coordinates are rows and
//! columns of terminal cells or of any other raster.
use std::f64::consts::TAU;

/// The circle that labels go around.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ring {
    /// Columns and rows of the area that holds circle and labels.
    pub size: (usize, usize),
    /// The centre, in columns and rows from the top left corner.
    pub centre: (f64, f64),
    /// The radius in columns and in rows.
    pub radius: (f64, f64),
}

/// A label to place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Label {
    /// The angle of what it names; 0 at 12 o'clock, clockwise.
    pub angle: f64,
    /// How many columns it needs.
    pub width: usize,
}

/// Where a label goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Its first column.
    pub x: usize,
    /// Its row.
    pub y: usize,
    /// The cell outside the circle that is nearest to what it names.
    pub anchor: (usize, usize),
    /// Whether the label stands to the right of its anchor.
    pub right: bool,
}

impl Spot {
    /// The label's leader: `(x, y, line)` per cell, from the label to the anchor; empty if the
    /// label is beside its anchor, or if it had to move along the circle so that a line would cross
    /// it.
    pub fn leader(&self, width: usize) -> Vec<(usize, usize, char)> {
        let (ax, ay) = self.anchor;
        let beside = if self.right { self.x.checked_sub(1) } else { Some(self.x + width) };
        let Some(beside) = beside else { return vec![] };
        let (low, high) = (ax.min(beside), ax.max(beside));
        let mut cells: Vec<(usize, usize, char)> = vec![];
        if self.y == ay {
            if low < high {
                cells.extend((low..=high).map(|x| (x, ay, '─')));
            }
            return cells;
        }
        if (self.right && beside < ax) || (!self.right && beside > ax) {
            return cells;
        }
        cells.extend((low..=high).filter(|&x| x != ax).map(|x| (x, self.y, '─')));
        let down = ay > self.y;
        cells.push((
            ax,
            self.y,
            match (self.right, down) {
                (true, true) => '╭',
                (true, false) => '╰',
                (false, true) => '╮',
                (false, false) => '╯',
            },
        ));
        let between = if down { self.y + 1..ay + 1 } else { ay..self.y };
        cells.extend(between.map(|y| (ax, y, '│')));
        cells
    }
}

impl Ring {
    /// How far the circle reaches from its centre in a row, in columns; `None` outside it.
    fn reach(&self, row: usize) -> f64 {
        let half = |y: f64| {
            let d = (y - self.centre.1) / self.radius.1.max(1e-9);
            if d.abs() >= 1.0 { 0.0 } else { (1.0 - d * d).sqrt() * self.radius.0 }
        };
        let y = row as f64;
        let middle =
            if y <= self.centre.1 && self.centre.1 <= y + 1.0 { self.radius.0 } else { 0.0 };
        half(y).max(half(y + 1.0)).max(middle)
    }

    /// Whether a cell is outside the circle.
    fn outside(&self, column: f64, row: f64) -> bool {
        let gap = |low: f64, centre: f64, radius: f64| {
            (low - centre).max(centre - low - 1.0).max(0.0) / radius.max(1e-9)
        };
        gap(column, self.centre.0, self.radius.0).hypot(gap(row, self.centre.1, self.radius.1))
            > 0.995
    }

    /// The first cell outside the circle in the direction of an angle, or beside it in that row if
    /// there is no room above or below.
    fn anchor(&self, angle: f64) -> Option<(usize, usize)> {
        let (sin, cos) = angle.sin_cos();
        let (width, height) = (self.size.0 as f64, self.size.1 as f64);
        for step in 0..16 {
            let more = f64::from(step) * 0.25;
            let x = (self.centre.0 + sin * (self.radius.0 + more * 2.0)).floor();
            let y = (self.centre.1 - cos * (self.radius.1 + more)).floor();
            if !(0.0..width).contains(&x) || !(0.0..height).contains(&y) {
                break;
            }
            if self.outside(x, y) {
                return Some((x as usize, y as usize));
            }
        }
        let y = (self.centre.1 - cos * self.radius.1).floor().clamp(0.0, (height - 1.0).max(0.0));
        let x = (self.centre.0
            + if sin < 0.0 { -1.0 } else { 1.0 } * (self.reach(y as usize) + 0.5))
            .floor();
        ((0.0..width).contains(&x) && height >= 1.0).then_some((x as usize, y as usize))
    }

    /// The spot for a label in a row and on a side, with its penalty; `None` if it does not fit.
    fn spot(
        &self,
        label: &Label,
        anchor: (usize, usize),
        reach: f64,
        y: usize,
        right: bool,
    ) -> Option<(Spot, f64)> {
        let (ax, ay) = anchor;
        let moved = ay.abs_diff(y);
        let sin = label.angle.sin();
        let same_side = (sin >= 0.0) == right;
        let above = (ay as f64) < self.centre.1;
        // a leader can go towards the nearer pole; towards the equator it would cross the circle
        let outward = y != ay && (y < ay) == above;
        let clear = if reach > 0.0 { reach + 1.0 } else { f64::NEG_INFINITY };
        let x = if right {
            let edge = (self.centre.0 + clear).ceil();
            let x = match moved {
                0 if same_side => ax as f64 + 1.0,
                0 => edge.max(ax as f64 + 1.0),
                _ if outward => edge.max(ax as f64 + 2.0),
                _ => edge,
            };
            if x < 0.0 || x as usize + label.width > self.size.0 {
                return None;
            }
            x as usize
        } else {
            let edge = (self.centre.0 - clear).floor();
            let end = match moved {
                0 if same_side => ax as f64,
                0 => edge.min(ax as f64),
                _ if outward => edge.min(ax as f64 - 1.0),
                _ => edge,
            };
            (end.clamp(0.0, self.size.0 as f64) as usize).checked_sub(label.width)?
        };
        let wrong_side = if same_side { 0.0 } else { 2.0 + 12.0 * sin.abs() };
        let distance =
            if right { x.saturating_sub(ax) } else { ax.saturating_sub(x + label.width) } as f64;
        let moved = moved as f64;
        let cost = moved * moved * if outward { 1.0 } else { 3.0 }
            + if outward { 0.0 } else { moved * 4.0 }
            + wrong_side
            + distance * 0.2;
        Some((Spot { x, y, anchor, right }, cost))
    }
}

/// Spots for labels around a circle, in the order of the labels, and the largest number of rows by
/// which one had to move without a leader. Their order around the circle is that of their angles.
/// `None` if they do not all fit.
pub fn place(ring: &Ring, labels: &[Label]) -> Option<(Vec<Spot>, usize)> {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|&a, &b| {
        labels[a].angle.rem_euclid(TAU).total_cmp(&labels[b].angle.rem_euclid(TAU)).then(a.cmp(&b))
    });
    // for every label and every row: down the right side, then up the left
    let rows = ring.size.1;
    let reach: Vec<f64> = (0..rows).map(|y| ring.reach(y)).collect();
    let table: Vec<Vec<Option<(Spot, f64)>>> = labels
        .iter()
        .map(|label| {
            let anchor = ring.anchor(label.angle);
            let slot = |y: usize, right: bool| ring.spot(label, anchor?, reach[y], y, right);
            (0..rows)
                .map(|y| slot(y, true))
                .chain((0..rows).rev().map(|y| slot(y, false)))
                .collect()
        })
        .collect();
    // labels near 12 o'clock may stand on either side of it
    let turns = 4.min(labels.len());
    let mut best: Option<(f64, Vec<usize>, Vec<Spot>)> = None;
    for turn in (0..=turns).chain((1..=turns).map(|t| labels.len() - t)) {
        let mut turned = order.clone();
        turned.rotate_left(turn.min(labels.len()));
        if let Some((cost, spots)) = in_order(&table, &turned, rows * 2)
            && best.as_ref().is_none_or(|b| cost < b.0)
        {
            best = Some((cost, turned, spots));
        }
    }
    let (_, turned, found) = best?;
    let mut spots: Vec<Option<Spot>> = vec![None; labels.len()];
    for (i, spot) in turned.into_iter().zip(found) {
        spots[i] = Some(spot);
    }
    let spots: Vec<Spot> = spots.into_iter().flatten().collect();
    let moved = |(s, l): (&Spot, &Label)| {
        if s.leader(l.width).is_empty() { s.y.abs_diff(s.anchor.1) } else { 0 }
    };
    let worst = spots.iter().zip(labels).map(moved).max().unwrap_or(0);
    Some((spots, worst))
}

/// The cheapest assignment of labels to slots that keeps their order.
fn in_order(
    table: &[Vec<Option<(Spot, f64)>>],
    order: &[usize],
    slots: usize,
) -> Option<(f64, Vec<Spot>)> {
    // cost[s]: of placing the labels so far in slots before s
    let mut cost = vec![0.0f64; slots + 1];
    let mut chosen: Vec<Vec<bool>> = Vec::with_capacity(order.len());
    for &i in order {
        let mut next = vec![f64::INFINITY; slots + 1];
        let mut here = vec![false; slots + 1];
        for (s, spot) in table[i].iter().enumerate() {
            let with = cost[s] + spot.as_ref().map_or(f64::INFINITY, |spot| spot.1);
            next[s + 1] = next[s];
            if with < next[s + 1] {
                next[s + 1] = with;
                here[s + 1] = true;
            }
        }
        cost = next;
        chosen.push(here);
    }
    let total = cost[slots];
    if !total.is_finite() {
        return None;
    }
    let mut spots = Vec::with_capacity(order.len());
    let mut s = slots;
    for (here, &i) in chosen.iter().zip(order).rev() {
        while !here[s] {
            s = s.checked_sub(1)?;
        }
        s -= 1;
        spots.push(table[i][s].clone()?.0);
    }
    spots.reverse();
    Some((total, spots))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(columns: usize, rows: usize, margin: f64) -> Ring {
        let radius = rows as f64 / 2.0 - margin;
        Ring {
            size: (columns, rows),
            centre: (columns as f64 / 2.0, rows as f64 / 2.0),
            radius: (radius * 2.0, radius),
        }
    }

    fn labels(angles: &[f64], width: usize) -> Vec<Label> {
        angles.iter().map(|&angle| Label { angle, width }).collect()
    }

    /// Asserts that labels, leaders and circle do not overlap.
    fn check(ring: &Ring, labels: &[Label], spots: &[Spot]) {
        let mut taken = std::collections::HashSet::new();
        for (s, l) in spots.iter().zip(labels) {
            assert!(s.x + l.width <= ring.size.0 && s.y < ring.size.1);
            for x in s.x..s.x + l.width {
                assert!(taken.insert((x, s.y)), "labels overlap in {x} {}", s.y);
                let (dx, dy) = (
                    (x as f64 + 0.5 - ring.centre.0) / ring.radius.0,
                    (s.y as f64 + 0.5 - ring.centre.1) / ring.radius.1,
                );
                assert!(dx.hypot(dy) > 1.0, "label on the circle in {x} {}", s.y);
            }
        }
    }

    #[test]
    fn labels_with_room_are_next_to_what_they_name() {
        let ring = ring(80, 20, 1.5);
        let l = labels(&[0.6, 1.5, 2.4, 3.9, 4.7, 5.5], 12);
        let (spots, worst) = place(&ring, &l).unwrap();
        check(&ring, &l, &spots);
        assert_eq!(worst, 0);
        for (s, l) in spots.iter().zip(&l) {
            assert_eq!(s.right, l.angle.sin() > 0.0);
            assert_eq!(s.y, s.anchor.1);
            assert!(s.leader(l.width).is_empty());
        }
    }

    #[test]
    fn crowded_labels_spread_out() {
        let ring = ring(80, 20, 1.5);
        let l = labels(&[1.8, 4.6, 5.4, 5.7, 5.9, 6.0, 6.1, 6.18, 6.25], 12);
        let (spots, worst) = place(&ring, &l).unwrap();
        check(&ring, &l, &spots);
        assert!(worst <= 2, "{worst} {spots:?}");
    }

    #[test]
    fn any_number_of_labels_fits_without_overlap_or_is_refused() {
        let mut seed = 1u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(seed >> 8) / f64::from(1 << 24)
        };
        let mut placed = 0;
        for n in 0..60 {
            for (columns, rows) in [(0, 0), (1, 1), (10, 4), (80, 20), (120, 36), (200, 56)] {
                let l: Vec<Label> =
                    (0..n).map(|_| Label { angle: TAU * random().powi(3), width: 12 }).collect();
                let ring = ring(columns, rows, 2.0);
                if let Some((spots, _)) = place(&ring, &l) {
                    check(&ring, &l, &spots);
                    assert_eq!(spots.len(), n);
                    placed += usize::from(n > 0);
                }
            }
        }
        assert!(placed > 100);
    }

    #[test]
    fn leaders_go_from_label_to_anchor() {
        let s = Spot { x: 10, y: 0, anchor: (8, 2), right: true };
        assert_eq!(s.leader(4), [(9, 0, '─'), (8, 0, '╭'), (8, 1, '│'), (8, 2, '│')]);
        let s = Spot { x: 2, y: 9, anchor: (8, 8), right: false };
        assert_eq!(s.leader(4), [(6, 9, '─'), (7, 9, '─'), (8, 9, '╯'), (8, 8, '│')]);
        let s = Spot { x: 2, y: 3, anchor: (8, 3), right: false };
        assert_eq!(s.leader(4), [(6, 3, '─'), (7, 3, '─'), (8, 3, '─')]);
        let s = Spot { x: 4, y: 3, anchor: (8, 3), right: false };
        assert_eq!(s.leader(4), []);
    }
}
